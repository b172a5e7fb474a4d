//! What is counted of the cache that instances share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::registry::{Counter, Family, Gauge, Histogram, Registry};

/// Upper bounds of its histogram in seconds: a server in the same rack answers within a quarter of a
/// millisecond, and what takes a second has long been given up by the calls.
const BOUNDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// What was asked of the shared cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum SharedOperation {
    /// A call looked an answer up.
    Get,
    /// An answer was to be written.
    Put,
    /// A call wanted to be the one of all instances that asks the provider.
    Claim,
    /// A call that waits for another instance looked whether its answer is there.
    Poll,
    /// A claim was given back.
    Release,
    /// Whether it answers again.
    Probe,
}

impl SharedOperation {
    const ALL: [Self; 6] = [
        Self::Get,
        Self::Put,
        Self::Claim,
        Self::Poll,
        Self::Release,
        Self::Probe,
    ];

    /// The value of the label `operation`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Claim => "claim",
            Self::Poll => "poll",
            Self::Release => "release",
            Self::Probe => "probe",
        }
    }
}

/// How that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum SharedOutcome {
    /// The answer was there.
    Hit,
    /// It was not.
    Miss,
    /// Done.
    Ok,
    /// Another instance has the claim.
    Taken,
    /// The server answered that it does not take it: it is full, or takes no writes.
    Refused,
    /// No connection was free in time, or too little of the time was left to blame the server.
    Busy,
    /// The server did not answer in time.
    Timeout,
    /// No connection, a reset, or an answer that is none.
    Error,
    /// Not tried: the server is left alone for a while.
    Unavailable,
    /// Not tried: the queue of writes is full.
    Dropped,
    /// Not tried: the value is too large to be shared.
    TooLarge,
}

impl SharedOutcome {
    const COUNT: usize = Self::TooLarge as usize + 1;

    /// The value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Ok => "ok",
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Unavailable => "unavailable",
            Self::Dropped => "dropped",
            Self::TooLarge => "too_large",
        }
    }
}

/// The families; without series until somebody shares.
pub(super) struct Families {
    requests: Family<Counter, 2>,
    duration: Family<Histogram, 1>,
    up: Family<Gauge, 0>,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.family(
                "victor_cache_shared_requests_total",
                "What was asked of the cache that instances share, by how it ended.",
                ["operation", "outcome"],
            ),
            duration: registry.histograms(
                "victor_cache_shared_duration_seconds",
                "How long that took, where it was tried.",
                ["operation"],
                BOUNDS,
            ),
            up: registry.family(
                "victor_cache_shared_up",
                "Whether the cache that instances share answered when it was last asked.",
                [],
            ),
        }
    }

    pub(super) fn series(&self) -> SharedCacheMetrics {
        SharedCacheMetrics {
            requests: self.requests.clone(),
            by_outcome: Default::default(),
            duration: SharedOperation::ALL.map(|it| self.duration.with([it.as_str()])),
            up: self.up.with([]),
        }
    }
}

/// Counters of one shared cache. The series of an outcome appears when it first happens.
pub struct SharedCacheMetrics {
    requests: Family<Counter, 2>,
    by_outcome: [[OnceLock<Arc<Counter>>; SharedOutcome::COUNT]; SharedOperation::ALL.len()],
    duration: [Arc<Histogram>; SharedOperation::ALL.len()],
    up: Arc<Gauge>,
}

impl SharedCacheMetrics {
    /// Counts an operation, and how long it took if it was tried.
    pub fn settle(
        &self,
        operation: SharedOperation,
        outcome: SharedOutcome,
        took: Option<Duration>,
    ) {
        let counter = &self.by_outcome[operation as usize][outcome as usize];
        let counter = counter.get_or_init(|| {
            let labels = [operation.as_str(), outcome.as_str()];
            self.requests.with(labels)
        });
        counter.increment();
        if let Some(took) = took {
            self.duration[operation as usize].observe(took);
        }
    }

    /// Says whether it answers.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::super::tests::config;
    use super::*;

    #[test]
    fn it_shows_only_where_something_is_shared() {
        let metrics = Metrics::new(&config());
        assert!(!metrics.render().contains("victor_cache_shared"));
        let shared = metrics.shared_cache();
        shared.set_up(true);
        let took = Some(Duration::from_micros(300));
        shared.settle(SharedOperation::Get, SharedOutcome::Hit, took);
        shared.settle(SharedOperation::Get, SharedOutcome::Unavailable, None);
        let text = metrics.render();
        for line in [
            "victor_cache_shared_requests_total{operation=\"get\",outcome=\"hit\"} 1",
            "victor_cache_shared_requests_total{operation=\"get\",outcome=\"unavailable\"} 1",
            "victor_cache_shared_duration_seconds_count{operation=\"get\"} 1",
            "victor_cache_shared_duration_seconds_bucket{operation=\"get\",le=\"0.0005\"} 1",
            "victor_cache_shared_up 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
