//! Properties of whole translations, from one dialect's bytes to the other's and back.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::wire::sse::{Splitter, events};
use crate::wire::stream::{Observed, StreamWatch};

const TARGET: Target<'static> = Target {
    model: "m",
    default_max_tokens: 1024,
    structured_output: StructuredOutput::Native,
    sampling: true,
};
const ID: &str = "resp_0123456789abcdef";

fn cross(caller: Endpoint, provider: Endpoint, body: &Value) -> (Value, Dropped) {
    let body = body.to_string();
    let translated = request(caller, provider, &body, &[], &TARGET)
        .unwrap_or_else(|error| panic!("{error}: {body}"));
    let body = serde_json::from_slice(&translated.body)
        .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&translated.body)));
    (body, translated.dropped)
}

fn texts() -> impl Strategy<Value = String> {
    // Not blank: an empty text is none to either vendor.
    "[a-zA-Zäß😀\"\\\\/\u{7f}\n][ -~äß😀\n\t]{0,20}[a-z]"
}

/// A message of the assistant with tool calls, and the results of all of them.
fn tool_turn() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec((texts(), texts(), any::<i32>()), 1..4).prop_map(|calls| {
        let made = calls
            .iter()
            .enumerate()
            .map(|(index, (key, text, number))| {
                let arguments = json!({(key.as_str()): text, "n": number}).to_string();
                json!({"id": format!("call_{index}"), "type": "function",
                   "function": {"name": "look_up", "arguments": arguments}})
            });
        let made: Vec<Value> = made.collect();
        let mut turn = vec![json!({"role": "assistant", "content": null, "tool_calls": made})];
        turn.extend(calls.iter().enumerate().map(|(index, (_, text, _))| {
            json!({"role": "tool", "tool_call_id": format!("call_{index}"), "content": text})
        }));
        turn
    })
}

/// Chat requests with nothing in them that Anthropic has no word for.
fn common_requests() -> impl Strategy<Value = Value> {
    let user = prop_oneof![
        texts().prop_map(|text| json!({"role": "user", "content": text})),
        (texts(), "[A-Za-z0-9+/]{4,40}").prop_map(|(text, data)| json!({"role": "user", "content": [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}},
            {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}},
        ]})),
    ];
    let turns = prop::collection::vec(
        prop_oneof![
            tool_turn(),
            texts().prop_map(|text| vec![json!({"role": "assistant", "content": text})]),
        ],
        0..3,
    );
    let tools = prop::option::of(texts()).prop_map(|described| {
        let mut function = json!({"name": "look_up",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 1.50}}}});
        if let Some(description) = described {
            function["description"] = description.into();
        }
        json!([{"type": "function", "function": function}])
    });
    let choice = prop_oneof![
        Just(Value::Null),
        Just(json!("auto")),
        Just(json!("none")),
        Just(json!("required")),
        Just(json!({"type": "function", "function": {"name": "look_up"}})),
    ];
    let options = (
        any::<bool>(),
        prop::option::of(1..5000_u32),
        prop::option::of(0..=8_u32),
        prop::collection::vec(texts(), 0..3),
        any::<bool>(),
    );
    (
        prop::option::of(texts()),
        user,
        turns,
        texts(),
        tools,
        choice,
        options,
    )
        .prop_map(
            |(
                system,
                first,
                turns,
                last,
                tools,
                choice,
                (parallel, max, eighths, stop, stream),
            )| {
                let mut messages = Vec::new();
                messages.extend(system.map(|text| json!({"role": "system", "content": text})));
                messages.push(first);
                for turn in turns {
                    messages.extend(turn);
                    messages.push(json!({"role": "user", "content": last}));
                }
                let mut body = json!({"model": "m", "messages": messages, "tools": tools,
                "max_completion_tokens": max.unwrap_or(77)});
                if !choice.is_null() {
                    body["tool_choice"] = choice;
                }
                // Without a call to make there is nothing to say about several.
                if !parallel && body.get("tool_choice") != Some(&json!("none")) {
                    body["parallel_tool_calls"] = false.into();
                }
                if let Some(eighths) = eighths {
                    body["temperature"] = json!(f64::from(eighths) / 8.0);
                }
                if !stop.is_empty() {
                    body["stop"] = json!(stop);
                }
                if stream {
                    body["stream"] = true.into();
                    body["stream_options"] = json!({"include_usage": true});
                }
                body
            },
        )
}

/// What two ways of writing the same request have in common: a temperature of 1 and of 1.0 say the
/// same, a list of one text says what the text says, and `auto` is the default.
fn normal(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut out = Map::new();
            for (key, value) in members {
                let value = normal(value);
                if key == "tool_choice" && value == "auto" || key == "arguments" && value.is_null()
                {
                    continue;
                }
                let value = match (key.as_str(), value) {
                    ("arguments", Value::String(text)) => {
                        serde_json::from_str(&text).unwrap_or(Value::String(text))
                    }
                    ("content", Value::Array(parts))
                        if parts.len() == 1 && parts[0]["type"] == "text" =>
                    {
                        parts[0]["text"].clone()
                    }
                    (_, value) => value,
                };
                out.insert(key, value);
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::Number(number) => json!(number.as_f64()),
        value => value,
    }
}

/// A stream of OpenAI's as `chat` writes it, or of Anthropic's, for any answer.
fn streams() -> impl Strategy<Value = (Endpoint, Vec<u8>)> {
    let deltas = prop::collection::vec("[ -~äß😀\n]{1,8}", 0..6);
    (any::<bool>(), deltas, any::<bool>()).prop_map(|(is_chat, deltas, tool)| {
        let mut out = String::new();
        if is_chat {
            let mut push = |choices: Value| {
                let chunk = json!({"id": "x", "object": "chat.completion.chunk", "created": 1,
                                   "model": "m", "choices": choices});
                out.push_str(&format!("data: {chunk}\n\n"));
            };
            push(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]));
            for (index, delta) in deltas.iter().enumerate() {
                let delta = match tool {
                    true if index == 0 => json!({"tool_calls": [{"index": 0, "id": "c",
                        "type": "function", "function": {"name": "f", "arguments": delta}}]}),
                    true => json!({"tool_calls": [{"index": 0, "function": {"arguments": delta}}]}),
                    false => json!({"content": delta}),
                };
                push(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
            }
            push(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
            out.push_str(": ping\n\ndata: [DONE]\n\n");
            return (Endpoint::ChatCompletions, out.into_bytes());
        }
        let mut push = |name: &str, event: Value| {
            out.push_str(&format!("event: {name}\ndata: {event}\n\n"));
        };
        push("message_start", json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
            "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 1}}}));
        let (block, kind, field) = match tool {
            true => (json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}), "input_json_delta", "partial_json"),
            false => (json!({"type": "text", "text": ""}), "text_delta", "text"),
        };
        push("content_block_start", json!({"type": "content_block_start", "index": 0, "content_block": block}));
        for delta in &deltas {
            push("content_block_delta", json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": kind, (field): delta}}));
        }
        push("content_block_stop", json!({"type": "content_block_stop", "index": 0}));
        push("message_delta", json!({"type": "message_delta", "delta": {"stop_reason": "end_turn",
            "stop_sequence": null}, "usage": {"output_tokens": 5}}));
        push("message_stop", json!({"type": "message_stop"}));
        (Endpoint::Messages, out.into_bytes())
    })
}

fn plan(caller: Endpoint, provider: Endpoint, json_tool: bool) -> Plan {
    let body = View::new(r#"{"model":"m","input":"hi"}"#);
    Plan {
        caller,
        provider,
        include_usage: true,
        json_tool,
        asked: (caller == Endpoint::Responses).then(|| responses::read_asked(body).unwrap()),
    }
}

/// What a caller receives of `chunks`, and whether the stream ended as it should.
fn relayed(plan: Plan, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut watch = StreamWatch::new(plan.provider, Some(1));
    let mut translator = Translator::new(plan, 1, ID, false);
    let (mut splitter, mut out) = (Splitter::new(), Vec::new());
    for chunk in chunks {
        for event in events(splitter.feed(chunk).unwrap()) {
            let data = event.data.as_deref().unwrap_or_default();
            let done = match watch.observe(&event) {
                Observed::Progress => translator.event(data, &mut out),
                Observed::End => {
                    let done = translator.end(data, 1, &mut out);
                    return (out, done.is_ok());
                }
                Observed::Idle => Ok(()),
                Observed::Error | Observed::Malformed => return (out, false),
            };
            if done.is_err() {
                return (out, false);
            }
        }
    }
    (out, false)
}

const CALLERS: [Endpoint; 3] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Messages,
];

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z_]{0,8}".prop_map(Value::from),
        Just(json!("text")),
        Just(json!("user")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("type"),
            Just("role"),
            Just("content"),
            Just("text"),
            Just("messages"),
            Just("input"),
            Just("choices"),
            Just("message"),
            Just("delta"),
            Just("tool_calls"),
            Just("function"),
            Just("index"),
            Just("content_block"),
            Just("usage"),
            Just("tools"),
            Just("name"),
            Just("id"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..5).prop_map(|members| Value::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// To Anthropic's dialect and back.
    #[test]
    fn a_request_that_both_dialects_can_say_loses_nothing(body in common_requests()) {
        let (there, dropped) = cross(Endpoint::ChatCompletions, Endpoint::Messages, &body);
        prop_assert!(dropped.is_empty(), "{dropped}: {there}");
        let (back, dropped) = cross(Endpoint::Messages, Endpoint::ChatCompletions, &there);
        prop_assert!(dropped.is_empty(), "{dropped}: {there}");
        prop_assert_eq!(normal(back), normal(body), "{}", there);
    }

    #[test]
    fn where_a_stream_is_split_makes_no_difference_to_its_translation(
        (provider, stream) in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        for caller in CALLERS.into_iter().filter(|caller| *caller != provider) {
            for json_tool in [false, true] {
                let whole = relayed(plan(caller, provider, json_tool), &[&stream]);
                prop_assert!(whole.1, "{}", String::from_utf8_lossy(&whole.0));
                prop_assert_eq!(&relayed(plan(caller, provider, json_tool), &chunks), &whole);
                prop_assert_eq!(&relayed(plan(caller, provider, json_tool), &single), &whole);
            }
        }
    }

    #[test]
    fn any_json_at_all_is_translated_or_refused(value in json_values()) {
        let text = value.to_string();
        let event = format!("data: {text}\n\n");
        for caller in CALLERS {
            for provider in [Endpoint::ChatCompletions, Endpoint::Messages] {
                if let Ok(translated) = request(caller, provider, &text, &[], &TARGET) {
                    prop_assert!(serde_json::from_slice::<Value>(&translated.body).is_ok());
                }
                if let Ok((body, _)) = answer(&plan(caller, provider, true), text.as_bytes(), 1, ID) {
                    prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
                }
                relayed(plan(caller, provider, true), &[event.as_bytes()]);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let event = [b"data: {".as_slice(), &bytes, b"}\n\ndata: [DONE]\n\n"].concat();
        for caller in CALLERS {
            for provider in [Endpoint::ChatCompletions, Endpoint::Messages] {
                let _ = answer(&plan(caller, provider, false), &bytes, 1, ID);
                relayed(plan(caller, provider, false), &[&event]);
                if let Ok(text) = str::from_utf8(&bytes) {
                    let _ = request(caller, provider, text, &[], &TARGET);
                }
            }
        }
    }
}

#[test]
fn sampling_that_a_model_refuses_is_left_out_and_named() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5,
                      "top_p": 1.0});
    let target = Target {
        sampling: false,
        ..TARGET
    };
    let translated = request(
        Endpoint::ChatCompletions,
        Endpoint::Messages,
        &body.to_string(),
        &[],
        &target,
    )
    .unwrap();
    assert_eq!(translated.dropped.to_string(), "temperature");
    let told: Value = serde_json::from_slice(&translated.body).unwrap();
    assert!(told.get("temperature").is_none() && told.get("top_p").is_none());
}

#[test]
fn a_stream_says_as_much_as_a_whole_answer_at_most() {
    let plan = same(Endpoint::Messages, "{}").unwrap();
    let mut translator = Translator::new(plan, 0, ID, true);
    let mut feed = |event: Value| translator.event(event.to_string().as_bytes(), &mut Vec::new());
    feed(
        json!({"type": "message_start", "message": {"id": "m", "type": "message",
        "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1}}}),
    )
    .unwrap();
    feed(json!({"type": "content_block_start", "index": 0,
        "content_block": {"type": "text", "text": ""}}))
    .unwrap();
    let text = "x".repeat(4 << 20);
    let delta = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": text}});
    let taken = (0..20).take_while(|_| feed(delta.clone()).is_ok()).count();
    assert_eq!(taken, 16);
}
