//! Entries in numbered slots, found by their key.
//!
//! A key is a hash already, so the index is a table in which a key stands at the place that its
//! own bits name, or at the next free one after it (linear probing; Knuth, "The Art of Computer
//! Programming" 3, 6.4, algorithms L and R). The table holds a part of the key beside the number
//! of the slot: what is not in is known from one line of memory, and what is in from two. Slots
//! that are free are used again, and their numbers never move.

use std::sync::Arc;
use std::time::Instant;

use super::entry::Entry;
use super::key::Key;

/// No slot: ends the list of free ones, and marks a free cell.
const NONE: u32 = u32::MAX;

/// Cells of an empty slab.
const CELLS_MIN: usize = 16;

/// What a slot holds. Nothing of it changes before it is taken out, so that threads which look it
/// up can share its line of memory.
pub struct Held {
    pub key: Key,
    pub entry: Arc<Entry>,
    pub expires: Instant,
    /// As [`Entry::bytes`] counted.
    pub bytes: u32,
    /// Whose it is; see `coordinators`.
    pub coordinator: u16,
}

enum State {
    /// With the next one that is free too.
    Free(u32),
    Held(Held),
}

/// A slot, in a line of memory of its own.
#[repr(align(64))]
pub struct Slot(State);

const _: () = assert!(size_of::<Slot>() == 64, "a line of memory");

/// A place in the index.
#[derive(Clone, Copy)]
pub struct Cell {
    /// The key's bits that also say where its place is.
    tag: u32,
    slot: u32,
}

const FREE: Cell = Cell { tag: 0, slot: NONE };

/// See the module.
pub struct Slab {
    slots: Vec<Slot>,
    /// A power of two, of which at most half are taken.
    cells: Box<[Cell]>,
    free: u32,
    count: usize,
}

impl Slab {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            cells: vec![FREE; CELLS_MIN].into(),
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
        match &self.slots.get(slot as usize)?.0 {
            State::Held(held) => Some(held),
            State::Free(_) => None,
        }
    }

    /// The slot of a key, and what is in it.
    pub fn find(&self, key: &Key) -> Option<(u32, &Held)> {
        let tag = tag(key);
        let mut at = self.home(tag);
        loop {
            let cell = self.cells[at];
            if cell.slot == NONE {
                return None;
            }
            if cell.tag == tag
                && let Some(held) = self.get(cell.slot)
                && held.key == *key
            {
                return Some((cell.slot, held));
            }
            at = self.after(at);
        }
    }

    /// Takes in what has a key that is not in.
    pub fn insert(&mut self, held: Held) -> u32 {
        // Half of the cells stay free: the fuller the table, the longer the way to a free one.
        if (self.count + 1) * 2 > self.cells.len() {
            self.lengthen();
        }
        let tag = tag(&held.key);
        let slot = match self.slots.get(self.free as usize) {
            Some(Slot(State::Free(next))) => {
                let slot = std::mem::replace(&mut self.free, *next);
                self.slots[slot as usize] = Slot(State::Held(held));
                slot
            }
            _ => {
                self.slots.push(Slot(State::Held(held)));
                (self.slots.len() - 1) as u32
            }
        };
        self.place(Cell { tag, slot });
        self.count += 1;
        slot
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: u32) -> Option<Held> {
        let Slot(state) = self.slots.get_mut(slot as usize)?;
        if matches!(state, State::Free(_)) {
            return None;
        }
        let State::Held(held) = std::mem::replace(state, State::Free(self.free)) else {
            return None;
        };
        self.free = slot;
        self.count -= 1;
        let mut at = self.home(tag(&held.key));
        while self.cells[at].slot != slot {
            at = self.after(at);
        }
        self.vacate(at);
        Some(held)
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.cells.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }

    fn place(&mut self, cell: Cell) {
        let mut at = self.home(cell.tag);
        while self.cells[at].slot != NONE {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    /// Frees a cell, and moves those after it that could not be found any more.
    fn vacate(&mut self, mut hole: usize) {
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if cell.slot == NONE {
                break;
            }
            // How far it is from home, and how far from the hole.
            let from = |start: usize| at.wrapping_sub(start) & mask;
            if from(self.home(cell.tag)) >= from(hole) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = FREE;
    }

    /// Twice as many cells. This is the one step that takes time in proportion to a shard: a few
    /// nanoseconds for each entry, and as seldom as a shard doubles.
    fn lengthen(&mut self) {
        let longer = vec![FREE; self.cells.len() * 2];
        let cells = std::mem::replace(&mut self.cells, longer.into());
        for cell in cells.into_iter().filter(|cell| cell.slot != NONE) {
            self.place(cell);
        }
    }
}

fn tag(key: &Key) -> u32 {
    key.word(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::entry;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Duration;

    /// A key whose place in the table is chosen, and meets others there.
    fn key(home: u8, number: u8) -> Key {
        let mut bytes = [0; 32];
        (bytes[8], bytes[31]) = (home, number);
        Key::from_bytes(bytes)
    }

    proptest! {
        #[test]
        fn what_is_in_is_found_however_keys_meet(
            // The homes at both ends of a small table, so that runs of cells go around its end.
            steps in prop::collection::vec((prop_oneof![0..4u8, 252..=255u8], 0..6u8), 0..300)
        ) {
            let expires = Instant::now();
            let entry = entry(1, expires, Duration::ZERO);
            let (mut slab, mut model) = (Slab::new(), HashMap::new());
            for (home, number) in steps {
                let key = key(home, number);
                if let Some(slot) = model.remove(&(home, number)) {
                    prop_assert!(slab.remove(slot).is_some_and(|held| held.key == key));
                    prop_assert!(slab.remove(slot).is_none());
                } else {
                    let entry = Arc::clone(&entry);
                    let held = Held { key, entry, expires, bytes: 1, coordinator: 0 };
                    model.insert((home, number), slab.insert(held));
                }
                prop_assert_eq!(slab.count(), model.len());
                for home in (0..4).chain(252..=255) {
                    for number in 0..6 {
                        let found = slab.find(&self::key(home, number));
                        let expected = model.get(&(home, number)).copied();
                        prop_assert_eq!(found.map(|(slot, _)| slot), expected);
                    }
                }
            }
        }
    }
}
