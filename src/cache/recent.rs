//! Uses that are put off.
//!
//! A use moves an entry in its ring and counts in its slot: lines of memory that another thread has
//! changed last, so they have to be fetched. Uses that are done together have theirs fetched at the
//! same time; only this list is fetched for each. And if they are done when the list is full, the
//! length of the loop is as a rule the same and is foretold rightly; done at each insert, it would
//! differ every time.

use std::iter::{Copied, Rev};
use std::slice::Iter;

/// Uses that are put off at most; their slots' numbers are two lines of memory.
const RECENT_MAX: usize = 32;

/// The slots that were used, in order.
pub type Used<'a> = Copied<Rev<Iter<'a, u32>>>;

/// The slots that were used.
///
/// The places are filled from the last to the first, so that one number says where the next one
/// goes and, by being 0, that the list is full: for a shorter list no other bound is compared.
#[repr(C)]
pub struct Recent {
    /// For how many there is room left; also the place of the last one that came.
    left: u32,
    /// For how many there was room.
    room: u32,
    slots: [u32; RECENT_MAX],
}

impl Recent {
    /// Without uses, and with room for `room` of them, [`RECENT_MAX`] at most.
    pub fn new(room: u32) -> Self {
        let room = room.min(RECENT_MAX as u32);
        Self {
            left: room,
            room,
            slots: [0; RECENT_MAX],
        }
    }

    pub const fn count(&self) -> u32 {
        self.room - self.left
    }

    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.left == self.room
    }

    #[inline]
    pub const fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Puts one off. There must be room.
    #[inline]
    pub fn push(&mut self, slot: u32) {
        let left = self.left.wrapping_sub(1);
        if let Some(place) = self.slots.get_mut(left as usize) {
            *place = slot;
            self.left = left;
        }
    }

    /// Whether a slot is among them. All places are compared, so that no branch depends on how many
    /// are in use; those that are not hold 0, which is the head of a ring and no entry's slot.
    #[inline]
    pub fn has(&self, slot: u32) -> bool {
        let equal = |found, own: &u32| found | if *own == slot { u32::MAX } else { 0 };
        !self.is_empty() && self.slots.iter().fold(0, equal) != 0
    }

    /// All of them, in order.
    #[inline]
    pub fn all(&self) -> Used<'_> {
        let places = self.slots.get(self.left as usize..self.room as usize);
        places.unwrap_or_default().iter().rev().copied()
    }
}
