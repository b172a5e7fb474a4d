//! `victor serve` as the tests start it: a configuration in a fresh folder, ports chosen by the
//! system, and the line on stdout that says it is ready.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::config::{Config, Folder};
use super::process::Process;
use super::simulator::Simulator;
use super::{http, wait};

/// A running daemon with a folder of its own.
pub struct Daemon {
    /// The process.
    pub process: Process,
    /// The API plane.
    pub api: SocketAddr,
    /// The ops plane.
    pub ops: SocketAddr,
    /// Where its configuration, log and state are.
    pub folder: Folder,
}

impl Daemon {
    /// Starts one in front of `simulator`.
    pub fn start(simulator: &Simulator) -> Self {
        Self::with(&Config::behind(simulator.addr))
    }

    /// Starts one with a configuration.
    pub fn with(config: &Config) -> Self {
        Self::wrapped::<&str>(&[], config)
    }

    /// Starts one through another program, such as `prlimit`, that ends in an exec.
    pub fn wrapped<S: AsRef<OsStr>>(wrapper: &[S], config: &Config) -> Self {
        let folder = Folder::new();
        let file = folder.write("victor.yml", &config.yaml(folder.path()));
        let victor = OsStr::new(env!("CARGO_BIN_EXE_victor"));
        let mut words = wrapper.iter().map(AsRef::as_ref).chain([victor]);
        let mut command = Command::new(words.next().expect("at least victor"));
        command.args(words).arg("serve").arg("--config").arg(file);
        command.current_dir(folder.path());
        Self::run(command, folder)
    }

    /// Starts one from a command that is ready to run.
    pub fn run(mut command: Command, folder: Folder) -> Self {
        let mut process = Process::start("victor", &mut command);
        let line = process.line("victor ready ", Duration::from_secs(20));
        let addr = |key: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.parse().ok())
                .unwrap_or_else(|| panic!("no {key} in {line:?}"))
        };
        let (api, ops) = (addr("api="), addr("ops="));
        Self {
            process,
            api,
            ops,
            folder,
        }
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("victor.log")
    }

    /// The lines of its log that are whole, each as JSON.
    ///
    /// # Panics
    /// When a line is not a JSON object.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| match serde_json::from_str(line) {
                Ok(value @ Value::Object(_)) => value,
                _ => panic!("not a JSON object: {line:?}"),
            })
            .collect()
    }

    /// The log line of a call, once it is written.
    pub fn log_of(&self, request_id: &str) -> Value {
        wait::until("the call's log line", Duration::from_secs(5), || {
            self.log()
                .into_iter()
                .find(|line| line["request_id"] == request_id && line.get("status").is_some())
        })
    }

    /// A JSON call of a path of the API plane.
    pub fn post(&self, path: &str, body: &Value) -> http::Answer {
        http::post(self.api, path, body.to_string().as_bytes())
    }

    /// A GET on the API plane.
    pub fn get(&self, path: &str) -> http::Answer {
        http::get(self.api, path)
    }

    /// Checks that the daemon lives and answers on both ports.
    pub fn assert_well(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the daemon ended: {status}");
        }
        for addr in [self.api, self.ops] {
            let answer = http::get(addr, "/health/live");
            assert_eq!(answer.status, 200, "{addr}: {}", answer.text());
        }
        let answer = self.post("/v1/chat/completions", &chat("simo/sim"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Asks it to end and waits for that.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.end(limit)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- victor.log\n{}", tail.join("\n"));
        }
    }
}

/// Runs `victor serve` with a configuration that is expected to be refused, for ten seconds at
/// most (then the exit code is 124).
pub fn refused(yaml: &str) -> Output {
    let folder = Folder::new();
    let file = folder.write("victor.yml", yaml);
    Command::new("timeout")
        .args(["10", env!("CARGO_BIN_EXE_victor"), "serve", "--config"])
        .arg(file)
        .env_remove("NOT_SET_ANYWHERE")
        .current_dir(folder.path())
        .output()
        .expect("it runs")
}

/// A plain chat call in the OpenAI dialect.
pub fn chat(model: &str) -> Value {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hello there"}]})
}

/// A streamed chat call in the OpenAI dialect.
pub fn chat_stream(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = true.into();
    body
}

/// A plain call in the Anthropic dialect.
pub fn message(model: &str) -> Value {
    let mut body = chat(model);
    body["max_tokens"] = 64.into();
    body
}

/// A streamed call in the Anthropic dialect.
pub fn message_stream(model: &str) -> Value {
    let mut body = message(model);
    body["stream"] = true.into();
    body
}
