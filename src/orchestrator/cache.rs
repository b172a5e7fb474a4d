//! What health and the admin plane do with the cache.

use std::io;
use std::sync::Arc;

use crate::admin::cache::{CacheAdmin, CacheRow, CacheStats, Cleared, Warmed};
use crate::admin::{Progress, Report};
use crate::cache::keeper::Keeper;
use crate::cache::{Reason, Swept};
use crate::clock::Utc;
use crate::config::CheckedConfig;
use crate::coordinator::answers::Answers;
use crate::health::{CacheFacts, SharedFacts};
use crate::metrics::{CoordinatorMetrics, Metrics};
use crate::procfs;
use crate::provider::shared_cache::{Report as SharedReport, SharedCache, Standing};
use crate::store::Store;

/// The cache, and whoever keeps it over a restart.
#[derive(Clone)]
pub(super) struct Hands {
    pub answers: Arc<Answers>,
    keeper: Arc<Keeper>,
    metrics: Arc<Metrics>,
}

impl Hands {
    /// Starts the cache, brings back what was saved of it, and looks for the one that instances
    /// share.
    pub fn start(
        config: &CheckedConfig,
        metrics: &Arc<Metrics>,
        store: &Arc<Store>,
    ) -> io::Result<Self> {
        let redis = config.cache.redis.as_ref().filter(|_| config.cache.enabled);
        let shared = redis.map(|redis| SharedCache::new(redis, metrics));
        let answers = Answers::new(config, shared.transpose()?);
        let known = config.coordinators.keys().cloned().collect();
        let own = Arc::clone(&answers);
        let flush = Box::new(move || own.flush_evictions());
        Ok(Self {
            keeper: Keeper::start(answers.cache(), store, &config.cache, known, flush)?,
            metrics: Arc::clone(metrics),
            answers,
        })
    }

    /// Says in the log what callers and operators may be surprised by.
    pub fn announce(&self, config: &CheckedConfig) {
        let cache = &config.cache;
        let mut sampled = config.coordinators.values().filter(|it| it.cache_sampled);
        if cache.enabled && sampled.next().is_some() {
            ::log::info!(
                default_ttl = cache.default_ttl.as_secs_f64(), coalescing = cache.enable_coalescing;
                "equal calls share answers, sampled ones too (temperature above 0, no seed); \
                 `cache-control: no-cache` on a call brings a fresh one, `cache_sampled: false` on a \
                 coordinator keeps them out"
            );
        }
        let memory = procfs::memory_max().filter(|_| cache.enabled);
        if let Some(warning) = memory.and_then(|max| memory_warning(cache.max_size_bytes, max)) {
            ::log::warn!("{warning}");
        }
    }

    /// Saves the cache, and ends its threads. To be called before the store is shut down.
    pub fn stop(&self) {
        self.keeper.stop();
        if let Some(shared) = self.answers.shared() {
            shared.shutdown();
        }
    }

    /// What health says of it.
    pub fn facts(&self) -> CacheFacts {
        let held = self.answers.cache().stats().held;
        let last = self.keeper.last_save();
        let shared = self.answers.shared();
        CacheFacts {
            enabled: self.answers.config().enabled,
            policy: self.answers.config().eviction_policy.as_str(),
            entries: held.count,
            bytes: held.bytes,
            bytes_max: self.answers.cache().size_max() as u64,
            followers: self.answers.followers(),
            saved_at: last.at.map(|at| Utc::at(at).rfc3339().to_string()),
            saved_entries: last.entries,
            save_error: last.error.map(|error| error.to_string()),
            shared: shared.map(|shared| shared_facts(&shared.report())),
        }
    }
}

impl CacheAdmin for Hands {
    fn stats(&self) -> CacheStats {
        let stats = self.answers.cache().stats();
        let parts = self.answers.cache().by_coordinator();
        let row = |metrics: &Arc<CoordinatorMetrics>| {
            let own = parts.iter().find(|(name, _)| **name == *metrics.name());
            let held = own.map(|(_, held)| *held).unwrap_or_default();
            CacheRow {
                coordinator: metrics.name().to_owned(),
                entries: held.count,
                bytes: held.bytes,
                hits: metrics.cache.hits(),
                misses: metrics.cache.misses(),
                coalesced: metrics.cache.coalesced(),
            }
        };
        CacheStats {
            policy: self.answers.config().eviction_policy.as_str(),
            bytes_max: self.answers.cache().size_max() as u64,
            evicted: stats.evicted(Reason::Size).count,
            expired: stats.evicted(Reason::Ttl).count,
            cleared: stats.evicted(Reason::Cleared).count,
            coordinators: self.metrics.coordinators().iter().map(row).collect(),
        }
    }

    fn clear(&self, coordinator: Option<&str>) -> Result<Cleared, String> {
        let mut cleared = Swept::default();
        let mut sweep = || cleared = self.answers.clear(coordinator);
        let forgotten = self.keeper.clear(coordinator, &mut sweep);
        forgotten.map_err(|error| {
            format!(
                "the cache was cleared ({} entries), but what is saved of it in the database was \
                 not, and may come back with the next start: {error}",
                cleared.count
            )
        })?;
        Ok(Cleared {
            entries: cleared.count,
            bytes: cleared.bytes,
        })
    }

    fn warm(&self, coordinator: &str, items: usize, report: Report<'_>) -> Result<Warmed, String> {
        let mut told = 0;
        let mut progress = |done: u64| {
            // Every hundredth is often enough.
            if done >= told + 100 {
                told = done;
                report(Progress {
                    done,
                    total: items as u64,
                    message: "answers looked at".to_owned(),
                });
            }
        };
        let warmed = self
            .keeper
            .warm(coordinator, items, &mut progress)
            .map_err(|error| format!("what is saved of the cache cannot be read: {error}"))?;
        Ok(Warmed {
            entries: warmed.held.count,
            bytes: warmed.held.bytes,
            skipped: warmed.skipped,
        })
    }
}

fn shared_facts(report: &SharedReport) -> SharedFacts {
    SharedFacts {
        target: report.target.clone(),
        state: match report.standing {
            Standing::Untried => "untried",
            Standing::Up => "up",
            Standing::Down => "down",
        },
        since_seconds: report.since.as_secs_f64().round(),
        why: report.why.clone(),
        writes_refused: report.writes_refused.clone(),
    }
}

/// What to say if a cache of that size leaves less than a quarter of the memory that there is, both
/// in bytes, for everything else.
fn memory_warning(size: usize, memory: u64) -> Option<String> {
    let most = memory / 4 * 3;
    let mib = |bytes: u64| bytes >> 20;
    (size as u64 > most).then(|| {
        format!(
            "cache.max_size_mb is {} of the {} MiB that this process may have: it is killed before \
             the cache is full; lower it to {} at most, or give the process more",
            mib(size as u64),
            mib(memory),
            mib(most)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_leaves_no_memory_is_warned_of() {
        assert_eq!(memory_warning(3 << 30, 4 << 30), None);
        let warning = memory_warning(4 << 30, 4 << 30).unwrap();
        assert!(warning.contains("lower it to 3072 at most"), "{warning}");
    }
}
