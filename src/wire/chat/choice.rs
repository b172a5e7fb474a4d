//! One choice of a streamed answer: which of its parts are open, and what a delta does to them.
//!
//! Start at [`Choice::delta`].

use super::said::{self, Block, Call, Piece, Said};
use crate::wire::form::{Arguments, Delta, Event, NotOfDialect, PartStart, Stop};
use crate::wire::json::view::Lit;

/// Tool calls of one choice; as many as tools can be offered, many times over.
const CALLS_MAX: usize = 1024;

/// Kinds of parts that grow one at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Refusal,
}

/// What is known of a choice between its deltas.
pub(super) struct Choice {
    pub(super) index: u32,
    /// Parts that have begun.
    parts: u32,
    /// The open part that is no tool call.
    open: Option<(Kind, u32)>,
    /// Whether the open thoughts came as text, so that a block repeats them.
    thought: bool,
    calls: Vec<OpenCall>,
    /// The last reason; whether tools were called is seen at the end.
    pub(super) stop: Option<Stop>,
    pub(super) finished: bool,
}

struct OpenCall {
    /// The server's number of it.
    index: u64,
    /// The server's id of it, escaped.
    id: Option<String>,
    /// Its part, once its name is known.
    part: Option<u32>,
    open: bool,
}

impl OpenCall {
    /// Whether `fragment`, of the same index, is of another call.
    fn is_other(&self, fragment: &Call<'_>) -> bool {
        // Names and ids may be repeated with every fragment, but no call begins without a name.
        if self.part.is_none() || fragment.name.is_none() {
            return false;
        }
        match (&self.id, &fragment.id) {
            (Some(own), Some(other)) => own != other.as_escaped(),
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

impl Choice {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            parts: 0,
            open: None,
            thought: false,
            calls: Vec::new(),
            stop: None,
            finished: false,
        }
    }

    /// Adds what a delta says to `out`.
    pub(super) fn delta<'e>(
        &mut self,
        said: &Said<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let before = out.len();
        if let Some(text) = said.thought.clone() {
            self.grow(Kind::Thinking, Delta::Thinking(text), out);
            self.thought = true;
        }
        for block in said.blocks() {
            self.block(block, out);
        }
        for piece in said.content()? {
            match piece {
                Piece::Text(text) => self.grow(Kind::Text, Delta::Text(text), out),
                Piece::Thinking(text) => self.grow(Kind::Thinking, Delta::Thinking(text), out),
                Piece::Refusal(text) => self.grow(Kind::Refusal, Delta::Refusal(text), out),
            }
        }
        if let Some(text) = said.refusal.clone() {
            self.grow(Kind::Refusal, Delta::Refusal(text), out);
        }
        for (position, call) in said.calls().enumerate() {
            self.call(position as u64, call?, out)?;
        }
        if self.finished && out.len() > before {
            return Err(NotOfDialect("a delta of a choice that is finished"));
        }
        Ok(())
    }

    /// Begins a part, which ends an open one that is no tool call.
    fn begin<'e>(&mut self, kind: PartStart<'e>, out: &mut Vec<Event<'e>>) -> u32 {
        self.stop_open(out);
        let (choice, part) = (self.index, self.parts);
        self.parts += 1;
        out.push(Event::PartStart { choice, part, kind });
        part
    }

    fn stop_open<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        self.thought = false;
        if let Some((_, part)) = self.open.take() {
            let choice = self.index;
            out.push(Event::PartStop { choice, part });
        }
    }

    fn grow<'e>(&mut self, kind: Kind, delta: Delta<'e>, out: &mut Vec<Event<'e>>) {
        let part = match self.open {
            Some((open, part)) if open == kind => part,
            _ => {
                let start = match kind {
                    Kind::Text => PartStart::Text,
                    Kind::Thinking => PartStart::Thinking,
                    Kind::Refusal => PartStart::Refusal,
                };
                let part = self.begin(start, out);
                self.open = Some((kind, part));
                part
            }
        };
        let choice = self.index;
        out.push(Event::PartDelta {
            choice,
            part,
            delta,
        });
    }

    fn block<'e>(&mut self, block: Block<'e>, out: &mut Vec<Event<'e>>) {
        match block {
            Block::Thinking { text, signature } => {
                if !self.thought && !text.is_empty() {
                    self.grow(Kind::Thinking, Delta::Thinking(text), out);
                }
                if let Some(signature) = signature {
                    self.grow(Kind::Thinking, Delta::Signature(signature), out);
                    self.stop_open(out);
                }
            }
            Block::Redacted(data) => {
                let part = self.begin(PartStart::RedactedThinking(data), out);
                let choice = self.index;
                out.push(Event::PartStop { choice, part });
            }
        }
    }

    fn call<'e>(
        &mut self,
        position: u64,
        fragment: Call<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let index = fragment.index.unwrap_or(position);
        let known = self.calls.iter().rposition(|it| it.index == index);
        let at = match known {
            Some(at) if !self.calls[at].is_other(&fragment) => at,
            _ if self.calls.len() == CALLS_MAX => {
                return Err(NotOfDialect("more tool calls than anybody makes"));
            }
            known => {
                if let Some(before) = known {
                    self.stop_call(before, out);
                }
                self.calls.push(OpenCall {
                    index,
                    id: None,
                    part: None,
                    open: false,
                });
                self.calls.len() - 1
            }
        };
        let given = fragment.id.map(|id| id.as_escaped().to_owned());
        let call = &mut self.calls[at];
        call.id = call.id.take().or(given);
        let arguments = fragment.arguments.map(|it| match it {
            Arguments::Json(json) => Lit::of(&json).into_owned(),
            Arguments::Text(text) => text,
        });
        let arguments = arguments.filter(|it| !it.is_empty());
        let part = match (call.part, fragment.name) {
            (Some(part), _) => part,
            (None, Some(name)) => {
                let made = said::made_id(u64::from(self.index), at);
                let id = call.id.clone().map_or(made, Lit::escaped);
                let part = self.begin(PartStart::ToolCall { id, name }, out);
                self.calls[at].part = Some(part);
                self.calls[at].open = true;
                part
            }
            (None, None) if arguments.is_none() => return Ok(()),
            (None, None) => return Err(NotOfDialect("a tool call without a name")),
        };
        if let Some(arguments) = arguments {
            let choice = self.index;
            let delta = Delta::Arguments(arguments);
            out.push(Event::PartDelta {
                choice,
                part,
                delta,
            });
        }
        Ok(())
    }

    fn stop_call<'e>(&mut self, at: usize, out: &mut Vec<Event<'e>>) {
        let call = &mut self.calls[at];
        if let (Some(part), true) = (call.part, call.open) {
            call.open = false;
            let choice = self.index;
            out.push(Event::PartStop { choice, part });
        }
    }

    /// Stops what is open, and finishes the choice.
    pub(super) fn finish<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        self.stop_open(out);
        for at in 0..self.calls.len() {
            self.stop_call(at, out);
        }
        let called = self.calls.iter().any(|call| call.part.is_some());
        let stop = match self.stop.unwrap_or(Stop::End) {
            Stop::End if called => Stop::ToolCalls,
            stop => stop,
        };
        self.finished = true;
        out.push(Event::Finish {
            choice: self.index,
            stop,
            stop_sequence: None,
        });
    }
}
