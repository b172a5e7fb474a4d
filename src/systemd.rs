//! What the service manager is told: that start-up is over, that the end has begun.
//!
//! The protocol of sd_notify(3): a datagram to the socket named by `NOTIFY_SOCKET`. Without
//! that variable there is nobody to tell. Nothing here may fail the process.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Every listener answers.
    Ready,
    /// The drain has begun.
    Stopping,
}

impl Notice {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Stopping => "STOPPING=1",
        }
    }
}

/// Tells the service manager, if there is one. A failure is logged.
pub fn notify(notice: Notice) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&name, notice) {
        let notice = notice.as_str();
        log::warn!("cannot tell the service manager {notice}: {error}");
    }
}

fn send(name: &OsStr, notice: Notice) -> io::Result<()> {
    // A leading @ means Linux' abstract namespace.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    socket
        .send_to_addr(notice.as_str().as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_arrives_at_an_abstract_name() {
        let name = format!("victor-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), Notice::Ready).unwrap();
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        drop(manager);
        assert!(send(OsStr::new(&format!("@{name}")), Notice::Stopping).is_err());
    }
}
