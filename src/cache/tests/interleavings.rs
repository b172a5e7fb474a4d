//! Threads that look up, insert and clear at once, under many interleavings of their locks; see
//! `crate::sync::model`. `VICTOR_SCHEDULES=100000 cargo test --release interleavings` tries more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Cache, Outcome, Reason};
use super::{POLICIES, config, entry, key};
use crate::sync::model::{check, spawn};

const HOUR: Duration = Duration::from_secs(3600);

fn schedules() -> usize {
    let asked = std::env::var("VICTOR_SCHEDULES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(200)
}

#[test]
fn the_bound_holds_at_every_moment_and_nothing_is_counted_twice() {
    const SIZE: usize = 8 << 10;
    for policy in POLICIES {
        check(schedules(), move || {
            let now = Instant::now();
            let cache = Arc::new(Cache::with_shards(&config(SIZE, policy), now, 2));
            let threads: Vec<_> = (0..3u32)
                .map(|thread| {
                    let cache = Arc::clone(&cache);
                    spawn(move || {
                        for step in 0..6 {
                            // Some keys are everybody's.
                            let number = step % 3 + thread * (step % 2);
                            let new = entry(key(number), 400, now, HOUR);
                            let _ = cache.insert(new, cache.owner("a"), now);
                            assert!(cache.reserved() <= SIZE);
                            cache.get(&key(number), now);
                        }
                        if thread == 0 {
                            cache.clear();
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            let stats = cache.stats();
            let spare = cache.spare();
            assert!(spare <= 2 * cache.keeps_max);
            assert_eq!((cache.reserved() - spare) as u64, stats.held.bytes);
            assert_eq!(cache.clear(), stats.held);
            assert_eq!(cache.reserved(), 0);
        });
    }
}

#[test]
fn two_that_store_the_same_call_leave_one_answer() {
    check(schedules(), || {
        let now = Instant::now();
        let size = 8 * entry(key(0), 400, now, HOUR).bytes();
        let cache = Arc::new(Cache::with_shards(&config(size, POLICIES[0]), now, 2));
        for number in 10..18 {
            let _ = cache.insert(entry(key(number), 400, now, HOUR), cache.owner("a"), now);
        }
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let cache = Arc::clone(&cache);
                spawn(move || {
                    let evicted =
                        cache.insert(entry(key(1), 400, now, HOUR), cache.owner("a"), now);
                    assert_ne!(evicted.outcome, Outcome::Refused);
                    assert!(cache.get(&key(1), now).is_some());
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let stats = cache.stats();
        assert!(stats.held.bytes <= size as u64);
        let spare = cache.spare();
        assert_eq!((cache.reserved() - spare) as u64, stats.held.bytes);
        assert!(stats.evicted(Reason::Size).count >= 1);
    });
}
