//! The thread that writes the log: drains the queue, writes once.
//!
//! It is woken by the first line and then looks away for a few milliseconds, so that under load
//! the threads that log find nobody to wake and a batch is one system call. Without lines it
//! sleeps. It must never take its lines down with it: a file that cannot be written is replaced
//! by standard error, and tried again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::queue::{Pending, Queue};
use super::{QUEUE_LINES, Shared, stderr};
use crate::thread::{self, State};

/// How long a line may wait for others to be written with.
const COALESCE: Duration = Duration::from_millis(5);
/// A file that failed is tried again after this long, when there is something to write.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The writing end.
pub(super) struct Writer {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    sink: Sink,
    batch: Pending,
}

impl Writer {
    pub fn new(queue: Arc<Queue>, shared: Arc<Shared>, path: Option<PathBuf>) -> Self {
        let mut sink = Sink::new(path);
        sink.reopen();
        shared
            .is_stderr
            .store(sink.file.is_none(), Ordering::Relaxed);
        Self {
            queue,
            shared,
            sink,
            batch: Pending::default(),
        }
    }

    /// Writes until it is told to stop.
    pub fn run(mut self) {
        while !self.batch.is_stopped {
            thread::set_state(State::Idle);
            let lines = self.queue.wait();
            thread::set_state(State::Running);
            // A queue that fills is drained now; else others may join.
            if (1..QUEUE_LINES / 4).contains(&lines) {
                std::thread::sleep(COALESCE);
            }
            self.drain();
        }
    }

    /// Takes what is queued now and writes it.
    fn drain(&mut self) {
        self.queue.take(&mut self.batch);
        self.write();
        for done in self.batch.flushes.drain(..) {
            // Whoever asked may have given up.
            let _ = done.try_send(());
        }
        if self.shared.reopen.swap(false, Ordering::Acquire) {
            self.sink.reopen();
            self.note_sink();
        }
    }

    fn write(&mut self) {
        if self.batch.count == 0 {
            return;
        }
        if self.sink.write(&self.batch.lines).is_err() {
            self.queue.dropped(self.batch.count);
        }
        self.note_sink();
    }

    fn note_sink(&self) {
        self.shared
            .is_stderr
            .store(self.sink.file.is_none(), Ordering::Relaxed);
    }
}

/// Where lines go: the file, or standard error while there is none.
pub(super) struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
    failed: Option<Instant>,
    /// The file ends within a line, since a write failed half-way.
    torn: bool,
}

impl Sink {
    /// A sink for `path`, not open yet; `None` is standard error.
    fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            file: None,
            failed: None,
            torn: false,
        }
    }

    /// Opens the path anew: the file may have been renamed away, or be possible again.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                if self.failed.take().is_some() {
                    stderr::say(&format!("logging to {} again", path.display()));
                }
                self.file = Some(file);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Writes a batch of whole lines.
    ///
    /// # Errors
    /// Not even standard error took it.
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        if self
            .failed
            .is_some_and(|failed| failed.elapsed() >= RETRY_AFTER)
        {
            self.reopen();
        }
        let Some(file) = &mut self.file else {
            return stderr::write(batch);
        };
        let mut rest = batch;
        let mut result = Ok(());
        if self.torn {
            result = file.write_all(b"\n");
            self.torn = result.is_err();
        }
        while result.is_ok() && !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let Err(error) = result else { return Ok(()) };
        let written = batch.len() - rest.len();
        self.torn |= written > 0 && batch[written - 1] != b'\n';
        self.fail(&error);
        // The line that was cut is said again as a whole.
        let begin = memchr::memrchr(b'\n', &batch[..written]).map_or(0, |at| at + 1);
        stderr::write(&batch[begin..])
    }

    /// From here on standard error stands in. Said once, not for every attempt.
    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        if self.failed.replace(Instant::now()).is_none() {
            let path = self.path.as_deref().unwrap_or(Path::new(""));
            stderr::say(&format!(
                "cannot write the log file {}: {error}; logging to stderr until it can be",
                path.display()
            ));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
