//! What is counted for each answer of the API plane.

use std::sync::{Arc, OnceLock};

use super::registry::{Counter, Family, OTHER, Registry};
use crate::wire::Endpoint;

/// The routes of the API plane. Closed: a path is free text and never a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Route {
    ChatCompletions,
    Responses,
    Completions,
    Messages,
    CountTokens,
    Embeddings,
    Models,
    Health,
    Metrics,
    /// Any other path.
    Other,
    /// Refused by the front before there was a whole request.
    Refused,
}

impl Route {
    const COUNT: usize = Self::Refused as usize + 1;

    /// The value of the label `route`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Other => "other",
            Self::Refused => "refused",
        }
    }
}

impl From<Endpoint> for Route {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::ChatCompletions => Self::ChatCompletions,
            Endpoint::Responses => Self::Responses,
            Endpoint::Completions => Self::Completions,
            Endpoint::Embeddings => Self::Embeddings,
            Endpoint::Messages => Self::Messages,
            Endpoint::CountTokens => Self::CountTokens,
        }
    }
}

/// The statuses that have a label value of their own; any other is `other`. 499 is the usual name
/// of "the client left before its answer".
const STATUSES: [u16; 29] = [
    200, 201, 202, 204, 304, 400, 401, 402, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 422,
    424, 429, 431, 499, 500, 501, 502, 503, 504, 529,
];

/// `victor_http_requests_total`, one counter for each route and status, made when first counted.
pub(super) struct Requests {
    family: Family<Counter, 2>,
    counters: Box<[OnceLock<Arc<Counter>>]>,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            family: registry.family(
                "victor_http_requests_total",
                "Answers of the API port, by route and status.",
                ["route", "status"],
            ),
            counters: (0..Route::COUNT * (STATUSES.len() + 1))
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    pub(super) fn count(&self, route: Route, status: u16) {
        let column = STATUSES.iter().position(|known| *known == status);
        let index = route as usize * (STATUSES.len() + 1) + column.unwrap_or(STATUSES.len());
        let counter = self.counters[index].get_or_init(|| {
            let digits = status.to_string();
            let label = column.map_or(OTHER, |_| digits.as_str());
            self.family.with([route.as_str(), label])
        });
        counter.increment();
    }
}
