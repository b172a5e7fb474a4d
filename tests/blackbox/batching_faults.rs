//! Embedding calls that were merged, where something goes wrong with one or with all of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::batching::{EMBEDDINGS, alone, body, daemon, one, reported, together, tokens};
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
fn who_leaves_leaves_alone() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let daemon = daemon(&simulator, 16, 600, false);
    let send = |model: &str, text: &str| {
        let mut connection = Connection::open(daemon.api);
        let header = format!("x-request-id: {}\r\n", text.replace(' ', "-"));
        let body = body(model, text).to_string();
        connection.send(&request(EMBEDDINGS, &header, body.as_bytes()));
        connection
    };
    // Before the batch is sent: what nobody waits for is not asked for. The opener among them.
    let opener = send("simo/sim", "text 1");
    let mut stays = send("simo/sim", "text 2");
    std::thread::sleep(Duration::from_millis(100));
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
    std::thread::sleep(Duration::from_millis(700));
    assert!(simulator.calls().is_empty());
    assert_eq!(one(&daemon, &body("simo/sim", "text 9")).status, 200);
}

#[test]
fn a_full_queue_refuses_and_a_drain_does_not_wait_for_more() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let mut daemon = daemon(&simulator, 16, 20_000, false);
    let mut waits = Connection::open(daemon.api);
    let body = body("simo/sim", "text").to_string();
    waits.send(&request(EMBEDDINGS, "", body.as_bytes()));
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    let ended = daemon.terminate(Duration::from_secs(15));
    assert!(ended.success(), "{ended}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(waits.answer().status, 200);
}
