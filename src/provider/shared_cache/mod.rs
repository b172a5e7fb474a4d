//! The cache that instances share: a server of Redis' protocol behind the cache of this process.
//!
//! It is there to save time and must never cost more than its time-out: whatever it does, a call
//! goes on without it. Looking up and claiming have one deadline each, over waiting for a connection,
//! connecting, sending and reading. Writing is left to a thread. One failure and it is left alone
//! for a while ([`standing`]); it is found again by itself. For worker threads: looking up blocks.
//!
//! The client is ours: the `redis` crate bounds each read but not an exchange, and not what a reply
//! may hold.
//!
//! Start at [`SharedCache::get`]; then `client` (asking once), `link` (the socket and its deadline),
//! `resp` (the protocol), `writer` (the thread), `claim` (one call for all instances).

mod claim;
mod client;
mod link;
mod pool;
mod resp;
mod standing;
mod status;
mod writer;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};

pub use claim::{Claim, Token};
pub use resp::VALUE_BYTES_MAX;
pub use status::{Report, Standing};

use crate::config::checked;
use crate::metrics::{Metrics, SharedOperation, SharedOutcome};
use crate::sync::Mutex;
use crate::thread::{self, Handle, Role};
use client::{Answered, Client, Kind};
use link::Fault;
use resp::{Reply, command};
use writer::{Job, Writer};

/// Writes that may wait for the thread, and what they may hold together.
const QUEUE_ITEMS_MAX: usize = 1024;
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Places in the queue beyond those, for giving claims back.
const RELEASES_MAX: usize = 1024;
/// The longest time for which anything is kept at the server.
const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// At the end the thread is waited for as long as this: it may be looking a name up.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(3);

/// What looking up has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The value that was put, or whatever another writer has put under this key.
    Hit(Vec<u8>),
    /// The server has none.
    Miss,
    /// The server was not asked, or did not answer in time.
    Unavailable,
}

/// The shared cache. One of a process, behind an `Arc`.
pub struct SharedCache {
    client: Arc<Client>,
    /// Tells this process' claims from all others'.
    instance: u64,
    claims: AtomicU64,
    thread: Mutex<Option<Running>>,
}

struct Running {
    stop: Sender<Infallible>,
    done: Receiver<Infallible>,
    handle: Handle,
}

impl SharedCache {
    /// Starts the thread, which connects. That nobody answers is no error.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn new(config: &checked::SharedCache, metrics: &Metrics) -> io::Result<Arc<Self>> {
        let (jobs, work) = channel::bounded(QUEUE_ITEMS_MAX + RELEASES_MAX);
        let client = Arc::new(Client::new(config, metrics, jobs));
        let queued = Arc::downgrade(&client);
        let queued = move || {
            let client = queued.upgrade();
            client.map_or(0, |it| it.queued_bytes.load(Ordering::Relaxed) as u64)
        };
        metrics.account("shared_cache_queue", Box::new(queued));
        let (stop, stopped) = channel::bounded(0);
        let (tell_done, done) = channel::bounded(0);
        let writer = Writer::new(Arc::clone(&client));
        let handle = thread::spawn("shared-cache", Role::Cache, move || {
            writer.run(&work, &stopped, tell_done);
            Ok(())
        })?;
        let running = Running { stop, done, handle };
        Ok(Arc::new(Self {
            client,
            // Seeded by the system.
            instance: RandomState::new().hash_one(std::process::id()),
            claims: AtomicU64::new(0),
            thread: Mutex::new("shared_cache.thread", Some(running)),
        }))
    }

    /// Looks `key` up. Takes `timeout_ms` at most, and hardly anything while the server is left
    /// alone. The value is as long as [`VALUE_BYTES_MAX`] at most, and as trustworthy as everybody
    /// who can write to the server.
    pub fn get(&self, key: &[u8; 32]) -> Found {
        let start = Instant::now();
        let client = &self.client;
        let mut commands = Vec::new();
        command(&mut commands, &[b"GET", &client.name(Kind::Answer, key)]);
        let (found, outcome) = match client.ask(&commands, client.deadline(start)) {
            Ok(Answered { replies, epoch }) => match replies {
                [Reply::Bulk(value)] => (Found::Hit(value), SharedOutcome::Hit),
                [Reply::Nil] => (Found::Miss, SharedOutcome::Miss),
                // Somebody else's key under our prefix says nothing about the server.
                [Reply::Error(code)] if code == "WRONGTYPE" => (Found::Miss, SharedOutcome::Error),
                [other] => {
                    client.failed(epoch, &unexpected(other));
                    (Found::Unavailable, SharedOutcome::Error)
                }
            },
            Err(outcome) => (Found::Unavailable, outcome),
        };
        client.settle(SharedOperation::Get, outcome, start);
        found
    }

    /// Puts `value` under `key` for `ttl`, soon: queues a copy and does not wait. What is too large,
    /// does not fit into the queue or finds nobody to take it is dropped, and counted. A `ttl` under
    /// a millisecond puts nothing.
    pub fn put(&self, key: &[u8; 32], value: &[u8], ttl: Duration) {
        let start = Instant::now();
        if let Some(outcome) = self.queue(key, value, ttl, start) {
            self.client.settle(SharedOperation::Put, outcome, start);
        }
    }

    /// Why it was not queued.
    fn queue(
        &self,
        key: &[u8; 32],
        value: &[u8],
        ttl: Duration,
        now: Instant,
    ) -> Option<SharedOutcome> {
        let client = &self.client;
        let ms = ttl.min(TTL_MAX).as_millis();
        if ms == 0 {
            return None;
        }
        if value.len() > VALUE_BYTES_MAX {
            return Some(SharedOutcome::TooLarge);
        }
        if client.admit(now).is_none() {
            return Some(SharedOutcome::Unavailable);
        }
        let mut write = Vec::new();
        let name = client.name(Kind::Answer, key);
        let ms = ms.to_string();
        command(&mut write, &[b"SET", &name, value, b"PX", ms.as_bytes()]);
        let bytes = write.len();
        let is_full = client.jobs.len() >= QUEUE_ITEMS_MAX;
        if is_full || !client.reserve(bytes, QUEUE_BYTES_MAX) {
            return Some(SharedOutcome::Dropped);
        }
        if client.jobs.try_send(Job::Write(write)).is_err() {
            client.unreserve(bytes);
            return Some(SharedOutcome::Dropped);
        }
        None
    }

    /// How it is doing, for health. Does not ask the server.
    pub fn report(&self) -> Report {
        self.client.status.report()
    }

    /// What the writes in the queue hold, in bytes.
    pub fn queued_bytes(&self) -> usize {
        self.client.queued_bytes.load(Ordering::Relaxed)
    }

    /// Writes what is queued, for a second at most, and ends the thread. What is put after this is
    /// dropped.
    pub fn shutdown(&self) {
        let running = self.thread.lock().take();
        let Some(Running { stop, done, handle }) = running else {
            return;
        };
        drop(stop);
        let ended = done.recv_timeout(JOIN_WAIT_MAX);
        // Otherwise it looks a name up, which nothing can end; the process' end ends it.
        if ended == Err(channel::RecvTimeoutError::Disconnected) {
            handle.join();
        }
    }

    /// A text that no other claim has, of this process or of another.
    fn unique(&self) -> String {
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{number:016x}", self.instance)
    }
}

impl Drop for SharedCache {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A reply that does not belong to the command.
fn unexpected(reply: Reply) -> Fault {
    match reply {
        Reply::Error(code) => Fault::Refused(code),
        _ => Fault::Malformed(resp::Malformed::Kind),
    }
}
