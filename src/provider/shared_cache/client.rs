//! What callers and the writing thread have in common: names of keys, addresses, and asking once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;

use super::link::{Fault, Link};
use super::pool::{Place, Pool};
use super::resp::{Reply, command};
use super::standing::Admit;
use super::status::Status;
use super::writer::Job;
use crate::config::checked;
use crate::metrics::{Metrics, SharedCacheMetrics, SharedOperation, SharedOutcome};
use crate::provider::resolver::Resolver;
use crate::sync::RwLock;
use crate::thread::{self, State};

/// This part of the time-out is kept back.
const MARGIN: u32 = 20;
/// A server that has sent so much of a value within the time is no silent one.
const ALIVE_BYTES: usize = 64 << 10;

/// What a key is about.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Answer,
    Claim,
    Probe,
}

/// One server, for all who ask it.
pub(super) struct Client {
    host: String,
    port: u16,
    prefix: String,
    timeout: Duration,
    greeting: Option<(Vec<u8>, usize)>,
    resolver: Resolver,
    /// Looked up by the writing thread alone, since that cannot be interrupted.
    addresses: RwLock<Arc<[SocketAddr]>>,
    pool: Pool,
    pub status: Status,
    pub metrics: Arc<SharedCacheMetrics>,
    pub jobs: Sender<Job>,
    /// What the writes in the queue hold.
    pub queued_bytes: AtomicUsize,
}

/// What an answered question brought.
pub(super) struct Answered<const N: usize> {
    pub replies: [Reply; N],
    /// For [`Client::failed`], should the replies turn out to be none.
    pub epoch: u64,
}

impl Client {
    pub fn new(config: &checked::SharedCache, metrics: &Metrics, jobs: Sender<Job>) -> Self {
        let metrics = metrics.shared_cache();
        let literal: Option<IpAddr> = config.host.parse().ok();
        let addresses: Vec<SocketAddr> = literal
            .into_iter()
            .map(|ip| SocketAddr::new(ip, config.port))
            .collect();
        let host = match literal {
            Some(IpAddr::V6(_)) => format!("[{}]", config.host),
            _ => config.host.clone(),
        };
        let target = format!("{host}:{}/{}", config.port, config.db);
        Self {
            host: config.host.clone(),
            port: config.port,
            prefix: config.key_prefix.clone(),
            timeout: config.timeout,
            greeting: greeting(config),
            resolver: Resolver::default(),
            addresses: RwLock::new("shared_cache.addresses", addresses.into()),
            // One is the writing thread's.
            pool: Pool::new(config.max_connections.get().saturating_sub(1).max(1)),
            status: Status::new(target, Arc::clone(&metrics)),
            metrics,
            jobs,
            queued_bytes: AtomicUsize::new(0),
        }
    }

    /// When an operation that begins at `start` is given up: a little before its time is over, since
    /// a thread that is woken does not run at once.
    pub fn deadline(&self, start: Instant) -> Instant {
        start + (self.timeout - self.timeout / MARGIN)
    }

    /// The name of a key at the server.
    pub fn name(&self, kind: Kind, key: &[u8; 32]) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + 2 + 2 * key.len());
        name.extend_from_slice(self.prefix.as_bytes());
        name.extend_from_slice(match kind {
            Kind::Answer => b"a:",
            Kind::Claim => b"c:",
            Kind::Probe => b"p:",
        });
        for byte in key {
            for digit in [byte >> 4, byte & 15] {
                name.push(b"0123456789abcdef"[usize::from(digit)]);
            }
        }
        name
    }

    /// Whether the server is asked now; sees to it that a probe is sent when one is due.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        match self.status.admit(now) {
            Admit::Yes(epoch) => Some(epoch),
            Admit::No => None,
            Admit::ProbeDue => {
                if self.jobs.try_send(Job::Probe).is_err() {
                    self.status.not_probed();
                }
                None
            }
        }
    }

    /// Sends `commands` over one of the callers' connections and waits for the replies, in all at
    /// most until `until`.
    ///
    /// # Errors
    /// Why there are none; a failure of the server has been told to the breaker.
    pub fn ask<const N: usize>(
        &self,
        commands: &[u8],
        until: Instant,
    ) -> Result<Answered<N>, SharedOutcome> {
        let start = Instant::now();
        let epoch = self.admit(start).ok_or(SharedOutcome::Unavailable)?;
        thread::set_state(State::WaitingCache);
        let asked = self.ask_over(commands, until);
        thread::set_state(State::Running);
        match asked {
            None => Err(SharedOutcome::Busy),
            Some((began, Err(fault))) => {
                // Little time left for it, or much of a large value here: not its silence.
                let had = until.saturating_duration_since(began);
                let is_timeout = matches!(fault, Fault::Timeout { .. });
                let is_large =
                    matches!(fault, Fault::Timeout { received } if received >= ALIVE_BYTES);
                if is_timeout && (is_large || had < self.timeout / 2) {
                    return Err(SharedOutcome::Busy);
                }
                self.failed(epoch, &fault);
                Err(outcome(&fault))
            }
            Some((_, Ok(replies))) => {
                self.status.answered(start.elapsed());
                Ok(Answered { replies, epoch })
            }
        }
    }

    /// When the exchange began and what it brought; `None` if no connection was free in time.
    fn ask_over<const N: usize>(
        &self,
        commands: &[u8],
        until: Instant,
    ) -> Option<(Instant, Result<[Reply; N], Fault>)> {
        let mut place: Place<'_> = self.pool.take(until)?;
        let began = Instant::now();
        let known = place.link.take().filter(Link::is_fresh);
        let link = known.map_or_else(|| self.connect(until), Ok);
        let result = link.and_then(|mut link| {
            let replies = link.exchange(commands, until)?;
            place.link = Some(link);
            Ok(replies)
        });
        Some((began, result))
    }

    /// A new connection.
    ///
    /// # Errors
    /// See [`Link::open`].
    pub fn connect(&self, until: Instant) -> Result<Link, Fault> {
        let addresses = Arc::clone(&self.addresses.read());
        Link::open(&addresses, self.greeting.clone(), until)
    }

    /// Looks the name up. May take as long as the system takes for that.
    ///
    /// # Errors
    /// It has no address.
    pub fn resolve(&self) -> Result<(), Fault> {
        let found = self
            .resolver
            .addresses(&self.host, self.port, Instant::now())
            .map_err(|error| Fault::Connect(error.to_string()))?;
        self.addresses.write(|addresses| *addresses = found.into());
        Ok(())
    }

    /// Looks the name up again and gives up the idle connections.
    pub fn move_on(&self) {
        // Failing that, the known addresses are as good as they were.
        let _ = self.resolve();
        self.pool.clear();
    }

    /// Tells the breaker of a failure; if the server is left alone for it, so are the connections.
    pub fn failed(&self, epoch: u64, fault: &Fault) {
        if self.status.failed(epoch, fault) {
            self.pool.clear();
        }
    }

    /// Counts an operation that began at `start`.
    pub fn settle(&self, operation: SharedOperation, outcome: SharedOutcome, start: Instant) {
        let tried = !matches!(
            outcome,
            SharedOutcome::Unavailable | SharedOutcome::Dropped | SharedOutcome::TooLarge
        );
        let took = tried.then(|| start.elapsed());
        self.metrics.settle(operation, outcome, took);
    }

    /// Takes room in the queue for a write.
    pub fn reserve(&self, bytes: usize, most: usize) -> bool {
        let fits = |queued: usize| queued.checked_add(bytes).filter(|sum| *sum <= most);
        self.queued_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    /// Gives it back.
    pub fn unreserve(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The outcome that a failure is counted as.
pub(super) const fn outcome(fault: &Fault) -> SharedOutcome {
    match fault {
        Fault::Timeout { .. } => SharedOutcome::Timeout,
        _ => SharedOutcome::Error,
    }
}

/// The commands that introduce us, if there are any, and how many they are.
fn greeting(config: &checked::SharedCache) -> Option<(Vec<u8>, usize)> {
    let mut commands = (Vec::new(), 0);
    if let Some(password) = &config.password {
        let password = password.expose().as_bytes();
        match &config.user {
            Some(user) => command(&mut commands.0, &[b"AUTH", user.as_bytes(), password]),
            None => command(&mut commands.0, &[b"AUTH", password]),
        }
        commands.1 += 1;
    }
    if config.db != 0 {
        let db = config.db.to_string();
        command(&mut commands.0, &[b"SELECT", db.as_bytes()]);
        commands.1 += 1;
    }
    (commands.1 > 0).then_some(commands)
}
