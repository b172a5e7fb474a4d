//! The breaker's transitions, one by one and under whatever happens.

use super::*;
use proptest::prelude::*;
use std::num::NonZeroU32;

const SECOND: Duration = Duration::from_secs(1);

fn config(failures: u32) -> checked::Breaker {
    checked::Breaker {
        failures: NonZeroU32::new(failures).unwrap(),
        window: SECOND * 30,
        open_for: SECOND * 15,
    }
}

fn breaker(failures: u32) -> (Breaker, Instant) {
    (Breaker::new(config(failures)), Instant::now())
}

fn ticket(admit: Admit) -> Ticket {
    match admit {
        Admit::Yes(ticket) | Admit::Probe(ticket) => ticket,
        Admit::No { .. } => panic!("not admitted"),
    }
}

fn attempt(breaker: &Breaker, verdict: Verdict, now: Instant) {
    let ticket = ticket(breaker.admit(now));
    breaker.ended(ticket, verdict, now, 0.0);
}

/// Opens a breaker of `failures` at `now`.
fn opened(failures: u32) -> (Breaker, Instant) {
    let (breaker, now) = breaker(failures);
    (0..failures).for_each(|_| attempt(&breaker, Verdict::Failure, now));
    assert_eq!(breaker.state(now), State::Open);
    (breaker, now)
}

#[test]
fn enough_failures_open_it() {
    let (breaker, now) = breaker(3);
    attempt(&breaker, Verdict::Failure, now);
    attempt(&breaker, Verdict::Failure, now + SECOND);
    assert_eq!(breaker.state(now + SECOND), State::Closed);
    attempt(&breaker, Verdict::Failure, now + SECOND * 2);
    let opened = now + SECOND * 2;
    assert_eq!(breaker.state(opened), State::Open);
    assert!(!breaker.peek(opened));
    assert!(
        matches!(breaker.admit(opened), Admit::No { retry_at } if retry_at == now + SECOND * 17)
    );
}

#[test]
fn failures_that_are_not_half_of_what_ended_do_not() {
    let (breaker, now) = breaker(3);
    (0..4).for_each(|_| attempt(&breaker, Verdict::Success, now));
    (0..3).for_each(|_| attempt(&breaker, Verdict::Failure, now));
    assert_eq!(breaker.state(now), State::Closed, "3 of 7");
    attempt(&breaker, Verdict::Failure, now);
    assert_eq!(breaker.state(now), State::Open, "4 of 8");
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let (breaker, now) = breaker(3);
    (0..2).for_each(|_| attempt(&breaker, Verdict::Failure, now));
    attempt(&breaker, Verdict::Failure, now + SECOND * 30);
    assert_eq!(breaker.state(now + SECOND * 30), State::Closed);
    attempt(&breaker, Verdict::Failure, now + SECOND * 50);
    attempt(&breaker, Verdict::Failure, now + SECOND * 57);
    assert_eq!(breaker.state(now + SECOND * 57), State::Open);
}

#[test]
fn neutral_ends_count_for_nothing() {
    let (breaker, now) = breaker(1);
    (0..9).for_each(|_| attempt(&breaker, Verdict::Neutral, now));
    attempt(&breaker, Verdict::Failure, now);
    assert_eq!(breaker.state(now), State::Open);
}

#[test]
fn one_probe_decides() {
    let (breaker, now) = opened(2);
    let due = now + SECOND * 15;
    assert_eq!(breaker.state(due), State::HalfOpen);
    let probe = breaker.admit(due);
    assert!(matches!(probe, Admit::Probe(_)));
    assert!(matches!(breaker.admit(due), Admit::No { retry_at } if retry_at == due + SECOND));
    breaker.ended(ticket(probe), Verdict::Success, due + SECOND, 0.0);
    assert_eq!(breaker.state(due + SECOND), State::Closed);
    attempt(&breaker, Verdict::Failure, due + SECOND);
    assert_eq!(breaker.state(due + SECOND), State::Closed, "it counts anew");
}

#[test]
fn failed_probes_double_the_time_up_to_four_times() {
    let (breaker, mut now) = opened(1);
    for factor in [1, 2, 4, 4, 4] {
        let due = now + SECOND * 15 * factor;
        assert_eq!(breaker.state(due - SECOND), State::Open);
        assert_eq!(breaker.state(due), State::HalfOpen);
        attempt(&breaker, Verdict::Failure, due);
        now = due;
    }
    attempt(&breaker, Verdict::Success, now + SECOND * 120);
    now += SECOND * 121;
    attempt(&breaker, Verdict::Failure, now);
    assert_eq!(
        breaker.state(now + SECOND * 15),
        State::HalfOpen,
        "from the start again"
    );
}

#[test]
fn jitter_adds_a_fifth_at_most() {
    let check = |jitter: f64, added: Duration| {
        let (breaker, now) = breaker(1);
        let ticket = ticket(breaker.admit(now));
        breaker.ended(ticket, Verdict::Failure, now, jitter);
        assert_eq!(breaker.shut_until(now), Some(now + SECOND * 15 + added));
    };
    check(0.0, Duration::ZERO);
    check(0.5, SECOND * 3 / 2);
    check(7.0, SECOND * 3);
    check(f64::NAN, Duration::ZERO);
}

#[test]
fn what_began_before_says_nothing_after() {
    let (breaker, now) = breaker(1);
    let old = [(); 4].map(|()| ticket(breaker.admit(now)));
    attempt(&breaker, Verdict::Failure, now);
    let due = now + SECOND * 15;
    let [late_success, late_failure, other, dropped] = old;
    breaker.ended(late_success, Verdict::Success, due, 0.0);
    assert_eq!(breaker.state(due), State::HalfOpen);
    let probe = ticket(breaker.admit(due));
    breaker.ended(late_failure, Verdict::Failure, due, 0.0);
    drop(dropped);
    assert!(!breaker.peek(due), "the probe's place is taken still");
    breaker.ended(probe, Verdict::Success, due, 0.0);
    breaker.ended(other, Verdict::Failure, due, 0.0);
    assert_eq!(breaker.state(due), State::Closed);
}

#[test]
fn a_probe_that_says_nothing_frees_its_place() {
    let (breaker, now) = opened(1);
    let due = now + SECOND * 15;
    drop(breaker.admit(due));
    assert!(breaker.peek(due));
    attempt(&breaker, Verdict::Neutral, due);
    assert!(breaker.peek(due));
    assert_eq!(breaker.state(due), State::HalfOpen);
}

#[test]
fn the_map_forgets_only_what_is_idle() {
    let (breakers, now) = (Breakers::new(config(1)), Instant::now());
    attempt(&breakers.of("open", now), Verdict::Failure, now);
    let out = ticket(breakers.of("busy", now).admit(now));
    for number in 0..MODELS_MAX * 2 {
        breakers.of(&format!("made-up-{number}"), now + SECOND);
    }
    let states = breakers.states(now + SECOND);
    assert_eq!(states.len(), MODELS_MAX);
    let has = |name: &str| states.iter().any(|(own, _)| &**own == name);
    assert!(has("open") && has("busy"));
    assert_eq!(breakers.of("open", now).state(now), State::Open);
    drop(out);
    breakers.of("another", now + SECOND);
    let left = breakers.states(now + SECOND);
    assert!(
        !left.iter().any(|(name, _)| &**name == "busy"),
        "the oldest"
    );
}

#[test]
fn a_map_full_of_open_ones_remembers_them() {
    let (breakers, now) = (Breakers::new(config(1)), Instant::now());
    for number in 0..MODELS_MAX {
        attempt(
            &breakers.of(&number.to_string(), now),
            Verdict::Failure,
            now,
        );
    }
    attempt(&breakers.of("new", now), Verdict::Failure, now);
    assert_eq!(breakers.of("new", now).state(now), State::Closed);
    assert_eq!(breakers.of("7", now).state(now), State::Open);
    assert_eq!(breakers.states(now).len(), MODELS_MAX);
}

proptest! {
    /// Whatever happens in whatever order: at most one probe is out, nothing is admitted while
    /// it is open, it opens only by failures and closes only by a probe.
    #[test]
    fn the_rules_hold(steps in prop::collection::vec((0_u8..4, 0_u64..9000, 0_usize..8), 1..200), failures in 1_u32..4) {
        let (breaker, mut now) = breaker(failures);
        let mut out: Vec<(Ticket, bool)> = Vec::new();
        for (what, ms, which) in steps {
            now += Duration::from_millis(ms);
            let before = breaker.state(now);
            if what == 0 || out.is_empty() {
                let peeked = breaker.peek(now);
                match breaker.admit(now) {
                    Admit::Yes(ticket) => {
                        prop_assert!(peeked && before == State::Closed);
                        out.push((ticket, false));
                    }
                    Admit::Probe(ticket) => {
                        prop_assert!(peeked && before == State::HalfOpen);
                        prop_assert!(out.iter().all(|(other, probe)| !probe || other.epoch != breaker.0.lock().epoch - 1));
                        out.push((ticket, true));
                    }
                    Admit::No { retry_at } => {
                        prop_assert!(!peeked && before != State::Closed && retry_at > now);
                    }
                }
                continue;
            }
            let (ticket, is_probe) = out.swap_remove(which % out.len());
            let verdict = [Verdict::Success, Verdict::Failure, Verdict::Neutral][which % 3];
            if what == 1 {
                drop(ticket);
                prop_assert_eq!(breaker.state(now), before);
                continue;
            }
            breaker.ended(ticket, verdict, now, 0.0);
            match (before, breaker.state(now)) {
                (State::Closed, State::Open) => prop_assert!(verdict == Verdict::Failure && !is_probe),
                (State::HalfOpen, State::Open) => prop_assert!(verdict == Verdict::Failure && is_probe),
                (State::HalfOpen, State::Closed) => prop_assert!(verdict == Verdict::Success && is_probe),
                (from, to) => prop_assert_eq!(from, to),
            }
        }
    }
}

#[test]
fn a_reset_closes_it_where_it_is_held_and_old_tickets_say_nothing() {
    let now = Instant::now();
    let breakers = Breakers::new(config(1));
    let held = breakers.of("m", now);
    let out = ticket(held.admit(now));
    attempt(&held, Verdict::Failure, now);
    assert_eq!(held.state(now), State::Open);
    assert_eq!(breakers.reset(now), 1);
    assert_eq!(held.state(now), State::Closed);
    held.ended(out, Verdict::Failure, now, 0.0);
    assert_eq!(held.state(now), State::Closed);
    assert_eq!(breakers.reset(now), 0);
}
