//! The simulator behind a socket: what a client sees on the wire, and what the log says of it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Server, serve};

const PATIENCE: Duration = Duration::from_secs(10);

fn start() -> Server {
    serve(TcpListener::bind("127.0.0.1:0").unwrap(), None).unwrap()
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\
         authorization: Bearer secret-key-of-many-1234\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

fn chat(server: &Server, model: &str) -> TcpStream {
    let body = format!(
        r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    send(server, "POST", "/v1/chat/completions", &body)
}

fn read_all(mut stream: TcpStream) -> Result<String, io::ErrorKind> {
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.kind()),
    }
}

/// The log's entries.
fn log(server: &Server, path: &str) -> Vec<Value> {
    let answer = read_all(send(server, "GET", path, "")).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// Waits until the log says how the newest request of `model` ended.
fn ended(server: &Server, model: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = log(server, "/_sim/log");
        let found = entries.into_iter().rfind(|entry| entry["model"] == model);
        if let Some(entry) = found.filter(|entry| !entry["end"].is_null()) {
            return entry;
        }
        assert!(Instant::now() < deadline, "{model} never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_paced_stream_arrives_as_it_is_paced() {
    let server = start();
    let started = Instant::now();
    let mut stream = chat(&server, "sim+pace-30x5");
    let (mut text, mut last) = (Vec::new(), started);
    let mut buffer = [0; 4096];
    let mut reads = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        reads += 1;
        last = Instant::now();
        text.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("transfer-encoding: chunked") && text.contains("data: [DONE]"));
    assert!(reads >= 5 && last - started >= Duration::from_millis(4 * 30));
    let entry = ended(&server, "sim+pace-30x5");
    assert_eq!(
        (&entry["end"], &entry["tokens_sent"]),
        (&"complete".into(), &5.into())
    );
    server.stop();
}

#[test]
fn faults_are_seen_on_the_wire() {
    let server = start();
    for model in ["sim+reset", "sim+latency-20+reset"] {
        assert_eq!(
            read_all(chat(&server, model)),
            Err(io::ErrorKind::ConnectionReset)
        );
        assert_eq!(ended(&server, model)["end"], "reset");
    }
    for model in ["sim+cut-4", "sim+cut-4+pace-2x9"] {
        let text = read_all(chat(&server, model)).unwrap();
        assert!(!text.ends_with("0\r\n\r\n") && text.matches("\"content\":\"").count() == 5);
        assert_eq!(ended(&server, model)["end"], "cut");
    }
    let text = read_all(chat(&server, "sim+no-end")).unwrap();
    assert!(text.ends_with("0\r\n\r\n") && !text.contains("[DONE]"));
    let text = read_all(chat(&server, "sim+latency-20+status-503+retry-after-7")).unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 7\r\n"));
    server.stop();
}

#[test]
fn a_client_that_leaves_is_noticed_and_logged() {
    let server = start();
    for model in [
        "sim+silent",
        "sim+stall-3",
        "sim+pace-5x100000",
        "sim+latency-60000",
        "sim+first-token-60000",
    ] {
        let mut stream = chat(&server, model);
        let wait = match model {
            "sim+silent" | "sim+latency-60000" => Duration::from_millis(50),
            _ => PATIENCE,
        };
        stream.set_read_timeout(Some(wait)).unwrap();
        let read = stream.read(&mut [0; 64]);
        assert_eq!(read.is_err(), wait < PATIENCE, "{model}");
        drop(stream);
        let entry = ended(&server, model);
        assert_eq!(entry["end"], "client_gone", "{model}");
        assert_eq!(entry["status"].is_null(), wait < PATIENCE, "{model}");
    }
    server.stop();
}

#[test]
fn the_log_says_what_came_and_hides_keys_and_a_reset_forgets() {
    let server = start();
    let body = r#"{"model":"sim","messages":[{"role":"user","content":"hi"}]}"#;
    read_all(send(&server, "POST", "/v1/chat/completions", body)).unwrap();
    read_all(chat(&server, "sim+status-429-once")).unwrap();
    let entries = log(&server, "/_sim/log?body=1");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["body"], body);
    assert_eq!(entries[0]["body_bytes"], body.len());
    assert_eq!(entries[0]["headers"]["authorization"], "***1234");
    assert_eq!(
        (&entries[0]["status"], &entries[0]["end"]),
        (&200.into(), &"complete".into())
    );
    assert_eq!(entries[1]["status"], 429);
    assert_eq!(
        entries[1]["behaviours"],
        serde_json::json!(["status-429-once"])
    );
    assert!(
        read_all(chat(&server, "sim+status-429-once"))
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        read_all(send(&server, "POST", "/_sim/reset", ""))
            .unwrap()
            .starts_with("HTTP/1.1 204")
    );
    assert!(log(&server, "/_sim/log").is_empty());
    assert!(
        read_all(chat(&server, "sim+status-429-once"))
            .unwrap()
            .starts_with("HTTP/1.1 429")
    );
    server.stop();
}

#[test]
fn a_large_prompt_and_a_long_answer_are_served_beside_small_calls() {
    let server = start();
    let prompt = "x".repeat(8 << 20);
    let body = format!(r#"{{"model":"sim","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let large = send(&server, "POST", "/v1/chat/completions", &body);
    let long = chat(&server, "sim+pace-0x20000");
    assert!(read_all(chat(&server, "sim")).unwrap().contains("[DONE]"));
    assert!(read_all(large).unwrap().starts_with("HTTP/1.1 200"));
    let long = read_all(long).unwrap();
    assert!(long.contains("[DONE]") && long.matches("\"content\":\"").count() == 20_001);
    server.stop();
}

#[test]
fn finished_requests_are_appended_to_the_file() {
    let path = std::env::temp_dir().join(format!("victor-sim-{}.jsonl", std::process::id()));
    let server = serve(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        Some(path.clone()),
    )
    .unwrap();
    read_all(chat(&server, "sim")).unwrap();
    read_all(chat(&server, "sim+pace-1x3")).unwrap();
    server.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .all(|line| line["end"] == "complete" && line["status"] == 200)
    );
}
