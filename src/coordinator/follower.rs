//! A caller who waits for the answer of an equal call.

use std::sync::Arc;
use std::time::Duration;

use super::caller::{self, stream_head, whole};
use super::flight::{Flight, Head, Over, Seat};
use super::ledger::Ledger;
use super::terms::Shape;
use crate::cancel::Reason;
use crate::front::{Body, Responder, SharedBytes, StreamWriter};
use crate::wire::errors::{ApiError, Kind};

/// See the module.
pub(super) struct Follower {
    pub ledger: Ledger,
    pub responder: Responder,
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
    /// Begins the stream.
    pub fn begin(self, head: &Head) -> Live {
        let mut ledger = self.ledger;
        ledger.adopt(&head.served);
        ledger.first_event_came();
        let response = stream_head(&ledger, &head.content_type);
        Live {
            writer: self.responder.stream(response),
            ledger,
            seat: self.seat,
        }
    }

    /// Gives a whole answer, a success or not.
    pub fn respond(mut self, flight: &Flight, over: &Over, content_type: &str, body: SharedBytes) {
        self.ledger.adopt(&over.served);
        self.ledger.settle_as(&over.ended);
        self.responder.cancel().detach();
        let status = over.ended.status;
        let response = whole(&self.ledger, status, content_type, Body::Shared(body));
        self.responder.respond(response);
        self.ledger.close();
        flight.part(&self.seat);
    }

    /// Gives all events of a complete stream at once.
    pub fn stream(mut self, flight: &Flight, over: &Over, content_type: &str, events: &[u8]) {
        self.ledger.adopt(&over.served);
        self.ledger.first_event_came();
        self.ledger.settle_as(&over.ended);
        self.responder.cancel().detach();
        let mut writer = self
            .responder
            .stream(stream_head(&self.ledger, content_type));
        // A client that is gone needs no end.
        let _ = writer.write(events).and_then(|()| writer.finish());
        self.ledger.close();
        flight.part(&self.seat);
    }

    /// Answers with an error of ours.
    pub fn fail(
        mut self,
        flight: &Flight,
        over: &Over,
        error: &ApiError,
        retry_after: Option<Duration>,
    ) {
        self.ledger.adopt(&over.served);
        self.responder.cancel().detach();
        caller::refuse(self.ledger, error, self.responder, retry_after);
        flight.part(&self.seat);
    }

    /// It does not wait any longer, for that reason.
    pub fn left(self, reason: Reason) {
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
                self.ledger.client_left();
                return;
            }
        };
        let retry_after = (reason == Reason::Shutdown).then_some(Duration::from_secs(1));
        caller::refuse(self.ledger, &error, self.responder, retry_after);
    }
}
