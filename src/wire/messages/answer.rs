//! Reads and writes a whole answer, the `Message` object.
//!
//! Reading keeps to what the form has a place for: the blocks of tools that Anthropic itself runs,
//! citations and such are passed over, since the text beside them says the same to a client that
//! knows nothing of them. Writing gives every member that the SDK's types insist on.

use super::super::Dialect;
use super::super::form::{Answer, Arguments, Choice, Dropped, NotOfDialect, Part, PartKind, Stop};
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::super::translate::About;
use super::block::{
    Block, Held, UNSIGNED, lit, stop_of, usage_of, write_message_head, write_message_id,
    write_usage,
};

/// The answer that `body` is.
///
/// # Errors
/// It has no list of content blocks, or one of them lacks what it is made of.
pub fn read_answer<'a>(body: View<'a>) -> Result<Answer<'a>, NotOfDialect> {
    let mut message = Message::default();
    for (name, value) in body.members() {
        let place = match name.as_ref() {
            "id" => &mut message.id,
            "model" => &mut message.model,
            "content" => &mut message.content,
            "stop_reason" => &mut message.stop_reason,
            "stop_sequence" => &mut message.stop_sequence,
            "usage" => &mut message.usage,
            _ => continue,
        };
        *place = Some(value).filter(|value| !value.is_null());
    }
    let content = message
        .content
        .filter(|content| content.is_array())
        .ok_or(NotOfDialect("a message without a list of content"))?;
    let mut parts = Vec::new();
    for block in content.items() {
        parts.extend(part_of(block)?.map(Part::from));
    }
    let reason = message.stop_reason.and_then(View::string);
    Ok(Answer {
        id: lit(message.id).unwrap_or_default(),
        model: lit(message.model).unwrap_or_default(),
        created: None,
        choices: vec![Choice {
            parts,
            stop: reason.map_or(Stop::End, |reason| stop_of(&reason)),
            stop_sequence: lit(message.stop_sequence),
            logprobs: None,
        }],
        usage: usage_of(message.usage).tokens(Dialect::Anthropic),
    })
}

#[derive(Default)]
struct Message<'a> {
    id: Option<View<'a>>,
    model: Option<View<'a>>,
    content: Option<View<'a>>,
    stop_reason: Option<View<'a>>,
    stop_sequence: Option<View<'a>>,
    usage: Option<View<'a>>,
}

/// The part that a content block is; `None` for what the form has no place for.
fn part_of(view: View<'_>) -> Result<Option<PartKind<'_>>, NotOfDialect> {
    let block = Block::of(view, |_| {});
    let kind = match block.kind().as_ref() {
        "text" => lit(block.text).map(PartKind::Text),
        "thinking" => lit(block.thinking).map(|text| PartKind::Thinking {
            text,
            signature: block.signature(),
        }),
        "redacted_thinking" => {
            let data = lit(block.data);
            data.map(PartKind::RedactedThinking)
        }
        "tool_use" => tool_call(&block),
        _ => return Ok(None),
    };
    kind.map(Some).ok_or(NotOfDialect(
        "a content block without what its type asks for",
    ))
}

fn tool_call<'a>(block: &Block<'a>) -> Option<PartKind<'a>> {
    let input = block.input.map_or("{}", View::text);
    Some(PartKind::ToolCall {
        id: block.id?.lit()?,
        name: block.name?.lit()?,
        arguments: Arguments::Json(View::new(input).is_object().then_some(input)?.into()),
    })
}

/// The body that `answer` is. What Anthropic has no word for is noted in `dropped`.
pub fn write_answer(answer: &Answer<'_>, _: &About<'_>, dropped: &mut Dropped) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.object(|it| {
        it.key("id");
        write_message_id(it, &answer.id);
        write_message_head(it, &answer.model);
        it.key("content");
        let choice = answer.choices.first();
        let parts = choice.map_or(&[][..], |choice| &choice.parts);
        let held = write_parts(it, parts, dropped);
        it.key("stop_reason");
        it.string(held.stop_reason(choice.map_or(Stop::End, |choice| choice.stop)));
        it.key("stop_sequence");
        write_or_null(it, choice.and_then(|choice| choice.stop_sequence.as_ref()));
        it.key("stop_details").null();
        it.key("usage");
        write_usage(it, &answer.usage);
    });
    if answer.choices.len() > 1 {
        dropped.note("n");
    }
    if answer.choices.iter().any(|it| it.logprobs.is_some()) {
        dropped.note("logprobs");
    }
    writer.into_bytes()
}

/// Writes a text, or `null` for none.
pub(super) fn write_or_null(it: &mut Writer, text: Option<&Lit<'_>>) {
    match text {
        Some(text) => it.lit(text),
        None => it.null(),
    };
}

/// Writes the list of content blocks that `parts` are, and says what was among them.
fn write_parts(it: &mut Writer, parts: &[Part<'_>], dropped: &mut Dropped) -> Held {
    let mut held = Held::default();
    it.array(|it| {
        for part in parts {
            match &part.kind {
                PartKind::Text(text) => write_text(it, text),
                PartKind::Refusal(text) => {
                    held.refusal = true;
                    write_text(it, text);
                }
                PartKind::Thinking { text, signature } => {
                    it.object(|it| {
                        it.key("type").string("thinking");
                        it.key("thinking").lit(text);
                        it.key("signature");
                        it.lit(&signature.clone().unwrap_or(Lit::of(UNSIGNED)));
                    });
                }
                PartKind::RedactedThinking(data) => {
                    it.object(|it| {
                        it.key("type").string("redacted_thinking");
                        it.key("data").lit(data);
                    });
                }
                PartKind::ToolCall {
                    id,
                    name,
                    arguments,
                } => {
                    held.tool_call = true;
                    write_call(it, id, name, arguments, dropped);
                }
                PartKind::Image { .. }
                | PartKind::Document { .. }
                | PartKind::ToolResult { .. } => dropped.note("content[]"),
            }
        }
    });
    held
}

fn write_text(it: &mut Writer, text: &Lit<'_>) {
    it.object(|it| {
        it.key("type").string("text");
        it.key("text").lit(text);
    });
}

fn write_call(
    it: &mut Writer,
    id: &Lit<'_>,
    name: &Lit<'_>,
    arguments: &Arguments<'_>,
    dropped: &mut Dropped,
) {
    // The model wrote no JSON object, most likely since it ran out of tokens. Only such a one can
    // stand here.
    let input = arguments.as_object().unwrap_or_else(|| {
        dropped.note("content[].input");
        "{}".into()
    });
    it.object(|it| {
        it.key("type").string("tool_use");
        it.key("id").lit(id);
        it.key("name").lit(name);
        it.key("input").raw(&input);
        write_caller(it);
    });
}

/// Writes who called a tool, which the SDK's type insists on: the model itself.
pub(super) fn write_caller(it: &mut Writer) {
    it.key("caller").object(|it| {
        it.key("type").string("direct");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::Tokens;
    use crate::wire::json::walk_object;

    const ABOUT: About<'_> = About {
        now: 0,
        include_usage: true,
        provider: Dialect::Openai,
        response_id: "resp_1",
    };

    fn answer(parts: Vec<PartKind<'static>>, stop: Stop) -> Answer<'static> {
        Answer {
            id: Lit::of("chatcmpl-1"),
            model: Lit::of("gpt"),
            created: Some(1),
            choices: vec![Choice {
                parts: parts.into_iter().map(Part::from).collect(),
                stop,
                stop_sequence: None,
                logprobs: None,
            }],
            usage: Tokens::default(),
        }
    }

    /// Content and stop reason of what is written, and what is dropped.
    fn written(answer: &Answer<'_>) -> (String, String, String) {
        let mut dropped = Dropped::default();
        let body = String::from_utf8(write_answer(answer, &ABOUT, &mut dropped)).unwrap();
        walk_object(&body, |_| {}).unwrap();
        let view = View::new(&body);
        let text = |name: &str| view.get(name).unwrap().text().to_owned();
        (text("content"), text("stop_reason"), dropped.to_string())
    }

    #[test]
    fn an_answer_is_read_with_all_that_the_form_has() {
        let body = View::new(
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[
            {"type":"thinking","thinking":"hm","signature":"sig"},{"type":"redacted_thinking","data":"enc"},
            {"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}},
            {"type":"web_search_tool_result","tool_use_id":"s","content":[]},
            {"type":"text","text":"a\n","citations":[{"type":"page_location"}]},
            {"type":"tool_use","id":"t","name":"f","input":{ "a" : 1 },"caller":{"type":"direct"}}],
            "stop_reason":"tool_use","stop_sequence":null,
            "usage":{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":2}}"#,
        );
        let thought = PartKind::Thinking {
            text: Lit::of("hm"),
            signature: Some(Lit::of("sig")),
        };
        let call = PartKind::ToolCall {
            id: Lit::of("t"),
            name: Lit::of("f"),
            arguments: Arguments::Json(r#"{ "a" : 1 }"#.into()),
        };
        let parts = vec![
            thought,
            PartKind::RedactedThinking(Lit::of("enc")),
            PartKind::Text(Lit::escaped("a\\n")),
            call,
        ];
        let mut expected = answer(parts, Stop::ToolCalls);
        expected.id = Lit::of("msg_1");
        expected.model = Lit::of("claude");
        expected.created = None;
        expected.usage = Tokens {
            input: 7,
            cache_read: 3,
            output: 2,
            ..Tokens::default()
        };
        assert_eq!(read_answer(body), Ok(expected));
    }

    #[test]
    fn what_is_no_message_is_not_of_the_dialect() {
        let check = |body: &str| assert!(read_answer(View::new(body)).is_err(), "{body}");
        check(r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#);
        check(r#"{"content":"text"}"#);
        check(r#"{"content":[{"type":"text"}]}"#);
        check(r#"{"content":[{"type":"tool_use","id":"t","name":"f","input":[1]}]}"#);
        let bare = read_answer(View::new(r#"{"content":[]}"#)).unwrap();
        assert_eq!(bare.choices[0].stop, Stop::End);
    }

    #[test]
    fn an_answer_is_written_with_all_that_the_sdk_insists_on() {
        let mut answer = answer(vec![PartKind::Text(Lit::of("hi"))], Stop::StopSequence);
        answer.choices[0].stop_sequence = Some(Lit::of("END"));
        answer.usage = Tokens {
            input: 5,
            cache_read: 4,
            cache_write: 3,
            output: 2,
            reasoning: 1,
        };
        let body = write_answer(&answer, &ABOUT, &mut Dropped::default());
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"id":"msg_chatcmpl-1","type":"message","role":"assistant","model":"gpt","container":null,"#,
                r#""diagnostics":null,"content":[{"type":"text","text":"hi"}],"#,
                r#""stop_reason":"stop_sequence","stop_sequence":"END","stop_details":null,"#,
                r#""usage":{"input_tokens":5,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"#,
                r#""output_tokens":2,"output_tokens_details":{"thinking_tokens":1},"server_tool_use":null,"#,
                r#""cache_creation":null,"inference_geo":null,"service_tier":null,"speed":null}}"#,
            )
        );
    }

    #[test]
    fn parts_are_written_as_blocks() {
        let check = |kind: PartKind<'static>, stop: Stop, block: &str, reason: &str| {
            let (content, stop_reason, dropped) = written(&answer(vec![kind], stop));
            assert_eq!(content, format!("[{block}]"));
            assert_eq!(stop_reason, format!("\"{reason}\""));
            assert_eq!(dropped, "");
        };
        check(
            PartKind::Refusal(Lit::of("no")),
            Stop::End,
            r#"{"type":"text","text":"no"}"#,
            "refusal",
        );
        check(
            PartKind::Thinking {
                text: Lit::of("hm"),
                signature: None,
            },
            Stop::MaxTokens,
            r#"{"type":"thinking","thinking":"hm","signature":"dW5zaWduZWQ="}"#,
            "max_tokens",
        );
        check(
            PartKind::ToolCall {
                id: Lit::of("t"),
                name: Lit::of("f"),
                arguments: Arguments::Text(Lit::escaped(r#"{\"a\":1}"#)),
            },
            Stop::ToolCalls,
            r#"{"type":"tool_use","id":"t","name":"f","input":{"a":1},"caller":{"type":"direct"}}"#,
            "tool_use",
        );
    }

    #[test]
    fn what_has_no_place_in_a_message_is_named() {
        let mut answer = answer(vec![], Stop::End);
        assert_eq!(written(&answer).0, "[]");
        answer.choices[0].logprobs = Some(View::new("{}"));
        answer.choices[0].parts.push(Part::from(PartKind::ToolCall {
            id: Lit::of("t"),
            name: Lit::of("f"),
            arguments: Arguments::Text(Lit::of("{\"a")),
        }));
        answer.choices.push(answer.choices[0].clone());
        let (content, _, dropped) = written(&answer);
        assert!(content.contains(r#""input":{},"#), "{content}");
        assert_eq!(dropped, "content[].input, n, logprobs");
        answer.choices.clear();
        assert_eq!(written(&answer).0, "[]");
    }
}
