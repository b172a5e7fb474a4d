//! What a provider's own responses say of themselves, for accounting only.
//!
//! Where a caller and a provider both speak responses, a body passes through as it is. Start at
//! [`observe()`].

use std::borrow::Cow;

use super::super::errors;
use super::super::json::view::View;
use super::super::usage::Usage;

/// What one event, or a whole answer, was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// No part of the answer: it only keeps the connection alive.
    pub idle: bool,
    /// The answer is complete.
    pub end: bool,
    /// The model said why it stopped.
    pub finish: bool,
    /// It failed, for this reason of the provider's own.
    pub error: Option<String>,
    /// What it cost.
    pub usage: Option<Usage>,
}

/// Reads an event of a stream, or a whole answer, of a provider that speaks responses. Where a
/// server leaves the event's name out, it is the data's own `type`. Most events are deltas, of
/// which nothing is read.
pub fn observe(event_name: Option<&str>, data: View<'_>) -> Seen {
    let name = match event_name {
        Some(name) => Cow::Borrowed(name),
        None => data
            .get("type")
            .and_then(View::string)
            .unwrap_or(Cow::Borrowed("")),
    };
    match name.as_ref() {
        "response.completed" | "response.incomplete" | "response.failed" => data
            .get("response")
            .map_or_else(|| of_status(&name["response.".len()..]), of_response),
        "error" => failed(data),
        "keepalive" | "ping" => Seen {
            idle: true,
            ..Seen::default()
        },
        "" if data.get("object").is_some_and(|it| it.is("response")) => of_response(data),
        _ => Seen::default(),
    }
}

fn of_response(response: View<'_>) -> Seen {
    let status = response.get("status").and_then(View::string);
    let mut seen = match status.as_deref() {
        Some("failed") => failed(response),
        Some(status) => of_status(status),
        None => Seen::default(),
    };
    seen.usage = response.get("usage").map(usage);
    seen
}

fn of_status(status: &str) -> Seen {
    match status {
        "completed" | "incomplete" => Seen {
            end: true,
            finish: true,
            ..Seen::default()
        },
        "failed" => failed(View::new("{}")),
        // A whole answer can be one that is still being worked on.
        _ => Seen::default(),
    }
}

fn failed(report: View<'_>) -> Seen {
    let reason = errors::provider_reason(report.text().as_bytes());
    Seen {
        error: Some(reason.unwrap_or_else(|| "an error without a message".to_owned())),
        ..Seen::default()
    }
}

/// `ResponseUsage`; its `input_tokens` include those of the cache.
fn usage(usage: View<'_>) -> Usage {
    let count = |name: &str| usage.get(name)?.u64();
    let detail = |of: &str, name: &str| usage.get(of)?.get(name)?.u64();
    Usage {
        input: count("input_tokens"),
        output: count("output_tokens"),
        cache_read: detail("input_tokens_details", "cached_tokens"),
        cache_write: detail("input_tokens_details", "cache_write_tokens"),
        reasoning: detail("output_tokens_details", "reasoning_tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: Option<&str>, data: &str, expected: Seen) {
        assert_eq!(observe(name, View::new(data)), expected, "{data}");
    }

    fn ended(usage: Option<Usage>) -> Seen {
        Seen {
            end: true,
            finish: true,
            usage,
            ..Seen::default()
        }
    }

    fn error(reason: &str) -> Seen {
        Seen {
            error: Some(reason.to_owned()),
            ..Seen::default()
        }
    }

    #[test]
    fn the_last_event_ends_a_stream_and_says_what_it_cost() {
        let data = r#"{"type":"response.completed","response":{"status":"completed","usage":
            {"input_tokens":9,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},
            "output_tokens":12,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":21}}}"#;
        let usage = Usage {
            input: Some(9),
            output: Some(12),
            cache_read: Some(4),
            cache_write: Some(1),
            reasoning: Some(3),
        };
        check(Some("response.completed"), data, ended(Some(usage)));
        check(None, data, ended(Some(usage)));
        check(
            None,
            r#"{"type":"response.incomplete","response":{"status":"incomplete","usage":null}}"#,
            ended(None),
        );
        check(Some("response.completed"), "{}", ended(None));
        check(
            Some("response.completed"),
            r#"{"response":{"status":"completed","usage":{"output_tokens":-1,"input_tokens":"x"}}}"#,
            ended(Some(Usage::default())),
        );
    }

    #[test]
    fn a_failure_has_the_providers_reason() {
        check(
            None,
            r#"{"type":"error","code":"x","message":"too\n busy","param":null}"#,
            error("too busy"),
        );
        check(
            Some("error"),
            r#"{"error":{"message":"busy"}}"#,
            error("busy"),
        );
        check(
            Some("response.failed"),
            r#"{"response":{"status":"failed","error":{"code":"server_error","message":"broken"}}}"#,
            error("broken"),
        );
        check(
            Some("response.failed"),
            r#"{"response":{"status":"failed","error":null}}"#,
            error("an error without a message"),
        );
        check(
            Some("response.failed"),
            "{}",
            error("an error without a message"),
        );
    }

    #[test]
    fn whatever_comes_before_is_progress_and_a_ping_is_none() {
        for data in [
            r#"{"type":"response.created","response":{"status":"in_progress"}}"#,
            r#"{"type":"response.output_text.delta","delta":"response.completed"}"#,
            r#"{"object":"response","status":"queued"}"#,
            "[]",
        ] {
            check(None, data, Seen::default());
        }
        let idle = Seen {
            idle: true,
            ..Seen::default()
        };
        check(None, r#"{"type":"keepalive","sequence_number":3}"#, idle);
    }

    #[test]
    fn a_whole_answer_is_seen_as_its_last_event() {
        let data = r#"{"object":"response","status":"completed","usage":{"output_tokens":1}}"#;
        let usage = Usage {
            output: Some(1),
            ..Usage::default()
        };
        check(None, data, ended(Some(usage)));
        check(
            None,
            r#"{"object":"response","status":"failed","error":{"message":"no"}}"#,
            error("no"),
        );
    }
}
