//! Giving an answer again, in the shape that is asked for.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use super::answers::Found;
use super::call::Call;
use super::caller::{Caller, stream_head, whole};
use super::ledger::Ledger;
use super::terms::Shape;
use crate::cache::Entry;
use crate::front::{Body, OUTBOX_BYTES_MAX, Responder, SharedBytes};
use crate::wire::Endpoint;
use crate::wire::replay::{body_of_stream, stream_of_body, without_usage};

/// The type of events.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// The type of bodies.
pub const JSON: &str = "application/json";

/// Events that are made of a body, at most: they are sent at once, and what a client may leave unread is
/// bounded.
const EVENTS_BYTES_MAX: usize = OUTBOX_BYTES_MAX / 4 * 3;

/// Whether a call was answered.
pub enum Given {
    Yes,
    /// The answer cannot be said in its shape.
    No(Box<Call>),
}

/// Whether giving what was found in that shape takes a conversion.
pub fn converts(shape: Shape, found: &Found) -> bool {
    shape.is_stream() != found.entry.body.is_stream() || found.is_richer
}

/// An answer in each shape, made when it is first asked for.
pub struct Shapes {
    endpoint: Endpoint,
    /// As it was given.
    given: SharedBytes,
    is_stream: bool,
    content_type: String,
    whole: OnceCell<Option<SharedBytes>>,
    /// With the usage, and without.
    events: [OnceCell<Option<SharedBytes>>; 2],
}

/// One shape of an answer.
pub struct Said {
    pub content_type: String,
    pub bytes: SharedBytes,
}

impl Shapes {
    /// Those of an entry.
    pub fn of(endpoint: Endpoint, entry: &Arc<Entry>) -> Self {
        let given = Arc::clone(entry) as SharedBytes;
        Self::new(endpoint, given, entry.body.is_stream(), &entry.content_type)
    }

    /// Those of an answer that was given as these bytes.
    pub fn new(
        endpoint: Endpoint,
        given: SharedBytes,
        is_stream: bool,
        content_type: &str,
    ) -> Self {
        Self {
            endpoint,
            given,
            is_stream,
            content_type: content_type.to_owned(),
            whole: OnceCell::new(),
            events: Default::default(),
        }
    }

    /// What is said in that shape; `None`: it cannot be.
    pub fn say(&self, shape: Shape) -> Option<Said> {
        let given = (*self.given).as_ref();
        let made = |bytes: Option<Vec<u8>>| bytes.map(|it| Arc::new(it) as SharedBytes);
        let events = |with_usage: bool| {
            let bytes = stream_of_body(self.endpoint, given, with_usage);
            made(bytes.filter(|bytes| bytes.len() <= EVENTS_BYTES_MAX))
        };
        let [full, bare] = &self.events;
        let bytes = match (shape, self.is_stream) {
            (Shape::Whole, false) | (Shape::Stream, true) => {
                return Some(Said {
                    content_type: self.content_type.clone(),
                    bytes: Arc::clone(&self.given),
                });
            }
            (Shape::BareStream, true) => bare.get_or_init(|| made(Some(without_usage(given)))),
            (Shape::Whole, true) => self
                .whole
                .get_or_init(|| made(body_of_stream(self.endpoint, given))),
            (Shape::Stream, false) => full.get_or_init(|| events(true)),
            (Shape::BareStream, false) => bare.get_or_init(|| events(false)),
        };
        let content_type = match shape {
            Shape::Whole => JSON,
            _ => EVENT_STREAM,
        };
        Some(Said {
            content_type: content_type.to_owned(),
            bytes: Arc::clone(bytes.as_ref()?),
        })
    }
}

/// Sends an answer for which `ledger` is settled.
pub fn send(responder: Responder, ledger: &Ledger, shape: Shape, said: Said) {
    if shape.is_stream() {
        let mut writer = responder.stream(stream_head(ledger, &said.content_type));
        // A client that is gone needs no end.
        let _ = writer
            .write((*said.bytes).as_ref())
            .and_then(|()| writer.finish());
        return;
    }
    let body = Body::Shared(said.bytes);
    responder.respond(whole(ledger, 200, &said.content_type, body));
}

/// Answers `call`, whose caller is alone, with what was found.
pub fn give(call: Box<Call>, shape: Shape, found: &Found, now: Instant) -> Given {
    let entry = &found.entry;
    // What was kept for this shape alone is said as it is.
    let said = match converts(shape, found) {
        true => Shapes::of(call.endpoint, entry).say(shape),
        false => Some(Said {
            content_type: entry.content_type.as_ref().to_owned(),
            bytes: Arc::clone(entry) as _,
        }),
    };
    let Some(said) = said else {
        return Given::No(call);
    };
    let mut ledger = Ledger::of(&call);
    let responder = match call.caller {
        Caller::Alone(responder) => responder,
        caller => return Given::No(Box::new(Call { caller, ..*call })),
    };
    ledger.recall(entry, now);
    ledger.streamed = shape.is_stream();
    if shape.is_stream() {
        ledger.first_event_came();
    }
    ledger.settle(200, "", "");
    send(responder, &ledger, shape, said);
    ledger.close();
    Given::Yes
}
