//! Keeps the most valuable answers over a restart.
//!
//! One thread saves them to the store from time to time, and once more at the end; at the start
//! they come back, with the time that they had left, if the configuration wants that, and later
//! when an operator does. What was stored before and did not come back stays stored as long as it
//! is worth more than what is new. Start at [`Keeper::start`].

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::codec;
use super::{Amount, Cache, Entry, Key, Outcome, Ranked};
use crate::config::checked;
use crate::store::{Bodies, CacheMark, CacheSaved, Store, StoreError};
use crate::sync::Mutex;
use crate::thread::{self, Handle, Role, State};

/// How long the start waits for the answers to come back.
const WARM_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long one page may take to be read, and the clearing of the table.
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long the end waits for the last save.
const LAST_SAVE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Now in the cache.
    pub held: Amount,
    /// Found, and not brought back: expired since, damaged, or there already.
    pub skipped: u64,
}

/// When the last save ended and what it came to.
#[derive(Clone, Debug, Default)]
pub struct LastSave {
    /// `None`: there was none yet.
    pub at: Option<SystemTime>,
    /// Answers in the table.
    pub entries: u64,
    /// Why it failed, if it did.
    pub error: Option<StoreError>,
}

/// More than there can be hits and inserts.
const UNSAVED: u64 = u64::MAX;

/// See the module.
pub struct Keeper {
    cache: Arc<Cache>,
    store: Arc<Store>,
    items: usize,
    every: Duration,
    /// Answers of before that are stored and not in the cache, by key.
    dormant: Mutex<HashMap<Key, CacheMark>>,
    /// When their scores were read.
    began: Instant,
    last: Mutex<LastSave>,
    /// How often it was cleared.
    clears: AtomicU64,
    /// Hits and inserts until the last save, for a cache that nobody uses is not saved; [`UNSAVED`]
    /// if it has to be anyway.
    used: AtomicU64,
    stop: Mutex<Option<(Sender<()>, Handle)>>,
}

impl Keeper {
    /// Brings back what was stored, if `config` wants it, and saves from then on. `known` says
    /// which coordinators there are; `before_saving` is called from time to time, whether there is
    /// something to be saved or not. Waits two seconds at most for the answers to come back; then
    /// the rest comes while the daemon serves.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn start(
        cache: &Arc<Cache>,
        store: &Arc<Store>,
        config: &checked::Cache,
        known: Vec<String>,
        before_saving: Box<dyn Fn() + Send>,
    ) -> io::Result<Arc<Self>> {
        let keeper = Arc::new(Self {
            cache: Arc::clone(cache),
            store: Arc::clone(store),
            items: config.warm_items,
            every: config.snapshot_interval,
            dormant: Mutex::new("cache.dormant", HashMap::new()),
            began: Instant::now(),
            last: Mutex::new("cache.last_save", LastSave::default()),
            clears: AtomicU64::new(0),
            used: AtomicU64::new(0),
            stop: Mutex::new("cache.keeper", None),
        });
        if !config.enabled || config.warm_items == 0 {
            return Ok(keeper);
        }
        let (stop, stopped) = channel::bounded(0);
        let (tell, warmed) = channel::bounded(1);
        let (own, warms) = (Arc::clone(&keeper), config.warm_on_startup);
        let thread = thread::spawn("cache", Role::Cache, move || {
            own.recall(warms, &known);
            // Whoever waited may have gone on.
            let _ = tell.try_send(());
            own.save_from_time_to_time(&stopped, &*before_saving);
            Ok(())
        })?;
        *keeper.stop.lock() = Some((stop, thread));
        if warms {
            let _ = warmed.recv_timeout(WARM_WAIT_MAX);
        }
        Ok(keeper)
    }

    /// How the last save went.
    pub fn last_save(&self) -> LastSave {
        self.last.lock().clone()
    }

    /// Brings back up to `items` of a coordinator's most valuable stored answers. `progress` is
    /// told after every page how many were looked at.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn warm(
        &self,
        coordinator: &str,
        items: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Warmed, StoreError> {
        let mut warmed = Warmed::default();
        let clears = self.clears();
        self.read(Some(coordinator), items, &mut |mark, entry| {
            self.bring_back(mark, entry, &mut warmed, clears);
            progress(warmed.held.count + warmed.skipped);
        })?;
        Ok(warmed)
    }

    /// Forgets what is stored of a coordinator, or all of it, once `sweep` has taken it out of the
    /// cache. What is being brought back meanwhile is not.
    ///
    /// # Errors
    /// The database does not answer: what it still holds may come back at the next start.
    pub fn clear(
        &self,
        coordinator: Option<&str>,
        sweep: &mut dyn FnMut(),
    ) -> Result<u64, StoreError> {
        self.clears.fetch_add(1, Ordering::AcqRel);
        // A save under way gives way to the clear, and one after a clear that failed mends it.
        self.used.store(UNSAVED, Ordering::Relaxed);
        sweep();
        self.dormant
            .lock()
            .retain(|_, mark| coordinator.is_some_and(|name| *mark.coordinator != *name));
        self.store
            .clear_cache(coordinator, Instant::now() + STORE_WAIT_MAX)
    }

    /// Saves once more, and ends the thread.
    pub fn stop(&self) {
        let running = self.stop.lock().take();
        if let Some((stop, thread)) = running {
            drop(stop);
            thread.join();
        }
    }

    /// Looks at what is stored: brings it back, or remembers that it is there.
    fn recall(&self, warms: bool, known: &[String]) {
        let mut warmed = Warmed::default();
        let began = Instant::now();
        let clears = self.clears();
        let read = self.read(None, self.items, &mut |mark, entry| {
            let is_known = known.iter().any(|name| **name == *mark.coordinator);
            if warms && is_known {
                self.bring_back(mark, entry, &mut warmed, clears);
            } else if is_known && entry.is_some() {
                let mut dormant = self.dormant.lock();
                if self.clears() == clears {
                    dormant.insert(Key::from_bytes(mark.key), mark);
                }
            }
        });
        match read {
            Err(error) => log::warn!("what was stored of the cache cannot be read: {error}"),
            Ok(()) if warms => log::info!(
                entries = warmed.held.count, bytes = warmed.held.bytes, skipped = warmed.skipped,
                duration_ms = began.elapsed().as_secs_f64() * 1000.0;
                "cache warmed with what was stored before"
            ),
            Ok(()) => {}
        }
    }

    /// Reads stored answers, the most valuable first, and decodes them; `None` is one that is
    /// damaged or too old.
    fn read(
        &self,
        coordinator: Option<&str>,
        items: usize,
        each: &mut dyn FnMut(CacheMark, Option<Entry>),
    ) -> Result<(), StoreError> {
        let (mut left, mut after) = (items, None);
        while left > 0 {
            let deadline = Instant::now() + STORE_WAIT_MAX;
            let page = self.store.load_cache(coordinator, left, after, deadline)?;
            left = left.saturating_sub(page.rows.len());
            for row in page.rows {
                let key = Key::from_bytes(row.mark.key);
                let entry = codec::decode(&key, &row.body, Instant::now(), SystemTime::now());
                each(row.mark, entry);
            }
            match page.next {
                None => break,
                next => after = next,
            }
        }
        Ok(())
    }

    fn clears(&self) -> u64 {
        self.clears.load(Ordering::Acquire)
    }

    /// Puts an answer into the cache that is not there, unless it was cleared since it was read,
    /// `clears` times by then.
    fn bring_back(&self, mark: CacheMark, entry: Option<Entry>, warmed: &mut Warmed, clears: u64) {
        let key = Key::from_bytes(mark.key);
        let now = Instant::now();
        let is_lacking =
            |_: &Entry| self.clears() == clears && self.cache.peek(&key, now).is_none();
        let Some(entry) = entry.filter(is_lacking) else {
            warmed.skipped += 1;
            return;
        };
        let bytes = entry.bytes() as u64;
        let owner = self.cache.owner(&mark.coordinator);
        let stored = self.cache.insert(Arc::new(entry), owner, now);
        // A clear that has missed it was counted before it came to the shard, and is seen now.
        if self.clears() != clears {
            self.cache.remove(&key);
            warmed.skipped += 1;
            return;
        }
        self.dormant.lock().remove(&key);
        match stored.outcome {
            Outcome::Stored | Outcome::Replaced => {
                warmed.held.count += 1;
                warmed.held.bytes += bytes;
            }
            Outcome::Refused | Outcome::Expired => warmed.skipped += 1,
        }
    }

    fn save_from_time_to_time(self: &Arc<Self>, stopped: &Receiver<()>, before_saving: &dyn Fn()) {
        loop {
            thread::set_state(State::Idle);
            let ended = stopped.recv_timeout(self.every) != Err(RecvTimeoutError::Timeout);
            thread::set_state(State::Running);
            before_saving();
            // Memory of answers that nobody asks for again.
            let _ = self.cache.purge(Instant::now());
            let stats = self.cache.stats();
            let used = stats.hits + stats.inserts;
            let is_used = self.used.swap(used, Ordering::Relaxed) != used;
            if is_used {
                let saved = self.save();
                let wait = match ended {
                    true => LAST_SAVE_WAIT_MAX,
                    false => STORE_WAIT_MAX,
                };
                if saved.recv_timeout(wait).is_err() {
                    log::warn!("the cache could not be saved in {} s", wait.as_secs());
                }
            }
            if ended {
                return;
            }
        }
    }

    /// Has the most valuable answers saved; the channel is told when that is done.
    fn save(self: &Arc<Self>) -> Receiver<()> {
        let (marks, bodies) = self.list();
        self.submit(marks, bodies)
    }

    fn submit(self: &Arc<Self>, marks: Vec<CacheMark>, bodies: Bodies) -> Receiver<()> {
        let (tell, told) = channel::bounded(1);
        let own = Arc::clone(self);
        let then = move |saved: Result<CacheSaved, StoreError>| {
            own.saved(saved);
            let _ = tell.try_send(());
        };
        let bytes_max = self.cache.size_max() as u64;
        self.store
            .save_cache(marks, bytes_max, bodies, Box::new(then));
        told
    }

    /// What is to be stored, and how to get the answers among it that are not stored yet.
    fn list(self: &Arc<Self>) -> (Vec<CacheMark>, Bodies) {
        let clears = self.clears();
        let ranked = self.cache.top(self.items, Instant::now());
        let marks = self.marks(&ranked);
        // Dormant ones are stored already; of the others the answers are at hand.
        let by_key: HashMap<[u8; 32], Arc<Entry>> = ranked
            .into_iter()
            .map(|it| (*it.entry.key.as_bytes(), it.entry))
            .collect();
        let keys: Vec<[u8; 32]> = marks.iter().map(|mark| mark.key).collect();
        let own = Arc::clone(self);
        let bodies = move |place: usize, out: &mut Vec<u8>| {
            let entry = keys.get(place).and_then(|key| by_key.get(key));
            // What was cleared since is not written anew; a clear after this waits for the write.
            entry
                .filter(|_| own.clears() == clears)
                .is_some_and(|entry| {
                    codec::encode(entry, out);
                    true
                })
        };
        (marks, Box::new(bodies))
    }

    /// The list of what is to be stored, the most valuable first.
    fn marks(&self, ranked: &[Ranked]) -> Vec<CacheMark> {
        let now_ms = millis(SystemTime::now());
        let decay = super::heat::decay(self.began.elapsed());
        let mut marks: Vec<CacheMark> = ranked.iter().map(mark_of).collect();
        let held: std::collections::HashSet<[u8; 32]> = marks.iter().map(|it| it.key).collect();
        {
            let mut dormant = self.dormant.lock();
            dormant.retain(|key, mark| mark.expires > now_ms && !held.contains(key.as_bytes()));
            marks.extend(dormant.values().map(|mark| CacheMark {
                score: mark.score * decay,
                ..mark.clone()
            }));
        }
        marks.sort_by(|one, other| other.score.total_cmp(&one.score));
        marks.truncate(self.items);
        marks
    }

    fn saved(&self, saved: Result<CacheSaved, StoreError>) {
        if saved.is_err() {
            self.used.store(UNSAVED, Ordering::Relaxed);
        }
        let mut last = self.last.lock();
        last.error = saved.err();
        match saved {
            Ok(saved) => {
                last.at = Some(SystemTime::now());
                last.entries = saved.held + saved.written;
                log::debug!(
                    held = saved.held, written = saved.written, removed = saved.removed,
                    left_out = saved.left_out;
                    "cache saved"
                );
            }
            // A newer list, or a clear, has taken its place.
            Err(StoreError::Superseded) => {}
            Err(error) => log::warn!("the cache could not be saved: {error}"),
        }
    }
}

fn mark_of(ranked: &Ranked) -> CacheMark {
    let created = millis(ranked.entry.created_at);
    let ttl = u64::try_from(ranked.entry.ttl().as_millis()).unwrap_or(u64::MAX);
    CacheMark {
        key: *ranked.entry.key.as_bytes(),
        coordinator: Arc::clone(&ranked.coordinator),
        created,
        expires: created.saturating_add(ttl),
        score: ranked.score,
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
