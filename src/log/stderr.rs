//! Standard error for what must be said even when nothing else works. It takes no lock, so a
//! thread that is stuck in a write of its own cannot hold this one up, and it never waits long
//! for a reader.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest wait for whoever reads our standard error.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A pipe that is ready takes this much without blocking (`PIPE_BUF`, pipe(7)).
const PIECE_BYTES: usize = 4096;

/// Writes `bytes` to standard error, for at most a second.
///
/// # Errors
/// Nobody reads standard error, or it is closed.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let stderr = io::stderr();
    let deadline = Instant::now() + WAIT_MAX;
    let mut rest = bytes;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut ready = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::write(stderr.as_fd(), &rest[..rest.len().min(PIECE_BYTES)]) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Says one line; that nobody hears it changes nothing.
pub fn say(text: &str) {
    let _ = write(format!("victor: {text}\n").as_bytes());
}
