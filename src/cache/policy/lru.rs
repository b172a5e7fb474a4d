//! Least recently used: whoever has not been used for longest goes first.

use super::{Order, Policy};
use crate::cache::recent::Used;
use crate::cache::slots::{Slot, Slots};

/// See the module.
pub struct Lru;

/// The one ring.
const RING: u32 = 0;

impl Policy for Lru {
    const RINGS: u32 = 1;
    const ORDER: Order = Order::Use;

    #[inline(always)]
    fn hits(&mut self, slots: &mut Slots, used: Used, each: impl FnMut(&mut Slot)) {
        slots.rejoin_all(RING, used, each);
    }

    fn victim(&mut self, slots: &Slots, _: bool) -> Option<u32> {
        slots.oldest(RING)
    }
}
