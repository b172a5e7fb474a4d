//! HTTP/1.1 as well-behaved clients speak it: keep-alive, pipelining, HEAD, `Expect`, methods,
//! media types, and bodies in pieces.

use std::time::Duration;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, chat_stream, refused};
use crate::common::http::{Connection, post_with, request};
use crate::common::machine;
use crate::common::simulator::Simulator;

const PATH: &str = "/v1/chat/completions";

#[test]
fn a_connection_serves_call_after_call() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let mut connection = Connection::open(daemon.api);
    for number in 0..50 {
        let body = match number % 3 {
            0 => chat_stream("simo/sim"),
            1 => chat("nobody/nothing"),
            _ => chat("simo/sim"),
        };
        connection.send(&request(PATH, "", body.to_string().as_bytes()));
        let answer = connection.answer();
        let expected = if number % 3 == 1 { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{number}: {}", answer.text());
        assert!(!answer.closes());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let mut bytes = Vec::new();
    for number in 0..20 {
        // The slow ones first, so that answering out of order would show.
        let model = if number < 3 {
            "simo/sim+latency-150"
        } else {
            "simo/sim"
        };
        let id = format!("x-request-id: pipelined-{number}\r\n");
        bytes.extend_from_slice(&request(PATH, &id, chat(model).to_string().as_bytes()));
        bytes.extend_from_slice(
            format!(
                "GET /health/live HTTP/1.1\r\nhost: victor\r\nx-request-id: live-{number}\r\n\r\n"
            )
            .as_bytes(),
        );
    }
    let mut connection = Connection::open(daemon.api);
    connection.send(&bytes);
    for number in 0..20 {
        for kind in ["pipelined", "live"] {
            let answer = connection.answer();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let expected = format!("{kind}-{number}");
            assert_eq!(answer.header("x-request-id"), Some(expected.as_str()));
        }
    }
}

#[test]
fn head_is_get_without_a_body() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for path in ["/health/live", "/v1/models", "/nowhere"] {
        let expected = daemon.get(path);
        let mut connection = Connection::open(daemon.api);
        let line = format!("HEAD {path} HTTP/1.1\r\nhost: victor\r\n\r\n");
        connection.send(line.repeat(2).as_bytes());
        for _ in 0..2 {
            let head = connection.head();
            assert_eq!(head.status, expected.status, "{path}");
            assert!(head.header("content-length").is_some(), "{path}: {head:?}");
        }
    }
}

#[test]
fn a_client_that_asks_is_told_to_go_on() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = chat("simo/sim").to_string();
    let bytes = request(PATH, "Expect: 100-continue\r\n", body.as_bytes());
    let (head, rest) = bytes.split_at(bytes.len() - body.len());
    let mut connection = Connection::open(daemon.api);
    connection.send(head);
    assert_eq!(connection.head().status, 100);
    connection.send(rest);
    assert_eq!(connection.answer().status, 200);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = chat("simo/sim").to_string();
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nhost: victor\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x};note=\"x\"\r\n{body}\r\n0\r\nx-trailer: y\r\n\r\n",
        body.len()
    );
    for bytes in [request(PATH, "", body.as_bytes()), chunked.into_bytes()] {
        let mut connection = Connection::open(daemon.api);
        for byte in bytes {
            connection.send(&[byte]);
        }
        let answer = connection.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for stream in [false, true] {
        let mut call = chat("simo/sim");
        call["stream"] = stream.into();
        let bytes = request(PATH, "", call.to_string().as_bytes());
        let text = String::from_utf8(bytes).expect("ASCII");
        let mut connection = Connection::open(daemon.api);
        connection.send(text.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes());
        let answer = connection.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("transfer-encoding"), None);
        assert_eq!(answer.text().contains("[DONE]"), stream);
        assert!(connection.closed(Duration::from_secs(5)));
    }
}

#[test]
fn what_is_not_served_is_said_in_the_dialect_of_the_path() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let call = |method: &str, path: &str| {
        let mut connection = Connection::open(daemon.api);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: victor\r\ncontent-length: 0\r\n\r\n");
        connection.send(head.as_bytes());
        connection.answer()
    };
    let answer = call("POST", "/nowhere");
    assert_eq!(answer.status, 404);
    assert!(
        answer.json()["error"]["message"].is_string(),
        "{}",
        answer.text()
    );
    for (path, allowed) in [
        (PATH, "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/messages", "POST"),
        ("/v1/messages/count_tokens", "POST"),
        ("/v1/models", "GET"),
        ("/health/live", "GET"),
    ] {
        let answer = call("DELETE", path);
        assert_eq!(answer.status, 405, "{path}");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(allow.contains(allowed), "{path}: {allow:?}");
        let json = answer.json();
        assert!(json["error"]["message"].is_string(), "{path}: {json}");
        if path.starts_with("/v1/messages") {
            assert_eq!(json["type"], "error", "{path}: {json}");
        }
    }
}

#[test]
fn an_encoded_body_is_refused() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = chat("simo/sim").to_string();
    let answer = post_with(
        daemon.api,
        PATH,
        "content-encoding: gzip\r\n",
        body.as_bytes(),
    );
    assert_eq!(answer.status, 415, "{}", answer.text());
    let identity = "content-encoding: identity\r\n";
    assert_eq!(
        post_with(daemon.api, PATH, identity, body.as_bytes()).status,
        200
    );
}

#[test]
fn a_half_sent_head_and_an_idle_connection_are_ended_in_time() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("server.header_timeout", 1)
        .set("server.idle_timeout", 2);
    let daemon = Daemon::with(&config);
    let mut half_sent = Connection::open(daemon.api);
    half_sent.send(b"GET /health HTTP/1.1\r\nhost:");
    let mut idle = Connection::open(daemon.api);
    idle.send(b"GET /health/live HTTP/1.1\r\nhost: victor\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    assert_eq!(half_sent.answer().status, 408);
    assert!(half_sent.closed(Duration::from_secs(10)));
    assert!(
        idle.closed(Duration::from_secs(20)),
        "an idle one ends in silence"
    );
}

#[test]
fn a_taken_port_is_an_error() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let config = Config::behind(simulator.addr).set("server.listen", daemon.api.to_string());
    let output = refused(&config.yaml(daemon.folder.path()));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&daemon.api.to_string()), "{stderr}");
}
