//! Verbs about the response cache: `cache-stats`, `clear-cache`, `warm-cache`.
//!
//! The cache itself is behind [`CacheAdmin`]; where it is off, the verbs say so.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AdminError, Code, Report, Verbs, parse, result, unknown};

/// Entries that can be asked for at once.
const ITEMS_MAX: usize = 1_000_000;

/// What a cache counts, since the start where it is a count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheStats {
    /// `lru`, `lfu` or `fifo`.
    pub policy: &'static str,
    pub bytes_max: u64,
    /// Where a value is evicted, expired or cleared it is in one of these.
    pub evicted: u64,
    pub expired: u64,
    pub cleared: u64,
    /// One for each coordinator, by name.
    pub coordinators: Vec<CacheRow>,
}

/// What a cache counts of one coordinator.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheRow {
    pub coordinator: String,
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
    pub coalesced: u64,
}

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    pub entries: u64,
    pub bytes: u64,
}

/// What was brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Warmed {
    /// Now in the cache.
    pub entries: u64,
    pub bytes: u64,
    /// Found, and not brought back: expired since, or there already.
    pub skipped: u64,
}

/// What the verbs need of the cache. Called on the admin plane's threads.
pub trait CacheAdmin: Send + Sync {
    /// What it counts.
    fn stats(&self) -> CacheStats;

    /// Takes out every entry, or those of one coordinator.
    ///
    /// # Errors
    /// A sentence: what is saved for the next start could not be cleared.
    fn clear(&self, coordinator: Option<&str>) -> Result<Cleared, String>;

    /// Brings back up to `items` of a coordinator's most valuable entries from the database.
    /// Reports progress as [`Verbs::call`] asks.
    ///
    /// # Errors
    /// A sentence: the database cannot be read.
    fn warm(&self, coordinator: &str, items: usize, report: Report<'_>) -> Result<Warmed, String>;
}

/// See the module.
pub struct CacheVerbs {
    /// `None`: it is off.
    pub cache: Option<Arc<dyn CacheAdmin>>,
    /// The names of all coordinators.
    pub coordinators: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stats {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    coordinator: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Warm {
    coordinator: String,
    items: usize,
}

impl Verbs for CacheVerbs {
    fn call(
        &self,
        verb: &str,
        args: &Value,
        report: Report<'_>,
    ) -> Option<Result<Value, AdminError>> {
        Some(match verb {
            "cache-stats" => parse(args).and_then(|Stats {}| result(self.cache()?.stats())),
            "clear-cache" => parse(args).and_then(|clear| self.clear(clear)),
            "warm-cache" => parse(args).and_then(|warm| self.warm(&warm, report)),
            _ => return None,
        })
    }
}

impl CacheVerbs {
    fn cache(&self) -> Result<&dyn CacheAdmin, AdminError> {
        self.cache.as_deref().ok_or_else(|| {
            let why = "the response cache is off (cache.enabled is false): there is nothing to show, \
                       clear or warm";
            AdminError::new(Code::Unavailable, why)
        })
    }

    fn check(&self, coordinator: &str) -> Result<(), AdminError> {
        let known = self.coordinators.iter().map(String::as_str);
        match known.clone().any(|name| name == coordinator) {
            true => Ok(()),
            false => Err(unknown("coordinator", coordinator, known)),
        }
    }

    fn clear(&self, Clear { all, coordinator }: Clear) -> Result<Value, AdminError> {
        let cache = self.cache()?;
        if all == coordinator.is_some() {
            let why = "either `all` or a `coordinator`, and not both";
            return Err(AdminError::new(Code::BadArguments, why));
        }
        if let Some(name) = &coordinator {
            self.check(name)?;
        }
        let cleared = cache.clear(coordinator.as_deref());
        let cleared = cleared.map_err(|why| AdminError::new(Code::Failed, why))?;
        log::info!(
            entries = cleared.entries, bytes = cleared.bytes;
            "cache invalidation: {} by an operator",
            coordinator.as_deref().unwrap_or("everything")
        );
        result(json!({
            "coordinator": coordinator,
            "entries": cleared.entries,
            "bytes": cleared.bytes,
        }))
    }

    fn warm(&self, warm: &Warm, report: Report<'_>) -> Result<Value, AdminError> {
        let cache = self.cache()?;
        self.check(&warm.coordinator)?;
        if !(1..=ITEMS_MAX).contains(&warm.items) {
            let why = format!("`items` is from 1 to {ITEMS_MAX}");
            return Err(AdminError::new(Code::BadArguments, why));
        }
        let warmed = cache.warm(&warm.coordinator, warm.items, report);
        result(warmed.map_err(|why| AdminError::new(Code::Failed, why))?)
    }
}
