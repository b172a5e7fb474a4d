//! How long to leave a target alone before it is asked again.
//!
//! Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter",
//! 2015): the wait is drawn evenly from nothing to the exponential bound, so that callers who
//! failed together do not come back together. What a provider says itself (`retry-after`) is a
//! floor under the draw. Pure: the chance is an argument. Start at [`delay`].

use std::time::Duration;

/// The bound grows no further than this.
pub const DELAY_MAX: Duration = Duration::from_secs(30);
/// A provider that asks for more patience than this is not waited for within a call.
pub const FLOOR_MAX: Duration = Duration::from_secs(60);

/// The wait before attempt `attempt + 1` at a target, where `attempt` attempts have failed (at
/// least 1): `random`, from 0 to 1, of `backoff` or, if `exponential`, of `backoff` doubled for
/// every failed attempt after the first. Never more than [`DELAY_MAX`].
pub fn delay(attempt: u32, backoff: Duration, exponential: bool, random: f64) -> Duration {
    let doublings = if exponential {
        attempt.saturating_sub(1)
    } else {
        0
    };
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let bound = backoff.saturating_mul(factor).min(DELAY_MAX);
    bound.mul_f64(share(random))
}

/// A random number as a share, from 0 to 1; what is none (NaN) as 0, for durations panic on it.
pub const fn share(random: f64) -> f64 {
    if random.is_nan() {
        return 0.0;
    }
    random.clamp(0.0, 1.0)
}

/// `drawn` with what the provider asked for, if it did, as its floor. `None`: it asked for more
/// than [`FLOOR_MAX`], which means that there is no waiting here.
pub fn with_floor(drawn: Duration, retry_after: Option<Duration>) -> Option<Duration> {
    match retry_after {
        Some(floor) if floor > FLOOR_MAX => None,
        Some(floor) => Some(drawn.max(floor)),
        None => Some(drawn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_up_to_its_cap() {
        let check = |attempt, seconds| {
            assert_eq!(
                delay(attempt, BASE, true, 1.0),
                Duration::from_secs(seconds)
            );
        };
        check(0, 1);
        check(1, 1);
        check(2, 2);
        check(5, 16);
        check(6, 30);
        check(u32::MAX, 30);
    }

    #[test]
    fn without_exponential_backoff_the_bound_stays() {
        assert_eq!(delay(9, BASE, false, 1.0), BASE);
        assert_eq!(delay(9, BASE, false, 0.25), BASE / 4);
    }

    #[test]
    fn a_random_number_that_is_none_does_no_harm() {
        for random in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(delay(3, BASE, true, random), Duration::ZERO);
        }
        assert_eq!(delay(1, BASE, true, f64::INFINITY), BASE);
    }

    #[test]
    fn the_provider_sets_the_floor_and_too_much_patience_is_refused() {
        let ms = Duration::from_millis;
        assert_eq!(with_floor(ms(300), None), Some(ms(300)));
        assert_eq!(with_floor(ms(300), Some(ms(200))), Some(ms(300)));
        assert_eq!(with_floor(ms(300), Some(ms(5000))), Some(ms(5000)));
        assert_eq!(with_floor(ms(300), Some(FLOOR_MAX)), Some(FLOOR_MAX));
        assert_eq!(with_floor(ms(300), Some(FLOOR_MAX + ms(1))), None);
    }

    proptest! {
        #[test]
        fn never_over_the_cap(attempt: u32, ms in 0_u64..=600_000, exponential: bool, random: f64) {
            let drawn = delay(attempt, Duration::from_millis(ms), exponential, random);
            prop_assert!(drawn <= DELAY_MAX);
        }
    }
}
