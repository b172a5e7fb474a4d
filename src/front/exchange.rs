//! One connection's way out, shared by its front thread and whoever answers.
//!
//! A [`Responder`] answers one request. Writing never blocks: bytes go to the socket if it takes
//! them and into the connection's bounded outbox if not, and the front thread drains that. The
//! outbox's lock is held across one non-blocking write, which is what keeps the bytes in order;
//! it is the one exception to "no lock across I/O", and it cannot wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::encode::{Ending, encode_head};
use super::event::{Mailbox, Message};
use super::response::{Body, Response};
use super::stats::Stats;
use crate::cancel::{Cancel, Reason};
use crate::sync::Mutex;

/// What one connection's client may leave unread of a stream before it is ended: more than the
/// longest answer of today's models, so that only a client that has stopped reading gets there.
pub const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// What all clients together may leave unread before the next one to fall behind is ended.
pub const OUTBOX_TOTAL_BYTES_MAX: usize = 256 << 20;

/// Unread bytes of all connections of the process.
static OUTBOX_TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Unread bytes that the outboxes of all fronts hold now.
pub fn outbox_bytes() -> usize {
    OUTBOX_TOTAL.load(Ordering::Relaxed)
}

/// The connection is gone; whatever is written to it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Where the answer to the current request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No request is being answered.
    None,
    /// A request was handed out.
    Pending,
    /// Everything was written; `close` ends the connection once the outbox is empty.
    Finished { close: bool },
    /// The connection is to be reset at once.
    Abort,
}

type Expired = Box<dyn FnOnce() + Send>;

/// The half of a connection that answers go through.
pub(super) struct Outbox {
    /// Segments that the socket did not take yet; `sent` bytes of the first are gone.
    queue: VecDeque<Vec<u8>>,
    sent: usize,
    bytes: usize,
    /// Bytes that the socket ever took from here: whether a slow client makes progress.
    taken: u64,
    /// The front thread is handling input: collect, it will flush.
    pub corked: bool,
    /// No byte can reach the client any more.
    pub closed: bool,
    pub answer: Answer,
    /// The front must be woken when the answer is finished, for there is more input to look at.
    pub wake_when_finished: bool,
    pub deadline: Option<(Instant, Expired)>,
}

/// A connection as both sides see it.
pub(super) struct Wire {
    pub stream: TcpStream,
    pub token: usize,
    pub mailbox: Arc<Mailbox>,
    pub stats: Arc<Stats>,
    pub out: Mutex<Outbox>,
}

impl Wire {
    pub fn new(stream: TcpStream, token: usize, mailbox: Arc<Mailbox>, stats: Arc<Stats>) -> Self {
        let out = Outbox {
            queue: VecDeque::new(),
            sent: 0,
            bytes: 0,
            taken: 0,
            corked: false,
            closed: false,
            answer: Answer::None,
            wake_when_finished: false,
            deadline: None,
        };
        Self {
            stream,
            token,
            mailbox,
            stats,
            out: Mutex::new("front.outbox", out),
        }
    }

    /// The front thread begins to handle a request: answers are collected until [`Wire::uncork`].
    pub fn cork(&self) {
        let mut out = self.out.lock();
        out.corked = true;
        out.answer = Answer::Pending;
    }

    /// Ends [`Wire::cork`]. Returns where the answer stands, its deadline and what waits.
    pub fn uncork(&self) -> (Answer, Option<Instant>, usize) {
        let mut out = self.out.lock();
        out.corked = false;
        (
            out.answer,
            out.deadline.as_ref().map(|(at, _)| *at),
            out.bytes,
        )
    }

    /// Sends an interim answer, if the socket takes it at once: the client only asked to be told
    /// early.
    pub fn send_interim(&self, bytes: &[u8]) {
        let mut out = self.out.lock();
        let _ = self.send(&mut out, [bytes, b"", b"", b""]);
    }

    /// Writes what the socket takes of the outbox. Returns whether it is empty now, and how many
    /// bytes it has ever given away.
    pub fn flush(&self) -> Result<(bool, u64), Gone> {
        let mut out = self.out.lock();
        let empty = self.flush_locked(&mut out)?;
        Ok((empty, out.taken))
    }

    fn flush_locked(&self, out: &mut Outbox) -> Result<bool, Gone> {
        while !out.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&out.queue) {
                let from = if count == 0 { out.sent } else { 0 };
                *slice = IoSlice::new(&segment[from..]);
                count += 1;
            }
            match (&self.stream).write_vectored(&slices[..count]) {
                Ok(written) => out.consume(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => {
                    out.close();
                    return Err(Gone);
                }
            }
        }
        Ok(true)
    }

    /// Sends `parts` in order: to the socket if nothing waits before them, else to the outbox.
    fn send(&self, out: &mut Outbox, parts: [&[u8]; 4]) -> Result<(), Gone> {
        if out.closed {
            return Err(Gone);
        }
        let mut skip = 0;
        if out.queue.is_empty() && !out.corked {
            let slices = parts.map(IoSlice::new);
            loop {
                match (&self.stream).write_vectored(&slices) {
                    Ok(written) => skip = written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => {
                        out.close();
                        return Err(Gone);
                    }
                }
                break;
            }
        }
        let was_empty = out.queue.is_empty();
        out.append(parts, skip);
        if was_empty && !out.queue.is_empty() && !out.corked {
            self.mailbox.send(Message::Blocked(self.token), true);
        }
        Ok(())
    }

    /// As [`Wire::send`], and ends the connection if the client has left too much unread.
    fn send_bounded(
        &self,
        out: &mut Outbox,
        parts: [&[u8]; 4],
        bytes_max: usize,
        cancel: &Cancel,
    ) -> Result<(), Gone> {
        self.send(out, parts)?;
        let too_much = out.bytes > bytes_max
            || (out.bytes > 0 && OUTBOX_TOTAL.load(Ordering::Relaxed) > OUTBOX_TOTAL_BYTES_MAX);
        if too_much {
            out.close();
            cancel.cancel(Reason::SlowClient);
            self.stats.slow_clients.fetch_add(1, Ordering::Relaxed);
            let _ = self.stream.shutdown(Shutdown::Both);
            return Err(Gone);
        }
        Ok(())
    }

    /// Marks the answer as finished and tells the front thread, waking it only if it must act.
    /// Returns the deadline, to be dropped once the lock is free: it may own anything, another
    /// responder of this connection included.
    #[must_use]
    fn finish(&self, out: &mut Outbox, answer: Answer) -> Option<(Instant, Expired)> {
        out.answer = answer;
        if !out.corked {
            let wake = out.wake_when_finished
                || !out.queue.is_empty()
                || !matches!(answer, Answer::Finished { close: false });
            self.mailbox.send(Message::Finished(self.token), wake);
        }
        out.deadline.take()
    }
}

impl Outbox {
    /// Bytes that wait for the client.
    pub fn pending(&self) -> usize {
        self.bytes
    }

    fn append(&mut self, parts: [&[u8]; 4], mut skip: usize) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if skip >= total {
            return;
        }
        let added = total - skip;
        let reuse = self
            .queue
            .back()
            .is_some_and(|last| last.len() + added <= 64 << 10);
        if !reuse {
            self.queue.push_back(Vec::with_capacity(added));
        }
        if let Some(last) = self.queue.back_mut() {
            for part in parts {
                let from = skip.min(part.len());
                last.extend_from_slice(&part[from..]);
                skip -= from;
            }
        }
        self.bytes += added;
        OUTBOX_TOTAL.fetch_add(added, Ordering::Relaxed);
    }

    fn consume(&mut self, mut written: usize) {
        self.bytes -= written;
        self.taken += written as u64;
        OUTBOX_TOTAL.fetch_sub(written, Ordering::Relaxed);
        while let Some(first) = self.queue.front() {
            let left = first.len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.queue.pop_front();
        }
    }

    /// Drops what waits: nothing reaches the client any more.
    pub fn close(&mut self) {
        OUTBOX_TOTAL.fetch_sub(self.bytes, Ordering::Relaxed);
        self.closed = true;
        self.bytes = 0;
        self.sent = 0;
        self.queue.clear();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the request said that the answer must respect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub http10: bool,
    pub keep_alive: bool,
    pub is_head: bool,
}

thread_local! {
    /// Where heads are encoded: one buffer a thread, so that an answer allocates none.
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers one request. May be sent to another thread. Dropped unanswered, it answers 500.
pub struct Responder {
    wire: Arc<Wire>,
    cancel: Arc<Cancel>,
    terms: Terms,
    answered: bool,
}

impl Responder {
    pub(super) fn new(wire: Arc<Wire>, terms: Terms) -> Self {
        Self {
            wire,
            cancel: Arc::new(Cancel::new()),
            terms,
            answered: false,
        }
    }

    /// The call's cancel handle: cancelled when the client goes away.
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// Has `expired` called on a front thread if the request is not answered by `at`. To be
    /// called while the request is being handled, at most once.
    pub fn set_deadline(&mut self, at: Instant, expired: Box<dyn FnOnce() + Send>) {
        self.wire.out.lock().deadline = Some((at, expired));
    }

    /// Sends a whole answer.
    pub fn respond(mut self, response: Response) {
        self.answered = true;
        self.send_whole(&response);
    }

    fn send_whole(&self, response: &Response) {
        let close = response.close || !self.keeps_alive();
        HEAD.with_borrow_mut(|head| {
            head.clear();
            let ending = Ending::Length(response.body.as_bytes().len());
            encode_head(head, response, ending, self.terms, close);
            let body = if self.terms.is_head {
                &[][..]
            } else {
                response.body.as_bytes()
            };
            let mut out = self.wire.out.lock();
            let sent =
                self.wire
                    .send_bounded(&mut out, [head, body, b"", b""], usize::MAX, &self.cancel);
            let answer = Answer::Finished {
                close: close || sent.is_err(),
            };
            let deadline = self.wire.finish(&mut out, answer);
            drop(out);
            drop(deadline);
        });
    }

    /// Begins a streamed answer. Its head goes out with the first bytes, or by
    /// [`StreamWriter::flush_head`].
    pub fn stream(mut self, head: Response) -> StreamWriter {
        self.answered = true;
        let close = head.close || !self.keeps_alive() || self.terms.http10;
        // From here on the stream lives by its own deadlines.
        let deadline = self.wire.out.lock().deadline.take();
        drop(deadline);
        let mut encoded = Vec::with_capacity(head.headers.len() + 128);
        let ending = if self.terms.http10 {
            Ending::Close
        } else {
            Ending::Chunked
        };
        encode_head(&mut encoded, &head, ending, self.terms, close);
        StreamWriter {
            wire: Arc::clone(&self.wire),
            cancel: Arc::clone(&self.cancel),
            terms: self.terms,
            head: encoded,
            close,
            finished: false,
        }
    }

    /// Resets the connection (RST) without an answer. For a simulator that plays a broken peer.
    pub fn abort(mut self) {
        self.answered = true;
        let _ = rustix::net::sockopt::set_socket_linger(
            &self.wire.stream,
            Some(std::time::Duration::ZERO),
        );
        let mut out = self.wire.out.lock();
        out.close();
        let deadline = self.wire.finish(&mut out, Answer::Abort);
        drop(out);
        drop(deadline);
    }

    fn keeps_alive(&self) -> bool {
        self.terms.keep_alive && !self.wire.stats.is_draining()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let message = "the request was given up without an answer; this is a fault of victor";
            self.send_whole(&Response::text(500, message));
        }
    }
}

/// Writes a streamed answer. Dropped without [`StreamWriter::finish`], the connection is cut, so
/// that the client can tell.
pub struct StreamWriter {
    wire: Arc<Wire>,
    cancel: Arc<Cancel>,
    terms: Terms,
    /// The head, until it went out with the first bytes.
    head: Vec<u8>,
    close: bool,
    finished: bool,
}

impl StreamWriter {
    /// The call's cancel handle.
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// Sends `bytes`, at once if the socket takes them. Never blocks.
    ///
    /// # Errors
    /// The client is gone, or was ended for leaving more than [`OUTBOX_BYTES_MAX`] unread.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut size = [0_u8; 18];
        let framed = !self.terms.http10;
        let size: &[u8] = if framed {
            chunk_size(&mut size, bytes.len())
        } else {
            &[]
        };
        let tail: &[u8] = if framed { b"\r\n" } else { &[] };
        self.send(if self.terms.is_head {
            [&[]; 3]
        } else {
            [size, bytes, tail]
        })
    }

    /// Bytes that the client has left unread so far, for a writer that can wait for it.
    pub fn unread_bytes(&self) -> usize {
        self.wire.out.lock().pending()
    }

    /// Sends the head now, before there is anything to stream.
    ///
    /// # Errors
    /// The client is gone.
    pub fn flush_head(&mut self) -> Result<(), Gone> {
        self.send([&[]; 3])
    }

    fn send(&mut self, parts: [&[u8]; 3]) -> Result<(), Gone> {
        let mut out = self.wire.out.lock();
        let parts = [self.head.as_slice(), parts[0], parts[1], parts[2]];
        let sent = self
            .wire
            .send_bounded(&mut out, parts, OUTBOX_BYTES_MAX, &self.cancel);
        drop(out);
        self.head.clear();
        sent
    }

    /// Ends the stream as complete.
    ///
    /// # Errors
    /// The client is gone.
    pub fn finish(mut self) -> Result<(), Gone> {
        let end: &[u8] = if self.terms.http10 || self.terms.is_head {
            b""
        } else {
            b"0\r\n\r\n"
        };
        self.finished = true;
        let mut out = self.wire.out.lock();
        let sent = self.wire.send(&mut out, [&self.head, end, b"", b""]);
        let answer = Answer::Finished {
            close: self.close || sent.is_err(),
        };
        let deadline = self.wire.finish(&mut out, answer);
        drop(out);
        drop(deadline);
        sent
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.finished {
            let mut out = self.wire.out.lock();
            let _ = self.wire.send(&mut out, [&self.head, b"", b"", b""]);
            let deadline = self.wire.finish(&mut out, Answer::Finished { close: true });
            drop(out);
            drop(deadline);
        }
    }
}

/// `length` in hexadecimal and CRLF, written into the end of `buffer`.
fn chunk_size(buffer: &mut [u8; 18], mut length: usize) -> &[u8] {
    buffer[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    loop {
        at -= 1;
        buffer[at] = b"0123456789abcdef"[length & 15];
        length >>= 4;
        if length == 0 {
            return &buffer[at..];
        }
    }
}

impl Body {
    /// How many bytes the body has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (length, expected) in [(1, "1\r\n"), (16, "10\r\n"), (0xabcdef, "abcdef\r\n")] {
            assert_eq!(chunk_size(&mut [0; 18], length), expected.as_bytes());
        }
    }
}
