//! The store's thread: takes jobs, runs them in one transaction, tells who asked.
//!
//! A batch is run as a whole first, which is one commit. If that fails, each job is run by itself,
//! so that reading goes on while the disk is full and one job's failure is not another's. Answers
//! are given only after the commit. Whatever fails or panics, every job is told, and the thread
//! goes on. What takes longer than a transaction, or can wait, is in `tasks.rs`.

mod tasks;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam::channel::Sender;
use rusqlite::{Connection, ErrorCode};

use super::file::{self, File, OpenError};
use super::job::{Done, Job, Outcome, all};
use super::queue::{Bounds, Queue};
use super::responses::{self, Chain, Removed, Totals};
use super::snapshot::Task;
use super::status::{Status, count};
use super::{Options, StoreError, cache};
use crate::thread::{self, State};

/// What is taken from the queue, and so written, at a time.
const BATCH: Bounds = Bounds {
    items: 128,
    bytes: 16 << 20,
};

/// The thread's own state.
pub(super) struct Engine {
    options: Options,
    queue: Arc<Queue<Job>>,
    status: Arc<Status>,
    log_queries: Arc<AtomicBool>,
    file: Option<File>,
    totals: Totals,
    cache_totals: Totals,
    tasks: VecDeque<Box<Task>>,
    /// What the transaction has removed so far.
    removed: Removed,
    /// Changes when another process has written to the file.
    version: i64,
    /// The time of the last use that was noted.
    last_ms: i64,
    retry_at: Option<Instant>,
    /// There is more to purge.
    more: bool,
}

impl Engine {
    pub fn new(
        options: Options,
        queue: Arc<Queue<Job>>,
        status: Arc<Status>,
        log_queries: Arc<AtomicBool>,
    ) -> Self {
        Self {
            options,
            queue,
            status,
            log_queries,
            file: None,
            totals: Totals::default(),
            cache_totals: Totals::default(),
            tasks: VecDeque::new(),
            removed: Removed::default(),
            version: 0,
            last_ms: 0,
            retry_at: None,
            more: true,
        }
    }

    /// Opens the file, tells so, and works until the queue is closed and empty.
    pub fn run(mut self, opened: &Sender<()>) {
        self.guarded(|engine| {
            engine.is_open();
        });
        let _ = opened.try_send(());
        loop {
            let is_idle = !self.more && self.tasks.is_empty();
            if is_idle {
                thread::set_state(State::Idle);
            }
            let Some(jobs) = self.queue.take(BATCH, is_idle) else {
                break;
            };
            thread::set_state(State::Running);
            if jobs.is_empty() && self.tasks.is_empty() {
                self.more = false;
                self.guarded(Self::purge);
            }
            let jobs = self.admit(jobs);
            self.serve(jobs);
            self.work();
        }
        self.abandon();
        if let Some(file) = self.file.take()
            && let Err((_, error)) = file.connection.close()
        {
            log::warn!("the database could not be closed: {error}");
        }
    }

    /// Runs `work`; a panic costs the connection, which may be in any state then.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            self.file = None;
            self.more = false;
            self.status
                .failed("a fault of the program's own, see the log");
        }
        result.ok()
    }

    fn serve(&mut self, mut jobs: VecDeque<Job>) {
        while !jobs.is_empty() {
            let queued = jobs.make_contiguous();
            let outcomes = self.guarded(|engine| engine.round(queued));
            let outcomes = outcomes.unwrap_or_else(|| all(StoreError::Failed, jobs.len()));
            let done: Vec<Job> = jobs.drain(..outcomes.len()).collect();
            for (job, outcome) in done.into_iter().zip(outcomes) {
                let told = catch_unwind(AssertUnwindSafe(|| job.tell(outcome, &self.status)));
                if told.is_err() {
                    log::error!("what waited for an answer of the database panicked");
                }
            }
        }
    }

    /// Runs the first of `jobs`, at least one; as many as their answers fit into a batch.
    fn round(&mut self, jobs: &[Job]) -> Vec<Outcome> {
        for _ in 0..2 {
            if !self.is_open() {
                break;
            }
            let started = Instant::now();
            let result = self.together(jobs);
            match result {
                Ok((outcomes, wrote)) => {
                    self.status.worked(started.elapsed(), wrote);
                    return outcomes;
                }
                // Tried once more, with the new file.
                Err(error) if file::is_damage(&error) => self.damaged(&error),
                Err(error) => return self.one_by_one(jobs, &error),
            }
        }
        all(StoreError::Unavailable, jobs.len())
    }

    /// Runs jobs in one transaction. Gives what came of them, and whether anything was written.
    fn together(&mut self, jobs: &[Job]) -> rusqlite::Result<(Vec<Outcome>, bool)> {
        self.in_transaction(|engine, connection| {
            let (mut outcomes, mut bytes) = (Vec::with_capacity(jobs.len()), 0);
            for job in jobs {
                let outcome = engine.apply(connection, job, true)?;
                bytes += outcome.as_ref().map_or(0, Done::bytes);
                outcomes.push(outcome);
                if bytes >= BATCH.bytes {
                    break;
                }
            }
            Ok(outcomes)
        })
    }

    /// Runs each job by itself, after `error` has befallen all of them together.
    fn one_by_one(&mut self, jobs: &[Job], error: &rusqlite::Error) -> Vec<Outcome> {
        self.status.failed(&error.to_string());
        let busy = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
        // Whoever has the file locked was waited for already: not once more for each job.
        let is_busy = error
            .sqlite_error_code()
            .is_some_and(|it| busy.contains(&it));
        let (mut outcomes, mut bytes) = (Vec::new(), 0);
        for job in jobs {
            let outcome = self.alone(job, !is_busy);
            bytes += outcome.as_ref().map_or(0, Done::bytes);
            outcomes.push(outcome);
            if bytes >= BATCH.bytes {
                break;
            }
        }
        self.leave_after(error);
        outcomes
    }

    /// Leaves the connection after an error that is none of a full disk or a lock but of the disk,
    /// say: one opened anew may do better, or learn more.
    fn leave_after(&mut self, error: &rusqlite::Error) {
        let code = error.sqlite_error_code();
        let passing = [
            ErrorCode::DiskFull,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
        ];
        if !code.is_some_and(|it| passing.contains(&it)) {
            self.file = None;
        }
    }

    /// Runs one job, reading without noting the use.
    fn alone(&mut self, job: &Job, may_write: bool) -> Outcome {
        let started = Instant::now();
        let is_write = job.is_write();
        let result = if is_write && may_write {
            let result =
                self.in_transaction(|engine, connection| engine.apply(connection, job, true));
            result.map(|(outcome, _)| {
                self.status.worked(started.elapsed(), true);
                outcome
            })
        } else if is_write {
            return Err(StoreError::Failed);
        } else {
            match self.file.take() {
                None => return Err(StoreError::Unavailable),
                Some(file) => {
                    let result = self.apply(&file.connection, job, false);
                    self.file = Some(file);
                    result
                }
            }
        };
        result.unwrap_or_else(|error| {
            self.status.failed(&error.to_string());
            Err(StoreError::Failed)
        })
    }

    /// Runs `work` in a transaction and makes room before it ends. Gives what came of it, and
    /// whether anything was written.
    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, bool)> {
        let Some(file) = self.file.take() else {
            return Err(rusqlite::Error::InvalidQuery);
        };
        let before = (self.totals, self.cache_totals);
        self.removed = Removed::default();
        let connection = &file.connection;
        let changes = connection.total_changes();
        let result = self.begin(connection).and_then(|()| {
            let value = work(self, connection)?;
            self.make_room(connection)?;
            connection.execute_batch("COMMIT")?;
            Ok(value)
        });
        let result = match result {
            Ok(value) => {
                self.count_removed();
                Ok((value, connection.total_changes() != changes))
            }
            Err(error) => {
                (self.totals, self.cache_totals) = before;
                if !connection.is_autocommit() {
                    let _ = connection.execute_batch("ROLLBACK");
                }
                Err(error)
            }
        };
        self.status.holds(self.totals, self.cache_totals);
        self.file = Some(file);
        result
    }

    fn begin(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if version != self.version {
            // Somebody else has written, an operator perhaps.
            self.totals = responses::totals(connection)?;
            self.cache_totals = cache::totals(connection)?;
            self.version = version;
        }
        Ok(())
    }

    /// Removes what has expired, and, when the bound was lowered, what is too much.
    fn make_room(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (now, limits) = ((self.options.clock)(), self.options.limits);
        let counts = (&mut self.totals, &mut self.removed);
        responses::purge(connection, counts, limits, now)?;
        self.removed.more |= cache::purge(connection, &mut self.cache_totals, now)?;
        let counts = (&mut self.totals, &mut self.removed);
        responses::make_room(connection, counts, limits)
    }

    fn count_removed(&mut self) {
        let removed = std::mem::take(&mut self.removed);
        let stats = &self.status.stats;
        stats
            .evicted_ttl
            .fetch_add(removed.expired, Ordering::Relaxed);
        stats
            .evicted_size
            .fetch_add(removed.for_room, Ordering::Relaxed);
        self.more |= removed.more || removed.for_room > 0;
    }

    /// Runs one job; `mark` says whether a use is noted, which is a write.
    fn apply(
        &mut self,
        connection: &Connection,
        job: &Job,
        mark: bool,
    ) -> rusqlite::Result<Outcome> {
        let limits = self.options.limits;
        let now = (self.options.clock)();
        Ok(Ok(match job {
            Job::Keep(kept) => {
                let used = self.stamp(now);
                responses::insert(connection, &mut self.totals, kept, used)?;
                // Now, so that what is asked for next does not find what is going to go.
                let counts = (&mut self.totals, &mut self.removed);
                responses::make_room(connection, counts, limits)?;
                Done::Kept
            }
            Job::Conversation { deadline, .. } if *deadline <= Instant::now() => {
                return Ok(Err(StoreError::Timeout));
            }
            Job::Conversation { id, scope, .. } => {
                let key = (id.as_str(), scope);
                match responses::chain(connection, limits, key, now)? {
                    Chain::Missing => Done::Conversation(None),
                    Chain::TooLong => return Ok(Err(StoreError::TooLong)),
                    Chain::Whole(rows) => {
                        let all = responses::read(connection, &rows)?;
                        if mark {
                            let used = self.stamp(now);
                            responses::touch(connection, limits, key, (now, used))?;
                        }
                        Done::Conversation(Some(all))
                    }
                }
            }
            Job::Fetch { id, scope, .. } => {
                let key = (id.as_str(), scope);
                let found = responses::fetch(connection, limits, key, now)?;
                if mark && found.is_some() {
                    let used = self.stamp(now);
                    responses::touch(connection, limits, key, (now, used))?;
                }
                Done::Fetched(found)
            }
            Job::Delete { id, scope, .. } => {
                let key = (id.as_str(), scope);
                let totals = &mut self.totals;
                Done::Deleted(responses::delete(connection, totals, limits, key, now)?)
            }
            Job::LoadCache {
                coordinator,
                items,
                after,
                deadline,
                ..
            } => {
                if *deadline <= Instant::now() {
                    return Ok(Err(StoreError::Timeout));
                }
                let coordinator = coordinator.as_deref();
                Done::Loaded(cache::load(connection, coordinator, *items, *after, now)?)
            }
            // Taken out of the queue's jobs before.
            Job::Task(_) => return Ok(Err(StoreError::Failed)),
        }))
    }

    /// The time of a use: now, but later than every use before it, so that rows used within one
    /// millisecond keep their order. A clock that was set back is followed after a second.
    fn stamp(&mut self, now: i64) -> i64 {
        let is_back = self.last_ms.saturating_sub(now) > 1_000;
        self.last_ms = match is_back {
            true => now,
            false => now.max(self.last_ms.saturating_add(1)),
        };
        self.last_ms
    }

    /// Whether the file is open; opens it if it is time to try.
    fn is_open(&mut self) -> bool {
        let path = &self.options.path;
        if self.file.as_ref().is_some_and(|file| !file.is_at(path)) {
            log::warn!(
                "the database {} was removed or replaced; it is opened anew",
                path.display()
            );
            self.file = None;
        }
        let traced = self.log_queries.load(Ordering::Relaxed);
        if let Some(file) = &mut self.file {
            if let Err(error) = file.trace(traced) {
                log::warn!("log_queries could not be switched: {error}");
            }
            return true;
        }
        if self
            .retry_at
            .is_some_and(|retry_at| Instant::now() < retry_at)
        {
            return false;
        }
        self.open(traced)
    }

    fn open(&mut self, traced: bool) -> bool {
        let started = Instant::now();
        let mut result = self.open_once(traced);
        if let Err(OpenError::Unusable(why)) = &result {
            result = match self.set_aside(why) {
                Ok(()) => self.open_once(traced),
                Err(why) => Err(OpenError::Failed(why)),
            };
        }
        let path = self.options.path.display();
        match result {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    log::info!("the database {path} is open now");
                }
                self.more = true;
                self.status.opened(started.elapsed());
                true
            }
            Err(OpenError::Failed(why) | OpenError::Unusable(why)) => {
                let retry_at = Instant::now() + self.options.retry_after;
                self.retry_at = Some(retry_at);
                self.status.unavailable(&why, retry_at);
                log::warn!(
                    "the database {path} cannot be opened: {why}; the service goes on without it"
                );
                false
            }
        }
    }

    fn open_once(&mut self, traced: bool) -> Result<(), OpenError> {
        let file = File::open(&self.options.path, self.options.settings, traced)?;
        let judge = |error| file::judge_schema(&error);
        self.totals = responses::totals(&file.connection).map_err(judge)?;
        self.cache_totals = cache::totals(&file.connection).map_err(judge)?;
        let version = file
            .connection
            .query_row("PRAGMA data_version", [], |row| row.get(0));
        self.version = version.map_err(judge)?;
        self.status.holds(self.totals, self.cache_totals);
        self.file = Some(file);
        Ok(())
    }

    /// The file turned out to be damaged while it was in use: a new one is begun.
    fn damaged(&mut self, error: &rusqlite::Error) {
        self.file = None;
        self.status.failed(&error.to_string());
        match self.set_aside(&format!("it is damaged: {error}")) {
            // Whoever needs it next opens it.
            Ok(()) => {}
            Err(why) => {
                let retry_at = Instant::now() + self.options.retry_after;
                self.retry_at = Some(retry_at);
                self.status.unavailable(&why, retry_at);
                log::warn!("the database cannot be used: {why}");
            }
        }
    }

    fn set_aside(&mut self, why: &str) -> Result<(), String> {
        let path = &self.options.path;
        match file::set_aside(path) {
            Ok(to) => {
                count(&self.status.stats.set_aside);
                log::warn!(
                    "the database {} cannot be used ({why}): it was set aside as {}, and a new \
                     one is begun",
                    path.display(),
                    to.display()
                );
                Ok(())
            }
            Err(error) => Err(format!("{why}, and it cannot be set aside: {error}")),
        }
    }
}
