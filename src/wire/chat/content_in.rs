//! Reads what a message says: a text, or a list of texts, images and files. Start at
//! [`read_content`].

use super::shape::{OBJECT, Read, STRING, fields, needed, object, optional, within};
use crate::wire::Dialect;
use crate::wire::form::{Dropped, Part, PartKind, Source, Untranslatable};
use crate::wire::json::view::{Lit, View};

/// Within so many bytes the media type of a `data:` URL ends.
const MEDIA_TYPE_BYTES_MAX: usize = 256;
/// What the vendor's mark in the cache means in the words of the form.
const EPHEMERAL: &str = r#"{"type":"ephemeral"}"#;

/// The parts of a `content` that must be there; a place in a fault begins at the message.
pub(super) fn read_content<'a>(
    content: Option<View<'a>>,
    dropped: &mut Dropped,
) -> Read<Vec<Part<'a>>> {
    if let Some(text) = content.and_then(View::lit) {
        return Ok(vec![Part::from(PartKind::Text(text))]);
    }
    let Some(list) = content.filter(|it| it.is_array()) else {
        return Err(Untranslatable::new(
            "content",
            "must be a string or a list of parts",
        ));
    };
    let parts = list
        .items()
        .enumerate()
        .map(|(index, part)| within(read_part(part, dropped), || format!("content[{index}]")));
    parts.collect()
}

fn read_part<'a>(part: View<'a>, dropped: &mut Dropped) -> Read<Part<'a>> {
    let part = needed(Some(part), "", OBJECT, object)?;
    let kind = needed(part.get("type"), "type", STRING, View::string)?;
    // Each kind has its value under its own name.
    let names = ["type", &kind, "prompt_cache_breakpoint", "cache_control"];
    let [_, value, breakpoint, cache] = fields(part, names, |name| {
        dropped.note(&format!("messages[].content[].{name}"));
    });
    let at = kind.as_ref();
    let kind = match at {
        "text" => PartKind::Text(needed(value, at, STRING, View::lit)?),
        "refusal" => PartKind::Refusal(needed(value, at, STRING, View::lit)?),
        "image_url" => within(read_image(value), || at.to_owned())?,
        "file" => {
            let file = needed(value, at, OBJECT, object)?;
            within(read_file(file), || at.to_owned())?
        }
        "input_audio" => {
            return Err(Untranslatable::new(
                "",
                "is audio, which has no counterpart at this provider: send its transcript",
            ));
        }
        _ => {
            return Err(Untranslatable::new(
                "type",
                "must be text, image_url, file or refusal",
            ));
        }
    };
    let cache = read_cache(breakpoint, cache)?;
    Ok(Part { kind, cache })
}

/// A mark in the prompt cache: the vendor's, or the one that several gateways take beside it.
pub(super) fn read_cache<'a>(
    breakpoint: Option<View<'a>>,
    cache: Option<View<'a>>,
) -> Read<Option<View<'a>>> {
    let cache = optional(cache, "cache_control", OBJECT, object)?;
    let breakpoint = optional(breakpoint, "prompt_cache_breakpoint", OBJECT, object)?;
    Ok(cache.or(breakpoint.map(|_| View::new(EPHEMERAL))))
}

fn read_image(value: Option<View<'_>>) -> Read<PartKind<'_>> {
    // Many callers give the URL alone.
    let (url, detail) = match value.filter(|it| it.is_object()) {
        Some(image) => {
            let [url, detail] = fields(image, ["url", "detail"], |_| {});
            (needed(url, "url", STRING, View::lit)?, detail)
        }
        None => (
            needed(value, "", "must be an object with a url", View::lit)?,
            None,
        ),
    };
    let source = match data_url(&url) {
        Some(data) => data.ok_or_else(|| Untranslatable::new("url", DATA_URL))?,
        None => Source::Url(url),
    };
    let detail = optional(detail, "detail", STRING, View::lit)?;
    Ok(PartKind::Image { source, detail })
}

const DATA_URL: &str = "must be of the form data:<media type>;base64,<data>";

fn read_file(file: View<'_>) -> Read<PartKind<'_>> {
    let [data, id, title] = fields(file, ["file_data", "file_id", "filename"], |_| {});
    let data = optional(data, "file_data", STRING, View::lit)?;
    let id = optional(id, "file_id", STRING, View::lit)?;
    let source = match (data, id) {
        (Some(data), _) => match data_url(&data) {
            Some(Some(source)) => source,
            // As OpenRouter takes it.
            None if data.strip_prefix("https://").is_some() => Source::Url(data),
            _ => return Err(Untranslatable::new("file_data", DATA_URL)),
        },
        (None, Some(id)) => Source::File {
            vendor: Dialect::Openai,
            id,
        },
        (None, None) => {
            return Err(Untranslatable::new(
                "",
                "must have a file_data or a file_id",
            ));
        }
    };
    Ok(PartKind::Document {
        source,
        title: optional(title, "filename", STRING, View::lit)?,
        context: None,
    })
}

/// What a `data:` URL holds, its data where it stands; `None` for any other text, and within that
/// for a `data:` URL that is not in base64 or of no media type.
fn data_url<'a>(url: &Lit<'a>) -> Option<Option<Source<'a>>> {
    let rest = url.strip_prefix("data:")?;
    let source = rest
        .split_once(b',', MEDIA_TYPE_BYTES_MAX)
        .and_then(|(head, data)| {
            let (media_type, parameters) = head.split_once(b';', MEDIA_TYPE_BYTES_MAX)?;
            let parameters = parameters.unescape();
            let in_base64 = parameters.rsplit(';').next() == Some("base64");
            let is_good = in_base64 && !media_type.is_empty();
            is_good.then_some(Source::Base64 { media_type, data })
        });
    Some(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::PartKind as Kind;

    fn read(content: &str) -> (Read<Vec<Part<'_>>>, String) {
        let mut dropped = Dropped::default();
        let parts = read_content(Some(View::new(content)), &mut dropped);
        (parts, dropped.to_string())
    }

    /// Checks the only part of the list with `part` in it.
    fn check(part: &str, expected: Kind<'_>, cache: Option<&str>) {
        let content = format!("[{part}]");
        let (parts, dropped) = read(&content);
        let cache = cache.map(View::new);
        let kind = expected;
        assert_eq!(parts.unwrap(), [Part { kind, cache }], "{part}");
        assert_eq!(dropped, "");
    }

    fn check_fault(part: &str, expected: &str) {
        let content = format!("[{part}]");
        let fault = read(&content).0.unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{fault}");
    }

    #[test]
    fn a_text_is_a_part_and_so_is_each_of_a_list() {
        let text = Part::from(Kind::Text(Lit::escaped("a\\n")));
        assert_eq!(read("\"a\\n\"").0.unwrap(), [text]);
        check(
            r#"{"type":"text","text":"a"}"#,
            Kind::Text(Lit::of("a")),
            None,
        );
        check(
            r#"{"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}"#,
            Kind::Text(Lit::of("a")),
            Some(r#"{"type":"ephemeral"}"#),
        );
        check(
            r#"{"type":"refusal","refusal":"no","cache_control":{"type":"ephemeral","ttl":"1h"}}"#,
            Kind::Refusal(Lit::of("no")),
            Some(r#"{"type":"ephemeral","ttl":"1h"}"#),
        );
        let (_, dropped) = read(r#"[{"type":"text","text":"a","x":1,"y":null,"annotations":[]}]"#);
        assert_eq!(dropped, "messages[].content[].x");
    }

    #[test]
    fn the_data_of_an_image_stays_where_it_stands() {
        let content = r#"[{"type":"image_url","image_url":{"url":"data:image\/png;base64,iV\/BO","detail":"low"}}]"#;
        let parts = read(content).0.unwrap();
        let Kind::Image {
            source: Source::Base64 { media_type, data },
            detail,
        } = &parts[0].kind
        else {
            panic!("{parts:?}");
        };
        assert_eq!(media_type.unescape(), "image/png");
        assert_eq!(detail.as_ref().unwrap().unescape(), "low");
        let at = content.find("iV").unwrap();
        assert_eq!(data.as_escaped().as_ptr(), content[at..].as_ptr());
        let image = |url| Kind::Image {
            source: Source::Url(Lit::of(url)),
            detail: None,
        };
        check(
            r#"{"type":"image_url","image_url":{"url":"https://x/y"}}"#,
            image("https://x/y"),
            None,
        );
        check(
            r#"{"type":"image_url","image_url":"https://x/y"}"#,
            image("https://x/y"),
            None,
        );
    }

    #[test]
    fn a_file_is_a_document() {
        let document = |source, title: Option<&'static str>| Kind::Document {
            source,
            title: title.map(Lit::of),
            context: None,
        };
        let pdf = Source::Base64 {
            media_type: Lit::of("application/pdf"),
            data: Lit::of("JVBE"),
        };
        check(
            r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;x=y;base64,JVBE"}}"#,
            document(pdf, Some("a.pdf")),
            None,
        );
        let file = Source::File {
            vendor: Dialect::Openai,
            id: Lit::of("file-1"),
        };
        check(
            r#"{"type":"file","file":{"file_id":"file-1"}}"#,
            document(file, None),
            None,
        );
        check(
            r#"{"type":"file","file":{"file_data":"https://x/a.pdf"}}"#,
            document(Source::Url(Lit::of("https://x/a.pdf")), None),
            None,
        );
    }

    #[test]
    fn what_is_no_part_is_told_with_its_place() {
        check_fault("1", "'content[0]' must be an object");
        check_fault("{}", "'content[0].type' must be a string");
        check_fault(
            r#"{"type":"x"}"#,
            "'content[0].type' must be text, image_url",
        );
        check_fault(r#"{"type":"text"}"#, "'content[0].text' must be a string");
        check_fault(
            r#"{"type":"input_audio","input_audio":{"data":"","format":"wav"}}"#,
            "'content[0]' is audio, which has no counterpart",
        );
        for url in [
            "data:image/png,x",
            "data:;base64,x",
            "data:image/png;base64",
        ] {
            check_fault(
                &format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#),
                "'content[0].image_url.url' must be of the form data:",
            );
        }
        check_fault(
            r#"{"type":"file","file":{"file_data":"JVBE"}}"#,
            "'content[0].file.file_data' must be of the form data:",
        );
        check_fault(
            r#"{"type":"file","file":{}}"#,
            "'content[0].file' must have a file_data",
        );
        let fault = read_content(None, &mut Dropped::default()).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "'content' must be a string or a list of parts"
        );
    }
}
