//! How an attempt can fail, as far as the next one depends on it.

use std::time::{Duration, Instant};

/// How an attempt failed, before anything of its answer was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider answered with an error status and perhaps said when to come back.
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// The prompt is too long for the model, whatever the status.
    ContextLength,
    /// The provider will not answer this prompt, whatever the status.
    ContentFilter,
    /// No connection.
    Connect,
    /// The connection ended before the head of an answer.
    Reset,
    /// Silent to the end of a timeout.
    Silent,
    /// An answer began that was cut, stalled or is not one.
    Broken,
    /// A stream that had begun was cut there, or cannot be gone on with there.
    BrokenOff,
    /// The call cannot be said in its dialect. Not an attempt, and it is not asked in this call.
    Unfit,
    /// It was not asked after all: its breaker or limiter had closed in between. Not an attempt.
    NotAsked { retry_at: Instant },
}

impl Failure {
    /// Whether the target was asked at all.
    pub const fn is_attempt(&self) -> bool {
        !matches!(self, Self::Unfit | Self::NotAsked { .. })
    }

    /// The reason in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status {
                status: 401..=404, ..
            } => "refused",
            Self::Status { .. } => "server_error",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Silent => "timeout",
            Self::Broken | Self::BrokenOff => "broken",
            Self::Unfit => "unfit",
            Self::NotAsked { .. } => "not_asked",
        }
    }
}
