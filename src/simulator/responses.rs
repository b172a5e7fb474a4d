//! OpenAI's wording of responses: the object, its items, and its events. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Responses" reference pages. Each
//! part of an answer is one output item, and each event has its `sequence_number`. There is no
//! `[DONE]`: the end marker is `response.completed` or `response.incomplete`.

use std::io::Write;

use super::chat::{Chat, Event, Finish};
use super::fault::push_json;
use super::openai::CREATED;
use super::part::Part;

/// `response.created`, `response.in_progress`.
pub const OPENINGS: usize = 2;
/// `response.completed` or `response.incomplete`.
pub const CLOSINGS: usize = 1;

/// How many events begin an item: it is added, and so is the first part of its content.
pub fn part_openings(part: &Part) -> usize {
    2 - usize::from(matches!(part, Part::Calls(_)))
}

/// How many events end an item: its text is done, the part of its content, and it itself.
pub fn part_closings(part: &Part) -> usize {
    3 - usize::from(matches!(part, Part::Calls(_)))
}

/// Appends event `number` of a stream.
pub fn event(chat: &Chat, event: Event, number: u32, out: &mut Vec<u8>) {
    match event {
        Event::Token { part, index, .. } => token(chat, part, index, number, out),
        Event::Opening(index) => {
            let kind = match index {
                0 => "response.created",
                _ => "response.in_progress",
            };
            response_event(chat, kind, false, number, out);
        }
        Event::PartOpening { part, index: 0 } => {
            push_head("response.output_item.added", number, out);
            push_item_of_event(chat, part, false, out);
        }
        Event::PartOpening { part, .. } => content_part(chat, part, false, number, out),
        Event::PartClosing { part, index } => {
            // A call has no content whose part could be done.
            let left = part_closings(&chat.parts[part]) - index;
            match left {
                1 => {
                    push_head("response.output_item.done", number, out);
                    push_item_of_event(chat, part, true, out);
                }
                2 if !matches!(chat.parts[part], Part::Calls(_)) => {
                    content_part(chat, part, true, number, out);
                }
                _ => text_done(chat, part, number, out),
            }
        }
        Event::Closing(_) => {
            let kind = match chat.choices[0].finish {
                Finish::Length => "response.incomplete",
                _ => "response.completed",
            };
            response_event(chat, kind, true, number, out);
        }
    }
}

fn push_head(kind: &str, number: u32, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},"
    );
}

fn response_event(chat: &Chat, kind: &str, is_whole: bool, number: u32, out: &mut Vec<u8>) {
    push_head(kind, number, out);
    out.extend_from_slice(b"\"response\":");
    push_response(chat, is_whole, out);
    out.extend_from_slice(b"}\n\n");
}

fn push_item_of_event(chat: &Chat, part: usize, is_whole: bool, out: &mut Vec<u8>) {
    let _ = write!(out, "\"output_index\":{part},\"item\":");
    push_item(chat, part, is_whole, out);
    out.extend_from_slice(b"}\n\n");
}

/// The prefix of an item's id, and what its text is called in events.
fn names(part: &Part) -> (&'static str, &'static str) {
    match part {
        Part::Thinking(_) => ("rs", "reasoning_summary_text"),
        Part::Text | Part::Json(_) => ("msg", "output_text"),
        Part::Refusal(_) => ("msg", "refusal"),
        Part::Calls(_) => ("fc", "function_call_arguments"),
    }
}

/// What the ids of one item are made from.
fn item_id(chat: &Chat, part: usize) -> u64 {
    chat.id ^ (part as u64) << 32
}

/// Where an event belongs: its item, and its place within that.
fn push_place(chat: &Chat, part: usize, out: &mut Vec<u8>) {
    let (prefix, _) = names(&chat.parts[part]);
    let id = item_id(chat, part);
    let _ = write!(
        out,
        "\"item_id\":\"{prefix}_sim{id:016x}\",\"output_index\":{part},"
    );
    out.extend_from_slice(match &chat.parts[part] {
        Part::Calls(_) => b"",
        Part::Thinking(_) => &b"\"summary_index\":0,"[..],
        _ => b"\"content_index\":0,",
    });
}

/// One token: a piece of text, of a thought, or of a tool's arguments.
fn token(chat: &Chat, part: usize, index: u32, number: u32, out: &mut Vec<u8>) {
    let own = &chat.parts[part];
    let (_, name) = names(own);
    let _ = write!(
        out,
        "event: response.{name}.delta\ndata: {{\"type\":\"response.{name}.delta\",\
         \"sequence_number\":{number},"
    );
    push_place(chat, part, out);
    out.extend_from_slice(b"\"delta\":");
    match own {
        Part::Json(document) => push_json(out, document.get(index)),
        Part::Calls(calls) => push_json(out, calls.fragment(index).1),
        Part::Text => push_words(out, |out| chat.choices[0].words.token(index, out)),
        Part::Thinking(words) | Part::Refusal(words) => {
            push_words(out, |out| words.token(index, out));
        }
    }
    if name == "output_text" {
        out.extend_from_slice(b",\"logprobs\":[]");
    }
    out.extend_from_slice(b"}\n\n");
}

/// Words need no escaping.
fn push_words(out: &mut Vec<u8>, words: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    words(out);
    out.push(b'"');
}

/// The whole text of a part, as JSON.
fn push_text(chat: &Chat, part: usize, out: &mut Vec<u8>) {
    match &chat.parts[part] {
        Part::Json(document) => push_json(out, document.text()),
        Part::Calls(calls) => push_json(out, calls.calls()[0].arguments.text()),
        Part::Text => push_words(out, |out| chat.choices[0].words.all(out)),
        Part::Thinking(words) | Part::Refusal(words) => push_words(out, |out| words.all(out)),
    }
}

fn text_done(chat: &Chat, part: usize, number: u32, out: &mut Vec<u8>) {
    let (_, name) = names(&chat.parts[part]);
    push_head(&format!("response.{name}.done"), number, out);
    push_place(chat, part, out);
    out.extend_from_slice(match &chat.parts[part] {
        Part::Calls(_) => b"\"arguments\":",
        Part::Refusal(_) => b"\"refusal\":",
        _ => &b"\"text\":"[..],
    });
    push_text(chat, part, out);
    if name == "output_text" {
        out.extend_from_slice(b",\"logprobs\":[]");
    }
    out.extend_from_slice(b"}\n\n");
}

fn content_part(chat: &Chat, part: usize, is_whole: bool, number: u32, out: &mut Vec<u8>) {
    let kind = match (&chat.parts[part], is_whole) {
        (Part::Thinking(_), false) => "response.reasoning_summary_part.added",
        (Part::Thinking(_), true) => "response.reasoning_summary_part.done",
        (_, false) => "response.content_part.added",
        (_, true) => "response.content_part.done",
    };
    push_head(kind, number, out);
    push_place(chat, part, out);
    out.extend_from_slice(b"\"part\":");
    push_content(chat, part, is_whole, out);
    out.extend_from_slice(b"}\n\n");
}

/// The one part of an item's content, or of a thought's summary.
fn push_content(chat: &Chat, part: usize, is_whole: bool, out: &mut Vec<u8>) {
    let (head, tail) = match &chat.parts[part] {
        Part::Thinking(_) => ("{\"type\":\"summary_text\",\"text\":", "}"),
        Part::Refusal(_) => ("{\"type\":\"refusal\",\"refusal\":", "}"),
        _ => (
            "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":",
            "}",
        ),
    };
    out.extend_from_slice(head.as_bytes());
    if is_whole {
        push_text(chat, part, out);
    } else {
        out.extend_from_slice(b"\"\"");
    }
    out.extend_from_slice(tail.as_bytes());
}

/// An output item, as it is when it is added or as a whole.
fn push_item(chat: &Chat, part: usize, is_whole: bool, out: &mut Vec<u8>) {
    let own = &chat.parts[part];
    let (prefix, _) = names(own);
    let id = item_id(chat, part);
    let _ = write!(out, "{{\"id\":\"{prefix}_sim{id:016x}\",");
    let is_last = part + 1 == chat.parts.len();
    let status = match chat.choices[0].finish {
        _ if !is_whole => "in_progress",
        Finish::Length if is_last => "incomplete",
        _ => "completed",
    };
    match own {
        Part::Thinking(_) => {
            out.extend_from_slice(b"\"type\":\"reasoning\",\"summary\":[");
            if is_whole {
                push_content(chat, part, true, out);
            }
            out.push(b']');
            if is_whole && chat.is_encrypted {
                let _ = write!(out, ",\"encrypted_content\":\"c2ln{:016x}\"", chat.id);
            }
        }
        Part::Calls(calls) => {
            let call = &calls.calls()[0];
            let _ = write!(
                out,
                "\"type\":\"function_call\",\"status\":\"{status}\",\"call_id\":\"call_sim{id:016x}\",\
                 \"name\":{},\"arguments\":",
                call.name_json
            );
            push_json(out, if is_whole { call.arguments.text() } else { "" });
        }
        _ => {
            let _ = write!(
                out,
                "\"type\":\"message\",\"status\":\"{status}\",\"role\":\"assistant\",\"content\":["
            );
            if is_whole {
                push_content(chat, part, true, out);
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// A plain answer.
pub fn plain(chat: &Chat, out: &mut Vec<u8>) {
    push_response(chat, true, out);
}

/// A response. At the start of a stream it has no output yet, and no usage.
fn push_response(chat: &Chat, is_whole: bool, out: &mut Vec<u8>) {
    let is_incomplete = chat.choices[0].finish == Finish::Length;
    let (status, completed_at, details) = match (is_whole, is_incomplete) {
        (false, _) => ("in_progress", "null", "null"),
        (true, true) => ("incomplete", "null", "{\"reason\":\"max_output_tokens\"}"),
        (true, false) => ("completed", "1700000001", "null"),
    };
    let _ = write!(
        out,
        "{{\"id\":\"resp_sim{:016x}\",\"object\":\"response\",\"created_at\":{CREATED},\
         \"status\":\"{status}\",\"completed_at\":{completed_at},\"error\":null,\
         \"incomplete_details\":{details},\"model\":{},\"output\":[",
        chat.id, chat.model_json
    );
    let whole = if is_whole { chat.parts.len() } else { 0 };
    for part in 0..whole {
        if part > 0 {
            out.push(b',');
        }
        push_item(chat, part, true, out);
    }
    out.extend_from_slice(b"],\"usage\":");
    if is_whole {
        push_usage(chat, out);
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(&chat.echo);
    out.push(b'}');
}

fn push_usage(chat: &Chat, out: &mut Vec<u8>) {
    let input = chat.prompt_tokens.saturating_add(chat.cached_tokens);
    let (output, thought) = (chat.tokens_total(), chat.tokens_thought());
    let _ = write!(
        out,
        "{{\"input_tokens\":{input},\"input_tokens_details\":{{\"cache_write_tokens\":0,\
         \"cached_tokens\":{}}},\"output_tokens\":{output},\
         \"output_tokens_details\":{{\"reasoning_tokens\":{thought}}},\"total_tokens\":{}}}",
        chat.cached_tokens,
        input.saturating_add(output)
    );
}
