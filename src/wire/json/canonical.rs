//! The one form in which two texts are the same if and only if they say the same.
//!
//! Members are in the order of what their keys say, blanks are gone, strings are what they say
//! and numbers are decimal digits and an exponent, so that neither a re-ordered nor a re-spaced
//! nor a re-escaped body differs from the first. It is no JSON: it is written for a hash, and no
//! text is a part of another one's. Each value begins with a letter that no other kind has;
//! strings and numbers end in a byte that no UTF-8 holds.
//!
//! The text is walked twice and never built. The first walk checks it and notes where the members
//! of each object stand, the second writes them in their order; a prompt goes from the body to the
//! hash as it stands. Neither recurses. Start at [`write()`].

mod number;
mod text;

use std::cmp::Ordering;
use std::ops::Range;

use super::{DEPTH_MAX, Walk};

/// Objects and members of one text: some 20 MB of notes at most. A body of 30 MB with a prompt,
/// images and tools has a few thousand.
pub const MEMBERS_MAX: usize = 1 << 19;

/// Ends strings and numbers. No UTF-8 holds it, nor UTF-8 that is stretched to lone surrogates.
const END: u8 = 0xFF;

/// Why a text has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not one JSON object, is nested too deep, or longer than 4 GiB.
    NotJson,
    /// An object has a key twice: readers differ in which of the two they take.
    Repeated,
    /// More than [`MEMBERS_MAX`] objects and members.
    TooMany,
    /// A number whose exponent has more than 18 digits.
    Exponent,
}

/// Writes the canonical form of the object that is `text` to `out`, less its top-level members
/// whose keys, unescaped, are in `left_out`.
///
/// Takes time in proportion to the text, and `log` of it for the sorting; memory for the members
/// only.
///
/// # Errors
/// There is no such form. Something may have been written by then.
pub fn write(text: &str, left_out: &[&str], out: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
    let index = Index::of(text)?;
    let mut writer = Writer {
        bytes: text.as_bytes(),
        index: &index,
        left_out,
        out: Buffered::new(out),
        at: index.start,
        objects: 0,
    };
    writer.run()?;
    writer.out.flush();
    Ok(())
}

/// A member of some object.
struct Member {
    /// Where the key's literal stands, quotes excluded.
    key: Range<u32>,
    /// Whether the key is written with escapes.
    is_escaped: bool,
    /// Where the value begins.
    value: u32,
    /// Objects that begin before the value does.
    objects: u32,
}

/// An object, in the order in which they begin.
#[derive(Default)]
struct Object {
    /// Its members in `Index::members`, sorted.
    members: Range<u32>,
    /// The byte behind it.
    end: u32,
    /// Objects that begin before that.
    objects: u32,
}

/// What the first walk notes.
struct Index {
    start: usize,
    objects: Vec<Object>,
    members: Vec<Member>,
}

/// A container that is open on the first walk.
enum Open {
    List,
    /// Which object, and how many members of the outer ones are pending.
    Object {
        index: usize,
        pending: usize,
    },
}

impl Index {
    fn of(text: &str) -> Result<Self, Refusal> {
        if u32::try_from(text.len()).is_err() {
            return Err(Refusal::NotJson);
        }
        let mut first = FirstWalk {
            walk: Walk {
                bytes: text.as_bytes(),
                at: 0,
                values: 0,
            },
            open: Vec::with_capacity(16),
            pending: Vec::new(),
            index: Self {
                start: 0,
                objects: Vec::new(),
                members: Vec::new(),
            },
        };
        first.walk.blanks();
        first.index.start = first.walk.at;
        if first.walk.peek() != Some(b'{') {
            return Err(Refusal::NotJson);
        }
        first.value()?;
        first.walk.blanks();
        match first.walk.peek() {
            None => Ok(first.index),
            Some(_) => Err(Refusal::NotJson),
        }
    }
}

struct FirstWalk<'a> {
    walk: Walk<'a>,
    open: Vec<Open>,
    /// Members of open objects.
    pending: Vec<Member>,
    index: Index,
}

impl FirstWalk<'_> {
    fn value(&mut self) -> Result<(), Refusal> {
        loop {
            let byte = self.walk.peek().ok_or(Refusal::NotJson)?;
            let walked = match byte {
                b'{' | b'[' => {
                    if self.enter(byte == b'{')? {
                        continue;
                    }
                    Ok(())
                }
                b'"' => {
                    self.walk.at += 1;
                    self.walk.string_rest()
                }
                b't' => self.walk.word(b"true"),
                b'f' => self.walk.word(b"false"),
                b'n' => self.walk.word(b"null"),
                _ => self.walk.number(),
            };
            walked.map_err(|_| Refusal::NotJson)?;
            if self.close()? {
                return Ok(());
            }
        }
    }

    /// Goes into a container; false if it is empty, and its end is next.
    fn enter(&mut self, is_object: bool) -> Result<bool, Refusal> {
        if self.open.len() == DEPTH_MAX {
            return Err(Refusal::NotJson);
        }
        self.walk.at += 1;
        self.walk.blanks();
        if is_object {
            self.open.push(Open::Object {
                index: self.index.objects.len(),
                pending: self.pending.len(),
            });
            self.index.objects.push(Object::default());
            self.bounded()?;
        } else {
            self.open.push(Open::List);
        }
        let is_empty = self.walk.peek() == Some(if is_object { b'}' } else { b']' });
        if is_object && !is_empty {
            self.member()?;
        }
        Ok(!is_empty)
    }

    fn bounded(&self) -> Result<(), Refusal> {
        let index = &self.index;
        let noted = index.objects.len() + index.members.len() + self.pending.len();
        if noted > MEMBERS_MAX {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    fn member(&mut self) -> Result<(), Refusal> {
        let start = self.walk.at + 1;
        let end = self.walk.key().map_err(|_| Refusal::NotJson)? - 1;
        self.pending.push(Member {
            key: start as u32..end as u32,
            is_escaped: memchr::memchr(b'\\', &self.walk.bytes[start..end]).is_some(),
            value: self.walk.at as u32,
            objects: self.index.objects.len() as u32,
        });
        self.bounded()
    }

    /// After a value: closes what ends here. True when the outermost has ended.
    fn close(&mut self) -> Result<bool, Refusal> {
        loop {
            let (is_object, index, pending) = match self.open.last() {
                None => return Ok(true),
                Some(Open::List) => (false, 0, 0),
                Some(Open::Object { index, pending }) => (true, *index, *pending),
            };
            self.walk.blanks();
            match (self.walk.peek(), is_object) {
                (Some(b','), _) => {
                    self.walk.at += 1;
                    self.walk.blanks();
                    if is_object {
                        self.member()?;
                    }
                    return Ok(false);
                }
                (Some(b']'), false) => self.walk.at += 1,
                (Some(b'}'), true) => {
                    self.walk.at += 1;
                    self.sort(index, pending)?;
                }
                _ => return Err(Refusal::NotJson),
            }
            self.open.pop();
        }
    }

    /// Puts the members of an object that has ended in their order.
    fn sort(&mut self, object: usize, pending: usize) -> Result<(), Refusal> {
        let bytes = self.walk.bytes;
        let order = |one: &Member, other: &Member| order(bytes, one, other);
        let own = &mut self.pending[pending..];
        own.sort_unstable_by(order);
        if own
            .windows(2)
            .any(|pair| order(&pair[0], &pair[1]) == Ordering::Equal)
        {
            return Err(Refusal::Repeated);
        }
        let members = &mut self.index.members;
        let first = members.len() as u32;
        members.extend(self.pending.drain(pending..));
        let members = first..members.len() as u32;
        self.index.objects[object] = Object {
            members,
            end: self.walk.at as u32,
            objects: self.index.objects.len() as u32,
        };
        Ok(())
    }
}

fn order(bytes: &[u8], one: &Member, other: &Member) -> Ordering {
    let literal = |member: &Member| &bytes[span(&member.key)];
    if one.is_escaped || other.is_escaped {
        text::Said::of(literal(one)).cmp(text::Said::of(literal(other)))
    } else {
        literal(one).cmp(literal(other))
    }
}

fn span(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// A container that is open on the second walk.
enum Frame {
    List,
    /// Which object, and its next member.
    Object {
        index: usize,
        next: u32,
    },
}

struct Writer<'a> {
    bytes: &'a [u8],
    index: &'a Index,
    left_out: &'a [&'a str],
    out: Buffered<'a>,
    at: usize,
    /// Objects that begin before `at`.
    objects: usize,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<(), Refusal> {
        let mut open = Vec::with_capacity(16);
        loop {
            match self.bytes[self.at] {
                b'{' => {
                    self.out.byte(b'{');
                    open.push(Frame::Object {
                        index: self.objects,
                        next: self.index.objects[self.objects].members.start,
                    });
                    self.objects += 1;
                }
                b'[' => {
                    self.out.byte(b'[');
                    self.at += 1;
                    open.push(Frame::List);
                }
                _ => self.scalar()?,
            }
            if !self.go_on(&mut open) {
                return Ok(());
            }
        }
    }

    fn scalar(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        match self.bytes[start] {
            b'"' => self.at = self.string(start + 1),
            word @ (b't' | b'n' | b'f') => {
                self.out.byte(word);
                self.at += if word == b'f' { 5 } else { 4 };
            }
            _ => {
                let mut walk = Walk {
                    bytes: self.bytes,
                    at: start,
                    values: 0,
                };
                walk.number().map_err(|_| Refusal::NotJson)?;
                self.at = walk.at;
                self.out.byte(b'd');
                number::write(&self.bytes[start..walk.at], &mut self.out)?;
                self.out.byte(END);
            }
        }
        Ok(())
    }

    /// The string whose inside begins at `start`. Returns where it has ended, quote included.
    fn string(&mut self, start: usize) -> usize {
        self.out.byte(b's');
        let length = text::write(&self.bytes[start..], &mut self.out);
        self.out.byte(END);
        start + length
    }

    /// After a value: goes to the next one, or ends what has none. False at the very end.
    fn go_on(&mut self, open: &mut Vec<Frame>) -> bool {
        let index = self.index;
        loop {
            let is_top = open.len() == 1;
            match open.last_mut() {
                None => return false,
                Some(Frame::List) => {
                    while let b' ' | b'\t' | b'\n' | b'\r' | b',' = self.bytes[self.at] {
                        self.at += 1;
                    }
                    if self.bytes[self.at] != b']' {
                        return true;
                    }
                    self.out.byte(b']');
                    self.at += 1;
                }
                Some(Frame::Object { index: own, next }) => {
                    let object = &index.objects[*own];
                    if *next < object.members.end {
                        let member = &index.members[*next as usize];
                        *next += 1;
                        if is_top && self.is_left_out(member) {
                            continue;
                        }
                        self.string(member.key.start as usize);
                        self.at = member.value as usize;
                        self.objects = member.objects as usize;
                        return true;
                    }
                    self.out.byte(b'}');
                    self.at = object.end as usize;
                    self.objects = object.objects as usize;
                }
            }
            open.pop();
        }
    }

    fn is_left_out(&self, member: &Member) -> bool {
        let key = &self.bytes[span(&member.key)];
        let is = |name: &&str| text::Said::of(key).eq(name.bytes());
        self.left_out.iter().any(is)
    }
}

/// Bytes that are handed out at once. A hash can work on the pieces of such a block side by side:
/// blake3 on 16 KiB with the widest instructions there are.
const BLOCK_BYTES: usize = 16 << 10;

/// Collects small pieces into blocks; of big ones, whole blocks go by.
struct Buffered<'a> {
    buffer: Vec<u8>,
    out: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Buffered<'a> {
    fn new(out: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            buffer: Vec::with_capacity(BLOCK_BYTES),
            out,
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() < BLOCK_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.fill(bytes);
        }
    }

    /// As [`Buffered::bytes`], for what does not fit. Blocks stay whole: a hash whose blocks begin
    /// where it wants them need not put pieces together.
    fn fill(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(BLOCK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(first);
        self.flush();
        let (blocks, rest) = rest.split_at(rest.len() - rest.len() % BLOCK_BYTES);
        if !blocks.is_empty() {
            (self.out)(blocks);
        }
        self.buffer.extend_from_slice(rest);
    }

    fn flush(&mut self) {
        (self.out)(&self.buffer);
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests;
