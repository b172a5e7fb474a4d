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

use crossbeam::channel::{Receiver, Sender};

use super::{QUEUE_LINES, Shared, stderr};
use crate::thread::{self, State};

/// How long a line may wait for others to be written with.
const COALESCE: Duration = Duration::from_millis(5);
/// A batch is written once it is this long.
const BATCH_BYTES: usize = 256 << 10;
/// A file that failed is tried again after this long, when there is something to write.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the queue carries.
pub(super) enum Message {
    /// A finished line.
    Line(Vec<u8>),
    /// Look at [`Shared`].
    Wake,
    /// Answer when everything before this is written.
    Flush(Sender<()>),
    /// Write what is queued and end.
    Stop,
}

/// The writing end.
pub(super) struct Writer {
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    sink: Sink,
    batch: Vec<u8>,
    lines: u64,
}

impl Writer {
    pub fn new(queue: Receiver<Message>, shared: Arc<Shared>, path: Option<PathBuf>) -> Self {
        let mut sink = Sink::new(path);
        sink.reopen();
        shared
            .is_stderr
            .store(sink.file.is_none(), Ordering::Relaxed);
        Self {
            queue,
            shared,
            sink,
            batch: Vec::new(),
            lines: 0,
        }
    }

    /// Writes until it is told to stop.
    pub fn run(mut self) {
        loop {
            thread::set_state(State::Idle);
            let Ok(first) = self.queue.recv() else { break };
            thread::set_state(State::Running);
            let is_line = matches!(first, Message::Line(_));
            if self.take(first) {
                break;
            }
            // A queue that fills is drained now; else others may join.
            if is_line && self.queue.len() < QUEUE_LINES / 4 {
                std::thread::sleep(COALESCE);
            }
            if self.drain() {
                break;
            }
        }
        self.write();
    }

    /// Takes what is queued now and writes it. Returns whether to stop.
    fn drain(&mut self) -> bool {
        // Bounded by the queue's length at this moment: a reopen must not starve.
        for _ in 0..self.queue.len() {
            match self.queue.try_recv() {
                Ok(message) => {
                    if self.take(message) {
                        return true;
                    }
                }
                Err(_) => break,
            }
        }
        self.write();
        if self.shared.reopen.swap(false, Ordering::Acquire) {
            self.sink.reopen();
            self.note_sink();
        }
        false
    }

    /// Returns whether to stop.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Line(line) => {
                self.batch.extend_from_slice(&line);
                self.lines += 1;
                if self.batch.len() >= BATCH_BYTES {
                    self.write();
                }
            }
            Message::Wake => {}
            Message::Flush(done) => {
                self.write();
                // Whoever asked may have given up.
                let _ = done.try_send(());
            }
            Message::Stop => return true,
        }
        false
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.sink.write(&self.batch).is_err() {
            self.shared.dropped.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.note_sink();
        self.batch.clear();
        self.lines = 0;
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
