//! Locks with a name and a remembered holder.
//!
//! Every lock in the program is taken through this thin wrapper over `parking_lot`, so that a
//! thread dump can say which lock a thread waits for and who holds it. Taking a free lock costs
//! one extra relaxed store. Nothing here may block for any other reason than the lock itself.
//!
//! In unit tests the same locks can be run under a scheduler that tries many interleavings; see
//! `sync/model.rs`. In the daemon nothing is left of that.

#[cfg_attr(test, path = "sync/model.rs")]
#[cfg_attr(not(test), path = "sync/plain.rs")]
pub(crate) mod model;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::thread;

/// A mutual exclusion lock that has a name and remembers the thread slot that holds it.
pub struct Mutex<T: ?Sized> {
    name: &'static str,
    /// The holder's thread slot plus one; 0 while free.
    holder: AtomicU32,
    model: model::Lock,
    inner: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A free lock. `name` is `module.thing`, as the thread dump shows it.
    pub const fn new(name: &'static str, value: T) -> Self {
        Self {
            name,
            holder: AtomicU32::new(0),
            model: model::Lock::new(),
            inner: parking_lot::Mutex::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting for it if another thread has it.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let turn = self.model.lock();
        let inner = match self.inner.try_lock() {
            Some(guard) => guard,
            None => self.wait(),
        };
        self.holder.store(thread::current_slot(), Ordering::Relaxed);
        MutexGuard {
            lock: self,
            inner,
            turn,
        }
    }

    #[cold]
    fn wait(&self) -> parking_lot::MutexGuard<'_, T> {
        let _waiting = thread::waiting_for_lock(self.name, &self.holder);
        self.inner.lock()
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let turn = self.model.try_lock()?;
        let inner = self.inner.try_lock()?;
        self.holder.store(thread::current_slot(), Ordering::Relaxed);
        Some(MutexGuard {
            lock: self,
            inner,
            turn,
        })
    }
}

/// Holds a [`Mutex`] until it is dropped.
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    // In this order: the lock is free before somebody else has the turn.
    inner: parking_lot::MutexGuard<'a, T>,
    turn: model::Turn<'a>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.holder.store(0, Ordering::Relaxed);
    }
}

/// A condition variable for [`Mutex`].
#[derive(Default)]
pub struct Condvar {
    inner: parking_lot::Condvar,
    model: model::Signal,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    pub const fn new() -> Self {
        Self {
            inner: parking_lot::Condvar::new(),
            model: model::Signal::new(),
        }
    }

    /// Gives the lock up, waits to be notified, and takes it again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_for(guard, None);
    }

    /// As [`Condvar::wait`], at most until `deadline`. Returns whether the time ran out.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> bool {
        self.wait_for(guard, Some(deadline))
    }

    fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let MutexGuard { lock, inner, turn } = guard;
        lock.holder.store(0, Ordering::Relaxed);
        let timed_out = match deadline {
            _ if turn.is_checked() => {
                parking_lot::MutexGuard::unlocked(inner, || self.model.wait(turn, deadline))
            }
            Some(deadline) => self.inner.wait_until(inner, deadline).timed_out(),
            None => {
                self.inner.wait(inner);
                false
            }
        };
        lock.holder.store(thread::current_slot(), Ordering::Relaxed);
        timed_out
    }

    /// Wakes one waiting thread.
    pub fn notify_one(&self) {
        self.inner.notify_one();
        self.model.notify_one();
    }

    /// Wakes every waiting thread.
    pub fn notify_all(&self) {
        self.inner.notify_all();
        self.model.notify_all();
    }
}

/// A readers-writer lock with a name, for what is read by every call and written on a reload.
pub struct RwLock<T: ?Sized> {
    name: &'static str,
    /// The writer's thread slot plus one; 0 while nobody writes.
    writer: AtomicU32,
    inner: parking_lot::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A free lock; see [`Mutex::new`] for `name`.
    pub const fn new(name: &'static str, value: T) -> Self {
        Self {
            name,
            writer: AtomicU32::new(0),
            inner: parking_lot::RwLock::new(value),
        }
    }

    /// Shared access.
    pub fn read(&self) -> parking_lot::RwLockReadGuard<'_, T> {
        if let Some(guard) = self.inner.try_read() {
            return guard;
        }
        let _waiting = thread::waiting_for_lock(self.name, &self.writer);
        self.inner.read()
    }

    /// Runs `change` with exclusive access.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = match self.inner.try_write() {
            Some(guard) => guard,
            None => {
                let _waiting = thread::waiting_for_lock(self.name, &self.writer);
                self.inner.write()
            }
        };
        self.writer.store(thread::current_slot(), Ordering::Relaxed);
        let result = change(&mut guard);
        self.writer.store(0, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_knows_its_holder_and_a_free_one_has_none() {
        let lock = Mutex::new("test.lock", 1);
        let guard = lock.lock();
        assert_eq!(lock.holder.load(Ordering::Relaxed), thread::current_slot());
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert_eq!(lock.holder.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn waiting_until_a_past_deadline_times_out_and_keeps_the_lock() {
        let lock = Mutex::new("test.lock", 1);
        let mut guard = lock.lock();
        assert!(Condvar::new().wait_until(&mut guard, Instant::now()));
        assert!(lock.try_lock().is_none());
    }
}
