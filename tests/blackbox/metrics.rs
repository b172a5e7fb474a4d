//! The metrics: a real Prometheus reads them, and they say what the clients saw.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::config::{Config, Folder};
use crate::common::daemon::{Daemon, chat, chat_stream, message, message_stream};
use crate::common::exposition::Scrape;
use crate::common::http::{self, Connection, request};
use crate::common::process::Process;
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

/// A kind of call: its path, its body, and what is to be seen of it.
struct Kind {
    path: &'static str,
    body: Value,
    status: u16,
    coordinator: Option<&'static str>,
}

fn kinds() -> Vec<Kind> {
    let kind = |path, body, status, coordinator| Kind {
        path,
        body,
        status,
        coordinator,
    };
    let chat_path = "/v1/chat/completions";
    let (chats, embeds) = (Some("ChatCoordinator"), Some("EmbeddingCoordinator"));
    let embedding = json!({"model": "simo/sim", "input": "one"});
    vec![
        kind(chat_path, chat("simo/sim"), 200, chats),
        kind(chat_path, chat_stream("simo/sim+pace-1x5"), 200, chats),
        kind(chat_path, chat("simo/sim+context-length"), 400, chats),
        kind(chat_path, chat("simo/nobody"), 404, chats),
        kind(chat_path, chat("simo/sim+status-500"), 500, chats),
        kind(chat_path, chat("simo/sim+status-429"), 429, chats),
        kind(chat_path, chat("simo/sim+status-401"), 401, chats),
        kind(chat_path, chat("nobody/nothing"), 404, None),
        kind(chat_path, json!({"messages": []}), 400, None),
        kind("/v1/messages", message("sima/sim"), 200, chats),
        kind(
            "/v1/messages",
            message_stream("sima/sim+pace-1x5"),
            200,
            chats,
        ),
        kind("/v1/messages/count_tokens", message("sima/sim"), 200, chats),
        kind("/v1/embeddings", embedding, 200, embeds),
    ]
}

#[test]
fn after_a_thousand_mixed_calls_the_counters_equal_what_the_clients_saw() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr).one_attempt());
    let before = Scrape::of(daemon.ops);
    let kinds = kinds();
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let api = daemon.api;
            let calls: Vec<(Vec<u8>, u16)> = (0..250)
                .map(|number| &kinds[(caller + number) % kinds.len()])
                .map(|kind| {
                    (
                        request(kind.path, "", kind.body.to_string().as_bytes()),
                        kind.status,
                    )
                })
                .collect();
            std::thread::spawn(move || {
                let mut connection = Connection::open(api);
                for (bytes, status) in calls {
                    connection.send(&bytes);
                    let answer = connection.answer();
                    assert_eq!(answer.status, status, "{}", answer.text());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("its calls were answered");
    }
    // A worker has a call in hand until it has written the log line, which is after the answer.
    wait::until("no call is in hand", Duration::from_secs(5), || {
        (Scrape::of(daemon.ops).count("victor_coordinator_in_flight", &[]) == 0).then_some(())
    });
    let after = Scrape::of(daemon.ops);
    let moved = |name: &str, labels: &[(&str, &str)]| {
        after.count(name, labels) - before.count(name, labels)
    };
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let mut coordinators: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for number in 0..1000 {
        let kind = &kinds[(number / 250 + number % 250) % kinds.len()];
        *statuses.entry(kind.status).or_default() += 1;
        if let Some(coordinator) = kind.coordinator {
            let counts = coordinators.entry(coordinator).or_default();
            counts.0 += 1;
            // A fault of the caller's is no error of the coordinator's; 401, 403, 408 and 429 are
            // not the caller's, for a provider said them of a key or a limit that is ours.
            let is_error = matches!(kind.status, 401 | 403 | 408 | 429) || kind.status >= 500;
            counts.1 += u64::from(is_error);
        }
    }
    for (status, expected) in statuses {
        let status = status.to_string();
        let seen = moved("victor_http_requests_total", &[("status", &status)]);
        assert_eq!(seen, expected, "status {status}\n{}", after.text);
    }
    for (coordinator, (executions, errors)) in coordinators {
        let label = [("coordinator", coordinator)];
        for (family, expected) in [
            ("victor_coordinator_executions_total", executions),
            ("victor_coordinator_errors_total", errors),
            ("victor_coordinator_duration_seconds_count", executions),
        ] {
            assert_eq!(moved(family, &label), expected, "{family} {coordinator}");
        }
        assert_eq!(after.count("victor_coordinator_queue_depth", &label), 0);
    }
    let calls = simulator.calls().len() as u64;
    assert_eq!(moved("victor_provider_requests_total", &[]), calls);
}

/// A stream that breaks off was a 200 to its caller and is an error all the same; the caller's own
/// mistake is none.
#[test]
fn what_counts_as_an_error_is_what_was_not_the_callers_doing() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr).one_attempt());
    let errors = || {
        let label = [("coordinator", "ChatCoordinator")];
        Scrape::of(daemon.ops).count("victor_coordinator_errors_total", &label)
    };
    let path = "/v1/chat/completions";
    for (body, status, expected) in [
        (chat_stream("simo/sim+pace-1x5"), 200, 0),
        (chat_stream("simo/sim+pace-1x9+cut-3"), 200, 1),
        (chat_stream("simo/sim+pace-1x9+no-end"), 200, 0),
        (chat("simo/sim+context-length"), 400, 0),
        (chat("simo/sim+status-413"), 413, 0),
        (chat("simo/sim+status-403"), 403, 1),
        (chat("simo/sim+status-408"), 408, 1),
        (chat("simo/sim+status-429"), 429, 1),
        (chat("simo/sim+status-529"), 529, 1),
    ] {
        let before = errors();
        let answer = daemon.post(path, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(errors() - before, expected, "{body}");
    }
}

/// A request that may have reached the provider is never sent again behind the caller's back.
#[test]
fn a_reset_costs_one_request_a_call() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr).one_attempt());
    let path = "/v1/chat/completions";
    // Connections to the provider that are worn in, so that a fresh one is not what makes it so.
    for _ in 0..3 {
        assert_eq!(daemon.post(path, &chat("simo/sim")).status, 200);
    }
    simulator.reset();
    let requests = || Scrape::of(daemon.ops).count("victor_provider_requests_total", &[]);
    let before = requests();
    for body in [chat("simo/sim+reset"), chat_stream("simo/sim+reset")] {
        for _ in 0..5 {
            let answer = daemon.post(path, &body);
            assert_eq!(answer.status, 502, "{}", answer.text());
            // The next call finds a connection that was used before, too.
            assert_eq!(daemon.post(path, &chat("simo/sim")).status, 200);
        }
    }
    assert_eq!(simulator.calls().len(), 20);
    assert_eq!(requests() - before, 20);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let _turn = machine::light();
    let Some(promtool) = machine::tool("promtool") else {
        return machine::skip("promtool", "promtool is not installed");
    };
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for kind in kinds() {
        daemon.post(kind.path, &kind.body);
    }
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let text = Scrape::of(daemon.ops).text;
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let _turn = machine::light();
    let Some(program) = machine::tool("prometheus") else {
        return machine::skip("prometheus", "prometheus is not installed");
    };
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for _ in 0..7 {
        assert_eq!(
            daemon
                .post("/v1/chat/completions", &chat("simo/sim"))
                .status,
            200
        );
    }
    let folder = Folder::new();
    let config = folder.write(
        "prometheus.yml",
        &format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: victor\n    \
             static_configs: [{{targets: ['{}']}}]\n",
            daemon.ops
        ),
    );
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg("--web.listen-address=127.0.0.1:0");
    let prometheus = Process::start("prometheus", &mut command);
    let addr = wait::until("its address", Duration::from_secs(20), || {
        let log = prometheus.stderr();
        let line = log.lines().find(|line| line.contains("Listening on"))?;
        let at = line.find("address=127.0.0.1:")? + "address=".len();
        line[at..].split_whitespace().next()?.parse().ok()
    });
    let query = |text: &str| -> Option<Value> {
        let mut connection = Connection::try_open(addr).ok()?;
        let head = format!("GET /api/v1/query?query={text} HTTP/1.1\r\nhost: p\r\n\r\n");
        connection.try_send(head.as_bytes()).ok()?;
        let answer = connection.try_answer().ok()?;
        let json: Value = serde_json::from_slice(&answer.body).ok()?;
        json["data"]["result"].get(0).cloned()
    };
    wait::until("a scrape that went well", Duration::from_secs(20), || {
        (query("up")?["value"][1] == "1").then_some(())
    });
    let executions = wait::until("the executions", Duration::from_secs(10), || {
        query("sum(victor_coordinator_executions_total)")
    });
    assert_eq!(executions["value"][1], "7", "{executions}");
}

/// Families that have something to measure now.
const FAMILIES: [(&str, &str); 36] = [
    ("victor_coordinator_executions_total", "counter"),
    ("victor_coordinator_errors_total", "counter"),
    ("victor_coordinator_duration_seconds_total", "counter"),
    ("victor_coordinator_memory_bytes", "gauge"),
    ("victor_coordinator_cpu_percent", "gauge"),
    ("victor_coordinator_error_rate", "gauge"),
    ("victor_coordinator_throughput", "gauge"),
    ("victor_coordinator_uptime_seconds", "gauge"),
    ("victor_coordinator_total_executions", "gauge"),
    ("victor_coordinator_active_coordinators", "gauge"),
    ("victor_scrape_timestamp_seconds", "gauge"),
    ("victor_coordinator_duration_seconds", "histogram"),
    (
        "victor_coordinator_time_to_first_token_seconds",
        "histogram",
    ),
    ("victor_coordinator_queue_depth", "gauge"),
    ("victor_coordinator_in_flight", "gauge"),
    ("victor_coordinator_workers", "gauge"),
    ("victor_coordinator_rejected_total", "counter"),
    ("victor_coordinator_up", "gauge"),
    ("victor_provider_requests_total", "counter"),
    ("victor_provider_duration_seconds", "histogram"),
    ("victor_provider_tokens_total", "counter"),
    ("victor_provider_permits_in_use", "gauge"),
    ("victor_provider_permits_waiting", "gauge"),
    ("victor_http_connections", "gauge"),
    ("victor_http_requests_total", "counter"),
    ("victor_log_dropped_total", "counter"),
    ("victor_store_queue_depth", "gauge"),
    ("victor_store_writes_total", "counter"),
    ("victor_store_responses", "gauge"),
    ("victor_store_responses_bytes", "gauge"),
    ("victor_store_evictions_total", "counter"),
    ("victor_build_info", "gauge"),
    ("victor_memory_bytes", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
];

#[test]
fn every_family_has_its_help_its_type_and_a_sample() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set(
        "coordinators.named.Small",
        json!({"max_concurrent": 1, "queue_size": 0}),
    );
    let daemon = Daemon::with(&config);
    for kind in kinds() {
        daemon.post(kind.path, &kind.body);
    }
    // A refusal, so that there is one to count.
    let small = "x-victor-coordinator: Small\r\n";
    let body = chat("simo/sim+latency-10000").to_string();
    let held: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = Connection::open(daemon.api);
            connection.send(&request("/v1/chat/completions", small, body.as_bytes()));
            connection
        })
        .collect();
    wait::until("a refusal", Duration::from_secs(5), || {
        let scrape = Scrape::of(daemon.ops);
        scrape
            .sum(
                "victor_coordinator_rejected_total",
                &[("coordinator", "Small")],
            )
            .filter(|refused| *refused > 0.0)
    });
    drop(held);
    let scrape = Scrape::of(daemon.ops);
    for (family, kind) in FAMILIES {
        assert!(
            scrape.text.contains(&format!("# HELP {family} ")),
            "{family}: no HELP"
        );
        let line = format!("# TYPE {family} {kind}\n");
        assert!(scrape.text.contains(&line), "{family}: not a {kind}");
        let sampled = match kind {
            "histogram" => format!("{family}_bucket"),
            _ => family.to_owned(),
        };
        assert!(scrape.sum(&sampled, &[]).is_some(), "{family}: no sample");
    }
    // Where there was no lookup, there is no rate.
    assert_eq!(scrape.sum("victor_coordinator_cache_hit_rate", &[]), None);
}

#[test]
fn the_api_port_serves_metrics_only_where_that_is_wanted() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    assert_eq!(daemon.get("/metrics").status, 404);
    let config = Config::behind(simulator.addr).set("server.expose_metrics", true);
    let daemon = Daemon::with(&config);
    assert!(
        Scrape::of(daemon.api)
            .sum("victor_build_info", &[])
            .is_some()
    );
}

#[test]
fn the_ops_port_takes_get_and_head_only() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    assert_eq!(http::post(daemon.ops, "/metrics", b"").status, 405);
    assert_eq!(http::post(daemon.ops, "/metrics", b"{}").status, 405);
    let long = vec![b'x'; (16 << 10) + 1];
    assert_eq!(http::post(daemon.ops, "/metrics", &long).status, 413);
    assert_eq!(http::get(daemon.ops, "/nowhere").status, 404);
    let metrics = http::get(daemon.ops, "/metrics");
    let content_type = metrics.header("content-type").unwrap_or_default();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
}
