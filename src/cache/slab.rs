//! Entries in numbered slots, found by their key.
//!
//! The index is a table of chains that run through the slots themselves: a key is a hash already,
//! so finding one is two reads, and taking one out leaves nothing behind. Slots that are free are
//! used again, and their numbers never move.

use std::sync::Arc;

use super::entry::Entry;
use super::heat::Heat;
use super::key::Key;

/// Ends a chain.
const NONE: u32 = u32::MAX;

/// Chains of an empty slab.
const CHAINS_MIN: usize = 16;

/// What a slot holds.
pub struct Held {
    pub key: Key,
    pub entry: Arc<Entry>,
    /// As [`Entry::bytes`] counted.
    pub bytes: usize,
    /// Nanoseconds since the cache began.
    pub expires: u64,
    /// Whose it is; see `coordinators`.
    pub coordinator: u16,
    pub heat: Heat,
}

/// A slot, and the next one of its chain: that of its key, or that of the free ones.
pub struct Slot {
    held: Option<Held>,
    next: u32,
}

/// See the module.
pub struct Slab {
    slots: Vec<Slot>,
    chains: Vec<u32>,
    free: u32,
    count: usize,
}

impl Slab {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            chains: vec![NONE; CHAINS_MIN],
            free: NONE,
            count: 0,
        }
    }

    /// Slots, free ones included.
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Entries.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What is in a slot.
    pub fn get(&self, slot: u32) -> Option<&Held> {
        self.slots.get(slot as usize)?.held.as_ref()
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Held> {
        self.slots.get_mut(slot as usize)?.held.as_mut()
    }

    /// The slot of a key.
    pub fn find(&self, key: &Key) -> Option<u32> {
        let mut slot = self.chains[self.chain(key)];
        while slot != NONE {
            let Slot { held, next } = &self.slots[slot as usize];
            if held.as_ref().is_some_and(|held| held.key == *key) {
                return Some(slot);
            }
            slot = *next;
        }
        None
    }

    /// Takes in what has a key that is not in.
    pub fn insert(&mut self, held: Held) -> u32 {
        // Two chains an entry at least: a step along one is a read from far memory.
        if self.count * 2 >= self.chains.len() {
            self.lengthen();
        }
        let chain = self.chain(&held.key);
        let filled = Slot {
            held: Some(held),
            next: self.chains[chain],
        };
        let slot = match self.free {
            NONE => {
                self.slots.push(filled);
                (self.slots.len() - 1) as u32
            }
            free => {
                self.free = self.slots[free as usize].next;
                self.slots[free as usize] = filled;
                free
            }
        };
        self.chains[chain] = slot;
        self.count += 1;
        slot
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: u32) -> Option<Held> {
        let held = self.slots.get_mut(slot as usize)?.held.take()?;
        let next = self.slots[slot as usize].next;
        let chain = self.chain(&held.key);
        if self.chains[chain] == slot {
            self.chains[chain] = next;
        } else {
            let mut before = self.chains[chain];
            while self.slots[before as usize].next != slot {
                before = self.slots[before as usize].next;
            }
            self.slots[before as usize].next = next;
        }
        self.slots[slot as usize].next = self.free;
        self.free = slot;
        self.count -= 1;
        Some(held)
    }

    fn chain(&self, key: &Key) -> usize {
        // A power of two.
        key.word(1) as usize & (self.chains.len() - 1)
    }

    /// Twice as many chains. This is the one step that takes time in proportion to a shard: some
    /// 10 ns for each entry, and as seldom as a shard doubles.
    fn lengthen(&mut self) {
        self.chains = vec![NONE; self.chains.len() * 2];
        for slot in 0..self.slots.len() {
            let Some(held) = &self.slots[slot].held else {
                continue;
            };
            let chain = self.chain(&held.key);
            self.slots[slot].next = self.chains[chain];
            self.chains[chain] = slot as u32;
        }
    }
}
