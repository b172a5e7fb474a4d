//! What is counted for each provider and each of its models.
//!
//! Model names come from callers, so they are free text until somebody vouches for them: a model
//! that the configuration names has its own series from the start, another one is `other` until
//! the provider has answered for it ([`super::Metrics::admit_model`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::registry::{Counter, Family, Gauge, Histogram, OTHER, Registry};
use super::window::{Event, View, Window};
use super::{Clock, LATENCY_BOUNDS};

/// How one request to a provider ended. Closed: each has one label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// A complete answer.
    Ok,
    /// The provider refused what the caller asked for (4xx).
    CallerFault,
    /// The provider asks for patience (429).
    RateLimited,
    /// The provider refused the key that we hold for it (401, 403).
    KeyRefused,
    /// The provider failed (5xx).
    ServerError,
    /// No answer, or no further byte, in time.
    Timeout,
    /// No connection: name, TCP or TLS.
    Connect,
    /// The connection was reset before the answer began.
    Reset,
    /// The answer ended before it was complete.
    Cut,
    /// The answer could not be read as what it should be.
    Malformed,
    /// We gave up: the client left, the deadline passed, the daemon ends.
    Cancelled,
}

/// Which side an outcome tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The provider did its part.
    None,
    /// The provider failed.
    Provider,
    /// It says nothing about the provider's health.
    Neither,
}

impl Outcome {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::CallerFault,
        Self::RateLimited,
        Self::KeyRefused,
        Self::ServerError,
        Self::Timeout,
        Self::Connect,
        Self::Reset,
        Self::Cut,
        Self::Malformed,
        Self::Cancelled,
    ];

    /// The value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CallerFault => "caller_fault",
            Self::RateLimited => "rate_limited",
            Self::KeyRefused => "key_refused",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::Cancelled => "cancelled",
        }
    }

    const fn blame(self) -> Blame {
        match self {
            Self::Ok | Self::CallerFault => Blame::None,
            Self::RateLimited | Self::Cancelled => Blame::Neither,
            Self::KeyRefused
            | Self::ServerError
            | Self::Timeout
            | Self::Connect
            | Self::Reset
            | Self::Cut
            | Self::Malformed => Blame::Provider,
        }
    }
}

/// What a provider charges for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Token {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    Reasoning,
}

impl Token {
    const ALL: [Self; 5] = [
        Self::Input,
        Self::Output,
        Self::CacheRead,
        Self::CacheWrite,
        Self::Reasoning,
    ];

    /// The value of the label `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::Reasoning => "reasoning",
        }
    }
}

/// The families with a label `provider`.
pub(super) struct Families {
    requests: Family<Counter, 3>,
    duration: Family<Histogram, 2>,
    tokens: Family<Counter, 3>,
    rate_limited: Family<Counter, 2>,
    retries: Family<Counter, 2>,
    failovers: Family<Counter, 2>,
    hedges: Family<Counter, 2>,
    left_out: Family<Counter, 1>,
    batches: Family<Counter, 1>,
    batched_calls: Family<Counter, 1>,
    permits_in_use: Family<Gauge, 1>,
    permits_max: Family<Gauge, 1>,
    permits_waiting: Family<Gauge, 1>,
    clock: Clock,
}

impl Families {
    pub(super) fn new(registry: &Registry, clock: Clock) -> Self {
        let by_provider = |name, help| registry.family(name, help, ["provider"]);
        Self {
            requests: registry.family(
                "victor_provider_requests_total",
                "Requests sent to the provider, by how they ended.",
                ["provider", "model", "outcome"],
            ),
            duration: registry.histograms(
                "victor_provider_duration_seconds",
                "Duration of requests to the provider, to the last byte.",
                ["provider", "model"],
                LATENCY_BOUNDS,
            ),
            tokens: registry.family(
                "victor_provider_tokens_total",
                "Tokens as the provider counted them.",
                ["provider", "model", "type"],
            ),
            rate_limited: registry.family(
                "victor_provider_rate_limited_total",
                "Requests held back by a rate limit; by=\"them\" is the provider's own (429).",
                ["provider", "by"],
            ),
            retries: registry.family(
                "victor_provider_retries_total",
                "Attempts that were made again at the same model, by why the one before failed.",
                ["provider", "reason"],
            ),
            failovers: registry.family(
                "victor_provider_failovers_total",
                "Calls that went on to another target of their route, by whom they left and why.",
                ["provider", "reason"],
            ),
            hedges: registry.family(
                "victor_provider_hedges_total",
                "Second requests sent because a first one was slow, by which of the two answered.",
                ["provider", "outcome"],
            ),
            left_out: by_provider(
                "victor_provider_malformed_events_total",
                "Events of streams that were left out because they could not be read.",
            ),
            batches: by_provider(
                "victor_provider_batches_total",
                "Requests to a provider with batching that answered one embedding call or several.",
            ),
            batched_calls: by_provider(
                "victor_provider_batched_calls_total",
                "Embedding calls that were answered by those requests.",
            ),
            permits_in_use: registry.family(
                "victor_provider_permits_in_use",
                "Calls that hold one of the provider's permits.",
                ["provider"],
            ),
            permits_max: registry.family(
                "victor_provider_permits_max",
                "Permits of the provider: its max_connections.",
                ["provider"],
            ),
            permits_waiting: registry.family(
                "victor_provider_permits_waiting",
                "Calls that wait for one of the provider's permits.",
                ["provider"],
            ),
            clock,
        }
    }

    pub(super) fn provider(&self, name: &'static str) -> ProviderShared {
        ProviderShared {
            name,
            permits_in_use: self.permits_in_use.with([name]),
            read_permits: OnceLock::new(),
            read_standing: OnceLock::new(),
            permits_max: self.permits_max.with([name]),
            permits_waiting: self.permits_waiting.with([name]),
            rate_limited: self.rate_limited.with([name, "them"]),
            held_back: self.rate_limited.with([name, "us"]),
            retries: self.retries.clone(),
            failovers: self.failovers.clone(),
            hedges: self.hedges.clone(),
            left_out: self.left_out.with([name]),
            batches: self.batches.with([name]),
            batched_calls: self.batched_calls.with([name]),
            window: Window::new(),
            rate_limited_window: Window::of_counts(),
            consecutive_failures: AtomicU32::new(0),
            clock: self.clock,
        }
    }

    pub(super) fn model(
        &self,
        provider: Arc<ProviderShared>,
        model: &'static str,
    ) -> ProviderMetrics {
        let metrics = ProviderMetrics {
            duration: self.duration.clone(),
            duration_of_model: OnceLock::new(),
            requests: self.requests.clone(),
            by_outcome: Default::default(),
            tokens: self.tokens.clone(),
            by_token: Default::default(),
            model,
            provider,
        };
        if model != OTHER {
            // So that the first call is seen as an increase.
            metrics.requests(Outcome::Ok);
            metrics.duration();
        }
        metrics
    }
}

/// How many calls hold a permit of a provider, and how many wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// Calls that hold one.
    pub in_use: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

type ReadPermits = dyn Fn() -> Permits + Send + Sync;

/// What a provider has learnt from its calls, for those who look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Each model's circuit breaker: `closed`, `half_open` or `open`.
    pub breakers: Vec<(Box<str>, &'static str)>,
    /// Each key, in the order of the configuration: `usable`, `resting`, `on_trial` or `retired`.
    pub keys: Vec<&'static str>,
    /// Calls at a time that it is found to bear, where that adapts.
    pub adaptive_limit: Option<usize>,
}

type ReadStanding = dyn Fn() -> Standing + Send + Sync;

/// What all models of one provider share.
pub struct ProviderShared {
    name: &'static str,
    /// Calls that hold a permit, and calls that wait for one.
    read_permits: OnceLock<Box<ReadPermits>>,
    read_standing: OnceLock<Box<ReadStanding>>,
    permits_in_use: Arc<Gauge>,
    /// How many permits there are.
    pub permits_max: Arc<Gauge>,
    permits_waiting: Arc<Gauge>,
    rate_limited: Arc<Counter>,
    held_back: Arc<Counter>,
    retries: Family<Counter, 2>,
    failovers: Family<Counter, 2>,
    hedges: Family<Counter, 2>,
    left_out: Arc<Counter>,
    batches: Arc<Counter>,
    batched_calls: Arc<Counter>,
    window: Window,
    /// How many of the requests in `window` met the provider's rate limit, as its errors.
    rate_limited_window: Window,
    consecutive_failures: AtomicU32,
    clock: Clock,
}

impl ProviderShared {
    /// The provider's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Says where the permits are counted; the first who says so is believed.
    pub fn count_permits(&self, read: impl Fn() -> Permits + Send + Sync + 'static) {
        let _ = self.read_permits.set(Box::new(read));
    }

    /// Says where the provider's standing is known; the first who says so is believed.
    pub fn show_standing(&self, read: impl Fn() -> Standing + Send + Sync + 'static) {
        let _ = self.read_standing.set(Box::new(read));
    }

    /// The provider's standing as it is now.
    pub fn standing(&self) -> Standing {
        let read = self.read_standing.get();
        read.map_or_else(Standing::default, |read| read())
    }

    /// The permits as they are now. The gauges follow, for they are nothing but this as last read.
    pub fn permits(&self) -> Permits {
        let permits = self
            .read_permits
            .get()
            .map_or_else(Permits::default, |it| it());
        self.permits_in_use.set(permits.in_use as i64);
        self.permits_waiting.set(permits.waiting as i64);
        permits
    }

    /// The last five minutes: requests that tell about the provider, its own faults as errors.
    pub fn view(&self) -> View {
        self.window.view(self.clock.now())
    }

    /// The last five minutes of requests that were answered at all, those met by the provider's
    /// rate limit as errors.
    pub fn rate_limited_view(&self) -> View {
        self.rate_limited_window.view(self.clock.now())
    }

    /// The provider's faults since it last did its part.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.load(Ordering::Relaxed)
    }

    /// Counts an attempt that is made again.
    pub fn retried(&self, reason: &'static str) {
        self.retries.with([self.name, reason]).increment();
    }

    /// Counts a call that goes on to somebody else.
    pub fn failed_over(&self, reason: &'static str) {
        self.failovers.with([self.name, reason]).increment();
    }

    /// Counts a second request beside a slow one; `outcome`: `won` or `lost`.
    pub fn hedged(&self, outcome: &'static str) {
        self.hedges.with([self.name, outcome]).increment();
    }

    /// Counts a request that our rate limit held back.
    pub fn held_back(&self) {
        self.held_back.increment();
    }

    /// Counts events that were left out.
    pub fn left_out(&self, events: u64) {
        self.left_out.add(events);
    }

    /// Counts a request that answered so many calls.
    pub fn merged(&self, calls: u64) {
        self.batches.increment();
        self.batched_calls.add(calls);
    }

    fn settle(&self, outcome: Outcome, duration: Duration) {
        let limited = outcome == Outcome::RateLimited;
        if limited {
            self.rate_limited.increment();
        }
        let now = self.clock.now();
        let blame = outcome.blame();
        if limited || blame == Blame::None {
            let event = Event {
                error: limited,
                latency: None,
            };
            self.rate_limited_window.record(now, event);
        }
        match blame {
            Blame::Neither => return,
            Blame::None => self.consecutive_failures.store(0, Ordering::Relaxed),
            Blame::Provider => {
                self.consecutive_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        let event = Event {
            error: blame == Blame::Provider,
            latency: (outcome == Outcome::Ok).then_some(duration),
        };
        self.window.record(now, event);
    }
}

/// One model of one provider. Most series appear when they first count: ten outcomes of every
/// model would fill the families with zeros.
pub struct ProviderMetrics {
    provider: Arc<ProviderShared>,
    model: &'static str,
    duration: Family<Histogram, 2>,
    duration_of_model: OnceLock<Arc<Histogram>>,
    requests: Family<Counter, 3>,
    by_outcome: [OnceLock<Arc<Counter>>; Outcome::ALL.len()],
    tokens: Family<Counter, 3>,
    by_token: [OnceLock<Arc<Counter>>; Token::ALL.len()],
}

impl ProviderMetrics {
    /// What it shares with the provider's other models.
    pub const fn shared(&self) -> &Arc<ProviderShared> {
        &self.provider
    }

    /// Counts a request that has ended, in every counter, histogram and window at once.
    pub fn settle(&self, outcome: Outcome, duration: Duration) {
        self.requests(outcome).increment();
        self.duration().observe(duration);
        self.provider.settle(outcome, duration);
    }

    fn requests(&self, outcome: Outcome) -> &Counter {
        self.by_outcome[outcome as usize].get_or_init(|| {
            let labels = [self.provider.name, self.model, outcome.as_str()];
            self.requests.with(labels)
        })
    }

    fn duration(&self) -> &Histogram {
        let labels = [self.provider.name, self.model];
        self.duration_of_model
            .get_or_init(|| self.duration.with(labels))
    }

    /// Counts tokens of an answer.
    pub fn tokens(&self, token: Token, n: u64) {
        if n == 0 {
            return;
        }
        let counter = self.by_token[token as usize].get_or_init(|| {
            let labels = [self.provider.name, self.model, token.as_str()];
            self.tokens.with(labels)
        });
        counter.add(n);
    }
}
