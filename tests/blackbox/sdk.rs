//! The vendors' own Python SDKs, unmodified but for base URL and key: `tests/sdk/*.py`.

use std::process::Command;

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::machine;
use crate::common::simulator::Simulator;

const KEY: &str = "vk-sdk-0123456789abcdef";

fn run(module: &str) {
    let _turn = machine::light();
    let Some(python) = machine::python() else {
        return machine::skip(module, "no Python with the SDKs; scripts/test.sh makes one");
    };
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("auth.keys", json!([KEY]))
        .set("coordinators.retry.max_attempts", 1)
        .set("server.keep_alive_comment", 1)
        .set("providers.simo.models", json!(["sim"]));
    let mut daemon = Daemon::with(&config);
    let output = Command::new("timeout")
        .arg("120")
        .arg(python)
        .args(["-B", "-m", "unittest", "-v", module])
        .current_dir(machine::root().join("tests/sdk"))
        .env("VICTOR_URL", format!("http://{}", daemon.api))
        .env("VICTOR_KEY", KEY)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("\nOK"), "{said}");
    assert!(daemon.process.ended().is_none());
}

#[test]
fn the_openai_sdk() {
    run("test_openai");
}

#[test]
fn the_anthropic_sdk() {
    run("test_anthropic");
}
