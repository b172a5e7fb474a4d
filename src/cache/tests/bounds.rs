//! The bound of bytes, the ends of entries, and what is told of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Cache, Cost, Entry, Outcome, Reason};
use super::{POLICIES, config, entry, key};
use crate::config::checked::EvictionPolicy;

const HOUR: Duration = Duration::from_secs(3600);

/// An operation, to be tried in any order.
#[derive(Clone, Debug)]
enum Step {
    Get(u32),
    Insert(u32, usize, u64),
    Pass(u64),
    RemoveCoordinator(bool),
    Clear,
    Purge,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..60u32).prop_map(Step::Get),
        12 => (0..60u32, 0..9000usize, 0..90u64).prop_map(|(key, length, ttl)| Step::Insert(key, length, ttl)),
        3 => (0..30u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::RemoveCoordinator),
        1 => Just(Step::Clear),
        2 => Just(Step::Purge),
    ]
}

const fn coordinator(is_even: bool) -> &'static str {
    if is_even { "even" } else { "odd" }
}

fn run(policy: EvictionPolicy, shards: usize, steps: &[Step]) {
    const SIZE: usize = 64 << 10;
    let began = Instant::now();
    let cache = Cache::with_shards(&config(SIZE, policy), began, shards);
    let (mut now, mut inserted) = (began, 0);
    for step in steps {
        match *step {
            Step::Get(number) => {
                if let Some(entry) = cache.get(&key(number), now) {
                    assert!(now < entry.expires());
                }
            }
            Step::Insert(number, length, ttl) => {
                let new = entry(length, now, Duration::from_secs(ttl));
                let is_big = new.bytes() > SIZE / 8;
                let name = coordinator(number % 2 == 0);
                let outcome = cache
                    .insert(key(number), Arc::clone(&new), name, now)
                    .outcome;
                assert_eq!(outcome == Outcome::Refused, is_big);
                match outcome {
                    Outcome::Stored => inserted += 1,
                    Outcome::Replaced => {}
                    _ => continue,
                }
                let found = cache.get(&key(number), now).expect("it is in");
                assert!(Arc::ptr_eq(&found, &new));
            }
            Step::Pass(seconds) => now += Duration::from_secs(seconds),
            Step::RemoveCoordinator(is_even) => {
                cache.remove_coordinator(coordinator(is_even));
                let stats = cache.stats();
                let own = |it: &&super::super::CoordinatorStats| *it.name == *coordinator(is_even);
                assert!(
                    stats
                        .coordinators
                        .iter()
                        .find(own)
                        .is_none_or(|it| it.held.bytes == 0)
                );
            }
            Step::Purge => {
                cache.purge(now);
                assert_eq!(cache.purge(now).count, 0);
            }
            Step::Clear => {
                cache.clear();
                assert_eq!(cache.stats().held.count, 0);
            }
        }
        let stats = cache.stats();
        assert!(stats.held.bytes <= SIZE as u64, "{policy:?} {shards}");
        let reserved = cache.reserved();
        assert!(reserved <= SIZE, "{policy:?} {shards}");
        assert_eq!((reserved - cache.spare()) as u64, stats.held.bytes);
        assert!(cache.spare() <= shards * cache.spare_max());
        let parts: u64 = stats.coordinators.iter().map(|it| it.held.bytes).sum();
        assert_eq!(parts, stats.held.bytes);
        let evicted = |reason: &Reason| stats.evicted(*reason).count;
        let gone: u64 = Reason::ALL.iter().map(evicted).sum();
        assert_eq!(stats.held.count + gone, inserted);
    }
    let stats = cache.stats();
    assert_eq!(cache.clear(), stats.held);
    assert_eq!(cache.reserved(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn the_byte_bound_holds_after_any_sequence(steps in prop::collection::vec(any_step(), 0..200)) {
        for policy in POLICIES {
            for shards in [1, 4, 32] {
                run(policy, shards, &steps);
            }
        }
    }
}

#[test]
fn an_eighth_of_the_whole_fits_whatever_the_shards_and_more_is_refused() {
    let now = Instant::now();
    for policy in POLICIES {
        let cache = Cache::with_shards(&config(1 << 20, policy), now, 64);
        for number in 0..400 {
            let _ = cache.insert(key(number), entry(4000, now, HOUR), "a", now);
        }
        for number in 1000..1030 {
            let big = entry(100 << 10, now, HOUR);
            let evicted = cache.insert(key(number), big, "a", now);
            assert_eq!(evicted.outcome, Outcome::Stored);
            assert!(evicted.by(Reason::Size).count > 0);
            assert!(cache.get(&key(number), now).is_some());
        }
        let huge = entry(cache.entry_max(), now, HOUR);
        assert_eq!(
            cache.insert(key(1), huge, "a", now).outcome,
            Outcome::Refused
        );
        assert_eq!(cache.stats().refused, 1);
    }
}

#[test]
fn what_is_too_old_is_no_hit_and_goes_with_what_comes() {
    let now = Instant::now();
    let cache = Cache::with_shards(&config(1 << 20, EvictionPolicy::Lru), now, 1);
    for number in 0..20 {
        let _ = cache.insert(
            key(number),
            entry(10, now, Duration::from_secs(5)),
            "a",
            now,
        );
    }
    assert!(
        cache
            .get(&key(0), now + Duration::from_millis(4999))
            .is_some()
    );
    let late = now + Duration::from_secs(5);
    assert!(cache.get(&key(0), late).is_none());
    assert_eq!(cache.stats().evicted(Reason::Ttl).count, 1);
    let evicted = cache.insert(key(90), entry(10, late, HOUR), "a", late);
    assert_eq!(evicted.by(Reason::Ttl).count, 8);
    let none = cache.insert(key(91), entry(10, late, Duration::ZERO), "a", late);
    assert_eq!(none.outcome, Outcome::Expired);
    assert_eq!(cache.stats().misses, 1);
}

#[test]
fn the_most_valuable_are_those_used_most_for_their_cost_and_size() {
    let now = Instant::now();
    let cache = Cache::with_shards(&config(8 << 20, EvictionPolicy::Lru), now, 8);
    let priced = |length, tokens| {
        let plain = Entry::clone(&entry(length, now, HOUR));
        let time = Duration::ZERO;
        Arc::new(Entry {
            cost: Cost { tokens, time },
            ..plain
        })
    };
    for number in 0..2000 {
        let _ = cache.insert(key(number), priced(2000, 100), "a", now);
    }
    let _ = cache.insert(key(5000), priced(2000, 100_000), "b", now);
    let _ = cache.insert(key(5001), priced(200_000, 100_000), "b", now);
    for _ in 0..99 {
        cache.get(&key(7), now);
    }
    let top = cache.top(3, now);
    let keys: Vec<_> = top.iter().map(|it| it.key).collect();
    assert_eq!(keys[..2], [key(5000), key(7)]);
    assert_eq!(&*top[0].coordinator, "b");
    assert!(top[2].score < top[1].score);
    // An hour and a bit later nobody is left, whatever they were worth.
    assert!(cache.top(3, now + HOUR).is_empty());
    assert!(cache.top(0, now).is_empty());
}
