//! The health routes, on the API port and on the ops port.

use std::time::Duration;

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat};
use crate::common::http::{Connection, get, request};
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

#[test]
fn both_planes_answer_in_the_promised_shape() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for addr in [daemon.api, daemon.ops] {
        let live = get(addr, "/health/live");
        assert_eq!(
            (live.status, live.json()["status"].as_str()),
            (200, Some("alive"))
        );
        let ready = get(addr, "/health/ready").json();
        assert_eq!(ready["status"], "ready");
        assert_eq!(ready["reasons"].as_array().map(Vec::len), Some(0));
        let health = get(addr, "/health");
        assert_eq!(health.status, 200);
        let health = health.json();
        assert!(["healthy", "degraded"].contains(&health["status"].as_str().unwrap_or_default()));
        for field in ["timestamp", "version"] {
            assert!(health[field].is_string(), "{field}: {health}");
        }
        for field in ["uptime_seconds", "in_flight", "queued"] {
            assert!(health[field].is_number(), "{field}: {health}");
        }
        for name in [
            "coordinator.ChatCoordinator",
            "coordinator.EmbeddingCoordinator",
            "provider.simo",
            "provider.sima",
            "database",
            "system.memory",
            "system.cpu",
            "system.disk",
        ] {
            let component = &health["components"][name];
            assert_eq!(component["name"], name, "{health}");
            for field in ["status", "message", "last_check"] {
                assert!(component[field].is_string(), "{name}.{field}: {component}");
            }
            assert!(component["consecutive_failures"].is_number(), "{component}");
            assert!(component.get("latency_ms").is_some(), "{component}");
            assert!(component.get("details").is_some(), "{component}");
        }
    }
}

#[test]
fn the_detailed_page_counts_and_a_value_without_samples_is_null() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let detailed = daemon.get("/health/detailed").json();
    let key_metrics = &detailed["key_metrics"];
    for name in ["error_rate", "latency_p95_seconds", "cache_hit_rate"] {
        let metric = &key_metrics[name];
        assert!(metric["value"].is_null(), "{name}: {metric}");
        assert_eq!(metric["state"], "healthy", "{name}");
        assert_eq!(metric["window_seconds"], 300, "{name}");
    }
    for name in ["memory_bytes", "cpu_percent"] {
        assert!(
            key_metrics[name]["state"].is_string(),
            "{name}: {key_metrics}"
        );
    }
    let memory = &key_metrics["memory_bytes"];
    assert!(memory["value"].as_f64() > Some(1e6), "{memory}");
    let monitored = detailed["monitored_coordinators"]
        .as_array()
        .expect("a list");
    assert!(monitored.iter().any(|name| name == "ChatCoordinator"));

    for number in 0..10 {
        let model = if number == 0 {
            "simo/sim+reset"
        } else {
            "simo/sim"
        };
        daemon.post("/v1/chat/completions", &chat(model));
    }
    let detailed = daemon.get("/health/detailed").json();
    let chat_row = detailed["coordinators"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["name"] == "ChatCoordinator"))
        .cloned()
        .expect("a row");
    assert_eq!(chat_row["executions"], 10, "{chat_row}");
    assert_eq!(chat_row["errors"], 1, "{chat_row}");
    assert_eq!(chat_row["error_rate"], 0.1, "{chat_row}");
    // A worker has a call in hand until it has written the log line, which is after the answer.
    wait::until("no call is in hand", Duration::from_secs(5), || {
        let health = daemon.get("/health").json();
        (health["queued"] == 0 && health["in_flight"] == 0).then_some(())
    });
    assert!(chat_row["cache_hit_rate"].is_null(), "{chat_row}");
    for field in ["p50_ms", "p95_ms", "p99_ms"] {
        assert!(chat_row[field].is_number(), "{field}: {chat_row}");
    }
    // One call in ten: worse than critical by the runbook's first table, yet never unhealthy.
    assert_eq!(detailed["key_metrics"]["error_rate"]["state"], "critical");
    assert_eq!(daemon.get("/health").status, 200);
}

/// Health used to show the permits as the last scrape of the metrics had found them.
#[test]
fn the_permits_are_those_of_now_without_a_scrape() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("providers.simo.max_connections", json!(1));
    let daemon = Daemon::with(&config);
    let body = chat("simo/sim+latency-60000").to_string();
    let held: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(daemon.api);
            connection.send(&request("/v1/chat/completions", "", body.as_bytes()));
            connection
        })
        .collect();
    let permits = |in_use: u64, waiting: u64| {
        wait::until("the permits", Duration::from_secs(10), || {
            let health = daemon.get("/health").json();
            let details = &health["components"]["provider.simo"]["details"];
            let found = (&details["permits_in_use"], &details["permits_waiting"]);
            (found == (&json!(in_use), &json!(waiting))).then_some(())
        });
    };
    permits(1, 1);
    let text = get(daemon.ops, "/metrics").text();
    assert!(text.contains("victor_provider_permits_waiting{provider=\"simo\"} 1"));
    drop(held);
    permits(0, 0);
}

#[test]
fn health_leaks_no_secret() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    daemon.post("/v1/chat/completions", &chat("simo/sim"));
    for (addr, path) in [
        (daemon.api, "/health/detailed"),
        (daemon.ops, "/health/detailed"),
        (daemon.ops, "/metrics"),
    ] {
        let text = get(addr, path).text();
        assert!(!text.contains("sk-"), "{path}: {text}");
    }
}
