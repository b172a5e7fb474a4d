//! What OpenAI's chat takes and refuses.

use super::*;

#[test]
fn a_chats_fields_are_checked() {
    right(
        CHAT,
        json!({"temperature": 2, "top_p": "null", "stop": ["a"], "n": 128}),
    );
    right(
        CHAT,
        json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    right(CHAT, json!({"logprobs": true, "top_logprobs": 20}));
    wrong(
        CHAT,
        json!({"top_k": 3}),
        "top_k",
        "Unknown parameter: 'top_k'.",
    );
    wrong(CHAT, json!({"system": "a"}), "system", "Unknown");
    wrong(
        CHAT,
        json!({"messages": null}),
        "messages",
        "Missing required parameter",
    );
    wrong(CHAT, json!({"messages": []}), "messages", "empty array");
    wrong(CHAT, json!({"tools": []}), "tools", "empty array");
    wrong(
        CHAT,
        json!({"tools": "null"}),
        "tools",
        "expected an array, but got null",
    );
    wrong(CHAT, json!({"user": "null"}), "user", "got null");
    wrong(CHAT, json!({"temperature": 2.1}), "temperature", "<= 2");
    wrong(
        CHAT,
        json!({"temperature": "1"}),
        "temperature",
        "expected a decimal, but got a string",
    );
    wrong(CHAT, json!({"top_p": -0.1}), "top_p", "below");
    wrong(CHAT, json!({"max_tokens": 0}), "max_tokens", ">= 1");
    wrong(
        CHAT,
        json!({"max_tokens": 1.5}),
        "max_tokens",
        "expected an integer",
    );
    wrong(CHAT, json!({"n": 0}), "n", ">= 1");
    wrong(CHAT, json!({"stop": [1]}), "stop[0]", "expected a string");
    wrong(
        CHAT,
        json!({"stop": ["a", "b", "c", "d", "e"]}),
        "stop",
        "array too long",
    );
    wrong(CHAT, json!({"top_logprobs": 2}), "top_logprobs", "logprobs");
    wrong(
        CHAT,
        json!({"stream_options": {}}),
        "stream_options",
        "stream",
    );
    wrong(
        CHAT,
        json!({"reasoning_effort": "huge"}),
        "reasoning_effort",
        "Supported values",
    );
    let both = json!({"max_tokens": 5, "max_completion_tokens": 5});
    wrong(CHAT, both, "max_tokens", "same time");
}

#[test]
fn a_chats_messages_are_checked() {
    let said = |message: Value| json!({"messages": [message]});
    let part = |part: Value| said(user(json!([part])));
    right(CHAT, part(json!({"type": "text", "text": ""})));
    right(
        CHAT,
        part(json!({"type": "image_url", "image_url": {"url": "https://a/b.png"}})),
    );
    let image = "data:image/png;base64,aGk=";
    right(
        CHAT,
        part(json!({"type": "image_url", "image_url": {"url": image, "detail": "low"}})),
    );
    right(
        CHAT,
        said(json!({"role": "assistant", "content": "a", "annotations": []})),
    );
    wrong(
        CHAT,
        said(json!({"content": "a"})),
        "messages[0].role",
        "Missing",
    );
    wrong(
        CHAT,
        said(json!({"role": "bot", "content": "a"})),
        "messages[0].role",
        "'bot'",
    );
    wrong(
        CHAT,
        said(json!({"role": "user"})),
        "messages[0].content",
        "Missing",
    );
    wrong(
        CHAT,
        said(user(json!([]))),
        "messages[0].content",
        "empty array",
    );
    wrong(
        CHAT,
        said(json!({"role": "assistant"})),
        "messages[0].content",
        "got null",
    );
    let cached = json!({"type": "text", "text": "a", "cache_control": {}});
    wrong(
        CHAT,
        part(cached),
        "messages[0].content[0].cache_control",
        "Unknown",
    );
    let image = json!({"type": "image", "source": {}});
    wrong(
        CHAT,
        part(image),
        "messages[0].content[0].type",
        "'image_url'",
    );
    let image = json!({"type": "image_url", "image_url": "https://a/b"});
    wrong(
        CHAT,
        part(image),
        "messages[0].content[0].image_url",
        "expected an object",
    );
    for url in [
        "data:image/png;base64,a",
        "data:text/plain;base64,aGk=",
        "ftp://a",
    ] {
        let image = json!({"type": "image_url", "image_url": {"url": url}});
        wrong(
            CHAT,
            part(image),
            "messages[0].content[0].image_url.url",
            "valid URL",
        );
    }
    let thought = json!({"role": "assistant", "content": "a", "reasoning_content": "b"});
    wrong(
        CHAT,
        said(thought),
        "messages[0].reasoning_content",
        "Unknown",
    );
}

#[test]
fn a_chats_tools_and_formats_are_checked() {
    let tools = |function: Value| json!([{"type": "function", "function": function}]);
    let with = |choice: Value| json!({"tools": tools(json!({"name": "f"})), "tool_choice": choice});
    right(CHAT, with(json!("required")));
    right(
        CHAT,
        with(json!({"type": "function", "function": {"name": "f"}})),
    );
    right(
        CHAT,
        json!({"tools": tools(json!({"name": "f", "strict": null, "parameters": {}}))}),
    );
    wrong(CHAT, with(json!("any")), "tool_choice", "'required'");
    wrong(
        CHAT,
        with(json!({"type": "tool", "name": "f"})),
        "tool_choice.type",
        "'function'",
    );
    let other = json!({"type": "function", "function": {"name": "g"}});
    wrong(CHAT, with(other), "tool_choice", "not found");
    wrong(
        CHAT,
        json!({"tool_choice": "auto"}),
        "tool_choice",
        "only allowed when 'tools'",
    );
    let name = "tools[0].function.name";
    wrong(CHAT, json!({"tools": tools(json!({}))}), name, "Missing");
    wrong(
        CHAT,
        json!({"tools": tools(json!({"name": "a b"}))}),
        name,
        "does not match pattern",
    );
    wrong(
        CHAT,
        json!({"tools": tools(json!({"name": "a".repeat(65)}))}),
        name,
        "too long",
    );
    let flat = json!({"tools": [{"type": "function", "name": "f"}]});
    wrong(CHAT, flat, "tools[0].function", "Missing");
    let loose = json!({"name": "f", "strict": true, "parameters": {"type": "object", "properties": {"a": {}}}});
    let parameters = "tools[0].function.parameters";
    wrong(
        CHAT,
        json!({"tools": tools(loose)}),
        parameters,
        "additionalProperties",
    );
    let format = |schema: Value| {
        json!({"response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "strict": true, "schema": schema}}})
    };
    let object = |required: Value| {
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": required,
               "additionalProperties": false})
    };
    right(CHAT, format(object(json!(["a"]))));
    let schema = "response_format.json_schema.schema";
    wrong(CHAT, format(object(json!([]))), schema, "Missing 'a'");
    let unnamed = json!({"response_format": {"type": "json_schema", "json_schema": {}}});
    wrong(CHAT, unnamed, "response_format.json_schema.name", "Missing");
}

#[test]
fn a_chats_calls_are_answered_and_nothing_else_is() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let calling =
        json!({"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "3"});
    let talk = |rest: &[Value]| {
        let mut messages = vec![user("hi"), calling.clone()];
        messages.extend_from_slice(rest);
        json!({"messages": messages})
    };
    right(CHAT, talk(&[result("b"), result("a")]));
    right(CHAT, talk(&[result("a"), result("b"), user("and?")]));
    wrong(
        CHAT,
        talk(&[result("a"), user("and?")]),
        "messages[3].role",
        "response messages: b",
    );
    wrong(
        CHAT,
        talk(&[]),
        "messages[2].role",
        "response messages: a, b",
    );
    wrong(
        CHAT,
        talk(&[result("a"), result("c")]),
        "messages[3].role",
        "must be a response",
    );
    let alone = json!({"messages": [result("a")]});
    wrong(CHAT, alone, "messages[0].role", "preceding message");
    let mut untyped = call("a");
    untyped.as_object_mut().unwrap().remove("type");
    let untyped = json!({"messages": [{"role": "assistant", "tool_calls": [untyped]}]});
    wrong(CHAT, untyped, "messages[0].tool_calls[0].type", "Missing");
}
