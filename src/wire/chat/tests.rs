//! Tests across the codec: what is written is read as what it was, and whatever is read, nothing
//! panics.

mod forms;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::Dialect;
use crate::wire::form::{Dropped, Event};
use crate::wire::json::view::View;
use crate::wire::sequencer::Sequencer;
use crate::wire::sse;
use crate::wire::translate::{About, StructuredOutput, Target};

const TARGET: Target<'static> = Target {
    model: "m",
    default_max_tokens: 1,
    structured_output: StructuredOutput::Native,
    sampling: true,
};

const ABOUT: About<'static> = About {
    now: 17,
    include_usage: true,
    provider: Dialect::Openai,
    response_id: "",
};

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok()
}

/// The events with their parts one after the other.
fn in_order<'e>(events: &[Event<'e>]) -> Vec<Event<'e>> {
    let mut sequencer = Sequencer::new();
    let mut out = Vec::new();
    for event in events {
        sequencer.event(event.clone(), &mut out).unwrap();
    }
    out
}

fn encode(events: &[Event<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::new(&ABOUT);
    let mut out = Vec::new();
    events.iter().for_each(|it| encoder.event(it, &mut out));
    out
}

/// The texts of the data of a stream, but for its marker.
fn data(stream: &[u8]) -> Vec<String> {
    sse::events(stream)
        .filter_map(|event| String::from_utf8(event.data?.into_owned()).ok())
        .filter(|data| data != "[DONE]")
        .collect()
}

const KEYS: [&str; 34] = [
    "messages",
    "role",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "file",
    "file_data",
    "refusal",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "index",
    "tool_call_id",
    "thinking_blocks",
    "reasoning_content",
    "cache_control",
    "tools",
    "tool_choice",
    "allowed_tools",
    "stop",
    "response_format",
    "json_schema",
    "stream_options",
    "choices",
    "delta",
    "message",
    "finish_reason",
    "usage",
    "logprobs",
    "function_call",
];

const WORDS: [&str; 18] = [
    "",
    "user",
    "assistant",
    "tool",
    "function",
    "text",
    "image_url",
    "file",
    "custom",
    "thinking",
    "redacted_thinking",
    "stop",
    "tool_calls",
    "allowed_tools",
    "json_schema",
    "data:a/b;base64,c",
    "{}",
    "}",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (0..3_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(WORDS.to_vec()).prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let key = prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned);
        let key = prop_oneof![4 => key, 1 => "\\PC{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

/// Bodies and chunks that are good.
fn good() -> Value {
    json!({
        "id": "i", "model": "m", "n": 2, "stop": ["a"], "user": "u", "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "name": "n", "content": [
                {"type": "image_url", "image_url": {"url": "data:a/b;base64,c", "detail": "low"}},
                {"type": "file", "file": {"file_data": "data:a/b;base64,c", "filename": "f"}}]},
            {"role": "assistant", "content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "a"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "choices": [
            {"index": 0, "delta": {"content": "a", "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]},
             "message": {"content": "a", "reasoning_content": "t", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
             "logprobs": {"content": []}, "finish_reason": "stop"},
            {"index": 1, "delta": {"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}, "message": {"content": "a"}}],
        "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
    })
}

/// Puts `other` in the place of a node of `value`, which `path` leads to.
fn replace(value: &mut Value, path: &[prop::sample::Index], other: Value) {
    let inner = path.split_first().and_then(|(first, rest)| match value {
        Value::Array(items) if !items.is_empty() => {
            let at = first.index(items.len());
            Some((&mut items[at], rest))
        }
        Value::Object(members) if !members.is_empty() => {
            let at = first.index(members.len());
            members.values_mut().nth(at).map(|it| (it, rest))
        }
        _ => None,
    });
    match inner {
        Some((inner, rest)) => replace(inner, rest, other),
        None => *value = other,
    }
}

/// Reads `text` in every way and writes what was read; nothing may panic, and what is written is
/// JSON.
fn handle(text: &str) {
    let body = View::new(text);
    if let Ok(mut request) = read_request(body)
        && let Ok(written) = write_request(&mut request, &TARGET)
    {
        assert!(is_json(&written), "{text}");
    }
    if let Ok(answer) = read_answer(body) {
        let written = write_answer(&answer, &ABOUT, &mut Dropped::default());
        assert!(is_json(&written), "{text}");
    }
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for _ in 0..2 {
        if decoder.event(body, &mut events).is_err() {
            break;
        }
    }
    decoder.end(&mut events);
    let written = encode(&events);
    assert!(data(&written).iter().all(|it| is_json(it.as_bytes())));
    in_order(&events);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_request_that_is_written_is_read_as_what_it_was(mut request in forms::request()) {
        let body = write_request(&mut request, &TARGET).unwrap();
        let body = String::from_utf8(body).unwrap();
        prop_assert!(is_json(body.as_bytes()), "{}", body);
        prop_assert_eq!(read_request(View::new(&body)).unwrap(), request, "{}", body);
    }

    #[test]
    fn an_answer_that_is_written_is_read_as_what_it_was(answer in forms::answer()) {
        let mut dropped = Dropped::default();
        let body = write_answer(&answer, &ABOUT, &mut dropped);
        let body = String::from_utf8(body).unwrap();
        prop_assert!(is_json(body.as_bytes()) && dropped.is_empty(), "{}", body);
        prop_assert_eq!(read_answer(View::new(&body)).unwrap(), answer, "{}", body);
    }

    #[test]
    fn a_stream_that_is_written_is_read_as_what_it_was(events in forms::stream()) {
        let stream = encode(&events);
        let data = data(&stream);
        let mut decoder = Decoder::new();
        let mut read = Vec::new();
        for data in &data {
            prop_assert!(is_json(data.as_bytes()), "{}", data);
            decoder.event(View::new(data), &mut read).unwrap();
        }
        decoder.end(&mut read);
        prop_assert_eq!(in_order(&read), in_order(&events), "{:?}", data);
    }

    #[test]
    fn any_object_is_handled(members in prop::collection::btree_map("[a-z]{0,3}", any_json(), 0..2), inner in any_json(), key in prop::sample::select(KEYS.to_vec())) {
        let mut object: serde_json::Map<String, Value> = members.into_iter().collect();
        object.insert(key.to_owned(), inner);
        handle(&Value::Object(object).to_string());
    }

    #[test]
    fn anything_in_the_place_of_something_is_handled(
        path in prop::collection::vec(any::<prop::sample::Index>(), 1..8), other in any_json(),
    ) {
        let mut value = good();
        replace(&mut value, &path, other);
        handle(&value.to_string());
        handle(&serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn text_that_is_no_json_is_handled(text in "\\{[\\[\\]{}\":, a-z\\\\0-9]{0,40}\\}?") {
        let body = View::new(&text);
        let _ = (read_request(body), read_answer(body));
        let _ = Decoder::new().event(body, &mut Vec::new());
    }
}

#[test]
fn what_is_good_is_read() {
    let text = good().to_string();
    assert!(read_request(View::new(&text)).is_ok());
    assert!(read_answer(View::new(&text)).is_ok());
}
