//! Who goes first when there is no room.
//!
//! A policy knows entries by the number of their slot and nothing else. It keeps them in doubly
//! linked lists whose links are numbers beside one another ([`Links`]), so a hit moves a number
//! and allocates nothing. The entries' heats have no part in the order; they stand with the links
//! because a hit changes both, and so fetches one line of memory. Sizes play no part: what is evicted is decided by use, and how much by
//! the room that is needed.

pub mod fifo;
pub mod lfu;
pub mod lru;

use super::heat::Heat;
use crate::config::checked::EvictionPolicy;

/// The order in which entries go. A slot is inserted once before it is hit or removed.
pub trait Policy: Send {
    /// An entry has come into `slot`, at that second.
    fn insert(&mut self, slot: u32, second: u32);
    /// The entries in `slots` were used, one after the other, in that second.
    fn hits(&mut self, slots: &[u32], second: u32);
    /// The entry in `slot` has gone.
    fn remove(&mut self, slot: u32);
    /// The slot whose entry is to go next; `None` if there is none.
    fn victim(&mut self) -> Option<u32>;
    /// How much the entry in `slot` is in use.
    fn heat(&self, slot: u32) -> Heat;
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
    fn insert(&mut self, slot: u32, second: u32) {
        match self {
            Self::Lru(lru) => lru.insert(slot, second),
            Self::Lfu(lfu) => lfu.insert(slot, second),
            Self::Fifo(fifo) => fifo.insert(slot, second),
        }
    }

    fn hits(&mut self, slots: &[u32], second: u32) {
        match self {
            Self::Lru(lru) => lru.hits(slots, second),
            Self::Lfu(lfu) => lfu.hits(slots, second),
            Self::Fifo(fifo) => fifo.hits(slots, second),
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::Lru(lru) => lru.remove(slot),
            Self::Lfu(lfu) => lfu.remove(slot),
            Self::Fifo(fifo) => fifo.remove(slot),
        }
    }

    fn victim(&mut self) -> Option<u32> {
        match self {
            Self::Lru(lru) => lru.victim(),
            Self::Lfu(lfu) => lfu.victim(),
            Self::Fifo(fifo) => fifo.victim(),
        }
    }

    fn heat(&self, slot: u32) -> Heat {
        match self {
            Self::Lru(lru) => lru.heat(slot),
            Self::Lfu(lfu) => lfu.heat(slot),
            Self::Fifo(fifo) => fifo.heat(slot),
        }
    }
}

/// A slot's neighbours in the one list it is in, and beside them, for they are needed together,
/// what the policy notes of it and its heat. Two fill a line of memory.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub struct Link {
    older: u32,
    newer: u32,
    note: lfu::Uses,
    heat: Heat,
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
            heat: Heat::new(0),
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

    /// What is noted of a slot.
    #[inline]
    fn slot(&mut self, slot: u32) -> &mut Link {
        &mut self.links[(self.heads + slot) as usize]
    }

    fn heat(&self, slot: u32) -> Heat {
        self.links[(self.heads + slot) as usize].heat
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

    /// Adds a slot that has just been filled.
    #[inline]
    fn insert(&mut self, list: u32, slot: u32, note: lfu::Uses, second: u32) {
        let link = Link {
            older: list,
            newer: list,
            note,
            heat: Heat::new(second),
        };
        match self.links.get_mut((self.heads + slot) as usize) {
            Some(old) => *old = link,
            // Slots are numbered as they come.
            None => self.links.push(link),
        }
        self.push(list, slot);
    }

    /// Puts a slot that is in no list behind what is in one.
    #[inline]
    fn push(&mut self, list: u32, slot: u32) {
        let own = self.heads + slot;
        let older = std::mem::replace(&mut self.at(list).older, own);
        let link = self.at(own);
        (link.older, link.newer) = (older, list);
        self.at(older).newer = own;
    }

    /// Takes a slot out of its list.
    #[inline]
    fn remove(&mut self, slot: u32) {
        let Link { older, newer, .. } = *self.slot(slot);
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
        let head = self.at(from);
        (head.older, head.newer) = (from, from);
    }
}
