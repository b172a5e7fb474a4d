//! What goes wrong, and that it is noticed in time and called by its name.

use std::net::TcpStream;
use std::sync::mpsc;

use super::*;
use crate::thread::{Role, spawn};

/// As wide as the promise: a cancelled call returns within a second.
const SECOND: Duration = Duration::from_secs(1);

/// Cancels `cancel` from another thread as soon as `told` says so, and returns when that was.
fn cancel_when(told: mpsc::Receiver<()>, cancel: &Arc<Cancel>) -> mpsc::Receiver<Instant> {
    let (tell, when) = mpsc::channel();
    let cancel = Arc::clone(cancel);
    spawn("test-cancel", Role::Worker, move || {
        told.recv()?;
        tell.send(Instant::now())?;
        cancel.cancel(Reason::ClientGone);
        Ok(())
    })
    .unwrap();
    when
}

fn check_cancelled<T>(result: Result<T, ProviderError>, when: &mpsc::Receiver<Instant>) {
    assert_eq!(cause(result), Cause::Cancelled(Reason::ClientGone));
    assert!(when.recv().unwrap().elapsed() < SECOND);
}

#[test]
fn a_cancel_ends_the_wait_for_a_permit() {
    let server = Server::start(|_, mut peer| {
        peer.request();
        peer.stream_head().chunk("data: 1\n\n").wait_closed();
    });
    let mut config = config(server.address);
    config.max_connections = NonZeroUsize::MIN;
    let provider = Provider::new(&config).unwrap();
    let _running = stream(provider.call(&outbound(&Arc::new(Cancel::new()), true)));
    let cancel = Arc::new(Cancel::new());
    let (tell, told) = mpsc::channel();
    let when = cancel_when(told, &cancel);
    let watched = Arc::clone(&provider);
    spawn("test-watch", Role::Worker, move || {
        while watched.permits_waiting() == 0 {
            std::thread::yield_now();
        }
        tell.send(())?;
        Ok(())
    })
    .unwrap();
    check_cancelled(provider.call(&outbound(&cancel, false)), &when);
    let soon = Outbound {
        deadline: Instant::now() + Duration::from_millis(10),
        ..outbound(&cancel, false)
    };
    let fresh = Arc::new(Cancel::new());
    let late = Outbound {
        cancel: &fresh,
        ..soon
    };
    assert_eq!(cause(provider.call(&late)), Cause::NoPermit);
}

#[test]
fn a_cancel_ends_the_wait_for_the_first_byte_and_the_connection() {
    let (tell, told) = mpsc::channel();
    let (tell_closed, closed) = mpsc::channel();
    let server = Server::start(move |_, mut peer| {
        peer.request();
        tell.send(()).unwrap();
        peer.wait_closed();
        tell_closed.send(Instant::now()).unwrap();
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let when = cancel_when(told, &cancel);
    let result = provider.call(&outbound(&cancel, false));
    let cancelled_at = Instant::now();
    check_cancelled(result, &when);
    assert!(closed.recv().unwrap() < cancelled_at + SECOND);
    assert_eq!(provider.permits_in_use(), 0);
    // A call that is cancelled before it begins asks nobody.
    let again = provider.call(&outbound(&cancel, false));
    assert_eq!(cause(again), Cause::Cancelled(Reason::ClientGone));
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_cancel_ends_a_stream_in_the_middle() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_, mut peer| {
        peer.request();
        peer.stream_head().chunk("data: 1\n\n");
        tell.send(()).unwrap();
        peer.wait_closed();
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let mut stream = stream(provider.call(&outbound(&cancel, true)));
    let mut read = Vec::new();
    assert_eq!(stream.read(&mut read).unwrap(), 9);
    let when = cancel_when(told, &cancel);
    check_cancelled(stream.read(&mut read), &when);
    assert_eq!(
        cause(stream.read(&mut read)),
        Cause::Cancelled(Reason::ClientGone)
    );
}

#[test]
fn a_late_cancel_touches_no_other_call() {
    let server = Server::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer("{}");
        }
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    assert_eq!(text(provider.call(&outbound(&cancel, false))), "{}");
    cancel.cancel(Reason::ClientGone);
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(server.accepted(), 1);
}

/// The cause of a call, plain or streamed to its end, with one timeout made short.
fn timed_out(
    shorten: impl Fn(&mut checked::Provider, Duration),
    (streamed, body_bytes): (bool, usize),
    serve: impl Fn(Peer) + Send + Sync + 'static,
) -> Cause {
    let server = Server::start(move |_, peer| serve(peer));
    let mut config = config(server.address);
    let short = Duration::from_millis(400);
    shorten(&mut config, short);
    let provider = Provider::new(&config).unwrap();
    let started = Instant::now();
    let body = vec![b' '; body_bytes];
    let cancel = Arc::new(Cancel::new());
    let call = Outbound {
        body: [b"{}", &body, b""],
        ..outbound(&cancel, streamed)
    };
    let found = match provider.call(&call) {
        Err(error) => error.cause,
        Ok(answer) => read_all(&mut stream(Ok(answer))).1.expect("an error"),
    };
    assert!(started.elapsed() >= short);
    assert!(started.elapsed() < short * 2 + 2 * SECOND);
    found
}

#[test]
fn each_phase_has_its_timeout() {
    let timeout = |config: &mut checked::Provider, short| config.timeout = short;
    let first_token = |config: &mut checked::Provider, short| config.first_token_timeout = short;
    let idle = |config: &mut checked::Provider, short| config.idle_timeout = short;
    let silent = |mut peer: Peer| {
        peer.request();
        peer.wait_closed();
    };
    // Never reads, so that the socket's buffers fill up; holds the connection until the end.
    let deaf = |peer: Peer| {
        std::thread::park_timeout(2 * SECOND);
        drop(peer);
    };
    let comments = |mut peer: Peer| {
        peer.request();
        peer.stream_head().chunk(": thinking\n\n").wait_closed();
    };
    let half = |mut peer: Peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}")
            .wait_closed();
    };
    let one_event = |mut peer: Peer| {
        peer.request();
        peer.stream_head().chunk("data: 1\n\n").wait_closed();
    };
    let (plain, streamed) = ((false, 10), (true, 10));
    // More than any socket's buffers hold.
    let big = (false, 16 << 20);
    let check = |found, phase| assert_eq!(found, Cause::Timeout(phase));
    check(timed_out(timeout, big, deaf), Phase::Send);
    check(timed_out(timeout, plain, silent), Phase::FirstByte);
    check(timed_out(timeout, plain, half), Phase::Whole);
    check(timed_out(first_token, streamed, silent), Phase::FirstToken);
    let found = timed_out(first_token, streamed, comments);
    check(found, Phase::FirstToken);
    check(timed_out(idle, streamed, one_event), Phase::Idle);
}

/// A socket that has an address of the loopback to itself and does not listen.
fn bound() -> (std::os::fd::OwnedFd, SocketAddr) {
    let (family, kind) = (
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
    );
    let socket = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    (socket, address)
}

#[test]
fn a_connection_that_nobody_accepts_times_out_or_is_cancelled() {
    // A backlog that is full swallows further connections without a word.
    let (listener, address) = bound();
    rustix::net::listen(&listener, 0).unwrap();
    let short = Duration::from_millis(100);
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, short) {
        filling.push(stream);
    }
    let mut config = config(address);
    config.connect_timeout = short;
    let provider = Provider::new(&config).unwrap();
    let started = Instant::now();
    assert_eq!(cause(plain(&provider)), Cause::Timeout(Phase::Connect));
    assert!(started.elapsed() >= short && started.elapsed() < short + SECOND);

    config.connect_timeout = 10 * SECOND;
    let provider = Provider::new(&config).unwrap();
    let cancel = Arc::new(Cancel::new());
    let (tell, told) = mpsc::channel();
    let when = cancel_when(told, &cancel);
    tell.send(()).unwrap();
    check_cancelled(provider.call(&outbound(&cancel, false)), &when);
}

/// The cause of a call, plain or streamed to its end, that is answered with `bytes` and a close.
fn answered(bytes: &'static str, streamed: bool) -> Result<String, Cause> {
    let server = Server::start(move |_, mut peer| {
        peer.request();
        peer.send(bytes);
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let result = match provider.call(&outbound(&cancel, streamed)) {
        Err(error) => Err(error.cause),
        Ok(Answer {
            body: AnswerBody::Plain(body),
            ..
        }) => Ok(String::from_utf8(body).unwrap()),
        Ok(answer) => match read_all(&mut stream(Ok(answer))) {
            (read, None) => Ok(read),
            (_, Some(cause)) => Err(cause),
        },
    };
    assert_eq!(provider.permits_in_use(), 0);
    result
}

#[test]
fn a_cut_answer_is_never_a_whole_one() {
    let check = |bytes, streamed, expected: Result<&str, Cause>| {
        assert_eq!(
            answered(bytes, streamed),
            expected.map(str::to_owned),
            "{bytes}"
        );
    };
    check("", false, Err(Cause::Reset));
    check("HTTP/1.1 200 O", false, Err(Cause::Cut));
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}",
        false,
        Err(Cause::Cut),
    );
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        false,
        Ok("{}"),
    );
    let hinted = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    check(hinted, false, Ok("{}"));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    check(chunked, false, Err(Cause::Cut));
    // Without framing, only the JSON itself can tell.
    check("HTTP/1.0 200 OK\r\n\r\n{\"a\":[1", false, Err(Cause::Cut));
    check(
        "HTTP/1.0 200 OK\r\n\r\n{\"a\":[1]}",
        false,
        Ok("{\"a\":[1]}"),
    );
    check(
        "HTTP/1.0 502 Bad Gateway\r\n\r\n<html>",
        false,
        Ok("<html>"),
    );
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                  transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    check(events, true, Err(Cause::Cut));
    let half_chunk = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n9\r\ndata";
    check(half_chunk, true, Err(Cause::Cut));
}

#[test]
fn what_is_not_an_answer_is_malformed() {
    let check = |bytes: &'static str, words: &str| match answered(bytes, false) {
        Err(Cause::Malformed(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{bytes}: {other:?}"),
    };
    check("SSH-2.0-OpenSSH_9.9\r\n\r\n", "");
    check(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "redirect",
    );
    check(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "101",
    );
    check(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        "gzip",
    );
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        "",
    );
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(200 << 10)).into_boxed_str());
    check(endless, "64 KiB");
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 60000000000000\r\n\r\n{}";
    assert_eq!(answered(huge, false), Err(Cause::TooLarge));
}

#[test]
fn a_large_head_is_read() {
    let head: &'static str = Box::leak(
        format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\n{{}}",
            "y".repeat(50 << 10)
        )
        .into_boxed_str(),
    );
    assert_eq!(answered(head, false).as_deref(), Ok("{}"));
}

#[test]
fn an_early_answer_is_heard_though_the_body_is_not_taken() {
    let server = Server::start(|_, mut peer| {
        // Does not read the body, so closing resets the connection.
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}");
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let big = vec![b' '; 16 << 20];
    let call = Outbound {
        body: [b"{}", &big, b""],
        ..outbound(&cancel, false)
    };
    assert_eq!(provider.call(&call).unwrap().status, 413);
}

#[test]
fn nobody_there_is_a_connect_error_and_a_reset_is_one_failure() {
    // Bound and never listening: taken, and nobody there.
    let (_bound, address) = bound();
    let refused = match cause(plain(&Provider::new(&config(address)).unwrap())) {
        Cause::Connect(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused.contains("refused"), "{refused}");

    let server = Server::start(|_, mut peer| {
        peer.request();
        peer.reset();
    });
    assert_eq!(cause(plain(&provider(&server))), Cause::Reset);
    assert_eq!(
        server.accepted(),
        1,
        "a fresh connection's reset is not tried again"
    );
}

#[test]
fn no_name_and_no_trust_are_said() {
    // Answers in plain text whatever is said to it.
    let server = Server::start(|_, mut peer| peer.answer("{}").wait_closed());
    let mut config = config(server.address);
    config.base_url = format!("https://{}/v1", server.address);
    let found = cause(plain(&Provider::new(&config).unwrap()));
    assert!(matches!(found, Cause::Tls(_)), "{found:?}");
    config.base_url = "http://no-such-host.invalid/v1".to_owned();
    let found = cause(plain(&Provider::new(&config).unwrap()));
    assert!(matches!(found, Cause::Resolve(_)), "{found:?}");
}

#[test]
fn what_the_operator_wrote_is_checked_without_showing_it() {
    let check = |change: &dyn Fn(&mut checked::Provider), words: &str| {
        let mut config = config("127.0.0.1:1".parse().unwrap());
        change(&mut config);
        let why = Provider::new(&config).err().expect("an error");
        assert!(
            why.starts_with("providers.test.") && why.contains(words),
            "{why}"
        );
        assert!(!why.contains("hidden"), "{why}");
    };
    check(
        &|config| config.ca_file = Some("/nowhere/ca.pem".into()),
        "ca_file",
    );
    check(
        &|config| config.ca_file = Some("Cargo.toml".into()),
        "no certificate",
    );
    check(
        &|config| config.api_keys = vec![Secret::new("sk-hidden\n")],
        "api_key",
    );
    check(
        &|config| config.proxy = Some(Secret::new("hidden word")),
        "proxy",
    );
    check(
        &|config| config.base_url = "http://a b".to_owned(),
        "base_url",
    );
}

#[test]
fn a_quoted_key_is_masked_whatever_quotes_it() {
    let server = Server::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer(r#"{"said":"Bearer sk-hidden, sk-hidden"}"#);
        }
    });
    let provider = provider(&server);
    let said = text(plain(&provider));
    assert_eq!(said, r#"{"said":"Bearer ***, ***"}"#);
    assert_eq!(provider.mask_key(b"data: {}"), None);
    let event = provider.mask_key(b"data: sk-hidden");
    assert_eq!(event.as_deref(), Some(&b"data: ***"[..]));
    let error = provider.error(Cause::Told("bad key sk-hidden".to_owned()));
    assert!(error.to_string().ends_with("bad key ***"), "{error}");
}

#[test]
fn silence_is_the_providers_only_where_it_was_given_time() {
    let server = Server::start(|_, mut peer| {
        peer.request();
        peer.wait_closed();
    });
    let cancel = Arc::new(Cancel::new());
    let mut config = config(server.address);
    let mut check = |timeout: Duration, left: Duration, expected: &dyn Fn(&Cause) -> bool| {
        config.timeout = timeout;
        let provider = Provider::new(&config).unwrap();
        let call = Outbound {
            deadline: Instant::now() + left,
            ..outbound(&cancel, false)
        };
        let found = cause(provider.call(&call));
        assert!(expected(&found), "{found:?}");
    };
    let timed_out = |cause: &Cause| *cause == Cause::Timeout(Phase::FirstByte);
    let scant = |cause: &Cause| matches!(cause, Cause::Deadline(_));
    let short = Duration::from_millis(300);
    check(short, 20 * SECOND, &timed_out);
    check(short + short / 2, short, &timed_out);
    check(20 * SECOND, short, &scant);
}

#[test]
fn an_event_stream_that_is_none_is_malformed() {
    let server = Server::start(|_, mut peer| {
        peer.request();
        peer.answer("{}");
    });
    let provider = provider(&server);
    let asked = provider.call(&outbound(&Arc::new(Cancel::new()), true));
    assert!(matches!(cause(asked), Cause::Malformed(_)));
}
