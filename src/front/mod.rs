//! Our own HTTP/1.1 server: small, bounded, and the only place where strangers' bytes arrive.
//!
//! One accept thread hands connections to a few event threads, each of which owns its
//! connections; a connection costs no thread and, while idle, no buffer. A whole request goes to
//! the [`Handler`] with a [`Responder`] that any thread may answer through, without ever
//! waiting for the client. The front knows nothing of LLMs and never blocks.
//!
//! Start reading at `event.rs` and `input.rs` for the way in, at `exchange.rs` and `outbox.rs` for
//! the way out, at `early.rs` for what is said while there is no answer yet; `parse.rs`, `chunked.rs` and `timers.rs` are the pure parts.

mod accept;
mod budget;
mod chunked;
mod conn;
mod early;
mod encode;
mod ending;
mod event;
mod exchange;
mod input;
mod mailbox;
mod outbox;
mod parse;
mod request;
mod response;
mod stats;
#[cfg(test)]
mod tests;
mod timers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use budget::{BODIES_TOTAL_BYTES_MAX, body_bytes};
pub use early::Early;
pub use exchange::{Responder, StreamWriter};
pub use outbox::{Gone, OUTBOX_BYTES_MAX, OUTBOX_TOTAL_BYTES_MAX, outbox_bytes};
pub use request::Request;
pub use response::{Body, Response, SharedBytes};
pub use stats::Stats;

use self::accept::Acceptor;
use self::event::EventLoop;
use self::mailbox::{Mailbox, Message};
use crate::thread::{self, Handle, Role};

/// What one front allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest request head; at most 65,535 bytes.
    pub head_bytes_max: usize,
    /// Most header fields; at most 100.
    pub fields_max: usize,
    /// Longest request body.
    pub body_bytes_max: usize,
    /// Most open connections; beyond it the longest idle one makes room.
    pub connections_max: usize,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// From the head to the end of the body, begun anew at each 64 KiB of it.
    pub body_timeout: Duration,
    /// Without a request.
    pub idle_timeout: Duration,
    /// Without the client taking any of the bytes that wait for it.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 << 10,
            fields_max: parse::FIELDS_MAX,
            body_bytes_max: 32 << 20,
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// What a front serves.
pub trait Handler: Send + Sync + 'static {
    /// Takes a whole request. Called on a front thread: it must neither block nor work long, but
    /// hand the responder on if the answer takes time.
    fn handle(&self, request: Request, responder: Responder);

    /// Asked once the head of a request with a body has come: whether the body is worth reading.
    /// `request` has no body yet. Called on a front thread, as [`Handler::handle`].
    ///
    /// # Errors
    /// The answer in its place; the connection ends with it.
    fn admit(&self, request: &Request) -> Result<(), Response> {
        let _ = request;
        Ok(())
    }

    /// The answer to a request that the front refuses itself; `path` is `None` if no request
    /// line could be read. The front adds `connection: close`.
    fn refuse(&self, path: Option<&str>, status: u16, message: &str) -> Response {
        let _ = path;
        Response::text(status, format!("{message}\n"))
    }
}

/// A running front. Dropped without [`Front::stop`], its threads go on.
pub struct Front {
    listener: Arc<TcpListener>,
    local_addr: SocketAddr,
    loops: Vec<Arc<Mailbox>>,
    threads: Vec<Handle>,
    stats: Arc<Stats>,
    stopping: Arc<AtomicBool>,
}

impl Front {
    /// Starts serving `listener` with `threads` event threads, called `front-<name>-N`, and the
    /// accept thread `accept-<name>`.
    ///
    /// # Errors
    /// A poller or a thread cannot be had.
    pub fn start(
        name: &str,
        listener: TcpListener,
        threads: usize,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let limits = Limits {
            head_bytes_max: limits.head_bytes_max.min(65_535),
            ..limits
        };
        let stats = Arc::new(Stats::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let listener = Arc::new(listener);
        let local_addr = listener.local_addr()?;
        let mut front = Self {
            listener: Arc::clone(&listener),
            local_addr,
            loops: Vec::new(),
            threads: Vec::new(),
            stats: Arc::clone(&stats),
            stopping: Arc::clone(&stopping),
        };
        for number in 0..threads.max(1) {
            let event_loop = EventLoop::new(limits, Arc::clone(&handler), Arc::clone(&stats))?;
            front.loops.push(Arc::clone(&event_loop.mailbox));
            let thread = thread::spawn(format!("front-{name}-{number}"), Role::Front, move || {
                event_loop.run().map_err(Into::into)
            })?;
            front.threads.push(thread);
        }
        let loops = front.loops.clone();
        let acceptor = Acceptor {
            listener,
            loops,
            limits,
            handler,
            stats,
            stopping,
        };
        let thread = thread::spawn(format!("accept-{name}"), Role::Accept, move || {
            acceptor.run().map_err(Into::into)
        })?;
        front.threads.push(thread);
        Ok(front)
    }

    /// The address that is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the front counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// From now on every answer says `connection: close` and ends its connection.
    pub fn drain(&self) {
        self.stats.start_draining();
    }

    /// A question to ask at any time: has an event thread been handling the same events for
    /// longer than `limit`?
    pub fn wedged_probe(&self, limit: Duration) -> Box<dyn Fn() -> bool + Send + Sync> {
        let loops = self.loops.clone();
        Box::new(move || {
            let now_ms = thread::uptime_ms();
            loops.iter().any(|mailbox| {
                let since_ms = mailbox.busy_since_ms.load(Ordering::Relaxed);
                since_ms != 0 && now_ms.saturating_sub(since_ms) > limit.as_millis() as u64
            })
        })
    }

    /// Stops accepting, lets answers that are under way be sent for at most `grace`, closes
    /// everything and joins the threads.
    pub fn stop(mut self, grace: Duration) {
        self.stopping.store(true, Ordering::Release);
        self.stats.start_draining();
        // Ends the blocking accept; on a socket that is already gone there is nothing to end.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        let at = Instant::now() + grace;
        for mailbox in &self.loops {
            mailbox.send(Message::Stop(at), true);
        }
        self.threads.drain(..).for_each(Handle::join);
    }
}

/// Connections that may wait to be accepted. The standard library asks for 128: a burst beyond
/// that has its handshake dropped, and the client waits a second before it tries again. The
/// kernel cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds a listener with an address that may be taken over from a process that just ended.
///
/// # Errors
/// The address is in use or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        // Listening again changes the backlog of a listening socket.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}
