//! The log: one JSON object a line, one line a call, and nothing in it that is private.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, chat_stream, message};
use crate::common::http::post_with;
use crate::common::simulator::Simulator;
use crate::common::{machine, wait};

const SECRET_PROMPT: &str = "the-secret-of-the-prompt";

fn check_line(line: &Value) {
    let timestamp = line["timestamp"].as_str().unwrap_or_default();
    assert!(
        timestamp.ends_with('Z') && timestamp.contains('T'),
        "{line}"
    );
    let level = line["level"].as_str().unwrap_or_default();
    assert!(["ERROR", "WARN", "INFO"].contains(&level), "{line}");
    assert_eq!(line["service"], "victor", "{line}");
    for field in ["logger", "message"] {
        assert!(line[field].is_string(), "{field}: {line}");
    }
}

/// The whole of what holds can be read where `debug` is on, and no key with it.
#[test]
fn at_debug_the_configuration_in_force_is_said_without_its_secrets() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("logging.level", "debug");
    let daemon = Daemon::with(&config);
    let section = wait::until("the last section", Duration::from_secs(10), || {
        let said = |line: &Value| {
            Some(
                line["message"]
                    .as_str()?
                    .strip_prefix("in force: ")?
                    .to_owned(),
            )
        };
        let sections: Vec<String> = daemon.log().iter().filter_map(said).collect();
        sections
            .iter()
            .any(|it| it.starts_with("logging:"))
            .then_some(sections)
    })
    .concat();
    assert!(section.contains("max_connections: 10000"), "{section}");
    assert!(
        section.contains("simo:") && section.contains("'***'"),
        "{section}"
    );
    assert!(!section.contains("sk-"), "{section}");
}

#[test]
fn each_call_has_one_line_that_says_how_it_went() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let openai = "/v1/chat/completions";
    for (number, (path, body, status)) in [
        (openai, chat("simo/sim"), 200),
        (openai, chat_stream("simo/sim+pace-1x5"), 200),
        ("/v1/messages", message("sima/sim"), 200),
        (openai, chat("simo/sim+context-length"), 400),
        (openai, chat("simo/sim+reset"), 502),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = body;
        body["messages"][0]["content"] = SECRET_PROMPT.into();
        let id = format!("logged-{number}");
        let header = format!("x-request-id: {id}\r\n");
        let answer = post_with(daemon.api, path, &header, body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
        let line = daemon.log_of(&id);
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["coordinator"], "ChatCoordinator", "{line}");
        assert!(
            line["provider"].is_string() && line["model"].is_string(),
            "{line}"
        );
        assert!(line["duration_ms"].is_number(), "{line}");
        assert!(line["attempts"].is_number(), "{line}");
        assert!(line["cache"].is_string(), "{line}");
        match status {
            200 => assert_eq!(line["level"], "INFO", "{line}"),
            502 => {
                assert_eq!(line["level"], "ERROR", "{line}");
                assert!(line["error_type"].is_string(), "{line}");
            }
            _ => assert!(line["error_type"].is_string(), "{line}"),
        }
        let lines = daemon.log();
        let of_call = lines
            .iter()
            .filter(|line| line["request_id"] == id.as_str());
        assert_eq!(
            of_call.filter(|line| line.get("status").is_some()).count(),
            1
        );
    }
    for line in daemon.log() {
        check_line(&line);
    }
    let text = fs::read_to_string(daemon.log_path()).expect("it is there");
    assert!(!text.contains(SECRET_PROMPT), "a prompt is in the log");
    assert!(!text.contains("sk-upstream"), "a key is in the log");
}

/// What a caller sends cannot forge a line or a field.
#[test]
fn a_caller_cannot_write_into_the_log() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let mut body = chat("x");
    body["model"] = "simo/sim\"}\n{\"level\":\"ERROR\",\"forged\":1".into();
    let header = "x-request-id: forged-1\r\n";
    post_with(
        daemon.api,
        "/v1/chat/completions",
        header,
        body.to_string().as_bytes(),
    );
    daemon.post("/v1/chat/completions", &chat("simo/sim"));
    for line in daemon.log() {
        check_line(&line);
        assert!(line.get("forged").is_none(), "{line}");
    }
}

/// A key whose capability is not built yet is named once at start, and so is what fell back.
#[test]
fn the_start_is_told() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("python.gc_threshold", "(700, 10, 10)");
    let daemon = Daemon::with(&config);
    // The log is written by a thread of its own.
    wait::until("the warning", Duration::from_secs(5), || {
        daemon.log().into_iter().find(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            line["level"] == "WARN" && message.contains("python")
        })
    });
}

#[test]
fn a_log_folder_that_is_not_there_falls_back_to_stderr() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("logging.file", "/proc/nowhere/victor.log");
    let daemon = Daemon::with(&config);
    assert_eq!(
        daemon
            .post("/v1/chat/completions", &chat("simo/sim"))
            .status,
        200
    );
    wait::until("a line on stderr", Duration::from_secs(5), || {
        let stderr = daemon.process.stderr();
        stderr.contains("\"status\":200").then_some(())
    });
}
