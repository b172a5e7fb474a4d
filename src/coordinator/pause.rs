//! A worker's sleep between two attempts, which a cancel ends.

use std::sync::Arc;
use std::time::Instant;

use crate::cancel::{Abort, Cancel, Reason};
use crate::sync::{Condvar, Mutex};
use crate::thread;

struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Abort for Alarm {
    fn abort(&self) {
        *self.rung.lock() = true;
        self.bell.notify_one();
    }
}

/// Sleeps until then.
///
/// # Errors
/// The call was cancelled, for this reason.
pub fn until(cancel: &Cancel, until: Instant) -> Result<(), Reason> {
    let alarm = Arc::new(Alarm {
        rung: Mutex::new("coordinator.pause", false),
        bell: Condvar::new(),
    });
    thread::set_state(thread::State::WaitingRetry);
    cancel.attach(Arc::clone(&alarm) as Arc<dyn Abort>);
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
        assert!(Instant::now() < far);
    }
}
