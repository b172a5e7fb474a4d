//! The arithmetic of a rate limit: who may go when.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, annex A; the same
//! shape as the buckets of RFC 2697): instead of tokens it keeps the theoretical time of the next
//! arrival, so that nothing has to be refilled. Callers reserve a slot in the order in which they
//! come and sleep until it; there is nothing to hand over, so nothing to lose.
//!
//! What waits is kept in order, for slots move: a pause or a hint of the provider lays all that is
//! not released out anew, behind what is. Pure: time is an argument, and how to wake somebody (`W`)
//! is the caller's business. Start at [`Bucket::reserve`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hints::{Hints, Quota};
use crate::config::checked::RateLimit;

/// The longest pause that is made of one refusal; after it the provider is asked again.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What is left of a quota matters below one in so many of the whole.
const LOW_PARTS: u64 = 5;
/// The same where the whole is not known: below so many requests.
const LOW_REQUESTS: u64 = 20;
/// A call's tokens are not known before its answer: one in so many of the whole is taken for one.
const TOKEN_PARTS: u64 = 100;

/// A slot beyond the caller's deadline, which is not reserved; or one that has moved there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is released: go.
    Go,
    /// Not before then.
    Wait(Instant),
    /// It has moved beyond its deadline and is gone.
    TooLate,
}

/// A slot reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Go at once; there is nothing to give back.
    Now,
    /// Go at `slot`, unless it moves; ask [`Bucket::turn`] then.
    Later { id: u64, slot: Instant },
}

/// A configured rate.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two slots.
    interval: Duration,
    /// How far arrivals may run ahead of the rate: the burst less one, in time.
    ahead: Duration,
}

/// What a provider's quota slows the rate to.
#[derive(Clone, Copy)]
struct Slow {
    /// Between two slots; `None`: nothing is left.
    interval: Option<Duration>,
    /// The reset, from when on it does not hold.
    until: Instant,
}

/// Behind all slots up to some point.
#[derive(Clone, Copy)]
struct Head {
    /// GCRA's theoretical arrival time.
    arrival: Instant,
    /// The last slot.
    last: Option<Instant>,
    /// How many slots that is.
    count: u64,
}

struct Waiting<W> {
    id: u64,
    slot: Instant,
    deadline: Instant,
    before: Head,
    who: W,
}

/// See the module.
pub struct Bucket<W> {
    pace: Option<Pace>,
    /// By dimension of the hints.
    slow: [Option<Slow>; 4],
    /// Nothing is released before.
    floor: Instant,
    /// Behind the last that was released.
    released: Head,
    /// Behind the last that was reserved.
    reserved: Head,
    /// In order. Bounded by the threads that can wait.
    waiting: VecDeque<Waiting<W>>,
    next_id: u64,
}

impl<W: Clone> Bucket<W> {
    /// A full bucket; without `limit`, as fast as the provider allows.
    pub fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        let head = Head {
            arrival: now,
            last: None,
            count: 0,
        };
        Self {
            pace: limit.map(pace),
            slow: [None; 4],
            floor: now,
            released: head,
            reserved: head,
            waiting: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Reserves the next slot for `who`.
    ///
    /// # Errors
    /// It lies beyond `deadline`, and nothing is reserved.
    pub fn reserve(
        &mut self,
        now: Instant,
        deadline: Instant,
        who: impl FnOnce() -> W,
    ) -> Result<Reserved, TooLate> {
        let before = self.reserved;
        let (slot, after) = self.next(now, before);
        if slot > deadline {
            return Err(TooLate);
        }
        self.reserved = after;
        if slot <= now {
            self.released = after;
            return Ok(Reserved::Now);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Waiting {
            id,
            slot,
            deadline,
            before,
            who: who(),
        });
        Ok(Reserved::Later { id, slot })
    }

    /// Whether the reservation's slot has come; released, it cannot be given back.
    pub fn turn(&mut self, id: u64, now: Instant) -> Turn {
        let Some(at) = self.find(id) else {
            return Turn::TooLate;
        };
        let slot = self.waiting[at].slot;
        if slot > now {
            return Turn::Wait(slot);
        }
        let after = self.waiting.get(at + 1);
        let after = after.map_or(self.reserved, |next| next.before);
        // Those before it that are late to wake cost their slot twice if they have to move now.
        if self.released.count < after.count {
            self.released = after;
        }
        self.waiting.remove(at);
        Turn::Go
    }

    /// Gives a reservation back: its slot is free again if it is the last one, else it is lost,
    /// which only errs on the safe side.
    pub fn give_back(&mut self, id: u64) {
        let Some(at) = self.find(id) else {
            return;
        };
        if let Some(gone) = self.waiting.remove(at)
            && self.reserved.count == gone.before.count + 1
        {
            self.reserved = gone.before;
        }
    }

    /// The provider refused: nothing is released before `until`, at most [`PAUSE_MAX`] from now,
    /// and the burst is spent, so that those who wait do not all come back at once. Returns who
    /// must look again.
    pub fn pause_until(&mut self, until: Instant, now: Instant) -> Vec<W> {
        let until = until.min(now + PAUSE_MAX);
        if until <= self.floor {
            return Vec::new();
        }
        self.floor = until;
        if let Some(pace) = self.pace {
            let spent = until.checked_add(pace.ahead).unwrap_or(until);
            self.released.arrival = self.released.arrival.max(spent);
        }
        self.lay_out(now)
    }

    /// Heeds what the provider says: as little remains, the rate falls to what remains until the
    /// reset, and recovers at the reset; a `retry-after` pauses. Returns who must look again.
    pub fn heed(&mut self, hints: &Hints, now: Instant) -> Vec<W> {
        let mut changed = false;
        for (dimension, (own, quota)) in self.slow.iter_mut().zip(&hints.quotas).enumerate() {
            let Some(quota) = quota else { continue };
            let slow = slowed(quota, dimension == 0, now);
            changed |= own.is_some() || slow.is_some();
            *own = slow;
        }
        if let Some(after) = hints.retry_after {
            return self.pause_until(now + after, now);
        }
        match changed {
            true => self.lay_out(now),
            false => Vec::new(),
        }
    }

    /// The slot that a caller would get now.
    pub fn next_free(&self, now: Instant) -> Instant {
        self.next(now, self.reserved).0
    }

    /// Those who wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn find(&self, id: u64) -> Option<usize> {
        let found = self.waiting.binary_search_by_key(&id, |it| it.id);
        found.ok()
    }

    /// The slot behind `head`, and what is behind that one.
    fn next(&self, now: Instant, head: Head) -> (Instant, Head) {
        let mut slot = now.max(self.floor);
        if let Some(last) = head.last {
            slot = slot.max(last);
        }
        for slow in self.slow.iter().flatten() {
            let earliest = match (slow.interval, head.last) {
                (None, _) => slow.until,
                (Some(interval), Some(last)) => (last + interval).min(slow.until),
                (Some(_), None) => slot,
            };
            slot = slot.max(earliest);
        }
        let mut arrival = head.arrival;
        if let Some(pace) = self.pace {
            // `arrival - ahead` may lie before the clock's own beginning.
            let earliest = slot.checked_add(pace.ahead).unwrap_or(slot);
            if arrival > earliest {
                slot += arrival - earliest;
            }
            arrival = arrival.max(slot) + pace.interval;
        }
        let after = Head {
            arrival,
            last: Some(slot),
            count: head.count + 1,
        };
        (slot, after)
    }

    /// Lays those who wait out anew behind what is released. Those whose slot moves beyond their
    /// deadline are dropped and cost nothing. Returns them, and those who may go earlier now.
    fn lay_out(&mut self, now: Instant) -> Vec<W> {
        let mut wake = Vec::new();
        let mut head = self.released;
        let waiting = std::mem::take(&mut self.waiting);
        for mut it in waiting {
            let (slot, after) = self.next(now, head);
            if slot > it.deadline {
                wake.push(it.who);
                continue;
            }
            if slot < it.slot {
                wake.push(it.who.clone());
            }
            (it.slot, it.before) = (slot, head);
            head = after;
            self.waiting.push_back(it);
        }
        self.reserved = head;
        wake
    }
}

fn pace(limit: RateLimit) -> Pace {
    // Rounded up: never faster than configured. At most 1,000 s, by the configuration's bounds.
    let nanos = (1e9 / limit.requests_per_second.max(1e-6)).ceil();
    let interval = Duration::from_nanos(nanos as u64);
    Pace {
        interval,
        ahead: interval.saturating_mul(limit.burst.get() - 1),
    }
}

/// What a quota slows the rate to; `None`: enough is left.
fn slowed(quota: &Quota, is_requests: bool, now: Instant) -> Option<Slow> {
    let (left, is_low) = match (quota.limit, is_requests) {
        (Some(limit), true) => (quota.remaining, quota.remaining <= limit / LOW_PARTS),
        (None, true) => (quota.remaining, quota.remaining <= LOW_REQUESTS),
        (Some(limit), false) => {
            let one = (limit / TOKEN_PARTS).max(1);
            (quota.remaining / one, quota.remaining <= limit / LOW_PARTS)
        }
        // Tokens of an unknown whole say something only when there are none.
        (None, false) => (quota.remaining, quota.remaining == 0),
    };
    if !is_low || quota.reset.is_zero() {
        return None;
    }
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    Some(Slow {
        interval: (left > 0).then(|| quota.reset / left),
        until: now + quota.reset,
    })
}

#[cfg(test)]
#[path = "tests/bucket.rs"]
mod tests;
