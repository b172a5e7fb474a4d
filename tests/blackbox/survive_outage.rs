//! A provider that is down for a while and comes back, under steady calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::caller::{self, Dialect, Heard};
use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::simulator::{Call, Simulator};
use crate::common::{machine, wait};

/// For so long the provider answers 503.
const DOWN: Duration = Duration::from_secs(6);
/// By then it has calls again. A breaker may stay open for longer each time that a probe fails.
const BACK: Duration = Duration::from_secs(14);

/// A route and who calls it.
struct Steady {
    caller: Dialect,
    route: &'static str,
    primary: (&'static str, &'static str),
}

const STEADY: [Steady; 2] = [
    Steady {
        caller: Dialect::Openai,
        route: "to-simo",
        primary: ("simo", "sim+flap-6+latency-1"),
    },
    Steady {
        caller: Dialect::Anthropic,
        route: "to-sima",
        primary: ("sima", "sim+flap-6+latency-2"),
    },
];

fn breaker(daemon: &Daemon, primary: (&str, &str)) -> Option<f64> {
    let labels = [("provider", primary.0), ("model", primary.1)];
    Scrape::of(daemon.ops).sum("victor_provider_breaker_state", &labels)
}

/// Calls without a break until the primary has answered and `done` is set.
fn call_steadily(daemon: &Daemon, steady: &Steady, stream: bool, done: &AtomicBool) -> Vec<Heard> {
    let body = caller::body(steady.route, stream);
    let started = Instant::now();
    let mut all = Vec::new();
    while started.elapsed() < BACK && !done.load(Ordering::Relaxed) {
        let limit = Duration::from_secs(10);
        let heard = caller::call(daemon.api, steady.caller, &body, limit);
        let by_primary = heard.header("x-victor-provider") == Some(steady.primary.0);
        if by_primary && started.elapsed() > DOWN {
            done.store(true, Ordering::Relaxed);
        }
        all.push(heard);
    }
    all
}

/// Every call is answered, the dead provider is left alone but for a probe now and then, and it
/// has its calls back soon after it can answer them.
#[test]
fn a_primary_that_comes_back_gets_its_calls_again() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let route = |primary: (&str, &str), next: &str| {
        json!([
            {"provider": primary.0, "model": primary.1},
            // The pause paces the callers.
            {"provider": next, "model": "sim+latency-50"},
        ])
    };
    let config = Config::behind(simulator.addr)
        .providers("breaker.open_for", 1)
        .set("models.to-simo", route(STEADY[0].primary, "sima"))
        .set("models.to-sima", route(STEADY[1].primary, "simo"));
    let mut daemon = Daemon::with(&config);
    std::thread::scope(|scope| {
        for steady in &STEADY {
            let (daemon, simulator) = (&daemon, &simulator);
            scope.spawn(move || {
                let done = AtomicBool::new(false);
                let heard: Vec<Heard> = std::thread::scope(|scope| {
                    let callers = [false, true].map(|stream| {
                        let done = &done;
                        scope.spawn(move || call_steadily(daemon, steady, stream, done))
                    });
                    let opened = wait::within(DOWN, || {
                        (breaker(daemon, steady.primary) == Some(2.0)).then_some(())
                    });
                    assert!(
                        opened.is_some(),
                        "{}: the breaker stayed closed",
                        steady.route
                    );
                    let heard = callers.map(|caller| caller.join().expect("it listened"));
                    heard.into_iter().flatten().collect()
                });
                assert!(heard.len() > 20, "{}: {} calls", steady.route, heard.len());
                for heard in &heard {
                    assert_eq!(heard.status, 200, "{heard}");
                    heard.assert_ended(heard);
                    assert!(heard.error.is_none() && heard.broken.is_none(), "{heard}");
                }
                assert!(
                    done.load(Ordering::Relaxed),
                    "{}: no call came back to the primary",
                    steady.route
                );
                check_calls_at(simulator, steady.primary.1);
                assert_eq!(breaker(daemon, steady.primary), Some(0.0));
            });
        }
    });
    daemon.assert_well();
}

/// Five failures open the breaker, calls that were on their way go on, and then there is a probe
/// for each second that it was open.
fn check_calls_at(simulator: &Simulator, model: &str) {
    let mut calls: Vec<Call> = simulator.calls();
    calls.retain(|call| call.model == model);
    let down = calls.iter().filter(|call| call.status == Some(503)).count();
    assert!((5..=20).contains(&down), "{down} calls while it was down");
    let up = calls.iter().find(|call| call.status == Some(200));
    let up = up.unwrap_or_else(|| panic!("no call after it came back: {calls:?}"));
    let after = up.at.saturating_sub(calls[0].at);
    assert!(after < BACK, "the first call after {after:?}");
}

/// Without another target each call hears soon that it cannot be served, until it can.
#[test]
fn an_only_provider_that_comes_back_is_asked_again() {
    let _turn = machine::light();
    for (dialect, stream) in [(Dialect::Openai, false), (Dialect::Anthropic, true)] {
        let simulator = Simulator::start();
        let target = json!([{"provider": "simo", "model": "sim+flap-3"}]);
        let config = Config::behind(simulator.addr)
            .providers("breaker.open_for", 1)
            .set("models.best", target);
        let mut daemon = Daemon::with(&config);
        let body = caller::body("best", stream);
        wait::until("it is served again", BACK, || {
            let limit = Duration::from_secs(12);
            let heard = caller::call(daemon.api, dialect, &body, limit);
            assert!(heard.took < Duration::from_secs(9), "{heard}");
            if heard.status == 200 {
                heard.assert_ended(&heard);
                return Some(());
            }
            // The provider's own reason, or the breaker's, which names the provider.
            heard.assert_refused(dialect, &[503], &["overloaded", "simo"], &heard);
            None
        });
        let calls = simulator.calls();
        let down = calls.iter().filter(|call| call.status == Some(503)).count();
        assert!((1..=15).contains(&down), "{down} calls while it was down");
        daemon.assert_well();
    }
}
