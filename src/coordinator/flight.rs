//! One call that is asked for many: its leader, and the followers who wait for the same answer.
//!
//! The leader's call goes through queue, worker and provider like any other; its own caller is only
//! the first of those who wait. A follower holds no thread and no place in the queue, but its
//! connection: whoever answers the leader answers it too. Who leaves, leaves alone; when the last
//! one has left, the call is cancelled. What the worker does with a flight is in `lead.rs` and, for
//! a stream, `cast.rs`.
//!
//! No lock is held while anybody is answered. Start at [`Flight::lead`] and [`Flight::join`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::answers::Answers;
use super::call::Call;
use super::caller::Caller;
use super::follower::{Follower, Live};
use super::lead::Lead;
use super::ledger::{Ended, Ledger, Served};
use super::terms::{Shape, Terms};
use crate::cache::{Body, Entry, Key};
use crate::cancel::{Abort, Cancel, Reason};
use crate::front::{self, Responder};
use crate::metrics::Cached;
use crate::sync::Mutex;
use crate::wire::Endpoint;

/// What is remembered of a stream at most, for those who come late and for the cache. Beyond that
/// nobody can join, and the answer is not kept. Half of what a client may leave unread, so that all
/// of it can be sent at once.
pub(super) const LOG_BYTES_MAX: usize = front::OUTBOX_BYTES_MAX / 2;
/// What one who comes late is sent at a time.
const CATCH_UP_BYTES: usize = 256 << 10;
/// The seat of the leader's own caller.
const LEADER: u32 = 0;

/// See the module.
pub struct Flight {
    pub(super) answers: Arc<Answers>,
    pub(super) terms: Terms,
    pub(super) endpoint: Endpoint,
    /// How often answers had been cleared when it began.
    clears: u64,
    /// Until when one may join whose answer has not begun: later, the leader's deadline would cut
    /// short what the follower still has time for.
    joined_until: Instant,
    /// Of the call that is asked: cancelled when nobody waits any more.
    pub(super) cancel: Arc<Cancel>,
    /// Whether the leader's own caller has left.
    pub(super) leader_left: Arc<AtomicBool>,
    pub(super) crew: Mutex<Crew>,
}

/// Who waits, and for what.
#[derive(Default)]
pub(super) struct Crew {
    /// The leader's own caller, until it is answered.
    pub leader: Option<Responder>,
    pub waiting: Vec<Follower>,
    /// Those who have caught up with the stream since it was last written to.
    pub joined: Vec<Live>,
    /// Callers who have neither left nor been answered.
    present: usize,
    /// The last of them has left before the answer was over: the call is being given up.
    is_deserted: bool,
    leader_seat: Option<Arc<Seat>>,
    /// What callers are told before the stream, once it has begun.
    pub head: Option<Arc<Head>>,
    /// What of the stream has been sent.
    pub log: Vec<u8>,
    /// It would have been more than is remembered.
    pub is_too_long: bool,
    /// Once the answer is over, how.
    pub over: Option<Arc<Over>>,
    seats: u32,
}

/// What every caller of a stream is told before it.
pub(super) struct Head {
    pub served: Served,
    pub content_type: String,
}

/// How an answer ended.
pub(super) struct Over {
    pub served: Served,
    pub ended: Ended,
    /// Whether the answer broke off without a word.
    pub is_cut: bool,
}

/// One caller's place; what is attached to its cancel handle.
pub(super) struct Seat {
    flight: Weak<Flight>,
    /// The caller's own handle.
    cancel: Weak<Cancel>,
    number: u32,
    is_vacant: AtomicBool,
}

impl Abort for Seat {
    fn abort(&self) {
        let reason = self.cancel.upgrade().and_then(|cancel| cancel.reason());
        if let (Some(flight), Some(reason)) = (self.flight.upgrade(), reason) {
            flight.leave(self, reason);
        }
    }
}

/// Whether a call has joined.
pub enum Joined {
    Yes,
    No(Box<Call>),
}

impl Flight {
    /// A flight for `call`, which has not begun.
    pub(super) fn new(answers: &Arc<Answers>, call: &Call, terms: &Terms) -> Arc<Self> {
        let now = Instant::now();
        let left = call.deadline.saturating_duration_since(now);
        Arc::new(Self {
            answers: Arc::clone(answers),
            terms: *terms,
            endpoint: call.endpoint,
            clears: answers.clears().count(),
            joined_until: now + left / 2,
            cancel: Arc::new(Cancel::new()),
            leader_left: Arc::default(),
            crew: Mutex::new(
                "flight.crew",
                Crew {
                    // The leader's own caller, who is seated by `lead`.
                    present: 1,
                    seats: LEADER + 1,
                    ..Crew::default()
                },
            ),
        })
    }

    /// Under what others find it.
    pub(super) const fn key(&self) -> &Key {
        &self.terms.key
    }

    /// The shape of the answer that is on its way.
    pub(super) const fn shape(&self) -> Shape {
        self.terms.shape
    }

    /// Makes `call`, whose caller is alone, the one that is asked.
    pub(super) fn lead(self: &Arc<Self>, mut call: Box<Call>) -> Box<Call> {
        call.keep_alive();
        let lead = Caller::Lead(Lead::new(Arc::clone(self)));
        let Caller::Alone(responder) = std::mem::replace(&mut call.caller, lead) else {
            return call;
        };
        let cancel = Arc::clone(responder.cancel());
        let seat = self.seat(LEADER, &cancel);
        {
            let mut crew = self.crew.lock();
            crew.leader = Some(responder);
            crew.leader_seat = Some(Arc::clone(&seat));
        }
        cancel.attach(seat);
        call
    }

    fn seat(self: &Arc<Self>, number: u32, cancel: &Arc<Cancel>) -> Arc<Seat> {
        Arc::new(Seat {
            flight: Arc::downgrade(self),
            cancel: Arc::downgrade(cancel),
            number,
            is_vacant: AtomicBool::new(false),
        })
    }

    fn may_join(&self, crew: &Crew, terms: &Terms) -> bool {
        let is_alike = terms.shape == self.terms.shape || self.terms.is_convertible;
        let is_timely = crew.head.is_some() || Instant::now() < self.joined_until;
        is_alike
            && is_timely
            && crew.over.is_none()
            && !crew.is_too_long
            && !crew.is_deserted
            && !self.cancel.is_cancelled()
    }

    /// Has `call`, whose caller is alone, wait for the answer of this flight. What of a stream has
    /// been sent so far is sent to it at once.
    pub(super) fn join(self: &Arc<Self>, mut call: Box<Call>, terms: &Terms) -> Joined {
        if !self.may_join(&self.crew.lock(), terms) {
            return Joined::No(call);
        }
        call.keep_alive();
        call.cached = Cached::Coalesced;
        let mut ledger = Ledger::of(&call);
        ledger.streamed = terms.shape.is_stream();
        let mut crew = self.crew.lock();
        if !self.may_join(&crew, terms) {
            drop(crew);
            return Joined::No(call);
        }
        let cancel = Arc::clone(call.caller.cancel());
        let seat = self.seat(crew.seats, &cancel);
        crew.seats += 1;
        crew.present += 1;
        self.answers.followers.fetch_add(1, Ordering::Relaxed);
        let follower = Follower {
            ledger,
            call,
            shape: terms.shape,
            seat: Arc::clone(&seat),
        };
        match crew
            .head
            .clone()
            .filter(|_| terms.shape == self.terms.shape)
        {
            None => {
                crew.waiting.push(follower);
                drop(crew);
                cancel.attach(seat);
            }
            Some(head) => {
                drop(crew);
                cancel.attach(seat);
                if let Some(live) = follower.begin(&head) {
                    self.catch_up(live);
                }
            }
        }
        Joined::Yes
    }

    /// Sends what has been sent to the others, and then hands the caller to them.
    fn catch_up(self: &Arc<Self>, mut live: Live) {
        let mut seen = 0;
        loop {
            let (new, over) = {
                let mut crew = self.crew.lock();
                let new = crew.log.get(seen..).unwrap_or_default();
                let is_all = new.len() <= CATCH_UP_BYTES;
                let new = new[..new.len().min(CATCH_UP_BYTES)].to_vec();
                let over = crew.over.clone().filter(|over| is_all || over.is_cut);
                if crew.is_too_long || over.as_ref().is_some_and(|over| over.is_cut) {
                    drop(crew);
                    return self.cut(live);
                }
                if new.is_empty() && over.is_none() {
                    crew.joined.push(live);
                    return;
                }
                (new, over)
            };
            seen += new.len();
            if let Some(over) = &over {
                live.ledger.adopt(&over.served);
                live.ledger.settle_as(&over.ended);
            }
            if live.writer.write(&new).is_err() {
                return self.lose(live);
            }
            if over.is_some() {
                return self.finish(live);
            }
        }
    }

    /// Ends the stream of a caller who has had everything, and whose account is settled.
    pub(super) fn finish(&self, live: Live) {
        live.writer.cancel().detach();
        // A client that is gone needs no end.
        let _ = live.writer.finish();
        live.ledger.close();
        self.part(&live.seat);
    }

    /// A caller's connection is gone, or it does not read.
    pub(super) fn lose(&self, live: Live) {
        drop(live.writer);
        live.ledger.client_left();
        self.part(&live.seat);
    }

    /// Cuts the stream of a caller who cannot be told the rest.
    pub(super) fn cut(&self, mut live: Live) {
        live.writer.cancel().detach();
        drop(live.writer);
        live.ledger
            .settle(200, "stream_cut", "the stream of an equal call broke off");
        live.ledger.close();
        self.part(&live.seat);
    }

    /// Keeps a complete answer; returns it as it is kept.
    pub(super) fn keep(&self, ledger: &Ledger, content_type: &str, body: Body) -> Arc<Entry> {
        self.answers
            .keep(self.clears, &self.terms, ledger, content_type, body)
    }

    /// Gives other instances what was kept.
    pub(super) fn share(&self, entry: &Entry) {
        if self.answers.clears().count() == self.clears {
            self.answers.share(entry);
        }
    }

    /// One caller less, who was answered or has left.
    pub(super) fn part(&self, seat: &Seat) {
        let is_empty = self.vacate(&mut self.crew.lock(), seat);
        if is_empty {
            self.cancel.cancel(Reason::ClientGone);
        }
    }

    /// Returns whether nobody is left who waits for what is still to come.
    fn vacate(&self, crew: &mut Crew, seat: &Seat) -> bool {
        if seat.is_vacant.swap(true, Ordering::Relaxed) {
            return false;
        }
        crew.present -= 1;
        if seat.number != LEADER {
            self.answers.followers.fetch_sub(1, Ordering::Relaxed);
        }
        crew.is_deserted = crew.present == 0 && crew.over.is_none();
        crew.is_deserted
    }

    /// Whether anybody waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.crew.lock().present > 0
    }

    /// The connection of the leader's own caller is gone.
    pub(super) fn leader_gone(&self) {
        self.leader_left.store(true, Ordering::Relaxed);
        let seat = self.crew.lock().leader_seat.take();
        if let Some(seat) = seat {
            self.part(&seat);
        }
    }

    /// A caller's handle was cancelled.
    fn leave(self: &Arc<Self>, seat: &Seat, reason: Reason) {
        let is_leader = seat.number == LEADER;
        if is_leader && matches!(reason, Reason::Deadline | Reason::Shutdown) {
            // It is the deadline of the call that is asked, or everybody's end. A stream that has
            // begun lives by its own deadlines.
            if reason == Reason::Shutdown || self.crew.lock().head.is_none() {
                self.cancel.cancel(reason);
            }
            return;
        }
        let (responder, follower, is_empty) = {
            let mut crew = self.crew.lock();
            let mut waiting = crew.waiting.iter();
            let place = waiting.position(|it| it.seat.number == seat.number);
            let follower = place.map(|place| crew.waiting.swap_remove(place));
            if follower.is_none() && !is_leader && reason == Reason::Deadline {
                // Its stream has begun meanwhile, and lives by its own deadlines.
                return;
            }
            if follower.is_none() && !is_leader && reason == Reason::Shutdown {
                drop(crew);
                // Everybody is to be told why the stream ends.
                self.cancel.cancel(reason);
                return;
            }
            if is_leader {
                self.leader_left.store(true, Ordering::Relaxed);
            }
            let responder = crew.leader.take_if(|_| is_leader);
            (responder, follower, self.vacate(&mut crew, seat))
        };
        if is_empty {
            self.answers.forget(self);
            self.cancel.cancel(Reason::ClientGone);
        }
        drop(responder);
        if let Some(follower) = follower {
            follower.left(reason);
        }
    }

    /// The answer is over: from here on nobody joins. Returns who is still to be answered.
    pub(super) fn land(self: &Arc<Self>, over: Over, rest: &[u8]) -> Landed {
        let over = Arc::new(over);
        let mut crew = self.crew.lock();
        crew.log.extend_from_slice(rest);
        crew.over = Some(Arc::clone(&over));
        let landed = Landed {
            over,
            leader: crew.leader.take(),
            waiting: std::mem::take(&mut crew.waiting),
            joined: std::mem::take(&mut crew.joined),
        };
        drop(crew);
        self.answers.forget(self);
        if let Some(leader) = &landed.leader {
            leader.cancel().detach();
        }
        landed
    }
}

/// Who is answered at the end of a flight.
pub(super) struct Landed {
    pub over: Arc<Over>,
    pub leader: Option<Responder>,
    pub waiting: Vec<Follower>,
    pub joined: Vec<Live>,
}
