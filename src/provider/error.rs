//! What can go wrong between us and a provider, by cause.
//!
//! One type for metrics, logs and callers: [`ProviderError::outcome`] is the metric's label,
//! [`ProviderError::status`] what a client is told, [`ProviderError::message`] why. A message
//! names the provider and what happened; it must never carry a key or a URL's credentials.

use std::fmt;
use std::time::Duration;

use crate::cancel::Reason;
use crate::metrics::Outcome;

/// Which of an attempt's timeouts ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `connect_timeout`: look-up, connection, proxy and TLS handshake together.
    Connect,
    /// The request could not be sent in time.
    Send,
    /// Plain: nothing of the answer came in time.
    FirstByte,
    /// Streamed: no event came within `first_token_timeout`.
    FirstToken,
    /// Streamed: nothing came for `idle_timeout`.
    Idle,
    /// Plain: the answer began and did not end in time.
    Whole,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The deadline passed while all permits were taken.
    NoPermit,
    /// The deadline passed, and the provider had only been given so much of it.
    Deadline(Duration),
    /// The rate limit, ours or the provider's, would let the request go only after the deadline; in
    /// so long.
    RateLimited(Duration),
    /// The provider said in the stream, before any part of an answer, that it failed.
    Told(String),
    /// The stream was to go on with an answer that was cut, and is another answer.
    Differs,
    /// The name has no address.
    Resolve(String),
    /// No connection, or none through the proxy.
    Connect(String),
    /// No trust, or no common language.
    Tls(String),
    /// The connection ended before anything of the answer came.
    Reset,
    /// It took too long.
    Timeout(Phase),
    /// The connection ended in the middle of the answer.
    Cut,
    /// Not what HTTP, or our request, allows as an answer.
    Malformed(String),
    /// The answer is larger than [`super::ANSWER_BYTES_MAX`].
    TooLarge,
    /// A header of the caller's cannot be sent.
    Header(String),
    /// The call was cancelled on our side.
    Cancelled(Reason),
    /// The provider was restarted or shut down.
    Closed,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// The provider's name.
    pub provider: &'static str,
    /// What happened.
    pub cause: Cause,
}

impl ProviderError {
    /// Whether the caller ended the call: nobody is to blame and nobody is to be told.
    pub const fn is_clients(&self) -> bool {
        matches!(
            self.cause,
            Cause::Cancelled(Reason::ClientGone | Reason::SlowClient)
        )
    }

    /// What the failure says about the provider.
    pub const fn outcome(&self) -> Outcome {
        match &self.cause {
            // Nothing was sent: the provider is not to blame for calls that it is not asked.
            Cause::NoPermit
            | Cause::Deadline(_)
            | Cause::Header(_)
            | Cause::RateLimited(_)
            | Cause::Differs
            | Cause::Cancelled(_)
            | Cause::Closed => Outcome::Cancelled,
            Cause::Told(_) => Outcome::ServerError,
            Cause::Resolve(_) | Cause::Connect(_) | Cause::Tls(_) => Outcome::Connect,
            Cause::Reset => Outcome::Reset,
            Cause::Timeout(_) => Outcome::Timeout,
            Cause::Cut => Outcome::Cut,
            Cause::Malformed(_) | Cause::TooLarge => Outcome::Malformed,
        }
    }

    /// The log's `error_type`: the outcome, with the phase of a timeout.
    pub const fn error_type(&self) -> &'static str {
        match &self.cause {
            Cause::NoPermit => "provider_no_permit",
            Cause::Deadline(_) => "deadline",
            Cause::RateLimited(_) => "provider_rate_limit",
            Cause::Told(_) => "stream_error",
            Cause::Differs => "other_answer",
            Cause::Resolve(_) => "provider_resolve",
            Cause::Connect(_) => "provider_connect",
            Cause::Tls(_) => "provider_tls",
            Cause::Reset => "provider_reset",
            Cause::Timeout(Phase::Connect) => "provider_timeout_connect",
            Cause::Timeout(Phase::Send) => "provider_timeout_send",
            Cause::Timeout(Phase::FirstByte) => "provider_timeout_first_byte",
            Cause::Timeout(Phase::FirstToken) => "provider_timeout_first_token",
            Cause::Timeout(Phase::Idle) => "provider_timeout_idle",
            Cause::Timeout(Phase::Whole) => "provider_timeout_whole",
            Cause::Cut => "provider_cut",
            Cause::Malformed(_) => "provider_malformed",
            Cause::TooLarge => "provider_too_large",
            Cause::Header(_) => "invalid_header",
            Cause::Cancelled(Reason::ClientGone) => "client_gone",
            Cause::Cancelled(Reason::Deadline) => "deadline",
            Cause::Cancelled(Reason::SlowClient) => "slow_client",
            Cause::Cancelled(Reason::Shutdown) => "shutdown",
            Cause::Cancelled(Reason::Outpaced) => "outpaced",
            Cause::Closed => "provider_closed",
        }
    }

    /// The status for the client; 499 is seen by nobody but our own log and metrics.
    pub const fn status(&self) -> u16 {
        match &self.cause {
            Cause::Header(_) => 400,
            Cause::RateLimited(_) => 429,
            Cause::Cancelled(Reason::ClientGone | Reason::SlowClient | Reason::Outpaced) => 499,
            Cause::Resolve(_)
            | Cause::Connect(_)
            | Cause::Tls(_)
            | Cause::Reset
            | Cause::Cut
            | Cause::Told(_)
            | Cause::Differs
            | Cause::Malformed(_)
            | Cause::TooLarge => 502,
            Cause::Cancelled(Reason::Shutdown) | Cause::Closed => 503,
            Cause::NoPermit
            | Cause::Deadline(_)
            | Cause::Timeout(_)
            | Cause::Cancelled(Reason::Deadline) => 504,
        }
    }

    /// What happened, for a human.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "provider '{}' ", self.provider)?;
        match &self.cause {
            Cause::NoPermit => write!(
                f,
                "had no free connection before the call's deadline; it allows \
                 providers.{}.max_connections calls at a time",
                self.provider
            ),
            Cause::Deadline(left) => write!(
                f,
                "was asked with only {} ms left of the coordinator's timeout_seconds, the rest \
                 having gone by in queues or with other targets",
                left.as_millis()
            ),
            Cause::RateLimited(after) => write!(
                f,
                "may not be asked before the call's deadline: its rate limit (providers.{}.rate_limit, \
                 or the provider's own) has room again in {:.1} s",
                self.provider,
                after.as_secs_f64()
            ),
            Cause::Differs => f.write_str("gave another answer than the one that was cut"),
            Cause::Told(why) => write!(f, "failed in its stream: {why}"),
            Cause::Resolve(why) => write!(f, "could not be looked up: {why}"),
            Cause::Connect(why) => write!(f, "could not be reached: {why}"),
            Cause::Tls(why) => write!(f, "could not be trusted: {why}"),
            Cause::Reset => f.write_str("closed the connection without an answer"),
            Cause::Timeout(phase) => {
                let (what, key) = match phase {
                    Phase::Connect => ("did not accept a connection", "connect_timeout"),
                    Phase::Send => ("did not take the request", "timeout"),
                    Phase::FirstByte => ("did not answer", "timeout"),
                    Phase::FirstToken => ("sent no first event", "first_token_timeout"),
                    Phase::Idle => ("sent nothing in the middle of a stream", "idle_timeout"),
                    Phase::Whole => ("did not finish its answer", "timeout"),
                };
                write!(f, "{what} within providers.{}.{key}", self.provider)
            }
            Cause::Cut => f.write_str("closed the connection in the middle of its answer"),
            Cause::Malformed(why) => write!(f, "sent a malformed answer: {why}"),
            Cause::TooLarge => {
                let limit = super::ANSWER_BYTES_MAX >> 20;
                write!(f, "sent an answer larger than {limit} MiB")
            }
            Cause::Header(why) => write!(f, "cannot be sent this request: {why}"),
            Cause::Cancelled(reason) => f.write_str(match reason {
                Reason::ClientGone => "was no longer needed: the client has gone",
                Reason::Deadline => "did not answer before the call's deadline",
                Reason::SlowClient => "was no longer needed: the client takes nothing",
                Reason::Outpaced => "was no longer needed: another target has answered",
                Reason::Shutdown => "was not waited for: this gateway is being stopped; try again",
            }),
            Cause::Closed => f.write_str("is being restarted"),
        }
    }
}

impl std::error::Error for ProviderError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_status_label_type_and_words() {
        let check = |cause: Cause, status, outcome, error_type, words: &str| {
            let error = ProviderError {
                provider: "acme",
                cause,
            };
            let seen = (error.status(), error.outcome(), error.error_type());
            assert_eq!(seen, (status, outcome, error_type));
            let message = error.message();
            assert!(
                message.starts_with("provider 'acme' ") && message.contains(words),
                "{message}"
            );
        };
        check(
            Cause::NoPermit,
            504,
            Outcome::Cancelled,
            "provider_no_permit",
            "free connection",
        );
        check(
            Cause::Cut,
            502,
            Outcome::Cut,
            "provider_cut",
            "middle of its answer",
        );
        check(
            Cause::TooLarge,
            502,
            Outcome::Malformed,
            "provider_too_large",
            "64 MiB",
        );
        check(
            Cause::Closed,
            503,
            Outcome::Cancelled,
            "provider_closed",
            "restarted",
        );
        let idle = Cause::Timeout(Phase::Idle);
        check(
            idle,
            504,
            Outcome::Timeout,
            "provider_timeout_idle",
            "idle_timeout",
        );
        let refused = Cause::Connect("connection refused".to_owned());
        check(
            refused,
            502,
            Outcome::Connect,
            "provider_connect",
            "connection refused",
        );
        let gone = Cause::Cancelled(Reason::ClientGone);
        check(
            gone,
            499,
            Outcome::Cancelled,
            "client_gone",
            "the client has gone",
        );
    }
}
