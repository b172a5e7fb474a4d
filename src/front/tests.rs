//! The front over real sockets: what a client sees, whatever it sends.

mod early;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{Front, Handler, Limits, Request, Responder, Response};
use crate::cancel::{Abort, Reason};

/// Answers on the front thread, except under `/later` and `/early`, which it hands to the test, the
/// latter kept alive.
struct Echo {
    later: Sender<(Request, Responder)>,
}

impl Handler for Echo {
    fn handle(&self, request: Request, mut responder: Responder) {
        match request.path() {
            "/panic" => panic!("on purpose"),
            "/expire" => {
                let later = self.later.clone();
                let (tell, told) = bounded(1);
                responder.set_deadline(
                    Instant::now() + Duration::from_millis(50),
                    Box::new(move || {
                        let (request, responder) = told.recv().expect("sent below");
                        later.send((request, responder)).expect("the test waits");
                    }),
                );
                tell.send((request, responder)).expect("room for one");
            }
            path if path.starts_with("/early") => {
                responder.keep_alive(early::INTERVAL, early::dots());
                self.later
                    .send((request, responder))
                    .expect("the test waits");
            }
            path if path.starts_with("/later") => {
                self.later
                    .send((request, responder))
                    .expect("the test waits");
            }
            _ => {
                let text = format!(
                    "{} {} {}",
                    request.method(),
                    request.path(),
                    String::from_utf8_lossy(&request.body)
                );
                responder.respond(Response::text(200, text));
            }
        }
    }
}

struct Fixture {
    front: Front,
    later: Receiver<(Request, Responder)>,
}

fn start(limits: Limits) -> Fixture {
    let (sender, later) = bounded(64);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let handler = Arc::new(Echo { later: sender });
    let front = Front::start("test", listener, 2, limits, handler).expect("starts");
    Fixture { front, later }
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.front.local_addr()).expect("accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("valid");
        stream
    }

    /// Sends `text` and reads until the server closes.
    fn talk(&self, text: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the server closes");
        answer
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&got).ends_with(end) {
        let count = stream.read(&mut buffer).expect("more comes");
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&got)
        );
        got.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(got).expect("text")
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let fixture = start(Limits::default());
    let post = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello";
    let chunked =
        "POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = fixture.talk(&[GET, post, chunked, "\r\n", LAST].concat());
    let places: Vec<_> = ["GET /a ", "POST /p hello", "POST /c abc", "GET /last "]
        .iter()
        .map(|text| {
            answer
                .find(text)
                .unwrap_or_else(|| panic!("{text} in {answer}"))
        })
        .collect();
    assert!(places.is_sorted());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4);
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream.set_nodelay(true).expect("valid");
    let text = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello";
    for byte in text.as_bytes() {
        stream.write_all(&[*byte]).expect("sent");
    }
    read_until(&mut stream, "POST /p hello");
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_worker_streams_while_the_next_request_waits() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    let later = "GET /later HTTP/1.1\r\nhost: h\r\n\r\n";
    stream
        .write_all([later, LAST].concat().as_bytes())
        .expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    let mut writer = responder.stream(Response::new(200));
    writer.write(b"one").expect("connected");
    assert!(read_until(&mut stream, "3\r\none\r\n").contains("transfer-encoding: chunked"));
    writer.write(b"two").expect("connected");
    read_until(&mut stream, "3\r\ntwo\r\n");
    writer.finish().expect("connected");
    assert!(read_until(&mut stream, "GET /last ").starts_with("0\r\n\r\nHTTP/1.1 200 OK"));
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn an_unfinished_stream_is_cut_and_a_dropped_responder_is_a_500() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /later HTTP/1.1\r\nhost: h\r\n\r\n")
        .expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    let mut writer = responder.stream(Response::new(200));
    writer.write(b"half").expect("connected");
    drop(writer);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("closed");
    assert!(rest.ends_with("4\r\nhalf\r\n"), "{rest}");

    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /later HTTP/1.1\r\nhost: h\r\n\r\n")
        .expect("sent");
    drop(fixture.later.recv().expect("handled"));
    assert!(read_until(&mut stream, "victor").starts_with("HTTP/1.1 500"));
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_panic_is_a_500_and_the_front_goes_on() {
    let fixture = start(Limits::default());
    let answer = fixture.talk(&["GET /panic HTTP/1.1\r\nhost: h\r\n\r\n", LAST].concat());
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.ends_with("GET /last "),
        "{answer}"
    );
    fixture.front.stop(Duration::ZERO);
}

struct Tell(Sender<()>);
impl Abort for Tell {
    fn abort(&self) {
        let _ = self.0.try_send(());
    }
}

#[test]
fn a_client_that_leaves_cancels_its_call() {
    let fixture = start(Limits::default());
    for half in [true, false] {
        let mut stream = fixture.connect();
        stream
            .write_all(b"GET /later HTTP/1.1\r\nhost: h\r\n\r\n")
            .expect("sent");
        let (_, responder) = fixture.later.recv().expect("handled");
        let (tell, told) = bounded(1);
        responder.cancel().attach(Arc::new(Tell(tell)));
        if half {
            stream.shutdown(std::net::Shutdown::Write).expect("open");
        } else {
            drop(stream);
        }
        told.recv_timeout(Duration::from_secs(5))
            .expect("cancelled");
        assert_eq!(responder.cancel().reason(), Some(Reason::ClientGone));
        assert!(responder.stream(Response::new(200)).write(b"x").is_err());
    }
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn deadlines_fire_on_the_front() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /expire HTTP/1.1\r\nhost: h\r\n\r\n")
        .expect("sent");
    let (_, responder) = fixture
        .later
        .recv_timeout(Duration::from_secs(5))
        .expect("expired");
    responder.respond(Response::text(504, "late"));
    assert!(read_until(&mut stream, "late").starts_with("HTTP/1.1 504"));
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn limits_hold() {
    let limits = Limits {
        body_bytes_max: 1000,
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let fixture = start(limits);
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nhost: h\r\n{rest}");
    for (text, expected) in [
        (post("content-length: 60000000000000\r\n\r\n"), "413"),
        (
            post("expect: 100-continue\r\ncontent-length: 1001\r\n\r\n"),
            "413",
        ),
        (post("transfer-encoding: chunked\r\n\r\n3e9\r\n"), "413"),
        (post(&format!("x: {}", "a".repeat(40_000))), "431"),
        (post(&"x: y\r\n".repeat(200)) + "\r\n", "431"),
        (post("content-length: 10\r\n\r\nshort"), "408"),
        (post("x: unfinished"), "408"),
        (
            post("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400",
        ),
    ] {
        let answer = fixture.talk(&text);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{expected}: {answer}"
        );
        assert!(answer.contains("connection: close"));
    }
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn expectations_and_head_are_met() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    let head = "POST /p HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").expect("sent");
    read_until(&mut stream, "POST /p ok");
    let answer = fixture.talk("HEAD /h HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert!(
        answer.contains("content-length: 8\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let fixture = start(limits);
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let mut stream = fixture.connect();
        stream.write_all(GET.as_bytes()).expect("sent");
        read_until(&mut stream, "GET /a ");
        open.push(stream);
        // The answer can be here before its connection is idle there.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(fixture.talk(LAST).contains("200 OK"));
    assert_eq!(open[0].read(&mut [0; 8]).expect("closed cleanly"), 0);
    open[2].write_all(GET.as_bytes()).expect("sent");
    read_until(&mut open[2], "GET /a ");
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_client_that_does_not_read_blocks_nobody_and_loses_nothing_that_fits() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /later HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    let body = vec![b'x'; 12 << 20];
    responder.respond(Response::new(200).body(body.clone()));
    assert!(fixture.talk(LAST).contains("200 OK"));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read");
    assert!(got.ends_with(&body));
    fixture.front.stop(Duration::ZERO);
}

/// Answers everything with 256 KiB, so that a client that does not read is soon behind.
struct Large;

impl Handler for Large {
    fn handle(&self, _: Request, responder: Responder) {
        responder.respond(Response::new(200).body(vec![b'x'; 256 << 10]));
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        match request.path() {
            "/unwanted" => Err(Response::text(401, "no")),
            _ => Ok(()),
        }
    }
}

fn large(limits: Limits) -> Front {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    Front::start("large", listener, 1, limits, Arc::new(Large)).expect("starts")
}

fn wait_for_connections(front: &Front, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let open = || {
        front
            .stats()
            .connections
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    while open() != wanted {
        assert!(Instant::now() < deadline, "{} connections are open", open());
        std::thread::yield_now();
    }
}

#[test]
fn whatever_follows_what_a_client_does_not_read_its_write_deadline_holds() {
    let limits = Limits {
        write_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    for last in [
        "GET /half",
        LAST,
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n",
        "",
    ] {
        let front = large(limits);
        let mut stream = TcpStream::connect(front.local_addr()).expect("accepts");
        let many = GET.repeat(100);
        stream
            .write_all([many.as_str(), last].concat().as_bytes())
            .expect("sent");
        wait_for_connections(&front, 1);
        wait_for_connections(&front, 0);
        front.stop(Duration::ZERO);
    }
}

#[test]
fn pipelined_requests_wait_for_their_answers_to_be_read() {
    let front = large(Limits::default());
    let mut stream = TcpStream::connect(front.local_addr()).expect("accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("valid");
    let requests = [GET.repeat(99).as_str(), LAST].concat();
    stream.write_all(requests.as_bytes()).expect("sent");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("all of it");
    let answers = memchr::memmem::find_iter(&got, b"HTTP/1.1 200 OK").count();
    assert_eq!(answers, 100);
    front.stop(Duration::ZERO);
}

#[test]
fn a_body_that_is_not_wanted_is_not_read() {
    let front = large(Limits::default());
    let mut stream = TcpStream::connect(front.local_addr()).expect("accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("valid");
    let head = "POST /unwanted HTTP/1.1\r\nhost: h\r\ncontent-length: 30000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("closed");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close"));
    front.stop(Duration::ZERO);
}

#[test]
fn empty_lines_before_a_request_are_skipped_however_they_arrive() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream.set_nodelay(true).expect("valid");
    for byte in ["\r\n\r\n", GET].concat().as_bytes() {
        stream.write_all(&[*byte]).expect("sent");
    }
    read_until(&mut stream, "GET /a ");
    fixture.front.stop(Duration::ZERO);
}
