//! Least frequently used, with ageing: whoever was used least goes first, and among those
//! whoever's last use is longest ago. Without ageing, what was popular yesterday would stay for
//! ever.
//!
//! There is a list for each count of uses, so every step is O(1) (Shah, Mitra, Matani, "An O(1)
//! algorithm for implementing the LFU cache eviction scheme", 2010). Counts end at [`USES_MAX`],
//! and are halved once there have been [`SAMPLE`] uses for each entry, as TinyLFU does (Einziger,
//! Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", 2017, "Reset"). Halving
//! joins the lists pairwise; what it does to the count that a slot remembers is made up for when
//! the slot is next looked at.

use super::{Links, Policy};
use crate::cache::heat::Heat;

/// The highest count: one list for each, and one bit of a word.
pub const USES_MAX: u8 = 63;

/// Uses for each entry between two halvings. Caffeine, which made TinyLFU common, takes ten.
pub const SAMPLE: u64 = 10;

/// Fewer entries than this are taken for so many, so that a small cache does not halve at every
/// turn.
pub const ENTRIES_MIN: u64 = 16;

/// A slot's count, as of an age.
#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    count: u8,
    age: u32,
}

/// See the module.
pub struct Lfu {
    /// A list for each count.
    links: Links,
    /// Which lists may have entries, a bit each. A list that becomes empty keeps its bit until a
    /// victim is looked for: a hit need not ask whether it was the last one there.
    filled: u64,
    entries: u64,
    /// Uses since the last halving.
    since: u64,
    /// Halvings so far.
    age: u32,
}

impl Default for Lfu {
    fn default() -> Self {
        Self {
            links: Links::new(u32::from(USES_MAX) + 1),
            filled: 0,
            entries: 0,
            since: 0,
            age: 0,
        }
    }
}

impl Lfu {
    /// Uses from one halving to the next.
    #[inline]
    fn sample(&self) -> u64 {
        SAMPLE * self.entries.max(ENTRIES_MIN)
    }

    #[inline]
    fn used(&mut self, sample: u64) {
        self.since += 1;
        if self.since >= sample {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.since = 0;
        self.age = self.age.wrapping_add(1);
        self.filled = 0;
        for count in 0..=u32::from(USES_MAX) {
            // The one used more often is the one that goes later.
            if count > 0 {
                self.links.append(count / 2, count);
            }
            if !self.links.is_empty(count / 2) {
                self.filled |= 1 << (count / 2);
            }
        }
    }
}

impl Policy for Lfu {
    fn insert(&mut self, slot: u32, second: u32) {
        let (count, age) = (1, self.age);
        let uses = Uses { count, age };
        self.links.insert(count.into(), slot, uses, second);
        self.filled |= 1 << count;
        self.entries += 1;
        self.used(self.sample());
    }

    fn hits(&mut self, slots: &[u32], second: u32) {
        let sample = self.sample();
        for slot in slots {
            let age = self.age;
            let link = self.links.slot(*slot);
            link.heat.hit(second);
            let halved = age.wrapping_sub(link.note.age).min(7);
            let count = link.note.count >> halved;
            // What is asked for most is asked for again at once.
            let stays = count == USES_MAX && self.links.is_newest(count.into(), *slot);
            if !stays {
                let count = (count + 1).min(USES_MAX);
                self.links.slot(*slot).note = Uses { count, age };
                self.links.remove(*slot);
                self.links.push(count.into(), *slot);
                self.filled |= 1 << count;
            }
            self.used(sample);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.links.remove(slot);
        self.entries -= 1;
    }

    fn victim(&mut self) -> Option<u32> {
        while self.filled > 0 {
            let lowest = self.filled.trailing_zeros();
            let oldest = self.links.oldest(lowest);
            if oldest.is_some() {
                return oldest;
            }
            self.filled &= !(1 << lowest);
        }
        None
    }

    fn heat(&self, slot: u32) -> Heat {
        self.links.heat(slot)
    }
}
