//! Whether an answer is the whole one that it looks like.

use super::object;
use crate::wire::Endpoint;
use crate::wire::json::view::View;

/// Whether `body`, a 200 to `endpoint`, is the whole answer that it looks like: no error in it, and
/// said to be finished. Some servers and proxies answer 200 with an error.
pub fn is_complete(endpoint: Endpoint, body: &[u8]) -> bool {
    let Some(answer) = object(body) else {
        return false;
    };
    let text = |name: &str| answer.get(name).and_then(View::string);
    let is_error = answer
        .get("error")
        .is_some_and(|error| error.text() != "null");
    if is_error || text("type").as_deref() == Some("error") {
        return false;
    }
    let some = |name: &str, is_good: &dyn Fn(View<'_>) -> bool| {
        let mut items = answer
            .get(name)
            .into_iter()
            .flat_map(View::items)
            .peekable();
        items.peek().is_some() && items.all(is_good)
    };
    let is_finished = |choice: View<'_>| {
        let reason = choice.get("finish_reason").and_then(View::string);
        reason.is_some_and(|reason| reason != "error")
    };
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => some("choices", &is_finished),
        Endpoint::Messages => text("stop_reason").is_some(),
        Endpoint::Responses => text("status").as_deref() == Some("completed"),
        Endpoint::Embeddings => some("data", &|_| true),
        Endpoint::CountTokens => true,
    }
}

/// As [`is_complete`], of the events of a stream that has ended with its marker and of which a choice
/// was finished.
pub fn is_complete_stream(endpoint: Endpoint, events: &[u8]) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            let finder = memchr::memmem::Finder::new(b"\"finish_reason\"");
            let mut reasons = finder.find_iter(events).map(|at| {
                let rest = events[at + b"\"finish_reason\"".len()..].trim_ascii_start();
                rest.strip_prefix(b":")
                    .map_or(rest, <[u8]>::trim_ascii_start)
            });
            !reasons.any(|reason| reason.starts_with(b"\"error\""))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_only_looks_like_one_is_not_complete() {
        let check = |endpoint, body: &str, expected| {
            assert_eq!(is_complete(endpoint, body.as_bytes()), expected, "{body}");
        };
        let chat = Endpoint::ChatCompletions;
        check(chat, r#"{"choices":[{"finish_reason":"stop"}]}"#, true);
        check(
            chat,
            r#"{"error":null,"choices":[{"finish_reason":"stop"}]}"#,
            true,
        );
        for body in [
            r#"{"error":{"message":"overloaded"}}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":[{"finish_reason":null}]}"#,
            r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"error"}]}"#,
            "{}",
            "[]",
        ] {
            check(chat, body, false);
        }
        check(
            Endpoint::Messages,
            r#"{"type":"message","stop_reason":"end_turn"}"#,
            true,
        );
        check(Endpoint::Messages, r#"{"type":"error","error":{}}"#, false);
        check(
            Endpoint::Messages,
            r#"{"type":"message","stop_reason":null}"#,
            false,
        );
        check(
            Endpoint::Responses,
            r#"{"status":"completed","error":null}"#,
            true,
        );
        check(Endpoint::Responses, r#"{"status":"in_progress"}"#, false);
        check(Endpoint::Embeddings, r#"{"data":[]}"#, false);
        let stream = |reason: &str| {
            let event = format!("data: {{\"choices\":[{{\"finish_reason\" : {reason}}}]}}\n\n");
            is_complete_stream(chat, event.as_bytes())
        };
        assert!(stream("\"stop\"") && stream("null") && !stream("\"error\""));
    }
}
