//! What the simulator received and how each answer ended: `GET /_sim/log` and `--log F`.
//!
//! A request is rendered as JSON once, outside the lock; the lock is held for a push or a look.
//! The ring is bounded by count and by bytes, the file's channel by lines: what does not fit is
//! counted, never waited for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{self, Receiver, Sender};

use super::fault::push_json;
use super::script::Script;
use crate::clock::Utc;
use crate::front::Request;
use crate::sync::Mutex;
use crate::thread::{self, Handle, Role, State};

/// Entries that are kept.
const ENTRIES_MAX: usize = 10_000;
/// Bytes of JSON that all entries may have together.
const ENTRIES_BYTES_MAX: usize = 16 << 20;
/// Bodies that are kept, and the longest of them.
const BODIES_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 64 << 10;
/// Lines that wait for the file.
const FILE_LINES_MAX: usize = 4096;
/// Of each header value, model and path.
const TEXT_BYTES_MAX: usize = 256;
/// Of all headers of one request.
const HEADERS_BYTES_MAX: usize = 4096;
/// Headers whose value is not shown but for its last characters.
const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "proxy-authorization",
];

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As the script had it: completely.
    Complete,
    /// As the script had it: cut.
    Cut,
    /// As the script had it: reset.
    Reset,
    /// The client left first.
    ClientGone,
    /// The client stopped reading.
    SlowClient,
    /// The simulator was stopped first.
    Shutdown,
    /// The simulator had no room for it.
    Refused,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::ClientGone => "client_gone",
            Self::SlowClient => "slow_client",
            Self::Shutdown => "shutdown",
            Self::Refused => "refused",
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// 0 if no head was sent.
    pub status: u16,
    pub ended: Ended,
    /// Tokens that were sent.
    pub tokens: u32,
    pub at: Instant,
}

struct Entry {
    /// The members that were known at once, without braces.
    received: Vec<u8>,
    outcome: Option<Outcome>,
}

/// The newest entries; entry `i` has the number `first + i`.
struct Ring {
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    dropped: u64,
    bodies: VecDeque<(u64, Vec<u8>)>,
}

/// The log of one simulator.
pub struct Journal {
    start: Instant,
    start_at: SystemTime,
    ring: Mutex<Ring>,
    file: Option<Sender<Vec<u8>>>,
    file_dropped: AtomicU64,
}

impl Journal {
    /// An empty log. With `path`, finished entries are appended to that file by the thread that
    /// is returned, which ends when the log is dropped.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn open(path: Option<&Path>) -> io::Result<(Self, Option<Handle>)> {
        let (mut file, mut writer) = (None, None);
        if let Some(path) = path {
            let output = File::options().create(true).append(true).open(path)?;
            let (sender, lines) = channel::bounded(FILE_LINES_MAX);
            writer = Some(thread::spawn("sim-log", Role::Log, move || {
                write_lines(output, &lines).map_err(Into::into)
            })?);
            file = Some(sender);
        }
        let ring = Ring {
            first: 1,
            entries: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            bodies: VecDeque::new(),
        };
        let journal = Self {
            start: Instant::now(),
            start_at: SystemTime::now(),
            ring: Mutex::new("simulator.journal", ring),
            file,
            file_dropped: AtomicU64::new(0),
        };
        Ok((journal, writer))
    }

    /// The wall-clock time of a moment.
    pub fn wall(&self, at: Instant) -> SystemTime {
        self.start_at + at.saturating_duration_since(self.start)
    }

    /// Enters a request, with what came of it if that is known already. Takes the body out of
    /// the request. Returns the number for [`Journal::close`].
    pub fn enter(&self, request: &mut Request, script: &Script, outcome: Option<Outcome>) -> u64 {
        let received = self.describe(request, script);
        let body = std::mem::take(&mut request.body);
        let keep_body = !body.is_empty() && body.len() <= BODY_BYTES_MAX;
        let line = self.file.as_ref().and(outcome).map(|_| received.clone());
        // What falls out of the ring is freed after the lock is.
        let (number, _old_body, _old) = {
            let mut ring = self.ring.lock();
            let number = ring.first + ring.entries.len() as u64;
            ring.bytes += received.len();
            ring.entries.push_back(Entry { received, outcome });
            let mut old_body = None;
            if keep_body {
                if ring.bodies.len() == BODIES_MAX {
                    old_body = ring.bodies.pop_front();
                }
                ring.bodies.push_back((number, body));
            }
            let mut old = None;
            while ring.entries.len() > ENTRIES_MAX || ring.bytes > ENTRIES_BYTES_MAX {
                old = ring.entries.pop_front();
                ring.bytes -= old.as_ref().map_or(0, |entry| entry.received.len());
                ring.first += 1;
                ring.dropped += 1;
            }
            (number, old_body, old)
        };
        if let (Some(received), Some(outcome)) = (line, outcome) {
            self.write_line(number, &received, outcome);
        }
        number
    }

    /// Says what came of an entry. May be said again: a client may leave at the last moment.
    pub fn close(&self, number: u64, outcome: Outcome) {
        let line = {
            let mut ring = self.ring.lock();
            let index = number.checked_sub(ring.first);
            let Some(entry) = index.and_then(|index| ring.entries.get_mut(index as usize)) else {
                return;
            };
            let first = entry.outcome.replace(outcome).is_none();
            (first && self.file.is_some()).then(|| entry.received.clone())
        };
        if let Some(received) = line {
            self.write_line(number, &received, outcome);
        }
    }

    fn write_line(&self, number: u64, received: &[u8], outcome: Outcome) {
        let Some(file) = &self.file else { return };
        let mut line = Vec::with_capacity(received.len() + 128);
        self.render_entry(number, received, Some(outcome), None, &mut line);
        line.push(b'\n');
        if file.try_send(line).is_err() {
            self.file_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every entry as a JSON array, oldest first.
    pub fn render(&self, with_bodies: bool) -> Vec<u8> {
        let ring = self.ring.lock();
        let mut out = Vec::with_capacity(ring.bytes + ring.entries.len() * 128 + 2);
        out.push(b'[');
        for (number, entry) in (ring.first..).zip(&ring.entries) {
            if out.len() > 1 {
                out.extend_from_slice(b",\n");
            }
            let body = ring
                .bodies
                .iter()
                .find(|(of, _)| with_bodies && *of == number);
            let body = body.map(|(_, body)| body.as_slice());
            self.render_entry(number, &entry.received, entry.outcome, body, &mut out);
        }
        out.push(b']');
        out
    }

    /// Entries that fell out of the ring, and lines that the file could not take.
    pub fn dropped(&self) -> (u64, u64) {
        (
            self.ring.lock().dropped,
            self.file_dropped.load(Ordering::Relaxed),
        )
    }

    /// Forgets every entry. Numbers go on.
    pub fn reset(&self) {
        let old = {
            let mut ring = self.ring.lock();
            ring.first += ring.entries.len() as u64;
            ring.bytes = 0;
            ring.dropped = 0;
            (
                std::mem::take(&mut ring.entries),
                std::mem::take(&mut ring.bodies),
            )
        };
        drop(old);
        self.file_dropped.store(0, Ordering::Relaxed);
    }

    fn render_entry(
        &self,
        number: u64,
        received: &[u8],
        outcome: Option<Outcome>,
        body: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let _ = write!(out, "{{\"n\":{number},");
        out.extend_from_slice(received);
        match outcome {
            Some(outcome) => {
                let end = outcome.ended.as_str();
                match outcome.status {
                    0 => out.extend_from_slice(b",\"status\":null"),
                    status => drop(write!(out, ",\"status\":{status}")),
                }
                let _ = write!(
                    out,
                    ",\"end\":\"{end}\",\"tokens_sent\":{},\"ended_at_ms\":",
                    outcome.tokens
                );
                push_millis(out, outcome.at.saturating_duration_since(self.start));
            }
            None => out.extend_from_slice(
                b",\"status\":null,\"end\":null,\"tokens_sent\":null,\"ended_at_ms\":null",
            ),
        }
        if let Some(body) = body {
            out.extend_from_slice(b",\"body\":");
            push_json(out, &String::from_utf8_lossy(body));
        }
        out.push(b'}');
    }

    /// The members that are known when a request has been planned.
    fn describe(&self, request: &Request, script: &Script) -> Vec<u8> {
        let mut out = Vec::with_capacity(768);
        out.extend_from_slice(b"\"at\":\"");
        let at = Utc::at(self.wall(request.received)).rfc3339();
        out.extend_from_slice(at.as_str().as_bytes());
        out.extend_from_slice(b"\",\"at_ms\":");
        push_millis(
            &mut out,
            request.received.saturating_duration_since(self.start),
        );
        out.extend_from_slice(b",\"method\":");
        push_json(&mut out, request.method());
        out.extend_from_slice(b",\"path\":");
        push_json(&mut out, short(request.path()));
        out.extend_from_slice(b",\"model\":");
        match &script.model {
            Some(model) => push_json(&mut out, short(model)),
            None => out.extend_from_slice(b"null"),
        }
        let _ = write!(out, ",\"stream\":{},\"behaviours\":", script.stream);
        push_behaviours(&mut out, script.model.as_deref(), request.header("x-sim"));
        out.extend_from_slice(b",\"headers\":{");
        push_headers(&mut out, request);
        let _ = write!(
            out,
            "}},\"body_bytes\":{},\"body_blake3\":\"",
            request.body.len()
        );
        out.extend_from_slice(blake3::hash(&request.body).to_hex().as_bytes());
        out.push(b'"');
        out
    }
}

fn push_millis(out: &mut Vec<u8>, since: Duration) {
    let micros = since.as_micros();
    let _ = write!(out, "{}.{:03}", micros / 1000, micros % 1000);
}

/// What was asked for beyond `sim`, by name and by header, as one list.
fn push_behaviours(out: &mut Vec<u8>, model: Option<&str>, header: Option<&str>) {
    let by_model = model.and_then(|model| model.strip_prefix("sim+"));
    let header = header.map(str::trim);
    let by_header = header.map(|header| header.strip_prefix("sim+").unwrap_or(header));
    out.push(b'[');
    let parts = [by_model, by_header].into_iter().flatten();
    let parts = parts.flat_map(|parts| short(parts).split('+').map(str::trim));
    for (index, part) in parts
        .filter(|part| !part.is_empty() && *part != "sim")
        .enumerate()
    {
        if index > 0 {
            out.push(b',');
        }
        push_json(out, part);
    }
    out.push(b']');
}

/// Every header as it came, repeated names included, secrets but for their last characters.
fn push_headers(out: &mut Vec<u8>, request: &Request) {
    let start = out.len();
    for (name, value) in request.headers() {
        if out.len() - start > HEADERS_BYTES_MAX {
            break;
        }
        if out.len() > start {
            out.push(b',');
        }
        let name_at = out.len();
        push_json(out, short(name));
        out[name_at..].make_ascii_lowercase();
        out.push(b':');
        if SECRET_HEADERS
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(name))
        {
            // Enough to tell two long keys apart; a short one shows nothing.
            let tail = value.get(value.len().saturating_sub(4)..);
            let tail = tail.filter(|_| value.len() >= 16).unwrap_or("");
            push_json(out, &format!("***{tail}"));
        } else {
            push_json(out, short(value));
        }
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Appends lines to the file, each batch flushed before the thread waits again.
fn write_lines(file: File, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut output = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        thread::set_state(State::Running);
        output.write_all(&line)?;
        for line in lines.try_iter() {
            output.write_all(&line)?;
        }
        output.flush()?;
        thread::set_state(State::Idle);
    }
    Ok(())
}
