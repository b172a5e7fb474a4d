//! Who is too old: a timing wheel whose turns get coarser the farther away an end is.
//!
//! Entries stand in lists, one for each second of the next minute, one for each eight seconds of
//! the next eight minutes, and so on. So taking one in and out is O(1), whatever the TTLs are, and
//! nothing moves from list to list as time goes by; in return an entry of a far end is found up to
//! about an eighth of its time late. That costs room only: who looks it up knows its end to the
//! nanosecond. After the timers of Linux (`kernel/time/timer.c`); the idea is from Varghese and
//! Lauck, "Hashed and Hierarchical Timing Wheels", 1987.

use super::shard::NANOS_A_SECOND;

/// Lists of a turn, one bit of a word each.
const LISTS: usize = 64;

/// How much coarser each turn is than the one before, as a power of two.
const COARSER_BITS: usize = 3;

/// Turns. The last one reaches 33 years ahead, past any TTL.
const TURNS: usize = 9;

/// The list of what is due, behind those of the turns.
const DUE: u32 = (TURNS * LISTS) as u32;

/// What comes in front of the slots' links: the ends of each list, which is a ring.
const HEADS: u32 = DUE + 1;

#[derive(Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

/// See the module.
pub struct Expiry {
    links: Vec<Link>,
    /// Which lists may have entries, a bit each.
    filled: [u64; TURNS],
    /// The second up to which everything has been put into the list of what is due.
    second: u64,
}

impl Default for Expiry {
    fn default() -> Self {
        let alone = |head| Link {
            before: head,
            after: head,
        };
        Self {
            links: (0..HEADS).map(alone).collect(),
            filled: [0; TURNS],
            second: 0,
        }
    }
}

impl Expiry {
    /// Adds a slot that is not in, whose time ends `at` nanoseconds since the cache began.
    pub fn insert(&mut self, slot: u32, at: u64) {
        let head = self.list(at.div_ceil(NANOS_A_SECOND));
        let link = HEADS + slot;
        let index = link as usize;
        if index >= self.links.len() {
            let alone = Link {
                before: link,
                after: link,
            };
            self.links.resize(index + 1, alone);
        }
        let before = self.links[head as usize].before;
        self.links[index] = Link {
            before,
            after: head,
        };
        self.links[before as usize].after = link;
        self.links[head as usize].before = link;
    }

    /// Takes out a slot that is in.
    pub fn remove(&mut self, slot: u32) {
        let Link { before, after } = self.links[(HEADS + slot) as usize];
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }

    /// A slot whose time has ended by `now`; one that has ended may be missed for as long as the
    /// module says.
    pub fn due(&mut self, now: u64) -> Option<u32> {
        let second = now / NANOS_A_SECOND;
        if second > self.second {
            self.turn(second);
        }
        let first = self.links[DUE as usize].after;
        // Only the list's head itself is before the slots.
        first.checked_sub(HEADS)
    }

    /// The list of that second.
    fn list(&mut self, second: u64) -> u32 {
        if second <= self.second {
            return DUE;
        }
        for turn in 0..TURNS {
            let bits = turn * COARSER_BITS;
            // Rounded up, so that nobody is found too early.
            let number = second.div_ceil(1 << bits);
            if number - (self.second >> bits) < LISTS as u64 {
                let list = number as usize % LISTS;
                self.filled[turn] |= 1 << list;
                return (turn * LISTS + list) as u32;
            }
        }
        // Farther than the last turn reaches: its last list, which is found first if at all.
        let list = ((self.second >> ((TURNS - 1) * COARSER_BITS)) as usize + LISTS - 1) % LISTS;
        self.filled[TURNS - 1] |= 1 << list;
        ((TURNS - 1) * LISTS + list) as u32
    }

    /// Goes on to that second: what its lists and those before it hold is due.
    fn turn(&mut self, second: u64) {
        for turn in 0..TURNS {
            let bits = turn * COARSER_BITS;
            let (last, number) = (self.second >> bits, second >> bits);
            if last == number {
                // Then so are those of all coarser turns.
                break;
            }
            for passed in 0..(number - last).min(LISTS as u64) {
                let list = (number - passed) as usize % LISTS;
                if self.filled[turn] & (1 << list) != 0 {
                    self.filled[turn] &= !(1 << list);
                    self.append(turn * LISTS + list);
                }
            }
        }
        self.second = second;
    }

    /// Moves all of a list behind what is due, in O(1).
    fn append(&mut self, head: usize) {
        let Link {
            before: last,
            after: first,
        } = self.links[head];
        if first as usize == head {
            return;
        }
        let before = self.links[DUE as usize].before;
        self.links[before as usize].after = first;
        self.links[first as usize].before = before;
        self.links[last as usize].after = DUE;
        self.links[DUE as usize].before = last;
        self.links[head] = Link {
            before: head as u32,
            after: head as u32,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const YEARS_10: u64 = 10 * 365 * 24 * 3600;

    proptest! {
        #[test]
        fn nobody_is_due_too_early_or_more_than_an_eighth_late(
            steps in prop::collection::vec(
                (0..12u32, prop_oneof![0..90u64, 0..9_000u64, 0..YEARS_10], 0..3u8, 0..1000u64),
                0..200,
            )
        ) {
            let (mut expiry, mut model) = (Expiry::default(), BTreeMap::new());
            let mut now = 0;
            for (slot, seconds, what, millis) in steps {
                let nanos = (seconds * 1000 + millis) * 1_000_000;
                match (model.remove(&slot), what) {
                    (Some(_), 0) => expiry.remove(slot),
                    (Some(kept), _) => { model.insert(slot, kept); }
                    (None, _) => {
                        expiry.insert(slot, now + nanos);
                        model.insert(slot, (now, now + nanos));
                    }
                }
                if what == 2 {
                    now += nanos / 4;
                    while let Some(slot) = expiry.due(now) {
                        expiry.remove(slot);
                        let (_, end) = model.remove(&slot).unwrap();
                        prop_assert!(end <= now);
                    }
                    for (began, end) in model.values() {
                        // The wheel and the ends are each rounded to a second.
                        let late = (end - began) / 7 + 3 * NANOS_A_SECOND;
                        prop_assert!(end + late > now);
                    }
                }
            }
        }
    }

    #[test]
    fn within_a_minute_the_second_is_exact() {
        let mut expiry = Expiry::default();
        for slot in 0..60 {
            expiry.insert(slot, u64::from(slot + 1) * NANOS_A_SECOND);
        }
        for slot in 0..60 {
            let end = u64::from(slot + 1) * NANOS_A_SECOND;
            assert_eq!(expiry.due(end - 1), None);
            assert_eq!(expiry.due(end), Some(slot));
            expiry.remove(slot);
        }
    }
}
