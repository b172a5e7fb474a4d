//! First in, first out: whoever came first goes first, used or not.

use super::lfu::Uses;
use super::{Links, Policy};
use crate::cache::heat::Heat;

/// See the module.
pub struct Fifo {
    links: Links,
}

/// The one list.
const LIST: u32 = 0;

impl Default for Fifo {
    fn default() -> Self {
        Self {
            links: Links::new(1),
        }
    }
}

impl Policy for Fifo {
    fn insert(&mut self, slot: u32, second: u32) {
        self.links.insert(LIST, slot, Uses::default(), second);
    }

    fn hits(&mut self, slots: &[u32], second: u32) {
        for slot in slots {
            self.links.slot(*slot).heat.hit(second);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.links.remove(slot);
    }

    fn victim(&mut self) -> Option<u32> {
        self.links.oldest(LIST)
    }

    fn heat(&self, slot: u32) -> Heat {
        self.links.heat(slot)
    }
}
