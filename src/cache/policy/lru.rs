//! Least recently used: whoever has not been used for longest goes first.

use super::{Order, Policy};
use crate::cache::slots::Slots;

/// See the module.
pub struct Lru;

/// The one ring.
const RING: u32 = 0;

impl Policy for Lru {
    const RINGS: u32 = 1;
    const ORDER: Order = Order::LastUse;

    #[inline]
    fn hit(&mut self, slots: &mut Slots, slot: u32) {
        slots.rejoin(RING, slot);
    }

    fn victim(&mut self, slots: &Slots) -> Option<u32> {
        slots.oldest(RING)
    }
}
