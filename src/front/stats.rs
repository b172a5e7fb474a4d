//! What a front counts, for metrics and for its own decisions.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Counters and gauges of one front. All relaxed: they are read by humans.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections open now.
    pub connections: AtomicUsize,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections told 503 because none of the others could make room.
    pub refused: AtomicU64,
    /// Idle connections closed to make room.
    pub evicted: AtomicU64,
    /// Connections closed because a deadline passed (head, body, idle, write).
    pub timed_out: AtomicU64,
    /// Clients ended because they left too much of a stream unread.
    pub slow_clients: AtomicU64,
    /// Times that accepting failed for want of file descriptors or memory.
    pub accept_errors: AtomicU64,
    draining: AtomicBool,
}

impl Stats {
    /// From now on every answer ends its connection.
    pub(super) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
