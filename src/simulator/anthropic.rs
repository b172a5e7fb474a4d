//! Anthropic's wording: messages, their events, token counts, models. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Messages" and "Streaming
//! messages" reference pages. The same request has the same bytes.

use std::io::Write;

use super::behaviour::CATALOGUE;
use super::chat::{Chat, Finish};
use super::fault::push_json;

/// `message_start`, `content_block_start`, `ping`.
pub const OPENINGS: usize = 3;
/// `content_block_stop`, `message_delta`, `message_stop`.
pub const CLOSINGS: usize = 3;

/// Opening event `index`.
pub fn opening(chat: &Chat, index: usize, out: &mut Vec<u8>) {
    match index {
        0 => {
            out.extend_from_slice(
                b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":",
            );
            push_message(chat, out, |_| {});
            out.extend_from_slice(b"}\n\n");
        }
        1 => {
            out.extend_from_slice(
                b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":",
            );
            match &chat.call {
                None => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
                Some(call) => push_tool_use(out, chat.id, &call.name_json, "{}"),
            }
            out.extend_from_slice(b"}\n\n");
        }
        _ => out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    }
}

/// One token: a piece of text, or of a tool's arguments.
pub fn token(chat: &Chat, index: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":",
    );
    match &chat.call {
        None => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":\"");
            chat.choices[0].words.token(index, out);
            out.push(b'"');
        }
        Some(call) => {
            out.extend_from_slice(b"{\"type\":\"input_json_delta\",\"partial_json\":");
            push_json(out, call.fragment(index));
        }
    }
    out.extend_from_slice(b"}}\n\n");
}

/// Closing event `index`; the last one is the end marker.
pub fn closing(chat: &Chat, index: usize, out: &mut Vec<u8>) {
    match index {
        0 => out.extend_from_slice(
            b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        ),
        1 => {
            out.extend_from_slice(
                b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{",
            );
            push_stop(chat, out);
            let _ = write!(
                out,
                "}},\"usage\":{{\"output_tokens\":{}}}}}\n\n",
                chat.tokens_total()
            );
        }
        _ => out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
    }
}

/// A plain answer.
pub fn plain(chat: &Chat, out: &mut Vec<u8>) {
    push_message(chat, out, |out| match &chat.call {
        None => {
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
            chat.choices[0].words.all(out);
            out.extend_from_slice(b"\"}");
        }
        Some(call) => push_tool_use(out, chat.id, &call.name_json, &call.arguments),
    });
}

/// A message. `content` appends its one block, or nothing at the start of a stream, when the
/// message has not ended yet either.
fn push_message(chat: &Chat, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let _ = write!(
        out,
        "{{\"id\":\"msg_sim{:016x}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[",
        chat.id, chat.model_json
    );
    let before = out.len();
    content(out);
    let ended = out.len() > before;
    out.extend_from_slice(b"],");
    if ended {
        push_stop(chat, out);
    } else {
        out.extend_from_slice(b"\"stop_reason\":null,\"stop_sequence\":null");
    }
    let output = if ended { chat.tokens_total() } else { 1 };
    let _ = write!(
        out,
        ",\"usage\":{{\"input_tokens\":{},\"cache_creation_input_tokens\":0,\
         \"cache_read_input_tokens\":0,\"output_tokens\":{output},\"service_tier\":\"standard\"}}}}",
        chat.prompt_tokens
    );
}

fn push_stop(chat: &Chat, out: &mut Vec<u8>) {
    let reason = match chat.choices[0].finish {
        Finish::Complete => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Stopped => "stop_sequence",
        Finish::Tool => "tool_use",
    };
    let _ = write!(out, "\"stop_reason\":\"{reason}\",\"stop_sequence\":");
    match &chat.stop_sequence {
        Some(sequence) => push_json(out, sequence),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_tool_use(out: &mut Vec<u8>, id: u64, name_json: &str, input: &str) {
    let _ = write!(
        out,
        "{{\"type\":\"tool_use\",\"id\":\"toolu_sim{id:016x}\",\"name\":{name_json},\"input\":{input}}}"
    );
}

/// One model.
pub fn model(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"model\",\"id\":");
    push_json(out, id);
    out.extend_from_slice(b",\"display_name\":");
    push_json(out, id);
    out.extend_from_slice(b",\"created_at\":\"2023-11-14T22:13:20Z\"}");
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
