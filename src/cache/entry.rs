//! A complete answer, as it can be given again.

use std::mem::offset_of;
use std::time::{Duration, Instant, SystemTime};

use super::key::Key;
use crate::wire::usage::Usage;

/// Tokens that a model writes in a second, so that time saved can be weighed against tokens
/// saved. Hosted models write 20 to 200.
const TOKENS_A_SECOND: f64 = 50.0;

/// Beyond this an answer has no use, and an [`Instant`] perhaps no room.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What was answered, in the shape in which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A whole body.
    Whole(Box<[u8]>),
    /// The events of a stream, as they were relayed.
    Events(Events),
}

impl Body {
    /// The bytes of all of it, events one after the other.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Events(events) => &events.bytes,
        }
    }

    /// Whether it was a stream.
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Events(_))
    }
}

/// Raw events, in one piece with their ends beside it: thousands of small allocations would cost
/// more than what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Events {
    /// The events, each with its empty line; `None` if they are over 4 GiB together.
    pub fn new<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for event in events {
            bytes.extend_from_slice(event);
            ends.push(u32::try_from(bytes.len()).ok()?);
        }
        Some(Self {
            bytes: bytes.into_boxed_slice(),
            ends: ends.into_boxed_slice(),
        })
    }

    /// The events, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(number, end)| {
            let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start as usize..*end as usize]
        })
    }
}

/// What it took to get an answer, and so what each hit saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Tokens that the provider counted, in and out.
    pub tokens: u64,
    /// From asking the provider to its last byte.
    pub time: Duration,
}

impl Cost {
    /// Tokens and time as one number, in tokens; never 0, since every call costs something.
    pub fn weight(&self) -> f64 {
        1.0 + self.tokens as f64 + TOKENS_A_SECOND * self.time.as_secs_f64()
    }
}

/// A complete 2xx answer. It never changes; it is shared as `Arc<Entry>`.
// In this order: what every lookup reads is in one line of memory with the counters of the `Arc`,
// and what `bytes` adds up in the next two.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// The calls that it is the answer to.
    pub key: Key,
    /// From when on it must not be given any more; see [`Entry::end`].
    pub expires: Instant,
    /// What was answered.
    pub body: Body,
    /// The header of that name.
    pub content_type: Box<str>,
    /// Who answered.
    pub provider: Box<str>,
    /// With which model, in the provider's words.
    pub model: Box<str>,
    /// What the provider calls the call.
    pub upstream_request_id: Option<Box<str>>,
    /// The names of what the provider was not told, or the caller cannot be; empty for nothing.
    pub dropped: Box<str>,
    /// When it was complete. Its age is reckoned from here.
    pub created: Instant,
    /// The same for people and for storing.
    pub created_at: SystemTime,
    /// What it took.
    pub cost: Cost,
    /// What it was billed as.
    pub usage: Usage,
    /// 200 to 299.
    pub status: u16,
}

const _: () = assert!(
    offset_of!(Entry, body) == 64 - 2 * size_of::<usize>(),
    "with the counters of the `Arc`, key and end are a line of memory"
);

impl AsRef<[u8]> for Entry {
    /// What was answered.
    fn as_ref(&self) -> &[u8] {
        self.body.as_bytes()
    }
}

impl Entry {
    /// How old it is, as the header `age` says.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    /// From when on an answer that was complete at `created` must not be given, if it may be for
    /// `ttl`. Beyond ten years is ten years; it is `created` itself where an [`Instant`] does not
    /// reach so far.
    pub fn end(created: Instant, ttl: Duration) -> Instant {
        let end = created.checked_add(ttl.min(TTL_MAX));
        end.unwrap_or(created)
    }

    /// How long it may be given, from its first moment on; ten years at most.
    pub fn ttl(&self) -> Duration {
        self.expires.saturating_duration_since(self.created)
    }

    /// The memory that it takes in a cache, its place there included: each allocation
    /// as big as the allocator makes it.
    pub fn bytes(&self) -> usize {
        // An `Arc` has two counters in front.
        let own = allocated(size_of::<Self>() + 2 * size_of::<usize>());
        let body = match &self.body {
            Body::Whole(bytes) => allocated(bytes.len()),
            Body::Events(events) => {
                allocated(events.bytes.len()) + allocated(size_of_val(&*events.ends))
            }
        };
        let id = self.upstream_request_id.as_ref();
        let texts = allocated(self.content_type.len())
            + allocated(self.provider.len())
            + allocated(self.model.len())
            + allocated(id.map_or(0, |id| id.len()))
            + allocated(self.dropped.len());
        own + body + texts + super::shard::PLACE_BYTES
    }
}

/// The size class of an allocation: multiples of 16 up to 128, then four to each doubling. Source:
/// jemalloc(3), "Size classes".
fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        // An isize bounds every allocation, so no power of two is out of reach.
        _ => {
            let last = bytes.next_power_of_two() / 8 - 1;
            (bytes + last) & !last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_has_the_size_of_its_class() {
        for (bytes, expected) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (100, 112),
            (128, 128),
            (129, 160),
            (160, 160),
            (1000, 1024),
            (1025, 1280),
            (14_337, 16_384),
            (16_385, 20_480),
        ] {
            assert_eq!(allocated(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn events_come_back_one_by_one() {
        let all = [&b"data: 1\n\n"[..], b"", b"data: [DONE]\n\n"];
        let events = Events::new(all).unwrap();
        assert_eq!(events.iter().collect::<Vec<_>>(), all);
        let body = Body::Events(events);
        assert!(body.is_stream());
        assert_eq!(body.as_bytes(), b"data: 1\n\ndata: [DONE]\n\n");
    }
}
