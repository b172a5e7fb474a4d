//! The cache beside other caches, on one trace of calls with the same bytes: how many are hits,
//! and how many a second there are on one, two and eight threads; then what a key costs, and
//! whether the bytes that are counted are those that the process grows by.
//!
//! Calls are drawn from a Zipf distribution, as requests to web caches are (Breslau et al., "Web
//! Caching and Zipf-like Distributions", 1999); answers have 0.25 to 16 KiB, small ones more often.
//! Every contender holds the same `Arc`s. Start reading at [`main`].

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use victor::cache::{Body, Cache, Cost, Entry, Key, Place};
use victor::config::checked::{self, EvictionPolicy};
use victor::sync::Mutex;
use victor::wire::Endpoint;
use victor::wire::usage::Usage;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: usize = 50_000;
const CALLS: usize = 1_000_000;
const EXPONENT: f64 = 0.9;
const ROUNDS: usize = 3;

/// Calls for which the clock is read once. In the daemon a call has read it long before it gets to
/// the cache, which is handed that time; moka, which also has TTLs here, reads its own.
const CALLS_A_TIME: usize = 64;

/// A call of the trace: what is asked for, and what is answered.
struct Answer {
    key: Key,
    entry: Arc<Entry>,
}

/// Something that keeps answers.
trait Contender: Sync {
    fn get(&self, key: &Key, now: Instant) -> bool;
    fn insert(&self, answer: &Answer, now: Instant);
}

struct Ours(Cache);

impl Contender for Ours {
    fn get(&self, key: &Key, now: Instant) -> bool {
        self.0.get(key, now).is_some()
    }

    fn insert(&self, answer: &Answer, now: Instant) {
        let entry = Arc::clone(&answer.entry);
        let _ = self.0.insert(answer.key, entry, "bench", now);
    }
}

struct Moka(moka::sync::Cache<Key, Arc<Entry>>);

impl Contender for Moka {
    fn get(&self, key: &Key, _: Instant) -> bool {
        self.0.get(key).is_some()
    }

    fn insert(&self, answer: &Answer, _: Instant) {
        self.0.insert(answer.key, Arc::clone(&answer.entry));
    }
}

#[derive(Clone)]
struct Bytes;

impl quick_cache::Weighter<Key, Arc<Entry>> for Bytes {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.bytes() as u64
    }
}

struct Quick(quick_cache::sync::Cache<Key, Arc<Entry>, Bytes>);

impl Contender for Quick {
    fn get(&self, key: &Key, _: Instant) -> bool {
        self.0.get(key).is_some()
    }

    fn insert(&self, answer: &Answer, _: Instant) {
        self.0.insert(answer.key, Arc::clone(&answer.entry));
    }
}

struct Held {
    lru: lru::LruCache<Key, Arc<Entry>>,
    bytes: usize,
    size_max: usize,
}

/// The crate `lru` has no bound of bytes, so it gets one here.
struct Locked(Mutex<Held>);

impl Contender for Locked {
    fn get(&self, key: &Key, _: Instant) -> bool {
        self.0.lock().lru.get(key).cloned().is_some()
    }

    fn insert(&self, answer: &Answer, _: Instant) {
        let entry = Arc::clone(&answer.entry);
        let mut held = self.0.lock();
        held.bytes += entry.bytes();
        if let Some((_, old)) = held.lru.push(answer.key, entry) {
            held.bytes -= old.bytes();
        }
        while held.bytes > held.size_max {
            let Some((_, old)) = held.lru.pop_lru() else {
                break;
            };
            held.bytes -= old.bytes();
        }
    }
}

const NAMES: [&str; 6] = [
    "victor lru",
    "victor lfu",
    "victor fifo",
    "moka",
    "quick_cache",
    "lru in a mutex",
];

fn contender(name: &str, size_max: usize) -> Box<dyn Contender> {
    let ours = |policy| Box::new(Ours(Cache::new(&config(size_max, policy), Instant::now())));
    match name {
        "victor lru" => ours(EvictionPolicy::Lru),
        "victor lfu" => ours(EvictionPolicy::Lfu),
        "victor fifo" => ours(EvictionPolicy::Fifo),
        "moka" => Box::new(Moka(
            moka::sync::Cache::builder()
                .weigher(|_: &Key, entry: &Arc<Entry>| entry.bytes() as u32)
                .max_capacity(size_max as u64)
                .time_to_live(Duration::from_secs(3600))
                .build(),
        )),
        "quick_cache" => Box::new(Quick(quick_cache::sync::Cache::with_weighter(
            KEYS / 10,
            size_max as u64,
            Bytes,
        ))),
        _ => Box::new(Locked(Mutex::new(
            "bench.lru",
            Held {
                lru: lru::LruCache::unbounded(),
                bytes: 0,
                size_max,
            },
        ))),
    }
}

fn config(max_size_bytes: usize, eviction_policy: EvictionPolicy) -> checked::Cache {
    checked::Cache {
        enabled: true,
        max_size_bytes,
        default_ttl: Duration::from_secs(3600),
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

fn answer(number: usize, rng: &mut fastrand::Rng) -> Answer {
    // 256 bytes, doubled up to six times, each time half as often.
    let doubled = rng.u32(1..64).trailing_zeros();
    let length = (256 << doubled) + rng.usize(0..256 << doubled);
    Answer {
        key: Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
        entry: Arc::new(Entry {
            dropped: "".into(),
            status: 200,
            body: Body::Whole(vec![b'x'; length].into()),
            content_type: "application/json".into(),
            provider: "openai".into(),
            model: "gpt-4o-mini".into(),
            usage: Usage::default(),
            upstream_request_id: Some("req_0123456789abcdef0123456789abcdef".into()),
            created: Instant::now(),
            created_at: SystemTime::now(),
            ttl: Duration::from_secs(3600),
            cost: Cost::default(),
        }),
    }
}

/// Which answer each call asks for.
fn trace(rng: &mut fastrand::Rng) -> Vec<u32> {
    let mut sum = 0.0;
    let weight = |rank: usize| (rank as f64).powf(-EXPONENT);
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += weight(rank);
            sum
        })
        .collect();
    let draw = |_| {
        let at = rng.f64() * sum;
        sums.partition_point(|sum| *sum < at).min(KEYS - 1) as u32
    };
    (0..CALLS).map(draw).collect()
}

/// Plays the trace in so many threads, each its part of it: hits, and how long it took.
fn play(
    contender: &dyn Contender,
    answers: &[Answer],
    calls: &[u32],
    threads: usize,
) -> (u64, Duration) {
    let hits = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for part in calls.chunks(calls.len().div_ceil(threads)) {
            let hits = &hits;
            scope.spawn(move || {
                let mut own = 0;
                for some in part.chunks(CALLS_A_TIME) {
                    let now = Instant::now();
                    for call in some {
                        let answer = &answers[*call as usize];
                        if contender.get(&answer.key, now) {
                            own += 1;
                        } else {
                            contender.insert(answer, now);
                        }
                    }
                }
                hits.fetch_add(own, Ordering::Relaxed);
            });
        }
    });
    (hits.into_inner(), started.elapsed())
}

/// The median of some numbers with the lowest and the highest.
fn spread(mut numbers: Vec<f64>, unit: f64) -> String {
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers[index] / unit;
    let (median, last) = (at(numbers.len() / 2), numbers.len() - 1);
    format!("{median:.2} ({:.2} to {:.2})", at(0), at(last))
}

fn compare(answers: &[Answer], calls: &[u32], size_max: usize) {
    let mut hit_rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut mixed: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let mut hits_only: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let hot: Vec<u32> = calls.iter().map(|call| call % 1000).collect();
    for round in 0..ROUNDS {
        for turn in 0..NAMES.len() {
            // Each is the first once, and the last once.
            let name = NAMES[(turn + round * 2) % NAMES.len()];
            for threads in [1, 2, 8] {
                let contender = contender(name, size_max);
                let (hits, took) = play(&*contender, answers, calls, threads);
                let rate = CALLS as f64 / took.as_secs_f64();
                mixed.entry((threads, name)).or_default().push(rate);
                if threads == 1 {
                    let share = hits as f64 / CALLS as f64;
                    hit_rates.entry(name).or_default().push(share);
                }
                play(&*contender, answers, &hot, 1);
                let (_, took) = play(&*contender, answers, &hot, threads);
                let rate = CALLS as f64 / took.as_secs_f64();
                hits_only.entry((threads, name)).or_default().push(rate);
            }
        }
    }
    for name in NAMES {
        let rates = hit_rates.remove(name).unwrap_or_default();
        println!("hit rate, {name}: {} %", spread(rates, 0.01));
    }
    for (what, table) in [("trace", mixed), ("hits only", hits_only)] {
        for ((threads, name), rates) in table {
            println!(
                "{what}, {threads} threads, {name}: {} million calls a second",
                spread(rates, 1e6)
            );
        }
    }
}

fn keys() {
    let place = Place {
        endpoint: Endpoint::ChatCompletions,
        coordinator: "ChatCoordinator",
        route: "gpt-4o-mini",
        scope: &[0; 32],
        headers: &[],
    };
    let line = "What a day it was, and \\\"how\\\" it ended: nobody had seen the likes of it.\\n";
    let prompt = |bytes: usize| line.repeat(bytes / line.len());
    let message = |text: &str| format!(r#"{{"role":"user","content":"{text}"}}"#);
    let one = message(&prompt(1_000_000));
    let many = vec![message(&prompt(200)); 4000].join(",");
    for (what, messages) in [
        ("100 B", message(&prompt(100))),
        ("10 kB", message(&prompt(10_000))),
        ("1 MB, one message", one),
        ("1 MB, 4,000 messages", many),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{messages}],"temperature":0.70}}"#);
        let repeats = 20_000_000 / body.len().max(1000);
        let round = |_| {
            let started = Instant::now();
            for _ in 0..repeats {
                assert!(black_box(Key::of(&place, black_box(body.as_bytes()))).is_some());
            }
            started.elapsed().as_secs_f64() / repeats as f64
        };
        let times = (0..ROUNDS).map(round).collect();
        println!("key of {what}: {} us", spread(times, 1e-6));
    }
}

/// Bytes that the allocator has handed out.
fn allocated() -> usize {
    let _ = tikv_jemalloc_ctl::epoch::advance();
    tikv_jemalloc_ctl::stats::allocated::read().unwrap_or(0)
}

fn growth() {
    let mut rng = fastrand::Rng::with_seed(2);
    let cache = Cache::new(&config(64 << 20, EvictionPolicy::Lfu), Instant::now());
    let before = allocated();
    for number in 0..100_000 {
        let Answer { key, entry } = answer(number, &mut rng);
        let _ = cache.insert(key, entry, "bench", Instant::now());
    }
    let held = cache.stats().held;
    let grown = allocated().saturating_sub(before);
    println!(
        "memory: {} entries counted as {:.1} MiB, the process grew by {:.1} MiB: {:.3}",
        held.count,
        held.bytes as f64 / 1048576.0,
        grown as f64 / 1048576.0,
        grown as f64 / held.bytes as f64
    );
}

fn main() {
    growth();
    keys();
    let mut rng = fastrand::Rng::with_seed(1);
    let answers: Vec<Answer> = (0..KEYS).map(|number| answer(number, &mut rng)).collect();
    let calls = trace(&mut rng);
    let total: usize = answers.iter().map(|answer| answer.entry.bytes()).sum();
    println!(
        "{CALLS} calls, Zipf {EXPONENT}, {KEYS} answers of {} MiB, a cache of a tenth of it, {ROUNDS} rounds",
        total >> 20
    );
    compare(&answers, &calls, total / 10);
}
