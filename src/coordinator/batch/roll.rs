//! Who is part of a batch: joined until it is closed, there until answered or gone.
//!
//! Each member is taken out once, by whoever answers it or finds that it has left, so that nobody
//! is answered twice. No member is ever answered under the lock.

use std::collections::BTreeMap;

use crate::sync::Mutex;

/// A member's place, in the order in which they came.
pub type Seat = u32;

/// The place of the member that opens a batch.
pub const FIRST: Seat = 0;

/// What may be in one batch.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Members, at least 2.
    pub members: usize,
    /// What they weigh together; the first may weigh more by itself.
    pub bytes: usize,
}

/// See the module.
pub struct Roll<M> {
    bounds: Bounds,
    state: Mutex<State<M>>,
}

struct State<M> {
    members: BTreeMap<Seat, (M, usize)>,
    bytes: usize,
    seats: Seat,
    is_closed: bool,
    /// Whether a worker has the batch.
    is_taken: bool,
}

/// A member that has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub seat: Seat,
    /// The batch is full with it, and closed.
    pub is_full: bool,
}

/// A member that has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Left<M> {
    pub member: M,
    /// Nobody else is there, and nobody can join.
    pub is_last: bool,
    /// No worker had the batch yet.
    pub was_waiting: bool,
}

impl<M> Roll<M> {
    /// One member, that has the place [`FIRST`].
    pub fn of(bounds: Bounds, first: M, bytes: usize) -> Self {
        let state = State {
            members: BTreeMap::from([(FIRST, (first, bytes))]),
            bytes,
            seats: FIRST + 1,
            is_closed: false,
            is_taken: false,
        };
        Self {
            bounds,
            state: Mutex::new("batch.roll", state),
        }
    }

    /// Takes a member in.
    ///
    /// # Errors
    /// The batch is closed, or has no room for so many bytes and is closed by that: the member
    /// comes back.
    pub fn join(&self, member: M, bytes: usize) -> Result<Joined, M> {
        let mut state = self.state.lock();
        let after = state.bytes.saturating_add(bytes);
        if state.is_closed || after > self.bounds.bytes {
            state.is_closed = true;
            return Err(member);
        }
        let seat = state.seats;
        state.seats += 1;
        state.bytes = after;
        state.members.insert(seat, (member, bytes));
        let is_full = state.members.len() >= self.bounds.members || after >= self.bounds.bytes;
        state.is_closed = is_full;
        Ok(Joined { seat, is_full })
    }

    /// Takes a member out that has not been answered. The last one to go closes the batch.
    pub fn leave(&self, seat: Seat) -> Option<Left<M>> {
        let mut state = self.state.lock();
        let (member, bytes) = state.members.remove(&seat)?;
        state.bytes -= bytes;
        let is_last = state.members.is_empty();
        state.is_closed |= is_last;
        Some(Left {
            member,
            is_last,
            was_waiting: !state.is_taken,
        })
    }

    /// A worker has the batch now. Returns whether others may still join.
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock();
        state.is_taken = true;
        !state.is_closed
    }

    /// From here on nobody joins. Returns who is there.
    pub fn close(&self) -> Vec<Seat> {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.members.keys().copied().collect()
    }

    /// What `look` finds at those of `seats` whose members are still there.
    pub fn present<T>(&self, seats: &[Seat], look: impl Fn(Seat, &mut M) -> T) -> Vec<T> {
        let mut state = self.state.lock();
        let mut found = Vec::with_capacity(seats.len());
        for seat in seats {
            if let Some((member, _)) = state.members.get_mut(seat) {
                found.push(look(*seat, member));
            }
        }
        found
    }

    /// Takes a member out to answer it.
    pub fn take(&self, seat: Seat) -> Option<M> {
        let (member, _) = self.state.lock().members.remove(&seat)?;
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// With the member 7 of 6 bytes.
    fn roll(members: usize, bytes: usize) -> Roll<usize> {
        Roll::of(Bounds { members, bytes }, 7, 6)
    }

    #[test]
    fn a_batch_is_full_by_number_or_by_bytes() {
        let joined = |seat, is_full| Ok(Joined { seat, is_full });
        let three = roll(3, 100);
        assert_eq!(three.join(8, 1), joined(1, false));
        assert_eq!(three.join(9, 1), joined(2, true));
        assert_eq!((three.join(9, 1), three.begin()), (Err(9), false));
        assert_eq!(three.close(), [0, 1, 2]);
        let small = roll(9, 10);
        assert_eq!(small.join(8, 6), Err(8));
        // What did not fit has closed it, so that nobody overtakes.
        assert_eq!(small.join(9, 1), Err(9));
        assert_eq!(roll(9, 10).join(8, 4), joined(1, true));
    }

    #[test]
    fn who_leaves_makes_room_and_the_last_one_closes() {
        let left = |member, is_last, was_waiting| {
            Some(Left {
                member,
                is_last,
                was_waiting,
            })
        };
        let one = roll(2, 10);
        assert!(one.begin());
        assert_eq!(one.leave(FIRST), left(7, true, false));
        assert_eq!((one.leave(FIRST), one.join(8, 1)), (None, Err(8)));
        let two = roll(3, 10);
        assert_eq!(two.join(8, 3).map(|it| it.seat), Ok(1));
        assert_eq!(two.leave(FIRST), left(7, false, true));
        assert_eq!(two.join(9, 6).map(|it| it.seat), Ok(2));
        assert_eq!(two.close(), [1, 2]);
        let found = two.present(&[0, 1, 2], |seat, member| (seat, *member));
        assert_eq!(found, [(1, 8), (2, 9)]);
        assert_eq!((two.take(1), two.take(1)), (Some(8), None));
        assert_eq!(two.leave(2), left(9, true, true));
    }

    #[test]
    fn each_of_many_is_answered_or_leaves_exactly_once() {
        const THREADS: usize = 8;
        const EACH: usize = 200;
        for members in [2, 5, 1000] {
            let roll = roll(members, usize::MAX);
            let [answered, left, refused] = [const { AtomicUsize::new(0) }; 3];
            let count = |to: &AtomicUsize, one: bool| {
                to.fetch_add(usize::from(one), Ordering::Relaxed);
            };
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (roll, left, refused) = (&roll, &left, &refused);
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let joined = roll.join(number, 1);
                            count(refused, joined.is_err());
                            if let Ok(Joined { seat, .. }) = joined
                                && (thread + number).is_multiple_of(3)
                            {
                                count(left, roll.leave(seat).is_some());
                            }
                        }
                    });
                }
                scope.spawn(|| {
                    roll.begin();
                    std::thread::yield_now();
                    for seat in roll.close() {
                        count(&answered, roll.take(seat).is_some());
                    }
                });
            });
            assert!(roll.close().is_empty());
            let [answered, left, refused] = [answered, left, refused].map(AtomicUsize::into_inner);
            let sum = answered + left + refused;
            assert_eq!(sum, THREADS * EACH + 1, "{answered} {left} {refused}");
        }
    }
}
