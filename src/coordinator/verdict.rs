//! What becomes of a provider's whole answer: passed on as it came, or replaced by an error of
//! ours that says what the provider did. Pure.

use crate::metrics::Outcome;
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind, provider_reason};
use crate::wire::translate::{kind_of, provider_error};
use crate::wire::usage::{Usage, of_answer};

/// See the module.
pub enum Verdict {
    /// The answer goes to the caller byte for byte.
    Pass {
        usage: Usage,
        outcome: Outcome,
        /// Why the provider refused, in its own words.
        reason: Option<String>,
    },
    /// The caller gets `error` instead.
    Replace {
        error: ApiError,
        outcome: Outcome,
        /// What the provider said, for the log alone.
        reason: Option<String>,
    },
}

/// Judges an answer of `provider`, which was asked at `endpoint` for a caller at `caller`, with
/// that status, type and body. A success that has to be translated is passed all the same: whoever
/// asks translates it.
pub fn of(
    provider: &str,
    caller: Endpoint,
    endpoint: Endpoint,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> Verdict {
    let outcome = outcome_of(status);
    let usage = of_answer(endpoint, body);
    let replace = |kind: Kind, code, outcome, message: String| Verdict::Replace {
        error: ApiError::new(kind, message).code(code),
        outcome,
        reason: provider_reason(body),
    };
    let something = match content_type {
        "" => "something without a content-type",
        content_type => content_type,
    };
    match (status, usage) {
        (..=399, Some(usage)) => Verdict::Pass {
            usage,
            outcome,
            reason: None,
        },
        // A success that no client can read is none.
        (..=399, None) => replace(
            Kind::Upstream,
            "provider_malformed",
            Outcome::Malformed,
            format!(
                "provider '{provider}' answered {status} with {something} that is not a JSON object"
            ),
        ),
        // The provider may quote the key in its answer, and it is not the caller's key.
        (401, _) => replace(
            Kind::Authentication,
            "provider_key_refused",
            outcome,
            format!(
                "provider '{provider}' refused the key that victor holds for it (401); the \
                 operator must check providers.{provider}.api_key"
            ),
        ),
        (403, _) => replace(
            Kind::Permission,
            "provider_refused",
            outcome,
            forbidden(provider, body),
        ),
        (_, Some(_)) if caller != endpoint => Verdict::Replace {
            error: provider_error(caller.dialect(), provider, status, body),
            outcome,
            reason: None,
        },
        (_, Some(usage)) => Verdict::Pass {
            usage,
            outcome,
            reason: provider_reason(body),
        },
        (_, None) => Verdict::Replace {
            error: unreadable(provider, status, something),
            outcome,
            reason: None,
        },
    }
}

fn unreadable(provider: &str, status: u16, something: &str) -> ApiError {
    let message = format!(
        "provider '{provider}' answered {status} with {something}, not with an error in JSON"
    );
    let error = ApiError::new(kind_of(status), message).status(status);
    error.code("provider_error")
}

fn forbidden(provider: &str, body: &[u8]) -> String {
    let reason = provider_reason(body).unwrap_or_else(|| "it gave no reason".to_owned());
    format!(
        "provider '{provider}' refused the call (403): {reason}; what the key of \
         providers.{provider}.api_key may do is the operator's to change"
    )
}

/// What a provider's status says about the provider.
const fn outcome_of(status: u16) -> Outcome {
    match status {
        ..=399 => Outcome::Ok,
        429 => Outcome::RateLimited,
        408 => Outcome::Timeout,
        401 | 403 => Outcome::KeyRefused,
        400..500 => Outcome::CallerFault,
        _ => Outcome::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_blamed_on_whoever_is_at_fault() {
        for (status, expected) in [
            (200, Outcome::Ok),
            (400, Outcome::CallerFault),
            (401, Outcome::KeyRefused),
            (404, Outcome::CallerFault),
            (408, Outcome::Timeout),
            (429, Outcome::RateLimited),
            (500, Outcome::ServerError),
            (529, Outcome::ServerError),
        ] {
            assert_eq!(outcome_of(status), expected, "{status}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_on() {
        let check = |status, content_type, body: &str, expected: Option<(u16, &str)>| {
            let endpoint = Endpoint::ChatCompletions;
            let got = match of(
                "acme",
                endpoint,
                endpoint,
                status,
                content_type,
                body.as_bytes(),
            ) {
                Verdict::Pass { .. } => None,
                Verdict::Replace { error, .. } => Some((error.status, error.message)),
            };
            let got = got
                .as_ref()
                .map(|(status, message)| (*status, message.as_str()));
            match (got, expected) {
                (None, None) => {}
                (Some((status, message)), Some((wanted, part))) => {
                    assert_eq!(status, wanted, "{message}");
                    assert!(
                        message.contains(part) && message.contains("acme"),
                        "{message}"
                    );
                }
                other => panic!("{other:?}"),
            }
        };
        let refusal = r#"{"error":{"message":"no access to gpt-5"}}"#;
        check(200, "application/json", r#"{"id":1}"#, None);
        check(200, "application/json", r#"{"usage":7}"#, None);
        check(200, "text/html", "<html>", Some((502, "text/html")));
        check(
            200,
            "application/json",
            r#"{"id":"#,
            Some((502, "application/json")),
        );
        check(
            200,
            "application/json",
            "[1]",
            Some((502, "not a JSON object")),
        );
        check(400, "application/json", refusal, None);
        check(401, "application/json", refusal, Some((401, "api_key")));
        check(
            403,
            "application/json",
            refusal,
            Some((403, "no access to gpt-5")),
        );
        check(
            502,
            "text/html",
            "<html>",
            Some((502, "502 with text/html")),
        );
        check(503, "", "", Some((503, "without a content-type")));
    }
}
