//! What other threads tell a front thread, and how they wake it.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use mio::Waker;

use crate::sync::Mutex;

/// What other threads tell a front thread.
pub(super) enum Message {
    /// A connection was accepted.
    New(TcpStream, SocketAddr),
    /// Bytes wait in this connection's outbox.
    Blocked(usize),
    /// This connection's answer is complete.
    Finished(usize),
    /// This connection's answer will be a stream: its client is to be kept waiting in comfort.
    KeepAlive(usize),
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
    /// A mailbox whose thread is woken by `waker`.
    pub fn new(waker: Waker) -> Self {
        Self {
            messages: Mutex::new("front.mailbox", Vec::new()),
            waker,
            woken: AtomicBool::new(false),
            evictable_since_ms: AtomicU64::new(u64::MAX),
            busy_since_ms: AtomicU64::new(0),
        }
    }

    /// Leaves a message. Without `wake`, the thread finds it at its next turn.
    pub fn send(&self, message: Message, wake: bool) {
        self.messages.lock().push(message);
        if wake && !self.woken.swap(true, Ordering::AcqRel) {
            // A full event counter still wakes; nothing else can fail here.
            let _ = self.waker.wake();
        }
    }

    /// Swaps the messages that have come with the empty `into`.
    pub fn take(&self, into: &mut Vec<Message>) {
        self.woken.store(false, Ordering::Release);
        std::mem::swap(&mut *self.messages.lock(), into);
    }
}
