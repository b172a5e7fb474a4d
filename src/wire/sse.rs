//! Cuts a stream of server-sent events into whole events, wherever its bytes happen to be split.
//!
//! Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream". Lines end in LF, CRLF or
//! CR; a blank line ends an event. What is whole is handed on exactly as it came, and what is not
//! stays here: a client never sees half an event, so that an error event can always be put behind
//! the last whole one. What is kept is bounded by [`EVENT_BYTES_MAX`].
//!
//! Start at [`Splitter::feed`]; [`events`] reads what it hands on.

use std::borrow::Cow;

use memchr::memchr2;

/// Bytes of an unfinished event that are kept. Images come in one event, and fit.
pub const EVENT_BYTES_MAX: usize = 8 << 20;
/// Capacity that a buffer may keep once it is empty, so that one big event does not hold its
/// memory for the rest of a long stream.
const KEPT_CAPACITY_MAX: usize = 64 << 10;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// An event that had not ended after [`EVENT_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "an event is longer than {EVENT_BYTES_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

/// Finds where events end, across chunks.
pub struct Splitter {
    /// The beginning of an event whose end has not come.
    partial: Vec<u8>,
    /// The whole events that the last call handed out, where they were not contiguous in its
    /// chunk.
    whole: Vec<u8>,
    lines: Lines,
    /// How much of a byte order mark has come; `None` once that is settled.
    bom: Option<usize>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub const fn new() -> Self {
        Self {
            partial: Vec::new(),
            whole: Vec::new(),
            lines: Lines::START,
            bom: Some(0),
        }
    }

    /// Takes the next bytes of the stream and returns every event that is whole by now, as one
    /// run of bytes exactly as received; empty if none is. Where no event was left unfinished,
    /// which is the common case, the result borrows from `chunk` and nothing is copied but an
    /// unfinished tail. A byte order mark at the very start is dropped: it has no meaning.
    ///
    /// # Errors
    /// More than [`EVENT_BYTES_MAX`] bytes have come without the end of an event. The stream
    /// cannot go on from there.
    pub fn feed<'a>(&'a mut self, chunk: &'a [u8]) -> Result<&'a [u8], TooLong> {
        let chunk = self.without_bom(chunk);
        let end = self.lines.last_end(chunk).unwrap_or(0);
        let (head, tail) = chunk.split_at(end);
        if tail.len() + if end == 0 { self.partial.len() } else { 0 } > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        if self.partial.is_empty() || end == 0 {
            self.partial.extend_from_slice(tail);
            return Ok(head);
        }
        self.partial.extend_from_slice(head);
        std::mem::swap(&mut self.partial, &mut self.whole);
        self.partial.clear();
        if self.partial.capacity() > KEPT_CAPACITY_MAX {
            self.partial = Vec::new();
        }
        self.partial.extend_from_slice(tail);
        Ok(&self.whole)
    }

    /// The bytes of an event that has not ended. Not empty at the end of a stream means that the
    /// stream was cut; by the standard such an event does not count.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    fn without_bom<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let Some(seen) = self.bom else {
            return chunk;
        };
        let missing = &BOM[seen..];
        let same = missing
            .iter()
            .zip(chunk)
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        if same == missing.len() {
            self.bom = None;
            &chunk[same..]
        } else if same == chunk.len() {
            self.bom = Some(seen + same);
            &[]
        } else {
            // It only began like one, so what was held back belongs to the first line.
            self.bom = None;
            if seen > 0 {
                self.partial.extend_from_slice(&BOM[..seen]);
                self.lines.blank = false;
            }
            chunk
        }
    }
}

/// Where the line structure stands at the end of what has been seen.
#[derive(Clone, Copy)]
struct Lines {
    /// The current line has no byte yet.
    blank: bool,
    /// The last byte was a CR: a LF that follows belongs to the same line end.
    after_cr: bool,
    /// The last line end also ended an event.
    ended: bool,
}

impl Lines {
    const START: Self = Self {
        blank: true,
        after_cr: false,
        ended: true,
    };

    /// Goes over `bytes` and returns how many of them lie before the end of the last whole event.
    /// An event that ends in a CR is taken as ended there and then, since waiting for a LF that
    /// may never come would hold it back; the LF, if it does come, is whole by itself.
    fn last_end(&mut self, bytes: &[u8]) -> Option<usize> {
        // Nearly every chunk is a number of whole events.
        if bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n") {
            *self = Self::START;
            return Some(bytes.len());
        }
        let (mut at, mut end) = (0, None);
        if self.after_cr && bytes.first() == Some(&b'\n') {
            at = 1;
            self.after_cr = false;
            end = self.ended.then_some(at);
        }
        while let Some(length) = memchr2(b'\n', b'\r', &bytes[at..]) {
            self.ended = self.blank && length == 0;
            self.blank = true;
            let cr = bytes[at + length] == b'\r';
            at += length + 1;
            self.after_cr = cr && at == bytes.len();
            if cr && bytes.get(at) == Some(&b'\n') {
                at += 1;
            }
            if self.ended {
                end = Some(at);
            }
        }
        if at < bytes.len() {
            self.blank = false;
            self.after_cr = false;
        }
        end
    }
}

/// One block of a stream up to its blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field; `None` without one, which stands for `message`.
    pub name: Option<&'a str>,
    /// The `data` fields, joined by line feeds; `None` without one: a comment or a blank line,
    /// which is no event to a client.
    pub data: Option<Cow<'a, [u8]>>,
    /// The bytes as received, the blank line included.
    pub raw: &'a [u8],
}

/// The events within `whole`, which is what [`Splitter::feed`] returned. Their raw bytes add up
/// to `whole`.
pub fn events(whole: &[u8]) -> Events<'_> {
    Events { rest: whole }
}

/// See [`events`].
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.rest;
        let (mut name, mut data) = (None, None);
        while let Some(line) = self.line() {
            if line.is_empty() {
                break;
            }
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"event" => name = Some(str::from_utf8(value).unwrap_or("\u{fffd}")),
                b"data" => data = Some(joined(data, value)),
                // Comments, `id`, `retry`, and fields that nobody knows: passed through unread.
                _ => {}
            }
        }
        Some(Event {
            name,
            data,
            raw: &start[..start.len() - self.rest.len()],
        })
    }
}

impl<'a> Events<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
        let line_end = match &self.rest[length..] {
            [b'\r', b'\n', ..] => 2,
            [_, ..] => 1,
            [] => 0,
        };
        let line = &self.rest[..length];
        self.rest = &self.rest[length + line_end..];
        Some(line)
    }
}

fn joined<'a>(before: Option<Cow<'a, [u8]>>, value: &'a [u8]) -> Cow<'a, [u8]> {
    match before {
        None => Cow::Borrowed(value),
        Some(before) => {
            let mut all = before.into_owned();
            all.push(b'\n');
            all.extend_from_slice(value);
            Cow::Owned(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = (Option<String>, Vec<u8>);

    /// Feeds `chunks`; returns the events with data, all bytes handed on, and what was left.
    fn feed(chunks: &[&[u8]]) -> (Vec<Seen>, Vec<u8>, Vec<u8>) {
        let mut splitter = Splitter::new();
        let (mut seen, mut passed) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let whole = splitter.feed(chunk).unwrap();
            passed.extend_from_slice(whole);
            assert_eq!(
                events(whole)
                    .map(|event| event.raw)
                    .collect::<Vec<_>>()
                    .concat(),
                whole
            );
            seen.extend(events(whole).filter_map(|event| {
                Some((event.name.map(str::to_owned), event.data?.into_owned()))
            }));
        }
        (seen, passed, splitter.partial().to_vec())
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let check = |stream: &str, expected: &[(Option<&str>, &str)], left: &str| {
            let (seen, passed, partial) = feed(&[stream.as_bytes()]);
            let expected: Vec<Seen> = expected
                .iter()
                .map(|(name, data)| (name.map(str::to_owned), data.as_bytes().to_vec()))
                .collect();
            assert_eq!(seen, expected, "{stream:?}");
            assert_eq!(partial, left.as_bytes(), "{stream:?}");
            assert_eq!(
                [passed, partial].concat(),
                stream.trim_start_matches('\u{feff}').as_bytes()
            );
        };
        check("data: a\n\ndata:b\n\n", &[(None, "a"), (None, "b")], "");
        check(
            "event: e\r\ndata: a\r\n\r\ndata: b",
            &[(Some("e"), "a")],
            "data: b",
        );
        check("data: a\rdata:  b\r\rdata", &[(None, "a\n b")], "data");
        check(": ping\n\ndata\n\nid: 1\nretry: 2\n\n", &[(None, "")], "");
        check("\u{feff}data: a\n\n", &[(None, "a")], "");
        check(
            "event: a\nevent: b\ndata: c: d\n\r\n",
            &[(Some("b"), "c: d")],
            "",
        );
        check("data: a\n\n\n\n\ndata: b\n", &[(None, "a")], "data: b\n");
    }

    #[test]
    fn a_chunk_of_whole_events_is_not_copied() {
        let chunk = b"data: a\n\ndata: b\n\n".as_slice();
        let mut splitter = Splitter::new();
        assert_eq!(
            splitter.feed(chunk).unwrap().as_ptr_range(),
            chunk.as_ptr_range()
        );
        let with_tail = b"data: a\n\ndata: b".as_slice();
        assert_eq!(
            splitter.feed(with_tail).unwrap().as_ptr(),
            with_tail.as_ptr()
        );
        assert_eq!(splitter.partial(), b"data: b");
    }

    #[test]
    fn an_event_that_ends_in_a_cr_is_not_held_back_and_its_lf_is_no_partial_event() {
        let mut splitter = Splitter::new();
        assert_eq!(splitter.feed(b"data: a\r\n\r").unwrap(), b"data: a\r\n\r");
        assert_eq!(splitter.feed(b"\n").unwrap(), b"\n");
        assert_eq!(splitter.partial(), b"");
    }

    #[test]
    fn an_endless_event_is_refused_before_it_fills_the_memory() {
        let mut splitter = Splitter::new();
        let chunk = vec![b'a'; 1 << 20];
        for _ in 0..EVENT_BYTES_MAX / chunk.len() {
            assert_eq!(splitter.feed(&chunk), Ok(b"".as_slice()));
        }
        assert_eq!(splitter.feed(b"a"), Err(TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn where_a_stream_is_split_makes_no_difference(
            stream in "\u{feff}?((data|event|:)?( ?[a-b:\u{feff}]{0,3})(\n|\r\n|\r)){0,12}(data)?",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let expected = feed(&[bytes]);
            prop_assert_eq!(feed(&chunks), expected.clone());
            prop_assert_eq!(feed(&single), expected);
        }

        #[test]
        fn any_bytes_are_taken(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let (_, passed, partial) = feed(&chunks);
            let all = chunks.concat();
            prop_assert!(passed.len() + partial.len() + BOM.len() >= all.len());
        }
    }
}
