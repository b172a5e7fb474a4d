//! Who is too old first: a binary heap of slots by the end of their time.
//!
//! Each slot's place in the heap is known, so what is evicted leaves it at once, and the heap is
//! never longer than there are entries. A hit does not touch it.

/// A slot, and when its time ends, in nanoseconds since the cache began.
#[derive(Clone, Copy)]
struct Due {
    at: u64,
    slot: u32,
}

/// See the module.
#[derive(Default)]
pub struct Expiry {
    heap: Vec<Due>,
    /// Where each slot is in the heap.
    places: Vec<u32>,
}

impl Expiry {
    /// Adds a slot that is not in.
    pub fn insert(&mut self, slot: u32, at: u64) {
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        self.heap.push(Due { at, slot });
        self.up(self.heap.len() - 1);
    }

    /// Takes out a slot that is in.
    pub fn remove(&mut self, slot: u32) {
        let place = self.places[slot as usize] as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.up(place);
            let moved = self.heap[place];
            self.down(place);
            debug_assert!(self.heap[self.places[moved.slot as usize] as usize].at == moved.at);
        }
    }

    /// The slot whose time ended first, if it has by `now`.
    pub fn due(&self, now: u64) -> Option<u32> {
        let first = self.heap.first()?;
        (first.at <= now).then_some(first.slot)
    }

    fn put(&mut self, place: usize, due: Due) {
        self.heap[place] = due;
        self.places[due.slot as usize] = place as u32;
    }

    fn up(&mut self, mut place: usize) {
        let due = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= due.at {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, due);
    }

    fn down(&mut self, mut place: usize) {
        let due = self.heap[place];
        loop {
            let left = 2 * place + 1;
            let at = |child: usize| self.heap.get(child).map_or(u64::MAX, |due| due.at);
            let child = left + usize::from(at(left + 1) < at(left));
            if child >= self.heap.len() || self.heap[child].at >= due.at {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_due_is_the_first_due(
            steps in prop::collection::vec((0..12u32, 0..40u64, any::<bool>()), 0..120)
        ) {
            let (mut expiry, mut model) = (Expiry::default(), BTreeMap::new());
            for (slot, at, adds) in steps {
                match (model.remove(&slot), adds) {
                    (Some(_), _) => expiry.remove(slot),
                    (None, true) => {
                        expiry.insert(slot, at);
                        model.insert(slot, at);
                    }
                    (None, false) => {}
                }
                let first = model.values().min().copied();
                let found = expiry.due(u64::MAX).map(|slot| model[&slot]);
                prop_assert_eq!(found, first);
                prop_assert_eq!(expiry.due(20).is_some(), first.is_some_and(|at| at <= 20));
                prop_assert_eq!(expiry.heap.len(), model.len());
            }
        }
    }
}
