//! Properties of the cache as a whole.

mod bounds;
mod interleavings;
mod key;
mod models;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Body, Cost, Entry, Key};
use crate::config::checked;
use crate::config::checked::EvictionPolicy;
use crate::wire::usage::Usage;

const POLICIES: [EvictionPolicy; 3] = [
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Fifo,
];

pub(super) fn config(max_size_bytes: usize, eviction_policy: EvictionPolicy) -> checked::Cache {
    checked::Cache {
        enabled: true,
        max_size_bytes,
        default_ttl: Duration::from_secs(60),
        warm_on_startup: false,
        warm_items: 0,
        eviction_policy,
        enable_coalescing: false,
        coalescing_window: Duration::ZERO,
        snapshot_interval: Duration::from_secs(60),
        shared_between_keys: false,
        redis: None,
    }
}

fn key(number: u32) -> Key {
    Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// An answer of `length` bytes that lives for `ttl` from `created` on.
pub(super) fn entry(key: Key, length: usize, created: Instant, ttl: Duration) -> Arc<Entry> {
    Arc::new(Entry {
        key,
        expires: Entry::end(created, ttl),
        status: 200,
        body: Body::Whole(vec![b'x'; length].into()),
        content_type: "application/json".into(),
        provider: "openai".into(),
        model: "m".into(),
        usage: Usage::default(),
        upstream_request_id: None,
        dropped: "".into(),
        created,
        created_at: SystemTime::UNIX_EPOCH,
        cost: Cost::default(),
    })
}
