//! A caller of either dialect, plain or streamed, and everything that it heard.
//!
//! The two dialects are read into one [`Heard`], so that a test can ask the same of both: was it
//! the whole answer, a clean refusal, or a stream that was honest about its end?

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Answer, Connection, request};
use super::sse::{Event, Stream, is_end};

/// Whose API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions.
    Openai,
    /// Messages.
    Anthropic,
}

impl Dialect {
    /// Where its callers send their calls.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Openai => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }

    /// The `kind` of a provider that speaks it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// The body of a call. It is spelt as translation spells it too: the simulator makes its answer
/// from the bytes of `messages`, so a call that crosses dialects is answered with the same words.
pub fn body(model: &str, stream: bool) -> String {
    format!(
        "{{\"model\":\"{model}\",\"max_tokens\":64,\"stream\":{stream},\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Hello there\"}}]}}"
    )
}

/// What a caller heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Three digits; 0 if there was no head.
    pub status: u16,
    /// Of the head.
    pub headers: Vec<(String, String)>,
    /// The words of the answer, so far as they came.
    pub text: String,
    /// Why the model stopped, if that was said.
    pub finish: Option<String>,
    /// Whether the answer was marked as complete.
    pub ended: bool,
    /// Whether something came behind the end marker.
    pub trailed: bool,
    /// The error, from the body or from within the stream.
    pub error: Option<Value>,
    /// The whole body, if it was no stream.
    pub body: Value,
    /// Why reading failed: the answer was not framed as it should be, or did not end in time.
    pub broken: Option<String>,
    /// From the first byte sent to the last one received.
    pub took: Duration,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} after {:?}: {} words, finish {:?}, ended {}, error {:?}, broken {:?}, headers {:?}",
            self.status,
            self.took,
            self.words(),
            self.finish,
            self.ended,
            self.error,
            self.broken,
            self.victor_headers()
        )
    }
}

/// Sends a call and listens to the end of its answer, for `limit` at most.
pub fn call(addr: SocketAddr, dialect: Dialect, body: &str, limit: Duration) -> Heard {
    let started = Instant::now();
    let mut heard = Heard::default();
    let mut connection = Connection::open(addr);
    connection.send(&request(dialect.path(), "", body.as_bytes()));
    connection.within(limit);
    if let Err(error) = heard.listen(connection) {
        heard.broken = Some(error.to_string());
    }
    heard.took = started.elapsed();
    heard
}

impl Heard {
    fn listen(&mut self, mut connection: Connection) -> io::Result<()> {
        let head = connection.try_head()?;
        self.status = head.status;
        self.headers.clone_from(&head.headers);
        let kind = head.header("content-type").unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            let mut stream = Stream::after(head, connection);
            while let Some(event) = stream.next_event()? {
                self.event(&event);
            }
            return Ok(());
        }
        let mut bytes = Vec::new();
        while let Some(part) = connection.next_part()? {
            bytes.extend_from_slice(&part);
        }
        self.body = serde_json::from_slice(&bytes)?;
        let choice = &self.body["choices"][0];
        let pick = |one: &Value, other: &Value| {
            let text = one.as_str().or(other.as_str());
            text.map(str::to_owned)
        };
        let text = pick(
            &choice["message"]["content"],
            &self.body["content"][0]["text"],
        );
        self.text = text.unwrap_or_default();
        self.finish = pick(&choice["finish_reason"], &self.body["stop_reason"]);
        self.ended = self.status == 200;
        self.error = Some(self.body["error"].clone()).filter(Value::is_object);
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        // A comment, which keeps a connection alive.
        if event.data.is_empty() {
            return;
        }
        self.trailed |= self.ended;
        self.ended |= is_end(event);
        let json = event.json();
        let (choice, delta) = (&json["choices"][0], &json["delta"]);
        let text = choice["delta"]["content"].as_str();
        self.text
            .push_str(text.or(delta["text"].as_str()).unwrap_or_default());
        let finish = choice["finish_reason"].as_str();
        if let Some(finish) = finish.or(delta["stop_reason"].as_str()) {
            self.finish = Some(finish.to_owned());
        }
        if json["error"].is_object() {
            self.error = Some(json["error"].clone());
        }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn victor_headers(&self) -> Vec<&(String, String)> {
        let ours = |(name, _): &&(String, String)| {
            name.starts_with("x-victor-") || name.contains("retry-after")
        };
        self.headers.iter().filter(ours).collect()
    }

    /// What `x-victor-attempts` says; 0 without it.
    pub fn attempts(&self) -> usize {
        let header = self.header("x-victor-attempts");
        header.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// How many words came. The simulator makes each of them one token.
    pub fn words(&self) -> usize {
        self.text.split_whitespace().count()
    }

    /// Checks that the answer is `expected`, all of it, and says so.
    pub fn assert_whole(&self, expected: &str, what: &dyn fmt::Display) {
        assert!(self.status == 200 && self.broken.is_none(), "{what}");
        assert!(self.error.is_none(), "{what}");
        assert_eq!(self.text, expected, "{what}");
        self.assert_ended(what);
    }

    /// Checks that the answer says that it is complete, in the way of its dialect.
    pub fn assert_ended(&self, what: &dyn fmt::Display) {
        let finish = self.finish.as_deref();
        assert!(matches!(finish, Some("stop" | "end_turn")), "{what}");
        assert!(self.ended && !self.trailed, "{what}");
    }

    /// Checks that a stream began as `expected` does, and ended in an error and not in success.
    pub fn assert_broken_off(&self, expected: &str, what: &dyn fmt::Display) {
        assert!(self.status == 200 && self.broken.is_none(), "{what}");
        assert!(
            expected.starts_with(&self.text) && self.text != expected,
            "{what}"
        );
        assert!(!self.ended && self.finish.is_none(), "{what}");
        assert!(self.reason().len() > 10, "no error in the stream: {what}");
    }

    /// Checks that the call was refused with one of `statuses`, in the shape of the caller's
    /// dialect, for a reason that holds one of `reasons`.
    pub fn assert_refused(
        &self,
        dialect: Dialect,
        statuses: &[u16],
        reasons: &[&str],
        what: &dyn fmt::Display,
    ) {
        assert!(
            statuses.contains(&self.status) && self.broken.is_none(),
            "{what}"
        );
        let reason = self.reason().to_lowercase();
        assert!(
            reasons.iter().any(|it| reason.contains(&it.to_lowercase())),
            "the reason holds none of {reasons:?}: {what}"
        );
        let error = self.error.clone().unwrap_or_default();
        assert!(error["type"].is_string(), "{what}");
        match dialect {
            Dialect::Openai => assert!(error.get("code").is_some(), "{what}"),
            Dialect::Anthropic => {
                assert_eq!(self.body["type"], "error", "{what}");
                assert!(self.body["request_id"].is_string(), "{what}");
            }
        }
    }

    /// What the error says; empty without one.
    pub fn reason(&self) -> &str {
        let error = self.error.as_ref();
        error
            .and_then(|error| error["message"].as_str())
            .unwrap_or_default()
    }
}

/// The text of a plain answer in OpenAI's dialect.
pub fn text_of(answer: &Answer) -> String {
    let json = answer.json();
    let text = json["choices"][0]["message"]["content"].as_str();
    text.unwrap_or_default().to_owned()
}
