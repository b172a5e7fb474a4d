//! An entry as bytes, for what outlives the process.
//!
//! A version in front, a checksum behind, everything in between in one order without padding. The
//! checksum is keyed with the entry's key: what was damaged, cut, or is found under another call's
//! key is no entry, and never a wrong answer. Whoever reads an older form finds nothing, too; a
//! cache fills again.
//!
//! ```text
//! form: u8, flags: u8, status, created (ms since 1970), ttl, cost,
//! usage: each number that was given, content type, provider, model, dropped, upstream request id if any,
//! body: its length and its bytes, or the number of events and each as a body,
//! checksum: 16 bytes
//! ```
//!
//! Numbers are LEB128, texts have their lengths in front, durations are seconds and nanoseconds.
//! Start at [`encode`] and [`decode`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::entry::{Body, Cost, Entry, Events};
use super::key::Key;
use crate::wire::usage::Usage;

/// The form that is written, and the only one that is read.
const FORM: u8 = 1;

/// By how far the clock may have been set back since an entry was written.
const SKEW_MAX: Duration = Duration::from_secs(5);

/// A part of the hash: damage goes unseen once in 2^128 times.
const CHECKSUM_BYTES: usize = 16;

const FLAG_EVENTS: u8 = 1;
const FLAG_ID: u8 = 1 << 1;
/// The first of five, in the order of [`numbers`].
const FLAG_USAGE: u8 = 1 << 2;
const FLAGS: u8 = (FLAG_USAGE << 5) - 1;

/// Appends an entry to `out`, in about its body's length and 200 bytes more.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    let usage = numbers(&entry.usage);
    let mut flags = 0;
    if entry.body.is_stream() {
        flags |= FLAG_EVENTS;
    }
    if entry.upstream_request_id.is_some() {
        flags |= FLAG_ID;
    }
    for (index, number) in usage.iter().enumerate() {
        flags |= u8::from(number.is_some()) * (FLAG_USAGE << index);
    }
    out.reserve(entry.body.as_bytes().len() + 256);
    out.extend([FORM, flags]);
    put(out, entry.status.into());
    let created = entry.created_at.duration_since(UNIX_EPOCH);
    let created = created.unwrap_or_default().as_millis();
    put(out, u64::try_from(created).unwrap_or(u64::MAX));
    put_duration(out, entry.ttl());
    put(out, entry.cost.tokens);
    put_duration(out, entry.cost.time);
    usage.iter().flatten().for_each(|number| put(out, *number));
    for text in [
        &entry.content_type,
        &entry.provider,
        &entry.model,
        &entry.dropped,
    ] {
        put_bytes(out, text.as_bytes());
    }
    if let Some(id) = &entry.upstream_request_id {
        put_bytes(out, id.as_bytes());
    }
    match &entry.body {
        Body::Whole(bytes) => put_bytes(out, bytes),
        Body::Events(events) => {
            put(out, events.iter().len() as u64);
            events.iter().for_each(|event| put_bytes(out, event));
        }
    }
    let checksum = checksum(&entry.key, &out[start..]);
    out.extend(checksum);
}

/// The entry that `bytes` are, if they are all of one that was stored under `key` and it may still
/// be given. Its age and end are reckoned from the wall clock, to the millisecond and never to its
/// advantage; one that comes from more than five seconds ahead of `now_wall` is none, since nobody
/// knows how old it is.
pub fn decode(key: &Key, bytes: &[u8], now: Instant, now_wall: SystemTime) -> Option<Entry> {
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if checksum(key, content) != *sum {
        return None;
    }
    let mut rest = Rest(content);
    let [form, flags] = *rest.take(2)?.first_chunk::<2>()?;
    if form != FORM || flags & !FLAGS != 0 {
        return None;
    }
    let status = u16::try_from(rest.number()?).ok()?;
    let created_at = UNIX_EPOCH.checked_add(Duration::from_millis(rest.number()?))?;
    let ttl = rest.duration()?;
    let cost = Cost {
        tokens: rest.number()?,
        time: rest.duration()?,
    };
    let mut usage = [None; 5];
    for (index, number) in usage.iter_mut().enumerate() {
        if flags & (FLAG_USAGE << index) != 0 {
            *number = Some(rest.number()?);
        }
    }
    let [input, output, cache_read, cache_write, reasoning] = usage;
    let (content_type, provider) = (rest.text()?, rest.text()?);
    let (model, dropped) = (rest.text()?, rest.text()?);
    let upstream_request_id = match flags & FLAG_ID {
        0 => None,
        _ => Some(rest.text()?),
    };
    let body = match flags & FLAG_EVENTS {
        0 => Body::Whole(rest.bytes()?.into()),
        _ => Body::Events(rest.events()?),
    };
    if !rest.0.is_empty() || !(200..300).contains(&status) {
        return None;
    }
    let age = age(created_at, now_wall)?;
    let (created, ttl) = reckon_back(now, age, ttl);
    let entry = Entry {
        key: *key,
        expires: Entry::end(created, ttl),
        status,
        body,
        content_type,
        provider,
        model,
        usage: Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
        },
        upstream_request_id,
        dropped,
        created,
        created_at,
        cost,
    };
    (entry.expires > now).then_some(entry)
}

const fn numbers(usage: &Usage) -> [Option<u64>; 5] {
    [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.reasoning,
    ]
}

/// How old it is; `None` if it comes from the future.
fn age(created_at: SystemTime, now_wall: SystemTime) -> Option<Duration> {
    match now_wall.duration_since(created_at) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= SKEW_MAX).then_some(Duration::ZERO),
    }
}

/// When it was made, and how long it lives from then on. Where [`Instant`] does not reach back so
/// far, it was made now, to live for what is left.
fn reckon_back(now: Instant, age: Duration, ttl: Duration) -> (Instant, Duration) {
    match now.checked_sub(age) {
        Some(created) => (created, ttl),
        None => (now, ttl.saturating_sub(age)),
    }
}

fn checksum(key: &Key, content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::keyed_hash(key.as_bytes(), content);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash.as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put(out, duration.as_secs());
    put(out, duration.subsec_nanos().into());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What was not read yet. Nothing is allocated before it is known to be there.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn duration(&mut self) -> Option<Duration> {
        let (seconds, nanos) = (self.number()?, u32::try_from(self.number()?).ok()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<Box<str>> {
        str::from_utf8(self.bytes()?).ok().map(Box::from)
    }

    fn events(&mut self) -> Option<Events> {
        let events: Option<Vec<&[u8]>> = (0..self.number()?).map(|_| self.bytes()).collect();
        Events::new(events?)
    }
}

#[cfg(test)]
mod tests;
