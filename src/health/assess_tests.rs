//! When a part is healthy.

use super::*;

#[test]
fn a_coordinator_is_unhealthy_only_if_it_cannot_serve() {
    let serving = || CoordinatorFacts {
        phase: Phase::Ready,
        up: true,
        executions: 100,
        error_rate: Some(0.0),
        consecutive_failures: 0,
        queue_depth: 0,
        queue_size: Some(10),
    };
    let check = |change: &dyn Fn(&mut CoordinatorFacts), expected| {
        let mut facts = serving();
        change(&mut facts);
        assert_eq!(coordinator_verdict(&facts).0, expected);
    };
    check(&|_| {}, Status::Healthy);
    check(&|facts| facts.error_rate = Some(0.5), Status::Degraded);
    check(&|facts| facts.queue_depth = 10, Status::Degraded);
    check(&|facts| facts.consecutive_failures = 10, Status::Unhealthy);
    check(&|facts| facts.up = false, Status::Unhealthy);
    check(&|facts| facts.phase = Phase::Draining, Status::Unhealthy);
    check(
        &|facts| {
            facts.executions = 0;
            facts.error_rate = None;
            facts.consecutive_failures = 50;
        },
        Status::Healthy,
    );
}

#[test]
fn a_provider_is_judged_by_its_traffic() {
    let check = |(requests, faults, limited, failures), expected| {
        let verdict = provider_verdict(requests, faults, limited, failures, &Standing::default());
        assert_eq!(verdict.0, expected, "{}", verdict.1);
    };
    check((0, None, None, 9), Status::Healthy);
    check((100, Some(0.0), Some(0.0), 0), Status::Healthy);
    check((100, Some(0.06), Some(0.0), 0), Status::Degraded);
    check((3, Some(0.7), Some(0.0), 2), Status::Degraded);
    check((10, Some(0.5), Some(0.0), 0), Status::Unhealthy);
    check((9, Some(1.0), None, 5), Status::Unhealthy);
    check((100, Some(0.0), Some(0.2), 0), Status::Degraded);
    check((0, None, Some(1.0), 0), Status::Degraded);
}
