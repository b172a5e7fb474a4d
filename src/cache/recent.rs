//! Uses that are put off.
//!
//! A use moves an entry in its ring and counts in its slot, which are lines of memory that the last
//! thread to use them has changed and another has to fetch. Put off and done together, they are
//! fetched at once, and one after the other only this. And how many of them there are to do can be
//! foretold, which it cannot where each insert does those since the one before.

/// Uses that are put off at most: two lines of memory.
const RECENT_MAX: usize = 32;

/// The slots that were used, in order.
#[repr(C)]
pub struct Recent {
    count: u32,
    slots: [u32; RECENT_MAX],
}

impl Recent {
    pub const fn new() -> Self {
        Self {
            count: 0,
            slots: [0; RECENT_MAX],
        }
    }

    pub const fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub const fn is_full(&self) -> bool {
        self.count as usize >= RECENT_MAX
    }

    /// Puts one off. There must be room.
    #[inline]
    pub fn push(&mut self, slot: u32) {
        if let Some(place) = self.slots.get_mut(self.count as usize) {
            *place = slot;
            self.count += 1;
        }
    }

    /// Whether a slot may be among them. One that was among the last ones is found too, if there
    /// are others by now: so all are compared, without a branch for each.
    #[inline]
    pub fn may_have(&self, slot: u32) -> bool {
        let equal = |found, own: &u32| found | if *own == slot { u32::MAX } else { 0 };
        !self.is_empty() && self.slots.iter().fold(0, equal) != 0
    }

    /// Takes out all.
    #[inline]
    pub fn take(&mut self) -> &[u32] {
        let count = std::mem::take(&mut self.count) as usize;
        &self.slots[..count.min(RECENT_MAX)]
    }
}
