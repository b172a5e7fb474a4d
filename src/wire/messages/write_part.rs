//! Writes the content blocks of a request.
//!
//! Whoever calls has made sure that a part is one that Anthropic has a block for; nothing fails
//! here. Start at [`write_part`].

use super::super::form::{Part, PartKind, Source};
use super::super::json::view::Lit;
use super::super::json::write::Writer;

/// What a part says, if that becomes a text.
pub(super) const fn spoken<'r>(kind: &'r PartKind<'_>) -> Option<&'r Lit<'r>> {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Some(text),
        _ => None,
    }
}

/// Writes the content block that `part` becomes.
pub(super) fn write_part(it: &mut Writer, part: &Part<'_>, input: &str, trims: bool) {
    it.object(|it| {
        write_kind(it, &part.kind, input, trims);
        // Thoughts take no mark.
        let thinks = matches!(
            part.kind,
            PartKind::Thinking { .. } | PartKind::RedactedThinking(_)
        );
        if let Some(cache) = part.cache.filter(|_| !thinks) {
            it.key("cache_control").view(cache);
        }
    });
}

fn write_kind(it: &mut Writer, kind: &PartKind<'_>, input: &str, trims: bool) {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => {
            it.key("type").string("text");
            it.key("text").lit(&trimmed(text, trims));
        }
        PartKind::Image { source, .. } => {
            it.key("type").string("image");
            write_source(it, source);
        }
        PartKind::Document {
            source,
            title,
            context,
        } => {
            it.key("type").string("document");
            write_source(it, source);
            for (name, text) in [("title", title), ("context", context)] {
                if let Some(text) = text {
                    it.key(name).lit(text);
                }
            }
        }
        PartKind::Thinking { text, signature } => {
            it.key("type").string("thinking");
            it.key("thinking").lit(text);
            it.key("signature")
                .lit(&signature.clone().unwrap_or_default());
        }
        PartKind::RedactedThinking(data) => {
            it.key("type").string("redacted_thinking");
            it.key("data").lit(data);
        }
        PartKind::ToolCall { id, name, .. } => {
            it.key("type").string("tool_use");
            it.key("id").lit(&tool_id(id));
            it.key("name").lit(name);
            it.key("input").raw(input);
        }
        PartKind::ToolResult {
            id,
            content,
            is_error,
        } => {
            it.key("type").string("tool_result");
            it.key("tool_use_id").lit(&tool_id(id));
            write_result(it, content);
            if *is_error {
                it.key("is_error").bool(true);
            }
        }
    }
}

/// Writes the member `content` of a tool's result, if it has any.
fn write_result(it: &mut Writer, content: &[Part<'_>]) {
    let is_blank = |part: &&Part<'_>| spoken(&part.kind).is_some_and(Lit::is_blank);
    let parts: Vec<&Part<'_>> = content.iter().filter(|part| !is_blank(part)).collect();
    match parts.as_slice() {
        [] => {}
        [part] if part.cache.is_none() && spoken(&part.kind).is_some() => {
            it.key("content");
            it.joined(spoken(&part.kind));
        }
        parts => {
            it.key("content").array(|it| {
                for part in parts {
                    // A result holds no tool calls and no results: this goes no deeper.
                    write_part(it, part, "{}", false);
                }
            });
        }
    }
}

fn write_source(it: &mut Writer, source: &Source<'_>) {
    it.key("source").object(|it| match source {
        Source::Url(url) => {
            it.key("type").string("url");
            it.key("url").lit(url);
        }
        Source::Base64 { media_type, data } => {
            it.key("type").string("base64");
            it.key("media_type").lit(media_type);
            it.key("data").lit(data);
        }
        Source::Text(text) => {
            it.key("type").string("text");
            it.key("media_type").string("text/plain");
            it.key("data").lit(text);
        }
        Source::File { id, .. } => {
            it.key("type").string("file");
            it.key("file_id").lit(id);
        }
    });
}

/// The id of a tool call as Anthropic takes it, `^[a-zA-Z0-9_-]+$`: the same in call and result.
fn tool_id<'r>(id: &'r Lit<'_>) -> Lit<'r> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.as_escaped().chars().all(fits) {
        return id.borrow();
    }
    let mut id: String = id
        .unescape()
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if id.is_empty() {
        id.push('_');
    }
    Lit::escaped(id)
}

pub(super) fn trimmed<'r>(text: &'r Lit<'_>, trims: bool) -> Lit<'r> {
    if trims {
        Lit::escaped(trim_end(text.as_escaped()))
    } else {
        text.borrow()
    }
}

/// The inside of a literal without the blanks at its end, whether they are escaped or not.
pub(super) fn trim_end(text: &str) -> &str {
    const ESCAPES: [&str; 7] = [
        "\\n", "\\r", "\\t", "\\u0020", "\\u0009", "\\u000a", "\\u000d",
    ];
    let mut text = text.trim_end();
    while let Some(rest) = ESCAPES.iter().find_map(|escape| {
        let start = text.len().checked_sub(escape.len())?;
        let tail = text.get(start..)?;
        tail.eq_ignore_ascii_case(escape).then(|| &text[..start])
    }) {
        // An odd number of backslashes before it would make its own one escaped.
        let before = rest.len() - rest.trim_end_matches('\\').len();
        if before % 2 == 1 {
            break;
        }
        text = rest.trim_end();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_the_end_are_trimmed_escaped_or_not() {
        let check = |text: &str, expected: &str| assert_eq!(trim_end(text), expected);
        check("a", "a");
        check("a \\n\\t \\r\\u0020\\u000A\u{a0}", "a");
        check("a\\\\n", "a\\\\n");
        check("a\\\\\\n", "a\\\\");
        check("\\n ", "");
        check("a\\u000b", "a\\u000b");
        check("é\\\"", "é\\\"");
    }

    #[test]
    fn the_id_of_a_call_becomes_one_that_anthropic_takes() {
        let check = |id: &str, expected: &str| {
            assert_eq!(tool_id(&Lit::of(id)).as_escaped(), expected);
        };
        check("call_A-1", "call_A-1");
        check("functions.f:0", "functions_f_0");
        check("a\"é", "a__");
        check("", "_");
    }
}
