//! Least recently used: whoever has not been used for longest goes first.

use super::lfu::Uses;
use super::{Links, List, Policy};

/// See the module.
#[derive(Default)]
pub struct Lru {
    links: Links,
    list: List,
}

impl Policy for Lru {
    fn insert(&mut self, slot: u32) {
        self.list.push(&mut self.links, slot, Uses::default());
    }

    fn hits(&mut self, slots: &[u32]) {
        self.links.fetch(slots);
        for slot in slots {
            // What is asked for most is asked for again at once.
            if self.list.newest != *slot {
                self.list.remove(&mut self.links, *slot);
                self.list.push(&mut self.links, *slot, Uses::default());
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        self.list.remove(&mut self.links, slot);
    }

    fn victim(&self) -> Option<u32> {
        self.list.oldest()
    }
}
