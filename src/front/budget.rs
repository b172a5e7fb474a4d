//! What all request bodies of the process may hold together.
//!
//! One connection's body is bounded by `max_body_mb`; ten thousand of them together are bounded
//! here. A body is charged from its first 64 KiB on until its request is dropped.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that large request bodies may hold together; the next one to grow is refused.
pub const BODIES_TOTAL_BYTES_MAX: usize = 1 << 30;
/// Bodies up to this are not charged: there are no more of them than connections.
pub(super) const FREE_BYTES: usize = 64 << 10;

static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Bytes that large request bodies hold now.
pub fn body_bytes() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// One body's share, given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Charge(usize);

impl Charge {
    /// Raises the share to `bytes`. Returns whether there was room for it.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        if bytes <= FREE_BYTES || bytes <= self.0 {
            return true;
        }
        let more = bytes - self.0;
        self.0 = bytes;
        TOTAL.fetch_add(more, Ordering::Relaxed) + more <= BODIES_TOTAL_BYTES_MAX
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_and_the_whole_is_bounded() {
        let (mut one, mut other) = (Charge::default(), Charge::default());
        assert!(one.grow_to(FREE_BYTES));
        assert_eq!(one.0, 0);
        assert!(one.grow_to(BODIES_TOTAL_BYTES_MAX / 2));
        assert!(!other.grow_to(BODIES_TOTAL_BYTES_MAX));
        drop(other);
        assert!(Charge::default().grow_to(BODIES_TOTAL_BYTES_MAX / 4));
    }
}
