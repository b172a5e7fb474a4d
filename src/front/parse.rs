//! From bytes to a request head, and what its framing means. Pure: no socket, no clock.
//!
//! Where RFC 9112 lets a server be lenient, this one is not: two readers that disagree about
//! where a request ends are how requests are smuggled. Everything doubtful is refused and the
//! connection closed. Start at [`parse_head`].

use std::mem::MaybeUninit;

use memchr::memchr_iter;

use super::request::{Head, Lengths, Span};

/// Why a request is refused before a handler sees it, and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status that is answered.
    pub status: u16,
    /// What was wrong and what to do.
    pub message: &'static str,
}

const fn bad(message: &'static str) -> Refusal {
    Refusal {
        status: 400,
        message,
    }
}

/// How the body's end is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes; 0 for no body.
    Length(u64),
    /// Chunks.
    Chunked,
}

impl Default for Framing {
    fn default() -> Self {
        Self::Length(0)
    }
}

/// A head and what it means for the connection.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub head: Head,
    pub framing: Framing,
    pub http10: bool,
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub is_head: bool,
}

impl Parsed {
    /// The target's path.
    pub fn path(&self) -> Option<&str> {
        let path = usize::from(self.head.path.start)..usize::from(self.head.path.end);
        std::str::from_utf8(self.head.bytes.get(path)?).ok()
    }
}

/// The most fields that any configuration allows.
pub(super) const FIELDS_MAX: usize = 100;

/// The bytes of empty lines before a request line, which a server should skip (RFC 9112 2.2).
pub(super) fn blank_lead(data: &[u8]) -> usize {
    data.chunks_exact(2)
        .take_while(|pair| *pair == b"\r\n")
        .count()
        * 2
}

/// Where the head ends, if it has come whole: the index just past its empty line. `from` is how
/// much of `data` an earlier call has seen.
///
/// # Errors
/// A line that ends without CR: lenient readers would see another head than strict ones.
pub(super) fn head_end(data: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    let from = from.saturating_sub(3);
    for at in memchr_iter(b'\n', &data[from..]).map(|at| from + at) {
        if at == 0 || data[at - 1] != b'\r' {
            return Err(bad(
                "a header line ends without CR; end every line with CRLF",
            ));
        }
        if at >= 3 && &data[at - 3..=at] == b"\r\n\r\n" {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Parses a whole head, as [`head_end`] found it.
///
/// # Errors
/// Anything that RFC 9112 forbids, and what it allows but is doubtful; see the module.
pub(super) fn parse_head(data: &[u8], fields_max: usize) -> Result<Parsed, Refusal> {
    // Not filled before it is used: 3 KB for each request, of which most have ten fields.
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let room = &mut fields[..fields_max.min(FIELDS_MAX)];
    match request.parse_with_uninit_headers(data, room) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the request head is malformed")),
        Err(error) => return Err(refusal_of(error, data)),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad("the request line is incomplete"));
    };
    let http10 = version == 0;
    let facts = Facts::gather(request.headers)?;
    let authority = check_host(&facts, http10)?;
    let (path, query) = split_target(method, target, authority)?;
    let framing = facts.framing(http10)?;
    let has_body = framing != Framing::Length(0);
    let mut spans = Vec::with_capacity(request.headers.len());
    let mut lengths = Lengths::default();
    for field in request.headers.iter() {
        lengths.add(field.name.len());
        spans.push((
            Span::of(data, field.name.as_bytes()),
            Span::of(data, field.value),
        ));
    }
    Ok(Parsed {
        framing,
        http10,
        keep_alive: if http10 {
            facts.keep_alive && !facts.close
        } else {
            !facts.close
        },
        expects_continue: facts.expects_continue && has_body && !http10,
        is_head: method == "HEAD",
        head: Head {
            method: Span::of(data, method.as_bytes()),
            path: Span::of(data, path.as_bytes()),
            query: query.map(|query| Span::of(data, query.as_bytes())),
            fields: spans,
            lengths,
            bytes: data.into(),
        },
    })
}

fn refusal_of(error: httparse::Error, data: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal {
            status: 431,
            message: "too many header fields; send at most 100",
        },
        httparse::Error::Version if memchr::memmem::find(data, b" HTTP/").is_some() => Refusal {
            status: 505,
            message: "only HTTP/1.0 and HTTP/1.1 are spoken here",
        },
        httparse::Error::HeaderName => {
            bad("a header name is malformed (folded lines and spaces before `:` are refused)")
        }
        httparse::Error::HeaderValue => bad("a header value holds a forbidden byte"),
        _ => bad("the request line or a header line is malformed"),
    }
}

/// What the fields say about framing and the connection.
#[derive(Default)]
struct Facts<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Facts<'a> {
    fn gather(fields: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut facts = Self::default();
        for field in fields {
            let value = field.value;
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    once(&mut facts.length, value, "content-length is given twice")?;
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    once(&mut facts.coding, value, "transfer-encoding is given twice")?;
                }
                4 if field.name.eq_ignore_ascii_case("host") => {
                    once(&mut facts.host, value, "host is given twice")?;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for token in value.split(|byte| *byte == b',') {
                        let token = token.trim_ascii();
                        facts.close |= token.eq_ignore_ascii_case(b"close");
                        facts.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal {
                            status: 417,
                            message: "the only expectation that is met here is 100-continue",
                        });
                    }
                    facts.expects_continue = true;
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    fn framing(&self, http10: bool) -> Result<Framing, Refusal> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(bad(
                "content-length and transfer-encoding exclude each other; send one",
            )),
            (None, Some(_)) if http10 => Err(bad(
                "transfer-encoding does not exist in HTTP/1.0; send content-length",
            )),
            (None, Some(coding)) => chunked(coding),
            (Some(length), None) => content_length(length).map(Framing::Length),
            (None, None) => Ok(Framing::Length(0)),
        }
    }
}

fn once<'a>(
    place: &mut Option<&'a [u8]>,
    value: &'a [u8],
    message: &'static str,
) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(message)),
    }
}

/// Exactly `chunked`: it must be the last coding (else 400, RFC 9112 section 6.3), and there is
/// no other coding that we know (else 501, section 6.1).
fn chunked(coding: &[u8]) -> Result<Framing, Refusal> {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let last = coding
        .rsplit(|byte| *byte == b',')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let others = coding.split(|byte| *byte == b',').count() > 1;
    let repeated = coding
        .split(|byte| *byte == b',')
        .filter(|token| token.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        .count()
        > 1;
    if others && !repeated && last.eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal {
            status: 501,
            message: "no transfer coding but chunked is understood here",
        });
    }
    Err(bad(
        "the body's transfer-encoding is not `chunked`; its end cannot be found",
    ))
}

/// Digits only: a sign, a list or a space makes readers disagree.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("content-length is not a plain decimal number"));
    }
    Ok(value
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// The bytes that a host may hold, as a table: looking for each among the others took 400
/// instructions a request.
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_graphic();
        byte += 1;
    }
    let mut forbidden: &[u8] = b"/@,?#\\\"<>";
    while let [byte, rest @ ..] = forbidden {
        table[*byte as usize] = false;
        forbidden = rest;
    }
    table
};

fn check_host<'a>(facts: &Facts<'a>, http10: bool) -> Result<Option<&'a [u8]>, Refusal> {
    match facts.host {
        None if !http10 => Err(bad("the host header is missing")),
        Some(host) if !host.iter().all(|byte| IN_HOST[usize::from(*byte)]) => {
            Err(bad("the host header is malformed"))
        }
        host => Ok(host),
    }
}

/// The path and query of a target in origin, absolute or asterisk form (RFC 9112 section 3.2).
fn split_target<'a>(
    method: &str,
    target: &'a str,
    host: Option<&[u8]>,
) -> Result<(&'a str, Option<&'a str>), Refusal> {
    const FORM: Refusal = bad("the request target is neither a path nor an http URL");
    if target == "*" && method == "OPTIONS" {
        return Ok((target, None));
    }
    if target.contains('#') {
        return Err(bad("the request target holds a fragment"));
    }
    let origin = if target.starts_with('/') {
        target
    } else {
        let rest = strip_scheme(target).ok_or(FORM)?;
        let slash = rest.find('/').ok_or(FORM)?;
        let (authority, origin) = rest.split_at(slash);
        if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes())) {
            return Err(bad(
                "the request target and the host header name different hosts",
            ));
        }
        origin
    };
    Ok(match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    })
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parsed, Refusal> {
        let end = head_end(text.as_bytes(), 0)?.expect("the test's head is whole");
        parse_head(&text.as_bytes()[..end], FIELDS_MAX)
    }

    fn check_status(text: &str, expected: u16) {
        let got = parse(text).map_or_else(|refusal| refusal.status, |_| 200);
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn framing_is_strict() {
        let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        for (fields, expected) in [
            ("content-length: 5\r\n", 200),
            ("transfer-encoding: Chunked\r\n", 200),
            ("content-length: 5\r\ncontent-length: 5\r\n", 400),
            ("content-length: 5\r\ntransfer-encoding: chunked\r\n", 400),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                400,
            ),
            ("transfer-encoding: gzip, chunked\r\n", 501),
            ("transfer-encoding: chunked, chunked\r\n", 400),
            ("transfer-encoding: chunked, identity\r\n", 400),
            ("transfer-encoding: xchunked\r\n", 400),
            ("content-length: +5\r\n", 400),
            ("content-length: -5\r\n", 400),
            ("content-length: 5,5\r\n", 400),
            ("content-length: 0x5\r\n", 400),
            ("content-length: 99999999999999999999\r\n", 400),
            ("content-length:\r\n", 400),
            ("content-length : 5\r\n", 400),
            ("x-a: b\r\n folded\r\n", 400),
            ("x-a: b\0c\r\n", 400),
            ("x-a: b\rc\r\n", 400),
            ("expect: 200-ok\r\n", 417),
            ("host: b\r\n", 400),
        ] {
            check_status(&post(fields), expected);
        }
    }

    #[test]
    fn the_request_line_is_strict() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
            ("GET http://a/x?y HTTP/1.1\r\nhost: A\r\n\r\n", 200),
            ("GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
            ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\nhost: a\r\n\r\n", 400),
        ] {
            check_status(text, expected);
        }
    }

    #[test]
    fn the_parts_are_found() {
        let parsed =
            parse("GET /v1/models?a=b HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n")
                .expect("valid");
        let head = &parsed.head;
        assert_eq!(
            &head.bytes[head.path.start as usize..head.path.end as usize],
            b"/v1/models"
        );
        assert_eq!(head.fields.len(), 2);
        assert!(!parsed.keep_alive);
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_arrives() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest";
        for split in 0..text.len() - 4 {
            assert_eq!(head_end(&text[..split], 0), Ok(None));
            assert_eq!(head_end(text, split), Ok(Some(text.len() - 4)));
        }
        assert_eq!(blank_lead(b"\r\n\r\nGET"), 4);
    }
}
