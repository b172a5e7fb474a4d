//! What is noted of each entry but for the entry itself, in numbered slots.
//!
//! A slot is all that is changed when an entry is used or goes: its neighbours in the policy's
//! order, its end, its heat, its bytes. It is half a line of memory, and fetched at once. What a
//! lookup reads stands elsewhere, in [`super::index`], so that threads which only look up can share
//! it. Slots that are free are used again, and their numbers never move.

use super::heat::Heat;
use super::policy::lfu::Uses;

/// No slot: ends the list of free ones.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Slot {
    /// The neighbour in the ring that the slot is in, on the side of those who are to go first.
    older: u32,
    /// The other one; while the slot is free, the next one that is free too.
    newer: u32,
    /// Where the index has the entry; the index keeps that right.
    pub place: u32,
    /// As `Entry::bytes` counted; 0 while the slot is free.
    pub bytes: u32,
    /// The second from whose begin on the entry is too old, since the cache began.
    pub end: u32,
    /// Whose it is; see `coordinators`.
    pub coordinator: u16,
    /// What the policy notes of it; only `lfu` does.
    pub uses: Uses,
    /// How much it is in use, for warming.
    pub heat: Heat,
}

const _: () = assert!(size_of::<Slot>() == 32, "half a line of memory");

impl Slot {
    /// A slot that is in no ring and has no place yet. `bytes` are 0 only for a head.
    pub const fn new(bytes: u32, end: u32, coordinator: u16, heat: Heat) -> Self {
        Self {
            older: NONE,
            newer: NONE,
            place: 0,
            bytes,
            end,
            coordinator,
            uses: Uses::NONE,
            heat,
        }
    }

    /// Whether there is an entry.
    pub const fn is_held(&self) -> bool {
        self.bytes != 0
    }
}

/// All slots of a shard, those that are in use in a few rings.
///
/// Each ring is closed by a head of its own, and the heads stand in front of the slots. A head's
/// `newer` is the oldest of its ring, its `older` the newest. So no step asks whether a neighbour
/// is there, which could not be foretold where rings are many and short. A slot that was filled is
/// a ring of its own, without a head, until it joins one: where coming is a use, that is put off.
pub struct Slots {
    slots: Vec<Slot>,
    heads: u32,
    free: u32,
    count: usize,
}

impl Slots {
    /// No slots, and so many empty rings.
    pub fn new(heads: u32) -> Self {
        let head = |head| Slot {
            older: head,
            newer: head,
            ..Slot::new(0, 0, 0, Heat::new(0))
        };
        Self {
            slots: (0..heads).map(head).collect(),
            heads,
            free: NONE,
            count: 0,
        }
    }

    /// The first number that no slot has.
    pub const fn limit(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots in use.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What is noted in a slot that is in use; `None` if it is free or there is none.
    pub fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize).filter(|slot| slot.is_held())
    }

    /// A slot that is there.
    #[inline]
    pub fn at(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    /// All of them, free ones and heads included.
    pub fn all(&self) -> &[Slot] {
        &self.slots
    }

    /// Fills a slot that was free. It is in a ring of its own until it joins another.
    #[inline]
    pub fn fill(&mut self, mut new: Slot) -> u32 {
        self.count += 1;
        let slot = self.free;
        match self.slots.get_mut(slot as usize) {
            Some(place) => {
                self.free = place.newer;
                (new.older, new.newer) = (slot, slot);
                *place = new;
                slot
            }
            None => {
                let slot = self.limit();
                (new.older, new.newer) = (slot, slot);
                self.slots.push(new);
                slot
            }
        }
    }

    /// Frees a slot that is in use and has left its ring, or joined none.
    #[inline]
    pub fn free(&mut self, slot: u32) {
        let next = std::mem::replace(&mut self.free, slot);
        let own = self.at(slot);
        (own.newer, own.bytes) = (next, 0);
        self.count -= 1;
    }

    /// Whether a ring has no slot.
    #[inline]
    pub fn is_empty(&self, ring: u32) -> bool {
        self.slots[ring as usize].newer == ring
    }

    /// The first one that came into a ring, of those that are there.
    #[inline]
    pub fn oldest(&self, ring: u32) -> Option<u32> {
        let oldest = self.slots[ring as usize].newer;
        (oldest >= self.heads).then_some(oldest)
    }

    /// Puts a slot that is in no other ring behind what is in one.
    #[inline]
    pub fn join(&mut self, ring: u32, slot: u32) {
        // The vector's pointer is read once.
        let slots = &mut *self.slots;
        let older = std::mem::replace(&mut slots[ring as usize].older, slot);
        let own = &mut slots[slot as usize];
        (own.older, own.newer) = (older, ring);
        slots[older as usize].newer = slot;
    }

    /// Takes a slot out of its ring.
    #[inline]
    pub fn leave(&mut self, slot: u32) {
        let slots = &mut *self.slots;
        let Slot { older, newer, .. } = slots[slot as usize];
        slots[older as usize].newer = newer;
        slots[newer as usize].older = older;
    }

    /// Moves a slot from its ring to behind what is in another, or in the same.
    #[inline]
    pub fn rejoin(&mut self, ring: u32, slot: u32) {
        self.leave(slot);
        self.join(ring, slot);
    }

    /// Moves some, one after the other, as [`Slots::rejoin`] does; `each` changes something else of
    /// them. The newest is kept at hand and told to the head at the end, so that no move waits for
    /// what the one before has written there.
    #[inline(always)]
    pub fn rejoin_all(
        &mut self,
        ring: u32,
        moved: impl Iterator<Item = u32>,
        mut each: impl FnMut(&mut Slot),
    ) {
        let slots = &mut *self.slots;
        let mut newest = slots[ring as usize].older;
        for slot in moved {
            let own = &mut slots[slot as usize];
            each(own);
            let (older, newer) = (own.older, own.newer);
            slots[older as usize].newer = newer;
            slots[newer as usize].older = older;
            if newest == slot {
                newest = older;
            }
            let own = &mut slots[slot as usize];
            (own.older, own.newer) = (newest, ring);
            slots[newest as usize].newer = slot;
            newest = slot;
        }
        slots[ring as usize].older = newest;
    }

    /// Moves all of a ring behind what is in another, in O(1).
    pub fn append(&mut self, to: u32, from: u32) {
        if self.is_empty(from) {
            return;
        }
        let Slot {
            older: newest,
            newer: oldest,
            ..
        } = *self.at(from);
        let before = self.at(to).older;
        self.at(before).newer = oldest;
        self.at(oldest).older = before;
        self.at(newest).newer = to;
        self.at(to).older = newest;
        let head = self.at(from);
        (head.older, head.newer) = (from, from);
    }
}
