//! Embedding calls that are asked for in one.
//!
//! A call for one text that its provider would take together with others is parked in a batch. The
//! first of a batch opens it: a job goes to the coordinator's pool in its stead. A parked call
//! holds no thread and no place in the queue, but its connection; who leaves, leaves alone, and
//! with the last one the job is cancelled. The worker that gets the job waits until the batch is
//! full or its time is up, has one call made for all, and answers each with its own part.
//!
//! Read [`Batcher::offer`] for how calls come together, [`serve::run`] for what becomes of them,
//! and `roll.rs` for who is still there.

mod batcher;
mod roll;
pub(super) mod serve;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use self::batcher::Batcher;
use self::roll::{Left, Roll, Seat};
use super::Coordinator;
use super::call::{Decoded, late_in_queue};
use super::caller::Caller;
use super::ledger::{Ended, Ledger, Served};
use super::pause::{self, Alarm};
use crate::cancel::{Abort, Cancel, Reason};
use crate::front::Request;
use crate::metrics::{Accounted, Rejection};
use crate::sync::Mutex;
use crate::thread;
use crate::wire::embeddings::Single;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::usage::Usage;

/// What is asked, and until when.
#[derive(Clone)]
pub struct Asked {
    pub request: Arc<Request>,
    pub decoded: Arc<Decoded>,
    pub deadline: Instant,
}

/// What was said to all that were asked for together.
pub enum Said {
    /// An answer of the provider's.
    Whole {
        status: u16,
        content_type: String,
        body: Vec<u8>,
    },
    /// An error of ours.
    Error {
        error: ApiError,
        retry_after: Option<Duration>,
    },
}

impl Said {
    const fn status(&self) -> u16 {
        match self {
            Self::Whole { status, .. } => *status,
            Self::Error { error, .. } => error.status,
        }
    }
}

/// One call of a batch.
struct Member {
    asked: Asked,
    single: Single,
    ledger: Ledger,
    caller: Caller,
    _accounted: Accounted,
}

/// See the module.
pub struct Batch {
    coordinator: Arc<Coordinator>,
    key: batcher::Key,
    /// Of the job: cancelled when nobody waits any more.
    cancel: Arc<Cancel>,
    /// Rings when there is nothing more to wait for.
    alarm: Arc<Alarm>,
    /// How long a worker waits for more calls.
    until: Instant,
    roll: Roll<Member>,
    /// What came of the call under way.
    said: Mutex<Option<Said>>,
}

/// What is attached to a member's cancel handle.
struct Place {
    batch: Weak<Batch>,
    /// The member's own handle.
    cancel: Weak<Cancel>,
    seat: Seat,
}

impl Abort for Place {
    fn abort(&self) {
        let reason = self.cancel.upgrade().and_then(|cancel| cancel.reason());
        if let (Some(batch), Some(reason)) = (self.batch.upgrade(), reason) {
            batch.leave(self.seat, reason);
        }
    }
}

impl Batch {
    /// Cancelled when nobody waits any more.
    pub const fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// Takes what is said to the one caller that the merged call has.
    pub(super) fn hear(&self, said: Said) {
        *self.said.lock() = Some(said);
    }

    /// Answers everybody with an error, since the coordinator does not take the job.
    pub(super) fn refuse(&self, error: &ApiError, retry_after: Duration) {
        self.forget();
        for seat in self.roll.close() {
            if let Some(mut member) = self.roll.take(seat) {
                self.coordinator.metrics.reject(Rejection::QueueFull);
                member.ledger.not_taken();
                member.fail(error, Some(retry_after));
            }
        }
    }

    /// Has a member leave whose handle is cancelled.
    fn watch(self: &Arc<Self>, seat: Seat, cancel: &Arc<Cancel>) {
        cancel.attach(Arc::new(Place {
            batch: Arc::downgrade(self),
            cancel: Arc::downgrade(cancel),
            seat,
        }));
    }

    /// A member's handle was cancelled.
    fn leave(&self, seat: Seat, reason: Reason) {
        let Some(left) = self.roll.leave(seat) else {
            return;
        };
        let Left {
            member,
            is_last,
            was_waiting,
        } = left;
        if is_last {
            self.forget();
            self.cancel.cancel(Reason::ClientGone);
        }
        match reason {
            Reason::Deadline if was_waiting => {
                self.coordinator.metrics.reject(Rejection::DeadlineInQueue);
                member.fail(&late_in_queue(&self.coordinator), None);
            }
            _ => {
                if was_waiting {
                    self.coordinator
                        .metrics
                        .reject(Rejection::ClientGoneInQueue);
                }
                member.left(reason);
            }
        }
    }

    /// From here on no call finds the batch.
    fn forget(&self) {
        self.coordinator.batcher.forget(self);
    }

    /// Waits for the calls that are still to come. Returns who is there.
    fn gather(&self) -> Vec<Seat> {
        if self.roll.begin() {
            let state = thread::State::WaitingBatch;
            // If it was cancelled, nobody is there.
            let _ = pause::wait(&self.cancel, &self.alarm, self.until, state);
        }
        self.forget();
        self.roll.close()
    }
}

impl Member {
    /// Gives its own part of an answer.
    fn respond(mut self, status: u16, content_type: &str, body: Vec<u8>, usage: Usage) {
        self.ledger.usage = usage;
        self.ledger.settle(status, "", "");
        self.answer(status, content_type, body);
    }

    fn answer(self, status: u16, content_type: &str, body: Vec<u8>) {
        self.caller.cancel().detach();
        let ledger = self.ledger;
        self.caller.respond(&ledger, status, content_type, body);
        ledger.close();
    }

    /// Tells what all were told, and what it counts as.
    fn tell(mut self, said: &Said, ended: &Ended) {
        self.ledger
            .settle(ended.status, ended.error_type, &ended.message);
        match said {
            Said::Whole {
                status,
                content_type,
                body,
            } => self.answer(*status, content_type, body.clone()),
            Said::Error { error, retry_after } => self.fail(error, *retry_after),
        }
    }

    fn fail(mut self, error: &ApiError, retry_after: Option<Duration>) {
        self.ledger.settle_error(error);
        self.caller.cancel().detach();
        let ledger = self.ledger;
        self.caller.fail(&ledger, error, retry_after);
        ledger.close();
    }

    /// It does not wait any longer, for that reason.
    fn left(self, reason: Reason) {
        match reason {
            Reason::Deadline => {
                let message = "the call's deadline, its coordinator's timeout_seconds, passed \
                               before the provider answered the calls that it was merged with";
                let error = ApiError::new(Kind::Timeout, message).code("deadline");
                self.fail(&error, None);
            }
            Reason::Shutdown => {
                let message = "victor is being stopped; send the call again";
                let error = ApiError::new(Kind::Overloaded, message).code("draining");
                self.fail(&error, Some(Duration::from_secs(1)));
            }
            Reason::ClientGone | Reason::SlowClient | Reason::Outpaced => {
                self.ledger.client_left();
            }
        }
    }

    /// Takes over what came of asking for it together with others.
    fn share(&mut self, served: &Served, calls: usize) {
        self.ledger.share(served, calls);
    }
}
