//! The log: one JSON object a line, written by a thread of its own.
//!
//! Whoever logs encodes the line where it stands and copies it into a bounded queue; when the
//! queue is full the line is dropped and counted ([`dropped`]), since a slow disk must never
//! slow a call. What must not be lost at start-up is said on standard error as well. The log
//! never holds prompt or answer text, nor a key.
//!
//! Start reading at [`start`]; `line.rs` encodes, `call.rs` is the line of every call,
//! `queue.rs` is what waits, `writer.rs` is the thread. This module has the name of the `log` crate, which is `::log`
//! here.

mod call;
mod line;
mod queue;
pub mod stderr;
mod writer;

use std::error::Error;
use std::fmt;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ::log::{Level, LevelFilter, Metadata, Record};
use crossbeam::channel;

pub use call::{CALL_LOGGER, CallRecord};

use self::line::Line;
use self::queue::Queue;
use self::writer::Writer;
use crate::config::checked::{LogFormat, Logging};
use crate::thread::{self, Handle, Role};

/// Lines that may wait for the writer; beyond it they are dropped and counted.
pub const QUEUE_LINES: usize = 8192;
/// Longest wait at shutdown for what is still queued.
const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// What the threads that log and the one that writes share.
#[derive(Default)]
struct Shared {
    reopen: AtomicBool,
    ready: AtomicBool,
    is_stderr: AtomicBool,
}

/// The logging end.
struct Logger {
    /// Only its filter is used: levels by logger, from the configuration and `RUST_LOG`.
    filter: env_logger::Logger,
    format: LogFormat,
    /// Whether lines about calls are written, by level: they do not pass the filter each time.
    calls: [bool; 3],
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

/// Why there is no log.
#[derive(Debug)]
pub enum StartError {
    /// The writer thread could not be started.
    Thread(io::Error),
    /// There is a log already.
    Started,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(error) => write!(f, "cannot start the log's thread: {error}"),
            Self::Started => f.write_str("the log was started already"),
        }
    }
}

impl Error for StartError {}

/// Ends the log when it is dropped, after what is queued was written (for at most 2 s).
pub struct LogGuard {
    queue: Arc<Queue>,
    thread: Option<Handle>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if flush_queue(&self.queue, STOP_WAIT_MAX)
            && let Some(thread) = self.thread.take()
        {
            self.queue.stop();
            thread.join();
        }
    }
}

/// Starts the log: the writer thread, the filter, and a hook that logs panics.
///
/// `RUST_LOG`, where set, overrides the configured level, as in `info,victor::provider=debug`. A
/// file that cannot be opened is replaced by standard error, where that is said.
///
/// # Errors
/// See [`StartError`].
pub fn start(logging: &Logging) -> Result<LogGuard, StartError> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let (logger, writer) = build(logging, &directives);
    let queue = Arc::clone(&logger.queue);
    let max_level = logger.filter.filter();
    if LOGGER.set(logger).is_err() {
        return Err(StartError::Started);
    }
    let thread = thread::spawn("log", Role::Log, move || {
        writer.run();
        Ok(())
    })
    .map_err(StartError::Thread)?;
    ::log::set_logger(&Global).map_err(|_| StartError::Started)?;
    ::log::set_max_level(max_level);
    log_panics();
    Ok(LogGuard {
        queue,
        thread: Some(thread),
    })
}

/// Both ends of a log, not yet connected to the `log` crate.
fn build(logging: &Logging, directives: &str) -> (Logger, Writer) {
    let queue = Arc::new(Queue::new());
    let shared = Arc::new(Shared::default());
    let writer = Writer::new(
        Arc::clone(&queue),
        Arc::clone(&shared),
        logging.file.clone(),
    );
    let filter = env_logger::Builder::new()
        .filter_level(logging.level)
        .parse_filters(directives)
        .build();
    let calls = [Level::Error, Level::Warn, Level::Info].map(|level| {
        let metadata = Metadata::builder().level(level).target(CALL_LOGGER).build();
        ::log::Log::enabled(&filter, &metadata)
    });
    let logger = Logger {
        filter,
        format: logging.format,
        calls,
        queue,
        shared,
    };
    (logger, writer)
}

impl Logger {
    fn record(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let shared = &self.shared;
        if record.level() == Level::Error
            && !shared.ready.load(Ordering::Relaxed)
            && !shared.is_stderr.load(Ordering::Relaxed)
        {
            stderr::say(&record.args().to_string());
        }
        let line = Line::of(self.format, SystemTime::now(), record);
        line.finish(|line| self.queue.push(line));
    }

    fn call(&self, call: &CallRecord<'_>) {
        // `Level::Error` is 1.
        if self.calls[call.level() as usize - 1] {
            let line = call.line(self.format, SystemTime::now());
            line.finish(|line| self.queue.push(line));
        }
    }

    fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.queue.wake();
    }
}

/// Hands the `log` crate's records to [`LOGGER`].
struct Global;

impl ::log::Log for Global {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        LOGGER
            .get()
            .is_some_and(|logger| ::log::Log::enabled(&logger.filter, metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = LOGGER.get() {
            logger.record(record);
        }
    }

    fn flush(&self) {
        flush(STOP_WAIT_MAX);
    }
}

/// Start-up is over: errors go to the log alone from here on.
pub fn ready() {
    if let Some(logger) = LOGGER.get() {
        logger.shared.ready.store(true, Ordering::Relaxed);
    }
}

/// Writes the line of a call that is over. Never waits.
pub fn call_line(call: &CallRecord<'_>) {
    if let Some(logger) = LOGGER.get() {
        logger.call(call);
    }
}

/// Lines lost since the start, because the queue was full or nothing could be written.
pub fn dropped() -> u64 {
    LOGGER
        .get()
        .map_or(0, |logger| logger.queue.dropped_total())
}

/// Opens the log file anew, soon: it was renamed away, or can be written again. Never waits.
pub fn reopen() {
    if let Some(logger) = LOGGER.get() {
        logger.reopen();
    }
}

/// Whether lines go to standard error: no file is configured, or it cannot be written.
pub fn writes_to_stderr() -> bool {
    LOGGER
        .get()
        .is_none_or(|logger| logger.shared.is_stderr.load(Ordering::Relaxed))
}

/// Waits until everything logged before is written, for at most `wait_max`. Returns whether it
/// was.
pub fn flush(wait_max: Duration) -> bool {
    LOGGER
        .get()
        .is_none_or(|logger| flush_queue(&logger.queue, wait_max))
}

fn flush_queue(queue: &Queue, wait_max: Duration) -> bool {
    let (done, is_done) = channel::bounded(1);
    queue.flush(done) && is_done.recv_timeout(wait_max).is_ok()
}

/// The level from which on lines are written anywhere.
pub fn max_level() -> LevelFilter {
    ::log::max_level()
}

/// A panic is one ERROR line, and what Rust says about it goes to standard error as ever.
fn log_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let current = std::thread::current();
        let place = info
            .location()
            .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let what = info.payload_as_str().unwrap_or("no message");
        ::log::error!(
            target: "victor::panic",
            thread = current.name().unwrap_or("unnamed"), location = place.as_str();
            "thread panicked: {what}"
        );
        print(info);
    }));
}

#[cfg(test)]
mod tests;
