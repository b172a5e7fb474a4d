//! Who is answered: one caller, or all that wait for the same answer.
//!
//! A worker answers a [`Caller`] and need not know how many there are. Whatever is common to whole
//! answers is made here, so that every caller of a flight gets its own headers.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Said};
use super::call::push_retry_after;
use super::cast::Cast;
use super::keep_alive::push_stream_headers;
use super::lead::Lead;
use super::ledger::Ledger;
use crate::cancel::Cancel;
use crate::front::{Body, Gone, Responder, Response, StreamWriter};
use crate::wire::errors::{ApiError, error_body};

/// Who waits for a first answer.
pub enum Caller {
    /// One.
    Alone(Responder),
    /// All callers of a flight.
    Lead(Lead),
    /// Those whose calls are asked for in one.
    Batch(Arc<Batch>),
}

impl Caller {
    /// Cancelled when nobody waits any more.
    pub fn cancel(&self) -> &Arc<Cancel> {
        match self {
            Self::Alone(responder) => responder.cancel(),
            Self::Lead(lead) => lead.cancel(),
            Self::Batch(batch) => batch.cancel(),
        }
    }

    /// The one caller, if it is alone.
    pub const fn alone(&mut self) -> Option<&mut Responder> {
        match self {
            Self::Alone(responder) => Some(responder),
            Self::Lead(_) | Self::Batch(_) => None,
        }
    }

    /// Gives a whole answer, as `ledger`, which is settled, says.
    pub fn respond(self, ledger: &Ledger, status: u16, content_type: &str, body: Vec<u8>) {
        match self {
            Self::Alone(responder) => {
                responder.respond(whole(ledger, status, content_type, Body::Owned(body)));
            }
            Self::Lead(lead) => lead.respond(ledger, status, content_type, body),
            Self::Batch(batch) => batch.hear(Said::Whole {
                status,
                content_type: content_type.to_owned(),
                body,
            }),
        }
    }

    /// Answers with an error of ours, for which `ledger` is settled.
    pub fn fail(self, ledger: &Ledger, error: &ApiError, retry_after: Option<Duration>) {
        match self {
            Self::Alone(responder) => responder.respond(failure(ledger, error, retry_after)),
            Self::Lead(lead) => lead.fail(ledger, error, retry_after),
            Self::Batch(batch) => batch.hear(Said::Error {
                error: error.clone(),
                retry_after,
            }),
        }
    }

    /// Begins a stream of that type.
    pub fn stream(self, ledger: &Ledger, content_type: &str) -> Option<Writer> {
        match self {
            Self::Alone(responder) => {
                let head = stream_head(ledger, content_type);
                Some(Writer::Alone(responder.stream(head)))
            }
            Self::Lead(lead) => {
                let cast = lead.stream(ledger, content_type)?;
                Some(Writer::Cast(Box::new(cast)))
            }
            // There is no such stream.
            Self::Batch(_) => None,
        }
    }
}

/// A stream that has begun.
pub enum Writer {
    /// To one caller.
    Alone(StreamWriter),
    /// To all callers of a flight.
    Cast(Box<Cast>),
}

impl Writer {
    /// As [`Caller::cancel`].
    pub fn cancel(&self) -> &Arc<Cancel> {
        match self {
            Self::Alone(writer) => writer.cancel(),
            Self::Cast(cast) => cast.cancel(),
        }
    }

    /// Sends whole events. Never blocks.
    ///
    /// # Errors
    /// Nobody is there any more.
    pub fn write(&mut self, events: &[u8]) -> Result<(), Gone> {
        match self {
            Self::Alone(writer) => writer.write(events),
            Self::Cast(cast) => cast.write(events),
        }
    }

    /// Sends the last events of a complete answer, for which `ledger` is settled. `is_whole`: nothing
    /// of it had to be left out or added.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_last(
        &mut self,
        events: &[u8],
        is_whole: bool,
        ledger: &Ledger,
    ) -> Result<(), Gone> {
        match self {
            Self::Alone(writer) => writer.write(events),
            Self::Cast(cast) => cast.write_last(events, is_whole, ledger),
        }
    }

    /// Ends the stream; `ledger` is settled, and says whether it failed.
    pub fn finish(self, ledger: &Ledger) {
        match self {
            // A client that is gone needs no end.
            Self::Alone(writer) => drop(writer.finish()),
            Self::Cast(cast) => cast.finish(ledger),
        }
    }
}

/// A whole answer with the headers that say how the call was served.
pub fn whole(ledger: &Ledger, status: u16, content_type: &str, body: Body) -> Response {
    let mut response = ledger.response(status);
    response.push_header("content-type", content_type.as_bytes());
    response.body = body;
    response
}

/// An error of ours in the dialect of the call.
pub fn failure(ledger: &Ledger, error: &ApiError, retry_after: Option<Duration>) -> Response {
    let body = error_body(ledger.endpoint().dialect(), error, &ledger.request_id);
    let mut response = whole(ledger, error.status, "application/json", Body::Owned(body));
    push_retry_after(&mut response, retry_after);
    response
}

/// The head of a stream.
pub fn stream_head(ledger: &Ledger, content_type: &str) -> Response {
    let mut head = ledger.response(200);
    head.push_header("content-type", content_type.as_bytes());
    push_stream_headers(&mut head);
    head
}

/// Answers one caller with an error, and closes its account.
pub fn refuse(
    mut ledger: Ledger,
    error: &ApiError,
    responder: Responder,
    retry_after: Option<Duration>,
) {
    ledger.settle_error(error);
    responder.respond(failure(&ledger, error, retry_after));
    ledger.close();
}
