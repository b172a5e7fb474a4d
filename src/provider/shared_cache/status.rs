//! How the shared cache is doing: the breaker, and what health tells about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::link::Fault;
use super::standing::{Admit, Core};
use crate::metrics::SharedCacheMetrics;
use crate::sync::Mutex;

/// Of the latency that is told, the newest one makes up so much.
const LATENCY_SHARE: u64 = 8;

/// Whether the shared cache is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The first probe has not come back yet.
    Untried,
    /// It answered when it was last asked.
    Up,
    /// It is left alone, but for a probe now and then.
    Down,
}

/// What is known of the shared cache. Holds no secret.
#[derive(Clone, Debug)]
pub struct Report {
    /// `host:port/db`
    pub target: String,
    pub standing: Standing,
    /// For how long it has been so.
    pub since: Duration,
    /// While it is down: why.
    pub why: Option<String>,
    /// Why the server refused the last write, if it did: `OOM` where it is full. Looking up goes on.
    pub writes_refused: Option<String>,
    /// The last failure, whatever came after it, and how long ago it was.
    pub last_error: Option<(String, Duration)>,
    /// How long an answer takes, averaged over the last ones.
    pub latency: Option<Duration>,
}

/// Between two words in the log about writes that are refused: a full server may take every other
/// one.
const REFUSAL_TOLD_EVERY: Duration = Duration::from_secs(60);

struct State {
    core: Core,
    standing: Standing,
    since: Instant,
    writes_refused: Option<String>,
    refusal_told: Option<Instant>,
    last_error: Option<(String, Instant)>,
}

/// See [`Report`].
pub(super) struct Status {
    target: String,
    state: Mutex<State>,
    /// In nanoseconds; 0 for none yet. Who loses a race loses an eighth of one sample.
    latency: AtomicU64,
    metrics: Arc<SharedCacheMetrics>,
}

impl Status {
    pub fn new(target: String, metrics: Arc<SharedCacheMetrics>) -> Self {
        metrics.set_up(false);
        let now = Instant::now();
        let state = State {
            core: Core::new(now),
            standing: Standing::Untried,
            since: now,
            writes_refused: None,
            refusal_told: None,
            last_error: None,
        };
        Self {
            target,
            state: Mutex::new("shared_cache.status", state),
            latency: AtomicU64::new(0),
            metrics,
        }
    }

    /// See [`Core::admit`].
    pub fn admit(&self, now: Instant) -> Admit {
        self.state.lock().core.admit(now)
    }

    /// See [`Core::not_probed`].
    pub fn not_probed(&self) {
        self.state.lock().core.not_probed();
    }

    /// A call was answered in so much time.
    pub fn answered(&self, took: Duration) {
        let new = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let latency = match self.latency.load(Ordering::Relaxed) {
            0 => new,
            old => old - old / LATENCY_SHARE + new / LATENCY_SHARE,
        };
        self.latency.store(latency, Ordering::Relaxed);
    }

    /// An operation of that epoch failed. Returns whether the server is left alone for that.
    pub fn failed(&self, epoch: u64, fault: &Fault) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.last_error = Some((fault.to_string(), now));
        let changed = state.core.failed(epoch, now);
        if changed {
            state.standing = Standing::Down;
            state.since = now;
        }
        drop(state);
        if changed {
            self.metrics.set_up(false);
            let target = &self.target;
            log::warn!("calls go on without the shared cache at {target}: {fault}");
        }
        changed
    }

    /// A probe has ended.
    pub fn probed(&self, result: Result<(), &Fault>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Err(fault) = result {
            state.last_error = Some((fault.to_string(), now));
        }
        state.core.probed(result.is_ok(), now);
        let standing = match state.core.is_resting() {
            true => Standing::Down,
            false => Standing::Up,
        };
        let changed = standing != state.standing;
        if changed {
            state.standing = standing;
            state.since = now;
        }
        drop(state);
        if !changed {
            return;
        }
        self.metrics.set_up(standing == Standing::Up);
        let target = &self.target;
        match result {
            Ok(()) => log::info!("the shared cache at {target} answers"),
            Err(fault) => log::warn!("the shared cache at {target} does not answer: {fault}"),
        }
    }

    /// The server took a write, or refused it with that code.
    pub fn wrote(&self, refused: Option<&str>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.writes_refused.as_deref() == refused {
            return;
        }
        state.writes_refused = refused.map(str::to_owned);
        let Some(code) = refused else {
            return;
        };
        state.last_error = Some((format!("a write was refused: {code}"), now));
        let told = state.refusal_told;
        let is_news = told.is_none_or(|then| now - then >= REFUSAL_TOLD_EVERY);
        if is_news {
            state.refusal_told = Some(now);
        }
        drop(state);
        if is_news {
            let target = &self.target;
            log::warn!("the shared cache at {target} refuses a write: {code}");
        }
    }

    /// Whether it is left alone.
    pub fn is_down(&self) -> bool {
        self.state.lock().standing == Standing::Down
    }

    /// What is known.
    pub fn report(&self) -> Report {
        let now = Instant::now();
        let ago = |then: Instant| now.saturating_duration_since(then);
        let state = self.state.lock();
        let last_error = state.last_error.as_ref();
        let latency = self.latency.load(Ordering::Relaxed);
        Report {
            target: self.target.clone(),
            standing: state.standing,
            since: ago(state.since),
            why: last_error
                .filter(|_| state.standing == Standing::Down)
                .map(|(text, _)| text.clone()),
            writes_refused: state.writes_refused.clone(),
            last_error: last_error.map(|(text, then)| (text.clone(), ago(*then))),
            latency: (latency > 0).then(|| Duration::from_nanos(latency)),
        }
    }
}
