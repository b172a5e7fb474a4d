//! What a provider learns from its calls and holds later ones to: how fast it may be asked, whether
//! it answers at all, how often a failure may be tried again, how many calls it can bear.
//!
//! Each of these has a module of its own and knows nothing of the others; here they hear of every
//! attempt. Nothing here waits but [`Governor::wait_for_turn`].

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::adaptive::{self, Adaptive};
use super::breaker::{Breaker, Breakers, State, Ticket, Verdict};
use super::budget::Budget;
use super::hints::{self, Hints};
use super::keys::{KeyState, Keys};
use super::limiter::{self, Limiter, PAUSE_DEFAULT};
use crate::cancel::Cancel;
use crate::config::checked;
use crate::metrics::Outcome;
use crate::sync::Mutex;

/// Models of one provider whose pace is remembered.
const PACES_MAX: usize = 1024;

/// See the module.
pub struct Governor {
    /// The configured rate, which all models share.
    limiter: Limiter,
    /// What the provider says of each model's own limits, by model.
    paces: Mutex<HashMap<Box<str>, Arc<Limiter>>>,
    breakers: Breakers,
    budget: Budget,
    keys: Keys,
    key_count: usize,
    /// An only key is used whatever became of it, so nobody needs to ask.
    has_one_key: bool,
    adaptive: Option<Mutex<Adaptive>>,
}

impl Governor {
    /// Of a provider that has not been asked yet.
    pub fn new(config: &checked::Provider) -> Self {
        let keys = NonZeroUsize::new(config.api_keys.len()).unwrap_or(NonZeroUsize::MIN);
        Self {
            limiter: Limiter::new(config.rate_limit),
            paces: Mutex::new("provider.paces", HashMap::new()),
            breakers: Breakers::new(config.breaker),
            budget: Budget::new(Instant::now()),
            keys: Keys::new(keys),
            key_count: keys.get(),
            has_one_key: keys.get() == 1,
            adaptive: config
                .adaptive
                .then(|| Mutex::new("provider.adaptive", Adaptive::new(config.max_connections))),
        }
    }

    /// The breaker of a model.
    pub fn breaker(&self, model: &str) -> Breaker {
        self.breakers.of(model, Instant::now())
    }

    /// The pace of a model: as fast as the provider lets it be asked. Both vendors count by model,
    /// so one that has used up its quota slows no other down.
    pub fn pace(&self, model: &str) -> Arc<Limiter> {
        let mut paces = self.paces.lock();
        if let Some(known) = paces.get(model) {
            return Arc::clone(known);
        }
        let pace = Arc::new(Limiter::new(None));
        // Callers can make up names of models; what is known of real ones stays.
        if paces.len() < PACES_MAX {
            paces.insert(model.into(), Arc::clone(&pace));
        }
        pace
    }

    /// The breakers that are remembered.
    pub fn breakers(&self, now: Instant) -> Vec<(Box<str>, State)> {
        self.breakers.states(now)
    }

    /// What each key may do.
    pub fn key_states(&self, now: Instant) -> Vec<KeyState> {
        self.keys.states(now)
    }

    /// Closes every breaker and makes every key usable again; returns how many of each were not.
    /// Rate, budget and adaptive limit stay: they say what the provider bears.
    pub fn reset(&self, now: Instant) -> (usize, usize) {
        (self.breakers.reset(now), self.keys.reset(now))
    }

    /// When a call for a model of that pace that comes now could go, as far as rate and keys are
    /// concerned.
    pub fn next_free(&self, pace: &Limiter, now: Instant) -> Instant {
        let free = self.limiter.next_free(now).max(pace.next_free(now));
        match self.has_one_key {
            true => free,
            false => free.max(self.keys.next_usable(now)),
        }
    }

    /// Counts a call, of which retries may be a share.
    pub fn call(&self, now: Instant) {
        self.budget.call(now);
    }

    /// Takes a token for a retry, if there is one.
    pub fn try_retry(&self, now: Instant) -> bool {
        self.budget.try_retry(now)
    }

    /// Waits until the configured rate lets a call go; returns how long that took.
    ///
    /// # Errors
    /// The deadline comes first, or a cancel.
    pub fn wait_for_turn(
        &self,
        cancel: &Cancel,
        deadline: Instant,
    ) -> Result<Duration, limiter::Refused> {
        self.limiter.acquire(cancel, deadline)
    }

    /// How many keys there are, 1 if there is none.
    pub const fn keys(&self) -> usize {
        self.key_count
    }

    /// The key for the next request.
    ///
    /// # Errors
    /// All rest or are retired, until then.
    pub fn key(&self, now: Instant) -> Result<usize, Instant> {
        if self.has_one_key {
            return Ok(0);
        }
        self.keys
            .pick(now)
            .ok_or_else(|| self.keys.next_usable(now))
    }

    /// Heeds the head of an answer to a request with key `key` for a model of that pace. Returns what it said, and whether
    /// the same request may be answered if it is sent with another key.
    pub fn heed<'a>(
        &self,
        status: u16,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        key: usize,
        pace: &Limiter,
    ) -> (Hints, bool) {
        let hints = hints::parse(headers, SystemTime::now());
        let now = Instant::now();
        let only = self.has_one_key;
        let other_key = match status {
            401 | 403 => !only && self.keys.refused(key, now),
            429 => {
                let rest = hints
                    .retry_after
                    .unwrap_or(PAUSE_DEFAULT)
                    .max(PAUSE_DEFAULT);
                match only {
                    true => pace.pause_until(now + rest),
                    false => self.keys.limited(key, now + rest, now),
                }
                !only
            }
            _ => {
                if !only {
                    self.keys.accepted(key);
                }
                false
            }
        };
        // With several keys, what one of them has left says nothing of the others.
        if only && status != 429 && hints != Hints::default() {
            pace.heed(&hints, now);
        }
        (hints, other_key)
    }

    /// Judges an attempt that has ended: `ticket` is its breaker's, `latency` the time to its first
    /// byte. Returns how many calls the provider is to bear from now on, where that adapts, and what
    /// the breaker does from now on, if that is new.
    pub fn ended(
        &self,
        breaker: &Breaker,
        ticket: Option<Ticket>,
        outcome: Outcome,
        latency: Duration,
        in_flight: impl FnOnce() -> usize,
    ) -> (Option<usize>, Option<State>) {
        let now = Instant::now();
        let turned =
            ticket.and_then(|ticket| breaker.ended(ticket, verdict(outcome), now, fastrand::f64()));
        let Some(adaptive) = &self.adaptive else {
            return (None, turned);
        };
        let load = match outcome {
            Outcome::Ok => adaptive::Outcome::Answered,
            Outcome::RateLimited | Outcome::Timeout | Outcome::ServerError => {
                adaptive::Outcome::Overload
            }
            _ => adaptive::Outcome::Other,
        };
        let bear = adaptive.lock().sample(latency, load, in_flight(), now);
        (Some(bear), turned)
    }

    /// How many calls the provider can bear, where that adapts.
    pub fn adaptive_limit(&self) -> Option<usize> {
        self.adaptive.as_ref().map(|it| it.lock().limit())
    }
}

/// What an attempt says of a model's health.
const fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Ok => Verdict::Success,
        Outcome::Connect
        | Outcome::Reset
        | Outcome::Timeout
        | Outcome::Cut
        | Outcome::Malformed
        | Outcome::ServerError => Verdict::Failure,
        Outcome::RateLimited | Outcome::KeyRefused | Outcome::CallerFault | Outcome::Cancelled => {
            Verdict::Neutral
        }
    }
}
