//! When answers were cleared, so that none of before comes back from where it is still stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::sync::Mutex;

/// By how far the clocks of two instances may differ: what another one made so shortly after a
/// clear may be from before it.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Clears {
    count: AtomicU64,
    /// The last one of each coordinator, and under no name the last one of all.
    last: Mutex<HashMap<Option<Box<str>>, SystemTime>>,
}

impl Clears {
    pub fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            last: Mutex::new("answers.clears", HashMap::new()),
        }
    }

    /// How often answers were cleared.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The answers of a coordinator, or all, are cleared `now`.
    pub fn note(&self, coordinator: Option<&str>, now: SystemTime) {
        let mut last = self.last.lock();
        if coordinator.is_none() {
            last.clear();
        }
        last.insert(coordinator.map(Box::from), now);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether an answer that another instance made then has been cleared since.
    pub fn covers(&self, coordinator: &str, created_at: SystemTime) -> bool {
        if self.count() == 0 {
            return false;
        }
        let last = self.last.lock();
        let own = last.iter().filter(|(name, _)| {
            let name = name.as_deref();
            name.is_none_or(|name| name == coordinator)
        });
        own.map(|(_, at)| *at).any(|at| created_at <= at + SKEW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_before_a_clear_of_it_is_covered() {
        let clears = Clears::new();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!clears.covers("one", at(0)));
        clears.note(Some("one"), at(100));
        assert!(clears.covers("one", at(100)));
        assert!(clears.covers("one", at(105)), "its clock may be ahead");
        assert!(!clears.covers("one", at(106)));
        assert!(!clears.covers("two", at(99)));
        clears.note(None, at(200));
        assert!(clears.covers("two", at(199)));
        assert!(clears.covers("one", at(199)));
        assert!(!clears.covers("one", at(206)));
        assert_eq!(clears.count(), 2);
    }
}
