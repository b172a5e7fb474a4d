//! What an Anthropic provider is sent beside the conversation.

use super::super::super::Dialect;
use super::super::super::form::{Dropped, Extra, Format, Reasoning, Thinking, Tool, ToolChoice};
use super::super::super::json::view::{Lit, View};
use super::super::super::translate::{JSON_TOOL, StructuredOutput, Target};
use super::{TARGET, asked, check_for, check_members, tool, written_for};

fn schema(description: Option<&'static str>) -> Format<'static> {
    Format::JsonSchema {
        name: Some(Lit::of("answer")),
        description: description.map(Lit::of),
        schema: View::new(r#"{"type":"object","properties":{"a":{}}}"#),
        strict: Some(true),
    }
}

#[test]
fn a_plain_request_is_a_plain_body() {
    let mut request = asked(vec![]);
    request.stream = true;
    request.stop = vec![Lit::of("END"), Lit::of("\n")];
    request.user = Some(Lit::of("u"));
    request.top_k = Some(View::new("5"));
    let (body, dropped) = written_for(&TARGET, request);
    assert_eq!(
        body,
        concat!(
            r#"{"model":"claude","max_tokens":4096,"stream":true,"messages":[{"role":"user","content":"hi"}],"#,
            r#""top_k":5,"stop_sequences":["END"],"metadata":{"user_id":"u"}}"#,
        )
    );
    assert_eq!(dropped, "stop");
}

#[test]
fn a_schema_is_that_of_an_object_and_says_so() {
    let check = |schema: Option<&'static str>, expected: &str| {
        let mut request = asked(vec![]);
        request.tools.push(Tool {
            description: Some(Lit::of("d")),
            schema: schema.map(View::new),
            strict: Some(true),
            cache: Some(View::new(r#"{"type":"ephemeral"}"#)),
            ..tool("f")
        });
        let expected = format!(
            r#"[{{"name":"f","description":"d","input_schema":{expected},"strict":true,"cache_control":{{"type":"ephemeral"}}}}]"#
        );
        check_members(request, &["tools", "tool_choice"], &expected, "");
    };
    check(None, r#"{"type":"object","properties":{}}"#);
    check(Some("true"), r#"{"type":"object","properties":{}}"#);
    check(Some(r#"{"type": "object"}"#), r#"{"type": "object"}"#);
    check(
        Some(r#"{"type":["object","null"],"properties":{"type":1}}"#),
        r#"{"type":"object","properties":{"type":1}}"#,
    );
    check(Some("{}"), r#"{"type":"object"}"#);
}

#[test]
fn which_tool_is_called_is_said_in_anthropics_words() {
    let check = |choice, parallel, expected: &str| {
        let mut request = asked(vec![]);
        request.tool_choice = choice;
        request.parallel_tools = parallel;
        check_members(request.clone(), &["tool_choice"], "", "");
        request.tools.push(tool("f"));
        check_members(request, &["tool_choice"], expected, "");
    };
    check(None, None, "");
    check(None, Some(true), "");
    check(
        None,
        Some(false),
        r#"{"type":"auto","disable_parallel_tool_use":true}"#,
    );
    check(Some(ToolChoice::Auto), None, r#"{"type":"auto"}"#);
    check(Some(ToolChoice::None), Some(false), r#"{"type":"none"}"#);
    check(
        Some(ToolChoice::Required),
        Some(false),
        r#"{"type":"any","disable_parallel_tool_use":true}"#,
    );
    check(
        Some(ToolChoice::Named(Lit::of("f"))),
        None,
        r#"{"type":"tool","name":"f"}"#,
    );
}

#[test]
fn sampling_keeps_to_what_anthropic_takes() {
    let check = |temperature: Option<&str>, top_p: Option<&str>, expected: &str, dropped: &str| {
        let mut request = asked(vec![]);
        request.temperature = temperature.map(View::new);
        request.top_p = top_p.map(View::new);
        check_members(request, &["temperature", "top_p"], expected, dropped);
    };
    check(Some("0.50"), None, "0.50", "");
    check(Some("1.5"), None, "1", "temperature");
    check(None, Some("0.9"), "0.9", "");
    check(Some("0.5"), Some("1"), "0.5", "");
    check(Some("0.5"), Some("0.9"), "0.5", "top_p");
}

#[test]
fn what_anthropic_has_no_word_for_is_named() {
    let number = Some(View::new("1"));
    let zero = Some(View::new("0"));
    let mut request = asked(vec![]);
    request.turns[0].name = Some(Lit::of("Ann"));
    request.frequency_penalty = number;
    request.presence_penalty = zero;
    request.seed = number;
    request.n = Some(2);
    request.logprobs = Some(true);
    request.top_logprobs = number;
    request.verbosity = Some(Lit::of("low"));
    for (vendor, name) in [
        (Dialect::Openai, "store"),
        (Dialect::Anthropic, "container"),
    ] {
        request.extra.push(Extra {
            vendor,
            name: name.into(),
            value: View::new("true"),
        });
    }
    let mut before = Dropped::default();
    before.note("first");
    request.dropped = before;
    check_members(
        request,
        &["container"],
        "true",
        "first, messages[].name, frequency_penalty, seed, n, logprobs, top_logprobs, verbosity, store",
    );
    let mut request = asked(vec![]);
    request.n = Some(1);
    request.logprobs = Some(false);
    request.top_logprobs = zero;
    check_members(request, &[], "", "");
}

#[test]
fn effort_becomes_thinking_and_what_does_not_go_with_it_gives_way() {
    let check = |effort: Option<&'static str>, thinking, expected: &str, thinks: bool| {
        let mut request = asked(vec![]);
        request.reasoning = Some(Reasoning {
            effort: effort.map(Lit::of),
            thinking,
        });
        request.max_tokens = Some(100);
        request.temperature = Some(View::new("0.5"));
        request.top_k = Some(View::new("5"));
        request.tools.push(tool("f"));
        request.tool_choice = Some(ToolChoice::Required);
        let names = ["thinking", "output_config", "max_tokens", "tool_choice"];
        let (choice, dropped) = if thinks {
            ("auto", "tool_choice, temperature, top_k")
        } else {
            ("any", "")
        };
        let expected = format!(r#"{expected} {{"type":"{choice}"}}"#);
        check_members(request, &names, &expected, dropped);
    };
    check(Some("none"), None, r#"{"type":"disabled"} 100"#, false);
    let low = r#"{"type":"adaptive"} {"effort":"low"} 100"#;
    check(Some("minimal"), None, low, true);
    check(Some("low"), None, low, true);
    check(
        Some("xhigh"),
        Some(Thinking::Disabled),
        r#"{"type":"disabled"} {"effort":"xhigh"} 100"#,
        false,
    );
    check(
        None,
        Some(Thinking::Budget(1024)),
        r#"{"type":"enabled","budget_tokens":1024} 1124"#,
        true,
    );
    check(
        None,
        Some(Thinking::Budget(50)),
        r#"{"type":"enabled","budget_tokens":50} 100"#,
        true,
    );
}

#[test]
fn a_model_that_thinks_keeps_a_temperature_of_one_and_a_top_p_close_to_it() {
    let check = |temperature: Option<&str>, top_p: Option<&str>, expected: &str, dropped: &str| {
        let mut request = asked(vec![]);
        request.temperature = temperature.map(View::new);
        request.top_p = top_p.map(View::new);
        request.reasoning = Some(Reasoning {
            effort: None,
            thinking: Some(Thinking::Adaptive),
        });
        check_members(request, &["temperature", "top_p"], expected, dropped);
    };
    check(Some("1.0"), None, "1.0", "");
    check(Some("0.3"), Some("0.96"), "0.96", "temperature");
    check(None, Some("0.9"), "", "top_p");
}

#[test]
fn an_answer_in_json_is_asked_for_natively_or_by_a_tool() {
    const BY_TOOL: Target<'_> = Target {
        structured_output: StructuredOutput::Tool,
        ..TARGET
    };
    let names = ["tools", "tool_choice", "output_config"];
    let check = |target: &Target<'_>, format, expected: &str, dropped: &str| {
        let mut request = asked(vec![]);
        request.format = Some(format);
        check_for(target, request, &names, expected, dropped);
    };
    let native =
        r#"{"format":{"type":"json_schema","schema":{"type":"object","properties":{"a":{}}}}}"#;
    check(&TARGET, schema(None), native, "");
    let description = "response_format.json_schema.description";
    check(&TARGET, schema(Some("d")), native, description);
    let tool = |description: &str, schema: &str| {
        format!(
            r#"[{{"name":"{JSON_TOOL}","description":"{description}","input_schema":{schema}}}] {{"type":"tool","name":"{JSON_TOOL}"}}"#
        )
    };
    let by_tool = tool("d", r#"{"type":"object","properties":{"a":{}}}"#);
    check(&BY_TOOL, schema(Some("d")), &by_tool, "");
    let any = tool(
        "Gives the answer. Call it exactly once, with the whole answer as its arguments.",
        r#"{"type":"object","additionalProperties":true}"#,
    );
    check(&TARGET, Format::JsonObject, &any, "");
}

#[test]
fn the_tool_for_json_goes_with_others_and_with_thinking() {
    let check = |tools: &[&'static str], choice, thinks: bool, expected: &str, dropped: &str| {
        let mut request = asked(vec![]);
        request.format = Some(Format::JsonObject);
        request.tools = tools.iter().map(|name| tool(name)).collect();
        request.tool_choice = choice;
        request.reasoning = thinks.then_some(Reasoning {
            effort: None,
            thinking: Some(Thinking::Adaptive),
        });
        check_members(request, &["tool_choice"], expected, dropped);
    };
    let answer = r#"{"type":"tool","name":"json_answer"}"#;
    let auto = r#"{"type":"auto"}"#;
    let any = r#"{"type":"any"}"#;
    let f = || Some(ToolChoice::Named(Lit::of("f")));
    check(&["f"], None, false, any, "");
    check(&["f"], f(), false, r#"{"type":"tool","name":"f"}"#, "");
    check(&["f"], Some(ToolChoice::None), false, answer, "");
    check(&[], None, true, auto, "");
    check(&["f"], f(), true, auto, "tool_choice");
}
