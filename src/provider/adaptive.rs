//! How many calls at a time a provider can bear, found out from how it answers.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain, 1989), as congestion control does
//! it: while a provider answers as it always did, one call more is let in each window; when it
//! refuses (429, 503, 529) or slows, the limit falls by a factor. Slow is measured as a gradient,
//! the median of a window against the median of the last sixty windows, with a tolerance
//! of two: latencies of LLM calls have several humps and long tails, by model and by length of
//! the answer, which averages and minima follow too eagerly. It begins at the maximum: a brake that
//! does nothing until there is a reason. Pure: time is an argument. Start at [`Adaptive::sample`].

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// A window is judged when it is this old and has samples enough.
pub const WINDOW: Duration = Duration::from_secs(1);
/// A median of fewer says nothing.
const SAMPLES_MIN: usize = 10;
/// Samples kept of one window; what comes beyond is not looked at.
const SAMPLES_MAX: usize = 256;
/// Windows whose medians are remembered.
const HISTORY_MAX: usize = 60;
/// Medians before they are trusted as what is normal.
const HISTORY_MIN: usize = 5;
/// A window that takes so many times what is normal is slow.
const TOLERANCE: f64 = 2.0;
/// What is left of the limit after a refusal.
const REFUSED_FACTOR: f64 = 0.7;
/// What is left at least after a slow window.
const SLOW_FACTOR_MIN: f64 = 0.5;

/// How a call went, as far as the provider's load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; its latency counts.
    Answered,
    /// The provider asks for less: 429, 503, 529, or silence to the end of a timeout.
    Overload,
    /// Says nothing about load: aborts, faults of the caller, refused keys.
    Other,
}

/// See the module.
#[derive(Debug)]
pub struct Adaptive {
    max: f64,
    limit: f64,
    /// Latencies of the running window, in seconds.
    samples: Vec<f64>,
    window_began: Option<Instant>,
    /// The most calls in flight that the running window has seen.
    most_in_flight: usize,
    /// Medians of past windows, the oldest in front.
    history: VecDeque<f64>,
    /// Until when a further refusal belongs to the one that was heeded.
    heeded_until: Option<Instant>,
}

impl Adaptive {
    /// Between 1 and `max`, beginning there.
    pub fn new(max: NonZeroUsize) -> Self {
        let max = max.get() as f64;
        Self {
            max,
            limit: max,
            samples: Vec::new(),
            window_began: None,
            most_in_flight: 0,
            history: VecDeque::new(),
            heeded_until: None,
        }
    }

    /// The limit now, from 1 to the maximum.
    pub const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A call has ended at `now`, with `in_flight` calls out, itself included. `latency` is the
    /// time to its first byte. Returns the limit from now on.
    pub fn sample(
        &mut self,
        latency: Duration,
        outcome: Outcome,
        in_flight: usize,
        now: Instant,
    ) -> usize {
        match outcome {
            Outcome::Other => {}
            Outcome::Overload => self.refused(now),
            Outcome::Answered => {
                let began = *self.window_began.get_or_insert(now);
                self.most_in_flight = self.most_in_flight.max(in_flight);
                if self.samples.len() < SAMPLES_MAX {
                    self.samples.push(latency.as_secs_f64());
                }
                let is_old = now.saturating_duration_since(began) >= WINDOW;
                if is_old && self.samples.len() >= SAMPLES_MIN {
                    self.judge(now);
                }
            }
        }
        self.limit()
    }

    /// Refusals come in crowds: those within a window of the first are heeded once.
    fn refused(&mut self, now: Instant) {
        if self.heeded_until.is_some_and(|until| now < until) {
            return;
        }
        self.scale(REFUSED_FACTOR);
        self.heeded_until = Some(now + WINDOW);
        self.begin_window(now);
    }

    fn judge(&mut self, now: Instant) {
        let current = median(&mut self.samples);
        let normal = (self.history.len() >= HISTORY_MIN)
            .then(|| median(&mut self.history.iter().copied().collect::<Vec<_>>()));
        let gradient = normal.map_or(1.0, |normal| {
            normal * TOLERANCE / current.max(f64::MIN_POSITIVE)
        });
        if gradient < 1.0 {
            self.scale(gradient.max(SLOW_FACTOR_MIN));
        } else if self.most_in_flight.saturating_mul(2) >= self.limit() {
            // A limit that is not even half used is not what holds calls back.
            self.limit = (self.limit + 1.0).min(self.max);
        }
        // A slow window is remembered too: what stays slow becomes what is normal, so that the
        // limit recovers where a model changed and not its load.
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(current);
        self.begin_window(now);
    }

    fn begin_window(&mut self, now: Instant) {
        self.samples.clear();
        self.most_in_flight = 0;
        self.window_began = Some(now);
    }

    fn scale(&mut self, factor: f64) {
        self.limit = (self.limit * factor).floor().max(1.0);
    }
}

/// The upper median; 0 of nothing. Leaves `values` in another order.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Run {
        adaptive: Adaptive,
        now: Instant,
    }

    impl Run {
        fn new(max: usize) -> Self {
            Self {
                adaptive: Adaptive::new(NonZeroUsize::new(max).unwrap()),
                now: Instant::now(),
            }
        }

        /// So many windows of twenty calls that take `latency(n)` milliseconds, the limit in use.
        fn windows(&mut self, count: usize, latency: impl Fn(usize) -> u64) -> usize {
            for number in 0..count * 20 {
                self.now += WINDOW / 19;
                let took = Duration::from_millis(latency(number));
                let in_flight = self.adaptive.limit();
                self.adaptive
                    .sample(took, Outcome::Answered, in_flight, self.now);
            }
            self.adaptive.limit()
        }

        fn refuse(&mut self) -> usize {
            let refused = Outcome::Overload;
            self.adaptive.sample(Duration::ZERO, refused, 1, self.now)
        }
    }

    #[test]
    fn a_provider_that_answers_is_not_braked() {
        let mut run = Run::new(40);
        assert_eq!(run.windows(50, |_| 500), 40);
    }

    #[test]
    fn two_humps_of_latency_are_no_overload() {
        let mut run = Run::new(40);
        let humps = |n: usize| if n.is_multiple_of(3) { 20_000 } else { 300 };
        assert_eq!(run.windows(50, humps), 40);
        let tail = |n: usize| if n.is_multiple_of(10) { 100_000 } else { 500 };
        assert_eq!(run.windows(20, tail), 40);
    }

    #[test]
    fn a_provider_that_slows_is_given_less_and_more_again_when_it_recovers() {
        let mut run = Run::new(40);
        run.windows(20, |_| 500);
        let slowed = run.windows(5, |_| 2_000);
        assert!(slowed < 10, "{slowed}");
        let recovered = run.windows(30, |_| 500);
        assert!(recovered > slowed + 20, "{recovered}");
    }

    #[test]
    fn what_stays_slow_becomes_normal() {
        let mut run = Run::new(10);
        run.windows(20, |_| 500);
        assert_eq!(run.windows(10, |_| 5_000), 1);
        assert_eq!(run.windows(80, |_| 5_000), 10);
    }

    #[test]
    fn refusals_cut_the_limit_once_a_window_and_never_below_one() {
        let mut run = Run::new(10);
        assert_eq!((run.refuse(), run.refuse()), (7, 7));
        run.now += WINDOW;
        assert_eq!(run.refuse(), 4);
        for _ in 0..20 {
            run.now += WINDOW;
            run.refuse();
        }
        assert_eq!(run.adaptive.limit(), 1);
        assert_eq!(run.windows(5, |_| 500), 6);
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        let mut run = Run::new(40);
        run.refuse();
        let limit = run.adaptive.limit();
        for _ in 0..200 {
            run.now += WINDOW / 10;
            let took = Duration::from_millis(500);
            run.adaptive.sample(took, Outcome::Answered, 2, run.now);
        }
        assert_eq!(run.adaptive.limit(), limit);
    }

    proptest! {
        #[test]
        fn the_limit_stays_in_its_bounds(max in 1_usize..2000, calls in prop::collection::vec((0_u8..3, any::<u64>(), any::<usize>(), 0_u64..3000), 0..500)) {
            let mut run = Run::new(max);
            for (what, latency, in_flight, ms) in calls {
                run.now += Duration::from_millis(ms);
                let outcome = [Outcome::Answered, Outcome::Overload, Outcome::Other][usize::from(what)];
                let in_flight = in_flight / 2;
                let limit = run.adaptive.sample(Duration::from_nanos(latency), outcome, in_flight, run.now);
                prop_assert!((1..=max).contains(&limit));
                prop_assert!(run.adaptive.samples.len() <= SAMPLES_MAX && run.adaptive.history.len() <= HISTORY_MAX);
            }
        }
    }
}
