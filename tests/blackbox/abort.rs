//! A client that goes away: its call is cancelled, the provider sees its connection end, and
//! nobody is blamed.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, chat_stream, message_stream};
use crate::common::http::{Connection, request};
use crate::common::simulator::Simulator;
use crate::common::sse::Stream;
use crate::common::{machine, wait};

/// The promise is one second; a loaded machine is given a little more.
const SOON: Duration = Duration::from_secs(2);

/// Waits until the provider has one call, hangs up, and checks that the provider sees the end.
fn check_ended(simulator: &Simulator, hang_up: impl FnOnce()) {
    wait::until("the call at the provider", Duration::from_secs(10), || {
        (simulator.calls().len() == 1).then_some(())
    });
    assert!(!simulator.calls()[0].aborted, "it ended too early");
    let gone = Instant::now();
    hang_up();
    wait::until("the provider sees the end", SOON, || {
        simulator.calls()[0].aborted.then_some(())
    });
    assert!(gone.elapsed() < SOON);
}

#[test]
fn a_client_that_leaves_before_the_first_byte() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    for (path, body) in [
        ("/v1/chat/completions", chat("simo/sim+latency-60000")),
        (
            "/v1/chat/completions",
            chat_stream("simo/sim+latency-60000"),
        ),
        ("/v1/messages", message_stream("sima/sim+first-token-60000")),
        ("/v1/chat/completions", chat("simo/sim+silent")),
    ] {
        for half in [false, true] {
            simulator.reset();
            let mut connection = Connection::open(daemon.api);
            connection.send(&request(path, "", body.to_string().as_bytes()));
            check_ended(&simulator, || match half {
                true => connection.half_close(),
                false => drop(connection),
            });
        }
    }
    daemon.assert_well();
}

#[test]
fn a_client_that_leaves_at_the_first_byte() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    for (path, body) in [
        ("/v1/chat/completions", chat_stream("simo/sim+pace-500x100")),
        ("/v1/messages", message_stream("sima/sim+pace-500x100")),
    ] {
        simulator.reset();
        let mut connection = Connection::open(daemon.api);
        connection.send(&request(path, "", body.to_string().as_bytes()));
        let stream = Stream::of(connection);
        check_ended(&simulator, || drop(stream));
    }
    daemon.assert_well();
}

#[test]
fn a_client_that_leaves_in_the_middle() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    for (path, body) in [
        ("/v1/chat/completions", chat_stream("simo/sim+pace-20x5000")),
        ("/v1/messages", message_stream("sima/sim+pace-20x5000")),
        // Nothing more will be written: only watching the connection shows that it ended.
        (
            "/v1/chat/completions",
            chat_stream("simo/sim+pace-1x50+stall-20"),
        ),
    ] {
        simulator.reset();
        let mut stream = Stream::open(daemon.api, path, &body);
        for _ in 0..10 {
            assert!(stream.next_event().is_ok_and(|event| event.is_some()));
        }
        check_ended(&simulator, || drop(stream));
    }
    daemon.assert_well();
}

#[test]
fn a_client_that_leaves_while_its_call_waits_is_never_sent_on() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("coordinators.max_concurrent", 1);
    let mut daemon = Daemon::with(&config);
    let mut first = Connection::open(daemon.api);
    let body = chat("simo/sim+latency-1500").to_string();
    first.send(&request("/v1/chat/completions", "", body.as_bytes()));
    wait::until("the first runs", Duration::from_secs(10), || {
        (simulator.calls().len() == 1).then_some(())
    });
    let mut second = Connection::open(daemon.api);
    second.send(&request("/v1/chat/completions", "", body.as_bytes()));
    wait::until("the second waits", Duration::from_secs(10), || {
        (daemon.get("/health").json()["queued"] == 1).then_some(())
    });
    drop(second);
    assert_eq!(first.answer().status, 200);
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(simulator.calls().len(), 2, "the abandoned call was sent on");
    daemon.assert_well();
}

/// An abort is the caller's, and is counted neither against the provider nor as its answer.
#[test]
fn an_abort_is_not_the_providers_fault() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for _ in 0..20 {
        simulator.reset();
        let mut connection = Connection::open(daemon.api);
        let body = json!({"model": "simo/sim+latency-60000", "messages": []}).to_string();
        connection.send(&request("/v1/chat/completions", "", body.as_bytes()));
        check_ended(&simulator, || drop(connection));
    }
    wait::until("nothing in flight", Duration::from_secs(5), || {
        (daemon.get("/health").json()["in_flight"] == 0).then_some(())
    });
    let detailed = daemon.get("/health/detailed").json();
    assert_eq!(
        detailed["components"]["provider.simo"]["status"], "healthy",
        "{detailed}"
    );
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}
