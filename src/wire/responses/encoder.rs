//! Writes an answer as the vendor streams one.
//!
//! The grammar: `response.created`, `response.in_progress`; for each item its
//! `response.output_item.added`, the events of its parts, its `response.output_item.done`; last
//! `response.completed` or `response.incomplete`. An item ends when another begins or the answer
//! does, since texts that follow each other are parts of one message, and only the answer's end
//! tells whether its last item is whole. What it cost is told after that, so the last event waits
//! for [`Event::End`].
//!
//! The last event repeats the whole answer, so this holds it, once as text and at the end once
//! more within [`Encoder::response`]: as much as the provider sends.

use super::super::form::{Delta, Event, PartStart, Stop, Tokens};
use super::super::json::view::Lit;
use super::super::json::write::Writer;
use super::super::translate::About;
use super::answer::logprobs_of;
use super::asked::Asked;
use super::events::Events;
use super::object::{Object, State, incomplete_reason};
use super::open::Open;
use super::output::Status;

/// Writes events of the form as the vendor's. Takes the first choice only, whose parts come one
/// after the other.
pub struct Encoder {
    asked: Asked,
    response_id: String,
    now: u64,
    created_at: u64,
    /// The one that answers, once it is known.
    model: Lit<'static>,
    events: Events,
    progress: Progress,
    /// The items that are whole, with commas between them.
    output: Vec<u8>,
    /// How many there are.
    items: usize,
    open: Option<Open>,
    /// A piece of text whose log probabilities may be the next event.
    held: Option<Lit<'static>>,
    has_refusal: bool,
    stop: Stop,
    usage: Option<Tokens>,
    response: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Over,
}

impl Encoder {
    /// An encoder of a stream that has not begun.
    pub fn new(asked: Asked, about: &About<'_>) -> Self {
        Self {
            asked,
            response_id: about.response_id.to_owned(),
            now: about.now,
            created_at: about.now,
            model: Lit::default(),
            events: Events::default(),
            progress: Progress::Waiting,
            output: Vec::new(),
            items: 0,
            open: None,
            held: None,
            has_refusal: false,
            stop: Stop::End,
            usage: None,
            response: None,
        }
    }

    /// Says what time it is, in seconds since the epoch: a response says when it was completed,
    /// which is when [`Event::End`] comes. Without it that is the time of the beginning.
    pub const fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// Appends what the event is to `out`: no event, one or several whole ones.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.progress == Progress::Over {
            return;
        }
        if let Event::Logprobs { choice: 0, value } = event {
            self.add_logprobs(&logprobs_of(*value), out);
            return;
        }
        self.release("", out);
        match event {
            Event::Start {
                model,
                created,
                usage,
                ..
            } => {
                self.model = model.clone().into_owned();
                self.created_at = created.unwrap_or(self.created_at);
                self.usage = usage.or(self.usage);
                self.begin(out);
            }
            Event::PartStart {
                choice: 0, kind, ..
            } => self.begin_part(kind, out),
            Event::PartDelta {
                choice: 0, delta, ..
            } => self.grow(delta, out),
            Event::PartStop { choice: 0, .. } => {
                if let Some(open) = &mut self.open {
                    open.end_part(&mut self.events, out);
                }
            }
            Event::Finish {
                choice: 0, stop, ..
            } => {
                self.stop = *stop;
                self.end_last_item(out);
            }
            Event::Usage(tokens) => self.usage = Some(*tokens),
            Event::End => self.end(out),
            Event::PartStart { .. }
            | Event::PartDelta { .. }
            | Event::PartStop { .. }
            | Event::Logprobs { .. }
            | Event::Finish { .. } => {}
        }
    }

    /// The response object, to be kept: there once [`Event::End`] has come.
    pub fn response(&self) -> Option<&[u8]> {
        self.response.as_deref()
    }

    /// Ends a stream that broke: an `error` event with `code` and `message`, and `response.failed`
    /// with all that had come. Nothing may follow.
    pub fn fail(&mut self, code: &str, message: &str, out: &mut Vec<u8>) {
        if self.progress == Progress::Over {
            return;
        }
        self.release("", out);
        // A client makes nothing of an event before the first one.
        self.begin(out);
        self.progress = Progress::Over;
        self.events.write(out, "error", |it| {
            it.key("code").string(code);
            it.key("message").string(message);
            it.key("param").null();
        });
        if let Some(open) = self.open.take() {
            self.push_item(open.to_json(Status::Incomplete).as_bytes());
        }
        let response = self.object(State::Failed { code, message });
        self.write_lifecycle("response.failed", &response, out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.progress != Progress::Waiting {
            return;
        }
        self.progress = Progress::Running;
        // What the prompt cost may be known, but the vendor does not tell it yet.
        let usage = self.usage.take();
        let response = self.object(State::InProgress);
        self.usage = usage;
        self.write_lifecycle("response.created", &response, out);
        self.write_lifecycle("response.in_progress", &response, out);
    }

    fn begin_part(&mut self, kind: &PartStart<'_>, out: &mut Vec<u8>) {
        self.begin(out);
        self.has_refusal |= *kind == PartStart::Refusal;
        if let Some(open) = self.open.as_mut().filter(|open| open.takes(kind)) {
            open.end_part(&mut self.events, out);
            open.begin_text(kind, &mut self.events, out);
            return;
        }
        self.end_item(Status::Completed, out);
        let (index, id) = (self.items, &self.response_id);
        self.open = Some(Open::begin(kind, index, id, &mut self.events, out));
    }

    fn grow(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(piece) if self.asked.logprobs => {
                self.held = Some(piece.clone().into_owned());
            }
            _ => self.write_delta(delta, "", out),
        }
    }

    fn write_delta(&mut self, delta: &Delta<'_>, logprobs: &str, out: &mut Vec<u8>) {
        if let Some(open) = &mut self.open {
            open.grow(delta, logprobs, &mut self.events, out);
        }
    }

    /// Writes the piece that was held back.
    fn release(&mut self, logprobs: &str, out: &mut Vec<u8>) {
        if let Some(piece) = self.held.take() {
            self.write_delta(&Delta::Text(piece), logprobs, out);
        }
    }

    fn add_logprobs(&mut self, logprobs: &str, out: &mut Vec<u8>) {
        if self.held.is_some() {
            self.release(logprobs, out);
        } else if let Some(open) = &mut self.open {
            open.add_logprobs(logprobs);
        }
    }

    fn end_item(&mut self, status: Status, out: &mut Vec<u8>) {
        if let Some(open) = self.open.take() {
            let item = open.end(status, &mut self.events, out);
            self.push_item(&item);
        }
    }

    fn end_last_item(&mut self, out: &mut Vec<u8>) {
        let status = if self.incomplete_reason().is_some() {
            Status::Incomplete
        } else {
            Status::Completed
        };
        self.end_item(status, out);
    }

    fn push_item(&mut self, item: &[u8]) {
        if self.items > 0 {
            self.output.push(b',');
        }
        self.output.extend_from_slice(item);
        self.items += 1;
    }

    const fn incomplete_reason(&self) -> Option<&'static str> {
        incomplete_reason(self.stop, self.has_refusal)
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.end_last_item(out);
        self.progress = Progress::Over;
        self.usage = Some(self.usage.unwrap_or_default());
        let (kind, state) = match self.incomplete_reason() {
            Some(reason) => ("response.incomplete", State::Incomplete(reason)),
            None => ("response.completed", State::Completed(self.now)),
        };
        let response = self.object(state);
        self.write_lifecycle(kind, &response, out);
        self.output = Vec::new();
        self.response = Some(response.into_bytes());
    }

    fn object(&self, state: State<'_>) -> String {
        let object = Object {
            id: &self.response_id,
            created_at: self.created_at,
            model: &self.model,
            state,
            usage: self.usage,
        };
        let mut writer = Writer::with_capacity(self.asked.length() + self.output.len());
        object.write(&self.asked, &mut writer, |it| {
            if let Ok(output) = str::from_utf8(&self.output)
                && !output.is_empty()
            {
                it.raw(output);
            }
        });
        // It was put together from strings.
        String::from_utf8(writer.into_bytes()).unwrap_or_default()
    }

    /// An event about the response as a whole.
    fn write_lifecycle(&mut self, kind: &str, response: &str, out: &mut Vec<u8>) {
        self.events.write(out, kind, |it| {
            it.key("response").raw(response);
        });
    }
}

#[cfg(test)]
mod tests;
