//! The queue before the store's thread: first in, first out, bounded in items and in bytes.
//!
//! A channel bounds items only, and one item here may be a caller's whole answer. A thread that
//! owns connections pushes without waiting; a worker may wait for room, until a deadline. The lock
//! is held for no longer than a push or a take.

use std::collections::VecDeque;
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub items: usize,
    pub bytes: usize,
}

/// Why an item was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

/// Items on their way to one thread.
pub(super) struct Queue<T> {
    bounds: Bounds,
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    drained: Condvar,
}

struct Inner<T> {
    /// With what each holds, in bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new(bounds: Bounds) -> Self {
        let inner = Inner {
            items: VecDeque::new(),
            bytes: 0,
            closed: false,
        };
        Self {
            bounds,
            inner: Mutex::new("store.queue", inner),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Adds `item`, which holds `bytes`; waits for room until `deadline`, or not at all.
    ///
    /// # Errors
    /// The item itself, and why it was not taken in.
    pub fn push(
        &self,
        item: T,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<(), (T, Refusal)> {
        let mut inner = self.inner.lock();
        let mut may_wait = deadline.is_some();
        loop {
            if inner.closed {
                return Err((item, Refusal::Closed));
            }
            let fits = inner.items.len() < self.bounds.items
                && inner.bytes.saturating_add(bytes) <= self.bounds.bytes;
            if fits {
                break;
            }
            let Some(deadline) = deadline.filter(|_| may_wait) else {
                return Err((item, Refusal::Full));
            };
            may_wait = !self.drained.wait_until(&mut inner, deadline);
        }
        inner.bytes += bytes;
        inner.items.push_back((item, bytes));
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the oldest items within `most`, at least one if there is any; with `wait`, sleeps
    /// until there is. `None` once the queue is closed and empty.
    pub fn take(&self, most: Bounds, wait: bool) -> Option<Vec<T>> {
        let mut inner = self.inner.lock();
        while inner.items.is_empty() {
            if inner.closed {
                return None;
            }
            if !wait {
                return Some(Vec::new());
            }
            self.filled.wait(&mut inner);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most.items && (taken.is_empty() || bytes < most.bytes) {
            let Some((item, own)) = inner.items.pop_front() else {
                break;
            };
            bytes += own;
            taken.push(item);
        }
        inner.bytes -= bytes;
        drop(inner);
        self.drained.notify_all();
        Some(taken)
    }

    /// Takes nothing in from now on; what is queued can still be taken out.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// How many items wait, and what they hold.
    pub fn depth(&self) -> Bounds {
        let inner = self.inner.lock();
        Bounds {
            items: inner.items.len(),
            bytes: inner.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ALL: Bounds = Bounds {
        items: usize::MAX,
        bytes: usize::MAX,
    };

    fn queue(items: usize, bytes: usize) -> Queue<u32> {
        Queue::new(Bounds { items, bytes })
    }

    #[test]
    fn both_bounds_are_held_and_room_is_made_by_taking() {
        let queue = queue(2, 100);
        queue.push(1, 90, None).unwrap();
        assert_eq!(queue.push(2, 11, None), Err((2, Refusal::Full)));
        queue.push(3, 10, None).unwrap();
        assert_eq!(queue.push(4, 0, None), Err((4, Refusal::Full)));
        let depth = queue.depth();
        assert_eq!((depth.items, depth.bytes), (2, 100));
        assert_eq!(queue.take(ALL, true), Some(vec![1, 3]));
        assert_eq!(queue.depth().bytes, 0);
        assert_eq!(queue.take(ALL, false), Some(vec![]));
    }

    #[test]
    fn a_take_is_bounded_but_never_empty_handed() {
        let queue = queue(9, 1000);
        for (item, bytes) in [(1, 200), (2, 10), (3, 10), (4, 10)] {
            queue.push(item, bytes, None).unwrap();
        }
        let most = Bounds {
            items: 2,
            bytes: 100,
        };
        assert_eq!(queue.take(most, true), Some(vec![1]));
        assert_eq!(queue.take(most, true), Some(vec![2, 3]));
    }

    #[test]
    fn waiting_for_room_ends_at_the_deadline_or_with_room() {
        let queue = queue(1, 10);
        queue.push(1, 1, None).unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(queue.push(2, 1, Some(soon)), Err((2, Refusal::Full)));
        let later = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.push(3, 1, Some(later)));
            assert_eq!(queue.take(ALL, true), Some(vec![1]));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn what_is_queued_before_the_close_is_still_taken() {
        let queue = queue(9, 10);
        queue.push(1, 1, None).unwrap();
        queue.close();
        assert_eq!(queue.push(2, 1, None), Err((2, Refusal::Closed)));
        assert_eq!(queue.take(ALL, true), Some(vec![1]));
        assert_eq!(queue.take(ALL, true), None);
    }
}
