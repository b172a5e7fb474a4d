//! In unit tests only: the locks of [`super`] under a scheduler that tries many interleavings.
//!
//! Within [`check`], every [`super::Mutex`] and [`super::Condvar`] has a companion of shuttle's
//! (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs"),
//! which decides who runs next, and finds deadlocks; the real lock is taken only by who has its
//! companion, and so is always free. The code under check is the very code that is shipped.
//! Time stands still but for [`pass_time`], which ends the earliest timed wait. Atomics are not
//! switched at, only locks are. Outside of [`check`] nothing here does anything.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync as shuttled;
use shuttle::{Config, Runner};

thread_local! {
    /// Whether this thread runs a check; shuttle's own threads all run on it.
    static IS_CHECKED: Cell<bool> = const { Cell::new(false) };
    static TIMERS: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// A timed wait that has not ended.
#[derive(Clone)]
struct Timer {
    at: Instant,
    is_up: Rc<Cell<bool>>,
    lock: Arc<shuttled::Mutex<()>>,
    signal: Arc<shuttled::Condvar>,
}

/// The companion of a lock.
pub struct Lock(OnceLock<Arc<shuttled::Mutex<()>>>);

/// Having the companion; or nothing, outside of a check.
pub struct Turn<'a>(Option<(shuttled::MutexGuard<'a, ()>, &'a Arc<shuttled::Mutex<()>>)>);

impl Lock {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub fn lock(&self) -> Turn<'_> {
        Turn(IS_CHECKED.get().then(|| {
            let lock = self.0.get_or_init(Arc::default);
            (lock.lock().unwrap_or_else(PoisonError::into_inner), lock)
        }))
    }

    /// `None`: somebody else has it.
    pub fn try_lock(&self) -> Option<Turn<'_>> {
        if !IS_CHECKED.get() {
            return Some(Turn(None));
        }
        let lock = self.0.get_or_init(Arc::default);
        let guard = lock.try_lock().ok()?;
        Some(Turn(Some((guard, lock))))
    }
}

impl Turn<'_> {
    pub const fn is_checked(&self) -> bool {
        self.0.is_some()
    }
}

/// The companion of a condition variable.
#[derive(Default)]
pub struct Signal(OnceLock<Arc<shuttled::Condvar>>);

impl Signal {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Gives the turn up, waits, takes it again. Returns whether time ended the wait.
    pub fn wait(&self, turn: &mut Turn<'_>, until: Option<Instant>) -> bool {
        let Some((guard, lock)) = turn.0.take() else {
            return false;
        };
        let signal = self.0.get_or_init(Arc::default);
        let is_up = Rc::new(Cell::new(false));
        if let Some(at) = until {
            let timer = Timer {
                at,
                is_up: Rc::clone(&is_up),
                lock: Arc::clone(lock),
                signal: Arc::clone(signal),
            };
            TIMERS.with_borrow_mut(|timers| timers.push(timer));
        }
        let guard = signal.wait(guard).unwrap_or_else(PoisonError::into_inner);
        TIMERS.with_borrow_mut(|timers| timers.retain(|it| !Rc::ptr_eq(&it.is_up, &is_up)));
        turn.0 = Some((guard, lock));
        is_up.get()
    }

    pub fn notify_one(&self) {
        if let Some(signal) = self.0.get().filter(|_| IS_CHECKED.get()) {
            signal.notify_one();
        }
    }

    pub fn notify_all(&self) {
        if let Some(signal) = self.0.get().filter(|_| IS_CHECKED.get()) {
            signal.notify_all();
        }
    }
}

/// Runs `body` under `schedules` interleavings drawn evenly, and as many that favour deep races.
/// Panics where one of them panics, deadlocks or does not end.
pub fn check(schedules: usize, body: impl Fn() + Clone + Send + Sync + 'static) {
    struct Checked;
    impl Drop for Checked {
        fn drop(&mut self) {
            IS_CHECKED.set(false);
        }
    }
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = shuttle::MaxSteps::FailAfter(20_000);
    IS_CHECKED.set(true);
    let _checked = Checked;
    let random = RandomScheduler::new(schedules);
    let deep = PctScheduler::new(3, schedules);
    let again = body.clone();
    let fresh = |body: &dyn Fn()| {
        TIMERS.with_borrow_mut(Vec::clear);
        body();
    };
    Runner::new(random, config.clone()).run(move || fresh(&body));
    Runner::new(deep, config).run(move || fresh(&again));
}

/// Starts a thread of the checked program.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> shuttle::thread::JoinHandle<()> {
    shuttle::thread::spawn(body)
}

/// Lets time pass, from one timed wait's end to the next, until `is_over`.
pub fn pass_time(is_over: impl Fn() -> bool) {
    while !is_over() {
        let next = TIMERS.with_borrow(|timers| {
            let waiting = timers.iter().filter(|timer| !timer.is_up.get());
            waiting.min_by_key(|timer| timer.at).cloned()
        });
        if let Some(timer) = next {
            // Under the lock, so that whoever is about to wait does already.
            let guard = timer.lock.lock().unwrap_or_else(PoisonError::into_inner);
            timer.is_up.set(true);
            timer.signal.notify_all();
            drop(guard);
        }
        shuttle::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Condvar, Mutex};
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Without it, no check below would mean anything.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_lost_wake_up_is_found() {
        check(200, || {
            let pair = Arc::new((Mutex::new("test.lost", false), Condvar::new()));
            let other = Arc::clone(&pair);
            spawn(move || {
                *other.0.lock() = true;
                other.1.notify_one();
            });
            let is_set = *pair.0.lock();
            if !is_set {
                // It may be set by now.
                pair.1.wait(&mut pair.0.lock());
            }
        });
    }

    #[test]
    fn time_ends_a_wait_and_the_lock_is_held_after_it() {
        check(200, || {
            let lock = Arc::new(Mutex::new("test.timed", 0));
            let (own, over) = (Arc::clone(&lock), Arc::new(AtomicBool::new(false)));
            let is_over = Arc::clone(&over);
            let waiter = spawn(move || {
                let mut guard = own.lock();
                let far = Instant::now() + Duration::from_secs(3600);
                assert!(Condvar::new().wait_until(&mut guard, far));
                *guard += 1;
                is_over.store(true, Ordering::Relaxed);
            });
            pass_time(move || over.load(Ordering::Relaxed));
            waiter.join().unwrap();
            assert_eq!(*lock.lock(), 1);
        });
    }
}
