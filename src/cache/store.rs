//! The entries of all calls, bounded by their bytes.
//!
//! They are spread over shards by their keys, each behind its own lock, so that lookups on many
//! threads seldom meet. The bound is one for all: a shard may hold more than its share while
//! others hold less, or an entry of an eighth of the cache would find no place. Whoever inserts
//! first reserves its bytes, and evicts until it could: from its own shard if that is full, else
//! from the fullest. What a shard has evicted beyond the need stays reserved for its next insert,
//! a little of it, so that most inserts leave the common count alone. So the bound holds at every
//! moment, and evicting is nearly as exact as if there were one shard. No thread ever holds two of
//! the locks.
//!
//! Start at [`Cache::get`] and [`Cache::insert`].

use std::cmp::{Ordering as Order, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::coordinators::{Coordinators, Owner};
use super::entry::Entry;
use super::key::Key;
use super::shard::{EVICTED_AT_ONCE, Gone, Shard, Terms, Worth};
use super::{Amount, Evicted, Outcome, Stats};
use crate::config::checked;
use crate::procfs;
use crate::sync::{Mutex, MutexGuard};

/// Shards for each core, at least; two threads meet in one of them a few times in a hundred.
const SHARDS_A_CORE: usize = 4;

/// Shards at most: what is done for all of them, such as counting, stays short.
const SHARDS_MAX: usize = 256;

/// The biggest entry, as a part of the cache. What is bigger would evict too much for its use.
const ENTRY_PART: usize = 8;

/// The biggest entry in any cache: 4 GiB less a byte.
const ENTRY_MAX: usize = u32::MAX as usize;

/// What a shard may keep in spare, as a part of an even share: 1.6 % of the cache if all do.
const SPARE_PART: usize = 64;

/// Slots that are looked at before the lock is given up in between.
const SLOTS_AT_ONCE: u32 = 64;

/// A shard alone in its cache lines, so that one's lock does not slow its neighbour's. (128 bytes:
/// x86 fetches lines in pairs.)
#[repr(C, align(128))]
struct Place {
    shard: Mutex<Shard>,
    /// The shard's bytes, its spare ones included, to find the fullest without taking its lock.
    bytes: AtomicUsize,
}

/// See the module.
pub struct Cache {
    places: Box<[Place]>,
    /// What is in or reserved, in bytes.
    used: AtomicUsize,
    size_max: usize,
    entry_max: usize,
    /// From which bytes on a shard evicts from itself for what it takes in: seven eighths of what
    /// it holds if all hold the same. So most inserts take one lock, and none falls far behind.
    share: usize,
    /// The bytes that a shard keeps in spare from one insert to the next.
    pub(super) keeps_max: usize,
    coordinators: Coordinators,
    refused: AtomicU64,
}

/// An entry that [`Cache::top`] chose.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Itself.
    pub entry: Arc<Entry>,
    /// Whose it is.
    pub coordinator: Arc<str>,
    /// What it is worth: decayed uses × tokens ÷ bytes.
    pub score: f64,
}

/// What was cleared.
pub type Swept = Amount;

impl Cache {
    /// An empty cache of that size and policy.
    pub fn new(config: &checked::Cache, now: Instant) -> Self {
        let shards = (procfs::cores() * SHARDS_A_CORE).next_power_of_two();
        Self::with_shards(config, now, shards.min(SHARDS_MAX))
    }

    /// The same in so many shards, a power of two.
    pub(super) fn with_shards(config: &checked::Cache, now: Instant, shards: usize) -> Self {
        let place = |_| Place {
            shard: Mutex::new("cache.shard", Shard::new(config.eviction_policy, now)),
            bytes: AtomicUsize::new(0),
        };
        Self {
            places: (0..shards).map(place).collect(),
            used: AtomicUsize::new(0),
            size_max: config.max_size_bytes,
            entry_max: (config.max_size_bytes / ENTRY_PART).min(ENTRY_MAX),
            share: match shards {
                1 => config.max_size_bytes,
                _ => config.max_size_bytes / shards / 8 * 7,
            },
            keeps_max: config.max_size_bytes / shards / SPARE_PART,
            coordinators: Coordinators::new(),
            refused: AtomicU64::new(0),
        }
    }

    /// The answer that is stored under `key` and not too old. One short lock, nothing copied.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let mut shard = self.place(key).shard.lock();
        let (slot, entry) = shard.find(key)?;
        if entry.expires <= now {
            drop(shard);
            self.expire_one(entry, now);
            return None;
        }
        shard.hit(slot, now);
        drop(shard);
        Some(entry)
    }

    /// As [`Cache::get`], without counting it as a use.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        self.place(key).shard.lock().peek(key, now)
    }

    /// Takes out an entry that was found too old.
    #[cold]
    fn expire_one(&self, entry: Arc<Entry>, now: Instant) {
        let mut gone = Gone::default();
        self.with(self.place(&entry.key), Some(now), self.keeps_max, |shard| {
            shard.expire_one(&entry.key, now, &mut gone);
        });
    }

    /// Takes out the answer to a call, as one that is cleared.
    pub fn remove(&self, key: &Key) {
        let mut gone = Gone::default();
        self.with(self.place(key), None, 0, |shard| {
            shard.clear_one(key, &mut gone);
        });
    }

    /// Who is to be named to [`Cache::insert`] for a coordinator of that name.
    pub fn owner(&self, coordinator: &str) -> Owner {
        self.coordinators.owner(coordinator)
    }

    /// Stores an answer under its key, in place of an older one, and evicts what there is no
    /// room for.
    pub fn insert(&self, entry: Arc<Entry>, owner: Owner, now: Instant) -> Evicted {
        let bytes = entry.bytes();
        let (Some(coordinator), true) = (owner.number(), bytes <= self.entry_max()) else {
            return self.refuse(Evicted::default());
        };
        if entry.expires <= now {
            return Evicted {
                outcome: Outcome::Expired,
                ..Evicted::default()
            };
        }
        let terms = Terms {
            coordinator,
            // `ENTRY_MAX` is one.
            bytes: bytes as u32,
        };
        let place = self.place(&entry.key);
        let mut gone = Gone::default();
        let mut shard = self.open(place, Some(now));
        shard.expire(&mut gone);
        let slot = shard.take_in(entry, terms, &mut gone);
        let mut left = None;
        if self.make_room(&mut shard, bytes, self.share, &mut gone) {
            shard.keep(slot, terms.bytes);
        } else {
            left = shard.let_go(slot);
        }
        self.close(place, shard, self.keeps_max);
        match left {
            None => gone.evicted,
            Some(entry) => self.insert_elsewhere(place, entry, terms, gone),
        }
    }

    /// The same where the shard itself had too little to give.
    #[cold]
    fn insert_elsewhere(
        &self,
        place: &Place,
        entry: Arc<Entry>,
        terms: Terms,
        mut gone: Gone,
    ) -> Evicted {
        if !self.reserve_elsewhere(terms.bytes as usize, &mut gone) {
            return self.refuse(gone.evicted);
        }
        self.with(place, None, self.keeps_max, |shard| {
            // Its bytes are reserved. Another thread may have stored the same call's answer
            // meanwhile.
            let slot = shard.take_in(entry, terms, &mut gone);
            shard.keep(slot, terms.bytes);
        });
        gone.evicted
    }

    /// Takes out all entries of a coordinator; those that are inserted meanwhile may stay.
    pub fn remove_coordinator(&self, name: &str) -> Swept {
        let number = self.coordinators.find(name);
        number.map_or(Swept::default(), |number| self.sweep(Some(number)))
    }

    /// Frees what is too old, though nobody asks for it.
    pub fn purge(&self, now: Instant) -> Swept {
        self.walk(Some(now), &|shard, slots, gone| shard.purge(slots, gone))
    }

    /// Takes out all entries; those that are inserted meanwhile may stay.
    pub fn clear(&self) -> Swept {
        self.sweep(None)
    }

    /// What is in, and what has been. Takes each lock once, one after the other.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            refused: self.refused.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for place in &self.places {
            let shard = place.shard.lock();
            stats.held.sum(Amount {
                count: shard.count() as u64,
                bytes: shard.bytes as u64,
            });
            stats.hits += shard.hits();
            stats.inserts += shard.inserts;
            for (sum, own) in stats.by_reason.iter_mut().zip(shard.by_reason) {
                sum.sum(own);
            }
        }
        stats
    }

    /// What each coordinator has in, of those that have ever been. Looks at all entries, a few of
    /// them under each hold of a lock.
    pub fn by_coordinator(&self) -> Vec<(Arc<str>, Amount)> {
        let names = self.coordinators.names();
        let mut parts = vec![Amount::default(); names.len()];
        self.each_range(|place, slots| place.shard.lock().add_up(slots, &mut parts));
        names.into_iter().zip(parts).collect()
    }

    /// The `count` most valuable entries, the most valuable first: those that were used most for
    /// what they cost and take. For warming.
    pub fn top(&self, count: usize, now: Instant) -> Vec<Ranked> {
        let mut best: BinaryHeap<Reverse<ByScore>> = BinaryHeap::new();
        let mut some = Vec::new();
        self.each_range(|place, slots| {
            let is_full = best.len() >= count;
            let worst = best.peek().filter(|_| is_full);
            let floor = worst.map_or(0.0, |worst| worst.0.0.score);
            let is_more = place.shard.lock().rank(slots, now, floor, &mut some);
            for worth in some.drain(..) {
                best.push(Reverse(ByScore(worth)));
                if best.len() > count {
                    best.pop();
                }
            }
            is_more
        });
        let names = self.coordinators.names();
        let ranked = |Reverse(ByScore(worth)): Reverse<ByScore>| {
            let coordinator = names.get(worth.coordinator as usize)?;
            Some(Ranked {
                entry: worth.entry,
                coordinator: Arc::clone(coordinator),
                score: worth.score,
            })
        };
        best.into_sorted_vec()
            .into_iter()
            .filter_map(ranked)
            .collect()
    }

    /// The bound, in bytes.
    pub const fn size_max(&self) -> usize {
        self.size_max
    }

    /// The biggest entry that is taken, in bytes: whoever collects an answer can stop there.
    pub const fn entry_max(&self) -> usize {
        self.entry_max
    }

    /// What is in or reserved, in bytes.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What of that the shards have in spare.
    #[cfg(test)]
    pub(super) fn spare(&self) -> usize {
        let spare = |place: &Place| place.shard.lock().spare;
        self.places.iter().map(spare).sum()
    }

    fn place(&self, key: &Key) -> &Place {
        // A power of two.
        &self.places[key.word(0) as usize & (self.places.len() - 1)]
    }

    /// Works on a shard under its lock; see [`Cache::close`].
    fn with<R>(
        &self,
        place: &Place,
        now: Option<Instant>,
        keeps: usize,
        work: impl FnOnce(&mut Shard) -> R,
    ) -> R {
        let mut shard = self.open(place, now);
        let result = work(&mut shard);
        self.close(place, shard, keeps);
        result
    }

    /// Locks a shard to work on it. `now`, where it is known, is when uses were that were put off.
    #[inline(always)]
    fn open<'a>(&self, place: &'a Place, now: Option<Instant>) -> MutexGuard<'a, Shard> {
        let mut shard = place.shard.lock();
        if let Some(now) = now {
            shard.pass(now);
        }
        shard
    }

    /// Gives back what a shard that was worked on has in spare above `keeps` bytes, and unlocks it.
    #[inline(always)]
    fn close(&self, place: &Place, mut shard: MutexGuard<'_, Shard>, keeps: usize) {
        self.give_back(&mut shard, keeps);
        let bytes = shard.bytes + shard.spare;
        place.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Gives back what a shard has in spare above `keeps`.
    #[inline]
    fn give_back(&self, shard: &mut Shard, keeps: usize) {
        if shard.spare > keeps {
            let bytes = shard.spare - keeps;
            shard.spare = keeps;
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Takes so many bytes; false if there are not so many.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| {
            let sum = used.checked_add(bytes);
            sum.filter(|sum| *sum <= self.size_max)
        };
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, taken).is_ok()
    }

    /// Reserves so many bytes, if need be by evicting from `shard` as long as that would hold more
    /// than `share`. False if that was not enough, or would take long; what was freed is in spare.
    #[inline(always)]
    fn make_room(&self, shard: &mut Shard, bytes: usize, share: usize, gone: &mut Gone) -> bool {
        let mut left = EVICTED_AT_ONCE;
        loop {
            // What has gone makes place for what comes.
            if let Some(left) = shard.spare.checked_sub(bytes) {
                shard.spare = left;
                return true;
            }
            if self.take(bytes - shard.spare) {
                shard.spare = 0;
                return true;
            }
            let is_full = shard.bytes + bytes > share;
            if left == 0 || !is_full || !shard.evict(gone) {
                return false;
            }
            left -= 1;
        }
    }

    /// Reserves so many bytes by evicting from the fullest shard, then the fullest one after that.
    /// False if all are empty: other threads have reserved everything.
    fn reserve_elsewhere(&self, bytes: usize, gone: &mut Gone) -> bool {
        loop {
            let load = |place: &&Place| place.bytes.load(Ordering::Relaxed);
            let Some(fullest) = self.places.iter().max_by_key(load) else {
                return false;
            };
            let (is_reserved, has_helped) = self.with(fullest, None, 0, |shard| {
                let is_reserved = self.make_room(shard, bytes, 0, gone);
                let has_helped = shard.spare > 0;
                (is_reserved, has_helped)
            });
            gone.free();
            if is_reserved || !has_helped {
                return is_reserved;
            }
        }
    }

    fn refuse(&self, evicted: Evicted) -> Evicted {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Evicted {
            outcome: Outcome::Refused,
            ..evicted
        }
    }

    fn sweep(&self, of: Option<u16>) -> Swept {
        self.walk(None, &|shard, slots, gone| shard.sweep(slots, of, gone))
    }

    /// Does `step` with all slots, a few of them under each hold of a lock, while it says that there
    /// are more; returns what has gone.
    fn walk(
        &self,
        now: Option<Instant>,
        step: &dyn Fn(&mut Shard, Range<u32>, &mut Gone) -> bool,
    ) -> Swept {
        let mut gone = Gone::default();
        self.each_range(|place, slots| {
            let is_more = self.with(place, now, 0, |shard| step(shard, slots, &mut gone));
            gone.free();
            is_more
        });
        let swept = gone.evicted.by_reason.into_iter();
        swept.fold(Swept::default(), Amount::plus)
    }

    /// Goes over the slots of each shard, a few at a time, while `step` says that there are more.
    fn each_range(&self, mut step: impl FnMut(&Place, Range<u32>) -> bool) {
        for place in &self.places {
            for start in (0..u32::MAX).step_by(SLOTS_AT_ONCE as usize) {
                if !step(place, start..start.saturating_add(SLOTS_AT_ONCE)) {
                    break;
                }
            }
        }
    }
}

/// The order of [`Cache::top`]; the key decides between equals, so that it is always the same.
struct ByScore(Worth);

impl Ord for ByScore {
    fn cmp(&self, other: &Self) -> Order {
        let score = self.0.score.total_cmp(&other.0.score);
        score.then_with(|| other.0.entry.key.cmp(&self.0.entry.key))
    }
}

impl PartialOrd for ByScore {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByScore {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for ByScore {}
