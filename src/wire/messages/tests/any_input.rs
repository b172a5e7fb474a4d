//! Nothing that comes in is a panic, and what is written is JSON whatever it was made of.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::super::super::form::Dropped;
use super::super::super::json::view::View;
use super::super::super::sse;
use super::super::super::translate::StructuredOutput;
use super::super::{Decoder, Encoder, read_answer, read_request, write_answer, write_request};
use super::{ABOUT, TARGET};

/// Any value, most of them made of words that the dialect knows.
fn any_value() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 40] = [
        "type",
        "text",
        "image",
        "document",
        "source",
        "content",
        "tool_use",
        "tool_result",
        "id",
        "name",
        "input",
        "tool_use_id",
        "base64",
        "url",
        "file",
        "data",
        "media_type",
        "thinking",
        "signature",
        "redacted_thinking",
        "role",
        "user",
        "assistant",
        "system",
        "messages",
        "tools",
        "tool_choice",
        "any",
        "cache_control",
        "search_result",
        "title",
        "delta",
        "index",
        "usage",
        "message",
        "stop_reason",
        "input_tokens",
        "text_delta",
        "content_block",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_u8).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&WORDS[..]).prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((select(&WORDS[..]), inner), 0..6).prop_map(|members| {
                let named = members.into_iter().map(|(name, it)| (name.to_owned(), it));
                Value::Object(named.collect())
            }),
        ]
    })
}

/// Puts `value` in the place of one of the values within `body`.
fn spoil(body: &mut Value, place: &Index, value: Value) {
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while let Some(pointer) = pointers.get(at).cloned() {
        match body.pointer(&pointer) {
            Some(Value::Object(members)) => {
                pointers.extend(members.keys().map(|key| format!("{pointer}/{key}")));
            }
            Some(Value::Array(items)) => {
                pointers.extend((0..items.len()).map(|index| format!("{pointer}/{index}")));
            }
            _ => {}
        }
        at += 1;
    }
    // The whole stays an object.
    pointers.remove(0);
    if !pointers.is_empty()
        && let Some(found) = body.pointer_mut(&pointers[place.index(pointers.len())])
    {
        *found = value;
    }
}

fn read_and_write(body: &Value) {
    let body = body.to_string();
    let Ok(request) = read_request(View::new(&body)) else {
        return;
    };
    for structured_output in [StructuredOutput::Native, StructuredOutput::Tool] {
        let mut target = TARGET;
        target.structured_output = structured_output;
        if let Ok(written) = write_request(&mut request.clone(), &target) {
            serde_json::from_slice::<Value>(&written).unwrap();
        }
    }
}

fn decode(stream: &[String]) -> Vec<u8> {
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new(&ABOUT));
    let mut out = Vec::new();
    for data in stream {
        let mut events = Vec::new();
        let is_over = decoder.event(View::new(data), &mut events).is_err();
        for event in &events {
            encoder.event(event, &mut out);
        }
        if is_over {
            break;
        }
    }
    out
}

fn a_request() -> Value {
    json!({"model":"m","max_tokens":9,"system":[{"type":"text","text":"s"}],"messages":[
        {"role":"user","content":[{"type":"text","text":"a"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"d"}},
            {"type":"document","title":"t","source":{"type":"content","content":[{"type":"text","text":"a"}]}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},
            {"type":"tool_use","id":"x","name":"f","input":{"a":1}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"search_result",
            "title":"t","source":"s","content":[{"type":"text","text":"a"}]}]}]}],
        "tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"},
        "thinking":{"type":"enabled","budget_tokens":5},"output_config":{"effort":"low","format":{"type":"json_schema","schema":{}}},
        "temperature":0.5,"stop_sequences":["a"],"stream":true,"metadata":{"user_id":"u"}})
}

fn a_stream() -> Vec<Value> {
    vec![
        json!({"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1}}}),
        json!({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}),
        json!({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"t"}}),
        json!({"type":"content_block_stop","index":0}),
        json!({"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"x","name":"f","input":{"a":1}}}),
        json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}),
        json!({"type":"content_block_stop","index":1}),
        json!({"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}),
        json!({"type":"message_stop"}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_object_is_read_or_refused(value in any_value(), other in any_value(), place: Index) {
        let mut body = a_request();
        spoil(&mut body, &place, value.clone());
        read_and_write(&body);
        read_and_write(&json!({"messages": [{"role": "user", "content": value}], "system": other}));
        read_and_write(&json!({"messages": value, "tools": other}));
        let mut answer = json!({"id":"i","model":"m","content":[{"type":"text","text":"a"},
            {"type":"tool_use","id":"x","name":"f","input":{}}],"stop_reason":"end_turn","usage":{"input_tokens":1}});
        spoil(&mut answer, &place, other);
        let answer = answer.to_string();
        if let Ok(answer) = read_answer(View::new(&answer)) {
            let body = write_answer(&answer, &ABOUT, &mut Dropped::default());
            serde_json::from_slice::<Value>(&body).unwrap();
        }
    }

    #[test]
    fn any_stream_is_read_or_refused(
        value in any_value(), which: Index, place: Index, order in prop::collection::vec(any::<Index>(), 0..12)
    ) {
        let mut stream = a_stream();
        let spoiled = which.index(stream.len());
        spoil(&mut stream[spoiled], &place, value);
        let stream: Vec<String> = stream.iter().map(Value::to_string).collect();
        let mut shuffled = vec![stream[0].clone()];
        shuffled.extend(order.iter().map(|index| index.get(&stream).clone()));
        for stream in [stream, shuffled] {
            let out = decode(&stream);
            for event in sse::events(&out) {
                serde_json::from_slice::<Value>(&event.data.unwrap()).unwrap();
            }
        }
    }
}
