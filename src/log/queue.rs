//! What waits for the writer: finished lines, one after the other in one buffer.
//!
//! Whoever logs adds its line under a lock that is held for a copy of some 400 bytes, and the writer
//! takes the whole buffer and leaves its own, emptied. So a line is no allocation that one thread
//! makes and another frees, and the writer has nothing to do for each line: 500 instructions less
//! than with a channel of lines. It is woken only where it sleeps for want of lines.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;

use super::QUEUE_LINES;
use crate::sync::{Condvar, Mutex};

/// Bytes of lines that may wait; [`QUEUE_LINES`] of the usual length are a quarter of it.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Those who may wait for a flush at once.
const FLUSHES_MAX: usize = 64;
/// A buffer that has grown beyond this for a burst is given back.
const KEPT_BYTES: usize = 1 << 20;

/// What has come since the writer last looked.
#[derive(Default)]
pub(super) struct Pending {
    /// Finished lines.
    pub lines: Vec<u8>,
    /// How many.
    pub count: usize,
    /// Told once everything before is written.
    pub flushes: Vec<Sender<()>>,
    /// The writer is to look at what it shares with the others.
    pub is_woken: bool,
    /// It is to end.
    pub is_stopped: bool,
    /// It sleeps until something comes.
    is_asleep: bool,
}

/// See the module.
pub(super) struct Queue {
    pending: Mutex<Pending>,
    arrived: Condvar,
    dropped: AtomicU64,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            pending: Mutex::new("log.queue", Pending::default()),
            arrived: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a finished line, or counts it as dropped where there is no room.
    pub fn push(&self, line: &[u8]) {
        self.change(|pending| {
            if pending.count >= QUEUE_LINES || pending.lines.len() + line.len() > QUEUE_BYTES_MAX {
                self.dropped(1);
                return;
            }
            pending.lines.extend_from_slice(line);
            pending.count += 1;
        });
    }

    /// Has `done` told once everything before is written; `false`: too many wait for that.
    pub fn flush(&self, done: Sender<()>) -> bool {
        self.change(|pending| {
            let is_room = pending.flushes.len() < FLUSHES_MAX;
            if is_room {
                pending.flushes.push(done);
            }
            is_room
        })
    }

    /// Has the writer look at what it shares with the others.
    pub fn wake(&self) {
        self.change(|pending| pending.is_woken = true);
    }

    /// Has the writer write what is here, and end.
    pub fn stop(&self) {
        self.change(|pending| pending.is_stopped = true);
    }

    /// Waits until something has come. Returns how many lines.
    pub fn wait(&self) -> usize {
        let mut pending = self.pending.lock();
        while pending.is_empty() {
            pending.is_asleep = true;
            self.arrived.wait(&mut pending);
        }
        pending.is_asleep = false;
        pending.count
    }

    /// Takes all that has come, in exchange for `emptied`.
    pub fn take(&self, emptied: &mut Pending) {
        emptied.lines.clear();
        emptied.lines.shrink_to(KEPT_BYTES);
        emptied.flushes.clear();
        (emptied.count, emptied.is_woken, emptied.is_stopped) = (0, false, false);
        std::mem::swap(&mut *self.pending.lock(), emptied);
    }

    /// Counts lines that are lost.
    pub fn dropped(&self, lines: usize) {
        self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// Lines lost so far.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut pending = self.pending.lock();
        let result = change(&mut pending);
        let is_asleep = std::mem::take(&mut pending.is_asleep);
        drop(pending);
        if is_asleep {
            self.arrived.notify_one();
        }
        result
    }
}

impl Pending {
    const fn is_empty(&self) -> bool {
        self.count == 0 && self.flushes.is_empty() && !self.is_woken && !self.is_stopped
    }
}
