//! The README's first command and its curl lines, run as they are printed.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::common::config::Folder;
use crate::common::daemon::{Daemon, chat};
use crate::common::machine;

/// The README's curl lines, continuation lines joined.
fn curl_lines() -> Vec<String> {
    let readme = fs::read_to_string(machine::root().join("README.md")).expect("README.md");
    let joined = readme.replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.trim().trim_start_matches("$ ").to_owned())
        .filter(|line| line.starts_with("curl "))
        .collect()
}

fn run(daemon: &Daemon, line: &str) -> String {
    let mut line = line.to_owned();
    for host in ["localhost", "127.0.0.1"] {
        line = line
            .replace(&format!("{host}:8000"), &daemon.api.to_string())
            .replace(&format!("{host}:9090"), &daemon.ops.to_string());
    }
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {line}")])
        .output()
        .expect("bash");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {output:?}");
    assert!(!text.trim().is_empty(), "{line} printed nothing");
    assert!(!text.contains("\"error\""), "{line}: {text}");
    text
}

fn demo(command: &mut Command) -> Daemon {
    let folder = Folder::new();
    let victor = std::mem::replace(command, Command::new("true"));
    let mut victor = victor;
    victor.current_dir(folder.path());
    Daemon::run(victor, folder)
}

#[test]
fn the_demo_serves_the_curl_lines_of_the_readme() {
    let _turn = machine::light();
    let lines = curl_lines();
    assert!(lines.len() >= 3, "{lines:?}");
    // Elsewhere than on the well-known ports, which may be taken on this machine.
    let ports = Folder::new();
    let file = ports.write(
        "victor.yml",
        "server: {listen: 127.0.0.1:0}\nops: {listen: 127.0.0.1:0}\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command.args(["serve", "--demo", "--config"]).arg(file);
    let mut daemon = demo(&mut command);
    for line in &lines {
        run(&daemon, line);
    }
    let answer = daemon.post("/v1/chat/completions", &chat("sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-victor-provider"), Some("simulator"));
    assert!(daemon.get("/health/detailed").text().contains("demo"));
    assert!(daemon.process.ended().is_none());
}

/// Without any file: the ports are 8000 and 9090, the state is in `./.victor`.
#[test]
fn the_demo_needs_no_configuration() {
    let _turn = machine::heavy();
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    if !(free(8000) && free(9090)) {
        return machine::skip("demo", "port 8000 or 9090 is taken on this machine");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command
        .args(["serve", "--demo"])
        .env_remove("VICTOR_CONFIG");
    let daemon = demo(&mut command);
    assert_eq!((daemon.api.port(), daemon.ops.port()), (8000, 9090));
    for line in curl_lines() {
        run(&daemon, &line);
    }
    assert!(daemon.folder.path().join(".victor").is_dir());
}

/// Without `--demo` the simulator answers only where it is configured.
#[test]
fn without_demo_there_is_no_simulator() {
    let _turn = machine::light();
    let folder = Folder::new();
    let file = folder.write(
        "victor.yml",
        "server: {listen: 127.0.0.1:0}\nops: {listen: 127.0.0.1:0}\n\
         providers: {openai: {api_key: none, base_url: http://127.0.0.1:9/v1}}\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command.args(["serve", "--config"]).arg(file);
    command.current_dir(folder.path());
    let daemon = Daemon::run(command, folder);
    assert_eq!(
        daemon.post("/v1/chat/completions", &chat("sim")).status,
        404
    );
}
