//! The cache that instances share: a real Redis, which stops, goes and comes back.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat};
use crate::common::exposition::Scrape;
use crate::common::http::{Answer, PATIENCE};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::wait;

const CHAT: &str = "/v1/chat/completions";
/// What the shared cache may add to a call.
const TIMEOUT_MS: u64 = 20;

/// A server on a port of its own, without a disk.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// `None`, and said so: there is none on this machine.
    fn start(test: &str) -> Option<Self> {
        if machine::tool("redis-server").is_none() {
            machine::skip(test, "redis-server is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        Some(Self {
            child: Self::spawn(port),
            port,
        })
    }

    fn spawn(port: u16) -> Child {
        let tool = machine::tool("redis-server").expect("there it was");
        let child = Command::new(tool)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        wait::until("redis-server to listen", PATIENCE, || {
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()
        });
        child
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is there");
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(self.port);
    }

    fn config(&self, simulator: &Simulator) -> Config {
        let url = format!("redis://127.0.0.1:{}/0", self.port);
        Config::behind(simulator.addr).set(
            "cache",
            json!({"enabled": true, "redis": {"url": url, "timeout_ms": TIMEOUT_MS}}),
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn question(model: &str, number: usize) -> Value {
    let mut body = chat(model);
    body["messages"][0]["content"] = format!("question {number}").into();
    body
}

fn how(answer: &Answer) -> &str {
    answer.header("x-victor-cache").unwrap_or_default()
}

fn state(daemon: &Daemon) -> String {
    let health = daemon.get("/health").json();
    let shared = &health["components"]["cache.response"]["details"]["shared"];
    shared["state"].as_str().unwrap_or_default().to_owned()
}

fn wait_for(daemon: &Daemon, expected: &str) {
    wait::until(expected, PATIENCE, || {
        (state(daemon) == expected).then_some(())
    });
}

/// Two instances that share, and the provider behind both; `None` where there is no Redis.
fn two_instances() -> Option<(Redis, Simulator, Daemon, Daemon)> {
    let redis = Redis::start("shared")?;
    let simulator = Simulator::start();
    let config = redis.config(&simulator);
    let (one, two) = (Daemon::with(&config), Daemon::with(&config));
    Some((redis, simulator, one, two))
}

#[test]
fn two_instances_share_answers_and_calls_in_flight() {
    let _turn = machine::light();
    let Some((_redis, simulator, one, two)) = two_instances() else {
        return;
    };
    // It is looked at for the first time by a call.
    for daemon in [&one, &two] {
        daemon.post(CHAT, &question("simo/sim", 1000));
        wait_for(daemon, "up");
    }
    simulator.reset();
    let first = one.post(CHAT, &question("simo/sim", 1));
    assert_eq!(how(&first), "miss");
    let second = wait::until("the answer to be there", PATIENCE, || {
        let answer = two.post(CHAT, &question("simo/sim", 1));
        (how(&answer) == "hit").then_some(answer)
    });
    assert_eq!(first.body, second.body);
    assert_eq!(simulator.calls().len(), 1);
    // And calls on their way.
    simulator.reset();
    let slow = question("simo/sim+latency-700", 2);
    let answers = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .map(|number| {
                let daemon = if number % 2 == 0 { &one } else { &two };
                let slow = &slow;
                scope.spawn(move || daemon.post(CHAT, slow))
            })
            .collect();
        let joined = callers.into_iter().map(|it| it.join().expect("answered"));
        joined.collect::<Vec<_>>()
    });
    assert!(
        answers
            .iter()
            .all(|it| it.status == 200 && it.body == answers[0].body)
    );
    assert_eq!(simulator.calls().len(), 1, "one call of both instances");
}

#[test]
fn what_was_cleared_does_not_come_back_from_where_it_is_shared() {
    let _turn = machine::light();
    let Some((_redis, simulator, one, two)) = two_instances() else {
        return;
    };
    let question = question("simo/sim", 1);
    one.post(CHAT, &question);
    wait::until("the answer to be shared", PATIENCE, || {
        let answer = two.post(CHAT, &question);
        (how(&answer) == "hit").then_some(())
    });
    simulator.reset();
    for cleared in [&["--coordinator", "ChatCoordinator"][..], &["--all"]] {
        one.admin(&[&["clear-cache"], cleared].concat());
        assert_eq!(how(&one.post(CHAT, &question)), "miss");
        assert_eq!(how(&one.post(CHAT, &question)), "hit");
    }
    assert_eq!(simulator.calls().len(), 2);
    assert_eq!(how(&two.post(CHAT, &question)), "hit", "it was not cleared");
}

#[test]
fn no_call_fails_while_it_stops_goes_and_comes_back() {
    let _turn = machine::heavy();
    let Some(mut redis) = Redis::start("shared") else {
        return;
    };
    let simulator = Simulator::start();
    let daemon = Daemon::with(&redis.config(&simulator));
    daemon.post(CHAT, &question("simo/sim", 0));
    wait_for(&daemon, "up");
    let (end, next) = (AtomicBool::new(false), AtomicUsize::new(1));
    let times = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (daemon, end, next) = (&daemon, &end, &next);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    while !end.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let began = Instant::now();
                        let answer = daemon.post(CHAT, &question("simo/sim", number));
                        times.push(began.elapsed());
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                    times
                })
            })
            .collect();
        let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
        pause(1000);
        redis.signal(Signal::STOP);
        wait_for(&daemon, "down");
        pause(500);
        redis.signal(Signal::CONT);
        wait_for(&daemon, "up");
        pause(500);
        redis.kill();
        wait_for(&daemon, "down");
        pause(500);
        redis.start_again();
        wait_for(&daemon, "up");
        pause(500);
        end.store(true, Ordering::Relaxed);
        let joined = callers
            .into_iter()
            .flat_map(|it| it.join().expect("no call failed"));
        joined.collect::<Vec<_>>()
    });
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    println!(
        "{} calls: p50 {:?}, p99 {:?}, longest {:?}, with {TIMEOUT_MS} ms for the shared cache",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    // The time-out once, and all that a loaded machine adds.
    assert!(
        at(1.0) < Duration::from_millis(TIMEOUT_MS * 10 + 500),
        "{:?}",
        at(1.0)
    );
    let scrape = Scrape::of(daemon.ops);
    assert_eq!(scrape.sum("victor_cache_shared_up", &[]), Some(1.0));
    let failed = |outcome| {
        scrape.count(
            "victor_cache_shared_requests_total",
            &[("outcome", outcome)],
        )
    };
    assert!(failed("timeout") > 0, "it stood still for a while");
}
