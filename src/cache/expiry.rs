//! Who is too old: a hand that goes around the slots, a few further at each insert, and rests while
//! nobody can be.
//!
//! Only what is new needs the room of what is old, so a glance at a few slots for each that comes
//! is enough: no end is missed for longer than it takes to fill an eighth of the slots anew. An order of
//! the ends, a heap or a wheel, would be kept up for every entry, most of which are evicted long
//! before their end. Whoever looks an entry up knows its end to the nanosecond anyway.

/// Slots that an insert looks at: a line of memory or two.
pub const LOOKED_AT_ONCE: usize = 16;

/// Slots that go before the lock is given up in between. More than one, so that what is too old
/// goes sooner than it comes.
pub const EXPIRED_AT_ONCE: usize = 8;

/// No end: the slot is free.
const NEVER: u32 = u32::MAX;

/// See the module.
pub struct Expiry {
    /// By slot, the second from whose begin on it is too old, since the cache began.
    ends: Vec<u32>,
    hand: usize,
    /// No end is before this one: until then nobody need be looked at.
    first: u32,
    /// No end behind the hand is before this one; the first one's successor once the hand is around.
    next: u32,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            ends: Vec::new(),
            hand: 0,
            first: NEVER,
            next: NEVER,
        }
    }
}

impl Expiry {
    /// Adds a slot that is not in. `end` is rounded up: nobody goes too early.
    pub fn insert(&mut self, slot: u32, end: u32) {
        let end = end.min(NEVER - 1);
        self.first = self.first.min(end);
        self.next = self.next.min(end);
        match self.ends.get_mut(slot as usize) {
            Some(old) => *old = end,
            // Slots are numbered as they come.
            None => self.ends.push(end),
        }
    }

    /// Takes out a slot that is in.
    pub fn remove(&mut self, slot: u32) {
        self.ends[slot as usize] = NEVER;
    }

    /// Looks at a few slots for those that are too old at that second: which, and how many.
    pub fn due(&mut self, second: u32) -> ([u32; EXPIRED_AT_ONCE], usize) {
        let (mut due, mut count) = ([0; EXPIRED_AT_ONCE], 0);
        if second < self.first {
            return (due, count);
        }
        for _ in 0..LOOKED_AT_ONCE.min(self.ends.len()) {
            if self.hand >= self.ends.len() {
                self.hand = 0;
                self.first = std::mem::replace(&mut self.next, NEVER);
            }
            let end = self.ends[self.hand];
            if end <= second {
                if count == due.len() {
                    break;
                }
                due[count] = self.hand as u32;
                count += 1;
            } else {
                self.next = self.next.min(end);
            }
            self.hand += 1;
        }
        (due, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_turn_of_the_hand_finds_all_who_are_due_and_nobody_else(
            phases in prop::collection::vec(
                (prop::collection::vec((0..60u32, 1..40u32, any::<bool>()), 0..200), 0..15u32, 0..8usize),
                1..5,
            ),
        ) {
            let (mut expiry, mut model) = (Expiry::default(), BTreeMap::new());
            for slot in 0..60 {
                expiry.insert(slot, NEVER);
                model.insert(slot, NEVER);
            }
            let mut second = 0;
            for (steps, passed, glances) in phases {
                for (slot, end, removes) in steps {
                    if model.remove(&slot).is_some() {
                        expiry.remove(slot);
                    }
                    if !removes {
                        expiry.insert(slot, second + end);
                        model.insert(slot, second + end);
                    }
                }
                second += passed;
                // At most eight go at once, of at most sixteen.
                let rounds = 60 / EXPIRED_AT_ONCE + 1;
                // A few glances leave the hand anywhere, and a turn finds all from there.
                for rounds in [glances, rounds] {
                    for _ in 0..rounds {
                        let (due, count) = expiry.due(second);
                        for slot in &due[..count] {
                            expiry.remove(*slot);
                            prop_assert!(model.remove(slot).is_some_and(|end| end <= second));
                        }
                    }
                }
                prop_assert!(model.values().all(|end| *end > second));
            }
        }
    }
}
