//! Which of a provider's keys carries the next call.
//!
//! Keys are used in turn. One that the provider refuses (401, 403) is retired for ten minutes and
//! then tried with one call; one that has used up its quota (429) rests until the provider's hint.
//! What must not happen is that victor stops asking by itself: a provider's only key is neither
//! retired nor rested, and the last key that is not retired stays, for its refusals reach the
//! callers and the log, where silence would not. A key is an index here; nobody can print it.
//! Start at [`Keys::pick`].

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// How long a refused key is left out.
pub const RETIRED_FOR: Duration = Duration::from_secs(600);
/// A trial of a retired key that nobody reported back is over after this.
pub const TRIAL_MAX: Duration = Duration::from_secs(60);
/// The shortest rest after a 429.
pub const REST_MIN: Duration = Duration::from_secs(1);
/// The longest: what a provider says beyond it is asked again instead of believed.
pub const REST_MAX: Duration = Duration::from_secs(600);

/// What a key may do now; for the status of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Carries calls.
    Usable,
    /// Out of quota until then.
    Resting { until: Instant },
    /// Refused by the provider; left out until then.
    Retired { until: Instant },
    /// Was retired; one call tries it now.
    OnTrial,
}

/// See the module.
pub struct Keys(Mutex<Ring>);

struct Ring {
    keys: Vec<Key>,
    /// Where the next search begins.
    next: usize,
}

#[derive(Clone, Copy, Default)]
struct Key {
    resting: Option<Instant>,
    retired: Option<Instant>,
    /// Until when a trial holds the key.
    trial: Option<Instant>,
}

impl Key {
    fn state(&self, now: Instant) -> KeyState {
        if let Some(until) = self.retired {
            return match (self.trial, until > now) {
                (_, true) => KeyState::Retired { until },
                (Some(trial), _) if trial > now => KeyState::OnTrial,
                // Due for its trial, which the next pick begins.
                _ => KeyState::Usable,
            };
        }
        match self.resting {
            Some(until) if until > now => KeyState::Resting { until },
            _ => KeyState::Usable,
        }
    }
}

impl Keys {
    /// `count` keys, all usable.
    pub fn new(count: NonZeroUsize) -> Self {
        let ring = Ring {
            keys: vec![Key::default(); count.get()],
            next: 0,
        };
        Self(Mutex::new("provider.keys", ring))
    }

    /// The key for the next call; `None` while all of them rest or are retired.
    pub fn pick(&self, now: Instant) -> Option<usize> {
        let mut ring = self.0.lock();
        let count = ring.keys.len();
        let mut places = (0..count).map(|step| (ring.next + step) % count);
        let found = places.find(|place| ring.keys[*place].state(now) == KeyState::Usable)?;
        ring.next = (found + 1) % count;
        let key = &mut ring.keys[found];
        if key.retired.is_some() {
            key.trial = Some(now + TRIAL_MAX);
        }
        Some(found)
    }

    /// The provider took the key: a trial is passed.
    pub fn accepted(&self, index: usize) {
        if let Some(key) = self.0.lock().keys.get_mut(index) {
            (key.retired, key.trial) = (None, None);
        }
    }

    /// The provider refused the key (401, 403). Returns whether it is retired now.
    pub fn refused(&self, index: usize, now: Instant) -> bool {
        let mut ring = self.0.lock();
        let others = ring.keys.iter().enumerate();
        let is_last = others
            .filter(|(place, _)| *place != index)
            .all(|(_, key)| key.retired.is_some());
        match ring.keys.get_mut(index) {
            Some(key) if !is_last => {
                key.retired = Some(now + RETIRED_FOR);
                key.trial = None;
                true
            }
            _ => false,
        }
    }

    /// The key has used up its quota (429) until `until`, as far as the provider says.
    pub fn limited(&self, index: usize, until: Instant, now: Instant) {
        let mut ring = self.0.lock();
        if ring.keys.len() == 1 {
            return;
        }
        if let Some(key) = ring.keys.get_mut(index) {
            let until = until.clamp(now + REST_MIN, now + REST_MAX);
            // A 429 is no refusal of the key: a trial that meets one is passed.
            *key = Key {
                resting: Some(key.resting.map_or(until, |before| before.max(until))),
                ..Key::default()
            };
        }
    }

    /// Forgets every rest and refusal; returns how many keys were not usable.
    pub fn reset(&self, now: Instant) -> usize {
        let mut ring = self.0.lock();
        let unusable = ring.keys.iter();
        let count = unusable
            .filter(|key| key.state(now) != KeyState::Usable)
            .count();
        ring.keys.fill(Key::default());
        count
    }

    /// When a key will be usable again: `now` if one is.
    pub fn next_usable(&self, now: Instant) -> Instant {
        let ring = self.0.lock();
        let times = ring.keys.iter().map(|key| match key.state(now) {
            KeyState::Usable => now,
            KeyState::Resting { until } | KeyState::Retired { until } => until,
            KeyState::OnTrial => key.trial.unwrap_or(now),
        });
        times.min().unwrap_or(now)
    }

    /// What each key may do, in the order of the configuration.
    pub fn states(&self, now: Instant) -> Vec<KeyState> {
        let ring = self.0.lock();
        ring.keys.iter().map(|key| key.state(now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keys(count: usize) -> (Keys, Instant) {
        (Keys::new(NonZeroUsize::new(count).unwrap()), Instant::now())
    }

    fn picks(keys: &Keys, now: Instant, times: usize) -> Vec<Option<usize>> {
        (0..times).map(|_| keys.pick(now)).collect()
    }

    #[test]
    fn keys_are_used_in_turn() {
        let (keys, now) = keys(3);
        assert_eq!(picks(&keys, now, 4), [Some(0), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn a_limited_key_rests_a_second_at_least_and_ten_minutes_at_most() {
        let (keys, now) = keys(2);
        keys.limited(0, now, now);
        assert_eq!(picks(&keys, now, 2), [Some(1), Some(1)]);
        assert_eq!(picks(&keys, now + SECOND, 2), [Some(0), Some(1)]);
        keys.limited(1, now + SECOND * 86_400, now);
        let until = now + REST_MAX;
        assert_eq!(keys.states(now)[1], KeyState::Resting { until });
        keys.limited(0, now + SECOND * 9, now);
        assert_eq!(keys.pick(now), None);
        assert_eq!(keys.next_usable(now), now + SECOND * 9);
        keys.limited(0, now, now);
        assert_eq!(keys.next_usable(now), now + SECOND * 9, "the longer holds");
    }

    #[test]
    fn a_refused_key_is_tried_again_with_one_call() {
        let (keys, now) = keys(2);
        assert!(keys.refused(0, now));
        assert_eq!(picks(&keys, now, 2), [Some(1), Some(1)]);
        let until = now + RETIRED_FOR;
        assert_eq!(keys.states(now)[0], KeyState::Retired { until });
        assert_eq!(picks(&keys, until, 3), [Some(0), Some(1), Some(1)]);
        assert_eq!(keys.states(until)[0], KeyState::OnTrial);
        assert!(keys.refused(0, until));
        assert_eq!(picks(&keys, until + SECOND, 2), [Some(1), Some(1)]);
        let again = until + RETIRED_FOR;
        assert_eq!(keys.pick(again), Some(0));
        keys.accepted(0);
        assert_eq!(picks(&keys, again, 2), [Some(1), Some(0)]);
    }

    #[test]
    fn a_trial_that_nobody_reports_is_repeated() {
        let (keys, now) = keys(2);
        keys.refused(0, now);
        let due = now + RETIRED_FOR;
        assert_eq!(picks(&keys, due, 2), [Some(0), Some(1)]);
        assert_eq!(keys.pick(due + TRIAL_MAX), Some(0));
    }

    #[test]
    fn the_only_key_and_the_last_one_left_go_on() {
        let (only, now) = keys(1);
        assert!(!only.refused(0, now));
        only.limited(0, now + SECOND * 9, now);
        assert_eq!(only.pick(now), Some(0));
        let (several, now) = keys(3);
        assert!(several.refused(1, now) && several.refused(0, now));
        assert!(!several.refused(2, now));
        assert_eq!(picks(&several, now, 2), [Some(2), Some(2)]);
    }

    #[test]
    fn a_reset_makes_every_key_usable() {
        let (keys, now) = keys(3);
        keys.limited(0, now + SECOND * 9, now);
        keys.refused(1, now);
        assert_eq!(keys.reset(now), 2);
        assert_eq!(keys.states(now), [KeyState::Usable; 3]);
    }

    #[test]
    fn an_index_that_is_none_is_ignored() {
        let (keys, now) = keys(2);
        assert!(!keys.refused(7, now));
        keys.limited(7, now, now);
        keys.accepted(7);
        assert_eq!(keys.pick(now), Some(0));
    }
}
