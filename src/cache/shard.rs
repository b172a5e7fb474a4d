//! One part of the cache, as it is behind one lock: entries, their order, their ends.
//!
//! Everything here is short, for the lock's sake. What goes is [given to the caller](Gone), who
//! frees it once the lock is free. The caller also knows how many bytes there are altogether; here
//! only the shard's own are counted.
//!
//! An insert's steps are inlined into one another: the calls alone were a tenth of its time.

use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::clock::Clock;
use super::entry::Entry;
use super::expiry::Expiry;
use super::heat::Heat;
use super::index::{self, Index};
use super::key::Key;
use super::policy::{self, Order};
use super::recent::Recent;
use super::slots::{Slot, Slots};
use super::{Amount, Evicted, Outcome, Reason};
use crate::config::checked::EvictionPolicy;

/// Entries that are evicted before the lock is given up in between.
pub const EVICTED_AT_ONCE: usize = 32;

/// Bytes of an entry's place: its slot, in a vector that doubles, so that half as much again is
/// there on the average, and its place in the index.
pub const PLACE_BYTES: usize = size_of::<Slot>() * 3 / 2 + index::PLACE_BYTES;

/// What has gone from a shard, to be freed when its lock is free.
///
/// That is at once: an allocator gives what was freed last, which is near, to who comes next. Freed
/// a dozen at a time, answers overflow what it keeps for that, and an insert takes a sixth longer.
#[derive(Default)]
pub struct Gone {
    /// What became of the insert, and what went for it.
    pub evicted: Evicted,
    /// As a rule one goes for one that comes.
    entries: SmallVec<[Arc<Entry>; 4]>,
}

impl Gone {
    /// Frees what has gone.
    pub fn free(&mut self) {
        self.entries.clear();
    }
}

/// An entry with what it is worth.
pub struct Worth {
    pub score: f64,
    pub entry: Arc<Entry>,
    pub coordinator: u16,
}

/// See the module.
// In this order: all that a hit needs is in one line of memory with the lock, and in one of those
// behind it.
#[repr(C)]
pub struct Shard {
    index: Index,
    /// The uses that have not been told to the policy yet.
    recent: Recent,
    /// Its time is that of the last call that let it go on, such as an insert, or a hit that filled
    /// `recent`.
    clock: Clock,
    slots: Slots,
    policy: policy::Chosen,
    expiry: Expiry,
    pub bytes: usize,
    /// Bytes that are reserved and not taken; what goes adds to them.
    pub spare: usize,
    /// Uses that were settled.
    uses: u64,
    pub inserts: u64,
    pub by_reason: [Amount; 3],
}

const _: () = assert!(
    offset_of!(Shard, recent) + 2 * size_of::<u32>() <= 40,
    "with the lock's 24 bytes a line of memory"
);

impl Shard {
    pub fn new(policy: EvictionPolicy, began: Instant) -> Self {
        let policy = policy::Chosen::new(policy);
        Self {
            recent: Recent::new(policy.patience()),
            clock: Clock::new(began),
            index: Index::default(),
            slots: Slots::new(policy.rings()),
            policy,
            expiry: Expiry::default(),
            bytes: 0,
            spare: 0,
            uses: 0,
            inserts: 0,
            by_reason: [Amount::default(); 3],
        }
    }

    /// Entries.
    pub const fn count(&self) -> usize {
        self.slots.count()
    }

    /// Lookups that found something.
    pub const fn hits(&self) -> u64 {
        let uses = self.uses + self.recent.count() as u64;
        // There, coming is a use as well.
        match self.policy.order() {
            Order::Use => uses - self.inserts,
            Order::Arrival => uses,
        }
    }

    /// The entry of that key, and the number of its slot, for [`Shard::hit`].
    #[inline]
    pub fn find(&self, key: &Key) -> Option<(u32, Arc<Entry>)> {
        self.index.get(key)
    }

    /// Counts the entry in a slot as used.
    #[inline]
    pub fn hit(&mut self, slot: u32, now: Instant) {
        self.recent.push(slot);
        if self.recent.is_full() {
            self.go_on(now);
        }
    }

    /// The entry of that key, if it is not too old.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let (_, entry) = self.index.get(key)?;
        (entry.expires > now).then_some(entry)
    }

    /// Lets the time go on.
    #[inline]
    pub fn pass(&mut self, now: Instant) {
        if self.clock.is_over(now) {
            self.go_on(now);
        }
    }

    /// Lets the time go on, and does what was put off.
    #[cold]
    fn go_on(&mut self, now: Instant) {
        if self.clock.is_over(now) {
            self.clock.pass(now);
        }
        self.settle();
    }

    /// Does what the last uses have put off.
    fn settle(&mut self) {
        let second = self.clock.second();
        let each = |slot: &mut Slot| slot.heat.hit(second);
        self.uses += u64::from(self.recent.count());
        self.policy.hits(&mut self.slots, self.recent.all(), each);
        self.recent = Recent::new(self.policy.patience());
    }

    /// Takes out the entry of that key if it is too old.
    pub fn expire_one(&mut self, key: &Key, now: Instant, gone: &mut Gone) {
        let found = self.index.get(key);
        if let Some((slot, _)) = found.filter(|(_, entry)| entry.expires <= now) {
            self.remove(slot, Some(Reason::Ttl), gone);
        }
    }

    /// Takes out the entry of that key.
    pub fn clear_one(&mut self, key: &Key, gone: &mut Gone) {
        if let Some((slot, _)) = self.index.get(key) {
            self.remove(slot, Some(Reason::Cleared), gone);
        }
    }

    /// Takes an entry in, in place of one of the same key. It has no place in the order yet, so it
    /// does not go for itself while room is made for it; what is too old has been looked for
    /// before. Then [`Shard::keep`] it, or [`Shard::let_go`].
    #[inline(always)]
    pub fn take_in(&mut self, mut entry: Arc<Entry>, terms: Terms, gone: &mut Gone) -> u32 {
        let Terms { coordinator, bytes } = terms;
        let end = self.clock.end(entry.expires);
        self.expiry.insert(end);
        let heat = Heat::new(self.clock.second());
        let new = Slot::new(bytes, end, coordinator, heat);
        loop {
            match self.index.put(entry, new, &mut self.slots) {
                Ok(slot) => return slot,
                Err((slot, back)) => {
                    entry = back;
                    self.remove(slot, None, gone);
                    gone.evicted.outcome = Outcome::Replaced;
                }
            }
        }
    }

    /// Keeps what was taken in; there is room for it.
    #[inline(always)]
    pub fn keep(&mut self, slot: u32, bytes: u32) {
        self.inserts += 1;
        self.bytes += bytes as usize;
        // Coming is a use.
        if self.policy.order() == Order::Use {
            self.recent.push(slot);
            if self.recent.is_full() {
                self.settle();
            }
        } else {
            self.slots.at(slot).heat.hit(self.clock.second());
            self.policy.insert(&mut self.slots, slot);
        }
    }

    /// Gives back what was taken in; there is no room for it.
    #[cold]
    pub fn let_go(&mut self, slot: u32) -> Option<Arc<Entry>> {
        let place = self.slots.at(slot).place;
        self.slots.free(slot);
        let entry = self.index.remove(place);
        debug_assert!(entry.is_some(), "it was taken in");
        entry
    }

    /// Takes out a few that are too old by the shard's clock.
    pub fn expire(&mut self, gone: &mut Gone) {
        let second = self.clock.second();
        if !self.expiry.is_due(second) {
            return;
        }
        let (due, count) = self.expiry.due(&self.slots, second);
        for slot in &due[..count] {
            self.remove(*slot, Some(Reason::Ttl), gone);
        }
    }

    /// Takes out the next one to go; false if there is none.
    #[inline(always)]
    pub fn evict(&mut self, gone: &mut Gone) -> bool {
        loop {
            let is_more = !self.recent.is_empty();
            match self.policy.victim(&self.slots, is_more) {
                Some(slot) if !self.recent.has(slot) => {
                    return self.remove_settled(slot, Some(Reason::Size), gone);
                }
                None if !is_more => return false,
                _ => self.settle(),
            }
        }
    }

    /// Takes out what is in `slots` and of that coordinator, or of any. False if there are no
    /// slots from there on.
    pub fn sweep(&mut self, slots: Range<u32>, of: Option<u16>, gone: &mut Gone) -> bool {
        let is_of = |held: &Slot| of.is_none_or(|of| of == held.coordinator);
        self.take_out(slots, is_of, Reason::Cleared, gone)
    }

    /// Takes out what is in `slots` and too old, up to a second late, since ends are rounded up.
    /// False if there are no slots from there on.
    pub fn purge(&mut self, slots: Range<u32>, gone: &mut Gone) -> bool {
        let second = self.clock.second();
        self.take_out(slots, |held| held.end <= second, Reason::Ttl, gone)
    }

    fn take_out(
        &mut self,
        slots: Range<u32>,
        which: impl Fn(&Slot) -> bool,
        reason: Reason,
        gone: &mut Gone,
    ) -> bool {
        let is_within = slots.start < self.slots.limit();
        for slot in slots {
            if self.slots.get(slot).is_some_and(&which) {
                self.remove(slot, Some(reason), gone);
            }
        }
        is_within
    }

    fn entry(&self, slot: u32) -> Option<(&Slot, &Arc<Entry>)> {
        let noted = self.slots.get(slot)?;
        Some((noted, self.index.entry(noted.place)?))
    }

    /// Adds what is in `slots`, is worth more than `floor` and not too old. False if there are no
    /// slots from there on.
    pub fn rank(
        &mut self,
        slots: Range<u32>,
        now: Instant,
        floor: f64,
        out: &mut Vec<Worth>,
    ) -> bool {
        // Heats are compared as of now, with the uses that were put off.
        self.go_on(now);
        let is_within = slots.start < self.slots.limit();
        let second = self.clock.second();
        for slot in slots {
            let entry = self.entry(slot).filter(|(_, entry)| entry.expires > now);
            let Some((slot, entry)) = entry else {
                continue;
            };
            let uses = f64::from(slot.heat.at(second));
            let score = uses * entry.cost.weight() / f64::from(slot.bytes);
            if score > floor {
                out.push(Worth {
                    score,
                    entry: Arc::clone(entry),
                    coordinator: slot.coordinator,
                });
            }
        }
        is_within
    }

    /// Adds up what is in `slots`, by the coordinator's number. False if there are no slots from
    /// there on.
    pub fn add_up(&self, slots: Range<u32>, parts: &mut [Amount]) -> bool {
        let is_within = slots.start < self.slots.limit();
        for held in slots.filter_map(|slot| self.slots.get(slot)) {
            // One that is new since has no part yet.
            if let Some(part) = parts.get_mut(held.coordinator as usize) {
                part.add(held.bytes);
            }
        }
        is_within
    }

    fn remove(&mut self, slot: u32, reason: Option<Reason>, gone: &mut Gone) {
        if self.recent.has(slot) {
            self.settle();
        }
        self.remove_settled(slot, reason, gone);
    }

    /// Takes out who is not among those whose use was put off.
    #[inline(always)]
    fn remove_settled(&mut self, slot: u32, reason: Option<Reason>, gone: &mut Gone) -> bool {
        let Some(&Slot { place, bytes, .. }) = self.slots.get(slot) else {
            return false;
        };
        self.slots.leave(slot);
        self.slots.free(slot);
        self.bytes -= bytes as usize;
        self.spare += bytes as usize;
        if let Some(reason) = reason {
            self.by_reason[reason.index()].add(bytes);
            gone.evicted.by_reason[reason.index()].add(bytes);
        }
        if let Some(entry) = self.index.remove(place) {
            gone.entries.push(entry);
        }
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
}
