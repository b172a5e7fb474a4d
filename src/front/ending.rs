//! How a connection goes on after an answer, and how it ends.

use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::unix::SourceFd;

use super::conn::Phase;
use super::event::EventLoop;
use super::exchange::{Responder, Terms};
use super::input::path_of;
use super::outbox::Answer;
use super::parse::Refusal;
use super::response::Response;
use super::timers::Kind;
use crate::cancel::Reason;

impl EventLoop {
    /// Whether the connection's answer is still being written. If not, moves the connection on.
    /// With `wake`, the end of the answer will wake this thread.
    pub(super) fn still_busy(&mut self, index: usize, wake: bool) -> bool {
        let answer = {
            let mut out = self.slab[index].wire.out.lock();
            out.wake_when_finished |= wake;
            out.answer
        };
        if answer == Answer::Pending {
            return true;
        }
        self.on_answered(index, answer);
        false
    }

    pub(super) fn on_answered(&mut self, index: usize, answer: Answer) {
        self.busy -= 1;
        self.comments.clear(index);
        let conn = &mut self.slab[index];
        // No longer busy, or `remove` below would count it off a second time.
        conn.phase = Phase::Closing;
        conn.cancel = None;
        conn.retry_input = true;
        {
            let mut out = conn.wire.out.lock();
            if answer != Answer::Abort {
                out.answer = Answer::None;
            }
            out.wake_when_finished = false;
            if out.closed && answer != Answer::Abort {
                drop(out);
                self.remove(index);
                return;
            }
        }
        match answer {
            Answer::Abort => self.remove(index),
            Answer::Finished { close: true } => {
                conn.phase = Phase::Closing;
                self.drain(index);
            }
            _ => {
                conn.phase = Phase::Idle;
                // What the client has not taken yet keeps the connection from being idle.
                let kind = if conn.blocked {
                    Kind::Write
                } else {
                    Kind::Idle
                };
                self.timers.set(index, kind, self.now);
                if self.stop_at.is_some() {
                    self.close(index);
                }
            }
        }
    }

    /// Answers a request that no handler sees, and closes.
    pub(super) fn refuse(&mut self, index: usize, path: Option<String>, refusal: Refusal) {
        let response = self
            .handler
            .refuse(path.as_deref(), refusal.status, refusal.message);
        self.answer_last(index, response);
    }

    /// Answers on the front's own behalf, and closes.
    pub(super) fn answer_last(&mut self, index: usize, response: Response) {
        let wire = Arc::clone(&self.slab[index].wire);
        wire.cork();
        let terms = Terms {
            http10: false,
            keep_alive: false,
            is_head: false,
        };
        Responder::new(Arc::clone(&wire), terms, self.now).respond(response.close());
        wire.uncork();
        self.slab[index].phase = Phase::Closing;
        self.drain(index);
    }

    /// Closes after what waits in the outbox.
    pub(super) fn close(&mut self, index: usize) {
        self.slab[index].phase = Phase::Closing;
        self.drain(index);
    }

    /// Whether nothing waits in the outbox, after another try to send it.
    pub(super) fn flushed(&mut self, index: usize) -> bool {
        if !self.slab[index].blocked {
            return true;
        }
        self.drain(index);
        self.slab.holds(index) && !self.slab[index].blocked
    }

    /// Sends what waits in the outbox; when it is empty, a closing connection begins to linger.
    pub(super) fn drain(&mut self, index: usize) {
        let conn = &mut self.slab[index];
        match conn.wire.flush() {
            Err(_) => self.remove(index),
            Ok((false, _)) if conn.wire.takes_too_much(conn.wire.out.lock().pending()) => {
                self.stats.slow_clients.fetch_add(1, Ordering::Relaxed);
                if let Some(cancel) = &conn.cancel {
                    cancel.cancel(Reason::SlowClient);
                }
                self.remove(index);
            }
            Ok((false, taken)) => {
                // Only what the client takes renews the deadline, not what it sends.
                let renewed = !conn.blocked || taken > conn.taken;
                conn.blocked = true;
                conn.taken = taken;
                if renewed {
                    conn.stalled_since = Some(self.now);
                }
                // A call whose answer has not begun keeps its own deadline, which ends in an answer.
                let is_call =
                    matches!(conn.phase, Phase::Busy) && conn.wire.out.lock().deadline.is_some();
                if !is_call && (renewed || self.timers.kind(index) != Some(Kind::Write)) {
                    self.timers.set(index, Kind::Write, self.now);
                }
            }
            Ok((true, _)) => {
                let was_blocked = std::mem::take(&mut conn.blocked);
                if matches!(conn.phase, Phase::Closing) {
                    let _ = conn.wire.stream.shutdown(Shutdown::Write);
                    conn.linger();
                    conn.input = Vec::new();
                    self.timers.set(index, Kind::Linger, self.now);
                    self.again.push(index);
                } else if was_blocked {
                    self.on_unblocked(index);
                }
            }
        }
    }

    /// The client has taken everything: from here on the deadline of the phase holds again.
    fn on_unblocked(&mut self, index: usize) {
        let kind = match self.slab[index].phase {
            Phase::Idle => Kind::Idle,
            Phase::Head => Kind::Head,
            Phase::Body(_) => Kind::Body,
            Phase::Busy => {
                if self.timers.kind(index) == Some(Kind::Write) {
                    self.timers.clear(index);
                }
                return;
            }
            Phase::Closing | Phase::Linger { .. } => return,
        };
        self.timers.set(index, kind, self.now);
        self.again.push(index);
    }

    pub(super) fn expire(&mut self) {
        while let Some((index, kind)) = self.timers.pop_due(self.now) {
            match kind {
                Kind::Call => self.expire_call(index),
                Kind::Head | Kind::Body => {
                    self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
                    let path = match &self.slab[index].phase {
                        Phase::Body(body) => body.parsed.path().map(str::to_owned),
                        _ => path_of(&self.slab[index].input),
                    };
                    let message = "the request did not arrive in time; send it again, faster";
                    self.refuse(
                        index,
                        path,
                        Refusal {
                            status: 408,
                            message,
                        },
                    );
                }
                Kind::Write => self.end_slow(index),
                Kind::Idle => {
                    self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
                    self.remove(index);
                }
                Kind::Linger => self.remove(index),
            }
        }
    }

    /// The client has taken nothing for `write_timeout`.
    pub(super) fn end_slow(&mut self, index: usize) {
        self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
        if let Some(cancel) = &self.slab[index].cancel {
            cancel.cancel(Reason::SlowClient);
        }
        self.remove(index);
    }

    fn expire_call(&mut self, index: usize) {
        let expired = self.slab[index].wire.out.lock().deadline.take();
        if let Some((_, expired)) = expired {
            expired();
            if self.slab.holds(index) {
                self.advance(index);
            }
        }
        // A stream that has begun lives by what its client takes.
        let is_stream = self.slab.holds(index)
            && matches!(self.slab[index].phase, Phase::Busy)
            && self.timers.kind(index).is_none();
        if is_stream && self.slab[index].blocked {
            self.timers.set(index, Kind::Write, self.now);
        }
    }

    /// Ends a connection at once, its call with it.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(conn) = self.slab.remove(index) else {
            return;
        };
        self.timers.clear(index);
        self.comments.clear(index);
        if matches!(conn.phase, Phase::Busy) {
            self.busy -= 1;
        }
        let (left, aborted) = {
            let mut out = conn.wire.out.lock();
            out.close();
            let left = (out.deadline.take(), out.early.take());
            (left, out.answer == Answer::Abort)
        };
        // Outside the lock: it may own anything, the connection's responder included.
        drop(left);
        if let Some(cancel) = &conn.cancel {
            let reason = if self.stop_at.is_some() {
                Reason::Shutdown
            } else {
                Reason::ClientGone
            };
            cancel.cancel(reason);
        }
        let _ = self
            .poll
            .registry()
            .deregister(&mut SourceFd(&conn.wire.stream.as_raw_fd()));
        // The call's worker may hold the connection a while longer; the client must not. One that
        // is to be reset must not be shut down first: its client would see an orderly end.
        if Arc::strong_count(&conn.wire) > 1 && !aborted {
            let _ = conn.wire.stream.shutdown(Shutdown::Both);
        }
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
