//! An hour's outage of a route's first target under steady calls, in simulated time.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::*;
use crate::config::checked::Breaker as Config;
use crate::provider::breaker::{Admit, Breaker, Verdict};

const OUTAGE: Duration = Duration::from_secs(3600);
const CALLS_A_SECOND: u32 = 20;

/// What the first target got during an outage, and when it got its first call afterwards.
struct Seen {
    calls: u32,
    reached: u32,
    first_after: Duration,
    /// The most attempts that one call made at the dead target.
    most_of_one: u32,
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

/// Calls come steadily; the first target fails at once until its outage ends, the second answers.
fn outage(seed: u64) -> Seen {
    let mut chance = fastrand::Rng::with_seed(seed);
    let breaker = Breaker::new(Config {
        failures: NonZeroU32::new(5).unwrap(),
        window: Duration::from_secs(30),
        open_for: Duration::from_secs(15),
    });
    let retry = Retry {
        max_attempts: NonZeroU32::new(3).unwrap(),
        backoff: Duration::from_secs(1),
        exponential_backoff: true,
    };
    let candidates = [candidate(0), candidate(1)];
    let start = Instant::now();
    let end = start + OUTAGE;
    let mut seen = Seen {
        calls: 0,
        reached: 0,
        first_after: Duration::MAX,
        most_of_one: 0,
    };
    loop {
        let came = start + Duration::from_secs(1) / CALLS_A_SECOND * seen.calls;
        seen.calls += 1;
        let deadline = came + Duration::from_secs(120);
        let mut way = Itinerary::new(&candidates, &Needs::default(), retry, deadline);
        let (mut now, mut own) = (came, 0);
        loop {
            let view = |shut_until| View {
                shut_until,
                next_free: now,
                in_flight: 0,
            };
            let views = [view(breaker.shut_until(now)), view(None)];
            match way.next(now, &views, &mut || chance.f64(), &mut |_| true) {
                Step::Ask(0) => match breaker.admit(now) {
                    Admit::Yes(ticket) | Admit::Probe(ticket) if now >= end => {
                        breaker.ended(ticket, Verdict::Success, now, 0.5);
                        seen.first_after = now - end;
                        return seen;
                    }
                    Admit::Yes(ticket) | Admit::Probe(ticket) => {
                        own += 1;
                        breaker.ended(ticket, Verdict::Failure, now, chance.f64());
                        let failure = Failure::Status {
                            status: 503,
                            retry_after: None,
                        };
                        way.failed(0, failure, now, chance.f64());
                    }
                    Admit::No { retry_at } => {
                        way.failed(0, Failure::NotAsked { retry_at }, now, chance.f64());
                    }
                },
                Step::Ask(_) => break,
                Step::Wait { until, .. } => now = until,
                Step::GiveUp(why) => panic!("the second target answers: {why:?}"),
            }
        }
        seen.reached += own;
        seen.most_of_one = seen.most_of_one.max(own);
    }
}

/// Run with `--nocapture` for the figures.
#[test]
fn an_hours_outage_costs_the_dead_target_few_calls_and_ends_soon() {
    let mut rows: Vec<Seen> = (0..20).map(outage).collect();
    rows.sort_by_key(|seen| seen.first_after);
    let reached: Vec<u32> = rows.iter().map(|seen| seen.reached).collect();
    let (least, most) = (reached.iter().min(), reached.iter().max());
    println!(
        "an hour's outage under {CALLS_A_SECOND} calls a second, {} rounds: of {} calls {least:?} to \
         {most:?} attempts reached the dead target; from its return to its first call {:.1} s to \
         {:.1} s, median {:.1} s",
        rows.len(),
        rows[0].calls,
        rows[0].first_after.as_secs_f64(),
        rows[rows.len() - 1].first_after.as_secs_f64(),
        rows[rows.len() / 2].first_after.as_secs_f64(),
    );
    for seen in &rows {
        assert!(
            seen.calls > 70_000 && seen.reached < 120,
            "{}",
            seen.reached
        );
        assert!(seen.most_of_one <= 3);
        // Four times open_for, and a fifth more by chance.
        assert!(seen.first_after <= Duration::from_secs(72));
    }
}
