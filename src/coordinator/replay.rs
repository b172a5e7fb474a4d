//! Giving an answer again, in the shape that is asked for.

use std::sync::Arc;
use std::time::Instant;

use super::call::Call;
use super::caller::{Caller, stream_head, whole};
use super::ledger::Ledger;
use super::terms::Shape;
use crate::cache::Entry;
use crate::front::{Body, Responder};
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::replay::{body_of_stream, stream_of_body, without_usage};

/// The type of events.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// The type of bodies.
pub const JSON: &str = "application/json";

/// Whether a call was answered.
pub enum Given {
    Yes,
    /// The answer cannot be said in its shape.
    No(Box<Call>),
}

/// Whether giving `entry` in that shape takes a conversion.
pub fn converts(shape: Shape, entry: &Entry) -> bool {
    shape.is_stream() != entry.body.is_stream() || shape == Shape::BareStream
}

/// An answer in the shape that is asked for.
pub struct Said {
    stored: Arc<Entry>,
    /// `None`: as it is stored.
    made: Option<Vec<u8>>,
    pub content_type: String,
}

impl Said {
    /// The body, or all events.
    pub fn as_bytes(&self) -> &[u8] {
        self.made
            .as_deref()
            .unwrap_or_else(|| self.stored.body.as_bytes())
    }
}

/// What is stored, as it is said in that shape; `None`: it cannot be.
pub fn said(endpoint: Endpoint, shape: Shape, entry: &Arc<Entry>) -> Option<Said> {
    let stored = entry.body.as_bytes();
    let made = match (shape, entry.body.is_stream()) {
        (Shape::Whole, false) | (Shape::Stream, true) => None,
        (Shape::BareStream, true) => Some(without_usage(stored)),
        (Shape::Whole, true) => Some(body(endpoint, stored)?),
        (_, false) => Some(events(endpoint, stored, shape == Shape::Stream)?),
    };
    let content_type = match (made.is_some(), shape) {
        (false, _) => &*entry.content_type,
        (true, Shape::Whole) => JSON,
        (true, _) => EVENT_STREAM,
    };
    Some(Said {
        content_type: content_type.to_owned(),
        stored: Arc::clone(entry),
        made,
    })
}

/// Sends an answer for which `ledger` is settled.
pub fn send(responder: Responder, ledger: &Ledger, shape: Shape, said: &Said) {
    if shape.is_stream() {
        let mut writer = responder.stream(stream_head(ledger, &said.content_type));
        // A client that is gone needs no end.
        let _ = writer.write(said.as_bytes()).and_then(|()| writer.finish());
        return;
    }
    let body = match &said.made {
        Some(made) => Body::Owned(made.clone()),
        None => Body::Shared(Arc::clone(&said.stored) as _),
    };
    responder.respond(whole(ledger, 200, &said.content_type, body));
}

/// Answers `call`, whose caller is alone, with `entry`.
pub fn give(call: Box<Call>, shape: Shape, entry: &Arc<Entry>, now: Instant) -> Given {
    let Some(said) = said(call.endpoint, shape, entry) else {
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
    send(responder, &ledger, shape, &said);
    ledger.close();
    Given::Yes
}

/// The body that a complete stream comes to; `None`: it has none.
pub fn body(endpoint: Endpoint, events: &[u8]) -> Option<Vec<u8>> {
    body_of_stream(endpoint, events)
}

/// The events that say what a body says; `None`: there are none.
pub fn events(endpoint: Endpoint, body: &[u8], include_usage: bool) -> Option<Vec<u8>> {
    stream_of_body(endpoint, body, include_usage)
}

/// What those are told who waited for an answer that cannot be said in their shape.
pub fn not_replayable() -> ApiError {
    ApiError::new(
        Kind::Upstream,
        "the answer to an equal call came in a form that cannot be given to this one; send the call \
         again with `cache-control: no-cache`",
    )
    .code("not_replayable")
}
