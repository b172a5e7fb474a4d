//! Where caller and provider share a dialect, a body passes as it came: not one byte of it but the
//! model's name is another, whatever it holds.

use serde_json::Value;

use crate::common::config::Config;
use crate::common::daemon::Daemon;
use crate::common::http;
use crate::common::machine;
use crate::common::simulator::Simulator;

/// Bodies that are compared; the simulator remembers the last 256.
const BODIES: u64 = 200;

/// Number literals as JSON allows them and hardly a serialiser writes them.
const NUMBERS: [&str; 8] = [
    "0.10",
    "1E+2",
    "-0",
    "-0.0e-7",
    "12345678901234567890123",
    "1e400",
    "3.141592653589793238462643",
    "100000000000000000.00",
];
/// Texts as literals, with every kind of escape.
const TEXTS: [&str; 8] = [
    r#""plain""#,
    r#""caf\u00e9 and \ud83d\ude00 and 😀""#,
    r#""slash \/ and quote \" and back \\ ""#,
    r#""\b\f\n\r\t\u0000\u001f""#,
    r#""""#,
    r#""\ud800 alone""#,
    r#""日本語\u3000""#,
    r#""\u003cb\u003e & <b>\u2028""#,
];
const BLANKS: [&str; 5] = ["", "", " ", "\n  ", "\t\r\n"];

/// Bodies of the shapes that SDKs and hand-written clients send, the same in every run.
struct Made(fastrand::Rng);

impl Made {
    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.0.usize(..from.len())]
    }

    /// Any value, `depth` levels deep at most.
    fn value(&mut self, depth: u32) -> String {
        match self.0.u32(..if depth == 0 { 4 } else { 6 }) {
            0 => self.pick(&NUMBERS).to_owned(),
            1 | 2 => self.pick(&TEXTS).to_owned(),
            3 => self.pick(&["true", "false", "null"]).to_owned(),
            4 => {
                let items: Vec<String> = (0..self.0.u32(..4))
                    .map(|_| self.value(depth - 1))
                    .collect();
                self.joined('[', items, ']')
            }
            _ => {
                let count = self.0.u32(..4);
                let members = (0..count).map(|_| {
                    let value = self.value(depth - 1);
                    let key = self.pick(&TEXTS);
                    let blank = self.pick(&BLANKS);
                    format!("{key}{blank}:{blank}{value}")
                });
                let members: Vec<String> = members.collect();
                self.joined('{', members, '}')
            }
        }
    }

    fn joined(&mut self, open: char, parts: Vec<String>, close: char) -> String {
        let mut text = String::from(open);
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.iter().enumerate() {
            text.push_str(self.pick(&BLANKS));
            text.push_str(part);
            text.push_str(self.pick(&BLANKS));
            text.push_str(if index < last { "," } else { "" });
        }
        text.push(close);
        text
    }

    /// A whole body with `model`, its members in any order.
    fn body(&mut self, path: &str, model: &str) -> String {
        let text = loop {
            let text = self.pick(&TEXTS);
            // An empty prompt is refused by either vendor.
            if text.len() > 2 {
                break text;
            }
        };
        let mut members = match path {
            "/v1/embeddings" => vec![format!("\"input\":[{text},\"two\"]")],
            _ => vec![
                format!("\"messages\":[{{\"content\":{text},\"role\":\"user\"}}]"),
                "\"max_tokens\":16".to_owned(),
            ],
        };
        members.push(format!("\"mod\\u0065l\" : {model}"));
        for _ in 0..self.0.u32(..6) {
            let name = format!("x_{}", self.0.u32(..));
            let value = self.value(3);
            members.push(format!("\"{name}\":{value}"));
        }
        self.0.shuffle(&mut members);
        let body = self.joined('{', members, '}');
        let blanks = [self.pick(&BLANKS), self.pick(&BLANKS)];
        format!("{}{body}{}", blanks[0], blanks[1])
    }
}

#[test]
fn two_hundred_bodies_pass_byte_for_byte() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr));
    let routes = [
        ("/v1/chat/completions", "simo"),
        ("/v1/messages", "sima"),
        ("/v1/embeddings", "simo"),
        ("/v1/completions", "simo"),
    ];
    let mut made = Made(fastrand::Rng::with_seed(17));
    let mut sent = Vec::new();
    for (path, provider) in routes.into_iter().cycle().take(BODIES as usize) {
        let (asked, told) = (format!("\"{provider}\\/sim\""), "\"sim\"");
        let mut body = made.body(path, &asked);
        if path == "/v1/completions" {
            body = body
                .replace("\"messages\":[{\"content\":", "\"prompt\":[")
                .replace(",\"role\":\"user\"}]", "]");
        }
        let answer = http::post(daemon.api, path, body.as_bytes());
        assert_eq!(answer.status, 200, "{body}\n{}", answer.text());
        assert!(answer.header("x-victor-dropped").is_none());
        sent.push(body.replace(&asked, told));
    }
    let received = simulator.calls();
    assert_eq!(received.len(), sent.len());
    for (received, sent) in received.iter().zip(&sent) {
        assert_eq!(&received.body, sent, "{}", received.path);
    }
}

/// `POST /v1/completions` has no counterpart in Anthropic's dialect.
#[test]
fn a_legacy_completion_goes_to_an_openai_provider_only() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let mut body = serde_json::json!({"model": "simo/sim", "prompt": "Once", "max_tokens": 8});
    let answer = daemon.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "text_completion");
    body["stream"] = true.into();
    let answer = daemon.post("/v1/completions", &body);
    assert!(
        answer.text().ends_with("data: [DONE]\n\n"),
        "{}",
        answer.text()
    );
    body["model"] = "sima/sim".into();
    let answer = daemon.post("/v1/completions", &body);
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error: Value = answer.json();
    assert_eq!(error["error"]["code"], "dialect_not_served");
}
