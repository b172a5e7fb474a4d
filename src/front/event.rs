//! A front thread: owns its connections, their events and their deadlines.
//!
//! Readiness is edge-triggered and registered once a connection, so a request costs no epoll
//! call. Input is read into one buffer a thread and parsed there; only what is left over is kept
//! with the connection, so an idle connection holds no buffer. Nothing here waits for anything
//! but the poller. Start at [`EventLoop::run`]; `input.rs` and `ending.rs` have the rest of it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::conn::{Conn, Phase, Slab};
use super::mailbox::{Mailbox, Message};
use super::outbox::Wire;
use super::parse::Refusal;
use super::stats::Stats;
use super::timers::{Kind, Timers};
use super::{Handler, Limits};
use crate::cancel::Reason;
use crate::thread::{self, State};

/// One read takes at most this much.
const READ_BYTES: usize = 64 << 10;
/// While calls are out, finished ones are put under the idle deadline at least this often.
const SWEEP: Duration = Duration::from_secs(1);
/// A closing connection is drained for at most this long and this much.
const LINGER: Duration = Duration::from_secs(1);
/// A half-sent head is given up for a new connection only after this long.
const HEAD_EVICTABLE_AFTER: Duration = Duration::from_secs(1);
/// A half-sent body is given up for a new connection only after this long without progress.
const BODY_EVICTABLE_AFTER: Duration = Duration::from_secs(5);
const STOPPING: Refusal = Refusal {
    status: 503,
    message: "this gateway is being stopped; send the request again in a moment",
};
const WAKE: Token = Token(usize::MAX);

/// A front thread's state.
pub(super) struct EventLoop {
    pub(super) poll: Poll,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) inbox: Vec<Message>,
    pub(super) slab: Slab,
    pub(super) timers: Timers,
    /// When clients that wait for a stream are due a comment.
    pub(super) comments: Timers,
    pub(super) limits: Limits,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) stats: Arc<Stats>,
    pub(super) scratch: Box<[u8]>,
    /// Connections that may have more to read although no event will say so.
    pub(super) again: Vec<usize>,
    pub(super) busy: usize,
    pub(super) stop_at: Option<Instant>,
    pub(super) now: Instant,
}

impl EventLoop {
    pub fn new(limits: Limits, handler: Arc<dyn Handler>, stats: Arc<Stats>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKE)?));
        let timers = Timers::new(&[
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
            comments: Timers::new(&[]),
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
            self.send_comments();
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
        let (timed, comment) = (self.timers.next_due(), self.comments.next_due());
        let due = [timed, comment, self.stop_at].into_iter().flatten().min();
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
        let half_sent = self.timers.oldest(Kind::Idle).or_else(|| {
            self.timers
                .oldest(Kind::Head)
                .filter(|(_, since)| *since + HEAD_EVICTABLE_AFTER <= self.now)
        });
        half_sent.or_else(|| {
            self.timers
                .oldest(Kind::Body)
                .filter(|(_, since)| *since + BODY_EVICTABLE_AFTER <= self.now)
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
                Message::KeepAlive(token) => {
                    if let Some(index) = self.slab.find(token) {
                        self.keep_alive(index);
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
                            Conn {
                                phase: Phase::Body(_),
                                ..
                            } => self.refuse(index, None, STOPPING),
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
}
