//! Who goes first when there is no room.
//!
//! A policy knows entries by the number of their [slot](super::slots) and keeps them there in
//! rings, so a hit moves a number and allocates nothing. Sizes play no part: what is evicted is
//! decided by use, and how much by the room that is needed.

pub mod fifo;
pub mod lfu;
pub mod lru;

use super::recent::Used;
use super::slots::{Slot, Slots};
use crate::config::checked::EvictionPolicy;

/// By what entries are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By when they came: a use changes nothing.
    Arrival,
    /// By their uses, of which coming is the first.
    Use,
}

/// The order in which entries go. It is always asked with the same slots, and a slot leaves its
/// ring when its entry goes, without the policy being asked.
///
/// Uses are told later than they were, all of them in order; what is asked meanwhile is to be
/// answered as if they had been told.
pub trait Policy {
    /// The rings that it keeps.
    const RINGS: u32;
    /// What the order is by.
    const ORDER: Order;
    /// An entry has come into `slot`. Not asked with [`Order::Use`].
    fn insert(&mut self, _: &mut Slots, _: u32) {}
    /// The entries in these slots were used, one after the other. `each` notes what else there is to
    /// be noted of one.
    fn hits(&mut self, slots: &mut Slots, used: Used, each: impl FnMut(&mut Slot));
    /// After how many uses they must be told at the latest.
    fn patience(&self) -> u32 {
        u32::MAX
    }
    /// The slot whose entry is to go next; if uses of just that one are still to be told, it may be
    /// another. `None` if there is none or if, with `is_more` uses to be told, one that came with
    /// them could go before it.
    fn victim(&mut self, slots: &Slots, is_more: bool) -> Option<u32>;
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

    /// See [`Policy::hits`].
    #[inline]
    pub fn hits(&mut self, slots: &mut Slots, used: Used, each: impl FnMut(&mut Slot)) {
        match self {
            Self::Lru(lru) => lru.hits(slots, used, each),
            Self::Lfu(lfu) => lfu.hits(slots, used, each),
            Self::Fifo(fifo) => fifo.hits(slots, used, each),
        }
    }

    /// See [`Policy::patience`].
    #[inline]
    pub fn patience(&self) -> u32 {
        match self {
            Self::Lru(lru) => lru.patience(),
            Self::Lfu(lfu) => lfu.patience(),
            Self::Fifo(fifo) => fifo.patience(),
        }
    }

    /// See [`Policy::victim`].
    #[inline]
    pub fn victim(&mut self, slots: &Slots, is_more: bool) -> Option<u32> {
        match self {
            Self::Lru(lru) => lru.victim(slots, is_more),
            Self::Lfu(lfu) => lfu.victim(slots, is_more),
            Self::Fifo(fifo) => fifo.victim(slots, is_more),
        }
    }
}
