//! What the daemon counts and measures, and how it is shown.
//!
//! Whoever moves a value resolves its series once, keeps the `Arc`, and then touches only atomics:
//! [`Metrics::coordinator`] for a pool, [`Metrics::provider`] for a provider. What belongs to
//! somebody else is read when somebody looks ([`Metrics::collect`]); nothing here ticks. No label
//! is free text. Start at [`Metrics`]; [`registry`] holds the families, [`window`] the last five
//! minutes that health and the rates are made of.

mod cache;
mod coordinator;
mod cpu;
mod http;
pub mod metric;
mod process;
mod provider;
pub mod registry;
mod shared;
pub mod text;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::CheckedConfig;
use crate::procfs::Stat;
use crate::sync::{Mutex, RwLock};
use crate::thread;

pub use cache::{CacheMetrics, Cached, Lookups, Saved};
pub use coordinator::{Accounted, CoordinatorMetrics, Rejection, Settled};
pub use cpu::Share;
pub use http::Route;
pub use provider::{Outcome, Permits, ProviderMetrics, ProviderShared, Standing, Token};
pub use registry::Collector;
use registry::{Collect, Counter, Gathered, OTHER, Registry};
pub use shared::{SharedCacheMetrics, SharedOperation, SharedOutcome};
use window::View;

/// Upper bounds of every latency histogram in seconds, to the default deadline of a call. Cached
/// and simulated answers take less than a millisecond, so there are buckets for them too.
pub const LATENCY_BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0,
    120.0,
];
/// Models of one provider that have a series of their own; further ones are `other`.
const MODELS_MAX: usize = 24;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it was built from, as the build was told.
pub const REVISION: &str = match option_env!("VICTOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The time since the process' metrics began; what windows are told.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// Something that happened to the daemon, `victor_analytics_events_total{event}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// A configuration took effect.
    ConfigLoaded,
    /// The daemon is ready for calls.
    Ready,
    /// A drain began.
    DrainStarted,
    /// The log file was opened again.
    LogReopened,
    /// A thread dump was written.
    ThreadDump,
}

impl Event {
    const ALL: [Self; 5] = [
        Self::ConfigLoaded,
        Self::Ready,
        Self::DrainStarted,
        Self::LogReopened,
        Self::ThreadDump,
    ];

    /// The value of the label `event`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigLoaded => "config_loaded",
            Self::Ready => "ready",
            Self::DrainStarted => "drain_started",
            Self::LogReopened => "log_reopened",
            Self::ThreadDump => "thread_dump",
        }
    }
}

/// One provider with those of its models that have a series.
struct Models {
    shared: Arc<ProviderShared>,
    models: BTreeMap<&'static str, Arc<ProviderMetrics>>,
}

type Account = (&'static str, Arc<dyn Fn() -> u64 + Send + Sync>);

/// Every metric of the process; there is one, behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    clock: Clock,
    coordinator_families: coordinator::Families,
    coordinators: RwLock<BTreeMap<&'static str, Arc<CoordinatorMetrics>>>,
    provider_families: provider::Families,
    providers: RwLock<BTreeMap<&'static str, Models>>,
    requests: http::Requests,
    shared_cache: shared::Families,
    events: [Arc<Counter>; Event::ALL.len()],
    accounts: Mutex<Vec<Account>>,
    group_cpu: cpu::GroupCpu,
    process_cpu: cpu::ProcessCpu,
}

impl Metrics {
    /// Every family, with the series of the configured coordinators, providers and models.
    pub fn new(config: &CheckedConfig) -> Arc<Self> {
        let registry = Registry::new();
        let clock = Clock(Instant::now());
        let events = registry.family(
            "victor_analytics_events_total",
            "What happened to the daemon.",
            ["event"],
        );
        let metrics = Self {
            coordinator_families: coordinator::Families::new(&registry, &config.metrics, clock),
            coordinators: RwLock::new("metrics.coordinators", BTreeMap::new()),
            provider_families: provider::Families::new(&registry, clock),
            providers: RwLock::new("metrics.providers", BTreeMap::new()),
            requests: http::Requests::new(&registry),
            shared_cache: shared::Families::new(&registry),
            events: Event::ALL.map(|event| events.with([event.as_str()])),
            accounts: Mutex::new("metrics.accounts", Vec::new()),
            group_cpu: cpu::GroupCpu::new(),
            process_cpu: cpu::ProcessCpu::new(),
            registry,
            clock,
        };
        for name in config.coordinators.keys() {
            metrics.coordinator(name);
        }
        for (name, provider) in &config.providers {
            let permits = i64::try_from(provider.max_connections.get()).unwrap_or(i64::MAX);
            metrics.provider_shared(name).permits_max.set(permits);
            for model in &provider.models {
                metrics.admit_model(name, model);
            }
        }
        for target in config.models.values().flat_map(|route| &route.targets) {
            metrics.admit_model(&target.provider, &target.model);
        }
        Arc::new(metrics)
    }

    /// The metrics of a configured coordinator, for its pool to keep.
    pub fn coordinator(&self, name: &str) -> Arc<CoordinatorMetrics> {
        if let Some(known) = self.coordinators.read().get(name) {
            return Arc::clone(known);
        }
        let name = thread::intern(name);
        // Made outside the lock: making it takes the families' locks.
        let new = Arc::new(self.coordinator_families.coordinator(name));
        self.coordinators
            .write(|all| Arc::clone(all.entry(name).or_insert(new)))
    }

    /// Every coordinator, by name.
    pub fn coordinators(&self) -> Vec<Arc<CoordinatorMetrics>> {
        self.coordinators.read().values().cloned().collect()
    }

    /// What the models of a configured provider share.
    pub fn provider_shared(&self, provider: &str) -> Arc<ProviderShared> {
        if let Some(known) = self.providers.read().get(provider) {
            return Arc::clone(&known.shared);
        }
        let name = thread::intern(provider);
        let shared = Arc::new(self.provider_families.provider(name));
        let other = Arc::new(self.provider_families.model(Arc::clone(&shared), OTHER));
        self.providers.write(|all| {
            let models = BTreeMap::from([(OTHER, other)]);
            let entry = all.entry(name).or_insert(Models { shared, models });
            Arc::clone(&entry.shared)
        })
    }

    /// Every provider, by name.
    pub fn providers(&self) -> Vec<Arc<ProviderShared>> {
        let providers = self.providers.read();
        providers.values().map(|p| Arc::clone(&p.shared)).collect()
    }

    /// The metrics of a model of a configured provider. A model that was not admitted is counted
    /// as `other`. A look-up in two small maps; may be kept for a model of the configuration.
    pub fn provider(&self, provider: &str, model: &str) -> Arc<ProviderMetrics> {
        let find = || {
            let providers = self.providers.read();
            let models = &providers.get(provider)?.models;
            models.get(model).or_else(|| models.get(OTHER)).cloned()
        };
        find().unwrap_or_else(|| {
            let shared = self.provider_shared(provider);
            find().unwrap_or_else(|| Arc::new(self.provider_families.model(shared, OTHER)))
        })
    }

    /// Gives a model of a configured provider series of its own, up to a bound: the configuration
    /// names it, or the provider has just answered for it.
    pub fn admit_model(&self, provider: &str, model: &str) {
        let shared = self.provider_shared(provider);
        let is_wanted =
            |models: &BTreeMap<_, _>| !models.contains_key(model) && models.len() <= MODELS_MAX;
        let wanted = |all: &BTreeMap<_, Models>| {
            all.get(provider)
                .is_some_and(|known| is_wanted(&known.models))
        };
        if !wanted(&self.providers.read()) {
            return;
        }
        let model = thread::intern(model);
        let new = Arc::new(self.provider_families.model(shared, model));
        self.providers.write(|all| {
            if let Some(known) = all.get_mut(provider) {
                known.models.entry(model).or_insert(new);
            }
        });
    }

    /// What is counted of the cache that instances share; nothing of it shows before this is called.
    pub fn shared_cache(&self) -> Arc<SharedCacheMetrics> {
        Arc::new(self.shared_cache.series())
    }

    /// Counts an answer of the API plane.
    pub fn http(&self, route: Route, status: u16) {
        self.requests.count(route, status);
    }

    /// Counts an event.
    pub fn event(&self, event: Event) {
        self.events[event as usize].increment();
    }

    /// Adds a source of values that are read when somebody looks. It must not block.
    pub fn collect(&self, collect: Collect) {
        self.registry.collect(collect);
    }

    /// Adds a part of the heap that somebody keeps count of, in bytes, as an area of
    /// `victor_memory_bytes`.
    pub fn account(&self, area: &'static str, bytes: Box<dyn Fn() -> u64 + Send + Sync>) {
        self.accounts.lock().push((area, Arc::from(bytes)));
    }

    /// For how long the metrics have been kept: the process' uptime.
    pub fn uptime(&self) -> Duration {
        self.clock.now()
    }

    /// The last five minutes of all coordinators together.
    pub fn view(&self) -> View {
        let mut all = View::empty(self.clock.now());
        for coordinator in self.coordinators() {
            all.add(&coordinator.view());
        }
        all
    }

    /// The lookups in the cache of all coordinators together, over the last five minutes.
    pub fn lookups(&self) -> Lookups {
        let mut all = Lookups::empty(self.clock.now());
        for coordinator in self.coordinators() {
            all.add(&coordinator.cache.view());
        }
        all
    }

    /// The process' share of the machine's processors, given its time so far.
    pub fn process_cpu(&self, cpu_seconds: f64) -> Share {
        self.process_cpu.share(self.clock.now(), cpu_seconds)
    }

    /// Every family with its samples, as of now. Reads a file for each worker thread: for scrapes,
    /// not for calls.
    pub fn gather(&self) -> Vec<Gathered> {
        self.registry.gather(&|collector| {
            self.collect_summary(collector);
            self.collect_cpu(collector);
            if let Some(stat) = Stat::of_process() {
                process::collect_process(collector, &stat);
                self.collect_memory(collector, stat.resident_bytes);
            }
        })
    }

    /// Every metric in the text format; see [`text::CONTENT_TYPE`].
    pub fn render(&self) -> String {
        text::render(&self.gather())
    }

    /// What is said about the daemon as a whole, without a coordinator.
    fn collect_summary(&self, collector: &mut Collector) {
        let coordinators = self.coordinators();
        for coordinator in &coordinators {
            cache::collect_hit_rate(collector, coordinator.name(), &coordinator.cache);
        }
        let view = self.view();
        let mut gauge = |name, help, value: f64| collector.gauge(name, help, &[], value);
        if let Some(rate) = view.error_rate() {
            gauge(
                "victor_coordinator_error_rate",
                "Share of executions that failed, over 5 minutes; absent without executions.",
                rate,
            );
        }
        gauge(
            "victor_coordinator_throughput",
            "Executions a second, over 5 minutes.",
            view.throughput(),
        );
        gauge(
            "victor_coordinator_uptime_seconds",
            "How long the daemon has been up.",
            self.uptime().as_secs_f64(),
        );
        gauge(
            "victor_coordinator_total_executions",
            "Executions of all coordinators since the start.",
            coordinators.iter().map(|c| c.executions()).sum::<u64>() as f64,
        );
        gauge(
            "victor_coordinator_active_coordinators",
            "Coordinators that take calls.",
            coordinators.iter().filter(|c| c.up.get() > 0).count() as f64,
        );
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        gauge(
            "victor_scrape_timestamp_seconds",
            "When these values were read, in seconds since 1970.",
            unix.unwrap_or_default().as_secs_f64(),
        );
        collector.gauge(
            "victor_build_info",
            "Version and revision of the program; always 1.",
            &[("version", VERSION), ("revision", REVISION)],
            1.0,
        );
    }

    /// Each coordinator's share of the machine; 0 for one whose workers did not start yet.
    fn collect_cpu(&self, collector: &mut Collector) {
        let shares = self.group_cpu.read(self.clock.now());
        for coordinator in self.coordinators() {
            let share = shares.get(coordinator.name());
            collector.gauge(
                "victor_coordinator_cpu_percent",
                "Processor share of the coordinator's own threads over at least 10 s; 100 is \
                 every core of the machine.",
                &[("coordinator", coordinator.name())],
                share.map_or(0.0, |share| share.percent),
            );
        }
    }

    /// Where the resident memory is.
    fn collect_memory(&self, collector: &mut Collector, resident_bytes: u64) {
        let mut coordinators_bytes = 0;
        for coordinator in self.coordinators() {
            let bytes = u64::try_from(coordinator.accounted_bytes.get()).unwrap_or(0);
            coordinators_bytes += bytes;
            collector.gauge(
                "victor_coordinator_memory_bytes",
                "Bytes accounted to the coordinator: bodies and answers of its calls in flight.",
                &[("coordinator", coordinator.name())],
                bytes as f64,
            );
        }
        let accounts = self.accounts.lock().clone();
        let accounts: Vec<_> = accounts
            .iter()
            .map(|(area, read)| (*area, read()))
            .collect();
        let heap = process::Heap::read();
        for (area, bytes) in process::areas(resident_bytes, coordinators_bytes, heap, &accounts) {
            collector.gauge(
                "victor_memory_bytes",
                "Resident memory by area; with victor_coordinator_memory_bytes it adds up to \
                 process_resident_memory_bytes.",
                &[("area", area)],
                bytes as f64,
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
