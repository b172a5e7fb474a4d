//! The component `cache.response`: how full the cache is, how well it does, and whether it would
//! outlive a restart.
//!
//! The daemon serves without its cache, so the component never makes the whole unhealthy.

use serde::Serialize;
use serde_json::json;

use super::assess::Component;
use super::key_metrics::Status;
use super::round;
use crate::metrics::Metrics;

/// What is known of the cache, as of now.
#[derive(Clone, Debug, Default)]
pub struct CacheFacts {
    pub enabled: bool,
    /// `lru`, `lfu` or `fifo`.
    pub policy: &'static str,
    pub entries: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    /// Calls that wait for the answer to an equal one.
    pub followers: i64,
    /// When it was last saved, in RFC 3339.
    pub saved_at: Option<String>,
    /// Answers that were saved then.
    pub saved_entries: u64,
    /// Why the last save failed, if it did.
    pub save_error: Option<String>,
    /// The cache that instances share, if there is one.
    pub shared: Option<SharedFacts>,
}

/// What is known of the cache that instances share.
#[derive(Clone, Debug, Serialize)]
pub struct SharedFacts {
    /// Where it is, without a password.
    pub target: String,
    /// `untried`, `up` or `down`.
    pub state: &'static str,
    pub since_seconds: f64,
    pub why: Option<String>,
    /// Why it takes no writes though it answers.
    pub writes_refused: Option<String>,
}

/// What answers have saved since the start, in `/health/detailed`.
#[derive(Serialize)]
pub(super) struct Saved {
    hits: u64,
    coalesced: u64,
    seconds: f64,
    /// By the configured prices.
    dollars: f64,
}

impl Saved {
    pub fn of(metrics: &Metrics) -> Self {
        let mut saved = Self {
            hits: 0,
            coalesced: 0,
            seconds: 0.0,
            dollars: 0.0,
        };
        for coordinator in metrics.coordinators() {
            let (seconds, dollars) = coordinator.cache.saved();
            saved.hits += coordinator.cache.hits();
            saved.coalesced += coordinator.cache.coalesced();
            saved.seconds += seconds;
            saved.dollars += dollars;
        }
        saved.seconds = round(saved.seconds);
        saved
    }
}

pub(super) fn component(facts: &CacheFacts, metrics: &Metrics, now: &str) -> Component {
    let lookups = metrics.lookups();
    let (status, message) = match (&facts.save_error, facts.enabled) {
        (_, false) => (Status::Healthy, "off: cache.enabled is false".to_owned()),
        (Some(why), true) => (
            Status::Degraded,
            format!("serves, but would not outlive a restart: {why}"),
        ),
        (None, true) => match &facts.shared {
            Some(shared) if shared.state == "down" => (
                Status::Degraded,
                format!(
                    "serves without the shared cache at {}, which is down: {}",
                    shared.target,
                    shared.why.as_deref().unwrap_or("it does not answer")
                ),
            ),
            _ => (Status::Healthy, "serves".to_owned()),
        },
    };
    Component {
        name: "cache.response".to_owned(),
        status,
        message,
        latency_ms: None,
        details: json!({
            "policy": facts.policy,
            "entries": facts.entries,
            "bytes": facts.bytes,
            "bytes_max": facts.bytes_max,
            "hit_rate": lookups.hit_rate(),
            "lookups": lookups.count(),
            "followers": facts.followers,
            "saved_at": facts.saved_at,
            "saved_entries": facts.saved_entries,
            "shared": facts.shared,
        }),
        last_check: now.to_owned(),
        consecutive_failures: u32::from(facts.save_error.is_some()),
    }
}
