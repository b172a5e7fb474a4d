//! The body of an answer as a small state machine that makes the next piece when asked.
//!
//! [`Steps::delay`] says how long to wait before the next step, [`Steps::render`] makes it. The
//! machine keeps no time itself, so the server's timer threads, a worker in process, and a test
//! all drive it alike.

use std::time::Duration;

use super::chat::{Chat, Event};
use super::vectors::Vectors;

/// What is sent.
#[derive(Debug)]
pub enum Body {
    /// Bytes that are made already.
    Ready(Vec<u8>),
    /// A chat answer as one JSON body.
    Plain(Box<Chat>),
    /// A chat answer as server-sent events.
    Events(Box<Chat>),
    /// Embeddings.
    Vectors(Box<Vectors>),
}

/// How a body departs from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Departures {
    /// Before the first event.
    pub first_token: Duration,
    /// Between tokens.
    pub gap: Duration,
    /// No more than so many tokens, and then nothing: not even the closing.
    pub tokens_max: Option<u32>,
    /// The event (from 1) that is broken; of a plain body, the body.
    pub malformed: Option<u32>,
    /// Leave the end marker out.
    pub no_end: bool,
}

/// The steps of a body.
#[derive(Debug)]
pub struct Steps {
    body: Body,
    departures: Departures,
    /// The event that comes next; of a body that is not a stream, whether it is still to come.
    next: Option<Event>,
    events: u32,
    tokens: u32,
    /// Rounds begun: each is one token of every choice that is that long.
    rounds: u32,
    /// Whether the next event begins a round that is not the first.
    is_later_round: bool,
}

impl Steps {
    /// The steps of `body`.
    pub fn new(body: Body, departures: Departures) -> Self {
        let mut steps = Self {
            body,
            departures,
            next: Some(Event::Opening(0)),
            events: 0,
            tokens: 0,
            rounds: 0,
            is_later_round: false,
        };
        if let Body::Events(chat) = &steps.body
            && chat.openings() == 0
        {
            let walk = Walk::new(chat, &steps.departures, 0);
            (steps.next, steps.rounds) = (walk.part(0), 1);
        }
        steps
    }

    /// How long to wait before the next step, counted from the one before; `None` after the last.
    pub fn delay(&self) -> Option<Duration> {
        self.next?;
        Some(match self.body {
            Body::Events(_) if self.events == 0 => self.departures.first_token,
            Body::Events(_) if self.is_later_round => self.departures.gap,
            _ => Duration::ZERO,
        })
    }

    /// Appends the bytes of the next step; nothing after the last.
    pub fn render(&mut self, out: &mut Vec<u8>) {
        let Body::Events(chat) = &self.body else {
            return self.render_whole(out);
        };
        let Some(event) = self.next else {
            return;
        };
        let start = out.len();
        chat.event(event, self.events, out);
        self.events = self.events.saturating_add(1);
        let is_token = matches!(event, Event::Token { .. });
        self.tokens = self.tokens.saturating_add(is_token.into());
        let walk = Walk::new(chat, &self.departures, self.rounds);
        let next = walk.after(event);
        // Within a round there is nothing between the tokens of different choices.
        let begins_round = match (event, next) {
            (
                Event::Token { part, index, .. },
                Some(Event::Token {
                    part: p, index: i, ..
                }),
            ) => (part, index) != (p, i),
            (_, next) => matches!(next, Some(Event::Token { .. })),
        };
        self.is_later_round = begins_round && self.rounds > 0;
        self.rounds = self.rounds.saturating_add(begins_round.into());
        self.next = next;
        if self.departures.malformed == Some(self.events) {
            break_event(out, start);
        }
    }

    /// A body that is not a stream is one step.
    fn render_whole(&mut self, out: &mut Vec<u8>) {
        if self.next.take().is_none() {
            return;
        }
        let start = out.len();
        match &mut self.body {
            Body::Ready(bytes) if start == 0 => *out = std::mem::take(bytes),
            Body::Ready(bytes) => out.extend_from_slice(bytes),
            Body::Plain(chat) | Body::Events(chat) => {
                chat.plain(out);
                self.tokens = chat.tokens_total();
            }
            Body::Vectors(vectors) => vectors.plain(out),
        }
        if self.departures.tokens_max.is_some() || self.departures.malformed.is_some() {
            out.truncate(start + (out.len() - start) / 2);
        }
    }

    /// Tokens sent so far. Half a plain body counts as all of them.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether nothing is waited for between the steps.
    pub fn is_unpaced(&self) -> bool {
        self.departures.gap.is_zero() && self.departures.first_token.is_zero()
    }

    /// About how many bytes are still to be made without a wait in between: what decides whether
    /// a thread that must not work long may do it.
    pub fn work_bytes(&self) -> usize {
        let tokens = |chat: &Chat, each: usize| {
            chat.tokens_total() as usize * (each + chat.logprob_bytes())
                + 1024
                + 3 * chat.echo.len()
        };
        match &self.body {
            Body::Ready(_) => 0,
            Body::Plain(chat) => tokens(chat, 8),
            Body::Events(chat) => tokens(chat, 256),
            Body::Vectors(vectors) => vectors.seeds.len() * vectors.dimensions * 12,
        }
    }
}

/// The way through the events of a stream.
struct Walk<'a> {
    chat: &'a Chat,
    /// How many rounds of tokens there may still be.
    rounds_left: u32,
    is_cut: bool,
    no_end: bool,
}

impl<'a> Walk<'a> {
    fn new(chat: &'a Chat, departures: &Departures, rounds: u32) -> Self {
        let most = departures.tokens_max.unwrap_or(u32::MAX);
        Self {
            chat,
            rounds_left: most.saturating_sub(rounds),
            is_cut: departures.tokens_max.is_some(),
            no_end: departures.no_end,
        }
    }

    /// What comes after `event`.
    fn after(&self, event: Event) -> Option<Event> {
        match event {
            Event::Opening(index) if index + 1 < self.chat.openings() => {
                Some(Event::Opening(index + 1))
            }
            Event::Opening(_) => self.part(0),
            Event::PartOpening { part, index } if index + 1 < self.chat.part_openings(part) => {
                let index = index + 1;
                Some(Event::PartOpening { part, index })
            }
            Event::PartOpening { part, .. } => self.round(part, 0),
            Event::Token {
                part,
                index,
                choice,
            } => self
                .token(part, index, choice + 1)
                .or_else(|| self.round(part, index + 1)),
            Event::PartClosing { part, index } if index + 1 < self.chat.part_closings(part) => {
                let index = index + 1;
                Some(Event::PartClosing { part, index })
            }
            Event::PartClosing { part, .. } => self.part(part + 1),
            Event::Closing(index) => self.closing(index + 1),
        }
    }

    /// The first event of a part, or of the closing where there is no such part.
    fn part(&self, part: usize) -> Option<Event> {
        if part == self.chat.parts.len() {
            // What is cut has no closing, even where it ended before the cut.
            return if self.is_cut { None } else { self.closing(0) };
        }
        match self.chat.part_openings(part) {
            0 => self.round(part, 0),
            _ => Some(Event::PartOpening { part, index: 0 }),
        }
    }

    /// The first token of a round, or what comes after the part's last one.
    fn round(&self, part: usize, index: u32) -> Option<Event> {
        if index < self.chat.tokens_most(part) {
            return match self.rounds_left {
                0 => None,
                _ => self.token(part, index, 0),
            };
        }
        match self.chat.part_closings(part) {
            0 => self.part(part + 1),
            // The end of the last part belongs to the closing.
            _ if self.is_cut && part + 1 == self.chat.parts.len() => None,
            _ => Some(Event::PartClosing { part, index: 0 }),
        }
    }

    /// Token `index` of the first choice from `choice` on that is that long.
    fn token(&self, part: usize, index: u32, choice: usize) -> Option<Event> {
        let mut choices = choice..self.chat.choices.len();
        let choice = choices.find(|choice| index < self.chat.tokens(part, *choice))?;
        Some(Event::Token {
            part,
            index,
            choice,
        })
    }

    fn closing(&self, index: usize) -> Option<Event> {
        (index + usize::from(self.no_end) < self.chat.closings()).then_some(Event::Closing(index))
    }
}

/// Breaks the JSON of the event that begins at `start`, and leaves the event's frame whole.
fn break_event(out: &mut Vec<u8>, start: usize) {
    let data = out[start..]
        .windows(6)
        .position(|window| window == b"data: ");
    let from = start + data.map_or(0, |at| at + 6);
    let keep = from + (out.len() - from) / 2;
    out.truncate(keep);
    out.extend_from_slice(b"\n\n");
}
