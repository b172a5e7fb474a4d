//! Anthropic's wording: messages, their events, models. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Messages" and "Streaming
//! messages" reference pages. Each part of an answer is one content block. The same request has
//! the same bytes.

use std::io::Write;

use super::behaviour::CATALOGUE;
use super::chat::{Chat, Event, Finish};
use super::fault::push_json;
use super::part::Part;

/// `message_start`.
pub const OPENINGS: usize = 1;
/// `message_delta`, `message_stop`.
pub const CLOSINGS: usize = 2;

/// How many events begin a block: its start, and after the first one's a ping.
pub fn part_openings(part: usize) -> usize {
    1 + usize::from(part == 0)
}

/// How many events end a block: its stop, and before that of a thought its signature.
pub fn part_closings(part: &Part) -> usize {
    1 + usize::from(matches!(part, Part::Thinking(_)))
}

/// Appends one event of a stream.
pub fn event(chat: &Chat, event: Event, out: &mut Vec<u8>) {
    match event {
        Event::Token { part, index, .. } => token(chat, part, index, out),
        Event::Opening(_) => {
            out.extend_from_slice(
                b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":",
            );
            push_message(chat, false, out);
            out.extend_from_slice(b"}\n\n");
        }
        Event::PartOpening { part, index: 0 } => {
            let _ = write!(
                out,
                "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{part},\"content_block\":"
            );
            push_block(chat, part, false, out);
            out.extend_from_slice(b"}\n\n");
        }
        Event::PartOpening { .. } => {
            out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
        }
        Event::PartClosing { part, index } if index + 1 < part_closings(&chat.parts[part]) => {
            push_delta_head(part, out);
            out.extend_from_slice(b"{\"type\":\"signature_delta\",\"signature\":\"");
            push_signature(chat, out);
            out.extend_from_slice(b"\"}}\n\n");
        }
        Event::PartClosing { part, .. } => {
            let _ = write!(
                out,
                "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{part}}}\n\n"
            );
        }
        Event::Closing(0) => {
            out.extend_from_slice(
                b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{",
            );
            push_stop(chat, out);
            out.extend_from_slice(b"},\"usage\":{");
            push_input_tokens(chat, out);
            push_output_tokens(chat, out);
            out.extend_from_slice(b"}}\n\n");
        }
        Event::Closing(_) => {
            out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        }
    }
}

fn push_delta_head(part: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    match part {
        0 => out.push(b'0'),
        _ => drop(write!(out, "{part}")),
    }
    out.extend_from_slice(b",\"delta\":");
}

/// One token: a piece of text, of a thought, or of a tool's arguments.
fn token(chat: &Chat, part: usize, index: u32, out: &mut Vec<u8>) {
    push_delta_head(part, out);
    match &chat.parts[part] {
        Part::Text => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":\"");
            chat.choices[0].words.token(index, out);
            out.push(b'"');
        }
        Part::Refusal(words) => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":\"");
            words.token(index, out);
            out.push(b'"');
        }
        Part::Thinking(words) => {
            out.extend_from_slice(b"{\"type\":\"thinking_delta\",\"thinking\":\"");
            words.token(index, out);
            out.push(b'"');
        }
        Part::Json(document) => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":");
            push_json(out, document.get(index));
        }
        Part::Calls(calls) => {
            out.extend_from_slice(b"{\"type\":\"input_json_delta\",\"partial_json\":");
            push_json(out, calls.fragment(index).1);
        }
    }
    out.extend_from_slice(b"}}\n\n");
}

/// A plain answer.
pub fn plain(chat: &Chat, out: &mut Vec<u8>) {
    push_message(chat, true, out);
}

/// A message. At the start of a stream it has no content yet, and has not ended.
fn push_message(chat: &Chat, is_whole: bool, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "{{\"id\":\"msg_sim{:016x}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[",
        chat.id, chat.model_json
    );
    let whole = if is_whole { chat.parts.len() } else { 0 };
    for part in 0..whole {
        if part > 0 {
            out.push(b',');
        }
        push_block(chat, part, true, out);
    }
    out.extend_from_slice(b"],");
    if is_whole {
        push_stop(chat, out);
    } else {
        out.extend_from_slice(b"\"stop_reason\":null,\"stop_sequence\":null");
    }
    out.extend_from_slice(b",\"usage\":{");
    push_input_tokens(chat, out);
    if is_whole {
        push_output_tokens(chat, out);
    } else {
        out.extend_from_slice(b"\"output_tokens\":1");
    }
    out.extend_from_slice(b",\"service_tier\":\"standard\"}}");
}

fn push_input_tokens(chat: &Chat, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "\"input_tokens\":{},\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":{},",
        chat.prompt_tokens, chat.cached_tokens
    );
}

fn push_output_tokens(chat: &Chat, out: &mut Vec<u8>) {
    let _ = write!(out, "\"output_tokens\":{}", chat.tokens_total());
    let thought = chat.tokens_thought();
    if thought > 0 {
        let _ = write!(
            out,
            ",\"output_tokens_details\":{{\"thinking_tokens\":{thought}}}"
        );
    }
}

fn push_stop(chat: &Chat, out: &mut Vec<u8>) {
    let reason = match chat.choices[0].finish {
        Finish::Complete => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Stopped => "stop_sequence",
        Finish::Tool => "tool_use",
        Finish::Refused => "refusal",
    };
    let _ = write!(out, "\"stop_reason\":\"{reason}\",\"stop_sequence\":");
    match &chat.stop_sequence {
        Some(sequence) => push_json(out, sequence),
        None => out.extend_from_slice(b"null"),
    }
    if chat.choices[0].finish == Finish::Refused {
        out.extend_from_slice(
            b",\"stop_details\":{\"type\":\"refusal\",\"category\":null,\"explanation\":null}",
        );
    }
}

/// A content block, as it is at its start or as a whole.
fn push_block(chat: &Chat, part: usize, is_whole: bool, out: &mut Vec<u8>) {
    match &chat.parts[part] {
        Part::Thinking(words) => {
            out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"");
            if is_whole {
                words.all(out);
            }
            out.extend_from_slice(b"\",\"signature\":\"");
            if is_whole {
                push_signature(chat, out);
            }
            out.extend_from_slice(b"\"}");
        }
        Part::Calls(calls) => {
            let call = &calls.calls()[0];
            let input = if is_whole {
                call.arguments.text()
            } else {
                "{}"
            };
            let id = chat.id ^ (calls.first as u64) << 32;
            let _ = write!(
                out,
                "{{\"type\":\"tool_use\",\"id\":\"toolu_sim{id:016x}\",\"name\":{},\"input\":{input}}}",
                call.name_json
            );
        }
        text => {
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
            match text {
                _ if !is_whole => out.extend_from_slice(b"\"\""),
                Part::Json(document) => push_json(out, document.text()),
                text => {
                    let words = match text {
                        Part::Refusal(words) => words,
                        _ => &chat.choices[0].words,
                    };
                    out.push(b'"');
                    words.all(out);
                    out.push(b'"');
                }
            }
            out.push(b'}');
        }
    }
}

/// What vouches for a thought: base64, as the vendor's is.
fn push_signature(chat: &Chat, out: &mut Vec<u8>) {
    let _ = write!(out, "c2ln{:016x}", chat.id);
}

/// One model.
pub fn model(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"model\",\"id\":");
    push_json(out, id);
    out.extend_from_slice(b",\"display_name\":");
    push_json(out, id);
    out.extend_from_slice(b",\"created_at\":\"2023-11-14T22:13:20Z\",\"lifecycle\":\"active\"}");
}

/// Every behaviour as a model.
pub fn models(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":[");
    for (index, (_, example, _)) in CATALOGUE.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        model(example, out);
    }
    let id =
        |entry: Option<&(_, &'static str, _)>| entry.map_or("", |(_, id, _): &(&str, _, &str)| id);
    let (first, last) = (id(CATALOGUE.first()), id(CATALOGUE.last()));
    let _ = write!(
        out,
        "],\"has_more\":false,\"first_id\":\"{first}\",\"last_id\":\"{last}\"}}"
    );
}
