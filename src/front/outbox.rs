//! One connection's way out, shared by its front thread and whoever answers.
//!
//! Writing never blocks: bytes go to the socket if it takes them and into the connection's bounded
//! outbox if not, and the front thread drains that. The outbox's lock is held across one
//! non-blocking write, which is what keeps the bytes in order; it is the one exception to "no lock
//! across I/O", and it cannot wait.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::early::Waiting;
use super::mailbox::{Mailbox, Message};
use super::stats::Stats;
use crate::cancel::{Cancel, Reason};
use crate::sync::Mutex;

/// What one connection's client may leave unread of a stream before it is ended: more than the
/// longest answer of today's models, so that only a client that has stopped reading gets there.
pub const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// What all clients together may leave unread before those are ended that have left more than an equal
/// share of it.
pub const OUTBOX_TOTAL_BYTES_MAX: usize = 256 << 20;

/// An answer that is larger is offered to the socket at once, though more may follow: what it takes
/// need not be copied.
const CORKED_BYTES_MAX: usize = 64 << 10;

/// Unread bytes of all connections of the process.
static OUTBOX_TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Unread bytes that the outboxes of all fronts hold now.
pub fn outbox_bytes() -> usize {
    OUTBOX_TOTAL.load(Ordering::Relaxed)
}

/// The connection is gone; whatever is written to it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why bytes were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// See [`Gone`].
    Gone,
    /// The client has left too much unread, and the connection was ended for that.
    TooSlow,
}

impl Unsent {
    /// Cancels the call of a client that is too slow.
    pub fn cancel(self, cancel: &Cancel) -> Gone {
        if self == Self::TooSlow {
            cancel.cancel(Reason::SlowClient);
        }
        Gone
    }
}

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
    /// How the client is kept alive until a streamed answer begins.
    pub early: Option<Box<Waiting>>,
}

/// What a handler has left behind.
pub(super) struct Uncorked {
    pub answer: Answer,
    /// When the call expires.
    pub due: Option<Instant>,
    /// Whether a client that waits for a stream is to be sent comments.
    pub kept_alive: bool,
    /// Bytes that wait for the client.
    pub pending: usize,
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
            early: None,
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

    /// Ends [`Wire::cork`]. Returns what the handler has left behind.
    pub fn uncork(&self) -> Uncorked {
        let mut out = self.out.lock();
        out.corked = false;
        Uncorked {
            answer: out.answer,
            due: out.deadline.as_ref().map(|(at, _)| *at),
            kept_alive: out.early.is_some(),
            pending: out.bytes,
        }
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

    pub fn flush_locked(&self, out: &mut Outbox) -> Result<bool, Gone> {
        while let Some(first) = out.queue.front() {
            // Nearly always it is one segment, for which send(2) has less to do than writev(2).
            if out.queue.len() == 1 {
                let result = (&self.stream).write(&first[out.sent..]);
                if !Self::consumed(out, result)? {
                    return Ok(false);
                }
                continue;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&out.queue) {
                let from = if count == 0 { out.sent } else { 0 };
                *slice = IoSlice::new(&segment[from..]);
                count += 1;
            }
            let result = (&self.stream).write_vectored(&slices[..count]);
            if !Self::consumed(out, result)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes account of a write. Returns whether to go on.
    fn consumed(out: &mut Outbox, result: io::Result<usize>) -> Result<bool, Gone> {
        match result {
            Ok(written) => out.consume(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => {
                out.close();
                return Err(Gone);
            }
        }
        Ok(true)
    }

    /// Sends `parts` in order: to the socket if nothing waits before them, else to the outbox.
    pub fn send(&self, out: &mut Outbox, parts: [&[u8]; 4]) -> Result<(), Gone> {
        if out.closed {
            return Err(Gone);
        }
        let mut skip = 0;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let is_large = out.corked && total > CORKED_BYTES_MAX;
        if is_large {
            self.flush_locked(out)?;
        }
        if out.queue.is_empty() && (!out.corked || is_large) {
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

    /// As [`Wire::send`], and ends the connection if the client has left too much unread. The call is
    /// the caller's to cancel then, once the lock is free: what is attached to it may be anything.
    pub fn send_bounded(
        &self,
        out: &mut Outbox,
        parts: [&[u8]; 4],
        bytes_max: usize,
    ) -> Result<(), Unsent> {
        self.send(out, parts).map_err(|Gone| Unsent::Gone)?;
        // What is corked has not been offered to the client yet.
        if out.bytes > bytes_max || !out.corked && self.takes_too_much(out.bytes) {
            out.close();
            self.stats.slow_clients.fetch_add(1, Ordering::Relaxed);
            let _ = self.stream.shutdown(Shutdown::Both);
            return Err(Unsent::TooSlow);
        }
        Ok(())
    }

    /// Whether all clients together have left too much unread, and this one more than its share: so
    /// the one that made it so is ended, and not the next to fall behind.
    pub fn takes_too_much(&self, pending: usize) -> bool {
        let total = OUTBOX_TOTAL.load(Ordering::Relaxed);
        let connections = self.stats.connections.load(Ordering::Relaxed).max(1);
        total > OUTBOX_TOTAL_BYTES_MAX && pending > OUTBOX_TOTAL_BYTES_MAX / connections
    }

    /// Marks the answer as finished and tells the front thread, waking it only if it must act.
    /// Returns the deadline, to be dropped once the lock is free: it may own anything, another
    /// responder of this connection included.
    #[must_use]
    pub fn finish(&self, out: &mut Outbox, answer: Answer) -> Option<(Instant, Expired)> {
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
