//! The limits that an operator meets: connections and open files.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat};
use crate::common::exposition::Scrape;
use crate::common::http::{Connection, get, request};
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

const IDLE: usize = 10_000;
const HALF_SENT: usize = 300;

fn open_connections(daemon: &Daemon) -> u64 {
    Scrape::of(daemon.ops).count("victor_http_connections", &[])
}

#[test]
fn ten_thousand_idle_connections_and_three_hundred_half_sent_heads() {
    let _turn = machine::heavy();
    let files = machine::raise_file_limit();
    if files < (IDLE + HALF_SENT + 200) as u64 {
        return machine::skip("limits", &format!("only {files} files may be open"));
    }
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("server.max_connections", IDLE)
        .set("server.header_timeout", 120)
        .set("server.idle_timeout", 120);
    let mut daemon = Daemon::with(&config);
    daemon.assert_well();
    let threads = daemon.process.threads();
    let mut half_sent: Vec<Connection> = (0..HALF_SENT)
        .map(|_| {
            let mut connection = Connection::open(daemon.api);
            connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: vic");
            connection
        })
        .collect();
    let mut idle: Vec<Connection> = Vec::with_capacity(IDLE);
    while idle.len() < IDLE {
        // In portions, so that the backlog never overflows.
        for _ in 0..500 {
            idle.push(Connection::open(daemon.api));
        }
        let expected = (HALF_SENT + idle.len()).min(IDLE) as u64;
        wait::until("they are accepted", Duration::from_secs(20), || {
            (open_connections(&daemon) >= expected).then_some(())
        });
    }
    let open = open_connections(&daemon);
    assert!(open <= IDLE as u64, "{open} open at a limit of {IDLE}");
    assert_eq!(
        daemon.process.threads(),
        threads,
        "connections cost threads"
    );
    let rss_kib = daemon.process.rss_kib();
    assert!(rss_kib < 100 * 1024, "{rss_kib} KiB resident");
    // Others are served: room is made by those that were idle longest.
    for _ in 0..20 {
        let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(get(daemon.ops, "/health/live").status, 200);
    let newest = idle.last_mut().expect("there are some");
    newest.send(b"GET /health/live HTTP/1.1\r\nhost: victor\r\n\r\n");
    assert_eq!(newest.answer().status, 200, "the newest was evicted");
    assert!(
        idle[0].closed(Duration::from_secs(5)) || half_sent[0].closed(Duration::from_secs(5)),
        "the oldest is still there"
    );
    drop(idle);
    half_sent.clear();
    wait::until("they are gone", Duration::from_secs(20), || {
        (open_connections(&daemon) < 20).then_some(())
    });
    daemon.assert_well();
}

fn raise_or_lower(daemon: &Daemon, files: usize) {
    let status = Command::new("prlimit")
        .args(["--pid", &daemon.process.pid().to_string()])
        .arg(format!("--nofile={files}:"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit");
}

#[test]
fn the_limit_of_open_files_is_reached_and_left_again() {
    let _turn = machine::heavy();
    if machine::tool("prlimit").is_none() {
        return machine::skip("limits", "prlimit is not installed");
    }
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    daemon.assert_well();
    for _ in 0..2 {
        raise_or_lower(&daemon, daemon.process.files() + 20);
        // More than it can hold: some wait in the backlog, some are evicted for others.
        let crowd: Vec<TcpStream> = (0..200)
            .filter_map(|_| TcpStream::connect_timeout(&daemon.api, Duration::from_secs(5)).ok())
            .collect();
        assert!(crowd.len() > 100, "{} connected", crowd.len());
        let body = chat("simo/sim").to_string();
        let bytes = request(
            "/v1/chat/completions",
            "connection: close\r\n",
            body.as_bytes(),
        );
        wait::until(
            "one is served all the same",
            Duration::from_secs(20),
            || {
                let mut connection = Connection::try_open(daemon.api).ok()?;
                connection.try_send(&bytes).ok()?;
                let answer = connection
                    .within(Duration::from_secs(3))
                    .try_answer()
                    .ok()?;
                // Without a file left for it, a call to the provider may fail; the answer is there.
                (answer.status < 600).then_some(())
            },
        );
        assert!(daemon.process.ended().is_none());
        drop(crowd);
        wait::until("all is well again", Duration::from_secs(20), || {
            let mut connection = Connection::try_open(daemon.api).ok()?;
            connection.try_send(&bytes).ok()?;
            let answer = connection
                .within(Duration::from_secs(3))
                .try_answer()
                .ok()?;
            (answer.status == 200).then_some(())
        });
        raise_or_lower(&daemon, 1024);
        daemon.assert_well();
    }
}

/// With few files from the start, `max_connections` is cut to what leaves a reserve.
#[test]
fn a_daemon_with_two_hundred_files_serves() {
    let _turn = machine::heavy();
    if machine::tool("prlimit").is_none() {
        return machine::skip("limits", "prlimit is not installed");
    }
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr);
    let mut daemon = Daemon::wrapped(&["prlimit", "--nofile=200:200"], &config);
    wait::until("a word on max_connections", Duration::from_secs(5), || {
        daemon.log().into_iter().find(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("max_connections")
        })
    });
    let crowd: Vec<Connection> = (0..400)
        .filter_map(|_| Connection::try_open(daemon.api).ok())
        .collect();
    for _ in 0..5 {
        daemon.assert_well();
    }
    assert!(daemon.process.files() <= 200);
    drop(crowd);
    daemon.assert_well();
}

/// Regression: with the standard library's backlog of 128, a burst of connections had its
/// handshakes dropped and waited a second to try again.
#[test]
fn a_burst_of_connections_waits_for_no_second_handshake() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for addr in [daemon.api, simulator.addr] {
        let mut slowest = Duration::ZERO;
        let burst: Vec<Connection> = (0..600)
            .map(|_| {
                let started = Instant::now();
                let mut connection = Connection::open(addr);
                connection.send(b"GET /v1/models HTTP/1.1\r\nhost: victor\r\n\r\n");
                slowest = slowest.max(started.elapsed());
                connection
            })
            .collect();
        assert!(
            slowest < Duration::from_millis(900),
            "{addr}: {slowest:?} to connect"
        );
        for mut connection in burst {
            assert_eq!(connection.answer().status, 200);
        }
    }
}
