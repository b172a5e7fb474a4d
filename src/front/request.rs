//! A whole request, as the handler gets it.
//!
//! The head is kept as the bytes that came, with the places of its parts: reading a header is a
//! look into those bytes, and nothing is allocated per header.

use std::net::SocketAddr;
use std::time::Instant;

use super::budget::Charge;

/// Places in the head; heads are at most 32 KiB, so 16 bits do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u16,
    pub end: u16,
}

impl Span {
    /// Where `part`, a piece of `whole`, lies in it.
    pub fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(
            start + part.len() <= whole.len(),
            "a part lies within its whole"
        );
        Self {
            start: start as u16,
            end: (start + part.len()) as u16,
        }
    }

    fn length(self) -> usize {
        usize::from(self.end - self.start)
    }

    fn within(self, whole: &[u8]) -> &[u8] {
        &whole[usize::from(self.start)..usize::from(self.end)]
    }
}

/// A request head whose parts have been found and checked by `parse`.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub bytes: Box<[u8]>,
    pub method: Span,
    pub path: Span,
    pub query: Option<Span>,
    pub fields: Vec<(Span, Span)>,
    pub lengths: Lengths,
}

/// How long the names of a head's fields are, a bit for each length; the last for all from 63 on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lengths(u64);

impl Lengths {
    pub fn add(&mut self, length: usize) {
        self.0 |= Self::bit(length);
    }

    fn has(self, length: usize) -> bool {
        self.0 & Self::bit(length) != 0
    }

    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

/// A request whose body has arrived completely.
#[derive(Debug)]
pub struct Request {
    pub(super) head: Head,
    /// The body, with its transfer coding removed; empty if there was none.
    pub body: Vec<u8>,
    /// When its last byte was read.
    pub received: Instant,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The body's share of what all bodies may hold.
    pub(super) _charge: Charge,
}

impl Request {
    /// The method, in the case it was sent in: methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(self.head.method)
    }

    /// The target without its query, as sent (not decoded). Begins with `/`, or is `*`.
    pub fn path(&self) -> &str {
        self.text(self.head.path)
    }

    /// What follows the `?` of the target.
    pub fn query(&self) -> Option<&str> {
        self.head.query.map(|span| self.text(span))
    }

    /// The first header of that name (any case) whose value is UTF-8.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&str> {
        // A call is asked for some fifteen headers that most do not have. Those are found by the
        // length of their names alone, which took 11,000 instructions a call when all names were
        // compared and all values checked, and takes 200.
        match self.head.lengths.has(name.len()) {
            true => self.find(name),
            false => None,
        }
    }

    fn find(&self, name: &str) -> Option<&str> {
        let bytes = &self.head.bytes;
        let mut fields = self.head.fields.iter();
        fields.find_map(|(known, value)| {
            let is_it = known.length() == name.len()
                && known.within(bytes).eq_ignore_ascii_case(name.as_bytes());
            match is_it {
                true => std::str::from_utf8(value.within(bytes)).ok(),
                false => None,
            }
        })
    }

    /// Every header whose value is UTF-8, in order, names in the case they were sent in.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.fields.iter().filter_map(|(name, value)| {
            let value = std::str::from_utf8(value.within(&self.head.bytes)).ok()?;
            Some((self.text(*name), value))
        })
    }

    /// The same request with another body.
    pub fn with_body(&self, body: Vec<u8>) -> Self {
        Self {
            head: self.head.clone(),
            body,
            received: self.received,
            peer: self.peer,
            _charge: Charge::default(),
        }
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(span.within(&self.head.bytes)).unwrap_or("")
    }
}
