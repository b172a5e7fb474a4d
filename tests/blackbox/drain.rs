//! TERM: calls in flight finish, nothing new begins, and the exit is clean.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, chat_stream, message_stream};
use crate::common::http::{Answer, Connection, request};
use crate::common::simulator::Simulator;
use crate::common::sse::{Stream, is_end};
use crate::common::{machine, wait};

fn start(simulator: &Simulator) -> Daemon {
    let config = Config::behind(simulator.addr)
        .set("coordinators.max_concurrent", 100)
        .providers("max_connections", 100);
    Daemon::with(&config)
}

/// A GET or POST that may be refused at the door.
fn ask(daemon: &Daemon, bytes: &[u8]) -> Option<Answer> {
    let mut connection = Connection::try_open(daemon.api).ok()?;
    connection.try_send(bytes).ok()?;
    connection.try_answer().ok()
}

#[test]
fn a_hundred_streams_in_flight_all_complete() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let mut daemon = start(&simulator);
    let mut streams: Vec<Stream> = (0..100)
        .map(|number| match number % 2 {
            0 => Stream::open(
                daemon.api,
                "/v1/chat/completions",
                &chat_stream("simo/sim+pace-100x40"),
            ),
            _ => Stream::open(
                daemon.api,
                "/v1/messages",
                &message_stream("sima/sim+pace-100x40"),
            ),
        })
        .collect();
    let get_ready = b"GET /health/ready HTTP/1.1\r\nhost: victor\r\nconnection: close\r\n\r\n";
    assert_eq!(
        ask(&daemon, get_ready).map(|answer| answer.status),
        Some(200)
    );
    // A connection from before the drain is told too.
    let mut kept = Connection::open(daemon.api);
    kept.send(b"GET /health/live HTTP/1.1\r\nhost: victor\r\n\r\n");
    assert_eq!(kept.answer().status, 200);
    daemon.process.signal(Signal::TERM);
    let signalled = Instant::now();
    let not_ready = wait::until("not ready", Duration::from_secs(1), || {
        ask(&daemon, get_ready).filter(|answer| answer.status == 503)
    });
    assert_eq!(not_ready.json()["status"], "not_ready");
    assert!(not_ready.json()["reasons"][0].is_string());
    for _ in 0..20 {
        let body = chat("simo/sim").to_string();
        if let Some(answer) = ask(
            &daemon,
            &request("/v1/chat/completions", "", body.as_bytes()),
        ) {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert!(answer.closes(), "{answer:?}");
        }
        if let Some(answer) = ask(&daemon, get_ready) {
            assert_eq!(answer.status, 503, "ready again");
        }
    }
    assert!(
        signalled.elapsed() < Duration::from_secs(3),
        "the streams have ended"
    );
    for (number, stream) in streams.iter_mut().enumerate() {
        let events = stream
            .events()
            .unwrap_or_else(|error| panic!("stream {number}: {error}"));
        assert!(
            events.last().is_some_and(is_end),
            "stream {number} is not whole"
        );
    }
    let status = daemon.process.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        Connection::try_open(daemon.api).is_err(),
        "the port is still open"
    );
}

#[test]
fn an_idle_daemon_ends_at_once() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&simulator);
        let _idle = Connection::open(daemon.api);
        daemon.assert_well();
        daemon.process.signal(signal);
        let status = daemon.process.end(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn a_second_term_ends_it_at_once() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = start(&simulator);
    let body = chat_stream("simo/sim+pace-500x1000");
    let mut stream = Stream::open(daemon.api, "/v1/chat/completions", &body);
    assert!(stream.next_event().is_ok());
    daemon.process.signal(Signal::TERM);
    wait::until("the drain", Duration::from_secs(5), || {
        (daemon.get("/health/ready").status == 503).then_some(())
    });
    assert!(daemon.process.ended().is_none(), "it did not wait");
    daemon.process.signal(Signal::TERM);
    daemon.process.end(Duration::from_secs(2));
    let rest = stream.events().unwrap_or_default();
    assert!(
        !rest.iter().any(is_end),
        "a cut stream was shown as complete"
    );
}

#[test]
fn the_drain_has_its_own_deadline() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("server.drain_timeout", 1);
    let mut daemon = Daemon::with(&config);
    let body = chat_stream("simo/sim+pace-500x1000");
    let mut stream = Stream::open(daemon.api, "/v1/chat/completions", &body);
    assert!(stream.next_event().is_ok());
    let started = Instant::now();
    daemon.terminate(Duration::from_secs(8));
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "it did not wait"
    );
    let rest = stream.events().unwrap_or_default();
    assert!(
        !rest.iter().any(is_end),
        "a cut stream was shown as complete"
    );
}
