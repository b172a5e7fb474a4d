//! The vendors' own SDKs, and what is built on them, unmodified but for base URL and key:
//! `tests/sdk`. Each program runs its cells (client, provider, plain or streamed, capability) against
//! victor through `tap.py`, which judges every answer by the vendors' published grammar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::machine;
use crate::common::process::Process;
use crate::common::simulator::Simulator;

const KEY: &str = "vk-sdk-0123456789abcdef";
/// On an idle machine each of them needs ten seconds at most.
const SECONDS_MAX: &str = "600";
/// Where nobody listens: what a program wants to tell or ask others is refused at once.
const NOBODY: &str = "http://127.0.0.1:9";

/// What runs a program: Python with the SDKs' newest versions, Python with what keeps to older
/// ones, or Node.
#[derive(Clone, Copy)]
enum Runner {
    Python,
    Ecosystem,
    Node,
}

impl Runner {
    /// The command, if everything that it needs is here.
    fn command(self) -> Option<Command> {
        match self {
            Self::Python => machine::python().map(Command::new),
            Self::Ecosystem => ecosystem_python().map(Command::new),
            Self::Node => {
                let modules = folder().join("node_modules/openai/package.json");
                let node = machine::tool("node").filter(|_| modules.is_file());
                node.map(Command::new)
            }
        }
    }
}

fn folder() -> PathBuf {
    machine::root().join("tests/sdk")
}

/// A Python that has the packages of `tests/sdk/requirements-ecosystem.txt`.
fn ecosystem_python() -> Option<PathBuf> {
    let named = std::env::var_os("VICTOR_TEST_ECOSYSTEM_PYTHON").map(PathBuf::from);
    let cached = machine::root().join(".cache/venv-ecosystem/bin/python");
    named.into_iter().chain([cached]).find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import langchain_openai, instructor"]);
        command.output().is_ok_and(|output| output.status.success())
    })
}

/// Runs `command` in `tests/sdk`, for a limited time.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited
        .arg(SECONDS_MAX)
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(folder())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    limited
}

/// What a program printed, without the cells that passed.
fn said(output: &Output) -> String {
    let text = [&output.stdout[..], b"\n", &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("ok   "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The simulator as four providers. `simo` and `sima` are what victor translates for; `simr` is of
/// OpenAI's dialect and serves responses itself; `simn` is of Anthropic's and takes JSON schemas.
fn config(simulator: &Simulator) -> Config {
    let openai = format!("http://{}/v1", simulator.addr);
    let anthropic = format!("http://{}", simulator.addr);
    Config::behind(simulator.addr)
        .set("auth.keys", json!([KEY]))
        .set("coordinators.retry.max_attempts", 1)
        .set("providers.simo.models", json!(["sim"]))
        .set("providers.simo.enable_batching", true)
        .set(
            "providers.simr",
            json!({"kind": "openai", "base_url": openai, "api_key": "sk-r", "responses": true}),
        )
        .set(
            "providers.simn",
            json!({"kind": "anthropic", "base_url": anthropic, "api_key": "sk-n",
                   "structured_output": "native"}),
        )
}

/// Starts the tap in front of `daemon`; gives it and its URL.
fn tap(python: PathBuf, daemon: &Daemon, faults: &Path) -> (Process, String) {
    let mut command = Command::new(python);
    command
        .args(["-B", "tap.py", "--to", &format!("http://{}", daemon.api)])
        .arg("--faults")
        .arg(faults)
        .current_dir(folder());
    let mut tap = Process::start("tap", &mut command);
    let line = tap.line("tap ready ", Duration::from_secs(60));
    let url = line.trim_start_matches("tap ready ").trim().to_owned();
    (tap, url)
}

fn run(runner: Runner, program: &str) {
    let _turn = machine::light();
    let (Some(python), Some(mut command)) = (machine::python(), runner.command()) else {
        return machine::skip(program, "no SDKs to run it with; scripts/test.sh gets them");
    };
    let simulator = Simulator::start();
    let mut daemon = Daemon::with(&config(&simulator));
    let faults = daemon.folder.path().join("faults");
    let (_tap, url) = tap(python, &daemon, &faults);
    let output = limited(command.arg(program))
        .env("VICTOR_URL", url)
        .env("VICTOR_KEY", KEY)
        .env("VICTOR_SIM_URL", format!("http://{}", simulator.addr))
        .envs([("http_proxy", NOBODY), ("https_proxy", NOBODY)])
        .env("no_proxy", "127.0.0.1")
        .envs([
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("DO_NOT_TRACK", "1"),
        ])
        .envs([("LANGSMITH_TRACING", "false"), ("HF_HUB_OFFLINE", "1")])
        .output()
        .expect("it runs");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" passed, 0 failed"), "{said}");
    let faults = fs::read_to_string(&faults).expect("the tap made it");
    assert_eq!(faults, "", "{said}");
    assert!(daemon.process.ended().is_none());
}

#[test]
fn the_grammar_finds_faults() {
    let Some(python) = machine::python() else {
        return machine::skip(
            "test_grammar",
            "no Python with the SDKs; scripts/test.sh makes one",
        );
    };
    let output = limited(Command::new(python).args(["-m", "unittest", "test_grammar"]))
        .output()
        .expect("it runs");
    let said = said(&output);
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
}

#[test]
fn the_openai_python_sdk_by_chat_completions() {
    run(Runner::Python, "openai_chat.py");
}

#[test]
fn the_openai_python_sdk_by_responses() {
    run(Runner::Python, "openai_responses.py");
}

#[test]
fn the_anthropic_python_sdk() {
    run(Runner::Python, "anthropic_messages.py");
}

#[test]
fn the_openai_node_sdk_by_chat_completions() {
    run(Runner::Node, "openai_chat.mjs");
}

#[test]
fn the_openai_node_sdk_by_responses() {
    run(Runner::Node, "openai_responses.mjs");
}

#[test]
fn the_anthropic_node_sdk() {
    run(Runner::Node, "anthropic_messages.mjs");
}

#[test]
fn the_ai_sdk() {
    run(Runner::Node, "ai_sdk.mjs");
}

#[test]
fn langchain() {
    run(Runner::Ecosystem, "langchain_programs.py");
}

#[test]
fn instructor() {
    run(Runner::Ecosystem, "instructor_programs.py");
}

#[test]
fn litellm() {
    run(Runner::Ecosystem, "litellm_programs.py");
}

#[test]
fn pydantic_ai() {
    run(Runner::Python, "pydantic_ai_programs.py");
}
