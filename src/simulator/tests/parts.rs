//! What an answer consists of: thoughts, several calls, refusals, documents, cached prompts.

use super::*;
use serde_json::json;

const OPENAI_TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}},{"type":"function","function":{"name":"g","parameters":{"properties":{"text":{"type":"string","minLength":40}}}}}]"#;
const ANTHROPIC_TOOLS: &str = r#""tools":[{"name":"f","input_schema":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}},{"name":"g","input_schema":{"properties":{"text":{"type":"string","minLength":40}}}}]"#;

fn with_usage(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#""stream_options":{{"include_usage":true}}{comma}{extra}"#)
}

/// A streamed chat completion put together as a client does it: message, finish reason, usage.
fn collected(model: &str, extra: &str) -> (Value, Value, Value) {
    let (_, all) = events(CHAT, model, &with_usage(extra));
    let (mut message, mut calls) = (json!({}), Vec::new());
    let (mut finish, mut usage) = (Value::Null, Value::Null);
    for chunk in parsed(&all) {
        let choice = &chunk["choices"][0];
        for (key, value) in choice["delta"].as_object().into_iter().flatten() {
            match value {
                Value::String(text) if key != "role" => {
                    let said = message[key].as_str().unwrap_or_default();
                    message[key] = json!(format!("{said}{text}"));
                }
                Value::Array(pieces) => pieces.iter().for_each(|piece| {
                    let index = piece["index"].as_u64().unwrap() as usize;
                    if piece["id"].is_string() {
                        assert_eq!(index, calls.len(), "calls begin in order");
                        calls.push(piece.clone());
                        return;
                    }
                    let said = calls[index]["function"]["arguments"].as_str().unwrap();
                    let more = piece["function"]["arguments"].as_str().unwrap();
                    calls[index]["function"]["arguments"] = json!(format!("{said}{more}"));
                }),
                value => message[key] = value.clone(),
            }
        }
        if !choice["finish_reason"].is_null() {
            finish = choice["finish_reason"].clone();
        }
        usage = chunk["usage"].clone();
    }
    for call in &mut calls {
        call.as_object_mut().unwrap().remove("index");
    }
    message["tool_calls"] = json!(calls);
    (message, finish, usage)
}

/// Checks that an OpenAI stream says what the plain answer says, and returns the plain answer.
fn check_same(model: &str, extra: &str) -> Value {
    let (status, body) = answer(CHAT, &chat(model, extra));
    assert_eq!(status, 200, "{model} {extra}: {body}");
    let (message, finish, usage) = collected(model, extra);
    let plain = &body["choices"][0]["message"];
    for key in ["content", "refusal", "reasoning_content"] {
        let said = |message: &Value| message[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(said(&message), said(plain), "{model} {extra}: {key}");
    }
    let calls = plain.get("tool_calls").cloned().unwrap_or(json!([]));
    assert_eq!(message["tool_calls"], calls, "{model} {extra}");
    assert_eq!(finish, body["choices"][0]["finish_reason"]);
    assert_eq!(usage, body["usage"]);
    body
}

/// Checks that an Anthropic stream says what the plain answer says, and returns the plain answer.
fn check_same_blocks(model: &str, extra: &str) -> Value {
    let (status, body) = answer(MESSAGES, &chat(model, extra));
    assert_eq!(status, 200, "{model} {extra}: {body}");
    let (_, all) = events(MESSAGES, model, extra);
    let (mut blocks, mut input) = (Vec::new(), String::new());
    let mut open = None;
    for event in parsed(&all) {
        let index = event["index"].as_u64().map(|index| index as usize);
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((index, open), (Some(blocks.len()), None));
                blocks.push(event["content_block"].clone());
                open = index;
            }
            "content_block_delta" => {
                assert_eq!(index, open);
                let block = blocks.last_mut().unwrap();
                for key in ["text", "thinking", "signature"] {
                    if let Some(more) = event["delta"][key].as_str() {
                        let said = block[key].as_str().unwrap();
                        block[key] = json!(format!("{said}{more}"));
                    }
                }
                input += event["delta"]["partial_json"].as_str().unwrap_or_default();
            }
            "content_block_stop" => {
                assert_eq!(index, open.take());
                if let Ok(input) = serde_json::from_str::<Value>(&std::mem::take(&mut input)) {
                    blocks.last_mut().unwrap()["input"] = input;
                }
            }
            "message_delta" => {
                assert_eq!(event["delta"]["stop_reason"], body["stop_reason"]);
                let tokens = &event["usage"]["output_tokens"];
                assert_eq!(tokens, &body["usage"]["output_tokens"]);
            }
            _ => {}
        }
    }
    assert_eq!(json!(blocks), body["content"], "{model} {extra}");
    body
}

#[test]
fn several_tools_are_called_in_one_answer() {
    let names = |body: &Value| -> Vec<String> {
        let calls = body["choices"][0]["message"]["tool_calls"].as_array();
        let calls = calls.into_iter().flatten();
        calls
            .map(|call| call["function"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for model in ["sim+tools-3", "sim+tools-3+interleave"] {
        let body = check_same(model, OPENAI_TOOLS);
        assert_eq!(names(&body), ["f", "g", "f"]);
        let ids = body["choices"][0]["message"]["tool_calls"].as_array();
        assert!(ids.unwrap()[0]["id"] != ids.unwrap()[2]["id"]);
    }
    let single = format!(r#"{OPENAI_TOOLS},"parallel_tool_calls":false"#);
    assert_eq!(names(&check_same("sim+tools-3", &single)), ["f"]);

    let body = check_same_blocks("sim+tools-2+interleave", ANTHROPIC_TOOLS);
    assert_eq!(body["content"][1]["name"], "g");
    assert_eq!(body["stop_reason"], "tool_use");
    assert_ne!(body["content"][0]["id"], body["content"][1]["id"]);
    let single = r#""tool_choice":{"type":"any","disable_parallel_tool_use":true}"#;
    let body = check_same_blocks("sim+tools-2", &format!("{ANTHROPIC_TOOLS},{single}"));
    assert_eq!(body["content"].as_array().unwrap().len(), 1);
}

#[test]
fn fragments_of_calls_alternate_only_where_asked() {
    let check = |model: &str, expected: &[u64]| {
        let (_, all) = events(CHAT, model, OPENAI_TOOLS);
        let chunks = parsed(&all);
        let pieces = chunks.iter().flat_map(|chunk| {
            let pieces = chunk["choices"][0]["delta"]["tool_calls"].as_array();
            pieces.into_iter().flatten()
        });
        let indices: Vec<_> = pieces
            .map(|piece| piece["index"].as_u64().unwrap())
            .collect();
        assert_eq!(indices, expected, "{model}");
    };
    check("sim+tools-2", &[0, 0, 0, 1, 1, 1, 1, 1, 1]);
    check("sim+tools-2+interleave", &[0, 1, 0, 1, 0, 1, 1, 1, 1]);
    check("sim+tools+interleave", &[0, 0, 0]);
    check(
        "sim+thinking+tools-2+interleave",
        &[0, 1, 0, 1, 0, 1, 1, 1, 1],
    );
    check("sim+thinking+tools-2", &[0, 0, 0, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_thought_comes_before_the_answer_and_is_counted() {
    let body = check_same("sim+thinking", "");
    let message = &body["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap();
    assert!(thought.starts_with("sim thought ") && thought.split(' ').count() == 8);
    assert!(
        message["content"]
            .as_str()
            .unwrap()
            .starts_with("sim answer ")
    );
    let usage = &body["usage"];
    assert_eq!(usage["completion_tokens"], 24);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 8);

    let body = check_same_blocks("sim+thinking", "");
    assert_eq!(body["content"][0]["type"], "thinking");
    assert_eq!(body["content"][0]["thinking"], thought);
    assert_eq!(body["content"][0]["signature"].as_str().unwrap().len(), 20);
    assert_eq!(body["content"][1]["type"], "text");
    assert_eq!(body["usage"]["output_tokens"], 24);
    assert_eq!(body["usage"]["output_tokens_details"]["thinking_tokens"], 8);
    let body = check_same_blocks("sim+thinking+tools-2", ANTHROPIC_TOOLS);
    assert_eq!(body["content"].as_array().unwrap().len(), 3);
    check_same("sim+thinking+tools-2", OPENAI_TOOLS);

    let check = |max: u32, tokens: u32, blocks: usize| {
        let max = format!(r#""max_tokens":{max}"#);
        let body = check_same("sim+thinking", &max);
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        assert_eq!(body["usage"]["completion_tokens"], tokens);
        let body = check_same_blocks("sim+thinking", &max);
        assert_eq!(body["stop_reason"], "max_tokens");
        assert_eq!(body["content"].as_array().unwrap().len(), blocks);
    };
    check(3, 3, 1);
    check(8, 8, 1);
    check(9, 9, 2);
}

#[test]
fn a_stream_of_parts_is_paced_and_cut_by_tokens() {
    for path in [CHAT, MESSAGES] {
        let body = chat("sim+thinking+pace-20x10", r#""stream":true"#);
        let (delays, _) = run(&mut planned(path, &body));
        let gaps = delays.iter().filter(|delay| !delay.is_zero());
        assert_eq!(gaps.count(), 8 + 10 - 1);
        let check = |model: &str, tokens: u32| {
            let (script, _) = events(path, model, "");
            assert_eq!(script.steps.tokens(), tokens, "{model}");
        };
        check("sim+thinking+cut-5", 5);
        check("sim+thinking+cut-8", 8);
        check("sim+thinking+stall-12", 12);
        check("sim+refusal+cut-12", 12);
    }
}

#[test]
fn cached_tokens_are_within_or_beside_those_of_the_prompt() {
    let usage = check_same("sim+cached-100", "")["usage"].clone();
    assert_eq!(usage["prompt_tokens"], 105);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 100);
    assert_eq!(usage["total_tokens"], 121);
    let usage = check_same_blocks("sim+cached-100", "")["usage"].clone();
    assert_eq!(usage["input_tokens"], 5);
    assert_eq!(usage["cache_read_input_tokens"], 100);
}

#[test]
fn it_is_told_how_likely_each_token_was() {
    let check = |model: &str, extra: &str, list: &str, top: usize| {
        let (_, body) = answer(CHAT, &chat(model, extra));
        let choice = &body["choices"][0];
        let entries = choice["logprobs"][list].as_array().unwrap().clone();
        let said: String = entries
            .iter()
            .map(|entry| entry["token"].as_str().unwrap())
            .collect();
        let key = if list == "refusal" { list } else { "content" };
        assert_eq!(choice["message"][key], said);
        assert!(entries.iter().all(|entry| {
            let alternatives = entry["top_logprobs"].as_array().unwrap();
            alternatives.len() == top && entry["logprob"].as_f64().unwrap() <= 0.0
        }));
        let (_, all) = events(CHAT, model, extra);
        let chunks = parsed(&all);
        let streamed = chunks.iter().flat_map(|chunk| {
            let entries = chunk["choices"][0]["logprobs"][list].as_array();
            entries.into_iter().flatten().cloned()
        });
        assert_eq!(streamed.collect::<Vec<_>>(), entries);
    };
    let logprobs = r#""logprobs":true,"top_logprobs":3"#;
    check("sim", r#""logprobs":true"#, "content", 0);
    check("sim+thinking", logprobs, "content", 3);
    check("sim+refusal", logprobs, "refusal", 3);
    let document = format!(r#"{logprobs},"response_format":{{"type":"json_object"}}"#);
    check("sim", &document, "content", 3);
    let (_, body) = answer(
        CHAT,
        &chat("sim+tools", &format!("{OPENAI_TOOLS},{logprobs}")),
    );
    assert_eq!(body["choices"][0]["logprobs"], Value::Null);
    let many = format!(r#"{logprobs},"max_tokens":1000000"#);
    let refused = |model: &str, extra: &str| answer(CHAT, &chat(model, extra)).0;
    assert_eq!(refused("sim", r#""logprobs":true,"top_logprobs":21"#), 400);
    assert_eq!(refused("sim+pace-0x1000000", &many), 400);
    assert_eq!(refused("sim+pace-0x1000", logprobs), 200);
}

#[test]
fn a_refusal_has_its_vendors_form() {
    let body = check_same("sim+refusal+tools", OPENAI_TOOLS);
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["content"], Value::Null);
    let refusal = choice["message"]["refusal"].as_str().unwrap();
    assert!(refusal.starts_with("sim refusal "));
    assert_eq!(choice["finish_reason"], "stop");

    let body = check_same_blocks("sim+refusal", "");
    assert_eq!(body["stop_reason"], "refusal");
    assert_eq!(body["stop_details"]["type"], "refusal");
    assert_eq!(body["content"][0]["text"], refusal);
    let body = check_same_blocks("sim+refusal", r#""max_tokens":3"#);
    assert_eq!(body["stop_reason"], "max_tokens");
}

#[test]
fn a_document_is_answered_where_one_is_asked_for() {
    let schema = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"]}"#;
    let expected = json!({"name": "sim", "age": 1});
    let document = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let format = format!(
        r#""response_format":{{"type":"json_schema","json_schema":{{"name":"p","schema":{schema}}}}}"#
    );
    let body = check_same("sim", &format);
    let choice = &body["choices"][0];
    assert_eq!(document(&choice["message"]["content"]), expected);
    assert_eq!(choice["finish_reason"], "stop");
    let body = check_same(
        "sim+thinking",
        r#""response_format":{"type":"json_object"}"#,
    );
    assert!(document(&body["choices"][0]["message"]["content"]).is_object());
    let body = check_same("sim", &format!(r#"{format},"max_tokens":1"#));
    assert_eq!(body["choices"][0]["finish_reason"], "length");

    let format = format!(r#"{{"type":"json_schema","schema":{schema}}}"#);
    for extra in [
        format!(r#""output_config":{{"format":{format}}}"#),
        format!(r#""output_format":{format}"#),
    ] {
        let body = check_same_blocks("sim", &extra);
        assert_eq!(document(&body["content"][0]["text"]), expected);
        assert_eq!(body["stop_reason"], "end_turn");
    }
    let both = format!(r#"{ANTHROPIC_TOOLS},"output_format":{format}"#);
    assert_eq!(
        check_same_blocks("sim+tools", &both)["stop_reason"],
        "tool_use"
    );
    let wrong = chat("sim", r#""response_format":7"#);
    assert_eq!(answer(CHAT, &wrong).0, 400);
}
