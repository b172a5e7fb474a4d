//! Who goes first when there is no room.
//!
//! A policy knows entries by the number of their slot and nothing else. It keeps them in doubly
//! linked lists whose links are numbers beside one another ([`Links`]), so a hit moves a number
//! and allocates nothing. Sizes play no part: what is evicted is decided by use, and how much by
//! the room that is needed.

pub mod fifo;
pub mod lfu;
pub mod lru;

use prefetch_index::prefetch_index;

use crate::config::checked::EvictionPolicy;

/// The order in which entries go. A slot is inserted once before it is hit or removed.
pub trait Policy: Send {
    /// An entry has come into `slot`.
    fn insert(&mut self, slot: u32);
    /// The entries in `slots` were used, one after the other.
    fn hits(&mut self, slots: &[u32]);
    /// The entry in `slot` has gone.
    fn remove(&mut self, slot: u32);
    /// The slot whose entry is to go next; `None` if there is none.
    fn victim(&self) -> Option<u32>;
}

/// The policy that the configuration names. A closed choice instead of a `dyn`: it is asked at
/// every hit, under a lock.
pub enum Chosen {
    /// `lru`
    Lru(lru::Lru),
    /// `lfu`
    Lfu(Box<lfu::Lfu>),
    /// `fifo`
    Fifo(fifo::Fifo),
}

impl Chosen {
    /// The policy of that name, without entries.
    pub fn new(policy: EvictionPolicy) -> Self {
        match policy {
            EvictionPolicy::Lru => Self::Lru(lru::Lru::default()),
            EvictionPolicy::Lfu => Self::Lfu(Box::default()),
            EvictionPolicy::Fifo => Self::Fifo(fifo::Fifo::default()),
        }
    }
}

impl Policy for Chosen {
    fn insert(&mut self, slot: u32) {
        match self {
            Self::Lru(lru) => lru.insert(slot),
            Self::Lfu(lfu) => lfu.insert(slot),
            Self::Fifo(fifo) => fifo.insert(slot),
        }
    }

    fn hits(&mut self, slots: &[u32]) {
        match self {
            Self::Lru(lru) => lru.hits(slots),
            Self::Lfu(lfu) => lfu.hits(slots),
            Self::Fifo(fifo) => fifo.hits(slots),
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Lru(lru) => lru.remove(slot),
            Self::Lfu(lfu) => lfu.remove(slot),
            Self::Fifo(fifo) => fifo.remove(slot),
        }
    }

    fn victim(&self) -> Option<u32> {
        match self {
            Self::Lru(lru) => lru.victim(),
            Self::Lfu(lfu) => lfu.victim(),
            Self::Fifo(fifo) => fifo.victim(),
        }
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

/// A slot's neighbours in the one list it is in, and beside them, for they are needed together,
/// what the policy notes of it.
#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    note: lfu::Uses,
}

/// The links of all slots, by slot.
#[derive(Default)]
struct Links(Vec<Link>);

impl Links {
    /// Has the links of some slots fetched, all at once.
    fn fetch(&self, slots: &[u32]) {
        for slot in slots {
            prefetch_index(&self.0, *slot as usize);
        }
    }

    fn at(&mut self, slot: u32) -> &mut Link {
        &mut self.0[slot as usize]
    }
}

/// The ends of one list.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl List {
    const fn is_empty(&self) -> bool {
        self.oldest == NONE
    }

    fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds a slot that is in no list.
    fn push(&mut self, links: &mut Links, slot: u32, note: lfu::Uses) {
        let link = Link {
            older: self.newest,
            newer: NONE,
            note,
        };
        match links.0.get_mut(slot as usize) {
            Some(old) => *old = link,
            // Slots are numbered as they come.
            None => links.0.push(link),
        }
        match self.newest {
            NONE => self.oldest = slot,
            newest => links.at(newest).newer = slot,
        }
        self.newest = slot;
    }

    /// Takes out a slot that is in this list.
    fn remove(&mut self, links: &mut Links, slot: u32) {
        let Link { older, newer, .. } = *links.at(slot);
        match older {
            NONE => self.oldest = newer,
            older => links.at(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => links.at(newer).older = older,
        }
    }

    /// Adds all of `other` behind its own, in O(1).
    fn append(&mut self, links: &mut Links, other: Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        links.at(self.newest).newer = other.oldest;
        links.at(other.oldest).older = self.newest;
        self.newest = other.newest;
    }
}
