//! Embedding calls of one text each: few calls to the provider, and each caller's own vector.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::http::{Answer, Connection, post_with, request};
use crate::common::machine;
use crate::common::simulator::Simulator;

/// The route of all calls here.
pub const EMBEDDINGS: &str = "/v1/embeddings";
const CALLERS: usize = 32;
const EACH: usize = 100;

/// A daemon that merges up to `size` calls for `simo`, each attempted once.
pub fn daemon(simulator: &Simulator, size: usize, timeout_ms: u64, is_cached: bool) -> Daemon {
    Daemon::with(&config(simulator, size, timeout_ms, is_cached))
}

/// The configuration of such a daemon.
pub fn config(simulator: &Simulator, size: usize, timeout_ms: u64, is_cached: bool) -> Config {
    Config::behind(simulator.addr)
        .set("cache", json!({"enabled": is_cached}))
        .set("providers.simo.enable_batching", true)
        .set("providers.simo.batch_size", size)
        .set("providers.simo.batch_timeout_ms", timeout_ms)
        .set("providers.simo.max_connections", 32)
        .set("coordinators.max_concurrent", 64)
        .set("coordinators.queue_size", 1000)
        .one_attempt()
}

/// The body of a call for one text.
pub fn body(model: &str, text: &str) -> Value {
    json!({"model": model, "input": text, "dimensions": 8})
}

/// One call on its own.
pub fn one(daemon: &Daemon, body: &Value) -> Answer {
    daemon.post(EMBEDDINGS, body)
}

/// What the simulator answers to `body` without a daemon in between.
pub fn alone(simulator: &Simulator, body: &Value) -> Value {
    let mut body = body.clone();
    let model = body["model"].as_str().unwrap().replace("simo/", "");
    body["model"] = model.into();
    let answer = post_with(simulator.addr, EMBEDDINGS, "", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// All of `bodies` at the same time, each on a connection of its own, in order.
pub fn together(addr: SocketAddr, bodies: Vec<Value>) -> Vec<Answer> {
    let barrier = Arc::new(Barrier::new(bodies.len()));
    let callers: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                let mut connection = Connection::open(addr);
                barrier.wait();
                connection.send(&request(EMBEDDINGS, "", body.to_string().as_bytes()));
                connection.answer()
            })
        })
        .collect();
    let answers = callers.into_iter().map(|it| it.join().expect("answered"));
    answers.collect()
}

/// Input tokens that the provider has reported.
pub fn reported(daemon: &Daemon) -> u64 {
    let labels = [("provider", "simo"), ("type", "input")];
    Scrape::of(daemon.ops).count("victor_provider_tokens_total", &labels)
}

/// What an answer says it cost.
pub fn tokens(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens"].as_u64().expect("a count")
}

/// Callers in a row of calls each, all for different texts; the answers by their texts.
fn many(addr: SocketAddr, name: &str) -> BTreeMap<String, Value> {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let name = name.to_owned();
            std::thread::spawn(move || {
                let mut connection = Connection::open(addr);
                let call = |number: usize| {
                    let words = "word ".repeat(number % 7);
                    let text = format!("{name} {caller} {number} {words}");
                    let id = format!("{caller}-{number}");
                    let header = format!("x-request-id: {id}\r\n");
                    let body = body("simo/sim+latency-5", &text).to_string();
                    connection.send(&request(EMBEDDINGS, &header, body.as_bytes()));
                    let answer = connection.answer();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
                    assert_eq!(answer.header("x-victor-provider"), Some("simo"));
                    assert_eq!(answer.header("x-victor-attempts"), Some("1"));
                    (text, answer.json())
                };
                (0..EACH).map(call).collect::<Vec<_>>()
            })
        })
        .collect();
    let answers = callers.into_iter().flat_map(|it| it.join().expect("ends"));
    answers.collect()
}

#[test]
fn thirty_two_callers_of_a_hundred_texts_are_few_calls_to_the_provider() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    for (size, is_cached) in [(10, false), (32, false), (32, true)] {
        let daemon = daemon(&simulator, size, 20, is_cached);
        simulator.reset();
        let started = Instant::now();
        let answers = many(daemon.api, &format!("size {size}"));
        let took = started.elapsed();
        assert_eq!(answers.len(), CALLERS * EACH);
        let calls = simulator.calls().len();
        println!(
            "batch_size {size}, cache {is_cached}: {} calls were {calls} to the provider, in {took:.2?}",
            answers.len()
        );
        assert!(calls * 3 <= answers.len(), "{calls}");
        assert!(calls * size >= answers.len(), "{calls}");
        let sum: u64 = answers.values().map(tokens).sum();
        assert_eq!(sum, reported(&daemon));
        for (text, answer) in answers.iter().step_by(7) {
            let lone = alone(&simulator, &body("simo/sim", text));
            assert_eq!(answer["data"], lone["data"], "{text}");
            assert_eq!(
                answer["usage"],
                json!({"prompt_tokens": tokens(answer), "total_tokens": tokens(answer)})
            );
        }
        let scrape = Scrape::of(daemon.ops);
        let own = [("provider", "simo")];
        let count = |name: &str| scrape.count(name, &own);
        assert_eq!(count("victor_provider_batches_total"), calls as u64);
        assert_eq!(
            count("victor_provider_batched_calls_total"),
            answers.len() as u64
        );
        assert_eq!(
            scrape.count(
                "victor_coordinator_executions_total",
                &[("coordinator", "EmbeddingCoordinator")]
            ),
            answers.len() as u64
        );
        assert!(daemon.log_of("3-33")["merged"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn a_lone_call_passes_unchanged_and_waits_no_longer_than_its_batch() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 10, 300, false);
    let call = json!({"model": "simo/sim", "input": ["héllo"], "dimensions": 8, "user": "u"});
    let started = Instant::now();
    let answer = one(&daemon, &call);
    let took = started.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    println!("a lone call took {took:.0?} with batch_timeout_ms 300");
    assert!(
        took >= Duration::from_millis(290) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(answer.json()["data"], alone(&simulator, &call)["data"]);
    let sent: Value = serde_json::from_str(&simulator.calls()[0].body).unwrap();
    assert_eq!(
        (&sent["input"], &sent["user"]),
        (&call["input"], &call["user"])
    );
    // A list of several texts waits for nobody.
    let list = json!({"model": "simo/sim", "input": ["a", "b"], "dimensions": 8});
    let started = Instant::now();
    assert_eq!(
        one(&daemon, &list).json()["data"].as_array().unwrap().len(),
        2
    );
    assert!(started.elapsed() < Duration::from_millis(290));
}

/// Long enough for its parts to be made on several threads.
#[test]
fn a_long_answer_is_taken_apart() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 32, 1000, true);
    let bodies: Vec<Value> = (0..32)
        .map(|it| json!({"model": "simo/sim", "input": format!("text {it}"), "dimensions": 4096}))
        .collect();
    let answers = together(daemon.api, bodies.clone());
    assert_eq!(simulator.calls().len(), 1);
    for (answer, body) in std::iter::zip(&answers, &bodies) {
        assert_eq!(answer.json()["data"], alone(&simulator, body)["data"]);
    }
    let sum: u64 = answers.iter().map(|it| tokens(&it.json())).sum();
    assert_eq!(sum, reported(&daemon));
}

#[test]
fn only_calls_that_differ_in_the_text_alone_are_merged() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 8, 500, false);
    let mut bodies: Vec<Value> = (0..4)
        .map(|it| body("simo/sim", &format!("text {it}")))
        .collect();
    let with = |key: &str, value: Value| {
        let bodies = (0..4).map(move |it| {
            let mut body = body("simo/sim", &format!("text {it}"));
            body[key] = value.clone();
            body
        });
        bodies.collect::<Vec<_>>()
    };
    bodies.extend(with("encoding_format", "base64".into()));
    bodies.extend(with("dimensions", 16.into()));
    let answers = together(daemon.api, bodies.clone());
    for (answer, body) in std::iter::zip(&answers, &bodies) {
        assert_eq!(answer.json()["data"], alone(&simulator, body)["data"]);
    }
    assert!(answers[4].json()["data"][0]["embedding"].is_string());
    let sent = |call: &crate::common::simulator::Call| {
        let body: Value = serde_json::from_str(&call.body).unwrap();
        body["input"].as_array().map_or(0, Vec::len)
    };
    let merged = simulator.calls().iter().filter(|it| sent(it) == 4).count();
    assert_eq!(merged, 3);
    // Headers that the provider is given are alike within a batch.
    simulator.reset();
    let callers: Vec<_> = (0..6)
        .map(|number| {
            let addr = daemon.api;
            let header = format!("openai-project: p{}\r\n", number % 2);
            let body = body("simo/sim", &format!("other {number}")).to_string();
            std::thread::spawn(move || post_with(addr, EMBEDDINGS, &header, body.as_bytes()).status)
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), 200);
    }
    let mut projects: Vec<_> = simulator
        .calls()
        .iter()
        .map(|it| {
            (
                it.header("openai-project").unwrap_or_default().to_owned(),
                sent(it),
            )
        })
        .collect();
    projects.sort();
    assert_eq!(projects, [("p0".to_owned(), 3), ("p1".to_owned(), 3)]);
}

#[test]
fn equal_texts_are_asked_for_once_and_kept() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 64, 400, true);
    let bodies: Vec<Value> = (0..24)
        .map(|it| body("simo/sim", &format!("text {}", it % 4)))
        .collect();
    let answers = together(daemon.api, bodies.clone());
    let calls = simulator.calls();
    assert_eq!(calls.len(), 1);
    let sent: Value = serde_json::from_str(&calls[0].body).unwrap();
    assert_eq!(sent["input"].as_array().unwrap().len(), 4);
    let how = |answers: &[Answer], how: &str| {
        let met = answers
            .iter()
            .filter(|it| it.header("x-victor-cache") == Some(how));
        met.count()
    };
    assert_eq!((how(&answers, "miss"), how(&answers, "coalesced")), (4, 20));
    for (answer, body) in std::iter::zip(&answers, &bodies) {
        assert_eq!(answer.json()["data"], alone(&simulator, body)["data"]);
    }
    simulator.reset();
    let again = together(daemon.api, bodies);
    assert_eq!((how(&again, "hit"), simulator.calls().len()), (24, 0));
    for (one, other) in std::iter::zip(&answers, &again) {
        assert_eq!(one.body, other.body);
    }
}
