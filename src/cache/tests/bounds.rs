//! The bound of bytes, the ends of entries, and what is told of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Amount, Cache, Cost, Entry, Outcome, Reason};
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
    let (mut now, mut inserted, mut replaced) = (began, 0, 0);
    for step in steps {
        match *step {
            Step::Get(number) => {
                if let Some(entry) = cache.get(&key(number), now) {
                    assert!(now < entry.expires);
                }
            }
            Step::Insert(number, length, ttl) => {
                let new = entry(key(number), length, now, Duration::from_secs(ttl));
                let is_big = new.bytes() > SIZE / 8;
                let name = coordinator(number % 2 == 0);
                let outcome = cache
                    .insert(Arc::clone(&new), cache.owner(name), now)
                    .outcome;
                assert_eq!(outcome == Outcome::Refused, is_big);
                match outcome {
                    Outcome::Stored => inserted += 1,
                    Outcome::Replaced => replaced += 1,
                    _ => continue,
                }
                let found = cache.get(&key(number), now).expect("it is in");
                assert!(Arc::ptr_eq(&found, &new));
            }
            Step::Pass(seconds) => now += Duration::from_secs(seconds),
            Step::RemoveCoordinator(is_even) => {
                cache.remove_coordinator(coordinator(is_even));
                let parts = cache.by_coordinator();
                let own = parts.iter().find(|it| *it.0 == *coordinator(is_even));
                assert!(own.is_none_or(|(_, held)| held.bytes == 0));
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
        assert!(cache.spare() <= shards * cache.keeps_max);
        let parts = cache.by_coordinator().into_iter().map(|(_, held)| held);
        let parts = parts.reduce(Amount::plus).unwrap_or_default();
        assert_eq!(parts, stats.held);
        let evicted = |reason: &Reason| stats.evicted(*reason).count;
        let gone: u64 = Reason::ALL.iter().map(evicted).sum();
        assert_eq!(stats.inserts, inserted + replaced);
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
            let _ = cache.insert(entry(key(number), 4000, now, HOUR), cache.owner("a"), now);
        }
        for number in 1000..1030 {
            let big = entry(key(number), 100 << 10, now, HOUR);
            let evicted = cache.insert(big, cache.owner("a"), now);
            assert_eq!(evicted.outcome, Outcome::Stored);
            assert!(evicted.by(Reason::Size).count > 0);
            assert!(cache.get(&key(number), now).is_some());
        }
        let huge = entry(key(1), cache.entry_max(), now, HOUR);
        assert_eq!(
            cache.insert(huge, cache.owner("a"), now).outcome,
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
            entry(key(number), 10, now, Duration::from_secs(5)),
            cache.owner("a"),
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
    let evicted = cache.insert(entry(key(90), 10, late, HOUR), cache.owner("a"), late);
    assert_eq!(evicted.by(Reason::Ttl).count, 8);
    let none = cache.insert(
        entry(key(91), 10, late, Duration::ZERO),
        cache.owner("a"),
        late,
    );
    assert_eq!(none.outcome, Outcome::Expired);
}

#[test]
fn the_most_valuable_are_those_used_most_for_their_cost_and_size() {
    let now = Instant::now();
    let cache = Cache::with_shards(&config(8 << 20, EvictionPolicy::Lru), now, 8);
    let priced = |number, length, tokens| {
        let plain = Entry::clone(&entry(key(number), length, now, HOUR));
        let time = Duration::ZERO;
        Arc::new(Entry {
            cost: Cost { tokens, time },
            ..plain
        })
    };
    for number in 0..2000 {
        let _ = cache.insert(priced(number, 2000, 100), cache.owner("a"), now);
    }
    let _ = cache.insert(priced(5000, 2000, 100_000), cache.owner("b"), now);
    let _ = cache.insert(priced(5001, 200_000, 100_000), cache.owner("b"), now);
    for _ in 0..99 {
        cache.get(&key(7), now);
    }
    let top = cache.top(3, now);
    let keys: Vec<_> = top.iter().map(|it| it.entry.key).collect();
    assert_eq!(keys[..2], [key(5000), key(7)]);
    assert_eq!(&*top[0].coordinator, "b");
    assert!(top[2].score < top[1].score);
    // An hour and a bit later nobody is left, whatever they were worth.
    assert!(cache.top(3, now + HOUR).is_empty());
    assert!(cache.top(0, now).is_empty());
}

#[test]
fn an_answer_that_is_only_asked_for_stays_hot() {
    let began = Instant::now();
    for policy in POLICIES {
        let cache = Cache::with_shards(&config(1 << 20, policy), began, 1);
        let old = entry(key(1), 100, began, 24 * HOUR);
        let _ = cache.insert(old, cache.owner("a"), began);
        let late = began + 10 * HOUR;
        // All of them are put off, and nobody comes.
        for _ in 0..31 {
            assert!(cache.get(&key(1), late).is_some());
        }
        let score = cache.top(1, late)[0].score;
        let new = entry(key(2), 100, late, HOUR);
        let _ = cache.insert(new, cache.owner("a"), late);
        let top = cache.top(2, late);
        assert_eq!(top[0].entry.key, key(1));
        assert!((top[0].score - score).abs() < score / 1e6, "{policy:?}");
        assert!(score > 30.9 * top[1].score, "{policy:?}");
    }
}

#[test]
fn uses_of_who_has_gone_are_not_those_of_who_has_its_place() {
    let now = Instant::now();
    for policy in POLICIES {
        let cache = Cache::with_shards(&config(1 << 20, policy), now, 1);
        let insert =
            |number| cache.insert(entry(key(number), 1000, now, HOUR), cache.owner("a"), now);
        let is_full = |number: &u32| insert(*number).by(Reason::Size).count > 0;
        let full = (0..).find(is_full).expect("it is bounded");
        for step in 0..50 {
            // With fifo the next to go, whatever it is used.
            let next = 2 * step + 1;
            for _ in 0..10 {
                cache.get(&key(next), now);
            }
            if policy != EvictionPolicy::Fifo {
                cache.remove(&key(next));
            }
            let _ = (insert(full + 2 * step + 1), insert(full + 2 * step + 2));
            assert!(cache.peek(&key(next), now).is_none(), "{policy:?}");
        }
        let scores = cache.top(usize::MAX, now);
        let (most, least) = (scores[0].score, scores[scores.len() - 1].score);
        assert!(most < 1.5 * least, "{policy:?}: {most} {least}");
    }
}

#[test]
fn one_answer_can_be_taken_out() {
    let now = Instant::now();
    let cache = Cache::with_shards(&config(1 << 20, EvictionPolicy::Lfu), now, 4);
    for number in 0..10 {
        let _ = cache.insert(entry(key(number), 100, now, HOUR), cache.owner("a"), now);
    }
    cache.remove(&key(3));
    cache.remove(&key(99));
    assert!(cache.get(&key(3), now).is_none());
    let stats = cache.stats();
    assert_eq!(
        (stats.held.count, stats.evicted(Reason::Cleared).count),
        (9, 1)
    );
}

#[test]
fn what_has_gone_is_freed_at_once() {
    let now = Instant::now();
    for policy in POLICIES {
        let cache = Cache::with_shards(&config(8 << 20, policy), now, 4);
        let mut all = Vec::new();
        let kept = |all: &[Arc<Entry>]| all.iter().filter(|it| Arc::strong_count(it) > 1).count();
        for number in 0..30_000 {
            let new = entry(key(number), 400, now, HOUR);
            all.push(Arc::clone(&new));
            let _ = cache.insert(new, cache.owner("a"), now);
            if number % 1000 == 0 {
                assert_eq!(kept(&all) as u64, cache.stats().held.count, "{policy:?}");
            }
        }
        assert!(cache.stats().held.count < 20_000, "{policy:?}");
        cache.clear();
        assert_eq!(kept(&all), 0, "{policy:?}");
    }
}
