//! The rate limit of a provider, for threads.
//!
//! A shell around [`super::bucket`], which has the arithmetic: here callers sleep until their slot.
//! Each reserves its own and wakes by its own clock, so there is no hand-over that could be lost;
//! they are woken only when a slot has moved to an earlier time or beyond a deadline. Nobody
//! waits longer than its deadline or past its cancel. Start at [`Limiter::acquire`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Reserved, TooLate, Turn};
use super::hints::Hints;
use crate::cancel::{Abort, Cancel};
use crate::config::checked::RateLimit;
use crate::sync::{Condvar, Mutex};

/// A pause after a 429 that comes without a `retry-after`.
pub const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// See the module.
pub struct Limiter(Mutex<Bucket<Arc<Sleeper>>>);

/// Why a caller may not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its slot lies, or has moved, beyond its deadline.
    Deadline,
    /// The call was cancelled first.
    Cancelled,
}

/// One that waits.
struct Sleeper {
    call: Mutex<Call>,
    called: Condvar,
}

/// What has been called out to a sleeper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Nothing,
    LookAgain,
    Cancelled,
}

impl Abort for Sleeper {
    fn abort(&self) {
        *self.call.lock() = Call::Cancelled;
        self.called.notify_one();
    }
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            call: Mutex::new("provider.limiter.sleeper", Call::Nothing),
            called: Condvar::new(),
        })
    }

    fn look_again(&self) {
        let mut call = self.call.lock();
        if *call == Call::Nothing {
            *call = Call::LookAgain;
        }
        drop(call);
        self.called.notify_one();
    }

    /// Sleeps until then or until called. Returns what was called, and forgets it unless it was
    /// a cancel.
    fn sleep_until(&self, until: Instant) -> Call {
        let mut call = self.call.lock();
        while *call == Call::Nothing && !self.called.wait_until(&mut call, until) {}
        let called = *call;
        if called == Call::LookAgain {
            *call = Call::Nothing;
        }
        called
    }
}

impl Limiter {
    /// A limiter of a configured rate, with its burst there at once; without `limit` it slows only
    /// as the provider says.
    pub fn new(limit: Option<RateLimit>) -> Self {
        let bucket = Bucket::new(limit, Instant::now());
        Self(Mutex::new("provider.limiter", bucket))
    }

    /// Waits for the caller's turn, first come first served, and returns how long that took.
    ///
    /// # Errors
    /// See [`Refused`]. A slot beyond `deadline` is refused at once and costs nothing.
    pub fn acquire(&self, cancel: &Cancel, deadline: Instant) -> Result<Duration, Refused> {
        let came = Instant::now();
        match self.take(cancel, came, deadline)? {
            Took::AtOnce => Ok(Duration::ZERO),
            Took::Waited => Ok(came.elapsed()),
        }
    }

    fn take(&self, cancel: &Cancel, came: Instant, deadline: Instant) -> Result<Took, Refused> {
        if cancel.is_cancelled() {
            return Err(Refused::Cancelled);
        }
        let mut sleeper = None;
        let reserved = {
            let own = || Arc::clone(sleeper.insert(Sleeper::new()));
            self.0.lock().reserve(came, deadline, own)
        };
        let (id, slot) = match reserved {
            Err(TooLate) => return Err(Refused::Deadline),
            Ok(Reserved::Now) => return Ok(Took::AtOnce),
            Ok(Reserved::Later { id, slot }) => (id, slot),
        };
        let Some(sleeper) = sleeper else {
            return Err(Refused::Deadline);
        };
        cancel.attach(Arc::clone(&sleeper) as Arc<dyn Abort>);
        let result = self.wait(&sleeper, id, slot, came);
        cancel.detach();
        result.map(|()| Took::Waited)
    }

    fn wait(
        &self,
        sleeper: &Sleeper,
        id: u64,
        slot: Instant,
        came: Instant,
    ) -> Result<(), Refused> {
        let (mut until, mut now) = (slot, came);
        loop {
            match sleeper.sleep_until(until) {
                Call::Cancelled => {
                    self.0.lock().give_back(id);
                    return Err(Refused::Cancelled);
                }
                // The clock need not be read: it is at least as late as what was slept until.
                Call::Nothing => now = now.max(until),
                Call::LookAgain => {}
            }
            match self.0.lock().turn(id, now) {
                Turn::Go => return Ok(()),
                Turn::Wait(slot) => until = slot,
                Turn::TooLate => return Err(Refused::Deadline),
            }
        }
    }

    /// The provider refused (429): nobody else goes before `until`; see [`Bucket::pause_until`].
    pub fn pause_until(&self, until: Instant) {
        let woken = self.0.lock().pause_until(until, Instant::now());
        woken.iter().for_each(|sleeper| sleeper.look_again());
    }

    /// Heeds what an answer that came at `now` says; see [`Bucket::heed`].
    pub fn heed(&self, hints: &Hints, now: Instant) {
        let woken = self.0.lock().heed(hints, now);
        woken.iter().for_each(|sleeper| sleeper.look_again());
    }

    /// When a caller that comes at `now` could go.
    pub fn next_free(&self, now: Instant) -> Instant {
        self.0.lock().next_free(now)
    }

    /// Callers that wait now.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting()
    }
}

/// How a turn was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Took {
    AtOnce,
    Waited,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Reason;
    use crate::thread;
    use std::num::NonZeroU32;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    fn limiter(requests_per_second: f64) -> Arc<Limiter> {
        Arc::new(Limiter::new(Some(RateLimit {
            requests_per_second,
            burst: NonZeroU32::MIN,
        })))
    }

    /// Starts a thread that waits for its turn and reports how that ended.
    fn waiter(
        limiter: &Arc<Limiter>,
        cancel: &Arc<Cancel>,
        patience: Duration,
    ) -> (thread::Handle, mpsc::Receiver<Result<Duration, Refused>>) {
        let before = limiter.waiting();
        let (report, reports) = mpsc::channel();
        let (own, cancel) = (Arc::clone(limiter), Arc::clone(cancel));
        let handle = thread::spawn("test-limiter", thread::Role::Worker, move || {
            report.send(own.acquire(&cancel, Instant::now() + patience))?;
            Ok(())
        })
        .unwrap();
        while limiter.waiting() == before {
            std::thread::yield_now();
        }
        (handle, reports)
    }

    #[test]
    fn the_second_waits_for_its_slot() {
        let limiter = limiter(20.0);
        let (cancel, started) = (Cancel::new(), Instant::now());
        let deadline = started + LONG;
        assert_eq!(limiter.acquire(&cancel, deadline), Ok(Duration::ZERO));
        let waited = limiter.acquire(&cancel, deadline).unwrap();
        assert!(waited > Duration::ZERO && started.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn beyond_the_deadline_is_refused_at_once() {
        let limiter = limiter(0.01);
        let (cancel, started) = (Cancel::new(), Instant::now());
        let deadline = started + Duration::from_secs(90);
        assert!(limiter.acquire(&cancel, deadline).is_ok());
        assert_eq!(limiter.acquire(&cancel, deadline), Err(Refused::Deadline));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(limiter.waiting(), 0);
    }

    #[test]
    fn a_cancel_ends_the_wait_and_gives_the_slot_back() {
        let limiter = limiter(0.01);
        let cancel = Arc::new(Cancel::new());
        let far = Instant::now() + LONG * 10;
        assert!(limiter.acquire(&cancel, far).is_ok());
        let free = limiter.next_free(Instant::now());
        let (handle, reports) = waiter(&limiter, &cancel, LONG * 10);
        assert!(limiter.next_free(Instant::now()) > free);
        cancel.cancel(Reason::ClientGone);
        assert_eq!(reports.recv().unwrap(), Err(Refused::Cancelled));
        handle.join();
        assert_eq!(limiter.next_free(Instant::now()), free);
        assert_eq!(limiter.acquire(&cancel, far), Err(Refused::Cancelled));
    }

    #[test]
    fn a_pause_beyond_the_deadline_ends_the_wait_at_once_and_good_news_too() {
        let limiter = Arc::new(Limiter::new(None));
        let now = Instant::now();
        limiter.pause_until(now + Duration::from_secs(5));
        let (first, refused) = waiter(&limiter, &Arc::default(), Duration::from_secs(20));
        limiter.pause_until(now + LONG);
        assert_eq!(refused.recv().unwrap(), Err(Refused::Deadline));
        first.join();

        let limiter = Arc::new(Limiter::new(None));
        let left = |remaining| {
            let headers = [
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", "60s"),
            ];
            super::super::hints::parse(headers.into_iter(), std::time::SystemTime::now())
        };
        limiter.heed(&left("0"), now);
        let (second, went) = waiter(&limiter, &Arc::default(), LONG * 2);
        limiter.heed(&left("1000"), now);
        assert!(went.recv().unwrap().unwrap() < LONG);
        second.join();
    }
}
