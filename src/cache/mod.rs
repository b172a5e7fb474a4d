//! Answers that need not be asked for again: exact, bounded, and never a wrong one.
//!
//! [`key`] says which calls may share an answer, [`entry`] is an answer, [`store`] keeps them
//! within a bound of bytes, [`policy`] chooses who goes, [`codec`] makes bytes of one and back.
//! Nothing here does I/O, reads a clock, logs, or holds a lock while it encodes or frees an answer:
//! whoever calls it brings the time, and what must be told comes back as a value.
//!
//! Start at [`Cache`]: [`Cache::get`] is what every call pays.

pub mod codec;
pub mod entry;
pub mod keeper;
pub mod key;
pub mod policy;
pub mod store;

mod clock;
mod coordinators;
mod expiry;
mod heat;
mod index;
mod recent;
mod shard;
mod slots;
#[cfg(test)]
mod tests;

pub use coordinators::Owner;
pub use entry::{Body, Cost, Entry, Events};
pub use key::{Key, Place};
pub use store::{Cache, Ranked, Swept};

/// A number of entries and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Entries.
    pub count: u64,
    /// Bytes, as [`Entry::bytes`] counts them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u32) {
        self.count += 1;
        self.bytes += u64::from(bytes);
    }

    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
        }
    }

    fn sum(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// Why an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To make room for another.
    Size,
    /// It was too old.
    Ttl,
    /// An operator cleared it.
    Cleared,
}

impl Reason {
    /// Every reason, in the order of [`Reason::index`].
    pub const ALL: [Self; 3] = [Self::Size, Self::Ttl, Self::Cleared];

    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Ttl => "ttl",
            Self::Cleared => "cleared",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// What became of an insert, and what went for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Evicted {
    /// Whether the entry is in.
    pub outcome: Outcome,
    /// Entries that went, by [`Reason`].
    by_reason: [Amount; 3],
}

impl Evicted {
    /// What went for that reason.
    pub const fn by(&self, reason: Reason) -> Amount {
        self.by_reason[reason.index()]
    }
}

/// What became of an insert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It is in.
    #[default]
    Stored,
    /// It is in, in place of another under the same key.
    Replaced,
    /// It is bigger than an eighth of the cache, or its coordinator is one too many.
    Refused,
    /// It was too old when it came.
    Expired,
}

/// What the cache holds and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What is in; what is too old but has not been found yet included.
    pub held: Amount,
    /// Lookups that found something.
    pub hits: u64,
    /// Inserts that were stored, be it in place of another.
    pub inserts: u64,
    /// Inserts that were refused.
    pub refused: u64,
    /// What went, by [`Reason`].
    by_reason: [Amount; 3],
}

impl Stats {
    /// What went for that reason.
    pub const fn evicted(&self, reason: Reason) -> Amount {
        self.by_reason[reason.index()]
    }
}
