//! The database, as far as it can be seen from outside: its file, its component of health, its
//! metrics, and that nothing about it keeps the daemon from serving.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::config::{Config, Folder};
use crate::common::daemon::Daemon;
use crate::common::exposition::Scrape;
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

fn component(daemon: &Daemon) -> Value {
    daemon.get("/health/detailed").json()["components"]["database"].clone()
}

/// Starts a daemon in a folder that may hold something already.
fn start(config: &Config, folder: Folder) -> Daemon {
    let file = folder.write("victor.yml", &config.yaml(folder.path()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command.args(["serve", "--config"]).arg(file);
    command.current_dir(folder.path());
    Daemon::run(command, folder)
}

/// The files of a folder whose names begin with `prefix`.
fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix)
    });
    paths
}

/// The first line of the log with this level that holds `part`, once it is written.
fn line(daemon: &Daemon, level: &str, part: &str) -> Value {
    wait::until(part, Duration::from_secs(5), || {
        daemon.log().into_iter().find(|line| {
            line["level"] == level && line["message"].as_str().is_some_and(|it| it.contains(part))
        })
    })
}

#[test]
fn a_fresh_daemon_has_a_healthy_database_that_only_its_owner_reads() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let database = component(&daemon);
    assert_eq!(database["status"], "healthy", "{database}");
    assert_eq!(database["name"], "database");
    assert_eq!(database["consecutive_failures"], 0);
    assert!(database["latency_ms"].is_number(), "{database}");
    for field in ["message", "last_check"] {
        assert!(database[field].is_string(), "{database}");
    }
    assert_eq!(database["details"]["responses_bytes_max"], 256 << 20);
    let summary = daemon.get("/health").json();
    assert_eq!(summary["components"]["database"]["status"], "healthy");
    let file = daemon.folder.path().join("state/victor.db");
    let mode = fs::metadata(&file).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let scrape = Scrape::of(daemon.ops);
    for (family, labels) in [
        ("victor_store_queue_depth", vec![]),
        ("victor_store_responses", vec![]),
        ("victor_store_responses_bytes", vec![]),
        ("victor_store_files_set_aside_total", vec![]),
        ("victor_store_writes_total", vec![("outcome", "ok")]),
        ("victor_store_writes_total", vec![("outcome", "failed")]),
        ("victor_store_writes_total", vec![("outcome", "dropped")]),
        ("victor_store_evictions_total", vec![("reason", "ttl")]),
        ("victor_store_evictions_total", vec![("reason", "size")]),
    ] {
        let found = scrape.sum(family, &labels);
        assert_eq!(found, Some(0.0), "{family} {labels:?}");
        let help = format!("# HELP {family} ");
        assert!(scrape.text.contains(&help), "{family}");
    }
    assert!(daemon.process.thread_names().iter().any(|it| it == "store"));
    assert!(daemon.terminate(Duration::from_secs(20)).success());
    // A close in good order leaves no journal behind.
    assert_eq!(
        files(&daemon.folder.path().join("state"), "victor.db").len(),
        1
    );
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let folder = Folder::new();
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("a folder");
    let garbage = "This was a database once. ".repeat(400);
    fs::write(state.join("victor.db"), &garbage).expect("written");
    fs::write(state.join("victor.db-wal"), "and this its journal").expect("written");
    let mut daemon = start(&Config::behind(simulator.addr), folder);
    let warning = line(&daemon, "WARN", "was set aside as");
    let database = component(&daemon);
    assert_eq!(database["status"], "healthy", "{database}");
    assert_eq!(database["details"]["files_set_aside"], 1);
    let aside = files(&state, "victor.db.damaged-");
    let is_file = |path: &&PathBuf| !path.to_string_lossy().ends_with("-wal");
    let file = aside.iter().find(is_file).expect("set aside");
    assert_eq!(fs::read_to_string(file).expect("text"), garbage);
    let message = warning["message"].as_str().expect("text");
    assert!(message.contains(&file.display().to_string()), "{message}");
    daemon.assert_well();
}

#[test]
fn a_database_that_cannot_be_opened_is_shown_and_the_daemon_serves() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let folder = Folder::new();
    // Below a file there can be no folder, whoever asks for it.
    folder.write("file", "");
    let path = folder.path().join("file/victor.db");
    let config = Config::behind(simulator.addr).set("database.path", path.to_str().expect("text"));
    let mut daemon = start(&config, folder);
    daemon.assert_well();
    line(&daemon, "WARN", "the service goes on without it");
    let database = component(&daemon);
    assert_eq!(database["status"], "unhealthy", "{database}");
    assert_eq!(database["consecutive_failures"], 1);
    let health = daemon.get("/health");
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["status"], "degraded");
    assert_eq!(daemon.get("/health/ready").status, 200);
    assert!(daemon.terminate(Duration::from_secs(20)).success());
}

#[test]
fn a_kill_costs_the_next_start_nothing() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let state = Folder::new();
    let path = state.path().to_str().expect("text");
    let config = Config::behind(simulator.addr).set("state_dir", path);
    let mut first = Daemon::with(&config);
    first.process.signal(Signal::KILL);
    first.process.end(Duration::from_secs(10));
    let mut daemon = Daemon::with(&config);
    daemon.assert_well();
    assert_eq!(component(&daemon)["status"], "healthy");
    assert!(files(state.path(), "victor.db.damaged-").is_empty());
}

#[test]
fn queries_are_logged_where_that_is_asked_for() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr);
    let daemon = Daemon::with(&config.clone().set("database.log_queries", true));
    let query = line(&daemon, "INFO", "query: CREATE TABLE responses");
    assert!(query["duration_ms"].is_number(), "{query}");
    assert_eq!(query["logger"], "victor::store::file");
    let silent = Daemon::with(&config);
    line(&silent, "INFO", "victor is ready");
    let text = fs::read_to_string(silent.log_path()).expect("a log");
    assert!(!text.contains("query: "), "{text}");
}

#[test]
fn a_key_that_is_built_is_not_warned_about() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("database.path", "other.db")
        .set("database.responses_ttl", 60)
        .set("database.responses_max_mb", 0);
    let daemon = Daemon::with(&config);
    assert!(daemon.folder.path().join("state/other.db").exists());
    assert_eq!(component(&daemon)["details"]["responses_bytes_max"], 0);
    line(&daemon, "INFO", "victor is ready");
    let text = fs::read_to_string(daemon.log_path()).expect("a log");
    assert!(!text.contains("database.path"), "{text}");
}
