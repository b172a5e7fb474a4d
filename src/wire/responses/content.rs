//! The content of messages and of tool results: texts, images, files, refusals.
//!
//! A data URL is taken apart where it stands, so that its megabytes are copied once, into the
//! body that goes out. Start at [`read_content`].

use super::super::Dialect;
use super::super::form::{Dropped, Part, PartKind, Source, Untranslatable};
use super::super::json::view::{Lit, View};
use super::fields::{self, Fields, OWN_ONLY, Path};

/// What the form has for the vendor's `prompt_cache_breakpoint`.
const EPHEMERAL: &str = r#"{"type":"ephemeral"}"#;
/// Bytes of a data URL within which its data begin.
const DATA_URL_HEAD_MAX: usize = 256;
/// How a PDF begins in base 64: `%PDF-`.
const PDF_BASE64: &str = "JVBERi0";

/// The members of any part. One list for all kinds, since the kind is known only after the walk.
const NAMES: [&str; 12] = [
    "type",
    "text",
    "annotations",
    "logprobs",
    "refusal",
    "image_url",
    "file_id",
    "file_url",
    "file_data",
    "filename",
    "detail",
    "prompt_cache_breakpoint",
];

type Known<'a, 'p> = Fields<'a, 'p, { NAMES.len() }>;

/// Reads a text or a list of parts: the `content` of a message, the `output` of a tool.
pub(super) fn read_content<'a>(
    content: View<'a>,
    at: &Path<'_>,
    dropped: &mut Dropped,
) -> Result<Vec<Part<'a>>, Untranslatable> {
    if let Some(text) = content.lit() {
        return Ok(vec![PartKind::Text(text).into()]);
    }
    if !content.is_array() {
        return Err(at.fault("must be a string or a list of parts"));
    }
    let parts = content.items().enumerate();
    parts
        .map(|(number, part)| read_part(part, &at.item(number), dropped))
        .collect()
}

fn read_part<'a>(
    part: View<'a>,
    at: &Path<'_>,
    dropped: &mut Dropped,
) -> Result<Part<'a>, Untranslatable> {
    let known = Fields::read_noting(part, at, NAMES, dropped)?;
    let kind = known.need_lit("type")?.unescape();
    let kind = match kind.as_ref() {
        "input_text" | "output_text" => {
            // What a model cited is nothing that another model could be shown again.
            if known
                .get("annotations")
                .is_some_and(|it| it.items().next().is_some())
            {
                at.drop("annotations", dropped);
            }
            PartKind::Text(known.need_lit("text")?)
        }
        "refusal" => PartKind::Refusal(known.need_lit("refusal")?),
        "input_image" => image(&known, at)?,
        "input_file" => document(&known, at, dropped)?,
        "input_audio" => {
            return Err(at.fault("is audio, which no provider can be given here"));
        }
        other => return Err(at.member("type").fault_of(other, OWN_ONLY)),
    };
    let cache = known.get("prompt_cache_breakpoint");
    Ok(Part {
        kind,
        cache: cache.map(|_| View::new(EPHEMERAL)),
    })
}

/// `detail`, unless it is the default.
fn detail<'a>(known: &Known<'a, '_>) -> Result<Option<Lit<'a>>, Untranslatable> {
    let detail = known.lit("detail")?;
    Ok(detail.filter(|it| it.as_escaped() != "auto"))
}

fn image<'a>(known: &Known<'a, '_>, at: &Path<'_>) -> Result<PartKind<'a>, Untranslatable> {
    let source = match (known.lit("image_url")?, known.lit("file_id")?) {
        (Some(url), _) => match data_url(&url, &at.member("image_url"))? {
            Some(source) => source,
            None => Source::Url(url),
        },
        (None, Some(id)) => of_file(id),
        (None, None) => return Err(at.fault("needs an 'image_url' or a 'file_id'")),
    };
    let detail = detail(known)?;
    Ok(PartKind::Image { source, detail })
}

fn document<'a>(
    known: &Known<'a, '_>,
    at: &Path<'_>,
    dropped: &mut Dropped,
) -> Result<PartKind<'a>, Untranslatable> {
    let title = known.lit("filename")?;
    let file_data = known.lit("file_data")?;
    let source = match (file_data, known.lit("file_url")?, known.lit("file_id")?) {
        (Some(data), _, _) => {
            let at = at.member("file_data");
            match data_url(&data, &at)? {
                Some(source) => source,
                None => bare_data(data, title.as_ref(), &at)?,
            }
        }
        (None, Some(url), _) => Source::Url(url),
        (None, None, Some(id)) => of_file(id),
        (None, None, None) => {
            return Err(at.fault("needs 'file_data', a 'file_url' or a 'file_id'"));
        }
    };
    if detail(known)?.is_some() {
        at.drop("detail", dropped);
    }
    Ok(PartKind::Document {
        source,
        title,
        context: None,
    })
}

const fn of_file(id: Lit<'_>) -> Source<'_> {
    Source::File {
        vendor: Dialect::Openai,
        id,
    }
}

/// The source that a `data:` URL (RFC 2397) is; `None` for any other URL.
fn data_url<'a>(url: &Lit<'a>, at: &Path<'_>) -> Result<Option<Source<'a>>, Untranslatable> {
    let Some(rest) = url.strip_prefix("data:") else {
        return Ok(None);
    };
    let head_and_data = rest.split_once(b',', DATA_URL_HEAD_MAX);
    let (head, data) = head_and_data.ok_or_else(|| at.fault("is a data URL without data"))?;
    let head = head.unescape();
    let Some(media_type) = head.strip_suffix(";base64") else {
        return Err(at.fault("must be a data URL in base 64"));
    };
    // Parameters say nothing of an image or a PDF.
    let media_type = media_type.split(';').next().unwrap_or_default();
    let media_type = Lit::of(media_type).into_owned();
    Ok(Some(Source::Base64 { media_type, data }))
}

/// File data in base 64 that do not say what they are of. The vendor goes by the name.
fn bare_data<'a>(
    data: Lit<'a>,
    name: Option<&Lit<'_>>,
    at: &Path<'_>,
) -> Result<Source<'a>, Untranslatable> {
    let name = name.map(|it| it.unescape().to_ascii_lowercase());
    let is_pdf =
        data.strip_prefix(PDF_BASE64).is_some() || name.is_some_and(|name| name.ends_with(".pdf"));
    if !is_pdf {
        let why = "must say what it is of: begin it with 'data:', a media type and ';base64,'";
        return Err(at.fault(why));
    }
    let media_type = Lit::of("application/pdf");
    Ok(Source::Base64 { media_type, data })
}

/// The texts of a list of objects `{"type":kind,"text"}`, with an empty line between each two.
pub(super) fn joined_texts<'a>(
    parts: Option<View<'a>>,
    at: &Path<'_>,
) -> Result<Lit<'a>, Untranslatable> {
    let Some(parts) = parts else {
        return Ok(Lit::default());
    };
    let mut texts = Vec::new();
    for (number, part) in fields::list(parts, at)?.enumerate() {
        let at = at.item(number);
        let text = Fields::read(part, &at, ["text"], |_, _| {})?.need_lit("text")?;
        texts.push(text);
    }
    if texts.len() < 2 {
        return Ok(texts.pop().unwrap_or_default());
    }
    let texts: Vec<&str> = texts.iter().map(Lit::as_escaped).collect();
    Ok(Lit::escaped(texts.join(r"\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(part: &str) -> Result<(Part<'_>, String), String> {
        let mut dropped = Dropped::default();
        let at = Path::Top.member("part");
        let part = read_part(View::new(part), &at, &mut dropped);
        let part = part.map_err(|fault| fault.to_string())?;
        Ok((part, dropped.to_string()))
    }

    fn check(part: &str, expected: PartKind<'_>, expected_dropped: &str) {
        let (part, dropped) = read(part).unwrap();
        assert_eq!(part, expected.into());
        assert_eq!(dropped, expected_dropped);
    }

    fn base64<'a>(media_type: &'a str, data: &'a str) -> Source<'a> {
        Source::Base64 {
            media_type: Lit::of(media_type),
            data: Lit::of(data),
        }
    }

    #[test]
    fn a_text_is_a_text_whoever_wrote_it() {
        let text = || PartKind::Text(Lit::escaped(r"a\n\u00e9"));
        check(r#"{"type":"input_text","text":"a\n\u00e9"}"#, text(), "");
        check(
            r#"{"type":"output_text","text":"a\n\u00e9","annotations":[],"logprobs":[{}],"x":null}"#,
            text(),
            "",
        );
        check(
            r#"{"type":"output_text","text":"a\n\u00e9","annotations":[{"type":"url_citation"}],"mood":1}"#,
            text(),
            "part.mood, part.annotations",
        );
        check(
            r#"{"type":"refusal","refusal":"no"}"#,
            PartKind::Refusal(Lit::of("no")),
            "",
        );
        let cached =
            r#"{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}"#;
        assert_eq!(
            read(cached).unwrap().0.cache.unwrap().text(),
            r#"{"type":"ephemeral"}"#
        );
    }

    #[test]
    fn an_image_is_a_url_or_data_or_a_file() {
        let image = |source, detail: Option<&'static str>| PartKind::Image {
            source,
            detail: detail.map(Lit::of),
        };
        check(
            r#"{"type":"input_image","image_url":"https://x/y.png","detail":"auto"}"#,
            image(Source::Url(Lit::of("https://x/y.png")), None),
            "",
        );
        check(
            r#"{"type":"input_image","image_url":"data:image\/png;base64,iVB\/Rw==","detail":"low"}"#,
            image(
                Source::Base64 {
                    media_type: Lit::of("image/png"),
                    data: Lit::escaped(r"iVB\/Rw=="),
                },
                Some("low"),
            ),
            "",
        );
        check(
            r#"{"type":"input_image","image_url":"data:image/png;charset=x;base64,AA=="}"#,
            image(base64("image/png", "AA=="), None),
            "",
        );
        let file = Source::File {
            vendor: Dialect::Openai,
            id: Lit::of("file-1"),
        };
        check(
            r#"{"type":"input_image","image_url":null,"file_id":"file-1"}"#,
            image(file, None),
            "",
        );
    }

    #[test]
    fn a_file_is_data_or_a_url_or_a_file() {
        let document = |source, title: Option<&'static str>| PartKind::Document {
            source,
            title: title.map(Lit::of),
            context: None,
        };
        check(
            r#"{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVB="}"#,
            document(base64("application/pdf", "JVB="), Some("a.pdf")),
            "",
        );
        check(
            r#"{"type":"input_file","file_data":"JVBERi0xLjQ="}"#,
            document(base64("application/pdf", "JVBERi0xLjQ="), None),
            "",
        );
        check(
            r#"{"type":"input_file","filename":"A.PDF","file_data":"AAAA"}"#,
            document(base64("application/pdf", "AAAA"), Some("A.PDF")),
            "",
        );
        check(
            r#"{"type":"input_file","file_url":"https://x/a.pdf","detail":"high"}"#,
            document(Source::Url(Lit::of("https://x/a.pdf")), None),
            "part.detail",
        );
        let file = of_file(Lit::of("file-1"));
        check(
            r#"{"type":"input_file","file_id":"file-1"}"#,
            document(file, None),
            "",
        );
    }

    #[test]
    fn what_no_provider_can_be_given_is_refused_with_its_place() {
        let check = |part: &str, expected: &str| assert_eq!(read(part).unwrap_err(), expected);
        check("7", "'part' must be an object");
        check("{}", "'part.type' is missing");
        check(r#"{"type":7}"#, "'part.type' must be a string");
        check(r#"{"type":"input_text"}"#, "'part.text' is missing");
        check(
            r#"{"type":"input_audio","input_audio":{}}"#,
            "'part' is audio, which no provider can be given here",
        );
        check(
            r#"{"type":"computer_screenshot"}"#,
            "'part.type' is 'computer_screenshot', which only a provider with responses of its own can take",
        );
        check(
            r#"{"type":"input_image","image_url":{"url":"x"}}"#,
            "'part.image_url' must be a string",
        );
        check(
            r#"{"type":"input_image","image_url":"data:image/png"}"#,
            "'part.image_url' is a data URL without data",
        );
        check(
            r#"{"type":"input_image","image_url":"data:image/svg+xml,<svg>"}"#,
            "'part.image_url' must be a data URL in base 64",
        );
        check(
            r#"{"type":"input_file","file_data":"AAAA","filename":"a.bin"}"#,
            "'part.file_data' must say what it is of: begin it with 'data:', a media type and ';base64,'",
        );
    }
}
