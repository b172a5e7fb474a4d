//! First in, first out: whoever came first goes first, used or not.

use super::{Order, Policy};
use crate::cache::slots::Slots;

/// See the module.
pub struct Fifo;

/// The one ring.
const RING: u32 = 0;

impl Policy for Fifo {
    const RINGS: u32 = 1;
    const ORDER: Order = Order::Arrival;

    fn insert(&mut self, slots: &mut Slots, slot: u32) {
        slots.join(RING, slot);
    }

    #[inline]
    fn hit(&mut self, _: &mut Slots, _: u32) {}

    fn victim(&mut self, slots: &Slots) -> Option<u32> {
        slots.oldest(RING)
    }
}
