//! The faults of `survive` and `survive_stream` where nobody else can answer: the caller hears
//! what the provider said, in its own dialect and soon.

use std::time::Duration;

use crate::common::caller::Dialect;
use crate::common::scene::{ATTEMPTS_MAX, Scene, Seen, WORDS};

#[test]
fn one_429_that_says_when_to_come_back() {
    let scene = Scene::alone("status-429-once+retry-after-2").within(6);
    scene.run(|seen| {
        seen.whole_by_first(2..=2);
        seen.apart(Duration::from_secs(2));
    });
}

/// Without a hint the target is left alone for a second each time.
#[test]
fn a_429_for_ever_without_a_hint() {
    let scene = Scene::alone("status-429").within(9);
    scene.run(|seen| {
        seen.refused(&[429], &["rate limit reached"], ATTEMPTS_MAX..=ATTEMPTS_MAX);
        seen.apart(Duration::from_secs(1));
    });
}

/// Where the hint is later than the deadline, the answer is known at once.
#[test]
fn a_429_whose_hint_is_beyond_the_deadline() {
    let scene = Scene::alone("status-429+retry-after-30")
        .set("coordinators.timeout_seconds", 5)
        .within(6);
    scene.run(|seen| {
        seen.refused(&[429], &["rate limit reached"], 1..=1);
        assert_eq!(seen.heard.header("retry-after"), Some("30"), "{seen}");
    });
}

#[test]
fn one_500() {
    let scene = Scene::alone("status-500-once").within(5);
    scene.run(|seen| seen.whole_by_first(2..=2));
}

#[test]
fn a_503_for_ever() {
    let scene = Scene::alone("status-503").within(8);
    scene.run(|seen| seen.refused(&[503], &["overloaded"], ATTEMPTS_MAX..=ATTEMPTS_MAX));
}

#[test]
fn a_reset_before_the_head() {
    let scene = Scene::alone("reset").within(8);
    scene.run(|seen| {
        let reasons = ["closed the connection"];
        seen.refused(&[502], &reasons, ATTEMPTS_MAX..=ATTEMPTS_MAX);
    });
}

/// Checks that the call was told of a timeout, and by whom.
fn check_timed_out(seen: &Seen) {
    seen.refused(&[504], &[&seen.first_name], 1..=ATTEMPTS_MAX);
    if seen.row.caller == Dialect::Openai {
        let error = seen.heard.error.clone().unwrap_or_default();
        let code = error["code"].as_str().unwrap_or_default();
        let known = code.starts_with("provider_timeout") || code == "deadline";
        assert!(known, "{seen}");
    }
}

/// Three timeouts of a second would be later than the one deadline.
#[test]
fn no_answer_at_all() {
    let scene = Scene::alone("silent")
        .providers("timeout", 1)
        .providers("first_token_timeout", 1)
        .set("coordinators.timeout_seconds", 3)
        .within(4);
    scene.run(check_timed_out);
}

#[test]
fn a_first_token_after_twenty_seconds() {
    let scene = Scene::alone("first-token-20000")
        .providers("timeout", 1)
        .providers("first_token_timeout", 1)
        .set("coordinators.timeout_seconds", 3)
        .within(4);
    scene.run(check_timed_out);
}

#[test]
fn a_stream_that_is_cut() {
    Scene::alone("cut-40").run(|seen| match seen.row.stream {
        true => seen.broken_off(40),
        false => seen.refused(&[502], &["middle of its answer"], 1..=ATTEMPTS_MAX),
    });
}

#[test]
fn a_stream_that_stalls() {
    let scene = Scene::alone("stall-40")
        .providers("timeout", 1)
        .providers("idle_timeout", 1)
        .set("coordinators.timeout_seconds", 4)
        .within(5);
    scene.run(|seen| match seen.row.stream {
        true => seen.broken_off(40),
        false => check_timed_out(seen),
    });
}

#[test]
fn an_event_that_cannot_be_read() {
    Scene::alone("malformed-10").run(|seen| match seen.row.stream {
        true => {
            assert!(seen.heard.error.is_none(), "{seen}");
            seen.heard.assert_ended(seen);
            assert_eq!(seen.heard.words(), WORDS - 1, "{seen}");
        }
        false => seen.refused(&[502], &["not a JSON", "malformed"], 1..=ATTEMPTS_MAX),
    });
}

#[test]
fn a_missing_end_marker() {
    let scene = Scene::alone("no-end").within(4);
    scene.run(|seen| seen.whole_by_first(1..=1));
}

#[test]
fn a_prompt_that_is_too_long() {
    let scene = Scene::alone("context-length").within(4);
    scene.run(|seen| {
        seen.refused(&[400], &["maximum context length", "too long"], 1..=1);
        if seen.row.caller == Dialect::Openai {
            let error = seen.heard.error.clone().unwrap_or_default();
            assert_eq!(error["code"], "context_length_exceeded", "{seen}");
        }
    });
}

#[test]
fn a_content_filter() {
    let scene = Scene::alone("content-filter").within(4);
    scene.run(|seen| {
        let reasons = ["content management policy", "content filtering policy"];
        seen.refused(&[400], &reasons, 1..=1);
    });
}

/// There is nobody to begin anew with; the same target is not asked to go on either.
#[test]
fn a_cut_stream_that_could_only_go_on_by_a_prefill() {
    Scene::alone("cut-40+no-prefill")
        .restarts()
        .run(|seen| match seen.row.stream {
            true => {
                seen.heard.assert_broken_off(&seen.whole, seen);
                assert_eq!(seen.heard.words(), 40, "{seen}");
                let refused = seen.first.iter().any(|call| call.status == Some(400));
                assert!(!refused, "asked to go on: {seen}");
            }
            false => seen.refused(&[502], &["middle of its answer"], 1..=ATTEMPTS_MAX),
        });
}
