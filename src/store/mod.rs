//! What outlives the process: a SQLite file, and the one thread that has it open.
//!
//! It holds answered responses, so that a later call can continue a conversation, and the most
//! valuable cached answers, so that a restart does not empty the cache. Everyone else leaves jobs in a bounded queue, first in, first out: what was asked for earlier is seen by
//! what is asked for later, and what waits together is written together. The database must never
//! cost a call anything but itself: a write that fails is counted and said, a file that is damaged
//! is set aside, one that cannot be opened is tried again later, and no panic ends the thread.
//! Event threads use [`Store::fetch`] and [`Store::delete`], which never block; workers may wait,
//! in [`Store::keep`] for room and in [`Store::conversation`] for the answer. What takes long, such
//! as [`Store::save_cache`], is done a little at a time between the jobs of others.
//!
//! Start at [`Store`]. `engine.rs` is the thread, `queue.rs` the way to it, `job.rs` what it is
//! asked for, `responses.rs` and `cache.rs` the tables, `schema.rs` their making, `snapshot.rs` what
//! is done with cached answers, `file.rs` the file, `status.rs` what is counted and shown. A further
//! table is a module beside `responses.rs`, a migration, and its kinds of job.

mod cache;
mod engine;
mod file;
mod job;
mod queue;
mod responses;
mod schema;
mod snapshot;
mod status;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel;

use crate::config::checked::Database;
use crate::sync::Mutex;
use crate::thread::{self, Handle, Role, State};

use engine::Engine;
use job::Job;
use queue::{Bounds, Queue, Refusal};
use responses::Limits;
pub use snapshot::{Bodies, CacheCursor, CacheMark, CachePage, CacheRow, CacheSaved};
pub use status::{Condition, Report, Stats};
use status::{Status, count};

/// What may wait for the thread. A conversation's answer is not in it: whoever asked holds that.
const QUEUE: Bounds = Bounds {
    items: 1_024,
    bytes: 128 << 20,
};
/// How long [`Store::keep`] waits for room.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the start waits for the file to be open; a slow disk must not hold up the daemon.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(1);
/// A file that could not be opened is tried again after this long, when it is asked for.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Whose a row is: a hash of the caller's key. A row is invisible to every other scope.
pub type Scope = [u8; 32];

/// An answered response, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name, unique within its scope.
    pub id: String,
    /// The response that it continues.
    pub previous: Option<String>,
    pub scope: Scope,
    /// Seconds since 1970.
    pub created: u64,
    /// JSON array text: this call's own input items.
    pub input: Vec<u8>,
    /// The response object as answered.
    pub body: Vec<u8>,
}

/// Prompts and answers are for no log.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("id", &self.id)
            .field("previous", &self.previous)
            .field("created", &self.created)
            .field("input_bytes", &self.input.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why the store did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The database cannot be opened; it is tried again later.
    Unavailable,
    /// The queue was full.
    QueueFull,
    /// The response is larger than anything that is kept.
    TooLarge,
    /// The conversation has more than 1,000 responses, or holds more than 64 MiB.
    TooLong,
    /// There was no answer before the deadline.
    Timeout,
    /// The database did not do it: a full disk, say.
    Failed,
    /// A later request took the place of this one.
    Superseded,
    /// The store is shut down.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the database is unavailable",
            Self::QueueFull => "the database's queue is full",
            Self::TooLarge => "the response is too large to be stored",
            Self::TooLong => "the conversation is too long to be continued",
            Self::Timeout => "the database did not answer in time",
            Self::Failed => "the database failed",
            Self::Superseded => "a later request took the place of this one",
            Self::Closed => "the database is closed",
        })
    }
}

impl Error for StoreError {}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::QueueFull,
            Refusal::Closed => Self::Closed,
        }
    }
}

/// Takes an answer. It runs on the store's thread and must not block.
pub type Then<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// What the thread goes by; tests choose their own.
struct Options {
    path: PathBuf,
    limits: Limits,
    queue: Bounds,
    retry_after: Duration,
    /// Further settings of the connection: a test fills the disk with them.
    settings: &'static str,
    /// Milliseconds since 1970.
    clock: Box<dyn Fn() -> i64 + Send>,
}

impl Options {
    fn of(config: &Database) -> Self {
        Self {
            path: config.path.clone(),
            limits: Limits {
                ttl_ms: i64::try_from(config.responses_ttl.as_millis()).unwrap_or(i64::MAX),
                bytes_max: config.responses_max_bytes as u64,
            },
            queue: QUEUE,
            retry_after: RETRY_AFTER,
            settings: "",
            clock: Box::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }
}

/// The store. One of a process, shared behind an `Arc`.
pub struct Store {
    queue: Arc<Queue<Job>>,
    status: Arc<Status>,
    log_queries: Arc<AtomicBool>,
    limits: Limits,
    thread: Mutex<Option<Handle>>,
}

impl Store {
    /// Starts the thread, which opens the file. That the file cannot be opened is no error: the
    /// daemon goes on without it, and [`Store::report`] says so.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn open(config: &Database) -> io::Result<Arc<Self>> {
        Self::start(Options::of(config), config.log_queries)
    }

    fn start(options: Options, log_queries: bool) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::new(options.queue));
        let status = Arc::new(Status::new());
        let log_queries = Arc::new(AtomicBool::new(log_queries));
        let limits = options.limits;
        let (tell, opened) = channel::bounded(1);
        let engine = Engine::new(
            options,
            Arc::clone(&queue),
            Arc::clone(&status),
            Arc::clone(&log_queries),
        );
        let handle = thread::spawn("store", Role::Store, move || {
            engine.run(&tell);
            Ok(())
        })?;
        // If it takes longer, it is open by the time that the first job is its turn.
        let _ = opened.recv_timeout(OPEN_WAIT_MAX);
        Ok(Arc::new(Self {
            queue,
            status,
            log_queries,
            limits,
            thread: Mutex::new("store.thread", Some(handle)),
        }))
    }

    /// Keeps a response: queues it, waiting at most a second for room. For workers. That it was
    /// queued does not promise that the disk takes it. Where nothing is to be kept it does nothing.
    ///
    /// # Errors
    /// It was not queued, and is lost; that is counted and logged here.
    pub fn keep(&self, kept: Kept) -> Result<(), StoreError> {
        if self.limits.keep_nothing() {
            return Ok(());
        }
        let bytes = responses::bytes(&kept);
        let most = self.limits.bytes_max.min(responses::CHAIN_BYTES_MAX);
        let queued = if bytes > most {
            Err(StoreError::TooLarge)
        } else {
            let deadline = Instant::now() + ROOM_WAIT_MAX;
            self.push(Job::Keep(Box::new(kept)), bytes as usize, Some(deadline))
                .map_err(|(_, error)| error)
        };
        if let Err(error) = queued {
            count(&self.status.stats.writes_dropped);
            self.status.lost(&error.to_string());
            if error == StoreError::QueueFull {
                self.status.failed("its queue is full: writes are dropped");
            }
        }
        queued
    }

    /// The conversation that ends with `id`, oldest response first, and marks all of it as used.
    /// `None` if `id` or any response before it is missing, expired or of another scope. For
    /// workers: waits for the answer.
    ///
    /// # Errors
    /// See [`StoreError`]; [`StoreError::Timeout`] once `deadline` has passed.
    pub fn conversation(
        &self,
        id: &str,
        scope: &Scope,
        deadline: Instant,
    ) -> Result<Option<Vec<Kept>>, StoreError> {
        let job = |then| Job::Conversation {
            id: id.to_owned(),
            scope: *scope,
            deadline,
            then,
        };
        self.ask(job, id.len(), deadline)
    }

    /// One response by its name, and marks it and what is before it as used; `None` as
    /// [`Store::conversation`]. For workers: waits for the answer.
    ///
    /// # Errors
    /// As [`Store::conversation`].
    pub fn response(
        &self,
        id: &str,
        scope: &Scope,
        deadline: Instant,
    ) -> Result<Option<Kept>, StoreError> {
        let job = |then| Job::Fetch {
            id: id.to_owned(),
            scope: *scope,
            then,
        };
        self.ask(job, id.len(), deadline)
    }

    /// Queues a job that holds `bytes`, and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Then<T>) -> Job,
        bytes: usize,
        deadline: Instant,
    ) -> Result<T, StoreError> {
        let (tell, told) = channel::bounded(1);
        let job = job(Box::new(move |answer| {
            // Whoever asked may have given up.
            let _ = tell.try_send(answer);
        }));
        thread::set_state(State::WaitingStore);
        let answer = match self.push(job, bytes, Some(deadline)) {
            Err((job, error)) => {
                if let Job::Task(task) = job {
                    task.drop_with(error, &self.status);
                }
                Err(match error {
                    StoreError::QueueFull => StoreError::Timeout,
                    error => error,
                })
            }
            Ok(()) => match told.recv_deadline(deadline) {
                Ok(answer) => answer,
                Err(channel::RecvTimeoutError::Timeout) => Err(StoreError::Timeout),
                Err(channel::RecvTimeoutError::Disconnected) => Err(StoreError::Failed),
            },
        };
        thread::set_state(State::Running);
        answer
    }

    /// One response by its name, and marks it and what is before it as used. For event threads:
    /// never blocks. `then` runs on the store's thread, or at once with the error if the question
    /// cannot be queued.
    pub fn fetch(&self, id: String, scope: Scope, then: Then<Option<Kept>>) {
        let bytes = id.len();
        let refused = self.push(Job::Fetch { id, scope, then }, bytes, None);
        if let Err((Job::Fetch { then, .. }, error)) = refused {
            then(Err(error));
        }
    }

    /// Removes a response; `true` if there was one to be seen. Those that continue it can no longer
    /// be continued. For event threads, as [`Store::fetch`].
    pub fn delete(&self, id: String, scope: Scope, then: Then<bool>) {
        let bytes = id.len();
        let refused = self.push(Job::Delete { id, scope, then }, bytes, None);
        if let Err((Job::Delete { then, .. }, error)) = refused {
            count(&self.status.stats.writes_dropped);
            then(Err(error));
        }
    }

    fn push(
        &self,
        job: Job,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<(), (Job, StoreError)> {
        if self.status.is_out() {
            return Err((job, StoreError::Unavailable));
        }
        self.queue
            .push(job, bytes, deadline)
            .map_err(|(job, refusal)| (job, refusal.into()))
    }

    /// Whether each statement's text is logged with its time, at info.
    pub fn set_log_queries(&self, log_queries: bool) {
        self.log_queries.store(log_queries, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn log_queries(&self) -> bool {
        self.log_queries.load(Ordering::Relaxed)
    }

    /// What it counts.
    pub fn stats(&self) -> &Stats {
        &self.status.stats
    }

    /// How it is doing.
    pub fn report(&self) -> Report {
        self.status.report()
    }

    /// How many jobs wait for the thread.
    pub fn queue_depth(&self) -> usize {
        self.queue.depth().items
    }

    /// What the jobs that wait hold, in bytes.
    pub fn queue_bytes(&self) -> usize {
        self.queue.depth().bytes
    }

    /// What the responses may hold together, in bytes; 0 where nothing is kept.
    pub const fn responses_bytes_max(&self) -> u64 {
        match self.limits.keep_nothing() {
            true => 0,
            false => self.limits.bytes_max,
        }
    }

    /// Does what is queued, closes the file, and waits for the thread to end. A save or a clear of
    /// cached answers that is not done yet is left where it is.
    pub fn shutdown(&self) {
        self.queue.close();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
