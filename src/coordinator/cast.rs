//! One stream to many callers, each at its own pace.
//!
//! The worker writes to every caller's connection and waits for none: what a client does not take
//! goes into its own bounded outbox, and one that leaves too much unread is ended alone. Callers
//! who come late read what they missed from the log and are then taken along.

use std::sync::Arc;

use super::caller::stream_head;
use super::flight::{Flight, Head, LOG_BYTES_MAX, Landed};
use super::follower::{Follower, Live};
use super::lead::given_up;
use super::ledger::{Ended, Ledger, Served};
use super::replay;
use crate::cache::{Body, Events};
use crate::cancel::Cancel;
use crate::front::{Gone, SharedBytes, StreamWriter};
use crate::wire::errors::{ApiError, Kind};

/// See the module. Dropped without [`Cast::finish`], every caller's connection is cut.
pub struct Cast {
    flight: Arc<Flight>,
    content_type: String,
    /// To the leader's own caller, while it is there.
    own: Option<StreamWriter>,
    live: Vec<Live>,
    is_over: bool,
}

impl Cast {
    /// Begins the stream of everybody who waits for one.
    pub(super) fn begin(flight: Arc<Flight>, ledger: &Ledger, content_type: &str) -> Self {
        let head = Arc::new(Head {
            served: ledger.served(),
            content_type: content_type.to_owned(),
        });
        let (leader, waiting) = {
            let mut crew = flight.crew.lock();
            crew.head = Some(Arc::clone(&head));
            let shape = flight.shape();
            let same = crew.waiting.extract_if(.., |it| it.shape == shape);
            let same: Vec<Follower> = same.collect();
            (crew.leader.take(), same)
        };
        Self {
            own: leader.map(|leader| leader.stream(stream_head(ledger, content_type))),
            live: waiting.into_iter().map(|it| it.begin(&head)).collect(),
            content_type: content_type.to_owned(),
            is_over: false,
            flight,
        }
    }

    /// Cancelled when nobody waits any more.
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.flight.cancel
    }

    /// Sends whole events to everybody. Never blocks.
    ///
    /// # Errors
    /// Nobody is there any more.
    pub fn write(&mut self, events: &[u8]) -> Result<(), Gone> {
        {
            let mut crew = self.flight.crew.lock();
            if crew.log.len() + events.len() > LOG_BYTES_MAX {
                crew.is_too_long = true;
                crew.log = Vec::new();
            } else if !crew.is_too_long {
                crew.log.extend_from_slice(events);
            }
            // They have read everything before.
            self.live.append(&mut crew.joined);
        }
        self.send(events)
    }

    fn send(&mut self, events: &[u8]) -> Result<(), Gone> {
        if let Some(own) = &mut self.own
            && own.write(events).is_err()
        {
            self.own = None;
            self.flight.leader_gone();
        }
        let mut place = 0;
        while let Some(live) = self.live.get_mut(place) {
            match live.writer.write(events) {
                Ok(()) => place += 1,
                Err(Gone) => {
                    let lost = self.live.swap_remove(place);
                    self.flight.lose(lost);
                }
            }
        }
        match self.own.is_some() || self.flight.is_wanted() {
            true => Ok(()),
            false => Err(Gone),
        }
    }

    /// Sends the last events of a complete answer, and keeps it.
    ///
    /// # Errors
    /// As [`Cast::write`].
    pub fn write_last(&mut self, events: &[u8], ledger: &Ledger) -> Result<(), Gone> {
        let all = {
            let crew = self.flight.crew.lock();
            let is_short = crew.log.len() + events.len() <= LOG_BYTES_MAX && !crew.is_too_long;
            is_short.then(|| [&crew.log, events].concat())
        };
        // Before the flight is over: whoever finds none then finds the answer.
        if let Some(all) = all.as_deref().and_then(|all| Events::new([all])) {
            self.flight
                .keep(ledger, &self.content_type, Body::Events(all));
        }
        let landed = self.land(ledger.served(), ledger.ended(), events);
        let sent = self.send(events);
        self.answer_whole(landed, all.as_deref());
        sent
    }

    /// Ends the flight; those who are sent the stream are settled.
    fn land(&mut self, served: Served, ended: Ended, rest: &[u8]) -> Landed {
        self.is_over = true;
        let mut landed = self.flight.land(served, ended, rest);
        self.live.append(&mut landed.joined);
        for live in &mut self.live {
            live.ledger.adopt(&landed.over.served);
            live.ledger.settle_as(&landed.over.ended);
        }
        landed
    }

    /// Answers those who want a body, given all events of the stream.
    fn answer_whole(&self, landed: Landed, all: Option<&[u8]>) {
        if landed.waiting.is_empty() {
            return;
        }
        let body = all.and_then(|all| replay::body(self.flight.endpoint, all));
        let body: Option<SharedBytes> = body.map(|body| Arc::new(body) as SharedBytes);
        for follower in landed.waiting {
            match &body {
                Some(body) => {
                    let body = Arc::clone(body);
                    follower.respond(&self.flight, &landed.over, replay::JSON, body);
                }
                None => {
                    let error = replay::not_replayable();
                    follower.fail(&self.flight, &landed.over, &error, None);
                }
            }
        }
    }

    /// Ends the stream. If it was not complete, `ledger` says how it failed.
    pub fn finish(mut self, ledger: &Ledger) {
        if !self.is_over {
            let landed = self.land(ledger.served(), ledger.ended(), b"");
            let Ended {
                error_type,
                message,
                ..
            } = &landed.over.ended;
            let error = ApiError::new(Kind::Upstream, message.as_str()).code(error_type);
            for follower in landed.waiting {
                follower.fail(&self.flight, &landed.over, &error, None);
            }
        }
        if let Some(own) = self.own.take() {
            own.cancel().detach();
            // A client that is gone needs no end.
            let _ = own.finish();
        }
        for live in std::mem::take(&mut self.live) {
            self.flight.finish(live);
        }
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        if !self.is_over {
            let ended = Ended::client_left();
            let landed = self.flight.land(Served::default(), ended, b"");
            self.live.extend(landed.joined);
            for follower in landed.waiting {
                follower.fail(&self.flight, &landed.over, &given_up(), None);
            }
        }
        for live in std::mem::take(&mut self.live) {
            self.flight.cut(live);
        }
    }
}
