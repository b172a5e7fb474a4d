//! Errors as the vendors word them, so that their SDKs raise their typed exceptions. Pure.

use std::borrow::Cow;
use std::io::Write;

/// Whose API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 400 to 599.
    pub status: u16,
    /// What was wrong.
    pub message: Cow<'static, str>,
    /// OpenAI's `param`: the field at fault.
    pub param: Option<Cow<'static, str>>,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
}

impl Fault {
    /// An error without `param` and `code`.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// Names the field at fault.
    pub fn param(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    /// Gives OpenAI's `code`.
    pub fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The error that the behaviour `status-N` asks for.
    pub fn of_status(status: u16) -> Self {
        let (message, code) = match status {
            400 => (
                "The request was rejected, as the simulator was asked to.",
                None,
            ),
            401 => ("Incorrect API key provided.", Some("invalid_api_key")),
            402 => (
                "Your credit balance is too low.",
                Some("insufficient_quota"),
            ),
            403 => (
                "Your key does not have permission to use the resource.",
                Some("forbidden"),
            ),
            404 => (
                "The requested resource could not be found.",
                Some("not_found"),
            ),
            408 => (
                "The request took too long to arrive.",
                Some("request_timeout"),
            ),
            409 => ("The request conflicts with another one.", Some("conflict")),
            413 => (
                "Request exceeds the maximum allowed number of bytes.",
                Some("request_too_large"),
            ),
            422 => (
                "The request was well-formed but could not be processed.",
                Some("unprocessable"),
            ),
            429 => (
                "Rate limit reached for requests. Please try again later.",
                Some("rate_limit_exceeded"),
            ),
            500 => (
                "The server had an error while processing your request.",
                None,
            ),
            502 => ("Bad gateway.", None),
            503 => (
                "The engine is currently overloaded, please try again later.",
                None,
            ),
            504 => ("The request timed out at the gateway.", None),
            529 => ("Overloaded", None),
            _ => ("The simulator was asked for this status.", None),
        };
        Self {
            code,
            ..Self::new(status, message)
        }
    }

    /// The body, in the dialect's shape.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match dialect {
            Dialect::OpenAi => {
                out.extend_from_slice(b"{\"error\":{\"message\":");
                push_json(&mut out, &self.message);
                let _ = write!(out, ",\"type\":\"{}\",\"param\":", openai_type(self.status));
                push_optional(&mut out, self.param.as_deref());
                out.extend_from_slice(b",\"code\":");
                push_optional(&mut out, self.code);
                out.extend_from_slice(b"}}");
            }
            Dialect::Anthropic => {
                let kind = anthropic_type(self.status);
                let _ = write!(
                    out,
                    "{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":"
                );
                push_json(&mut out, &self.message);
                let _ = write!(out, "}},\"request_id\":\"{request_id}\"}}");
            }
        }
        out
    }
}

/// Appends `text` as a JSON string.
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail, and neither does a string.
    let _ = serde_json::to_writer(out, text);
}

fn push_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_json(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// OpenAI's `type` for a status.
fn openai_type(status: u16) -> &'static str {
    match status {
        429 => "requests",
        402 => "insufficient_quota",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's `type` for a status (its "Errors" page).
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 | 408 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn errors_have_their_dialects_shape() {
        let fault = Fault::new(404, "no \"x\"")
            .param("model")
            .code("model_not_found");
        let body =
            |dialect| -> Value { serde_json::from_slice(&fault.body(dialect, "req_1")).unwrap() };
        assert_eq!(
            body(Dialect::OpenAi),
            json!({"error": {"message": "no \"x\"", "type": "invalid_request_error",
                             "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(
            body(Dialect::Anthropic),
            json!({"type": "error", "request_id": "req_1",
                   "error": {"type": "not_found_error", "message": "no \"x\""}})
        );
    }

    #[test]
    fn every_status_has_a_body_in_both_dialects() {
        for status in 400..600 {
            for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
                let body = Fault::of_status(status).body(dialect, "req_1");
                let body: Value = serde_json::from_slice(&body).unwrap();
                assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string());
            }
        }
    }
}
