//! The way in: reading a connection, finding requests in what was read, handing them out.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::budget::{Charge, FREE_BYTES};
use super::conn::Phase;
use super::event::EventLoop;
use super::exchange::{Responder, Terms};
use super::outbox::Answer;
use super::parse::{Framing, Parsed};
use super::request::{Head, Request};
use super::timers::Kind;

/// One connection is read at most so often before the others get their turn.
const READS_IN_A_ROW: usize = 16;
/// One connection has at most so many requests handled before the others get their turn.
const REQUESTS_IN_A_ROW: usize = 16;
/// With more answers than this waiting to be sent, they are sent before the next request.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// A body of at most so many bytes that is there with its head is handed out at once.
const WHOLE_BYTES_MAX: usize = FREE_BYTES;

impl EventLoop {
    /// Reads and handles what the connection has, as far as it goes without waiting.
    pub(super) fn advance(&mut self, index: usize) {
        for _ in 0..READS_IN_A_ROW {
            if !self.slab.holds(index) {
                return;
            }
            if matches!(self.slab[index].phase, Phase::Busy) {
                let more = self.slab[index].read_ready || !self.slab[index].input.is_empty();
                if self.still_busy(index, more) {
                    return;
                }
                continue;
            }
            if std::mem::take(&mut self.slab[index].yields) {
                break;
            }
            // While its client does not take what it asked for, nothing more is handled.
            if matches!(self.slab[index].phase, Phase::Closing) || !self.flushed(index) {
                return;
            }
            if !self.slab[index].input.is_empty() && self.slab[index].retry_input {
                let input = std::mem::take(&mut self.slab[index].input);
                self.take_input(index, &input);
                continue;
            }
            if !self.slab[index].read_ready {
                return;
            }
            self.read(index);
        }
        if self.slab.holds(index) && !self.flushed(index) {
            return;
        }
        self.again.push(index);
    }

    pub(super) fn read(&mut self, index: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let conn = &mut self.slab[index];
        let wire = Arc::clone(&conn.wire);
        match (&wire.stream).read(&mut scratch) {
            Ok(0) => self.on_eof(index),
            Ok(count) => {
                // A short read has emptied the socket (epoll(7)); a close has its own event.
                conn.read_ready = count == scratch.len();
                let mut input = std::mem::take(&mut conn.input);
                if input.is_empty() {
                    self.take_input(index, &scratch[..count]);
                } else {
                    input.extend_from_slice(&scratch[..count]);
                    self.take_input(index, &input);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => conn.read_ready = false,
            Err(_) => self.remove(index),
        }
        self.scratch = scratch;
    }

    fn on_eof(&mut self, index: usize) {
        self.slab[index].read_ready = false;
        let empty = self.slab[index].wire.out.lock().pending() == 0;
        if empty || matches!(self.slab[index].phase, Phase::Linger { .. }) {
            self.remove(index);
        } else {
            self.slab[index].phase = Phase::Closing;
            self.drain(index);
        }
    }

    /// Handles `data`, and keeps what is left of it for later.
    fn take_input(&mut self, index: usize, data: &[u8]) {
        let taken = self.feed(index, data);
        if self.slab.holds(index) {
            let busy = matches!(self.slab[index].phase, Phase::Busy);
            let conn = &mut self.slab[index];
            conn.retry_input = busy || conn.yields;
            if taken < data.len() {
                conn.input.extend_from_slice(&data[taken..]);
            }
            if !busy {
                self.drain(index);
            }
        }
    }

    /// Handles requests in `data` until one is out or more must be read. Returns what was taken.
    pub(super) fn feed(&mut self, index: usize, data: &[u8]) -> usize {
        let (mut at, mut handled) = (0, 0);
        loop {
            let conn = &mut self.slab[index];
            let between = matches!(conn.phase, Phase::Idle) && at < data.len();
            if between && handled > 0 {
                let unsent = conn.wire.out.lock().pending();
                if handled >= REQUESTS_IN_A_ROW || unsent > UNSENT_BYTES_MAX {
                    conn.yields = true;
                    return at;
                }
            }
            match &mut conn.phase {
                Phase::Idle | Phase::Head => match conn.take_head(&data[at..], &self.limits) {
                    Ok((taken, None)) => {
                        at += taken;
                        let begun = at < data.len();
                        if begun && matches!(conn.phase, Phase::Idle) {
                            conn.phase = Phase::Head;
                            self.timers.set(index, Kind::Head, self.now);
                        }
                        return at;
                    }
                    Ok((taken, Some(parsed))) => {
                        at += taken;
                        if let Some(taken) = self.begin_body(index, parsed, &data[at..]) {
                            at += taken;
                            handled += 1;
                        }
                    }
                    Err(refusal) => {
                        let path = path_of(&data[at..]);
                        self.refuse(index, path, refusal);
                    }
                },
                Phase::Body(_) => {
                    let (taken, whole) = self.feed_body(index, &data[at..]);
                    at += taken;
                    if !whole {
                        return at;
                    }
                    handled += 1;
                }
                Phase::Busy => return at,
                Phase::Linger { left } => {
                    *left = left.saturating_sub(data.len());
                    if *left == 0 {
                        self.remove(index);
                    }
                    return data.len();
                }
                Phase::Closing => return data.len(),
            }
            if !self.slab.holds(index) {
                return data.len();
            }
        }
    }

    /// Takes what belongs to a body, and handles its request if that was all of it. Returns what
    /// was taken and whether the body has ended, one way or the other.
    fn feed_body(&mut self, index: usize, data: &[u8]) -> (usize, bool) {
        let Phase::Body(body) = &mut self.slab[index].phase else {
            return (0, true);
        };
        match body.take(data, self.limits.body_bytes_max) {
            Ok(taken) if body.is_done() => {
                let (parsed, bytes, charge) = body.finish();
                self.dispatch(index, parsed, bytes, charge);
                (taken, true)
            }
            Ok(taken) => {
                if body.made_progress() {
                    self.timers.set(index, Kind::Body, self.now);
                }
                (taken, false)
            }
            Err(refusal) => {
                let path = body.parsed.path().map(str::to_owned);
                self.refuse(index, path, refusal);
                (0, true)
            }
        }
    }

    /// A head has come, and `rest` behind it: refuses a body that is too large or whose sender may
    /// not send it, unread, or begins to read it. Returns its length if all of it is there, and its
    /// request handled.
    fn begin_body(&mut self, index: usize, mut parsed: Parsed, rest: &[u8]) -> Option<usize> {
        if parsed.framing != Framing::Length(0) {
            let mut request = self.request(index, std::mem::take(&mut parsed.head));
            if let Err(response) = self.handler.admit(&request) {
                self.answer_last(index, response);
                return None;
            }
            parsed.head = std::mem::take(&mut request.head);
        }
        // Most bodies come with their heads, and need neither a place to grow in nor a deadline: 400
        // instructions less for each request.
        if let Framing::Length(length) = parsed.framing
            && length <= WHOLE_BYTES_MAX.min(self.limits.body_bytes_max) as u64
            && let Some(body) = rest.get(..length as usize)
        {
            self.dispatch(index, parsed, body.to_vec(), Charge::default());
            return Some(body.len());
        }
        match self.slab[index].begin_body(parsed, &self.limits) {
            Ok(wants_continue) => {
                self.timers.set(index, Kind::Body, self.now);
                if wants_continue && rest.is_empty() {
                    self.slab[index]
                        .wire
                        .send_interim(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            Err((path, refusal)) => self.refuse(index, path, refusal),
        }
        None
    }

    /// A request of this connection without its body.
    fn request(&self, index: usize, head: Head) -> Request {
        Request {
            head,
            body: Vec::new(),
            received: self.now,
            peer: self.slab[index].peer,
            _charge: Charge::default(),
        }
    }

    /// Hands a whole request to the handler.
    pub(super) fn dispatch(&mut self, index: usize, parsed: Parsed, body: Vec<u8>, charge: Charge) {
        let terms = Terms {
            http10: parsed.http10,
            keep_alive: parsed.keep_alive,
            is_head: parsed.is_head,
        };
        let request = Request {
            body,
            _charge: charge,
            ..self.request(index, parsed.head)
        };
        let conn = &mut self.slab[index];
        let wire = Arc::clone(&conn.wire);
        let responder = Responder::new(Arc::clone(&wire), terms, self.now);
        conn.cancel = Some(Arc::clone(responder.cancel()));
        conn.phase = Phase::Busy;
        self.busy += 1;
        wire.cork();
        let handler = &self.handler;
        if catch_unwind(AssertUnwindSafe(|| handler.handle(request, responder))).is_err() {
            log::error!("a request handler panicked on a front thread; its caller got a 500");
        }
        let left = wire.uncork();
        match left.answer {
            Answer::Pending => {
                match left.due {
                    Some(due) => {
                        let after = due.saturating_duration_since(self.now);
                        self.timers.set_call(index, after, self.now);
                    }
                    None => self.timers.clear(index),
                }
                if left.pending > 0 {
                    self.drain(index);
                }
                if left.kept_alive && self.slab.holds(index) {
                    self.keep_alive(index);
                }
            }
            answer => self.on_answered(index, answer),
        }
    }
}

/// The path in what may be a request line, for the shape of an error.
pub(super) fn path_of(data: &[u8]) -> Option<String> {
    let line = data.split(|byte| *byte == b'\r').next()?;
    let target = line
        .get(..line.len().min(256))?
        .split(|byte| *byte == b' ')
        .nth(1)?;
    let target = std::str::from_utf8(target).ok()?;
    Some(target.split('?').next().unwrap_or(target).to_owned())
}
