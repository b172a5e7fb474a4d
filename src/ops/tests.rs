//! The ops plane over real sockets, with what tiny_http would not survive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

fn start(metrics: impl Fn() -> String + Send + Sync + 'static) -> Ops {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sources = Sources {
        metrics: Box::new(metrics),
        health: Box::new(|path| {
            (path == "/health").then(|| (503, b"{\"status\":\"unhealthy\"}".to_vec()))
        }),
    };
    Ops::start(listener, sources, &std::env::temp_dir()).unwrap()
}

/// Sends `request` and reads until the other end closes.
fn send(ops: &Ops, request: &str) -> String {
    let mut stream = TcpStream::connect(ops.local_addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(ops: &Ops, target: &str) -> String {
    send(
        ops,
        &format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn pages_come_through_the_gate_whole() {
    let ops = start(|| "up 1\n".repeat(50_000));
    let answer = get(&ops, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "up 1\n".repeat(50_000));
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert!(!head.to_ascii_lowercase().contains("tiny"), "{head}");
    assert_eq!(status(&get(&ops, "/health")), "503");
    assert_eq!(status(&get(&ops, "/healthy")), "404");
    assert_eq!(status(&get(&ops, "/")), "200");
    let head = send(
        &ops,
        "HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    assert!(head.contains("content-length: 250000") && head.ends_with("\r\n\r\n"));
    ops.stop();
}

#[test]
fn what_would_end_tiny_http_is_refused_before_it() {
    let ops = start(|| "up 1\n".to_owned());
    let check = |request: &str, expected: &str| {
        assert_eq!(status(&send(&ops, request)), expected, "{request:.60}");
        assert_eq!(status(&get(&ops, "/metrics")), "200", "after {request:.60}");
    };
    let head = "HTTP/1.1\r\nhost: x\r\n";
    check(
        &format!("GET /metrics {head}content-length: 60000000000000\r\n\r\n"),
        "413",
    );
    check(
        &format!("POST /metrics {head}content-length: 60000000000000\r\n\r\n"),
        "413",
    );
    check(
        &format!("GET / {head}transfer-encoding: chunked\r\n\r\nffffffff\r\nx"),
        "413",
    );
    check(
        &format!("POST /metrics {head}connection: close\r\n\r\n"),
        "405",
    );
    check(&format!("GET / {head}x: {}", "a".repeat(9 << 10)), "431");
    check(
        "GET /\u{e4} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "400",
    );
    ops.stop();
}

#[test]
fn a_source_that_panics_is_a_500_and_the_next_one_is_served() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let ops = start(move || {
        assert!(!is_broken.load(Ordering::Relaxed), "on purpose");
        "up 1\n".to_owned()
    });
    assert_eq!(status(&get(&ops, "/metrics")), "500");
    broken.store(false, Ordering::Relaxed);
    assert_eq!(status(&get(&ops, "/metrics")), "200");
    ops.stop();
}

#[test]
fn a_dead_server_is_built_anew() {
    let ops = start(|| "up 1\n".to_owned());
    assert_eq!(status(&get(&ops, "/metrics")), "200");
    let path = ops.backend.path().unwrap();
    // The gate finds no socket to connect to, as after the accept loop's end.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(status(&get(&ops, "/metrics")), "503");
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(&get(&ops, "/metrics")) != "200" {
        assert!(Instant::now() < deadline, "not built anew");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(ops.backend.path().unwrap(), path);
    ops.stop();
}
