//! The connections that calls share: as many as the configuration says, the last used first.
//!
//! A place may come without a connection; whoever has it opens one. Connections are opened, used
//! and closed outside the lock.

use std::time::Instant;

use super::link::Link;
use crate::sync::{Condvar, Mutex};

/// Places for connections.
pub struct Pool {
    inner: Mutex<Inner>,
    freed: Condvar,
    most: usize,
}

struct Inner {
    idle: Vec<Link>,
    /// Places that are taken.
    taken: usize,
}

/// A place that was taken. It is free again when this is dropped.
pub struct Place<'p> {
    pool: &'p Pool,
    /// The connection that came with it, or that goes back with it.
    pub link: Option<Link>,
}

impl Pool {
    /// `most` places, all free.
    pub const fn new(most: usize) -> Self {
        let inner = Inner {
            idle: Vec::new(),
            taken: 0,
        };
        Self {
            inner: Mutex::new("shared_cache.pool", inner),
            freed: Condvar::new(),
            most,
        }
    }

    /// Takes a place; `None` if none was free by `until`.
    pub fn take(&self, until: Instant) -> Option<Place<'_>> {
        let mut inner = self.inner.lock();
        let mut in_time = true;
        while inner.taken >= self.most {
            if !in_time {
                return None;
            }
            in_time = !self.freed.wait_until(&mut inner, until);
        }
        inner.taken += 1;
        let link = inner.idle.pop();
        Some(Place { pool: self, link })
    }

    /// Closes the connections that nobody uses.
    pub fn clear(&self) {
        let idle = std::mem::take(&mut self.inner.lock().idle);
        drop(idle);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.pool.inner.lock();
        inner.taken -= 1;
        // Never more than there are places: each came out of one.
        inner.idle.extend(self.link.take());
        drop(inner);
        self.pool.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_bounded_and_waiting_for_one_ends() {
        let pool = Pool::new(1);
        let soon = || Instant::now() + Duration::from_millis(5);
        let place = pool.take(soon()).unwrap();
        assert!(pool.take(soon()).is_none());
        drop(place);
        assert!(pool.take(soon()).is_some_and(|it| it.link.is_none()));
        let place = pool.take(soon()).unwrap();
        let far = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.take(far).is_some());
            drop(place);
            assert!(waiter.join().unwrap());
        });
    }
}
