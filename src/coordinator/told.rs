//! What a caller is told where no target of its route answered.

use std::time::{Duration, Instant};

use super::itinerary::Why;
use crate::metrics::Outcome;
use crate::provider::route::Route;
use crate::provider::{Cause, ProviderError};
use crate::wire::Endpoint;
use crate::wire::errors::{self, ApiError};

/// What the caller is told if nothing better comes.
pub(super) struct Told {
    pub error: ApiError,
    pub retry_after: Option<Duration>,
    /// The provider's own answer, which goes out instead of `error`.
    pub whole: Option<Whole>,
}

/// A provider's error answer in the caller's dialect.
pub(super) struct Whole {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
    pub outcome: Outcome,
    pub reason: String,
}

impl From<ApiError> for Told {
    fn from(error: ApiError) -> Self {
        let retry_after = (error.status == 503).then_some(Duration::from_secs(1));
        Self {
            error,
            retry_after,
            whole: None,
        }
    }
}

/// What the caller is told of a failed attempt.
pub(super) fn told_of(error: &ProviderError) -> Told {
    let status = error.status();
    let kind = match status {
        504 => errors::Kind::Timeout,
        503 => errors::Kind::Overloaded,
        429 => errors::Kind::RateLimit,
        _ => errors::Kind::Upstream,
    };
    let retry_after = match &error.cause {
        Cause::RateLimited(after) => Some(*after),
        _ => (status == 503).then_some(Duration::from_secs(1)),
    };
    Told {
        error: ApiError::new(kind, error.message())
            .status(status)
            .code(error.error_type()),
        retry_after,
        whole: None,
    }
}

/// What the caller is told where no target was asked.
pub(super) fn unasked(why: Why, route: &Route, asked: Endpoint, now: Instant) -> Told {
    let mut names: Vec<&str> = route.targets.iter().map(|it| it.provider.name()).collect();
    names.dedup();
    let names = names.join(", ");
    match why {
        Why::Unable
            if !route
                .targets
                .iter()
                .any(|it| it.provider.endpoint_for(asked).is_some()) =>
        {
            let message = format!(
                "the model is served by {names}, whose API has no counterpart for this one; ask for \
                 another model"
            );
            ApiError::new(errors::Kind::InvalidRequest, message)
                .param("model")
                .code("dialect_not_served")
                .into()
        }
        Why::Unable => {
            let message = format!(
                "the model is served by {names}, none of which can take this call: by what the \
                 configuration says of them, it is too long, or they have no tools, images or streams"
            );
            ApiError::new(errors::Kind::InvalidRequest, message)
                .param("model")
                .code("target_unable")
                .into()
        }
        Why::Shut { retry_at } => Told {
            error: ApiError::new(
                errors::Kind::Overloaded,
                format!(
                    "the circuit breakers of {names} are open: the last calls to them failed; try \
                     again later"
                ),
            )
            .code("circuit_open"),
            retry_after: Some(retry_at.saturating_duration_since(now)),
            whole: None,
        },
        Why::Final | Why::Exhausted | Why::Deadline => {
            let message = "the call's deadline, its coordinator's timeout_seconds, leaves no time to \
                           ask a provider";
            ApiError::new(errors::Kind::Timeout, message)
                .code("deadline")
                .into()
        }
    }
}
