//! An answer on its way out: status, headers already encoded, and a body.
//!
//! Headers are kept as the bytes that go on the wire, so that sending an answer is a copy and
//! not a walk over a map. Values are checked when they are added: nothing that a provider or a
//! caller sent can end a header early.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::swar::any_control;

/// Bytes that several answers may share.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The headers of nearly every answer are shorter, so that they are one allocation.
const HEADERS_BYTES_USUAL: usize = 512;

/// What an answer carries.
#[derive(Clone)]
pub enum Body {
    /// Known when the program was written.
    Static(&'static [u8]),
    /// Made for this answer.
    Owned(Vec<u8>),
    /// Not copied until the socket does not take it at once.
    Shared(SharedBytes),
}

impl fmt::Debug for Body {
    /// How long it is: what it says is for no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_bytes().len())
    }
}

impl Body {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

/// A status, headers and a body. The front adds `date`, the framing and `connection`.
#[derive(Clone, Debug)]
pub struct Response {
    /// Three digits.
    pub status: u16,
    /// `name: value\r\n`, repeated.
    pub(super) headers: Vec<u8>,
    /// What follows the head; ignored by a stream.
    pub body: Body,
    /// Whether the connection ends with this answer.
    pub(super) close: bool,
}

impl Response {
    /// An answer without headers or body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::with_capacity(HEADERS_BYTES_USUAL),
            body: Body::Static(b""),
            close: false,
        }
    }

    /// An answer with a JSON body.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self::new(status)
            .header("content-type", "application/json")
            .body(body)
    }

    /// An answer with a plain text body.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        let response = Self::new(status).header("content-type", "text/plain; charset=utf-8");
        match body.into() {
            Cow::Borrowed(text) => Self {
                body: Body::Static(text.as_bytes()),
                ..response
            },
            Cow::Owned(text) => response.body(text.into_bytes()),
        }
    }

    /// Adds a header. Bytes that could not stand in a header value are replaced by `?`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.push_header(name, value.as_bytes());
        self
    }

    /// As [`Response::header`], in place.
    pub fn push_header(&mut self, name: &str, value: &[u8]) {
        self.headers.reserve(name.len() + value.len() + 4);
        self.headers.extend_from_slice(name.as_bytes());
        self.headers.extend_from_slice(b": ");
        if any_control(value) {
            let clean = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
            let cleaned = value.iter().map(|byte| match clean(byte) {
                true => *byte,
                false => b'?',
            });
            self.headers.extend(cleaned);
        } else {
            self.headers.extend_from_slice(value);
        }
        self.headers.extend_from_slice(b"\r\n");
    }

    /// The headers so far, as names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let lines = self.headers.split(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memmem::find(line, b": ")?;
            let name = str::from_utf8(&line[..colon]).ok()?;
            Some((name, &line[colon + 2..]))
        })
    }

    /// Sets the body.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = Body::Owned(body);
        self
    }

    /// Ends the connection after this answer.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }
}

/// The reason phrase of a status (RFC 9110 section 15); empty for an unknown one.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_cannot_end_its_header() {
        let response = Response::new(200).header("x-note", "a\r\nset-cookie: b\0");
        assert_eq!(response.headers, b"x-note: a??set-cookie: b?\r\n");
        let fields: Vec<_> = response.fields().collect();
        assert_eq!(fields, [("x-note", &b"a??set-cookie: b?"[..])]);
    }
}
