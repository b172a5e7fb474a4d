//! Scripts without a socket: what is planned for a request, and every byte of it.
//!
//! `answers` holds what the vendors' SDKs require of an answer that goes well, `parts` what it can
//! consist of, `replay` that both shapes of an answer say the same, `embeddings` that several calls
//! in one have the answers that each would have, `responses` OpenAI's other endpoints, `faults` what
//! is wrong with one that does not.

mod answers;
mod embeddings;
mod faults;
mod parts;
mod replay;
mod responses;

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::simulator::script::{Script, SimRequest, plan};
use crate::simulator::state::State;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const COMPLETIONS: &str = "/v1/completions";

fn request<'a>(path: &'a str, body: &'a str) -> SimRequest<'a> {
    SimRequest {
        method: if body.is_empty() { "GET" } else { "POST" },
        path,
        x_sim: None,
        api_key: None,
        anthropic_version: false,
        body: body.as_bytes(),
        received: Instant::now(),
        at: SystemTime::UNIX_EPOCH,
    }
}

/// Runs a script to its end: the delays before each step, and all bytes.
fn run(script: &mut Script) -> (Vec<Duration>, String) {
    let (mut delays, mut out) = (Vec::new(), Vec::new());
    while let Some(delay) = script.steps.delay() {
        delays.push(delay);
        script.steps.render(&mut out);
    }
    (delays, String::from_utf8(out).unwrap())
}

fn planned(path: &str, body: &str) -> Script {
    plan(&request(path, body), &State::default())
}

fn answer(path: &str, body: &str) -> (u16, Value) {
    let mut script = planned(path, body);
    let (_, out) = run(&mut script);
    (
        script.status,
        serde_json::from_str(&out).unwrap_or(Value::String(out)),
    )
}

/// A chat body in either dialect with `extra` fields.
fn chat(model: &str, extra: &str) -> String {
    let extra = if extra.is_empty() {
        String::new()
    } else {
        format!(",{extra}")
    };
    let max = if extra.contains("max_") {
        ""
    } else {
        r#""max_tokens":1000,"#
    };
    format!(r#"{{{max}"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#)
}

/// The data of each event of a stream, the end marker included.
fn events(path: &str, model: &str, extra: &str) -> (Script, Vec<String>) {
    let extra = if extra.is_empty() {
        r#""stream":true"#.into()
    } else {
        format!(r#""stream":true,{extra}"#)
    };
    let mut script = planned(path, &chat(model, &extra));
    assert!(script.chunked && script.stream);
    let (_, out) = run(&mut script);
    let data = |event: &str| event.split("data: ").nth(1).unwrap_or("").to_owned();
    assert!(out.is_empty() || out.ends_with("\n\n"));
    let events = out.split_terminator("\n\n").map(data).collect();
    (script, events)
}

fn parsed(events: &[String]) -> Vec<Value> {
    let data = events.iter().filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn header<'s>(script: &'s Script, name: &str) -> Option<&'s str> {
    let found = script.headers.iter().find(|(found, _)| *found == name);
    found.map(|(_, value)| value.as_ref())
}
