//! The limits towards a provider: more callers than it takes, in turn and in time, and callers who
//! leave while they wait.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::caller::{self, Dialect};
use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat};
use crate::common::exposition::Scrape;
use crate::common::http::{Connection, request};
use crate::common::scene::base_url;
use crate::common::simulator::{Call, Simulator};
use crate::common::{machine, wait};

const CALLERS: usize = 1000;
/// Requests a second, and at once.
const RATE: usize = 50;
const BURST: usize = 50;
const DEADLINE: Duration = Duration::from_secs(10);
/// A call arrives a little later than its turn came, and not each of them by as much.
const JITTER: usize = 5;
/// Workers of each coordinator.
const WORKERS: usize = 20;
const COORDINATORS: [&str; 2] = ["One", "Two"];
/// The promise is one second; a loaded machine is given a little more.
const SOON: Duration = Duration::from_secs(2);

/// Sends one call of `CALLERS`; they take turns between the coordinators. The key tells them apart
/// at the provider.
fn send(daemon: &Daemon, number: usize) -> Connection {
    let headers = format!(
        "x-victor-coordinator: {}\r\nidempotency-key: {number}\r\n",
        COORDINATORS[number % 2]
    );
    let mut connection = Connection::open(daemon.api);
    let body = chat("simo/sim").to_string();
    connection.send(&request("/v1/chat/completions", &headers, body.as_bytes()));
    connection
}

/// The most requests in any second, and whether a longer time had more than its share.
fn check_rate(calls: &[Call]) {
    for (at, first) in calls.iter().enumerate() {
        for seconds in [1, 3, 9] {
            let end = first.at + Duration::from_secs(seconds);
            let within = calls[at..].partition_point(|call| call.at < end);
            let most = BURST + RATE * seconds as usize + JITTER;
            assert!(within <= most, "{within} requests in {seconds} s");
        }
    }
}

/// The numbers of one coordinator's calls in the order in which they arrived, each divided by two:
/// the places that they had in its queue.
fn places(calls: &[Call], coordinator: usize) -> Vec<usize> {
    let numbers = calls
        .iter()
        .filter_map(|call| call.header("idempotency-key")?.parse::<usize>().ok());
    let own = numbers.filter(|number| number % 2 == coordinator);
    own.map(|number| number / 2).collect()
}

#[test]
fn a_thousand_callers_share_fifty_requests_a_second() {
    let _turn = machine::heavy();
    let files = machine::raise_file_limit();
    if files < 3 * CALLERS as u64 {
        return machine::skip(
            "limits_upstream",
            &format!("only {files} files may be open"),
        );
    }
    let simulator = Simulator::start();
    let coordinator = json!({"max_concurrent": WORKERS, "queue_size": CALLERS});
    let config = Config::behind(simulator.addr)
        .set(
            "providers.simo.rate_limit",
            json!({"requests_per_second": RATE, "burst": BURST}),
        )
        .providers("timeout", 5)
        .set("coordinators.timeout_seconds", DEADLINE.as_secs())
        .set("coordinators.named.One", coordinator.clone())
        .set("coordinators.named.Two", coordinator);
    let mut daemon = Daemon::with(&config);
    let mut connections: Vec<Connection> = (0..CALLERS).map(|it| send(&daemon, it)).collect();
    let sent = Instant::now();
    let mut answered = [0_usize; 2];
    for (number, connection) in connections.iter_mut().enumerate() {
        let limit = (DEADLINE + SOON).saturating_sub(sent.elapsed());
        let answer = connection
            .within(limit.max(Duration::from_millis(10)))
            .try_answer()
            .unwrap_or_else(|error| panic!("caller {number} was left without an answer: {error}"));
        match answer.status {
            200 => answered[number % 2] += 1,
            503 | 504 => assert!(answer.json()["error"]["message"].is_string()),
            // Our own limit would let it through after its deadline only.
            429 => assert!(answer.header("retry-after").is_some(), "{}", answer.text()),
            _ => panic!("caller {number}: {} {}", answer.status, answer.text()),
        }
    }
    drop(connections);
    let mut calls = simulator.calls();
    calls.sort_by_key(|call| call.at);
    check_rate(&calls);
    let share = BURST + RATE * DEADLINE.as_secs() as usize;
    let [one, two] = answered;
    let all = one + two;
    assert!(all >= share * 8 / 10, "only {all} of about {share}");
    assert!(calls.len() >= all && calls.len() <= share + RATE * 2);
    assert!(
        one.abs_diff(two) * 5 <= one.max(two),
        "unfair: {one} and {two} were answered"
    );
    for coordinator in 0..2 {
        let places = places(&calls, coordinator);
        let overtaken = places.iter().enumerate().map(|(index, place)| {
            let earlier = places[..index].iter();
            earlier.filter(|other| *other > place).count()
        });
        // As many as run at a time may overtake each other, and a few on their way into the queue.
        let most = overtaken.max().unwrap_or(0);
        assert!(most <= 2 * WORKERS, "a call was overtaken by {most}");
    }
    let scrape = Scrape::of(daemon.ops);
    let limited = |by: &str| {
        let labels = [("provider", "simo"), ("by", by)];
        scrape.count("victor_provider_rate_limited_total", &labels)
    };
    assert!(limited("us") > 0 && limited("them") == 0);
    // What waited and was refused has given its turn back.
    let started = Instant::now();
    daemon.assert_well();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

/// Waits until the only worker has given up the call of a client that left, and serves another.
fn check_freed(daemon: &Daemon, connection: Connection, other: &str) {
    drop(connection);
    let gone = Instant::now();
    wait::until("the worker is free", SOON, || {
        (daemon.get("/health").json()["in_flight"] == 0).then_some(())
    });
    let answer = daemon.post("/v1/chat/completions", &chat(other));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(gone.elapsed() < SOON);
}

#[test]
fn a_client_that_leaves_while_its_call_waits_to_be_tried_again() {
    let _turn = machine::light();
    for behaviour in ["status-429+retry-after-4", "status-503+retry-after-4"] {
        let simulator = Simulator::start();
        let third = json!({
            "kind": "openai",
            "base_url": base_url(Dialect::Openai, simulator.addr),
            "api_key": "sk-upstream-third-4714",
        });
        let config = Config::behind(simulator.addr)
            .set("providers.third", third)
            .set("coordinators.max_concurrent", 1);
        let daemon = Daemon::with(&config);
        // A provider each, since one that asked for patience is left alone by other calls too.
        for (provider, stream) in [("simo", false), ("sima", true)] {
            let mut connection = Connection::open(daemon.api);
            let body = caller::body(&format!("{provider}/sim+{behaviour}"), stream);
            connection.send(&request("/v1/chat/completions", "", body.as_bytes()));
            let attempts = || {
                let mut calls = simulator.calls();
                calls.retain(|call| call.model != "sim" && call.status.is_some());
                calls.len()
            };
            let asked = usize::from(stream) + 1;
            wait::until("the first attempt", Duration::from_secs(5), || {
                (attempts() == asked).then_some(())
            });
            let early = connection.within(Duration::from_millis(300)).try_head();
            assert!(early.is_err(), "it did not wait: {early:?}");
            assert_eq!(daemon.get("/health").json()["in_flight"], 1);
            let other = if stream { "third/sim" } else { "sima/sim" };
            check_freed(&daemon, connection, other);
            assert_eq!(attempts(), asked, "tried again for a client that has gone");
        }
    }
}

#[test]
fn a_client_that_leaves_while_its_call_waits_for_the_rate_limit() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("coordinators.max_concurrent", 1)
        .set(
            "providers.simo.rate_limit",
            json!({"requests_per_second": 0.1, "burst": 1}),
        );
    let daemon = Daemon::with(&config);
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    for stream in [false, true] {
        let mut connection = Connection::open(daemon.api);
        let body = caller::body("simo/sim", stream);
        connection.send(&request("/v1/chat/completions", "", body.as_bytes()));
        wait::until("it waits", Duration::from_secs(5), || {
            (daemon.get("/health").json()["in_flight"] == 1).then_some(())
        });
        let early = connection.within(Duration::from_millis(300)).try_head();
        assert!(early.is_err(), "it did not wait: {early:?}");
        check_freed(&daemon, connection, "sima/sim");
    }
    let calls = simulator.calls();
    let at_simo = calls.iter().filter(|call| call.path != "/v1/messages");
    assert_eq!(at_simo.count(), 1, "sent for a client that has gone");
}

/// Where another target has room, nobody waits for the limit of the first.
#[test]
fn a_call_that_would_wait_for_long_goes_to_the_next_target() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let targets = json!([
        {"provider": "simo", "model": "sim"},
        {"provider": "sima", "model": "sim"},
    ]);
    let config = Config::behind(simulator.addr)
        .set("models.best", targets)
        .set(
            "providers.simo.rate_limit",
            json!({"requests_per_second": 0.01, "burst": 1}),
        )
        .set("coordinators.timeout_seconds", 40);
    let daemon = Daemon::with(&config);
    for provider in ["simo", "sima", "sima"] {
        let answer = daemon.post("/v1/chat/completions", &chat("best"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-victor-provider"), Some(provider));
    }
}
