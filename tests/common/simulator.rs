//! `victor simulate`: the provider behind the daemon in these tests.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::http;
use super::process::Process;

/// A running simulator.
pub struct Simulator {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Simulator {
    /// Starts one on a port that the system chooses.
    pub fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
        command.args(["simulate", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start("simulator", &mut command);
        let line = process.line("victor simulate ready ", Duration::from_secs(20));
        let addr = line
            .rsplit_once("listen=")
            .and_then(|(_, addr)| addr.trim().parse().ok())
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { process, addr }
    }

    /// What it received, oldest first, bodies included.
    pub fn log(&self) -> Vec<Value> {
        let answer = http::get(self.addr, "/_sim/log?body=1");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let log = answer.json();
        let entries = log
            .as_array()
            .or_else(|| log["requests"].as_array())
            .unwrap_or_else(|| panic!("not a log: {log}"));
        entries.clone()
    }

    /// Forgets what it received.
    pub fn reset(&self) {
        let answer = http::post(self.addr, "/_sim/reset", b"");
        assert!(answer.status < 300, "{}", answer.text());
    }
}
