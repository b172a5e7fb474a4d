//! OpenAI's wording: chat completions, their chunks, models. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Chat" and "Models" reference
//! pages. What is thought goes into `reasoning_content`, as DeepSeek and vLLM have it. The same request has the same bytes, `id` and `created` included;
//! only the headers tell two requests apart.

use std::io::Write;
use std::ops::Range;

use super::behaviour::CATALOGUE;
use super::chat::{Chat, Event, Finish};
use super::fault::push_json;
use super::logprobs::push_entry;
use super::part::Part;
use super::tool::Call;

/// `created` of everything, in seconds since the epoch: fixed, so that answers are deterministic.
pub const CREATED: u64 = 1_700_000_000;
/// The tail of a chunk: no usage, which is there as null where the caller asked for usage.
const TAIL: &[u8] = b"]}\n\n";
const TAIL_NULL_USAGE: &[u8] = b"],\"usage\":null}\n\n";

/// What every chunk of this answer begins with.
pub fn event_head(id: u64, model_json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + model_json.len());
    let _ = write!(
        out,
        "data: {{\"id\":\"chatcmpl-sim{id:016x}\",\"object\":\"chat.completion.chunk\",\
         \"created\":{CREATED},\"model\":{model_json},\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_sim\",\"choices\":["
    );
    out
}

/// What every chunk of this answer ends with.
pub fn tail(chat: &Chat) -> &'static [u8] {
    if chat.include_usage {
        TAIL_NULL_USAGE
    } else {
        TAIL
    }
}

fn chunk_head(chat: &Chat, choice: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&chat.event_head);
    match choice {
        0 => out.extend_from_slice(b"{\"index\":0,\"delta\":{"),
        _ => drop(write!(out, "{{\"index\":{choice},\"delta\":{{")),
    }
}

fn chunk_tail(chat: &Chat, out: &mut Vec<u8>) {
    out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}");
    out.extend_from_slice(tail(chat));
}

/// Appends one event of a stream.
pub fn event(chat: &Chat, event: Event, out: &mut Vec<u8>) {
    match event {
        Event::Token {
            part,
            index,
            choice,
        } => token(chat, part, index, choice, out),
        Event::Opening(choice) => opening(chat, choice, out),
        Event::PartOpening { part, index } => call_head(chat, part, index, out),
        Event::PartClosing { .. } => {}
        Event::Closing(index) => closing(chat, index, out),
    }
}

/// The call that the opening names already: an answer that begins with a call has no other event
/// before its arguments.
fn named_by_opening(chat: &Chat) -> Option<&Call> {
    match &chat.parts[0] {
        Part::Calls(calls) => calls.calls().first(),
        _ => None,
    }
}

/// How many events begin a part: one for each call that the opening has not named, in each choice.
pub fn part_openings(chat: &Chat, part: usize) -> usize {
    match &chat.parts[part] {
        Part::Calls(calls) => (calls.calls().len() - usize::from(part == 0)) * chat.choices.len(),
        _ => 0,
    }
}

/// The role of a choice, and the name of the tool it calls first.
fn opening(chat: &Chat, choice: usize, out: &mut Vec<u8>) {
    chunk_head(chat, choice, out);
    match named_by_opening(chat) {
        None => out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"),
        Some(call) => {
            out.extend_from_slice(
                b"\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,",
            );
            push_call(out, call_id(chat, choice, 0), call, "");
            out.extend_from_slice(b"}]");
        }
    }
    chunk_tail(chat, out);
}

/// The name of a tool that is called after the first part, or after the first call.
fn call_head(chat: &Chat, part: usize, index: usize, out: &mut Vec<u8>) {
    let Part::Calls(calls) = &chat.parts[part] else {
        return;
    };
    let (own, choice) = (index / chat.choices.len(), index % chat.choices.len());
    let own = own + usize::from(part == 0);
    let number = calls.first + own;
    chunk_head(chat, choice, out);
    let _ = write!(out, "\"tool_calls\":[{{\"index\":{number},");
    push_call(out, call_id(chat, choice, number), &calls.calls()[own], "");
    out.extend_from_slice(b"}]");
    chunk_tail(chat, out);
}

/// One token of one choice.
fn token(chat: &Chat, part: usize, index: u32, choice: usize, out: &mut Vec<u8>) {
    chunk_head(chat, choice, out);
    match &chat.parts[part] {
        Part::Text => {
            out.extend_from_slice(b"\"content\":\"");
            chat.choices[choice].words.token(index, out);
            out.push(b'"');
        }
        Part::Thinking(words) => {
            out.extend_from_slice(b"\"reasoning_content\":\"");
            words.token(index, out);
            out.push(b'"');
        }
        Part::Refusal(words) => {
            out.extend_from_slice(b"\"refusal\":\"");
            words.token(index, out);
            out.push(b'"');
        }
        Part::Json(document) => {
            out.extend_from_slice(b"\"content\":");
            push_json(out, document.get(index));
        }
        Part::Calls(calls) => {
            let (number, fragment) = calls.fragment(index);
            let _ = write!(
                out,
                "\"tool_calls\":[{{\"index\":{number},\"function\":{{\"arguments\":"
            );
            push_json(out, fragment);
            out.extend_from_slice(b"}}]");
        }
    }
    if chat.logprobs.is_some() {
        out.extend_from_slice(b"},\"logprobs\":");
        push_logprobs(chat, part, index..index + 1, choice, out);
        out.extend_from_slice(b",\"finish_reason\":null}");
        out.extend_from_slice(tail(chat));
    } else {
        chunk_tail(chat, out);
    }
}

/// How likely some tokens of one part were. Of thoughts and calls that is not told.
fn push_logprobs(chat: &Chat, part: usize, tokens: Range<u32>, choice: usize, out: &mut Vec<u8>) {
    let own = &chat.parts[part];
    let (head, tail) = match (own, chat.logprobs) {
        (_, None) | (Part::Thinking(_) | Part::Calls(_), _) => {
            return out.extend_from_slice(b"null");
        }
        (Part::Refusal(_), _) => ("{\"content\":null,\"refusal\":[", "]}"),
        (Part::Text | Part::Json(_), _) => ("{\"content\":[", "],\"refusal\":null}"),
    };
    out.extend_from_slice(head.as_bytes());
    let first = tokens.start;
    let mut word = Vec::new();
    for index in tokens {
        if index > first {
            out.push(b',');
        }
        word.clear();
        match own {
            Part::Json(document) => word.extend_from_slice(document.get(index).as_bytes()),
            Part::Refusal(words) => words.token(index, &mut word),
            _ => chat.choices[choice].words.token(index, &mut word),
        }
        let token = std::str::from_utf8(&word).unwrap_or_default();
        let seed = chat.id ^ u64::from(index) ^ (choice as u64) << 32;
        push_entry(out, token, seed, chat.logprobs.unwrap_or(0));
    }
    out.extend_from_slice(tail.as_bytes());
}

/// The finish reason of each choice, the usage if it was asked for, the end marker.
fn closing(chat: &Chat, index: usize, out: &mut Vec<u8>) {
    if index < chat.choices.len() {
        chunk_head(chat, index, out);
        let reason = finish_reason(chat, index);
        let _ = write!(out, "}},\"logprobs\":null,\"finish_reason\":\"{reason}\"}}");
        out.extend_from_slice(tail(chat));
    } else if chat.include_usage && index == chat.choices.len() {
        out.extend_from_slice(&chat.event_head);
        out.extend_from_slice(b"],\"usage\":");
        push_usage(out, chat);
        out.extend_from_slice(b"}\n\n");
    } else {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// A plain answer.
pub fn plain(chat: &Chat, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "{{\"id\":\"chatcmpl-sim{:016x}\",\"object\":\"chat.completion\",\"created\":{CREATED},\
         \"model\":{},\"choices\":[",
        chat.id, chat.model_json
    );
    for index in 0..chat.choices.len() {
        if index > 0 {
            out.push(b',');
        }
        let _ = write!(
            out,
            "{{\"index\":{index},\"message\":{{\"role\":\"assistant\""
        );
        message(chat, index, out);
        out.extend_from_slice(b",\"annotations\":[]},\"logprobs\":");
        let part = chat.parts.len() - 1;
        push_logprobs(chat, part, 0..chat.tokens(part, index), index, out);
        let reason = finish_reason(chat, index);
        let _ = write!(out, ",\"finish_reason\":\"{reason}\"}}");
    }
    out.extend_from_slice(b"],\"usage\":");
    push_usage(out, chat);
    out.extend_from_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_sim\"}");
}

/// What the message of one choice says. Only the last part is an answer; several calls are one.
fn message(chat: &Chat, choice: usize, out: &mut Vec<u8>) {
    if let Part::Thinking(words) = &chat.parts[0] {
        out.extend_from_slice(b",\"reasoning_content\":\"");
        words.all(out);
        out.push(b'"');
    }
    match chat.parts.last() {
        Some(Part::Text) => {
            out.extend_from_slice(b",\"content\":\"");
            chat.choices[choice].words.all(out);
            out.extend_from_slice(b"\",\"refusal\":null");
        }
        Some(Part::Json(document)) => {
            out.extend_from_slice(b",\"content\":");
            push_json(out, document.text());
            out.extend_from_slice(b",\"refusal\":null");
        }
        Some(Part::Refusal(words)) => {
            out.extend_from_slice(b",\"content\":null,\"refusal\":\"");
            words.all(out);
            out.push(b'"');
        }
        Some(Part::Calls(_)) => {
            out.extend_from_slice(b",\"content\":null,\"refusal\":null,\"tool_calls\":[");
            push_calls(chat, choice, out);
            out.push(b']');
        }
        // All that was allowed for went into thinking.
        Some(Part::Thinking(_)) | None => {
            out.extend_from_slice(b",\"content\":\"\",\"refusal\":null");
        }
    }
}

fn push_calls(chat: &Chat, choice: usize, out: &mut Vec<u8>) {
    let calls = chat.parts.iter().flat_map(|part| match part {
        Part::Calls(calls) => calls.calls(),
        _ => &[],
    });
    for (number, call) in calls.enumerate() {
        out.extend_from_slice(if number == 0 { b"{" } else { b",{" });
        push_call(
            out,
            call_id(chat, choice, number),
            call,
            call.arguments.text(),
        );
        out.push(b'}');
    }
}

fn finish_reason(chat: &Chat, choice: usize) -> &'static str {
    match chat.choices[choice].finish {
        Finish::Complete | Finish::Stopped | Finish::Refused => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

/// What the id of one call is made from.
fn call_id(chat: &Chat, choice: usize, number: usize) -> u64 {
    chat.id ^ choice as u64 ^ (number as u64) << 32
}

fn push_call(out: &mut Vec<u8>, id: u64, call: &Call, arguments: &str) {
    let _ = write!(
        out,
        "\"id\":\"call_sim{id:016x}\",\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":",
        call.name_json
    );
    push_json(out, arguments);
    out.push(b'}');
}

/// Appends the usage.
pub fn push_usage(out: &mut Vec<u8>, chat: &Chat) {
    let prompt = chat.prompt_tokens.saturating_add(chat.cached_tokens);
    let (completion, thought) = (chat.tokens_total(), chat.tokens_thought());
    let (cached, total) = (chat.cached_tokens, prompt.saturating_add(completion));
    let _ = write!(
        out,
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{cached},\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{thought},\"audio_tokens\":0,\
         \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
    );
}

/// One model.
pub fn model(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    push_json(out, id);
    let _ = write!(
        out,
        ",\"object\":\"model\",\"created\":{CREATED},\"owned_by\":\"simulator\"}}"
    );
}

/// Every behaviour as a model.
pub fn models(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, (_, example, _)) in CATALOGUE.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        model(example, out);
    }
    out.extend_from_slice(b"]}");
}
