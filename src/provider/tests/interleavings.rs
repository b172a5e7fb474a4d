//! Limiter, breaker and permits under many interleavings of their threads; see
//! `crate::sync::model` for what is tried and what is not. Runs with every `cargo test`;
//! `VICTOR_SCHEDULES=100000 cargo test --release interleavings` tries more.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::breaker::{Admit, Breaker, State, Verdict};
use super::super::limiter::{self, Limiter};
use super::super::semaphore::{self, Semaphore};
use crate::cancel::{Cancel, Reason};
use crate::config::checked;
use crate::sync::model::{check, pass_time, spawn};

/// Far apart, so that the time a test takes makes no difference.
const INTERVAL: Duration = Duration::from_secs(1000);

fn schedules() -> usize {
    let asked = std::env::var("VICTOR_SCHEDULES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Counts of how so many threads ended.
#[derive(Default)]
struct Ends {
    went: AtomicUsize,
    refused: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Ends {
    fn add(count: &AtomicUsize) -> usize {
        count.fetch_add(1, Ordering::Relaxed)
    }

    fn counts(&self) -> [usize; 3] {
        [&self.went, &self.refused, &self.cancelled].map(|count| count.load(Ordering::Relaxed))
    }

    fn total(&self) -> usize {
        self.counts().iter().sum()
    }
}

fn limiter() -> Arc<Limiter> {
    Arc::new(Limiter::new(Some(checked::RateLimit {
        requests_per_second: 1.0 / INTERVAL.as_secs_f64(),
        burst: NonZeroU32::MIN,
    })))
}

/// A thread that asks the limiter for its turn.
fn caller(limiter: &Arc<Limiter>, ends: &Arc<Ends>, cancel: &Arc<Cancel>, patience: Duration) {
    let (limiter, ends, cancel) = (Arc::clone(limiter), Arc::clone(ends), Arc::clone(cancel));
    spawn(move || {
        let count = match limiter.acquire(&cancel, Instant::now() + patience) {
            Ok(_) => &ends.went,
            Err(limiter::Refused::Deadline) => &ends.refused,
            Err(limiter::Refused::Cancelled) => &ends.cancelled,
        };
        Ends::add(count);
    });
}

#[test]
fn every_caller_of_a_limiter_gets_a_slot_of_its_own() {
    check(schedules(), || {
        let (limiter, ends, started) = (limiter(), Arc::new(Ends::default()), Instant::now());
        (0..3).for_each(|_| caller(&limiter, &ends, &Arc::default(), INTERVAL * 9));
        let over = Arc::clone(&ends);
        pass_time(move || over.total() == 3);
        assert_eq!((ends.counts(), limiter.waiting()), ([3, 0, 0], 0));
        assert!(limiter.next_free(started) >= started + INTERVAL * 3);
    });
}

#[test]
fn a_cancel_at_any_moment_ends_the_wait_and_costs_at_most_the_slot() {
    check(schedules(), || {
        let (limiter, ends, started) = (limiter(), Arc::new(Ends::default()), Instant::now());
        let far = started + INTERVAL * 9;
        assert!(limiter.acquire(&Cancel::new(), far).is_ok(), "the burst");
        let cancel = Arc::new(Cancel::new());
        caller(&limiter, &ends, &cancel, INTERVAL * 9);
        caller(&limiter, &ends, &Arc::default(), INTERVAL * 9);
        spawn(move || {
            cancel.cancel(Reason::ClientGone);
        });
        // No time passes: nothing but the cancel can end a wait.
        while ends.total() == 0 {
            shuttle::thread::yield_now();
        }
        assert_eq!(ends.counts(), [0, 0, 1]);
        let over = Arc::clone(&ends);
        pass_time(move || over.total() == 2);
        assert_eq!((ends.counts(), limiter.waiting()), ([1, 0, 1], 0));
        let slots = limiter.next_free(started) - started;
        assert!(slots >= INTERVAL * 2 && slots < INTERVAL * 7 / 2);
    });
}

#[test]
fn a_pause_at_any_moment_moves_everybody_or_refuses_them_at_once() {
    check(schedules(), || {
        let (limiter, ends) = (Arc::new(Limiter::new(None)), Arc::new(Ends::default()));
        limiter.pause_until(Instant::now() + Duration::from_secs(20));
        caller(&limiter, &ends, &Arc::default(), Duration::from_secs(30));
        caller(&limiter, &ends, &Arc::default(), INTERVAL);
        let own = Arc::clone(&limiter);
        let pause = spawn(move || own.pause_until(Instant::now() + Duration::from_secs(60)));
        pause.join().unwrap();
        // No time has passed: the impatient one must have been told.
        while ends.total() == 0 {
            shuttle::thread::yield_now();
        }
        assert_eq!(ends.counts(), [0, 1, 0]);
        let over = Arc::clone(&ends);
        pass_time(move || over.total() == 2);
        assert_eq!((ends.counts(), limiter.waiting()), ([1, 1, 0], 0));
    });
}

#[test]
fn a_half_open_breaker_has_one_probe_out_at_a_time() {
    check(schedules(), || {
        let breaker = Breaker::new(checked::Breaker {
            failures: NonZeroU32::MIN,
            window: INTERVAL,
            open_for: INTERVAL,
        });
        let now = Instant::now();
        let Admit::Yes(old) = breaker.admit(now) else {
            panic!("closed");
        };
        let Admit::Yes(first) = breaker.admit(now) else {
            panic!("closed");
        };
        breaker.ended(first, Verdict::Failure, now, 0.0);
        let due = now + INTERVAL;
        let (out, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for number in 0..3 {
            let (own, out, ended) = (breaker.clone(), Arc::clone(&out), Arc::clone(&ended));
            spawn(move || {
                if let Admit::Probe(ticket) = own.admit(due) {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "two probes");
                    // Somebody else's turn.
                    own.state(due);
                    out.fetch_sub(1, Ordering::Relaxed);
                    match number {
                        0 => drop(ticket),
                        _ => drop(own.ended(ticket, Verdict::Neutral, due, 0.0)),
                    }
                }
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        breaker.ended(old, Verdict::Success, due, 0.0);
        while ended.load(Ordering::Relaxed) < 3 {
            shuttle::thread::yield_now();
        }
        assert_eq!(breaker.state(due), State::HalfOpen);
        assert!(breaker.peek(due), "the place is free again");
    });
}

/// A thread that takes a permit for a moment.
fn holder(
    permits: &Arc<Semaphore<u32>>,
    in_use: &Arc<AtomicUsize>,
    ends: &Arc<Ends>,
    cancel: &Arc<Cancel>,
) {
    let (permits, in_use) = (Arc::clone(permits), Arc::clone(in_use));
    let (ends, cancel) = (Arc::clone(ends), Arc::clone(cancel));
    spawn(move || {
        let count = match permits.acquire(&cancel, Instant::now() + INTERVAL) {
            Ok(permit) => {
                assert_eq!(in_use.fetch_add(1, Ordering::Relaxed), 0, "one too many");
                // Somebody else's turn.
                permits.waiting();
                in_use.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
                &ends.went
            }
            Err(semaphore::Refused::Cancelled) => &ends.cancelled,
            Err(_) => &ends.refused,
        };
        Ends::add(count);
    });
}

#[test]
fn a_permit_is_never_lost_nor_given_twice() {
    check(schedules(), || {
        let permits = Semaphore::new(1, Duration::ZERO);
        let (in_use, ends) = (Arc::default(), Arc::new(Ends::default()));
        let cancel = Arc::new(Cancel::new());
        holder(&permits, &in_use, &ends, &cancel);
        (0..2).for_each(|_| holder(&permits, &in_use, &ends, &Arc::default()));
        spawn(move || {
            cancel.cancel(Reason::ClientGone);
        });
        let over = Arc::clone(&ends);
        // Time passes too: a permit may meet a deadline on its way.
        pass_time(move || over.total() == 3);
        assert_eq!((permits.in_use(), permits.waiting()), (0, 0));
        assert!(permits.try_acquire().unwrap().is_some());
    });
}

#[test]
fn closing_at_any_moment_refuses_whoever_waits() {
    check(schedules(), || {
        let permits = Semaphore::new(1, Duration::ZERO);
        let (in_use, ends) = (Arc::default(), Arc::new(Ends::default()));
        (0..3).for_each(|_| holder(&permits, &in_use, &ends, &Arc::default()));
        permits.close();
        while ends.total() < 3 {
            shuttle::thread::yield_now();
        }
        assert_eq!((permits.in_use(), permits.waiting()), (0, 0));
        assert!(permits.try_acquire().is_err());
    });
}

#[test]
fn a_cancel_at_any_moment_ends_the_wait_for_a_permit() {
    check(schedules(), || {
        let permits = Semaphore::new(1, Duration::ZERO);
        let held = permits.try_acquire().unwrap();
        let (in_use, ends) = (Arc::default(), Arc::new(Ends::default()));
        let cancel = Arc::new(Cancel::new());
        holder(&permits, &in_use, &ends, &cancel);
        spawn(move || {
            cancel.cancel(Reason::ClientGone);
        });
        while ends.total() == 0 {
            shuttle::thread::yield_now();
        }
        assert_eq!(ends.counts(), [0, 0, 1]);
        drop(held);
        assert_eq!((permits.in_use(), permits.waiting()), (0, 0));
    });
}
