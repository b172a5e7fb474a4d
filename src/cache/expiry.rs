//! Who is too old: a hand that goes around the slots, a few further at each insert, and rests while
//! nobody can be.
//!
//! Only what is new needs the room of what is old, so a glance at a few slots for each that comes
//! is enough: no end is missed for longer than it takes to fill an eighth of the slots anew. An
//! order of the ends, a heap or a wheel, would be kept up for every entry, most of which are
//! evicted long before their end. Whoever looks an entry up knows its end to the nanosecond anyway.

use super::slots::Slots;

/// Slots that an insert looks at: eight lines of memory, one after the other.
pub const LOOKED_AT_ONCE: usize = 16;

/// Slots that go before the lock is given up in between. More than one, so that what is too old
/// goes sooner than it comes.
pub const EXPIRED_AT_ONCE: usize = 8;

/// Later than any end.
const NEVER: u32 = u32::MAX;

/// See the module.
pub struct Expiry {
    hand: usize,
    /// No end is before this one: until then nobody need be looked at.
    first: u32,
    /// No end behind the hand is before this one; the first one's successor once the hand is
    /// around.
    next: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            hand: 0,
            first: NEVER,
            next: NEVER,
        }
    }
}

impl Expiry {
    /// A slot was filled whose entry ends at `end`, a second since the cache began, rounded up:
    /// nobody goes too early.
    pub fn insert(&mut self, end: u32) {
        // `first` is never after `next`. As a rule the new end is after both, and nothing is written.
        if end < self.next {
            self.first = self.first.min(end);
            self.next = end;
        }
    }

    /// Whether anybody can be too old at that second.
    #[inline]
    pub const fn is_due(&self, second: u32) -> bool {
        second >= self.first
    }

    /// Looks at a few slots for those that are too old at that second: which, and how many. They
    /// are to be freed before it looks again.
    pub fn due(&mut self, slots: &Slots, second: u32) -> ([u32; EXPIRED_AT_ONCE], usize) {
        let (mut due, mut count) = ([0; EXPIRED_AT_ONCE], 0);
        let slots = slots.all();
        for _ in 0..LOOKED_AT_ONCE.min(slots.len()) {
            if self.hand >= slots.len() {
                self.hand = 0;
                self.first = std::mem::replace(&mut self.next, NEVER);
            }
            let slot = &slots[self.hand];
            if slot.is_held() && slot.end <= second {
                if count == due.len() {
                    break;
                }
                due[count] = self.hand as u32;
                count += 1;
            } else if slot.is_held() {
                self.next = self.next.min(slot.end);
            }
            self.hand += 1;
        }
        (due, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heat::Heat;
    use crate::cache::slots::Slot;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_turn_of_the_hand_finds_all_who_are_due_and_nobody_else(
            phases in prop::collection::vec(
                (prop::collection::vec((1..61u32, 1..40u32, any::<bool>()), 0..200), 0..15u32, 0..8usize),
                1..5,
            ),
        ) {
            let (mut expiry, mut slots, mut model) = (Expiry::default(), Slots::new(1), BTreeMap::new());
            let fill = |expiry: &mut Expiry, slots: &mut Slots, end| {
                expiry.insert(end);
                slots.fill(Slot::new(1, end, 0, Heat::new(0)))
            };
            for _ in 0..60 {
                model.insert(fill(&mut expiry, &mut slots, NEVER), NEVER);
            }
            let mut second = 0;
            for (steps, passed, glances) in phases {
                for (slot, end, removes) in steps {
                    if model.remove(&slot).is_some() {
                        slots.free(slot);
                    }
                    if !removes && model.len() < 60 {
                        model.insert(fill(&mut expiry, &mut slots, second + end), second + end);
                    }
                }
                second += passed;
                // At most eight go at once, of at most sixteen.
                let rounds = 61 / EXPIRED_AT_ONCE + 1;
                // A few glances leave the hand anywhere, and a turn finds all from there.
                for rounds in [glances, rounds] {
                    for _ in 0..rounds {
                        let (due, count) = expiry.due(&slots, second);
                        for slot in &due[..count] {
                            slots.free(*slot);
                            prop_assert!(model.remove(slot).is_some_and(|end| end <= second));
                        }
                    }
                }
                prop_assert!(model.values().all(|end| *end > second));
            }
        }
    }
}
