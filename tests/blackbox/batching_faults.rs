//! Embedding calls that were merged, where something goes wrong with one or with all of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::batching::{EMBEDDINGS, alone, body, config, daemon, one, reported, together, tokens};
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::http::{Connection, request};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::wait;

#[test]
fn one_poisoned_text_fails_alone() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 32, 500, false);
    for poisoned in [0, 13, 31] {
        simulator.reset();
        let before = reported(&daemon);
        let text = |number: usize| match number == poisoned {
            true => format!("this is poison {number}"),
            false => format!("text {number} of those with {poisoned}"),
        };
        let bodies: Vec<Value> = (0..32)
            .map(|number| body("simo/sim+poison", &text(number)))
            .collect();
        let answers = together(daemon.api, bodies.clone());
        let mut sum = 0;
        for (number, (answer, body)) in std::iter::zip(&answers, &bodies).enumerate() {
            if number == poisoned {
                assert_eq!(answer.status, 400);
                assert_eq!(answer.header("x-victor-attempts"), Some("6"));
                let message = answer.json()["error"]["message"].clone();
                assert!(
                    message
                        .as_str()
                        .unwrap()
                        .starts_with("'$.input' is invalid")
                );
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["data"], alone(&simulator, body)["data"]);
            sum += tokens(&answer.json());
        }
        assert_eq!(sum, reported(&daemon) - before);
        // The lone calls of this test are the simulator's as well.
        let calls = simulator.calls().len() - 31;
        println!("one poisoned text of 32: {calls} calls to the provider");
        assert_eq!(calls, 11, "the whole, and two halves five times");
    }
}

#[test]
fn a_fault_of_the_provider_is_everybodys() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 8, 500, false);
    for (model, status, calls) in [
        ("simo/sim+status-503", 503, 1),
        ("simo/sim+status-429+retry-after-7", 429, 1),
        ("simo/sim+reset", 502, 1),
        // If all are refused, each is in the end refused by itself.
        ("simo/sim+status-400", 400, 15),
        // What is of no use to anybody is asked for once more if the provider has recovered.
        ("simo/sim+status-422-once", 200, 3),
    ] {
        simulator.reset();
        let bodies = (0..8)
            .map(|it| body(model, &format!("text {it}")))
            .collect();
        let answers = together(daemon.api, bodies);
        for answer in &answers {
            assert_eq!(answer.status, status, "{model}: {}", answer.text());
            let ids = answers
                .iter()
                .filter(|it| it.header("x-request-id") == answer.header("x-request-id"));
            assert_eq!(ids.count(), 1);
        }
        assert_eq!(simulator.calls().len(), calls, "{model}");
    }
    let scrape = Scrape::of(daemon.ops);
    let own = [("coordinator", "EmbeddingCoordinator")];
    assert_eq!(
        scrape.count("victor_coordinator_executions_total", &own),
        40
    );
}

#[test]
fn a_merged_call_goes_on_to_the_next_target() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let next = format!("http://{}/v1", simulator.addr);
    let config = config(&simulator, 4, 500, true)
        .set(
            "providers.next",
            json!({"kind": "openai", "base_url": next, "api_key": "sk-next"}),
        )
        .set(
            "models.best",
            json!([{"provider": "simo", "model": "sim+status-503"},
                   {"provider": "next", "model": "sim"}]),
        );
    let daemon = Daemon::with(&config);
    let bodies: Vec<_> = (0..4)
        .map(|it| body("best", &format!("text {it}")))
        .collect();
    for answer in together(daemon.api, bodies) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-victor-provider"), Some("next"));
        assert_eq!(answer.header("x-victor-attempts"), Some("2"));
        let line = daemon.log_of(answer.header("x-request-id").unwrap());
        assert_eq!(line["path"], "simo/sim+status-503:503 next/sim:200");
        assert_eq!(
            (&line["merged"], &line["cache"]),
            (&json!(4), &json!("miss"))
        );
    }
    assert_eq!(simulator.calls().len(), 2);
}

#[test]
fn who_leaves_leaves_alone() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 16, 600, false);
    let send = |model: &str, text: &str| send(&daemon, model, text);
    // Before the batch is sent: what nobody waits for is not asked for. The opener among them.
    let opener = send("simo/sim", "text 1");
    wait::until("a worker that waits", Duration::from_secs(5), || {
        in_flight(&daemon).eq(&1).then_some(())
    });
    let mut stays = send("simo/sim", "text 2");
    drop(opener);
    let answer = stays.answer();
    assert_eq!(
        answer.json()["data"],
        alone(&simulator, &body("simo/sim", "text 2"))["data"]
    );
    let sent: Value = serde_json::from_str(&simulator.calls()[0].body).unwrap();
    assert_eq!(sent["input"], "text 2");
    assert_eq!(daemon.log_of("text-1")["status"], 499);
    // After it was sent.
    simulator.reset();
    let model = "simo/sim+latency-1500";
    let (gone, mut stays) = (send(model, "text 3"), send(model, "text 4"));
    wait::until("the call", Duration::from_secs(5), || {
        (!simulator.calls().is_empty()).then_some(())
    });
    drop(gone);
    assert_eq!(stays.answer().status, 200);
    assert_eq!(daemon.log_of("text-3")["status"], 499);
    // Where nobody is left, the provider's call is cancelled.
    simulator.reset();
    let model = "simo/sim+latency-9000";
    let both = (send(model, "text 5"), send(model, "text 6"));
    wait::until("the call", Duration::from_secs(5), || {
        (!simulator.calls().is_empty()).then_some(())
    });
    drop(both);
    wait::until("its end", Duration::from_secs(5), || {
        simulator.calls()[0].aborted.then_some(())
    });
    for id in ["text-5", "text-6"] {
        assert_eq!(daemon.log_of(id)["status"], 499);
    }
    // And before it was sent, none is made.
    simulator.reset();
    drop((send("simo/sim", "text 7"), send("simo/sim", "text 8")));
    for id in ["text-7", "text-8"] {
        assert_eq!(daemon.log_of(id)["status"], 499);
    }
    wait::until("an idle coordinator", Duration::from_secs(5), || {
        in_flight(&daemon).eq(&0).then_some(())
    });
    assert!(simulator.calls().is_empty());
    assert_eq!(one(&daemon, &body("simo/sim", "text 9")).status, 200);
}

#[test]
fn a_drain_does_not_wait_for_more() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let mut daemon = daemon(&simulator, 16, 20_000, false);
    let mut waits = Connection::open(daemon.api);
    let body = body("simo/sim", "text").to_string();
    waits.send(&request(EMBEDDINGS, "", body.as_bytes()));
    wait::until("a worker that waits", Duration::from_secs(5), || {
        in_flight(&daemon).eq(&1).then_some(())
    });
    let started = Instant::now();
    let ended = daemon.terminate(Duration::from_secs(15));
    assert!(ended.success(), "{ended}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(waits.answer().status, 200);
}

fn in_flight(daemon: &Daemon) -> u64 {
    let own = [("coordinator", "EmbeddingCoordinator")];
    Scrape::of(daemon.ops).count("victor_coordinator_in_flight", &own)
}

/// Sends a call for one text, with its text as its id.
fn send(daemon: &Daemon, model: &str, text: &str) -> Connection {
    let mut connection = Connection::open(daemon.api);
    let header = format!("x-request-id: {}\r\n", text.replace(' ', "-"));
    let body = body(model, text).to_string();
    connection.send(&request(EMBEDDINGS, &header, body.as_bytes()));
    connection
}

#[test]
fn a_batch_is_bound_by_queue_and_deadline_like_a_call() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let config = config(&simulator, 16, 50, false)
        .set("coordinators.max_concurrent", 1)
        .set("coordinators.queue_size", 1)
        .set("coordinators.timeout_seconds", 2);
    let daemon = Daemon::with(&config);
    // One runs, and is not answered in time.
    let silent: Vec<_> = (0..3)
        .map(|it| send(&daemon, "simo/sim+silent", &format!("silent {it}")))
        .collect();
    wait::until("the call", Duration::from_secs(5), || {
        (!simulator.calls().is_empty()).then_some(())
    });
    // One waits for the worker, and others may join it.
    let waits: Vec<_> = (0..3)
        .map(|it| send(&daemon, "simo/sim+latency-1", &format!("waits {it}")))
        .collect();
    wait::until("the queue", Duration::from_secs(5), || {
        let own = [("coordinator", "EmbeddingCoordinator")];
        let depth = Scrape::of(daemon.ops).count("victor_coordinator_queue_depth", &own);
        (depth == 1).then_some(())
    });
    let refused = send(&daemon, "simo/sim+latency-2", "refused").answer();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    assert!(refused.header("retry-after").is_some());
    for mut caller in silent {
        let answer = caller.answer();
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    // They were in time, or just too late.
    for mut caller in waits {
        let answer = caller.answer();
        match answer.status {
            200 => assert_eq!(answer.header("x-victor-attempts"), Some("1")),
            status => assert_eq!(status, 504, "{}", answer.text()),
        }
    }
    assert_eq!(one(&daemon, &body("simo/sim", "after")).status, 200);
    let scrape = Scrape::of(daemon.ops);
    let own = [("coordinator", "EmbeddingCoordinator")];
    assert_eq!(scrape.count("victor_coordinator_executions_total", &own), 8);
    assert_eq!(
        (in_flight(&daemon), simulator.calls().len() <= 3),
        (0, true)
    );
}

/// A provider whose answers to several texts have one vector too few, for as many calls.
fn short_of_one(calls: usize) -> (SocketAddr, JoinHandle<Vec<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let answer_one = move || {
        let (mut stream, _) = listener.accept().expect("a call");
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        let body: Value = loop {
            let size = stream.read(&mut buffer).expect("a request");
            got.extend_from_slice(&buffer[..size]);
            let text = String::from_utf8_lossy(&got);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
            if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
                break body;
            }
        };
        let texts = body["input"].as_array().map_or(1, Vec::len);
        let count = if texts > 1 { texts - 1 } else { 1 };
        let data: Vec<Value> = (0..count)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.5]}))
            .collect();
        let body = json!({"object": "list", "data": data, "model": "m",
            "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        .to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        write!(
            stream,
            "{head}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        texts
    };
    let serve = move || (0..calls).map(|_| answer_one()).collect();
    (addr, std::thread::spawn(serve))
}

#[test]
fn an_answer_that_cannot_be_taken_apart_is_asked_for_again() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let (addr, provider) = short_of_one(7);
    let config = config(&simulator, 4, 500, false)
        .set("providers.simo.base_url", format!("http://{addr}/v1"));
    let daemon = Daemon::with(&config);
    let bodies = (0..4)
        .map(|it| body("simo/m", &format!("text {it}")))
        .collect();
    for answer in together(daemon.api, bodies) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["data"][0]["embedding"], json!([0.5]));
        assert_eq!(answer.json()["usage"]["prompt_tokens"], 3);
        assert_eq!(answer.header("x-victor-attempts"), Some("3"));
    }
    assert_eq!(provider.join().expect("ends"), [4, 2, 1, 1, 2, 1, 1]);
}
