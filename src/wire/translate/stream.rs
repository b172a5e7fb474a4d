//! A provider's stream into a caller's, event by event.
//!
//! Provider's decoder → the JSON tool's text, where it is one → parts one after the other, where
//! the caller's dialect wants them so → caller's encoder. Whole events come in and whole events
//! go out, so an error event can always follow.

use super::json_tool::JsonTool;
use super::splice::Splice;
use super::{About, Plan};
use crate::wire::errors::{ApiError, in_band_error};
use crate::wire::form::{Event, NotOfDialect};
use crate::wire::json::view::View;
use crate::wire::json::walk_object;
use crate::wire::sequencer::Sequencer;
use crate::wire::{Endpoint, chat, messages, responses};

/// Why a stream cannot be translated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An event is not one of the provider's dialect; why.
    Malformed(&'static str),
    /// It is not how the answer began that it was to go on with.
    Differs,
}

impl From<NotOfDialect> for Broken {
    fn from(error: NotOfDialect) -> Self {
        Self::Malformed(error.0)
    }
}

/// What a stream may say at most, as a whole answer may: encoders that repeat the answer at its end,
/// and whoever may have to go on with it, remember all of it.
const SAID_BYTES_MAX: usize = 64 << 20;
/// What of an event is not what it says: members that every event has.
const ENVELOPE_BYTES: usize = 1 << 10;

/// The translation of one stream.
pub struct Translator {
    caller: Endpoint,
    decoder: Decoder,
    json_tool: Option<JsonTool>,
    /// For dialects whose parts come one after the other; OpenAI's chunks need no order.
    sequencer: Option<Sequencer>,
    /// For a stream that may be gone on with from another provider.
    splice: Option<Splice>,
    encoder: Encoder,
    /// What was said so far, in bytes.
    said: usize,
}

enum Decoder {
    Chat(chat::Decoder),
    Messages(messages::Decoder),
}

impl Decoder {
    fn of(provider: Endpoint) -> Self {
        match provider {
            Endpoint::Messages => Self::Messages(messages::Decoder::new()),
            _ => Self::Chat(chat::Decoder::new()),
        }
    }
}

enum Encoder {
    Chat(chat::Encoder),
    Messages(messages::Encoder),
    Responses(Box<responses::Encoder>),
}

impl Encoder {
    fn new(plan: Plan, about: &About<'_>) -> Self {
        match (plan.caller, plan.asked) {
            (Endpoint::Messages, _) => Self::Messages(messages::Encoder::new(about)),
            (Endpoint::Responses, Some(asked)) => {
                Self::Responses(Box::new(responses::Encoder::new(asked, about)))
            }
            _ => Self::Chat(chat::Encoder::new(about)),
        }
    }

    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Chat(encoder) => encoder.event(event, out),
            Self::Messages(encoder) => encoder.event(event, out),
            Self::Responses(encoder) => encoder.event(event, out),
        }
    }
}

impl Translator {
    /// A translation that has not begun. `now`: seconds since the epoch. `may_restart`: it may be
    /// gone on with from another provider, so what is delivered is remembered.
    pub fn new(plan: Plan, now: u64, response_id: &str, may_restart: bool) -> Self {
        let about = plan.about(now, response_id);
        let caller = plan.caller;
        Self {
            caller,
            decoder: Decoder::of(plan.provider),
            json_tool: plan.json_tool.then(JsonTool::default),
            sequencer: (may_restart || caller != Endpoint::ChatCompletions).then(Sequencer::new),
            splice: may_restart.then(Splice::default),
            encoder: Encoder::new(plan, &about),
            said: 0,
        }
    }

    /// Whether another provider's answer to the same question can go on with this one.
    pub fn can_restart(&self) -> bool {
        self.splice.as_ref().is_some_and(Splice::can_restart)
    }

    /// From here on the events are those of another provider, from the beginning of its answer.
    /// What was delivered is not delivered again.
    pub fn restart(&mut self, plan: &Plan) {
        self.decoder = Decoder::of(plan.provider);
        self.json_tool = plan.json_tool.then(JsonTool::default);
        self.sequencer = Some(Sequencer::new());
        if let Some(splice) = &mut self.splice {
            splice.restart();
        }
    }

    /// Appends to `out` what the event with `data` comes to: nothing, or any number of whole
    /// events.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn event(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let text = str::from_utf8(data).map_err(|_| NotOfDialect("it is not UTF-8"))?;
        walk_object(text, |_| {}).map_err(|_| NotOfDialect("it is not a JSON object"))?;
        let mut events = Vec::new();
        match &mut self.decoder {
            Decoder::Chat(decoder) => decoder.event(View::new(text), &mut events)?,
            Decoder::Messages(decoder) => decoder.event(View::new(text), &mut events)?,
        }
        // What a decoder holds back has no event of its own yet.
        let said: usize = events.iter().map(Event::bytes).sum();
        self.said += said.max(data.len().saturating_sub(ENVELOPE_BYTES));
        if self.said > SAID_BYTES_MAX {
            return Err(NotOfDialect("it says more than 64 MiB").into());
        }
        self.encode(events, out)
    }

    /// Appends the end: the provider's success marker came, with `data`, at `now` in seconds since
    /// the epoch.
    ///
    /// # Errors
    /// As [`Translator::event`].
    pub fn end(&mut self, data: &[u8], now: u64, out: &mut Vec<u8>) -> Result<(), Broken> {
        if let Encoder::Responses(encoder) = &mut self.encoder {
            encoder.set_now(now);
        }
        let mut events = Vec::new();
        match &mut self.decoder {
            Decoder::Chat(decoder) => decoder.end(&mut events),
            Decoder::Messages(_) => return self.event(data, out),
        }
        self.encode(events, out)
    }

    fn encode(&mut self, events: Vec<Event<'_>>, out: &mut Vec<u8>) -> Result<(), Broken> {
        let events = match &mut self.json_tool {
            None => events,
            Some(tool) => {
                let mut text = Vec::with_capacity(events.len());
                for event in events {
                    tool.event(event, &mut text);
                }
                text
            }
        };
        let mut ordered = match &mut self.sequencer {
            None => events,
            Some(sequencer) => {
                let mut ordered = Vec::with_capacity(events.len());
                for event in events {
                    let too_long = |_| NotOfDialect("its parts are too far out of order");
                    sequencer.event(event, &mut ordered).map_err(too_long)?;
                }
                ordered
            }
        };
        if let Some(splice) = &mut self.splice {
            let mut new = Vec::with_capacity(ordered.len());
            for event in ordered {
                splice.event(event, &mut new).map_err(|_| Broken::Differs)?;
            }
            ordered = new;
        }
        for event in &ordered {
            self.encoder.event(event, out);
        }
        Ok(())
    }

    /// Appends what tells the caller that the stream broke.
    pub fn fail(&mut self, error: &ApiError, request_id: &str, out: &mut Vec<u8>) {
        match &mut self.encoder {
            Encoder::Responses(encoder) => {
                let code = error.code.unwrap_or(error.kind.label());
                encoder.fail(code, &error.message, out);
            }
            _ => out.extend_from_slice(&in_band_error(self.caller, error, request_id, 0)),
        }
    }

    /// The response object that the stream came to, for callers of [`Endpoint::Responses`].
    pub fn response(&self) -> Option<&[u8]> {
        match &self.encoder {
            Encoder::Responses(encoder) => encoder.response(),
            _ => None,
        }
    }
}
