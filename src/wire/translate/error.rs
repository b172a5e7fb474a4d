//! A provider's refusal in the words of another dialect.
//!
//! Clients tell errors apart by status and `type`, so the status stays what it was wherever the
//! caller's dialect has it too, and the provider's own reason becomes the message.

use crate::wire::Dialect;
use crate::wire::errors::{self, ApiError, Kind, provider_reason};

/// What kind of error goes with a provider's status.
pub const fn kind_of(status: u16) -> Kind {
    match status {
        401 => Kind::Authentication,
        403 => Kind::Permission,
        404 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        413 => Kind::TooLarge,
        429 => Kind::RateLimit,
        503 | 529 => Kind::Overloaded,
        500.. => Kind::Upstream,
        _ => Kind::InvalidRequest,
    }
}

/// The error that `provider` answered with that status and body, for a caller of another dialect.
pub fn provider_error(caller: Dialect, provider: &str, status: u16, body: &[u8]) -> ApiError {
    let reason = provider_reason(body);
    let message = match &reason {
        Some(reason) => reason.clone(),
        None => format!("provider '{provider}' answered {status} without a reason"),
    };
    let status = match (caller, status) {
        // "Overloaded" is Anthropic's own status; OpenAI says 503.
        (Dialect::Openai, 529) => 503,
        (_, status) => status,
    };
    let error = ApiError::new(kind_of(status), message).status(status);
    // Anthropic has no word for programs for it; OpenAI's SDK users look for the code.
    match errors::refusal(body) {
        errors::Refusal::ContextLength => error.code("context_length_exceeded").param("messages"),
        errors::Refusal::ContentFilter => error.code("content_filter"),
        errors::Refusal::Other => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_status_and_reason() {
        let check = |caller, status, body: &str, expected: (u16, Kind, &str, Option<&str>)| {
            let error = provider_error(caller, "acme", status, body.as_bytes());
            let seen = (error.status, error.kind, error.message.as_str(), error.code);
            assert_eq!(seen, expected);
        };
        let anthropic =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        check(
            Dialect::Openai,
            529,
            anthropic,
            (503, Kind::Overloaded, "Overloaded", None),
        );
        let long = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#;
        check(
            Dialect::Openai,
            400,
            long,
            (
                400,
                Kind::InvalidRequest,
                "prompt is too long: 9 tokens > 8 maximum",
                Some("context_length_exceeded"),
            ),
        );
        let openai = r#"{"error":{"message":"Rate limit reached","type":"rate_limit_error"}}"#;
        check(
            Dialect::Anthropic,
            429,
            openai,
            (429, Kind::RateLimit, "Rate limit reached", None),
        );
        check(
            Dialect::Anthropic,
            500,
            "{}",
            (
                500,
                Kind::Upstream,
                "provider 'acme' answered 500 without a reason",
                None,
            ),
        );
    }
}
