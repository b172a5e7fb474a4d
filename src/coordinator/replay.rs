//! Giving an answer again, in the shape that is asked for.

use std::sync::Arc;
use std::time::Instant;

use super::call::Call;
use super::caller::{Caller, stream_head, whole};
use super::ledger::Ledger;
use super::terms::Shape;
use crate::cache::Entry;
use crate::front::Body;
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

/// Answers `call`, whose caller is alone, with `entry`.
pub fn give(call: Box<Call>, shape: Shape, entry: &Arc<Entry>) -> Given {
    let endpoint = call.endpoint;
    let stored = entry.body.as_bytes();
    let made = match (shape, entry.body.is_stream()) {
        (Shape::Whole, false) | (Shape::Stream, true) => None,
        (Shape::BareStream, true) => Some(without_usage(stored)),
        (Shape::Whole, true) => match body(endpoint, stored) {
            Some(body) => Some(body),
            None => return Given::No(call),
        },
        (_, false) => match events(endpoint, stored, shape == Shape::Stream) {
            Some(events) => Some(events),
            None => return Given::No(call),
        },
    };
    let mut ledger = Ledger::of(&call);
    ledger.recall(entry, Instant::now());
    ledger.streamed = shape.is_stream();
    let responder = match call.caller {
        Caller::Alone(responder) => responder,
        caller => return Given::No(Box::new(Call { caller, ..*call })),
    };
    let content_type = match (made.is_some(), shape) {
        (false, _) => &*entry.content_type,
        (true, Shape::Whole) => JSON,
        (true, _) => EVENT_STREAM,
    };
    if shape.is_stream() {
        ledger.first_event_came();
        ledger.settle(200, "", "");
        let mut writer = responder.stream(stream_head(&ledger, content_type));
        // A client that is gone needs no end.
        let _ = writer
            .write(made.as_deref().unwrap_or(stored))
            .and_then(|()| writer.finish());
    } else {
        ledger.settle(200, "", "");
        let body = match made {
            Some(made) => Body::Owned(made),
            None => Body::Shared(Arc::clone(entry) as _),
        };
        responder.respond(whole(&ledger, 200, content_type, body));
    }
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
