//! Hedging: a second target is asked when the first has not begun to answer in time.
//!
//! Whichever begins first answers the call; the other is cancelled. A share of the route's calls
//! bounds what that costs. Each of the two attempts has a thread of its own, for as long as it
//! takes; the worker waits for the first of them. Source: Dean and Barroso, "The Tail at Scale".
//!
//! Start at [`Work::ask_twice`].

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::attempts::Failed;
use super::call::Decoded;
use super::itinerary::Itinerary;
use super::needs::views;
use super::ready::{Asking, Called, Ready};
use super::relay::Outlet;
use super::stages::Work;
use crate::cancel::{Abort, Cancel, Reason};
use crate::metrics::Outcome;
use crate::provider::AnswerBody;
use crate::provider::breaker::Ticket;
use crate::provider::route::Route;
use crate::thread::{self, Builder, Handle, Role};

/// Cancels both attempts where the call is cancelled.
struct Both {
    /// The call's handle holds this.
    call: Weak<Cancel>,
    attempts: [Arc<Cancel>; 2],
}

impl Abort for Both {
    fn abort(&self) {
        if let Some(reason) = self.call.upgrade().and_then(|call| call.reason()) {
            for attempt in &self.attempts {
                attempt.cancel(reason);
            }
        }
    }
}

/// An attempt that is under way.
struct Running {
    /// The target's place in the route.
    index: usize,
    ticket: Option<Ticket>,
    dropped: String,
    started: Instant,
    cancel: Arc<Cancel>,
    thread: Handle,
}

impl Work {
    /// After how long a second target may be asked; `None`: not at all.
    pub(super) fn hedge_after(&self, route: &Route) -> Option<Duration> {
        let is_fresh = matches!(self.outlet, Some(Outlet::Fresh(_)));
        route
            .hedge_after
            .filter(|_| is_fresh && route.targets.len() > 1)
    }

    /// As [`Work::ask`], with a second target if the first takes longer than `after`. Returns the
    /// targets that failed, if nothing was answered.
    pub(super) fn ask_twice(
        &mut self,
        decoded: &Arc<Decoded>,
        first: usize,
        after: Duration,
        way: &mut Itinerary,
        cancel: &Arc<Cancel>,
    ) -> Option<Vec<(usize, Failed)>> {
        let route = Arc::clone(&decoded.route);
        route.count_call();
        let cancels = [Arc::new(Cancel::new()), Arc::new(Cancel::new())];
        cancel.attach(Arc::new(Both {
            call: Arc::downgrade(cancel),
            attempts: cancels.clone(),
        }));
        let (tell, told) = channel::bounded(2);
        let mut failed = Vec::new();
        let mut running = Vec::new();
        self.launch(
            decoded,
            first,
            &cancels[0],
            &tell,
            &mut running,
            &mut failed,
        );
        let early = match running.is_empty() {
            true => None,
            false => told.recv_timeout(after).map(Some).unwrap_or_else(|error| {
                if error == RecvTimeoutError::Timeout && route.try_hedge() {
                    let second = way.beside(
                        first,
                        Instant::now(),
                        &views(&route, Instant::now()),
                        &mut fastrand::f64,
                    );
                    if let Some(second) = second {
                        let mut unable = Vec::new();
                        self.launch(
                            decoded,
                            second,
                            &cancels[1],
                            &tell,
                            &mut running,
                            &mut unable,
                        );
                        failed.append(&mut unable);
                    }
                }
                None
            }),
        };
        // Whoever waits for the attempts is told when all of them have ended, even in a panic.
        drop(tell);
        let answered = self.race(&route, early, told, &mut running, &mut failed);
        for loser in running {
            loser.thread.join();
        }
        cancel.detach();
        (!answered).then_some(failed)
    }

    /// Begins an attempt on a thread of its own.
    fn launch(
        &mut self,
        decoded: &Arc<Decoded>,
        index: usize,
        cancel: &Arc<Cancel>,
        tell: &Sender<Called>,
        running: &mut Vec<Running>,
        failed: &mut Vec<(usize, Failed)>,
    ) {
        let (ready, ticket) = match self.prepare(&decoded.route, index) {
            Ok(prepared) => prepared,
            Err(unable) => {
                failed.push((index, *unable));
                return;
            }
        };
        self.ledger.streamed = decoded.scanned.stream && self.call.endpoint.streams();
        self.ledger.attempt_begins(ready.target());
        let dropped = ready.passage.dropped();
        let asking = self.asking(decoded);
        let (own, tell) = (Arc::clone(cancel), tell.clone());
        let body = move || {
            thread::set_call(&asking.request_id);
            // The receiver may have what it wants by now.
            let _ = tell.send(primed(ready, &asking, &own));
            Ok(())
        };
        let thread = Builder::new(format!("hedge-{}", running.len()), Role::Worker)
            .group(self.ledger.coordinator_name())
            .spawn(body);
        match thread {
            Ok(thread) => running.push(Running {
                index,
                ticket: Some(ticket),
                dropped,
                started: Instant::now(),
                cancel: Arc::clone(cancel),
                thread,
            }),
            Err(error) => {
                ::log::warn!("a thread for an attempt cannot be had: {error}");
                failed.push((index, Failed::to_begin()));
            }
        }
    }

    /// Waits for the first attempt that begins to answer, and answers with it. Returns whether the
    /// call is over; otherwise all have failed.
    fn race(
        &mut self,
        route: &Arc<Route>,
        early: Option<Called>,
        told: Receiver<Called>,
        running: &mut [Running],
        failed: &mut Vec<(usize, Failed)>,
    ) -> bool {
        let hedged = running.get(1).map(|second| second.index);
        let mut next = early;
        let mut left = running.len();
        while left > 0 {
            let Some(called) = next.take().or_else(|| told.recv().ok()) else {
                break;
            };
            left -= 1;
            let index = called.ready.index;
            let place = running.iter().position(|it| it.index == index);
            let Some(own) = place.map(|place| &mut running[place]) else {
                continue;
            };
            if let Some(ticket) = own.ticket.take() {
                self.ledger.turn_to(
                    &route.targets[index],
                    ticket,
                    std::mem::take(&mut own.dropped),
                );
            }
            let is_answer = called.answer.as_ref().is_ok_and(|it| it.status < 400);
            if is_answer {
                self.let_go(route, running, hedged, index);
                // What the other one still answers is nobody's: its connection is free at once.
                drop(told);
                let failure = self.handle(called);
                let answered = failure.is_none();
                failed.extend(failure.map(|failure| (index, failure)));
                return answered;
            }
            match self.handle(called) {
                None => {
                    self.let_go(route, running, hedged, index);
                    return true;
                }
                Some(failure) => failed.push((index, failure)),
            }
        }
        false
    }

    /// Cancels and accounts for the attempts that have not ended; `hedged` was the second one, and
    /// `winner` the one that answers.
    fn let_go(
        &mut self,
        route: &Route,
        running: &mut [Running],
        hedged: Option<usize>,
        winner: usize,
    ) {
        if let Some(second) = hedged {
            let outcome = if second == winner { "won" } else { "lost" };
            self.ledger.hedged(&route.targets[second], outcome);
        }
        for loser in running {
            if let Some(ticket) = loser.ticket.take() {
                loser.cancel.cancel(Reason::Outpaced);
                let (target, took) = (&route.targets[loser.index], loser.started.elapsed());
                self.ledger
                    .judge(target, Some(ticket), Outcome::Cancelled, took, "outpaced");
            }
        }
    }
}

/// Asks, and waits for the first bytes of a stream too.
fn primed(ready: Ready, asking: &Asking, cancel: &Arc<Cancel>) -> Called {
    let mut called = ready.call(asking, cancel);
    if let Ok(answer) = &mut called.answer
        && let AnswerBody::Stream(stream) = &mut answer.body
        && let Err(error) = stream.prime()
    {
        called.answer = Err(error);
    }
    called
}
