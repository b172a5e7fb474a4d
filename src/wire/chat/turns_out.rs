//! Writes a conversation as messages.
//!
//! A message of this dialect holds less than a turn of the form: what a tool returned is text
//! only, so its images follow in a message of the user's; and what a model thought has no place
//! at all. Start at [`write_turns`].

use super::content_out::{AT, Piece, content, note_cache, push_pieces};
use super::request_out::Notes;
use crate::wire::form::{Arguments, PartKind, Role, Turn};
use crate::wire::json::view::Lit;
use crate::wire::json::write::Writer;

/// Writes each turn as one message or more.
pub(super) fn write_turns(out: &mut Writer, turns: &[Turn<'_>], notes: &mut Notes) {
    for turn in turns {
        match turn.role {
            Role::System => instructions(out, "system", turn, notes),
            Role::Developer => instructions(out, "developer", turn, notes),
            Role::Assistant => assistant(out, turn, notes),
            Role::User | Role::Tool => user(out, turn, notes),
        }
    }
}

fn instructions(out: &mut Writer, role: &str, turn: &Turn<'_>, notes: &mut Notes) {
    let mut pieces = Vec::new();
    for part in &turn.parts {
        push_pieces(part, &mut pieces, notes);
    }
    texts_only(&pieces, notes);
    message(out, role, turn.name.as_ref(), &pieces);
}

fn texts_only(pieces: &[Piece<'_>], notes: &mut Notes) {
    if !pieces.iter().all(|it| matches!(it, Piece::Text { .. })) {
        notes.fault(
            AT,
            "is no text, and chat completions take only the user's images and documents",
        );
    }
}

/// What the user says and what tools return.
fn user(out: &mut Writer, turn: &Turn<'_>, notes: &mut Notes) {
    let (mut attached, mut own) = (Vec::new(), Vec::new());
    let mut answered = false;
    for part in &turn.parts {
        let PartKind::ToolResult {
            id,
            content,
            is_error,
        } = &part.kind
        else {
            push_pieces(part, &mut own, notes);
            continue;
        };
        answered = true;
        note_cache(part, notes);
        let mut pieces = Vec::new();
        for part in content {
            push_pieces(part, &mut pieces, notes);
        }
        tool_message(out, id, &pieces, *is_error);
        pieces.retain(|it| !matches!(it, Piece::Text { .. }));
        if !pieces.is_empty() {
            attached.push(Piece::Label(id));
            attached.append(&mut pieces);
        }
    }
    // Behind all results: a message between them would be one between a call and its result.
    attached.append(&mut own);
    if !attached.is_empty() || (turn.role == Role::User && !answered) {
        message(out, "user", turn.name.as_ref(), &attached);
    }
}

fn tool_message(out: &mut Writer, id: &Lit<'_>, pieces: &[Piece<'_>], is_error: bool) {
    let (error, line) = (Lit::of("Error: "), Lit::of("\n"));
    let mut lits: Vec<&Lit<'_>> = Vec::new();
    for piece in pieces {
        let Piece::Text { title, text } = piece else {
            continue;
        };
        for lit in title.iter().copied().chain([*text]) {
            if !lits.is_empty() {
                lits.push(&line);
            }
            lits.push(lit);
        }
    }
    if is_error {
        lits.insert(0, &error);
    }
    out.object(|out| {
        out.key("role").string("tool");
        out.key("tool_call_id").lit(id);
        out.key("content").joined(lits);
    });
}

fn message(out: &mut Writer, role: &str, name: Option<&Lit<'_>>, pieces: &[Piece<'_>]) {
    out.object(|out| {
        out.key("role").string(role);
        if let Some(name) = name {
            out.key("name").lit(name);
        }
        out.key("content");
        content(out, pieces);
    });
}

fn assistant(out: &mut Writer, turn: &Turn<'_>, notes: &mut Notes) {
    let (mut pieces, mut refusals, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for part in &turn.parts {
        match &part.kind {
            PartKind::Refusal(text) => refusals.push(text),
            PartKind::ToolCall {
                id,
                name,
                arguments,
            } => {
                note_cache(part, notes);
                calls.push((id, name, arguments));
            }
            _ => push_pieces(part, &mut pieces, notes),
        }
    }
    texts_only(&pieces, notes);
    out.object(|out| {
        out.key("role").string("assistant");
        if let Some(name) = &turn.name {
            out.key("name").lit(name);
        }
        out.key("content");
        // The vendor wants a content where there is nothing else, and servers that fill it into a
        // template want `null` and not the empty string where there is.
        if pieces.is_empty() && !(calls.is_empty() && refusals.is_empty()) {
            out.null();
        } else {
            content(out, &pieces);
        }
        if !refusals.is_empty() {
            out.key("refusal").joined(refusals);
        }
        if !calls.is_empty() {
            out.key("tool_calls").array(|out| {
                for (id, name, arguments) in calls {
                    tool_call(out, id, name, arguments);
                }
            });
        }
    });
}

/// One call of an assistant's message, in requests and answers alike.
pub(super) fn tool_call(out: &mut Writer, id: &Lit<'_>, name: &Lit<'_>, arguments: &Arguments<'_>) {
    out.object(|out| {
        out.key("id").lit(id);
        out.key("type").string("function");
        out.key("function").object(|out| {
            out.key("name").lit(name);
            let text = arguments.as_text();
            out.key("arguments");
            // Whoever reads it takes it for JSON, which nothing at all is not.
            if text.is_blank() {
                out.string("{}");
            } else {
                out.lit(&text);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Dialect;
    use crate::wire::form::PartKind as Kind;
    use crate::wire::form::{Part, Source};
    use crate::wire::json::view::View;

    fn write(role: Role, parts: Vec<Part<'_>>) -> (String, Notes) {
        let mut notes = Notes::default();
        let mut out = Writer::default();
        let turn = Turn {
            role,
            name: None,
            parts,
        };
        out.array(|out| write_turns(out, &[turn], &mut notes));
        (String::from_utf8(out.into_bytes()).unwrap(), notes)
    }

    /// Writes one turn and checks its messages and what is dropped.
    fn check(role: Role, kinds: Vec<Kind<'_>>, expected: &str, dropped: &str) {
        let (messages, notes) = write(role, kinds.into_iter().map(Part::from).collect());
        assert_eq!(messages, format!("[{expected}]"));
        assert_eq!(notes.dropped.to_string(), dropped);
        assert_eq!(notes.fault, None);
    }

    fn check_fault(role: Role, kind: Kind<'_>, expected: &str) {
        let (_, notes) = write(role, vec![kind.into()]);
        let why = notes.fault.unwrap().why;
        assert!(why.contains(expected), "{why}");
    }

    fn text(text: &str) -> Kind<'_> {
        Kind::Text(Lit::of(text))
    }

    fn image(source: Source<'_>) -> Kind<'_> {
        let detail = None;
        Kind::Image { source, detail }
    }

    fn base64<'a>(media_type: &'a str, data: &'a str) -> Source<'a> {
        Source::Base64 {
            media_type: Lit::of(media_type),
            data: Lit::of(data),
        }
    }

    fn document(source: Source<'static>, title: Option<&'static str>) -> Kind<'static> {
        Kind::Document {
            source,
            title: title.map(Lit::of),
            context: None,
        }
    }

    fn result<'a>(id: &'a str, content: Vec<Kind<'a>>, is_error: bool) -> Kind<'a> {
        Kind::ToolResult {
            id: Lit::of(id),
            content: content.into_iter().map(Part::from).collect(),
            is_error,
        }
    }

    fn call<'a>(id: &'a str, json: &'a str) -> Kind<'a> {
        Kind::ToolCall {
            id: Lit::of(id),
            name: Lit::of("f"),
            arguments: Arguments::Json(json.into()),
        }
    }

    #[test]
    fn one_text_is_a_string_and_several_are_a_list() {
        check(
            Role::System,
            vec![text("a")],
            r#"{"role":"system","content":"a"}"#,
            "",
        );
        check(
            Role::Developer,
            vec![text("a\n"), text("b")],
            r#"{"role":"developer","content":[{"type":"text","text":"a\n"},{"type":"text","text":"b"}]}"#,
            "",
        );
        check(Role::User, vec![], r#"{"role":"user","content":""}"#, "");
        let cached = Part {
            kind: text("a"),
            cache: Some(View::new("{}")),
        };
        let (messages, notes) = write(Role::User, vec![cached]);
        assert_eq!(messages, r#"[{"role":"user","content":"a"}]"#);
        assert_eq!(notes.dropped.to_string(), "cache_control");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let file = |vendor| Source::File {
            vendor,
            id: Lit::of("f"),
        };
        let url = || Source::Url(Lit::of("https://x"));
        check_fault(Role::User, document(url(), None), "by URL");
        check_fault(
            Role::User,
            document(file(Dialect::Anthropic), None),
            "another vendor's",
        );
        check_fault(Role::User, image(file(Dialect::Openai)), "file's id");
        check_fault(Role::System, image(url()), "is no text");
        check_fault(Role::Assistant, image(url()), "is no text");
        check_fault(Role::User, call("1", "{}"), "no assistant");
        check_fault(Role::Assistant, result("1", vec![], false), "tool result");
        let nested = result("1", vec![document(url(), None)], false);
        check_fault(Role::Tool, nested, "by URL");
    }

    #[test]
    fn an_assistant_that_only_calls_tools_says_null() {
        check(
            Role::Assistant,
            vec![call("1", r#"{"a":"b"}"#), call("2", "")],
            concat!(
                r#"{"role":"assistant","content":null,"tool_calls":["#,
                r#"{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":\"b\"}"}},"#,
                r#"{"id":"2","type":"function","function":{"name":"f","arguments":"{}"}}]}"#
            ),
            "",
        );
        check(
            Role::Assistant,
            vec![text("a"), call("1", "{}")],
            r#"{"role":"assistant","content":"a","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            "",
        );
        check(
            Role::Assistant,
            vec![Kind::Refusal(Lit::of("no"))],
            r#"{"role":"assistant","content":null,"refusal":"no"}"#,
            "",
        );
    }

    #[test]
    fn thoughts_stay_behind() {
        let thought = Kind::Thinking {
            text: Lit::of("hm"),
            signature: Some(Lit::of("s")),
        };
        check(
            Role::Assistant,
            vec![thought, Kind::RedactedThinking(Lit::of("x")), text("a")],
            r#"{"role":"assistant","content":"a"}"#,
            "messages[].thinking",
        );
        check(
            Role::Assistant,
            vec![Kind::RedactedThinking(Lit::of("x"))],
            r#"{"role":"assistant","content":""}"#,
            "messages[].thinking",
        );
    }

    #[test]
    fn each_result_is_a_message_and_its_images_follow_behind_all() {
        check(
            Role::Tool,
            vec![
                result(
                    "1",
                    vec![text("a"), image(base64("image/png", "iV")), text("b")],
                    false,
                ),
                result("2", vec![], false),
                result("3", vec![text("bad")], true),
            ],
            concat!(
                r#"{"role":"tool","tool_call_id":"1","content":"a\nb"},"#,
                r#"{"role":"tool","tool_call_id":"2","content":""},"#,
                r#"{"role":"tool","tool_call_id":"3","content":"Error: bad"},"#,
                r#"{"role":"user","content":[{"type":"text","text":"[content of tool result 1]"},"#,
                r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iV"}}]}"#
            ),
            "",
        );
        check(
            Role::User,
            vec![text("go on"), result("1", vec![text("a")], false)],
            r#"{"role":"tool","tool_call_id":"1","content":"a"},{"role":"user","content":"go on"}"#,
            "",
        );
    }
}
