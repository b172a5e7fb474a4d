//! Whether the shared cache is asked at all, and what is known about it.
//!
//! One failure is enough to leave it alone: it is only there to save time. For a second, and after
//! each probe that fails for twice as long, nobody asks it; then the next call has a probe sent, by
//! the writing thread, and goes on without waiting for it. So no call ever pays for finding out, and
//! a process without calls does nothing. Start at [`Core`], which takes its time as an argument.

use std::time::{Duration, Instant};

/// For how long it is left alone after a failure, and at most.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Whether an operation may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Yes; its failure is to be told with this epoch.
    Yes(u64),
    /// No, and a probe is due: the caller has to see to it that there is one.
    ProbeDue,
    No,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Asked,
    Resting {
        until: Instant,
        /// Rests in a row, this one included.
        rests: u32,
        is_probed: bool,
    },
}

/// The breaker.
#[derive(Debug)]
pub struct Core {
    phase: Phase,
    /// Counts the changes of phase. What began in another epoch says nothing about this one.
    epoch: u64,
}

impl Core {
    /// One that is asked once the first probe, which the caller has to send, was answered.
    pub const fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Resting {
                until: now,
                rests: 0,
                is_probed: true,
            },
            epoch: 0,
        }
    }

    /// Whether an operation may begin at `now`.
    pub fn admit(&mut self, now: Instant) -> Admit {
        match &mut self.phase {
            Phase::Asked => Admit::Yes(self.epoch),
            Phase::Resting {
                until, is_probed, ..
            } if now >= *until && !*is_probed => {
                *is_probed = true;
                Admit::ProbeDue
            }
            Phase::Resting { .. } => Admit::No,
        }
    }

    /// An operation of that epoch failed. Returns whether it is left alone from now on for that.
    pub fn failed(&mut self, epoch: u64, now: Instant) -> bool {
        let counts = epoch == self.epoch && matches!(self.phase, Phase::Asked);
        if counts {
            self.rest(0, now);
        }
        counts
    }

    /// A probe has ended. Returns whether it is asked again from now on for that.
    pub fn probed(&mut self, answered: bool, now: Instant) -> bool {
        let Phase::Resting { rests, .. } = self.phase else {
            return false;
        };
        if answered {
            self.phase = Phase::Asked;
            self.epoch += 1;
        } else {
            self.rest(rests, now);
        }
        answered
    }

    /// A probe that was due could not be begun: the next one who asks may try.
    pub fn not_probed(&mut self) {
        if let Phase::Resting { is_probed, .. } = &mut self.phase {
            *is_probed = false;
        }
    }

    /// Whether it is left alone.
    pub const fn is_resting(&self) -> bool {
        matches!(self.phase, Phase::Resting { .. })
    }

    fn rest(&mut self, rests_before: u32, now: Instant) {
        let factor = 1_u32.checked_shl(rests_before).unwrap_or(u32::MAX);
        self.epoch += 1;
        self.phase = Phase::Resting {
            until: now + REST.saturating_mul(factor).min(REST_MAX),
            rests: rests_before.saturating_add(1),
            is_probed: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that answered its first probe, and its epoch.
    fn asked(now: Instant) -> (Core, u64) {
        let mut core = Core::new(now);
        assert_eq!(core.admit(now), Admit::No, "the first probe is out");
        assert!(core.probed(true, now));
        match core.admit(now) {
            Admit::Yes(epoch) => (core, epoch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_rests_for_a_second_then_twice_as_long_up_to_thirty() {
        let mut now = Instant::now();
        let (mut core, epoch) = asked(now);
        assert!(core.failed(epoch, now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let due = now + Duration::from_secs(seconds);
            assert_eq!(core.admit(due - Duration::from_millis(1)), Admit::No);
            assert_eq!(core.admit(due), Admit::ProbeDue);
            assert_eq!(core.admit(due), Admit::No, "one prober at a time");
            assert!(!core.probed(false, due));
            now = due;
        }
        let due = now + REST_MAX;
        assert_eq!(core.admit(due), Admit::ProbeDue);
        core.not_probed();
        assert_eq!(core.admit(due), Admit::ProbeDue);
        assert!(core.probed(true, due));
        assert!(matches!(core.admit(due), Admit::Yes(_)));
        assert!(!core.is_resting());
    }

    #[test]
    fn a_first_probe_that_fails_is_a_rest_like_any_other() {
        let now = Instant::now();
        let mut core = Core::new(now);
        assert!(!core.probed(false, now));
        assert_eq!(core.admit(now + REST / 2), Admit::No);
        assert_eq!(core.admit(now + REST), Admit::ProbeDue);
    }

    #[test]
    fn a_failure_of_before_a_change_says_nothing() {
        let now = Instant::now();
        let (mut core, epoch) = asked(now);
        assert!(core.failed(epoch, now));
        assert!(!core.failed(epoch, now));
        assert!(core.probed(true, now));
        assert!(!core.failed(epoch, now));
        assert!(!core.probed(false, now), "a probe that nobody waits for");
        assert!(!core.is_resting());
    }
}
