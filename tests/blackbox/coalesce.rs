//! Equal calls in flight: one call to the provider, and an answer for each.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::http::{Connection, PATIENCE, request};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::sse::Stream;
use crate::common::wait;

const CALLERS: usize = 500;
const CHAT: &str = "/v1/chat/completions";

fn daemon(simulator: &Simulator) -> Daemon {
    let config = Config::behind(simulator.addr)
        .set("cache", json!({"enabled": true}))
        .one_attempt();
    Daemon::with(&config)
}

fn body(model: &str, streamed: bool) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Say something together."}],
    });
    if streamed {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn followers(daemon: &Daemon) -> u64 {
    Scrape::of(daemon.ops).count("victor_cache_followers", &[])
}

/// What one caller got: how it met the cache, and the bytes of its answer.
type Got = (String, u16, Vec<u8>);

/// Calls at the same time, the number of them streamed that `is_streamed` says.
fn together(
    daemon: &Daemon,
    model: &str,
    count: usize,
    is_streamed: fn(usize) -> bool,
) -> Vec<(bool, Got)> {
    let barrier = Arc::new(Barrier::new(count));
    let callers: Vec<_> = (0..count)
        .map(|number| {
            let (barrier, addr) = (Arc::clone(&barrier), daemon.api);
            let (streamed, body) = (is_streamed(number), body(model, is_streamed(number)));
            let call = move || {
                let mut connection = Connection::open(addr);
                barrier.wait();
                connection.send(&request(CHAT, "", body.to_string().as_bytes()));
                let answer = connection.answer();
                let how = answer
                    .header("x-victor-cache")
                    .unwrap_or_default()
                    .to_owned();
                (streamed, (how, answer.status, answer.body))
            };
            std::thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(call)
                .expect("a thread")
        })
        .collect();
    callers
        .into_iter()
        .map(|caller| caller.join().expect("answered"))
        .collect()
}

/// The callers' answers are whole, and alike for each shape.
fn check_alike(got: &[(bool, Got)], whole: &str) {
    for streamed in [false, true] {
        let mut same = got.iter().filter(|(is, _)| *is == streamed);
        let Some((_, (_, _, first))) = same.clone().next() else {
            continue;
        };
        let text = String::from_utf8_lossy(first);
        assert!(
            text.trim_end()
                .ends_with(if streamed { "[DONE]" } else { whole }),
            "{text}"
        );
        for (_, (how, status, body)) in same.by_ref() {
            assert_eq!((*status, body == first), (200, true), "{how}");
        }
    }
}

#[test]
fn five_hundred_equal_calls_are_one_call_to_the_provider() {
    let _turn = machine::heavy();
    machine::raise_file_limit();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator);
    // Whoever comes first, the others join it or find what it came to.
    for (model, is_streamed) in [
        (
            "simo/sim+pace-20x60",
            (|number| number % 2 == 0) as fn(usize) -> bool,
        ),
        ("simo/sim+latency-1200", |_| false),
        ("simo/sim+pace-20x61", |_| true),
        ("simo/sim+latency-1100", |number| number % 2 == 0),
    ] {
        simulator.reset();
        let threads = daemon.process.threads();
        let got = together(&daemon, model, CALLERS, is_streamed);
        assert_eq!(daemon.process.threads(), threads, "a thread for a follower");
        assert_eq!(simulator.calls().len(), 1, "{model}");
        check_alike(&got, "}");
        let led = got.iter().filter(|(_, (how, ..))| how == "miss").count();
        assert_eq!(led, 1, "{model}");
        let coalesced = got.iter().filter(|(_, (how, ..))| how == "coalesced");
        println!("{model}: {} of {CALLERS} coalesced", coalesced.count());
        assert_eq!(followers(&daemon), 0);
    }
    let scrape = Scrape::of(daemon.ops);
    let own = [("coordinator", "ChatCoordinator")];
    assert!(scrape.count("victor_cache_coalesced_total", &own) > CALLERS as u64);
    assert_eq!(
        scrape.count("victor_coordinator_executions_total", &own),
        4 * CALLERS as u64
    );
}

#[test]
fn the_leaders_client_may_leave() {
    let _turn = machine::heavy();
    machine::raise_file_limit();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator);
    for streamed in [false, true] {
        simulator.reset();
        let model = if streamed {
            "simo/sim+pace-30x60"
        } else {
            "simo/sim+latency-2000"
        };
        let mut leader = Connection::open(daemon.api);
        leader.send(&request(
            CHAT,
            "",
            body(model, streamed).to_string().as_bytes(),
        ));
        wait::until("the call at the provider", PATIENCE, || {
            (simulator.calls().len() == 1).then_some(())
        });
        let others = std::thread::scope(|scope| {
            let others =
                scope.spawn(|| together(&daemon, model, CALLERS - 1, |number| number % 2 == 0));
            wait::until("the followers", PATIENCE, || {
                (followers(&daemon) == CALLERS as u64 - 1).then_some(())
            });
            drop(leader);
            others.join().expect("answered")
        });
        assert_eq!(simulator.calls().len(), 1);
        check_alike(&others, "}");
        assert!(others.iter().all(|(_, (how, ..))| how == "coalesced"));
        wait::until("the leader's log line", PATIENCE, || {
            let gone = daemon
                .log()
                .into_iter()
                .filter(|line| line["status"] == 499);
            (gone.count() == usize::from(streamed) + 1).then_some(())
        });
    }
    // When the last one leaves, the call ends.
    simulator.reset();
    let model = "simo/sim+pace-50x200";
    let mut callers: Vec<_> = (0..3)
        .map(|_| {
            let mut caller = Connection::open(daemon.api);
            caller.send(&request(CHAT, "", body(model, true).to_string().as_bytes()));
            caller
        })
        .collect();
    wait::until("the followers", PATIENCE, || {
        (followers(&daemon) == 2).then_some(())
    });
    callers.clear();
    wait::until("the call to be given up", Duration::from_secs(5), || {
        simulator
            .calls()
            .first()
            .is_some_and(|call| call.aborted)
            .then_some(())
    });
    assert_eq!(followers(&daemon), 0);
}

#[test]
fn the_leaders_failure_is_everybodys() {
    let _turn = machine::heavy();
    machine::raise_file_limit();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator);
    // In the middle of a stream: an event that says so, and no end; a body cannot be had.
    let model = "simo/sim+pace-20x60+cut-40";
    let mut leader = Stream::open(daemon.api, CHAT, &body(model, true));
    leader.next_event().expect("begun");
    let got = together(&daemon, model, CALLERS - 1, |number| number % 2 == 0);
    leader.events().expect("an end");
    assert_eq!(simulator.calls().len(), 1);
    for (streamed, (how, status, body)) in &got {
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains("[DONE]"), "{how} {text}");
        if *streamed {
            assert_eq!((*status, how.as_str()), (200, "coalesced"));
            assert!(text.contains("\"error\""), "{text}");
            assert_eq!(*body, leader.raw);
        } else {
            assert_eq!(*status, 502, "{how} {text}");
        }
    }
    // Before anything was answered: one error, for all of them.
    simulator.reset();
    let got = together(&daemon, "simo/sim+latency-800+status-503", 200, |number| {
        number % 2 == 0
    });
    let calls = simulator.calls().len();
    assert!(calls <= 3, "{calls} calls: a stampede");
    assert!(got.iter().all(|(_, (_, status, _))| *status == 503));
}

#[test]
fn a_follower_that_does_not_read_is_ended_alone() {
    let _turn = machine::heavy();
    machine::raise_file_limit();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("cache", json!({"enabled": true}))
        .set("server.write_timeout", 2)
        .providers("first_token_timeout", 30);
    let daemon = Daemon::with(&config);
    // More than sockets hold, and less than is remembered for those who come late.
    let model = "simo/sim+first-token-3000+pace-0x50000";
    let mut ask = body(model, true);
    ask["max_tokens"] = 50_000.into();
    let ask = request(CHAT, "", ask.to_string().as_bytes());
    let call = || {
        let mut caller = Connection::open(daemon.api);
        caller.send(&ask);
        caller
    };
    let (leader, mut mute) = (call(), call());
    let mut readers: Vec<_> = (0..20).map(|_| call()).collect();
    readers.push(leader);
    wait::until("the followers", PATIENCE, || {
        (followers(&daemon) == 21).then_some(())
    });
    let read: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = readers
            .into_iter()
            .map(|mut reader| scope.spawn(move || reader.within(PATIENCE * 3).answer()))
            .collect();
        let joined = readers.into_iter().map(|it| it.join().expect("answered"));
        joined.collect()
    });
    for answer in &read {
        assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
        assert_eq!(answer.body, read[0].body);
    }
    println!("{} readers of {} bytes", read.len(), read[0].body.len());
    assert_eq!(simulator.calls().len(), 1);
    wait::until("the one that does not read to be ended", PATIENCE, || {
        let ended = Scrape::of(daemon.ops).count(
            "victor_http_connections_ended_total",
            &[("reason", "timed_out")],
        );
        (ended == 1 && followers(&daemon) == 0).then_some(())
    });
    let rest = mute.rest(PATIENCE);
    assert!(rest.len() < read[0].body.len());
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks complete");
}
