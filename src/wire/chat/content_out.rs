//! Writes what a message says: texts, images and files.
//!
//! The bytes of an image go from one body into the other within their literals and are not looked
//! at. Start at [`push_pieces`].

use super::request_out::Notes;
use crate::wire::Dialect;
use crate::wire::form::{Arguments, Part, PartKind, Source, Turn};
use crate::wire::json::view::Lit;
use crate::wire::json::write::Writer;

/// Where a fault is: which of the caller's messages became which turn is not known any more.
pub(super) const AT: &str = "messages[].content[]";

/// About how many bytes `turns` take when written.
pub(super) fn weight(turns: &[Turn<'_>]) -> usize {
    turns.iter().map(|turn| parts_weight(&turn.parts)).sum()
}

fn parts_weight(parts: &[Part<'_>]) -> usize {
    let source_weight = |source: &Source<'_>| match source {
        Source::Url(it) | Source::Text(it) | Source::Base64 { data: it, .. } => {
            it.as_escaped().len()
        }
        Source::File { .. } => 0,
    };
    let weight = |part: &Part<'_>| match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => text.as_escaped().len(),
        PartKind::Image { source, .. } => source_weight(source),
        PartKind::Document {
            source, context, ..
        } => source_weight(source) + context.as_ref().map_or(0, |it| it.as_escaped().len()),
        PartKind::ToolCall { arguments, .. } => match arguments {
            // Its quotes are escaped.
            Arguments::Json(json) => json.len() + json.len() / 4,
            Arguments::Text(text) => text.as_escaped().len(),
        },
        PartKind::ToolResult { content, .. } => parts_weight(content),
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) => 0,
    };
    parts.iter().map(|part| 128 + weight(part)).sum()
}

/// A piece of a message's content.
pub(super) enum Piece<'p> {
    /// A text, with its title before it.
    Text {
        title: Option<&'p Lit<'p>>,
        text: &'p Lit<'p>,
    },
    /// What follows belongs to the result of this tool call.
    Label(&'p Lit<'p>),
    Image {
        source: &'p Source<'p>,
        detail: Option<&'p Lit<'p>>,
    },
    File {
        source: &'p Source<'p>,
        title: Option<&'p Lit<'p>>,
    },
}

/// The pieces that `part` is written as.
pub(super) fn push_pieces<'p>(part: &'p Part<'p>, pieces: &mut Vec<Piece<'p>>, notes: &mut Notes) {
    note_cache(part, notes);
    match &part.kind {
        PartKind::Text(text) => pieces.push(Piece::Text { title: None, text }),
        PartKind::Image { source, detail } => {
            if !matches!(source, Source::Url(_) | Source::Base64 { .. }) {
                notes.fault(
                    AT,
                    "is an image by a file's id, which chat completions do not take: send its data or its URL",
                );
            }
            let detail = detail.as_ref();
            pieces.push(Piece::Image { source, detail });
        }
        PartKind::Document {
            source,
            title,
            context,
        } => {
            if let Some(text) = context {
                pieces.push(Piece::Text { title: None, text });
            }
            let title = title.as_ref();
            pieces.push(match source {
                Source::Text(text) => Piece::Text { title, text },
                source => Piece::File { source, title },
            });
            document_faults(source, title, notes);
        }
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) => {
            notes.dropped.note("messages[].thinking");
        }
        PartKind::Refusal(text) => pieces.push(Piece::Text { title: None, text }),
        PartKind::ToolCall { .. } => {
            notes.fault(AT, "is a tool call that no assistant made");
        }
        PartKind::ToolResult { .. } => notes.fault(AT, "is a tool result in a place without one"),
    }
}

fn document_faults(source: &Source<'_>, title: Option<&Lit<'_>>, notes: &mut Notes) {
    match source {
        Source::Url(_) => notes.fault(
            AT,
            "is a document by URL, which chat completions do not take: send its data",
        ),
        Source::File { vendor, .. } if *vendor != Dialect::Openai => notes.fault(
            AT,
            "is a file of another vendor's, which this provider does not have: send its data",
        ),
        // The vendor knows its name.
        Source::File { .. } if title.is_some() => {
            notes.dropped.note("messages[].content[].filename");
        }
        _ => {}
    }
}

/// Notes that `part` has a cache mark.
pub(super) fn note_cache(part: &Part<'_>, notes: &mut Notes) {
    // The vendor caches by itself, and its copies refuse its `prompt_cache_breakpoint`.
    if part.cache.is_some() {
        notes.dropped.note("cache_control");
    }
}

/// Writes what a message says.
pub(super) fn content(out: &mut Writer, pieces: &[Piece<'_>]) {
    match pieces {
        [] => {
            out.string("");
        }
        // Older servers take nothing but a string, so a list is for what needs one.
        [Piece::Text { title, text }] => text_literal(out, *title, text),
        _ => {
            out.array(|out| pieces.iter().for_each(|it| piece(out, it)));
        }
    }
}

fn text_literal(out: &mut Writer, title: Option<&Lit<'_>>, text: &Lit<'_>) {
    match title {
        Some(title) => out.joined([title, &Lit::of("\n"), text]),
        None => out.lit(text),
    };
}

fn piece(out: &mut Writer, piece: &Piece<'_>) {
    out.object(|out| match piece {
        Piece::Text { title, text } => {
            out.key("type").string("text");
            out.key("text");
            text_literal(out, *title, text);
        }
        Piece::Label(id) => {
            let (before, behind) = (Lit::of("[content of tool result "), Lit::of("]"));
            out.key("type").string("text");
            out.key("text").joined([&before, *id, &behind]);
        }
        Piece::Image { source, detail } => {
            out.key("type").string("image_url");
            out.key("image_url").object(|out| {
                out.key("url");
                source_url(out, source);
                if let Some(detail) = detail {
                    out.key("detail").lit(detail);
                }
            });
        }
        Piece::File { source, title } => {
            out.key("type").string("file");
            out.key("file").object(|out| {
                if let Source::File { id, .. } = source {
                    out.key("file_id").lit(id);
                    return;
                }
                let unnamed = Lit::of("document.pdf");
                out.key("filename").lit(title.unwrap_or(&unnamed));
                out.key("file_data");
                source_url(out, source);
            });
        }
    });
}

/// The URL of a source, its data within the URL where it has no other.
fn source_url(out: &mut Writer, source: &Source<'_>) {
    match source {
        Source::Base64 { media_type, data } => {
            let (scheme, encoding) = (Lit::of("data:"), Lit::of(";base64,"));
            out.joined([&scheme, media_type, &encoding, data]);
        }
        Source::Url(it) | Source::Text(it) | Source::File { id: it, .. } => {
            out.lit(it);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::PartKind as Kind;

    /// Checks what `kinds` are as the content of a user's message.
    fn check(kinds: Vec<Kind<'_>>, expected: &str, dropped: &str) {
        let parts: Vec<Part<'_>> = kinds.into_iter().map(Part::from).collect();
        let (mut pieces, mut notes) = (Vec::new(), Notes::default());
        for part in &parts {
            push_pieces(part, &mut pieces, &mut notes);
        }
        let mut out = Writer::default();
        content(&mut out, &pieces);
        assert_eq!(String::from_utf8(out.into_bytes()).unwrap(), expected);
        assert_eq!(notes.dropped.to_string(), dropped);
        assert_eq!(notes.fault, None);
    }

    fn image(source: Source<'_>) -> Kind<'_> {
        let detail = None;
        Kind::Image { source, detail }
    }

    fn base64<'a>(media_type: &'a str, data: &'a str) -> Source<'a> {
        Source::Base64 {
            media_type: Lit::of(media_type),
            data: Lit::of(data),
        }
    }

    fn document(source: Source<'static>, title: Option<&'static str>) -> Kind<'static> {
        Kind::Document {
            source,
            title: title.map(Lit::of),
            context: None,
        }
    }

    #[test]
    fn images_and_documents_are_data_within_urls() {
        let detailed = Kind::Image {
            source: Source::Url(Lit::of("https://x/y")),
            detail: Some(Lit::of("low")),
        };
        let file = Source::File {
            vendor: Dialect::Openai,
            id: Lit::of("file-1"),
        };
        check(
            vec![
                image(base64("image/png", "iVBO")),
                detailed,
                document(base64("application/pdf", "JVBE"), None),
                document(base64("application/pdf", "JVBE"), Some("a.pdf")),
                document(Source::Text(Lit::of("t")), Some("T")),
                document(file, Some("b.pdf")),
            ],
            concat!(
                r#"[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}},"#,
                r#"{"type":"image_url","image_url":{"url":"https://x/y","detail":"low"}},"#,
                r#"{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBE"}},"#,
                r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}},"#,
                r#"{"type":"text","text":"T\nt"},{"type":"file","file":{"file_id":"file-1"}}]"#
            ),
            "messages[].content[].filename",
        );
        let context = Kind::Document {
            source: Source::Text(Lit::of("t")),
            title: None,
            context: Some(Lit::of("c")),
        };
        check(
            vec![context],
            r#"[{"type":"text","text":"c"},{"type":"text","text":"t"}]"#,
            "",
        );
    }
}
