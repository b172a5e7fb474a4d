//! The metrics as a whole: what is shown, that it adds up, and that Prometheus' own checker finds
//! no fault.

use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::process::{Command, Stdio};

use super::*;
use crate::config::checked;

/// A configuration with one provider, `sim`, and coordinators `A` and `B`.
pub(crate) fn config() -> CheckedConfig {
    let some = |n| NonZeroUsize::new(n).unwrap();
    let seconds = Duration::from_secs;
    let coordinator = |name: &str| checked::Coordinator {
        name: name.to_owned(),
        max_concurrent: some(2),
        queue_size: 4,
        timeout: seconds(120),
        history_limit: 10,
        retry: checked::Retry {
            max_attempts: NonZeroU32::MIN,
            backoff: seconds(1),
            exponential_backoff: true,
        },
        default_model: None,
        strict: false,
        cache_ttl: None,
        cache_sampled: true,
    };
    let provider = checked::Provider {
        name: "sim".to_owned(),
        kind: checked::Kind::Simulator,
        base_url: String::new(),
        api_keys: Vec::new(),
        key_header: checked::KeyHeader::Bearer,
        models: vec!["m".to_owned()],
        timeout: seconds(30),
        connect_timeout: seconds(5),
        first_token_timeout: seconds(10),
        idle_timeout: seconds(15),
        max_connections: some(10),
        adaptive: false,
        keepalive: true,
        rate_limit: None,
        batching: None,
        prices: BTreeMap::new(),
        breaker: checked::Breaker {
            failures: NonZeroU32::MIN,
            window: seconds(30),
            open_for: seconds(15),
        },
        ca_file: None,
        proxy: None,
        speech: checked::Speech::of(checked::Kind::Openai, false),
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    CheckedConfig {
        server: checked::Server {
            listen,
            max_connections: some(100),
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(75),
            write_timeout: seconds(30),
            max_body_bytes: 1 << 20,
            drain_timeout: seconds(30),
            keep_alive_comment: seconds(10),
            expose_metrics: false,
        },
        ops: checked::Ops { listen },
        admin: checked::Admin {
            socket: "/tmp/none.sock".into(),
        },
        state_dir: "/".into(),
        auth: checked::Auth { keys: Vec::new() },
        providers: BTreeMap::from([("sim".to_owned(), provider)]),
        models: BTreeMap::new(),
        cache: checked::Cache {
            enabled: false,
            max_size_bytes: 1,
            default_ttl: seconds(1),
            warm_on_startup: false,
            warm_items: 0,
            eviction_policy: checked::EvictionPolicy::Lru,
            enable_coalescing: false,
            coalescing_window: seconds(0),
            snapshot_interval: Duration::from_secs(60),
            shared_between_keys: false,
            redis: None,
        },
        coordinators: ["A", "B"]
            .map(|name| (name.to_owned(), coordinator(name)))
            .into(),
        database: checked::Database {
            path: "/tmp/none.db".into(),
            log_queries: false,
            responses_ttl: seconds(1),
            responses_max_bytes: 1 << 20,
        },
        metrics: checked::Metrics {
            sample_rate: 1.0,
            aggregate_histograms: false,
        },
        logging: checked::Logging {
            level: log::LevelFilter::Info,
            format: checked::LogFormat::Json,
            file: None,
        },
        warnings: Vec::new(),
        demo: true,
    }
}

fn settled(error: bool, ms: u64) -> Settled {
    Settled {
        ran: true,
        error,
        duration: Duration::from_millis(ms),
        first_event: None,
        streamed: false,
        cached: Cached::Bypass,
    }
}

/// The value of the line that begins with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    let prefix = format!("{series} ");
    let line = text.lines().find(|line| line.starts_with(&prefix))?;
    line[prefix.len()..].parse().ok()
}

/// Moves something in every family.
fn busy() -> Arc<Metrics> {
    let metrics = Metrics::new(&config());
    let a = metrics.coordinator("A");
    a.up.set(1);
    a.workers.set(2);
    a.settle(&settled(false, 10));
    a.settle(&settled(true, 20));
    a.settle(&Settled {
        first_event: Some(Duration::from_millis(7)),
        streamed: true,
        cached: Cached::Bypass,
        ..settled(false, 3000)
    });
    a.reject(Rejection::QueueFull);
    let accounted = Accounted::new(&a);
    accounted.add(1000);
    let model = metrics.provider("sim", "m");
    model.settle(Outcome::Ok, Duration::from_millis(5));
    model.settle(Outcome::RateLimited, Duration::from_millis(1));
    model.tokens(Token::Input, 12);
    metrics.http(Route::ChatCompletions, 200);
    metrics.http(Route::Refused, 299);
    metrics.event(Event::ConfigLoaded);
    metrics.shared_cache().settle(
        SharedOperation::Put,
        SharedOutcome::Ok,
        Some(Duration::from_millis(1)),
    );
    metrics.account("connections", Box::new(|| 5));
    metrics.collect(Box::new(|collector| {
        collector.gauge("victor_http_connections", "Open connections.", &[], 3.0);
        collector.counter("victor_log_dropped_total", "Log lines dropped.", &[], 0.0);
    }));
    metrics
}

#[test]
fn what_moved_is_shown() {
    let text = busy().render();
    let check = |series: &str, expected: f64| {
        let got = value(&text, series);
        assert_eq!(got, Some(expected), "{series} in\n{text}");
    };
    check(
        "victor_coordinator_executions_total{coordinator=\"A\"}",
        3.0,
    );
    check(
        "victor_coordinator_executions_total{coordinator=\"B\"}",
        0.0,
    );
    check("victor_coordinator_errors_total{coordinator=\"A\"}", 1.0);
    check(
        "victor_coordinator_duration_seconds_total{coordinator=\"A\"}",
        3.03,
    );
    check(
        "victor_coordinator_duration_seconds_count{coordinator=\"A\"}",
        3.0,
    );
    check(
        "victor_coordinator_time_to_first_token_seconds_sum{coordinator=\"A\"}",
        0.007,
    );
    check(
        "victor_coordinator_rejected_total{coordinator=\"A\",reason=\"queue_full\"}",
        1.0,
    );
    check("victor_coordinator_total_executions", 3.0);
    check("victor_coordinator_active_coordinators", 1.0);
    check("victor_coordinator_throughput", 3.0);
    check("victor_coordinator_memory_bytes{coordinator=\"A\"}", 0.0);
    check(
        "victor_provider_requests_total{provider=\"sim\",model=\"m\",outcome=\"ok\"}",
        1.0,
    );
    check(
        "victor_provider_rate_limited_total{provider=\"sim\",by=\"them\"}",
        1.0,
    );
    check(
        "victor_provider_tokens_total{provider=\"sim\",model=\"m\",type=\"input\"}",
        12.0,
    );
    check("victor_provider_permits_max{provider=\"sim\"}", 10.0);
    check(
        "victor_http_requests_total{route=\"chat_completions\",status=\"200\"}",
        1.0,
    );
    check(
        "victor_http_requests_total{route=\"refused\",status=\"other\"}",
        1.0,
    );
    check(
        "victor_analytics_events_total{event=\"config_loaded\"}",
        1.0,
    );
    check("victor_http_connections", 3.0);
    let rate = value(&text, "victor_coordinator_error_rate").unwrap();
    assert!((rate - 1.0 / 3.0).abs() < 1e-9);
    assert!(!text.contains("cache_hit_rate"), "nothing was looked up");
}

#[test]
fn a_rate_without_executions_is_absent_and_throughput_is_zero() {
    let text = Metrics::new(&config()).render();
    assert_eq!(value(&text, "victor_coordinator_error_rate"), None);
    assert_eq!(value(&text, "victor_coordinator_throughput"), Some(0.0));
    assert!(value(&text, "victor_coordinator_cpu_percent{coordinator=\"A\"}").is_some());
}

#[test]
fn memory_adds_up_to_the_resident_size() {
    let metrics = busy();
    let accounted = Accounted::new(&metrics.coordinator("B"));
    accounted.add(4096);
    let text = metrics.render();
    let of = |family: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(family));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let sum = of("victor_memory_bytes{") + of("victor_coordinator_memory_bytes{");
    let resident = value(&text, "process_resident_memory_bytes").unwrap();
    assert!((sum - resident).abs() < 0.5, "{sum} of {resident}");
    drop(accounted);
    assert_eq!(metrics.coordinator("B").accounted_bytes.get(), 0);
}

#[test]
fn histograms_can_be_aggregated_and_thinned_but_counters_cannot() {
    let mut config = config();
    config.metrics.aggregate_histograms = true;
    config.metrics.sample_rate = 0.0;
    let metrics = Metrics::new(&config);
    metrics.coordinator("A").settle(&settled(false, 1));
    metrics.coordinator("B").settle(&settled(false, 1));
    let text = metrics.render();
    assert_eq!(
        value(&text, "victor_coordinator_duration_seconds_count"),
        Some(0.0)
    );
    assert_eq!(
        value(&text, "victor_coordinator_total_executions"),
        Some(2.0)
    );
    assert!(!text.contains("duration_seconds_count{coordinator"));
    assert_eq!(metrics.view().count, 2);
}

#[test]
fn a_model_is_other_until_it_is_admitted_and_admission_is_bounded() {
    let metrics = Metrics::new(&config());
    metrics
        .provider("sim", "free text")
        .settle(Outcome::CallerFault, Duration::ZERO);
    assert!(!metrics.render().contains("free text"));
    for n in 0..100 {
        let name = format!("model-{n}");
        metrics.admit_model("sim", &name);
        metrics
            .provider("sim", &name)
            .settle(Outcome::Ok, Duration::ZERO);
    }
    let text = metrics.render();
    let series = "victor_provider_requests_total{provider=\"sim\",model=";
    assert_eq!(
        value(&text, &format!("{series}\"model-0\",outcome=\"ok\"}}")),
        Some(1.0)
    );
    let models = text.lines().filter(|line| line.starts_with(series)).count();
    // Those admitted, and `other` with its two outcomes.
    assert_eq!(models, MODELS_MAX + 2);
    assert_eq!(metrics.providers()[0].view().count, 101);
}

#[test]
fn latency_is_to_the_first_event_of_a_stream() {
    let metrics = Metrics::new(&config());
    let a = metrics.coordinator("A");
    a.settle(&Settled {
        first_event: Some(Duration::from_millis(100)),
        streamed: true,
        cached: Cached::Bypass,
        ..settled(false, 60_000)
    });
    let p95 = a.view().quantile(0.95).unwrap().as_secs_f64();
    assert!((p95 / 0.1 - 1.0).abs() < 0.05, "{p95}");
}

#[test]
fn the_provider_is_not_blamed_for_callers_and_aborts() {
    let metrics = Metrics::new(&config());
    let model = metrics.provider("sim", "m");
    for outcome in [
        Outcome::CallerFault,
        Outcome::Cancelled,
        Outcome::RateLimited,
    ] {
        model.settle(outcome, Duration::ZERO);
    }
    assert_eq!(model.shared().view().error_rate(), Some(0.0));
    assert_eq!(model.shared().rate_limited_view().error_rate(), Some(0.5));
    model.settle(Outcome::Cut, Duration::ZERO);
    assert_eq!(model.shared().consecutive_failures(), 1);
    assert_eq!(model.shared().view().error_rate(), Some(0.5));
}

#[test]
fn promtool_finds_no_fault() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return; // Not installed here; nothing to compare with.
    };
    let text = busy().render();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.is_empty() && output.status.success(), "{said}");
}
