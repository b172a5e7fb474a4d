//! What an Anthropic provider is sent as `system` and `messages`.

use super::super::super::Dialect;
use super::super::super::form::{Part, PartKind, Role, Source};
use super::super::super::json::view::Lit;
use super::*;

#[test]
fn system_prompts_stand_in_front_wherever_they_stood() {
    let turns = |parts: Vec<Part<'static>>| {
        asked(vec![
            turn(Role::System, parts),
            turn(Role::User, vec![text("hi")]),
            turn(Role::Developer, vec![text("b\"")]),
            turn(Role::User, vec![text("there")]),
        ])
    };
    let messages = r#"[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"text","text":"there"}]}]"#;
    check_members(
        turns(vec![text("a"), text(" ")]),
        &["system", "messages"],
        &format!(r#""a\n\nb\"" {messages}"#),
        "",
    );
    check_members(
        turns(vec![cached("a")]),
        &["system", "messages"],
        &format!(
            r#"[{{"type":"text","text":"a","cache_control":{{"type":"ephemeral"}}}},{{"type":"text","text":"b\""}}] {messages}"#
        ),
        "",
    );
}

#[test]
fn users_and_assistants_take_turns_with_results_first() {
    check_members(
        asked(vec![
            turn(Role::User, vec![text("a"), text("")]),
            turn(Role::User, vec![cached("b")]),
            turn(Role::Assistant, vec![text("")]),
            turn(Role::User, vec![text("c")]),
            turn(Role::Assistant, vec![text("so "), call("x.1", "{\"q\":1}")]),
            turn(Role::Assistant, vec![call("y", "")]),
            turn(Role::User, vec![text("d")]),
            turn(Role::Tool, vec![result("x.1", vec![text("r")])]),
            turn(Role::Tool, vec![result("y", vec![text("")])]),
            turn(Role::Assistant, vec![text(" go on \n\t")]),
        ]),
        &["messages"],
        concat!(
            r#"[{"role":"user","content":[{"type":"text","text":"a"},"#,
            r#"{"type":"text","text":"b","cache_control":{"type":"ephemeral"}},{"type":"text","text":"c"}]},"#,
            r#"{"role":"assistant","content":[{"type":"text","text":"so "},"#,
            r#"{"type":"tool_use","id":"x_1","name":"f","input":{"q":1}},"#,
            r#"{"type":"tool_use","id":"y","name":"f","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"x_1","content":"r"},"#,
            r#"{"type":"tool_result","tool_use_id":"y"},{"type":"text","text":"d"}]},"#,
            r#"{"role":"assistant","content":" go on"}]"#,
        ),
        "",
    );
}

#[test]
fn a_conversation_with_nothing_to_say_is_refused() {
    let nothing = "'messages' has nothing to say";
    let system = turn(Role::System, vec![text("a")]);
    let blank = turn(Role::User, vec![text(" ")]);
    assert!(refused(vec![system, blank]).starts_with(nothing));
    // Longer than what is looked through for blanks at first.
    let long: &'static str = "\n".repeat(300).leak();
    let blanks = turn(Role::Assistant, vec![text(long), text(long)]);
    assert!(refused(vec![blanks]).starts_with(nothing));
}

#[test]
fn images_and_documents_keep_their_sources() {
    let image = |source, detail: &'static str| {
        Part::from(PartKind::Image {
            source,
            detail: Some(Lit::of(detail)),
        })
    };
    let document = |source| {
        Part::from(PartKind::Document {
            source,
            title: Some(Lit::of("T")),
            context: None,
        })
    };
    let data = || Source::Base64 {
        media_type: Lit::of("image/png"),
        data: Lit::of("iVB/"),
    };
    let parts = |detail| {
        let results = vec![text("r"), image(data(), "auto")];
        vec![
            image(Source::Url(Lit::of("https://x")), detail),
            document(Source::Text(Lit::of("t"))),
            result("x", results),
        ]
    };
    let written = concat!(
        r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"r"},"#,
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVB/"}}]},"#,
        r#"{"type":"image","source":{"type":"url","url":"https://x"}},"#,
        r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"t"},"title":"T"}]}]"#,
    );
    let user = |detail| asked(vec![turn(Role::User, parts(detail))]);
    check_members(user("auto"), &["messages"], written, "");
    let dropped = "messages[].content[].image_url.detail";
    check_members(user("high"), &["messages"], written, dropped);
    let file = |vendor| {
        let id = Lit::of("file-1");
        turn(
            Role::User,
            vec![text("a"), document(Source::File { vendor, id })],
        )
    };
    assert!(refused(vec![file(Dialect::Openai)]).starts_with("'messages[0].content[1]' is a file"));
    let (body, _) = written_for(&TARGET, asked(vec![file(Dialect::Anthropic)]));
    assert!(body.contains(r#""source":{"type":"file","file_id":"file-1"}"#));
}

#[test]
fn thoughts_go_back_only_with_their_signature() {
    let thought = |signature| {
        Part::from(PartKind::Thinking {
            text: Lit::of("hm"),
            signature,
        })
    };
    let parts = vec![
        thought(None),
        thought(Some(Lit::of("sig"))),
        PartKind::RedactedThinking(Lit::of("enc")).into(),
        PartKind::Refusal(Lit::of("no")).into(),
    ];
    check_members(
        asked(vec![turn(Role::Assistant, parts)]),
        &["messages"],
        concat!(
            r#"[{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"sig"},"#,
            r#"{"type":"redacted_thinking","data":"enc"},{"type":"text","text":"no"}]}]"#,
        ),
        "messages[].reasoning_content",
    );
}

#[test]
fn what_cannot_be_said_is_refused_with_its_place() {
    let check = |role, parts: Vec<Part<'static>>, expected: &str| {
        let hello = turn(Role::User, vec![text("hi")]);
        let error = refused(vec![hello, turn(role, parts)]);
        assert!(error.starts_with(expected), "{error}");
    };
    check(
        Role::Assistant,
        vec![text("a"), call("x", "{}"), call("y", "{\"a\":")],
        "'messages[1].tool_calls[1].function.arguments' is not a JSON object",
    );
    check(
        Role::System,
        vec![result("x", vec![])],
        "'messages[1].content[0]' must be a text",
    );
    check(
        Role::User,
        vec![text("a"), call("x", "{}")],
        "'messages[1].content[1]' cannot stand in a user's message",
    );
    check(
        Role::Assistant,
        vec![result("x", vec![])],
        "'messages[1].content[0]' cannot stand in an assistant's message",
    );
    check(
        Role::Tool,
        vec![result("x", vec![call("y", "{}")])],
        "'messages[1].content[0].content[0]' must be a text, image or document",
    );
}
