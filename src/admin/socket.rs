//! The socket file: where it lies, who listens on it, and who has connected.
//!
//! A path of a socket has at most 107 bytes (`sun_path`, unix(7)), a folder's may be longer; so
//! binding and connecting go through the folder's descriptor in `/proc/self/fd`. The file has mode
//! 0600 from its first moment: Linux gives a new socket file the mode of the socket itself.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, listen, shutdown,
    socket_with, sockopt,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
/// How long connecting may take: a full backlog would block for ever.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often, and how long apart, the folder's lock is tried.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no socket to serve.
#[derive(Debug)]
pub enum BindError {
    /// A living daemon has it, with that process id if the kernel says.
    Taken(PathBuf, Option<i32>),
    /// Something that is no socket lies there; it is left alone.
    NoSocket(PathBuf),
    /// The system refuses.
    System(PathBuf, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &PathBuf| path.display().to_string();
        match self {
            Self::Taken(at, pid) => {
                let who = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
                let at = path(at);
                write!(f, "{at} is in use: another daemon listens there{who}")
            }
            Self::NoSocket(at) => write!(f, "{} is there and is no socket", path(at)),
            Self::System(at, error) => write!(f, "{} cannot be listened on: {error}", path(at)),
        }
    }
}

/// A listening socket; its file is removed when this is closed or dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: another daemon's file is not ours to remove.
    file: (u64, u64),
}

impl Socket {
    /// Listens at `path`. What a dead daemon left there is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let system = |error: io::Error| BindError::System(path.to_owned(), error);
        let place = Place::of(path).map_err(system)?;
        place.lock();
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(BindError::NoSocket(path.to_owned()));
            }
            match place.connect() {
                Ok(peer) => {
                    let pid = sockopt::socket_peercred(&peer).ok();
                    let pid = pid.map(|peer| peer.pid.as_raw_nonzero().get());
                    return Err(BindError::Taken(path.to_owned(), pid));
                }
                Err(error) if is_dead(&error) => fs::remove_file(path).map_err(system)?,
                // It lives, and is busy or not ours to talk to.
                Err(_) => return Err(BindError::Taken(path.to_owned(), None)),
            }
        }
        let listener = place.listen().map_err(system)?;
        let metadata = fs::symlink_metadata(path).map_err(system)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// As `accept(2)`; `EINVAL` once [`Socket::close`] was called.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }

    fn remove(&self) {
        let metadata = fs::symlink_metadata(&self.path);
        if metadata.is_ok_and(|it| (it.dev(), it.ino()) == self.file) {
            // A file that stays is found stale at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Removes the file and ends every [`Socket::accept`], from any thread.
    pub fn close(&self) {
        self.remove();
        // It is listening: there is nothing to refuse.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Connects to the daemon at `path`.
///
/// # Errors
/// As `connect(2)`; a daemon that does not accept in time is `WouldBlock`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    Place::of(path)?.connect()
}

/// Whether an error of [`connect`] means that nobody listens.
pub fn is_dead(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Who is at the other end of a connection: user id and process id, as they were when it connected
/// (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// The kernel does not say, which it does for unix sockets.
pub fn peer(stream: &UnixStream) -> io::Result<(u32, i32)> {
    let peer = sockopt::socket_peercred(stream)?;
    Ok((peer.uid.as_raw(), peer.pid.as_raw_nonzero().get()))
}

/// A folder that is open, and a name in it.
struct Place {
    folder: OwnedFd,
    /// The same folder, open for reading, which is what can be locked.
    lock: OwnedFd,
    name: PathBuf,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(parent, flags, Mode::empty())?;
        // Whoever may only pass through the folder can connect, and does not lock.
        let lock = match File::open(parent) {
            Ok(lock) => lock.into(),
            Err(_) => folder.try_clone()?,
        };
        Ok(Self {
            folder,
            lock,
            name: name.into(),
        })
    }

    /// Two that start at once look one after the other. What holds the lock for longer is no
    /// starting daemon, and a file system that knows no locks is not worth failing for.
    fn lock(&self) {
        for _ in 0..LOCK_TRIES {
            match flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                _ => return,
            }
        }
    }

    fn address(&self) -> io::Result<SocketAddrUnix> {
        let folder = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        Ok(SocketAddrUnix::new(Path::new(&folder).join(&self.name))?)
    }

    fn socket() -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC;
        Ok(socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            flags,
            None,
        )?)
    }

    fn listen(&self) -> io::Result<UnixListener> {
        let socket = Self::socket()?;
        // Before it has a name: nobody else can ever have opened it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &self.address()?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let socket = Self::socket()?;
        // Bounds connect(2) as well as writes (socket(7)).
        let wait = Some(CONNECT_WAIT_MAX);
        sockopt::set_socket_timeout(socket.as_fd(), sockopt::Timeout::Send, wait)?;
        loop {
            match rustix::net::connect(&socket, &self.address()?) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        }
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder of the test's own, with a path too long for a socket's.
    fn folder(name: &str) -> PathBuf {
        let name = format!(
            "victor-admin-{}-{name}-{}",
            std::process::id(),
            "x".repeat(100)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn it_is_private_from_the_first_moment_and_gone_afterwards() {
        let folder = folder("mode");
        let path = folder.join("a.sock");
        let socket = Socket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let client = connect(&path).unwrap();
        let server = socket.accept().unwrap();
        let own = (
            rustix::process::geteuid().as_raw(),
            std::process::id() as i32,
        );
        assert_eq!(peer(&server).unwrap(), own);
        drop((client, socket));
        assert!(!path.exists());
        fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn a_living_ones_is_taken_a_dead_ones_is_replaced_and_nothing_else_is_touched() {
        let folder = folder("stale");
        let path = folder.join("a.sock");
        let socket = Socket::bind(&path).unwrap();
        let own = std::process::id() as i32;
        let taken = Socket::bind(&path).unwrap_err();
        assert!(
            matches!(&taken, BindError::Taken(_, Some(pid)) if *pid == own),
            "{taken}"
        );
        // Its file stays, as after a kill.
        let kept = folder.join("kept");
        fs::hard_link(&path, &kept).unwrap();
        drop(socket);
        fs::rename(&kept, &path).unwrap();
        assert!(connect(&path).is_err_and(|error| is_dead(&error)));
        let socket = Socket::bind(&path).unwrap();
        // Somebody else's by now.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        drop(socket);
        assert!(matches!(Socket::bind(&path), Err(BindError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn closing_ends_the_wait_for_connections() {
        let folder = folder("close");
        let socket = Socket::bind(&folder.join("a.sock")).unwrap();
        socket.close();
        assert!(socket.accept().is_err());
        drop(socket);
        fs::remove_dir(folder).unwrap();
    }
}
