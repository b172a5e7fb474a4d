//! Health: can the daemon serve, and if not, which part of it cannot.
//!
//! Everything is read from what calls have left behind in the metrics' five-minute windows: a
//! probe never calls a provider, and what had no traffic is healthy. It is answered on the front
//! threads, so nothing here may block; what costs a file read is done at most once a second. Start
//! at [`Health::answer`]; [`assess`] judges the parts, [`key_metrics`] the whole by the runbook's
//! table, [`system`] reads the machine.

mod assess;
mod cache;
mod database;
mod key_metrics;
mod system;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Utc;
use crate::config::CheckedConfig;
use crate::metrics::{Metrics, VERSION};
use crate::store::Store;
use crate::sync::Mutex;
use crate::thread;

use assess::{Assessment, CoordinatorRow, Limits, Parts};
pub use cache::{CacheFacts, SharedFacts};
use key_metrics::KeyMetrics;
pub use key_metrics::{Level, Status};

/// How old the components of `/health` may be, and the readings of the machine everywhere.
const FRESH: Duration = Duration::from_secs(1);

/// Where the daemon is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// Not everything runs yet.
    Starting,
    /// Takes calls.
    Ready,
    /// Finishes the calls in flight and takes no new ones.
    Draining,
}

/// The daemon's phase, shared by all who ask for it or move it on.
#[derive(Debug)]
pub struct Lifecycle(AtomicU8);

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// At the start.
    pub const fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on to `phase`; a phase that has passed does not return: a start that completes during
    /// a drain does not make the daemon ready. Returns whether this call moved it.
    pub fn advance(&self, phase: Phase) -> bool {
        self.0.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() == Phase::Draining
    }
}

/// Something whose threads must keep turning.
struct Plane {
    name: &'static str,
    wedged: Arc<dyn Fn() -> bool + Send + Sync>,
}

type ReadCache = Box<dyn Fn() -> CacheFacts + Send + Sync>;

/// The part of `/health` that is kept for [`FRESH`].
struct Summary {
    made: Instant,
    phase: Phase,
    status: Status,
    reasons: Vec<String>,
    components: Box<RawValue>,
}

/// Answers for health, on the API plane and the ops plane alike.
pub struct Health {
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    system: system::System,
    /// By coordinator.
    limits: BTreeMap<&'static str, Limits>,
    demo: bool,
    store: OnceLock<Arc<Store>>,
    cache: OnceLock<ReadCache>,
    planes: Mutex<Vec<Plane>>,
    summary: Mutex<Option<Arc<Summary>>>,
}

/// `/health`
#[derive(Serialize)]
struct Body<'a> {
    status: Status,
    timestamp: String,
    version: &'static str,
    uptime_seconds: f64,
    in_flight: i64,
    queued: i64,
    /// Why it is not healthy.
    reasons: &'a [String],
    components: &'a RawValue,
}

/// `/health/detailed`
#[derive(Serialize)]
struct Detailed<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    phase: Phase,
    /// Whether answers come from the built-in simulator because `--demo` asked for it.
    demo: bool,
    coordinators: Vec<CoordinatorRow>,
    monitored_coordinators: Vec<&'static str>,
    key_metrics: KeyMetrics,
    /// What the cache has saved since the start.
    cache_saved: cache::Saved,
}

/// `/health/live`
#[derive(Serialize)]
struct Live {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wedged: Vec<&'static str>,
}

/// `/health/ready`
#[derive(Serialize)]
struct Ready {
    status: &'static str,
    reasons: Vec<&'static str>,
}

impl Health {
    /// Health of a daemon with this configuration. Takes the first readings of the machine, so that
    /// no front thread has to.
    pub fn new(
        config: &CheckedConfig,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
    ) -> Arc<Self> {
        let limits = config.coordinators.values().map(|coordinator| {
            let limits = Limits {
                max_concurrent: coordinator.max_concurrent.get(),
                queue_size: coordinator.queue_size,
            };
            (thread::intern(&coordinator.name), limits)
        });
        Arc::new(Self {
            system: system::System::new(config.state_dir.clone(), &metrics),
            limits: limits.collect(),
            metrics,
            lifecycle,
            demo: config.demo,
            store: OnceLock::new(),
            cache: OnceLock::new(),
            planes: Mutex::new("health.planes", Vec::new()),
            summary: Mutex::new("health.summary", None),
        })
    }

    /// The daemon's phase.
    pub const fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.lifecycle
    }

    /// Adds a plane to what `/health/live` watches. `wedged` says whether a thread of it has not
    /// come back to its loop for too long; it is asked on a front thread and must not block.
    pub fn watch(&self, plane: &'static str, wedged: impl Fn() -> bool + Send + Sync + 'static) {
        self.planes.lock().push(Plane {
            name: plane,
            wedged: Arc::new(wedged),
        });
    }

    /// Adds the component `database`, once.
    pub fn show_store(&self, store: Arc<Store>) {
        let _ = self.store.set(store);
    }

    /// Adds the component `cache.response`, once. `facts` must not block.
    pub fn show_cache(&self, facts: impl Fn() -> CacheFacts + Send + Sync + 'static) {
        let _ = self.cache.set(Box::new(facts));
    }

    /// The status and JSON body for a path without query; `None` if it is not one of health's.
    pub fn answer(&self, path: &str) -> Option<(u16, Vec<u8>)> {
        match path {
            "/health" => Some(self.summary_answer()),
            "/health/live" => Some(self.live_answer()),
            "/health/ready" => Some(self.ready_answer()),
            "/health/detailed" => Some(self.detailed_answer()),
            _ => None,
        }
    }

    fn live_answer(&self) -> (u16, Vec<u8>) {
        let planes: Vec<_> = {
            let planes = self.planes.lock();
            let copy = |plane: &Plane| (plane.name, Arc::clone(&plane.wedged));
            planes.iter().map(copy).collect()
        };
        let wedged: Vec<_> = planes
            .into_iter()
            .filter_map(|(name, wedged)| wedged().then_some(name))
            .collect();
        let (status, word) = match wedged.is_empty() {
            true => (200, "alive"),
            false => (503, "wedged"),
        };
        let body = Live {
            status: word,
            wedged,
        };
        (status, json(&body))
    }

    fn ready_answer(&self) -> (u16, Vec<u8>) {
        let reason = match self.lifecycle.phase() {
            Phase::Starting => Some("starting: not every part runs yet"),
            Phase::Draining => Some("draining: finishing the calls in flight"),
            Phase::Ready => None,
        };
        let (status, word) = match reason {
            None => (200, "ready"),
            Some(_) => (503, "not_ready"),
        };
        let body = Ready {
            status: word,
            reasons: reason.into_iter().collect(),
        };
        (status, json(&body))
    }

    fn summary_answer(&self) -> (u16, Vec<u8>) {
        let summary = self.summary();
        let body = self.body(summary.status, &summary.reasons, &summary.components);
        (summary.status.http(), json(&body))
    }

    fn detailed_answer(&self) -> (u16, Vec<u8>) {
        let assessment = self.assess(self.lifecycle.phase());
        let components = raw(&assessment.components);
        let body = Detailed {
            body: self.body(assessment.status, &assessment.reasons, &components),
            phase: self.lifecycle.phase(),
            demo: self.demo,
            monitored_coordinators: assessment.coordinators.iter().map(|c| c.name).collect(),
            coordinators: assessment.coordinators,
            key_metrics: assessment.key_metrics,
            cache_saved: cache::Saved::of(&self.metrics),
        };
        (assessment.status.http(), json(&body))
    }

    fn body<'a>(
        &self,
        status: Status,
        reasons: &'a [String],
        components: &'a RawValue,
    ) -> Body<'a> {
        let (mut in_flight, mut queued) = (0, 0);
        for coordinator in self.metrics.coordinators() {
            in_flight += coordinator.in_flight.get();
            queued += coordinator.queue_depth.get();
        }
        Body {
            status,
            timestamp: Utc::now().rfc3339().to_string(),
            version: VERSION,
            uptime_seconds: round(self.metrics.uptime().as_secs_f64()),
            in_flight,
            queued,
            reasons,
            components,
        }
    }

    /// The components and their roll-up, at most [`FRESH`] old and never of another phase.
    fn summary(&self) -> Arc<Summary> {
        let phase = self.lifecycle.phase();
        let kept = self.summary.lock().clone();
        if let Some(kept) = kept
            && kept.phase == phase
            && kept.made.elapsed() < FRESH
        {
            return kept;
        }
        let assessment = self.assess(phase);
        let summary = Arc::new(Summary {
            made: Instant::now(),
            phase,
            status: assessment.status,
            reasons: assessment.reasons,
            components: raw(&assessment.components),
        });
        *self.summary.lock() = Some(Arc::clone(&summary));
        summary
    }

    fn assess(&self, phase: Phase) -> Assessment {
        let reading = self.system.reading(&self.metrics);
        let store = self.store.get().map(Arc::as_ref);
        let cache = self.cache.get().map(|facts| facts());
        let parts = Parts { store, cache };
        assess::assess(&self.metrics, phase, &self.limits, &reading, &parts)
    }
}

/// Three decimals: microseconds of what is in milliseconds, and no tail of binary digits.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The bodies hold nothing that JSON cannot: their maps have string keys. If one ever does not
/// encode, the answer says so and is still JSON.
fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_else(|error| {
        log::error!("a health answer could not be encoded: {error}");
        br#"{"status":"unknown"}"#.to_vec()
    })
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|error| {
        log::error!("health components could not be encoded: {error}");
        RawValue::NULL.to_owned()
    })
}

#[cfg(test)]
mod tests;
