//! One connection to the shared cache, on which nothing outlasts its deadline.
//!
//! The socket never blocks; what has to be waited for is polled for with what is left of the time,
//! so the bound is one on the whole of an exchange and not on each read of it. A connection that has
//! failed in any way is of no further use, for a late reply could be taken for the next one's.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::resp::{self, Malformed, Reply};

/// Bytes read at a time, at first and at most.
const READ_BYTES: usize = 8 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// A buffer above this is given up once what it was for has been read.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The time was up, after so many bytes had come.
    Timeout { received: usize },
    /// No connection.
    Connect(String),
    /// The connection ended.
    Closed(String),
    /// What came is no reply.
    Malformed(Malformed),
    /// The server refused what was asked, with this code.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { .. } => f.write_str("no answer in time"),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Closed(why) => write!(f, "the connection ended: {why}"),
            Self::Malformed(what) => write!(f, "not the protocol: {what}"),
            Self::Refused(code) => write!(f, "refused: {code}"),
        }
    }
}

/// A connection.
pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    /// Commands that go before the first one, and how many they are.
    greeting: Option<(Vec<u8>, usize)>,
}

impl Link {
    /// Connects to the first of `addresses` that takes it. Each but the last has half of the time
    /// that is left. `greeting`: commands that introduce us, each answered by `+OK`; they are sent
    /// with the first exchange, so that they cost no time of their own.
    ///
    /// # Errors
    /// [`Fault::Timeout`] or [`Fault::Connect`].
    pub fn open(
        addresses: &[SocketAddr],
        greeting: Option<(Vec<u8>, usize)>,
        until: Instant,
    ) -> Result<Self, Fault> {
        let mut fault = Fault::Connect("the name has no known address".to_owned());
        for (index, address) in addresses.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let is_last = index + 1 == addresses.len();
            let time = if is_last { left } else { left / 2 };
            if time.is_zero() {
                return Err(Fault::Timeout { received: 0 });
            }
            match TcpStream::connect_timeout(address, time) {
                Ok(stream) => {
                    let failed = |error: io::Error| Fault::Connect(error.to_string());
                    stream.set_nodelay(true).map_err(failed)?;
                    stream.set_nonblocking(true).map_err(failed)?;
                    return Ok(Self {
                        stream,
                        input: Vec::new(),
                        greeting,
                    });
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    fault = Fault::Timeout { received: 0 };
                }
                Err(error) => fault = Fault::Connect(error.to_string()),
            }
        }
        Err(fault)
    }

    /// Whether the connection can carry another exchange: the server has not ended it, and nothing
    /// has come that nobody asked for.
    pub fn is_fresh(&self) -> bool {
        let peeked = self.stream.peek(&mut [0; 1]);
        self.input.is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends `commands` and reads as many replies as there are places in `N`, by `until`.
    ///
    /// # Errors
    /// Any [`Fault`]; the connection is to be dropped then.
    pub fn exchange<const N: usize>(
        &mut self,
        commands: &[u8],
        until: Instant,
    ) -> Result<[Reply; N], Fault> {
        if let Some((greeting, replies)) = self.greeting.take() {
            self.send(&greeting, until)?;
            self.send(commands, until)?;
            for _ in 0..replies {
                match self.reply(until)? {
                    Reply::Error(code) => return Err(Fault::Refused(code)),
                    Reply::Ok => {}
                    _ => return Err(Fault::Malformed(Malformed::Kind)),
                }
            }
        } else {
            self.send(commands, until)?;
        }
        let mut replies = [const { Reply::Nil }; N];
        for place in &mut replies {
            *place = self.reply(until)?;
        }
        if self.input.capacity() > KEPT_BYTES_MAX {
            self.input = Vec::new();
        }
        Ok(replies)
    }

    fn send(&mut self, mut bytes: &[u8], until: Instant) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, until)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Closed(error.to_string())),
            }
        }
        Ok(())
    }

    fn reply(&mut self, until: Instant) -> Result<Reply, Fault> {
        loop {
            if let Some((reply, used)) = resp::reply(&self.input).map_err(Fault::Malformed)? {
                self.input.drain(..used);
                return Ok(reply);
            }
            self.wait(PollFlags::IN, until)?;
            self.receive()?;
        }
    }

    /// Reads what is there. What is kept is bounded by what [`resp::reply`] waits for.
    fn receive(&mut self) -> Result<(), Fault> {
        let before = self.input.len();
        let room = before.clamp(READ_BYTES, READ_BYTES_MAX);
        self.input.resize(before + room, 0);
        let read = self.stream.read(&mut self.input[before..]);
        let amount = read.as_ref().map_or(0, |amount| *amount);
        self.input.truncate(before + amount);
        match read {
            Ok(0) => Err(Fault::Closed("by the server".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
                _ => Err(Fault::Closed(error.to_string())),
            },
        }
    }

    fn wait(&self, what: PollFlags, until: Instant) -> Result<(), Fault> {
        let late = Fault::Timeout {
            received: self.input.len(),
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late);
        }
        let left = Timespec::try_from(left.min(Duration::from_secs(60)))
            .map_err(|error| Fault::Closed(error.to_string()))?;
        let mut fds = [PollFd::from_borrowed_fd(self.stream.as_fd(), what)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => Err(late),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Fault::Closed(errno.to_string())),
        }
    }
}
