//! Hedging: a second target is asked when the first has not begun in time, and the loser is let go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::caller::{self, Dialect, Heard};
use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::simulator::{Call, Simulator};
use crate::common::{machine, wait};

const LIMIT: Duration = Duration::from_secs(10);

fn hedged(first: (&str, &str), next: (&str, &str), share: f64) -> Value {
    json!({
        "targets": [
            {"provider": first.0, "model": first.1},
            {"provider": next.0, "model": next.1},
        ],
        "hedge_after_ms": 100,
        "hedge_share": share,
    })
}

fn calls_of(simulator: &Simulator, model: &str) -> Vec<Call> {
    let mut calls = simulator.calls();
    calls.retain(|call| call.model == model);
    calls
}

#[test]
fn a_slow_first_target_is_overtaken_and_let_go() {
    let _turn = machine::light();
    for (first, next, dialect, stream) in [
        ("simo", "sima", Dialect::Openai, false),
        ("simo", "sima", Dialect::Openai, true),
        ("sima", "simo", Dialect::Anthropic, false),
        ("sima", "simo", Dialect::Anthropic, true),
    ] {
        let simulator = Simulator::start();
        let slow = "sim+latency-3000";
        let route = hedged((first, slow), (next, "sim+pace-1x12"), 1.0);
        let config = Config::behind(simulator.addr).set("models.best", route);
        let mut daemon = Daemon::with(&config);
        let body = caller::body("best", stream);
        let heard = caller::call(daemon.api, dialect, &body, LIMIT);
        assert_eq!((heard.status, heard.words()), (200, 12), "{heard}");
        heard.assert_ended(&heard);
        assert_eq!(heard.header("x-victor-provider"), Some(next), "{heard}");
        assert!(heard.took < Duration::from_secs(1), "{heard}");
        wait::until("the loser is let go", Duration::from_secs(1), || {
            let calls = calls_of(&simulator, slow);
            (calls.len() == 1 && calls[0].aborted).then_some(())
        });
        let scrape = wait::until("no call is in hand", Duration::from_secs(5), || {
            let scrape = Scrape::of(daemon.ops);
            (scrape.count("victor_provider_permits_in_use", &[]) == 0).then_some(scrape)
        });
        assert!(scrape.count("victor_provider_hedges_total", &[]) >= 1);
        // The one that was let go did nothing wrong.
        let lost = [("provider", first), ("outcome", "cancelled")];
        assert_eq!(scrape.count("victor_provider_requests_total", &lost), 1);
        assert_eq!(scrape.count("victor_coordinator_errors_total", &[]), 0);
        let line = daemon.log_of(heard.header("x-request-id").unwrap_or_default());
        let path = line["path"].as_str().unwrap_or_default();
        let both = path.contains(&format!("{first}/{slow}"))
            && path.contains(&format!("{next}/sim+pace-1x12:200"));
        assert!(both, "{line}");
        let health = daemon.get("/health/detailed").json();
        let component = &health["components"][format!("provider.{first}")];
        assert_eq!(component["status"], "healthy", "{component}");
        daemon.assert_well();
    }
}

#[test]
fn a_first_target_in_time_is_not_hedged() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut route = hedged(("simo", "sim"), ("sima", "sim+pace-1x12"), 1.0);
    route["hedge_after_ms"] = 2000.into();
    let config = Config::behind(simulator.addr).set("models.best", route);
    let daemon = Daemon::with(&config);
    for stream in [false, true] {
        let body = caller::body("best", stream);
        let heard = caller::call(daemon.api, Dialect::Openai, &body, LIMIT);
        assert_eq!(heard.header("x-victor-provider"), Some("simo"), "{heard}");
    }
    assert!(calls_of(&simulator, "sim+pace-1x12").is_empty());
}

/// When the hedge fails, the first target's answer is still waited for.
#[test]
fn a_hedge_that_fails_costs_the_call_nothing() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let route = hedged(("simo", "sim+latency-600"), ("sima", "sim+status-503"), 1.0);
    let config = Config::behind(simulator.addr).set("models.best", route);
    let mut daemon = Daemon::with(&config);
    for (dialect, stream) in [(Dialect::Openai, false), (Dialect::Anthropic, true)] {
        let body = caller::body("best", stream);
        let heard = caller::call(daemon.api, dialect, &body, LIMIT);
        assert_eq!(heard.status, 200, "{heard}");
        heard.assert_ended(&heard);
        assert_eq!(heard.header("x-victor-provider"), Some("simo"), "{heard}");
    }
    daemon.assert_well();
}

/// When everything is slow, hedging must not double the load.
#[test]
fn hedges_are_a_share_of_the_calls() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let slow = "sim+latency-300";
    let route = hedged(("simo", slow), ("sima", "sim+latency-301"), 0.2);
    let config = Config::behind(simulator.addr).set("models.best", route);
    let daemon = Daemon::with(&config);
    let heard: Vec<Heard> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let body = caller::body("best", false);
                    let call = || caller::call(daemon.api, Dialect::Openai, &body, LIMIT);
                    [call(), call(), call(), call(), call()]
                })
            })
            .collect();
        let heard = callers.into_iter().map(|caller| caller.join());
        heard
            .flat_map(|heard| heard.expect("it listened"))
            .collect()
    });
    assert!(heard.iter().all(|heard| heard.status == 200));
    assert_eq!(calls_of(&simulator, slow).len(), heard.len());
    let hedges = calls_of(&simulator, "sim+latency-301").len();
    // A fifth of forty, and one for the beginning.
    assert!(hedges <= 9, "{hedges} hedges of {} calls", heard.len());
}
