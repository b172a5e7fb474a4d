//! Reads a streamed answer: `message_start`, then content blocks, `message_delta`, `message_stop`.
//!
//! Blocks are numbered anew over those that are passed on, since the blocks of tools that
//! Anthropic itself runs are not. Order is checked only as far as whoever takes the events relies
//! on it.
//!
//! Start at [`Decoder::event`].

use super::super::Dialect;
use super::super::form::{Delta, Event, NotOfDialect, PartStart, Stop};
use super::super::json::view::{Lit, View};
use super::super::usage::Usage;
use super::block::{Block, lit, stop_of, usage_of};

/// Blocks open at once; Anthropic itself has one.
const OPEN_MAX: usize = 64;
const LACKS: NotOfDialect = NotOfDialect("a content_block_start without what its type asks for");

/// The reader of one stream.
#[derive(Debug, Default)]
pub struct Decoder {
    stage: Stage,
    open: Vec<Open>,
    /// Parts begun so far.
    parts: u32,
    usage: Usage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Before `message_start`.
    #[default]
    New,
    Begun,
    /// The stop reason is known.
    Finished,
    /// After `message_stop`.
    Ended,
}

/// A block that has begun and not ended.
#[derive(Debug)]
struct Open {
    /// The provider's number of it.
    index: u64,
    /// Ours; `None` for a block that is not passed on.
    part: Option<u32>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thinking,
    ToolCall {
        /// Arguments that came with its start, unless others followed.
        input: Option<String>,
    },
    /// What does not grow, and what is not passed on.
    Other,
}

impl Decoder {
    /// The reader of a stream that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the data of the next event and puts what it says behind `out`: nothing for a ping and
    /// for events that nobody knows yet.
    ///
    /// # Errors
    /// The event lacks what its type asks for, or cannot come now. The stream cannot go on.
    pub fn event<'e>(
        &mut self,
        data: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let kind = data.get("type").and_then(View::string).unwrap_or_default();
        match kind.as_ref() {
            _ if self.stage == Stage::Ended => Ok(()),
            "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_delta"
            | "message_stop"
                if self.stage == Stage::New =>
            {
                Err(NotOfDialect("an event before message_start"))
            }
            "message_start" => self.start(data, out),
            "content_block_start" => self.block_start(data, out),
            "content_block_delta" => self.block_delta(data, out),
            "content_block_stop" => self.block_stop(data, out),
            "message_delta" => {
                self.message_delta(data, out);
                Ok(())
            }
            "message_stop" => {
                self.finish(Stop::End, None, out);
                self.stage = Stage::Ended;
                out.push(Event::End);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start<'e>(&mut self, data: View<'e>, out: &mut Vec<Event<'e>>) -> Result<(), NotOfDialect> {
        if self.stage != Stage::New {
            return Err(NotOfDialect("a second message_start"));
        }
        self.stage = Stage::Begun;
        let message = data
            .get("message")
            .filter(|message| message.is_object())
            .ok_or(NotOfDialect("a message_start without its message"))?;
        let text = |name: &str| message.get(name).and_then(View::lit).unwrap_or_default();
        let usage = message.get("usage");
        self.usage = usage_of(usage);
        out.push(Event::Start {
            id: text("id"),
            model: text("model"),
            created: None,
            usage: usage.map(|_| self.usage.tokens(Dialect::Anthropic)),
        });
        Ok(())
    }

    fn block_start<'e>(
        &mut self,
        data: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        if self.stage != Stage::Begun {
            return Err(NotOfDialect("a content block after the stop reason"));
        }
        let index = data.get("index").and_then(View::u64).ok_or(LACKS)?;
        let block = data.get("content_block").ok_or(LACKS)?;
        if self.open.iter().any(|open| open.index == index) {
            return Err(NotOfDialect("a content block that is open already"));
        }
        if self.open.len() == OPEN_MAX {
            return Err(NotOfDialect("too many content blocks are open at once"));
        }
        let Some((kind, start, deltas)) = beginning(block)? else {
            self.open.push(Open {
                index,
                part: None,
                kind: Kind::Other,
            });
            return Ok(());
        };
        let part = self.parts;
        self.parts = part
            .checked_add(1)
            .ok_or(NotOfDialect("too many content blocks"))?;
        self.open.push(Open {
            index,
            part: Some(part),
            kind,
        });
        out.push(Event::PartStart {
            choice: 0,
            part,
            kind: start,
        });
        for delta in deltas.into_iter().flatten() {
            push_delta(part, delta, out);
        }
        Ok(())
    }

    fn block_delta<'e>(
        &mut self,
        data: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let at = self.open_at(data)?;
        let Some(open) = self.open.get_mut(at) else {
            return Ok(());
        };
        let (Some(part), Some(delta)) = (open.part, data.get("delta")) else {
            return Ok(());
        };
        let delta = Block::of(delta, |_| {});
        let text =
            |value: Option<View<'e>>| lit(value).ok_or(NotOfDialect("a delta without its text"));
        let delta = match (delta.kind().as_ref(), &mut open.kind) {
            ("text_delta", Kind::Text) => Delta::Text(text(delta.text)?),
            ("thinking_delta", Kind::Thinking) => Delta::Thinking(text(delta.thinking)?),
            ("signature_delta", Kind::Thinking) => Delta::Signature(text(delta.signature)?),
            ("input_json_delta", Kind::ToolCall { input }) => {
                let fragment = text(delta.partial_json)?;
                if !fragment.is_empty() {
                    *input = None;
                }
                Delta::Arguments(fragment)
            }
            ("text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta", _) => {
                return Err(NotOfDialect("a delta of another type than its block"));
            }
            // Citations, and what nobody knows yet.
            _ => return Ok(()),
        };
        push_delta(part, delta, out);
        Ok(())
    }

    fn block_stop<'e>(
        &mut self,
        data: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let at = self.open_at(data)?;
        self.open.remove(at).stop(out);
        Ok(())
    }

    fn message_delta<'e>(&mut self, data: View<'e>, out: &mut Vec<Event<'e>>) {
        let delta = data.get("delta");
        let reason = delta.and_then(|delta| delta.get("stop_reason")?.string());
        if let Some(reason) = reason {
            let sequence = delta.and_then(|delta| delta.get("stop_sequence")?.lit());
            self.finish(stop_of(&reason), sequence, out);
        }
        if let Some(usage) = data.get("usage") {
            self.usage.update(usage_of(Some(usage)));
            out.push(Event::Usage(self.usage.tokens(Dialect::Anthropic)));
        }
    }

    fn finish<'e>(&mut self, stop: Stop, stop_sequence: Option<Lit<'e>>, out: &mut Vec<Event<'e>>) {
        if self.stage != Stage::Begun {
            return;
        }
        self.stage = Stage::Finished;
        for open in self.open.drain(..) {
            open.stop(out);
        }
        out.push(Event::Finish {
            choice: 0,
            stop,
            stop_sequence,
        });
    }

    /// Where the open block is that an event is about.
    fn open_at(&self, data: View<'_>) -> Result<usize, NotOfDialect> {
        let index = data.get("index").and_then(View::u64);
        self.open
            .iter()
            .position(|open| Some(open.index) == index)
            .ok_or(NotOfDialect("an event of a content block that is not open"))
    }
}

/// How the part begins that a `content_block` is, and what it says by then; `None` for a block
/// that is not passed on.
#[expect(clippy::type_complexity, reason = "taken apart at its only call")]
fn beginning(
    block: View<'_>,
) -> Result<Option<(Kind, PartStart<'_>, [Option<Delta<'_>>; 2])>, NotOfDialect> {
    let block = Block::of(block, |_| {});
    Ok(Some(match block.kind().as_ref() {
        "text" => {
            let text = lit(block.text).map(Delta::Text);
            (Kind::Text, PartStart::Text, [text, None])
        }
        "thinking" => {
            let deltas = [
                lit(block.thinking).map(Delta::Thinking),
                lit(block.signature).map(Delta::Signature),
            ];
            (Kind::Thinking, PartStart::Thinking, deltas)
        }
        "redacted_thinking" => {
            let data = lit(block.data).ok_or(LACKS)?;
            (Kind::Other, PartStart::RedactedThinking(data), [None, None])
        }
        "tool_use" => {
            let input = block.input.filter(|it| it.members().next().is_some());
            let input = input.map(|input| input.text().to_owned());
            let start = PartStart::ToolCall {
                id: lit(block.id).ok_or(LACKS)?,
                name: lit(block.name).ok_or(LACKS)?,
            };
            (Kind::ToolCall { input }, start, [None, None])
        }
        _ => return Ok(None),
    }))
}

impl Open {
    fn stop(self, out: &mut Vec<Event<'_>>) {
        let Some(part) = self.part else {
            return;
        };
        if let Kind::ToolCall { input: Some(input) } = self.kind {
            push_delta(part, Delta::Arguments(Lit::of(&input).into_owned()), out);
        }
        out.push(Event::PartStop { choice: 0, part });
    }
}

/// Puts `delta` behind `out` unless it says nothing.
fn push_delta<'e>(part: u32, delta: Delta<'e>, out: &mut Vec<Event<'e>>) {
    let (Delta::Text(text)
    | Delta::Thinking(text)
    | Delta::Signature(text)
    | Delta::Refusal(text)
    | Delta::Arguments(text)) = &delta;
    if !text.is_empty() {
        out.push(Event::PartDelta {
            choice: 0,
            part,
            delta,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":9,"output_tokens":1}}}"#;

    /// The events after `message_start`, in short.
    fn read(stream: &[&str]) -> Result<Vec<String>, NotOfDialect> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        decoder.event(View::new(START), &mut out)?;
        out.clear();
        for data in stream {
            decoder.event(View::new(data), &mut out)?;
        }
        Ok(out.iter().map(short).collect())
    }

    fn short(event: &Event<'_>) -> String {
        match event {
            Event::PartStart { part, kind, .. } => format!("{part} {kind:?}"),
            Event::PartDelta { part, delta, .. } => format!("{part} {delta:?}"),
            Event::PartStop { part, .. } => format!("{part} stop"),
            Event::Finish {
                stop,
                stop_sequence,
                ..
            } => format!("{stop:?} {stop_sequence:?}"),
            Event::Usage(tokens) => format!("{} {}", tokens.input, tokens.output),
            other => format!("{other:?}"),
        }
        .replace("Lit(", "(")
    }

    fn check(stream: &[&str], expected: &[&str]) {
        assert_eq!(read(stream).unwrap(), expected);
    }

    #[test]
    fn a_stream_begins_with_its_message() {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        decoder
            .event(View::new(r#"{"type":"ping"}"#), &mut out)
            .unwrap();
        decoder.event(View::new(START), &mut out).unwrap();
        let usage = super::super::super::form::Tokens {
            input: 9,
            output: 1,
            ..Default::default()
        };
        let start = Event::Start {
            id: Lit::of("msg_1"),
            model: Lit::of("m"),
            created: None,
            usage: Some(usage),
        };
        assert_eq!(out, [start]);
        assert!(decoder.event(View::new(START), &mut out).is_err());
    }

    #[test]
    fn every_kind_of_block_is_read_and_the_others_are_not_counted() {
        check(
            &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"enc"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
                r#"{"type":"content_block_stop","index":2}"#,
                r#"{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"so","citations":null}}"#,
                r#"{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{}}}"#,
                r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"\n"}}"#,
                r#"{"type":"something_new","index":3}"#,
                r#"{"type":"content_block_stop","index":3}"#,
                r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
                r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
                r#"{"type":"content_block_stop","index":4}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":12}}"#,
                r#"{"type":"message_stop"}"#,
            ],
            &[
                "0 Thinking",
                r#"0 Thinking(("hm"))"#,
                r#"0 Signature(("sig"))"#,
                "0 stop",
                r#"1 RedactedThinking(("enc"))"#,
                "1 stop",
                "2 Text",
                r#"2 Text(("so"))"#,
                r#"2 Text(("\\n"))"#,
                "2 stop",
                r#"3 ToolCall { id: ("t"), name: ("f") }"#,
                r#"3 Arguments(("{\\\"a\\\":"))"#,
                r#"3 Arguments(("1}"))"#,
                "3 stop",
                "ToolCalls None",
                "9 12",
                "End",
            ],
        );
    }

    #[test]
    fn arguments_that_come_with_the_start_are_passed_on_unless_others_follow() {
        const CALL: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#;
        const STOP: &str = r#"{"type":"content_block_stop","index":0}"#;
        let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
        let start = r#"0 ToolCall { id: ("t"), name: ("f") }"#;
        check(
            &[CALL, STOP],
            &[start, r#"0 Arguments(("{\\\"a\\\":1}"))"#, "0 stop"],
        );
        check(
            &[CALL, delta, STOP],
            &[start, r#"0 Arguments(("{}"))"#, "0 stop"],
        );
    }

    #[test]
    fn what_is_open_ends_with_the_stop_reason_which_comes_once() {
        check(
            &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":8,"output_tokens":3}}"#,
                r#"{"type":"message_stop"}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            &[
                "0 Text",
                "0 stop",
                r#"StopSequence Some(("END"))"#,
                "8 3",
                "End",
            ],
        );
        check(&[r#"{"type":"message_stop"}"#], &["End None", "End"]);
    }

    #[test]
    fn what_comes_out_of_order_is_not_of_the_dialect() {
        let check = |stream: &[&str], expected: &str| {
            assert_eq!(read(stream).unwrap_err().0, expected, "{stream:?}");
        };
        const TEXT: &str =
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
        check(
            &[
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            ],
            "an event of a content block that is not open",
        );
        check(&[TEXT, TEXT], "a content block that is open already");
        check(
            &[
                TEXT,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}"#,
            ],
            "a delta of another type than its block",
        );
        check(
            &[
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                TEXT,
            ],
            "a content block after the stop reason",
        );
        check(
            &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t"}}"#,
            ],
            LACKS.0,
        );
        let mut decoder = Decoder::new();
        assert_eq!(
            decoder.event(View::new(TEXT), &mut Vec::new()),
            Err(NotOfDialect("an event before message_start"))
        );
    }
}
