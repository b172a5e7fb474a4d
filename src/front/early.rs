//! What a client that was promised a stream gets before there is anything to stream.
//!
//! Proxies and clients cut a connection that is silent for long, and a call may well wait for
//! longer: in a queue, for its turn at a provider, for a first token. So an answer that will be a
//! stream can be begun early: its head, and then a comment at every interval, which the client
//! reads and ignores. The connection's own front thread writes them, since whoever answers may be
//! blocked elsewhere. Once the head has gone out, a failure can only be told within the stream.

use std::time::{Duration, Instant};

use super::conn::Phase;
use super::encode::{Ending, encode_head};
use super::event::EventLoop;
use super::exchange::{Terms, chunk_size};
use super::outbox::{Gone, OUTBOX_BYTES_MAX, Wire};
use super::response::Response;
use crate::cancel::{Cancel, Reason};

/// What is said in a stream that has not begun. The handler brings it, for the front does not know
/// what is streamed.
pub trait Early: Send {
    /// The head: a 200 without a body. Called with the connection's lock held, so it may take none.
    fn head(&self) -> Response;

    /// What a client reads and ignores, whole between two parts of any stream.
    fn comment(&self) -> &'static [u8];

    /// What is said in place of `failure`, a whole answer, when the head has gone out. The stream
    /// ends behind it.
    fn failure(&self, failure: &Response) -> Vec<u8>;

    /// What is still worth saying of `head`, the stream's own, whose place the early one took.
    fn late(&self, head: &Response) -> Vec<u8>;
}

/// An answer that waits to begin.
pub(super) struct Waiting {
    pub early: Box<dyn Early>,
    pub interval: Duration,
    /// Since when the client waits.
    pub since: Instant,
    pub terms: Terms,
    /// Whether the head has gone out.
    pub begun: bool,
    /// Whether it said that the connection ends with the answer.
    pub close: bool,
}

impl Waiting {
    /// The head as it goes out.
    fn head(&mut self, draining: bool) -> Vec<u8> {
        let head = self.early.head();
        self.begun = true;
        self.close = head.close || self.terms.http10 || !self.terms.keep_alive || draining;
        let ending = if self.terms.http10 {
            Ending::Close
        } else {
            Ending::Chunked
        };
        let mut encoded = Vec::with_capacity(256);
        encode_head(&mut encoded, &head, ending, self.terms, self.close);
        encoded
    }
}

/// `bytes` as a part of a streamed body: a chunk, or as they are for a client of HTTP/1.0.
pub(super) fn frame<'b>(
    size: &'b mut [u8; 18],
    bytes: &'b [u8],
    http10: bool,
) -> (&'b [u8], &'b [u8], &'b [u8]) {
    if http10 || bytes.is_empty() {
        return (&[], bytes, &[]);
    }
    (chunk_size(size, bytes.len()), bytes, b"\r\n")
}

impl Wire {
    /// Sends a comment, behind the head if that has not gone out. Returns when the next one is due
    /// if nothing else is said; `None` if the answer is on its way.
    fn send_comment(&self, cancel: &Cancel) -> Result<Option<Duration>, Gone> {
        let mut out = self.out.lock();
        // Out of its place while the outbox is written to.
        let Some(mut waiting) = out.early.take() else {
            return Ok(None);
        };
        let head = match waiting.begun {
            true => Vec::new(),
            false => waiting.head(self.stats.is_draining()),
        };
        let mut size = [0; 18];
        let comment = waiting.early.comment();
        let (size, comment, tail) = frame(&mut size, comment, waiting.terms.http10);
        let parts = [head.as_slice(), size, comment, tail];
        let sent = self.send_bounded(&mut out, parts, OUTBOX_BYTES_MAX);
        let interval = waiting.interval;
        out.early = Some(waiting);
        drop(out);
        match sent {
            Ok(()) => Ok(Some(interval)),
            Err(unsent) => Err(unsent.cancel(cancel)),
        }
    }
}

impl EventLoop {
    /// The answer to this connection's request will be a stream: its handler has said so, or a worker.
    pub(super) fn keep_alive(&mut self, index: usize) {
        let waiting = {
            let out = self.slab[index].wire.out.lock();
            out.early.as_ref().map(|it| (it.since, it.interval))
        };
        match waiting {
            // The request had to wait until somebody knew.
            Some((since, interval)) if since + interval <= self.now => self.comment(index),
            Some((_, interval)) => self.comments.set_call(index, interval, self.now),
            None => {}
        }
    }

    /// The clients that have waited for an interval are sent a comment.
    pub(super) fn send_comments(&mut self) {
        while let Some((index, _)) = self.comments.pop_due(self.now) {
            self.comment(index);
        }
    }

    fn comment(&mut self, index: usize) {
        let conn = &self.slab[index];
        let (Phase::Busy, Some(cancel)) = (&conn.phase, &conn.cancel) else {
            return;
        };
        let next = if conn.blocked {
            // A comment would only queue up behind what the client does not take. A call keeps its
            // own deadline meanwhile, so it is here that the one of a silent client is held.
            let stalled = conn.stalled_since.unwrap_or(self.now);
            if stalled + self.limits.write_timeout <= self.now {
                cancel.cancel(Reason::SlowClient);
                self.end_slow(index);
                return;
            }
            let out = conn.wire.out.lock();
            Ok(out.early.as_ref().map(|waiting| waiting.interval))
        } else {
            conn.wire.send_comment(cancel)
        };
        match next {
            Ok(Some(interval)) => self.comments.set_call(index, interval, self.now),
            // The answer has begun: from here on the stream speaks for itself.
            Ok(None) => {}
            Err(Gone) => self.remove(index),
        }
    }
}
