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
use super::block::{Block, UNSIGNED, lit, stop_of, usage_of};

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
            ("signature_delta", Kind::Thinking) => match text(delta.signature)? {
                signature if signature.as_escaped() == UNSIGNED => return Ok(()),
                signature => Delta::Signature(signature),
            },
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
