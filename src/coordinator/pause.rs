//! A worker's sleep between two attempts, which a cancel ends.

use std::sync::Arc;
use std::time::Instant;

use crate::cancel::{Abort, Cancel, Reason};
use crate::sync::{Condvar, Mutex};
use crate::thread;

/// What wakes a worker.
pub struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            rung: Mutex::new("coordinator.pause", false),
            bell: Condvar::new(),
        }
    }
}

impl Alarm {
    /// Ends the wait for it, now or as soon as somebody waits.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.bell.notify_one();
    }
}

impl Abort for Alarm {
    fn abort(&self) {
        self.ring();
    }
}

/// Sleeps until then.
///
/// # Errors
/// The call was cancelled, for this reason.
pub fn until(cancel: &Cancel, until: Instant) -> Result<(), Reason> {
    wait(cancel, &Arc::default(), until, thread::State::WaitingRetry)
}

/// Sleeps until then or until the alarm rings, which it does for one sleeper; `state` says what
/// for.
///
/// # Errors
/// As [`until`].
pub fn wait(
    cancel: &Cancel,
    alarm: &Arc<Alarm>,
    until: Instant,
    state: thread::State,
) -> Result<(), Reason> {
    thread::set_state(state);
    cancel.attach(Arc::clone(alarm) as Arc<dyn Abort>);
    let mut rung = alarm.rung.lock();
    while !*rung && !alarm.bell.wait_until(&mut rung, until) {}
    drop(rung);
    cancel.detach();
    thread::set_state(thread::State::Running);
    cancel.reason().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_pause_ends_in_time_or_with_a_cancel() {
        let cancel = Cancel::new();
        assert_eq!(
            until(&cancel, Instant::now() + Duration::from_millis(1)),
            Ok(())
        );
        cancel.cancel(Reason::ClientGone);
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(until(&cancel, far), Err(Reason::ClientGone));
        let alarm = Arc::new(Alarm::default());
        alarm.ring();
        let state = thread::State::WaitingBatch;
        assert_eq!(wait(&Cancel::new(), &alarm, far, state), Ok(()));
        assert!(Instant::now() < far);
    }
}
