//! First in, first out: whoever came first goes first, used or not.

use super::lfu::Uses;
use super::{Links, Policy};

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
    fn insert(&mut self, slot: u32) {
        self.links.push(LIST, slot, Uses::default());
    }

    fn hits(&mut self, _: &[u32]) {}

    fn remove(&mut self, slot: u32) {
        self.links.remove(slot);
    }

    fn victim(&self) -> Option<u32> {
        self.links.oldest(LIST)
    }
}
