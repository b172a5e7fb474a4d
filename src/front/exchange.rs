//! Answering one request: whole ([`Responder`]) or as a stream ([`StreamWriter`]), from any thread,
//! without ever waiting for the client.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::early::{Early, Waiting, frame};
use super::encode::{Ending, encode_head};
use super::mailbox::Message;
use super::outbox::{Answer, Gone, OUTBOX_BYTES_MAX, Wire};
use super::response::Response;
use crate::cancel::Cancel;

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
    /// When the request was handed out.
    pub(super) since: Instant,
    /// Whether the front may begin the answer.
    kept_alive: bool,
    answered: bool,
}

impl Responder {
    pub(super) fn new(wire: Arc<Wire>, terms: Terms, since: Instant) -> Self {
        Self {
            wire,
            cancel: Arc::new(Cancel::new()),
            terms,
            since,
            kept_alive: false,
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

    /// Says that the answer will be a stream. If it has not begun an `interval` after the request
    /// came, the connection's front thread begins it with the head of `early` and a comment, and
    /// repeats the comment at every further interval. From then on [`Responder::respond`] tells its
    /// answer within the stream, and [`Responder::stream`] goes on behind the head that has gone
    /// out. On any thread; only the first time counts, and an interval of zero is none at all.
    pub fn keep_alive(&mut self, interval: Duration, early: Box<dyn Early>) {
        // The answer to HEAD has no body for a comment to stand in.
        if self.terms.is_head || interval.is_zero() || self.kept_alive {
            return;
        }
        self.kept_alive = true;
        let mut out = self.wire.out.lock();
        out.early = Some(Box::new(Waiting {
            early,
            interval,
            since: self.since,
            terms: self.terms,
            begun: false,
            close: false,
        }));
        // While the request is being handled, the front thread looks by itself.
        let tell = !out.corked;
        drop(out);
        if tell {
            let message = Message::KeepAlive(self.wire.token);
            self.wire.mailbox.send(message, true);
        }
    }

    /// From here on the front begins nothing. Returns what it has begun, if it has.
    fn take_begun(&mut self) -> Option<Box<Waiting>> {
        if !std::mem::take(&mut self.kept_alive) {
            return None;
        }
        let waiting = self.wire.out.lock().early.take();
        waiting.filter(|waiting| waiting.begun)
    }

    /// Sends a whole answer. If the head of a stream has gone out before, it is told within that,
    /// as a failure, and ends it.
    pub fn respond(mut self, response: Response) {
        self.answered = true;
        self.send_whole(&response);
    }

    fn send_whole(&mut self, response: &Response) {
        if let Some(begun) = self.take_begun() {
            self.send_failure(&begun, response);
            return;
        }
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
            let sent = self
                .wire
                .send_bounded(&mut out, [head, body, b"", b""], usize::MAX);
            let answer = Answer::Finished {
                close: close || sent.is_err(),
            };
            let deadline = self.wire.finish(&mut out, answer);
            drop(out);
            drop(deadline);
            if let Err(unsent) = sent {
                unsent.cancel(&self.cancel);
            }
        });
    }

    /// Ends a stream that was begun early.
    fn send_failure(&self, begun: &Waiting, response: &Response) {
        let not_streamed;
        let failure = if response.status < 400 {
            let message = "the answer was to be a stream and is none; this is a fault of victor";
            not_streamed = Response::text(500, message);
            &not_streamed
        } else {
            response
        };
        let event = begun.early.failure(failure);
        let mut writer = self.writer(Vec::new(), begun.close || response.close);
        // A client that is gone needs no end.
        let _ = writer.write(&event).and_then(|()| writer.finish());
    }

    /// Begins a streamed answer. Its head goes out with the first bytes, or by
    /// [`StreamWriter::flush_head`]; if another has gone out before, what is left to say of it does.
    pub fn stream(mut self, head: Response) -> StreamWriter {
        self.answered = true;
        // From here on the stream lives by its own deadlines.
        let deadline = self.wire.out.lock().deadline.take();
        drop(deadline);
        if let Some(begun) = self.take_begun() {
            let late = begun.early.late(&head);
            let mut size = [0; 18];
            let (size, late, tail) = frame(&mut size, &late, self.terms.http10);
            return self.writer([size, late, tail].concat(), begun.close || head.close);
        }
        let close = head.close || !self.keeps_alive() || self.terms.http10;
        let mut encoded = Vec::with_capacity(head.headers.len() + 128);
        let ending = if self.terms.http10 {
            Ending::Close
        } else {
            Ending::Chunked
        };
        encode_head(&mut encoded, &head, ending, self.terms, close);
        self.writer(encoded, close)
    }

    fn writer(&self, head: Vec<u8>, close: bool) -> StreamWriter {
        StreamWriter {
            wire: Arc::clone(&self.wire),
            cancel: Arc::clone(&self.cancel),
            terms: self.terms,
            head,
            close,
            finished: false,
        }
    }

    /// Resets the connection (RST) without an answer. For a simulator that plays a broken peer.
    pub fn abort(mut self) {
        self.answered = true;
        drop(self.take_begun());
        let _ = rustix::net::sockopt::set_socket_linger(&self.wire.stream, Some(Duration::ZERO));
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
    /// The head, or what takes its place, until it went out with the first bytes.
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
        let mut size = [0; 18];
        let (size, bytes, tail) = frame(&mut size, bytes, self.terms.http10);
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
        let sent = self.wire.send_bounded(&mut out, parts, OUTBOX_BYTES_MAX);
        drop(out);
        self.head.clear();
        sent.map_err(|unsent| unsent.cancel(&self.cancel))
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
pub(super) fn chunk_size(buffer: &mut [u8; 18], mut length: usize) -> &[u8] {
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
