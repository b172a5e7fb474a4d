//! Writes a whole answer for a caller that speaks chat completions.
//!
//! Callers check answers against the vendor's types, so every member that those demand is there.
//! What a model thought has no place in them and goes where several servers put it. Start at
//! [`write_answer`].

use super::turns_out::tool_call;
use crate::wire::form::{Answer, Choice, Dropped, Part, PartKind, Stop, Tokens};
use crate::wire::json::view::Lit;
use crate::wire::json::write::Writer;
use crate::wire::translate::About;

/// How the vendor's ids of answers begin.
const ID_PREFIX: &str = "chatcmpl-";

/// The body of `answer`. What chat completions have no word for is noted in `dropped`.
pub fn write_answer(answer: &Answer<'_>, about: &About<'_>, dropped: &mut Dropped) -> Vec<u8> {
    let mut out = Writer::with_capacity(4096);
    out.object(|out| {
        out.key("id");
        id(out, &answer.id);
        out.key("object").string("chat.completion");
        out.key("created")
            .number(answer.created.unwrap_or(about.now));
        out.key("model").lit(&answer.model);
        out.key("choices").array(|out| {
            for (index, it) in answer.choices.iter().enumerate() {
                choice(out, index as u64, it, dropped);
            }
        });
        out.key("usage");
        usage(out, &answer.usage);
    });
    out.into_bytes()
}

/// The id of an answer, which begins as the vendor's do.
pub(super) fn id(out: &mut Writer, id: &Lit<'_>) {
    if id.strip_prefix(ID_PREFIX).is_some() {
        out.lit(id);
    } else {
        out.joined([&Lit::of(ID_PREFIX), id]);
    }
}

fn choice(out: &mut Writer, index: u64, choice: &Choice<'_>, dropped: &mut Dropped) {
    if choice.stop_sequence.is_some() {
        dropped.note("stop_sequence");
    }
    out.object(|out| {
        out.key("index").number(index);
        out.key("message");
        message(out, &choice.parts, dropped);
        out.key("logprobs");
        match choice.logprobs {
            Some(logprobs) => out.view(logprobs),
            None => out.null(),
        };
        out.key("finish_reason").string(finish_reason(choice.stop));
    });
}

fn message(out: &mut Writer, parts: &[Part<'_>], dropped: &mut Dropped) {
    let (mut texts, mut refusals, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut has_blocks, mut has_calls) = (false, false);
    for part in parts {
        match &part.kind {
            PartKind::Text(text) => texts.push(text),
            PartKind::Refusal(text) => refusals.push(text),
            PartKind::Thinking { text, signature } => {
                thoughts.push(text);
                has_blocks |= signature.is_some();
            }
            PartKind::RedactedThinking(_) => has_blocks = true,
            PartKind::ToolCall { .. } => has_calls = true,
            PartKind::Image { .. } | PartKind::Document { .. } | PartKind::ToolResult { .. } => {
                dropped.note("choices[].message.content[]");
            }
        }
    }
    thoughts.retain(|thought| !thought.is_empty());
    out.object(|out| {
        out.key("role").string("assistant");
        out.key("content");
        if texts.is_empty() && (has_calls || !refusals.is_empty()) {
            out.null();
        } else {
            out.joined(texts);
        }
        out.key("refusal");
        if refusals.is_empty() {
            out.null();
        } else {
            out.joined(refusals);
        }
        if !thoughts.is_empty() {
            out.key("reasoning_content").joined(thoughts);
        }
        if has_blocks {
            out.key("thinking_blocks").array(|out| blocks(out, parts));
        }
        if has_calls {
            out.key("tool_calls").array(|out| calls(out, parts));
        }
    });
}

/// The thoughts among `parts`, so that the caller can send them back as they were.
fn blocks(out: &mut Writer, parts: &[Part<'_>]) {
    for part in parts {
        match &part.kind {
            PartKind::Thinking { text, signature } => thinking(out, None, text, signature.as_ref()),
            PartKind::RedactedThinking(data) => redacted(out, None, data),
            _ => {}
        }
    }
}

/// A block of `thinking_blocks`; in a stream, with its index among them.
pub(super) fn thinking(
    out: &mut Writer,
    index: Option<u64>,
    text: &Lit<'_>,
    signature: Option<&Lit<'_>>,
) {
    out.object(|out| {
        if let Some(index) = index {
            out.key("index").number(index);
        }
        out.key("type").string("thinking");
        out.key("thinking").lit(text);
        if let Some(signature) = signature {
            out.key("signature").lit(signature);
        }
    });
}

/// A block of `thinking_blocks` that is encrypted; in a stream, with its index among them.
pub(super) fn redacted(out: &mut Writer, index: Option<u64>, data: &Lit<'_>) {
    out.object(|out| {
        if let Some(index) = index {
            out.key("index").number(index);
        }
        out.key("type").string("redacted_thinking");
        out.key("data").lit(data);
    });
}

fn calls(out: &mut Writer, parts: &[Part<'_>]) {
    for part in parts {
        if let PartKind::ToolCall {
            id,
            name,
            arguments,
        } = &part.kind
        {
            tool_call(out, id, name, arguments);
        }
    }
}

/// The vendor's word for why a choice stopped.
pub(super) const fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::StopSequence | Stop::Paused => "stop",
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::ToolCalls => "tool_calls",
        Stop::Refusal => "content_filter",
    }
}

/// What it cost, as the vendor counts it.
pub(super) fn usage(out: &mut Writer, tokens: &Tokens) {
    let prompt = tokens.prompt();
    out.object(|out| {
        out.key("prompt_tokens").number(prompt);
        out.key("completion_tokens").number(tokens.output);
        out.key("total_tokens")
            .number(prompt.saturating_add(tokens.output));
        out.key("prompt_tokens_details").object(|out| {
            out.key("cached_tokens").number(tokens.cache_read);
            out.key("cache_write_tokens").number(tokens.cache_write);
            out.key("audio_tokens").number(0);
        });
        out.key("completion_tokens_details").object(|out| {
            out.key("reasoning_tokens").number(tokens.reasoning);
            out.key("audio_tokens").number(0);
            out.key("accepted_prediction_tokens").number(0);
            out.key("rejected_prediction_tokens").number(0);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Dialect;
    use crate::wire::form::Arguments;
    use crate::wire::form::PartKind as Kind;
    use crate::wire::json::view::View;

    const ABOUT: About<'static> = About {
        now: 17,
        include_usage: false,
        provider: Dialect::Anthropic,
        response_id: "",
    };

    /// Checks the only choice of an answer with these parts.
    fn check(kinds: Vec<Kind<'_>>, stop: Stop, message: &str, reason: &str) {
        let answer = Answer {
            choices: vec![Choice {
                parts: kinds.into_iter().map(Part::from).collect(),
                stop,
                stop_sequence: None,
                logprobs: None,
            }],
            ..Answer::default()
        };
        let mut dropped = Dropped::default();
        let body = String::from_utf8(write_answer(&answer, &ABOUT, &mut dropped)).unwrap();
        let expected = format!(
            r#""choices":[{{"index":0,"message":{{"role":"assistant",{message}}},"logprobs":null,"finish_reason":"{reason}"}}],"usage""#
        );
        assert!(body.contains(&expected), "{body}\n{expected}");
        assert!(dropped.is_empty());
    }

    fn text(text: &str) -> Kind<'_> {
        Kind::Text(Lit::of(text))
    }

    fn thought<'a>(text: &'a str, signature: Option<&'a str>) -> Kind<'a> {
        Kind::Thinking {
            text: Lit::of(text),
            signature: signature.map(Lit::of),
        }
    }

    #[test]
    fn an_answer_has_all_that_the_vendors_types_demand() {
        let choice = |said, logprobs| Choice {
            parts: vec![Part::from(text(said))],
            stop: Stop::StopSequence,
            stop_sequence: Some(Lit::of("x")),
            logprobs,
        };
        let mut answer = Answer {
            id: Lit::of("msg_1"),
            model: Lit::of("m"),
            created: None,
            choices: vec![
                choice("a", None),
                choice("b", Some(View::new(r#"{"content": []}"#))),
            ],
            usage: Tokens {
                input: 5,
                cache_read: 3,
                cache_write: 1,
                output: 7,
                reasoning: 2,
            },
        };
        let mut dropped = Dropped::default();
        let body = String::from_utf8(write_answer(&answer, &ABOUT, &mut dropped)).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"id":"chatcmpl-msg_1","object":"chat.completion","created":17,"model":"m","choices":["#,
                r#"{"index":0,"message":{"role":"assistant","content":"a","refusal":null},"logprobs":null,"finish_reason":"stop"},"#,
                r#"{"index":1,"message":{"role":"assistant","content":"b","refusal":null},"logprobs":{"content": []},"finish_reason":"stop"}],"#,
                r#""usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"#,
                r#""prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":1,"audio_tokens":0},"#,
                r#""completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#
            )
        );
        assert_eq!(dropped.to_string(), "stop_sequence");
        answer.id = Lit::of("chatcmpl-2");
        answer.created = Some(3);
        let body = String::from_utf8(write_answer(&answer, &ABOUT, &mut dropped)).unwrap();
        let start = r#"{"id":"chatcmpl-2","object":"chat.completion","created":3,"#;
        assert!(body.starts_with(start));
    }

    #[test]
    fn a_message_says_null_where_it_only_calls_tools() {
        let call = |id: &'static str, arguments| Kind::ToolCall {
            id: Lit::of(id),
            name: Lit::of("f"),
            arguments,
        };
        let calls = || {
            vec![
                call("1", Arguments::Json(r#"{"a": "b"}"#.into())),
                call("2", Arguments::Text(Lit::default())),
            ]
        };
        let written = concat!(
            r#""tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": \"b\"}"}},"#,
            r#"{"id":"2","type":"function","function":{"name":"f","arguments":"{}"}}]"#
        );
        check(
            calls(),
            Stop::ToolCalls,
            &format!(r#""content":null,"refusal":null,{written}"#),
            "tool_calls",
        );
        let mut spoken = vec![text("a"), text("b")];
        spoken.extend(calls());
        check(
            spoken,
            Stop::ToolCalls,
            &format!(r#""content":"ab","refusal":null,{written}"#),
            "tool_calls",
        );
        check(
            vec![],
            Stop::MaxTokens,
            r#""content":"","refusal":null"#,
            "length",
        );
        check(
            vec![Kind::Refusal(Lit::of("no"))],
            Stop::Refusal,
            r#""content":null,"refusal":"no""#,
            "content_filter",
        );
    }

    #[test]
    fn thoughts_can_be_sent_back() {
        check(
            vec![thought("h", None), thought("m", None), text("a")],
            Stop::Paused,
            r#""content":"a","refusal":null,"reasoning_content":"hm""#,
            "stop",
        );
        check(
            vec![
                thought("hm", Some("s")),
                Kind::RedactedThinking(Lit::of("x")),
                text("a"),
            ],
            Stop::ContextFull,
            concat!(
                r#""content":"a","refusal":null,"reasoning_content":"hm","thinking_blocks":["#,
                r#"{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"}]"#
            ),
            "length",
        );
    }
}
