//! The worker's end of a flight: answers everybody who waits for the call that it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::{failure, whole};
use super::cast::Cast;
use super::flight::{Flight, Landed, Over};
use super::ledger::{Ended, Ledger, Served};
use super::replay::{self, Shapes};
use super::terms::Terms;
use crate::cache::{Body, Entry};
use crate::cancel::Cancel;
use crate::front::{self, SharedBytes};
use crate::wire::errors::{ApiError, Kind};
use crate::wire::replay::is_complete;

/// Answers a flight, once. Dropped without an answer, it tells those who wait that this is our
/// fault.
pub struct Lead {
    /// Until it has landed.
    flight: Option<Arc<Flight>>,
    cancel: Arc<Cancel>,
}

impl Lead {
    pub(super) fn new(flight: Arc<Flight>) -> Self {
        Self {
            cancel: Arc::clone(&flight.cancel),
            flight: Some(flight),
        }
    }

    /// Cancelled when nobody waits any more.
    pub const fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// Says to `ledger` where it can see that its own caller has left.
    pub fn watch(&self, ledger: &mut Ledger) {
        let flight = self.flight.as_ref();
        ledger.left = flight.map(|flight| Arc::clone(&flight.leader_left));
    }

    /// On what terms the call shares its answer.
    pub fn terms(&self) -> Option<Terms> {
        self.flight.as_ref().map(|flight| flight.terms)
    }

    /// Ends the flight. From here on a panic is each waiting caller's own.
    fn land(&mut self, ledger: &Ledger) -> Option<(Arc<Flight>, Landed)> {
        let flight = self.flight.take()?;
        let over = Over {
            served: ledger.served(),
            ended: ledger.ended(),
            is_cut: false,
        };
        let landed = flight.land(over, b"");
        Some((flight, landed))
    }

    /// Gives everybody a whole answer, and keeps it if it is a success.
    pub fn respond(mut self, ledger: &Ledger, status: u16, content_type: &str, body: Vec<u8>) {
        let Some(flight) = self.flight.clone() else {
            return;
        };
        let kept = match status {
            200 if is_complete(flight.endpoint, &body) => {
                Ok(flight.keep(ledger, content_type, Body::Whole(body.into_boxed_slice())))
            }
            _ => Err(Arc::new(body)),
        };
        let body: SharedBytes = match &kept {
            Ok(entry) => Arc::clone(entry) as _,
            Err(body) => Arc::clone(body) as _,
        };
        let Some((flight, landed)) = self.land(ledger) else {
            return;
        };
        if let Some(leader) = landed.leader {
            let body = front::Body::Shared(Arc::clone(&body));
            leader.respond(whole(ledger, status, content_type, body));
        }
        let shapes = Shapes::new(flight.endpoint, Arc::clone(&body), false, content_type);
        for follower in landed.waiting {
            if status >= 400 {
                follower.respond(&flight, &landed.over, content_type, Arc::clone(&body));
                continue;
            }
            follower.give(&flight, &landed.over, &shapes);
        }
        // Nobody looks for it there: merged calls are not looked up one by one.
        if let Some(entry) = kept.ok().filter(|_| !ledger.is_merged()) {
            flight.share(&entry);
        }
    }

    /// Gives everybody an answer of another instance; settles `ledger`.
    ///
    /// # Errors
    /// It cannot be said in the shape that the call asks for.
    pub(super) fn give(mut self, ledger: &mut Ledger, entry: &Arc<Entry>) -> Result<(), Self> {
        let Some(flight) = self.flight.clone() else {
            return Ok(());
        };
        let shape = flight.shape();
        let shapes = Shapes::of(flight.endpoint, entry);
        let Some(own) = shapes.say(shape) else {
            return Err(self);
        };
        ledger.recall(entry, Instant::now());
        if shape.is_stream() {
            ledger.first_event_came();
        }
        ledger.settle(200, "", "");
        let Some((flight, landed)) = self.land(ledger) else {
            return Ok(());
        };
        if let Some(leader) = landed.leader {
            replay::send(leader, ledger, shape, own);
        }
        for follower in landed.waiting {
            follower.give(&flight, &landed.over, &shapes);
        }
        ledger.close();
        Ok(())
    }

    /// Answers everybody with an error of ours.
    pub fn fail(mut self, ledger: &Ledger, error: &ApiError, retry_after: Option<Duration>) {
        let Some((flight, landed)) = self.land(ledger) else {
            return;
        };
        if let Some(leader) = landed.leader {
            leader.respond(failure(ledger, error, retry_after));
        }
        for follower in landed.waiting {
            follower.fail(&flight, &landed.over, error, retry_after);
        }
    }

    /// Begins the stream of everybody who asked for one.
    pub fn stream(mut self, ledger: &Ledger, content_type: &str) -> Option<Cast> {
        let flight = self.flight.take()?;
        Some(Cast::begin(flight, ledger, content_type))
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            let over = Over {
                served: Served::default(),
                ended: Ended::client_left(),
                is_cut: true,
            };
            let Landed { over, waiting, .. } = flight.land(over, b"");
            for follower in waiting {
                follower.fail(&flight, &over, &given_up(), None);
            }
        }
    }
}

/// What those are told whose call was given up without a word.
pub(super) fn given_up() -> ApiError {
    ApiError::new(
        Kind::Internal,
        "the call was given up without an answer; this is a fault of victor",
    )
}
