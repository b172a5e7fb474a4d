//! What the tests of this codec have in common.

use super::super::Dialect;
use super::super::form::{Part, PartKind, Source, Turn};
use super::super::json::view::Lit;
use super::super::{sse, translate::About};
use serde_json::Value;

pub(super) const ABOUT: About<'static> = About {
    now: 1_700_000_000,
    include_usage: false,
    provider: Dialect::Anthropic,
    response_id: "resp_1",
};

/// Turns in few words: `user: "hi" / assistant: think "a" sig; call c1 f "{}"`.
pub(super) fn shown(turns: &[Turn<'_>]) -> String {
    let turns = turns.iter().map(|turn| {
        let role = format!("{:?}", turn.role).to_lowercase();
        format!("{role}: {}", shown_parts(&turn.parts))
    });
    turns.collect::<Vec<_>>().join(" / ")
}

fn shown_parts(parts: &[Part<'_>]) -> String {
    let parts = parts.iter().map(|part| match &part.kind {
        PartKind::Text(text) => format!("{:?}", text.unescape()),
        PartKind::Refusal(text) => format!("refuse {:?}", text.unescape()),
        PartKind::Thinking { text, signature } => {
            let signature = signature.as_ref().map_or("-".into(), Lit::unescape);
            format!("think {:?} {signature}", text.unescape())
        }
        PartKind::RedactedThinking(data) => format!("redacted {}", data.unescape()),
        PartKind::ToolCall {
            id,
            name,
            arguments,
        } => {
            let arguments = arguments.as_text();
            let arguments = arguments.unescape();
            format!("call {} {} {arguments:?}", id.unescape(), name.unescape())
        }
        PartKind::ToolResult { id, content, .. } => {
            format!("result {} [{}]", id.unescape(), shown_parts(content))
        }
        PartKind::Image { source, .. } => format!("image {}", shown_source(source)),
        PartKind::Document { source, .. } => format!("document {}", shown_source(source)),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn shown_source(source: &Source<'_>) -> String {
    match source {
        Source::Url(url) => url.unescape().into_owned(),
        Source::Base64 { media_type, data } => {
            format!("{} {}", media_type.unescape(), data.unescape())
        }
        Source::Text(text) => format!("{:?}", text.unescape()),
        Source::File { id, .. } => id.unescape().into_owned(),
    }
}

/// The events of `stream`, each named after its `type` and numbered in turn.
pub(super) fn events_of(stream: &[u8]) -> Vec<Value> {
    let events = sse::events(stream).enumerate().map(|(number, event)| {
        let data: Value = serde_json::from_slice(&event.data.unwrap()).unwrap();
        assert_eq!(event.name, data["type"].as_str());
        assert_eq!(data["sequence_number"], number);
        data
    });
    events.collect()
}
