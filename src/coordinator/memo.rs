//! What the last small bodies that came back to a thread came to: the facts found in them and the
//! key of their answer.
//!
//! A question that is repeated, which is what hits are made of, then costs a comparison in place of
//! a walk for the facts, two for the canonical form, and a hash: 1,000 instructions, not 14,000. A
//! body is kept from the second time on that it comes, so what does not repeat takes no memory and
//! drives nothing out. Everything that a key is made of is compared byte by byte; routes are not
//! kept, so a new configuration finds nothing old here.
//!
//! Start at [`scanned`] and [`key`].

use std::cell::RefCell;

use crate::cache::{Key, Place};
use crate::wire::Endpoint;
use crate::wire::request::Scanned;

/// Bodies that a thread keeps: 512 KiB of them at most.
const BODIES_MAX: usize = 64;
/// Longer ones are not kept.
const BODY_BYTES_MAX: usize = 8 << 10;
/// What decides a body's place: its length and as many bytes at its end, where questions differ.
const TAIL_BYTES: usize = 512;

/// Name and value.
type OwnHeader = (Box<str>, Box<[u8]>);

/// A body and what it came to.
struct Known {
    body: Box<[u8]>,
    scanned: Scanned,
    endpoint: Endpoint,
    coordinator: Box<str>,
    route: Box<str>,
    scope: [u8; 32],
    headers: Box<[OwnHeader]>,
    key: Option<Key>,
}

/// One body has this place, or none yet.
#[derive(Default)]
struct Slot {
    /// Of the last body that was not the one that is kept.
    seen: u64,
    known: Option<Box<Known>>,
}

thread_local! {
    static SLOTS: RefCell<[Slot; BODIES_MAX]> =
        RefCell::new(std::array::from_fn(|_| Slot::default()));
}

/// What was found in `body`, if that is known.
pub fn scanned(body: &[u8]) -> Option<Scanned> {
    with_known(body, |known| Some(known.scanned.clone()))
}

/// As [`Key::of`]; `scanned` is what was found in `body`.
pub fn key(place: &Place<'_>, body: &[u8], scanned: &Scanned) -> Option<Key> {
    let known = with_known(body, |known| known.is_at(place).then_some(known.key));
    known.unwrap_or_else(|| {
        let key = Key::of(place, body);
        keep(place, body, scanned, key);
        key
    })
}

fn with_known<T>(body: &[u8], take: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
    if body.len() > BODY_BYTES_MAX {
        return None;
    }
    SLOTS.with_borrow(|slots| {
        let known = slots[slot_of(hash(body))].known.as_ref()?;
        (*known.body == *body).then(|| take(known)).flatten()
    })
}

fn keep(place: &Place<'_>, body: &[u8], scanned: &Scanned, key: Option<Key>) {
    if body.len() > BODY_BYTES_MAX {
        return;
    }
    let hash = hash(body);
    SLOTS.with_borrow_mut(|slots| {
        let slot = &mut slots[slot_of(hash)];
        if std::mem::replace(&mut slot.seen, hash) != hash {
            return;
        }
        let own = |(name, value): &(&str, &[u8])| (Box::from(*name), Box::from(*value));
        slot.known = Some(Box::new(Known {
            body: body.into(),
            scanned: scanned.clone(),
            endpoint: place.endpoint,
            coordinator: place.coordinator.into(),
            route: place.route.into(),
            scope: *place.scope,
            headers: place.headers.iter().map(own).collect(),
            key,
        }));
    });
}

impl Known {
    /// Whether the key is that of a call to this place.
    fn is_at(&self, place: &Place<'_>) -> bool {
        // Whoever adds a part to a place has to compare it here.
        let Place {
            endpoint,
            coordinator,
            route,
            scope,
            headers,
        } = *place;
        let own = self.headers.iter().map(|(name, value)| (&**name, &**value));
        self.endpoint == endpoint
            && *self.coordinator == *coordinator
            && *self.route == *route
            && self.scope == *scope
            && own.eq(headers.iter().copied())
    }
}

/// Only finds a place: bodies that share one cost time, and nothing else.
fn hash(body: &[u8]) -> u64 {
    let tail = &body[body.len().saturating_sub(TAIL_BYTES)..];
    let (words, rest) = tail.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // FxHash, as the compiler of Rust has it.
    let add = |hash: u64, word: &[u8; 8]| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95)
    };
    add(words.iter().fold(body.len() as u64, add), &last)
}

/// The upper bits, which all bytes have moved.
const fn slot_of(hash: u64) -> usize {
    (hash >> (u64::BITS - BODIES_MAX.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::scan;
    use proptest::prelude::*;

    const SCOPES: [[u8; 32]; 2] = [[0; 32], [7; 32]];

    fn place<'a>(number: usize, headers: &'a [(&'a str, &'a [u8])]) -> Place<'a> {
        let bit = |at: u32| number >> at & 1;
        Place {
            endpoint: [Endpoint::ChatCompletions, Endpoint::Messages][bit(0)],
            coordinator: ["ChatCoordinator", "Other"][bit(1)],
            route: ["a", "b"][bit(2)],
            scope: &SCOPES[bit(3)],
            headers: &headers[..bit(4) + bit(5)],
        }
    }

    fn is_known(body: &[u8]) -> bool {
        scanned(body).is_some()
    }

    #[test]
    fn a_body_is_kept_from_the_second_time_on() {
        let body = br#"{"model":"m","messages":[]}"#;
        let facts = scan(body).unwrap();
        let place = place(0, &[]);
        let expected = Key::of(&place, body);
        for was_known in [false, false, true] {
            assert_eq!(is_known(body), was_known);
            assert_eq!(key(&place, body, &facts), expected);
        }
        assert_eq!(scanned(body), Some(facts));
    }

    #[test]
    fn a_long_body_is_not_kept() {
        let text = "x".repeat(BODY_BYTES_MAX);
        let body = format!(r#"{{"model":"m","messages":"{text}"}}"#).into_bytes();
        let facts = scan(&body).unwrap();
        for _ in 0..3 {
            assert!(!is_known(&body));
            assert_eq!(
                key(&place(0, &[]), &body, &facts),
                Key::of(&place(0, &[]), &body)
            );
        }
    }

    proptest! {
        /// Few bodies, places and headers in any order, so that each is met again and most change
        /// in one part only.
        #[test]
        fn a_key_is_the_one_that_would_be_made_anew(
            calls in prop::collection::vec((0..4_usize, 0..64_usize, 0..3_usize), 1..60)
        ) {
            let values: [&[u8]; 3] = [b"1", b"2", b""];
            for (body, number, value) in calls {
                let body = format!(r#"{{"model":"m{body}","n":1,"messages":[{body}]}}"#).into_bytes();
                let headers = [("anthropic-beta", values[value]), ("x-sim", &b"y"[..])];
                let place = place(number, &headers);
                let facts = scanned(&body).unwrap_or_else(|| scan(&body).unwrap());
                prop_assert_eq!(&facts, &scan(&body).unwrap());
                prop_assert_eq!(key(&place, &body, &facts), Key::of(&place, &body));
            }
        }
    }
}
