//! The line that every call leaves, encoded by hand since there may be tens of thousands a
//! second. It never holds prompt or answer text.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ::log::Level;

use super::line::{Line, key};
use crate::config::checked::LogFormat;

/// The `logger` of the lines about calls; `RUST_LOG=victor::call=off` silences them.
pub const CALL_LOGGER: &str = "victor::call";

/// What is said about one call when it is over. Absent values leave no field.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallRecord<'a> {
    /// The `x-request-id` of the answer.
    pub request_id: &'a str,
    /// Who called.
    pub peer: Option<SocketAddr>,
    /// The route's pattern, never the path that was sent: `/v1/models/{id}`.
    pub route: &'static str,
    /// The coordinator that ran it; empty if it reached none.
    pub coordinator: &'a str,
    /// The provider that answered; empty if none was asked.
    pub provider: &'a str,
    /// The model that answered, in the provider's own name; empty if none was asked.
    pub model: &'a str,
    /// The status that the client got; 499 if it left before there was one.
    pub status: u16,
    /// From the request's last byte to the answer's last byte.
    pub duration: Duration,
    /// `hit`, `miss`, `coalesced` or `bypass`; empty if there was no look-up.
    pub cache: &'static str,
    /// How often a provider was asked.
    pub attempts: u32,
    /// Calls that were asked for in one with this one, itself included; 0 if it could not be.
    pub merged: u32,
    /// Who was asked and how that ended, in order, where it was more than once.
    pub path: &'a str,
    /// The kind of failure, the same word as the metric's label; empty if there was none.
    pub error_type: &'static str,
    /// What happened, in words; empty: derived from the status.
    pub message: &'a str,
    /// Whether the answer was a stream.
    pub streamed: bool,
    /// Whether the call counts as an error in the metrics: not what the caller did wrong.
    pub failed: bool,
    /// The provider's own id of the request; empty if it gave none.
    pub upstream_request_id: &'a str,
    /// Whether the client left before the end: never the fault of a provider.
    pub client_gone: bool,
    /// From the request's last byte to the first event of a stream.
    pub time_to_first_token: Option<Duration>,
    /// What the provider counted.
    pub input_tokens: Option<u64>,
    /// What the provider counted.
    pub output_tokens: Option<u64>,
}

impl CallRecord<'_> {
    /// ERROR finds exactly what the metrics count as an error, and what we could not serve; the
    /// rest is INFO.
    pub fn level(&self) -> Level {
        if self.failed || self.status >= 500 {
            Level::Error
        } else {
            Level::Info
        }
    }

    fn message(&self) -> &str {
        match self.status {
            _ if !self.message.is_empty() => self.message,
            _ if self.client_gone => "client left before the answer was complete",
            _ if self.level() == Level::Error => "call failed",
            400.. => "call refused",
            _ => "call completed",
        }
    }

    pub(super) fn line(&self, format: LogFormat, time: SystemTime) -> Line {
        let mut line = Line::begin(format, time, self.level(), CALL_LOGGER, self.message());
        line.text(key!("request_id"), self.request_id);
        for (key, value) in [
            (key!("coordinator"), self.coordinator),
            (key!("provider"), self.provider),
            (key!("model"), self.model),
            (key!("upstream_request_id"), self.upstream_request_id),
            (key!("path"), self.path),
        ] {
            if !value.is_empty() {
                line.text(key, value);
            }
        }
        line.word(key!("route"), self.route);
        line.number(key!("status"), u64::from(self.status));
        line.milliseconds(key!("duration_ms"), self.duration);
        if let Some(time) = self.time_to_first_token {
            line.milliseconds(key!("ttft_ms"), time);
        }
        for (key, value) in [
            (key!("cache"), self.cache),
            (key!("error_type"), self.error_type),
        ] {
            if !value.is_empty() {
                line.word(key, value);
            }
        }
        line.number(key!("attempts"), u64::from(self.attempts));
        if self.merged > 0 {
            line.number(key!("merged"), u64::from(self.merged));
        }
        line.flag(key!("streamed"), self.streamed);
        if self.client_gone {
            line.flag(key!("client_gone"), true);
        }
        for (key, value) in [
            (key!("input_tokens"), self.input_tokens),
            (key!("output_tokens"), self.output_tokens),
        ] {
            if let Some(value) = value {
                line.number(key, value);
            }
        }
        if let Some(peer) = self.peer {
            line.address(key!("peer"), peer);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn call(status: u16) -> CallRecord<'static> {
        CallRecord {
            status,
            ..CallRecord::default()
        }
    }

    #[test]
    fn the_level_finds_the_calls_that_failed() {
        let check = |record: CallRecord<'_>, expected| assert_eq!(record.level(), expected);
        check(call(200), Level::Info);
        check(call(404), Level::Info);
        check(call(499), Level::Info);
        check(call(503), Level::Error);
        let cut = CallRecord {
            failed: true,
            ..call(200)
        };
        check(cut, Level::Error);
    }

    #[test]
    fn a_line_holds_what_is_known_and_nothing_else() {
        let record = CallRecord {
            request_id: "req-1",
            peer: Some(([127, 0, 0, 1], 4711).into()),
            route: "/v1/messages",
            coordinator: "ChatCoordinator",
            duration: Duration::from_micros(2_000_500),
            output_tokens: Some(7),
            ..call(200)
        };
        let line = record.line(LogFormat::Json, SystemTime::UNIX_EPOCH);
        let got: Value = line.finish(|line| serde_json::from_slice(line).unwrap());
        let expected = json!({
            "timestamp": "1970-01-01T00:00:00.000Z", "level": "INFO", "logger": "victor::call",
            "message": "call completed", "service": "victor", "request_id": "req-1",
            "coordinator": "ChatCoordinator", "route": "/v1/messages", "status": 200,
            "duration_ms": 2000.5, "attempts": 0, "streamed": false, "output_tokens": 7,
            "peer": "127.0.0.1:4711",
        });
        assert_eq!(got, expected);
    }
}
