//! One TCP connection to a provider, and how it is opened.
//!
//! ureq takes any transport, so this one is made for our calls: it blocks only until the
//! [`Line`]'s deadline, registers itself with the call's cancel handle before it blocks, sends a
//! head and a small body in one packet, and makes three system calls a request on a pooled
//! connection (is it open, send, receive). It must never block without [`Line::io`].
//!
//! Start at [`chain`], which puts proxy, TCP and TLS together for one slot, then read
//! [`Tcp::flush`] and [`Tcp::await_input`].

use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout as SocketTimeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, NextTimeout,
    RustlsConnector, ShutdownHandle, Transport,
};

use super::buffers::InOut;
use super::line::{Fault, Line, Progress};
use super::resolver::Resolver;
use crate::cancel::Abort;

/// While connecting, how long a cancel can go unnoticed at most, should shutting the half-open
/// socket down not wake us.
const CONNECT_SLICE: Duration = Duration::from_millis(500);

/// What one slot connects with: through the proxy if there is one, else directly; then TLS if the
/// URL says so. `tls` is shared by all slots of a provider, and with it the parsed certificates
/// and the resumable sessions.
pub fn chain(
    line: Arc<Line>,
    resolver: Arc<Resolver>,
    tls: Arc<RustlsConnector>,
) -> impl Connector<()> {
    let dial = Dial {
        line: Arc::clone(&line),
        resolver,
    };
    Timed {
        line,
        inner: ().chain(ConnectProxyConnector::default()).chain(dial).chain(SharedTls(tls)),
    }
}

/// Tells the line when connecting begins and when it has succeeded.
#[derive(Debug)]
struct Timed<C> {
    line: Arc<Line>,
    inner: C,
}

impl<C: Connector<()>> Connector<()> for Timed<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<C::Out>, Error> {
        // With a proxy, ureq runs the whole chain a second time inside the first.
        let before = self.line.connecting();
        let transport = self.inner.connect(details, chained)?;
        self.line.connected(before);
        Ok(transport)
    }
}

#[derive(Debug)]
struct SharedTls(Arc<RustlsConnector>);

impl<In: Transport> Connector<In> for SharedTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained)
    }
}

#[derive(Debug)]
struct Dial {
    line: Arc<Line>,
    resolver: Arc<Resolver>,
}

impl<In: Transport> Connector<In> for Dial {
    type Out = Either<In, Tcp>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(through_proxy) = chained {
            return Ok(Some(Either::A(through_proxy)));
        }
        let transport = self.dial(details)?;
        let closer: Weak<Closer> = Arc::downgrade(&transport.closer);
        (details.register_shutdown)(closer)?;
        Ok(Some(Either::B(transport)))
    }
}

impl Dial {
    /// Tries the addresses in turn. Each but the last has half of the time that is left, so that
    /// one that swallows packets does not use up the others' chance.
    fn dial(&self, details: &ConnectionDetails) -> Result<Tcp, Fault> {
        let uri = details.uri;
        let host = uri.host().unwrap_or_default();
        let default_port = if details.needs_tls() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = self
            .resolver
            .addresses(host, port, Instant::now())
            .map_err(|error| Fault::Resolve(error.to_string()))?;
        let by = self.line.connect_by();
        let mut fault = Fault::Timeout;
        for (index, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let left = by.saturating_duration_since(now);
            if left.is_zero() {
                return Err(Fault::Timeout);
            }
            let is_last = index + 1 == addresses.len();
            let until = now + if is_last { left } else { left / 2 };
            match Tcp::open(*address, until, &self.line) {
                Ok(transport) => return Ok(transport),
                Err(Fault::Cancelled) => return Err(Fault::Cancelled),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }
}

/// The socket, shared by the connection and by whoever may have to end it.
struct Closer(TcpStream);

impl Closer {
    fn close(&self) {
        // It fails only if the socket is shut down already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Abort for Closer {
    fn abort(&self) {
        self.close();
    }
}

impl ShutdownHandle for Closer {
    fn shutdown(&self) {
        self.close();
    }
}

/// A connection.
pub struct Tcp {
    closer: Arc<Closer>,
    /// The same, as a cancel handle takes it.
    abort: Arc<dyn Abort>,
    line: Arc<Line>,
    buffers: InOut,
    /// What SO_RCVTIMEO is set to.
    read_timeout: Option<Duration>,
    /// The peer takes nothing more. It may have answered before: that is still to be read.
    broken: bool,
    /// Whether a request went out since the last look at [`Transport::is_open`].
    used: bool,
}

impl Tcp {
    fn open(address: SocketAddr, until: Instant, line: &Arc<Line>) -> Result<Self, Fault> {
        let refused = |errno: Errno| {
            let error = std::io::Error::from(errno);
            Fault::Connect(format!("{address}: {error}"))
        };
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(refused)?;
        let closer = Arc::new(Closer(TcpStream::from(socket)));
        let abort: Arc<dyn Abort> = closer.clone();
        let stream = &closer.0;
        sockopt::set_tcp_nodelay(stream, true).map_err(refused)?;
        line.io(&abort, Progress::Connecting)?;
        match rustix::net::connect(stream, &address) {
            Ok(()) => {}
            Err(Errno::INPROGRESS | Errno::INTR) => {
                wait_connected(stream, until, line)?;
                sockopt::socket_error(stream)
                    .and_then(|result| result)
                    .map_err(refused)?;
            }
            Err(errno) => return Err(refused(errno)),
        }
        rustix::io::ioctl_fionbio(stream, false).map_err(refused)?;
        Ok(Self {
            closer,
            abort,
            line: Arc::clone(line),
            buffers: InOut::default(),
            read_timeout: None,
            broken: false,
            used: false,
        })
    }

    /// Sends what waits. A peer that takes nothing more may have answered already (413, 401), so
    /// that is no error here: whether there is an answer shows when it is read.
    fn flush(&mut self) -> Result<(), Fault> {
        let by = self.line.io(&self.abort, Progress::Sending)?;
        self.used = true;
        let stream = &self.closer.0;
        let mut rest = self.buffers.pending();
        while !rest.is_empty() && !self.broken {
            match rustix::net::send(stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = by.saturating_duration_since(Instant::now());
                    wait(stream, PollFlags::OUT, left)?;
                    if self.line.is_cancelled() {
                        return Err(Fault::Cancelled);
                    }
                }
                Err(_) => self.broken = true,
            }
        }
        self.buffers.clear_pending();
        Ok(())
    }

    /// Sets SO_RCVTIMEO to `left`, unless what is set serves: a longer one by up to
    /// 50 ms, or any shorter one as long as it has not run out early.
    fn limit_read(&mut self, left: Duration, ran_out: bool) -> Result<(), Fault> {
        let enough = left + Duration::from_millis(50);
        let serves = self
            .read_timeout
            .is_some_and(|set| set <= enough && !(ran_out && set < left));
        if serves {
            return Ok(());
        }
        let left = left.max(Duration::from_millis(1));
        sockopt::set_socket_timeout(&self.closer.0, SocketTimeout::Recv, Some(left))
            .map_err(|errno| Fault::Io(errno.to_string()))?;
        self.read_timeout = Some(left);
        Ok(())
    }

    fn receive(&mut self) -> Result<bool, Fault> {
        let by = self.line.io(&self.abort, Progress::Waiting)?;
        let mut ran_out = false;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Timeout);
            }
            self.limit_read(left, ran_out)?;
            let room = self.buffers.input_append_buf();
            if room.is_empty() {
                return Err(Fault::Overlong);
            }
            match rustix::net::recv(&self.closer.0, room, RecvFlags::empty()) {
                Ok((_, 0)) if self.line.is_cancelled() => return Err(Fault::Cancelled),
                Ok((_, 0)) => return Ok(false),
                Ok((_, amount)) => {
                    self.buffers.input_appended(amount);
                    let (first, streamed) = self.line.received();
                    if first && streamed {
                        self.buffers.drop_output();
                    }
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ran_out = true,
                Err(_) if self.line.is_cancelled() => return Err(Fault::Cancelled),
                Err(_) => return Err(Fault::Reset),
            }
        }
    }
}

/// Waits until `stream` is ready for `what`, at most for `left`. Returns whether it is: not if the
/// time ran out or a signal came in between.
fn wait(stream: &TcpStream, what: PollFlags, left: Duration) -> Result<bool, Fault> {
    if left.is_zero() {
        return Err(Fault::Timeout);
    }
    let timeout = Timespec::try_from(left).map_err(|error| Fault::Io(error.to_string()))?;
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), what)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Fault::Io(errno.to_string())),
    }
}

/// Waits until the connection is there or has failed.
fn wait_connected(stream: &TcpStream, until: Instant, line: &Line) -> Result<(), Fault> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let is_ready = wait(stream, PollFlags::OUT, left.min(CONNECT_SLICE))?;
        if line.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        if is_ready {
            return Ok(());
        }
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Collects; see [`InOut::commit`]. ureq's timeouts are off, ours are the line's.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        match self.buffers.commit(amount) {
            true => Ok(self.flush()?),
            false => Ok(()),
        }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        if !self.buffers.pending().is_empty() {
            self.flush()?;
        }
        Ok(self.receive()?)
    }

    /// ureq asks twice a call: when a connection goes back to the pool and when it is taken out
    /// again. The second look, just before a request is sent, finds what the first would.
    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.used) {
            return !self.broken;
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        loop {
            match rustix::net::recv(&self.closer.0, &mut [0; 1], flags) {
                Err(Errno::INTR) => {}
                // Nothing to read: neither an end nor bytes that nobody asked for.
                result => return result == Err(Errno::AGAIN),
            }
        }
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("broken", &self.broken).finish()
    }
}
