//! The log lines about what leaves the cache: at most one of each kind in ten seconds, with what
//! has gathered since the last. What gathers after the last insert is said when the cache is saved.

use std::time::{Duration, Instant};

use crate::cache::{Amount, Evicted, Outcome, Reason};
use crate::config::checked::EvictionPolicy;
use crate::sync::Mutex;

/// How far apart two lines are.
const APART: Duration = Duration::from_secs(10);

/// See the module.
pub struct Evictions {
    policy: EvictionPolicy,
    gathered: Mutex<Gathered>,
}

/// What is to be said: entries that went for room and for their age, and those replaced.
type Due = (Option<(Amount, Amount)>, Option<u64>);

#[derive(Default)]
struct Gathered {
    size: Amount,
    ttl: Amount,
    replaced: u64,
    /// When a line about evictions, and about replacements, was last written.
    told: [Option<Instant>; 2],
}

impl Evictions {
    pub fn new(policy: EvictionPolicy) -> Self {
        Self {
            policy,
            gathered: Mutex::new("answers.evictions", Gathered::default()),
        }
    }

    /// Says what has gathered and was not said yet.
    pub fn flush(&self) {
        let mut gathered = self.gathered.lock();
        gathered.told = [None; 2];
        let said = gathered.take(Instant::now());
        drop(gathered);
        self.say(said);
    }

    /// Says what an insert has done, now or later.
    pub fn tell(&self, evicted: &Evicted) {
        let (size, ttl) = (evicted.by(Reason::Size), evicted.by(Reason::Ttl));
        let is_replaced = evicted.outcome == Outcome::Replaced;
        if size.count + ttl.count == 0 && !is_replaced {
            return;
        }
        let said = {
            let mut gathered = self.gathered.lock();
            gathered.size = gathered.size.plus(size);
            gathered.ttl = gathered.ttl.plus(ttl);
            gathered.replaced += u64::from(is_replaced);
            gathered.take(Instant::now())
        };
        self.say(said);
    }

    fn say(&self, (evictions, replaced): Due) {
        if let Some((size, ttl)) = evictions {
            ::log::info!(
                policy = self.policy.as_str(), size_entries = size.count, size_bytes = size.bytes,
                ttl_entries = ttl.count, ttl_bytes = ttl.bytes;
                "cache eviction: {} to make room (cache.max_size_mb), {} that were too old", size.count, ttl.count
            );
        }
        if let Some(replaced) = replaced {
            ::log::info!(
                cause = "refreshed", entries = replaced;
                "cache invalidation: {replaced} replaced by newer answers"
            );
        }
    }
}

impl Gathered {
    /// What is to be said now.
    fn take(&mut self, now: Instant) -> Due {
        let is_due = |told: &Option<Instant>| told.is_none_or(|told| now >= told + APART);
        let mut said = (None, None);
        if self.size.count + self.ttl.count > 0 && is_due(&self.told[0]) {
            self.told[0] = Some(now);
            said.0 = Some((
                std::mem::take(&mut self.size),
                std::mem::take(&mut self.ttl),
            ));
        }
        if self.replaced > 0 && is_due(&self.told[1]) {
            self.told[1] = Some(now);
            said.1 = Some(std::mem::take(&mut self.replaced));
        }
        said
    }
}
