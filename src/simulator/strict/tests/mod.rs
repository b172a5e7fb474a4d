//! What each vendor takes and refuses, and in which words.

mod chat;
mod messages;
mod responses;

use serde_json::{Value, json};

use super::check;
use crate::simulator::fault::{Dialect, Fault};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// A request that is right, with `changes` to its top fields; null takes a field away, and the
/// string `"null"` makes it null.
fn request(path: &str, changes: &Value) -> Value {
    let mut body = match path {
        RESPONSES => json!({"model": "m", "input": "hi"}),
        MESSAGES => json!({"model": "m", "max_tokens": 100, "messages": [user("hi")]}),
        _ => json!({"model": "m", "messages": [user("hi")]}),
    };
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(name)),
            Value::String(text) if text == "null" => body[name] = Value::Null,
            value => body[name] = value.clone(),
        }
    }
    body
}

fn user(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}

fn checked(path: &str, changes: &Value) -> Result<(), Fault> {
    let dialect = match path {
        MESSAGES => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    };
    check(dialect, path, request(path, changes).to_string().as_bytes())
}

#[track_caller]
fn right(path: &str, changes: Value) {
    assert_eq!(checked(path, &changes), Ok(()), "{changes}");
}

/// OpenAI names the field at fault in `param`, Anthropic at the start of the message.
#[track_caller]
fn wrong(path: &str, changes: Value, field: &str, says: &str) {
    let fault = checked(path, &changes).expect_err("should be refused");
    assert_eq!(fault.status, 400);
    let found = match path {
        MESSAGES => fault.message.split(": ").next().unwrap_or_default(),
        _ => fault.param.as_deref().unwrap_or_default(),
    };
    assert_eq!(found, field, "{changes}: {}", fault.message);
    assert!(fault.message.contains(says), "{changes}: {}", fault.message);
}
