//! Adaptive concurrency: a provider that asks for less is given less, and more again once it can.

use std::time::Duration;

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::wait;

const MAX: u64 = 16;

#[test]
fn a_provider_is_given_what_it_can_bear() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .one_attempt()
        .set("providers.simo.adaptive", json!(true))
        .set("providers.simo.max_connections", json!(MAX));
    let daemon = Daemon::with(&config);
    let limit = || {
        let health = daemon.get("/health/detailed").json();
        let details = &health["components"]["provider.simo"]["details"];
        details["adaptive_limit"].as_u64().expect("a limit")
    };
    assert_eq!(limit(), MAX);
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim+status-503"));
    assert_eq!(answer.status, 503);
    let fallen = limit();
    assert!((1..MAX).contains(&fallen), "{fallen}");
    // Calls that fill what it is given, and are answered as fast as ever.
    wait::until("the limit rises", Duration::from_secs(30), || {
        std::thread::scope(|scope| {
            for _ in 0..fallen {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let body = chat("simo/sim+latency-20");
                        let answer = daemon.post("/v1/chat/completions", &body);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                });
            }
        });
        (limit() > fallen).then_some(())
    });
}
