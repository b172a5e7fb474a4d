//! The accept thread: hands connections out in turn and survives whatever accepting does.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::encode::{Ending, encode_head};
use super::exchange::Terms;
use super::mailbox::{Mailbox, Message};
use super::stats::Stats;
use super::{Handler, Limits};
use crate::thread::{self, State};

/// How long to wait for room after the system refused another connection.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// One line about refused connections in this time, however many there are.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// What the accept thread works with.
pub(super) struct Acceptor {
    pub listener: Arc<TcpListener>,
    pub loops: Vec<Arc<Mailbox>>,
    pub limits: Limits,
    pub handler: Arc<dyn Handler>,
    pub stats: Arc<Stats>,
    pub stopping: Arc<AtomicBool>,
}

impl Acceptor {
    /// Accepts until the listener is shut down.
    pub fn run(self) -> io::Result<()> {
        let mut turn = 0;
        let mut complained: Option<Instant> = None;
        let mut complain = |what: &str| {
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                complained = Some(Instant::now());
                log::warn!("{what}");
            }
        };
        loop {
            thread::set_state(State::Idle);
            let accepted = self.listener.accept();
            thread::set_state(State::Running);
            if self.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            match accepted {
                Ok((stream, peer)) => {
                    self.stats.accepted.fetch_add(1, Ordering::Relaxed);
                    let open = self.stats.connections.load(Ordering::Relaxed);
                    if open >= self.limits.connections_max && !self.make_room() {
                        self.stats.refused.fetch_add(1, Ordering::Relaxed);
                        complain("connections are refused: max_connections are open and busy");
                        self.refuse(stream);
                        continue;
                    }
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    // Without it the answer is only slower.
                    let _ = stream.set_nodelay(true);
                    self.stats.connections.fetch_add(1, Ordering::Relaxed);
                    self.loops[turn % self.loops.len()].send(Message::New(stream, peer), true);
                    turn = turn.wrapping_add(1);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    self.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                    complain(&format!(
                        "accepting a connection failed: {error}; the longest idle one makes room"
                    ));
                    self.make_room();
                    std::thread::park_timeout(RETRY_AFTER);
                }
            }
        }
    }

    /// Asks the thread that has the longest idle connection to close it.
    fn make_room(&self) -> bool {
        let oldest = self
            .loops
            .iter()
            .map(|mailbox| (mailbox.evictable_since_ms.load(Ordering::Relaxed), mailbox))
            .min_by_key(|(since_ms, _)| *since_ms);
        match oldest {
            Some((since_ms, mailbox)) if since_ms != u64::MAX => {
                mailbox.send(Message::Evict, true);
                true
            }
            _ => false,
        }
    }

    /// Tells a connection that there is no room, as far as its socket takes it, and closes it.
    fn refuse(&self, mut stream: TcpStream) {
        let message = "every connection is in use; try again in a second";
        let response = self
            .handler
            .refuse(None, 503, message)
            .header("retry-after", "1");
        let mut answer = Vec::new();
        let terms = Terms {
            http10: false,
            keep_alive: false,
            is_head: false,
        };
        let body = response.body.as_bytes();
        encode_head(
            &mut answer,
            &response,
            Ending::Length(body.len()),
            terms,
            true,
        );
        answer.extend_from_slice(body);
        let sent = stream
            .set_nonblocking(true)
            .and_then(|()| stream.write_all(&answer));
        // A client that cannot be told is closed all the same.
        let _ = sent.and_then(|()| stream.shutdown(Shutdown::Write));
    }
}

/// Errors that say something about the connection and nothing about the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
