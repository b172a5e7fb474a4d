//! OpenAI's responses and legacy completions: shapes, the order of events, what is echoed.

use super::*;
use crate::simulator::script::End;
use serde_json::json;

const TOOLS: &str = r#""tools":[{"type":"function","name":"f","parameters":{"properties":{"city":{"type":"string"}}},"strict":true},{"type":"function","name":"g","parameters":{},"strict":false}]"#;

fn body(model: &str, extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"{model}","input":"hi"{comma}{extra}}}"#)
}

fn streamed(model: &str, extra: &str) -> (Script, Vec<Value>) {
    let comma = if extra.is_empty() { "" } else { "," };
    let body = body(model, &format!(r#""stream":true{comma}{extra}"#));
    let mut script = planned(RESPONSES, &body);
    assert!(script.chunked && script.stream);
    let (_, out) = run(&mut script);
    let events = out.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    let events: Vec<_> = events.collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    (script, events)
}

/// The types of the events, without those that only repeat.
fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
    let mut kinds: Vec<_> = kinds
        .map(|kind| kind.trim_start_matches("response."))
        .collect();
    kinds.dedup();
    kinds
}

/// Puts a stream together as a client does it, checks it against the plain answer, and returns
/// that.
fn check_same(model: &str, extra: &str) -> Value {
    let (status, plain) = answer(RESPONSES, &body(model, extra));
    assert_eq!(status, 200, "{plain}");
    let (_, events) = streamed(model, extra);
    let mut items: Vec<Value> = Vec::new();
    let mut text = String::new();
    for event in &events {
        let index = event["output_index"].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!(index, items.len());
                assert!(
                    event["item"]
                        .get("status")
                        .is_none_or(|s| s == "in_progress")
                );
                items.push(event["item"].clone());
                text.clear();
            }
            "response.output_item.done" => {
                assert_eq!(event["item"]["id"], items[index]["id"]);
                items[index] = event["item"].clone();
            }
            kind if kind.ends_with(".delta") => {
                assert_eq!(event["item_id"], items[index]["id"]);
                text += event["delta"].as_str().unwrap();
            }
            kind if kind.ends_with("_text.done") => assert_eq!(event["text"], text),
            "response.refusal.done" => assert_eq!(event["refusal"], text),
            "response.function_call_arguments.done" => assert_eq!(event["arguments"], text),
            _ => {}
        }
    }
    assert_eq!(json!(items), plain["output"], "{model}");
    assert_eq!(events.last().unwrap()["response"], plain);
    for event in &events[..2] {
        let response = &event["response"];
        assert_eq!(
            (&response["status"], &response["output"], &response["usage"]),
            (&json!("in_progress"), &json!([]), &Value::Null)
        );
        assert_eq!(response["id"], plain["id"]);
    }
    plain
}

#[test]
fn a_response_is_whole_and_its_stream_says_the_same() {
    let plain = check_same("sim", "");
    assert_eq!(plain["object"], "response");
    assert_eq!(plain["status"], "completed");
    let item = &plain["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&json!("message"), &json!("assistant"), &json!("completed"))
    );
    let content = &item["content"][0];
    assert_eq!(content["type"], "output_text");
    assert!(content["text"].as_str().unwrap().starts_with("sim answer "));
    assert_eq!(
        plain["usage"],
        json!({"input_tokens": 5, "output_tokens": 16, "total_tokens": 21,
               "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
               "output_tokens_details": {"reasoning_tokens": 0}})
    );
    let (script, events) = streamed("sim", "");
    assert_eq!(events.len(), 2 + 2 + 16 + 3 + 1);
    assert_eq!(
        header(&script, "content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
}

#[test]
fn a_request_is_echoed() {
    let extra = r#""store":false,"previous_response_id":"resp_1","metadata":{"a":"b"},"temperature":0.5,"instructions":"be brief","reasoning":{"effort":"low"}"#;
    let plain = check_same("sim", extra);
    for (name, value) in [
        ("store", json!(false)),
        ("previous_response_id", json!("resp_1")),
        ("metadata", json!({"a": "b"})),
        ("temperature", json!(0.5)),
        ("instructions", json!("be brief")),
        ("reasoning", json!({"effort": "low"})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("parallel_tool_calls", json!(true)),
        ("max_output_tokens", Value::Null),
    ] {
        assert_eq!(plain[name], value, "{name}");
    }
    let without_input = r#"{"model":"sim","previous_response_id":"resp_1"}"#;
    assert_eq!(answer(RESPONSES, without_input).0, 200);
}

#[test]
fn a_response_calls_thinks_refuses_and_is_cut_short() {
    let plain = check_same("sim+thinking+tools-2", TOOLS);
    let output = plain["output"].as_array().unwrap();
    let types: Vec<_> = output.iter().map(|item| &item["type"]).collect();
    assert_eq!(types, ["reasoning", "function_call", "function_call"]);
    assert_eq!(output[0]["summary"][0]["type"], "summary_text");
    assert_eq!(output[1]["arguments"], "{\"city\":\"sim\"}");
    assert_eq!(output[2]["name"], "g");
    assert_ne!(output[1]["call_id"], output[2]["call_id"]);
    let details = &plain["usage"]["output_tokens_details"];
    assert_eq!(details["reasoning_tokens"], 8);
    let single = format!(r#"{TOOLS},"parallel_tool_calls":false"#);
    let plain = check_same("sim+tools-2+cached-7", &single);
    assert_eq!(plain["output"].as_array().unwrap().len(), 1);
    let details = &plain["usage"]["input_tokens_details"];
    assert_eq!(details["cached_tokens"], 7);
    let encrypted = check_same(
        "sim+thinking",
        r#""include":["reasoning.encrypted_content"]"#,
    );
    assert!(encrypted["output"][0]["encrypted_content"].is_string());

    let plain = check_same("sim+refusal", "");
    assert_eq!(plain["output"][0]["content"][0]["type"], "refusal");
    assert_eq!(plain["status"], "completed");

    let plain = check_same("sim", r#""max_output_tokens":4"#);
    assert_eq!(plain["status"], "incomplete");
    assert_eq!(plain["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(plain["output"][0]["status"], "incomplete");
    let (_, events) = streamed("sim", r#""max_output_tokens":4"#);
    assert_eq!(kinds(&events).last(), Some(&"incomplete"));

    let format = r#""text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object","properties":{"a":{"const":1}}}}}"#;
    let plain = check_same("sim", format);
    assert_eq!(plain["output"][0]["content"][0]["text"], "{\"a\":1}");
}

#[test]
fn a_tools_output_is_answered_in_words() {
    let output = r#"{"type":"function_call_output","call_id":"c","output":"3"}"#;
    let body = format!(r#"{{"model":"sim+tools",{TOOLS},"input":[{output}]}}"#);
    let (_, plain) = answer(RESPONSES, &body);
    assert_eq!(plain["output"][0]["type"], "message");
}

#[test]
fn faults_meet_responses_and_completions_too() {
    let check = |model: &str, end: End, tokens: u32, last: &str| {
        let (script, events) = streamed(model, "");
        assert_eq!(
            (script.end, script.steps.tokens()),
            (end, tokens),
            "{model}"
        );
        assert_eq!(kinds(&events).last(), Some(&last), "{model}");
    };
    check("sim+cut-4", End::Cut, 4, "output_text.delta");
    check("sim+stall-0", End::Stall, 0, "content_part.added");
    check("sim+no-end", End::Complete, 16, "output_item.done");
    for path in [RESPONSES, COMPLETIONS] {
        let refused = |model: &str, extra: &str| {
            let extra = format!(r#"{extra}"prompt":"hi""#);
            answer(path, &body(model, &extra))
        };
        assert_eq!(refused("sim+status-503", "").0, 503);
        assert_eq!(refused("gpt-4o", "").0, 404);
        let (status, body) = refused("sim+context-length", "");
        assert_eq!(status, 400);
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(refused("sim", r#""stream":3,"#).0, 400);
        let most = r#""max_tokens":0,"max_output_tokens":0,"#;
        assert_eq!(refused("sim", most).0, 400);
        assert_eq!(answer(path, r#"{"model":"sim"}"#).0, 400);
        assert_eq!(answer(path, "").0, 405);
    }
}

#[test]
fn a_completion_answers_every_prompt() {
    let completion = |model: &str, extra: &str| {
        let body = format!(r#"{{"model":"{model}",{extra}}}"#);
        let (status, plain) = answer(COMPLETIONS, &body);
        assert_eq!(status, 200, "{plain}");
        let streamed = format!(
            r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},{extra}}}"#
        );
        let (_, out) = run(&mut planned(COMPLETIONS, &streamed));
        let all: Vec<_> = out.split_terminator("\n\n").collect();
        assert_eq!(all.last(), Some(&"data: [DONE]"));
        let chunks = all[..all.len() - 1].iter();
        let chunks: Vec<Value> = chunks
            .map(|data| serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        assert_eq!(chunks.last().unwrap()["usage"], plain["usage"]);
        for choice in plain["choices"].as_array().unwrap() {
            let own = chunks.iter().map(|chunk| &chunk["choices"][0]);
            let mut own = own.filter(|own| own["index"] == choice["index"]);
            let said: String = own
                .clone()
                .map(|own| own["text"].as_str().unwrap())
                .collect();
            assert_eq!(choice["text"], said);
            assert_eq!(
                own.next_back().unwrap()["finish_reason"],
                choice["finish_reason"]
            );
        }
        plain
    };
    let plain = completion("sim", r#""prompt":"hello""#);
    assert_eq!(plain["object"], "text_completion");
    assert!(
        plain["choices"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("sim answer ")
    );
    assert_eq!(plain["usage"]["prompt_tokens"], 2);
    assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    let plain = completion("sim+thinking", r#""prompt":["a","b"],"n":2,"max_tokens":3"#);
    let choices = plain["choices"].as_array().unwrap();
    assert_eq!(
        (choices.len(), &plain["usage"]["completion_tokens"]),
        (4, &json!(12))
    );
    assert!(choices[0]["text"] != choices[1]["text"] && choices[0]["text"] != choices[2]["text"]);
    assert_eq!(choices[3]["finish_reason"], "length");
    completion("sim", r#""prompt":[1,2,3],"stop":" answer""#);
}
