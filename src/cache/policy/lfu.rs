//! Least frequently used, with ageing: whoever was used least goes first, and among those whoever
//! came to that number of uses first. Without ageing, what was popular yesterday would stay for
//! ever.
//!
//! There is a ring for each count of uses, so every step is O(1) (Shah, Mitra, Matani, "An O(1)
//! algorithm for implementing the LFU cache eviction scheme", 2010). Counts end at [`USES_MAX`],
//! where a use only makes an entry the last of its ring: no branch has to be foretold, and among
//! those whoever was not used for longest goes first. Counts are halved after [`SAMPLE`] uses for
//! each entry that there was at the last halving, as TinyLFU does (Einziger, Friedman, Manes,
//! "TinyLFU: A Highly Efficient Cache Admission Policy", 2017, "Reset"). Halving joins the rings
//! pairwise; what it does to the count that a slot remembers is made up for when the slot is next
//! looked at.

use super::{Order, Policy};
use crate::cache::recent::Used;
use crate::cache::slots::{Slot, Slots};

/// The highest count, as with TinyLFU: one ring for each, and one bit of a word. With 63 there are
/// no more hits (a Zipf trace), and four times as many rings.
pub const USES_MAX: u8 = (1 << COUNT_BITS) - 1;

/// Uses for each entry between two halvings. Caffeine, which made TinyLFU common, takes ten.
pub const SAMPLE: u64 = 10;

/// Fewer entries than this are taken for so many, so that a small cache does not halve at every
/// turn.
pub const ENTRIES_MIN: u64 = 16;

/// The bits of a count.
const COUNT_BITS: u32 = 4;

/// A slot's count, as of an age, in one number. Ages are counted modulo 4096: an entry that was
/// neither used nor evicted for exactly so many halvings is taken for as often used as it was then,
/// until the next one.
#[derive(Clone, Copy)]
pub struct Uses(u16);

impl Uses {
    /// None, of no age.
    pub const NONE: Self = Self(0);

    const fn new(count: u8, age: u16) -> Self {
        Self(age << COUNT_BITS | count as u16)
    }

    /// The count, after as many halvings as there have been since.
    fn at(self, age: u16) -> u8 {
        let halvings = age.wrapping_sub(self.0 >> COUNT_BITS) & (u16::MAX >> COUNT_BITS);
        (self.0 as u8 & USES_MAX) >> halvings.min(COUNT_BITS as u16)
    }
}

/// The ring that those who come join.
const FIRST: u32 = 1;

/// See the module.
pub struct Lfu {
    /// Which rings may have entries, a bit each. A ring that becomes empty keeps its bit until a
    /// victim is looked for: a hit need not ask whether it was the last one there.
    filled: u32,
    /// Uses until the next halving.
    left: u64,
    /// Halvings so far.
    age: u16,
}

impl Default for Lfu {
    fn default() -> Self {
        Self {
            filled: 0,
            left: SAMPLE * ENTRIES_MIN,
            age: 0,
        }
    }
}

impl Lfu {
    #[cold]
    fn halve(&mut self, slots: &mut Slots) {
        self.left = SAMPLE * (slots.count() as u64).max(ENTRIES_MIN);
        self.age = self.age.wrapping_add(1);
        self.filled = 0;
        for count in 0..=u32::from(USES_MAX) {
            // The one used more often is the one that goes later.
            if count > 0 {
                slots.append(count / 2, count);
            }
            if !slots.is_empty(count / 2) {
                self.filled |= 1 << (count / 2);
            }
        }
    }
}

impl Policy for Lfu {
    const RINGS: u32 = USES_MAX as u32 + 1;
    const ORDER: Order = Order::Use;

    #[inline(always)]
    fn hits(&mut self, slots: &mut Slots, used: Used, mut each: impl FnMut(&mut Slot)) {
        let (age, mut filled) = (self.age, self.filled);
        self.left = self.left.saturating_sub(used.len() as u64);
        for slot in used {
            let own = slots.at(slot);
            each(own);
            let count = USES_MAX.min(own.uses.at(age) + 1);
            own.uses = Uses::new(count, age);
            slots.rejoin(count.into(), slot);
            filled |= 1 << count;
        }
        self.filled = filled;
        if self.left == 0 {
            self.halve(slots);
        }
    }

    /// Up to the next halving, which counts the entries that there are then.
    fn patience(&self) -> u32 {
        self.left.try_into().unwrap_or(u32::MAX)
    }

    fn victim(&mut self, slots: &Slots, is_more: bool) -> Option<u32> {
        while self.filled > 0 {
            let lowest = self.filled.trailing_zeros();
            // A use moves an entry up, so the oldest here stays the oldest unless it is used itself.
            // But who has come since belongs in the first ring, below this one.
            if lowest > FIRST && is_more {
                return None;
            }
            let oldest = slots.oldest(lowest);
            if oldest.is_some() {
                return oldest;
            }
            self.filled &= !(1 << lowest);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_halved_with_each_age_that_passes() {
        for count in 0..=USES_MAX {
            for age in [0, 1, 4094, 4095, 4096, u16::MAX] {
                let uses = Uses::new(count, age);
                for passed in 0..6 {
                    let now = uses.at(age.wrapping_add(passed));
                    assert_eq!(now, count >> passed, "{count} {age} {passed}");
                }
                assert_eq!(uses.at(age.wrapping_add(4095)), 0);
                assert_eq!(uses.at(age.wrapping_add(4096)), count);
            }
        }
    }
}
