//! The retry budget of a provider: what retries may add to its load.
//!
//! Retries multiply the load on a provider just when it fails. So they are allowed in proportion
//! to its calls (Google SRE book, "Handling Overload", per-client retry budget): at most a fifth
//! of the calls of the last ten seconds, with a floor so that a provider that is hardly called
//! can be retried at all. Only a second attempt at the same target is a retry; going on to another
//! target is a call of that one. Never blocks but for its own short lock.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Retries are at most one for so many calls.
const CALLS_A_RETRY: u64 = 5;
/// So many retries a second are always allowed.
pub const FLOOR_A_SECOND: u32 = 10;
/// Seconds that are remembered, the running one among them. What is older does not count.
pub const WINDOW_SECONDS: usize = 10;

/// See the module.
pub struct Budget {
    start: Instant,
    state: Mutex<Window>,
}

/// Counts by second.
#[derive(Clone, Copy, Default)]
struct Second {
    calls: u32,
    retries: u32,
}

#[derive(Default)]
struct Window {
    /// The running second since the start; its place is this modulo the length.
    running: u64,
    seconds: [Second; WINDOW_SECONDS],
}

impl Window {
    /// The running second's counts, after forgetting what is too old at `second`. A `second`
    /// before the running one, from a thread that was late, counts as the running one.
    fn at(&mut self, second: u64) -> &mut Second {
        let passed = second.saturating_sub(self.running);
        for step in 1..=passed.min(WINDOW_SECONDS as u64) {
            self.seconds[place(self.running + step)] = Second::default();
        }
        self.running += passed;
        &mut self.seconds[place(self.running)]
    }

    fn sums(&self) -> (u64, u64) {
        self.seconds.iter().fold((0, 0), |(calls, retries), it| {
            (calls + u64::from(it.calls), retries + u64::from(it.retries))
        })
    }
}

/// Where a second is kept.
const fn place(second: u64) -> usize {
    (second % WINDOW_SECONDS as u64) as usize
}

impl Budget {
    /// A budget that has seen no call, from `now` on.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            state: Mutex::new("provider.budget", Window::default()),
        }
    }

    /// A call was made: a first attempt at one of the provider's models.
    pub fn call(&self, now: Instant) {
        let second = self.second(now);
        let mut window = self.state.lock();
        let counts = window.at(second);
        counts.calls = counts.calls.saturating_add(1);
    }

    /// Takes a retry out of the budget, if there is one.
    pub fn try_retry(&self, now: Instant) -> bool {
        let second = self.second(now);
        let mut window = self.state.lock();
        let under_floor = window.at(second).retries < FLOOR_A_SECOND;
        let (calls, retries) = window.sums();
        let allowed = under_floor || retries < calls / CALLS_A_RETRY;
        if allowed {
            let counts = window.at(second);
            counts.retries = counts.retries.saturating_add(1);
        }
        allowed
    }

    fn second(&self, now: Instant) -> u64 {
        let since: Duration = now.saturating_duration_since(self.start);
        since.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn granted(budget: &Budget, at: Instant, tries: u32) -> u32 {
        (0..tries).filter(|_| budget.try_retry(at)).count() as u32
    }

    #[test]
    fn the_floor_is_there_without_a_call_and_comes_back_each_second() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(granted(&budget, start, 50), 10);
        assert_eq!(granted(&budget, start + Duration::from_secs(1), 50), 10);
    }

    #[test]
    fn a_fifth_of_the_calls_may_be_retried_until_they_are_forgotten() {
        let start = Instant::now();
        let budget = Budget::new(start);
        (0..1000).for_each(|_| budget.call(start));
        assert_eq!(granted(&budget, start, 1000), 200);
        let last = start + Duration::from_millis(9_999);
        assert_eq!(granted(&budget, last, 50), 10, "still counted as used");
        let later = start + Duration::from_secs(10);
        (0..100).for_each(|_| budget.call(later));
        assert_eq!(granted(&budget, later, 50), 10, "the 1,000 are forgotten");
    }

    #[test]
    fn a_late_thread_and_a_long_silence_do_no_harm() {
        let start = Instant::now();
        let budget = Budget::new(start + Duration::from_secs(5));
        budget.call(start);
        assert!(budget.try_retry(start + Duration::from_secs(1_000_000)));
        assert!(budget.try_retry(start));
    }

    proptest! {
        /// In whatever order calls and failures come: in each ten seconds no more retries than a
        /// fifth of the calls, or the floor of each second.
        #[test]
        fn retries_stay_within_the_budget(steps in prop::collection::vec((0_u64..400, 0_u8..4), 1..400)) {
            let start = Instant::now();
            let budget = Budget::new(start);
            let (mut at, mut calls, mut retries) = (0, Vec::new(), Vec::new());
            for (ms, what) in steps {
                at += ms;
                let now = start + Duration::from_millis(at);
                if what == 0 {
                    budget.call(now);
                    calls.push(at);
                } else if budget.try_retry(now) {
                    retries.push(at);
                    let recent = |times: &[u64]| times.iter().filter(|t| at - **t < 10_000).count();
                    let in_second = retries.iter().filter(|t| **t / 1000 == at / 1000).count();
                    let share = recent(&calls) / CALLS_A_RETRY as usize;
                    prop_assert!(in_second <= FLOOR_A_SECOND as usize || recent(&retries) <= share + FLOOR_A_SECOND as usize * WINDOW_SECONDS);
                }
            }
        }
    }
}
