//! Which target of a route is asked next within one call.
//!
//! A route names targets in order of preference; some fail, some ask for patience, some are known
//! to be down. An [`Itinerary`] is one call's way through them: the caller asks it for the next
//! [`Step`], does it, reports a failure, and asks again. Two rules stand above the others: nothing
//! is done that the call's deadline leaves no time for, and a fault of the caller's is never
//! carried from one provider to the next.
//!
//! Pure: time, chance, the retry budget and what breakers and limiters say are arguments. It knows
//! targets by their place in the route only. Start at [`Itinerary::next`] and
//! [`Itinerary::failed`].

mod failure;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::config::checked::Retry;
use crate::provider::backoff;

pub use self::failure::Failure;

/// Nothing is asked when less of the deadline is left: no model answers in it.
pub const LEFT_MIN: Duration = Duration::from_millis(50);
/// The shortest time for which a target is left alone after a 429.
pub const REST_MIN: Duration = Duration::from_secs(1);
/// How long one call waits, in all, for a breaker to let it through.
pub const SHUT_WAIT_MAX: Duration = Duration::from_secs(5);
/// A limiter's queue shorter than this is waited in; a longer one sends the call elsewhere.
pub const THROTTLE_PATIENCE: Duration = Duration::from_secs(1);
/// The shortest wait, and the rest of a target that could not be asked after all: whoever asks
/// again and again gets on in time.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// A target of the route. Its index is its place there.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Lower ranks are asked first; among equals, chance decides.
    pub rank: u32,
    pub weight: NonZeroU32,
    pub able: Able,
}

/// What a target can do. `None`: nobody knows, so it is tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Able {
    /// Whether it serves the endpoint that was called, itself or through translation.
    pub endpoint: bool,
    /// Tokens of prompt and answer together.
    pub context_tokens: Option<u64>,
    pub tools: Option<bool>,
    pub images: Option<bool>,
    pub streaming: Option<bool>,
}

/// What the call needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// As far as it is known before a tokenizer has seen it.
    pub context_tokens: Option<u64>,
    pub tools: bool,
    pub images: bool,
    pub streaming: bool,
}

impl Able {
    /// Whether nothing that is known speaks against it.
    fn can(&self, needs: &Needs) -> bool {
        let has = |needed: bool, able: Option<bool>| !needed || able != Some(false);
        self.endpoint
            && has(needs.tools, self.tools)
            && has(needs.images, self.images)
            && has(needs.streaming, self.streaming)
    }

    /// Whether prompt and answer fit, as far as is known.
    fn has_room(&self, needs: &Needs) -> bool {
        let fits = |needed: u64| self.context_tokens.is_none_or(|own| own >= needed);
        needs.context_tokens.is_none_or(fits)
    }
}

/// What is seen of a target at the time of a decision.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Its breaker lets nobody through, and is worth asking again then.
    pub shut_until: Option<Instant>,
    /// When its limiter would let a caller go.
    pub next_free: Instant,
    pub in_flight: usize,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this target now. It counts as asked.
    Ask(usize),
    /// Wait until then, which is later, and ask for the next step again; as things stand, it will
    /// be to ask this target.
    Wait { until: Instant, then_ask: usize },
    /// Answer the caller with what there is.
    GiveUp(Why),
}

/// Why there is no next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No target of the route can do what the call needs.
    Unable,
    /// The last failure is the answer: it would be the same everywhere.
    Final,
    /// All attempts are used up, or the retry budget is.
    Exhausted,
    /// The deadline leaves no time for what could still be tried.
    Deadline,
    /// The breakers of all that could still be tried are open.
    Shut { retry_at: Instant },
}

/// One call's way through the targets of its route.
pub struct Itinerary {
    stops: Vec<Stop>,
    retry: Retry,
    /// The last moment at which anything may be asked.
    last: Option<Instant>,
    /// A target that failed in a way that is worth a retry there.
    retrying: Option<usize>,
    /// Until when a breaker may be waited for, once one was.
    shut_wait_until: Option<Instant>,
    ended: Option<Why>,
}

struct Stop {
    candidate: Candidate,
    attempts: u32,
    /// Not asked before.
    rest_until: Option<Instant>,
    /// Not asked again in this call.
    is_out: bool,
    /// Only asked again if no other target can answer.
    is_last_resort: bool,
    /// A token of the budget has been taken for its next attempt.
    is_paid: bool,
}

impl Itinerary {
    /// The way through `candidates`, of which those that cannot do what the call needs are left
    /// out. `retry` holds for each target, `deadline` for the call.
    pub fn new(candidates: &[Candidate], needs: &Needs, retry: Retry, deadline: Instant) -> Self {
        let stops: Vec<Stop> = candidates
            .iter()
            .map(|candidate| Stop {
                candidate: *candidate,
                attempts: 0,
                rest_until: None,
                is_out: !candidate.able.can(needs),
                // How long a prompt is, is an estimate: it orders targets and refuses none.
                is_last_resort: !candidate.able.has_room(needs),
                is_paid: false,
            })
            .collect();
        let is_unable = stops.iter().all(|stop| stop.is_out);
        Self {
            stops,
            retry,
            last: deadline.checked_sub(LEFT_MIN),
            retrying: None,
            shut_wait_until: None,
            ended: is_unable.then_some(Why::Unable),
        }
    }

    /// Attempts made at all targets together.
    pub fn attempts(&self) -> u32 {
        self.stops.iter().map(|stop| stop.attempts).sum()
    }

    /// What to do at `now`. `views` has the targets in the order of the route, `chance` gives
    /// numbers from 0 to 1, and `budget` takes a token of a target's retry budget, if there is
    /// one. A retry is a second attempt at the same target; a first attempt at another is none,
    /// and needs no token.
    pub fn next(
        &mut self,
        now: Instant,
        views: &[View],
        chance: &mut dyn FnMut() -> f64,
        budget: &mut dyn FnMut(usize) -> bool,
    ) -> Step {
        if let Some(why) = self.ended {
            return Step::GiveUp(why);
        }
        loop {
            let step = self.choose(now, views, chance);
            let (Step::Ask(index)
            | Step::Wait {
                then_ask: index, ..
            }) = step
            else {
                return step;
            };
            let stop = &mut self.stops[index];
            // Paid for before the wait, or it would be in vain.
            if stop.attempts > 0 && !stop.is_paid {
                stop.is_paid = budget(index);
                if !stop.is_paid {
                    stop.is_out = true;
                    continue;
                }
            }
            if matches!(step, Step::Ask(_)) {
                stop.attempts += 1;
                stop.is_paid = false;
                self.retrying = None;
            }
            return step;
        }
    }

    /// A target that may be asked beside `first`, which has been asked and is slow: one that has not
    /// been asked before and could be asked at once. It counts as asked.
    pub fn beside(
        &mut self,
        first: usize,
        now: Instant,
        views: &[View],
        chance: &mut dyn FnMut() -> f64,
    ) -> Option<usize> {
        let last = self.last.filter(|last| now <= *last)?;
        let pool: Vec<usize> = (0..self.stops.len().min(views.len()))
            .filter(|index| *index != first && self.can_be_asked(*index))
            .filter(|index| self.stops[*index].attempts == 0 && views[*index].shut_until.is_none())
            .collect();
        match self.among(&pool, now, last, views, chance) {
            Some(Step::Ask(index)) => {
                self.stops[index].attempts += 1;
                Some(index)
            }
            _ => None,
        }
    }

    fn choose(&mut self, now: Instant, views: &[View], chance: &mut dyn FnMut() -> f64) -> Step {
        let open: Vec<usize> = (0..self.stops.len().min(views.len()))
            .filter(|index| self.can_be_asked(*index))
            .collect();
        if open.is_empty() {
            return Step::GiveUp(Why::Exhausted);
        }
        let Some(last) = self.last.filter(|last| now <= *last) else {
            return Step::GiveUp(Why::Deadline);
        };
        let (resorts, first): (Vec<usize>, Vec<usize>) = open
            .iter()
            .copied()
            .filter(|index| views[*index].shut_until.is_none())
            .partition(|index| self.stops[*index].is_last_resort);
        let step = self.among(&first, now, last, views, chance);
        let step = step.or_else(|| self.among(&resorts, now, last, views, chance));
        step.unwrap_or_else(|| self.wait_for_a_breaker(&open, now, last, views))
    }

    fn can_be_asked(&self, index: usize) -> bool {
        let stop = &self.stops[index];
        !stop.is_out && stop.attempts < self.retry.max_attempts.get()
    }

    /// When the target is rested and its limiter's queue is short.
    fn ready_at(&self, index: usize, now: Instant, last: Instant, view: &View) -> Instant {
        let rested = self.stops[index].rest_until.map_or(now, |at| at.max(now));
        let is_throttled = view.next_free > now + THROTTLE_PATIENCE || view.next_free > last;
        match is_throttled {
            true => rested.max(view.next_free),
            false => rested,
        }
    }

    /// What can be done with one of `pool`, whose breakers let through; `None`: nothing in time.
    fn among(
        &self,
        pool: &[usize],
        now: Instant,
        last: Instant,
        views: &[View],
        chance: &mut dyn FnMut() -> f64,
    ) -> Option<Step> {
        let times = pool
            .iter()
            .map(|index| (*index, self.ready_at(*index, now, last, &views[*index])));
        let timely: Vec<(usize, Instant)> = times.filter(|(_, at)| *at <= last).collect();
        let retrying = timely
            .iter()
            .find(|(index, _)| Some(*index) == self.retrying);
        if let Some((index, at)) = retrying {
            return Some(step_at(*index, *at, now));
        }
        let ready = timely.iter().filter(|(_, at)| *at <= now);
        let ranks = ready
            .clone()
            .map(|(index, _)| self.stops[*index].candidate.rank);
        if let Some(rank) = ranks.min() {
            let equal = ready
                .map(|(index, _)| *index)
                .filter(|index| self.stops[*index].candidate.rank == rank)
                .collect();
            return Some(Step::Ask(self.spread(equal, views, chance)));
        }
        let soonest = timely
            .iter()
            .min_by_key(|(index, at)| (*at, self.stops[*index].candidate.rank));
        soonest.map(|(index, at)| step_at(*index, *at, now))
    }

    /// One of `equal`, at least one, by weight and by what is in flight: of two drawn by weight the
    /// one that has less to do for its weight (Mitzenmacher, "The Power of Two Choices").
    fn spread(
        &self,
        mut equal: Vec<usize>,
        views: &[View],
        chance: &mut dyn FnMut() -> f64,
    ) -> usize {
        let weight = |index: &usize| f64::from(self.stops[*index].candidate.weight.get());
        let mut draw = |from: &mut Vec<usize>| -> Option<usize> {
            if from.len() < 2 {
                return from.pop();
            }
            let mut left = backoff::share(chance()) * from.iter().map(weight).sum::<f64>();
            let found = from.iter().position(|index| {
                left -= weight(index);
                left < 0.0
            });
            Some(from.swap_remove(found.unwrap_or(from.len() - 1)))
        };
        let one = draw(&mut equal);
        let two = draw(&mut equal);
        let load = |index: &usize| views[*index].in_flight as f64 / weight(index);
        match (one, two) {
            (Some(one), Some(two)) if load(&two) < load(&one) => two,
            (Some(one), _) => one,
            _ => 0,
        }
    }

    /// All that admit have no time left, or none admits.
    fn wait_for_a_breaker(
        &mut self,
        open: &[usize],
        now: Instant,
        last: Instant,
        views: &[View],
    ) -> Step {
        let times = open.iter().filter_map(|index| {
            let at = views[*index].shut_until?;
            Some((
                at.max(self.ready_at(*index, now, last, &views[*index])),
                *index,
            ))
        });
        let Some((retry_at, index)) = times.min() else {
            return Step::GiveUp(Why::Deadline);
        };
        let patience = *self.shut_wait_until.get_or_insert(now + SHUT_WAIT_MAX);
        let at = retry_at.max(now + WAIT_MIN);
        match at <= last.min(patience) {
            true => step_at(index, at, now),
            false => Step::GiveUp(Why::Shut { retry_at }),
        }
    }

    /// The attempt at target `index` has failed. `random` is a number from 0 to 1.
    ///
    /// 401, 402, 403 and 404 speak of our key, our bill or the provider's models, not of what the
    /// caller wrote: another target may well answer. Every other 4xx is about the request and ends
    /// the call.
    pub fn failed(&mut self, index: usize, failure: Failure, now: Instant, random: f64) {
        if index >= self.stops.len() {
            return;
        }
        match failure {
            Failure::Status {
                status,
                retry_after,
            } => self.refused(index, status, retry_after, now, random),
            Failure::Connect | Failure::Reset => self.retry_later(index, None, now, random),
            Failure::Silent | Failure::Broken => self.stops[index].is_last_resort = true,
            Failure::ContextLength => self.leave_smaller(index),
            Failure::ContentFilter => self.ended = Some(Why::Final),
            Failure::BrokenOff => self.stops[index].is_out = true,
            Failure::Unfit => {
                let stop = &mut self.stops[index];
                stop.attempts = stop.attempts.saturating_sub(1);
                stop.is_out = true;
            }
            Failure::NotAsked { retry_at } => {
                let stop = &mut self.stops[index];
                stop.attempts = stop.attempts.saturating_sub(1);
                // What was paid for its retry, if this was one, was not used.
                stop.is_paid = stop.attempts > 0;
                stop.rest_until = Some(retry_at.max(now + WAIT_MIN));
            }
        }
    }

    fn refused(
        &mut self,
        index: usize,
        status: u16,
        retry_after: Option<Duration>,
        now: Instant,
        random: f64,
    ) {
        match status {
            429 => self.rest(index, retry_after, now),
            // Another status with a wish to be left alone is as good as a 429.
            408 | 409 | 500..=599 if retry_after.is_some_and(|it| it >= REST_MIN) => {
                self.rest(index, retry_after, now);
            }
            408 | 409 | 500..=599 => self.retry_later(index, retry_after, now, random),
            401..=404 => self.stops[index].is_out = true,
            400..=499 => self.ended = Some(Why::Final),
            _ => self.stops[index].is_last_resort = true,
        }
    }

    /// Leaves the target alone for as long as it asks, or for this call if that is too long.
    fn rest(&mut self, index: usize, retry_after: Option<Duration>, now: Instant) {
        let stop = &mut self.stops[index];
        match backoff::with_floor(REST_MIN, retry_after) {
            Some(rest) if self.last.is_some_and(|last| now + rest <= last) => {
                stop.rest_until = Some(now + rest);
            }
            _ => stop.is_out = true,
        }
    }

    /// The same target again, after its backoff.
    fn retry_later(
        &mut self,
        index: usize,
        retry_after: Option<Duration>,
        now: Instant,
        random: f64,
    ) {
        let stop = &mut self.stops[index];
        let Retry {
            backoff,
            exponential_backoff,
            ..
        } = self.retry;
        let drawn = backoff::delay(stop.attempts, backoff, exponential_backoff, random);
        match backoff::with_floor(drawn, retry_after) {
            Some(delay) => {
                stop.rest_until = Some(now + delay);
                self.retrying = Some(index);
            }
            None => stop.is_out = true,
        }
    }

    /// Leaves out the target and all whose context is known to be no larger.
    fn leave_smaller(&mut self, index: usize) {
        let refused = self.stops[index].candidate.able.context_tokens;
        for (place, stop) in self.stops.iter_mut().enumerate() {
            let own = stop.candidate.able.context_tokens;
            let is_larger = own.is_none() || refused.is_none() || own > refused;
            stop.is_out |= place == index || !is_larger;
        }
        if !(0..self.stops.len()).any(|place| self.can_be_asked(place)) {
            self.ended = Some(Why::Final);
        }
    }
}

/// To ask `index` at `at`, which may be now.
fn step_at(index: usize, at: Instant, now: Instant) -> Step {
    match at > now {
        true => Step::Wait {
            until: at,
            then_ask: index,
        },
        false => Step::Ask(index),
    }
}

#[cfg(test)]
mod outage;
#[cfg(test)]
mod tests;
