//! Tests of the codec that would crowd the files they test, and what they share.

mod any_input;
mod decoder;
mod read_request;
mod round_trip;
mod strategies;
mod write_content;
mod write_request;

use super::super::Dialect;
use super::super::form::{Arguments, Part, PartKind, Request, Role, Tool, Turn};
use super::super::json::view::{Lit, View};
use super::super::json::walk_object;
use super::super::translate::{About, StructuredOutput, Target};
use super::write_request as write;

const TARGET: Target<'_> = Target {
    model: "claude",
    default_max_tokens: 4096,
    structured_output: StructuredOutput::Native,
    sampling: true,
};

const ABOUT: About<'_> = About {
    now: 0,
    include_usage: true,
    provider: Dialect::Openai,
    response_id: "resp_1",
};

fn text(text: &'static str) -> Part<'static> {
    PartKind::Text(Lit::of(text)).into()
}

fn cached(text: &'static str) -> Part<'static> {
    Part {
        kind: PartKind::Text(Lit::of(text)),
        cache: Some(View::new(r#"{"type":"ephemeral"}"#)),
    }
}

fn call(id: &'static str, arguments: &'static str) -> Part<'static> {
    Part::from(PartKind::ToolCall {
        id: Lit::of(id),
        name: Lit::of("f"),
        arguments: Arguments::Text(Lit::of(arguments)),
    })
}

fn result(id: &'static str, content: Vec<Part<'static>>) -> Part<'static> {
    Part::from(PartKind::ToolResult {
        id: Lit::of(id),
        content,
        is_error: false,
    })
}

fn turn(role: Role, parts: Vec<Part<'static>>) -> Turn<'static> {
    Turn {
        role,
        name: None,
        parts,
    }
}

/// A request with `turns`, or with a greeting.
fn asked(turns: Vec<Turn<'static>>) -> Request<'static> {
    let greeting = || vec![turn(Role::User, vec![text("hi")])];
    Request {
        turns: if turns.is_empty() { greeting() } else { turns },
        ..Request::default()
    }
}

fn tool(name: &'static str) -> Tool<'static> {
    Tool {
        name: Lit::of(name),
        description: None,
        schema: None,
        strict: None,
        cache: None,
    }
}

/// What is written for `target`, and what is dropped.
fn written_for(target: &Target<'_>, mut request: Request<'_>) -> (String, String) {
    let body = String::from_utf8(write(&mut request, target).unwrap()).unwrap();
    walk_object(&body, |_| {}).unwrap();
    (body, request.dropped.to_string())
}

/// The members `names` of what is written, one after the other, and what is dropped.
fn check_members(request: Request<'_>, names: &[&str], expected: &str, dropped: &str) {
    check_for(&TARGET, request, names, expected, dropped);
}

fn check_for(
    target: &Target<'_>,
    request: Request<'_>,
    names: &[&str],
    expected: &str,
    dropped: &str,
) {
    let (body, names_dropped) = written_for(target, request);
    let of_body = |name: &&str| View::new(&body).get(name).map(View::text);
    let found: Vec<&str> = names.iter().filter_map(of_body).collect();
    assert_eq!(found.join(" "), expected);
    assert_eq!(names_dropped, dropped);
}

fn refused(turns: Vec<Turn<'static>>) -> String {
    write(&mut asked(turns), &TARGET).unwrap_err().to_string()
}
