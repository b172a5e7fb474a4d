//! Cancelling a call from another thread.
//!
//! A worker blocks in one place at a time: waiting for a permit, connecting, reading. Whatever
//! it blocks in is attached here as an [`Abort`]; whoever finds that the call is pointless (the
//! client left, the deadline passed) cancels, and the attached thing is made to return at once.
//! Attaching after the cancel aborts immediately, so there is no window in which it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::sync::Mutex;

/// Why a call was cancelled. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The client closed its connection, even half.
    ClientGone = 1,
    /// The call's deadline passed.
    Deadline = 2,
    /// The client took nothing for longer than the write timeout.
    SlowClient = 3,
    /// The process ends without waiting further.
    Shutdown = 4,
    /// Another attempt of the same call has answered.
    Outpaced = 5,
}

impl Reason {
    fn from_u8(value: u8) -> Option<Self> {
        [
            Self::ClientGone,
            Self::Deadline,
            Self::SlowClient,
            Self::Shutdown,
            Self::Outpaced,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == value)
    }
}

/// Something that a thread blocks in and that another thread can end.
pub trait Abort: Send + Sync {
    /// Makes the blocked operation return soon. Must not block itself; may be called twice.
    fn abort(&self);
}

/// The cancel handle of one call.
pub struct Cancel {
    reason: AtomicU8,
    target: Mutex<Option<Arc<dyn Abort>>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A handle that is not cancelled and has nothing attached.
    pub const fn new() -> Self {
        Self {
            reason: AtomicU8::new(0),
            target: Mutex::new("cancel.target", None),
        }
    }

    /// Cancels the call and aborts what is attached. Returns whether this was the first cancel.
    pub fn cancel(&self, reason: Reason) -> bool {
        let first = self
            .reason
            .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        let target = self.target.lock().clone();
        if let Some(target) = target {
            target.abort();
        }
        first
    }

    /// The reason, once cancelled.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_u8(self.reason.load(Ordering::Acquire))
    }

    /// Whether the call was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.reason.load(Ordering::Acquire) != 0
    }

    /// Attaches what the call blocks in now, in place of what was attached before.
    pub fn attach(&self, target: Arc<dyn Abort>) {
        *self.target.lock() = Some(Arc::clone(&target));
        if self.is_cancelled() {
            target.abort();
        }
    }

    /// Detaches: from here on a cancel aborts nothing.
    pub fn detach(&self) {
        *self.target.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Abort for Count {
        fn abort(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_first_reason_stays() {
        let cancel = Cancel::new();
        assert_eq!(cancel.reason(), None);
        assert!(cancel.cancel(Reason::ClientGone));
        assert!(!cancel.cancel(Reason::Deadline));
        assert_eq!(cancel.reason(), Some(Reason::ClientGone));
    }

    #[test]
    fn what_is_attached_is_aborted_whichever_comes_first() {
        let (before, after) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let cancel = Cancel::new();
        cancel.attach(before.clone());
        cancel.cancel(Reason::Deadline);
        assert_eq!(before.0.load(Ordering::Relaxed), 1);
        cancel.attach(after.clone());
        assert_eq!(after.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_was_detached_is_left_alone() {
        let count = Arc::new(Count::default());
        let cancel = Cancel::new();
        cancel.attach(count.clone());
        cancel.detach();
        cancel.cancel(Reason::Shutdown);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
