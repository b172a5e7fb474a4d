//! Who goes first when there is no room.
//!
//! A policy knows entries by the number of their [slot](super::slots) and keeps them there in
//! rings, so a hit moves a number and allocates nothing. Sizes play no part: what is evicted is
//! decided by use, and how much by the room that is needed.

pub mod fifo;
pub mod lfu;
pub mod lru;

use super::slots::{Slot, Slots};
use crate::config::checked::EvictionPolicy;

/// By what entries are in order, and so when a use must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By when they came: a use changes nothing.
    Arrival,
    /// By when they were used last, to come being a use: it matters once the entry would be the
    /// next to go.
    LastUse,
    /// By how often they were used: it matters to the next who comes.
    Uses,
}

/// The order in which entries go. A slot's first use is its coming: with [`Order::LastUse`] it is a
/// hit like any other, else the slot is inserted before it is hit. It is always in the same slots,
/// and leaves its ring when it goes, without the policy being asked.
pub trait Policy {
    /// The rings that it keeps.
    const RINGS: u32;
    /// When a use has to be told.
    const ORDER: Order;
    /// An entry has come into `slot`. Not asked with [`Order::LastUse`].
    fn insert(&mut self, slots: &mut Slots, slot: u32) {
        self.hit(slots, slot);
    }
    /// The entry in `slot` was used.
    fn hit(&mut self, slots: &mut Slots, slot: u32);
    /// The slot whose entry is to go next; `None` if there is none.
    fn victim(&mut self, slots: &Slots) -> Option<u32>;
}

/// The policy that the configuration names. A closed choice instead of a `dyn`: it is asked at
/// every hit, under a lock.
pub enum Chosen {
    /// `lru`
    Lru(lru::Lru),
    /// `lfu`
    Lfu(lfu::Lfu),
    /// `fifo`
    Fifo(fifo::Fifo),
}

impl Chosen {
    /// The policy of that name, without entries.
    pub fn new(policy: EvictionPolicy) -> Self {
        match policy {
            EvictionPolicy::Lru => Self::Lru(lru::Lru),
            EvictionPolicy::Lfu => Self::Lfu(lfu::Lfu::default()),
            EvictionPolicy::Fifo => Self::Fifo(fifo::Fifo),
        }
    }

    /// The rings that it keeps.
    pub const fn rings(&self) -> u32 {
        match self {
            Self::Lru(_) => lru::Lru::RINGS,
            Self::Lfu(_) => lfu::Lfu::RINGS,
            Self::Fifo(_) => fifo::Fifo::RINGS,
        }
    }

    /// See [`Policy::ORDER`].
    #[inline]
    pub const fn order(&self) -> Order {
        match self {
            Self::Lru(_) => lru::Lru::ORDER,
            Self::Lfu(_) => lfu::Lfu::ORDER,
            Self::Fifo(_) => fifo::Fifo::ORDER,
        }
    }

    /// See [`Policy::insert`].
    #[inline]
    pub fn insert(&mut self, slots: &mut Slots, slot: u32) {
        match self {
            Self::Lru(lru) => lru.insert(slots, slot),
            Self::Lfu(lfu) => lfu.insert(slots, slot),
            Self::Fifo(fifo) => fifo.insert(slots, slot),
        }
    }

    /// See [`Policy::hit`]: of several slots, one after the other. `each` notes what else there is
    /// to be noted of it.
    #[inline]
    pub fn hits(&mut self, slots: &mut Slots, hit: &[u32], each: impl FnMut(&mut Slot)) {
        match self {
            Self::Lru(lru) => hits(lru, slots, hit, each),
            Self::Lfu(lfu) => hits(lfu, slots, hit, each),
            Self::Fifo(fifo) => hits(fifo, slots, hit, each),
        }
    }

    /// See [`Policy::victim`].
    #[inline]
    pub fn victim(&mut self, slots: &Slots) -> Option<u32> {
        match self {
            Self::Lru(lru) => lru.victim(slots),
            Self::Lfu(lfu) => lfu.victim(slots),
            Self::Fifo(fifo) => fifo.victim(slots),
        }
    }
}

#[inline]
fn hits(policy: &mut impl Policy, slots: &mut Slots, hit: &[u32], mut each: impl FnMut(&mut Slot)) {
    for slot in hit {
        each(slots.at(*slot));
        policy.hit(slots, *slot);
    }
}
