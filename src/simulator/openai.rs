//! OpenAI's wording: chat completions, their chunks, embeddings, models. Pure.
//!
//! Field for field what the vendor's SDK types require, from its "Chat", "Embeddings" and
//! "Models" reference pages. The same request has the same bytes, `id` and `created` included;
//! only the headers tell two requests apart.

use std::io::Write;

use super::behaviour::CATALOGUE;
use super::chat::{Chat, Finish};
use super::fault::push_json;
use super::text;

/// `created` of everything, in seconds since the epoch: fixed, so that answers are deterministic.
const CREATED: u64 = 1_700_000_000;
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

fn tail(chat: &Chat) -> &'static [u8] {
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

/// The role of a choice, and the name of the tool it calls.
pub fn opening(chat: &Chat, choice: usize, out: &mut Vec<u8>) {
    chunk_head(chat, choice, out);
    match &chat.call {
        None => out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"),
        Some(call) => {
            out.extend_from_slice(
                b"\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,",
            );
            push_call(out, chat.id, choice, &call.name_json, "");
            out.extend_from_slice(b"}]");
        }
    }
    out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}");
    out.extend_from_slice(tail(chat));
}

/// One token of one choice.
pub fn token(chat: &Chat, index: u32, choice: usize, out: &mut Vec<u8>) {
    chunk_head(chat, choice, out);
    match &chat.call {
        None => {
            out.extend_from_slice(b"\"content\":\"");
            chat.choices[choice].words.token(index, out);
            out.push(b'"');
        }
        Some(call) => {
            out.extend_from_slice(b"\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":");
            push_json(out, call.fragment(index));
            out.extend_from_slice(b"}}]");
        }
    }
    out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}");
    out.extend_from_slice(tail(chat));
}

/// The finish reason of each choice, the usage if it was asked for, the end marker.
pub fn closing(chat: &Chat, index: usize, out: &mut Vec<u8>) {
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
    for (index, choice) in chat.choices.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let _ = write!(
            out,
            "{{\"index\":{index},\"message\":{{\"role\":\"assistant\",\"content\":"
        );
        match &chat.call {
            None => {
                out.push(b'"');
                choice.words.all(out);
                out.push(b'"');
            }
            Some(call) => {
                out.extend_from_slice(b"null,\"tool_calls\":[{");
                push_call(out, chat.id, index, &call.name_json, &call.arguments);
                out.extend_from_slice(b"}]");
            }
        }
        let reason = finish_reason(chat, index);
        let _ = write!(
            out,
            ",\"refusal\":null,\"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"{reason}\"}}"
        );
    }
    out.extend_from_slice(b"],\"usage\":");
    push_usage(out, chat);
    out.extend_from_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_sim\"}");
}

fn finish_reason(chat: &Chat, choice: usize) -> &'static str {
    match chat.choices[choice].finish {
        Finish::Complete | Finish::Stopped => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

fn push_call(out: &mut Vec<u8>, id: u64, choice: usize, name_json: &str, arguments: &str) {
    let _ = write!(
        out,
        "\"id\":\"call_sim{:016x}\",\"type\":\"function\",\"function\":{{\"name\":{name_json},\"arguments\":",
        id ^ choice as u64
    );
    push_json(out, arguments);
    out.push(b'}');
}

fn push_usage(out: &mut Vec<u8>, chat: &Chat) {
    let (prompt, completion) = (chat.prompt_tokens, chat.tokens_total());
    let _ = write!(
        out,
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{},\
         \"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0,\
         \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
        prompt.saturating_add(completion)
    );
}

/// An embeddings answer: one unit vector for each input, made from the input's seed.
#[derive(Clone, Debug)]
pub struct Vectors {
    pub model_json: String,
    pub seeds: Vec<u64>,
    pub tokens: u32,
    /// From 1.
    pub dimensions: usize,
    /// Little-endian floats in base64 rather than JSON numbers.
    pub base64: bool,
}

impl Vectors {
    /// Appends the body.
    pub fn plain(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        let mut vector = Vec::with_capacity(self.dimensions);
        for (index, seed) in self.seeds.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            unit_vector(*seed, self.dimensions, &mut vector);
            let _ = write!(
                out,
                "{{\"object\":\"embedding\",\"index\":{index},\"embedding\":"
            );
            if self.base64 {
                push_base64(out, vector.iter().flat_map(|value| value.to_le_bytes()));
            } else {
                push_numbers(out, &vector);
            }
            out.push(b'}');
        }
        let tokens = self.tokens;
        let _ = write!(
            out,
            "],\"model\":{},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}",
            self.model_json
        );
    }
}

/// Fills `vector` with a vector of length 1 that depends on `seed` alone.
fn unit_vector(seed: u64, dimensions: usize, vector: &mut Vec<f32>) {
    vector.clear();
    let raw = |index: usize| {
        let bits = text::mix(seed ^ text::mix(index as u64)) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    };
    vector.extend((0..dimensions).map(raw));
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    } else {
        vector[0] = 1.0;
    }
}

fn push_numbers(out: &mut Vec<u8>, vector: &[f32]) {
    out.push(b'[');
    for (index, value) in vector.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let _ = write!(out, "{value}");
    }
    out.push(b']');
}

/// Appends bytes as a JSON string in base64 (RFC 4648 section 4), padded.
fn push_base64(out: &mut Vec<u8>, mut bytes: impl Iterator<Item = u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    while let Some(first) = bytes.next() {
        let (second, third) = (bytes.next(), bytes.next());
        let group = u32::from(first) << 16
            | u32::from(second.unwrap_or(0)) << 8
            | u32::from(third.unwrap_or(0));
        let digit = |shift: u32| ALPHABET[(group >> shift) as usize & 63];
        out.extend_from_slice(&[
            digit(18),
            digit(12),
            second.map_or(b'=', |_| digit(6)),
            third.map_or(b'=', |_| digit(0)),
        ]);
    }
    out.push(b'"');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let check = |bytes: &str, expected: &str| {
            let mut out = Vec::new();
            push_base64(&mut out, bytes.bytes());
            assert_eq!(out, format!("\"{expected}\"").into_bytes());
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn vectors_have_length_one_and_differ() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        unit_vector(1, 256, &mut one);
        unit_vector(2, 256, &mut other);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((product(&one, &one) - 1.0).abs() < 1e-4);
        assert!(product(&one, &other).abs() < 0.5);
        unit_vector(1, 256, &mut other);
        assert_eq!(one, other);
    }
}
