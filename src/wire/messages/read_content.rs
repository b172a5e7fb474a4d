//! Reads the content of a message or of a system prompt into parts.
//!
//! Blocks nest as far as the vendor's types do: a message holds the result of a tool, that holds a
//! document, and that holds texts and images. Which blocks may stand where is [`Holder`]'s, and is
//! what bounds the depth.
//!
//! Start at [`parts`].

use super::super::Dialect;
use super::super::form::{Arguments, Dropped, Part, PartKind, Source, Untranslatable};
use super::super::json::view::{Lit, View};
use super::block::{Block, Place, joined, list, object};

/// What content stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    System,
    User,
    Assistant,
    ToolResult,
    /// A document that is made of blocks.
    Document,
    SearchResult,
}

/// Blocks of tools that Anthropic itself runs, and of what is kept at Anthropic.
const ANTHROPICS_OWN: [&str; 13] = [
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "tool_reference",
    "browser_state",
    "container_upload",
    "mcp_tool_use",
    "mcp_tool_result",
    "compaction",
];

impl Holder {
    /// The types of blocks that may stand in it.
    const fn takes(self) -> &'static [&'static str] {
        match self {
            Self::System | Self::SearchResult => &["text"],
            Self::User => &["text", "image", "document", "search_result", "tool_result"],
            Self::Assistant => &["text", "thinking", "redacted_thinking", "tool_use"],
            Self::ToolResult => &["text", "image", "document", "search_result"],
            Self::Document => &["text", "image"],
        }
    }

    /// Its path, for what is dropped.
    const fn path(self) -> &'static str {
        match self {
            Self::System => "system[]",
            Self::User | Self::Assistant => "messages[].content[]",
            Self::ToolResult => "messages[].content[].content[]",
            Self::Document => "messages[].content[].source.content[]",
            Self::SearchResult => "messages[].content[].content[]",
        }
    }
}

/// The parts of `content` in `holder`, which stands at `place`.
///
/// # Errors
/// It is neither a text nor a list of blocks, or one of those is not as the vendor's types say or
/// has no counterpart.
pub(super) fn parts<'a>(
    content: Option<View<'a>>,
    place: &Place<'_>,
    holder: Holder,
    dropped: &mut Dropped,
) -> Result<Vec<Part<'a>>, Untranslatable> {
    let mut parts = Vec::new();
    let is_content =
        |content: View<'a>| (content.is_string() || content.is_array()).then_some(content);
    let what = "a string or a list of content blocks";
    let content = match holder {
        // A tool may have nothing to say.
        Holder::ToolResult => place.optional(content, what, is_content)?,
        _ => Some(place.required(content, what, is_content)?),
    };
    let Some(content) = content else {
        return Ok(parts);
    };
    if let Some(text) = content.lit() {
        parts.push(PartKind::Text(text).into());
    }
    for (index, block) in content.items().enumerate() {
        read_block(block, &place.item(index), holder, &mut parts, dropped)?;
    }
    Ok(parts)
}

fn read_block<'a>(
    view: View<'a>,
    place: &Place<'_>,
    holder: Holder,
    parts: &mut Vec<Part<'a>>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    let view = place.required(Some(view), "an object", object)?;
    let block = Block::of(view, |name| {
        dropped.note(&format!("{}.{name}", holder.path()));
    });
    let kind = check_kind(&block, place, holder)?;
    let text = |value: Option<View<'a>>, name: &'static str| {
        let place = place.member(name);
        place.required(value, "a string", View::lit)
    };
    let kind = match kind {
        "text" => PartKind::Text(text(block.text, "text")?),
        "image" => PartKind::Image {
            source: image_source(&block, place)?,
            detail: None,
        },
        "document" => return document(&block, place, parts, dropped),
        "search_result" => PartKind::Text(search_result(&block, place, dropped)?),
        "thinking" => PartKind::Thinking {
            text: text(block.thinking, "thinking")?,
            signature: block.signature(),
        },
        "redacted_thinking" => PartKind::RedactedThinking(text(block.data, "data")?),
        "tool_use" => {
            let input = place
                .member("input")
                .optional(block.input, "an object", object)?;
            PartKind::ToolCall {
                id: text(block.id, "id")?,
                name: text(block.name, "name")?,
                arguments: Arguments::Json(input.map_or("{}", View::text).into()),
            }
        }
        _ => PartKind::ToolResult {
            id: text(block.tool_use_id, "tool_use_id")?,
            content: self::parts(
                block.content,
                &place.member("content"),
                Holder::ToolResult,
                dropped,
            )?,
            is_error: place
                .member("is_error")
                .optional(block.is_error, "true or false", View::bool)?
                .unwrap_or(false),
        },
    };
    parts.push(Part {
        kind,
        cache: block.cache,
    });
    Ok(())
}

/// The type of `block`, which is one of those that `holder` takes.
fn check_kind(
    block: &Block<'_>,
    place: &Place<'_>,
    holder: Holder,
) -> Result<&'static str, Untranslatable> {
    let place = place.member("type");
    let takes = holder.takes();
    let expected = || format!("one of {}", takes.join(", "));
    let kind = place.required(block.kind, &expected(), View::string)?;
    if let Some(kind) = takes.iter().find(|it| **it == kind) {
        return Ok(kind);
    }
    if ANTHROPICS_OWN.contains(&kind.as_ref()) {
        let why = format!(
            "is '{kind}', which belongs to Anthropic's own tools and means nothing to the provider that this model is with: leave it out of the conversation, or ask a model of Anthropic's"
        );
        return Err(place.fault(why));
    }
    Err(place.fault(format!("must be {} here", expected())))
}

/// The members of a `source`.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<View<'a>>,
    media_type: Option<View<'a>>,
    data: Option<View<'a>>,
    url: Option<View<'a>>,
    file_id: Option<View<'a>>,
    content: Option<View<'a>>,
}

impl<'a> Fields<'a> {
    fn of(block: &Block<'a>, place: &Place<'_>) -> Result<Self, Untranslatable> {
        let view = place.required(block.source, "an object", object)?;
        let mut fields = Self::default();
        for (name, value) in view.members() {
            let place = match name.as_ref() {
                "type" => &mut fields.kind,
                "media_type" => &mut fields.media_type,
                "data" => &mut fields.data,
                "url" => &mut fields.url,
                "file_id" => &mut fields.file_id,
                "content" => &mut fields.content,
                _ => continue,
            };
            *place = Some(value).filter(|value| !value.is_null());
        }
        Ok(fields)
    }
}

fn image_source<'a>(block: &Block<'a>, place: &Place<'_>) -> Result<Source<'a>, Untranslatable> {
    let place = place.member("source");
    let fields = Fields::of(block, &place)?;
    whole(&fields, &place, &["base64", "url", "file"])
}

/// The source of an image or document that is in one piece; `kinds` names the types that it may
/// have.
fn whole<'a>(
    fields: &Fields<'a>,
    place: &Place<'_>,
    kinds: &[&str],
) -> Result<Source<'a>, Untranslatable> {
    let text = |value: Option<View<'a>>, name: &'static str| {
        let place = place.member(name);
        place.required(value, "a string", View::lit)
    };
    let place_of_kind = place.member("type");
    let expected = || format!("one of {}", kinds.join(", "));
    let kind = place_of_kind.required(fields.kind, &expected(), View::string)?;
    Ok(match kind.as_ref() {
        "base64" => Source::Base64 {
            media_type: text(fields.media_type, "media_type")?,
            data: text(fields.data, "data")?,
        },
        "url" => Source::Url(text(fields.url, "url")?),
        "file" => Source::File {
            vendor: Dialect::Anthropic,
            id: text(fields.file_id, "file_id")?,
        },
        "text" if kinds.contains(&"text") => Source::Text(text(fields.data, "data")?),
        _ => return Err(place_of_kind.fault(format!("must be {}", expected()))),
    })
}

/// A document: one part, or those that it is made of if there are images among them.
fn document<'a>(
    block: &Block<'a>,
    place: &Place<'_>,
    parts: &mut Vec<Part<'a>>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    let text = |value: Option<View<'a>>, name: &'static str| {
        let place = place.member(name);
        place.optional(value, "a string", View::lit)
    };
    let title = text(block.title, "title")?;
    let context = text(block.context, "context")?;
    let place = place.member("source");
    let fields = Fields::of(block, &place)?;
    let is_content = fields.kind.is_some_and(|kind| kind.is("content"));
    let source = if is_content {
        let content = place.member("content");
        let inner = self::parts(fields.content, &content, Holder::Document, dropped)?;
        let texts: Option<Vec<&Lit<'_>>> = inner.iter().map(text_of).collect();
        match texts.as_deref() {
            Some([text]) => Source::Text((*text).clone()),
            Some(texts) => Source::Text(joined(texts.iter().copied(), "\n")),
            None => {
                // Nobody else has documents with images in them, but what they say can be said
                // without.
                let about = [title, context].into_iter().flatten();
                parts.extend(about.map(|text| PartKind::Text(text).into()));
                parts.extend(inner);
                if let Some(last) = parts.last_mut() {
                    last.cache = block.cache.or(last.cache);
                }
                return Ok(());
            }
        }
    } else {
        let kinds = ["base64", "text", "url", "file", "content"];
        whole(&fields, &place, &kinds)?
    };
    parts.push(Part {
        kind: PartKind::Document {
            source,
            title,
            context,
        },
        cache: block.cache,
    });
    Ok(())
}

/// A search result as a text of its title, its source and what was found.
fn search_result<'a>(
    block: &Block<'a>,
    place: &Place<'_>,
    dropped: &mut Dropped,
) -> Result<Lit<'a>, Untranslatable> {
    let content = place.member("content");
    let found = content.required(block.content, "a list of content blocks", list)?;
    let found = parts(Some(found), &content, Holder::SearchResult, dropped)?;
    let about = [(block.title, "title"), (block.source, "source")];
    let mut texts = Vec::new();
    for (value, name) in about {
        texts.push(place.member(name).required(value, "a string", View::lit)?);
    }
    texts.extend(found.iter().filter_map(text_of).cloned());
    Ok(joined(&texts, "\n"))
}

const fn text_of<'p, 'a>(part: &'p Part<'a>) -> Option<&'p Lit<'a>> {
    match &part.kind {
        PartKind::Text(text) => Some(text),
        _ => None,
    }
}
