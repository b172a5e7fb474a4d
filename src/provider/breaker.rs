//! Circuit breakers: not asking what does not answer.
//!
//! One breaker for each model of a provider (Nygard, "Release It!", "Circuit Breaker"). Closed, it
//! lets everybody through and counts how attempts ended; too many failures open it, and calls are
//! sent elsewhere at once instead of each waiting for its own timeout. After a while one attempt,
//! the probe, may find out whether it can be closed.
//!
//! Attempts are judged when they end, which may be minutes after they began. So each carries a
//! [`Ticket`] with the epoch in which it began, and epochs change with every transition: what
//! began before one can no longer say anything about the state after it. Start at
//! [`Breaker::admit`]; [`Core`] is the arithmetic, which takes its time as an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::share;
use crate::config::checked;
use crate::sync::Mutex;

/// `open_for` grows by doubling, at most to so many times itself.
const GROWTH_MAX: u32 = 4;
/// Up to so much is added to the time for which it is open, so that several gateways which lost
/// their provider together do not all probe it together.
const JITTER: f64 = 0.2;
/// Parts in which the window slides.
const SLICES: usize = 16;
/// While a probe is out nobody can say when it ends: ask again after this, at most.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// Models of one provider whose breakers are remembered.
pub const MODELS_MAX: usize = 1024;

/// How an attempt ended, as far as the breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A complete answer.
    Success,
    /// A timeout, a stall, a cut, a 5xx, no connection.
    Failure,
    /// Says nothing: the caller's fault, an abort, a 429, a refused key.
    Neutral,
}

/// What a breaker does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    /// One attempt may find out.
    HalfOpen,
    Open,
}

/// Whether an attempt may begin.
#[derive(Debug)]
pub enum Admit {
    Yes(Ticket),
    /// Yes; and the breaker hangs on how this one ends.
    Probe(Ticket),
    No {
        /// When it is worth asking again.
        retry_at: Instant,
    },
}

/// An admitted attempt. To be given to [`Breaker::ended`]; one that is dropped instead says
/// nothing, and frees the probe's place.
pub struct Ticket {
    epoch: u64,
    breaker: Option<Arc<Mutex<Core>>>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.epoch)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.lock().abandoned(self.epoch);
        }
    }
}

/// The breaker of one model of a provider.
#[derive(Clone)]
pub struct Breaker(Arc<Mutex<Core>>);

impl Breaker {
    /// A closed one.
    pub fn new(config: checked::Breaker) -> Self {
        Self(Arc::new(Mutex::new("provider.breaker", Core::new(config))))
    }

    /// Whether an attempt may begin at `now`.
    pub fn admit(&self, now: Instant) -> Admit {
        let admitted = self.0.lock().admit(now);
        let ticket = |epoch| Ticket {
            epoch,
            breaker: Some(Arc::clone(&self.0)),
        };
        match admitted {
            Ok((epoch, false)) => Admit::Yes(ticket(epoch)),
            Ok((epoch, true)) => Admit::Probe(ticket(epoch)),
            Err(retry_at) => Admit::No { retry_at },
        }
    }

    /// An attempt has ended, whole: a stream with its last event. `jitter` is a random number
    /// from 0 to 1.
    ///
    /// Returns what the breaker does from now on, if that is something else than before.
    pub fn ended(
        &self,
        mut ticket: Ticket,
        verdict: Verdict,
        now: Instant,
        jitter: f64,
    ) -> Option<State> {
        // Its own breaker, which is this one unless somebody mixed them up.
        let own = ticket.breaker.take()?;
        let mut core = own.lock();
        let before = core.epoch;
        core.ended(ticket.epoch, verdict, now, jitter);
        (core.epoch != before).then(|| core.state(now))
    }

    /// Closes it and forgets what it has seen; attempts that are out say nothing any more.
    pub fn reset(&self) {
        self.0.lock().close();
    }

    /// What it does at `now`.
    pub fn state(&self, now: Instant) -> State {
        self.0.lock().state(now)
    }

    /// Whether [`Breaker::admit`] would say yes.
    pub fn peek(&self, now: Instant) -> bool {
        self.shut_until(now).is_none()
    }

    /// If it would not: when it is worth asking again.
    pub fn shut_until(&self, now: Instant) -> Option<Instant> {
        self.0.lock().shut_until(now)
    }

    /// Whether forgetting it would lose nothing: closed, without a failure that still counts,
    /// and no attempt out.
    fn is_idle(&self, now: Instant) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.lock().is_clean(now)
    }
}

/// How the attempts of one slice of the window ended.
#[derive(Clone, Copy, Default)]
struct Slice {
    failed: u32,
    succeeded: u32,
}

/// The pure part of a [`Breaker`].
pub struct Core {
    config: checked::Breaker,
    /// Counts transitions. Tickets of other epochs say nothing.
    epoch: u64,
    phase: Phase,
    /// Since when slices are counted: the first time that was heard of.
    start: Option<Instant>,
    /// The running slice since then.
    running: u64,
    slices: [Slice; SLICES],
}

#[derive(Clone, Copy)]
enum Phase {
    Closed,
    /// Open until then, half-open from then on.
    Tripped {
        until: Instant,
        /// Failures of probes in a row.
        failed_probes: u32,
        is_probed: bool,
    },
}

impl Core {
    /// A closed one.
    pub const fn new(config: checked::Breaker) -> Self {
        const NONE: Slice = Slice {
            failed: 0,
            succeeded: 0,
        };
        Self {
            config,
            epoch: 0,
            phase: Phase::Closed,
            start: None,
            running: 0,
            slices: [NONE; SLICES],
        }
    }

    /// The ticket's epoch and whether it is the probe, or when to ask again.
    fn admit(&mut self, now: Instant) -> Result<(u64, bool), Instant> {
        if let Some(retry_at) = self.shut_until(now) {
            return Err(retry_at);
        }
        match &mut self.phase {
            Phase::Closed => Ok((self.epoch, false)),
            Phase::Tripped { is_probed, .. } => {
                *is_probed = true;
                // Of its own, so that no earlier probe that was given up can speak for it.
                self.epoch += 1;
                Ok((self.epoch, true))
            }
        }
    }

    fn shut_until(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Tripped { until, .. } if until > now => Some(until),
            Phase::Tripped { is_probed, .. } => {
                let patience = PROBE_PATIENCE.min(self.config.open_for);
                is_probed.then_some(now + patience)
            }
        }
    }

    fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Tripped { until, .. } if until > now => State::Open,
            Phase::Tripped { .. } => State::HalfOpen,
        }
    }

    fn abandoned(&mut self, epoch: u64) {
        if epoch != self.epoch {
            return;
        }
        if let Phase::Tripped { is_probed, .. } = &mut self.phase {
            *is_probed = false;
        }
    }

    fn ended(&mut self, epoch: u64, verdict: Verdict, now: Instant, jitter: f64) {
        if epoch != self.epoch {
            return;
        }
        match (self.phase, verdict) {
            (_, Verdict::Neutral) => self.abandoned(epoch),
            (Phase::Closed, Verdict::Success) => {
                let slice = self.slice(now);
                slice.succeeded = slice.succeeded.saturating_add(1);
            }
            (Phase::Closed, Verdict::Failure) => {
                let slice = self.slice(now);
                slice.failed = slice.failed.saturating_add(1);
                if self.has_failed() {
                    self.trip(0, now, jitter);
                }
            }
            (Phase::Tripped { .. }, Verdict::Success) => self.close(),
            (Phase::Tripped { failed_probes, .. }, Verdict::Failure) => {
                self.trip(failed_probes.saturating_add(1), now, jitter);
            }
        }
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.epoch += 1;
        self.slices = [Slice::default(); SLICES];
    }

    fn trip(&mut self, failed_probes: u32, now: Instant, jitter: f64) {
        let factor = 1_u32.checked_shl(failed_probes).unwrap_or(GROWTH_MAX);
        let open_for = self.config.open_for.saturating_mul(factor.min(GROWTH_MAX));
        let extra = open_for.mul_f64(JITTER * share(jitter));
        self.epoch += 1;
        self.phase = Phase::Tripped {
            until: now + open_for + extra,
            failed_probes,
            is_probed: false,
        };
    }

    /// Enough failures, and at least half of what ended: the count alone would open the breaker of
    /// a provider that answers thousands of calls and fails five, and the share alone one that was
    /// called twice.
    fn has_failed(&self) -> bool {
        let sum = |part: fn(&Slice) -> u32| -> u64 {
            self.slices.iter().map(|slice| u64::from(part(slice))).sum()
        };
        let failed = sum(|slice| slice.failed);
        failed >= u64::from(self.config.failures.get()) && failed >= sum(|slice| slice.succeeded)
    }

    /// The running slice at `now`, older ones than the window forgotten. The window slides by
    /// sixteenths of itself; what counts is never older than it.
    fn slice(&mut self, now: Instant) -> &mut Slice {
        let start = *self.start.get_or_insert(now);
        let length = (self.config.window.as_nanos() / SLICES as u128).max(1);
        let since = now.saturating_duration_since(start).as_nanos() / length;
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let passed = since.saturating_sub(self.running);
        for step in 1..=passed.min(SLICES as u64) {
            let place = (self.running + step) % SLICES as u64;
            self.slices[place as usize] = Slice::default();
        }
        self.running += passed;
        &mut self.slices[(self.running % SLICES as u64) as usize]
    }

    fn is_clean(&mut self, now: Instant) -> bool {
        self.slice(now);
        matches!(self.phase, Phase::Closed) && self.slices.iter().all(|slice| slice.failed == 0)
    }
}

/// The breakers of one provider, by model.
pub struct Breakers {
    config: checked::Breaker,
    known: Mutex<HashMap<Box<str>, Known>>,
}

struct Known {
    breaker: Breaker,
    used: Instant,
}

impl Breakers {
    /// None yet.
    pub fn new(config: checked::Breaker) -> Self {
        Self {
            config,
            known: Mutex::new("provider.breakers", HashMap::new()),
        }
    }

    /// The breaker of `model`. Of [`MODELS_MAX`] the one that lay idle the longest, closed and
    /// without a failure, is forgotten for a new one. Where none is, the new one is not
    /// remembered: callers can make up names of models, and must not wash out with them what is
    /// known of real ones.
    pub fn of(&self, model: &str, now: Instant) -> Breaker {
        let mut known = self.known.lock();
        if let Some(found) = known.get_mut(model) {
            found.used = found.used.max(now);
            return found.breaker.clone();
        }
        let breaker = Breaker::new(self.config);
        if known.len() >= MODELS_MAX {
            let idle = known.iter().filter(|(_, it)| it.breaker.is_idle(now));
            let oldest = idle.min_by_key(|(_, it)| it.used);
            match oldest.map(|(name, _)| name.clone()) {
                Some(name) => known.remove(&name),
                None => return breaker,
            };
        }
        let entry = Known {
            breaker: breaker.clone(),
            used: now,
        };
        known.insert(model.into(), entry);
        breaker
    }

    /// Every model whose breaker is remembered and its state, for metrics and status.
    pub fn states(&self, now: Instant) -> Vec<(Box<str>, State)> {
        let states = self.remembered().into_iter();
        states.map(|(name, it)| (name, it.state(now))).collect()
    }

    /// Resets all of them; returns how many were not closed. They stay in their places, since
    /// routes hold on to them.
    pub fn reset(&self, now: Instant) -> usize {
        let known = self.remembered().into_iter();
        known
            .filter(|(_, breaker)| {
                let was_closed = breaker.state(now) == State::Closed;
                breaker.reset();
                !was_closed
            })
            .count()
    }

    /// Copied out, so that no two locks are held.
    fn remembered(&self) -> Vec<(Box<str>, Breaker)> {
        let known = self.known.lock();
        let pairs = known.iter();
        pairs
            .map(|(name, it)| (name.clone(), it.breaker.clone()))
            .collect()
    }
}

#[cfg(test)]
#[path = "tests/breaker.rs"]
mod tests;
