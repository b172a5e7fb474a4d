//! First in, first out: whoever came first goes first, used or not.

use super::lfu::Uses;
use super::{Links, List, Policy};

/// See the module.
#[derive(Default)]
pub struct Fifo {
    links: Links,
    list: List,
}

impl Policy for Fifo {
    fn insert(&mut self, slot: u32) {
        self.list.push(&mut self.links, slot, Uses::default());
    }

    fn hits(&mut self, _: &[u32]) {}

    fn remove(&mut self, slot: u32) {
        self.list.remove(&mut self.links, slot);
    }

    fn victim(&self) -> Option<u32> {
        self.list.oldest()
    }
}
