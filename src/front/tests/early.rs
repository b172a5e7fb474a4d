//! Answers that are begun before there is anything to stream.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Fixture, GET, LAST, read_until, start};
use crate::cancel::Reason;
use crate::front::{Early, Limits, Responder, Response};

/// Short, so that the tests are; nothing here depends on how short.
pub(super) const INTERVAL: Duration = Duration::from_millis(30);
const EARLY: &str = "GET /early HTTP/1.1\r\nhost: h\r\n\r\n";
const DOT: &str = "2\r\n.\n\r\n";
/// More than two sockets hold.
static FLOOD: [u8; 8 << 20] = [b'.'; 8 << 20];

/// A stream whose comment is a line with a dot, or another.
struct Lines(&'static [u8]);

impl Early for Lines {
    fn head(&self) -> Response {
        Response::new(200).header("x-early", "yes")
    }

    fn comment(&self) -> &'static [u8] {
        self.0
    }

    fn failure(&self, failure: &Response) -> Vec<u8> {
        let said = String::from_utf8_lossy(failure.body.as_bytes()).into_owned();
        format!("failed {}: {said}\n", failure.status).into_bytes()
    }

    fn late(&self, head: &Response) -> Vec<u8> {
        let fields = String::from_utf8_lossy(&head.headers).into_owned();
        format!("late {}\n", fields.trim()).into_bytes()
    }
}

pub(super) fn dots() -> Box<dyn Early> {
    Box::new(Lines(b".\n"))
}

/// Sends `text`, waits for two comments, and gives what came and who is to answer.
fn waiting(fixture: &Fixture, text: &str) -> (TcpStream, String, Responder) {
    let mut stream = fixture.connect();
    stream.write_all(text.as_bytes()).expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    let came = read_until(&mut stream, &DOT.repeat(2));
    (stream, came, responder)
}

/// The end of a stream that failed.
fn failed(what: &str) -> String {
    format!("{:x}\r\n{what}\n\r\n0\r\n\r\n", what.len() + 1)
}

#[test]
fn a_client_that_waits_for_a_stream_gets_its_head_comments_and_then_the_stream() {
    let fixture = start(Limits::default());
    let (mut stream, came, responder) = waiting(&fixture, &[EARLY, LAST].concat());
    let head = "HTTP/1.1 200 OK\r\nx-early: yes\r\ndate: ";
    assert!(came.starts_with(head), "{came}");
    let comments = came.split_once("transfer-encoding: chunked\r\n\r\n");
    let comments = comments.expect("a head of chunks").1;
    assert_eq!(comments.replace(DOT, ""), "", "{came}");
    let mut writer = responder.stream(Response::new(200).header("x-own", "no head"));
    writer.write(b"one").expect("connected");
    let went_on = read_until(&mut stream, "3\r\none\r\n");
    let late = "late x-own: no head";
    let expected = format!("{:x}\r\n{late}\n\r\n3\r\none\r\n", late.len() + 1);
    // A comment may have come in between, but none after that.
    assert_eq!(went_on.trim_start_matches(DOT), expected);
    std::thread::sleep(4 * INTERVAL);
    writer.finish().expect("connected");
    let rest = read_until(&mut stream, "GET /last ");
    assert!(rest.starts_with("0\r\n\r\nHTTP/1.1 200 OK\r\n"), "{rest}");
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn what_is_answered_once_a_stream_has_begun_ends_it_as_a_failure() {
    let fixture = start(Limits::default());
    let check = |answer: &dyn Fn(Responder), expected: &str| {
        let (mut stream, _, responder) = waiting(&fixture, &[EARLY, GET].concat());
        answer(responder);
        let rest = read_until(&mut stream, "GET /a ");
        let rest = rest.trim_start_matches(DOT);
        let expected = failed(expected);
        assert!(
            rest.starts_with(&(expected.clone() + "HTTP/1.1 200 OK")),
            "{rest}"
        );
        assert_eq!(rest.matches("0\r\n\r\n").count(), 1, "{rest}");
    };
    let busy = |responder: Responder| responder.respond(Response::text(503, "busy"));
    check(&busy, "failed 503: busy");
    let no_stream = |responder: Responder| responder.respond(Response::text(200, "fine"));
    let ours = "the answer was to be a stream and is none; this is a fault of victor";
    check(&no_stream, &format!("failed 500: {ours}"));
    let ours = "the request was given up without an answer; this is a fault of victor";
    check(&drop, &format!("failed 500: {ours}"));
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn an_answer_that_ends_the_connection_ends_it_behind_a_failure_too() {
    let fixture = start(Limits::default());
    let last = EARLY.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    for (text, announced) in [(EARLY, false), (last.as_str(), true)] {
        let (mut stream, came, responder) = waiting(&fixture, text);
        assert_eq!(came.contains("connection: close\r\n"), announced);
        responder.respond(Response::text(503, "busy").close());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stream, &mut rest).expect("closed");
        assert!(rest.ends_with(&failed("failed 503: busy")), "{rest}");
    }
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn what_is_answered_in_time_is_answered_as_ever() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    stream
        .write_all([EARLY, LAST].concat().as_bytes())
        .expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    responder.respond(Response::text(503, "busy"));
    let answer = read_until(&mut stream, "GET /last ");
    // Unless this thread was asleep for an interval.
    if !answer.contains("x-early") {
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains("\r\n\r\nbusyHTTP/1.1 200 OK\r\n"),
            "{answer}"
        );
    }
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_worker_can_say_later_that_it_will_be_a_stream() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    let later = EARLY.replace("/early", "/later");
    stream.write_all(later.as_bytes()).expect("sent");
    let (_, mut responder) = fixture.later.recv().expect("handled");
    // It has waited for an interval by then: one comment is overdue, the next a long time off.
    let minutes = Duration::from_secs(600);
    responder.since -= minutes;
    let asked = Instant::now();
    responder.keep_alive(minutes, dots());
    let came = read_until(&mut stream, DOT);
    assert!(came.contains("x-early: yes") && asked.elapsed() < Duration::from_secs(5));
    responder.respond(Response::text(503, "busy"));
    assert_eq!(
        read_until(&mut stream, "0\r\n\r\n"),
        failed("failed 503: busy")
    );
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn http_1_0_has_no_chunks_and_head_no_body() {
    let fixture = start(Limits::default());
    let mut stream = fixture.connect();
    let old = "GET /early HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    stream.write_all(old.as_bytes()).expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    let came = read_until(&mut stream, ".\n.\n");
    assert!(
        !came.contains("chunked") && came.contains("connection: close\r\n"),
        "{came}"
    );
    responder.respond(Response::text(503, "busy"));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stream, &mut rest).expect("closed");
    assert!(rest.ends_with("failed 503: busy\n"), "{rest}");

    let mut stream = fixture.connect();
    let head = EARLY.replace("GET", "HEAD");
    stream
        .write_all([head.as_str(), LAST].concat().as_bytes())
        .expect("sent");
    let (_, responder) = fixture.later.recv().expect("handled");
    std::thread::sleep(2 * INTERVAL);
    responder.respond(Response::text(503, "busy"));
    let answer = read_until(&mut stream, "GET /last ");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_client_that_leaves_between_two_comments_cancels_its_call() {
    let fixture = start(Limits::default());
    for half in [true, false] {
        let (stream, _, responder) = waiting(&fixture, EARLY);
        if half {
            stream.shutdown(std::net::Shutdown::Write).expect("open");
        } else {
            drop(stream);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while responder.cancel().reason().is_none() {
            assert!(Instant::now() < deadline, "nobody noticed");
            std::thread::yield_now();
        }
        assert_eq!(responder.cancel().reason(), Some(Reason::ClientGone));
        assert!(responder.stream(Response::new(200)).write(b"x").is_err());
    }
    fixture.front.stop(Duration::ZERO);
}

#[test]
fn a_client_that_does_not_take_its_comments_is_ended() {
    let limits = Limits {
        write_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let fixture = start(limits);
    let mut stream = fixture.connect();
    let later = EARLY.replace("/early", "/later");
    stream.write_all(later.as_bytes()).expect("sent");
    let (_, mut responder) = fixture.later.recv().expect("handled");
    // As a call has it, which keeps the connection from its own deadline for writing.
    responder.set_deadline(Instant::now() + Duration::from_secs(60), Box::new(|| ()));
    responder.keep_alive(INTERVAL, Box::new(Lines(&FLOOD)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while responder.cancel().reason().is_none() {
        assert!(Instant::now() < deadline, "nobody noticed");
        std::thread::yield_now();
    }
    assert_eq!(responder.cancel().reason(), Some(Reason::SlowClient));
    // Gone by then: there is nothing to wake up for.
    drop(responder);
    assert!(fixture.talk(LAST).contains("200 OK"));
    fixture.front.stop(Duration::ZERO);
}
