//! What is read from a caller who speaks Anthropic's dialect.

use super::super::super::Dialect;
use super::super::super::form::{
    Arguments, Format, Part, PartKind, Reasoning, Request, Role, Source, Thinking, Tool,
    ToolChoice, Turn, Untranslatable,
};
use super::super::super::json::view::{Lit, View};
use super::super::super::json::walk_object;
use super::super::read_request;
use super::{call, result, text, turn};

fn read(body: &str) -> Result<Request<'_>, Untranslatable> {
    walk_object(body, |_| {}).unwrap();
    read_request(View::new(body))
}

/// Reads a body with `members` beside a greeting.
fn read_with(members: &str) -> Result<Request<'static>, Untranslatable> {
    let body = format!(
        r#"{{"model":"claude","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}],{members}}}"#
    );
    read(body.leak())
}

/// Reads a conversation of `messages`.
fn check_turns(messages: &str, expected: Vec<Turn<'static>>, dropped: &str) {
    let body = format!(r#"{{"messages":[{messages}]}}"#);
    let request = read(&body).unwrap();
    assert_eq!(request.turns, expected);
    assert_eq!(request.dropped.to_string(), dropped);
}

/// Reads the one user's message that has `content`.
fn check_user(content: &str, expected: Vec<Part<'static>>, dropped: &str) {
    let message = format!(r#"{{"role":"user","content":[{content}]}}"#);
    check_turns(&message, vec![turn(Role::User, expected)], dropped);
}

#[test]
fn every_member_finds_its_place() {
    let request = read_with(
        r#""temperature":0.5,"top_p":0.9,"top_k":5,"stop_sequences":["a","b\n"],"stream":true,
        "metadata":{"user_id":"u","x":1},"service_tier":"auto","container":null,"new_member":[1]"#,
    )
    .unwrap();
    let expected = Request {
        turns: vec![turn(Role::User, vec![text("hi")])],
        max_tokens: Some(9),
        temperature: Some(View::new("0.5")),
        top_p: Some(View::new("0.9")),
        top_k: Some(View::new("5")),
        stop: vec![Lit::of("a"), Lit::of("b\n")],
        stream: true,
        include_usage: true,
        user: Some(Lit::of("u")),
        extra: request.extra.clone(),
        dropped: request.dropped.clone(),
        ..Request::default()
    };
    assert_eq!(request, expected);
    assert_eq!(request.dropped.to_string(), "metadata.x");
    let extra: Vec<_> = request
        .extra
        .iter()
        .map(|it| (it.vendor, it.name.as_ref(), it.value.text()))
        .collect();
    assert_eq!(
        extra,
        [
            (Dialect::Anthropic, "service_tier", r#""auto""#),
            (Dialect::Anthropic, "new_member", "[1]"),
        ]
    );
}

#[test]
fn system_prompts_come_first_and_in_between() {
    let check = |system: &str, expected: Vec<Part<'static>>| {
        let turns = read_with(&format!(r#""system":{system}"#)).unwrap().turns;
        let greeting = turn(Role::User, vec![text("hi")]);
        let system = turn(Role::System, expected);
        let all = [system, greeting].into_iter();
        let expected: Vec<_> = all.filter(|turn| !turn.parts.is_empty()).collect();
        assert_eq!(turns, expected);
    };
    check(r#""a""#, vec![text("a")]);
    check(r#""""#, vec![]);
    check("[]", vec![]);
    check("null", vec![]);
    check(
        r#"[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]"#,
        vec![text("a"), super::cached("b")],
    );
    check_turns(
        r#"{"role":"user","content":"a"},{"role":"system","content":[{"type":"text","text":"b"}]}"#,
        vec![
            turn(Role::User, vec![text("a")]),
            turn(Role::System, vec![text("b")]),
        ],
        "",
    );
}

#[test]
fn results_of_tools_have_a_turn_of_their_own_before_what_the_user_says() {
    let with_error = Part::from(PartKind::ToolResult {
        id: Lit::of("z"),
        content: vec![text("r"), text("s")],
        is_error: true,
    });
    check_turns(
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"x","content":"r"},
        {"type":"text","text":"b","citations":null},{"type":"tool_result","tool_use_id":"y"},
        {"type":"tool_result","tool_use_id":"z","is_error":true,"content":[{"type":"text","text":"r"},{"type":"text","text":"s"}]}]}"#,
        vec![
            turn(
                Role::Tool,
                vec![
                    result("x", vec![text("r")]),
                    result("y", vec![]),
                    with_error,
                ],
            ),
            turn(Role::User, vec![text("a"), text("b")]),
        ],
        "",
    );
}

#[test]
fn an_assistants_turn_has_thoughts_texts_and_calls() {
    let thought = |signature| {
        Part::from(PartKind::Thinking {
            text: Lit::of("hm"),
            signature,
        })
    };
    let mut tool_call = call("x", "");
    if let PartKind::ToolCall { arguments, .. } = &mut tool_call.kind {
        *arguments = Arguments::Json(r#"{ "q": 1 }"#.into());
    }
    check_turns(
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"sig"},
        {"type":"thinking","thinking":"hm","signature":""},{"type":"redacted_thinking","data":"enc"},
        {"type":"text","text":"a","citations":[{"type":"char_location"}]},
        {"type":"tool_use","id":"x","name":"f","input":{ "q": 1 },"caller":{"type":"direct"}}]},
        {"role":"assistant","content":[]},{"role":"assistant","content":"b"}"#,
        vec![
            turn(
                Role::Assistant,
                vec![
                    thought(Some(Lit::of("sig"))),
                    thought(None),
                    PartKind::RedactedThinking(Lit::of("enc")).into(),
                    text("a"),
                    tool_call,
                ],
            ),
            turn(Role::Assistant, vec![text("b")]),
        ],
        "messages[].content[].citations",
    );
}

#[test]
fn images_and_documents_keep_their_sources() {
    let image = |source| {
        Part::from(PartKind::Image {
            source,
            detail: None,
        })
    };
    let document = |source, title: Option<&'static str>| {
        Part::from(PartKind::Document {
            source,
            title: title.map(Lit::of),
            context: None,
        })
    };
    let data = |media_type| Source::Base64 {
        media_type: Lit::of(media_type),
        data: Lit::escaped("JVBE\\/"),
    };
    let file = Source::File {
        vendor: Dialect::Anthropic,
        id: Lit::of("f"),
    };
    check_user(
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"JVBE\/"}},
        {"type":"image","source":{"type":"url","url":"https://x"},"transformations":{"oversized_image":"error"}},
        {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE\/"},"title":"T","citations":{"enabled":true}},
        {"type":"document","source":{"type":"text","media_type":"text/plain","data":"t"}},
        {"type":"document","source":{"type":"file","file_id":"f"}}"#,
        vec![
            image(data("image/png")),
            image(Source::Url(Lit::of("https://x"))),
            document(data("application/pdf"), Some("T")),
            document(Source::Text(Lit::of("t")), None),
            document(file, None),
        ],
        "messages[].content[].transformations, messages[].content[].citations",
    );
}

#[test]
fn a_document_of_blocks_becomes_one_text_or_its_parts() {
    check_user(
        r#"{"type":"document","source":{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}"#,
        vec![
            PartKind::Document {
                source: Source::Text(Lit::of("a\nb")),
                title: None,
                context: None,
            }
            .into(),
        ],
        "",
    );
    let image = PartKind::Image {
        source: Source::Url(Lit::of("u")),
        detail: None,
    };
    check_user(
        r#"{"type":"document","title":"T","context":"C","cache_control":{"type":"ephemeral"},"source":{"type":"content","content":[
        {"type":"text","text":"a"},{"type":"image","source":{"type":"url","url":"u"}}]}}"#,
        vec![
            text("T"),
            text("C"),
            text("a"),
            Part {
                kind: image,
                cache: Some(View::new(r#"{"type":"ephemeral"}"#)),
            },
        ],
        "",
    );
}

#[test]
fn a_search_result_becomes_a_text() {
    check_user(
        r#"{"type":"search_result","title":"T","source":"https://x","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
        vec![text("T\nhttps://x\na\nb")],
        "",
    );
}

#[test]
fn tools_of_the_callers_are_read_and_anthropics_own_are_named() {
    let request = read_with(
        r#""tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"strict":true,
        "cache_control":{"type":"ephemeral"},"defer_loading":false,"input_examples":[{}]},
        {"type":"web_search_20260318","name":"web_search"},{"type":"custom","name":"g","input_schema":{}}],
        "tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true}"#,
    )
    .unwrap();
    let first = Tool {
        name: Lit::of("f"),
        description: Some(Lit::of("d")),
        schema: Some(View::new(r#"{"type":"object"}"#)),
        strict: Some(true),
        cache: Some(View::new(r#"{"type":"ephemeral"}"#)),
    };
    let second = Tool {
        schema: Some(View::new("{}")),
        ..super::tool("g")
    };
    assert_eq!(request.tools, [first, second]);
    assert_eq!(request.tool_choice, Some(ToolChoice::Named(Lit::of("f"))));
    assert_eq!(request.parallel_tools, Some(false));
    assert_eq!(
        request.dropped.to_string(),
        "tools[].input_examples, tools[].web_search_20260318"
    );
}

#[test]
fn a_choice_of_tools_is_kept_unless_only_anthropic_has_them() {
    const F: &str = r#"{"name":"f","input_schema":{}}"#;
    const OWN: &str = r#"{"type":"web_search_20260318","name":"web_search"}"#;
    let choice = |tools: &str, choice: &str| {
        let members = format!(r#""tools":[{tools}],"tool_choice":{choice}"#);
        read_with(&members).map(|request| (request.tool_choice, request.parallel_tools))
    };
    let check = |tools: &str, asked: &str, expected: Option<ToolChoice<'static>>| {
        assert_eq!(choice(tools, asked), Ok((expected, None)));
    };
    check(F, r#"{"type":"auto"}"#, Some(ToolChoice::Auto));
    check(F, r#"{"type":"any"}"#, Some(ToolChoice::Required));
    check(F, r#"{"type":"none"}"#, Some(ToolChoice::None));
    let with_own = format!("{F},{OWN}");
    check(&with_own, r#"{"type":"any"}"#, Some(ToolChoice::Required));
    check(
        OWN,
        r#"{"type":"auto","disable_parallel_tool_use":true}"#,
        None,
    );
    for (tools, asked) in [
        (OWN, r#"{"type":"any"}"#),
        (&with_own, r#"{"type":"tool","name":"web_search"}"#),
    ] {
        assert_eq!(choice(tools, asked).unwrap_err().at, "tool_choice");
    }
}

#[test]
fn thinking_effort_and_format_are_read() {
    let check = |members: &str, effort: Option<&'static str>, thinking, dropped: &str| {
        let request = read_with(members).unwrap();
        let reasoning = Reasoning {
            effort: effort.map(Lit::of),
            thinking,
        };
        assert_eq!(request.reasoning.unwrap_or_default(), reasoning);
        assert_eq!(request.dropped.to_string(), dropped);
    };
    check(
        r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
        None,
        Some(Thinking::Budget(1024)),
        "",
    );
    check(
        r#""thinking":{"type":"adaptive","display":"omitted"},"output_config":{"effort":"max","x":1}"#,
        Some("max"),
        Some(Thinking::Adaptive),
        "thinking.display, output_config.x",
    );
    check(
        r#""thinking":{"type":"disabled"},"output_config":{"effort":null}"#,
        None,
        Some(Thinking::Disabled),
        "",
    );
    check(
        r#""thinking":{"type":"between_tools"}"#,
        None,
        None,
        "thinking.between_tools",
    );
    let format = r#""output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#;
    let request = read_with(format).unwrap();
    let expected = Format::JsonSchema {
        name: None,
        description: None,
        schema: View::new(r#"{"type":"object"}"#),
        strict: None,
    };
    assert_eq!((request.format, request.reasoning), (Some(expected), None));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let check = |body: &str, expected: &str| {
        let error = read(body).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check("{}", "'messages' is missing, it must be a list of messages");
    check(
        r#"{"messages":"hi"}"#,
        "'messages' must be a list of messages",
    );
    check(
        r#"{"messages":[]}"#,
        "'messages' must hold at least one message",
    );
    let message = |message: &str, expected: &str| {
        let hello = r#"{"role":"user","content":"hi"}"#;
        check(&format!(r#"{{"messages":[{hello},{message}]}}"#), expected);
    };
    message("[]", "'messages[1]' must be an object");
    message(
        r#"{"role":"tool","content":""}"#,
        "'messages[1].role' must be one of user, assistant, system",
    );
    message(
        r#"{"role":"user"}"#,
        "'messages[1].content' is missing, it must be a string or a list of content blocks",
    );
    let user = |block: &str, expected: &str| {
        let expected = format!("'messages[1].content[0]{expected}");
        message(
            &format!(r#"{{"role":"user","content":[{block}]}}"#),
            &expected,
        );
    };
    user("5", "' must be an object");
    user("{}", ".type' is missing, it must be one of text, image,");
    user(
        r#"{"type":"thinking"}"#,
        ".type' must be one of text, image, document, search_result, tool_result here",
    );
    user(
        r#"{"type":"web_search_tool_result"}"#,
        ".type' is 'web_search_tool_result', which belongs to Anthropic's own tools",
    );
    user(r#"{"type":"text"}"#, ".text' is missing");
    user(
        r#"{"type":"image","source":{"type":"text","data":""}}"#,
        ".source.type' must be one of base64, url, file",
    );
    user(
        r#"{"type":"tool_result","tool_use_id":"x","content":[{"type":"tool_result"}]}"#,
        ".content[0].type' must be one of text, image, document, search_result here",
    );
}

#[test]
fn a_member_of_the_wrong_shape_is_named() {
    let check = |members: &str, expected: &str| {
        let error = read_with(members).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        r#""max_tokens":"9""#,
        "'max_tokens' must be a whole number from 0 up",
    );
    check(r#""temperature":"hot""#, "'temperature' must be a number");
    check(
        r#""stop_sequences":["a",1]"#,
        "'stop_sequences[1]' must be a string",
    );
    check(r#""stream":1"#, "'stream' must be true or false");
    check(
        r#""tools":[{"name":"f"}]"#,
        "'tools[0].input_schema' is missing",
    );
    check(
        r#""tool_choice":{"type":"some"}"#,
        "'tool_choice.type' must be one of auto, any, tool, none",
    );
    check(
        r#""thinking":{"type":"enabled"}"#,
        "'thinking.budget_tokens' is missing",
    );
    check(
        r#""output_config":{"format":{"type":"text"}}"#,
        "'output_config.format.type' must be json_schema",
    );
}
