//! The grammar of every answer: what the vendors' SDKs require, in both dialects.

use super::*;
use serde_json::json;

#[test]
fn a_plain_chat_completion_has_what_the_sdk_requires() {
    let (status, body) = answer(CHAT, &chat("sim", ""));
    assert_eq!(status, 200);
    assert_eq!(body["object"], "chat.completion");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(body["created"].is_u64() && body["model"] == "sim");
    let choice = &body["choices"][0];
    assert_eq!(
        (&choice["index"], &choice["finish_reason"]),
        (&json!(0), &json!("stop"))
    );
    assert_eq!(choice["message"]["role"], "assistant");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("sim answer ") && text.split(' ').count() == 16);
    assert_eq!(body["usage"]["completion_tokens"], 16);
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    assert_eq!(body["usage"]["total_tokens"], 21);
    assert_eq!(answer(CHAT, &chat("sim", "")).1, body, "deterministic");
}

#[test]
fn a_chat_stream_says_what_the_plain_answer_says() {
    let (script, all) = events(CHAT, "sim", r#""stream_options":{"include_usage":true}"#);
    assert_eq!(
        header(&script, "content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(all.last().unwrap(), "[DONE]");
    let chunks = parsed(&all);
    assert_eq!(chunks.len(), 1 + 16 + 1 + 1);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    let (_, plain) = answer(CHAT, &chat("sim", ""));
    assert_eq!(text, plain["choices"][0]["message"]["content"]);
    assert_eq!(chunks[17]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[17]["usage"], Value::Null);
    assert_eq!(
        (&chunks[18]["choices"], &chunks[18]["usage"]),
        (&json!([]), &plain["usage"])
    );
    let (_, without) = events(CHAT, "sim", "");
    assert_eq!(without.len(), 1 + 16 + 1 + 1);
    assert!(
        parsed(&without)
            .iter()
            .all(|chunk| chunk.get("usage").is_none())
    );
}

#[test]
fn a_message_and_its_stream_have_what_the_sdk_requires() {
    let (status, body) = answer(MESSAGES, &chat("sim", ""));
    assert_eq!(status, 200);
    assert_eq!(
        (&body["type"], &body["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    assert_eq!(body["usage"]["output_tokens"], 16);
    let (_, all) = events(MESSAGES, "sim", "");
    let all = parsed(&all);
    let kinds: Vec<&str> = all
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert!(
        kinds[3..19]
            .iter()
            .all(|kind| *kind == "content_block_delta")
    );
    assert_eq!(
        kinds[19..],
        ["content_block_stop", "message_delta", "message_stop"]
    );
    let text: String = all
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(text, body["content"][0]["text"]);
    assert_eq!(all[0]["message"]["content"], json!([]));
    assert_eq!(all[20]["delta"]["stop_reason"], "end_turn");
    assert_eq!(all[20]["usage"]["output_tokens"], 16);
}

#[test]
fn tools_are_called_and_their_results_answered() {
    let openai = r#""tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]"#;
    let anthropic = r#""tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]"#;
    let (_, body) = answer(CHAT, &chat("sim+tools", openai));
    let call = &body["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        call["function"],
        json!({"name": "weather", "arguments": "{\"city\":\"sim\"}"})
    );
    let chunks = parsed(&events(CHAT, "sim+tools", openai).1);
    let pieces = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]);
    assert_eq!(pieces.clone().next().unwrap()["id"], call["id"]);
    let arguments: String = pieces
        .filter_map(|piece| piece["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, "{\"city\":\"sim\"}");

    let (_, body) = answer(
        MESSAGES,
        &chat(
            "sim",
            &format!(r#"{anthropic},"tool_choice":{{"type":"any"}}"#),
        ),
    );
    assert_eq!(body["stop_reason"], "tool_use");
    assert_eq!(body["content"][0]["input"], json!({"city": "sim"}));
    let all = parsed(&events(MESSAGES, "sim+tools", anthropic).1);
    assert_eq!(all[1]["content_block"]["name"], "weather");
    let arguments: String = all
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(arguments, "{\"city\":\"sim\"}");

    let result = format!(
        r#"{{"model":"sim+tools",{openai},"messages":[{{"role":"tool","tool_call_id":"x","content":"3"}}]}}"#
    );
    let (_, body) = answer(CHAT, &result);
    assert!(body["choices"][0]["message"]["content"].is_string());
}

#[test]
fn tokens_are_bounded_and_counted() {
    let check = |extra: &str, words: usize, openai: &str, anthropic: &str| {
        let (_, body) = answer(CHAT, &chat("sim+pace-20x64", extra));
        let choice = &body["choices"][0];
        assert_eq!(
            choice["message"]["content"]
                .as_str()
                .unwrap()
                .split(' ')
                .count(),
            words
        );
        assert_eq!(choice["finish_reason"], openai);
        let (_, body) = answer(MESSAGES, &chat("sim+pace-20x64", extra));
        assert_eq!(body["stop_reason"], anthropic);
        assert_eq!(body["usage"]["output_tokens"], words);
    };
    check("", 64, "stop", "end_turn");
    check(r#""max_tokens":5"#, 5, "length", "max_tokens");
    check(r#""max_tokens":64"#, 64, "stop", "end_turn");
    let (_, body) = answer(MESSAGES, &chat("sim", r#""stop_sequences":[" answer"]"#));
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("stop_sequence"), &json!(" answer"))
    );
    assert_eq!(body["content"][0]["text"], "sim");
}

#[test]
fn several_answers_differ_and_are_interleaved() {
    let (_, body) = answer(CHAT, &chat("sim", r#""n":3"#));
    let text = |index: usize| body["choices"][index]["message"]["content"].clone();
    assert!(
        text(0) != text(1) && text(1) != text(2) && body["choices"].as_array().unwrap().len() == 3
    );
    let chunks = parsed(&events(CHAT, "sim", r#""n":3"#).1);
    assert_eq!(chunks.len(), 3 + 3 * 16 + 3);
    for index in 0..3 {
        let own = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == index);
        let said: String = own
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(Value::String(said), text(index));
    }
}

#[test]
fn a_stream_is_paced_between_tokens_only() {
    for path in [CHAT, MESSAGES] {
        let body = chat(
            "sim+first-token-300+pace-20x10+latency-7",
            r#""stream":true"#,
        );
        let mut script = planned(path, &body);
        assert_eq!(script.delay, Duration::from_millis(7));
        let (delays, _) = run(&mut script);
        assert_eq!(delays[0], Duration::from_millis(300));
        let gaps = delays[1..].iter().filter(|delay| !delay.is_zero());
        assert!(gaps.clone().count() == 9 && gaps.clone().all(|gap| gap.as_millis() == 20));
        let total: Duration = delays.iter().sum();
        assert_eq!(total, Duration::from_millis(300 + 9 * 20));
        assert_eq!(script.steps.tokens(), 10);
    }
    let plain = planned(CHAT, &chat("sim+first-token-300+pace-20x10+latency-7", ""));
    assert_eq!(
        (plain.delay, plain.chunked),
        (Duration::from_millis(307), false)
    );
}

#[test]
fn embeddings_come_as_numbers_and_in_base64() {
    let (status, body) = answer(
        "/v1/embeddings",
        r#"{"model":"sim","input":["hello","you"],"dimensions":8}"#,
    );
    assert_eq!(
        (status, &body["object"], &body["model"]),
        (200, &json!("list"), &json!("sim"))
    );
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 3, "total_tokens": 3})
    );
    assert_eq!(body["data"][1]["index"], 1);
    assert_eq!(body["data"][0]["embedding"].as_array().unwrap().len(), 8);
    assert_ne!(body["data"][0]["embedding"], body["data"][1]["embedding"]);
    let (_, body) = answer(
        "/v1/embeddings",
        r#"{"model":"sim","input":"hello","dimensions":3,"encoding_format":"base64"}"#,
    );
    assert_eq!(body["data"][0]["embedding"].as_str().unwrap().len(), 16);
}

#[test]
fn models_and_token_counts_are_told_in_both_dialects() {
    let (_, body) = answer("/v1/models", "");
    assert_eq!(
        (&body["object"], &body["data"][0]["id"]),
        (&json!("list"), &json!("sim"))
    );
    let anthropic = |path: &str| {
        let mut script = plan(
            &SimRequest {
                anthropic_version: true,
                ..request(path, "")
            },
            &State::default(),
        );
        assert!(
            header(&script, "request-id").is_some() && header(&script, "x-request-id").is_none()
        );
        let (_, out) = run(&mut script);
        (script.status, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (_, body) = anthropic("/v1/models");
    assert_eq!(
        (&body["has_more"], &body["first_id"]),
        (&json!(false), &json!("sim"))
    );
    assert_eq!(body["data"][0]["type"], "model");
    assert_eq!(
        answer("/v1/models/sim%2Blatency-200", "").1["id"],
        "sim+latency-200"
    );
    assert_eq!(answer("/v1/models/gpt-4o", "").0, 404);
    assert_eq!(
        anthropic("/v1/models/sim+reset").1["display_name"],
        "sim+reset"
    );
    let (status, body) = answer("/v1/messages/count_tokens", &chat("sim", ""));
    assert_eq!((status, body), (200, json!({"input_tokens": 5})));
}
