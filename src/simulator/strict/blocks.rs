//! Anthropic's messages and their content blocks, and the rules of a conversation. Pure.
//!
//! Start at [`MESSAGE`] and [`check_conversation`].

use serde_json::Value;

use super::kind::{self, Field, Finding, Kind, may, must, null};
use super::{is_base64, is_plain, is_url, list, text};

pub const CACHE_CONTROL: Kind = Kind::Object(&[
    must("type", Kind::OneOf(&["ephemeral"])),
    may("ttl", Kind::OneOf(&["5m", "1h"])),
]);

pub const SYSTEM: Kind = Kind::Either(&[
    Kind::Text,
    Kind::List(&Kind::Tagged("type", &[("text", TEXT)])),
]);

/// A message; each role has its own kinds of blocks.
pub const MESSAGE: Kind = Kind::Tagged(
    "role",
    &[
        (
            "user",
            &[must("role", Kind::Text), must("content", CONTENT)],
        ),
        (
            "assistant",
            &[must("role", Kind::Text), must("content", CONTENT)],
        ),
        (
            "system",
            &[must("role", Kind::Text), must("content", SYSTEM)],
        ),
    ],
);

const CONTENT: Kind = Kind::Either(&[Kind::Text, Kind::List(&Kind::Chosen(block))]);

const BLOCKS: &[(&str, &[Field])] = &[
    ("text", TEXT),
    ("image", IMAGE),
    ("document", DOCUMENT),
    ("search_result", SEARCH_RESULT),
    ("thinking", THINKING),
    (
        "redacted_thinking",
        &[must("type", Kind::Text), must("data", Kind::Text)],
    ),
    ("tool_use", TOOL_USE),
    ("tool_result", TOOL_RESULT),
    ("container_upload", CONTAINER_UPLOAD),
];

/// Blocks of the vendor's own tools, which are not looked into.
const OWN_BLOCKS: [&str; 8] = [
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
];

fn block(value: &Value) -> Result<Kind, Finding> {
    if OWN_BLOCKS.contains(&text(value, "type")) {
        return Ok(Kind::Map);
    }
    kind::tagged(value, "type", BLOCKS).map(Kind::Object)
}

const TEXT: &[Field] = &[
    must("type", Kind::Text),
    must("text", Kind::Where(&Kind::Text, not_empty)),
    null("cache_control", CACHE_CONTROL),
    null("citations", Kind::List(&Kind::Map)),
];

const IMAGE: &[Field] = &[
    must("type", Kind::Text),
    must("source", IMAGE_SOURCE),
    null("cache_control", CACHE_CONTROL),
    null("transformations", Kind::Map),
];

const FILE: &[Field] = &[must("type", Kind::Text), must("file_id", Kind::Text)];

const BY_URL: &[Field] = &[
    must("type", Kind::Text),
    must("url", Kind::Where(&Kind::Text, url)),
];

const IMAGE_SOURCE: Kind = Kind::Tagged(
    "type",
    &[
        (
            "base64",
            &[
                must("type", Kind::Text),
                must(
                    "media_type",
                    Kind::OneOf(&["image/jpeg", "image/png", "image/gif", "image/webp"]),
                ),
                must("data", BASE64),
            ],
        ),
        ("url", BY_URL),
        ("file", FILE),
    ],
);

const BASE64: Kind = Kind::Where(&Kind::Text, base64);

const DOCUMENT: &[Field] = &[
    must("type", Kind::Text),
    must("source", DOCUMENT_SOURCE),
    null("cache_control", CACHE_CONTROL),
    null("citations", CITATIONS),
    null("context", Kind::Text),
    null("title", Kind::Text),
];

const CITATIONS: Kind = Kind::Object(&[may("enabled", Kind::Bool)]);

const DOCUMENT_SOURCE: Kind = Kind::Tagged(
    "type",
    &[
        (
            "base64",
            &[
                must("type", Kind::Text),
                must("media_type", Kind::OneOf(&["application/pdf"])),
                must("data", BASE64),
            ],
        ),
        (
            "text",
            &[
                must("type", Kind::Text),
                must("media_type", Kind::OneOf(&["text/plain"])),
                must("data", Kind::Text),
            ],
        ),
        (
            "content",
            &[
                must("type", Kind::Text),
                must(
                    "content",
                    Kind::Either(&[
                        Kind::Text,
                        Kind::List(&Kind::Tagged("type", &[("text", TEXT), ("image", IMAGE)])),
                    ]),
                ),
            ],
        ),
        ("url", BY_URL),
        ("file", FILE),
    ],
);

const SEARCH_RESULT: &[Field] = &[
    must("type", Kind::Text),
    must(
        "content",
        Kind::Items(&Kind::Tagged("type", &[("text", TEXT)])),
    ),
    must("source", Kind::Text),
    must("title", Kind::Text),
    null("cache_control", CACHE_CONTROL),
    may("citations", CITATIONS),
];

const THINKING: &[Field] = &[
    must("type", Kind::Text),
    must("thinking", Kind::Text),
    must("signature", Kind::Where(&Kind::Text, signature)),
];

const TOOL_USE: &[Field] = &[
    must("type", Kind::Text),
    must("id", Kind::Where(&Kind::Text, id)),
    must("name", Kind::Text),
    must("input", Kind::Map),
    null("cache_control", CACHE_CONTROL),
    null("caller", Kind::Map),
    null("toolset_name", Kind::Text),
];

const TOOL_RESULT: &[Field] = &[
    must("type", Kind::Text),
    must("tool_use_id", Kind::Where(&Kind::Text, id)),
    may(
        "content",
        Kind::Either(&[Kind::Text, Kind::List(&RESULT_BLOCK)]),
    ),
    may("is_error", Kind::Bool),
    null("cache_control", CACHE_CONTROL),
    null("toolset_name", Kind::Text),
];

const RESULT_BLOCK: Kind = Kind::Tagged(
    "type",
    &[
        ("text", TEXT),
        ("image", IMAGE),
        ("document", DOCUMENT),
        ("search_result", SEARCH_RESULT),
        (
            "tool_reference",
            &[
                must("type", Kind::Text),
                must("tool_name", Kind::Text),
                null("cache_control", CACHE_CONTROL),
            ],
        ),
    ],
);

const CONTAINER_UPLOAD: &[Field] = &[
    must("type", Kind::Text),
    must("file_id", Kind::Text),
    null("cache_control", CACHE_CONTROL),
];

fn rule(holds: bool, text: &'static str) -> Result<(), Finding> {
    if holds {
        Ok(())
    } else {
        Err(Finding::rule(text))
    }
}

fn not_empty(value: &Value) -> Result<(), Finding> {
    let text = value.as_str().unwrap_or_default();
    rule(!text.is_empty(), "text content blocks must be non-empty")
}

fn base64(value: &Value) -> Result<(), Finding> {
    let data = value.as_str().unwrap_or_default();
    rule(is_base64(data), "Invalid base64 data")
}

fn url(value: &Value) -> Result<(), Finding> {
    let url = value.as_str().unwrap_or_default();
    rule(is_url(url), "Only HTTP and HTTPS URLs are supported.")
}

fn signature(value: &Value) -> Result<(), Finding> {
    let signature = value.as_str().unwrap_or_default();
    rule(
        is_base64(signature),
        "Invalid `signature` in `thinking` block",
    )
}

fn id(value: &Value) -> Result<(), Finding> {
    let id = value.as_str().unwrap_or_default();
    rule(
        is_plain(id),
        "String should match pattern '^[a-zA-Z0-9_-]+$'",
    )
}

/// Checks what the messages are to each other.
///
/// # Errors
/// The first rule that is broken.
pub fn check_conversation(body: &Value) -> Result<(), Finding> {
    let messages: Vec<&Value> = list(body, "messages").map(|(_, message)| message).collect();
    let in_messages = |finding: Finding, index: usize| Err(finding.at(index).within("messages"));
    if messages
        .first()
        .is_some_and(|first| text(first, "role") == "assistant")
    {
        let text = "first message must use the \"user\" role";
        return Err(Finding::rule(text).within("messages"));
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let is_last = index + 1 == messages.len();
        check_said(message, is_last).or_else(|finding| in_messages(finding, index))?;
        check_answered(message, &open).or_else(|finding| in_messages(finding, index))?;
        let calls = list(message, "content").filter(|(_, block)| text(block, "type") == "tool_use");
        open = calls.map(|(_, block)| text(block, "id")).collect();
        if let Some(again) = open.iter().find(|id| seen.contains(id)) {
            let text = format!("`tool_use` ids must be unique: {again}");
            return in_messages(Finding::rule(text), index);
        }
        seen.extend(&open);
    }
    if open.is_empty() {
        Ok(())
    } else {
        in_messages(unanswered(&open), messages.len() - 1)
    }
}

/// A message says something, and its blocks are its role's.
fn check_said(message: &Value, is_last: bool) -> Result<(), Finding> {
    let is_user = text(message, "role") == "user";
    let content = &message["content"];
    let is_empty = text(message, "content").is_empty() && content.get(0).is_none();
    if is_empty && (is_user || !is_last) {
        return Err(Finding::rule(
            "all messages must have non-empty content except for the optional final assistant \
             message",
        ));
    }
    for (index, block) in list(message, "content") {
        let kind = text(block, "type");
        let (is_misplaced, role) = match kind {
            "tool_result" => (!is_user, "user"),
            "tool_use" | "thinking" | "redacted_thinking" => (is_user, "assistant"),
            _ => continue,
        };
        if is_misplaced {
            let text = format!("`{kind}` blocks can only be in `{role}` messages");
            return Err(Finding::rule(text).at(index).within("content"));
        }
    }
    let end = match content.as_array().and_then(|blocks| blocks.last()) {
        Some(block) => text(block, "text"),
        None => text(message, "content"),
    };
    if !is_user && is_last && end.ends_with(char::is_whitespace) {
        let text = "final assistant content cannot end with trailing whitespace";
        return Err(Finding::rule(text));
    }
    Ok(())
}

/// The results at the start of a message answer the calls of the one before, and no others do.
fn check_answered(message: &Value, open: &[&str]) -> Result<(), Finding> {
    let is_result = |block: &Value| text(block, "type") == "tool_result";
    let first = list(message, "content").take_while(|(_, block)| is_result(block));
    let answered: Vec<&str> = first.map(|(_, block)| text(block, "tool_use_id")).collect();
    let left: Vec<&str> = open
        .iter()
        .filter(|id| !answered.contains(id))
        .copied()
        .collect();
    if !left.is_empty() {
        return Err(unanswered(&left));
    }
    for (index, block) in list(message, "content").filter(|(_, block)| is_result(block)) {
        let id = text(block, "tool_use_id");
        if !open.contains(&id) {
            let text = format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` \
                 block must have a corresponding `tool_use` block in the previous message."
            );
            return Err(Finding::rule(text).at(index).within("content"));
        }
    }
    Ok(())
}

fn unanswered(open: &[&str]) -> Finding {
    Finding::rule(format!(
        "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
         `tool_use` block must have a corresponding `tool_result` block in the next message.",
        open.join(", ")
    ))
}
