//! Finds where the vectors of an answer begin and end, without a look at their numbers.
//!
//! An answer can have 80 MB of numbers, and this is the one pass over them that nobody shares. So
//! it goes by quotes and brackets; whether what is between them is JSON is seen when a part is
//! made of it. Of a text that is none, the places mean nothing, but each is within it. Start at
//! [`list`].

use std::ops::Range;

use crate::wire::form::NotOfDialect;

/// The list that is the member `data` of the object in `text`: where it stands, and where each of
/// its items does, of which there are `most`.
pub(super) fn list(
    text: &str,
    most: usize,
) -> Result<(Range<usize>, Vec<Range<usize>>), NotOfDialect> {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
    };
    let no_list = NotOfDialect("it has no list of vectors");
    let start = scan.find(b"data").ok_or(no_list)?;
    let mut items = Vec::with_capacity(most);
    let cut = || NotOfDialect("its list of vectors has no end");
    scan.at += 1;
    loop {
        match scan.next().ok_or_else(cut)? {
            b']' => break,
            b',' if !items.is_empty() => {
                scan.at += 1;
                scan.next().ok_or_else(cut)?;
            }
            _ if items.is_empty() => {}
            _ => return Err(cut()),
        }
        if items.len() == most {
            return Err(NotOfDialect("more vectors than were asked for"));
        }
        let from = scan.at;
        scan.value().ok_or_else(cut)?;
        items.push(from..scan.at);
    }
    Ok((start..scan.at + 1, items))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    /// Goes to the list that is the member `name` of the object that begins here.
    fn find(&mut self, name: &[u8]) -> Option<usize> {
        self.expect(b'{')?;
        loop {
            (self.next()? == b'"').then_some(())?;
            let from = self.at + 1;
            self.string()?;
            let is_it = &self.bytes[from..self.at - 1] == name;
            self.expect(b':')?;
            let first = self.next()?;
            if is_it {
                return (first == b'[').then_some(self.at);
            }
            self.value()?;
            self.expect(b',')?;
        }
    }

    /// Goes behind the value that begins here.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => self.string()?,
                b'[' if self.is_flat() => {}
                b'[' | b'{' => {
                    depth += 1;
                    self.at += 1;
                }
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                // The end of a number or word.
                b',' if depth == 0 => return Some(()),
                _ => {
                    self.at += 1;
                    let next = self.bytes.get(self.at);
                    if depth == 0 && !matches!(next, Some(b']' | b'}')) {
                        continue;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Goes behind the list that begins here if it holds neither texts nor lists nor objects.
    fn is_flat(&mut self) -> bool {
        let rest = &self.bytes[self.at + 1..];
        let end = memchr::memchr3(b']', b'[', b'"', rest);
        let end = end.filter(|end| rest[*end] == b']');
        let end = end.filter(|end| memchr::memchr(b'{', &rest[..*end]).is_none());
        if let Some(end) = end {
            self.at += end + 2;
        }
        end.is_some()
    }

    /// Goes behind the string that begins here.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some(());
            }
            self.at += 2;
        }
    }
}
