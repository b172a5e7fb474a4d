//! What went wrong, in the words and the shape of the dialect that was spoken.
//!
//! Clients tell errors apart by status and `type`, operators by the message, which says what was
//! wrong and what to do. Nothing here may carry a key, a URL or a stack: messages are written by
//! us, or are a provider's own reason that [`provider_reason`] has cut to size.
//!
//! Start at [`ApiError`]; [`error_body`] and [`in_band_error`] put it into bytes; `late.rs` makes
//! an event of what was an answer.

mod late;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::form::Untranslatable;
use super::request::ScanError;
use super::{Dialect, Endpoint, anthropic, openai};

pub use late::event_of_answer;

/// Bytes of a provider's own reason that are passed on.
pub const REASON_BYTES_MAX: usize = 512;

/// What kind of thing went wrong; decides the default status and the `type` in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 400: bad JSON or a bad field, and any 4xx without a kind of its own.
    InvalidRequest,
    /// 401: no key, or an unknown one.
    Authentication,
    /// 403: a known key that may not.
    Permission,
    /// 404: no such route or model.
    NotFound,
    /// 413: the body is over the limit.
    TooLarge,
    /// 429: too many calls.
    RateLimit,
    /// 500: our own fault.
    Internal,
    /// 502: the provider failed.
    Upstream,
    /// 503: the queue is full, or we are draining.
    Overloaded,
    /// 504, or 408: the deadline passed.
    Timeout,
}

impl Kind {
    /// The status that goes with the kind.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimit => 429,
            Self::Internal => 500,
            Self::Upstream => 502,
            Self::Overloaded => 503,
            Self::Timeout => 504,
        }
    }

    /// The `error_type` in logs and the reason label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::RateLimit => "rate_limit",
            Self::Internal => "internal",
            Self::Upstream => "upstream",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
        }
    }
}

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What kind of thing went wrong.
    pub kind: Kind,
    /// What was wrong and what to do, for a human.
    pub message: String,
    /// The member of the request at fault.
    pub param: Option<Cow<'static, str>>,
    /// A word for programs, `model_not_found` say.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// An error with the kind's own status.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// With another status: 405, 408, 415 and 431 share their kind with others.
    pub const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With the member at fault.
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With a word for programs.
    pub const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// 404 for a model that nothing serves, with the `near` names that something does.
    pub fn model_not_found(model: &str, near: &[String]) -> Self {
        let mut message = format!("the model '{model}' does not exist here");
        if near.is_empty() {
            message.push_str("; GET /v1/models lists those that do");
        } else {
            message.push_str("; did you mean ");
            message.push_str(&near.join(", "));
            message.push('?');
        }
        Self::new(Kind::NotFound, message)
            .param("model")
            .code("model_not_found")
    }
}

impl From<ScanError> for ApiError {
    fn from(error: ScanError) -> Self {
        Self {
            param: error.param.map(Cow::Borrowed),
            ..Self::new(Kind::InvalidRequest, error.to_string())
        }
    }
}

impl From<Untranslatable> for ApiError {
    fn from(error: Untranslatable) -> Self {
        Self::new(Kind::InvalidRequest, error.to_string())
            .param(error.at)
            .code("not_translatable")
    }
}

/// The body of an error answer, `application/json`.
pub fn error_body(dialect: Dialect, error: &ApiError, request_id: &str) -> Vec<u8> {
    match dialect {
        Dialect::Openai => openai::error_json(error),
        Dialect::Anthropic => anthropic::error_json(error, request_id),
    }
    .into_bytes()
}

/// An event that ends a stream which had begun: the vendors' SDKs raise their API error on it. It
/// may follow only a whole event, and no success marker may follow it. `sequence` is how many
/// events have gone before, which only [`Endpoint::Responses`] counts.
pub fn in_band_error(
    endpoint: Endpoint,
    error: &ApiError,
    request_id: &str,
    sequence: u64,
) -> Vec<u8> {
    match endpoint.dialect() {
        Dialect::Openai if endpoint == Endpoint::Responses => openai::error_event(error, sequence),
        Dialect::Openai => format!("data: {}\n\n", openai::error_json(error)),
        Dialect::Anthropic => format!(
            "event: error\ndata: {}\n\n",
            anthropic::error_json(error, request_id)
        ),
    }
    .into_bytes()
}

/// A provider's reason within the body of its error answer or event, of either dialect and the
/// shapes that their imitators use: one line of at most [`REASON_BYTES_MAX`] bytes without
/// control characters. `None` where there is none for humans, as on a proxy's HTML page.
///
/// It may quote the key that was sent: the reason of a 401 or 403 is for nobody but operators,
/// and the caller removes the key first.
pub fn provider_reason(body: &[u8]) -> Option<String> {
    // Gemini's compatible endpoint wraps its error in an array.
    let one: Option<Vec<&RawValue>> = serde_json::from_slice(body).ok();
    let body = match &one {
        Some(list) => list.first()?.get().as_bytes(),
        None => body,
    };
    if let Ok(report) = serde_json::from_slice::<Report>(body) {
        return [report.error, report.message, report.detail]
            .into_iter()
            .flatten()
            .find_map(|value| words(value.get()));
    }
    let text = str::from_utf8(body).ok()?.trim_start();
    let readable = !text.starts_with(['<', '{', '[', '"']);
    readable.then(|| one_line(text)).flatten()
}

/// Where the dialects and their imitators put the reason: `error.message` (both vendors), `error`
/// as a text (ollama), `message` (vLLM), `detail` (FastAPI).
#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Inner {
    message: String,
}

/// The reason in a value that is either the text itself or an object with a `message`.
fn words(value: &str) -> Option<String> {
    let text = serde_json::from_str::<String>(value)
        .or_else(|_| serde_json::from_str::<Inner>(value).map(|inner| inner.message))
        .ok()?;
    one_line(&text)
}

fn one_line(text: &str) -> Option<String> {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > REASON_BYTES_MAX {
            let end = line.floor_char_boundary(REASON_BYTES_MAX - '…'.len_utf8());
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::super::request;
    use super::*;
    use proptest::prelude::*;

    fn both(error: &ApiError) -> [String; 2] {
        [Dialect::Openai, Dialect::Anthropic]
            .map(|dialect| String::from_utf8(error_body(dialect, error, "req-1")).unwrap())
    }

    #[test]
    fn an_error_has_the_shape_of_its_dialect() {
        let error: ApiError = request::scan(br#"{"model":"m","stream":"yes"}"#)
            .unwrap_err()
            .into();
        let message = "'stream' must be true or false (line 1 column 23, byte 22)";
        assert_eq!(
            both(&error),
            [
                format!(
                    r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":"stream","code":null}}}}"#
                ),
                format!(
                    r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"{message}"}},"request_id":"req-1"}}"#
                ),
            ]
        );
    }

    #[test]
    fn an_error_event_is_one_whole_event() {
        let error = ApiError::new(Kind::Upstream, "the provider\nhung up");
        let check = |endpoint, expected: &str| {
            let event = in_band_error(endpoint, &error, "req-1", 7);
            assert_eq!(String::from_utf8(event).unwrap(), expected);
        };
        check(
            Endpoint::Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"the \
             provider\\nhung up\",\"param\":null,\"sequence_number\":7}\n\n",
        );
        check(
            Endpoint::ChatCompletions,
            "data: {\"error\":{\"message\":\"the provider\\nhung up\",\"type\":\"server_error\",\
             \"param\":null,\"code\":null}}\n\n",
        );
        check(
            Endpoint::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
             \"message\":\"the provider\\nhung up\"},\"request_id\":\"req-1\"}\n\n",
        );
    }

    #[test]
    fn an_unknown_model_is_answered_with_those_that_are_near() {
        let check = |near: &[&str], expected: &str| {
            let near: Vec<String> = near.iter().map(|name| (*name).to_owned()).collect();
            let error = ApiError::model_not_found("gpt", &near);
            assert_eq!((error.status, error.code), (404, Some("model_not_found")));
            assert_eq!(error.message, expected);
        };
        check(
            &["gpt-4", "gpt-5"],
            "the model 'gpt' does not exist here; did you mean gpt-4, gpt-5?",
        );
        check(
            &[],
            "the model 'gpt' does not exist here; GET /v1/models lists those that do",
        );
    }

    #[test]
    fn a_providers_reason_is_found_where_it_was_put() {
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(
                provider_reason(body.as_bytes()).as_deref(),
                expected,
                "{body}"
            );
        };
        check(
            r#"{"error":{"message":"too\n long","type":"x"}}"#,
            Some("too long"),
        );
        check(
            r#"{"type":"error","error":{"type":"x","message":"full"}}"#,
            Some("full"),
        );
        check(r#"{"error":"model not found"}"#, Some("model not found"));
        check(
            r#"{"object":"error","message":"bad","error":null}"#,
            Some("bad"),
        );
        check(r#"{"detail":"Not Found"}"#, Some("Not Found"));
        check(
            r#"[{"error":{"code":400,"message":"no key"}}]"#,
            Some("no key"),
        );
        check("upstream connect error", Some("upstream connect error"));
        check("<html>502</html>", None);
        check(r#"{"error":{"message":7}}"#, None);
        check(r#"{"error":{"mess"#, None);
        check("", None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_reason_is_one_short_line(words in prop::collection::vec("\\PC{0,80}|\n", 0..30)) {
            let words = words.concat();
            let body = serde_json::json!({"error": {"message": words}}).to_string();
            if let Some(reason) = provider_reason(body.as_bytes()) {
                prop_assert!(reason.len() <= REASON_BYTES_MAX);
                prop_assert!(!reason.chars().any(char::is_control));
            }
        }

        #[test]
        fn any_bytes_have_a_reason_or_none(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = provider_reason(&body);
        }
    }
}
