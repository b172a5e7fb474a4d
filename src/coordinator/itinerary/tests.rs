//! The itinerary's rules as tables, and what must hold whatever happens.

use super::Failure::{Broken, Connect, ContentFilter, ContextLength, Reset, Silent};
use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn retry(max_attempts: u32) -> Retry {
    Retry {
        max_attempts: NonZeroU32::new(max_attempts).unwrap(),
        backoff: SECOND,
        exponential_backoff: true,
    }
}

fn candidate(rank: u32) -> Candidate {
    Candidate {
        rank,
        weight: NonZeroU32::MIN,
        able: Able {
            endpoint: true,
            ..Able::default()
        },
    }
}

fn status(status: u16) -> Failure {
    Failure::Status {
        status,
        retry_after: None,
    }
}

fn patience(status: u16, ms: u64) -> Failure {
    Failure::Status {
        status,
        retry_after: Some(Duration::from_millis(ms)),
    }
}

/// A call under a simulated clock.
struct Run {
    itinerary: Itinerary,
    start: Instant,
    now: Instant,
    views: Vec<View>,
    has_budget: bool,
    tokens: u32,
}

impl Run {
    fn of(candidates: &[Candidate], needs: &Needs, deadline: Duration) -> Self {
        let start = Instant::now();
        let view = View {
            shut_until: None,
            next_free: start,
            in_flight: 0,
        };
        Self {
            itinerary: Itinerary::new(candidates, needs, retry(3), start + deadline),
            start,
            now: start,
            views: vec![view; candidates.len()],
            has_budget: true,
            tokens: 0,
        }
    }

    /// `count` targets in order of preference and two minutes.
    fn new(count: u32) -> Self {
        let candidates: Vec<Candidate> = (0..count).map(candidate).collect();
        Self::of(&candidates, &Needs::default(), SECOND * 120)
    }

    fn next(&mut self) -> Step {
        let (has_budget, tokens) = (self.has_budget, &mut self.tokens);
        let mut budget = |_| {
            *tokens += u32::from(has_budget);
            has_budget
        };
        self.itinerary
            .next(self.now, &self.views, &mut || 0.5, &mut budget)
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        self.itinerary.failed(index, failure, self.now, 0.5);
    }

    /// Follows the itinerary, each ask ending at once with the next of `failures`; as text: `0`
    /// asks target 0, `+500` waits so many milliseconds, and the end says why.
    fn follow(&mut self, failures: &[Failure]) -> String {
        let mut failures = failures.iter();
        let mut said = Vec::new();
        loop {
            match self.next() {
                Step::Ask(index) => {
                    said.push(index.to_string());
                    match failures.next() {
                        Some(failure) => self.fail(index, *failure),
                        None => return said.join(" "),
                    }
                }
                Step::Wait { until, .. } => {
                    said.push(format!("+{}", (until - self.now).as_millis()));
                    self.now = until;
                }
                Step::GiveUp(why) => {
                    let why = match why {
                        Why::Shut { retry_at } => {
                            format!("Shut+{}", (retry_at - self.now).as_millis())
                        }
                        other => format!("{other:?}"),
                    };
                    said.push(why);
                    return said.join(" ");
                }
            }
        }
    }
}

fn check(count: u32, failures: &[Failure], expected: &str) {
    let said = Run::new(count).follow(failures);
    assert_eq!(said, expected, "{count} targets, {failures:?}");
}

#[test]
fn each_failure_has_its_consequence() {
    for worth_a_retry in [408, 409, 500, 502, 503, 504, 529, 599] {
        check(2, &[status(worth_a_retry)], "0 +500 0");
    }
    check(2, &[Connect], "0 +500 0");
    check(2, &[Reset], "0 +500 0");
    for not_the_callers in [401, 402, 403, 404] {
        check(2, &[status(not_the_callers)], "0 1");
        check(1, &[status(not_the_callers)], "0 Exhausted");
    }
    for the_callers in [400, 405, 413, 415, 422, 451] {
        check(2, &[status(the_callers)], "0 Final");
    }
    check(2, &[ContentFilter], "0 Final");
    check(2, &[ContextLength], "0 1");
    check(2, &[ContextLength, ContextLength], "0 1 Final");
    check(1, &[ContextLength], "0 Final");
    for silent in [Silent, Broken, status(302)] {
        check(2, &[silent, silent], "0 1 0");
        check(1, &[silent], "0 0");
    }
    check(2, &[status(429)], "0 1");
}

#[test]
fn a_target_is_retried_to_its_last_attempt_then_the_next_one() {
    let failures = [status(500), status(502), Reset, Connect, Connect, Connect];
    let all = "0 +500 0 +1000 0 1 +500 1 +1000 1 Exhausted";
    check(2, &failures, all);
    check(1, &failures, "0 +500 0 +1000 0 Exhausted");
}

#[test]
fn a_429_sends_the_call_on_and_the_target_is_left_alone() {
    let limited = status(429);
    check(1, &[limited], "0 +1000 0");
    check(2, &[limited, limited], "0 1 +1000 0");
    check(1, &[patience(429, 200)], "0 +1000 0");
    check(1, &[patience(429, 7000)], "0 +7000 0");
    check(1, &[patience(429, 60_001)], "0 Exhausted");
    // Back to the first when it has rested, rather than the second again.
    check(
        2,
        &[limited, status(500), status(500)],
        "0 1 +500 1 +1000 1",
    );
    check(2, &[limited, Silent], "0 1 +1000 0");
    check(
        1,
        &[limited, limited, limited],
        "0 +1000 0 +1000 0 Exhausted",
    );
}

#[test]
fn a_5xx_that_asks_for_patience_is_as_a_429() {
    check(2, &[patience(503, 5000)], "0 1");
    check(1, &[patience(503, 5000)], "0 +5000 0");
    check(1, &[patience(503, 700)], "0 +700 0");
    check(2, &[patience(529, 90_000), status(400)], "0 1 Final");
}

#[test]
fn a_silent_target_is_the_last_resort() {
    check(3, &[Silent, status(429), Silent], "0 1 2 +1000 1");
    check(2, &[Silent, status(401), Silent], "0 1 0 0");
    check(
        2,
        &[Silent, status(500), status(500), status(500)],
        "0 1 +500 1 +1000 1 0",
    );
}

#[test]
fn a_patience_beyond_the_deadline_is_none() {
    let follow = |deadline, failures: &[Failure]| {
        Run::of(&[candidate(0)], &Needs::default(), deadline).follow(failures)
    };
    assert_eq!(follow(SECOND * 5, &[patience(429, 4950)]), "0 +4950 0");
    assert_eq!(follow(SECOND * 5, &[patience(429, 4951)]), "0 Exhausted");
    assert_eq!(follow(ms(500), &[status(500)]), "0 Deadline");
    assert_eq!(follow(ms(50), &[]), "0");
    assert_eq!(follow(ms(49), &[]), "Deadline");
    // The backoff of the first has no time left, the second needs none.
    let two = [candidate(0), candidate(1)];
    let mut run = Run::of(&two, &Needs::default(), ms(500));
    assert_eq!(run.follow(&[status(500)]), "0 1");
}

#[test]
fn open_breakers_are_skipped_and_waited_for_only_if_all_are_open() {
    let shut = |run: &mut Run, index: usize, after: Duration| {
        run.views[index].shut_until = Some(run.start + after);
    };
    let mut run = Run::new(2);
    shut(&mut run, 0, SECOND);
    assert_eq!(run.follow(&[]), "1");
    // The retry of a target whose breaker has opened meanwhile is the next one's turn.
    let mut run = Run::new(2);
    assert_eq!(run.next(), Step::Ask(0));
    run.fail(0, status(500));
    shut(&mut run, 0, SECOND * 15);
    assert_eq!(run.follow(&[]), "1");

    let mut run = Run::new(2);
    shut(&mut run, 0, SECOND * 4);
    shut(&mut run, 1, SECOND * 2);
    let until = run.start + SECOND * 2;
    assert_eq!(run.next(), Step::Wait { until, then_ask: 1 });
    run.now = until;
    run.views[1].shut_until = None;
    assert_eq!(run.follow(&[]), "1");

    let mut run = Run::new(1);
    shut(&mut run, 0, ms(5001));
    assert_eq!(run.follow(&[]), "Shut+5001");
    let mut run = Run::of(&[candidate(0)], &Needs::default(), SECOND * 2);
    shut(&mut run, 0, ms(1951));
    assert_eq!(run.follow(&[]), "Shut+1951");
    shut(&mut run, 0, ms(1949));
    run.now += ms(1949);
    assert_eq!(run.follow(&[]), "Shut+0");
}

#[test]
fn a_breaker_that_stays_open_is_waited_for_five_seconds_in_all() {
    let mut run = Run::new(1);
    let mut waits = 0;
    loop {
        run.views[0].shut_until = Some(run.now + SECOND);
        match run.next() {
            Step::Wait { until, .. } => run.now = until,
            other => {
                let retry_at = run.now + SECOND;
                assert_eq!(other, Step::GiveUp(Why::Shut { retry_at }));
                break;
            }
        }
        waits += 1;
    }
    assert_eq!((waits, run.now - run.start), (5, SECOND * 5));
}

#[test]
fn a_long_queue_at_the_limiter_sends_the_call_on() {
    let mut run = Run::new(2);
    run.views[0].next_free = run.start + SECOND;
    assert_eq!(run.follow(&[]), "0", "a short one is waited in");
    let mut run = Run::new(2);
    run.views[0].next_free = run.start + ms(1001);
    assert_eq!(run.follow(&[]), "1");
    let mut run = Run::new(1);
    run.views[0].next_free = run.start + SECOND * 3;
    assert_eq!(run.follow(&[]), "+3000 0");
    let mut run = Run::new(1);
    run.views[0].next_free = run.start + SECOND * 120;
    assert_eq!(run.follow(&[]), "Deadline");
}

#[test]
fn only_retries_need_the_budget() {
    let mut run = Run::new(3);
    run.has_budget = false;
    let failures = [status(500), Silent, status(429)];
    assert_eq!(run.follow(&failures), "0 1 2 Exhausted");
    let mut run = Run::new(2);
    run.follow(&[status(500), status(500), Reset, Reset, Reset, Reset]);
    assert_eq!(run.tokens, 4, "one for each of two retries at two targets");
}

#[test]
fn what_was_not_asked_is_no_attempt() {
    let mut run = Run::new(1);
    for _ in 0..5 {
        assert_eq!(run.next(), Step::Ask(0));
        let retry_at = run.now;
        run.fail(0, Failure::NotAsked { retry_at });
        let until = run.now + ms(10);
        assert_eq!(run.next(), Step::Wait { until, then_ask: 0 });
        run.now = until;
    }
    assert_eq!(run.itinerary.attempts(), 0);
    assert_eq!(
        run.follow(&[status(500), Reset, Reset]),
        "0 +500 0 +1000 0 Exhausted"
    );
}

#[test]
fn a_target_that_cannot_is_not_asked() {
    let able = |able: Able| Candidate {
        able: Able {
            endpoint: true,
            ..able
        },
        ..candidate(0)
    };
    let none = Able::default();
    let check = |able_of_first: Candidate, needs: Needs, expected: &str| {
        let two = [able_of_first, candidate(1)];
        assert_eq!(
            Run::of(&two, &needs, SECOND).follow(&[]),
            expected,
            "{needs:?}"
        );
    };
    let all = Needs {
        context_tokens: Some(100),
        tools: true,
        images: true,
        streaming: true,
    };
    let no = Some(false);
    check(able(none), all, "0");
    check(able(Able { tools: no, ..none }), all, "1");
    check(able(Able { images: no, ..none }), all, "1");
    check(
        able(Able {
            streaming: no,
            ..none
        }),
        all,
        "1",
    );
    check(able(Able { tools: no, ..none }), Needs::default(), "0");
    let tokens = |tokens| Able {
        context_tokens: Some(tokens),
        ..none
    };
    check(able(tokens(99)), all, "1");
    check(able(tokens(100)), all, "0");
    let other_endpoint = Candidate {
        able: none,
        ..candidate(0)
    };
    check(other_endpoint, Needs::default(), "1");
    let said = Run::of(&[other_endpoint], &all, SECOND).follow(&[]);
    assert_eq!(said, "Unable");
    assert_eq!(Run::of(&[], &all, SECOND).follow(&[]), "Unable");
}

#[test]
fn a_prompt_that_is_too_long_goes_where_it_may_fit() {
    let follow = |contexts: &[Option<u64>]| {
        let targets: Vec<Candidate> = (0..)
            .map(candidate)
            .zip(contexts)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(mut target, context)| {
                target.able.context_tokens = *context;
                target
            })
            .collect();
        let refused = [ContextLength; 9];
        Run::of(&targets, &Needs::default(), SECOND).follow(&refused)
    };
    assert_eq!(follow(&[Some(8), Some(8), Some(4), Some(9)]), "0 3 Final");
    assert_eq!(follow(&[Some(8), None, Some(4), Some(9)]), "0 1 3 Final");
    assert_eq!(follow(&[None, Some(4), None]), "0 1 2 Final");
}

#[test]
fn equals_are_spread_by_weight_and_load() {
    let weighted = |weight| Candidate {
        weight: NonZeroU32::new(weight).unwrap(),
        ..candidate(0)
    };
    let targets = [weighted(3), weighted(1), candidate(1)];
    let asked = |loads: [usize; 3]| {
        let mut counts = [0; 3];
        for number in 0..400 {
            let mut run = Run::of(&targets, &Needs::default(), SECOND);
            for (view, load) in run.views.iter_mut().zip(loads) {
                view.in_flight = load;
            }
            let mut chance = || f64::from(number) / 400.0;
            match run
                .itinerary
                .next(run.now, &run.views, &mut chance, &mut |_| true)
            {
                Step::Ask(index) => counts[index] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    };
    assert_eq!(asked([0, 0, 0]), [300, 100, 0]);
    assert_eq!(
        asked([3, 1, 0]),
        [300, 100, 0],
        "the same load for its weight"
    );
    assert_eq!(asked([9, 1, 0]), [0, 400, 0]);
    assert_eq!(asked([2, 1, 0]), [400, 0, 0]);
}

fn failure() -> impl Strategy<Value = Failure> {
    let after = prop::option::of((0_u64..90_000).prop_map(Duration::from_millis));
    let any_status =
        prop::sample::select(vec![400, 401, 404, 408, 409, 413, 429, 429, 500, 503, 529]);
    prop_oneof![
        8 => (any_status, after).prop_map(|(status, retry_after)| Failure::Status { status, retry_after }),
        4 => prop::sample::select(vec![Connect, Reset, Silent, Broken]),
        1 => prop::sample::select(vec![ContextLength, ContentFilter]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Whatever the targets do: never more attempts than allowed, never two asks within a second
    /// of a 429, never an ask without time, never a retry without a token, and always an end.
    #[test]
    fn the_rules_hold(
        ranks in prop::collection::vec(0_u32..3, 1..5),
        deadline in 0_u64..130_000,
        max_attempts in 1_u32..5,
        script in prop::collection::vec((failure(), 0_u64..5000, 0_u64..8, any::<bool>(), 0.0_f64..1.0), 1..60),
    ) {
        let candidates: Vec<Candidate> = ranks.iter().copied().map(candidate).collect();
        let mut run = Run::of(&candidates, &Needs::default(), ms(deadline));
        run.itinerary.retry = retry(max_attempts);
        let end = run.start + ms(deadline);
        let mut attempts = vec![0; ranks.len()];
        let mut tokens = vec![0; ranks.len()];
        let mut limited: Vec<Option<Instant>> = vec![None; ranks.len()];
        // Each wait and ask takes WAIT_MIN at the least.
        let steps_max = 4 * (deadline / WAIT_MIN.as_millis() as u64 + 100) as usize;
        let mut steps = 0;
        for (failure, took, luck, is_shut, random) in script.iter().cycle() {
            steps += 1;
            prop_assert!(steps < steps_max, "it does not end");
            let place = steps % ranks.len();
            run.views[place].shut_until = is_shut.then(|| run.now + ms(luck * 500 + 1));
            run.views[place].next_free = run.now + ms(luck * 300);
            let mut budget = |index: usize| {
                tokens[index] += i32::from(*luck > 0);
                *luck > 0
            };
            match run.itinerary.next(run.now, &run.views, &mut || *random, &mut budget) {
                Step::GiveUp(_) => break,
                Step::Wait { until, then_ask } => {
                    prop_assert!(until > run.now && until + LEFT_MIN <= end);
                    prop_assert!(then_ask < ranks.len());
                    run.now = until;
                }
                Step::Ask(index) if *luck == 7 => {
                    let retry_at = run.now;
                    run.itinerary.failed(index, Failure::NotAsked { retry_at }, run.now, *random);
                }
                Step::Ask(index) => {
                    attempts[index] += 1;
                    prop_assert!(attempts[index] <= max_attempts);
                    prop_assert!(run.now + LEFT_MIN <= end);
                    prop_assert!(run.views[index].shut_until.is_none());
                    prop_assert!(limited[index].is_none_or(|at| run.now >= at + SECOND));
                    prop_assert!(tokens[index] >= attempts[index] as i32 - 1);
                    run.now += ms(*took);
                    if matches!(failure, Failure::Status { status: 429, .. }) {
                        limited[index] = Some(run.now);
                    }
                    run.itinerary.failed(index, *failure, run.now, *random);
                }
            }
        }
        prop_assert_eq!(run.itinerary.attempts(), attempts.iter().sum::<u32>());
    }
}
