//! Each policy evicts exactly what a naive model of it evicts.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::policy::lfu::{ENTRIES_MIN, SAMPLE, USES_MAX};
use super::super::{Cache, Outcome, Reason};
use super::{POLICIES, config, entry, key};
use crate::config::checked::EvictionPolicy;

const HOUR: Duration = Duration::from_secs(3600);

struct Item {
    number: u32,
    bytes: usize,
    uses: u64,
    /// When it came, was used, or fell in line; higher is later.
    stamp: u64,
}

/// A list that is searched from end to end.
struct Model {
    policy: EvictionPolicy,
    size_max: usize,
    items: Vec<Item>,
    clock: u64,
    /// Uses until all counts are halved.
    left: u64,
}

impl Model {
    fn used(&mut self) {
        if self.policy != EvictionPolicy::Lfu {
            return;
        }
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = SAMPLE * (self.items.len() as u64).max(ENTRIES_MIN);
        self.items.sort_by_key(|item| (item.uses, item.stamp));
        for item in &mut self.items {
            self.clock += 1;
            item.stamp = self.clock;
            item.uses /= 2;
        }
    }

    fn get(&mut self, number: u32) -> bool {
        self.clock += 1;
        let Some(item) = self.items.iter_mut().find(|item| item.number == number) else {
            return false;
        };
        if self.policy != EvictionPolicy::Fifo {
            item.stamp = self.clock;
        }
        item.uses = (item.uses + 1).min(u64::from(USES_MAX));
        self.used();
        true
    }

    fn remove(&mut self, number: u32) {
        self.items.retain(|item| item.number != number);
    }

    fn insert(&mut self, number: u32, bytes: usize) -> Vec<u32> {
        self.clock += 1;
        self.remove(number);
        let mut evicted = Vec::new();
        while self.bytes() + bytes > self.size_max {
            let is_lfu = self.policy == EvictionPolicy::Lfu;
            let order = |item: &&Item| (if is_lfu { item.uses } else { 0 }, item.stamp);
            let next = self.items.iter().min_by_key(order).unwrap().number;
            evicted.push(next);
            self.remove(next);
        }
        self.items.push(Item {
            number,
            bytes,
            uses: 1,
            stamp: self.clock,
        });
        self.used();
        evicted
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// What is done with an entry.
#[derive(Clone, Copy, Debug)]
enum Step {
    Get,
    Insert { length: usize },
    Remove,
}

fn check(policy: EvictionPolicy, steps: &[(u32, Step)]) {
    let now = Instant::now();
    let cache = Cache::with_shards(&config(16 << 10, policy), now, 1);
    let mut model = Model {
        policy,
        size_max: 16 << 10,
        items: Vec::new(),
        clock: 0,
        left: SAMPLE * ENTRIES_MIN,
    };
    for (count, (number, step)) in (1..).zip(steps) {
        match *step {
            Step::Insert { length } => insert(&cache, &mut model, *number, length, now),
            Step::Get => {
                let is_in = cache.get(&key(*number), now).is_some();
                assert_eq!(is_in, model.get(*number), "{policy:?}");
            }
            Step::Remove => {
                cache.remove(&key(*number));
                model.remove(*number);
            }
        }
        // Who is in, without touching anybody. To ask does what was put off, so it is seldom.
        if count % 64 == 0 || count == steps.len() {
            let mut held: Vec<_> = cache.top(100, now).iter().map(|it| it.entry.key).collect();
            let mut expected: Vec<_> = model.items.iter().map(|item| key(item.number)).collect();
            held.sort();
            expected.sort();
            assert_eq!(held, expected, "{policy:?}");
        }
    }
}

/// Inserts into both, and compares what that did.
fn insert(cache: &Cache, model: &mut Model, number: u32, length: usize, now: Instant) {
    let new = entry(key(number), length, now, HOUR);
    let bytes = new.bytes();
    let before = model.items.len() as u64;
    let evicted = cache.insert(new, cache.owner("a"), now);
    let expected = model.insert(number, bytes);
    assert_eq!(evicted.by(Reason::Size).count, expected.len() as u64);
    let is_replaced = model.items.len() as u64 == before - expected.len() as u64;
    let outcome = match is_replaced {
        true => Outcome::Replaced,
        false => Outcome::Stored,
    };
    assert_eq!(evicted.outcome, outcome);
    let stats = cache.stats();
    assert_eq!(stats.held.bytes, model.bytes() as u64);
    assert_eq!(stats.held.count, model.items.len() as u64);
}

/// Steps, up to so many. Of a thousand, so many are inserts, and a tenth as many removals.
fn any_steps(inserts: u32, count: usize) -> impl Strategy<Value = Vec<(u32, Step)>> {
    let step = prop_oneof![
        inserts * 10 => (0..1100usize).prop_map(|length| Step::Insert { length }),
        inserts => Just(Step::Remove),
        10_000 - inserts * 11 => Just(Step::Get),
    ];
    prop::collection::vec((0..40u32, step), 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_policy_evicts_what_a_naive_model_of_it_evicts(
        first in any_steps(400, 300),
        // More hits in a row than are put off.
        hits in any_steps(4, 300),
        last in any_steps(400, 300),
    ) {
        for policy in POLICIES {
            check(policy, &[&first[..], &hits, &last].concat());
        }
    }
}
