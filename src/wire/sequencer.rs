//! Puts the parts of a streamed answer one after the other.
//!
//! OpenAI's servers may send the fragments of several tool calls in turns, while Anthropic's
//! dialect has one block open at a time. So one part streams on as it comes, and what belongs to
//! a later one is kept until the open one is done, which a tool call is as soon as its arguments
//! are a whole object: that keeps waiting to what servers really interleave. What is kept is
//! bounded by [`KEPT_BYTES_MAX`].
//!
//! Start at [`Sequencer::event`].

use std::collections::VecDeque;
use std::fmt;

use super::form::{Delta, Event, PartStart};
use super::json::view::Lit;

/// Bytes of parts that wait for another.
pub const KEPT_BYTES_MAX: usize = 8 << 20;
/// What a kept delta costs beside its text.
const DELTA_BYTES: usize = 64;

/// More than [`KEPT_BYTES_MAX`] would have to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "parts of more than {KEPT_BYTES_MAX} bytes wait for another to end"
        )
    }
}

impl std::error::Error for TooLong {}

/// Puts the parts of choice 0 in order. Other choices are left out.
#[derive(Default)]
pub struct Sequencer {
    /// Parts that were begun on the way out.
    parts: u32,
    open: Option<Open>,
    /// Only ever filled behind an open part.
    waiting: VecDeque<Waiting>,
    /// Parts that were closed before they stopped, by their numbers on the way in.
    closed: Vec<(u32, Kind)>,
    kept: usize,
}

/// The part that streams.
struct Open {
    /// Its number on the way in.
    id: u32,
    /// And on the way out.
    part: u32,
    kind: Kind,
    braces: Braces,
}

impl Open {
    /// Whether it can make place for a later part: it has what it needs, or can be gone on with
    /// in another part.
    fn is_done(&self) -> bool {
        self.kind != Kind::ToolCall || self.braces.are_whole()
    }
}

struct Waiting {
    id: u32,
    kind: PartStart<'static>,
    deltas: Vec<Delta<'static>>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Redacted,
    Refusal,
    ToolCall,
}

impl Kind {
    const fn of(start: &PartStart<'_>) -> Self {
        match start {
            PartStart::Text => Self::Text,
            PartStart::Thinking => Self::Thinking,
            PartStart::RedactedThinking(_) => Self::Redacted,
            PartStart::Refusal => Self::Refusal,
            PartStart::ToolCall { .. } => Self::ToolCall,
        }
    }

    /// How a part begins that goes on where one of this kind was closed.
    const fn again(self) -> Option<PartStart<'static>> {
        match self {
            Self::Text => Some(PartStart::Text),
            Self::Thinking => Some(PartStart::Thinking),
            Self::Refusal => Some(PartStart::Refusal),
            Self::Redacted | Self::ToolCall => None,
        }
    }
}

impl Sequencer {
    /// A sequencer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event and adds to `out` what may go out by now.
    ///
    /// # Errors
    /// More would have to be kept than is allowed. The stream cannot go on from there.
    pub fn event<'e>(&mut self, event: Event<'e>, out: &mut Vec<Event<'e>>) -> Result<(), TooLong> {
        match event {
            Event::PartStart {
                choice: 0,
                part,
                kind,
            } => self.begin(part, kind, out)?,
            Event::PartDelta {
                choice: 0,
                part,
                delta,
            } => self.grow(part, delta, out)?,
            Event::PartStop { choice: 0, part } => self.stop(part, out),
            Event::Finish { choice: 0, .. } | Event::End => {
                self.stop_all(out);
                out.push(event);
            }
            Event::Start { .. } | Event::Logprobs { choice: 0, .. } | Event::Usage(_) => {
                out.push(event);
            }
            Event::PartStart { .. }
            | Event::PartDelta { .. }
            | Event::PartStop { .. }
            | Event::Logprobs { .. }
            | Event::Finish { .. } => {}
        }
        Ok(())
    }

    fn begin<'e>(
        &mut self,
        id: u32,
        kind: PartStart<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), TooLong> {
        match &self.open {
            Some(open) if !open.is_done() => {
                self.keep(start_bytes(&kind))?;
                self.waiting.push_back(Waiting {
                    id,
                    kind: owned_start(kind),
                    deltas: Vec::new(),
                    stopped: false,
                });
            }
            // None waits behind one that is done.
            _ => {
                self.close_early(out);
                self.open(id, kind, out);
            }
        }
        Ok(())
    }

    fn grow<'e>(
        &mut self,
        id: u32,
        delta: Delta<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), TooLong> {
        if self.open.as_ref().is_some_and(|open| open.id == id) {
            self.stream(delta, out);
            if !self.waiting.is_empty() && self.open.as_ref().is_some_and(Open::is_done) {
                self.close_early(out);
                self.advance(out);
            }
            return Ok(());
        }
        if let Some(at) = self.waiting.iter().rposition(|it| it.id == id) {
            self.keep(lit_of(&delta).as_escaped().len())?;
            self.waiting[at].deltas.push(owned_delta(delta));
            return Ok(());
        }
        // What is behind a whole object is no part of it, and what is behind the text that it
        // signs no signature.
        let adds = !matches!(delta, Delta::Arguments(_) | Delta::Signature(_));
        if let Some(at) = self.closed.iter().position(|(closed, _)| *closed == id)
            && let Some(again) = self.closed[at].1.again()
            && adds
            && !lit_of(&delta).is_empty()
        {
            self.closed.swap_remove(at);
            self.begin(id, again, out)?;
            return self.grow(id, delta, out);
        }
        Ok(())
    }

    fn stop<'e>(&mut self, id: u32, out: &mut Vec<Event<'e>>) {
        if self.open.as_ref().is_some_and(|open| open.id == id) {
            self.close(out);
            self.advance(out);
        } else if let Some(waiting) = self.waiting.iter_mut().rfind(|it| it.id == id) {
            waiting.stopped = true;
        } else {
            self.closed.retain(|(closed, _)| *closed != id);
        }
    }

    fn stop_all<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        self.waiting.iter_mut().for_each(|it| it.stopped = true);
        self.close(out);
        self.advance(out);
    }

    /// Lets the waiting parts go out, up to one that is not done.
    fn advance<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        while self.open.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.kept -= start_bytes(&next.kind) + DELTA_BYTES;
            self.open(next.id, next.kind, out);
            for delta in next.deltas {
                self.kept -= lit_of(&delta).as_escaped().len() + DELTA_BYTES;
                self.stream(delta, out);
            }
            if next.stopped {
                self.close(out);
            } else if !self.waiting.is_empty() && self.open.as_ref().is_some_and(Open::is_done) {
                self.close_early(out);
            }
        }
    }

    fn open<'e>(&mut self, id: u32, kind: PartStart<'e>, out: &mut Vec<Event<'e>>) {
        let part = self.parts;
        self.parts += 1;
        self.open = Some(Open {
            id,
            part,
            kind: Kind::of(&kind),
            braces: Braces::default(),
        });
        out.push(Event::PartStart {
            choice: 0,
            part,
            kind,
        });
    }

    /// Hands a delta of the open part on.
    fn stream<'e>(&mut self, delta: Delta<'e>, out: &mut Vec<Event<'e>>) {
        let Some(open) = &mut self.open else {
            return;
        };
        if let Delta::Arguments(fragment) = &delta {
            open.braces.read(&fragment.unescape());
        }
        out.push(Event::PartDelta {
            choice: 0,
            part: open.part,
            delta,
        });
    }

    /// Closes the open part, which may still grow on the way in.
    fn close_early<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        if let Some(open) = &self.open {
            self.closed.push((open.id, open.kind));
        }
        self.close(out);
    }

    fn close<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        if let Some(open) = self.open.take() {
            let part = open.part;
            out.push(Event::PartStop { choice: 0, part });
        }
    }

    fn keep(&mut self, bytes: usize) -> Result<(), TooLong> {
        self.kept += bytes + DELTA_BYTES;
        if self.kept > KEPT_BYTES_MAX {
            return Err(TooLong);
        }
        Ok(())
    }
}

/// Whether a text that comes in fragments is one whole object, going by its braces: of a text
/// that is no JSON, nothing better could be made by waiting.
#[derive(Default)]
struct Braces {
    depth: usize,
    began: bool,
    /// Something stands before the object or behind it.
    broken: bool,
    in_string: bool,
    escaped: bool,
}

impl Braces {
    fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' if !self.began => {
                    self.began = true;
                    self.depth = 1;
                }
                b' ' | b'\t' | b'\n' | b'\r' => {}
                _ if self.depth == 0 => self.broken = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
    }

    const fn are_whole(&self) -> bool {
        self.began && self.depth == 0 && !self.broken
    }
}

const fn lit_of<'d, 'e>(delta: &'d Delta<'e>) -> &'d Lit<'e> {
    match delta {
        Delta::Text(lit)
        | Delta::Thinking(lit)
        | Delta::Signature(lit)
        | Delta::Refusal(lit)
        | Delta::Arguments(lit) => lit,
    }
}

fn owned_delta(delta: Delta<'_>) -> Delta<'static> {
    match delta {
        Delta::Text(lit) => Delta::Text(lit.into_owned()),
        Delta::Thinking(lit) => Delta::Thinking(lit.into_owned()),
        Delta::Signature(lit) => Delta::Signature(lit.into_owned()),
        Delta::Refusal(lit) => Delta::Refusal(lit.into_owned()),
        Delta::Arguments(lit) => Delta::Arguments(lit.into_owned()),
    }
}

fn owned_start(start: PartStart<'_>) -> PartStart<'static> {
    match start {
        PartStart::Text => PartStart::Text,
        PartStart::Thinking => PartStart::Thinking,
        PartStart::RedactedThinking(data) => PartStart::RedactedThinking(data.into_owned()),
        PartStart::Refusal => PartStart::Refusal,
        PartStart::ToolCall { id, name } => PartStart::ToolCall {
            id: id.into_owned(),
            name: name.into_owned(),
        },
    }
}

fn start_bytes(start: &PartStart<'_>) -> usize {
    match start {
        PartStart::Text | PartStart::Thinking | PartStart::Refusal => 0,
        PartStart::RedactedThinking(data) => data.as_escaped().len(),
        PartStart::ToolCall { id, name } => id.as_escaped().len() + name.as_escaped().len(),
    }
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
