//! What goes right: requests as they should be, connections used again, bounds held.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::thread::{Handle, Role, spawn};

/// Answers every request of every connection.
fn echo() -> Server {
    Server::start(|_, mut peer| {
        while peer.request().is_some() {
            peer.answer("{}");
        }
    })
}

#[test]
fn a_connection_is_used_again() {
    let server = echo();
    let provider = provider(&server);
    for _ in 0..5 {
        assert_eq!(text(plain(&provider)), "{}");
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(provider.permits_in_use(), 0);
}

#[test]
fn without_keepalive_each_call_has_its_own() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_, mut peer| {
        let request = peer.request().unwrap();
        tell.send(request.header("connection").map(str::to_owned))
            .unwrap();
        peer.answer("{}").wait_closed();
    });
    let mut config = config(server.address);
    config.keepalive = false;
    let provider = Provider::new(&config).unwrap();
    for _ in 0..2 {
        assert_eq!(text(plain(&provider)), "{}");
        assert_eq!(told.recv().unwrap().as_deref(), Some("close"));
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn the_request_is_ours_and_leaves_in_one_write() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_, mut peer| {
        while let Some(request) = peer.request() {
            tell.send(request).unwrap();
            peer.answer("{}");
        }
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let call = Outbound {
        headers: &[
            ("openai-project", "p1"),
            ("authorization", "Bearer of the caller"),
            ("content-length", "7"),
        ],
        ..outbound(&cancel, false)
    };
    for _ in 0..2 {
        assert_eq!(text(provider.call(&call)), "{}");
        let request = told.recv().unwrap();
        assert!(
            request
                .head
                .starts_with("POST /v1/chat/completions HTTP/1.1\r\n")
        );
        let host = server.address.to_string();
        let user_agent = concat!("victor/", env!("CARGO_PKG_VERSION"));
        for (name, expected) in [
            ("host", Some(host.as_str())),
            ("authorization", Some("Bearer sk-hidden")),
            ("content-type", Some("application/json")),
            ("accept", Some("application/json")),
            ("accept-encoding", Some("identity")),
            ("user-agent", Some(user_agent)),
            ("content-length", Some("13")),
            ("openai-project", Some("p1")),
            ("transfer-encoding", None),
        ] {
            assert_eq!(request.header(name), expected, "{name}");
        }
        assert_eq!(request.body, BODY.concat());
        assert!(request.in_one_read);
    }
}

#[test]
fn a_big_body_and_a_big_answer_arrive_whole() {
    let server = Server::start(|_, mut peer| {
        while let Some(request) = peer.request() {
            peer.answer(std::str::from_utf8(&request.body).unwrap());
        }
    });
    let provider = provider(&server);
    let cancel = Arc::new(Cancel::new());
    let middle: Vec<u8> = (0..5 << 20).map(|at: u32| b'a' + (at % 23) as u8).collect();
    for _ in 0..2 {
        let call = Outbound {
            body: [b"\"", &middle, b"\""],
            ..outbound(&cancel, false)
        };
        assert!(text(provider.call(&call)).as_bytes() == call.body.concat());
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn events_come_out_as_they_came_in_and_the_connection_is_used_again() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let server = Server::start(move |_, mut peer| {
        while let Some(request) = peer.request() {
            assert_eq!(request.header("accept"), Some("text/event-stream"));
            peer.stream_head().chunk("data: 1\n\n");
            may_go.lock().unwrap().recv().unwrap();
            peer.chunk("data: 2\n\n").send("0\r\n\r\n");
        }
    });
    let provider = provider(&server);
    for _ in 0..2 {
        let answer = provider.call(&outbound(&Arc::new(Cancel::new()), true));
        let mut stream = stream(answer);
        let mut first = Vec::new();
        assert_eq!(stream.read(&mut first).unwrap(), 9);
        assert_eq!(first, b"data: 1\n\n");
        assert_eq!(provider.permits_in_use(), 1);
        go.send(()).unwrap();
        assert_eq!(read_all(&mut stream), ("data: 2\n\n".to_owned(), None));
        assert_eq!(
            provider.permits_in_use(),
            0,
            "the end gives the permit back"
        );
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn connections_never_exceed_the_permits() {
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = Arc::clone(&running);
    let server = Server::start(move |_, mut peer| {
        while peer.request().is_some() {
            let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(now, Ordering::SeqCst);
            std::thread::yield_now();
            seen.0.fetch_sub(1, Ordering::SeqCst);
            peer.answer("{}");
        }
    });
    let mut config = config(server.address);
    config.max_connections = NonZeroUsize::new(2).unwrap();
    let provider = Provider::new(&config).unwrap();
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let provider = Arc::clone(&provider);
            let body = move || {
                for _ in 0..20 {
                    assert_eq!(text(plain(&provider)), "{}");
                }
                Ok(())
            };
            spawn("test-caller", Role::Worker, body).unwrap()
        })
        .collect();
    callers.into_iter().for_each(Handle::join);
    assert!(running.1.load(Ordering::SeqCst) <= 2);
    assert!(server.accepted() <= 2);
    assert_eq!(
        (provider.permits_in_use(), provider.permits_waiting()),
        (0, 0)
    );
}

#[test]
fn a_connection_closed_while_idle_is_replaced_unseen() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_, mut peer| {
        peer.request();
        peer.answer("{}");
        drop(peer);
        tell.send(()).unwrap();
    });
    let provider = provider(&server);
    for number in 1..4 {
        assert_eq!(text(plain(&provider)), "{}");
        told.recv().unwrap();
        assert_eq!(server.accepted(), number);
    }
}

#[test]
fn only_an_idle_connection_that_ends_is_tried_once_more() {
    // The first connection takes a second request and ends without a word.
    let server = Server::start(|number, mut peer| {
        peer.request();
        peer.answer("{}");
        if number == 0 {
            peer.request();
            peer.reset();
        } else {
            while peer.request().is_some() {
                peer.answer("{}");
            }
        }
    });
    let provider = provider(&server);
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(cause(plain(&provider)), Cause::Reset);
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(server.accepted(), 2);

    let server = Server::start(|number, mut peer| {
        peer.request();
        peer.answer("{}");
        peer.request();
        if number == 0 {
            peer.reset();
        } else {
            peer.answer("{}");
        }
    });
    let provider = super::provider(&server);
    assert_eq!(text(plain(&provider)), "{}");
    // The time is the matter: what carried a call just now was not closed for being idle.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_shut_down_provider_finishes_what_runs_and_takes_nothing_new() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let server = Server::start(move |_, mut peer| {
        peer.request();
        peer.stream_head().chunk("data: 1\n\n");
        may_go.lock().unwrap().recv().unwrap();
        peer.send("0\r\n\r\n").wait_closed();
    });
    let provider = provider(&server);
    let mut running = stream(provider.call(&outbound(&Arc::new(Cancel::new()), true)));
    provider.shutdown();
    assert_eq!(cause(plain(&provider)), Cause::Closed);
    go.send(()).unwrap();
    assert_eq!(read_all(&mut running), ("data: 1\n\n".to_owned(), None));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let (tell, told) = mpsc::channel();
    let proxy = Server::start(move |_, mut peer| {
        tell.send(peer.request().unwrap()).unwrap();
        peer.send("HTTP/1.1 200 OK\r\n\r\n");
        while let Some(request) = peer.request() {
            tell.send(request).unwrap();
            peer.answer("{}");
        }
    });
    let mut config = config(proxy.address);
    config.base_url = "http://provider.invalid:8080/v1".to_owned();
    config.proxy = Some(Secret::new(format!("http://user:word@{}", proxy.address)));
    let provider = Provider::new(&config).unwrap();
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(text(plain(&provider)), "{}");
    let tunnel = told.recv().unwrap();
    assert!(tunnel.head.starts_with("CONNECT provider.invalid:8080 "));
    assert!(tunnel.header("proxy-authorization").is_some());
    assert_eq!(tunnel.header("authorization"), None);
    let request = told.recv().unwrap();
    assert_eq!(request.header("host"), Some("provider.invalid:8080"));
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn headers_that_sdks_read_come_back() {
    let server = Server::start(|_, mut peer| {
        peer.request();
        peer.send(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n\
             retry-after: 2\r\nx-request-id: req_9\r\nset-cookie: a=b\r\n\
             x-ratelimit-remaining-requests: 0\r\ncontent-length: 2\r\n\r\n{}",
        );
    });
    let answer = plain(&provider(&server)).unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.upstream_request_id.as_deref(), Some("req_9"));
    let names: Vec<_> = answer
        .headers
        .iter()
        .map(|header| header.0.as_ref())
        .collect();
    assert_eq!(
        names,
        [
            "content-type",
            "retry-after",
            "x-ratelimit-remaining-requests"
        ]
    );
}

#[test]
fn the_simulator_answers_in_process() {
    let mut config = config("127.0.0.1:1".parse().unwrap());
    config.kind = Kind::Simulator;
    config.base_url = String::new();
    let provider = Provider::new(&config).unwrap();
    let cancel = Arc::new(Cancel::new());
    let messages =
        br#","max_tokens":16,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let call = |endpoint, model: &'static str, streamed| {
        provider.call(&Outbound {
            endpoint,
            body: [b"{\"model\":", model.as_bytes(), messages],
            ..outbound(&cancel, streamed)
        })
    };
    let (read, error) = read_all(&mut stream(call(
        Endpoint::ChatCompletions,
        "\"sim\"",
        true,
    )));
    assert!(read.ends_with("data: [DONE]\n\n") && error.is_none());
    let (read, error) = read_all(&mut stream(call(Endpoint::Messages, "\"sim+cut-2\"", true)));
    assert!(read.starts_with("event: message_start\n"));
    assert_eq!(error, Some(Cause::Cut));
    let reset = call(Endpoint::Messages, "\"sim+reset\"", true);
    assert_eq!(cause(reset), Cause::Reset);
    assert_eq!(
        call(Endpoint::Messages, "\"sim+status-503\"", true)
            .unwrap()
            .status,
        503
    );
    assert_eq!(provider.permits_in_use(), 0);
}

#[test]
fn every_key_is_masked_even_one_that_begins_like_another() {
    let check = |keys: &[&str], said: &str, expected: Option<&str>| {
        let mut config = config("127.0.0.1:1".parse().unwrap());
        config.api_keys = keys.iter().map(|key| Secret::new(*key)).collect();
        let masked = Provider::new(&config).unwrap().mask_key(said.as_bytes());
        assert_eq!(masked.as_deref(), expected.map(str::as_bytes), "{said}");
    };
    let keys = ["sk-hidden", "sk-hidden-too", "other-secret", "short"];
    check(&keys, "a sk-hidden-too b", Some("a *** b"));
    check(&keys, "sk-hidden sk-hidden-too.", Some("*** ***."));
    check(&keys, "other-secret,sk-hidden", Some("***,***"));
    check(&keys, "other-secret", Some("***"));
    check(&keys, "short and sk-hidde", None);
    check(&[], "sk-hidden", None);
}

#[test]
fn a_restart_opens_new_connections_and_ends_no_call() {
    let server = echo();
    let provider = provider(&server);
    assert_eq!(text(plain(&provider)), "{}");
    let breaker = provider.governor().breaker("gpt-test");
    let restarted = provider.restart();
    assert_eq!(
        (restarted.connections_closed, restarted.connections_in_use),
        (1, 0)
    );
    assert_eq!(text(plain(&provider)), "{}");
    assert_eq!(server.accepted(), 2, "the old connection was used again");
    assert!(breaker.peek(Instant::now()));
}
