//! Uses that are put off.
//!
//! A use moves an entry in its ring and counts in its slot: lines of memory that another thread has
//! changed last, so they have to be fetched. Uses that are done together have theirs fetched at the
//! same time; only this list is fetched for each. And if they are done when the list is full, the
//! length of the loop is always the same and is foretold rightly; done at each insert, it would
//! differ every time.

/// Uses that are put off at most; their slots' numbers are two lines of memory.
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

    /// Whether a slot may be among them. While there are any, places that are not in use now are
    /// compared as well, so that no branch depends on how many there are: yes may be wrong, no is not.
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
