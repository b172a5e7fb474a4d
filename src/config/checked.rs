//! What holds after the checks: types that carry their preconditions.
//!
//! Nothing here can be built from an invalid file. The rest of the program reads only these
//! types; `config::raw` never leaves `config/`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// A value that must not be shown: its `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct CheckedConfig {
    pub server: Server,
    pub ops: Ops,
    pub admin: Admin,
    /// Where the daemon keeps its own files; exists and is writable.
    pub state_dir: PathBuf,
    pub auth: Auth,
    /// By name, in the order of the names.
    pub providers: BTreeMap<String, Provider>,
    /// What a client may ask for by name.
    pub models: BTreeMap<String, Route>,
    pub cache: Cache,
    /// Every coordinator, the two built-in ones included, overrides applied.
    pub coordinators: BTreeMap<String, Coordinator>,
    pub database: Database,
    pub metrics: Metrics,
    pub logging: Logging,
    /// Warnings to log at start: what holds but deserves a word (keys whose capability is not
    /// built yet, `python:`, a provider timeout not below the coordinator's, fallbacks taken).
    pub warnings: Vec<String>,
    /// Whether `--demo` was asked for: the in-process simulator is a provider.
    pub demo: bool,
}

/// `server`: the API plane.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub max_connections: NonZeroUsize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    /// `max_body_mb` in bytes (mebibytes).
    pub max_body_bytes: usize,
    pub drain_timeout: Duration,
    /// How long a caller waits for a stream before each comment; zero for none.
    pub keep_alive_comment: Duration,
    /// Serve `/metrics` on the API port too.
    pub expose_metrics: bool,
}

/// `ops`: metrics and health for scrapers.
#[derive(Clone, Debug)]
pub struct Ops {
    pub listen: SocketAddr,
}

/// `admin`: the unix socket.
#[derive(Clone, Debug)]
pub struct Admin {
    pub socket: PathBuf,
}

/// `auth`: the keys that callers may use; empty means no key is asked for (loopback only).
#[derive(Clone, Debug)]
pub struct Auth {
    pub keys: Vec<Secret>,
}

/// Which protocol a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Anthropic,
    Openai,
    /// In process, no socket: `victor serve --demo`, or configured.
    Simulator,
}

impl Kind {
    /// The name used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Simulator => "simulator",
        }
    }
}

/// How a provider is given its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY` (Anthropic)
    XApiKey,
    /// `api-key: KEY` (Azure)
    ApiKey,
}

/// One of `providers`.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub kind: Kind,
    /// Without a trailing slash; `http` or `https`; no credentials, query or fragment.
    /// Empty for the simulator.
    pub base_url: String,
    /// Used in turn, all different; empty: no key is sent.
    pub api_keys: Vec<Secret>,
    pub key_header: KeyHeader,
    /// Model ids that a bare name finds; may be empty.
    pub models: Vec<String>,
    /// One attempt of a plain call.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub first_token_timeout: Duration,
    pub idle_timeout: Duration,
    /// Calls (and so connections) at a time.
    pub max_connections: NonZeroUsize,
    /// Whether fewer than `max_connections` are used while the provider cannot bear that many.
    pub adaptive: bool,
    pub keepalive: bool,
    pub rate_limit: Option<RateLimit>,
    pub batching: Option<Batching>,
    /// What its models cost, by its own names for them.
    pub prices: BTreeMap<String, Price>,
    pub breaker: Breaker,
    pub ca_file: Option<PathBuf>,
    /// `http://host:port`; may hold credentials.
    pub proxy: Option<Secret>,
    pub speech: Speech,
}

impl Provider {
    /// The key for those that know of one only.
    pub fn first_key(&self) -> Option<&Secret> {
        self.api_keys.first()
    }
}

/// What a provider's server understands of its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech {
    /// Of kind openai: whether it has `POST /v1/responses` itself. Calls to it are passed through
    /// then; otherwise they are translated into chat completions.
    pub responses: bool,
    /// Of kind anthropic: `max_tokens` where a caller of another dialect gave none.
    pub default_max_tokens: u64,
    pub structured_output: StructuredOutput,
    /// Of kind anthropic: whether its models take `temperature`, `top_p` and `top_k` from callers of
    /// another dialect. Anthropic's own since Opus 4.6 refuse them.
    pub sampling: bool,
}

impl Speech {
    /// What holds for a kind where nothing is written. `is_vendor`: the vendor's own server.
    pub const fn of(kind: Kind, is_vendor: bool) -> Self {
        Self {
            responses: is_vendor && matches!(kind, Kind::Openai),
            default_max_tokens: 8192,
            structured_output: if is_vendor {
                StructuredOutput::Native
            } else {
                StructuredOutput::Tool
            },
            sampling: !is_vendor,
        }
    }
}

/// Of kind anthropic: how a caller of another dialect gets the JSON that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructuredOutput {
    /// By the dialect's own `output_config.format`.
    Native,
    /// By making the model call a tool whose arguments are the answer.
    Tool,
}

impl StructuredOutput {
    /// The name used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tool => "tool",
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Above 0.
    pub requests_per_second: f64,
    pub burst: NonZeroU32,
}

/// Batching of embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    pub size: NonZeroUsize,
    pub timeout: Duration,
}

/// A circuit breaker's thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub failures: NonZeroU32,
    pub window: Duration,
    pub open_for: Duration,
}

/// One of `models`: who serves it, and what is done about a slow or broken answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// In order of preference, never empty.
    pub targets: Vec<Target>,
    /// A call without a first byte for so long is sent to another target too; `None`: never.
    pub hedge_after: Option<Duration>,
    /// From 0 to 1: at most this share of the route's calls is sent twice.
    pub hedge_share: f64,
    /// How long the beginning of a stream is held back, so that a failure within it shows to nobody.
    pub hold_first: Duration,
    pub on_cut: OnCut,
}

impl Route {
    /// `hedge_share` where none is written.
    pub const HEDGE_SHARE: f64 = 0.05;

    /// The route over `targets` that nothing else is written about.
    pub const fn of(targets: Vec<Target>) -> Self {
        Self {
            targets,
            hedge_after: None,
            hedge_share: Self::HEDGE_SHARE,
            hold_first: Duration::ZERO,
            on_cut: OnCut::Error,
        }
    }
}

/// `models.*.on_cut`: what becomes of a stream whose provider fails after the client has seen some
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCut {
    /// An error event ends it.
    Error,
    /// Another target is asked, and its answer follows from its beginning.
    Restart,
}

impl OnCut {
    /// The name used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Restart => "restart",
        }
    }
}

/// One place that can serve a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A key of [`CheckedConfig::providers`].
    pub provider: String,
    /// The provider's own name for the model.
    pub model: String,
    /// Its share of the calls among the targets of its rank.
    pub weight: NonZeroU32,
    /// 0 for those that are asked first; never falls along a route, nor leaves a number out.
    pub rank: u32,
    /// Tokens that question and answer may have together. `None`, here and below: not known, and
    /// taken to fit.
    pub context_tokens: Option<u64>,
    /// Whether it serves calls that offer tools.
    pub tools: Option<bool>,
    /// Whether it serves calls that hold images.
    pub images: Option<bool>,
    /// Whether it serves streamed calls.
    pub streaming: Option<bool>,
}

/// `providers.*.prices.*`, in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of the question.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
}

impl Price {
    /// What so many tokens cost, in dollars.
    pub fn of(&self, input: u64, output: u64) -> f64 {
        (input as f64 * self.input + output as f64 * self.output) / 1e6
    }
}

/// `cache.eviction_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    Lru,
    Lfu,
    Fifo,
}

impl EvictionPolicy {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Fifo => "fifo",
        }
    }
}

/// `cache`.
#[derive(Clone, Debug)]
pub struct Cache {
    pub enabled: bool,
    pub max_size_bytes: usize,
    pub default_ttl: Duration,
    pub warm_on_startup: bool,
    pub warm_items: usize,
    pub eviction_policy: EvictionPolicy,
    pub enable_coalescing: bool,
    pub coalescing_window: Duration,
    /// How far apart the cache is saved for the next start.
    pub snapshot_interval: Duration,
    /// Whether callers with different keys share answers.
    pub shared_between_keys: bool,
    /// `None`: nothing is shared with other instances.
    pub redis: Option<SharedCache>,
}

/// `cache.redis`: a server of Redis' protocol where answers are shared with other instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCache {
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
    /// The number of the database.
    pub db: u32,
    /// The user of an access control list; `None`: the server's default one.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// What one operation may take of a call, connecting included.
    pub timeout: Duration,
    /// Before every key; 1 to 64 printable ASCII characters.
    pub key_prefix: String,
    /// At least 2: the writing thread has one of them.
    pub max_connections: NonZeroUsize,
}

/// One coordinator with its overrides applied.
#[derive(Clone, Debug)]
pub struct Coordinator {
    pub name: String,
    pub max_concurrent: NonZeroUsize,
    /// Calls that may wait beyond those that run; 0 means none.
    pub queue_size: usize,
    pub timeout: Duration,
    pub history_limit: usize,
    pub retry: Retry,
    /// What the coordinator's own name stands for as a model.
    pub default_model: Option<String>,
    /// Refuse a call of which something would be lost in translation.
    pub strict: bool,
    /// How long its answers may be given again; `None`: `cache.default_ttl`.
    pub cache_ttl: Option<Duration>,
    /// Whether an answer is given again that another draw would have made another.
    pub cache_sampled: bool,
}

/// `coordinators.retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub max_attempts: NonZeroU32,
    pub backoff: Duration,
    pub exponential_backoff: bool,
}

/// `database`.
#[derive(Clone, Debug)]
pub struct Database {
    /// Absolute; a relative path in the file is under the state folder.
    pub path: PathBuf,
    pub log_queries: bool,
    /// A stored response that was not used for this long is gone; zero stores none.
    pub responses_ttl: Duration,
    /// What stored responses may hold together; zero stores none.
    pub responses_max_bytes: usize,
}

/// `metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// From 0 to 1: the share of calls whose durations are observed.
    pub sample_rate: f64,
    pub aggregate_histograms: bool,
}

/// `logging.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// `logging`.
#[derive(Clone, Debug)]
pub struct Logging {
    pub level: log::LevelFilter,
    pub format: LogFormat,
    /// `None`: stderr.
    pub file: Option<PathBuf>,
}
