//! Server-sent events as they arrive, each with its time.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use super::http::{Answer, Connection, request};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The `event:` field; empty for none.
    pub name: String,
    /// The `data:` field.
    pub data: String,
    /// When its last byte arrived.
    pub at: Instant,
}

impl Event {
    /// The data as JSON; `Null` for what is not, such as `[DONE]`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or(Value::Null)
    }
}

/// A streamed answer being read.
pub struct Stream {
    /// Its head.
    pub head: Answer,
    /// The connection it comes on.
    pub connection: Connection,
    /// Every byte of the body so far.
    pub raw: Vec<u8>,
    next: usize,
}

impl Stream {
    /// Sends a call and reads the head of its answer.
    ///
    /// # Panics
    /// When no head comes.
    pub fn open(addr: SocketAddr, path: &str, body: &Value) -> Self {
        let mut connection = Connection::open(addr);
        connection.send(&request(path, "", body.to_string().as_bytes()));
        Self::of(connection)
    }

    /// Reads the head of the answer to a call that was sent.
    ///
    /// # Panics
    /// When no head comes.
    pub fn of(mut connection: Connection) -> Self {
        let head = connection.head();
        Self::after(head, connection)
    }

    /// The rest of an answer whose head was read.
    pub fn after(head: Answer, connection: Connection) -> Self {
        Self {
            head,
            connection,
            raw: Vec::new(),
            next: 0,
        }
    }

    /// The next event; `None` at the end of the answer.
    ///
    /// # Errors
    /// The answer is cut, or the time runs out.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(length) = memchr::memmem::find(&self.raw[self.next..], b"\n\n") {
                let text = String::from_utf8_lossy(&self.raw[self.next..self.next + length]);
                let mut event = Event {
                    name: String::new(),
                    data: String::new(),
                    at: Instant::now(),
                };
                for line in text.lines() {
                    if let Some(name) = line.strip_prefix("event:") {
                        event.name = name.trim().to_owned();
                    } else if let Some(data) = line.strip_prefix("data:") {
                        event.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                    }
                }
                self.next += length + 2;
                return Ok(Some(event));
            }
            match self.connection.next_part()? {
                Some(part) => self.raw.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
    }

    /// Reads to the end of the answer.
    ///
    /// # Errors
    /// The answer is cut, or the time runs out.
    pub fn events(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event()? {
            events.push(event);
        }
        Ok(events)
    }
}

/// Whether an event carries a part of the answer's text, in either dialect.
pub fn has_text(event: &Event) -> bool {
    let json = event.json();
    json["choices"][0]["delta"]["content"]
        .as_str()
        .is_some_and(|text| !text.is_empty())
        || json["delta"]["text"].is_string()
}

/// Whether an event says that the answer is whole, in either dialect.
pub fn is_end(event: &Event) -> bool {
    event.data == "[DONE]" || event.name == "message_stop"
}
