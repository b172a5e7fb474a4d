//! Entries, found by their key.
//!
//! A key is a hash already, so the table takes a part of it for one. That part stands beside the
//! entry, which knows the whole key: what is not in is known from the table alone, and what is in
//! from one line of memory more, whose counter a hit changes anyway.

use std::sync::Arc;

use hashbrown::hash_table::{self, HashTable};

use super::entry::Entry;
use super::key::Key;
use super::slots::{Slot, Slots};

/// An entry, and what is noted of it here.
struct Cell {
    entry: Arc<Entry>,
    tag: u32,
    slot: u32,
}

/// Bytes of an entry's place: a cell and a byte by which it is found, in a table of which 7/32 to
/// 7/16 are taken. On the way from one to the other there are 3.2 places for each that is taken.
pub const PLACE_BYTES: usize = (size_of::<Cell>() + 1) * 16 / 5;

/// The part of a key that stands beside its entry.
fn tag(key: &Key) -> u32 {
    key.word(1) as u32
}

/// That part as a hash: the table takes the place from the lower bits, and compares seven upper ones.
fn hash(tag: u32) -> u64 {
    let bits = u64::from(tag);
    bits << 32 | bits
}

/// See the module.
///
/// The table is kept half as full as it might be. In a fuller one there would be runs of sixteen
/// places without a free one, and each that goes from such a run leaves a mark over which every
/// lookup has to go on.
#[derive(Default)]
pub struct Index(HashTable<Cell>);

impl Index {
    /// The entry of a key, and the number of its slot.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<(u32, Arc<Entry>)> {
        let tag = tag(key);
        let cell = self.0.find(hash(tag), |cell| cell.tag == tag)?;
        // First its counter, then its key: so another core gives the line away once.
        let entry = Arc::clone(&cell.entry);
        if entry.key == *key {
            return Some((cell.slot, entry));
        }
        self.get_of_equal_tags(key)
    }

    #[cold]
    fn get_of_equal_tags(&self, key: &Key) -> Option<(u32, Arc<Entry>)> {
        let tag = tag(key);
        let is_it = |cell: &Cell| cell.tag == tag && cell.entry.key == *key;
        let cell = self.0.find(hash(tag), is_it)?;
        Some((cell.slot, Arc::clone(&cell.entry)))
    }

    /// The entry at a place.
    pub fn entry(&self, place: u32) -> Option<&Arc<Entry>> {
        self.0.get_bucket(place as usize).map(|cell| &cell.entry)
    }

    /// Takes in an entry with what is to be noted of it, and gives back in what slot that is. If
    /// there is one of the same key, it stays, and gives its slot and the new one back.
    ///
    /// Slots are told where their entries are, all of them when that changes.
    #[inline(always)]
    pub fn put(
        &mut self,
        entry: Arc<Entry>,
        mut new: Slot,
        slots: &mut Slots,
    ) -> Result<u32, (u32, Arc<Entry>)> {
        if self.0.len() >= self.0.capacity() - self.0.len() {
            self.lengthen(slots);
        }
        let tag = tag(&entry.key);
        let is_it = |cell: &Cell| cell.tag == tag && cell.entry.key == entry.key;
        let vacant = match self.0.entry(hash(tag), is_it, |cell| hash(cell.tag)) {
            hash_table::Entry::Vacant(vacant) => vacant,
            hash_table::Entry::Occupied(taken) => return Err((taken.get().slot, entry)),
        };
        let slot = slots.next();
        let put = vacant.insert(Cell { entry, tag, slot });
        new.place = put.bucket_index() as u32;
        let filled = slots.fill(new);
        debug_assert_eq!(filled, slot, "as it was foretold");
        Ok(slot)
    }

    /// Doubles the table. This, and what [`Slots`] do when they double, are the only steps that take
    /// time in proportion to a shard: a few nanoseconds for each entry, and seldom.
    #[cold]
    fn lengthen(&mut self, slots: &mut Slots) {
        let more = self.0.capacity() - self.0.len() + 1;
        self.0.reserve(more, |cell| hash(cell.tag));
        for place in 0..self.0.num_buckets() {
            if let Some(cell) = self.0.get_bucket(place) {
                slots.at(cell.slot).place = place as u32;
            }
        }
    }

    /// Takes out the entry at a place.
    #[inline]
    pub fn remove(&mut self, place: u32) -> Option<Arc<Entry>> {
        let found = self.0.get_bucket_entry(place as usize);
        Some(found.ok()?.remove().0.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heat::Heat;
    use crate::cache::tests::entry;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    /// A key whose tag is chosen, and meets others there.
    fn key(tag: u8, number: u8) -> Key {
        let mut bytes = [0; 32];
        (bytes[8], bytes[31]) = (tag, number);
        Key::from_bytes(bytes)
    }

    fn slot() -> Slot {
        Slot::new(1, 0, 0, Heat::new(0))
    }

    proptest! {
        #[test]
        fn what_is_in_is_found_however_keys_meet(
            steps in prop::collection::vec((0..4u8, 0..20u8), 0..300)
        ) {
            let (mut index, mut slots, mut model) = (Index::default(), Slots::new(1), BTreeMap::new());
            for (tag, number) in steps {
                let key = key(tag, number);
                if let Some(slot) = model.remove(&(tag, number)) {
                    let place = slots.at(slot).place;
                    slots.free(slot);
                    let gone = index.remove(place);
                    prop_assert!(gone.is_some_and(|entry| entry.key == key));
                    prop_assert!(index.remove(place).is_none());
                } else {
                    let new = entry(key, 1, Instant::now(), Duration::ZERO);
                    let put = index.put(new, slot(), &mut slots);
                    model.insert((tag, number), put.unwrap());
                }
                for (tag, number) in (0..4).flat_map(|tag| (0..20).map(move |it| (tag, it))) {
                    let key = self::key(tag, number);
                    let expected = model.get(&(tag, number)).copied();
                    if let Some(slot) = expected {
                        let new = entry(key, 1, Instant::now(), Duration::ZERO);
                        let put = index.put(new, self::slot(), &mut slots);
                        prop_assert_eq!(put.map_err(|(slot, _)| slot), Err(slot));
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
