//! An HTTP/1.1 client that hides nothing: raw bytes out, every frame and its time in.
//!
//! It is strict on purpose: an answer that is framed wrongly fails the test that reads it. Every
//! read has a deadline.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a read may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that came once at most.
    ///
    /// # Panics
    /// When the header came more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        first
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text()))
    }

    /// Whether the server closes the connection after it.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    deadline: Instant,
}

/// The bytes of a request with a JSON body.
pub fn request(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: victor\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A GET on a connection of its own.
///
/// # Panics
/// When no well-formed answer comes.
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    let mut connection = Connection::open(addr);
    connection.send(
        format!("GET {path} HTTP/1.1\r\nhost: victor\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    connection.answer()
}

/// A POST of JSON on a connection of its own.
///
/// # Panics
/// When no well-formed answer comes.
pub fn post(addr: SocketAddr, path: &str, body: &[u8]) -> Answer {
    post_with(addr, path, "", body)
}

/// As [`post`], with more headers, each ending in CRLF.
///
/// # Panics
/// As [`post`].
pub fn post_with(addr: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut connection = Connection::open(addr);
    connection.send(&request(path, headers, body));
    connection.answer()
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("{addr}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// As the system's.
    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            framing: Framing::UntilClose,
            deadline: Instant::now() + PATIENCE,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the server does not take them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("sending {} bytes: {error}", bytes.len()));
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As the system's.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.deadline = Instant::now() + PATIENCE;
        self.stream.write_all(bytes)
    }

    /// Ends the sending side.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// From now on, reads may take `limit` in all.
    pub fn within(&mut self, limit: Duration) -> &mut Self {
        self.deadline = Instant::now() + limit;
        self
    }

    /// Reads more bytes into the buffer; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 16384];
        let read = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                result => break result?,
            }
        };
        self.buffer.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        match self.fill()? {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads up to `end` and gives what stood before it.
    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                let before = self.buffer[..at].to_vec();
                self.buffer.drain(..at + end.len());
                return Ok(before);
            }
            self.need()?;
        }
    }

    /// Reads the head of an answer; its body is for [`Connection::next_part`].
    ///
    /// # Errors
    /// The connection ends, the time runs out, or the head is not well-formed.
    pub fn try_head(&mut self) -> io::Result<Answer> {
        let head = self.until(b"\r\n\r\n")?;
        let bad = |what: &str| Error::new(ErrorKind::InvalidData, format!("{what}: {head:?}"));
        let text = std::str::from_utf8(&head).map_err(|_| bad("not UTF-8"))?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| bad("no status line"))?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| bad("not a header"))?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer.header("content-length");
        let chunked = answer.header("transfer-encoding");
        self.framing = match (length, chunked) {
            _ if status < 200 || status == 204 || status == 304 => Framing::Length(0),
            (Some(length), None) => Framing::Length(length.parse().map_err(|_| bad("no length"))?),
            (None, Some("chunked")) => Framing::Chunked,
            (None, None) => Framing::UntilClose,
            _ => return Err(bad("two framings")),
        };
        Ok(answer)
    }

    /// As [`Connection::try_head`].
    ///
    /// # Panics
    /// Where that one fails.
    pub fn head(&mut self) -> Answer {
        self.try_head()
            .unwrap_or_else(|error| panic!("no head: {error}; {:?}", self.seen()))
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// The next part of the body; `None` after the last.
    ///
    /// # Errors
    /// The connection ends early, the time runs out, or the framing is broken.
    pub fn next_part(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.buffer.is_empty() {
                    self.need()?;
                }
                let part: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                self.framing = Framing::Length(left - part.len());
                Ok(Some(part))
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && !self.fill()? {
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
            Framing::Chunked => self.next_chunk(),
        }
    }

    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.until(b"\r\n")?;
        let size = std::str::from_utf8(&line)
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
        while self.buffer.len() < size + 2 {
            self.need()?;
        }
        let mut part: Vec<u8> = self.buffer.drain(..size + 2).collect();
        if part.split_off(size) != b"\r\n" {
            return Err(Error::new(ErrorKind::InvalidData, "no CRLF after a chunk"));
        }
        if size == 0 {
            self.framing = Framing::Length(0);
            return Ok(None);
        }
        Ok(Some(part))
    }

    /// Reads a whole answer; interim ones (1xx) are passed over.
    ///
    /// # Errors
    /// As [`Connection::try_head`] and [`Connection::next_part`].
    pub fn try_answer(&mut self) -> io::Result<Answer> {
        loop {
            let mut answer = self.try_head()?;
            if answer.status < 200 {
                continue;
            }
            while let Some(part) = self.next_part()? {
                answer.body.extend_from_slice(&part);
            }
            return Ok(answer);
        }
    }

    /// As [`Connection::try_answer`].
    ///
    /// # Panics
    /// Where that one fails.
    pub fn answer(&mut self) -> Answer {
        self.try_answer()
            .unwrap_or_else(|error| panic!("no answer: {error}; {:?}", self.seen()))
    }

    /// Reads until the server closes; gives what came. A reset counts as closed.
    ///
    /// # Panics
    /// When it is still open after `limit`.
    pub fn rest(&mut self, limit: Duration) -> Vec<u8> {
        self.within(limit);
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    panic!("still open after {limit:?}; {:?}", self.seen())
                }
                Err(_) => break,
            }
        }
        std::mem::take(&mut self.buffer)
    }

    /// Whether the server closes within `limit` without another byte.
    pub fn closed(&mut self, limit: Duration) -> bool {
        self.within(limit);
        self.buffer.is_empty()
            && match self.fill() {
                Ok(more) => !more,
                Err(error) => error.kind() != ErrorKind::TimedOut,
            }
    }
}
