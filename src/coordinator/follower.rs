//! A caller who waits for the answer of an equal call.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::caller::{self, Caller, stream_head, whole};
use super::flight::{Flight, Head, Over, Seat};
use super::ledger::Ledger;
use super::replay::Shapes;
use super::terms::Shape;
use crate::cancel::Reason;
use crate::front::{Body, Responder, SharedBytes, StreamWriter};
use crate::metrics::Cached;
use crate::wire::errors::{ApiError, Kind};

/// See the module.
pub(super) struct Follower {
    pub ledger: Ledger,
    /// Its caller is alone. Kept for the case that the answer cannot be given to it.
    pub call: Box<Call>,
    pub shape: Shape,
    pub seat: Arc<Seat>,
}

/// One who is sent a stream as it comes.
pub(super) struct Live {
    pub ledger: Ledger,
    pub writer: StreamWriter,
    pub seat: Arc<Seat>,
}

impl Follower {
    fn into_parts(self) -> Option<(Ledger, Responder, Arc<Seat>)> {
        match self.call.caller {
            Caller::Alone(responder) => Some((self.ledger, responder, self.seat)),
            _ => None,
        }
    }

    /// Begins the stream.
    pub fn begin(self, head: &Head) -> Option<Live> {
        let (mut ledger, responder, seat) = self.into_parts()?;
        ledger.adopt(&head.served);
        ledger.first_event_came();
        let response = stream_head(&ledger, &head.content_type);
        Some(Live {
            writer: responder.stream(response),
            ledger,
            seat,
        })
    }

    /// Gives a whole answer, a success or not.
    pub fn respond(self, flight: &Flight, over: &Over, content_type: &str, body: SharedBytes) {
        let Some((mut ledger, responder, seat)) = self.into_parts() else {
            return;
        };
        ledger.adopt(&over.served);
        ledger.settle_as(&over.ended);
        responder.cancel().detach();
        let status = over.ended.status;
        responder.respond(whole(&ledger, status, content_type, Body::Shared(body)));
        ledger.close();
        flight.part(&seat);
    }

    /// Gives a success in its shape; asks anew where that cannot be.
    pub fn give(self, flight: &Flight, over: &Over, shapes: &Shapes) {
        match shapes.say(self.shape) {
            None => self.ask(flight),
            Some(said) if self.shape.is_stream() => {
                self.stream(flight, over, &said.content_type, (*said.bytes).as_ref());
            }
            Some(said) => self.respond(flight, over, &said.content_type, said.bytes),
        }
    }

    /// Gives all events of a complete stream at once.
    fn stream(self, flight: &Flight, over: &Over, content_type: &str, events: &[u8]) {
        let Some((mut ledger, responder, seat)) = self.into_parts() else {
            return;
        };
        ledger.adopt(&over.served);
        ledger.first_event_came();
        ledger.settle_as(&over.ended);
        responder.cancel().detach();
        let mut writer = responder.stream(stream_head(&ledger, content_type));
        // A client that is gone needs no end.
        let _ = writer.write(events).and_then(|()| writer.finish());
        ledger.close();
        flight.part(&seat);
    }

    /// Answers with an error of ours.
    pub fn fail(
        self,
        flight: &Flight,
        over: &Over,
        error: &ApiError,
        retry_after: Option<Duration>,
    ) {
        let Some((mut ledger, responder, seat)) = self.into_parts() else {
            return;
        };
        ledger.adopt(&over.served);
        responder.cancel().detach();
        caller::refuse(ledger, error, responder, retry_after);
        flight.part(&seat);
    }

    /// Has the call asked by itself after all: what the other one was answered cannot be said in its
    /// shape.
    pub fn ask(self, flight: &Flight) {
        let mut call = self.call;
        call.caller.cancel().detach();
        flight.part(&self.seat);
        call.cached = Cached::Miss;
        let coordinator = Arc::clone(&call.coordinator);
        coordinator.queue(call);
    }

    /// It does not wait any longer, for that reason.
    pub fn left(self, reason: Reason) {
        let Some((ledger, responder, _)) = self.into_parts() else {
            return;
        };
        let error = match reason {
            Reason::Deadline => ApiError::new(
                Kind::Timeout,
                "the call's deadline, its coordinator's timeout_seconds, passed while it waited for \
                 the answer to an equal call",
            )
            .code("deadline"),
            Reason::Shutdown => ApiError::new(
                Kind::Overloaded,
                "victor is being stopped; send the call again",
            )
            .code("draining"),
            Reason::ClientGone | Reason::SlowClient | Reason::Outpaced => {
                ledger.client_left();
                return;
            }
        };
        let retry_after = (reason == Reason::Shutdown).then_some(Duration::from_secs(1));
        caller::refuse(ledger, &error, responder, retry_after);
    }
}
