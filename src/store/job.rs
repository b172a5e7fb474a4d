//! What the store's thread can be asked for, and the answers.
//!
//! A further table adds its kinds of job here. A job is dropped only after it was told. What takes
//! more than one transaction is a [`Task`].

use std::time::Instant;

use super::snapshot::{CacheCursor, CachePage, Task};
use super::status::{Status, count};
use super::{Kept, Scope, StoreError, Then, responses};

/// What the thread is asked for.
pub(super) enum Job {
    Keep(Box<Kept>),
    Conversation {
        id: String,
        scope: Scope,
        deadline: Instant,
        then: Then<Option<Vec<Kept>>>,
    },
    Fetch {
        id: String,
        scope: Scope,
        then: Then<Option<Kept>>,
    },
    Delete {
        id: String,
        scope: Scope,
        then: Then<bool>,
    },
    LoadCache {
        coordinator: Option<String>,
        items: usize,
        after: Option<CacheCursor>,
        deadline: Instant,
        then: Then<CachePage>,
    },
    Task(Box<Task>),
}

/// What came of a job.
pub(super) enum Done {
    Kept,
    Conversation(Option<Vec<Kept>>),
    Fetched(Option<Kept>),
    Deleted(bool),
    Loaded(CachePage),
}

impl Done {
    /// What the answer holds in memory.
    pub fn bytes(&self) -> usize {
        let all = match self {
            Self::Conversation(Some(all)) => all.as_slice(),
            Self::Fetched(Some(one)) => std::slice::from_ref(one),
            Self::Loaded(page) => return page.bytes(),
            _ => &[],
        };
        all.iter().map(|kept| responses::bytes(kept) as usize).sum()
    }
}

/// A job's answer.
pub(super) type Outcome = Result<Done, StoreError>;

/// The same error for so many jobs.
pub(super) fn all(error: StoreError, count: usize) -> Vec<Outcome> {
    (0..count).map(|_| Err(error)).collect()
}

impl Job {
    /// Whether it is a write of its own, not just the mark of a use.
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Keep(_) | Self::Delete { .. })
    }

    /// Counts what came of it and tells whoever asked.
    pub fn tell(self, outcome: Outcome, status: &Status) {
        let stats = &status.stats;
        if self.is_write() && outcome.is_ok() {
            count(&stats.writes_ok);
        } else if self.is_write() {
            count(&stats.writes_failed);
        }
        match (self, outcome) {
            (Self::Keep(_), Ok(_)) => {}
            (Self::Keep(_), Err(error)) => status.lost(&status.why(error)),
            (Self::Conversation { then, .. }, Ok(Done::Conversation(found))) => then(Ok(found)),
            (Self::Conversation { then, .. }, Err(error)) => then(Err(error)),
            (Self::Fetch { then, .. }, Ok(Done::Fetched(found))) => then(Ok(found)),
            (Self::Fetch { then, .. }, Err(error)) => then(Err(error)),
            (Self::Delete { then, .. }, Ok(Done::Deleted(was_there))) => then(Ok(was_there)),
            (Self::Delete { then, .. }, Err(error)) => then(Err(error)),
            (Self::LoadCache { then, .. }, Ok(Done::Loaded(page))) => then(Ok(page)),
            (Self::LoadCache { then, .. }, Err(error)) => then(Err(error)),
            (Self::Task(task), Err(error)) => task.fail(error, status),
            // Each job is answered in its own kind.
            (_, Ok(_)) => debug_assert!(false, "an answer of another kind"),
        }
    }
}
