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
use super::slots::Slots;

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
    /// In a cell where there is none yet.
    Free(u32),
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
fn tag(key: &Key) -> u32 {
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
        let mut place = self.home(tag);
        loop {
            let cell = self.cells.get(place)?;
            let entry = cell.entry.as_ref()?;
            if cell.tag == tag {
                // First its counter, then its key: so another core gives the line away once.
                let entry = Arc::clone(entry);
                if entry.key == *key {
                    return Some((cell.slot, entry));
                }
            }
            place = self.after(place);
        }
    }

    /// Where the entry of a key is or, once [`Index::put`] there, will be.
    #[inline]
    pub fn spot(&mut self, key: &Key, slots: &mut Slots) -> Spot {
        // Half of the cells stay free: the fuller the table, the longer the way to a free one.
        if (self.count + 1) * 2 > self.cells.len() {
            self.lengthen(slots);
        }
        let tag = tag(key);
        let mut place = self.home(tag);
        loop {
            let cell = &self.cells[place];
            let Some(entry) = &cell.entry else {
                return Spot::Free(place as u32);
            };
            if cell.tag == tag && entry.key == *key {
                return Spot::Taken(cell.slot);
            }
            place = self.after(place);
        }
    }

    /// Takes in an entry at the free place of its key, which its slot knows; nothing was taken out
    /// or in since that was asked for.
    #[inline]
    pub fn put(&mut self, place: u32, slot: u32, entry: Arc<Entry>) {
        let cell = &mut self.cells[place as usize];
        cell.tag = tag(&entry.key);
        cell.slot = slot;
        cell.entry = Some(entry);
        self.count += 1;
    }

    /// The entry at a place.
    pub fn entry(&self, place: u32) -> Option<&Arc<Entry>> {
        self.cells[place as usize].entry.as_ref()
    }

    /// Takes out the entry at a place, and moves those after it that could not be found any more.
    #[inline]
    pub fn remove(&mut self, place: u32, slots: &mut Slots) -> Option<Arc<Entry>> {
        let mut hole = place as usize;
        let gone = self.cells[hole].entry.take();
        self.count -= usize::from(gone.is_some());
        let mask = self.cells.len() - 1;
        let mut place = hole;
        loop {
            place = self.after(place);
            let cell = &self.cells[place];
            if cell.entry.is_none() {
                return gone;
            }
            // How far it is from home, and how far from the hole.
            let from = |start: usize| place.wrapping_sub(start) & mask;
            if from(self.home(cell.tag)) >= from(hole) {
                slots.at(cell.slot).place = hole as u32;
                self.cells.swap(place, hole);
                hole = place;
            }
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.cells.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.cells.len() - 1)
    }

    /// Twice as many cells. This, and what [`Slots`] do when they double, are the only steps that
    /// take time in proportion to a shard: a few nanoseconds for each entry, and as seldom as a
    /// shard doubles.
    #[cold]
    fn lengthen(&mut self, slots: &mut Slots) {
        let longer = vec![FREE; self.cells.len() * 2];
        let cells = std::mem::replace(&mut self.cells, longer.into());
        for cell in cells.into_iter().filter(|cell| cell.entry.is_some()) {
            let mut place = self.home(cell.tag);
            while self.cells[place].entry.is_some() {
                place = self.after(place);
            }
            slots.at(cell.slot).place = place as u32;
            self.cells[place] = cell;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heat::Heat;
    use crate::cache::slots::Slot;
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
            let (mut index, mut slots, mut model) = (Index::new(), Slots::new(1), HashMap::new());
            for (home, number) in steps {
                let key = key(home, number);
                if let Some(slot) = model.remove(&(home, number)) {
                    let place = slots.at(slot).place;
                    slots.free(slot);
                    let gone = index.remove(place, &mut slots);
                    prop_assert!(gone.is_some_and(|entry| entry.key == key));
                } else {
                    let Spot::Free(place) = index.spot(&key, &mut slots) else {
                        panic!("{key:?} is in");
                    };
                    let slot = slots.fill(Slot::new(place, 1, 0, 0, Heat::new(0)));
                    index.put(place, slot, entry(key, 1, Instant::now(), Duration::ZERO));
                    model.insert((home, number), slot);
                }
                for home in (0..4).chain(252..=255) {
                    for number in 0..6 {
                        let key = self::key(home, number);
                        let expected = model.get(&(home, number)).copied();
                        if let Some(slot) = expected {
                            prop_assert_eq!(index.spot(&key, &mut slots), Spot::Taken(slot));
                            let noted = index.entry(slots.at(slot).place);
                            prop_assert!(noted.is_some_and(|entry| entry.key == key));
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
