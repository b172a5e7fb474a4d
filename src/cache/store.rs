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

use super::coordinators::Coordinators;
use super::entry::Entry;
use super::key::Key;
use super::shard::{EVICTED_AT_ONCE, Found, Gone, Shard, Terms, Worth};
use super::{Amount, CoordinatorStats, Evicted, Outcome, Stats};
use crate::config::checked;
use crate::procfs;
use crate::sync::Mutex;

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
const SLOTS_AT_ONCE: u32 = 256;

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
    coordinators: Coordinators,
    refused: AtomicU64,
}

/// An entry that [`Cache::top`] chose.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Its key.
    pub key: Key,
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
            coordinators: Coordinators::new(),
            refused: AtomicU64::new(0),
        }
    }

    /// The answer that is stored under `key` and not too old. One short lock, nothing copied.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let place = self.place(key);
        let found = place.shard.lock().get(key, now);
        match found {
            Found::Entry(entry) => Some(entry),
            Found::Nothing => None,
            Found::Old => {
                self.expire_one(key, now);
                None
            }
        }
    }

    /// As [`Cache::get`], without counting it as a use or a lookup.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        self.place(key).shard.lock().peek(key, now)
    }

    #[cold]
    fn expire_one(&self, key: &Key, now: Instant) {
        let mut gone = Gone::default();
        let place = self.place(key);
        place.with(|shard| {
            shard.expire_one(key, now, &mut gone);
            self.give_back(shard, self.spare_max());
        });
    }

    /// Stores an answer, in place of an older one of the same key, and evicts what there is no
    /// room for.
    pub fn insert(&self, key: Key, entry: Arc<Entry>, coordinator: &str, now: Instant) -> Evicted {
        let bytes = entry.bytes();
        let small = u32::try_from(bytes).ok();
        let small = small.filter(|_| bytes <= self.entry_max());
        let number = small.and_then(|_| self.coordinators.number(coordinator));
        let (Some(small), Some(coordinator)) = (small, number) else {
            return self.refuse(Evicted::default());
        };
        let terms = Terms {
            coordinator,
            bytes: small,
            expires: entry.expires(),
            now,
        };
        let mut evicted = Evicted::default();
        if terms.expires <= terms.now {
            evicted.outcome = Outcome::Expired;
            return evicted;
        }
        let mut incoming = Some(entry);
        let mut gone = Gone::default();
        let place = self.place(&key);
        let is_in = place.with(|shard| {
            if shard.replace(&key, &mut gone) {
                evicted.outcome = Outcome::Replaced;
            }
            shard.expire(terms.now, &mut gone);
            let is_reserved = self.make_room(shard, bytes, self.share(), &mut gone);
            self.give_back(shard, self.spare_max());
            if let Some(entry) = incoming.take_if(|_| is_reserved) {
                shard.insert(key, entry, terms);
            }
            is_reserved
        });
        evicted.take(&gone);
        drop(gone);
        if is_in {
            return evicted;
        }
        if !self.reserve_elsewhere(bytes, &mut evicted) {
            return self.refuse(evicted);
        }
        let mut gone = Gone::default();
        place.with(|shard| {
            // Another thread may have stored the same call's answer meanwhile.
            shard.replace(&key, &mut gone);
            self.give_back(shard, self.spare_max());
            if let Some(entry) = incoming.take() {
                shard.insert(key, entry, terms);
            }
        });
        evicted
    }

    /// Takes out all entries of a coordinator; those that are inserted meanwhile may stay.
    pub fn remove_coordinator(&self, name: &str) -> Swept {
        let number = self.coordinators.find(name);
        number.map_or(Swept::default(), |number| self.sweep(Some(number)))
    }

    /// Frees what is too old, though nobody asks for it.
    pub fn purge(&self, now: Instant) -> Swept {
        self.walk(&|shard, slots, gone| shard.purge(slots, now, gone))
    }

    /// Takes out all entries; those that are inserted meanwhile may stay.
    pub fn clear(&self) -> Swept {
        self.sweep(None)
    }

    /// What is in, and what has been. Takes each lock once, one after the other.
    pub fn stats(&self) -> Stats {
        let names = self.coordinators.names();
        let mut stats = Stats {
            refused: self.refused.load(Ordering::Relaxed),
            ..Stats::default()
        };
        let part = |name| CoordinatorStats {
            name,
            held: Amount::default(),
            hits: 0,
        };
        stats.coordinators = names.into_iter().map(part).collect();
        for place in &self.places {
            let mut shard = place.shard.lock();
            shard.settle();
            stats.held.sum(Amount {
                count: shard.count() as u64,
                bytes: shard.bytes as u64,
            });
            stats.hits += shard.hits;
            stats.misses += shard.misses;
            for (sum, own) in stats.by_reason.iter_mut().zip(shard.by_reason) {
                sum.sum(own);
            }
            for (sum, own) in stats.coordinators.iter_mut().zip(&shard.parts) {
                sum.held.sum(own.held);
                sum.hits += own.hits;
            }
        }
        stats
    }

    /// The `count` most valuable entries, the most valuable first: those that were used most for
    /// what they cost and take. For warming.
    pub fn top(&self, count: usize, now: Instant) -> Vec<Ranked> {
        let mut best: BinaryHeap<Reverse<ByScore>> = BinaryHeap::new();
        let mut some = Vec::new();
        for place in &self.places {
            for start in (0..u32::MAX).step_by(SLOTS_AT_ONCE as usize) {
                let is_full = best.len() >= count;
                let worst = best.peek().filter(|_| is_full);
                let floor = worst.map_or(0.0, |worst| worst.0.0.score);
                let slots = start..start.saturating_add(SLOTS_AT_ONCE);
                let mut shard = place.shard.lock();
                shard.settle();
                let is_more = shard.rank(slots, now, floor, &mut some);
                drop(shard);
                if !is_more {
                    break;
                }
                for worth in some.drain(..) {
                    best.push(Reverse(ByScore(worth)));
                    if best.len() > count {
                        best.pop();
                    }
                }
            }
        }
        let names = self.coordinators.names();
        let ranked = |Reverse(ByScore(worth)): Reverse<ByScore>| {
            let coordinator = names.get(worth.coordinator as usize)?;
            Some(Ranked {
                key: worth.key,
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
        let part = self.size_max / ENTRY_PART;
        if part < ENTRY_MAX { part } else { ENTRY_MAX }
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

    /// From which bytes on a shard evicts from itself for what it takes in: seven eighths of what
    /// it holds if all hold the same. So most inserts take one lock, and none falls far behind.
    fn share(&self) -> usize {
        match self.places.len() {
            1 => self.size_max,
            shards => self.size_max / shards / 8 * 7,
        }
    }

    /// The bytes that a shard keeps in spare from one insert to the next.
    pub(super) fn spare_max(&self) -> usize {
        self.size_max / self.places.len() / SPARE_PART
    }

    /// Gives back what a shard has in spare above `keeps`.
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
    fn make_room(&self, shard: &mut Shard, bytes: usize, share: usize, gone: &mut Gone) -> bool {
        let before = gone.count();
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
            let goes_on = is_full && gone.count() < before + EVICTED_AT_ONCE;
            if !goes_on || !shard.evict(gone) {
                return false;
            }
        }
    }

    /// Reserves so many bytes by evicting from the fullest shard, then the fullest one after that.
    /// False if all are empty: other threads have reserved everything.
    fn reserve_elsewhere(&self, bytes: usize, evicted: &mut Evicted) -> bool {
        loop {
            let load = |place: &&Place| place.bytes.load(Ordering::Relaxed);
            let Some(fullest) = self.places.iter().max_by_key(load) else {
                return false;
            };
            let mut gone = Gone::default();
            let (is_reserved, has_helped) = fullest.with(|shard| {
                let is_reserved = self.make_room(shard, bytes, 0, &mut gone);
                let has_helped = shard.spare > 0;
                // To whoever needs it, wherever that is.
                self.give_back(shard, 0);
                (is_reserved, has_helped)
            });
            evicted.take(&gone);
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
        self.walk(&|shard, slots, gone| shard.sweep(slots, of, gone))
    }

    /// Goes over all slots, a few of them under each hold of a lock, while `step` says that there are
    /// more; returns what has gone.
    fn walk(&self, step: &dyn Fn(&mut Shard, Range<u32>, &mut Gone) -> bool) -> Swept {
        let mut swept = Swept::default();
        for place in &self.places {
            for start in (0..u32::MAX).step_by(SLOTS_AT_ONCE as usize) {
                let slots = start..start.saturating_add(SLOTS_AT_ONCE);
                let mut gone = Gone::default();
                let is_more = place.with(|shard| {
                    let is_more = step(shard, slots, &mut gone);
                    self.give_back(shard, 0);
                    is_more
                });
                gone.by_reason.iter().for_each(|amount| swept.sum(*amount));
                if !is_more {
                    break;
                }
            }
        }
        swept
    }
}

impl Place {
    /// Works on the shard under its lock.
    fn with<R>(&self, work: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shard.lock();
        shard.settle();
        let result = work(&mut shard);
        self.bytes
            .store(shard.bytes + shard.spare, Ordering::Relaxed);
        result
    }
}

impl Evicted {
    fn take(&mut self, gone: &Gone) {
        for (sum, own) in self.by_reason.iter_mut().zip(gone.by_reason) {
            sum.sum(own);
        }
    }
}

/// The order of [`Cache::top`]; the key decides between equals, so that it is always the same.
struct ByScore(Worth);

impl Ord for ByScore {
    fn cmp(&self, other: &Self) -> Order {
        let score = self.0.score.total_cmp(&other.0.score);
        score.then_with(|| other.0.key.cmp(&self.0.key))
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
