//! Walks JSON (RFC 8259) without building it.
//!
//! A caller's body can hold a prompt of 30 MB of which the daemon wants two small members, and
//! must still know that the whole is well formed. So this walks the bytes once: it copies
//! nothing, allocates nothing, and keeps open containers as bits in a fixed array instead of on
//! the stack, so that nesting costs neither. A library would do, but the two at hand either
//! recurse or accept any depth, and neither says where a value begins and ends.
//!
//! Start at [`walk_object`]; [`view`] looks into what has been walked, [`write`](mod@write) writes anew.

pub mod canonical;
pub mod view;
pub mod write;

use std::fmt;
use std::ops::Range;

/// Containers open at once, the top level included. What a `serde_json` reader takes, so that
/// whoever later builds a value from an accepted body does not meet a deeper one.
pub const DEPTH_MAX: usize = 127;

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Something else stands where this was expected.
    Expected(&'static str),
    /// The text ends where this was expected.
    Ended(&'static str),
    /// More than [`DEPTH_MAX`] containers are open.
    TooDeep,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected(what) => write!(out, "expected {what}"),
            Self::Ended(what) => write!(out, "it ends where {what} was expected"),
            Self::TooDeep => write!(out, "nested deeper than {DEPTH_MAX} levels"),
        }
    }
}

/// What is wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: Wrong,
    /// Bytes before the place.
    pub offset: usize,
}

/// A member of the top-level object: where its key and its value stand, in bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key's string literal, with its quotes.
    pub key: Range<usize>,
    /// The value, without the blanks around it.
    pub value: Range<usize>,
}

/// How many values there are in `text`, which has been walked before: containers and what is in
/// them. Whoever makes something of every value bounds that with it.
pub fn count_values(text: &str) -> usize {
    let mut walk = Walk::new(text);
    walk.blanks();
    // What is no JSON has ended early.
    let _ = walk.value();
    walk.values
}

/// Walks `text` to its end and hands every member of its top-level object to `visit`, in order,
/// repeated keys included.
///
/// # Errors
/// The text is not one JSON object with nothing after it, or is nested too deep. Members before
/// the fault have been visited.
pub fn walk_object(text: &str, mut visit: impl FnMut(Member)) -> Result<(), Fault> {
    let mut walk = Walk::new(text);
    walk.blanks();
    walk.byte(b'{', "a JSON object")?;
    walk.blanks();
    if walk.peek() == Some(b'}') {
        walk.at += 1;
    } else {
        loop {
            let key_start = walk.at;
            let key_end = walk.key()?;
            let value_start = walk.at;
            walk.value()?;
            visit(Member {
                key: key_start..key_end,
                value: value_start..walk.at,
            });
            walk.blanks();
            match walk.peek() {
                Some(b',') => walk.at += 1,
                Some(b'}') => break,
                _ => return Err(walk.expected("',' or '}'")),
            }
            walk.blanks();
        }
        walk.at += 1;
    }
    walk.blanks();
    match walk.peek() {
        None => Ok(()),
        Some(_) => Err(walk.expected("the end of the body")),
    }
}

/// Which containers are open: a set bit is an object. Depth 0 is the top-level object itself.
struct Nesting {
    objects: [u64; 2],
    depth: usize,
}

impl Nesting {
    const fn new() -> Self {
        Self {
            objects: [0; 2],
            depth: 0,
        }
    }

    /// Opens a container; false if that is one too many.
    fn push(&mut self, object: bool) -> bool {
        // The top-level object is not in here.
        if self.depth + 1 == DEPTH_MAX {
            return false;
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        self.objects[word] = (self.objects[word] & !(1 << bit)) | (u64::from(object) << bit);
        self.depth += 1;
        true
    }

    /// Whether the innermost open container is an object; `None` if none is open.
    fn innermost(&self) -> Option<bool> {
        let index = self.depth.checked_sub(1)?;
        Some(self.objects[index / 64] >> (index % 64) & 1 == 1)
    }
}

#[derive(Clone)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values that were begun.
    values: usize,
}

impl<'a> Walk<'a> {
    const fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
            values: 0,
        }
    }
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected(&self, what: &'static str) -> Fault {
        let wrong = match self.peek() {
            Some(_) => Wrong::Expected(what),
            None => Wrong::Ended(what),
        };
        Fault {
            wrong,
            offset: self.at,
        }
    }

    fn byte(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A key, its colon and the blanks around that. Returns where the key ends.
    fn key(&mut self) -> Result<usize, Fault> {
        self.byte(b'"', "a key in double quotes")?;
        self.string_rest()?;
        let end = self.at;
        self.blanks();
        self.byte(b':', "':'")?;
        self.blanks();
        Ok(end)
    }

    /// One value, however deep, in a loop.
    fn value(&mut self) -> Result<(), Fault> {
        let mut nesting = Nesting::new();
        loop {
            self.values += 1;
            let byte = self.peek().ok_or_else(|| self.expected("a value"))?;
            match byte {
                b'{' | b'[' => {
                    let object = byte == b'{';
                    if !nesting.push(object) {
                        return Err(Fault {
                            wrong: Wrong::TooDeep,
                            offset: self.at,
                        });
                    }
                    self.at += 1;
                    self.blanks();
                    let empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if !empty {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                    // Left standing for the loop below, which closes it.
                }
                b'"' => {
                    self.at += 1;
                    self.string_rest()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return Err(self.expected("a value")),
            }
            if self.close(&mut nesting)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here. True when the outermost value has ended, false when
    /// another value follows.
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, Fault> {
        while let Some(object) = nesting.innermost() {
            self.blanks();
            match (self.peek(), object) {
                (Some(b','), _) => {
                    self.at += 1;
                    self.blanks();
                    if object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    nesting.depth -= 1;
                }
                (_, true) => return Err(self.expected("',' or '}'")),
                (_, false) => return Err(self.expected("',' or ']'")),
            }
        }
        Ok(true)
    }

    /// The rest of a string whose opening quote has been read.
    fn string_rest(&mut self) -> Result<(), Fault> {
        loop {
            self.at += plain_run(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("control characters to be escaped")),
                None => return Err(self.expected("the closing quote of a string")),
            }
        }
    }

    /// What follows a backslash. A lone surrogate is let pass: RFC 8259 section 8.2 allows it.
    fn escape(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(byte) if byte.is_ascii_hexdigit() => self.at += 1,
                        _ => return Err(self.expected("four hexadecimal digits")),
                    }
                }
            }
            _ => return Err(self.expected("one of \"\\/bfnrtu after a backslash")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A leading zero stands alone.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let run = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if run == 0 {
            return Err(self.expected("a digit"));
        }
        self.at += run;
        Ok(())
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// How many bytes at the start are neither quote, backslash nor control character.
fn plain_run(bytes: &[u8]) -> usize {
    // Most strings are keys and words, so the first bytes are searched for the exact end; a
    // string that goes on is probably a prompt, and worth skipping in bigger blocks first.
    let (start, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
    let in_start = plain_words(start);
    if in_start < start.len() {
        return in_start;
    }
    let blocks = plain_blocks(rest);
    start.len() + blocks + plain_words(&rest[blocks..])
}

const BLOCK_BYTES: usize = 32;

const fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// As [`plain_run`], in whole blocks. They have a fixed size and no early exit inside, which is
/// what lets the compiler compare them a vector at a time.
fn plain_blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    let plain = |block: &&[u8; BLOCK_BYTES]| {
        !block
            .iter()
            .fold(false, |any, byte| any | is_special(*byte))
    };
    blocks.iter().take_while(plain).count() * BLOCK_BYTES
}

/// As [`plain_run`], eight bytes at a time: a byte's top bit is set in the mask if the byte is
/// special. Borrows can set it wrongly above a special byte, never below the first one. Source:
/// Sean Anderson, "Bit Twiddling Hacks", "Determine if a word has a byte less than n".
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES * 0x80;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let mask = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        if mask & TOPS != 0 {
            return index * 8 + (mask & TOPS).trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().take_while(|byte| !is_special(**byte)).count()
}

#[cfg(test)]
mod tests;
