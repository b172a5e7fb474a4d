//! Faults in the middle of an answer, with another target that can answer. A plain answer is begun
//! anew elsewhere; of a stream the caller has a part already, and is told the truth about the rest.

use std::time::Duration;

use crate::common::scene::{Scene, Seen, WORDS};

/// Words that the caller has when the stream breaks.
const DELIVERED: usize = 40;

#[test]
fn a_stream_that_is_cut() {
    Scene::two("cut-40").run(|seen| match seen.row.stream {
        true => seen.broken_off(DELIVERED),
        false => seen.whole_by_next(1..=3),
    });
}

#[test]
fn a_stream_that_stalls() {
    let scene = Scene::two("stall-40")
        .providers("timeout", 1)
        .providers("idle_timeout", 1)
        .within(5);
    scene.run(|seen| match seen.row.stream {
        true => {
            seen.broken_off(DELIVERED);
            assert!(seen.heard.took >= Duration::from_secs(1), "{seen}");
        }
        false => seen.whole_by_next(1..=1),
    });
}

/// Checks that a stream is whole but for the one event that could not be read.
fn check_one_left_out(seen: &Seen) {
    let heard = &seen.heard;
    assert!(heard.status == 200 && heard.error.is_none(), "{seen}");
    assert!(heard.broken.is_none(), "{seen}");
    heard.assert_ended(seen);
    let whole: Vec<&str> = seen.whole.split_whitespace().collect();
    let got: Vec<&str> = heard.text.split_whitespace().collect();
    let same = |at: usize| got[..at] == whole[..at] && got[at..] == whole[at + 1..];
    assert!(got.len() == WORDS - 1 && (0..WORDS).any(same), "{seen}");
    assert_eq!((seen.first.len(), seen.next.len()), (1, 0), "{seen}");
}

#[test]
fn an_event_that_cannot_be_read_is_left_out() {
    Scene::two("malformed-10").run(|seen| match seen.row.stream {
        true => check_one_left_out(seen),
        false => seen.whole_by_next(1..=3),
    });
}

/// With the finish reason everything has been said; the marker is added for the caller.
#[test]
fn a_missing_end_marker() {
    let scene = Scene::two("no-end").within(4);
    scene.run(|seen| seen.whole_by_first(1..=1));
}

/// What is held back has not been seen by the caller, and can be taken back.
#[test]
fn a_stream_that_is_cut_while_its_beginning_is_held_back() {
    let scene = Scene::two("cut-3").route("hold_first_ms", 1000).within(5);
    scene.run(|seen| seen.whole_by_next(1..=3));
}

/// The next target is asked the whole question again, not to go on from a part of the answer: one
/// that refuses an assistant's prefill is as good as any.
#[test]
fn a_cut_stream_goes_on_where_the_answer_is_the_same() {
    let scene = Scene::two("cut-40").next("no-prefill").restarts();
    scene.run(|seen| {
        if !seen.row.stream {
            return seen.whole_by_next(1..=3);
        }
        seen.heard.assert_whole(&seen.whole, seen);
        assert_eq!((seen.first.len(), seen.next.len()), (1, 1), "{seen}");
        assert_eq!(seen.next[0].status, Some(200), "{seen}");
    });
}

/// An answer that begins in another way, or ends before the place of the cut, continues nothing.
#[test]
fn a_cut_stream_does_not_go_on_where_the_answer_differs() {
    for next in ["refusal+no-prefill", "pace-1x30+no-prefill"] {
        let scene = Scene::two("cut-40").next(next).restarts();
        scene.run(|seen| {
            if !seen.row.stream {
                let heard = &seen.heard;
                assert!(heard.status == 200 && heard.error.is_none(), "{seen}");
                return;
            }
            seen.heard.assert_broken_off(&seen.whole, seen);
            assert_eq!(seen.heard.words(), DELIVERED, "{seen}");
            // What went wrong is the cut; the target that cut is not asked again.
            let reason = seen.heard.reason();
            assert!(reason.contains("middle of its answer"), "{seen}");
            assert_eq!((seen.first.len(), seen.next.len()), (1, 1), "{seen}");
        });
    }
}
