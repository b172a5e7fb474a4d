//! A provider that does exactly as the test says, one thread a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::thread::{Role, spawn};

/// A listener on the loopback. It stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

/// What a client sent.
pub struct Received {
    /// Request line and headers, in lower case but for the values.
    pub head: String,
    pub body: Vec<u8>,
    /// Whether it all came with one read.
    pub in_one_read: bool,
}

impl Received {
    /// The value of a header; panics if it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let first = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        first
    }
}

/// The server's end of a connection.
pub struct Peer(TcpStream);

impl Peer {
    /// The next request, or `None` if the client has closed.
    pub fn request(&mut self) -> Option<Received> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 20];
        let mut reads = 0;
        loop {
            let amount = self.0.read(&mut chunk).ok().filter(|amount| *amount > 0)?;
            reads += 1;
            bytes.extend_from_slice(&chunk[..amount]);
            let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut received = Received {
                head,
                body: bytes.split_off(end + 4),
                in_one_read: reads == 1,
            };
            let length: usize = received
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            let rest = length - received.body.len();
            received.in_one_read &= rest == 0;
            let mut tail = vec![0; rest];
            self.0.read_exact(&mut tail).ok()?;
            received.body.append(&mut tail);
            return Some(received);
        }
    }

    /// Sends bytes; a client that has gone takes none.
    pub fn send(&mut self, bytes: &str) -> &mut Self {
        let _ = self.0.write_all(bytes.as_bytes());
        self
    }

    /// A plain answer with its length.
    pub fn answer(&mut self, body: &str) -> &mut Self {
        let length = body.len();
        self.send(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    }

    /// The head of a stream of chunks.
    pub fn stream_head(&mut self) -> &mut Self {
        self.send(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\n\r\n",
        )
    }

    /// One chunk.
    pub fn chunk(&mut self, bytes: &str) -> &mut Self {
        let length = bytes.len();
        self.send(&format!("{length:x}\r\n{bytes}\r\n"))
    }

    /// Blocks until the client closes.
    pub fn wait_closed(&mut self) {
        while self.0.read(&mut [0; 4096]).is_ok_and(|amount| amount > 0) {}
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let now = std::time::Duration::ZERO;
        rustix::net::sockopt::set_socket_linger(&self.0, Some(now)).unwrap();
    }
}

impl Server {
    /// Runs `serve` for each connection with its number, from 0.
    pub fn start(serve: impl Fn(usize, Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&accepted), Arc::new(serve));
        spawn("test-accept", Role::Accept, move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                // The server itself, on its way out; see `drop`.
                if number >= STOP {
                    break;
                }
                let (serve, stream) = (Arc::clone(&serve), stream?);
                spawn("test-peer", Role::Simulator, move || {
                    serve(number, Peer(stream));
                    Ok(())
                })?;
            }
            Ok(())
        })
        .unwrap();
        Self { address, accepted }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

const STOP: usize = 1 << 20;

impl Drop for Server {
    fn drop(&mut self) {
        self.accepted.store(STOP, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}
