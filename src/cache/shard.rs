//! One part of the cache, as it is behind one lock: entries, their order, their ends.
//!
//! Everything here is short, for the lock's sake. What goes waits to be freed until the caller
//! takes it, [a few at a time](Gone), once the lock is free. The caller also knows how many bytes
//! there are altogether; here only the shard's own are counted.
//!
//! An insert's steps are inlined into one another: the calls alone were a tenth of its time.

use std::hint::black_box;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::expiry::Expiry;
use super::heat::Heat;
use super::index::{self, Cell, Index, Spot};
use super::key::Key;
use super::policy;
use super::slots::{Slot, Slots};
use super::{Amount, Evicted, Outcome, Reason};
use crate::config::checked::EvictionPolicy;

/// Entries that are evicted before the lock is given up in between.
pub const EVICTED_AT_ONCE: usize = 32;

/// Hits that are put off: three lines of memory.
const RECENT_MAX: usize = 48;

/// Bytes of an entry's place: its slot and its two cells. Both are in vectors that double, so half
/// as much again is there on the average.
pub const PLACE_BYTES: usize = (size_of::<Slot>() + 2 * size_of::<Cell>()) * 3 / 2;

/// Entries that have gone before they are freed, unless they are big: see [`Shard::take_gone`].
const GONE_MAX: usize = 16;

/// Entries that have gone from a shard, to be freed when its lock is free.
#[derive(Default)]
pub struct Gone(Vec<Arc<Entry>>);

impl Drop for Gone {
    /// Nobody has used them for long, so their memory is far away, and to free one waits for it. To
    /// look at one does not: those looked at one after the other are all fetched at once. Freeing
    /// reads three lines of each: the counters, the body, and the texts behind it.
    fn drop(&mut self) {
        for entry in &self.0 {
            black_box(Arc::strong_count(entry));
            black_box((entry.body.as_bytes().len(), entry.model.len()));
        }
    }
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
    pub entry: Arc<Entry>,
    pub coordinator: u16,
}

/// See the module.
// In this order: all that a hit needs is in one line of memory with the lock, and in one of those
// behind it.
#[repr(C)]
pub struct Shard {
    /// Of `recent`, how many there are.
    recent_count: u32,
    /// What time it is, as far as heats are concerned: that of the last insert, or of the first hit
    /// in `recent`.
    second: u32,
    index: Index,
    pub misses: u64,
    /// The slots of hits that have not been told to the policy yet, in order.
    ///
    /// A hit moves an entry in its ring and counts in several places, which are lines of memory
    /// that the last thread to hit has changed and another has to fetch. Put off and done together,
    /// they are fetched at once, and one after the other only the lock and this.
    recent: [u32; RECENT_MAX],
    /// The end of `second`.
    until: Instant,
    slots: Slots,
    /// When the cache began.
    began: Instant,
    policy: policy::Chosen,
    expiry: Expiry,
    pub bytes: usize,
    /// Bytes that are reserved and not taken; what goes adds to them.
    pub spare: usize,
    /// What has gone and is not freed yet, and its bytes, which are not among `bytes`.
    gone: Vec<Arc<Entry>>,
    gone_bytes: usize,
    pub hits: u64,
    pub inserts: u64,
    pub by_reason: [Amount; 3],
    /// By the coordinator's number.
    pub parts: Vec<Part>,
}

const _: () = assert!(
    offset_of!(Shard, recent) <= 40,
    "with the lock's 24 bytes a line of memory"
);

impl Shard {
    pub fn new(policy: EvictionPolicy, began: Instant) -> Self {
        let policy = policy::Chosen::new(policy);
        Self {
            recent_count: 0,
            second: 0,
            recent: [0; RECENT_MAX],
            until: began,
            began,
            index: Index::new(),
            slots: Slots::new(policy.rings()),
            policy,
            expiry: Expiry::default(),
            bytes: 0,
            spare: 0,
            gone: Vec::new(),
            gone_bytes: 0,
            hits: 0,
            inserts: 0,
            misses: 0,
            by_reason: [Amount::default(); 3],
            parts: Vec::new(),
        }
    }

    /// Entries.
    pub const fn count(&self) -> usize {
        self.slots.count()
    }

    /// The entry of that key, and the number of its slot, for [`Shard::hit`].
    #[inline]
    pub fn find(&self, key: &Key) -> Option<(u32, Arc<Entry>)> {
        self.index.get(key)
    }

    /// Counts the entry in a slot as used.
    #[inline]
    pub fn hit(&mut self, slot: u32, now: Instant) {
        // Neither empty nor full, in one comparison.
        if !(1..RECENT_MAX as u32).contains(&self.recent_count) {
            self.settle();
            self.pass(now);
        }
        if let Some(place) = self.recent.get_mut(self.recent_count as usize) {
            *place = slot;
            self.recent_count += 1;
        }
    }

    /// The entry of that key, if it is not too old.
    pub fn peek(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let (_, entry) = self.index.get(key)?;
        (entry.expires > now).then_some(entry)
    }

    /// Lets the time go on. What was before it is settled.
    fn pass(&mut self, now: Instant) {
        if now >= self.until {
            self.second = self.second(now);
            let end = Duration::from_secs(u64::from(self.second) + 1);
            self.until = self.began.checked_add(end).unwrap_or(now);
        }
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
        let count = std::mem::take(&mut self.recent_count);
        if count == 0 {
            return;
        }
        let hit = &self.recent[..count as usize];
        self.hits += u64::from(count);
        let (second, parts) = (self.second, &mut self.parts);
        self.policy.hits(&mut self.slots, hit, |slot| {
            slot.heat.hit(second);
            parts[slot.coordinator as usize].hits += 1;
        });
    }

    /// Takes out the entry of that key if it is too old.
    pub fn expire_one(&mut self, key: &Key, now: Instant, evicted: &mut Evicted) {
        let found = self.index.get(key);
        if let Some((slot, _)) = found.filter(|(_, entry)| entry.expires <= now) {
            self.remove(slot, Some(Reason::Ttl), evicted);
        }
    }

    /// Takes out the entry of that key.
    pub fn clear_one(&mut self, key: &Key, evicted: &mut Evicted) {
        if let Some((slot, _)) = self.index.get(key) {
            self.remove(slot, Some(Reason::Cleared), evicted);
        }
    }

    /// Takes an entry in, in place of one of the same key, if there is room once that one has gone;
    /// gives it back if not. What is too old has been looked for before.
    #[inline(always)]
    pub fn insert(
        &mut self,
        entry: Arc<Entry>,
        terms: Terms,
        evicted: &mut Evicted,
        make_room: impl FnOnce(&mut Self, &mut Evicted) -> bool,
    ) -> Result<(), Arc<Entry>> {
        let Terms { coordinator, bytes } = terms;
        let tag = index::tag(&entry.key);
        let end = self.second_after(entry.expires);
        let at = loop {
            match self.index.spot(&entry.key) {
                Spot::Free(at) => break at,
                // What is taken out moves others, so the spot is looked for again.
                Spot::Taken(slot) => {
                    self.remove(slot, None, evicted);
                    evicted.outcome = Outcome::Replaced;
                }
            }
        };
        let heat = Heat::new(self.second);
        let new = Slot::new(tag, bytes, end, coordinator, heat);
        let slot = self.slots.fill(new);
        self.index.put(at, tag, slot, entry);
        // It has no place in the order yet, so it does not go for itself.
        if !make_room(self, evicted) {
            self.slots.free(slot);
            let entry = self.index.remove(tag, slot);
            debug_assert!(entry.is_some(), "it was put there above");
            return entry.map_or(Ok(()), Err);
        }
        self.inserts += 1;
        self.policy.insert(&mut self.slots, slot);
        self.expiry.insert(end);
        self.bytes += bytes as usize;
        if coordinator as usize >= self.parts.len() {
            let parts = coordinator as usize + 1;
            self.parts.resize(parts, Part::default());
        }
        self.parts[coordinator as usize].held.add(bytes);
        Ok(())
    }

    /// Takes out a few that are too old.
    pub fn expire(&mut self, now: Instant, evicted: &mut Evicted) {
        self.pass(now);
        if !self.expiry.is_due(self.second) {
            return;
        }
        let (due, count) = self.expiry.due(&self.slots, self.second);
        for slot in &due[..count] {
            self.remove(*slot, Some(Reason::Ttl), evicted);
        }
    }

    /// What has gone, if it is enough to be freed or more than `keeps` bytes.
    pub fn take_gone(&mut self, keeps: usize) -> Gone {
        if self.gone.len() < GONE_MAX && self.gone_bytes <= keeps {
            return Gone::default();
        }
        self.gone_bytes = 0;
        let next = Vec::with_capacity(GONE_MAX);
        Gone(std::mem::replace(&mut self.gone, next))
    }

    /// Takes out the next one to go; false if there is none.
    #[inline(always)]
    pub fn evict(&mut self, evicted: &mut Evicted) -> bool {
        let victim = self.policy.victim(&self.slots);
        victim.is_some_and(|slot| self.remove(slot, Some(Reason::Size), evicted))
    }

    /// Takes out what is in `slots` and of that coordinator, or of any. False if there are no
    /// slots from there on.
    pub fn sweep(&mut self, slots: Range<u32>, of: Option<u16>, evicted: &mut Evicted) -> bool {
        let is_of = |held: &Slot| of.is_none_or(|of| of == held.coordinator);
        self.take_out(slots, is_of, Reason::Cleared, evicted)
    }

    /// Takes out what is in `slots` and too old, up to a second late, since ends are rounded up.
    /// False if there are no slots from there on.
    pub fn purge(&mut self, slots: Range<u32>, now: Instant, evicted: &mut Evicted) -> bool {
        self.pass(now);
        let second = self.second;
        self.take_out(slots, |held| held.end <= second, Reason::Ttl, evicted)
    }

    fn take_out(
        &mut self,
        slots: Range<u32>,
        which: impl Fn(&Slot) -> bool,
        reason: Reason,
        evicted: &mut Evicted,
    ) -> bool {
        let is_within = slots.start < self.slots.limit();
        for slot in slots {
            if self.slots.get(slot).is_some_and(&which) {
                self.remove(slot, Some(reason), evicted);
            }
        }
        is_within
    }

    fn entry(&self, slot: u32) -> Option<(&Slot, &Arc<Entry>)> {
        let noted = self.slots.get(slot)?;
        Some((noted, self.index.entry(noted.tag, slot)?))
    }

    /// Adds what is in `slots`, is worth more than `floor` and not too old. False if there are no
    /// slots from there on.
    pub fn rank(&self, slots: Range<u32>, now: Instant, floor: f64, out: &mut Vec<Worth>) -> bool {
        let is_within = slots.start < self.slots.limit();
        let second = self.second(now);
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

    #[inline(always)]
    fn remove(&mut self, slot: u32, reason: Option<Reason>, evicted: &mut Evicted) -> bool {
        debug_assert!(self.recent_count == 0, "a hit of it may have been put off");
        let Some(&Slot {
            tag,
            bytes,
            coordinator,
            ..
        }) = self.slots.get(slot)
        else {
            return false;
        };
        self.slots.leave(slot);
        self.slots.free(slot);
        self.bytes -= bytes as usize;
        self.spare += bytes as usize;
        let part = &mut self.parts[coordinator as usize].held;
        part.count -= 1;
        part.bytes -= u64::from(bytes);
        if let Some(reason) = reason {
            self.by_reason[reason.index()].add(bytes);
            evicted.by_reason[reason.index()].add(bytes);
        }
        if let Some(entry) = self.index.remove(tag, slot) {
            self.gone_bytes += bytes as usize;
            self.gone.push(entry);
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
