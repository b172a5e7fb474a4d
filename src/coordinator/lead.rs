//! The worker's end of a flight: answers everybody who waits for the call that it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::{failure, whole};
use super::cast::Cast;
use super::flight::{Flight, Landed};
use super::ledger::{Ended, Ledger, Served};
use super::replay;
use super::terms::{Shape, Terms};
use crate::cache::{Body, Entry};
use crate::cancel::Cancel;
use crate::front::{self, SharedBytes};
use crate::wire::errors::{ApiError, Kind};

/// Answers a flight, once. Dropped without an answer, it tells those who wait that this is our
/// fault.
pub struct Lead {
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
        ledger.left = self
            .flight
            .as_ref()
            .map(|flight| Arc::clone(&flight.leader_left));
    }

    /// Gives everybody a whole answer, and keeps it if it is a success.
    pub fn respond(mut self, ledger: &Ledger, status: u16, content_type: &str, body: Vec<u8>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let body: SharedBytes = match status {
            200 => flight.keep(ledger, content_type, Body::Whole(body.into_boxed_slice())),
            _ => Arc::new(body),
        };
        let landed = flight.land(ledger.served(), ledger.ended(), b"");
        if let Some(leader) = landed.leader {
            let body = front::Body::Shared(Arc::clone(&body));
            leader.respond(whole(ledger, status, content_type, body));
        }
        let events = Events::of(&flight, (*body).as_ref());
        for follower in landed.waiting {
            if status >= 400 || follower.shape == Shape::Whole {
                follower.respond(&flight, &landed.over, content_type, Arc::clone(&body));
                continue;
            }
            match events.get(follower.shape) {
                Some(events) => {
                    follower.stream(&flight, &landed.over, replay::EVENT_STREAM, events);
                }
                None => follower.fail(&flight, &landed.over, &replay::not_replayable(), None),
            }
        }
    }

    /// On what terms the call shares its answer.
    pub fn terms(&self) -> Option<Terms> {
        self.flight.as_ref().map(|flight| flight.terms)
    }

    /// Gives everybody an answer of another instance; settles `ledger`.
    ///
    /// # Errors
    /// It cannot be said in the shape that the call asks for.
    pub(super) fn give(mut self, ledger: &mut Ledger, entry: &Arc<Entry>) -> Result<(), Self> {
        let Some(flight) = self.flight.take() else {
            return Ok(());
        };
        let shape = flight.shape();
        let Some(own) = replay::said(flight.endpoint, shape, entry) else {
            self.flight = Some(flight);
            return Err(self);
        };
        ledger.recall(entry, Instant::now());
        if shape.is_stream() {
            ledger.first_event_came();
        }
        ledger.settle(200, "", "");
        let landed = flight.land(ledger.served(), ledger.ended(), b"");
        if let Some(leader) = landed.leader {
            replay::send(leader, ledger, shape, &own);
        }
        for follower in landed.waiting {
            match replay::said(flight.endpoint, follower.shape, entry) {
                Some(said) if follower.shape.is_stream() => {
                    let (content_type, events) = (&said.content_type, said.as_bytes());
                    follower.stream(&flight, &landed.over, content_type, events);
                }
                Some(said) => {
                    let body = Arc::new(said.as_bytes().to_vec());
                    follower.respond(&flight, &landed.over, &said.content_type, body);
                }
                None => follower.fail(&flight, &landed.over, &replay::not_replayable(), None),
            }
        }
        ledger.close();
        Ok(())
    }

    /// Answers everybody with an error of ours.
    pub fn fail(mut self, ledger: &Ledger, error: &ApiError, retry_after: Option<Duration>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let landed = flight.land(ledger.served(), ledger.ended(), b"");
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
            let Landed { over, waiting, .. } =
                flight.land(Served::default(), Ended::client_left(), b"");
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

/// The events that say the same as a body, made when they are first wanted.
struct Events<'a> {
    flight: &'a Flight,
    body: &'a [u8],
    made: [std::cell::OnceCell<Option<Vec<u8>>>; 2],
}

impl<'a> Events<'a> {
    fn of(flight: &'a Flight, body: &'a [u8]) -> Self {
        Self {
            flight,
            body,
            made: Default::default(),
        }
    }

    fn get(&self, shape: Shape) -> Option<&[u8]> {
        let is_full = shape == Shape::Stream;
        let made = self.made[usize::from(is_full)]
            .get_or_init(|| replay::events(self.flight.endpoint, self.body, is_full));
        made.as_deref()
    }
}
