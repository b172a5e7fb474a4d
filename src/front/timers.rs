//! Deadlines of many connections at O(1) each.
//!
//! Every kind of deadline has one constant duration, so connections that got theirs later also
//! expire later: a queue a kind, kept as a doubly linked list over slab indices, is sorted by
//! itself. Setting, moving and clearing a deadline touch at most three entries.

use std::time::{Duration, Instant};

/// Which deadline a connection is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Waits for a request.
    Idle,
    /// A head has begun.
    Head,
    /// A body has begun, or has made progress.
    Body,
    /// Bytes wait that the client does not take.
    Write,
    /// Closing: discards what still comes.
    Linger,
    /// A call with a deadline of its own.
    Call,
}

/// Distinct durations of calls that are kept apart; further ones expire with the nearest.
const CALL_LISTS_MAX: usize = 64;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    list: u8,
    previous: u32,
    next: u32,
    due: Instant,
}

#[derive(Clone, Copy, Debug)]
struct List {
    after: Duration,
    head: u32,
    tail: u32,
}

/// The deadlines of one front thread's connections, by slab index.
pub(super) struct Timers {
    links: Vec<Option<Link>>,
    lists: Vec<List>,
    /// How many of them have a kind of their own; the others are of calls.
    fixed: usize,
}

impl Timers {
    /// `after` are the durations of the kinds in the order of [`Kind`], `Call` excepted; none where
    /// all deadlines are set by [`Timers::set_call`].
    pub fn new(after: &[Duration]) -> Self {
        let lists = after
            .iter()
            .map(|after| List {
                after: *after,
                head: NONE,
                tail: NONE,
            })
            .collect();
        Self {
            links: Vec::new(),
            lists,
            fixed: after.len(),
        }
    }

    /// Puts connection `index` under the deadline `kind`, from `now` on, in place of another.
    pub fn set(&mut self, index: usize, kind: Kind, now: Instant) {
        debug_assert!(kind != Kind::Call, "calls have durations of their own");
        self.put(index, kind as usize, now + self.lists[kind as usize].after);
    }

    /// Puts connection `index` under a deadline of its own, which is `after` from `now`: a call's, or
    /// the next comment's.
    pub fn set_call(&mut self, index: usize, after: Duration, now: Instant) {
        let calls = self.fixed..self.lists.len();
        let list = match calls.clone().find(|list| self.lists[*list].after == after) {
            Some(list) => list,
            None if self.lists.len() < self.fixed + CALL_LISTS_MAX => {
                self.lists.push(List {
                    after,
                    head: NONE,
                    tail: NONE,
                });
                self.lists.len() - 1
            }
            None => calls
                .min_by_key(|list| self.lists[*list].after.abs_diff(after))
                .unwrap_or(self.fixed),
        };
        self.put(index, list, now + self.lists[list].after);
    }

    fn put(&mut self, index: usize, list: usize, due: Instant) {
        self.clear(index);
        if self.links.len() <= index {
            self.links.resize(index + 1, None);
        }
        let previous = self.lists[list].tail;
        self.links[index] = Some(Link {
            list: list as u8,
            previous,
            next: NONE,
            due,
        });
        match self.link(previous) {
            Some(link) => link.next = index as u32,
            None => self.lists[list].head = index as u32,
        }
        self.lists[list].tail = index as u32;
    }

    /// Takes connection `index` from under any deadline.
    pub fn clear(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index).and_then(Option::take) else {
            return;
        };
        match self.link(link.previous) {
            Some(previous) => previous.next = link.next,
            None => self.lists[usize::from(link.list)].head = link.next,
        }
        match self.link(link.next) {
            Some(next) => next.previous = link.previous,
            None => self.lists[usize::from(link.list)].tail = link.previous,
        }
    }

    fn link(&mut self, index: u32) -> Option<&mut Link> {
        self.links.get_mut(index as usize)?.as_mut()
    }

    /// The deadline that connection `index` is under.
    pub fn kind(&self, index: usize) -> Option<Kind> {
        let link = self.links.get(index)?.as_ref()?;
        Some(self.kind_of(usize::from(link.list)))
    }

    /// The earliest deadline.
    pub fn next_due(&self) -> Option<Instant> {
        self.lists
            .iter()
            .filter_map(|list| self.due_of(list.head))
            .min()
    }

    fn due_of(&self, index: u32) -> Option<Instant> {
        Some(self.links.get(index as usize)?.as_ref()?.due)
    }

    /// Takes one connection whose deadline has passed.
    pub fn pop_due(&mut self, now: Instant) -> Option<(usize, Kind)> {
        let list = (0..self.lists.len()).find(|list| {
            self.due_of(self.lists[*list].head)
                .is_some_and(|due| due <= now)
        })?;
        let index = self.lists[list].head as usize;
        self.clear(index);
        Some((index, self.kind_of(list)))
    }

    /// The connection that has been under `kind` for longest, and since when.
    pub fn oldest(&self, kind: Kind) -> Option<(usize, Instant)> {
        let list = &self.lists[kind as usize];
        self.due_of(list.head)
            .map(|due| (list.head as usize, due - list.after))
    }

    /// Which deadline a list holds.
    fn kind_of(&self, list: usize) -> Kind {
        let kinds = [
            Kind::Idle,
            Kind::Head,
            Kind::Body,
            Kind::Write,
            Kind::Linger,
        ];
        let fixed = &kinds[..self.fixed.min(kinds.len())];
        fixed.get(list).copied().unwrap_or(Kind::Call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers() -> Timers {
        Timers::new(&[10, 20, 30, 40, 1].map(Duration::from_secs))
    }

    #[test]
    fn the_earliest_expires_first_and_only_when_due() {
        let (mut timers, start) = (timers(), Instant::now());
        timers.set(3, Kind::Head, start);
        timers.set(1, Kind::Idle, start);
        timers.set(2, Kind::Idle, start + Duration::from_secs(1));
        assert_eq!(timers.next_due(), Some(start + Duration::from_secs(10)));
        assert_eq!(timers.pop_due(start + Duration::from_secs(9)), None);
        let late = start + Duration::from_secs(25);
        assert_eq!(timers.pop_due(late), Some((1, Kind::Idle)));
        assert_eq!(timers.pop_due(late), Some((2, Kind::Idle)));
        assert_eq!(timers.pop_due(late), Some((3, Kind::Head)));
        assert_eq!(timers.next_due(), None);
    }

    #[test]
    fn setting_again_moves_to_the_end_and_clearing_removes() {
        let (mut timers, start) = (timers(), Instant::now());
        for index in 0..5 {
            timers.set(index, Kind::Idle, start);
        }
        timers.set(0, Kind::Idle, start + Duration::from_secs(1));
        timers.clear(2);
        let order: Vec<_> =
            std::iter::from_fn(|| timers.pop_due(start + Duration::from_secs(99))).collect();
        assert_eq!(order, [1, 3, 4, 0].map(|index| (index, Kind::Idle)));
    }

    #[test]
    fn calls_keep_their_own_durations() {
        let (mut timers, start) = (timers(), Instant::now());
        timers.set_call(1, Duration::from_secs(120), start);
        timers.set_call(2, Duration::from_secs(5), start);
        assert_eq!(
            timers.pop_due(start + Duration::from_secs(6)),
            Some((2, Kind::Call))
        );
        assert_eq!(timers.pop_due(start + Duration::from_secs(6)), None);
        for seconds in 0..200 {
            timers.set_call(3, Duration::from_secs(seconds), start);
        }
        assert!(timers.lists.len() <= timers.fixed + CALL_LISTS_MAX);
        assert_eq!(timers.oldest(Kind::Idle), None);
    }
}
