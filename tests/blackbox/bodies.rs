//! Hostile bodies and hostile readers: well-framed calls that are meant to hurt, and clients that
//! take nothing. The process lives and answers after each, its memory back near where it was.

use std::time::Duration;

use serde_json::json;

use crate::common::daemon::{Daemon, chat, chat_stream};
use crate::common::http::{Answer, Connection, request};
use crate::common::wait;
use crate::hostile::check;

/// Sends a body to both dialects; gives the statuses.
fn post_raw(daemon: &Daemon, body: &[u8]) -> Vec<Answer> {
    ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"]
        .map(|path| {
            let mut connection = Connection::open(daemon.api);
            connection.send(&request(path, "", body));
            connection.answer()
        })
        .into()
}

#[test]
fn broken_json_is_refused_with_a_reason() {
    check(
        |config| config,
        |daemon, simulator| {
            simulator.reset();
            for body in [
                "",
                "{",
                "nonsense",
                "null",
                "[]",
                "42",
                r#"{"model":"#,
                r#"{"model":"simo/sim","messages":[]"#,
                r#"{"model":"simo/sim","messages":[]}}"#,
                r#"{"model":"simo/sim" "messages":[]}"#,
                r#"{"model":42,"messages":[]}"#,
                r#"{"model":null,"messages":[]}"#,
                r#"{"messages":[]}"#,
                r#"{"model":"simo/sim","stream":"yes","messages":[]}"#,
                "{\"model\":\"simo/sim\",\"messages\":[{\"role\":\"user\",\"content\":\"a\nb\"}]}",
                r#"{"model":"simo/sim","messages":[{"content":"\ud800"}],"x":"\q"}"#,
            ] {
                for answer in post_raw(daemon, body.as_bytes()) {
                    assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
                    let message = answer.json()["error"]["message"].clone();
                    assert!(
                        message.as_str().is_some_and(|text| text.len() > 10),
                        "{message}"
                    );
                }
            }
            assert!(simulator.calls().is_empty(), "a provider was asked");
        },
    );
}

#[test]
fn json_nested_ten_thousand_deep() {
    check(
        |config| config,
        |daemon, _| {
            let deep = |open: &str, close: &str| {
                format!("{}1{}", open.repeat(10_000), close.repeat(10_000))
            };
            for answer in post_raw(daemon, deep("[", "]").as_bytes()) {
                assert_eq!(answer.status, 400, "{}", answer.text());
            }
            for inner in [deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(10_000)] {
                let body = format!(
                    r#"{{"x":{inner},"model":"simo/sim","messages":[{{"role":"user","content":"a"}}]}}"#
                );
                for answer in post_raw(daemon, body.as_bytes()) {
                    // What victor need not look at is the provider's business.
                    assert!(answer.status < 500, "{}: {}", answer.status, answer.text());
                }
            }
        },
    );
}

#[test]
fn invalid_utf8_is_refused() {
    check(
        |config| config,
        |daemon, _| {
            for broken in [
                &b"\xff"[..],
                b"\xc3",
                b"\xc0\xaf",
                b"\xed\xa0\x80",
                b"\xf8\x88",
            ] {
                let mut body =
                    br#"{"model":"simo/sim","messages":[{"role":"user","content":""#.to_vec();
                body.extend_from_slice(broken);
                body.extend_from_slice(br#""}]}"#);
                for answer in post_raw(daemon, &body) {
                    assert_eq!(answer.status, 400, "{broken:?}: {}", answer.text());
                }
                let mut body = br#"{"model":"simo/sim"#.to_vec();
                body.extend_from_slice(broken);
                body.extend_from_slice(br#"","messages":[]}"#);
                for answer in post_raw(daemon, &body) {
                    assert_eq!(answer.status, 400, "{broken:?}: {}", answer.text());
                }
            }
        },
    );
}

#[test]
fn a_prompt_of_thirty_megabytes_passes() {
    check(
        |config| config,
        |daemon, simulator| {
            for _ in 0..3 {
                let body = json!({
                    "model": "simo/sim",
                    "messages": [{"role": "user", "content": "word ".repeat(6_000_000)}],
                });
                let answer = daemon.post("/v1/chat/completions", &body);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            simulator.reset();
        },
    );
}

/// Calls of a coordinator whose ten workers all serve clients that never read.
fn never_read(body: serde_json::Value) {
    check(
        |config| {
            config
                .set("coordinators.max_concurrent", 10)
                .providers("max_connections", 20)
        },
        |daemon, simulator| {
            simulator.reset();
            let bytes = request("/v1/chat/completions", "", body.to_string().as_bytes());
            let silent: Vec<Connection> = (0..10)
                .map(|_| {
                    let mut connection = Connection::open(daemon.api);
                    connection.send(&bytes);
                    connection
                })
                .collect();
            wait::until("ten calls at the provider", Duration::from_secs(10), || {
                (simulator.calls().len() >= 10).then_some(())
            });
            // The workers are done with them although not a byte was read.
            wait::until("ten free workers", Duration::from_secs(10), || {
                let health = daemon.get("/health").json();
                (health["in_flight"] == 0).then_some(())
            });
            let mut connection = Connection::open(daemon.api);
            connection.send(&request(
                "/v1/chat/completions",
                "",
                chat("simo/sim").to_string().as_bytes(),
            ));
            connection.within(Duration::from_secs(1));
            let answer = connection
                .try_answer()
                .expect("the eleventh is served at once");
            assert_eq!(answer.status, 200, "{}", answer.text());
            drop(silent);
        },
    );
}

#[test]
fn ten_clients_that_never_read_their_stream_hold_no_worker() {
    never_read(chat_stream("simo/sim+pace-0x20000"));
}

#[test]
fn ten_clients_that_never_read_their_answer_hold_no_worker() {
    never_read(chat("simo/sim+pace-0x20000"));
}
