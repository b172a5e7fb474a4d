//! Claims, and waiting for another instance's answer.

use super::server::Redis;
use super::*;
use crate::cancel::{Cancel, Reason};

const LONG: Duration = Duration::from_secs(60);

fn far() -> Instant {
    Instant::now() + LONG
}

fn mine(claim: Claim) -> Token {
    match claim {
        Claim::Mine(token) => token,
        other => panic!("{other:?}"),
    }
}

fn two(redis: &Redis) -> (Fixture, Fixture) {
    let config = shared(redis.port, 2000);
    (start_up(&config), start_up(&config))
}

#[test]
fn one_at_a_time_has_the_claim() {
    let Some(redis) = Redis::start("claims", &[]) else {
        return;
    };
    let (a, b) = two(&redis);
    let token = mine(a.claim(&key(1), LONG));
    assert!(matches!(a.claim(&key(1), LONG), Claim::Others));
    assert!(matches!(b.claim(&key(1), LONG), Claim::Others));
    drop(mine(b.claim(&key(2), LONG)));
    a.release(token);
    let mut next = None;
    eventually("the claim", || {
        if let Claim::Mine(token) = b.claim(&key(1), LONG) {
            next = Some(token);
        }
        next.is_some()
    });
    // Behind the claim of a holder that is gone comes its answer.
    b.put_and_see(&key(1), b"answer");
    match a.claim(&key(1), LONG) {
        Claim::Found(value) => assert_eq!(value, b"answer"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_expired_claim_is_free_and_its_late_release_harms_nobody() {
    let Some(redis) = Redis::start("expired claims", &[]) else {
        return;
    };
    let (a, b) = two(&redis);
    let late = mine(a.claim(&key(1), ms(50)));
    let mut next = None;
    eventually("the claim", || {
        if let Claim::Mine(token) = b.claim(&key(1), LONG) {
            next = Some(token);
        }
        next.is_some()
    });
    a.release(late);
    eventually("the release", || a.count("release", "ok") == 1);
    assert!(matches!(a.claim(&key(1), LONG), Claim::Others));
}

#[test]
fn who_waits_gets_the_answer_of_the_one_who_asked() {
    let Some(redis) = Redis::start("waiting for another instance", &[]) else {
        return;
    };
    let (a, b) = two(&redis);
    let token = mine(a.claim(&key(1), LONG));
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| b.wait(&key(1), far(), &Cancel::new())))
            .collect();
        eventually("the waiters", || b.count("poll", "taken") >= 8);
        a.put(&key(1), b"answer", LONG);
        a.release(token);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(b"answer".to_vec()));
        }
    });
}

#[test]
fn waiting_ends_without_an_answer_too() {
    let Some(mut redis) = Redis::start("waiting in vain", &[]) else {
        return;
    };
    let (a, b) = two(&redis);
    let began = Instant::now();
    let cancel = Cancel::new();
    // Nobody has the claim.
    assert_eq!(b.wait(&key(1), far(), &cancel), None);
    // Until then.
    let token = mine(a.claim(&key(2), LONG));
    assert_eq!(b.wait(&key(2), Instant::now() + ms(30), &cancel), None);
    std::thread::scope(|scope| {
        // The holder failed.
        let waiter = scope.spawn(|| b.wait(&key(2), far(), &cancel));
        eventually("the waiter", || b.count("poll", "taken") > 2);
        a.release(token);
        assert_eq!(waiter.join().unwrap(), None);
    });
    let token = mine(a.claim(&key(3), LONG));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| b.wait(&key(3), far(), &cancel));
        cancel.cancel(Reason::ClientGone);
        assert_eq!(waiter.join().unwrap(), None);
    });
    std::thread::scope(|scope| {
        let seen = b.count("poll", "taken");
        let waiter = scope.spawn(|| b.wait(&key(3), far(), &Cancel::new()));
        eventually("the waiter", || b.count("poll", "taken") > seen);
        redis.kill();
        assert_eq!(waiter.join().unwrap(), None);
    });
    drop(token);
    assert!(began.elapsed() < LONG);
}
