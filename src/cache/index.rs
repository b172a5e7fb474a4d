//! Entries, found by their key.
//!
//! A key is a hash already, so the index is a table in which an entry stands at the place that its
//! key's own bits name, or at the next free one after it (linear probing; Knuth, "The Art of
//! Computer Programming" 3, 6.4, algorithms L and R). The table holds a part of the key beside the
//! entry, which knows all of it: what is not in is known from one line of memory, and what is in
//! from one more, whose counter a hit changes anyway.

use std::sync::Arc;

use super::entry::Entry;
use super::key::Key;

/// Cells of an empty index.
const CELLS_MIN: usize = 16;

/// A place in the table.
#[derive(Clone)]
pub struct Cell {
    entry: Option<Arc<Entry>>,
    tag: u32,
    slot: u32,
}

const FREE: Cell = Cell {
    entry: None,
    tag: 0,
    slot: 0,
};

/// Where an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// At a place where there is none yet.
    Free(usize),
    /// It is there, and has that slot.
    Taken(u32),
}

/// See the module.
pub struct Index {
    /// A power of two, of which at most half are taken.
    cells: Box<[Cell]>,
    count: usize,
}

/// The bits of a key that say where its entry is, and stand beside it.
pub fn tag(key: &Key) -> u32 {
    key.word(1) as u32
}

impl Index {
    pub fn new() -> Self {
        Self {
            cells: vec![FREE; CELLS_MIN].into(),
            count: 0,
        }
    }

    /// The entry of a key, and the number of its slot.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<(u32, Arc<Entry>)> {
        let tag = tag(key);
        let mut at = self.home(tag);
        loop {
            let cell = &self.cells[at];
            let entry = cell.entry.as_ref()?;
            if cell.tag == tag {
                // First its counter, then its key: so another core gives the line away once.
                let entry = Arc::clone(entry);
                if entry.key == *key {
                    return Some((cell.slot, entry));
                }
            }
            at = self.after(at);
        }
    }

    /// Where the entry of a key is or, once [`Index::put`] there, will be.
    #[inline]
    pub fn spot(&mut self, key: &Key) -> Spot {
        // Half of the cells stay free: the fuller the table, the longer the way to a free one.
        if (self.count + 1) * 2 > self.cells.len() {
            self.lengthen();
        }
        let tag = tag(key);
        let mut at = self.home(tag);
        loop {
            let cell = &self.cells[at];
            let Some(entry) = &cell.entry else {
                return Spot::Free(at);
            };
            if cell.tag == tag && entry.key == *key {
                return Spot::Taken(cell.slot);
            }
            at = self.after(at);
        }
    }

    /// Takes in an entry at the free place of its key; nothing was taken out or in since that was
    /// asked for.
    #[inline]
    pub fn put(&mut self, at: usize, tag: u32, slot: u32, entry: Arc<Entry>) {
        let entry = Some(entry);
        self.cells[at] = Cell { entry, tag, slot };
        self.count += 1;
    }

    /// The entry of a slot that is in, whose tag is known.
    pub fn entry(&self, tag: u32, slot: u32) -> Option<&Arc<Entry>> {
        self.cells[self.find(tag, slot)?].entry.as_ref()
    }

    /// Takes out the entry of a slot.
    #[inline]
    pub fn remove(&mut self, tag: u32, slot: u32) -> Option<Arc<Entry>> {
        let at = self.find(tag, slot)?;
        self.count -= 1;
        self.vacate(at).entry
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.cells.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }

    fn find(&self, tag: u32, slot: u32) -> Option<usize> {
        let mut at = self.home(tag);
        loop {
            let cell = &self.cells[at];
            cell.entry.as_ref()?;
            if cell.slot == slot {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// Frees a cell, and moves those after it that could not be found any more.
    fn vacate(&mut self, mut hole: usize) -> Cell {
        let gone = std::mem::replace(&mut self.cells[hole], FREE);
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = &self.cells[at];
            if cell.entry.is_none() {
                return gone;
            }
            // How far it is from home, and how far from the hole.
            let from = |start: usize| at.wrapping_sub(start) & mask;
            if from(self.home(cell.tag)) >= from(hole) {
                self.cells.swap(at, hole);
                hole = at;
            }
        }
    }

    /// Twice as many cells. This, and what [`Slots`](super::slots::Slots) do when they double, are
    /// the only steps that take time in proportion to a shard: a few nanoseconds for each entry,
    /// and as seldom as a shard doubles.
    #[cold]
    fn lengthen(&mut self) {
        let longer = vec![FREE; self.cells.len() * 2];
        let cells = std::mem::replace(&mut self.cells, longer.into());
        for cell in cells.into_iter().filter(|cell| cell.entry.is_some()) {
            let mut at = self.home(cell.tag);
            while self.cells[at].entry.is_some() {
                at = self.after(at);
            }
            self.cells[at] = cell;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::entry;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

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
            let (mut index, mut model) = (Index::new(), HashMap::new());
            for (slot, (home, number)) in (0..).zip(steps) {
                let key = key(home, number);
                let tag = tag(&key);
                if let Some(slot) = model.remove(&(home, number)) {
                    let gone = index.remove(tag, slot);
                    prop_assert!(gone.is_some_and(|entry| entry.key == key));
                    prop_assert!(index.remove(tag, slot).is_none());
                } else {
                    let Spot::Free(at) = index.spot(&key) else {
                        panic!("{key:?} is in");
                    };
                    index.put(at, tag, slot, entry(key, 1, Instant::now(), Duration::ZERO));
                    model.insert((home, number), slot);
                }
                for home in (0..4).chain(252..=255) {
                    for number in 0..6 {
                        let key = self::key(home, number);
                        let expected = model.get(&(home, number)).copied();
                        if let Some(slot) = expected {
                            prop_assert_eq!(index.spot(&key), Spot::Taken(slot));
                        }
                        let found = index.get(&key);
                        prop_assert_eq!(found.as_ref().map(|(slot, _)| *slot), expected);
                        prop_assert!(found.is_none_or(|(_, entry)| entry.key == key));
                    }
                }
            }
        }
    }
}
