//! Strings by what they say: UTF-8, and lone surrogates, which no UTF-8 holds, as UTF-8 would
//! write them if it could ("WTF-8"). A surrogate written raw cannot be, so a pair is always
//! found where both halves are escaped side by side.

use super::super::plain_run;
use super::Buffered;

/// Writes what a string literal says whose opening quote has been read. Returns its bytes up to the
/// closing quote and with it.
pub(super) fn write(literal: &[u8], out: &mut Buffered<'_>) -> usize {
    let mut at = 0;
    loop {
        let plain = plain_run(&literal[at..]);
        out.bytes(&literal[at..at + plain]);
        at += plain;
        if literal.get(at) != Some(&b'\\') {
            return at + 1;
        }
        let (said, length, read) = escape(&literal[at..]);
        out.bytes(&said[..length]);
        at += read;
    }
}

/// The bytes that the inside of a string literal says, one by one: for keys.
#[derive(Clone)]
pub(super) struct Said<'a> {
    rest: &'a [u8],
    /// What is left of an escape.
    escaped: [u8; 4],
    from: usize,
    to: usize,
}

impl<'a> Said<'a> {
    pub(super) const fn of(literal: &'a [u8]) -> Self {
        Self {
            rest: literal,
            escaped: [0; 4],
            from: 0,
            to: 0,
        }
    }
}

impl Iterator for Said<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.from == self.to {
            let first = *self.rest.first()?;
            if first != b'\\' {
                self.rest = &self.rest[1..];
                return Some(first);
            }
            let (said, length, read) = escape(self.rest);
            (self.escaped, self.from, self.to) = (said, 0, length);
            self.rest = &self.rest[read..];
        }
        self.from += 1;
        Some(self.escaped[self.from - 1])
    }
}

/// What the escape at the start of `text` says, how many bytes that is, and how many it is written
/// in. The text has been walked, so it is one.
fn escape(text: &[u8]) -> ([u8; 4], usize, usize) {
    let byte = match text.get(1) {
        Some(b'u') => {
            let unit = unit_at(text, 0);
            let low = unit_at(text, 6);
            let is_pair = (0xD800..0xDC00).contains(&unit) && (0xDC00..0xE000).contains(&low);
            if is_pair {
                let (said, length) = utf8(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
                return (said, length, 12);
            }
            let (said, length) = utf8(unit);
            return (said, length, 6.min(text.len()));
        }
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(byte) => *byte,
        None => b'\\',
    };
    ([byte, 0, 0, 0], 1, 2.min(text.len()))
}

/// The UTF-16 unit that is escaped at `at`; 0, which is half of nothing, where there is none.
fn unit_at(text: &[u8], at: usize) -> u32 {
    let Some([b'\\', b'u', digits @ ..]) = text.get(at..at + 6) else {
        return 0;
    };
    let digit = |sum: u32, digit: &u8| sum << 4 | (*digit as char).to_digit(16).unwrap_or(0);
    digits.iter().fold(0, digit)
}

/// UTF-8 of a code point, surrogates as if they were one (RFC 3629 section 3 without its last
/// restriction).
const fn utf8(code: u32) -> ([u8; 4], usize) {
    const fn tail(code: u32, shift: u32) -> u8 {
        0x80 | (code >> shift & 0x3F) as u8
    }
    match code {
        0..0x80 => ([code as u8, 0, 0, 0], 1),
        0x80..0x800 => ([0xC0 | (code >> 6) as u8, tail(code, 0), 0, 0], 2),
        0x800..0x10000 => {
            let first = 0xE0 | (code >> 12) as u8;
            ([first, tail(code, 6), tail(code, 0), 0], 3)
        }
        _ => {
            let first = 0xF0 | (code >> 18) as u8;
            ([first, tail(code, 12), tail(code, 6), tail(code, 0)], 4)
        }
    }
}
