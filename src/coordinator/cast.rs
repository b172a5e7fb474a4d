//! One stream to many callers, each at its own pace.
//!
//! The worker writes to every caller's connection and waits for none: what a client does not take
//! goes into its own bounded outbox, and one that leaves too much unread is ended alone. Callers
//! who come late read what they missed from the log and are then taken along.

use std::sync::Arc;

use super::caller::stream_head;
use super::flight::{Flight, Head, LOG_BYTES_MAX, Landed, Over};
use super::follower::{Follower, Live};
use super::lead::given_up;
use super::ledger::{Ended, Ledger, Served};
use super::replay::Shapes;
use crate::cache::{Body, Events};
use crate::cancel::Cancel;
use crate::front::{Gone, StreamWriter};
use crate::metrics::Accounted;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::replay::is_complete_stream;

/// See the module. Dropped without [`Cast::finish`], every caller's connection is cut.
pub struct Cast {
    flight: Arc<Flight>,
    content_type: String,
    /// To the leader's own caller, while it is there.
    own: Option<StreamWriter>,
    live: Vec<Live>,
    /// What is remembered of the stream, charged to the coordinator.
    accounted: Accounted,
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
            live: waiting
                .into_iter()
                .filter_map(|it| it.begin(&head))
                .collect(),
            accounted: ledger.charge(),
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
                self.accounted.add(events.len());
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

    /// Sends the last events of a complete answer, and keeps it if `is_whole`: nothing of it had to
    /// be left out.
    ///
    /// # Errors
    /// As [`Cast::write`].
    pub fn write_last(
        &mut self,
        events: &[u8],
        is_whole: bool,
        ledger: &Ledger,
    ) -> Result<(), Gone> {
        let all = {
            let crew = self.flight.crew.lock();
            let is_short = crew.log.len() + events.len() <= LOG_BYTES_MAX && !crew.is_too_long;
            is_short.then(|| [&crew.log, events].concat())
        };
        // Before the flight is over: whoever finds none then finds the answer.
        let whole = all
            .as_deref()
            .filter(|all| is_whole && is_complete_stream(self.flight.endpoint, all));
        let kept = whole.and_then(|all| {
            let body = Body::Events(Events::new([all])?);
            Some(self.flight.keep(ledger, &self.content_type, body))
        });
        let over = Over {
            served: ledger.served(),
            ended: ledger.ended(),
            is_cut: false,
        };
        let landed = self.land(over, events);
        let sent = self.send(events);
        let shapes = all.map(|all| {
            let all = Arc::new(all);
            Shapes::new(self.flight.endpoint, all, true, &self.content_type)
        });
        for follower in landed.waiting {
            match &shapes {
                Some(shapes) => follower.give(&self.flight, &landed.over, shapes),
                None => follower.ask(&self.flight),
            }
        }
        if let Some(entry) = kept {
            self.flight.share(&entry);
        }
        sent
    }

    /// Ends the flight; those who are sent the stream are settled.
    fn land(&mut self, over: Over, rest: &[u8]) -> Landed {
        self.is_over = true;
        let mut landed = self.flight.land(over, rest);
        self.live.append(&mut landed.joined);
        for live in &mut self.live {
            live.ledger.adopt(&landed.over.served);
            live.ledger.settle_as(&landed.over.ended);
        }
        landed
    }

    /// Ends the stream. If it was not complete, `ledger` says how it failed.
    pub fn finish(mut self, ledger: &Ledger) {
        if !self.is_over {
            let over = Over {
                served: ledger.served(),
                ended: ledger.ended(),
                is_cut: false,
            };
            let landed = self.land(over, b"");
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
            let served = self.flight.crew.lock().head.clone();
            let over = Over {
                served: served.map_or_else(Served::default, |head| head.served.clone()),
                ended: Ended::client_left(),
                is_cut: true,
            };
            let landed = self.flight.land(over, b"");
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
