//! Frames: four bytes of length, the highest first, then so many bytes of JSON.
//!
//! A length is believed only as far as bytes come: a frame that is declared long takes memory as
//! it arrives, and one beyond the bound takes none. Everything ends by its deadline.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The longest request.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// The longest answer.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no frame.
#[derive(Debug)]
pub enum Fault {
    /// The peer closed before the first byte.
    Closed,
    /// Declared longer than is taken.
    TooLong(usize),
    /// The deadline passed.
    Late,
    /// Anything else, the end in the middle of a frame included.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // How a timeout of a socket reads.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Io(error),
        }
    }
}

/// A stream whose every read and write ends by a deadline.
pub struct Timed<'a> {
    pub stream: &'a UnixStream,
    pub deadline: Instant,
}

impl Timed<'_> {
    /// Time left; a socket's timeout must be above zero.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&mut &*self.stream).read(buf)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.stream).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one frame of at most `most` bytes.
///
/// # Errors
/// See [`Fault`].
pub fn read(reader: &mut impl Read, most: usize) -> Result<Vec<u8>, Fault> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match reader.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Err(Fault::Closed),
            Ok(0) => return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(amount) => got += amount,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(Fault::TooLong(length));
    }
    let mut frame = Vec::new();
    reader.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(frame)
}

/// `message` as a frame; `None` if it is longer than `most`.
pub fn encode(message: &impl Serialize, most: usize) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).ok()?;
    let length = frame.len() - 4;
    if length > most {
        return None;
    }
    frame[..4].copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_and_half_of_one_does_not() {
        let frame = encode(&"hello", 100).unwrap();
        assert_eq!(frame[..4], [0, 0, 0, 7]);
        assert_eq!(read(&mut &frame[..], 7).unwrap(), b"\"hello\"");
        for cut in 1..frame.len() {
            assert!(matches!(read(&mut &frame[..cut], 7), Err(Fault::Io(_))));
        }
        assert!(matches!(read(&mut &frame[..0], 7), Err(Fault::Closed)));
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let declared = [0xff, 0xff, 0xff, 0xff, b'x'];
        let mut rest = &declared[..];
        let read = read(&mut rest, REQUEST_BYTES_MAX);
        assert!(matches!(read, Err(Fault::TooLong(4_294_967_295))));
        assert_eq!(rest, b"x");
        assert!(encode(&"hello", 6).is_none());
    }
}
