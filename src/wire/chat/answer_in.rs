//! Reads a whole answer. Start at [`read_answer`].

use super::said::{self, Block, Piece, Said};
use super::shape::{fields, list, object};
use crate::wire::Dialect;
use crate::wire::form::{Answer, Arguments, Choice, NotOfDialect, Part, PartKind, Stop};
use crate::wire::json::view::{Lit, View};
use crate::wire::usage::Usage;

/// What the answer `body` says.
///
/// # Errors
/// It has no choices, or one of them has no message.
pub fn read_answer<'a>(body: View<'a>) -> Result<Answer<'a>, NotOfDialect> {
    let names = ["id", "model", "created", "choices", "usage"];
    let [id, model, created, choices, usage] = fields(body, names, |_| {});
    let choices = choices
        .and_then(list)
        .ok_or(NotOfDialect("an answer without choices"))?;
    let mut indexed = Vec::new();
    for (position, choice) in choices.items().enumerate() {
        indexed.push(read_choice(position as u64, choice)?);
    }
    if indexed.is_empty() {
        return Err(NotOfDialect("an answer without choices"));
    }
    indexed.sort_by_key(|(index, _)| *index);
    let usage = usage.map(|usage| Usage::of_object(usage.text()));
    Ok(Answer {
        id: id.and_then(View::lit).unwrap_or_default(),
        model: model.and_then(View::lit).unwrap_or_default(),
        created: created.and_then(View::u64),
        choices: indexed.into_iter().map(|(_, choice)| choice).collect(),
        usage: usage.unwrap_or_default().tokens(Dialect::Openai),
    })
}

fn read_choice(position: u64, choice: View<'_>) -> Result<(u64, Choice<'_>), NotOfDialect> {
    let names = ["index", "message", "logprobs", "finish_reason"];
    let [index, message, logprobs, reason] = fields(choice, names, |_| {});
    let index = index.and_then(View::u64).unwrap_or(position);
    let message = message
        .and_then(object)
        .ok_or(NotOfDialect("a choice without a message"))?;
    let parts = read_parts(index, &Said::of(message))?;
    let calls_tools = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall { .. }));
    let stop = match reason {
        Some(reason) => said::stop(reason, calls_tools)?,
        None => None,
    };
    let unsaid = if calls_tools {
        Stop::ToolCalls
    } else {
        Stop::End
    };
    let choice = Choice {
        parts,
        stop: stop.unwrap_or(unsaid),
        stop_sequence: None,
        logprobs: logprobs.and_then(object),
    };
    Ok((index, choice))
}

/// The parts of a message, in the order in which a model makes them.
fn read_parts<'a>(index: u64, said: &Said<'a>) -> Result<Vec<Part<'a>>, NotOfDialect> {
    let mut kinds: Vec<PartKind<'a>> = said.blocks().map(thinking).collect();
    // The blocks hold the same thoughts with more about them.
    if kinds.is_empty() {
        kinds.extend(said.thought.clone().map(|text| PartKind::Thinking {
            text,
            signature: None,
        }));
    }
    for piece in said.content()? {
        kinds.push(match piece {
            Piece::Text(text) => PartKind::Text(text),
            Piece::Refusal(text) => PartKind::Refusal(text),
            Piece::Thinking(text) => PartKind::Thinking {
                text,
                signature: None,
            },
        });
    }
    kinds.extend(said.refusal.clone().map(PartKind::Refusal));
    for (position, call) in said.calls().enumerate() {
        let call = call?;
        kinds.push(PartKind::ToolCall {
            id: call.id.unwrap_or_else(|| said::made_id(index, position)),
            name: call
                .name
                .ok_or(NotOfDialect("a tool call without a name"))?,
            arguments: call.arguments.unwrap_or(Arguments::Text(Lit::default())),
        });
    }
    Ok(kinds.into_iter().map(Part::from).collect())
}

/// A block as the part that it stands for.
pub(super) fn thinking(block: Block<'_>) -> PartKind<'_> {
    match block {
        Block::Thinking { text, signature } => PartKind::Thinking { text, signature },
        Block::Redacted(data) => PartKind::RedactedThinking(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::PartKind as Kind;
    use crate::wire::form::Tokens;

    /// Checks what the only choice with `message` and `reason` says.
    fn check(message: &str, reason: &str, expected: Vec<Kind<'_>>, stop: Stop) {
        let body = format!(r#"{{"choices":[{{"message":{message},"finish_reason":{reason}}}]}}"#);
        let answer = read_answer(View::new(&body)).unwrap();
        let [choice] = answer.choices.as_slice() else {
            panic!("{body}");
        };
        let parts: Vec<Part<'_>> = expected.into_iter().map(Part::from).collect();
        assert_eq!((&choice.parts, choice.stop), (&parts, stop), "{body}");
    }

    fn text(text: &str) -> Kind<'_> {
        Kind::Text(Lit::escaped(text))
    }

    fn thought<'a>(text: &'a str, signature: Option<&'a str>) -> Kind<'a> {
        Kind::Thinking {
            text: Lit::of(text),
            signature: signature.map(Lit::of),
        }
    }

    fn call<'a>(id: &'a str, arguments: Arguments<'a>) -> Kind<'a> {
        Kind::ToolCall {
            id: Lit::of(id),
            name: Lit::of("f"),
            arguments,
        }
    }

    #[test]
    fn an_answer_is_read_with_its_cost() {
        let body = View::new(
            r#"{"id":"chatcmpl-1","object":"chat.completion","created":17,"model":"m","choices":[
            {"index":1,"message":{"role":"assistant","content":"b"},"finish_reason":"length","logprobs":{"content":[]}},
            {"index":0,"message":{"role":"assistant","content":"a\n","refusal":null},"finish_reason":"stop","logprobs":null}],
            "usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4},
            "completion_tokens_details":{"reasoning_tokens":2}}}"#,
        );
        let choice = |said, stop, logprobs: Option<&'static str>| Choice {
            parts: vec![Part::from(text(said))],
            stop,
            stop_sequence: None,
            logprobs: logprobs.map(View::new),
        };
        let expected = Answer {
            id: Lit::of("chatcmpl-1"),
            model: Lit::of("m"),
            created: Some(17),
            choices: vec![
                choice("a\\n", Stop::End, None),
                choice("b", Stop::MaxTokens, Some(r#"{"content":[]}"#)),
            ],
            usage: Tokens {
                input: 5,
                cache_read: 4,
                cache_write: 0,
                output: 5,
                reasoning: 2,
            },
        };
        assert_eq!(read_answer(body), Ok(expected));
    }

    #[test]
    fn a_content_may_be_nothing_a_text_or_a_list() {
        check(r#"{"content":null}"#, "\"stop\"", vec![], Stop::End);
        check(r#"{"content":""}"#, "\"stop\"", vec![], Stop::End);
        check(
            r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":""},{"type":"refusal","refusal":"no"}]}"#,
            "\"stop\"",
            vec![text("a"), Kind::Refusal(Lit::of("no"))],
            Stop::End,
        );
        check(
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}"#,
            "\"stop\"",
            vec![thought("hm", None), text("a")],
            Stop::End,
        );
        check(
            r#"{"content":null,"refusal":"no"}"#,
            "\"content_filter\"",
            vec![Kind::Refusal(Lit::of("no"))],
            Stop::Refusal,
        );
    }

    #[test]
    fn tools_are_called_in_the_ways_that_servers_write_it() {
        let whole = r#"{"content":null,"tool_calls":[
            {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
            {"type":"function","function":{"name":"f","arguments":{"a": 1}}},
            {"id":"","function":{"name":"f"}}]}"#;
        let calls = || {
            vec![
                call("c1", Arguments::Text(Lit::escaped(r#"{\"a\":1}"#))),
                call("call_0_1", Arguments::Json(r#"{"a": 1}"#.into())),
                call("call_0_2", Arguments::Text(Lit::default())),
            ]
        };
        for reason in ["\"tool_calls\"", "\"stop\"", "null"] {
            check(whole, reason, calls(), Stop::ToolCalls);
        }
        check(whole, "\"length\"", calls(), Stop::MaxTokens);
        check(
            r#"{"content":"","function_call":{"name":"f","arguments":"{}"}}"#,
            "\"function_call\"",
            vec![call("call_0_0", Arguments::Text(Lit::of("{}")))],
            Stop::ToolCalls,
        );
        check(
            r#"{"content":"a"}"#,
            "\"tool_calls\"",
            vec![text("a")],
            Stop::End,
        );
    }

    #[test]
    fn thoughts_come_before_the_text() {
        for name in ["reasoning_content", "reasoning"] {
            check(
                &format!(r#"{{"content":"a","{name}":"hm"}}"#),
                "\"stop\"",
                vec![thought("hm", None), text("a")],
                Stop::End,
            );
        }
        check(
            r#"{"content":"a","reasoning_content":"hm","thinking_blocks":[
            {"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"}]}"#,
            "null",
            vec![
                thought("hm", Some("s")),
                Kind::RedactedThinking(Lit::of("x")),
                text("a"),
            ],
            Stop::End,
        );
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let check = |body: &str, expected: &str| {
            assert_eq!(read_answer(View::new(body)).unwrap_err().0, expected);
        };
        check("{}", "an answer without choices");
        check(r#"{"choices":[]}"#, "an answer without choices");
        check(r#"{"choices":{}}"#, "an answer without choices");
        check(r#"{"choices":[1]}"#, "a choice without a message");
        check(
            r#"{"choices":[{"message":{"content":1}}]}"#,
            "a content that is neither text nor a list",
        );
        check(
            r#"{"choices":[{"message":{"tool_calls":[{"id":"1"}]}}]}"#,
            "a tool call without a name",
        );
        check(
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}"#,
            "an answer that ended in an error",
        );
    }
}
