//! The bucket under a simulated clock, case by case and under whatever happens.

use super::*;
use crate::provider::hints::Dimension;
use proptest::prelude::*;
use std::num::NonZeroU32;

fn limit(requests_per_second: f64, burst: u32) -> Option<RateLimit> {
    Some(RateLimit {
        requests_per_second,
        burst: NonZeroU32::new(burst).unwrap(),
    })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Hints that say what is left of the requests, out of 100 if anything is known of it.
fn requests(remaining: u64, reset: Duration) -> Hints {
    let mut hints = Hints::default();
    hints.quotas[Dimension::Requests as usize] = Some(Quota {
        limit: Some(100),
        remaining,
        reset,
    });
    hints
}

/// A bucket under a simulated clock: each caller goes exactly when its slot comes.
struct Run {
    bucket: Bucket<u32>,
    start: Instant,
    now: Instant,
    queue: Vec<(u32, u64)>,
    /// Who went when, in milliseconds.
    gone: Vec<(u32, u64)>,
}

impl Run {
    fn new(limit: Option<RateLimit>) -> Self {
        let start = Instant::now();
        Self {
            bucket: Bucket::new(limit, start),
            start,
            now: start,
            queue: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn went(&mut self, who: u32) {
        let at = self.now.duration_since(self.start);
        self.gone.push((who, at.as_millis() as u64));
    }

    fn come(&mut self, who: u32, patience: Duration) -> bool {
        let deadline = self.now + patience;
        match self.bucket.reserve(self.now, deadline, || who) {
            Ok(Reserved::Now) => self.went(who),
            Ok(Reserved::Later { id, slot }) => {
                assert!(slot > self.now && slot <= deadline);
                self.queue.push((who, id));
            }
            Err(TooLate) => return false,
        }
        true
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut next = end;
            for (who, id) in std::mem::take(&mut self.queue) {
                match self.bucket.turn(id, self.now) {
                    Turn::Go => self.went(who),
                    Turn::Wait(until) => {
                        next = next.min(until);
                        self.queue.push((who, id));
                    }
                    Turn::TooLate => {}
                }
            }
            if self.now == end {
                return;
            }
            self.now = next;
        }
    }

    fn leave(&mut self, who: u32) {
        if let Some(at) = self.queue.iter().position(|it| it.0 == who) {
            let (_, id) = self.queue.remove(at);
            self.bucket.give_back(id);
        }
    }

    fn times(&self) -> Vec<u64> {
        self.gone.iter().map(|it| it.1).collect()
    }
}

const LONG: Duration = Duration::from_secs(1000);

#[test]
fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
    let mut run = Run::new(limit(10.0, 3));
    (0..6).for_each(|who| assert!(run.come(who, LONG)));
    run.pass(ms(1000));
    assert_eq!(run.times(), [0, 0, 0, 100, 200, 300]);
    assert_eq!(run.bucket.next_free(run.now), run.now);
}

#[test]
fn a_slot_beyond_the_deadline_is_not_reserved() {
    let mut run = Run::new(limit(10.0, 1));
    assert!(run.come(0, LONG) && run.come(1, ms(100)));
    assert!(!run.come(2, ms(199)));
    assert!(run.come(3, ms(200)));
    run.pass(ms(500));
    assert_eq!(run.gone, [(0, 0), (1, 100), (3, 200)]);
}

#[test]
fn the_last_slot_can_be_given_back_and_another_is_lost() {
    let mut run = Run::new(limit(10.0, 1));
    (0..4).for_each(|who| assert!(run.come(who, LONG)));
    run.leave(3);
    assert!(run.come(4, LONG));
    run.leave(1);
    assert!(run.come(5, LONG));
    run.pass(ms(1000));
    assert_eq!(run.gone, [(0, 0), (2, 200), (4, 300), (5, 400)]);
}

#[test]
fn a_pause_shifts_what_is_not_released_in_order_and_spends_the_burst() {
    let mut run = Run::new(limit(10.0, 2));
    (0..5).for_each(|who| assert!(run.come(who, LONG)));
    run.pass(ms(100));
    let woken = run.bucket.pause_until(run.now + ms(1000), run.now);
    assert!(woken.is_empty(), "nobody may go earlier");
    assert!(run.come(5, LONG));
    run.pass(ms(3000));
    let expected = [(0, 0), (1, 0), (2, 100), (3, 1100), (4, 1200), (5, 1300)];
    assert_eq!(run.gone, expected);
}

#[test]
fn whom_a_pause_moves_beyond_the_deadline_is_told_and_costs_nothing() {
    let mut run = Run::new(limit(10.0, 1));
    assert!(run.come(0, LONG) && run.come(1, ms(500)) && run.come(2, LONG));
    assert_eq!(run.bucket.pause_until(run.now + ms(700), run.now), [1]);
    run.pass(ms(1000));
    assert_eq!(run.gone, [(0, 0), (2, 700)]);
    let (next, now) = (run.bucket.next_free(run.now), run.now);
    assert_eq!(next, now);
    run.bucket.pause_until(now + LONG, now);
    assert_eq!(run.bucket.next_free(now), now + PAUSE_MAX);
}

#[test]
fn without_a_limit_only_the_provider_slows() {
    let mut run = Run::new(None);
    (0..1000).for_each(|who| assert!(run.come(who, ms(0))));
    run.bucket.heed(&requests(50, ms(1000)), run.now);
    assert!(run.come(0, ms(0)), "half is left");
    run.bucket.heed(&requests(4, ms(1000)), run.now);
    run.gone.clear();
    (0..6).for_each(|who| assert!(run.come(who, LONG)));
    run.pass(ms(2000));
    assert_eq!(run.times(), [250, 500, 750, 1000, 1000, 1000]);
}

#[test]
fn nothing_left_means_nothing_until_the_reset_or_better_news() {
    let mut run = Run::new(None);
    run.bucket.heed(&requests(0, ms(1000)), run.now);
    assert!(!run.come(0, ms(999)));
    assert!(run.come(1, LONG) && run.come(2, LONG));
    run.pass(ms(100));
    let woken = run.bucket.heed(&requests(90, ms(900)), run.now);
    assert_eq!(woken, [1, 2]);
    run.pass(ms(10));
    assert_eq!(run.gone, [(1, 100), (2, 100)]);
}

#[test]
fn tokens_count_in_hundredths_and_patience_is_a_pause() {
    let mut run = Run::new(None);
    let mut hints = Hints::default();
    hints.quotas[Dimension::InputTokens as usize] = Some(Quota {
        limit: Some(100_000),
        remaining: 2_500,
        reset: ms(1000),
    });
    run.bucket.heed(&hints, run.now);
    (0..3).for_each(|who| assert!(run.come(who, LONG)));
    run.pass(ms(1000));
    assert_eq!(run.times(), [0, 500, 1000]);
    hints = Hints::default();
    hints.retry_after = Some(ms(300));
    run.bucket.heed(&hints, run.now);
    assert_eq!(run.bucket.next_free(run.now), run.now + ms(300));
}

#[derive(Clone, Debug)]
enum Step {
    Come(u64),
    Pass(u64),
    Leave(u32),
    Pause(u64),
    Heed(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u64..3000).prop_map(Step::Come),
        3 => (0_u64..400).prop_map(Step::Pass),
        1 => (0_u32..200).prop_map(Step::Leave),
        1 => (0_u64..800).prop_map(Step::Pause),
        1 => (0_u64..30, 0_u64..900).prop_map(|(left, reset)| Step::Heed(left, reset)),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    /// Whatever happens: never more than burst + rate × t in any window, first come first
    /// served, nobody past his deadline or during a pause, and everybody ends.
    #[test]
    fn the_limit_holds(steps in steps(), rate in 0.5_f64..200.0, burst in 1_u32..20) {
        let mut run = Run::new(limit(rate, burst));
        let mut deadlines = Vec::new();
        let mut paused = Vec::new();
        for step in steps {
            let at = run.now.duration_since(run.start).as_millis() as u64;
            match step {
                Step::Come(patience) => {
                    deadlines.push(at + patience);
                    run.come(deadlines.len() as u32 - 1, ms(patience));
                }
                Step::Pass(time) => run.pass(ms(time)),
                Step::Leave(who) => run.leave(who),
                Step::Pause(time) => {
                    paused.push((at, at + time));
                    run.bucket.pause_until(run.now + ms(time), run.now);
                }
                Step::Heed(left, reset) => {
                    run.bucket.heed(&requests(left, ms(reset)), run.now);
                    // Who may go earlier now has been woken.
                    run.pass(ms(0));
                }
            }
        }
        run.pass(ms(5000));
        prop_assert!(run.queue.is_empty(), "all deadlines have passed");
        for (place, (who, at)) in run.gone.iter().enumerate() {
            prop_assert!(*at <= deadlines[*who as usize]);
            for (earlier, then) in &run.gone[..place] {
                prop_assert!(earlier < who, "first come, first served");
                let same = run.gone[..=place].iter().filter(|it| it.1 >= *then).count() as f64;
                // A millisecond more: the clock of this test counts in whole ones.
                let allowed = f64::from(burst) + rate * ((at - then + 1) as f64 / 1000.0);
                prop_assert!(same <= allowed + 1e-6, "{same} in {} ms", at - then);
            }
            let in_pause = paused.iter().any(|(from, to)| at > from && at < to);
            prop_assert!(!in_pause, "{who} went in a pause, at {at}");
        }
    }
}
