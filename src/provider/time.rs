//! How long one attempt may take.

use std::time::{Duration, Instant};

use super::error::{Cause, Phase};

/// Until when an attempt may take, and whose limit that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub by: Instant,
    /// What was left for the provider, where that is less than half of what it is allowed: then
    /// the time was used up before it was asked, and its silence is not held against it.
    scant: Option<Duration>,
}

impl Time {
    pub fn new(deadline: Instant, own: Duration) -> Self {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        Self {
            by: deadline.min(now + own),
            scant: (left < own / 2).then_some(left),
        }
    }

    pub fn judge(self, cause: Cause) -> Cause {
        match (cause, self.scant) {
            // A connection has a time of its own, which is the provider's to keep.
            (Cause::Timeout(phase), Some(left)) if phase != Phase::Connect => Cause::Deadline(left),
            (cause, _) => cause,
        }
    }
}
