//! What Anthropic's messages take and refuse.

use super::*;

#[test]
fn a_messages_fields_are_checked() {
    right(
        MESSAGES,
        json!({"temperature": 1, "top_k": 5, "system": "a", "stop_sequences": []}),
    );
    right(
        MESSAGES,
        json!({"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}),
    );
    right(
        MESSAGES,
        json!({"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
    );
    wrong(
        MESSAGES,
        json!({"max_tokens": null}),
        "max_tokens",
        "Field required",
    );
    wrong(
        MESSAGES,
        json!({"max_tokens": 0}),
        "max_tokens",
        "greater than or equal to 1",
    );
    wrong(
        MESSAGES,
        json!({"n": 1}),
        "n",
        "Extra inputs are not permitted",
    );
    wrong(
        MESSAGES,
        json!({"temperature": 1.5}),
        "temperature",
        "less than or equal to 1",
    );
    wrong(
        MESSAGES,
        json!({"temperature": "null"}),
        "temperature",
        "valid number",
    );
    wrong(
        MESSAGES,
        json!({"stop_sequences": ["\n"]}),
        "stop_sequences.0",
        "non-whitespace",
    );
    wrong(
        MESSAGES,
        json!({"stream": "yes"}),
        "stream",
        "valid boolean",
    );
    wrong(
        MESSAGES,
        json!({"metadata": {"a": "b"}}),
        "metadata.a",
        "Extra",
    );
    wrong(
        MESSAGES,
        json!({"system": [{"type": "text", "text": ""}]}),
        "system.0.text",
        "non-empty",
    );
    let format = json!({"output_config": {"format": {"type": "json_object"}}});
    wrong(
        MESSAGES,
        format,
        "output_config.format.type",
        "'json_object'",
    );
    let count = "/v1/messages/count_tokens";
    let body = request(MESSAGES, &json!({}));
    let refused = check(Dialect::Anthropic, count, body.to_string().as_bytes());
    assert!(refused.unwrap_err().message.contains("max_tokens"));
}

#[test]
fn a_messages_blocks_are_checked() {
    let said = |block: Value| json!({"messages": [user(json!([block]))]});
    let image = |source: Value| said(json!({"type": "image", "source": source}));
    right(
        MESSAGES,
        image(json!({"type": "base64", "media_type": "image/png", "data": "aGk="})),
    );
    right(
        MESSAGES,
        image(json!({"type": "url", "url": "https://a/b.png"})),
    );
    right(
        MESSAGES,
        said(json!({"type": "text", "text": "a", "citations": null})),
    );
    let path = |rest: &str| format!("messages.0.content.0.{rest}");
    let text = json!({"type": "text", "text": ""});
    wrong(MESSAGES, said(text), &path("text"), "must be non-empty");
    wrong(
        MESSAGES,
        said(json!({"type": "image_url"})),
        &path("type"),
        "'image_url'",
    );
    let named = json!({"type": "text", "text": "a", "name": "b"});
    wrong(MESSAGES, said(named), &path("name"), "Extra");
    let svg = json!({"type": "base64", "media_type": "image/svg", "data": "aGk="});
    wrong(
        MESSAGES,
        image(svg),
        &path("source.media_type"),
        "image/png",
    );
    let data =
        json!({"type": "base64", "media_type": "image/png", "data": "data:image/png;base64,aGk="});
    wrong(MESSAGES, image(data), &path("source.data"), "base64");
    wrong(
        MESSAGES,
        image(json!({"type": "url", "url": "data:image/png;base64,aGk="})),
        &path("source.url"),
        "URL",
    );
    wrong(
        MESSAGES,
        json!({"messages": [user("")]}),
        "messages.0",
        "non-empty content",
    );
    let misplaced = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    wrong(
        MESSAGES,
        said(misplaced),
        "messages.0.content.0",
        "`assistant` messages",
    );
    let system = json!({"messages": [{"role": "tool", "content": "a"}]});
    wrong(MESSAGES, system, "messages.0.role", "'tool'");
}

#[test]
fn a_messages_tools_are_checked() {
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let with = |choice: Value| json!({"tools": [tool], "tool_choice": choice});
    right(
        MESSAGES,
        with(json!({"type": "any", "disable_parallel_tool_use": true})),
    );
    right(MESSAGES, with(json!({"type": "tool", "name": "f"})));
    right(
        MESSAGES,
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}),
    );
    wrong(
        MESSAGES,
        with(json!("auto")),
        "tool_choice",
        "valid dictionary",
    );
    wrong(
        MESSAGES,
        with(json!({"type": "required"})),
        "tool_choice.type",
        "'any'",
    );
    wrong(
        MESSAGES,
        with(json!({"type": "tool", "name": "g"})),
        "tool_choice",
        "not found",
    );
    wrong(
        MESSAGES,
        json!({"tool_choice": {"type": "auto"}}),
        "tool_choice",
        "while providing tools",
    );
    wrong(MESSAGES, json!({"tools": [tool, tool]}), "tools", "unique");
    let function = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    wrong(MESSAGES, function, "tools.0.type", "'function'");
    let long = json!({"tools": [{"name": "a".repeat(129), "input_schema": {"type": "object"}}]});
    wrong(MESSAGES, long, "tools.0.name", "pattern");
    wrong(
        MESSAGES,
        json!({"tools": [{"name": "f"}]}),
        "tools.0.input_schema",
        "required",
    );
    let untyped = json!({"tools": [{"name": "f", "input_schema": {}}]});
    wrong(MESSAGES, untyped, "tools.0.input_schema.type", "required");
}

#[test]
fn a_messages_calls_are_answered_at_the_start_of_the_next() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "3"});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let talk = |answer: Value| {
        let calling = assistant(json!([call("a"), call("b")]));
        json!({"messages": [user("hi"), calling, user(answer)]})
    };
    let text = json!({"type": "text", "text": "and?"});
    right(MESSAGES, talk(json!([result("b"), result("a"), text])));
    wrong(
        MESSAGES,
        talk(json!([result("a"), text, result("b")])),
        "messages.2",
        "immediately after: b",
    );
    wrong(
        MESSAGES,
        talk(json!("and?")),
        "messages.2",
        "immediately after: a, b",
    );
    let extra = talk(json!([result("a"), result("b"), result("c")]));
    wrong(
        MESSAGES,
        extra,
        "messages.2.content.2",
        "unexpected `tool_use_id`",
    );
    let last = json!({"messages": [user("hi"), assistant(json!([call("a")]))]});
    wrong(MESSAGES, last, "messages.1", "immediately after");
    let first = json!({"messages": [assistant(json!("a"))]});
    wrong(MESSAGES, first, "messages", "first message");
    let spaced = json!({"messages": [user("hi"), assistant(json!("a "))]});
    wrong(MESSAGES, spaced, "messages.1", "trailing whitespace");
    let colon = json!({"messages": [user("hi"), assistant(json!([call("a:1")]))]});
    wrong(MESSAGES, colon, "messages.1.content.0.id", "pattern");
    right(
        MESSAGES,
        json!({"messages": [user("hi"), assistant(json!(""))]}),
    );
}

#[test]
fn thinking_has_its_own_rules() {
    let think = |rest: Value| {
        let mut changes = json!({"max_tokens": 2000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
        for (name, value) in rest.as_object().unwrap() {
            changes[name] = value.clone();
        }
        changes
    };
    right(MESSAGES, think(json!({"temperature": 1})));
    right(MESSAGES, json!({"thinking": {"type": "adaptive"}}));
    let small = json!({"thinking": {"type": "enabled", "budget_tokens": 1000}});
    wrong(MESSAGES, think(small), "thinking.budget_tokens", "1024");
    wrong(
        MESSAGES,
        think(json!({"max_tokens": 1024})),
        "max_tokens",
        "greater than",
    );
    wrong(
        MESSAGES,
        think(json!({"temperature": 0.5})),
        "temperature",
        "set to 1",
    );
    wrong(MESSAGES, think(json!({"top_k": 3})), "top_k", "unset");
    let forced = json!({"tool_choice": {"type": "any"}});
    wrong(MESSAGES, think(forced), "tool_choice", "forces tool use");
    let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    let talk = |content: Value| {
        let result = json!([{"type": "tool_result", "tool_use_id": "a"}]);
        think(
            json!({"messages": [user("hi"), {"role": "assistant", "content": content}, user(result)]}),
        )
    };
    let thought = json!({"type": "thinking", "thinking": "t", "signature": "c2ln"});
    right(MESSAGES, talk(json!([thought, call])));
    wrong(
        MESSAGES,
        talk(json!([call])),
        "messages.1.content.0.type",
        "found `tool_use`",
    );
    let unsigned = json!({"type": "thinking", "thinking": "t", "signature": ""});
    wrong(
        MESSAGES,
        talk(json!([unsigned, call])),
        "messages.1.content.0.signature",
        "signature",
    );
}
