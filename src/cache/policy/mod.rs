//! Who goes first when there is no room.
//!
//! A policy knows entries by the number of their slot and nothing else. It keeps them in doubly
//! linked lists whose links are numbers beside one another ([`Links`]), so a hit moves a number
//! and allocates nothing. Sizes play no part: what is evicted is decided by use, and how much by
//! the room that is needed.

pub mod fifo;
pub mod lfu;
pub mod lru;

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

/// A slot's neighbours in the one list it is in, and beside them, for they are needed together,
/// what the policy notes of it.
#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    note: lfu::Uses,
}

/// The links of all slots, in a few lists.
///
/// Each list is a ring that is closed by a head of its own, and the heads stand in front of the
/// slots. So no step asks whether a neighbour is there, which could not be foretold where lists
/// are many and short.
struct Links {
    links: Vec<Link>,
    heads: u32,
}

impl Links {
    /// So many empty lists.
    fn new(heads: u32) -> Self {
        let head = |head| Link {
            older: head,
            newer: head,
            note: lfu::Uses::default(),
        };
        Self {
            links: (0..heads).map(head).collect(),
            heads,
        }
    }

    #[inline]
    fn at(&mut self, link: u32) -> &mut Link {
        &mut self.links[link as usize]
    }

    /// What the policy noted of a slot.
    #[inline]
    fn note(&self, slot: u32) -> lfu::Uses {
        self.links[(self.heads + slot) as usize].note
    }

    #[inline]
    fn is_empty(&self, list: u32) -> bool {
        self.links[list as usize].newer == list
    }

    fn oldest(&self, list: u32) -> Option<u32> {
        self.links[list as usize].newer.checked_sub(self.heads)
    }

    #[inline]
    fn is_newest(&self, list: u32, slot: u32) -> bool {
        self.links[list as usize].older == self.heads + slot
    }

    /// Adds a slot that is in no list.
    #[inline]
    fn push(&mut self, list: u32, slot: u32, note: lfu::Uses) {
        let own = self.heads + slot;
        let older = self.at(list).older;
        let link = Link {
            older,
            newer: list,
            note,
        };
        match self.links.get_mut(own as usize) {
            Some(old) => *old = link,
            // Slots are numbered as they come.
            None => self.links.push(link),
        }
        self.at(older).newer = own;
        self.at(list).older = own;
    }

    /// Takes a slot out of its list.
    #[inline]
    fn remove(&mut self, slot: u32) {
        let Link { older, newer, .. } = *self.at(self.heads + slot);
        self.at(older).newer = newer;
        self.at(newer).older = older;
    }

    /// Moves all of a list behind what is in another, in O(1).
    fn append(&mut self, to: u32, from: u32) {
        if self.is_empty(from) {
            return;
        }
        let Link {
            older: newest,
            newer: oldest,
            ..
        } = *self.at(from);
        let before = self.at(to).older;
        self.at(before).newer = oldest;
        self.at(oldest).older = before;
        self.at(newest).newer = to;
        self.at(to).older = newest;
        *self.at(from) = Link {
            older: from,
            newer: from,
            note: lfu::Uses::default(),
        };
    }
}
