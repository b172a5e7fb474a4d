//! A front thread: owns its connections, their events and their deadlines.
//!
//! Readiness is edge-triggered and registered once a connection, so a request costs no epoll
//! call. Input is read into one buffer a thread and parsed there; only what is left over is kept
//! with the connection, so an idle connection holds no buffer. Nothing here waits for anything
//! but the poller. Start at [`EventLoop::run`], then [`EventLoop::advance`].

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::conn::{Conn, Phase, Slab};
use super::exchange::{Answer, Responder, Terms, Wire};
use super::parse::{Parsed, Refusal};
use super::request::Request;
use super::stats::Stats;
use super::timers::{Kind, Timers};
use super::{Handler, Limits};
use crate::cancel::Reason;
use crate::sync::Mutex;
use crate::thread::{self, State};

/// One read takes at most this much.
const READ_BYTES: usize = 64 << 10;
/// One connection is read at most so often before the others get their turn.
const READS_IN_A_ROW: usize = 16;
/// While calls are out, finished ones are put under the idle deadline at least this often.
const SWEEP: Duration = Duration::from_secs(1);
/// A closing connection is drained for at most this long and this much.
const LINGER: Duration = Duration::from_secs(1);
/// A half-sent head is given up for a new connection only after this long.
const HEAD_EVICTABLE_AFTER: Duration = Duration::from_secs(1);
const WAKE: Token = Token(usize::MAX);

/// What other threads tell a front thread.
pub(super) enum Message {
    /// A connection was accepted.
    New(TcpStream, SocketAddr),
    /// Bytes wait in this connection's outbox.
    Blocked(usize),
    /// This connection's answer is complete.
    Finished(usize),
    /// Room is needed: close the longest idle connection.
    Evict,
    /// End once every connection is done, at the latest then.
    Stop(Instant),
}

/// The way into a front thread. Bounded by its senders: a connection has at most one message of
/// each kind under way for each loop turn.
pub(super) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
    woken: AtomicBool,
    /// When the connection that could make room became idle, in `thread::uptime_ms`; `u64::MAX`
    /// for none.
    pub evictable_since_ms: AtomicU64,
    /// Since when the loop has been handling events; 0 while it waits for some.
    pub busy_since_ms: AtomicU64,
}

impl Mailbox {
    /// Leaves a message. Without `wake`, the thread finds it at its next turn.
    pub fn send(&self, message: Message, wake: bool) {
        self.messages.lock().push(message);
        if wake && !self.woken.swap(true, Ordering::AcqRel) {
            // A full event counter still wakes; nothing else can fail here.
            let _ = self.waker.wake();
        }
    }

    fn take(&self, into: &mut Vec<Message>) {
        self.woken.store(false, Ordering::Release);
        std::mem::swap(&mut *self.messages.lock(), into);
    }
}

/// A front thread's state.
pub(super) struct EventLoop {
    poll: Poll,
    pub mailbox: Arc<Mailbox>,
    inbox: Vec<Message>,
    slab: Slab,
    timers: Timers,
    limits: Limits,
    handler: Arc<dyn Handler>,
    stats: Arc<Stats>,
    scratch: Box<[u8]>,
    /// Connections that may have more to read although no event will say so.
    again: Vec<usize>,
    busy: usize,
    stop_at: Option<Instant>,
    now: Instant,
}

impl EventLoop {
    pub fn new(limits: Limits, handler: Arc<dyn Handler>, stats: Arc<Stats>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox {
            messages: Mutex::new("front.mailbox", Vec::new()),
            waker: Waker::new(poll.registry(), WAKE)?,
            woken: AtomicBool::new(false),
            evictable_since_ms: AtomicU64::new(u64::MAX),
            busy_since_ms: AtomicU64::new(0),
        });
        let timers = Timers::new([
            limits.idle_timeout,
            limits.header_timeout,
            limits.body_timeout,
            limits.write_timeout,
            LINGER,
        ]);
        Ok(Self {
            poll,
            mailbox,
            inbox: Vec::new(),
            slab: Slab::default(),
            timers,
            limits,
            handler,
            stats,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            again: Vec::new(),
            busy: 0,
            stop_at: None,
            now: Instant::now(),
        })
    }

    /// Serves until it is told to stop.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.publish();
            thread::set_state(State::Idle);
            self.mailbox.busy_since_ms.store(0, Ordering::Relaxed);
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            thread::set_state(State::Running);
            self.mailbox
                .busy_since_ms
                .store(thread::uptime_ms().max(1), Ordering::Relaxed);
            self.now = Instant::now();
            self.read_mail();
            for event in &events {
                if event.token() != WAKE {
                    self.on_event(event);
                }
            }
            for index in std::mem::take(&mut self.again) {
                self.advance(index);
            }
            self.expire();
            if self
                .stop_at
                .is_some_and(|at| self.slab.is_empty() || self.now >= at)
            {
                self.slab
                    .indices()
                    .into_iter()
                    .for_each(|index| self.remove(index));
                return Ok(());
            }
        }
    }

    /// How long the poller may wait.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = [self.timers.next_due(), self.stop_at]
            .into_iter()
            .flatten()
            .min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        if self.busy > 0 {
            Some(due.map_or(SWEEP, |due| due.min(SWEEP)))
        } else {
            due
        }
    }

    fn publish(&self) {
        let evictable = self.evictable().map_or(u64::MAX, |(_, since)| {
            let age_ms = self.now.saturating_duration_since(since).as_millis() as u64;
            thread::uptime_ms().saturating_sub(age_ms)
        });
        self.mailbox
            .evictable_since_ms
            .store(evictable, Ordering::Relaxed);
    }

    fn evictable(&self) -> Option<(usize, Instant)> {
        self.timers.oldest(Kind::Idle).or_else(|| {
            self.timers
                .oldest(Kind::Head)
                .filter(|(_, since)| *since + HEAD_EVICTABLE_AFTER <= self.now)
        })
    }

    fn read_mail(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        self.mailbox.take(&mut inbox);
        for message in inbox.drain(..) {
            match message {
                Message::New(stream, peer) => self.admit(stream, peer),
                Message::Blocked(token) => {
                    if let Some(index) = self.slab.find(token) {
                        self.drain(index);
                    }
                }
                Message::Finished(token) => {
                    if let Some(index) = self.slab.find(token)
                        && matches!(self.slab[index].phase, Phase::Busy)
                        && !self.still_busy(index, false)
                    {
                        self.advance(index);
                    }
                }
                Message::Evict => {
                    if let Some((index, _)) = self.evictable() {
                        self.stats.evicted.fetch_add(1, Ordering::Relaxed);
                        self.remove(index);
                    }
                }
                Message::Stop(at) => {
                    self.stop_at = Some(at);
                    for index in self.slab.indices() {
                        match &self.slab[index] {
                            Conn {
                                phase: Phase::Idle | Phase::Head,
                                ..
                            } => self.close(index),
                            // Its worker ends the answer; the connection closes behind it.
                            Conn {
                                cancel: Some(cancel),
                                ..
                            } => {
                                cancel.cancel(Reason::Shutdown);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        self.inbox = inbox;
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let token = self.slab.next_token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut source = SourceFd(&stream.as_raw_fd());
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut source, Token(token), interest)
        {
            log::warn!("a connection was dropped: it cannot be watched: {error}");
            self.stats.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let wire = Wire::new(
            stream,
            token,
            Arc::clone(&self.mailbox),
            Arc::clone(&self.stats),
        );
        let index = self.slab.insert(Conn::new(Arc::new(wire), peer));
        self.timers.set(index, Kind::Idle, self.now);
    }

    fn on_event(&mut self, event: &mio::event::Event) {
        let Some(index) = self.slab.find(event.token().0) else {
            return;
        };
        if event.is_error() {
            self.remove(index);
            return;
        }
        if event.is_writable() && self.slab[index].blocked {
            self.drain(index);
        }
        let closed = event.is_read_closed();
        if (event.is_readable() || closed) && self.slab.find(event.token().0).is_some() {
            self.slab[index].read_ready = true;
            self.advance(index);
        }
        if closed && self.slab.find(event.token().0).is_some() {
            self.on_half_close(index);
        }
    }

    /// The client will send no more. While its call is out, that is an abort.
    fn on_half_close(&mut self, index: usize) {
        if matches!(self.slab[index].phase, Phase::Busy) {
            if self.still_busy(index, false) {
                self.remove(index);
                return;
            }
            if !self.slab.holds(index) {
                return;
            }
        }
        self.slab[index].read_ready = true;
        self.advance(index);
    }

    /// Reads and handles what the connection has, as far as it goes without waiting.
    fn advance(&mut self, index: usize) {
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
            if !self.slab[index].input.is_empty() && self.slab[index].retry_input {
                let input = std::mem::take(&mut self.slab[index].input);
                self.take_input(index, &input);
                continue;
            }
            if matches!(self.slab[index].phase, Phase::Closing) || !self.flushed(index) {
                return;
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

    fn read(&mut self, index: usize) {
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
            conn.retry_input = busy;
            if taken < data.len() {
                conn.input.extend_from_slice(&data[taken..]);
            }
            if !busy {
                self.drain(index);
            }
        }
    }

    /// Handles requests in `data` until one is out or more must be read. Returns what was taken.
    fn feed(&mut self, index: usize, data: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let conn = &mut self.slab[index];
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
                        self.begin_body(index, parsed, at < data.len());
                    }
                    Err(refusal) => {
                        let path = path_of(&data[at..]);
                        self.refuse(index, path, refusal);
                    }
                },
                Phase::Body(body) => match body.take(&data[at..], self.limits.body_bytes_max) {
                    Ok(taken) => {
                        at += taken;
                        if body.is_done() {
                            let (parsed, bytes) = body.finish();
                            self.dispatch(index, parsed, bytes);
                        } else {
                            if body.made_progress() {
                                self.timers.set(index, Kind::Body, self.now);
                            }
                            return at;
                        }
                    }
                    Err(refusal) => {
                        let path = body.parsed.path().map(str::to_owned);
                        self.refuse(index, path, refusal);
                    }
                },
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

    /// A head has come: refuses a body that is too large unread, or begins to read it.
    fn begin_body(&mut self, index: usize, parsed: Parsed, body_begun: bool) {
        match self.slab[index].begin_body(parsed, &self.limits) {
            Ok(wants_continue) => {
                self.timers.set(index, Kind::Body, self.now);
                if wants_continue && !body_begun {
                    self.slab[index]
                        .wire
                        .send_interim(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            Err((path, refusal)) => self.refuse(index, path, refusal),
        }
    }

    /// Hands a whole request to the handler.
    fn dispatch(&mut self, index: usize, parsed: Parsed, body: Vec<u8>) {
        let conn = &mut self.slab[index];
        let terms = Terms {
            http10: parsed.http10,
            keep_alive: parsed.keep_alive,
            is_head: parsed.is_head,
        };
        let request = Request {
            head: parsed.head,
            body,
            received: self.now,
            peer: conn.peer,
        };
        let wire = Arc::clone(&conn.wire);
        let responder = Responder::new(Arc::clone(&wire), terms);
        conn.cancel = Some(Arc::clone(responder.cancel()));
        conn.phase = Phase::Busy;
        self.busy += 1;
        wire.cork();
        let handler = &self.handler;
        if catch_unwind(AssertUnwindSafe(|| handler.handle(request, responder))).is_err() {
            log::error!("a request handler panicked on a front thread; its caller got a 500");
        }
        let (answer, due, pending) = wire.uncork();
        match answer {
            Answer::Pending => {
                match due {
                    Some(due) => {
                        let after = due.saturating_duration_since(self.now);
                        self.timers.set_call(index, after, self.now);
                    }
                    None => self.timers.clear(index),
                }
                if pending > 0 {
                    self.drain(index);
                }
            }
            answer => self.on_answered(index, answer),
        }
    }

    /// Whether the connection's answer is still being written. If not, moves the connection on.
    /// With `wake`, the end of the answer will wake this thread.
    fn still_busy(&mut self, index: usize, wake: bool) -> bool {
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

    fn on_answered(&mut self, index: usize, answer: Answer) {
        self.busy -= 1;
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
                self.timers.set(index, Kind::Idle, self.now);
                if self.stop_at.is_some() {
                    self.close(index);
                }
            }
        }
    }

    /// Answers a request that no handler sees, and closes.
    fn refuse(&mut self, index: usize, path: Option<String>, refusal: Refusal) {
        let response = self
            .handler
            .refuse(path.as_deref(), refusal.status, refusal.message)
            .close();
        let wire = Arc::clone(&self.slab[index].wire);
        wire.cork();
        let terms = Terms {
            http10: false,
            keep_alive: false,
            is_head: false,
        };
        Responder::new(Arc::clone(&wire), terms).respond(response);
        wire.uncork();
        self.slab[index].phase = Phase::Closing;
        self.drain(index);
    }

    /// Closes after what waits in the outbox.
    fn close(&mut self, index: usize) {
        self.slab[index].phase = Phase::Closing;
        self.drain(index);
    }

    /// Whether nothing waits in the outbox, after another try to send it.
    fn flushed(&mut self, index: usize) -> bool {
        if !self.slab[index].blocked {
            return true;
        }
        self.drain(index);
        self.slab.holds(index) && !self.slab[index].blocked
    }

    /// Sends what waits in the outbox; when it is empty, a closing connection begins to linger.
    fn drain(&mut self, index: usize) {
        let conn = &mut self.slab[index];
        match conn.wire.flush() {
            Err(_) => self.remove(index),
            Ok((false, taken)) => {
                // Only what the client takes renews the deadline, not what it sends.
                if !conn.blocked || taken > conn.taken {
                    self.timers.set(index, Kind::Write, self.now);
                }
                conn.blocked = true;
                conn.taken = taken;
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
                    match conn.phase {
                        Phase::Busy => self.timers.clear(index),
                        Phase::Idle => {
                            self.timers.set(index, Kind::Idle, self.now);
                            self.again.push(index);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn expire(&mut self) {
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
                Kind::Write => {
                    self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
                    if let Some(cancel) = &self.slab[index].cancel {
                        cancel.cancel(Reason::SlowClient);
                    }
                    self.remove(index);
                }
                Kind::Idle => {
                    self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
                    self.remove(index);
                }
                Kind::Linger => self.remove(index),
            }
        }
    }

    fn expire_call(&mut self, index: usize) {
        let expired = self.slab[index].wire.out.lock().deadline.take();
        if let Some((_, expired)) = expired {
            expired();
            if self.slab.holds(index) {
                self.advance(index);
            }
        }
    }

    /// Ends a connection at once, its call with it.
    fn remove(&mut self, index: usize) {
        let Some(conn) = self.slab.remove(index) else {
            return;
        };
        self.timers.clear(index);
        if matches!(conn.phase, Phase::Busy) {
            self.busy -= 1;
        }
        let (deadline, aborted) = {
            let mut out = conn.wire.out.lock();
            out.close();
            (out.deadline.take(), out.answer == Answer::Abort)
        };
        // Outside the lock: it may own the connection's responder.
        drop(deadline);
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

/// The path in what may be a request line, for the shape of an error.
fn path_of(data: &[u8]) -> Option<String> {
    let line = data.split(|byte| *byte == b'\r').next()?;
    let target = line
        .get(..line.len().min(256))?
        .split(|byte| *byte == b' ')
        .nth(1)?;
    let target = std::str::from_utf8(target).ok()?;
    Some(target.split('?').next().unwrap_or(target).to_owned())
}
