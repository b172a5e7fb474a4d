//! A full coordinator says so at once and takes nobody else with it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, message};
use crate::common::http::{Connection, post_with, request};
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

const SLOW: &str = "x-victor-coordinator: Slow\r\n";

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_full_queue_is_refused_at_once_and_slows_nobody_else() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set(
        "coordinators.named.Slow",
        json!({"max_concurrent": 2, "queue_size": 3}),
    );
    let mut daemon = Daemon::with(&config);
    let body = chat("simo/sim+latency-20000").to_string();
    let held: Vec<Connection> = (0..5)
        .map(|_| {
            let mut connection = Connection::open(daemon.api);
            connection.send(&request("/v1/chat/completions", SLOW, body.as_bytes()));
            connection
        })
        .collect();
    wait::until("two run and three wait", Duration::from_secs(10), || {
        let detailed = daemon.get("/health/detailed").json();
        let slow = detailed["coordinators"]
            .as_array()?
            .iter()
            .find(|coordinator| coordinator["name"] == "Slow")?
            .clone();
        (slow["in_flight"] == 2 && slow["queue_depth"] == 3).then_some(())
    });
    let (mut refused, mut live, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..30 {
        let started = Instant::now();
        let answer = match number % 2 {
            0 => post_with(daemon.api, "/v1/chat/completions", SLOW, body.as_bytes()),
            _ => {
                let body = message("sima/sim").to_string();
                post_with(daemon.api, "/v1/messages", SLOW, body.as_bytes())
            }
        };
        refused.push(started.elapsed());
        assert_eq!(answer.status, 503, "{}", answer.text());
        let seconds = answer.header("retry-after").unwrap_or_default();
        assert!(seconds.parse::<u32>().is_ok_and(|s| s > 0), "{answer:?}");
        assert_eq!(answer.header("x-victor-coordinator"), Some("Slow"));
        assert!(answer.json()["error"]["message"].is_string());
        let started = Instant::now();
        assert_eq!(daemon.get("/health/live").status, 200);
        live.push(started.elapsed());
        let started = Instant::now();
        let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        other.push(started.elapsed());
    }
    let (refused, live) = (median(&mut refused), median(&mut live));
    let other = median(&mut other);
    assert!(
        refused < Duration::from_millis(100),
        "503 after {refused:?}"
    );
    assert!(live < Duration::from_millis(50), "alive after {live:?}");
    assert!(other < Duration::from_millis(200), "served after {other:?}");
    drop(held);
    // The callers left: their calls are cancelled, and there is room again.
    wait::until("room again", Duration::from_secs(10), || {
        let body = chat("simo/sim").to_string();
        let answer = post_with(daemon.api, "/v1/chat/completions", SLOW, body.as_bytes());
        (answer.status == 200).then_some(())
    });
    daemon.assert_well();
}

#[test]
fn what_waits_in_the_queue_is_served_when_its_turn_comes() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("coordinators.max_concurrent", 1)
        .set("coordinators.queue_size", 10);
    let daemon = Daemon::with(&config);
    let body = chat("simo/sim+latency-50").to_string();
    let mut waiting: Vec<Connection> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(daemon.api);
            connection.send(&request("/v1/chat/completions", "", body.as_bytes()));
            connection
        })
        .collect();
    for connection in &mut waiting {
        let answer = connection.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The deadline covers the queue: a call that waited too long is told 504.
#[test]
fn a_call_that_waits_past_its_deadline_is_told() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("coordinators.max_concurrent", 1)
        .set("coordinators.timeout_seconds", 2)
        .providers("timeout", 1);
    let mut daemon = Daemon::with(&config);
    let started = Instant::now();
    let mut held = Connection::open(daemon.api);
    let body = json!({"model": "simo/sim+first-token-30000", "stream": true, "messages": []});
    held.send(&request(
        "/v1/chat/completions",
        "",
        body.to_string().as_bytes(),
    ));
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim+latency-30000"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(started.elapsed() < Duration::from_secs(12));
    drop(held);
    daemon.assert_well();
}
