//! The behaviour `strict`: checks a request as the vendor's own validator does, and answers the
//! vendor's 400 for the first fault. Pure.
//!
//! A gateway that translates must never send what the vendor would refuse, so the scripted
//! provider has to refuse it too. The fields are those of the vendors' SDK types; the rules about
//! conversations are from their reference pages and their error messages. What is known to no
//! table here (server tools, their results) passes.
//!
//! `kind` is the language of the tables, `wording` the vendors' words, and there is a module for
//! each endpoint. Start at [`check`].

mod blocks;
mod chat;
mod kind;
mod messages;
mod openai;
mod responses;
mod wording;

#[cfg(test)]
mod tests;

use serde_json::Value;

use self::kind::Finding;
use super::fault::{Dialect, Fault};

/// Checks the body of a request to `path`.
///
/// # Errors
/// The vendor's 400 for the first thing that is wrong.
pub fn check(dialect: Dialect, path: &str, body: &[u8]) -> Result<(), Fault> {
    let rules: fn(&Value) -> Result<(), Finding> = match path {
        "/v1/chat/completions" => chat::check,
        "/v1/completions" => openai::check_completion,
        "/v1/embeddings" => openai::check_embeddings,
        "/v1/responses" => responses::check,
        "/v1/messages" => messages::check,
        "/v1/messages/count_tokens" => messages::check_count,
        _ => return Ok(()),
    };
    // serde_json refuses to nest deeper than 128 levels here.
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        let text = format!("We could not parse the JSON body of your request: {error}");
        Fault::new(400, text)
    })?;
    rules(&body).map_err(|finding| wording::fault(dialect, &finding))
}

/// The items of a list field, with their numbers; none if there is no such list.
fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter().flatten().enumerate()
}

/// The string in a field; empty if there is none.
fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a field is there and not null.
fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some_and(|value| !value.is_null())
}

/// Whether all of `text` is of letters, digits, `_` and `-`, and there is some of it.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.bytes().all(plain)
}

/// Whether `text` is base64 (RFC 4648 section 4), padded, and not empty.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    !digits.is_empty() && padding <= 2 && text.len().is_multiple_of(4) && digits.bytes().all(digit)
}

/// Whether `text` is an address that can be fetched.
fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !text.contains(char::is_whitespace))
}
