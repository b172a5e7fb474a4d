//! Whole seconds since the cache began, which is as exact as ends and heats are noted.
//!
//! To reckon one takes some sixty instructions of the hundreds of an insert; but the last one is
//! asked for again and again, so its bounds are kept and compared.

use std::time::{Duration, Instant};

/// See the module.
pub struct Clock {
    began: Instant,
    /// What time it is.
    second: u32,
    /// The end of that second; in a new clock, already past.
    until: Instant,
    /// The last answer of [`Clock::end`], and after what and up to what it is the answer.
    end: u32,
    end_after: Instant,
    end_until: Instant,
}

impl Clock {
    /// One that has just begun.
    pub const fn new(began: Instant) -> Self {
        Self {
            began,
            second: 0,
            until: began,
            end: 0,
            end_after: began,
            end_until: began,
        }
    }

    /// What time it is, by the last [`Clock::pass`].
    pub const fn second(&self) -> u32 {
        self.second
    }

    /// Whether the second that it is by now is over.
    #[inline]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Lets the time go on.
    pub fn pass(&mut self, now: Instant) {
        self.second = self.second_of(now);
        self.until = self.start(self.second.saturating_add(1)).unwrap_or(now);
    }

    /// The second of a time.
    fn second_of(&self, time: Instant) -> u32 {
        let since = time.saturating_duration_since(self.began).as_secs();
        // 136 years.
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    /// The first second that does not begin before a time.
    #[inline]
    pub fn end(&mut self, time: Instant) -> u32 {
        // Ends come as calls do, one after the other, most of them with the same TTL.
        if time <= self.end_after || time > self.end_until {
            self.reckon_end(time);
        }
        self.end
    }

    #[cold]
    fn reckon_end(&mut self, time: Instant) {
        let since = time.saturating_duration_since(self.began);
        let begun = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        self.end = u32::try_from(begun).unwrap_or(u32::MAX);
        // Where there are no bounds, the next one is reckoned again.
        let after = self.end.checked_sub(1).and_then(|it| self.start(it));
        (self.end_after, self.end_until) = match (after, self.start(self.end)) {
            (Some(after), Some(until)) => (after, until),
            _ => (time, time),
        };
    }

    /// When a second begins, if an [`Instant`] reaches so far.
    fn start(&self, second: u32) -> Option<Instant> {
        self.began.checked_add(Duration::from_secs(second.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn seconds_are_exact_whatever_was_asked_before(
            times in prop::collection::vec((0..4u64, 0..4u32), 1..60)
        ) {
            let began = Instant::now();
            let mut clock = Clock::new(began);
            let mut last = None;
            for (seconds, part) in times {
                // The last nanosecond, the first, the one after it, and one in between.
                let nanos = [999_999_999, 0, 1, 500_000_000][part as usize];
                let since = Duration::new(seconds, nanos);
                let expected = seconds + u64::from(nanos > 0);
                prop_assert_eq!(u64::from(clock.end(began + since)), expected);
                let is_over = last.is_none_or(|last| seconds > last);
                prop_assert_eq!(clock.is_over(began + since), is_over);
                clock.pass(began + since);
                prop_assert_eq!(u64::from(clock.second()), seconds);
                last = Some(seconds);
            }
        }
    }

    #[test]
    fn what_is_before_the_begin_or_too_far_has_a_second_too() {
        let began = Instant::now();
        let mut clock = Clock::new(began);
        assert_eq!(clock.end(began), 0);
        assert_eq!(clock.end(began - Duration::from_secs(5)), 0);
        assert_eq!(clock.second_of(began - Duration::from_secs(5)), 0);
        let far = began + Duration::from_secs(1 << 40);
        assert_eq!(clock.end(far), u32::MAX);
        assert_eq!(clock.end(far - Duration::from_secs(1)), u32::MAX);
        assert_eq!(clock.end(began + Duration::from_nanos(1)), 1);
    }
}
