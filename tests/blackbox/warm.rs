//! The cache over a restart, and what operators do with it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::config::{Config, Folder};
use crate::common::daemon::{Daemon, chat};
use crate::common::http::{Answer, PATIENCE, get, post, post_with};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::wait;

const CHAT: &str = "/v1/chat/completions";
const KILLS: usize = 50;

fn config(simulator: &Simulator) -> Config {
    Config::behind(simulator.addr).set(
        "cache",
        json!({"enabled": true, "warm_on_startup": true, "snapshot_interval": 0.05}),
    )
}

fn question(number: usize) -> Value {
    let mut body = chat("simo/sim");
    body["messages"][0]["content"] = format!("question {number}").into();
    body
}

fn ask(daemon: &Daemon, number: usize) -> Answer {
    daemon.post(CHAT, &question(number))
}

fn how(answer: &Answer) -> &str {
    answer.header("x-victor-cache").unwrap_or_default()
}

/// Starts the daemon again over the state that another has left in `folder`.
fn again(config: &Config, folder: Folder) -> Daemon {
    let file = folder.write("victor.yml", &config.yaml(folder.path()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command.arg("serve").arg("--config").arg(file);
    command.current_dir(folder.path());
    Daemon::run(command, folder)
}

/// Ends the daemon and gives what it leaves behind.
fn ended(daemon: Daemon, signal: Signal) -> Folder {
    let mut daemon = daemon;
    daemon.process.signal(signal);
    wait::until("its end", PATIENCE, || daemon.process.ended());
    std::mem::replace(&mut daemon.folder, Folder::new())
}

fn component(daemon: &Daemon) -> Value {
    daemon.get("/health").json()["components"]["cache.response"].clone()
}

#[test]
fn a_restart_does_not_empty_the_cache() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = config(&simulator);
    let daemon = Daemon::with(&config);
    let answers: Vec<Answer> = (0..20).map(|number| ask(&daemon, number)).collect();
    let brief = "x-victor-ttl: 1\r\n";
    let text = question(99).to_string();
    post_with(daemon.api, CHAT, brief, text.as_bytes());
    let folder = ended(daemon, Signal::TERM);
    std::thread::sleep(Duration::from_millis(1100));
    let daemon = again(&config, folder);
    for (number, first) in answers.iter().enumerate() {
        let second = ask(&daemon, number);
        assert_eq!(how(&second), "hit", "{number}");
        assert_eq!(first.body, second.body);
        let age: u64 = second
            .header("age")
            .expect("an age")
            .parse()
            .expect("seconds");
        assert!(age >= 1, "{age}");
    }
    assert_eq!(how(&ask(&daemon, 99)), "miss", "it was too old by then");
    assert_eq!(simulator.calls().len(), 22);
    let told = daemon.log().into_iter().rfind(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("cache warmed"))
    });
    assert_eq!(told.expect("said")["entries"], 20);
}

#[test]
fn an_answer_that_nobody_looked_up_is_saved_too() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = config(&simulator);
    let daemon = Daemon::with(&config);
    let old = ask(&daemon, 1);
    wait::until("a save", PATIENCE, || {
        (component(&daemon)["details"]["saved_entries"] == 1).then_some(())
    });
    let fresh = "cache-control: no-cache\r\n";
    let text = question(1).to_string();
    let new = post_with(daemon.api, CHAT, fresh, text.as_bytes());
    let asked_as = |answer: &Answer| {
        let id = answer.header("x-victor-upstream-request-id");
        id.expect("the provider's").to_owned()
    };
    assert_ne!(asked_as(&old), asked_as(&new));
    let daemon = again(&config, ended(daemon, Signal::TERM));
    let kept = ask(&daemon, 1);
    assert_eq!((how(&kept), asked_as(&kept)), ("hit", asked_as(&new)));
}

#[test]
fn what_is_saved_comes_back_when_an_operator_asks() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let cold = config(&simulator).set("cache.warm_on_startup", false);
    let daemon = Daemon::with(&cold);
    for number in 0..30 {
        ask(&daemon, number);
    }
    let daemon = again(&cold, ended(daemon, Signal::TERM));
    assert_eq!(how(&ask(&daemon, 0)), "miss");
    // What is not in memory stays saved though the cache is saved again meanwhile.
    wait::until("a save", PATIENCE, || {
        (component(&daemon)["details"]["saved_entries"] == 30).then_some(())
    });
    let warm = [
        "warm-cache",
        "--coordinator",
        "ChatCoordinator",
        "--items=1000",
        "--json",
    ];
    let warmed = daemon.admin(&warm).json();
    assert_eq!(
        (&warmed["entries"], &warmed["skipped"]),
        (&json!(29), &json!(1))
    );
    for number in 0..30 {
        assert_eq!(how(&ask(&daemon, number)), "hit", "{number}");
    }
    let stats = daemon.admin(&["cache-stats", "--json"]).json();
    let rows = stats["coordinators"].as_array().expect("rows");
    let row = rows
        .iter()
        .find(|row| row["coordinator"] == "ChatCoordinator")
        .expect("its row");
    assert_eq!(
        (&row["entries"], &row["hits"], &row["misses"]),
        (&json!(30), &json!(30), &json!(1))
    );
    daemon
        .admin(&["warm-cache", "--coordinator", "Nobody", "--items=1"])
        .failed(2, "Nobody");

    let cleared = daemon.admin(&["clear-cache", "--coordinator", "ChatCoordinator", "--json"]);
    assert_eq!(cleared.json()["entries"], 30);
    assert_eq!(how(&ask(&daemon, 1)), "miss");
    let nothing = daemon.admin(&["clear-cache", "--all", "--json"]).json();
    assert_eq!(nothing["entries"], 1);
    let daemon = again(&config(&simulator), ended(daemon, Signal::TERM));
    assert_eq!(how(&ask(&daemon, 2)), "miss", "what was cleared stays away");
    assert_eq!(component(&daemon)["status"], "healthy");
}

#[test]
fn fifty_kills_lose_no_truth() {
    let _turn = machine::heavy();
    let simulator = Simulator::start();
    let config = config(&simulator).set("cache.default_ttl", 3);
    let mut folder = Folder::new();
    let mut known: HashMap<usize, Vec<u8>> = HashMap::new();
    let (mut hits, mut warmed) = (0, 0);
    for round in 0..KILLS {
        let mut daemon = again(&config, folder);
        daemon.assert_well();
        warmed += component(&daemon)["details"]["entries"]
            .as_u64()
            .expect("a count");
        // Calls without a pause while it is saved twenty times a second, and the end at any moment.
        let until = std::time::Instant::now() + Duration::from_millis(60 + fastrand::u64(..200));
        while std::time::Instant::now() < until {
            let number = fastrand::usize(..200);
            let answer = ask(&daemon, number);
            assert_eq!(answer.status, 200, "{round}: {}", answer.text());
            match how(&answer) {
                "hit" => {
                    hits += 1;
                    let age: u64 = answer
                        .header("age")
                        .expect("an age")
                        .parse()
                        .expect("seconds");
                    assert!(age <= 3, "{round}: {age} s old");
                    if let Some(before) = known.get(&number) {
                        assert_eq!(said(&answer.body), said(before), "{round}: another answer");
                    }
                }
                _ => {
                    known.insert(number, answer.body);
                }
            }
        }
        folder = ended(daemon, Signal::KILL);
    }
    println!("{KILLS} kills: {warmed} answers came back, {hits} hits");
    assert!(warmed > KILLS as u64 && hits > KILLS, "{warmed} {hits}");
    assert!(!damaged(folder.path()));
}

/// What an answer says, which depends on its question alone.
fn said(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    body["choices"].clone()
}

/// Whether a database was set aside as damaged.
fn damaged(folder: &Path) -> bool {
    let state = std::fs::read_dir(folder.join("state")).expect("a state folder");
    state
        .flatten()
        .any(|file| file.file_name().to_string_lossy().contains("damaged"))
}

#[test]
fn evictions_and_invalidations_are_said() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = config(&simulator).set("cache.max_size_mb", 1);
    let daemon = Daemon::with(&config);
    let words = "word ".repeat(4000);
    for number in 0..60 {
        let mut body = question(number);
        body["messages"][0]["content"] = format!("{number} {words}").into();
        body["model"] = "simo/sim+pace-0x4000".into();
        assert_eq!(
            post(daemon.api, CHAT, body.to_string().as_bytes()).status,
            200
        );
    }
    daemon.admin(&["clear-cache", "--all"]);
    for words in ["cache eviction", "cache invalidation"] {
        wait::until(words, PATIENCE, || {
            daemon.log().into_iter().find(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(words))
            })
        });
    }
    let metrics = get(daemon.ops, "/metrics").text();
    assert!(metrics.contains("victor_cache_evictions_total{policy=\"lru\",reason=\"size\"}"));
}
