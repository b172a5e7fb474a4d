//! What operators see of calls that survived: metrics, the log, health. And to whom they are
//! charged.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::caller::{self, Dialect, Heard};
use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

const LIMIT: Duration = Duration::from_secs(10);

fn route(first: (&str, &str), next: (&str, &str)) -> Value {
    json!([
        {"provider": first.0, "model": first.1},
        {"provider": next.0, "model": next.1},
    ])
}

fn ask(daemon: &Daemon, dialect: Dialect, stream: bool) -> Heard {
    let body = caller::body("best", stream);
    caller::call(daemon.api, dialect, &body, LIMIT)
}

/// A scrape that holds every call that was answered.
fn settled(daemon: &Daemon) -> Scrape {
    wait::until("no call is in hand", Duration::from_secs(5), || {
        let scrape = Scrape::of(daemon.ops);
        (scrape.count("victor_coordinator_in_flight", &[]) == 0).then_some(scrape)
    })
}

fn log_of(daemon: &Daemon, heard: &Heard) -> Value {
    daemon.log_of(heard.header("x-request-id").unwrap_or_default())
}

/// The details of a provider in `/health/detailed`.
fn details(daemon: &Daemon, provider: &str) -> Value {
    let detailed = daemon.get("/health/detailed").json();
    detailed["components"][format!("provider.{provider}")]["details"].clone()
}

/// Each provider is charged for its own requests, and the tokens to the one that answered.
#[test]
fn accounting_after_failover() {
    let _turn = machine::light();
    for (first, next, caller) in [
        ("simo", "sima", Dialect::Openai),
        ("sima", "simo", Dialect::Anthropic),
    ] {
        let simulator = Simulator::start();
        let targets = route((first, "sim+status-503"), (next, "sim+pace-1x20"));
        let config = Config::behind(simulator.addr).set("models.best", targets);
        let daemon = Daemon::with(&config);
        let heard = ask(&daemon, caller, false);
        assert_eq!((heard.status, heard.words()), (200, 20), "{heard}");
        assert_eq!(heard.header("x-victor-provider"), Some(next), "{heard}");
        assert_eq!(heard.header("x-victor-model"), Some("sim+pace-1x20"));
        let calls = simulator.calls();
        assert_eq!(heard.attempts(), calls.len(), "{heard}");
        let at = |path: &str| calls.iter().filter(|call| call.path == path).count() as u64;
        let (first_path, next_path) = match caller {
            Dialect::Openai => ("/v1/chat/completions", "/v1/messages"),
            Dialect::Anthropic => ("/v1/messages", "/v1/chat/completions"),
        };
        assert_eq!((at(first_path), at(next_path)), (3, 1));
        let scrape = settled(&daemon);
        let count = |name: &str, labels: &[(&str, &str)]| scrape.count(name, labels);
        let requests = "victor_provider_requests_total";
        let (to_first, to_next) = (("provider", first), ("provider", next));
        assert_eq!(count(requests, &[to_first]), 3);
        assert_eq!(count(requests, &[to_first, ("outcome", "server_error")]), 3);
        assert_eq!(count(requests, &[to_next]), 1);
        assert_eq!(count(requests, &[to_next, ("outcome", "ok")]), 1);
        let tokens = "victor_provider_tokens_total";
        assert_eq!(count(tokens, &[to_first]), 0, "charged to the wrong one");
        assert_eq!(count(tokens, &[to_next, ("type", "output")]), 20);
        assert_eq!(count("victor_provider_retries_total", &[to_first]), 2);
        assert_eq!(count("victor_provider_retries_total", &[to_next]), 0);
        assert_eq!(count("victor_provider_failovers_total", &[]), 1);
        assert_eq!(count("victor_provider_failovers_total", &[to_first]), 1);
        // To the caller and its coordinator it was one call, and it went well.
        let executions = "victor_coordinator_executions_total";
        assert_eq!(count(executions, &[]), 1);
        assert_eq!(count("victor_coordinator_errors_total", &[]), 0);
        let line = log_of(&daemon, &heard);
        assert_eq!(
            (&line["provider"], &line["level"]),
            (&json!(next), &json!("INFO"))
        );
        assert_eq!(line["output_tokens"], 20, "{line}");
    }
}

/// One target: what it cost is charged to it, and the call is an error.
#[test]
fn accounting_without_another_target() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let target = json!([{"provider": "simo", "model": "sim+status-500"}]);
    let config = Config::behind(simulator.addr).set("models.best", target);
    let daemon = Daemon::with(&config);
    let heard = ask(&daemon, Dialect::Openai, true);
    let reasons = ["error while processing"];
    heard.assert_refused(Dialect::Openai, &[500], &reasons, &heard);
    assert_eq!(heard.attempts(), 3, "{heard}");
    assert_eq!(simulator.calls().len(), 3);
    let scrape = settled(&daemon);
    let simo = ("provider", "simo");
    for (name, labels, expected) in [
        ("victor_provider_requests_total", &[simo][..], 3),
        ("victor_provider_retries_total", &[simo], 2),
        ("victor_provider_tokens_total", &[simo], 0),
        ("victor_provider_failovers_total", &[], 0),
        ("victor_coordinator_executions_total", &[], 1),
        ("victor_coordinator_errors_total", &[], 1),
    ] {
        assert_eq!(scrape.count(name, labels), expected, "{name}");
    }
    let line = log_of(&daemon, &heard);
    assert_eq!(
        (&line["attempts"], &line["status"]),
        (&json!(3), &json!(500))
    );
}

/// The way that a call took, from its line at `info` and from one line an attempt at `debug`.
#[test]
fn the_log_has_the_path_of_a_call_and_a_line_an_attempt() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let targets = route(("simo", "sim+status-503"), ("sima", "sim"));
    let config = Config::behind(simulator.addr)
        .set("models.best", targets)
        .set("logging.level", "debug");
    let daemon = Daemon::with(&config);
    for (dialect, stream) in [(Dialect::Openai, false), (Dialect::Anthropic, true)] {
        let heard = ask(&daemon, dialect, stream);
        assert_eq!(heard.status, 200, "{heard}");
        let line = log_of(&daemon, &heard);
        assert_eq!(line["attempts"], heard.attempts(), "{line}");
        let path = line["path"].as_str().unwrap_or_default();
        let (failed, answered) = ("simo/sim+status-503:503", "sima/sim:200");
        assert!(path.ends_with(answered), "{line}");
        // The breaker opens in the second call.
        assert!(path.starts_with(failed), "{line}");
        let id = heard.header("x-request-id").unwrap_or_default();
        let attempts = wait::within(Duration::from_secs(5), || {
            let lines = daemon.log();
            let ours = lines.iter().filter(|line| {
                line["request_id"] == id && line["level"] == "DEBUG" && line["provider"].is_string()
            });
            (ours.count() == heard.attempts()).then_some(())
        });
        assert!(attempts.is_some(), "a line an attempt at debug: {heard}");
    }
}

/// The breaker that opens is seen by metrics and health, and calls pass the provider by.
#[test]
fn an_open_breaker_is_seen_and_passed_by() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let targets = route(("simo", "sim+status-503"), ("sima", "sim"));
    let config = Config::behind(simulator.addr).set("models.best", targets);
    let mut daemon = Daemon::with(&config);
    let state = |daemon: &Daemon, model: &str| {
        let labels = [("provider", "simo"), ("model", model)];
        Scrape::of(daemon.ops).sum("victor_provider_breaker_state", &labels)
    };
    assert_eq!(ask(&daemon, Dialect::Openai, false).status, 200);
    assert_eq!(
        state(&daemon, "sim+status-503"),
        Some(0.0),
        "it opened early"
    );
    // Five failures: three of the first call, two of this one.
    assert_eq!(ask(&daemon, Dialect::Openai, false).status, 200);
    assert_eq!(state(&daemon, "sim+status-503"), Some(2.0));
    let details = details(&daemon, "simo").to_string();
    assert!(
        details.contains("open") && details.contains("sim+status-503"),
        "{details}"
    );
    let before = simulator.calls().len();
    for stream in [false, true] {
        let heard = ask(&daemon, Dialect::Anthropic, stream);
        assert_eq!((heard.status, heard.attempts()), (200, 1), "{heard}");
        assert!(heard.took < Duration::from_secs(1), "{heard}");
    }
    assert_eq!(simulator.calls().len(), before + 2);
    // Another model of the same provider has a breaker of its own.
    daemon.assert_well();
}

/// The caller's faults and the limits of a provider say nothing about its health.
#[test]
fn a_breaker_does_not_count_what_is_not_the_providers_fault() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for behaviour in ["context-length", "content-filter", "status-404"] {
        for _ in 0..7 {
            let body = caller::body(&format!("simo/sim+{behaviour}"), false);
            let heard = caller::call(daemon.api, Dialect::Openai, &body, LIMIT);
            assert!((400..500).contains(&heard.status), "{heard}");
        }
    }
    let scrape = settled(&daemon);
    let open = scrape.sum("victor_provider_breaker_state", &[("provider", "simo")]);
    assert!(open.unwrap_or(0.0) < 0.5, "{open:?}");
    assert_eq!(simulator.calls().len(), 21, "asked more than once a call");
}

/// A 429 is counted as theirs, and a stream that is cut as an error of the one that cut it.
#[test]
fn limits_and_broken_streams_are_counted() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let targets = route(("simo", "sim+status-429"), ("sima", "sim+pace-1x60+cut-40"));
    let config = Config::behind(simulator.addr).set("models.best", targets);
    let daemon = Daemon::with(&config);
    let heard = ask(&daemon, Dialect::Anthropic, true);
    assert!(heard.error.is_some() && heard.words() == 40, "{heard}");
    let scrape = settled(&daemon);
    let count = |name: &str, labels: &[(&str, &str)]| scrape.count(name, labels);
    let theirs = [("provider", "simo"), ("by", "them")];
    assert_eq!(count("victor_provider_rate_limited_total", &theirs), 1);
    let ours = [("by", "us")];
    assert_eq!(count("victor_provider_rate_limited_total", &ours), 0);
    let cut = [("provider", "sima"), ("outcome", "cut")];
    assert_eq!(count("victor_provider_requests_total", &cut), 1);
    assert_eq!(count("victor_coordinator_errors_total", &[]), 1);
    let line = log_of(&daemon, &heard);
    assert_eq!(line["error_type"], "provider_cut", "{line}");
    assert_eq!(line["attempts"], 2, "{line}");
}

/// An event that was left out is counted somewhere: loss is never silent.
#[test]
fn an_event_that_was_left_out_is_counted() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = caller::body("simo/sim+pace-1x60+malformed-10", true);
    let heard = caller::call(daemon.api, Dialect::Openai, &body, LIMIT);
    assert!(heard.error.is_none() && heard.words() == 59, "{heard}");
    let scrape = settled(&daemon);
    let named = scrape.samples.iter().filter(|sample| {
        let labels = format!("{:?}", sample.labels);
        sample.name.contains("malformed") || labels.contains("malformed")
    });
    let counted: f64 = named.map(|sample| sample.value).sum();
    assert!(counted >= 1.0, "no metric counts it");
}
