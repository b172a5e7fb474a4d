//! The caches that are measured beside one another, each behind the same two functions.

use std::sync::Arc;
use std::time::Instant;

use victor::cache::{Cache, Entry, Key, Owner};
use victor::config::checked::EvictionPolicy;

use crate::{KEYS, config};

/// Something that keeps answers.
pub trait Contender: Sync {
    fn get(&self, key: &Key, now: Instant) -> Option<Arc<Entry>>;
    fn insert(&self, key: &Key, answer: Arc<Entry>, now: Instant);
}

/// An answer with its weight, for those who do not keep that.
#[derive(Clone)]
struct Weighed {
    entry: Arc<Entry>,
    bytes: usize,
}

impl Weighed {
    fn new(answer: Arc<Entry>) -> Self {
        Self {
            bytes: answer.bytes(),
            entry: answer,
        }
    }
}

struct Ours {
    cache: Cache,
    owner: Owner,
}

impl Contender for Ours {
    fn get(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        self.cache.get(key, now)
    }

    fn insert(&self, _: &Key, answer: Arc<Entry>, now: Instant) {
        let _ = self.cache.insert(answer, self.owner, now);
    }
}

struct Moka(moka::sync::Cache<Key, Weighed>);

impl Contender for Moka {
    fn get(&self, key: &Key, _: Instant) -> Option<Arc<Entry>> {
        self.0.get(key).map(|weighed| weighed.entry)
    }

    fn insert(&self, key: &Key, answer: Arc<Entry>, _: Instant) {
        self.0.insert(*key, Weighed::new(answer));
    }
}

#[derive(Clone)]
struct Bytes;

impl quick_cache::Weighter<Key, Weighed> for Bytes {
    fn weight(&self, _: &Key, weighed: &Weighed) -> u64 {
        weighed.bytes as u64
    }
}

struct Quick(quick_cache::sync::Cache<Key, Weighed, Bytes>);

impl Contender for Quick {
    fn get(&self, key: &Key, _: Instant) -> Option<Arc<Entry>> {
        self.0.get(key).map(|weighed| weighed.entry)
    }

    fn insert(&self, key: &Key, answer: Arc<Entry>, _: Instant) {
        self.0.insert(*key, Weighed::new(answer));
    }
}

struct Held {
    lru: lru::LruCache<Key, Weighed>,
    bytes: usize,
    size_max: usize,
}

/// The crate `lru` has no bound of bytes, so it gets one here.
struct Locked(parking_lot::Mutex<Held>);

impl Contender for Locked {
    fn get(&self, key: &Key, _: Instant) -> Option<Arc<Entry>> {
        let mut held = self.0.lock();
        held.lru.get(key).map(|weighed| Arc::clone(&weighed.entry))
    }

    fn insert(&self, key: &Key, answer: Arc<Entry>, _: Instant) {
        let weighed = Weighed::new(answer);
        let mut held = self.0.lock();
        held.bytes += weighed.bytes;
        if let Some((_, old)) = held.lru.push(*key, weighed) {
            held.bytes -= old.bytes;
        }
        while held.bytes > held.size_max {
            let Some((_, old)) = held.lru.pop_lru() else {
                break;
            };
            held.bytes -= old.bytes;
        }
    }
}

/// Those who are measured: ours first, then the others, `lru` last.
pub const NAMES: [&str; 6] = [
    "victor lru",
    "victor lfu",
    "victor fifo",
    "moka",
    "quick_cache",
    "lru in a mutex",
];

/// The one of that name, empty, for so many bytes.
pub fn contender(name: &str, size_max: usize) -> Box<dyn Contender> {
    // As with a coordinator, who asks for it once.
    let ours = |policy| {
        let cache = Cache::new(&config(size_max, policy), Instant::now());
        let owner = cache.owner("bench");
        Box::new(Ours { cache, owner })
    };
    match name {
        "victor lru" => ours(EvictionPolicy::Lru),
        "victor lfu" => ours(EvictionPolicy::Lfu),
        "victor fifo" => ours(EvictionPolicy::Fifo),
        "moka" => Box::new(Moka(
            moka::sync::Cache::builder()
                .weigher(|_: &Key, weighed: &Weighed| weighed.bytes as u32)
                .max_capacity(size_max as u64)
                .build(),
        )),
        "quick_cache" => Box::new(Quick(quick_cache::sync::Cache::with_weighter(
            KEYS / 10,
            size_max as u64,
            Bytes,
        ))),
        _ => Box::new(Locked(parking_lot::Mutex::new(Held {
            lru: lru::LruCache::unbounded(),
            bytes: 0,
            size_max,
        }))),
    }
}
