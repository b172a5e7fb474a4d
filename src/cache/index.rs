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

/// Bytes of an entry's place: a cell and a byte by which it is found, in a table of which 3/16 to
/// 3/8 are taken while it grows. On the way from one to the other there are 3.7 places for each that
/// is taken. (It never shrinks, nor do [`Slots`].)
pub const PLACE_BYTES: usize = (size_of::<Cell>() + 1) * 37 / 10;

/// Places of an empty table.
const PLACES_MIN: usize = 16;

/// How many places the table compares at once, as a power of two.
const GROUP_BITS: u32 = if cfg!(target_feature = "sse2") { 4 } else { 3 };

/// The part of a key that stands beside its entry.
fn tag(key: &Key) -> u32 {
    key.word(1) as u32
}

/// That part as a hash: the table takes the place from its lower bits, and compares its upper seven.
/// The lowest are zero, so that everything starts at the first place of a group.
fn hash(tag: u32) -> u64 {
    let tag = u64::from(tag);
    tag << GROUP_BITS | tag >> 25 << 57
}

/// See the module.
///
/// A lookup is over at the first group with a free place. What goes leaves one behind unless its
/// group, or the one before, is full; then it leaves a mark, and a group that was full never has a
/// free place again. So the table is kept so empty that groups are seldom full, and is made anew when
/// there are too many marks.
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

    /// Takes in an entry with what is to be noted of it; returns its slot. Where one of the same key
    /// is in, that stays, and its slot and the new entry are returned.
    ///
    /// Each slot is told its place here, and all of them when the table is made anew.
    #[inline(always)]
    pub fn put(
        &mut self,
        entry: Arc<Entry>,
        new: Slot,
        slots: &mut Slots,
    ) -> Result<u32, (u32, Arc<Entry>)> {
        if self.is_full() || self.has_many_marks() {
            self.make_anew(slots);
        }
        let tag = tag(&entry.key);
        let is_it = |cell: &Cell| cell.tag == tag && cell.entry.key == entry.key;
        let vacant = match self.0.entry(hash(tag), is_it, |cell| hash(cell.tag)) {
            hash_table::Entry::Vacant(vacant) => vacant,
            hash_table::Entry::Occupied(taken) => return Err((taken.get().slot, entry)),
        };
        let slot = slots.fill(new);
        let put = vacant.insert(Cell { entry, tag, slot });
        slots.at(slot).place = put.bucket_index() as u32;
        Ok(slot)
    }

    /// Whether 3/8 of the places are taken.
    fn is_full(&self) -> bool {
        self.0.len() * 8 >= self.0.num_buckets() * 3
    }

    /// Whether there are marks in more than a sixteenth of the places. The capacity is what is taken
    /// and what could be: seven eighths of the places, but for marks.
    fn has_many_marks(&self) -> bool {
        self.0.capacity() * 16 < self.0.num_buckets() * 13
    }

    /// Makes the table anew, twice as long if it is full. This, and what [`Slots`] do when they
    /// double, are the only steps that take time in proportion to a shard: some tens of nanoseconds
    /// for each entry, two milliseconds for 50,000, and seldom. (Marks are too many once all entries
    /// have gone and come some 25 times if the table is nearly full, a thousand times if a quarter of
    /// it is taken.)
    #[cold]
    fn make_anew(&mut self, slots: &mut Slots) {
        let places = self.0.num_buckets() << u32::from(self.is_full());
        let places = places.max(PLACES_MIN);
        let cells = std::mem::replace(&mut self.0, HashTable::with_capacity(places / 8 * 7));
        for cell in cells {
            let slot = cell.slot;
            let put = self
                .0
                .insert_unique(hash(cell.tag), cell, |cell| hash(cell.tag));
            slots.at(slot).place = put.bucket_index() as u32;
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

    /// Entries come and go, as many as there are at once: the table stays as long as it was, and
    /// everything is at its place.
    #[test]
    fn marks_neither_lengthen_the_table_nor_lose_a_place() {
        const PLACES: usize = 128;
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut index, mut slots, mut held) = (Index::default(), Slots::new(1), Vec::new());
        let mut made_anew = 0;
        for _ in 0..20_000 {
            let key = Key::from_bytes(std::array::from_fn(|_| rng.u8(..)));
            let marks = index.0.num_buckets() / 8 * 7 - index.0.capacity();
            let new = entry(key, 1, Instant::now(), Duration::ZERO);
            held.push((key, index.put(new, slot(), &mut slots).unwrap()));
            if index.0.num_buckets() / 8 * 7 - index.0.capacity() < marks {
                made_anew += 1;
                for (key, slot) in &held {
                    let noted = index.entry(slots.at(*slot).place);
                    assert!(noted.is_some_and(|entry| entry.key == *key));
                }
            }
            if held.len() == PLACES * 3 / 8 {
                let (key, slot) = held.swap_remove(rng.usize(..held.len()));
                let place = slots.at(slot).place;
                slots.free(slot);
                assert!(index.remove(place).is_some_and(|entry| entry.key == key));
            }
            assert!(index.0.num_buckets() <= PLACES);
        }
        assert!(made_anew > 5, "{made_anew}");
    }
}
