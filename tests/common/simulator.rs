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

/// One request that the simulator received.
#[derive(Clone, Debug)]
pub struct Call {
    /// Without the query.
    pub path: String,
    /// Names in lower case; of a secret value only the last four characters are there.
    pub headers: Vec<(String, String)>,
    /// The model that was asked for; empty if it could not be read.
    pub model: String,
    /// As it came, up to 64 KiB.
    pub body: String,
    /// When it arrived, counted from the simulator's start.
    pub at: Duration,
    /// What it was answered; `None` without a head, or before it.
    pub status: Option<u16>,
    /// Whether the caller's connection ended before the answer did.
    pub aborted: bool,
}

impl Call {
    /// The value of a header, the first if there are more.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn read(entry: &Value) -> Self {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let headers = entry["headers"]
            .as_object()
            .unwrap_or_else(|| panic!("no headers: {entry}"));
        Self {
            path: text("path"),
            model: text("model"),
            at: Duration::from_secs_f64(entry["at_ms"].as_f64().unwrap_or_default() / 1000.0),
            status: entry["status"]
                .as_u64()
                .and_then(|status| status.try_into().ok()),
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            body: text("body"),
            aborted: entry["end"] == "client_gone",
        }
    }
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

    /// What it received, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        let answer = http::get(self.addr, "/_sim/log?body=1");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let log = answer.json();
        let entries = log.as_array().unwrap_or_else(|| panic!("not a log: {log}"));
        entries.iter().map(Call::read).collect()
    }

    /// Forgets what it received.
    pub fn reset(&self) {
        let answer = http::post(self.addr, "/_sim/reset", b"");
        assert!(answer.status < 300, "{}", answer.text());
    }
}
