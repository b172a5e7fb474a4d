//! `victor admin`: each verb against a running daemon, its exit codes, and what it prints.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::common::admin::{self, Ran};
use crate::common::config::{ANTHROPIC_KEY, Config, Folder, OPENAI_KEY};
use crate::common::daemon::{Daemon, chat, chat_stream};
use crate::common::simulator::Simulator;
use crate::common::sse::{Stream, is_end};
use crate::common::{machine, wait};

#[test]
fn the_daemon_says_what_it_is_and_how_it_is() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let version = daemon.admin(&["--json", "version"]).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["pid"], daemon.process.pid());
    assert_eq!(version["protocol"], 1);
    let human = daemon.admin(&["version"]);
    assert_eq!(human.stdout.lines().count(), 2, "{human:?}");
    daemon.assert_well();
    // The flag is taken behind the verb too.
    let status = daemon.admin(&["status", "--json"]).json();
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["coordinators"][0]["executions"], 1);
    assert!(status["components"]["provider.simo"]["status"].is_string());
    let human = daemon.admin(&["status"]);
    assert!(human.stdout.contains("ChatCoordinator"), "{human:?}");
    assert_eq!((human.code, human.stderr.as_str()), (0, ""));
    // What is asked for is logged, with who asked.
    wait::until("the log line", Duration::from_secs(5), || {
        let line = |line: &serde_json::Value| line["message"] == "admin version: ok";
        daemon.log().into_iter().find(line)
    });
}

#[test]
fn the_thread_dump_is_where_it_says() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let dump = daemon.admin(&["thread-dump"]);
    let text = fs::read_to_string(dump.stdout.trim_end()).expect("the path that it printed");
    for name in ["admin", "front-api-0", "chat-0"] {
        assert!(text.contains(name), "no {name} in\n{text}");
    }
}

#[test]
fn the_configuration_in_force_is_shown_without_secrets_and_can_be_set_in_part() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr).set(
        "models",
        json!({"fast-1.5": [{"provider": "simo", "model": "sim"}]}),
    ));
    let all = daemon.admin(&["config", "list"]);
    assert!(
        all.stdout.contains("server.max_connections = 10000\n"),
        "{all:?}"
    );
    assert!(
        all.stdout.contains("providers.simo.api_key = ***\n"),
        "{all:?}"
    );
    for secret in [OPENAI_KEY, ANTHROPIC_KEY] {
        assert!(!all.stdout.contains(secret), "a secret is shown");
    }
    assert_eq!(
        daemon.admin(&["config", "get", "logging.level"]).stdout,
        "info\n"
    );
    let section = daemon.admin(&["config", "get", "models.fast-1.5.targets", "--json"]);
    assert_eq!(section.json()["value"][0]["provider"], "simo");
    daemon
        .admin(&["config", "get", "server.max_conections"])
        .failed(2, "server.max_connections");

    let key = "database.log_queries";
    assert_eq!(daemon.admin(&["config", "get", key]).stdout, "false\n");
    let set = daemon.admin(&["config", "set", "database.log_queries=true"]);
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(daemon.admin(&["config", "get", key]).stdout, "true\n");
    daemon
        .admin(&["config", "set", "database.log_queries=yes"])
        .failed(2, "true or false");
    daemon
        .admin(&["config", "set", "logging.level=debug"])
        .failed(2, "restart");
    daemon
        .admin(&["config", "set", "logging.levle=debug"])
        .failed(2, "logging.level");
    daemon
        .admin(&["config", "set", "logging.level"])
        .failed(2, "KEY=VALUE");
}

#[test]
fn a_configuration_is_checked_without_a_daemon_and_nothing_is_changed() {
    let _turn = machine::light();
    let folder = Folder::new();
    let good = format!("state_dir: {}/made\n", folder.path().display());
    folder.write("good.yml", &good);
    folder.write(
        "bad.yml",
        &format!("{good}servr: 1\nops: {{listen: nowhere}}\n"),
    );
    let check = |args: &[&str]| {
        let mut all = vec!["validate-config"];
        all.extend(args);
        admin::run(folder.path(), &all)
    };
    let valid = check(&["--config", "good.yml"]);
    assert_eq!(
        (valid.code, valid.stdout.as_str()),
        (0, "good.yml is valid\n"),
        "{valid:?}"
    );
    assert_eq!(
        check(&["--config", "good.yml", "--json"]).json()["valid"],
        true
    );
    let bad = check(&["--config", "bad.yml"]);
    bad.failed(1, "bad.yml:2:1: servr: ");
    bad.failed(1, "bad.yml:3:7: ops.listen: ");
    let json = check(&["--config", "bad.yml", "--json"]);
    assert_eq!(json.code, 1);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (&json["valid"], json["faults"].as_array().map(Vec::len)),
        (&json!(false), Some(2))
    );
    assert_eq!(
        (&json["faults"][0]["line"], &json["faults"][0]["suggestion"]),
        (&json!(2), &json!("`server`"))
    );
    check(&["--config", "none.yml"]).failed(1, "none.yml:1:1: cannot be read");
    assert!(
        !folder.path().join("made").exists(),
        "the state folder was made"
    );
}

#[test]
fn what_cannot_be_meant_is_usage() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    daemon.admin(&["statsu"]).failed(2, "status");
    daemon.admin(&[]).failed(2, "Usage");
    daemon.admin(&["restart-provider"]).failed(2, "--provider");
    daemon.admin(&["clear-cache"]).failed(2, "--all");
    daemon
        .admin(&["clear-cache", "--all", "--coordinator", "x"])
        .failed(2, "cannot be used with");
    let help = daemon.admin(&["--help"]);
    assert_eq!(help.code, 0);
    for verb in [
        "version",
        "status",
        "drain",
        "thread-dump",
        "config",
        "validate-config",
        "restart-provider",
        "cache-stats",
        "clear-cache",
        "warm-cache",
    ] {
        let line = help
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(verb));
        let words = line.map(|line| line.split_whitespace().count());
        assert!(
            words.is_some_and(|count| count > 3),
            "{verb} in {}",
            help.stdout
        );
    }
}

#[test]
fn a_cache_that_is_not_there_says_so() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for args in [
        &["cache-stats"][..],
        &["clear-cache", "--all"],
        &["clear-cache", "--coordinator", "ChatCoordinator"],
        &[
            "warm-cache",
            "--coordinator",
            "ChatCoordinator",
            "--items=10",
        ],
    ] {
        daemon.admin(args).failed(1, "cache.enabled is false");
    }
    let json = daemon.admin(&["cache-stats", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (json.code, &error["error"]["code"]),
        (1, &json!("unavailable"))
    );
}

#[test]
fn a_drain_through_admin_loses_no_stream_and_bears_a_term_beside_it() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let body = chat_stream("simo/sim+pace-50x60");
    let mut stream = Stream::open(daemon.api, "/v1/chat/completions", &body);
    assert!(stream.next_event().is_ok());
    let drain = daemon.admin(&["drain", "--json"]).json();
    assert_eq!(
        (&drain["already_draining"], &drain["in_flight"]),
        (&json!(false), &json!(1))
    );
    wait::until("the drain", Duration::from_secs(5), || {
        (daemon.get("/health/ready").status == 503).then_some(())
    });
    let refused = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    assert_eq!(refused.status, 503, "{}", refused.text());
    // It still answers, and is not asked twice.
    assert_eq!(
        daemon.admin(&["status", "--json"]).json()["phase"],
        "draining"
    );
    assert_eq!(
        daemon.admin(&["drain", "--json"]).json()["already_draining"],
        true
    );
    // What stops the service sends its one TERM all the same; that is no second one.
    daemon.process.signal(Signal::TERM);
    let rest = stream.events().expect("it was lost");
    assert!(rest.last().is_some_and(is_end), "the stream was cut");
    let status = daemon.process.end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        !daemon.folder.path().join("admin.sock").exists(),
        "the socket is still there"
    );
}

#[test]
fn an_idle_daemon_ends_by_drain_and_its_answer_comes() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    for _ in 0..5 {
        let mut daemon = Daemon::start(&simulator);
        let drain = daemon.admin(&["drain"]);
        assert_eq!(drain.code, 0, "{drain:?}");
        let status = daemon.process.end(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn a_restart_of_a_provider_under_load_loses_no_call() {
    const CALLERS: usize = 8;
    const CALLS: usize = 40;
    let _turn = machine::light();
    let simulator = Simulator::start();
    // Fewer connections than callers, so that some always wait for a permit.
    let config = Config::behind(simulator.addr)
        .one_attempt()
        .providers("max_connections", 4);
    let daemon = Daemon::with(&config);
    let done = AtomicBool::new(false);
    let restarts: Vec<Ran> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let daemon = &daemon;
                scope.spawn(move || {
                    for _ in 0..CALLS {
                        let body = chat(if number % 2 == 0 {
                            "simo/sim"
                        } else {
                            "simo/sim+latency-5"
                        });
                        let answer = daemon.post("/v1/chat/completions", &body);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                })
            })
            .collect();
        let restarter = scope.spawn(|| {
            let mut restarts = Vec::new();
            while !done.load(Ordering::Relaxed) {
                restarts.push(daemon.admin(&["restart-provider", "--provider", "simo", "--json"]));
            }
            restarts
        });
        let ends: Vec<_> = callers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "a call was lost");
        restarter.join().expect("each restart answers")
    });
    let replaced: u64 = restarts
        .iter()
        .map(|ran| {
            let result = ran.json();
            let count = |key: &str| result[key].as_u64().expect("a count");
            count("connections_closed") + count("connections_in_use")
        })
        .sum();
    assert!(
        replaced > 0,
        "{} restarts met no connection",
        restarts.len()
    );
    daemon
        .admin(&["restart-provider", "--provider", "sino"])
        .failed(2, "simo");
}

#[test]
fn a_restart_closes_a_breaker() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("coordinators.retry", json!({"max_attempts": 1}))
        .providers(
            "breaker",
            json!({"failures": 2, "window": 30, "open_for": 600}),
        );
    let daemon = Daemon::with(&config);
    let ask = || daemon.post("/v1/chat/completions", &chat("simo/sim+flap-60"));
    for _ in 0..3 {
        assert_ne!(ask().status, 200);
    }
    let asked = simulator.calls().len();
    assert_eq!(asked, 2, "the breaker is open");
    let restart = daemon.admin(&["restart-provider", "--provider", "simo", "--json"]);
    assert_eq!(restart.json()["breakers_closed"], 1);
    ask();
    assert_eq!(simulator.calls().len(), 3, "it is asked again");
    let human = daemon.admin(&["restart-provider", "--provider", "simo"]);
    assert!(human.stdout.contains("usable again"), "{human:?}");
}
