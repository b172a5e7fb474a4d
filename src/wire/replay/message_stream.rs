//! The events of a stream that says what a message of Anthropic's says.
//!
//! The vendor's grammar: `message_start` with the message as it is before its content, each block
//! with its start, deltas and stop, `message_delta` with why it stopped and what it cost,
//! `message_stop`. A block of a type that does not grow comes whole with its start. Start at
//! [`of_body`].

use super::out::{Events, pieces};
use super::{Members, members, object};
use crate::wire::json::view::{Lit, View};
use crate::wire::json::write::Writer;

/// What only `message_delta` says of a message; before it these are `null`.
const ENDS: [&str; 4] = ["stop_reason", "stop_sequence", "stop_details", "container"];
/// What `message_delta` says of the usage. Of them the first two grow with the answer.
const COUNTS: [&str; 6] = [
    "output_tokens",
    "output_tokens_details",
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
];

/// See [`super::stream_of_body`].
pub(super) fn of_body(body: &[u8]) -> Option<Vec<u8>> {
    let message = members(object(body)?)?;
    let find = |name: &str| message.iter().find(|(key, _)| key == name);
    let content = find("content").map(|(_, content)| *content);
    let content = content.filter(|content| content.is_array())?;
    find("stop_reason").filter(|(_, reason)| reason.is_string())?;
    if find("type").is_some_and(|(_, kind)| !kind.is("message")) {
        return None;
    }
    let usage = match find("usage") {
        Some((_, usage)) if usage.is_object() => members(*usage)?,
        _ => Vec::new(),
    };
    let mut events = Events::new(body.len());
    start(&mut events, &message, &usage);
    for (index, block) in content.items().enumerate() {
        self::block(&mut events, index as u64, &members(block)?);
    }
    event(&mut events, "message_delta", |out| {
        out.key("delta").object(|out| {
            for name in ENDS {
                match message.iter().find(|(key, _)| key == name) {
                    Some((key, value)) => {
                        out.key(key).view(*value);
                    }
                    None if name == "stop_sequence" => {
                        out.key(name).null();
                    }
                    None => {}
                }
            }
        });
        out.key("usage").object(|out| {
            let due = usage
                .iter()
                .filter(|(key, _)| COUNTS.contains(&key.as_ref()));
            due.for_each(|(key, value)| {
                out.key(key).view(*value);
            });
        });
    });
    event(&mut events, "message_stop", |_| {});
    events.into_bytes()
}

fn start(events: &mut Events, message: &Members<'_>, usage: &Members<'_>) {
    event(events, "message_start", |out| {
        out.key("message").object(|out| {
            for (key, value) in message {
                match key.as_ref() {
                    "content" => {
                        out.key(key).array(|_| {});
                    }
                    "usage" => {}
                    key if ENDS.contains(&key) => {
                        out.key(key).null();
                    }
                    _ => {
                        out.key(key).view(*value);
                    }
                }
            }
            if message.iter().all(|(key, _)| key != "stop_sequence") {
                out.key("stop_sequence").null();
            }
            out.key("usage").object(|out| {
                for (key, value) in usage {
                    match key.as_ref() {
                        "output_tokens" => {
                            out.key(key).number(0);
                        }
                        "output_tokens_details" => {
                            out.key(key).null();
                        }
                        _ => {
                            out.key(key).view(*value);
                        }
                    }
                }
            });
        });
    });
}

fn block(events: &mut Events, index: u64, block: &Members<'_>) {
    let find = |name: &str| block.iter().find(|(key, _)| key == name);
    let kind = find("type").and_then(|(_, kind)| kind.string());
    let kind = kind.as_deref().unwrap_or_default();
    // What of the block its deltas bring.
    let grows = |key: &str, value: View<'_>| match key {
        "text" => kind == "text" && value.is_string(),
        "citations" => kind == "text" && value.is_array(),
        "thinking" | "signature" => kind == "thinking" && value.is_string(),
        "input" => kind.ends_with("tool_use") && value.is_object(),
        _ => false,
    };
    event(events, "content_block_start", |out| {
        out.key("index").number(index);
        out.key("content_block").object(|out| {
            for (key, value) in block {
                out.key(key);
                match key.as_ref() {
                    key if !grows(key, *value) => out.view(*value),
                    "citations" => out.array(|_| {}),
                    "input" => out.object(|_| {}),
                    _ => out.string(""),
                };
            }
        });
    });
    let growing = |name: &str| find(name).map(|(_, it)| *it).filter(|it| grows(name, *it));
    let text = |name: &str| growing(name).and_then(View::lit);
    for (name, kind) in [("thinking", "thinking_delta"), ("text", "text_delta")] {
        grow(events, index, kind, name, text(name));
    }
    for citation in growing("citations").into_iter().flat_map(View::items) {
        delta(events, index, "citations_delta", |out| {
            out.key("citation").view(citation);
        });
    }
    if let Some(signature) = text("signature").filter(|it| !it.is_empty()) {
        delta(events, index, "signature_delta", |out| {
            out.key("signature").lit(&signature);
        });
    }
    let input = growing("input").filter(|input| input.members().next().is_some());
    let input = input.map(|input| Lit::of(input.text()));
    grow(events, index, "input_json_delta", "partial_json", input);
    event(events, "content_block_stop", |out| {
        out.key("index").number(index);
    });
}

/// The deltas of a text, piece by piece.
fn grow(events: &mut Events, index: u64, kind: &str, name: &str, text: Option<Lit<'_>>) {
    let Some(text) = text else {
        return;
    };
    for piece in pieces(text.as_escaped()) {
        delta(events, index, kind, |out| {
            out.key(name).lit(&Lit::escaped(piece));
        });
    }
}

fn delta(events: &mut Events, index: u64, kind: &str, fill: impl FnOnce(&mut Writer)) {
    event(events, "content_block_delta", |out| {
        out.key("index").number(index);
        out.key("delta").object(|out| {
            out.key("type").string(kind);
            fill(out);
        });
    });
}

/// One event: its name, and its data with the same type.
fn event(events: &mut Events, kind: &str, fill: impl FnOnce(&mut Writer)) {
    let head = format!("event: {kind}\ndata: ");
    let write = |out: &mut Writer| {
        out.object(|out| {
            out.key("type").string(kind);
            fill(out);
        });
    };
    events.event(head.as_bytes(), write, b"\n\n");
}
