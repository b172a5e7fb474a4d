//! What the simulator remembers between requests: the number of the next one, and when each
//! stateful behaviour (`-once`, `flap`) was first asked for. Bounded, and forgotten on a reset.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::sync::Mutex;

/// Different stateful names and headers that are remembered. Beyond them each request is treated
/// as the first of its kind, and counted in [`State::forgotten`].
const REMEMBERED_MAX: usize = 65_536;

/// The memory of one simulator.
pub struct State {
    next: AtomicU64,
    first_seen: Mutex<HashMap<u64, Instant>>,
    forgotten: AtomicU64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            first_seen: Mutex::new("simulator.state", HashMap::new()),
            forgotten: AtomicU64::new(0),
        }
    }
}

impl State {
    /// A number that no other request of this simulator has.
    pub fn next_request(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// When `key` was first asked for, and whether that is now.
    pub fn first_seen(&self, key: u64, now: Instant) -> (Instant, bool) {
        let mut seen = self.first_seen.lock();
        if let Some(at) = seen.get(&key) {
            return (*at, false);
        }
        if seen.len() < REMEMBERED_MAX {
            seen.insert(key, now);
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        (now, true)
    }

    /// Requests whose name or header could not be remembered since the last reset.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Forgets every first request. Numbers go on, so that request ids stay unique.
    pub fn reset(&self) {
        let seen = std::mem::take(&mut *self.first_seen.lock());
        drop(seen);
        self.forgotten.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_request_is_first_until_a_reset() {
        let (state, now) = (State::default(), Instant::now());
        assert_eq!(state.first_seen(7, now), (now, true));
        assert_eq!(
            state.first_seen(7, now + Duration::from_secs(1)),
            (now, false)
        );
        assert!(state.first_seen(8, now).1);
        state.reset();
        assert!(state.first_seen(7, now).1);
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_it_is_counted() {
        let (state, now) = (State::default(), Instant::now());
        for key in 0..REMEMBERED_MAX as u64 + 3 {
            assert!(state.first_seen(key, now).1);
        }
        assert_eq!(state.forgotten(), 3);
        assert!(!state.first_seen(5, now).1);
    }
}
