//! What servers other than the simulator do, and what hostile ones might.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::out::{PIECE_BYTES, pieces};
use super::*;
use crate::wire::form::Event;
use crate::wire::{chat, messages};

const CHAT: Endpoint = Endpoint::ChatCompletions;
const MESSAGES: Endpoint = Endpoint::Messages;

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn stream(data: &[Value]) -> Vec<u8> {
    let events = data.iter().map(|data| format!("data: {data}\n\n"));
    events.collect::<String>().into_bytes()
}

/// A chat stream of one choice with these deltas.
fn deltas(deltas: &[Value]) -> Vec<u8> {
    let chunk = |delta: &Value| {
        json!({"id": "i", "object": "chat.completion.chunk", "created": 3, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
    };
    let mut chunks: Vec<Value> = deltas.iter().map(chunk).collect();
    let mut last = chunk(&json!({}));
    last["choices"][0]["finish_reason"] = json!("stop");
    chunks.push(last);
    let mut stream = stream(&chunks);
    stream.extend_from_slice(b"data: [DONE]\n\n");
    stream
}

/// The message that these deltas are.
fn message(all: &[Value]) -> Option<Value> {
    let body = value(&body_of_stream(CHAT, &deltas(all))?);
    Some(body["choices"][0]["message"].clone())
}

/// Checks that a body comes out of its stream again, and that the codecs of this program read the
/// stream.
fn check_round_trip(endpoint: Endpoint, body: &Value) {
    let pretty = serde_json::to_vec_pretty(body).unwrap();
    let stream = stream_of_body(endpoint, &pretty, true).unwrap();
    let again = value(&body_of_stream(endpoint, &stream).unwrap());
    assert_eq!(&again, body);
    let (mut chat, mut messages) = (chat::Decoder::new(), messages::Decoder::default());
    let mut has_ended = false;
    for event in sse::events(&stream) {
        assert!(event.raw.len() < 4 * PIECE_BYTES, "{}", event.raw.len());
        let data = event.data.unwrap();
        let mut out = Vec::new();
        if data.as_ref() == b"[DONE]" {
            chat.end(&mut out);
        } else if endpoint == CHAT {
            chat.event(object(&data).unwrap(), &mut out).unwrap();
        } else {
            messages.event(object(&data).unwrap(), &mut out).unwrap();
        }
        has_ended |= matches!(out.last(), Some(Event::End));
    }
    assert!(has_ended);
}

#[test]
fn members_that_nobody_knows_are_kept() {
    let stream = stream(&[
        json!({"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"a": 1}]}),
        json!({"id": "i", "created": 3, "model": "m", "system_fingerprint": "f", "obfuscation": "x",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null,
                "content_filter_results": {}}], "citations": ["u"]}),
        json!({"id": "i", "created": 3, "model": "m", "service_tier": null, "citations": ["u", "v"],
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "\u{e9}\n"}, "finish_reason": null,
                "content_filter_results": {"hate": {"filtered": false}}}]}),
        json!({"id": "i", "created": 3, "model": "m", "service_tier": "flex",
            "choices": [{"index": 0, "delta": {"annotations": [{"type": "url_citation", "url_citation": {"index": 1}}]},
                "finish_reason": "stop"}]}),
        json!({"id": "i", "choices": [], "usage": {"prompt_tokens": 1}}),
    ]);
    let done = [stream.as_slice(), b": a comment\n\ndata: [DONE]\n\n"].concat();
    let body = value(&body_of_stream(CHAT, &done).unwrap());
    let expected = json!({"id": "i", "object": "chat.completion", "created": 3, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "\u{e9}\n", "refusal": null,
            "annotations": [{"type": "url_citation", "url_citation": {"index": 1}}]},
            "logprobs": null, "finish_reason": "stop",
            "content_filter_results": {"hate": {"filtered": false}}}],
        "usage": {"prompt_tokens": 1}, "prompt_filter_results": [{"a": 1}], "system_fingerprint": "f",
        "service_tier": "flex", "citations": ["u", "v"]});
    assert_eq!(body, expected);
    check_round_trip(CHAT, &expected);
    assert_eq!(body_of_stream(CHAT, &stream), None);
}

#[test]
fn pieces_are_joined_by_what_they_are_of() {
    let call = |index: u64, id: Value, name: Value, arguments: &str| {
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": arguments}}]})
    };
    let none = || Value::Null;
    let said = message(&[
        json!({"role": "assistant", "content": "", "reasoning_content": null}),
        json!({"reasoning_content": "h", "content": null}),
        json!({"reasoning_content": "m"}),
        call(1, json!("b"), json!("g"), ""),
        call(0, json!("a"), json!("f"), "{"),
        call(1, none(), none(), "{}"),
        call(0, json!(""), json!("f"), "}"),
        json!({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "s"}]}),
        json!({"thinking_blocks": [{"index": 1, "type": "redacted_thinking", "data": "x"}]}),
    ]);
    let of = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let expected = json!({"role": "assistant", "content": null, "refusal": null,
        "reasoning_content": "hm", "tool_calls": [of("a", "f"), of("b", "g")],
        "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"}]});
    assert_eq!(said, Some(expected));
    let legacy = message(&[
        json!({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}),
        json!({"function_call": {"arguments": "{}"}}),
    ]);
    assert_eq!(
        legacy.unwrap()["function_call"],
        json!({"name": "f", "arguments": "{}"})
    );
    let late = message(&[
        json!({"role": "", "content": "a"}),
        json!({"role": "assistant"}),
    ]);
    assert_eq!(late.unwrap()["role"], "assistant");
    assert_eq!(
        message(&[json!({"role": ""})]).unwrap()["role"],
        "assistant"
    );
    // Halves of one character.
    let halves = String::from_utf8(deltas(&[json!({"content": "<"}), json!({"content": ">"})]));
    let halves = halves
        .unwrap()
        .replace('<', "\\ud83d")
        .replace('>', "\\ude00");
    let body = value(&body_of_stream(CHAT, halves.as_bytes()).unwrap());
    assert_eq!(body["choices"][0]["message"]["content"], "😀");
}

#[test]
fn what_has_no_body_is_not_made_into_one() {
    let none = |all: &[Value]| assert_eq!(message(all), None, "{all:?}");
    none(&[json!({"audio": {"id": "x", "data": "AA=="}})]);
    none(&[json!({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]})]);
    let call = |id: &str| json!({"tool_calls": [{"index": 0, "id": id, "function": {}}]});
    none(&[call("a"), call("b")]);
    none(&[json!({"content": "a"}), json!({"content": ["b"]})]);
    none(&[json!("a")]);
    let many: serde_json::Map<_, _> = (0..65).map(|it| (it.to_string(), json!(1))).collect();
    none(&[Value::from(many)]);
    let chat = |stream: &str| assert_eq!(body_of_stream(CHAT, stream.as_bytes()), None, "{stream}");
    let whole =
        r#"{"id":"i","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
    let done = |chunks: &[&str]| {
        let chunks = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
        format!("{}data: [DONE]\n\n", chunks.collect::<String>())
    };
    assert!(body_of_stream(CHAT, done(&[whole]).as_bytes()).is_some());
    chat(&done(&[]));
    chat(&done(&[whole, r#"{"error":{"message":"x"}}"#]));
    chat(&done(&[whole, "{"]));
    chat(&done(&[whole, r#"{"choices":3}"#]));
    chat(&done(&[&whole.replace("stop", "error")]));
    chat(&done(&[&whole.replace("\"stop\"", "null")]));
    chat(&done(&[&whole.replace(
        "\"content\":\"a\"",
        "\"content\":\"a\",\"content\":\"b\"",
    )]));
    chat(&format!("event: error\ndata: {{}}\n\n{}", done(&[whole])));
    assert_eq!(
        body_of_stream(Endpoint::Responses, done(&[whole]).as_bytes()),
        None
    );
    for body in [
        "",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"message":{"content":"a"}}]}"#,
    ] {
        assert_eq!(stream_of_body(CHAT, body.as_bytes(), true), None);
        assert_eq!(stream_of_body(MESSAGES, body.as_bytes(), true), None);
    }
    let audio =
        json!({"choices": [{"message": {"audio": {"data": "AA=="}}, "finish_reason": "stop"}]});
    assert_eq!(
        stream_of_body(CHAT, audio.to_string().as_bytes(), true),
        None
    );
}

#[test]
fn a_usage_is_left_out_alone() {
    let kept = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\r\n\r\n\
        : ping\n\ndata:{\"choices\":[],\"usage\":null}\n\n\
        data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let end = "data: [DONE]\n\n";
    let all = format!("{kept}{usage}{end}");
    assert_eq!(
        without_usage(all.as_bytes()),
        format!("{kept}{end}").as_bytes()
    );
}

/// A stream of Anthropic's of one block.
fn block(start: &Value, deltas: &[Value], end: &Value) -> Vec<u8> {
    let mut all = vec![
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
            "model": "c", "content": [], "stop_reason": null, "stop_sequence": null, "container": null,
            "usage": {"input_tokens": 9, "output_tokens": 1, "service_tier": "standard"}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "ping"}),
    ];
    let deltas = deltas.iter();
    all.extend(deltas.map(|it| json!({"type": "content_block_delta", "index": 0, "delta": it})));
    all.push(json!({"type": "content_block_stop", "index": 0}));
    all.push(json!({"type": "message_delta", "delta": end,
        "usage": {"output_tokens": 7, "input_tokens": null, "server_tool_use": {"web_search_requests": 1}},
        "context_management": {"applied_edits": []}}));
    all.push(json!({"type": "message_stop"}));
    stream(&all)
}

#[test]
fn a_message_grows_by_its_deltas() {
    let check = |start: Value, deltas: &[Value], expected: Value| {
        let end =
            json!({"stop_reason": "end_turn", "stop_sequence": null, "container": {"id": "k"}});
        let body = value(&body_of_stream(MESSAGES, &block(&start, deltas, &end)).unwrap());
        let whole = json!({"id": "m", "type": "message", "role": "assistant", "model": "c",
            "content": [expected], "stop_reason": "end_turn", "stop_sequence": null,
            "container": {"id": "k"}, "context_management": {"applied_edits": []},
            "usage": {"input_tokens": 9, "output_tokens": 7, "service_tier": "standard",
                "server_tool_use": {"web_search_requests": 1}}});
        assert_eq!(body, whole);
        check_round_trip(MESSAGES, &whole);
    };
    let text = |text: &str| json!({"type": "text_delta", "text": text});
    check(
        json!({"type": "text", "text": ""}),
        &[text("a"), text("\"b")],
        json!({"type": "text", "text": "a\"b"}),
    );
    let cited = |number: u64| json!({"type": "char_location", "document_index": number});
    check(
        json!({"type": "text", "text": "", "citations": []}),
        &[
            json!({"type": "citations_delta", "citation": cited(0)}),
            text("a"),
            json!({"type": "citations_delta", "citation": cited(1)}),
        ],
        json!({"type": "text", "text": "a", "citations": [cited(0), cited(1)]}),
    );
    let thought = |text: &str| json!({"type": "thinking_delta", "thinking": text});
    check(
        json!({"type": "thinking", "thinking": "", "signature": ""}),
        &[
            thought("h"),
            thought("m"),
            json!({"type": "signature_delta", "signature": "s"}),
        ],
        json!({"type": "thinking", "thinking": "hm", "signature": "s"}),
    );
    let input = |json: &str| json!({"type": "input_json_delta", "partial_json": json});
    let call = |input: Value| json!({"type": "tool_use", "id": "t", "name": "f", "input": input, "caller": {"type": "direct"}});
    check(
        call(json!({})),
        &[input(""), input("{\"a\": \"\\"), input("n\"}")],
        call(json!({"a": "\n"})),
    );
    check(call(json!({})), &[input("")], call(json!({})));
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"url": "u", "index": 3}]});
    check(found.clone(), &[], found);
}

#[test]
fn a_message_that_is_cut_short_or_unknown_is_none() {
    let end = json!({"stop_reason": "max_tokens", "stop_sequence": null});
    let none = |start: Value, delta: Value, end: &Value| {
        assert_eq!(
            body_of_stream(MESSAGES, &block(&start, &[delta], end)),
            None
        );
    };
    let call = || json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    none(
        call(),
        json!({"type": "input_json_delta", "partial_json": "{\"a"}),
        &end,
    );
    let text = || json!({"type": "text", "text": ""});
    none(text(), json!({"type": "new_delta", "text": "a"}), &end);
    none(text(), json!({"type": "text_delta", "text": 3}), &end);
    none(
        text(),
        json!({"type": "text_delta", "text": "a"}),
        &json!({"stop_reason": null}),
    );
    let whole = block(&text(), &[], &end);
    let error =
        stream(&[json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})]);
    assert!(body_of_stream(MESSAGES, &whole).is_some());
    assert_eq!(body_of_stream(MESSAGES, &[error, whole].concat()), None);
}

#[test]
fn what_a_stream_would_repeat_is_bounded() {
    let body = json!({"id": "i", "model": "m".repeat(5000), "choices":
        [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]});
    assert_eq!(
        stream_of_body(CHAT, body.to_string().as_bytes(), true),
        None
    );
    let calls = vec![json!({}); 40_000];
    let body = json!({"id": "i", "model": "m".repeat(3000), "choices":
        [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "stop"}]});
    assert_eq!(
        stream_of_body(CHAT, body.to_string().as_bytes(), true),
        None
    );
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        ("[a\\\\\"\n😀é\u{1}]{0,30}", 1_usize..700).prop_map(|(text, times)| text.repeat(times)),
    ]
}

prop_compose! {
    fn any_choice()(
        content in prop::option::of(any_text()), thought in prop::option::of(any_text()), refusal in any_text(),
        calls in prop::collection::vec((".{1,40}", any_text()), 0..3), entries in prop::option::of(0_usize..300),
        reason in prop::sample::select(&["stop", "length", "tool_calls"][..]),
    ) -> Value {
        let mut message = json!({"role": "assistant", "content": content, "refusal": null, "audio": null});
        if let Some(thought) = thought {
            message["reasoning_content"] = json!(thought);
        }
        if !refusal.is_empty() {
            message["refusal"] = json!(refusal);
        }
        if !calls.is_empty() {
            let call = |(number, (name, arguments)): (usize, &(String, String))| {
                json!({"id": format!("c{number}"), "type": "function", "function": {"name": name, "arguments": arguments}})
            };
            message["tool_calls"] = calls.iter().enumerate().map(call).collect();
        }
        // An empty text is not told from none where something else is said.
        if content.is_some_and(|it| it.is_empty()) && (!refusal.is_empty() || !calls.is_empty()) {
            message["content"] = Value::Null;
        }
        let entry = json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []});
        let logprobs = entries.map(|count| json!({"content": vec![entry; count], "refusal": null}));
        json!({"message": message, "logprobs": logprobs, "finish_reason": reason, "extra": {"a": [1]}})
    }
}

fn any_block() -> impl Strategy<Value = Value> {
    let text = (
        any_text(),
        prop::option::of(prop::collection::vec(".{0,40}", 0..3)),
    );
    let input = prop::collection::btree_map(".{0,9}", any_text(), 0..3);
    prop_oneof![
        text.prop_map(|(text, cited)| {
            let cited = cited.map(|all| {
                all.iter()
                    .map(|it| json!({"cited_text": it}))
                    .collect::<Vec<_>>()
            });
            json!({"type": "text", "text": text, "citations": cited})
        }),
        (any_text(), ".{0,90}").prop_map(
            |(text, sign)| json!({"type": "thinking", "thinking": text, "signature": sign})
        ),
        (".{1,40}", input).prop_map(
            |(name, input)| json!({"type": "tool_use", "id": "t", "name": name, "input": input})
        ),
        ".{0,9}".prop_map(|data| json!({"type": "redacted_thinking", "data": data})),
    ]
}

/// Text of a stream or body, or nearly.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 32] = [
        "data: ",
        "event: error\n",
        "\n\n",
        "[DONE]",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "\"a\"",
        "\"choices\"",
        "\"delta\"",
        "\"content\"",
        "\"tool_calls\"",
        "\"index\"",
        "0",
        "\"message\"",
        "\"finish_reason\":\"stop\"",
        "\"usage\"",
        "\"type\":\"message_start\"",
        "\"logprobs\"",
        "\"type\":\"content_block_start\"",
        "\"type\":\"content_block_delta\"",
        "\"type\":\"text_delta\"",
        "\"content_block\"",
        "\"type\":\"message_stop\"",
        "\"\\ud83d\"",
        "\"stop_reason\":\"a\"",
        "é",
        "\r",
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60)
            .prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_completion_comes_out_of_its_stream(choices in prop::collection::vec(any_choice(), 1..4), usage in any::<u32>()) {
        let mut body = json!({"id": "i", "object": "chat.completion", "created": 3, "model": "m",
            "choices": choices, "usage": {"prompt_tokens": usage}, "system_fingerprint": null, "x": {"y": 1}});
        for (index, choice) in body["choices"].as_array_mut().unwrap().iter_mut().enumerate() {
            choice["index"] = json!(index);
        }
        check_round_trip(CHAT, &body);
    }

    #[test]
    fn a_message_comes_out_of_its_stream(blocks in prop::collection::vec(any_block(), 0..4), stop in ".{0,40}") {
        check_round_trip(MESSAGES, &json!({"id": "m", "type": "message", "role": "assistant", "model": "c",
            "content": blocks, "stop_reason": "end_turn", "stop_sequence": stop, "x": [1],
            "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 1}}}));
    }

    #[test]
    fn pieces_are_whole_and_add_up(text in any_text(), more in any_text()) {
        let escaped = json!(text.repeat(3) + &more).to_string().replace('😀', "\\ud83d\\ude00");
        let inside = &escaped[1..escaped.len() - 1];
        let mut joined = String::new();
        for piece in pieces(inside) {
            prop_assert!(piece.len() <= PIECE_BYTES);
            serde_json::from_str::<String>(&format!("\"{piece}\"")).unwrap();
            joined.push_str(piece);
        }
        prop_assert_eq!(joined, inside);
    }

    #[test]
    fn any_bytes_are_looked_at(bytes in any_bytes()) {
        for endpoint in [CHAT, MESSAGES] {
            let bodies = [body_of_stream(endpoint, &bytes)];
            bodies.iter().flatten().for_each(|body| drop(value(body)));
            stream_of_body(endpoint, &bytes, true);
        }
        without_usage(&bytes);
    }
}
