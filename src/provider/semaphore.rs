//! The permits of a provider: at most so many calls at a time, in the order in which they came.
//!
//! A permit carries a resource of the caller's (here: an agent with its one connection), so that
//! whoever has the permit has the resource to himself and needs no second pool with a lock of its
//! own. The resource used last is handed out first: what is needed stays warm, what is not needed
//! grows old and is let go. Nothing here may wait longer than its deadline or past a cancel, and
//! a permit that is given back goes to the longest waiter at once, so a newcomer cannot overtake.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::{Abort, Cancel};
use crate::sync::{Condvar, Mutex};

/// A counting semaphore whose permits carry a `T` that is made on first use.
pub struct Semaphore<T> {
    state: Mutex<State<T>>,
    /// Resources idle for longer are let go when the next permit comes back.
    idle_age_max: Duration,
}

struct State<T> {
    /// Permits that may be in use; those that are out when it falls come back in their own time.
    max: usize,
    in_use: usize,
    /// The oldest in front. Never more than `max` less `in_use`.
    idle: VecDeque<(T, Instant)>,
    /// The longest waiting in front. Bounded by the threads that can call.
    waiters: VecDeque<Arc<Waiter<T>>>,
    /// Counts renewals. A resource of an earlier one is let go when its permit comes back.
    generation: u64,
    closed: bool,
}

/// Why there was no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The deadline passed first.
    Deadline,
    /// The call was cancelled first.
    Cancelled,
    /// The semaphore was closed.
    Closed,
}

struct Waiter<T> {
    seat: Mutex<Seat<T>>,
    ready: Condvar,
}

enum Seat<T> {
    Waiting,
    /// The resource, and the generation that it is of.
    Given(Option<T>, u64),
    Refused(Refused),
}

impl<T: Send> Abort for Waiter<T> {
    fn abort(&self) {
        self.settle(Seat::Refused(Refused::Cancelled));
    }
}

impl<T> Waiter<T> {
    /// Ends the wait with `outcome`, or gives `outcome` back if the wait had ended before.
    fn settle(&self, outcome: Seat<T>) -> Option<Seat<T>> {
        let mut seat = self.seat.lock();
        if !matches!(*seat, Seat::Waiting) {
            return Some(outcome);
        }
        *seat = outcome;
        drop(seat);
        self.ready.notify_one();
        None
    }

    /// Blocks until somebody settles the wait or `deadline` passes.
    fn wait(&self, deadline: Instant) -> Seat<T> {
        let mut seat = self.seat.lock();
        while matches!(*seat, Seat::Waiting) {
            if self.ready.wait_until(&mut seat, deadline) {
                break;
            }
        }
        // Whoever comes later finds the wait settled, so nothing can be given to nobody.
        match std::mem::replace(&mut *seat, Seat::Refused(Refused::Deadline)) {
            Seat::Waiting => Seat::Refused(Refused::Deadline),
            settled => settled,
        }
    }
}

impl<T: Send + 'static> Semaphore<T> {
    /// `max` permits, all free.
    pub fn new(max: usize, idle_age_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(
                "provider.permits",
                State {
                    max,
                    in_use: 0,
                    idle: VecDeque::new(),
                    waiters: VecDeque::new(),
                    generation: 0,
                    closed: false,
                },
            ),
            idle_age_max,
        })
    }

    /// Takes a permit if one is free.
    pub fn try_acquire(self: &Arc<Self>) -> Result<Option<Permit<T>>, Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // A free permit means that nobody waits: it would have been handed over.
        if state.in_use >= state.max {
            return Ok(None);
        }
        state.in_use += 1;
        let item = state.idle.pop_back().map(|(item, _)| item);
        let generation = state.generation;
        drop(state);
        Ok(Some(self.permit(item, generation)))
    }

    /// Takes a permit, waiting for one at most until `deadline` or a cancel.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn acquire(
        self: &Arc<Self>,
        cancel: &Cancel,
        deadline: Instant,
    ) -> Result<Permit<T>, Refused> {
        if let Some(permit) = self.try_acquire()? {
            return Ok(permit);
        }
        let waiter = Arc::new(Waiter {
            seat: Mutex::new("provider.waiter", Seat::Waiting),
            ready: Condvar::new(),
        });
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(Refused::Closed);
            }
            // A permit may have come free since it was tried above.
            if state.in_use < state.max {
                state.in_use += 1;
                let item = state.idle.pop_back().map(|(item, _)| item);
                let generation = state.generation;
                drop(state);
                return Ok(self.permit(item, generation));
            }
            state.waiters.push_back(Arc::clone(&waiter));
        }
        cancel.attach(Arc::clone(&waiter) as Arc<dyn Abort>);
        let outcome = waiter.wait(deadline);
        cancel.detach();
        match outcome {
            Seat::Given(item, generation) => Ok(self.permit(item, generation)),
            Seat::Refused(why) => {
                let mut state = self.state.lock();
                state.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                Err(why)
            }
            Seat::Waiting => Err(Refused::Deadline),
        }
    }

    fn permit(self: &Arc<Self>, item: Option<T>, generation: u64) -> Permit<T> {
        Permit {
            item,
            generation,
            semaphore: Arc::clone(self),
        }
    }

    /// Gives a permit back: to the longest waiter, or to the idle ones.
    fn release(&self, item: Option<T>, generation: u64) {
        let mut seat = Seat::Given(item, generation);
        // What is let go, once the lock is free: closing a socket is a system call.
        let mut outdated = None;
        let mut too_old: [Option<T>; 2] = [None, None];
        loop {
            let mut state = self.state.lock();
            if let Seat::Given(item, generation) = &mut seat
                && *generation != state.generation
            {
                *generation = state.generation;
                outdated = outdated.or(item.take());
            }
            let is_over = state.in_use > state.max;
            if !is_over && let Some(waiter) = state.waiters.pop_front() {
                drop(state);
                match waiter.settle(seat) {
                    None => return,
                    // That one had given up; the next, then.
                    Some(back) => seat = back,
                }
                continue;
            }
            state.in_use -= 1;
            let now = Instant::now();
            if let Seat::Given(Some(item), _) = seat {
                match state.closed {
                    true => too_old[0] = Some(item),
                    false => state.idle.push_back((item, now)),
                }
            }
            // Two for one: after a burst the idle ones melt away with the calls that follow.
            for old in &mut too_old {
                let front = state.idle.front();
                if old.is_none() && front.is_some_and(|(_, since)| now - *since > self.idle_age_max)
                {
                    *old = state.idle.pop_front().map(|(item, _)| item);
                }
            }
            // Unlocks here, before what is let go is dropped.
            return;
        }
    }

    /// From now on so many permits may be in use. Those that this makes free go to whoever waits,
    /// the longest waiting first.
    pub fn set_max(self: &Arc<Self>, max: usize) {
        self.state.lock().max = max;
        loop {
            let mut state = self.state.lock();
            if state.in_use >= state.max {
                return;
            }
            let Some(waiter) = state.waiters.pop_front() else {
                return;
            };
            state.in_use += 1;
            let item = state.idle.pop_back().map(|(item, _)| item);
            let generation = state.generation;
            drop(state);
            if let Some(Seat::Given(item, generation)) =
                waiter.settle(Seat::Given(item, generation))
            {
                // It had given up: the permit goes back, to the next one perhaps.
                drop(self.permit(item, generation));
            }
        }
    }

    /// From now on resources are made anew: those in use are let go when their permits come back.
    /// Returns the idle ones and the number of permits that are out.
    pub fn renew(&self) -> (Vec<T>, usize) {
        let (idle, in_use) = {
            let mut state = self.state.lock();
            state.generation += 1;
            (std::mem::take(&mut state.idle), state.in_use)
        };
        (idle.into_iter().map(|(item, _)| item).collect(), in_use)
    }

    /// From now on there are no permits; waiters are refused. Returns the idle resources.
    pub fn close(&self) -> Vec<T> {
        let (idle, waiters) = {
            let mut state = self.state.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.idle),
                std::mem::take(&mut state.waiters),
            )
        };
        for waiter in waiters {
            waiter.settle(Seat::Refused(Refused::Closed));
        }
        idle.into_iter().map(|(item, _)| item).collect()
    }

    /// Permits handed out now.
    pub fn in_use(&self) -> usize {
        self.state.lock().in_use
    }

    /// Calls that wait for a permit now.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }
}

/// One of the permits; given back when dropped.
pub struct Permit<T: Send + 'static> {
    /// The resource that goes with the permit; `None` until the holder has made it, and again
    /// once the holder has found it unfit for the next call.
    pub item: Option<T>,
    generation: u64,
    semaphore: Arc<Semaphore<T>>,
}

impl<T: Send + 'static> Drop for Permit<T> {
    fn drop(&mut self) {
        self.semaphore.release(self.item.take(), self.generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Reason;
    use crate::thread::{Handle, Role, spawn};
    use std::sync::mpsc;

    const AGE: Duration = Duration::from_secs(60);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// Starts a thread that waits for a permit, and returns once it is waiting.
    fn waiter(
        semaphore: &Arc<Semaphore<u32>>,
        cancel: &Arc<Cancel>,
        report: mpsc::Sender<Result<Option<u32>, Refused>>,
    ) -> Handle {
        let before = semaphore.waiting();
        let (own, cancel) = (Arc::clone(semaphore), Arc::clone(cancel));
        let handle = spawn("test-waiter", Role::Worker, move || {
            let got = own.acquire(&cancel, soon());
            report.send(got.map(|mut permit| permit.item.take()))?;
            Ok(())
        })
        .unwrap();
        while semaphore.waiting() == before {
            std::thread::yield_now();
        }
        handle
    }

    #[test]
    fn a_lower_maximum_is_reached_as_permits_come_back_and_a_higher_one_at_once() {
        let semaphore = Semaphore::<u32>::new(2, AGE);
        let take = || semaphore.try_acquire().unwrap();
        let (one, two) = (take(), take());
        semaphore.set_max(1);
        drop(one);
        assert!(take().is_none());
        drop(two);
        let one = take();
        assert!(one.is_some());
        let (tell, told) = mpsc::channel();
        let waiter = waiter(&semaphore, &Arc::new(Cancel::new()), tell);
        semaphore.set_max(2);
        assert_eq!(told.recv().unwrap(), Ok(None));
        drop(waiter);
        drop(one);
        assert_eq!(semaphore.in_use(), 0);
    }

    #[test]
    fn the_resource_used_last_comes_first_and_never_more_than_max() {
        let semaphore = Semaphore::new(2, AGE);
        let mut one = semaphore.try_acquire().unwrap().unwrap();
        let mut two = semaphore.try_acquire().unwrap().unwrap();
        assert!(semaphore.try_acquire().unwrap().is_none());
        assert_eq!((one.item, two.item, semaphore.in_use()), (None, None, 2));
        (one.item, two.item) = (Some(1), Some(2));
        drop(two);
        drop(one);
        assert_eq!(semaphore.try_acquire().unwrap().unwrap().item, Some(1));
        assert_eq!(semaphore.in_use(), 0);
    }

    #[test]
    fn waiters_are_served_in_order_and_no_newcomer_overtakes() {
        let semaphore = Semaphore::new(1, AGE);
        let mut held = semaphore.try_acquire().unwrap().unwrap();
        held.item = Some(7);
        let cancel = Arc::new(Cancel::new());
        let (report, reports) = mpsc::channel();
        let (report_2, reports_2) = mpsc::channel();
        let first = waiter(&semaphore, &cancel, report);
        let second = waiter(&semaphore, &Arc::new(Cancel::new()), report_2);
        drop(held);
        assert_eq!(reports.recv().unwrap(), Ok(Some(7)));
        // The first took the resource out of its permit, so the second must make its own.
        assert_eq!(reports_2.recv().unwrap(), Ok(None));
        first.join();
        second.join();
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
    }

    #[test]
    fn a_cancelled_waiter_returns_at_once_and_is_skipped() {
        let semaphore = Semaphore::new(1, AGE);
        let held = semaphore.try_acquire().unwrap().unwrap();
        let cancel = Arc::new(Cancel::new());
        let (report, reports) = mpsc::channel();
        let handle = waiter(&semaphore, &cancel, report);
        cancel.cancel(Reason::ClientGone);
        assert_eq!(reports.recv().unwrap(), Err(Refused::Cancelled));
        handle.join();
        drop(held);
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
    }

    #[test]
    fn a_deadline_ends_the_wait_and_leaves_no_waiter() {
        let semaphore = Semaphore::<u32>::new(1, AGE);
        let _held = semaphore.try_acquire().unwrap().unwrap();
        let soon = Instant::now() + Duration::from_millis(5);
        let refused = semaphore.acquire(&Cancel::new(), soon).err();
        assert_eq!(refused, Some(Refused::Deadline));
        assert_eq!(semaphore.waiting(), 0);
    }

    #[test]
    fn closing_refuses_waiters_and_newcomers_and_returns_what_is_idle() {
        let semaphore = Semaphore::new(2, AGE);
        let held = semaphore.try_acquire().unwrap().unwrap();
        let mut idle = semaphore.try_acquire().unwrap().unwrap();
        idle.item = Some(3);
        drop(idle);
        let second = semaphore.try_acquire().unwrap().unwrap();
        let (report, reports) = mpsc::channel();
        let handle = waiter(&semaphore, &Arc::new(Cancel::new()), report);
        assert!(semaphore.close().is_empty());
        assert_eq!(reports.recv().unwrap(), Err(Refused::Closed));
        handle.join();
        assert!(matches!(semaphore.try_acquire(), Err(Refused::Closed)));
        drop((held, second));
        assert_eq!(semaphore.in_use(), 0);
        assert!(semaphore.close().is_empty(), "nothing is kept once closed");
    }

    #[test]
    fn after_a_renewal_no_resource_of_before_is_handed_out() {
        let semaphore = Semaphore::new(2, AGE);
        let take = || semaphore.try_acquire().unwrap().unwrap();
        let (mut held, mut idle) = (take(), take());
        (held.item, idle.item) = (Some(1), Some(2));
        drop(idle);
        let kept = take();
        let (report, reports) = mpsc::channel();
        let waiter = waiter(&semaphore, &Arc::new(Cancel::new()), report);
        assert_eq!(semaphore.renew(), (Vec::new(), 2));
        drop(held);
        assert_eq!(reports.recv().unwrap(), Ok(None), "a waiter makes its own");
        waiter.join();
        drop(kept);
        let mut own = take();
        assert_eq!(own.item, None);
        own.item = Some(3);
        drop(own);
        assert_eq!(semaphore.renew(), (vec![3], 0));
        assert_eq!(take().item, None);
    }

    #[test]
    fn what_has_been_idle_for_too_long_is_let_go() {
        let semaphore = Semaphore::new(3, Duration::ZERO);
        let mut permits: Vec<_> = (0..3)
            .map(|_| semaphore.try_acquire().unwrap().unwrap())
            .collect();
        for (number, permit) in permits.iter_mut().enumerate() {
            permit.item = Some(number);
        }
        drop(permits);
        drop(semaphore.try_acquire().unwrap());
        assert!(semaphore.close().len() <= 1);
    }
}
