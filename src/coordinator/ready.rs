//! One attempt, ready to be made on any thread.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::call::Decoded;
use super::passage::Passage;
use crate::cancel::Cancel;
use crate::config::checked::Kind;
use crate::front::Request;
use crate::provider::route::{Route, Target};
use crate::provider::{Answer, Outbound, ProviderError};
use crate::thread;
use crate::wire::{Dialect, Endpoint};

/// Request headers that a provider of a dialect is given, beside those that the provider module
/// makes.
const FORWARDED: [(&str, Option<Dialect>); 5] = [
    ("anthropic-version", Some(Dialect::Anthropic)),
    ("anthropic-beta", Some(Dialect::Anthropic)),
    ("openai-organization", Some(Dialect::Openai)),
    ("openai-project", Some(Dialect::Openai)),
    ("idempotency-key", None),
];
/// Those of them that can change its answer, which calls that share one must have alike.
pub const ANSWER_HEADERS: [&str; 5] = [
    "anthropic-beta",
    "anthropic-version",
    "openai-organization",
    "openai-project",
    "x-sim",
];
/// What an Anthropic provider is told where the caller does not say it: the only version there is
/// (docs.claude.com/en/api/versioning).
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// What all attempts of a call have in common.
pub struct Asking {
    pub request: Arc<Request>,
    pub decoded: Arc<Decoded>,
    pub streamed: bool,
    pub request_id: String,
    pub deadline: Instant,
}

/// A call as one target is asked it.
pub struct Ready {
    pub route: Arc<Route>,
    /// The target's place in the route.
    pub index: usize,
    /// Where the provider is asked.
    pub endpoint: Endpoint,
    pub passage: Passage,
}

/// An attempt that was made.
pub struct Called {
    pub ready: Ready,
    pub started: Instant,
    /// When it was about to be sent, all waits behind it; `None`: it was not.
    pub asked: Option<Instant>,
    /// The rate limit held it back.
    pub held_back: bool,
    pub answer: Result<Answer, ProviderError>,
}

impl Ready {
    /// Who is asked.
    pub fn target(&self) -> &Target {
        &self.route.targets[self.index]
    }

    /// Asks, and waits for the head of the answer, or all of it if it is no stream.
    pub fn call(self, asking: &Asking, cancel: &Arc<Cancel>) -> Called {
        let target = self.target();
        let headers = forwarded(&asking.request, target, self.endpoint.dialect());
        let (held_back, asked) = (Cell::new(false), Cell::new(None));
        let started = Instant::now();
        let answer = target.provider.call(&Outbound {
            endpoint: self.endpoint,
            model: &target.model,
            body: self
                .passage
                .body(&asking.request.body, &asking.decoded, target),
            headers: &headers,
            streamed: asking.streamed,
            request_id: &asking.request_id,
            cancel,
            deadline: asking.deadline,
            pace: &target.pace,
            asked: &asked,
            held_back: &held_back,
        });
        thread::set_state(thread::State::Running);
        Called {
            ready: self,
            started,
            asked: asked.get(),
            held_back: held_back.get(),
            answer,
        }
    }
}

fn forwarded<'r>(
    request: &'r Request,
    target: &Target,
    dialect: Dialect,
) -> Vec<(&'static str, &'r str)> {
    let simulated = target.provider.kind() == Kind::Simulator;
    let names = FORWARDED
        .into_iter()
        .filter(|(_, only)| only.is_none_or(|only| only == dialect))
        .map(|(name, _)| name);
    let mut headers: Vec<_> = names
        .chain(simulated.then_some("x-sim"))
        .filter_map(|name| Some((name, request.header(name)?)))
        .collect();
    let (name, value) = ANTHROPIC_VERSION;
    if dialect == Dialect::Anthropic && request.header(name).is_none() {
        headers.push((name, value));
    }
    headers
}
