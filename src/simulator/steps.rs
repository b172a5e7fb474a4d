//! The body of an answer as a small state machine that makes the next piece when asked.
//!
//! [`Steps::delay`] says how long to wait before the next step, [`Steps::render`] makes it. The
//! machine keeps no time itself, so the server's timer threads, a worker in process, and a test
//! all drive it alike.

use std::time::Duration;

use super::chat::Chat;
use super::openai::Vectors;

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

/// Where a stream stands: the event that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening(usize),
    Token { index: u32, choice: usize },
    Closing(usize),
    Done,
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
    phase: Phase,
    events: u32,
    tokens: u32,
}

impl Steps {
    /// The steps of `body`.
    pub fn new(body: Body, departures: Departures) -> Self {
        Self {
            body,
            departures,
            phase: Phase::Opening(0),
            events: 0,
            tokens: 0,
        }
    }

    /// How long to wait before the next step, counted from the one before; `None` after the last.
    pub fn delay(&self) -> Option<Duration> {
        let streamed = matches!(self.body, Body::Events(_));
        match self.phase {
            Phase::Done => None,
            Phase::Opening(0) if streamed => Some(self.departures.first_token),
            Phase::Token {
                index: 1..,
                choice: 0,
            } => Some(self.departures.gap),
            _ => Some(Duration::ZERO),
        }
    }

    /// Appends the bytes of the next step; nothing after the last.
    pub fn render(&mut self, out: &mut Vec<u8>) {
        let Body::Events(chat) = &self.body else {
            return self.render_whole(out);
        };
        let start = out.len();
        self.events = self.events.saturating_add(1);
        match self.phase {
            Phase::Opening(index) => {
                chat.opening(index, out);
                self.phase = if index + 1 < chat.openings() {
                    Phase::Opening(index + 1)
                } else {
                    self.at_token(chat, 0, 0)
                };
            }
            Phase::Token { index, choice } => {
                chat.token(index, choice, out);
                self.tokens = self.tokens.saturating_add(1);
                self.phase = self.at_token(chat, index, choice + 1);
            }
            Phase::Closing(index) => {
                chat.closing(index, out);
                self.phase = self.at_closing(chat, index + 1);
            }
            Phase::Done => return,
        }
        if self.departures.malformed == Some(self.events) {
            break_event(out, start);
        }
    }

    /// The phase that comes at token `index` of `choice`, or after it where there is no such one.
    fn at_token(&self, chat: &Chat, mut index: u32, mut choice: usize) -> Phase {
        let most = chat
            .tokens_most()
            .min(self.departures.tokens_max.unwrap_or(u32::MAX));
        while index < most {
            while choice < chat.choices.len() {
                if index < chat.tokens(choice) {
                    return Phase::Token { index, choice };
                }
                choice += 1;
            }
            index += 1;
            choice = 0;
        }
        match self.departures.tokens_max {
            Some(_) => Phase::Done,
            None => self.at_closing(chat, 0),
        }
    }

    fn at_closing(&self, chat: &Chat, index: usize) -> Phase {
        if index + usize::from(self.departures.no_end) < chat.closings() {
            Phase::Closing(index)
        } else {
            Phase::Done
        }
    }

    /// A body that is not a stream is one step.
    fn render_whole(&mut self, out: &mut Vec<u8>) {
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Done;
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
        let tokens = |chat: &Chat, each: usize| chat.tokens_total() as usize * each + 1024;
        match &self.body {
            Body::Ready(_) => 0,
            Body::Plain(chat) => tokens(chat, 8),
            Body::Events(chat) => tokens(chat, 256),
            Body::Vectors(vectors) => vectors.seeds.len() * vectors.dimensions * 12,
        }
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
