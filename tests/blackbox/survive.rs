//! Faults of the preferred target that show before the answer begins, with another target that can
//! answer: the caller does not notice. Streams that break later are in `survive_stream`, routes
//! without another target in `survive_alone`.

use std::time::Duration;

use serde_json::json;

use crate::common::caller::{self, Dialect};
use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::machine;
use crate::common::scene::{ATTEMPTS_MAX, Scene};
use crate::common::simulator::Simulator;

/// What all other scenes stand on: the answer is the same words from every target in each dialect,
/// so that any difference is the fault's doing.
#[test]
fn no_fault() {
    let scene = Scene::two("").within(4);
    scene.run(|seen| seen.whole_by_first(1..=1));
}

/// Whoever answers, the target that asked for two seconds of patience has them.
#[test]
fn one_429_that_says_when_to_come_back() {
    let scene = Scene::two("status-429-once+retry-after-2").within(6);
    scene.run(|seen| {
        seen.heard.assert_whole(&seen.whole, seen);
        seen.apart(Duration::from_secs(2));
    });
}

/// Nobody waits for a target that is over its limit while another one can answer.
#[test]
fn a_429_for_ever_without_a_hint() {
    let scene = Scene::two("status-429").within(4);
    scene.run(|seen| seen.whole_by_next(1..=1));
}

/// A hint that is longer than anybody would wait is no reason to wait.
#[test]
fn a_429_whose_hint_is_long() {
    let scene = Scene::two("status-429+retry-after-600").within(4);
    scene.run(|seen| seen.whole_by_next(1..=1));
}

#[test]
fn one_500() {
    let scene = Scene::two("status-500-once").within(5);
    scene.run(|seen| seen.whole_by_first(2..=2));
}

#[test]
fn a_503_for_ever() {
    let scene = Scene::two("status-503").within(8);
    scene.run(|seen| seen.whole_by_next(ATTEMPTS_MAX..=ATTEMPTS_MAX));
}

#[test]
fn a_reset_before_the_head() {
    let scene = Scene::two("reset").within(8);
    scene.run(|seen| seen.whole_by_next(ATTEMPTS_MAX..=ATTEMPTS_MAX));
}

/// A target that was silent to the end of a timeout is not asked again while another can answer.
#[test]
fn no_answer_at_all() {
    let scene = Scene::two("silent")
        .providers("timeout", 1)
        .providers("first_token_timeout", 1)
        .within(5);
    scene.run(|seen| seen.whole_by_next(1..=1));
}

/// The head came at once, and with it nothing that the caller could have been given.
#[test]
fn a_first_token_after_twenty_seconds() {
    let scene = Scene::two("first-token-20000")
        .providers("timeout", 1)
        .providers("first_token_timeout", 1)
        .within(5);
    scene.run(|seen| seen.whole_by_next(1..=1));
}

#[test]
fn a_port_where_nobody_listens() {
    // Bound and closed again: whoever connects is refused.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = listener.local_addr().expect("an address");
    drop(listener);
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("providers.simo.base_url", format!("http://{nobody}/v1"))
        .set(
            "models.best",
            json!([{"provider": "simo", "model": "sim"}, {"provider": "sima", "model": "sim"}]),
        );
    let daemon = Daemon::with(&config);
    for dialect in [Dialect::Openai, Dialect::Anthropic] {
        for stream in [false, true] {
            let body = caller::body("best", stream);
            let heard = caller::call(daemon.api, dialect, &body, Duration::from_secs(10));
            assert_eq!(heard.status, 200, "{heard}");
            heard.assert_ended(&heard);
            assert_eq!(heard.header("x-victor-provider"), Some("sima"), "{heard}");
        }
    }
}

#[test]
fn a_prompt_too_long_for_the_first_goes_to_one_with_more_room() {
    for (first, next) in [
        (None, None),
        (Some(8192), None),
        (Some(8192), Some(128_000)),
    ] {
        let scene = Scene::two("context-length").contexts(first, next).within(4);
        scene.run(|seen| seen.whole_by_next(1..=1));
    }
}

#[test]
fn a_prompt_too_long_for_the_first_is_not_sent_where_there_is_less_room() {
    let scene = Scene::two("context-length")
        .contexts(Some(8192), Some(4096))
        .within(4);
    scene.run(|seen| {
        seen.refused(&[400], &["maximum context length", "too long"], 1..=1);
        if seen.row.caller == Dialect::Openai {
            let error = seen.heard.error.clone().unwrap_or_default();
            assert_eq!(error["code"], "context_length_exceeded", "{seen}");
        }
    });
}

/// What is refused as the caller's fault is not offered to somebody else.
#[test]
fn a_content_filter_is_the_callers_to_hear() {
    let scene = Scene::two("content-filter").within(4);
    scene.run(|seen| {
        let reasons = ["content management policy", "content filtering policy"];
        seen.refused(&[400], &reasons, 1..=1);
    });
}

#[test]
fn other_faults_of_the_caller_are_the_callers_to_hear() {
    for status in [400, 413, 422] {
        let scene = Scene::two(&format!("status-{status}")).within(4);
        scene.run(|seen| seen.refused(&[status], &[""], 1..=1));
    }
}

/// These speak of our key, our bill and our route, not of what the caller wrote.
#[test]
fn faults_of_the_operator_are_not_the_callers_to_hear() {
    for status in [402, 403, 404] {
        let scene = Scene::two(&format!("status-{status}")).within(4);
        scene.run(|seen| seen.whole_by_next(1..=1));
    }
}

/// Nothing is configured but the route. Takes no turn: it waits for thirty seconds and does
/// nothing meanwhile, and others need not wait with it.
#[test]
fn a_silent_provider_with_every_default_untouched() {
    let simulator = Simulator::start();
    let targets = json!([
        {"provider": "simo", "model": "sim+silent"},
        {"provider": "sima", "model": "sim+pace-1x60"},
    ]);
    let config = Config::behind(simulator.addr).set("models.best", targets);
    let mut daemon = Daemon::with(&config);
    let body = caller::body("best", false);
    let limit = Duration::from_secs(60);
    let heard = caller::call(daemon.api, Dialect::Openai, &body, limit);
    assert_eq!((heard.status, heard.words()), (200, 60), "{heard}");
    heard.assert_ended(&heard);
    assert_eq!(heard.header("x-victor-provider"), Some("sima"), "{heard}");
    assert!(heard.took < Duration::from_secs(45), "{heard}");
    let calls = simulator.calls();
    let silent = calls.iter().filter(|call| call.model == "sim+silent");
    assert_eq!(silent.count(), 1, "it was asked again");
    daemon.assert_well();
}
