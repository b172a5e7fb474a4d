//! One log line, as it is encoded on the thread that logs. Pure: bytes in memory, no I/O.
//!
//! Values are escaped as they are written, so nothing that a provider or a caller sent can start
//! a line of its own, and no value is formatted twice. Every value has a longest length, so a
//! line has one too.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::log::kv::{self, Value, VisitSource, VisitValue};
use ::log::{Level, Record};

use crate::clock::{Rfc3339, Utc};
use crate::config::checked::LogFormat;
use crate::decimal::decimal;
use crate::swar::any_control_or_quote;

/// Longest message, in bytes before escaping; what follows is cut and marked by an ellipsis.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Longest value of any other field.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 10;
/// What a thread keeps of a longer line's buffer.
const BUFFER_BYTES_KEPT: usize = 4 << 10;
/// Keys that every line has; a field of such a name is written with an underscore before it.
const RESERVED: [&str; 5] = ["timestamp", "level", "logger", "message", "service"];

thread_local! {
    /// Where lines are written: one buffer a thread, so that a line is no allocation.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A key as a line has it.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// One that somebody chose: it is escaped, and moved out of the way of the fixed ones.
    Any(&'a str),
    /// See [`key!`].
    Fixed {
        json: &'static str,
        text: &'static str,
    },
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(key: &'a str) -> Self {
        Self::Any(key)
    }
}

/// A key that is known when the program is written, and none of [`RESERVED`], with all that stands
/// around it in either format: it is copied in one piece.
macro_rules! key {
    ($name:literal) => {
        $crate::log::line::Key::Fixed {
            json: concat!(",\"", $name, "\":"),
            text: concat!(" ", $name, "="),
        }
    };
}
pub(super) use key;

/// A line being written.
pub(super) struct Line {
    bytes: Vec<u8>,
    format: LogFormat,
}

impl Line {
    /// A line with its fixed fields.
    pub fn begin(
        format: LogFormat,
        time: SystemTime,
        level: Level,
        logger: &str,
        message: &str,
    ) -> Self {
        let mut line = Self::before_message(format, time, level, logger);
        if message.len() <= MESSAGE_BYTES_MAX && !any_control_or_quote(message.as_bytes()) {
            line.raw(message);
        } else {
            line.escaped(MESSAGE_BYTES_MAX, format_args!("{message}"));
        }
        line.after_message();
        line
    }

    fn before_message(format: LogFormat, time: SystemTime, level: Level, logger: &str) -> Self {
        let mut line = Self {
            // A thread that ends may have none any more, and may still log.
            bytes: BUFFER.try_with(Cell::take).unwrap_or_default(),
            format,
        };
        line.bytes.clear();
        let time = timestamp(time);
        match format {
            LogFormat::Json => {
                line.raw("{\"timestamp\":\"");
                line.bytes.extend_from_slice(time.as_bytes());
                line.raw("\",\"level\":\"");
                line.raw(level.as_str());
                line.raw("\",\"logger\":\"");
                line.quoted(logger);
                line.raw("\",\"message\":\"");
            }
            LogFormat::Text => {
                line.raw(time.as_str());
                let _ = write!(line, " {:<5} ", level.as_str());
                line.escaped(VALUE_BYTES_MAX, format_args!("{logger}"));
                line.raw(" ");
            }
        }
        line
    }

    fn after_message(&mut self) {
        if self.format == LogFormat::Json {
            self.raw("\",\"service\":\"victor\"");
        }
    }

    /// A line for a record of the `log` crate with its key-value pairs.
    pub fn of(format: LogFormat, time: SystemTime, record: &Record<'_>) -> Self {
        let mut line = Self::before_message(format, time, record.level(), record.target());
        line.escaped(MESSAGE_BYTES_MAX, *record.args());
        line.after_message();
        // The visitor below never fails.
        let _ = record.key_values().visit(&mut Fields(&mut line));
        line
    }

    /// Adds a text field.
    pub fn text<'k>(&mut self, key: impl Into<Key<'k>>, value: &str) {
        self.key(key.into());
        self.raw("\"");
        self.quoted(value);
        self.raw("\"");
    }

    /// Adds a text field whose value is one of ours, in which nothing has to be escaped.
    pub fn word<'k>(&mut self, key: impl Into<Key<'k>>, value: &str) {
        debug_assert!(!any_control_or_quote(value.as_bytes()), "{value:?}");
        self.key(key.into());
        self.raw("\"");
        self.raw(value);
        self.raw("\"");
    }

    /// Adds a text field from what is displayed.
    pub fn display<'k>(&mut self, key: impl Into<Key<'k>>, value: fmt::Arguments<'_>) {
        self.key(key.into());
        self.raw("\"");
        self.escape(VALUE_BYTES_MAX, true, value);
        self.raw("\"");
    }

    /// Adds the address of a peer.
    pub fn address<'k>(&mut self, key: impl Into<Key<'k>>, value: SocketAddr) {
        let SocketAddr::V4(address) = value else {
            self.display(key, format_args!("{value}"));
            return;
        };
        self.key(key.into());
        self.raw("\"");
        for (number, part) in address.ip().octets().into_iter().enumerate() {
            if number > 0 {
                self.raw(".");
            }
            self.digits(u64::from(part));
        }
        self.raw(":");
        self.digits(u64::from(address.port()));
        self.raw("\"");
    }

    /// Adds a whole number.
    pub fn number<'k>(&mut self, key: impl Into<Key<'k>>, value: u64) {
        self.key(key.into());
        self.digits(value);
    }

    /// Adds a duration in milliseconds, with microseconds as its decimals.
    pub fn milliseconds<'k>(&mut self, key: impl Into<Key<'k>>, value: Duration) {
        let micros = value.as_micros().min(u128::from(u64::MAX)) as u64;
        self.key(key.into());
        self.digits(micros / 1000);
        let rest = micros % 1000;
        let digit = |by: u64| b'0' + (rest / by % 10) as u8;
        self.bytes
            .extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }

    /// Adds a truth value.
    pub fn flag<'k>(&mut self, key: impl Into<Key<'k>>, value: bool) {
        self.key(key.into());
        self.raw(if value { "true" } else { "false" });
    }

    /// Gives the finished line away, with its line feed.
    pub fn finish<T>(mut self, give: impl FnOnce(&[u8]) -> T) -> T {
        self.raw(match self.format {
            LogFormat::Json => "}\n",
            LogFormat::Text => "\n",
        });
        let result = give(&self.bytes);
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        let _ = BUFFER.try_with(|buffer| buffer.set(self.bytes));
        result
    }

    /// Adds a value that needs no quotes and no escapes.
    fn bare(&mut self, key: &str, value: fmt::Arguments<'_>) {
        self.key(key.into());
        let _ = self.write_fmt(value);
    }

    #[inline]
    fn key(&mut self, key: Key<'_>) {
        match (key, self.format) {
            (Key::Fixed { json, .. }, LogFormat::Json) => self.raw(json),
            (Key::Fixed { text, .. }, LogFormat::Text) => self.raw(text),
            (Key::Any(key), _) => self.any_key(key),
        }
    }

    fn any_key(&mut self, key: &str) {
        let prefix = if RESERVED.contains(&key) { "_" } else { "" };
        match self.format {
            LogFormat::Json => {
                self.raw(",\"");
                self.raw(prefix);
                self.quoted(key);
                self.raw("\":");
            }
            LogFormat::Text => {
                self.raw(" ");
                self.escape(VALUE_BYTES_MAX, false, format_args!("{key}"));
                self.raw("=");
            }
        }
    }

    #[inline]
    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn digits(&mut self, value: u64) {
        match value {
            0..10 => self.bytes.push(b'0' + value as u8),
            _ => self.bytes.extend_from_slice(decimal(&mut [0; 20], value)),
        }
    }

    /// A value between quotes: quotes and backslashes are escaped in either format.
    fn quoted(&mut self, text: &str) {
        if text.len() <= VALUE_BYTES_MAX && !any_control_or_quote(text.as_bytes()) {
            self.raw(text);
        } else {
            self.escape(VALUE_BYTES_MAX, true, format_args!("{text}"));
        }
    }

    /// The message and the logger, which the text format does not quote.
    fn escaped(&mut self, left: usize, text: fmt::Arguments<'_>) {
        self.escape(left, self.format == LogFormat::Json, text);
    }

    fn escape(&mut self, left: usize, quotes: bool, text: fmt::Arguments<'_>) {
        let mut escaping = Escaping {
            bytes: &mut self.bytes,
            quotes,
            left,
            cut: false,
        };
        // Fails only where a `Display` of somebody's fails; what it wrote stays.
        let _ = match text.as_str() {
            Some(literal) => escaping.write_str(literal),
            None => escaping.write_fmt(text),
        };
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.raw(text);
        Ok(())
    }
}

/// Escapes what is written to it (RFC 8259 section 7) and cuts it to a length.
struct Escaping<'a> {
    bytes: &'a mut Vec<u8>,
    quotes: bool,
    left: usize,
    cut: bool,
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let mut rest = text;
        if rest.len() > self.left {
            let mut end = self.left;
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            rest = &rest[..end];
            self.cut = true;
        }
        self.left -= rest.len();
        let mut rest = rest.as_bytes();
        let special = |byte: &u8| {
            *byte < 0x20 || *byte == 0x7f || (self.quotes && matches!(byte, b'"' | b'\\'))
        };
        while let Some(at) = rest.iter().position(special) {
            self.bytes.extend_from_slice(&rest[..at]);
            push_escape(self.bytes, rest[at]);
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest);
        if self.cut {
            self.bytes.extend_from_slice("…".as_bytes());
        }
        Ok(())
    }
}

/// When a line is written. The date and time to the second are made once a second and thread.
fn timestamp(time: SystemTime) -> Rfc3339 {
    thread_local! {
        static LAST: Cell<(u64, Rfc3339)> = Cell::new((0, Utc::at(UNIX_EPOCH).rfc3339()));
    }
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, mut text) = LAST.get();
    if second != since.as_secs() {
        text = Utc::at(time).rfc3339();
        LAST.set((since.as_secs(), text));
    }
    text.set_millisecond(since.subsec_millis());
    text
}

fn push_escape(bytes: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => bytes.extend_from_slice(b"\\\""),
        b'\\' => bytes.extend_from_slice(b"\\\\"),
        b'\n' => bytes.extend_from_slice(b"\\n"),
        b'\r' => bytes.extend_from_slice(b"\\r"),
        b'\t' => bytes.extend_from_slice(b"\\t"),
        _ => bytes.extend_from_slice(&[
            b'\\',
            b'u',
            b'0',
            b'0',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]),
    }
}

/// Writes a record's key-value pairs as fields.
struct Fields<'a>(&'a mut Line);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(Field {
            line: self.0,
            key: key.as_str(),
        })
    }
}

/// Writes one value in its own type: numbers stay numbers.
struct Field<'a> {
    line: &'a mut Line,
    key: &'a str,
}

impl<'v> VisitValue<'v> for Field<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.line.display(self.key, format_args!("{value}"));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.line.bare(self.key, format_args!("null"));
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.line.number(self.key, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.line.bare(self.key, format_args!("{value}"));
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        if value.is_finite() {
            self.line.bare(self.key, format_args!("{value}"));
        } else {
            // JSON has no such number (RFC 8259 section 6).
            self.line.bare(self.key, format_args!("null"));
        }
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.line.flag(self.key, value);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.line.text(self.key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
