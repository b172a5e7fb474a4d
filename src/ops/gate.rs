//! The gate: from our front, through a bounded queue, to tiny_http and back.
//!
//! The front's thread only checks and queues. One thread, `ops-gate`, asks tiny_http with a
//! request written from scratch and relays the whole answer; it never waits longer than
//! [`ANSWER_WAIT_MAX`] and never takes more than [`ANSWER_BYTES_MAX`].

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::ANSWER_WAIT_MAX;
use super::http::Backend;
use crate::front::{Handler, Request, Responder, Response};
use crate::thread::{self, State};

/// Longest answer that is relayed, head included.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const ANSWER_FIELDS_MAX: usize = 32;

/// A request on its way through.
pub(super) struct Job {
    target: String,
    received: Instant,
    responder: Responder,
}

/// The front's handler.
pub(super) struct Gate {
    queue: Sender<Job>,
}

impl Gate {
    pub fn new(queue: Sender<Job>) -> Self {
        Self { queue }
    }
}

impl Handler for Gate {
    fn handle(&self, request: Request, responder: Responder) {
        // HEAD is a GET to tiny_http: leaving the body out is the front's business.
        if !matches!(request.method(), "GET" | "HEAD") {
            let refusal = Response::text(405, "Only GET and HEAD are answered here.\n");
            return responder.respond(refusal.header("allow", "GET, HEAD"));
        }
        let Some(target) = target(request.path(), request.query()) else {
            return responder.respond(Response::text(400, "The target is not visible ASCII.\n"));
        };
        let job = Job {
            target,
            received: request.received,
            responder,
        };
        if let Err(error) = self.queue.try_send(job) {
            error.into_inner().responder.respond(busy());
        }
    }
}

/// The target as it is sent on; `None` if it holds anything but visible ASCII.
fn target(path: &str, query: Option<&str>) -> Option<String> {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let is_sane = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    is_sane.then_some(target)
}

fn busy() -> Response {
    Response::text(503, "The ops plane is busy.\n").header("retry-after", "1")
}

/// Relays one request after another until the front is gone.
pub(super) fn run(jobs: &Receiver<Job>, backend: &Backend) {
    loop {
        thread::set_state(State::Idle);
        let Ok(job) = jobs.recv() else { return };
        thread::set_state(State::Running);
        if job.responder.cancel().is_cancelled() {
            continue;
        }
        let deadline = job.received + ANSWER_WAIT_MAX;
        let answer = if Instant::now() < deadline {
            relay(&job.target, backend, deadline)
        } else {
            busy()
        };
        job.responder.respond(answer);
    }
}

/// Why tiny_http gave no answer.
enum Failure {
    /// It cannot be reached, mostly because its accept loop is gone.
    Connect(io::Error),
    /// It took one and did not answer, or not sensibly.
    Answer(io::Error),
}

fn relay(target: &str, backend: &Backend, deadline: Instant) -> Response {
    let Some(path) = backend.path() else {
        return busy();
    };
    match ask(&path, target, deadline) {
        Ok(answer) => answer,
        Err(Failure::Connect(error)) => {
            log::error!("the ops plane's server cannot be reached: {error}");
            // Want of file descriptors, say, is not its fault.
            if is_gone(&error) {
                backend.rebuild(&path);
            }
            busy()
        }
        Err(Failure::Answer(error)) if is_timeout(&error) => {
            log::warn!("the ops plane's server gave no answer in time to {target}");
            Response::text(504, "No answer in time.\n")
        }
        Err(Failure::Answer(error)) => {
            log::warn!("the ops plane's server failed to answer {target}: {error}");
            Response::text(502, "The ops plane's server failed.\n")
        }
    }
}

/// Whether nobody listens on the socket, or not any more.
fn is_gone(error: &io::Error) -> bool {
    is_timeout(error)
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        )
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn ask(path: &Path, target: &str, deadline: Instant) -> Result<Response, Failure> {
    let mut stream = connect(path, deadline).map_err(Failure::Connect)?;
    let mut exchange = || -> io::Result<Response> {
        // All that tiny_http ever reads.
        let request = format!("GET {target} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        parse(&read_all(&mut stream, deadline)?)
    };
    exchange().map_err(Failure::Answer)
}

/// Connects with a bound on the wait: a full backlog would block for ever.
fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let left = Some(left(deadline)?);
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Bounds connect(2) as well as writes (socket(7)).
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, left)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Time left, above zero.
fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn read_all(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(16 << 10);
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let room = ANSWER_BYTES_MAX + 1 - answer.len() as u64;
        // At most 64 KiB at a time, so that the deadline is looked at in between.
        let read = (&mut *stream)
            .take(room.min(64 << 10))
            .read_to_end(&mut answer);
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
        match read {
            Ok(0) => return Ok(answer),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes an answer apart and checks that it is whole.
fn parse(answer: &[u8]) -> io::Result<Response> {
    let mut fields = [httparse::EMPTY_HEADER; ANSWER_FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let (Ok(httparse::Status::Complete(head_bytes)), Some(status)) =
        (head.parse(answer), head.code)
    else {
        return Err(io::Error::other("the answer has no proper head"));
    };
    let body = &answer[head_bytes..];
    let mut response = Response::new(status);
    let mut length = None;
    for field in head.headers.iter() {
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => length = std::str::from_utf8(field.value).ok(),
            // The front's own business, or nobody's.
            "date" | "server" | "connection" | "transfer-encoding" => {}
            name => response.push_header(name, field.value),
        }
    }
    if length.and_then(|length| length.parse().ok()) != Some(body.len()) {
        return Err(io::Error::other("the answer is not as long as it says"));
    }
    Ok(response.body(body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_passes() {
        let check = |path: &str, query: Option<&str>, expected: Option<&str>| {
            assert_eq!(target(path, query).as_deref(), expected);
        };
        check("/metrics", None, Some("/metrics"));
        check("/a", Some("b=c"), Some("/a?b=c"));
        check("/a", Some(""), Some("/a?"));
        check("*", None, None);
        check("/a b", None, None);
        check("/a", Some("b\r\ncontent-length: 9"), None);
        check("/ä", None, None);
    }

    #[test]
    fn an_answer_that_is_not_whole_is_no_answer() {
        let check = |answer: &str, expected: Option<(u16, &str)>| {
            let got = parse(answer.as_bytes()).ok();
            let got = got.map(|got| (got.status, got.body.as_bytes().to_vec()));
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(got, expected, "{answer:?}");
        };
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            Some((200, "ab")),
        );
        check(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            Some((404, "")),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", None);
        check("HTTP/1.1 200 OK\r\n\r\nab", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None);
        check("", None);
    }
}
