//! What is done with cached answers: saving the most valuable ones, loading them, clearing them.
//!
//! Whoever saves brings the list of what the table shall hold. First the table is compared with it:
//! what is not on it goes, what is there gets its new score; so nobody has to remember what was
//! written, and a file that was lost is filled again. Then the answers that lack are asked for and
//! written, the most valuable first, until the bound of bytes. Both is done in steps, each a
//! transaction of its own, with the jobs of others in between: a kill leaves the table somewhere
//! between the list before and this one, and every row whole.
//!
//! Start at [`Store::save_cache`] and [`Task::step`].

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::cache::{self, BODY_BYTES_MAX, CHUNK_BYTES, CHUNK_ROWS};
use super::job::Job;
use super::responses::Totals;
use super::status::{Status, count};
use super::{Store, StoreError, Then};

/// A cached answer without the answer itself. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheMark {
    /// The call's key. Two answers of one key and one `created` are the same.
    pub key: [u8; 32],
    /// Whose it is.
    pub coordinator: Arc<str>,
    /// When it was answered.
    pub created: u64,
    /// From when on it is not given any more.
    pub expires: u64,
    /// Its value; what is not a finite number counts as 0.
    pub score: f64,
}

impl CacheMark {
    /// As it is written: SQLite has no NaN, and a cursor wants an end above every score.
    pub(super) const fn score(&self) -> f64 {
        match self.score.is_finite() {
            true => self.score,
            false => 0.0,
        }
    }
}

/// A cached answer as it is stored.
#[derive(Clone, PartialEq)]
pub struct CacheRow {
    /// What is known of it.
    pub mark: CacheMark,
    /// The answer, as it was given to be stored.
    pub body: Vec<u8>,
}

/// Answers are for no log.
impl fmt::Debug for CacheRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRow")
            .field("mark", &self.mark)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheCursor {
    pub(super) score: f64,
    pub(super) seq: i64,
}

impl CacheCursor {
    /// Above every row.
    pub(super) const START: Self = Self {
        score: f64::INFINITY,
        seq: i64::MAX,
    };
}

/// Some of the cached answers, the most valuable first.
#[derive(Debug, Default)]
pub struct CachePage {
    /// At most 1,024, and 8 MiB together, or one that is larger.
    pub rows: Vec<CacheRow>,
    /// Where to go on; `None` behind the last.
    pub next: Option<CacheCursor>,
}

impl CachePage {
    /// What the answers hold in memory.
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.body.len()).sum()
    }
}

/// What came of saving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheSaved {
    /// Answers that were there already.
    pub held: u64,
    /// Answers written.
    pub written: u64,
    /// Rows removed: not on the list any more, expired, or for room.
    pub removed: u64,
    /// Answers on the list that were not written: expired, gone, too large, or beyond the bound.
    pub left_out: u64,
}

/// Appends the answer of the list's entry of that number, and says whether there still is one. Runs
/// on the store's thread, once at most for an entry, and must not block.
pub type Bodies = Box<dyn FnMut(usize, &mut Vec<u8>) -> bool + Send>;

impl Store {
    /// Makes the table hold just `marks`, the most valuable first, as far as their answers fit into
    /// `bytes_max`. Never blocks and does not need the answers yet: `bodies` is asked for those that
    /// the table lacks, for about a megabyte at a time. What it holds on to lives until `then` is
    /// told, which runs on the store's thread and must not block, or at once with the error if the
    /// request cannot be queued (counted as a dropped write). An answer of more than 16 MiB is left
    /// out. Whatever is not on the list goes, so whoever wants what was there loads it first.
    ///
    /// A later save or [`Store::clear_cache`] takes the place of one that is not done yet
    /// ([`StoreError::Superseded`]); what it has written stays until then. [`Store::shutdown`] does
    /// not wait for it ([`StoreError::Closed`]), so whoever wants the last one whole waits for
    /// `then` first. After an error the next save mends what this one left.
    pub fn save_cache(
        &self,
        marks: Vec<CacheMark>,
        bytes_max: u64,
        bodies: Bodies,
        then: Then<CacheSaved>,
    ) {
        let each = |mark: &CacheMark| size_of::<CacheMark>() + mark.coordinator.len();
        let bytes = marks.iter().map(each).sum();
        let save = Save::new(marks, bytes_max, bodies);
        self.begin(Task::Save(save, Answer(Some(then))), bytes);
    }

    /// Removes the cached answers of `coordinator`, or all; gives how many there were. What is
    /// loaded after that has none of them. For threads that may wait. A save that is not done yet
    /// is given up, whosever answers it holds.
    ///
    /// # Errors
    /// See [`StoreError`]; after [`StoreError::Timeout`] it may go on, after another some may be
    /// left.
    pub fn clear_cache(
        &self,
        coordinator: Option<&str>,
        deadline: Instant,
    ) -> Result<u64, StoreError> {
        let coordinator = coordinator.map(str::to_owned);
        let bytes = coordinator.as_ref().map_or(0, String::len);
        let job = |then| {
            let clear = Clear {
                coordinator,
                after: i64::MIN,
                removed: 0,
            };
            Job::Task(Box::new(Task::Clear(clear, Answer(Some(then)))))
        };
        self.ask(job, bytes, deadline)
    }

    /// At most `items` cached answers of `coordinator`, or of all, that have not expired: the most
    /// valuable first, a page at a time, behind where the page before ended. For threads that may
    /// wait. Answers that are saved meanwhile may be missed or come twice.
    ///
    /// # Errors
    /// See [`StoreError`]; [`StoreError::Timeout`] once `deadline` has passed.
    pub fn load_cache(
        &self,
        coordinator: Option<&str>,
        items: usize,
        after: Option<CacheCursor>,
        deadline: Instant,
    ) -> Result<CachePage, StoreError> {
        let job = |then| Job::LoadCache {
            coordinator: coordinator.map(str::to_owned),
            items,
            after,
            deadline,
            then,
        };
        self.ask(job, coordinator.map_or(0, str::len), deadline)
    }

    fn begin(&self, task: Task, bytes: usize) {
        let refused = self.push(Job::Task(Box::new(task)), bytes, None);
        if let Err((Job::Task(task), error)) = refused {
            task.drop_with(error, &self.status);
        }
    }
}

/// Whoever waits for an answer; is told exactly once, with a failure if nothing else comes.
pub(super) struct Answer<T>(Option<Then<T>>);

impl<T> Answer<T> {
    fn tell(&mut self, answer: Result<T, StoreError>) {
        let Some(then) = self.0.take() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| then(answer))).is_err() {
            log::error!("what waited for an answer of the database panicked");
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.tell(Err(StoreError::Failed));
    }
}

/// Work of more than one transaction.
pub(super) enum Task {
    Save(Save, Answer<CacheSaved>),
    Clear(Clear, Answer<u64>),
}

impl Task {
    /// Does a bit of it in the transaction that is open; gives whether that was the last. After an
    /// error it must not be gone on with.
    pub fn step(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        now: i64,
    ) -> rusqlite::Result<bool> {
        match self {
            Self::Save(save, _) => save.step(connection, totals, now),
            Self::Clear(clear, _) => clear.step(connection, totals),
        }
    }

    /// It is done.
    pub fn succeed(self, status: &Status) {
        count(&status.stats.writes_ok);
        match self {
            Self::Save(save, mut answer) => answer.tell(Ok(save.saved)),
            Self::Clear(clear, mut answer) => answer.tell(Ok(clear.removed)),
        }
    }

    /// It is given up since the database did not do it.
    pub fn fail(self, error: StoreError, status: &Status) {
        count(&status.stats.writes_failed);
        self.end(error);
    }

    /// It is given up undone.
    pub fn drop_with(self, error: StoreError, status: &Status) {
        count(&status.stats.writes_dropped);
        self.end(error);
    }

    /// It is given up for another.
    pub fn end(self, error: StoreError) {
        match self {
            Self::Save(_, mut answer) => answer.tell(Err(error)),
            Self::Clear(_, mut answer) => answer.tell(Err(error)),
        }
    }
}

/// How much a step has done.
#[derive(Default)]
struct Done {
    rows: usize,
    bytes: u64,
}

impl Done {
    fn add(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }

    const fn is_enough(&self) -> bool {
        self.rows >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }
}

enum Phase {
    /// The table was compared with the list up to this row.
    Compare(i64),
    /// The list's entries before this one were attended to.
    Write(usize),
}

/// A list on its way into the table.
pub(super) struct Save {
    marks: Vec<CacheMark>,
    bytes_max: u64,
    bodies: Bodies,
    /// The numbers of the marks, by key.
    by_key: Vec<u32>,
    /// Which marks need no answer any more.
    settled: Vec<bool>,
    phase: Phase,
    body: Vec<u8>,
    saved: CacheSaved,
}

impl Save {
    fn new(marks: Vec<CacheMark>, bytes_max: u64, bodies: Bodies) -> Self {
        // The queue takes in far fewer.
        let count = u32::try_from(marks.len()).unwrap_or(u32::MAX);
        let key = |number: &u32| marks[*number as usize].key;
        let mut by_key: Vec<u32> = (0..count).collect();
        by_key.sort_by_key(key);
        let mut settled = vec![false; marks.len()];
        // Of two of one key the first holds; sorting has kept their order.
        for pair in by_key.windows(2) {
            settled[pair[1] as usize] = key(&pair[0]) == key(&pair[1]);
        }
        by_key.dedup_by_key(|number| key(number));
        Self {
            marks,
            bytes_max,
            bodies,
            by_key,
            settled,
            phase: Phase::Compare(i64::MIN),
            body: Vec::new(),
            saved: CacheSaved::default(),
        }
    }

    fn step(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        now: i64,
    ) -> rusqlite::Result<bool> {
        match self.phase {
            Phase::Compare(after) => self.compare(connection, totals, (after, now)),
            Phase::Write(next) => self.write(connection, totals, (next, now)),
        }
    }

    /// Removes what is not wanted of the next rows, and gives the others their score.
    fn compare(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        (after, now): (i64, i64),
    ) -> rusqlite::Result<bool> {
        let rows = cache::places(connection, None, after)?;
        let (is_last, mut done) = (rows.len() < CHUNK_ROWS, Done::default());
        for row in rows {
            if done.is_enough() {
                return Ok(false);
            }
            self.phase = Phase::Compare(row.seq);
            let key = |number: &u32| self.marks[*number as usize].key;
            let found = self.by_key.binary_search_by_key(&row.key, key);
            let number = found.ok().map(|index| self.by_key[index] as usize);
            let is_same = |number: &usize| self.marks[*number].created == row.created;
            match number.filter(is_same) {
                Some(number) if !is_over(row.expires, now) => {
                    self.settled[number] = true;
                    self.saved.held += 1;
                    let score = self.marks[number].score();
                    if score != row.score {
                        cache::set_score(connection, row.seq, score)?;
                    }
                }
                _ => {
                    cache::remove(connection, totals, (row.seq, row.bytes))?;
                    self.saved.removed += 1;
                    done.add(row.bytes);
                }
            }
        }
        if is_last {
            self.phase = Phase::Write(0);
        }
        Ok(false)
    }

    /// Writes the next answers that lack.
    fn write(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        (first, now): (usize, i64),
    ) -> rusqlite::Result<bool> {
        let mut done = Done::default();
        // The bound may have been lowered.
        while totals.bytes > self.bytes_max {
            if done.is_enough() {
                return Ok(false);
            }
            if !self.remove_lowest(connection, totals, f64::INFINITY, &mut done)? {
                // The sum was wrong; an empty table holds nothing.
                *totals = Totals::default();
            }
        }
        for number in first..self.marks.len() {
            if done.is_enough() {
                self.phase = Phase::Write(number);
                return Ok(false);
            }
            if self.settled[number] {
                continue;
            }
            self.body.clear();
            let mark = &self.marks[number];
            let is_there = !is_over(mark.expires, now) && (self.bodies)(number, &mut self.body);
            let bytes = cache::bytes(mark, self.body.len());
            if !is_there || self.body.len() > BODY_BYTES_MAX || bytes > self.bytes_max {
                self.saved.left_out += 1;
                done.add(self.body.len() as u64);
                continue;
            }
            let score = mark.score();
            while totals.bytes + bytes > self.bytes_max {
                if !self.remove_lowest(connection, totals, score, &mut done)? {
                    // Whatever comes now is worth no more.
                    let rest = self.settled[number..].iter();
                    self.saved.left_out += rest.filter(|settled| !**settled).count() as u64;
                    return Ok(true);
                }
            }
            cache::insert(connection, totals, &self.marks[number], &self.body)?;
            self.saved.written += 1;
            done.add(bytes);
        }
        Ok(true)
    }

    /// Removes the row of the lowest score, if that is below `score`.
    fn remove_lowest(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        score: f64,
        done: &mut Done,
    ) -> rusqlite::Result<bool> {
        match cache::lowest(connection)? {
            Some((lowest, row)) if lowest < score => {
                cache::remove(connection, totals, row)?;
                self.saved.removed += 1;
                done.add(row.1);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Rows on their way out.
pub(super) struct Clear {
    coordinator: Option<String>,
    /// The last row that was looked at.
    after: i64,
    removed: u64,
}

impl Clear {
    fn step(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<bool> {
        let rows = cache::places(connection, self.coordinator.as_deref(), self.after)?;
        let (is_last, mut done) = (rows.len() < CHUNK_ROWS, Done::default());
        for row in rows {
            if done.is_enough() {
                return Ok(false);
            }
            cache::remove(connection, totals, (row.seq, row.bytes))?;
            (self.after, self.removed) = (row.seq, self.removed + 1);
            done.add(row.bytes);
        }
        Ok(is_last)
    }
}

fn is_over(expires: u64, now: i64) -> bool {
    i64::try_from(expires).is_ok_and(|expires| expires <= now)
}
