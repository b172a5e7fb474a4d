//! The shared cache against a real server, and against one that does as it likes.

mod hostile;
mod outage;
mod real;
mod server;
mod together;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::config::checked::Secret;
use crate::metrics::tests::config;

/// What the loaded machine of a test may add to any time-out.
const SLACK: u32 = 10;

fn key(number: u8) -> [u8; 32] {
    [number; 32]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The configuration of a server on the loopback.
fn shared(port: u16, timeout_ms: u64) -> checked::SharedCache {
    checked::SharedCache {
        host: "127.0.0.1".to_owned(),
        port,
        db: 0,
        user: None,
        password: None,
        timeout: ms(timeout_ms),
        key_prefix: "victor:".to_owned(),
        max_connections: NonZeroUsize::new(4).unwrap(),
    }
}

/// A client that has had the answer to its first probe.
struct Fixture {
    cache: Arc<SharedCache>,
    metrics: Arc<Metrics>,
}

impl std::ops::Deref for Fixture {
    type Target = SharedCache;
    fn deref(&self) -> &SharedCache {
        &self.cache
    }
}

fn start(config: &checked::SharedCache) -> Fixture {
    let metrics = Metrics::new(&crate::metrics::tests::config());
    let cache = SharedCache::new(config, &metrics).unwrap();
    eventually("the first probe", || {
        cache.report().standing != Standing::Untried
    });
    Fixture { cache, metrics }
}

/// As [`start`], for a server that answers probes: on a busy machine the first one may be late.
fn start_up(config: &checked::SharedCache) -> Fixture {
    let fixture = start(config);
    eventually("an answer to a probe", || {
        let is_up = fixture.report().standing == Standing::Up;
        if !is_up {
            fixture.client.admit(Instant::now());
        }
        is_up
    });
    fixture
}

impl Fixture {
    /// How often that was counted.
    fn count(&self, operation: &str, outcome: &str) -> u64 {
        let series = format!(
            "victor_cache_shared_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} "
        );
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn put_and_see(&self, key: &[u8; 32], value: &[u8]) {
        self.put(key, value, Duration::from_secs(60));
        eventually("the value", || self.get(key) == Found::Hit(value.to_vec()));
    }
}

/// Waits until `is_so`; within a bound that no healthy run comes near.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(ms(2));
    }
}

#[test]
fn names_of_keys_are_the_prefix_the_kind_and_hexadecimal_digits() {
    let (jobs, _) = channel::bounded(1);
    let client = Client::new(&shared(1, 1), &Metrics::new(&config()), jobs);
    let mut key = key(0xa0);
    key[31] = 0x1f;
    let name = String::from_utf8(client.name(Kind::Answer, &key)).unwrap();
    assert_eq!(name, format!("victor:a:{}1f", "a0".repeat(31)));
    assert!(client.name(Kind::Claim, &key).starts_with(b"victor:c:a0"));
}
