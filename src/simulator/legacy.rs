//! OpenAI's wording of legacy completions: text without roles, and its chunks. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Completions" reference page.

use std::io::Write;

use super::chat::{Chat, Event, Finish};
use super::openai::{CREATED, push_usage, tail};

/// What every chunk of this answer begins with.
pub fn event_head(id: u64, model_json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + model_json.len());
    let _ = write!(
        out,
        "data: {{\"id\":\"cmpl-sim{id:016x}\",\"object\":\"text_completion\",\
         \"created\":{CREATED},\"model\":{model_json},\"system_fingerprint\":\"fp_sim\",\
         \"choices\":["
    );
    out
}

/// Appends one event of a stream.
pub fn event(chat: &Chat, event: Event, out: &mut Vec<u8>) {
    match event {
        Event::Token { index, choice, .. } => {
            out.extend_from_slice(&chat.event_head);
            out.extend_from_slice(b"{\"text\":\"");
            chat.choices[choice].words.token(index, out);
            push_choice_tail(choice, None, out);
            out.extend_from_slice(tail(chat));
        }
        Event::Closing(index) if index < chat.choices.len() => {
            out.extend_from_slice(&chat.event_head);
            out.extend_from_slice(b"{\"text\":\"");
            push_choice_tail(index, Some(chat.choices[index].finish), out);
            out.extend_from_slice(tail(chat));
        }
        Event::Closing(index) if chat.include_usage && index == chat.choices.len() => {
            out.extend_from_slice(&chat.event_head);
            out.extend_from_slice(b"],\"usage\":");
            push_usage(out, chat);
            out.extend_from_slice(b"}\n\n");
        }
        Event::Closing(_) => out.extend_from_slice(b"data: [DONE]\n\n"),
        Event::Opening(_) | Event::PartOpening { .. } | Event::PartClosing { .. } => {}
    }
}

fn push_choice_tail(choice: usize, finish: Option<Finish>, out: &mut Vec<u8>) {
    let reason = match finish {
        None => "null",
        Some(Finish::Length) => "\"length\"",
        Some(_) => "\"stop\"",
    };
    let _ = write!(
        out,
        "\",\"index\":{choice},\"logprobs\":null,\"finish_reason\":{reason}}}"
    );
}

/// A plain answer.
pub fn plain(chat: &Chat, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "{{\"id\":\"cmpl-sim{:016x}\",\"object\":\"text_completion\",\"created\":{CREATED},\
         \"model\":{},\"choices\":[",
        chat.id, chat.model_json
    );
    for (index, choice) in chat.choices.iter().enumerate() {
        out.extend_from_slice(if index > 0 {
            b",{\"text\":\""
        } else {
            b"{\"text\":\""
        });
        choice.words.all(out);
        push_choice_tail(index, Some(choice.finish), out);
    }
    out.extend_from_slice(b"],\"usage\":");
    push_usage(out, chat);
    out.extend_from_slice(b",\"system_fingerprint\":\"fp_sim\"}");
}
