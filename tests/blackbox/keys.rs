//! Several keys for a provider: one that is refused is retired, one that is limited rests, and a
//! provider's only key is neither.

use std::time::Duration;

use serde_json::json;

use crate::common::caller::{self, Dialect, Heard};
use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::machine;
use crate::common::simulator::Simulator;

/// The key that the simulator refuses.
const BAD: &str = "bad-key";
const GOOD: [&str; 2] = ["sk-upstream-good-one-0001", "sk-upstream-good-two-0002"];

fn ask(daemon: &Daemon, model: &str) -> Heard {
    let body = caller::body(model, false);
    caller::call(daemon.api, Dialect::Openai, &body, Duration::from_secs(10))
}

#[test]
fn a_key_that_is_refused_is_retired_and_nobody_notices() {
    let _turn = machine::light();
    for provider in ["simo", "sima"] {
        let simulator = Simulator::start();
        let keys = json!([BAD, GOOD[0], GOOD[1]]);
        let config = Config::behind(simulator.addr)
            .unset(&format!("providers.{provider}.api_key"))
            .set(&format!("providers.{provider}.api_keys"), keys);
        let mut daemon = Daemon::with(&config);
        for _ in 0..12 {
            let heard = ask(&daemon, &format!("{provider}/sim"));
            assert_eq!(heard.status, 200, "{heard}");
        }
        let calls = simulator.calls();
        let refused = calls.iter().filter(|call| call.status == Some(401));
        assert_eq!(refused.count(), 1, "the bad key was used again");
        // Both others have a part of the work.
        let used: Vec<&str> = calls
            .iter()
            .filter_map(|call| call.header("authorization").or(call.header("x-api-key")))
            .collect();
        for key in GOOD {
            let tail = format!("***{}", &key[key.len() - 4..]);
            assert!(
                used.contains(&tail.as_str()),
                "{key} was never used: {used:?}"
            );
        }
        let health = daemon.get("/health/detailed");
        let detailed = health.json();
        let details = detailed["components"][format!("provider.{provider}")]["details"].to_string();
        assert!(details.contains("retired"), "{details}");
        for key in [BAD, GOOD[0], GOOD[1]] {
            assert!(!health.text().contains(key), "health shows a key");
        }
        daemon.assert_well();
    }
}

#[test]
fn an_only_key_is_tried_again_with_every_call() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("providers.simo.api_key", BAD);
    let daemon = Daemon::with(&config);
    for asked in 1..=3 {
        let heard = ask(&daemon, "simo/sim");
        assert!([401, 502].contains(&heard.status), "{heard}");
        assert!(heard.reason().contains("simo"), "{heard}");
        assert_eq!(simulator.calls().len(), asked, "it is not retried");
    }
}

/// The key is ours, not the caller's: another target may answer.
#[test]
fn a_provider_that_refuses_our_key_is_passed_by() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let targets = json!([
        {"provider": "simo", "model": "sim"},
        {"provider": "sima", "model": "sim"},
    ]);
    let config = Config::behind(simulator.addr)
        .set("providers.simo.api_key", BAD)
        .set("models.best", targets);
    let daemon = Daemon::with(&config);
    let heard = ask(&daemon, "best");
    assert_eq!(heard.status, 200, "{heard}");
    assert_eq!(heard.header("x-victor-provider"), Some("sima"), "{heard}");
    assert_eq!(heard.attempts(), 2, "{heard}");
}

#[test]
fn a_key_that_is_forbidden_is_retired_too() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .unset("providers.simo.api_key")
        .set("providers.simo.api_keys", json!(GOOD));
    let daemon = Daemon::with(&config);
    let heard = ask(&daemon, "simo/sim+status-403-once");
    assert_eq!(heard.status, 200, "{heard}");
    let seen: Vec<_> = simulator.calls().iter().map(|call| call.status).collect();
    assert_eq!(seen, [Some(403), Some(200)]);
    let health = daemon.get("/health/detailed").json();
    let details = health["components"]["provider.simo"]["details"].to_string();
    assert!(details.contains("retired"), "{details}");
}
