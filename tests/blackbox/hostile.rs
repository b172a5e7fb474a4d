//! Hostile framing: each case on every port that takes it, the process alive and answering after
//! it, its memory back near where it was. What a well-framed request may hold is in `bodies`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::http::{Answer, Connection, get};
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

const MIB: usize = 1024 * 1024;
/// What the resident memory may have grown by when a case is over: caches of the allocator.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// Runs a case against a fresh daemon, then checks that it is alive, answers on both ports, and
/// has given the memory back.
pub fn check(config: impl FnOnce(Config) -> Config, case: impl FnOnce(&Daemon, &Simulator)) {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::with(&config(Config::behind(simulator.addr)));
    daemon.assert_well();
    let before = daemon.process.rss_kib();
    case(&daemon, &simulator);
    daemon.assert_well();
    let near = wait::within(Duration::from_secs(15), || {
        (daemon.process.rss_kib() < before + GROWTH_KIB_MAX).then_some(())
    });
    assert!(
        near.is_some(),
        "{before} KiB before, {} KiB long after",
        daemon.process.rss_kib()
    );
}

/// Sends pieces until the server has had enough; gives the answer and how much was sent.
fn flood(addr: SocketAddr, start: &[u8], piece: &[u8], most: usize) -> (io::Result<Answer>, usize) {
    let mut connection = Connection::open(addr);
    let mut sent = start.len();
    let mut open = connection.try_send(start).is_ok();
    while open && sent < most {
        open = connection.try_send(piece).is_ok();
        sent += piece.len();
    }
    (connection.try_answer(), sent)
}

fn huge_length(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: victor\r\ncontent-length: 60000000000000\r\n\r\n")
}

#[test]
fn a_length_of_sixty_terabytes_is_answered_on_the_api_port() {
    check(
        |config| config,
        |daemon, _| {
            for path in [
                "/v1/chat/completions",
                "/v1/messages",
                "/health",
                "/nowhere",
            ] {
                let mut connection = Connection::open(daemon.api);
                connection.send(huge_length("POST", path).as_bytes());
                let answer = connection.answer();
                assert_eq!(answer.status, 413, "{path}: {}", answer.text());
                assert!(answer.closes(), "{path}: {answer:?}");
                assert!(connection.closed(Duration::from_secs(5)), "{path}");
            }
        },
    );
}

#[test]
fn a_length_of_sixty_terabytes_is_answered_on_the_ops_port() {
    check(
        |config| config,
        |daemon, _| {
            for (method, path) in [
                ("GET", "/metrics"),
                ("POST", "/metrics"),
                ("GET", "/health/live"),
                ("PUT", "/nowhere"),
                ("HEAD", "/metrics"),
            ] {
                let mut connection = Connection::open(daemon.ops);
                connection.send(huge_length(method, path).as_bytes());
                let head = connection.head();
                assert!(head.status < 600, "{method} {path}: {head:?}");
                assert_eq!(get(daemon.ops, "/health/live").status, 200);
            }
        },
    );
}

#[test]
fn a_length_of_sixty_terabytes_may_go_unanswered_on_every_port() {
    check(
        |config| config,
        |daemon, _| {
            for addr in [daemon.api, daemon.ops] {
                for path in ["/v1/chat/completions", "/metrics", "/health/live"] {
                    for method in ["POST", "GET"] {
                        let mut connection = Connection::open(addr);
                        connection.send(huge_length(method, path).as_bytes());
                        drop(connection);
                        let mut connection = Connection::open(addr);
                        connection.send(huge_length(method, path).as_bytes());
                        connection.send(b"a few bytes of it");
                        connection.half_close();
                        drop(connection);
                    }
                }
                assert_eq!(get(addr, "/health/live").status, 200);
            }
        },
    );
}

#[test]
fn an_endless_header_line_on_the_api_port() {
    check(
        |config| config,
        |daemon, _| {
            let start = b"GET /health HTTP/1.1\r\nhost: victor\r\nx-endless: ";
            let (answer, sent) = flood(daemon.api, start, &[b'a'; 16384], 64 * MIB);
            assert!(sent < 16 * MIB, "{sent} bytes were taken");
            // The answer may be lost to a reset once we have sent past the end of its patience.
            if let Ok(answer) = answer {
                assert_eq!(answer.status, 431);
                assert!(answer.closes());
            }
            let mut connection = Connection::open(daemon.api);
            connection.send(start);
            connection.send(&[b'a'; 40 * 1024]);
            assert_eq!(connection.answer().status, 431);
        },
    );
}

#[test]
fn an_endless_header_line_on_the_ops_port() {
    check(
        |config| config,
        |daemon, _| {
            let start = b"GET /metrics HTTP/1.1\r\nhost: victor\r\nx-endless: ";
            let (_, sent) = flood(daemon.ops, start, &[b'a'; 65536], 256 * MIB);
            assert!(sent < 256 * MIB, "{sent} bytes were taken");
        },
    );
}

#[test]
fn an_endless_request_line_on_every_port() {
    check(
        |config| config,
        |daemon, _| {
            for addr in [daemon.api, daemon.ops] {
                let (answer, sent) = flood(addr, b"GET /", &[b'a'; 65536], 256 * MIB);
                assert!(sent < 256 * MIB, "{addr}: {sent} bytes were taken");
                if let Ok(answer) = answer {
                    assert!(
                        [400, 414, 431].contains(&answer.status),
                        "{addr}: {answer:?}"
                    );
                }
            }
        },
    );
}

#[test]
fn two_hundred_headers() {
    check(
        |config| config,
        |daemon, _| {
            let fields: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
            let head = format!("GET /health/live HTTP/1.1\r\nhost: victor\r\n{fields}\r\n");
            let mut connection = Connection::open(daemon.api);
            connection.send(head.as_bytes());
            let answer = connection.answer();
            assert_eq!(answer.status, 431, "{}", answer.text());
            assert!(connection.closed(Duration::from_secs(5)));
            // The ops port may answer it or refuse it.
            let mut connection = Connection::open(daemon.ops);
            connection.send(head.as_bytes());
            assert!(connection.head().status < 500);
        },
    );
}

#[test]
fn an_endless_chunked_body() {
    check(
        |config| config.set("server.max_body_mb", 1),
        |daemon, simulator| {
            let start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: victor\r\n\
                          transfer-encoding: chunked\r\n\r\n";
            let mut piece = b"4000\r\n".to_vec();
            piece.extend_from_slice(&[b' '; 0x4000]);
            piece.extend_from_slice(b"\r\n");
            simulator.reset();
            let (answer, sent) = flood(daemon.api, start, &piece, 64 * MIB);
            assert!(sent < 16 * MIB, "{sent} bytes were taken");
            if let Ok(answer) = answer {
                assert_eq!(answer.status, 413);
                assert!(answer.closes());
            }
            assert!(simulator.calls().is_empty(), "a provider was asked");
        },
    );
}

#[test]
fn an_endless_body_of_one_byte_chunks() {
    check(
        |config| config.set("server.max_body_mb", 1),
        |daemon, _| {
            let start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: victor\r\n\
                          transfer-encoding: chunked\r\n\r\n";
            let piece = b"1\r\n \r\n".repeat(4096);
            let (_, sent) = flood(daemon.api, start, &piece, 64 * MIB);
            assert!(sent < 32 * MIB, "{sent} bytes were taken");
        },
    );
}

#[test]
fn a_body_over_the_limit_is_refused_unread() {
    check(
        |config| config.set("server.max_body_mb", 1),
        |daemon, _| {
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: victor\r\ncontent-length: {}\r\n",
                MIB + 1
            );
            let mut connection = Connection::open(daemon.api);
            connection.send(format!("{head}\r\n").as_bytes());
            let answer = connection.answer();
            assert_eq!(answer.status, 413, "{}", answer.text());
            assert!(answer.json()["error"]["message"].is_string());
            assert!(connection.closed(Duration::from_secs(5)));
            // A client that asks first is not told to go on.
            let mut connection = Connection::open(daemon.api);
            connection.send(format!("{head}expect: 100-continue\r\n\r\n").as_bytes());
            assert_eq!(connection.head().status, 413);
            // A client that has sent a part of it can still read the answer.
            let mut connection = Connection::open(daemon.api);
            connection.send(format!("{head}\r\n").as_bytes());
            connection.send(&vec![b' '; MIB / 2]);
            assert_eq!(connection.answer().status, 413);
        },
    );
}

/// Sends a byte each half second, which no single read timeout would notice.
fn trickle(addr: SocketAddr, start: &[u8], limit: Duration) -> Answer {
    let mut connection = Connection::open(addr);
    connection.send(start);
    let answered = wait::within(limit, || {
        let over = connection.try_send(b"a").is_err();
        match connection.within(Duration::from_millis(500)).try_head() {
            Ok(head) => Some(Ok(head)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !over => None,
            Err(error) => Some(Err(error)),
        }
    });
    match answered {
        Some(Ok(head)) => {
            // What is left is its body, and then the end.
            connection.rest(Duration::from_secs(5));
            head
        }
        Some(Err(error)) => panic!("no answer: {error}"),
        None => panic!("still open after {limit:?}"),
    }
}

#[test]
fn a_head_that_comes_byte_by_byte() {
    check(
        |config| config.set("server.header_timeout", 2),
        |daemon, _| {
            let start = b"GET /health HTTP/1.1\r\nhost: victor\r\nx-slow: ";
            let head = trickle(daemon.api, start, Duration::from_secs(20));
            assert_eq!(head.status, 408);
            assert!(head.closes(), "{head:?}");
        },
    );
}

#[test]
fn a_body_that_comes_byte_by_byte() {
    check(
        |config| config.set("server.body_timeout", 2),
        |daemon, _| {
            let start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: victor\r\n\
                          content-length: 1000\r\n\r\n";
            let head = trickle(daemon.api, start, Duration::from_secs(20));
            assert_eq!(head.status, 408);
            assert!(head.closes(), "{head:?}");
        },
    );
}

#[test]
fn a_slow_head_on_the_ops_port_stops_nobody() {
    check(
        |config| config,
        |daemon, _| {
            let slow: Vec<Connection> = (0..20)
                .map(|_| {
                    let mut connection = Connection::open(daemon.ops);
                    connection.send(b"GET /metrics HTTP/1.1\r\nhost: vic");
                    connection
                })
                .collect();
            for path in ["/metrics", "/health", "/health/live"] {
                assert_eq!(get(daemon.ops, path).status, 200, "{path}");
            }
            drop(slow);
        },
    );
}

#[test]
fn bytes_that_are_no_http_at_all() {
    check(
        |config| config,
        |daemon, _| {
            let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            let mut noise = [0; 4096];
            for (at, byte) in noise.iter_mut().enumerate() {
                *byte = (at * 167 + at / 7) as u8;
            }
            for addr in [daemon.api, daemon.ops] {
                for bytes in [
                    &tls[..],
                    preface,
                    &noise,
                    b"\0\0\0\0",
                    b"\n\n\n\n",
                    b"\r\n\r\n",
                ] {
                    let mut connection = Connection::open(addr);
                    connection.send(bytes);
                    connection.half_close();
                    let seen = connection.rest(Duration::from_secs(15));
                    assert!(
                        seen.is_empty() || seen.starts_with(b"HTTP/1."),
                        "{bytes:?}: {:?}",
                        String::from_utf8_lossy(&seen)
                    );
                }
            }
        },
    );
}
