//! Readings of the machine: memory, processors, and the state folder's filesystem.
//!
//! Three short files of `/proc` and one `statvfs`, at most once a second whoever asks and however
//! often. The one who finds the last reading too old takes the next; the others go on with the
//! last.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Utc;
use crate::metrics::{Metrics, Share};
use crate::procfs::{Memory, Stat};
use crate::sync::Mutex;

use super::FRESH;
use super::assess::{cpu_status, disk_status, memory_status};
use super::key_metrics::Status;

/// A filesystem's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) total_bytes: u64,
    /// What a process without privileges may still write.
    pub(super) available_bytes: u64,
}

/// A value and how long it took to read. `None`: it could not be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<T> {
    pub(super) value: Option<T>,
    pub(super) took: Duration,
    /// Readings in a row that were not healthy.
    pub(super) failures: u32,
}

impl<T> Timed<T> {
    fn read(read: impl FnOnce() -> Option<T>) -> Self {
        let start = Instant::now();
        let value = read();
        Self {
            value,
            took: start.elapsed(),
            failures: 0,
        }
    }

    /// Counts this reading on `failures`, which a healthy one ends.
    fn counted(mut self, failures: &AtomicU32, status: impl FnOnce(&Self) -> Status) -> Self {
        self.failures = match status(&self) {
            Status::Healthy => 0,
            _ => failures.load(Ordering::Relaxed).saturating_add(1),
        };
        failures.store(self.failures, Ordering::Relaxed);
        self
    }
}

/// The process' resident memory, and the machine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryUse {
    pub(super) resident_bytes: u64,
    pub(super) machine: Option<Memory>,
}

/// What the machine said at one time.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// RFC 3339.
    pub(super) at: String,
    pub(super) memory: Timed<MemoryUse>,
    pub(super) cpu: Timed<Share>,
    pub(super) disk: Timed<Disk>,
}

/// Keeps the last reading.
pub(super) struct System {
    state_dir: PathBuf,
    /// Uptime in milliseconds from which the next reading is due.
    due_ms: AtomicU64,
    failures: [AtomicU32; 3],
    last: Mutex<Arc<Reading>>,
}

impl System {
    /// Takes the first reading.
    pub(super) fn new(state_dir: PathBuf, metrics: &Metrics) -> Self {
        let failures = Default::default();
        let first = read(&state_dir, metrics, &failures);
        Self {
            state_dir,
            due_ms: AtomicU64::new(due_after(metrics.uptime())),
            failures,
            last: Mutex::new("health.system", Arc::new(first)),
        }
    }

    /// The last reading, taken anew if it is older than a second.
    pub(super) fn reading(&self, metrics: &Metrics) -> Arc<Reading> {
        let now = metrics.uptime();
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let is_mine = now.as_millis() >= u128::from(due_ms)
            && self
                .due_ms
                .compare_exchange(due_ms, due_after(now), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_mine {
            let reading = Arc::new(read(&self.state_dir, metrics, &self.failures));
            *self.last.lock() = Arc::clone(&reading);
            return reading;
        }
        self.last.lock().clone()
    }
}

fn due_after(now: Duration) -> u64 {
    u64::try_from((now + FRESH).as_millis()).unwrap_or(u64::MAX)
}

fn read(state_dir: &std::path::Path, metrics: &Metrics, failures: &[AtomicU32; 3]) -> Reading {
    let [memory_failures, cpu_failures, disk_failures] = failures;
    let mut stat = None;
    let cpu = Timed::read(|| {
        stat = Stat::of_process();
        Some(metrics.process_cpu(stat?.cpu_seconds))
    });
    let memory = Timed::read(|| {
        Some(MemoryUse {
            resident_bytes: stat?.resident_bytes,
            machine: Memory::read(),
        })
    });
    let disk = Timed::read(|| {
        let space = rustix::fs::statvfs(state_dir).ok()?;
        Some(Disk {
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
            available_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        })
    });
    Reading {
        at: Utc::now().rfc3339().to_string(),
        memory: memory.counted(memory_failures, |memory| memory_status(memory).0),
        cpu: cpu.counted(cpu_failures, |cpu| cpu_status(cpu).0),
        disk: disk.counted(disk_failures, |disk| disk_status(disk).0),
    }
}
