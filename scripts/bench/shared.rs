//! What the shared cache adds to a call: one operation at a time, then many workers through an
//! outage. Needs a `redis-server` on the path, and starts its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use victor::cancel::Cancel;
use victor::config::check_text;
use victor::metrics::Metrics;
use victor::provider::shared_cache::{Claim, Found, SharedCache, Standing};

const TIMEOUT_MS: u64 = 20;
const ROUNDS: usize = 3;
const WORKERS: u64 = 16;
/// Between two calls of a worker.
const PACE: Duration = Duration::from_millis(2);
const PHASE: Duration = Duration::from_secs(4);
const TTL: Duration = Duration::from_secs(60);

fn main() {
    let port = free_port();
    for round in 1..=ROUNDS {
        println!("round {round}, timeout_ms {TIMEOUT_MS}");
        let server = serve(port);
        let cache = connect(port);
        operations(&cache);
        outage(&cache, server, port);
    }
}

/// A port that the system does not give to clients.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (20_000..30_000).find(is_free).expect("a free port")
}

/// A server that ends with whoever has it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(port: u16) -> Server {
    let port = port.to_string();
    let arguments = ["--port", &port, "--save", "", "--appendonly", "no"];
    let server = Command::new("redis-server")
        .args(arguments)
        .stdout(Stdio::null())
        .spawn();
    Server(server.expect("redis-server is on the path"))
}

fn connect(port: u16) -> std::sync::Arc<SharedCache> {
    let text =
        format!("cache: {{redis: {{url: 'redis://127.0.0.1:{port}', timeout_ms: {TIMEOUT_MS}}}}}");
    let config = check_text("bench", &text, &|_| None, true).expect("it is sound");
    let metrics = Metrics::new(&config);
    let redis = config.cache.redis.expect("it has a URL");
    let cache = SharedCache::new(&redis, &metrics).expect("a thread");
    wait_until_up(&cache);
    cache
}

fn wait_until_up(cache: &SharedCache) {
    while cache.report().standing != Standing::Up {
        cache.get(&[0; 32]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

fn show(what: &str, mut times: Vec<Duration>, note: &str) {
    times.sort_unstable();
    if times.is_empty() {
        return;
    }
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!("  {what:<24} p50 {p50:>9.1?}  p99 {p99:>9.1?}  max {max:>9.1?}  {note}");
}

/// Times `run`, which says whether the server answered. After one that it did not, which a busy
/// machine brings about, its return is waited for.
fn sample(what: &str, cache: &SharedCache, mut run: impl FnMut(u64) -> bool) {
    let mut unanswered = 0;
    let mut times = Vec::new();
    for number in 0..5000 {
        let start = Instant::now();
        let answered = run(number);
        times.push(start.elapsed());
        if !answered {
            unanswered += 1;
            wait_until_up(cache);
        }
    }
    show(what, times, &format!("{unanswered} unanswered"));
}

fn operations(cache: &SharedCache) {
    for (number, bytes) in [(1, 1 << 10), (2, 64 << 10), (3, 1 << 20)] {
        let value = vec![b'x'; bytes];
        while cache.get(&key(number)) != Found::Hit(value.clone()) {
            cache.put(&key(number), &value, TTL);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let hit = |number| matches!(cache.get(&key(number)), Found::Hit(_));
    sample("get, 1 KiB", cache, |_| hit(1));
    sample("get, 64 KiB", cache, |_| hit(2));
    sample("get, 1 MiB", cache, |_| hit(3));
    sample("get, nothing there", cache, |_| {
        cache.get(&key(9)) == Found::Miss
    });
    let value = vec![b'x'; 1 << 10];
    sample("put, 1 KiB (queued)", cache, |number| {
        cache.put(&key(100 + number % 100), &value, TTL);
        true
    });
    while cache.queued_bytes() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    sample("claim", cache, |number| {
        let claim = cache.claim(&key(1000 + number), TTL);
        !matches!(claim, Claim::Unavailable)
    });
    wait_until_up(cache);
    let soon = Instant::now() + Duration::from_secs(5);
    let start = Instant::now();
    let held = cache.claim(&key(7), TTL);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| cache.wait(&key(7), soon, &Cancel::new()));
        std::thread::sleep(Duration::from_millis(300));
        cache.put(&key(7), b"x", TTL);
        drop(held);
        let found = waiter.join().expect("no panic").is_some();
        let took = start.elapsed();
        println!("  wait for an answer that comes after 300 ms: {took:.1?}, found: {found}");
    });
}

/// What the workers of one phase have seen.
#[derive(Default)]
struct Seen {
    times: Mutex<Vec<Duration>>,
    hits: AtomicU64,
}

fn phase(what: &str, cache: &SharedCache, until: impl Fn() -> bool) {
    let (seen, ends) = (Seen::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (seen, ends) = (&seen, &ends);
            scope.spawn(move || {
                let mut times = Vec::new();
                let mut number = worker;
                while !ends.load(Ordering::Relaxed) {
                    number += 1;
                    let start = Instant::now();
                    let found = cache.get(&key(5000 + number % 200));
                    match found {
                        Found::Hit(_) => {
                            seen.hits.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => cache.put(&key(5000 + number % 200), &[b'x'; 2000], TTL),
                    }
                    times.push(start.elapsed());
                    std::thread::sleep(PACE);
                }
                seen.times.lock().expect("no panic").extend(times);
            });
        }
        while !until() {
            std::thread::sleep(Duration::from_millis(5));
        }
        ends.store(true, Ordering::Relaxed);
    });
    let times = seen.times.into_inner().expect("no panic");
    let calls = times.len() as u64;
    let over = times
        .iter()
        .filter(|it| **it > Duration::from_millis(TIMEOUT_MS));
    let over = over.count();
    let hits = seen.hits.into_inner() * 100 / calls.max(1);
    let note = format!("{calls} calls, {hits} % hits, {over} over the time-out");
    show(what, times, &note);
}

fn outage(cache: &SharedCache, server: Server, port: u16) {
    let lasts = |time: Duration| {
        let end = Instant::now() + time;
        move || Instant::now() >= end
    };
    let back = || {
        let start = Instant::now();
        phase("back", cache, || {
            let report = cache.report();
            report.standing == Standing::Up && report.since > Duration::from_secs(1)
        });
        let took = start.elapsed().saturating_sub(Duration::from_secs(1));
        println!("  found again after {took:.1?}");
    };
    phase("answers", cache, lasts(PHASE));
    kill_process(Pid::from_child(&server.0), Signal::STOP).expect("it runs");
    phase("stands still", cache, lasts(PHASE));
    kill_process(Pid::from_child(&server.0), Signal::CONT).expect("it runs");
    back();
    drop(server);
    phase("gone", cache, lasts(PHASE));
    let _server = serve(port);
    back();
}
