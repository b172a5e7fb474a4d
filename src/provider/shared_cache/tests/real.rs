//! What is put is found, for as long as it was put for, by everybody who may.

use super::server::Redis;
use super::*;

#[test]
fn what_is_put_is_found_by_others_until_its_time_is_up() {
    let Some(redis) = Redis::start("the shared cache", &[]) else {
        return;
    };
    let (a, b) = (
        start_up(&shared(redis.port, 2000)),
        start_up(&shared(redis.port, 2000)),
    );
    assert_eq!(a.get(&key(1)), Found::Miss);
    let value: Vec<u8> = (0..=255).collect();
    a.put_and_see(&key(1), &value);
    assert_eq!(b.get(&key(1)), Found::Hit(value));
    assert_eq!(b.get(&key(2)), Found::Miss);
    a.put(&key(3), b"", ms(300));
    eventually("the value", || b.get(&key(3)) == Found::Hit(Vec::new()));
    eventually("its end", || b.get(&key(3)) == Found::Miss);
    a.put(&key(4), b"never", Duration::ZERO);
    a.put_and_see(&key(5), b"behind it");
    assert_eq!(a.get(&key(4)), Found::Miss);
    let report = b.report();
    assert_eq!(report.standing, Standing::Up);
    assert_eq!(report.target, format!("127.0.0.1:{}/0", redis.port));
    assert!(
        report.latency.is_some() && report.why.is_none(),
        "{report:?}"
    );
    assert_eq!(a.count("put", "ok"), 3);
    assert!(a.metrics.render().contains("victor_cache_shared_up 1\n"));
}

#[test]
fn a_large_value_is_shared_whole_and_a_larger_one_is_not() {
    let Some(redis) = Redis::start("large shared values", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, 10_000));
    let largest: Vec<u8> = (0..VALUE_BYTES_MAX).map(|n| n as u8).collect();
    cache.put_and_see(&key(1), &largest);
    let larger = vec![0; VALUE_BYTES_MAX + 1];
    cache.put(&key(2), &larger, Duration::from_secs(60));
    assert_eq!(cache.count("put", "too_large"), 1);
    assert_eq!(cache.queued_bytes(), 0);
    cache.put_and_see(&key(3), b"small");
    assert_eq!(cache.get(&key(2)), Found::Miss);
}

#[test]
fn prefixes_and_databases_keep_apart_and_passwords_are_asked_for() {
    let arguments = "--requirepass hunter2 --user ann on >s3cret ~* +@all";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let Some(redis) = Redis::start("passwords of the shared cache", &arguments) else {
        return;
    };
    let mut config = shared(redis.port, 2000);
    config.password = Some(Secret::new("hunter2"));
    let first = start_up(&config);
    first.put_and_see(&key(1), b"one");

    let mut other = config.clone();
    other.user = Some("ann".to_owned());
    other.password = Some(Secret::new("s3cret"));
    assert_eq!(start_up(&other).get(&key(1)), Found::Hit(b"one".to_vec()));
    other.db = 3;
    assert_eq!(start_up(&other).get(&key(1)), Found::Miss);
    other.db = 0;
    other.key_prefix = "other:".to_owned();
    assert_eq!(start_up(&other).get(&key(1)), Found::Miss);

    for (password, code) in [(Some("wr0ng"), "WRONGPASS"), (None, "NOAUTH")] {
        config.password = password.map(Secret::new);
        let refused = start(&config);
        let report = refused.report();
        assert_eq!(report.standing, Standing::Down);
        assert_eq!(report.why, Some(format!("refused: {code}")));
        assert_eq!(refused.get(&key(1)), Found::Unavailable);
        assert!(!format!("{report:?}").contains("wr0ng"));
    }
}

#[test]
fn a_full_server_is_still_read_from() {
    let Some(redis) = Redis::start("a full shared cache", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, 2000));
    cache.put_and_see(&key(1), b"before");
    redis.configure("maxmemory", "1");
    cache.put(&key(2), b"after", Duration::from_secs(60));
    eventually("the refusal", || cache.count("put", "refused") == 1);
    let report = cache.report();
    assert_eq!(report.writes_refused.as_deref(), Some("OOM"));
    assert_eq!(report.standing, Standing::Up);
    assert_eq!(cache.get(&key(1)), Found::Hit(b"before".to_vec()));
    assert!(matches!(
        cache.claim(&key(3), Duration::from_secs(60)),
        Claim::Unavailable
    ));
    redis.configure("maxmemory", "0");
    cache.put_and_see(&key(2), b"after");
    eventually("word of it", || cache.report().writes_refused.is_none());
}

#[test]
fn anothers_key_under_our_prefix_is_a_miss() {
    let Some(redis) = Redis::start("foreign keys in the shared cache", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, 2000));
    let name = cache.client.name(Kind::Answer, &key(1));
    let mut commands = Vec::new();
    command(&mut commands, &[b"LPUSH", &name, b"x"]);
    redis.send(&commands);
    assert_eq!(cache.get(&key(1)), Found::Miss);
    assert_eq!(cache.report().standing, Standing::Up);
    cache.put_and_see(&key(1), b"ours");
}

#[test]
fn what_is_queued_at_the_end_is_still_written() {
    let Some(redis) = Redis::start("the end of the shared cache", &[]) else {
        return;
    };
    let cache = start_up(&shared(redis.port, 2000));
    for number in 0..100 {
        cache.put(&key(number), &[number], Duration::from_secs(60));
    }
    cache.shutdown();
    let other = start_up(&shared(redis.port, 2000));
    for number in 0..100 {
        assert_eq!(other.get(&key(number)), Found::Hit(vec![number]));
    }
    cache.put(&key(200), b"too late", Duration::from_secs(60));
    assert_eq!(cache.count("put", "dropped"), 1);
}
