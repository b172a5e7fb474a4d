//! First in, first out: whoever came first goes first, used or not.

use super::{Order, Policy};
use crate::cache::recent::Used;
use crate::cache::slots::{Slot, Slots};

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

    #[inline(always)]
    fn hits(&mut self, slots: &mut Slots, used: Used, mut each: impl FnMut(&mut Slot)) {
        for slot in used {
            each(slots.at(slot));
        }
    }

    fn victim(&mut self, slots: &Slots, _: bool) -> Option<u32> {
        slots.oldest(RING)
    }
}
