//! What is counted for each coordinator.
//!
//! The pool keeps the [`CoordinatorMetrics`] of its coordinator and calls
//! [`CoordinatorMetrics::settle`] once for each execution, before the last byte of its answer is
//! written, so that whoever has an answer finds it counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use super::cache::{self, CacheMetrics, Cached};
use super::registry::{Counter, Family, FloatCounter, Gauge, Histogram, Registry};
use super::window::{Event, View, Window};
use super::{Clock, LATENCY_BOUNDS};

/// Why a coordinator did not run a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Rejection {
    /// Every worker is busy and the queue is full.
    QueueFull,
    /// The daemon is shutting down.
    Draining,
    /// The call's deadline passed while it waited in the queue.
    DeadlineInQueue,
    /// The client left while its call waited in the queue.
    ClientGoneInQueue,
}

impl Rejection {
    const ALL: [Self; 4] = [
        Self::QueueFull,
        Self::Draining,
        Self::DeadlineInQueue,
        Self::ClientGoneInQueue,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Draining => "draining",
            Self::DeadlineInQueue => "deadline_in_queue",
            Self::ClientGoneInQueue => "client_gone_in_queue",
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whether a worker had the call: one that was turned away is an execution that failed, but
    /// says nothing about durations.
    pub ran: bool,
    /// Whether it counts in `errors_total`. A client's abort does not.
    pub error: bool,
    /// The whole call: queue, provider, last byte.
    pub duration: Duration,
    /// From the call's arrival to its first event, of a stream that came so far.
    pub first_event: Option<Duration>,
    /// Whether the caller asked for a stream.
    pub streamed: bool,
    /// How it met the cache.
    pub cached: Cached,
}

impl Settled {
    /// What alerts and key metrics call latency: to the first event of a stream, the whole of a
    /// plain call.
    fn latency(&self) -> Duration {
        match self.first_event {
            Some(first_event) if self.streamed => first_event,
            _ => self.duration,
        }
    }
}

/// The families with a label `coordinator`.
pub(super) struct Families {
    executions: Family<Counter, 1>,
    errors: Family<Counter, 1>,
    duration_sum: Family<FloatCounter, 1>,
    rejected: Family<Counter, 2>,
    queue_depth: Family<Gauge, 1>,
    in_flight: Family<Gauge, 1>,
    workers: Family<Gauge, 1>,
    up: Family<Gauge, 1>,
    histograms: Histograms,
    cache: cache::Families,
    clock: Clock,
    sample_rate: f64,
}

/// `metrics.aggregate_histograms` decides which.
enum Histograms {
    ByCoordinator {
        duration: Family<Histogram, 1>,
        first_event: Family<Histogram, 1>,
    },
    Aggregate {
        duration: Arc<Histogram>,
        first_event: Arc<Histogram>,
    },
}

impl Histograms {
    fn new(registry: &Registry, aggregate: bool) -> Self {
        const DURATION: (&str, &str) = (
            "victor_coordinator_duration_seconds",
            "Duration of whole calls, thinned by metrics.sample_rate.",
        );
        const FIRST_EVENT: (&str, &str) = (
            "victor_coordinator_time_to_first_token_seconds",
            "Time to the first event of streamed calls, thinned by metrics.sample_rate.",
        );
        if aggregate {
            let one = |(name, help)| registry.histograms(name, help, [], LATENCY_BOUNDS).with([]);
            return Self::Aggregate {
                duration: one(DURATION),
                first_event: one(FIRST_EVENT),
            };
        }
        let each = |(name, help)| registry.histograms(name, help, ["coordinator"], LATENCY_BOUNDS);
        Self::ByCoordinator {
            duration: each(DURATION),
            first_event: each(FIRST_EVENT),
        }
    }

    /// The histograms of `name`: duration, and time to first event.
    fn of(&self, name: &str) -> (Arc<Histogram>, Arc<Histogram>) {
        match self {
            Self::ByCoordinator {
                duration,
                first_event,
            } => (duration.with([name]), first_event.with([name])),
            Self::Aggregate {
                duration,
                first_event,
            } => (Arc::clone(duration), Arc::clone(first_event)),
        }
    }
}

impl Families {
    pub(super) fn new(
        registry: &Registry,
        config: &crate::config::checked::Metrics,
        clock: Clock,
    ) -> Self {
        let counter = |name, help| registry.family(name, help, ["coordinator"]);
        let gauge = |name, help| registry.family(name, help, ["coordinator"]);
        Self {
            executions: counter(
                "victor_coordinator_executions_total",
                "Calls that reached the coordinator and have ended.",
            ),
            errors: counter(
                "victor_coordinator_errors_total",
                "Executions that failed: 5xx, 429, 408, a refused provider key or a broken stream, \
                 not what the caller did wrong.",
            ),
            duration_sum: registry.family(
                "victor_coordinator_duration_seconds_total",
                "Sum of the durations of all executions.",
                ["coordinator"],
            ),
            rejected: registry.family(
                "victor_coordinator_rejected_total",
                "Calls that the coordinator did not run, by reason.",
                ["coordinator", "reason"],
            ),
            queue_depth: gauge(
                "victor_coordinator_queue_depth",
                "Calls that wait for a worker.",
            ),
            in_flight: gauge(
                "victor_coordinator_in_flight",
                "Calls that a worker runs now.",
            ),
            workers: gauge("victor_coordinator_workers", "Worker threads."),
            up: gauge(
                "victor_coordinator_up",
                "Whether the coordinator takes calls: 1 or 0.",
            ),
            histograms: Histograms::new(registry, config.aggregate_histograms),
            cache: cache::Families::new(registry, clock),
            clock,
            sample_rate: config.sample_rate,
        }
    }

    pub(super) fn coordinator(&self, name: &'static str) -> CoordinatorMetrics {
        let (duration, first_event) = self.histograms.of(name);
        CoordinatorMetrics {
            name,
            executions: self.executions.with([name]),
            errors: self.errors.with([name]),
            duration_sum: self.duration_sum.with([name]),
            rejected: Rejection::ALL.map(|reason| self.rejected.with([name, reason.as_str()])),
            queue_depth: self.queue_depth.with([name]),
            in_flight: self.in_flight.with([name]),
            workers: self.workers.with([name]),
            up: self.up.with([name]),
            accounted_bytes: Arc::default(),
            duration,
            first_event,
            cache: self.cache.coordinator(name),
            window: Window::new(),
            consecutive_failures: AtomicU32::new(0),
            clock: self.clock,
            sample_rate: self.sample_rate,
        }
    }
}

/// One coordinator's counters, gauges, histograms and window. Everything is an atomic.
pub struct CoordinatorMetrics {
    name: &'static str,
    executions: Arc<Counter>,
    errors: Arc<Counter>,
    duration_sum: Arc<FloatCounter>,
    rejected: [Arc<Counter>; Rejection::ALL.len()],
    /// Calls in the queue.
    pub queue_depth: Arc<Gauge>,
    /// Calls that a worker runs.
    pub in_flight: Arc<Gauge>,
    /// Worker threads.
    pub workers: Arc<Gauge>,
    /// 1 while the pool takes calls, else 0.
    pub up: Arc<Gauge>,
    /// Bytes of bodies and answers in flight; see [`Accounted`]. Shown as
    /// `victor_coordinator_memory_bytes` by [`super::Metrics`], which reads it once for that and
    /// for the areas that it has to add up with.
    pub accounted_bytes: Arc<Gauge>,
    duration: Arc<Histogram>,
    first_event: Arc<Histogram>,
    /// How its calls met the cache.
    pub cache: CacheMetrics,
    window: Window,
    consecutive_failures: AtomicU32,
    clock: Clock,
    sample_rate: f64,
}

impl CoordinatorMetrics {
    /// The coordinator's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Counts an execution that has ended, in every counter, histogram and window at once.
    pub fn settle(&self, outcome: &Settled) {
        self.executions.increment();
        self.duration_sum.add(outcome.duration);
        let now = self.clock.now();
        self.cache.count(outcome.cached, now);
        if outcome.error {
            self.errors.increment();
            if outcome.ran {
                self.consecutive_failures.fetch_add(1, Ordering::Relaxed);
            }
        } else if self.consecutive_failures.load(Ordering::Relaxed) != 0 {
            self.consecutive_failures.store(0, Ordering::Relaxed);
        }
        if outcome.ran && (self.sample_rate >= 1.0 || fastrand::f64() < self.sample_rate) {
            self.duration.observe(outcome.duration);
            if let Some(first_event) = outcome.first_event {
                self.first_event.observe(first_event);
            }
        }
        let event = Event {
            error: outcome.error,
            latency: outcome.ran.then(|| outcome.latency()),
        };
        self.window.record(now, event);
    }

    /// Counts a call that was not run.
    pub fn reject(&self, reason: Rejection) {
        self.rejected[reason as usize].increment();
    }

    /// Executions so far.
    pub fn executions(&self) -> u64 {
        self.executions.get()
    }

    /// Executions so far that failed.
    pub fn errors(&self) -> u64 {
        self.errors.get()
    }

    /// Calls that were not run so far, whatever the reason.
    pub fn rejections(&self) -> u64 {
        self.rejected.iter().map(|counter| counter.get()).sum()
    }

    /// Executions that failed since the last that did not.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.load(Ordering::Relaxed)
    }

    /// The last five minutes.
    pub fn view(&self) -> View {
        self.window.view(self.clock.now())
    }
}

/// Bytes charged to a coordinator until this is dropped.
pub struct Accounted {
    gauge: Arc<Gauge>,
    bytes: AtomicI64,
}

impl Accounted {
    /// Charges nothing yet.
    pub fn new(coordinator: &CoordinatorMetrics) -> Self {
        Self {
            gauge: Arc::clone(&coordinator.accounted_bytes),
            bytes: AtomicI64::new(0),
        }
    }

    /// Charges `bytes` more.
    pub fn add(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.add(bytes);
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        self.gauge.add(-self.bytes.load(Ordering::Relaxed));
    }
}
