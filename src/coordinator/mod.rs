//! Coordinators: named bulkheads that run calls.
//!
//! A coordinator has its own workers, queue, deadline and statistics, so a slow one can use up
//! only its own. [`Coordinator::submit`] is where a call comes in from a front thread; from there
//! read `call.rs` (what waits), `pool.rs` (how it waits) and `stages.rs` (what a worker does
//! with it). Nothing here knows HTTP framing or opens a socket.

pub mod answers;
mod attempts;
mod batch;
pub mod call;
pub mod caller;
mod cast;
pub mod chat;
mod clears;
pub mod embedding;
mod evictions;
mod flight;
mod follower;
mod hedge;
pub mod itinerary;
mod keep_alive;
mod lead;
mod ledger;
mod memo;
mod needs;
pub mod passage;
mod pause;
pub mod pool;
mod ready;
pub mod registry;
mod relay;
mod replay;
mod shared;
mod stages;
mod terms;
mod told;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use self::answers::{Answers, On};
use self::batch::Batcher;
use self::call::Call;
use self::caller::Caller;
use self::pool::{Full, Gauges, Pool, PoolOptions};
use crate::cache::Owner;
use crate::compute::Compute;
use crate::config::checked;
use crate::metrics::{CoordinatorMetrics, Metrics, Rejection};
use crate::store::Store;
use crate::thread;
use crate::wire::errors::{ApiError, Kind};

pub use self::registry::Registry;

/// A call that a worker has may answer this much after its deadline; then the front thread
/// cancels what it waits for. Calls that still wait get their 504 then.
const DEADLINE_GRACE: Duration = Duration::from_millis(100);
/// A thread's name has 15 bytes: this many for the coordinator, the others for a number.
const PREFIX_BYTES_MAX: usize = 10;

/// A named bulkhead.
pub struct Coordinator {
    name: &'static str,
    config: checked::Coordinator,
    metrics: Arc<CoordinatorMetrics>,
    process: Arc<Metrics>,
    store: Arc<Store>,
    answers: Arc<Answers>,
    /// Who it is to the cache.
    owner: Owner,
    /// Workers that wait for the answers of other instances.
    waiting_for_others: AtomicUsize,
    compute: Arc<Compute>,
    batcher: Batcher,
    /// How long a caller waits for a stream before each comment; zero for none.
    keep_alive_comment: Duration,
    pool: Pool<Call>,
}

impl Coordinator {
    /// Starts a coordinator and its first workers.
    ///
    /// # Errors
    /// The threads cannot be had.
    pub fn start(
        config: checked::Coordinator,
        process: &Arc<Metrics>,
        store: &Arc<Store>,
        answers: &Arc<Answers>,
        compute: &Arc<Compute>,
        keep_alive_comment: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let name = thread::intern(&config.name);
        let metrics = process.coordinator(name);
        let options = PoolOptions {
            prefix: prefix(name),
            group: name,
            max_concurrent: config.max_concurrent.get(),
            queue_size: config.queue_size,
            gauges: Gauges {
                waiting: Arc::clone(&metrics.queue_depth),
                running: Arc::clone(&metrics.in_flight),
                workers: Arc::clone(&metrics.workers),
            },
        };
        let pool = Pool::start(options, stages::run)?;
        metrics.up.set(1);
        let process = Arc::clone(process);
        Ok(Arc::new(Self {
            name,
            config,
            metrics,
            process,
            store: Arc::clone(store),
            answers: Arc::clone(answers),
            owner: answers.cache().owner(name),
            waiting_for_others: AtomicUsize::new(0),
            compute: Arc::clone(compute),
            batcher: Batcher::new(),
            keep_alive_comment,
            pool,
        }))
    }

    /// The name, as in the configuration.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What was configured.
    pub const fn config(&self) -> &checked::Coordinator {
        &self.config
    }

    /// Where responses are kept for later calls.
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The answers that calls share.
    pub const fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// Where long computations are shared out.
    pub const fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    /// Its counters.
    pub fn metrics(&self) -> &CoordinatorMetrics {
        &self.metrics
    }

    /// Its pool, for what the pool knows of itself.
    pub const fn pool(&self) -> &Pool<Call> {
        &self.pool
    }

    /// Answers a call from the cache, has it wait for the answer to an equal one or for others that
    /// it can be merged with, or queues it for a worker; or answers it at once with 503 and
    /// `retry-after`.
    pub fn submit(self: &Arc<Self>, call: Box<Call>) {
        let mut call = match call.decoded {
            None => call,
            Some(_) => match self.answers.consult(call, On::Front) {
                Some(call) => call,
                None => return,
            },
        };
        if call.caller.alone().is_some() {
            call.keep_alive();
            call.expire_by_itself();
        }
        if let Some(call) = self.batcher.offer(call) {
            self.queue(call);
        }
    }

    /// Queues a call for a worker, or answers it at once with 503 and `retry-after`.
    fn queue(&self, call: Box<Call>) {
        let submitted = self.pool.submit(call, |ticket, call| {
            call.caller.cancel().attach(Arc::clone(ticket) as _);
        });
        if let Err(Full(call)) = submitted {
            let error = ApiError::new(
                Kind::Overloaded,
                format!(
                    "{} has {} calls running and {} waiting, as many as it may; try again later",
                    self.name, self.config.max_concurrent, self.config.queue_size
                ),
            )
            .code("queue_full");
            let retry_after = self.pool.retry_after();
            if let Caller::Batch(batch) = &call.caller {
                batch.refuse(&error, retry_after);
                return;
            }
            self.metrics.reject(Rejection::QueueFull);
            call.reject(&error, retry_after);
        }
    }

    /// The daemon drains: the calls that are here go on, and wait for no others.
    pub fn drain(&self) {
        self.metrics.up.set(0);
        self.batcher.hurry();
    }

    /// Waits until no call is inside, at most until `deadline`. Returns whether none is.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        self.pool.wait_empty(deadline)
    }

    /// Ends the workers once their calls are done.
    pub fn stop(&self) {
        self.metrics.up.set(0);
        self.pool.stop();
    }
}

/// The start of the workers' names: `ChatCoordinator` has `chat-0`.
fn prefix(name: &str) -> String {
    let short = name
        .strip_suffix("Coordinator")
        .filter(|short| !short.is_empty());
    let short = short.unwrap_or(name).to_ascii_lowercase();
    short.chars().take(PREFIX_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_names_are_short() {
        for (name, expected) in [
            ("ChatCoordinator", "chat"),
            ("Coordinator", "coordinato"),
            ("nightly-summaries", "nightly-su"),
        ] {
            assert_eq!(prefix(name), expected);
        }
    }
}
