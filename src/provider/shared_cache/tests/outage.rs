//! A server that stands still, is gone, and is there again: no call waits longer than its time-out,
//! and nobody has to do anything for it to be found again.

use std::sync::atomic::{AtomicBool, Ordering};

use super::server::Redis;
use super::*;

const TIMEOUT_MS: u64 = 50;

/// The value of `get` and how long it took, which has its bound.
fn timed_get(cache: &SharedCache, number: u8) -> (Found, Duration) {
    let start = Instant::now();
    let found = cache.get(&key(number));
    let took = start.elapsed();
    assert!(took < ms(TIMEOUT_MS) * SLACK, "{took:?}");
    (found, took)
}

fn is_lost(cache: &Fixture) {
    eventually("the failure", || {
        timed_get(cache, 1).0 == Found::Unavailable && cache.report().standing == Standing::Down
    });
    let report = cache.report();
    assert!(report.why.is_some(), "{report:?}");
    assert!(
        cache
            .metrics
            .render()
            .contains("victor_cache_shared_up 0\n")
    );
    // Left alone, it costs nothing: of a hundred calls the fastest says so on any machine.
    let fastest = (0..100).map(|_| timed_get(cache, 1).1).min();
    assert!(fastest.unwrap() < ms(TIMEOUT_MS) / 2);
}

fn is_found_again(cache: &Fixture) {
    eventually("its return", || {
        cache.put(&key(2), b"again", Duration::from_secs(60));
        timed_get(cache, 2).0 == Found::Hit(b"again".to_vec())
    });
    let report = cache.report();
    assert_eq!((report.standing, report.why), (Standing::Up, None));
    assert!(report.last_error.is_some());
}

#[test]
fn a_server_that_stands_still_is_left_alone_and_found_again() {
    let Some(redis) = Redis::start("a slow shared cache", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, TIMEOUT_MS));
    is_found_again_at_first(&cache);
    redis.freeze();
    is_lost(&cache);
    assert!(cache.count("get", "timeout") >= 1);
    redis.thaw();
    is_found_again(&cache);
}

#[test]
fn a_server_that_is_gone_is_left_alone_and_found_again() {
    let Some(mut redis) = Redis::start("a shared cache that is gone", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, TIMEOUT_MS));
    is_found_again_at_first(&cache);
    redis.kill();
    is_lost(&cache);
    assert!(cache.count("get", "error") >= 1);
    redis.restart();
    is_found_again(&cache);
}

#[test]
fn a_server_that_was_away_between_two_calls_was_not_missed() {
    let Some(mut redis) = Redis::start("a shared cache that restarts", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, 2000));
    assert_eq!(cache.get(&key(1)), Found::Miss);
    redis.kill();
    redis.restart();
    assert_eq!(cache.get(&key(1)), Found::Miss);
    assert_eq!(cache.report().last_error.map(|(text, _)| text), None);
}

#[test]
fn one_that_starts_later_is_found() {
    let Some(mut redis) = Redis::start("a shared cache that starts later", &[]) else {
        return;
    };
    redis.kill();
    let cache = start(&shared(redis.port, TIMEOUT_MS));
    assert_eq!(cache.report().standing, Standing::Down);
    assert_eq!(timed_get(&cache, 1).0, Found::Unavailable);
    redis.restart();
    is_found_again(&cache);
}

/// Real, then standing still, gone, and back, while calls look up, claim and put all the time.
#[test]
fn an_outage_under_load_costs_no_call_more_than_the_time_out() {
    let Some(mut redis) = Redis::start("an outage under load", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, TIMEOUT_MS));
    let ends = AtomicBool::new(false);
    let call = |number: u8| {
        let (found, _) = timed_get(&cache, number);
        let start = Instant::now();
        if found == Found::Miss
            && let Claim::Mine(token) = cache.claim(&key(number), Duration::from_secs(5))
        {
            cache.put(&key(number), &[number; 1000], ms(20));
            cache.release(token);
        }
        let took = start.elapsed();
        assert!(took < ms(TIMEOUT_MS) * SLACK, "{took:?}");
        if let Found::Hit(value) = found {
            assert_eq!(value, [number; 1000]);
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (ends, call) = (&ends, &call);
            scope.spawn(move || {
                let mut number: u8 = worker;
                while !ends.load(Ordering::Relaxed) {
                    number = number.wrapping_add(7);
                    call(number);
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        let hits = || cache.count("get", "hit");
        let more = |before: u64| eventually("hits", || hits() > before + 100);
        more(hits());
        redis.freeze();
        eventually("the failure", || cache.report().standing == Standing::Down);
        redis.thaw();
        more(hits());
        redis.kill();
        eventually("the failure", || cache.report().standing == Standing::Down);
        redis.restart();
        more(hits());
        ends.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.report().standing, Standing::Up);
    eventually("the queue", || cache.queued_bytes() == 0);
}

fn is_found_again_at_first(cache: &Fixture) {
    cache.put(&key(1), b"first", Duration::from_secs(60));
    eventually("the value", || {
        timed_get(cache, 1).0 == Found::Hit(b"first".to_vec())
    });
}
