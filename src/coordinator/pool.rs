//! The bulkhead: a fixed number of workers on one bounded queue.
//!
//! At most `max_concurrent` calls run and `queue_size` wait; the next one is refused at once. A
//! call that dies while it waits (its client left, its deadline passed) gives its place up
//! immediately: what travels through the channel is a [`Ticket`], and whoever takes the job out
//! of it first owns it. A slow coordinator can fill only its own queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use crossbeam::sync::{Parker, Unparker};

use crate::metrics::metric::Gauge;
use crate::sync::{Condvar, Mutex};
use crate::thread::{self, Builder, Handle, Role, State};

/// So many workers start with the pool; the others start when they are first needed.
const WORKERS_AT_START: usize = 64;
/// Places in the channel for tickets whose job is gone already, beyond the live ones.
const DEAD_TICKETS_MAX: usize = 1024;

/// A job that waits, to be taken once: by a worker, or by whoever ends its wait.
pub struct Ticket<J> {
    job: Mutex<Option<Box<J>>>,
    shared: Arc<Shared>,
}

impl<J> Ticket<J> {
    /// Takes the job out of the queue, if it still waits.
    pub fn withdraw(&self) -> Option<Box<J>> {
        let job = self.job.lock().take();
        if job.is_some() {
            self.shared.gauges.waiting.add(-1);
            self.shared.leave();
        }
        job
    }
}

/// What the pool's threads and its callers share.
struct Shared {
    /// Calls that run or wait.
    inside: AtomicUsize,
    gauges: Gauges,
    /// How long a call holds its worker: an exponentially weighted mean, in microseconds.
    mean_us: AtomicU64,
    emptied: (Mutex<()>, Condvar),
}

impl Shared {
    fn leave(&self) {
        if self.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _guard = self.emptied.0.lock();
            self.emptied.1.notify_all();
        }
    }
}

/// The gauges that a pool keeps: they are what it counts by, so they cannot be wrong.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Calls that wait for a worker.
    pub waiting: Arc<Gauge>,
    /// Calls that a worker has.
    pub running: Arc<Gauge>,
    /// Started workers.
    pub workers: Arc<Gauge>,
}

/// Sizes and names of a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Threads are called `<prefix>-N`.
    pub prefix: String,
    /// The coordinator that the threads' processor time is charged to.
    pub group: &'static str,
    /// Calls that run at a time, at least 1.
    pub max_concurrent: usize,
    /// Calls that may wait beyond those.
    pub queue_size: usize,
    /// Where the pool counts.
    pub gauges: Gauges,
}

/// Where tickets come in and idle workers wait. A worker that finds the channel empty lies down
/// under the same lock, so no ticket is overlooked. The last to lie down is the first to be
/// woken: its stack and its part of the allocator are still in the processor's cache, and workers
/// that are not needed sleep on.
struct Door<J> {
    /// `None` once the pool takes no further job.
    sender: Option<Sender<Arc<Ticket<J>>>>,
    idle: Vec<Unparker>,
}

type Run<J> = dyn Fn(Box<J>) + Send + Sync;

/// The pool was full.
#[derive(Debug)]
pub struct Full<J>(pub Box<J>);

/// A running pool.
pub struct Pool<J> {
    options: PoolOptions,
    shared: Arc<Shared>,
    door: Arc<Mutex<Door<J>>>,
    receiver: Receiver<Arc<Ticket<J>>>,
    run: Arc<Run<J>>,
    threads: Mutex<Vec<Handle>>,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts a pool whose workers call `run`, which must not panic.
    ///
    /// # Errors
    /// The first threads cannot be had.
    pub fn start(
        options: PoolOptions,
        run: impl Fn(Box<J>) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let places = options.max_concurrent + options.queue_size + DEAD_TICKETS_MAX;
        let (sender, receiver) = bounded(places);
        let shared = Arc::new(Shared {
            inside: AtomicUsize::new(0),
            gauges: options.gauges.clone(),
            mean_us: AtomicU64::new(0),
            emptied: (Mutex::new("pool.emptied", ()), Condvar::new()),
        });
        let pool = Self {
            shared,
            door: Arc::new(Mutex::new(
                "pool.door",
                Door {
                    sender: Some(sender),
                    idle: Vec::new(),
                },
            )),
            receiver,
            run: Arc::new(run),
            threads: Mutex::new("pool.threads", Vec::new()),
            options,
        };
        for _ in 0..pool.options.max_concurrent.min(WORKERS_AT_START) {
            pool.start_worker()?;
        }
        Ok(pool)
    }

    /// Queues `job`. `admitted` is given its ticket before a worker can take it.
    ///
    /// # Errors
    /// As many calls as may are running and waiting: the job comes back.
    pub fn submit(
        &self,
        job: Box<J>,
        admitted: impl FnOnce(&Arc<Ticket<J>>, &mut J),
    ) -> Result<(), Full<J>> {
        let room = self.options.max_concurrent + self.options.queue_size;
        if self.shared.inside.fetch_add(1, Ordering::AcqRel) >= room {
            self.shared.leave();
            return Err(Full(job));
        }
        let ticket = Arc::new(Ticket {
            job: Mutex::new("pool.ticket", None),
            shared: Arc::clone(&self.shared),
        });
        let mut job = job;
        admitted(&ticket, &mut job);
        self.shared.gauges.waiting.add(1);
        *ticket.job.lock() = Some(job);
        let (sent, woken) = {
            let mut door = self.door.lock();
            let sent = door.sender.as_ref().is_some_and(|sender| {
                let sent = sender.try_send(Arc::clone(&ticket)).is_ok();
                sent || {
                    self.sweep(sender);
                    sender.try_send(Arc::clone(&ticket)).is_ok()
                }
            });
            (sent, if sent { door.idle.pop() } else { None })
        };
        let is_woken = woken.is_some();
        if let Some(worker) = woken {
            worker.unpark();
        }
        if !sent {
            return match ticket.withdraw() {
                Some(job) => Err(Full(job)),
                // Its wait was ended by someone else, who has answered it.
                None => Ok(()),
            };
        }
        if !is_woken
            && self.workers() < self.options.max_concurrent
            && let Err(error) = self.start_worker()
        {
            log::warn!(
                "{}: another worker cannot be started: {error}",
                self.options.group
            );
        }
        Ok(())
    }

    /// Drops the tickets whose jobs were withdrawn, keeping the others in order. Under the door's
    /// lock, which keeps workers and other submissions away meanwhile.
    fn sweep(&self, sender: &Sender<Arc<Ticket<J>>>) {
        for _ in 0..self.receiver.len() {
            let Ok(ticket) = self.receiver.try_recv() else {
                return;
            };
            if ticket.job.lock().is_some() {
                // There is room: this one was just taken out.
                let _ = sender.try_send(ticket);
            }
        }
    }

    fn start_worker(&self) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        let number = threads.len();
        if number >= self.options.max_concurrent {
            return Ok(());
        }
        let (receiver, door) = (self.receiver.clone(), Arc::clone(&self.door));
        let run = Arc::clone(&self.run);
        let shared = Arc::clone(&self.shared);
        let handle = Builder::new(format!("{}-{number}", self.options.prefix), Role::Worker)
            .group(self.options.group)
            .spawn(move || {
                work(&receiver, &door, &shared, &*run);
                Ok(())
            })?;
        threads.push(handle);
        self.shared.gauges.workers.set(number as i64 + 1);
        Ok(())
    }

    /// Started workers.
    fn workers(&self) -> usize {
        self.shared.gauges.workers.get().try_into().unwrap_or(0)
    }

    /// When a caller that was refused may find room: the time that the calls inside take with
    /// this pool's workers, judged by the recent ones. From 1 s to 60 s.
    pub fn retry_after(&self) -> Duration {
        let inside = self.shared.inside.load(Ordering::Relaxed) as u64;
        let mean_us = self.shared.mean_us.load(Ordering::Relaxed);
        let wait_us = mean_us.saturating_mul(inside) / self.options.max_concurrent.max(1) as u64;
        Duration::from_secs(wait_us.div_ceil(1_000_000).clamp(1, 60))
    }

    /// Waits until no call is inside, at most until `deadline`. Returns whether none is.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        let mut guard = self.shared.emptied.0.lock();
        while self.shared.inside.load(Ordering::Acquire) > 0 {
            if self.shared.emptied.1.wait_until(&mut guard, deadline) {
                return self.shared.inside.load(Ordering::Acquire) == 0;
            }
        }
        true
    }

    /// Takes no further job, lets the workers end what they have, and joins them.
    pub fn stop(&self) {
        let (sender, idle) = {
            let mut door = self.door.lock();
            (door.sender.take(), std::mem::take(&mut door.idle))
        };
        drop(sender);
        idle.iter().for_each(Unparker::unpark);
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(Handle::join);
    }
}

fn work<J>(
    receiver: &Receiver<Arc<Ticket<J>>>,
    door: &Mutex<Door<J>>,
    shared: &Shared,
    run: &Run<J>,
) {
    let parker = Parker::new();
    loop {
        let next = {
            let mut door = door.lock();
            let next = receiver.try_recv();
            if matches!(next, Err(TryRecvError::Empty)) {
                door.idle.push(parker.unparker().clone());
            }
            next
        };
        match next {
            Ok(ticket) => {
                // Its job may have been withdrawn.
                let job = ticket.job.lock().take();
                if let Some(job) = job {
                    work_on(job, shared, run);
                }
            }
            Err(TryRecvError::Empty) => {
                thread::set_state(State::Idle);
                parker.park();
            }
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

fn work_on<J>(job: Box<J>, shared: &Shared, run: &Run<J>) {
    shared.gauges.waiting.add(-1);
    shared.gauges.running.add(1);
    thread::set_state(State::Running);
    let started = Instant::now();
    run(job);
    let took_us = started.elapsed().as_micros() as u64;
    let mean_us = shared.mean_us.load(Ordering::Relaxed);
    let moved = match mean_us {
        0 => took_us,
        mean_us => (mean_us * 7 + took_us) / 8,
    };
    shared.mean_us.store(moved, Ordering::Relaxed);
    thread::clear_call();
    shared.gauges.running.add(-1);
    shared.leave();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_concurrent: usize, queue_size: usize) -> PoolOptions {
        PoolOptions {
            prefix: "test".into(),
            group: "Test",
            max_concurrent,
            queue_size,
            gauges: Gauges::default(),
        }
    }

    /// A pool whose jobs wait to be told to go on.
    fn gated(max_concurrent: usize, queue_size: usize) -> (Pool<u32>, Sender<()>, Receiver<u32>) {
        let (go, may_go) = bounded::<()>(64);
        let (done, is_done) = bounded(128);
        let pool = Pool::start(options(max_concurrent, queue_size), move |job| {
            let _ = may_go.recv();
            done.send(*job).expect("the test reads");
        })
        .expect("starts");
        (pool, go, is_done)
    }

    #[test]
    fn the_bound_is_workers_and_queue() {
        let (pool, go, done) = gated(2, 1);
        for job in 0..3 {
            assert!(pool.submit(Box::new(job), |_, _| {}).is_ok());
        }
        let Err(Full(job)) = pool.submit(Box::new(3), |_, _| {}) else {
            panic!("it was full")
        };
        assert_eq!(*job, 3);
        drop(go);
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
        assert_eq!(done.try_iter().count(), 3);
        pool.stop();
    }

    #[test]
    fn a_withdrawn_job_makes_room_and_is_not_run() {
        let (pool, go, done) = gated(1, 1);
        assert!(pool.submit(Box::new(0), |_, _| {}).is_ok());
        while pool.shared.gauges.running.get() == 0 {
            std::thread::yield_now();
        }
        let mut second = None;
        assert!(
            pool.submit(Box::new(1), |ticket, _| second = Some(Arc::clone(ticket)))
                .is_ok()
        );
        let ticket = second.expect("admitted");
        assert_eq!(ticket.withdraw().as_deref(), Some(&1));
        assert!(ticket.withdraw().is_none());
        assert!(pool.submit(Box::new(2), |_, _| {}).is_ok());
        drop(go);
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
        assert_eq!(done.try_iter().collect::<Vec<_>>(), [0, 2]);
        pool.stop();
    }

    #[test]
    fn withdrawn_jobs_do_not_fill_the_queue() {
        let (pool, go, done) = gated(1, 1);
        assert!(pool.submit(Box::new(0), |_, _| {}).is_ok());
        while pool.shared.gauges.running.get() == 0 {
            std::thread::yield_now();
        }
        for _ in 0..3 * DEAD_TICKETS_MAX {
            let mut ticket = None;
            assert!(
                pool.submit(Box::new(1), |own, _| ticket = Some(Arc::clone(own)))
                    .is_ok()
            );
            assert!(ticket.expect("admitted").withdraw().is_some());
        }
        assert!(pool.submit(Box::new(2), |_, _| {}).is_ok());
        drop(go);
        assert!(pool.wait_empty(Instant::now() + Duration::from_secs(5)));
        assert_eq!(done.try_iter().collect::<Vec<_>>(), [0, 2]);
        pool.stop();
    }

    #[test]
    fn workers_beyond_the_first_start_on_demand() {
        let (pool, go, _done) = gated(100, 0);
        assert_eq!(pool.workers(), WORKERS_AT_START);
        for job in 0..100 {
            assert!(pool.submit(Box::new(job), |_, _| {}).is_ok());
        }
        assert_eq!(pool.workers(), 100);
        assert!(pool.retry_after() >= Duration::from_secs(1));
        drop(go);
        pool.stop();
    }
}
