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
    /// Which lists have entries, a bit each.
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
    #[inline]
    fn push(&mut self, slot: u32, count: u8) {
        let age = self.age;
        self.links.push(count.into(), slot, Uses { count, age });
        self.filled |= 1 << count;
    }

    /// A slot's count.
    #[inline]
    fn count(&self, slot: u32) -> u8 {
        let Uses { count, age } = self.links.note(slot);
        let halved = self.age.wrapping_sub(age).min(7);
        count >> halved
    }

    /// Takes a slot out of the list of its count.
    #[inline]
    fn take(&mut self, slot: u32, count: u8) {
        self.links.remove(slot);
        // Without a branch, as in the links.
        self.filled &= !(u64::from(self.links.is_empty(count.into())) << count);
    }

    #[inline]
    fn used(&mut self) {
        self.since += 1;
        if self.since >= SAMPLE * self.entries.max(ENTRIES_MIN) {
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
    fn insert(&mut self, slot: u32) {
        self.push(slot, 1);
        self.entries += 1;
        self.used();
    }

    fn hits(&mut self, slots: &[u32]) {
        for slot in slots {
            let count = self.count(*slot);
            // What is asked for most is asked for again at once.
            let stays = count == USES_MAX && self.links.is_newest(count.into(), *slot);
            if !stays {
                self.take(*slot, count);
                self.push(*slot, (count + 1).min(USES_MAX));
            }
            self.used();
        }
    }

    fn remove(&mut self, slot: u32) {
        let count = self.count(slot);
        self.take(slot, count);
        self.entries -= 1;
    }

    fn victim(&self) -> Option<u32> {
        // 64 if there is none.
        let lowest = self.filled.trailing_zeros();
        (lowest <= u32::from(USES_MAX)).then(|| self.links.oldest(lowest))?
    }
}
