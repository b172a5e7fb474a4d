//! Callers that wait for a stream: a comment at every interval, so that nothing on the way cuts
//! the silence, and whatever fails after that is an error event, never a success.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat_stream, message_stream};
use crate::common::exposition::Scrape;
use crate::common::http::{Connection, request};
use crate::common::simulator::Simulator;
use crate::common::sse::{Event, Stream, has_text, is_end};
use crate::common::{machine, wait};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const COMMENT: &str = ": keep-alive\n\n";

/// A daemon that sends a comment every 0.1 s.
fn daemon(simulator: &Simulator, change: impl FnOnce(Config) -> Config) -> Daemon {
    let config = Config::behind(simulator.addr)
        .set("server.keep_alive_comment", 0.1)
        .set("coordinators.retry.max_attempts", 1);
    Daemon::with(&change(config))
}

fn response_stream(model: &str) -> Value {
    json!({"model": model, "input": "Hello there", "stream": true})
}

/// The whole of a stream: what came, and its events without the comments.
fn read(stream: &mut Stream) -> (String, Vec<Event>) {
    let mut events = stream.events().expect("a body that ends as it should");
    events.retain(|event| !event.data.is_empty());
    (String::from_utf8_lossy(&stream.raw).into_owned(), events)
}

/// Checks that a stream is comments and one error of its endpoint's shape, and gives the message.
fn check_failed(path: &str, stream: &mut Stream) -> String {
    assert_eq!(stream.head.status, 200);
    let (raw, events) = read(stream);
    assert!(raw.starts_with(COMMENT), "{raw}");
    assert!(!events.iter().any(is_end), "shown as complete: {raw}");
    let [event] = events.as_slice() else {
        panic!("{path}: {raw}");
    };
    let json = event.json();
    let (name, message) = match path {
        CHAT => ("", &json["error"]["message"]),
        RESPONSES => ("error", &json["message"]),
        _ => ("error", &json["error"]["message"]),
    };
    assert_eq!(event.name, name, "{raw}");
    if path != CHAT {
        assert_eq!(json["type"], "error", "{raw}");
    }
    message
        .as_str()
        .unwrap_or_else(|| panic!("{raw}"))
        .to_owned()
}

/// With the default of 10 s, and nothing configured.
#[test]
fn a_first_token_after_12_s_follows_a_comment_at_10_s() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).providers("first_token_timeout", 20);
    let daemon = Daemon::with(&config);
    let mut connection = Connection::open(daemon.api);
    let body = chat_stream("simo/sim+first-token-12000").to_string();
    let started = Instant::now();
    connection.send(&request(CHAT, "", body.as_bytes()));
    let mut stream = Stream::of(connection);
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_secs(10) && waited < Duration::from_secs(12),
        "{waited:?}"
    );
    assert_eq!(
        stream.head.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(stream.head.header("cache-control"), Some("no-cache"));
    assert_eq!(
        stream.head.header("x-victor-coordinator"),
        Some("ChatCoordinator")
    );
    let id = stream
        .head
        .header("x-request-id")
        .expect("it is there")
        .to_owned();
    let (raw, events) = read(&mut stream);
    let late =
        format!("{COMMENT}: x-victor-provider: simo\n: x-victor-model: sim+first-token-12000\n");
    assert!(raw.starts_with(&late), "{raw}");
    assert!(
        events.iter().any(has_text) && events.last().is_some_and(is_end),
        "{raw}"
    );
    assert_eq!(raw.matches(COMMENT).count(), 1, "{raw}");
    let line = daemon.log_of(&id);
    assert_eq!(
        (&line["status"], &line["streamed"]),
        (&json!(200), &json!(true)),
        "{line}"
    );
    // The connection can be used again.
    let body = chat_stream("simo/sim").to_string();
    stream.connection.send(&request(CHAT, "", body.as_bytes()));
    let mut next = Stream::of(stream.connection);
    assert_eq!(next.head.header("x-victor-provider"), Some("simo"));
    assert!(read(&mut next).1.last().is_some_and(is_end));
}

#[test]
fn a_stream_goes_on_behind_its_comments_in_every_dialect() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, |config| config);
    for (path, body) in [
        (CHAT, chat_stream("simo/sim+first-token-600")),
        (CHAT, chat_stream("sima/sim+latency-600")),
        (MESSAGES, message_stream("sima/sim+first-token-600")),
        (MESSAGES, message_stream("simo/sim+latency-600")),
        (RESPONSES, response_stream("sima/sim+first-token-600")),
    ] {
        let mut stream = Stream::open(daemon.api, path, &body);
        let (raw, events) = read(&mut stream);
        let comments = raw.matches(COMMENT).count();
        assert!(
            raw.starts_with(COMMENT) && (2..=6).contains(&comments),
            "{path}: {raw}"
        );
        assert!(raw.contains("\n: x-victor-attempts: 1\n"), "{path}: {raw}");
        let last = events.last().expect("there are some");
        assert!(
            is_end(last) || last.name == "response.completed",
            "{path}: {raw}"
        );
    }
}

#[test]
fn a_plain_call_and_a_fast_failure_are_answered_as_ever() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, |config| config);
    let mut plain = chat_stream("simo/sim+latency-500");
    plain["stream"] = false.into();
    let answer = daemon.post(CHAT, &plain);
    assert_eq!(answer.status, 200);
    assert!(answer.json()["choices"][0]["message"]["content"].is_string());
    let config = Config::behind(simulator.addr)
        .set("server.keep_alive_comment", 0)
        .set("coordinators.retry.max_attempts", 1);
    let without = Daemon::with(&config);
    let slow = chat_stream("simo/sim+latency-500+status-503");
    assert_eq!(without.post(CHAT, &slow).status, 503);
}

#[test]
fn what_fails_after_a_comment_is_an_error_event_and_no_success() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, |config| {
        config.providers("first_token_timeout", 1)
    });
    for (path, model, said, status) in [
        // A provider's own error, in its own dialect and in another.
        (CHAT, "simo/sim+latency-400+status-503", "", 503),
        (MESSAGES, "sima/sim+latency-400+status-529", "", 529),
        (MESSAGES, "simo/sim+latency-400+status-429", "", 429),
        (RESPONSES, "sima/sim+latency-400+status-500", "", 500),
        // Ours.
        (
            CHAT,
            "simo/sim+first-token-9000",
            "first_token_timeout",
            504,
        ),
        (
            MESSAGES,
            "sima/sim+first-token-9000",
            "first_token_timeout",
            504,
        ),
        (
            RESPONSES,
            "simo/sim+first-token-9000",
            "first_token_timeout",
            504,
        ),
        (CHAT, "simo/sim+latency-400+reset", "simo", 502),
    ] {
        let body = match path {
            RESPONSES => response_stream(model),
            MESSAGES => message_stream(model),
            _ => chat_stream(model),
        };
        let mut stream = Stream::open(daemon.api, path, &body);
        let message = check_failed(path, &mut stream);
        assert!(
            message.contains(said) && !message.is_empty(),
            "{model}: {message}"
        );
        // The head said 200; what is counted and logged is what the call came to.
        let id = stream.head.header("x-request-id").expect("it is there");
        assert_eq!(daemon.log_of(id)["status"], status, "{model}");
    }
    let counted = Scrape::of(daemon.ops);
    let timed_out = counted.count(
        "victor_http_requests_total",
        &[("route", "chat_completions"), ("status", "504")],
    );
    assert_eq!(timed_out, 1);
}

/// In the queue, where no worker has the call; the front thread itself ends that wait.
#[test]
fn a_call_in_the_queue_is_kept_alive_until_it_expires() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, |config| {
        config
            .set("coordinators.max_concurrent", 1)
            .set("coordinators.timeout_seconds", 1)
    });
    let body = chat_stream("simo/sim+pace-100x40");
    let mut first = Stream::open(daemon.api, CHAT, &body);
    assert!(first.next_event().is_ok_and(|event| event.is_some()));
    for (path, body) in [
        (MESSAGES, message_stream("sima/sim")),
        (RESPONSES, response_stream("simo/sim")),
    ] {
        let mut queued = Stream::open(daemon.api, path, &body);
        let message = check_failed(path, &mut queued);
        assert!(message.contains("no worker"), "{message}");
    }
    assert!(first.events().expect("whole").last().is_some_and(is_end));
}

/// What such a call asks for is known once a worker has looked into it.
#[test]
fn a_call_with_a_large_body_is_kept_alive_by_its_worker() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, |config| {
        config.providers("first_token_timeout", 1)
    });
    for (model, fails) in [
        ("simo/sim+first-token-500", false),
        ("simo/sim+silent", true),
    ] {
        let mut body = chat_stream(model);
        body["messages"][0]["content"] = "x".repeat(300 << 10).into();
        let mut stream = Stream::open(daemon.api, CHAT, &body);
        if fails {
            let message = check_failed(CHAT, &mut stream);
            assert!(message.contains("first_token_timeout"), "{message}");
        } else {
            let (raw, events) = read(&mut stream);
            assert!(raw.starts_with(COMMENT), "{raw}");
            assert!(events.last().is_some_and(is_end), "{raw}");
        }
    }
}

#[test]
fn a_client_that_leaves_between_comments_frees_its_worker() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = daemon(&simulator, |config| {
        config.set("coordinators.max_concurrent", 1)
    });
    for half in [false, true] {
        simulator.reset();
        let mut stream = Stream::open(daemon.api, CHAT, &chat_stream("simo/sim+silent"));
        assert!(stream.next_event().is_ok_and(|event| event.is_some()));
        let gone = Instant::now();
        let _kept = if half {
            stream.connection.half_close();
            Some(stream)
        } else {
            drop(stream);
            None
        };
        wait::until("the provider sees the end", Duration::from_secs(2), || {
            simulator.calls()[0].aborted.then_some(())
        });
        wait::until("the worker is free", Duration::from_secs(2), || {
            (daemon.get("/health").json()["in_flight"] == 0).then_some(())
        });
        assert!(gone.elapsed() < Duration::from_secs(2));
    }
    daemon.assert_well();
}

#[test]
fn a_drain_lets_those_who_wait_have_their_stream_or_tells_them() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = daemon(&simulator, |config| config.set("server.drain_timeout", 3));
    let open = |model: &str| {
        let mut stream = Stream::open(daemon.api, CHAT, &chat_stream(model));
        assert!(stream.next_event().is_ok_and(|event| event.is_some()));
        stream
    };
    let mut answered = open("simo/sim+first-token-1500");
    let mut silent = open("simo/sim+silent");
    daemon.process.signal(Signal::TERM);
    assert!(read(&mut answered).1.last().is_some_and(is_end));
    let message = check_failed(CHAT, &mut silent);
    assert!(message.contains("stopped"), "{message}");
    let status = daemon.process.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");
}
