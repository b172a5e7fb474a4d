//! The four answers as callers see them.

use serde_json::Value;

use super::*;
use crate::metrics::{Cached, Settled, tests::config};

struct Setup {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// Ready, with coordinators `A` and `B` up.
fn setup() -> Setup {
    let config = config();
    let metrics = Metrics::new(&config);
    let health = Health::new(&config, Arc::clone(&metrics), Arc::new(Lifecycle::new()));
    for coordinator in metrics.coordinators() {
        coordinator.up.set(1);
    }
    health.lifecycle().advance(Phase::Ready);
    Setup { metrics, health }
}

impl Setup {
    fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.health.answer(path).expect("a path of health");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    fn settle(&self, coordinator: &str, times: usize, error: bool) {
        for _ in 0..times {
            self.metrics.coordinator(coordinator).settle(&Settled {
                ran: true,
                error,
                duration: Duration::from_millis(10),
                first_event: None,
                streamed: false,
                cached: Cached::Bypass,
            });
        }
    }
}

/// The parts that depend on the machine the tests run on are left out of what is compared.
fn is_of_the_machine(name: &str) -> bool {
    name.starts_with("system.")
}

#[test]
fn other_paths_are_not_answered() {
    let setup = setup();
    for path in ["/", "/healthz", "/health/", "/health/other"] {
        assert!(setup.health.answer(path).is_none(), "{path}");
    }
}

#[test]
fn health_has_the_promised_fields() {
    let (status, body) = setup().get("/health");
    assert_eq!(status, 200);
    let fields = [
        "status",
        "timestamp",
        "version",
        "uptime_seconds",
        "in_flight",
        "queued",
    ];
    for field in fields {
        assert!(!body[field].is_null(), "{field}");
    }
    let components = body["components"].as_object().unwrap();
    let names: Vec<_> = components.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "coordinator.A",
            "coordinator.B",
            "provider.sim",
            "system.cpu",
            "system.disk",
            "system.memory"
        ]
    );
    for (name, component) in components {
        assert_eq!(component["name"], name.as_str());
        for field in [
            "status",
            "message",
            "details",
            "last_check",
            "consecutive_failures",
        ] {
            assert!(!component[field].is_null(), "{name} {field}");
        }
        assert!(component.get("latency_ms").is_some());
        assert!(is_of_the_machine(name) || component["status"] == "healthy");
    }
}

#[test]
fn one_failing_coordinator_degrades_and_all_of_them_are_unhealthy() {
    let setup = setup();
    setup.settle("A", 20, true);
    let (status, body) = setup.get("/health/detailed");
    assert_eq!((status, &body["status"]), (200, &"degraded".into()));
    assert_eq!(body["components"]["coordinator.A"]["status"], "unhealthy");
    setup.settle("B", 20, true);
    let (status, body) = setup.get("/health/detailed");
    assert_eq!((status, &body["status"]), (503, &"unhealthy".into()));
    setup.settle("B", 1, false);
    let (status, body) = setup.get("/health/detailed");
    assert_eq!((status, &body["status"]), (200, &"degraded".into()));
}

#[test]
fn detailed_shows_every_coordinator_and_the_key_metrics() {
    let setup = setup();
    setup.settle("A", 99, false);
    setup.settle("A", 1, true);
    let (_, body) = setup.get("/health/detailed");
    assert_eq!(
        body["monitored_coordinators"],
        serde_json::json!(["A", "B"])
    );
    assert_eq!(body["demo"], true);
    let a = &body["coordinators"][0];
    assert_eq!((&a["executions"], &a["errors"]), (&100.into(), &1.into()));
    assert_eq!(
        (&a["state"], &a["error_rate"]),
        (&"running".into(), &0.01.into())
    );
    let p95 = a["p95_ms"].as_f64().unwrap();
    assert!((p95 / 10.0 - 1.0).abs() < 0.05, "{p95}");
    let b = &body["coordinators"][1];
    for field in ["error_rate", "p50_ms", "p95_ms", "p99_ms", "cache_hit_rate"] {
        assert!(b[field].is_null(), "{field} without samples");
    }
    let key = &body["key_metrics"];
    assert_eq!(key["error_rate"]["state"], "warning");
    assert_eq!(key["error_rate"]["window_seconds"], 300);
    assert_eq!(key["cache_hit_rate"]["state"], "healthy");
    assert!(key["cache_hit_rate"]["value"].is_null());
    assert!(key["memory_bytes"]["value"].as_f64().unwrap() > 0.0);
    assert!(key["cpu_percent"]["value"].is_number());
}

#[test]
fn ready_follows_the_phase_at_once_and_health_with_it() {
    let config = config();
    let metrics = Metrics::new(&config);
    let health = Health::new(&config, Arc::clone(&metrics), Arc::new(Lifecycle::new()));
    let setup = Setup { metrics, health };
    assert_eq!(setup.get("/health/ready").0, 503);
    assert_eq!(setup.get("/health").0, 503);
    for coordinator in setup.metrics.coordinators() {
        coordinator.up.set(1);
    }
    assert!(setup.health.lifecycle().advance(Phase::Ready));
    let (status, body) = setup.get("/health/ready");
    assert_eq!((status, body["status"].as_str()), (200, Some("ready")));
    assert_eq!(body["reasons"], serde_json::json!([]));
    assert_eq!(setup.get("/health").0, 200);
    assert!(setup.health.lifecycle().advance(Phase::Draining));
    let (status, body) = setup.get("/health/ready");
    assert_eq!((status, body["status"].as_str()), (503, Some("not_ready")));
    assert_eq!(setup.get("/health").0, 503);
    assert!(
        !setup.health.lifecycle().advance(Phase::Ready),
        "no way back"
    );
    assert_eq!(setup.get("/health/live").0, 200);
}

#[test]
fn live_names_the_plane_that_is_wedged() {
    let setup = setup();
    setup.health.watch("api", || false);
    let (status, body) = setup.get("/health/live");
    assert_eq!(
        (status, body),
        (200, serde_json::json!({"status": "alive"}))
    );
    setup.health.watch("ops", || true);
    let (status, body) = setup.get("/health/live");
    assert_eq!(status, 503);
    assert_eq!(body["wedged"], serde_json::json!(["ops"]));
}
