//! The cache beside other caches, on one trace of calls with the same bytes: how many are hits,
//! and how many operations a second there are on one, two and eight threads; then what a key costs,
//! and whether the bytes that are counted are those that the process grows by.
//!
//! Calls are drawn from a Zipf distribution, as requests to web caches are (Breslau et al., "Web
//! Caching and Zipf-like Distributions", 1999); answers have 0.25 to 16 KiB, small ones more often.
//! A call is a lookup and, unless that finds something, an insert, which is two operations: by
//! operations who has fewer hits is not taken for slower, by calls it is. What all contenders do
//! alike is left in the time, for it is part of their use: they hold and hand out the same `Arc`s
//! under the same keys, whose `Hash` is one word, and each insert weighs its answer once. The others
//! weigh it here and keep the weight, since they ask for it again when it goes. What ours alone does
//! is left in its time too, and said in the output: see [`ALONE`].
//!
//! The answers are there before, and outlive all caches, so that the time is that of the caches.
//! They are read before each turn: an answer that is inserted has just come, so its memory is near,
//! and for the first in turn it would not be (without that, half of the ratios were off by a fifth
//! or more). A shorter part of the trace is played with answers that are copied for each insert and
//! freed when they go, as in the daemon, and there copying and freeing are in the time. Start
//! reading at [`main`].

mod contenders;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};

use contenders::{Contender, NAMES, contender};
use victor::cache::{Body, Cache, Cost, Entry, Key, Place};
use victor::config::checked::{self, EvictionPolicy};
use victor::wire::Endpoint;
use victor::wire::usage::Usage;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: usize = 50_000;
const CALLS: usize = 1_000_000;
const EXPONENT: f64 = 0.9;
const ROUNDS: usize = 6;
const THREADS: [usize; 3] = [1, 2, 8];

/// Calls that one of the contenders plays before it is the next one's turn.
const PIECE: usize = 100_000;

/// Answers that are asked for when all are to be hits, and how often the trace is played for that.
const HOT: usize = 1000;
const HOT_PLAYS: usize = 3;

/// Pieces of the trace that are played with answers that are made and freed.
const MADE_PIECES: usize = 3;

/// Calls for which the clock is read once. In the daemon a call has read it long before it gets to
/// the cache, which is handed that time.
const CALLS_A_TIME: usize = 64;

/// A call of the trace. It brings its key with it, as one does that has just been read: its memory
/// is near.
#[derive(Clone, Copy)]
struct Call {
    key: Key,
    /// Which of the answers is its own.
    answer: u32,
}

/// What nobody else does here.
const ALONE: &str = "victor alone, within its time: a TTL at each lookup, its reckoning and a search for what is too old at each insert; by reason what went; decayed uses of each entry, for warming; whose each entry is; the lock's holder, for thread dumps";

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

fn answer(number: usize, rng: &mut fastrand::Rng) -> Arc<Entry> {
    // 256 bytes, doubled up to six times, each time half as often.
    let doubled = rng.u32(1..64).trailing_zeros();
    sized(number, (256 << doubled) + rng.usize(0..256 << doubled))
}

fn sized(number: usize, length: usize) -> Arc<Entry> {
    let key = Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let created = Instant::now();
    Arc::new(Entry {
        key,
        expires: created + Duration::from_secs(3600),
        dropped: "".into(),
        status: 200,
        body: Body::Whole(vec![b'x'; length].into()),
        content_type: "application/json".into(),
        provider: "openai".into(),
        model: "gpt-4o-mini".into(),
        usage: Usage::default(),
        upstream_request_id: Some("req_0123456789abcdef0123456789abcdef".into()),
        created,
        created_at: SystemTime::now(),
        cost: Cost::default(),
    })
}

/// The calls, and which answer each asks for.
fn trace(answers: &[Arc<Entry>], rng: &mut fastrand::Rng) -> Vec<Call> {
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
        call(answers, sums.partition_point(|sum| *sum < at).min(KEYS - 1))
    };
    (0..CALLS).map(draw).collect()
}

fn call(answers: &[Arc<Entry>], number: usize) -> Call {
    Call {
        key: answers[number].key,
        answer: number as u32,
    }
}

/// Keeps a thread on one core, so that two threads are on two, however busy the machine is.
fn pin(number: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(number % cores);
    // Where it is forbidden, it is measured without.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Whence an answer is had that is to be inserted.
#[derive(Clone, Copy)]
struct Source<'a> {
    answers: &'a [Arc<Entry>],
    /// As a copy, or else by another hold of it.
    copies: bool,
}

impl Source<'_> {
    fn of(&self, call: &Call) -> Arc<Entry> {
        let answer = &self.answers[call.answer as usize];
        match self.copies {
            true => Arc::new(Entry::clone(answer)),
            false => Arc::clone(answer),
        }
    }

    /// Reads what is read of answers when they are found and weighed.
    fn read(&self, calls: &[Call]) {
        for call in calls {
            let answer = &self.answers[call.answer as usize];
            black_box((answer.key == call.key, answer.bytes()));
        }
    }
}

/// What came of playing a trace.
struct Played {
    hits: usize,
    calls: usize,
    /// From the first thread's first call to the last one's last.
    took: Duration,
}

impl Played {
    /// Operations a second, and calls.
    fn rates(&self) -> [f64; 2] {
        let operations = 2 * self.calls - self.hits;
        [operations, self.calls].map(|count| count as f64 / self.took.as_secs_f64())
    }
}

/// Plays the trace so many times, in so many threads, each its part of it.
fn play(
    contender: &dyn Contender,
    source: Source,
    calls: &[Call],
    threads: usize,
    times: usize,
) -> Played {
    let parts: Vec<&[Call]> = calls.chunks(calls.len().div_ceil(threads)).collect();
    let all_there = Barrier::new(parts.len());
    let play_part = &|(number, part): (usize, &[Call])| {
        pin(number);
        let mut hits = 0;
        source.read(part);
        all_there.wait();
        let started = Instant::now();
        for some in std::iter::repeat_n(part, times).flat_map(|it| it.chunks(CALLS_A_TIME)) {
            let now = Instant::now();
            for call in some {
                if contender.get(&call.key, now).is_some() {
                    hits += 1;
                } else {
                    contender.insert(&call.key, source.of(call), now);
                }
            }
        }
        (hits, started, Instant::now())
    };
    let played: Vec<(usize, Instant, Instant)> = std::thread::scope(|scope| {
        let parts = parts.into_iter().enumerate();
        let threads: Vec<_> = parts
            .map(|part| scope.spawn(move || play_part(part)))
            .collect();
        let joined = threads.into_iter().map(|it| it.join().expect("it plays"));
        joined.collect()
    });
    let hits = played.iter().map(|(hits, ..)| hits).sum();
    let first = played.iter().map(|(_, started, _)| *started).min();
    let last = played.iter().map(|(.., ended)| *ended).max();
    let took = last.zip(first).map(|(last, first)| last - first);
    Played {
        hits,
        calls: times * calls.len(),
        took: took.unwrap_or_default(),
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) / 2]
}

/// The median of some numbers with their quartiles.
fn spread(mut numbers: Vec<f64>, unit: f64) -> String {
    numbers.sort_by(f64::total_cmp);
    let at = |quarter: usize| numbers[(numbers.len() - 1) * quarter / 4] / unit;
    format!("{:.2} ({:.2} to {:.2})", at(2), at(1), at(3))
}

/// What is to be measured: those contenders, on so many threads; empty for all.
struct Only {
    names: String,
    threads: String,
}

impl Only {
    fn takes(&self, name: &str, threads: usize) -> bool {
        let is_named = self.names.split(',').any(|own| own == name);
        let is_counted = self.threads == threads.to_string();
        (is_named || self.names.is_empty()) && (is_counted || self.threads.is_empty())
    }
}

/// Rates by what is measured, the number of threads, and the contender.
type Rates = BTreeMap<(&'static str, usize, &'static str), [Vec<f64>; 2]>;

fn compare(answers: &[Arc<Entry>], calls: &[Call], size_max: usize, only: &Only) {
    let mut hit_rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut rates = Rates::new();
    let hot = |it: &Call| call(answers, it.answer as usize % HOT);
    let hot: Vec<Call> = calls.iter().map(hot).collect();
    let [held, made] = [false, true].map(|copies| Source { answers, copies });
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..ROUNDS {
        for threads in THREADS {
            let contenders: Vec<_> = NAMES
                .into_iter()
                .filter(|name| only.takes(name, threads))
                .map(|name| (name, contender(name, size_max)))
                .collect();
            // A piece each, in turn, for the machine is not as fast in one second as in the next;
            // each time in another order, for who comes next finds near what two have in common.
            let mut turns: Vec<usize> = (0..contenders.len()).collect();
            let mut play_all = |what, source: Source, calls: &[Call], times| {
                let mut hits_of = vec![0; contenders.len()];
                for piece in calls.chunks(PIECE) {
                    rng.shuffle(&mut turns);
                    for turn in &turns {
                        let (name, contender) = &contenders[*turn];
                        let played = play(&**contender, source, piece, threads, times);
                        let rates = rates.entry((what, threads, *name)).or_default();
                        for (rates, rate) in rates.iter_mut().zip(played.rates()) {
                            rates.push(rate);
                        }
                        hits_of[*turn] += played.hits;
                    }
                }
                hits_of
            };
            let hits_of = play_all("trace", held, calls, 1);
            for ((name, _), hits) in contenders.iter().zip(hits_of) {
                if threads == 1 {
                    let share = hits as f64 / CALLS as f64;
                    hit_rates.entry(name).or_default().push(share);
                }
            }
            for (_, contender) in &contenders {
                play(&**contender, held, &hot, 1, 1);
            }
            let hits_of = play_all("hits only", held, &hot, HOT_PLAYS);
            for ((name, _), hits) in contenders.iter().zip(hits_of) {
                assert!(hits > HOT_PLAYS * CALLS / 1000 * 999, "{name}");
            }
            let some = &calls[..MADE_PIECES * PIECE];
            play_all("trace, answers made and freed", made, some, 1);
        }
    }
    for (name, rates) in hit_rates {
        println!("hit rate, {name}: {} %", spread(rates, 0.01));
    }
    print_rates(&rates);
}

fn print_rates(rates: &Rates) {
    for ((what, threads, name), own) in rates {
        // Beside the other's rate on the same piece: both had the machine as it was then.
        let beside = |unit: usize, others: &[&'static str]| {
            let all = others
                .iter()
                .filter_map(|other| Some(&rates.get(&(*what, *threads, *other))?[unit]));
            let best = all.max_by(|one, other| median(one).total_cmp(&median(other)));
            let ratio = best.map(|best| own[unit].iter().zip(best).map(|(own, other)| own / other));
            ratio.map_or("-".into(), |ratio| spread(ratio.collect(), 1.0))
        };
        let (lru, others) = (&NAMES[5..], &NAMES[3..]);
        println!(
            "{what}, {threads} threads, {name}: {} million operations a second, {} of lru, {} of the best other; calls {} of lru, {} of the best other",
            spread(own[0].clone(), 1e6),
            beside(0, lru),
            beside(0, others),
            beside(1, lru),
            beside(1, others),
        );
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

/// Sizes of answers, in bytes: of all kinds, and small ones only, where places weigh most.
const LENGTHS: [(f64, f64); 2] = [(200.0, 200_000.0), (200.0, 2000.0)];

/// The cache whose memory is measured, and how much goes through it.
const MEMORY: usize = 256 << 20;
const CHURN: usize = 3;

/// Bytes that the allocator has handed out, and bytes that the process has resident.
fn memory() -> [usize; 2] {
    // The allocator returns what is free within a second.
    std::thread::sleep(Duration::from_secs(3));
    let _ = tikv_jemalloc_ctl::epoch::advance();
    let allocated = tikv_jemalloc_ctl::stats::allocated::read().unwrap_or(0);
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse::<usize>().ok());
    [allocated, pages.unwrap_or(0) * 4096]
}

fn growth(policy: EvictionPolicy, threads: u64, (shortest, longest): (f64, f64)) {
    let before = memory();
    let cache = Cache::new(&config(MEMORY, policy), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let cache = &cache;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                let mut inserted = 0;
                while inserted < (CHURN + 1) * MEMORY / threads as usize {
                    let (low, high) = (shortest.ln(), longest.ln());
                    let length = (low + rng.f64() * (high - low)).exp() as usize;
                    let entry = sized(rng.usize(..), length);
                    inserted += entry.bytes();
                    let _ = cache.insert(entry, cache.owner("bench"), Instant::now());
                    // Something is in use for long.
                    let key = Key::from_bytes(*blake3::hash(&[rng.u8(..)]).as_bytes());
                    cache.get(&key, Instant::now());
                }
            });
        }
    });
    let held = cache.stats().held;
    let after = memory();
    let grown = |index: usize| {
        let grown = after[index].saturating_sub(before[index]) as f64;
        format!(
            "{:.1} MiB ({:.3})",
            grown / 1048576.0,
            grown / held.bytes as f64
        )
    };
    println!(
        "memory, {policy:?}, {threads} threads, {shortest} to {longest} B: {} entries counted as {:.1} MiB; allocated {}, resident {}",
        held.count,
        held.bytes as f64 / 1048576.0,
        grown(0),
        grown(1)
    );
}

fn main() {
    // As in the daemon, threads have numbers, which locks keep.
    victor::thread::adopt("main", victor::thread::Role::Main);
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().unwrap_or_default();
    let what = argument();
    let only = Only {
        names: argument(),
        threads: argument(),
    };
    if "memory".starts_with(&what) {
        for lengths in LENGTHS {
            growth(EvictionPolicy::Lru, 1, lengths);
            growth(EvictionPolicy::Lfu, 8, lengths);
        }
    }
    if "keys".starts_with(&what) {
        keys();
    }
    if "calls".starts_with(&what) {
        let mut rng = fastrand::Rng::with_seed(1);
        let answers: Vec<_> = (0..KEYS).map(|number| answer(number, &mut rng)).collect();
        let calls = trace(&answers, &mut rng);
        let total: usize = answers.iter().map(|entry| entry.bytes()).sum();
        println!(
            "{CALLS} calls, Zipf {EXPONENT}, {KEYS} answers of {} MiB, a cache of a tenth of it, {ROUNDS} rounds",
            total >> 20
        );
        println!("{ALONE}");
        compare(&answers, &calls, total / 10, &only);
    }
}
