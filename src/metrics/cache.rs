//! What is counted of the cache for each coordinator: how its calls met it, and what that saved.
//!
//! What the cache holds and evicts is its own to count; it is read when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use super::registry::{Counter, Family, FloatCounter, Registry};
use super::window::{Event, View, Window};
use super::{Clock, Collector};

/// How a call met the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cached {
    /// It was not looked up.
    #[default]
    Bypass,
    /// It was answered from the cache.
    Hit,
    /// It was not there, and a provider was asked.
    Miss,
    /// Its caller wanted a fresh answer, and a provider was asked. To the caller it is a miss.
    Refresh,
    /// It shared the answer of an equal call that was under way.
    Coalesced,
}

impl Cached {
    /// The value of `x-victor-cache` and of the log's `cache`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Hit => "hit",
            Self::Miss | Self::Refresh => "miss",
            Self::Coalesced => "coalesced",
        }
    }
}

/// What a call would have cost had it been asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saved {
    /// Tokens of the question.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// By the provider's configured prices; 0 where it has none.
    pub dollars: f64,
    /// What the answer took its provider.
    pub time: Duration,
}

/// The families.
pub(super) struct Families {
    hits: Family<Counter, 1>,
    misses: Family<Counter, 1>,
    coalesced: Family<Counter, 1>,
    bypassed: Family<Counter, 1>,
    tokens: Family<Counter, 2>,
    seconds: Family<FloatCounter, 1>,
    dollars: Family<FloatCounter, 1>,
    clock: Clock,
}

impl Families {
    pub(super) fn new(registry: &Registry, clock: Clock) -> Self {
        let counter = |name, help| registry.family(name, help, ["coordinator"]);
        let float = |name, help| registry.family(name, help, ["coordinator"]);
        Self {
            hits: counter(
                "victor_coordinator_cache_hits_total",
                "Calls that were answered from the cache.",
            ),
            misses: counter(
                "victor_coordinator_cache_misses_total",
                "Calls that were looked up in the cache and sent to a provider.",
            ),
            coalesced: counter(
                "victor_cache_coalesced_total",
                "Calls that shared the answer of an equal call that was under way.",
            ),
            bypassed: counter(
                "victor_cache_bypass_total",
                "Executions that were none for the cache: switched off, not to be stored, of a kind that \
                 is never kept, or turned away.",
            ),
            tokens: registry.family(
                "victor_cache_saved_tokens_total",
                "Tokens of answers that were given without asking a provider, by type.",
                ["coordinator", "type"],
            ),
            seconds: float(
                "victor_cache_saved_seconds_total",
                "What answers had taken their providers that were given without asking them.",
            ),
            dollars: float(
                "victor_cache_saved_dollars_total",
                "What they would have cost by the providers' configured prices.",
            ),
            clock,
        }
    }

    pub(super) fn coordinator(&self, name: &'static str) -> CacheMetrics {
        CacheMetrics {
            hits: self.hits.with([name]),
            misses: self.misses.with([name]),
            coalesced: self.coalesced.with([name]),
            bypassed: self.bypassed.with([name]),
            tokens: ["input", "output"].map(|kind| self.tokens.with([name, kind])),
            seconds: self.seconds.with([name]),
            dollars: self.dollars.with([name]),
            lookups: Window::of_counts(),
            clock: self.clock,
        }
    }
}

/// One coordinator's counters.
pub struct CacheMetrics {
    hits: Arc<Counter>,
    misses: Arc<Counter>,
    coalesced: Arc<Counter>,
    bypassed: Arc<Counter>,
    tokens: [Arc<Counter>; 2],
    seconds: Arc<FloatCounter>,
    dollars: Arc<FloatCounter>,
    /// Hits are what a window calls errors.
    lookups: Window,
    clock: Clock,
}

impl CacheMetrics {
    /// Counts how a call met the cache; `now` is the time since the process started.
    pub(super) fn count(&self, cached: Cached, now: Duration) {
        match cached {
            Cached::Bypass => self.bypassed.increment(),
            Cached::Refresh => {}
            Cached::Hit => self.look_up(&self.hits, true, now),
            Cached::Miss => self.look_up(&self.misses, false, now),
            Cached::Coalesced => self.coalesced.increment(),
        }
    }

    fn look_up(&self, counter: &Counter, is_hit: bool, now: Duration) {
        counter.increment();
        let event = Event {
            error: is_hit,
            latency: None,
        };
        self.lookups.record(now, event);
    }

    /// Adds what an answer saved that was given without asking a provider.
    pub fn save(&self, saved: &Saved) {
        self.tokens[0].add(saved.input_tokens);
        self.tokens[1].add(saved.output_tokens);
        self.seconds.add(saved.time);
        self.dollars.add_amount(saved.dollars);
    }

    /// Calls answered from the cache so far.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Calls looked up in vain so far.
    pub fn misses(&self) -> u64 {
        self.misses.get()
    }

    /// Calls that shared another's answer so far.
    pub fn coalesced(&self) -> u64 {
        self.coalesced.get()
    }

    /// What was saved so far: seconds and dollars.
    pub fn saved(&self) -> (f64, f64) {
        (self.seconds.seconds(), self.dollars.seconds())
    }

    /// The lookups of the last five minutes.
    pub fn view(&self) -> Lookups {
        Lookups(self.lookups.view(self.clock.now()))
    }
}

/// Lookups of a window.
#[derive(Clone, Debug)]
pub struct Lookups(View);

impl Lookups {
    /// None, in the window that ends at `now`.
    pub(super) fn empty(now: Duration) -> Self {
        Self(View::empty(now))
    }

    /// How many.
    pub const fn count(&self) -> u64 {
        self.0.count
    }

    /// The share of hits, from 0 to 1; `None` without lookups.
    pub fn hit_rate(&self) -> Option<f64> {
        self.0.error_rate()
    }

    /// Adds those of another coordinator.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }
}

/// Shows a coordinator's hit rate, if it has any.
pub(super) fn collect_hit_rate(collector: &mut Collector, name: &'static str, own: &CacheMetrics) {
    if let Some(rate) = own.view().hit_rate() {
        collector.gauge(
            "victor_coordinator_cache_hit_rate",
            "Share of the coordinator's lookups in the cache that were hits, over 5 minutes; absent \
             without lookups.",
            &[("coordinator", name)],
            rate,
        );
    }
}
