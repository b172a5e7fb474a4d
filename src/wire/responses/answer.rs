//! Writes a whole answer: the response object.

use super::super::form::{Answer, Choice, Dropped, Part, PartKind, Stop};
use super::super::json::view::View;
use super::super::json::write::Writer;
use super::super::translate::About;
use super::asked::{Asked, one_line};
use super::object::{Object, State, incomplete_reason, is_refusal};
use super::output::{Status, belong_together, write_item};

/// Writes the response object of an answer. A response has one answer; further choices are noted
/// and left out.
pub fn write_answer(
    answer: &Answer<'_>,
    asked: &Asked,
    about: &About<'_>,
    dropped: &mut Dropped,
) -> Vec<u8> {
    let none = Choice {
        parts: Vec::new(),
        stop: Stop::End,
        stop_sequence: None,
        logprobs: None,
    };
    let choice = answer.choices.first().unwrap_or(&none);
    if answer.choices.len() > 1 {
        dropped.note("n");
    }
    let parts: Vec<&Part<'_>> = choice
        .parts
        .iter()
        .filter(|part| is_answer(part, dropped))
        .collect();
    let has_refusal = parts.iter().any(|part| is_refusal(&part.kind));
    let reason = incomplete_reason(choice.stop, has_refusal);
    let object = Object {
        id: about.response_id,
        created_at: answer.created.unwrap_or(about.now),
        model: &answer.model,
        state: reason.map_or(State::Completed(about.now), State::Incomplete),
        usage: Some(answer.usage),
    };
    let logprobs = choice.logprobs.map(logprobs_of).unwrap_or_default();
    let first_text = parts
        .iter()
        .copied()
        .find(|part| matches!(part.kind, PartKind::Text(_)));
    if first_text.is_none() && !logprobs.is_empty() {
        dropped.note("logprobs");
    }
    let room = asked.length() + parts.iter().map(|part| length(part)).sum::<usize>();
    let mut writer = Writer::with_capacity(room);
    object.write(asked, &mut writer, |it| {
        let items = parts.chunk_by(|a, b| belong_together(a, b));
        let mut items = items.enumerate().peekable();
        while let Some((number, parts)) = items.next() {
            let is_cut = reason.is_some() && items.peek().is_none();
            let status = if is_cut {
                Status::Incomplete
            } else {
                Status::Completed
            };
            // They come for the whole answer, and an answer that has them is one text.
            let logprobs_of = |part: &Part<'_>| match first_text {
                Some(first) if std::ptr::eq(first, part) => logprobs.clone(),
                _ => String::new(),
            };
            write_item(it, parts, number, object.id, status, logprobs_of);
        }
    });
    writer.into_bytes()
}

/// Whether a model can answer with this part.
fn is_answer(part: &Part<'_>, dropped: &mut Dropped) -> bool {
    let name = match &part.kind {
        PartKind::Image { .. } => "output[].image",
        PartKind::Document { .. } => "output[].document",
        PartKind::ToolResult { .. } => "output[].tool_result",
        PartKind::Text(_)
        | PartKind::Thinking { .. }
        | PartKind::RedactedThinking(_)
        | PartKind::Refusal(_)
        | PartKind::ToolCall { .. } => return true,
    };
    dropped.note(name);
    false
}

fn length(part: &Part<'_>) -> usize {
    let text = match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => text.as_escaped().len(),
        PartKind::Thinking { text, signature } => {
            text.as_escaped().len() + signature.as_ref().map_or(0, |it| it.as_escaped().len())
        }
        _ => 0,
    };
    text + 300
}

/// The items of a chat completion's `logprobs` object, which are those of a response as well,
/// with commas between them.
pub(super) fn logprobs_of(logprobs: View<'_>) -> String {
    let items = logprobs.get("content").into_iter().flat_map(View::items);
    let items: Vec<Box<str>> = items.map(one_line).collect();
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::super::Dialect;
    use super::super::super::form::{Arguments, Source, Tokens};
    use super::super::super::json::view::Lit;
    use super::super::read_asked;
    use super::super::tests::ABOUT;
    use super::*;
    use serde_json::{Value, json};

    fn choice(kinds: Vec<PartKind<'_>>, stop: Stop) -> Choice<'_> {
        Choice {
            parts: kinds.into_iter().map(Part::from).collect(),
            stop,
            stop_sequence: None,
            logprobs: None,
        }
    }

    fn write(choices: Vec<Choice<'_>>, asked: &str) -> (Value, String) {
        let answer = Answer {
            id: Lit::of("msg_vendor"),
            model: Lit::of("claude"),
            created: None,
            choices,
            usage: Tokens {
                input: 5,
                cache_read: 3,
                cache_write: 1,
                output: 7,
                reasoning: 2,
            },
        };
        let asked = read_asked(View::new(asked)).unwrap();
        let mut dropped = Dropped::default();
        let response = write_answer(&answer, &asked, &ABOUT, &mut dropped);
        (
            serde_json::from_slice(&response).unwrap(),
            dropped.to_string(),
        )
    }

    fn text(text: &str) -> PartKind<'_> {
        PartKind::Text(Lit::of(text))
    }

    fn output_text(text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }

    #[test]
    fn a_response_has_every_member_that_the_vendors_has() {
        let (response, dropped) = write(
            vec![choice(vec![text("hi")], Stop::End)],
            r#"{"model":"gpt","temperature":0.5,"metadata":{"a":"b"}}"#,
        );
        let expected = json!({
            "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed",
            "completed_at": 1_700_000_000, "error": null, "incomplete_details": null,
            "model": "claude",
            "output": [{"id": "msg_1_0", "type": "message", "status": "completed",
                "role": "assistant", "content": [output_text("hi")]}],
            "usage": {"input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
                "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 16},
            "background": false, "instructions": null, "max_output_tokens": null,
            "metadata": {"a": "b"}, "parallel_tool_calls": true, "previous_response_id": null,
            "prompt_cache_key": null, "prompt_cache_retention": null, "safety_identifier": null,
            "service_tier": "default", "store": true, "temperature": 0.5, "tool_choice": "auto",
            "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null,
            "reasoning": {"effort": null, "summary": null},
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
        });
        assert_eq!(response, expected);
        assert_eq!(dropped, "");
    }

    #[test]
    fn parts_become_items() {
        let parts = vec![
            PartKind::Thinking {
                text: Lit::of("t"),
                signature: Some(Lit::of("sig")),
            },
            PartKind::RedactedThinking(Lit::of("x=")),
            text("a"),
            PartKind::Refusal(Lit::of("no")),
            PartKind::ToolCall {
                id: Lit::of("c1"),
                name: Lit::of("f"),
                arguments: Arguments::Json(r#"{"a":1}"#.into()),
            },
            text("b"),
        ];
        let (response, _) = write(vec![choice(parts, Stop::ToolCalls)], "{}");
        let message = |id: &str, content: Value| {
            json!({"id": id, "type": "message", "status": "completed", "role": "assistant",
                "content": content})
        };
        let refusal = json!({"type": "refusal", "refusal": "no"});
        let expected = json!([
            {"id": "rs_1_0", "type": "reasoning", "encrypted_content": "signed:sig",
                "summary": [{"type": "summary_text", "text": "t"}]},
            {"id": "rs_1_1", "type": "reasoning", "summary": [], "encrypted_content": "redacted:x="},
            message("msg_1_2", json!([output_text("a"), refusal])),
            {"id": "fc_1_3", "type": "function_call", "status": "completed", "call_id": "c1",
                "name": "f", "arguments": "{\"a\":1}"},
            message("msg_1_4", json!([output_text("b")])),
        ]);
        assert_eq!(response["output"], expected);
        assert_eq!(response["status"], "completed");
    }

    #[test]
    fn an_answer_that_was_cut_is_incomplete_and_so_is_its_last_item() {
        let check = |parts: Vec<PartKind<'_>>, stop, reason: &str, expected: &[&str]| {
            let (response, _) = write(vec![choice(parts, stop)], "{}");
            assert_eq!(response["status"], "incomplete");
            assert_eq!(response["completed_at"], Value::Null);
            assert_eq!(response["incomplete_details"], json!({"reason": reason}));
            let output = response["output"].as_array().unwrap().iter();
            let statuses: Vec<_> = output
                .map(|item| item["status"].as_str().unwrap())
                .collect();
            assert_eq!(statuses, expected);
        };
        let call = || PartKind::ToolCall {
            id: Lit::of("c1"),
            name: Lit::of("f"),
            arguments: Arguments::Text(Lit::of("{")),
        };
        let parts = vec![text("a"), call()];
        let statuses = ["completed", "incomplete"];
        check(parts, Stop::MaxTokens, "max_output_tokens", &statuses);
        let parts = vec![text("a"), text("b")];
        check(
            parts,
            Stop::ContextFull,
            "max_output_tokens",
            &["incomplete"],
        );
        check(
            vec![text("a")],
            Stop::Refusal,
            "content_filter",
            &["incomplete"],
        );
        check(Vec::new(), Stop::Refusal, "content_filter", &[]);
    }

    #[test]
    fn a_refusal_in_words_is_a_complete_answer() {
        for stop in [Stop::Refusal, Stop::End, Stop::StopSequence, Stop::Paused] {
            let refusal = PartKind::Refusal(Lit::of("no"));
            let (response, _) = write(vec![choice(vec![refusal], stop)], "{}");
            assert_eq!(response["status"], "completed");
            assert_eq!(response["incomplete_details"], Value::Null);
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_first_text() {
        let logprobs = r#"{"content":[{"token":"h","logprob":-0.5},
            {"token":"i","logprob":-1.0}],"refusal":null}"#;
        let with_logprobs = |parts| Choice {
            logprobs: Some(View::new(logprobs)),
            ..choice(parts, Stop::End)
        };
        let (response, dropped) = write(vec![with_logprobs(vec![text("h"), text("i")])], "{}");
        let content = &response["output"][0]["content"];
        assert_eq!(content[0]["logprobs"][1]["token"], "i");
        assert_eq!(content[1]["logprobs"], json!([]));
        assert_eq!(dropped, "");
        let (_, dropped) = write(vec![with_logprobs(Vec::new())], "{}");
        assert_eq!(dropped, "logprobs");
    }

    #[test]
    fn what_a_response_has_no_place_for_is_noted() {
        let image = PartKind::Image {
            source: Source::File {
                vendor: Dialect::Openai,
                id: Lit::of("file-1"),
            },
            detail: None,
        };
        let first = choice(vec![text("a"), image, text("b")], Stop::End);
        let second = choice(vec![text("c")], Stop::End);
        let (response, dropped) = write(vec![first, second], "{}");
        assert_eq!(dropped, "n, output[].image");
        let content = &response["output"][0]["content"];
        assert_eq!(*content, json!([output_text("a"), output_text("b")]));
        let (response, _) = write(Vec::new(), "{}");
        assert_eq!(response["output"], json!([]));
    }
}
