//! What only OpenAI's dialect does: its error object, its model objects, its stream's marks.
//!
//! Sources: platform.openai.com/docs/api-reference, and what its Python SDK insists on. This file
//! knows no other dialect; what the two have in common is one level up.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::errors::{self, ApiError, Kind};
use super::stream::Mark;
use super::translate::kind_of;
use super::usage::Usage;

/// The `type` that goes with an error. Clients tell errors apart by status; these are the
/// vendor's own words for each.
const fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest | Kind::NotFound | Kind::TooLarge => "invalid_request_error",
        Kind::Authentication => "authentication_error",
        Kind::Permission => "permission_error",
        Kind::RateLimit => "rate_limit_error",
        Kind::Timeout => "timeout_error",
        Kind::Overloaded => "service_unavailable_error",
        Kind::Internal | Kind::Upstream => "server_error",
    }
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    r#type: &'static str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}

/// An error object as its vendor, or an imitator, has written it.
#[derive(Deserialize)]
struct ErrorRead<'a> {
    message: String,
    r#type: Option<Value>,
    #[serde(borrow)]
    param: Option<Cow<'a, str>>,
    code: Option<Value>,
}

/// `event: error` of a stream of [`Endpoint::Responses`](super::Endpoint::Responses).
pub(super) fn error_event(error: &ApiError, sequence_number: u64) -> String {
    write_event(&ErrorEvent {
        r#type: "error",
        code: error.code.unwrap_or(error_type(error.kind)),
        message: &error.message,
        param: error.param.as_deref(),
        sequence_number,
    })
}

/// As [`error_event`], of the object under `error` in an answer with `status`; `None` if that is not
/// as the vendor writes it.
pub(super) fn error_event_of(object: &str, status: u16) -> Option<String> {
    let error: ErrorRead<'_> = serde_json::from_str(object).ok()?;
    let written = [error.code, error.r#type].into_iter().flatten();
    let mut code = written.filter_map(|it| match it {
        Value::String(code) => Some(code),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    });
    Some(write_event(&ErrorEvent {
        r#type: "error",
        code: code
            .next()
            .as_deref()
            .unwrap_or(error_type(kind_of(status))),
        message: &error.message,
        param: error.param.as_deref(),
        sequence_number: 0,
    }))
}

fn write_event(event: &ErrorEvent<'_>) -> String {
    // Texts and nothing else: this cannot fail.
    let event = serde_json::to_string(event).unwrap_or_default();
    format!("event: error\ndata: {event}\n\n")
}

/// `{"error":{"message","type","param","code"}}`.
pub(super) fn error_json(error: &ApiError) -> String {
    let object = ErrorObject {
        message: &error.message,
        r#type: error_type(error.kind),
        param: error.param.as_deref(),
        code: error.code,
    };
    // Texts and nothing else: this cannot fail.
    let object = serde_json::to_string(&object).unwrap_or_default();
    format!("{{\"error\":{object}}}")
}

/// One object of `GET /v1/models`, and the body of `GET /v1/models/{id}`. When a model was made
/// is not known here, so `created` is the epoch.
#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> Model<'a> {
    const fn new(id: &'a str, owned_by: &'a str) -> Self {
        Self {
            id,
            object: "model",
            created: 0,
            owned_by,
        }
    }
}

/// The body of `GET /v1/models`: pairs of a model's name and who serves it.
pub fn models_list<'a>(models: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let data: Vec<Model<'_>> = models
        .into_iter()
        .map(|(id, owned_by)| Model::new(id, owned_by))
        .collect();
    json!({"object": "list", "data": data})
        .to_string()
        .into_bytes()
}

/// The body of `GET /v1/models/{id}`.
pub fn model(id: &str, owned_by: &str) -> Vec<u8> {
    json!(Model::new(id, owned_by)).to_string().into_bytes()
}

/// What an event with `data` says. Nearly every event is a delta, so a key is first looked for as
/// bytes, and only an event that has one is read. The bytes cannot be found within a delta's
/// text, since a quote is escaped there.
pub(super) fn mark(data: &[u8]) -> Mark {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
    static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
    static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
    let mut mark = Mark::default();
    // The vendor's SDK looks no further than this either.
    if data.starts_with(b"[DONE]") {
        mark.end = true;
        return mark;
    }
    let error = ERROR.find(data).is_some();
    let usage = any_value(&USAGE, data, b'{');
    if error || usage {
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
            return mark;
        };
        if let Some(error) = chunk.error
            && !matches!(error.get(), "null" | "false" | "{}" | "\"\"")
        {
            let reason = errors::provider_reason(data);
            mark.error = Some(reason.unwrap_or_else(|| "an error without a message".to_owned()));
        }
        mark.usage = chunk.usage.map(|usage| Usage::of_object(usage.get()));
    }
    mark.finish = any_value(&FINISH, data, b'"');
    mark
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// Whether any value of `key` begins with `first`. Every chunk names its usage and its finish
/// reason, and all but the last say `null`.
fn any_value(key: &Finder<'_>, data: &[u8], first: u8) -> bool {
    key.find_iter(data)
        .any(|at| value_start(&data[at + key.needle().len()..]) == Some(first))
}

/// The first byte of the value, given what follows its key.
fn value_start(after_key: &[u8]) -> Option<u8> {
    let after_colon = after_key.trim_ascii_start().strip_prefix(b":")?;
    after_colon.trim_ascii_start().first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_list_has_what_the_sdk_insists_on() {
        assert_eq!(
            String::from_utf8(models_list([("sim", "simulator")])).unwrap(),
            r#"{"data":[{"created":0,"id":"sim","object":"model","owned_by":"simulator"}],"object":"list"}"#
        );
        assert_eq!(
            String::from_utf8(model("a\"b", "x")).unwrap(),
            r#"{"created":0,"id":"a\"b","object":"model","owned_by":"x"}"#
        );
    }
}
