//! One part of the cache, as it is behind one lock: entries, their order, their ends.
//!
//! Everything here is short, for the lock's sake. What goes is put into [`Gone`], and freed by the
//! caller once the lock is free. The caller also knows how many bytes there are altogether; here
//! only the shard's own are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::expiry::Expiry;
use super::key::Key;
use super::policy::{self, Link, Policy};
use super::slab::{Cell, Held, Slab, Slot};
use super::{Amount, Reason};
use crate::config::checked::EvictionPolicy;

/// Entries that are evicted before the lock is given up in between.
pub const EVICTED_AT_ONCE: usize = 32;

/// Hits that are put off.
const RECENT_MAX: usize = 46;

/// Bytes of an entry's place: its slot, its end, its links with count and heat in the policy, its
/// two cells. All are in vectors that double, so half as much again is there on the average.
pub const PLACE_BYTES: usize =
    (size_of::<Slot>() + 4 + size_of::<Link>() + 2 * size_of::<Cell>()) * 3 / 2;

/// Entries that go together without a list.
const GONE_FIRST: usize = 3;

/// What has gone from a shard and waits to be freed.
#[derive(Default)]
pub struct Gone {
    /// Held until the lock is free. Mostly a few go for one that comes, and need no allocation.
    first: [Option<Arc<Entry>>; GONE_FIRST],
    count: usize,
    others: Vec<Arc<Entry>>,
    /// Those that were evicted, by [`Reason`].
    pub by_reason: [Amount; 3],
}

impl Gone {
    /// How many.
    pub const fn count(&self) -> usize {
        self.count
    }

    fn push(&mut self, entry: Arc<Entry>) {
        match self.first.get_mut(self.count) {
            Some(free) => *free = Some(entry),
            None => self.others.push(entry),
        }
        self.count += 1;
    }
}

/// What a lookup found.
pub enum Found {
    Entry(Arc<Entry>),
    Nothing,
    /// An entry that is too old, and still there.
    Old,
}

/// A coordinator's part of a shard.
#[derive(Clone, Copy, Default)]
pub struct Part {
    pub held: Amount,
    pub hits: u64,
}

/// An entry with what it is worth.
pub struct Worth {
    pub score: f64,
    pub key: Key,
    pub entry: Arc<Entry>,
    pub coordinator: u16,
}

/// Hits that have not been told to the policy yet, in order, all of one second.
///
/// A hit moves an entry in its list and counts in several places, which are lines of memory that
/// the last thread to hit has changed and another has to fetch. Put off and done together, they
/// are fetched at once, and one after the other only the lock and this.
struct Recent {
    count: u32,
    second: u32,
    /// The end of that second.
    until: Instant,
    slots: [u32; RECENT_MAX],
}

/// See the module.
// In this order: what every hit changes is next to the lock, and apart from what it only reads.
#[repr(C)]
pub struct Shard {
    recent: Recent,
    slab: Slab,
    /// When the cache began.
    began: Instant,
    policy: policy::Chosen,
    expiry: Expiry,
    pub bytes: usize,
    /// Bytes that are reserved and not taken; what goes adds to them.
    pub spare: usize,
    pub hits: u64,
    pub misses: u64,
    pub by_reason: [Amount; 3],
    /// By the coordinator's number.
    pub parts: Vec<Part>,
}

impl Shard {
    pub fn new(policy: EvictionPolicy, began: Instant) -> Self {
        Self {
            recent: Recent {
                count: 0,
                second: 0,
                until: began,
                slots: [0; RECENT_MAX],
            },
            began,
            slab: Slab::new(),
            policy: policy::Chosen::new(policy),
            expiry: Expiry::default(),
            bytes: 0,
            spare: 0,
            hits: 0,
            misses: 0,
            by_reason: [Amount::default(); 3],
            parts: Vec::new(),
        }
    }

    /// Entries.
    pub const fn count(&self) -> usize {
        self.slab.count()
    }

    /// The entry of that key, counted as used.
    #[inline]
    pub fn get(&mut self, key: &Key, now: Instant) -> Found {
        let Some((slot, held)) = self.slab.find(key) else {
            self.misses += 1;
            return Found::Nothing;
        };
        if held.expires <= now {
            self.misses += 1;
            return Found::Old;
        }
        let entry = Arc::clone(&held.entry);
        if now >= self.recent.until {
            self.begin(now);
        }
        let place = self.recent.slots.get_mut(self.recent.count as usize);
        if let Some(place) = place {
            *place = slot;
            self.recent.count += 1;
            return Found::Entry(entry);
        }
        self.settle();
        self.recent.slots[0] = slot;
        self.recent.count = 1;
        Found::Entry(entry)
    }

    /// The entry of that key, if it is not too old.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let (_, held) = self.slab.find(key)?;
        (held.expires > now).then(|| Arc::clone(&held.entry))
    }

    /// Begins another second.
    #[cold]
    fn begin(&mut self, now: Instant) {
        self.settle();
        self.recent.second = self.second(now);
        let end = u64::from(self.recent.second) + 1;
        let until = self.began.checked_add(Duration::from_secs(end));
        self.recent.until = until.unwrap_or(now);
    }

    /// The second of a time, for heats and [`Expiry`].
    fn second(&self, time: Instant) -> u32 {
        let since = time.saturating_duration_since(self.began).as_secs();
        // 136 years.
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    /// The first second that is not before a time.
    fn second_after(&self, time: Instant) -> u32 {
        let since = time.saturating_duration_since(self.began);
        let begun = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        u32::try_from(begun).unwrap_or(u32::MAX)
    }

    /// Does what the last hits have put off. Due before anything but a hit is done or asked.
    pub fn settle(&mut self) {
        let Recent {
            slots,
            count,
            second,
            ..
        } = &mut self.recent;
        let slots = &slots[..std::mem::take(count) as usize];
        self.hits += slots.len() as u64;
        // Mostly all are of one coordinator's.
        let (mut coordinator, mut hits) = (0, 0);
        for slot in slots {
            if let Some(held) = self.slab.get(*slot) {
                if held.coordinator != coordinator {
                    self.parts[coordinator as usize].hits += std::mem::take(&mut hits);
                    coordinator = held.coordinator;
                }
                hits += 1;
            }
        }
        if hits > 0 {
            self.parts[coordinator as usize].hits += hits;
        }
        self.policy.hits(slots, *second);
    }

    /// Takes out the entry of that key if it is too old.
    pub fn expire_one(&mut self, key: &Key, now: Instant, gone: &mut Gone) {
        let old = self.slab.find(key).filter(|(_, held)| held.expires <= now);
        if let Some((slot, _)) = old {
            self.remove(slot, Some(Reason::Ttl), gone);
        }
    }

    /// Takes an entry in, whose key is not in.
    pub fn insert(&mut self, key: Key, entry: Arc<Entry>, terms: Terms) {
        let Terms {
            coordinator,
            bytes,
            expires,
            now,
        } = terms;
        self.bytes += bytes as usize;
        if coordinator as usize >= self.parts.len() {
            let parts = coordinator as usize + 1;
            self.parts.resize(parts, Part::default());
        }
        self.parts[coordinator as usize].held.add(bytes);
        let slot = self.slab.insert(Held {
            key,
            entry,
            expires,
            bytes,
            coordinator,
        });
        if now >= self.recent.until {
            self.begin(now);
        }
        self.policy.insert(slot, self.recent.second);
        self.expiry.insert(slot, self.second_after(expires));
    }

    /// Takes out the entry of that key, as one that is replaced; false if there is none.
    pub fn replace(&mut self, key: &Key, gone: &mut Gone) -> bool {
        let found = self.slab.find(key).map(|(slot, _)| slot);
        found.is_some_and(|slot| self.remove(slot, None, gone))
    }

    /// Takes out a few that are too old.
    pub fn expire(&mut self, now: Instant, gone: &mut Gone) {
        if now >= self.recent.until {
            self.begin(now);
        }
        let (due, count) = self.expiry.due(self.recent.second);
        for slot in &due[..count] {
            self.remove(*slot, Some(Reason::Ttl), gone);
        }
    }

    /// Takes out the next one to go; false if there is none.
    pub fn evict(&mut self, gone: &mut Gone) -> bool {
        let victim = self.policy.victim();
        victim.is_some_and(|slot| self.remove(slot, Some(Reason::Size), gone))
    }

    /// Takes out what is in `slots` and of that coordinator, or of any. False if there are no
    /// slots from there on.
    pub fn sweep(&mut self, slots: std::ops::Range<u32>, of: Option<u16>, gone: &mut Gone) -> bool {
        let is_within = (slots.start as usize) < self.slab.slots();
        for slot in slots {
            let held = self.slab.get(slot);
            if held.is_some_and(|held| of.is_none_or(|of| of == held.coordinator)) {
                self.remove(slot, Some(Reason::Cleared), gone);
            }
        }
        is_within
    }

    /// Takes out what is in `slots` and too old. False if there are no slots from there on.
    pub fn purge(&mut self, slots: std::ops::Range<u32>, now: Instant, gone: &mut Gone) -> bool {
        let is_within = (slots.start as usize) < self.slab.slots();
        for slot in slots {
            if self.slab.get(slot).is_some_and(|held| held.expires <= now) {
                self.remove(slot, Some(Reason::Ttl), gone);
            }
        }
        is_within
    }

    /// Adds what is in `slots`, is worth more than `floor` and not too old. False if there are no
    /// slots from there on.
    pub fn rank(
        &self,
        slots: std::ops::Range<u32>,
        now: Instant,
        floor: f64,
        out: &mut Vec<Worth>,
    ) -> bool {
        let is_within = (slots.start as usize) < self.slab.slots();
        let second = self.second(now);
        for slot in slots {
            let Some(held) = self.slab.get(slot).filter(|held| held.expires > now) else {
                continue;
            };
            let uses = f64::from(self.policy.heat(slot).at(second));
            let score = uses * held.entry.cost.weight() / f64::from(held.bytes);
            if score > floor {
                out.push(Worth {
                    score,
                    key: held.key,
                    entry: Arc::clone(&held.entry),
                    coordinator: held.coordinator,
                });
            }
        }
        is_within
    }

    fn remove(&mut self, slot: u32, reason: Option<Reason>, gone: &mut Gone) -> bool {
        debug_assert!(self.recent.count == 0, "a hit of it may have been put off");
        let Some(held) = self.slab.remove(slot) else {
            return false;
        };
        self.policy.remove(slot);
        self.expiry.remove(slot);
        self.bytes -= held.bytes as usize;
        self.spare += held.bytes as usize;
        let part = &mut self.parts[held.coordinator as usize].held;
        part.count -= 1;
        part.bytes -= u64::from(held.bytes);
        if let Some(reason) = reason {
            self.by_reason[reason.index()].add(held.bytes);
            gone.by_reason[reason.index()].add(held.bytes);
        }
        gone.push(held.entry);
        true
    }
}

/// On what terms an entry is taken in.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Its coordinator's number.
    pub coordinator: u16,
    /// As [`Entry::bytes`] counted.
    pub bytes: u32,
    /// When it is too old.
    pub expires: Instant,
    pub now: Instant,
}
