//! What OpenAI's other endpoints take and refuse.

use super::*;

#[test]
fn a_responses_fields_and_items_are_checked() {
    right(
        RESPONSES,
        json!({"max_output_tokens": 16, "store": false, "parallel_tool_calls": true}),
    );
    wrong(RESPONSES, json!({"messages": []}), "messages", "Unknown");
    wrong(RESPONSES, json!({"max_tokens": 5}), "max_tokens", "Unknown");
    wrong(RESPONSES, json!({"stop": "a"}), "stop", "Unknown");
    wrong(
        RESPONSES,
        json!({"max_output_tokens": 5}),
        "max_output_tokens",
        ">= 16",
    );
    wrong(
        RESPONSES,
        json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
        "text.format.name",
        "Missing",
    );
    let tool = json!({"type": "function", "name": "f", "parameters": {}, "strict": false});
    right(
        RESPONSES,
        json!({"tools": [tool, {"type": "web_search"}], "tool_choice": {"type": "function", "name": "f"}}),
    );
    let nested = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    wrong(RESPONSES, nested, "tools[0].name", "Missing");
    let other = json!({"tools": [tool], "tool_choice": {"type": "function", "name": "g"}});
    wrong(RESPONSES, other, "tool_choice", "not found");

    let item = |item: Value| json!({"input": [item]});
    let said = |role: &str, part: &str| {
        item(json!({"role": role, "content": [{"type": part, "text": "a"}]}))
    };
    right(RESPONSES, said("user", "input_text"));
    right(RESPONSES, said("assistant", "output_text"));
    right(RESPONSES, item(json!({"id": "msg_1"})));
    let kind = "input[0].content[0].type";
    wrong(RESPONSES, said("user", "text"), kind, "'input_text'");
    wrong(
        RESPONSES,
        said("assistant", "input_text"),
        kind,
        "'output_text'",
    );
    wrong(
        RESPONSES,
        said("tool", "input_text"),
        "input[0].role",
        "'tool'",
    );
    wrong(
        RESPONSES,
        item(json!({"type": "tool_result"})),
        "input[0].type",
        "'function_call'",
    );
    let image = json!({"role": "user", "content": [{"type": "input_image", "image_url": {"url": "https://a"}}]});
    wrong(
        RESPONSES,
        item(image),
        "input[0].content[0].image_url",
        "expected a string",
    );

    let call = |id: &str| json!({"type": "function_call", "id": id, "call_id": "c", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "3"});
    right(RESPONSES, json!({"input": [call("fc_1"), output]}));
    right(
        RESPONSES,
        json!({"input": [output], "previous_response_id": "resp_1"}),
    );
    wrong(
        RESPONSES,
        json!({"input": [output]}),
        "input",
        "No tool call found",
    );
    wrong(
        RESPONSES,
        json!({"input": [call("fc_1")]}),
        "input",
        "No tool output found",
    );
    wrong(
        RESPONSES,
        json!({"input": [call("call_1"), output]}),
        "input[0].id",
        "begins with 'fc'",
    );
    right(
        RESPONSES,
        item(json!({"type": "reasoning", "id": "rs_1", "summary": []})),
    );
    wrong(
        RESPONSES,
        item(json!({"type": "reasoning", "id": "rs_1"})),
        "input[0].summary",
        "Missing",
    );
}

#[test]
fn small_endpoints_are_checked_too() {
    let check = |path: &str, body: Value| check(Dialect::OpenAi, path, body.to_string().as_bytes());
    let completion = json!({"model": "m", "prompt": ["a"], "max_tokens": 5});
    assert_eq!(check("/v1/completions", completion), Ok(()));
    let fault = check("/v1/completions", json!({"model": "m", "prompt": 3})).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("prompt"));
    assert!(check("/v1/embeddings", json!({"model": "m", "input": ""})).is_err());
    assert_eq!(
        check("/v1/embeddings", json!({"model": "m", "input": ["a"]})),
        Ok(())
    );
    assert_eq!(check("/v1/models", json!(3)), Ok(()));
}
