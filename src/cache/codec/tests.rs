//! What comes back, and that nothing else does. That a kill leaves no wrong answer in the database
//! is in `crash.rs`.

mod crash;

use proptest::prelude::*;

use super::*;

/// 2023, to the millisecond.
const CREATED: Duration = Duration::from_millis(1_700_000_000_123);

fn wall() -> SystemTime {
    UNIX_EPOCH + CREATED
}

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    encode(entry, &mut out);
    out
}

fn small() -> Entry {
    let created = Instant::now();
    Entry {
        key: key(1),
        expires: created + Duration::from_secs(60),
        status: 200,
        body: Body::Whole((*b"{}").into()),
        content_type: "application/json".into(),
        provider: "openai".into(),
        model: "m".into(),
        usage: Usage::default(),
        upstream_request_id: None,
        dropped: "".into(),
        created,
        created_at: wall(),
        cost: Cost::default(),
    }
}

fn text() -> impl Strategy<Value = Box<str>> {
    ".{0,12}".prop_map(Box::from)
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn body() -> impl Strategy<Value = Body> {
    let events = prop::collection::vec(bytes(40), 0..20);
    let events = events.prop_map(|events| Events::new(events.iter().map(Vec::as_slice)));
    prop_oneof![
        bytes(300).prop_map(|bytes| Body::Whole(bytes.into())),
        events.prop_map(|events| Body::Events(events.unwrap())),
    ]
}

prop_compose! {
    fn entry()(
        status in 200_u16..300,
        body in body(),
        content_type in text(),
        provider in text(),
        model in text(),
        usage in any::<[Option<u64>; 5]>(),
        upstream_request_id in prop::option::of(text()),
        ttl in 1_u64..10_000_000_000,
        (tokens, time) in (any::<u64>(), any::<u64>()),
    ) -> Entry {
        let [input, output, cache_read, cache_write, reasoning] = usage;
        let small = small();
        Entry {
            expires: small.created + Duration::from_nanos(ttl),
            status,
            body,
            content_type,
            provider,
            model,
            usage: Usage { input, output, cache_read, cache_write, reasoning },
            upstream_request_id,
            dropped: "".into(),
            cost: Cost { tokens, time: Duration::from_nanos(time) },
            ..small
        }
    }
}

proptest! {
    #[test]
    fn an_entry_comes_back_as_it_was_until_it_ends(
        entry in entry(),
        before in bytes(20),
        part in 0.0..2.0,
    ) {
        let mut out = before.clone();
        encode(&entry, &mut out);
        let (kept, bytes) = out.split_at(before.len());
        prop_assert_eq!(kept, before);
        let age = entry.ttl().mul_f64(part);
        let back = decode(&key(1), bytes, entry.created + age, wall() + age);
        if age < entry.ttl() {
            prop_assert_eq!(back, Some(entry));
        } else {
            prop_assert_eq!(back, None);
        }
    }

    #[test]
    fn what_is_not_whole_is_nothing(entry in entry(), bit in any::<usize>(), extra in any::<u8>()) {
        let sound = encoded(&entry);
        let reads = |key: &Key, bytes: &[u8]| decode(key, bytes, entry.created, wall()).is_some();
        prop_assert!(reads(&key(1), &sound));
        prop_assert!(!reads(&key(2), &sound), "another call's");
        let mut flipped = sound.clone();
        let bit = bit % (8 * sound.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!reads(&key(1), &flipped));
        prop_assert!(!reads(&key(1), &sound[..bit / 8]));
        prop_assert!(!reads(&key(1), &[&sound[..], &[extra]].concat()));
    }

    #[test]
    fn any_bytes_are_nothing_even_with_a_right_checksum(mut bytes in bytes(200), flags: u8) {
        let now = Instant::now();
        prop_assert_eq!(decode(&key(1), &bytes, now, wall()), None);
        // Behind the checksum every reader sees them.
        if let [form, own, ..] = &mut bytes[..] {
            (*form, *own) = (FORM, flags & FLAGS);
        }
        bytes.extend(checksum(&key(1), &bytes));
        if let Some(entry) = decode(&key(1), &bytes, now, wall()) {
            prop_assert!((200..300).contains(&entry.status) && entry.expires > now);
        }
    }

    #[test]
    fn numbers_come_back(number: u64, after in bytes(3)) {
        let mut out = Vec::new();
        put(&mut out, number);
        out.extend(&after);
        let mut rest = Rest(&out);
        prop_assert_eq!((rest.number(), rest.0), (Some(number), &after[..]));
    }
}

#[test]
fn every_bit_counts() {
    let entry = Entry {
        upstream_request_id: Some("req-1".into()),
        dropped: "".into(),
        body: Body::Events(Events::new([&b"data: 1\n\n"[..], b"data: [DONE]\n\n"]).unwrap()),
        ..small()
    };
    let sound = encoded(&entry);
    for bit in 0..8 * sound.len() {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            decode(&key(1), &flipped, entry.created, wall()),
            None,
            "{bit}"
        );
    }
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    for length in [3, u64::MAX >> 1, u64::MAX] {
        let mut out = Vec::new();
        put(&mut out, length);
        out.extend(b"ab");
        assert_eq!(Rest(&out).bytes(), None, "{length}");
        assert!(Rest(&out).events().is_none(), "{length}");
    }
    assert_eq!(Rest(&[0xff; 10]).number(), None);
    assert_eq!(Rest(&[0xff; 9]).number(), None);
}

#[test]
fn another_form_is_nothing() {
    let entry = small();
    let mut bytes = encoded(&entry);
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    bytes[0] = FORM + 1;
    bytes.extend(checksum(&key(1), &bytes));
    assert_eq!(decode(&key(1), &bytes, entry.created, wall()), None);
}

#[test]
fn a_clock_that_was_set_back_is_allowed_for_a_little() {
    let entry = small();
    let bytes = encoded(&entry);
    let at = |back| decode(&key(1), &bytes, entry.created, wall() - back);
    let back = at(Duration::from_secs(5)).unwrap();
    assert_eq!(back.created, entry.created);
    assert_eq!(at(Duration::from_millis(5_001)), None);
    assert_eq!(at(CREATED), None);
}

#[test]
fn the_end_is_never_later_than_it_was() {
    // Half a millisecond is lost, to the entry's disadvantage.
    let half = Duration::from_micros(500);
    let entry = Entry {
        created_at: wall() + half,
        ..small()
    };
    let back = decode(&key(1), &encoded(&entry), entry.created, entry.created_at);
    let back = back.unwrap();
    assert_eq!(back.created_at, wall());
    assert_eq!(entry.expires - back.expires, half);
}

#[test]
fn where_an_instant_does_not_reach_back_the_rest_of_the_time_is_left() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    assert_eq!(
        reckon_back(now, Duration::MAX - second, Duration::MAX),
        (now, second)
    );
    assert_eq!(
        reckon_back(now, Duration::MAX, second),
        (now, Duration::ZERO)
    );
    let (created, ttl) = reckon_back(now, second, 2 * second);
    assert_eq!((created + second, ttl), (now, 2 * second));
}
