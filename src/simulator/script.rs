//! What a request is answered: the pure core of the simulator.
//!
//! [`plan`] reads a request and says what shall happen: after how long the head, which head,
//! which steps, which end. It never waits, writes or looks at a clock; the server and the
//! in-process edge run what it planned.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use super::behaviour::{Behaviours, Spec, Unknown};
use super::fault::{Dialect, Fault};
use super::reply;
use super::state::State;
use super::steps::{Body, Departures, Steps};
use super::{strict, text};
use crate::clock::Utc;

/// A request, borrowed from whoever read it.
#[derive(Clone, Copy, Debug)]
pub struct SimRequest<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// The header `x-sim`.
    pub x_sim: Option<&'a str>,
    /// From `authorization: Bearer` or `x-api-key`.
    pub api_key: Option<&'a str>,
    /// Whether there is an `anthropic-version`.
    pub anthropic_version: bool,
    pub body: &'a [u8],
    /// When it arrived.
    pub received: Instant,
    /// The same moment on the wall clock.
    pub at: SystemTime,
}

/// How an answer ends once its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Complete,
    /// The connection is closed in the middle of the answer.
    Cut,
    /// The connection is reset before the head.
    Reset,
    /// Nothing is ever sent.
    Silent,
    /// Nothing more is sent; the connection is held.
    Stall,
}

impl End {
    /// Whether there is a head at all.
    pub const fn has_head(self) -> bool {
        !matches!(self, Self::Reset | Self::Silent)
    }
}

/// A header of an answer.
pub type Header = (&'static str, Cow<'static, str>);

/// What shall happen.
#[derive(Debug)]
pub struct Script {
    /// Of the head; of no meaning where [`End::has_head`] is false.
    pub status: u16,
    /// Without framing and date.
    pub headers: Vec<Header>,
    /// Before the head.
    pub delay: Duration,
    /// Whether the length of the body is not to be told: a stream, or a body that will be cut.
    pub chunked: bool,
    pub steps: Steps,
    pub end: End,
    /// What was asked for, if the body could be read so far.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
}

/// Why planning stops before an answer is made.
pub(super) enum Stop {
    Fault(Fault),
    End(End),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What planning has found out so far.
pub(super) struct Plan<'a> {
    pub request: &'a SimRequest<'a>,
    pub state: &'a State,
    pub dialect: Dialect,
    pub delay: Duration,
    pub end: End,
    pub departures: Departures,
    pub retry_after: Option<u32>,
    pub allow: Option<&'static str>,
    pub model: Option<String>,
    pub stream: bool,
}

/// Plans the answer to `request`. `state` is what `-once` and `flap` depend on.
pub fn plan(request: &SimRequest<'_>, state: &State) -> Script {
    // Only the list of models has the same path in both dialects.
    let lists_models = request.path.starts_with("/v1/models");
    let dialect = if request.path.starts_with("/v1/messages")
        || (lists_models && request.anthropic_version)
    {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    };
    let mut plan = Plan {
        request,
        state,
        dialect,
        delay: Duration::ZERO,
        end: End::Complete,
        departures: Departures::default(),
        retry_after: None,
        allow: None,
        model: None,
        stream: false,
    };
    let request_id = format!("req_sim{:012}", state.next_request());
    let (status, body) = match reply::body(&mut plan) {
        Ok(body) => (200, body),
        Err(Stop::Fault(fault)) => {
            plan.end = End::Complete;
            plan.departures = Departures::default();
            (fault.status, Body::Ready(fault.body(dialect, &request_id)))
        }
        Err(Stop::End(end)) => {
            plan.end = end;
            (0, Body::Ready(Vec::new()))
        }
    };
    let events = matches!(body, Body::Events(_));
    if !events {
        // A plain answer comes after its first token, so what delays that delays the whole.
        plan.delay += plan.departures.first_token;
    }
    Script {
        status,
        headers: plan.headers(request_id, events, status),
        delay: plan.delay,
        chunked: events || matches!(plan.end, End::Cut | End::Stall),
        steps: Steps::new(body, plan.departures),
        end: plan.end,
        model: plan.model,
        stream: plan.stream,
    }
}

/// The vendors' answer to a model that does not exist.
pub(super) fn unknown_model(name: &str, unknown: &Unknown) -> Fault {
    let name: String = name.chars().take(256).collect();
    let text = format!("The model `{name}` does not exist{}", unknown.explain());
    Fault::new(404, text).param("model").code("model_not_found")
}

impl Plan<'_> {
    /// Finds out how to behave, and stops here where the behaviour is a failure.
    pub fn behave(&mut self, model: Option<&str>) -> Result<Behaviours, Stop> {
        let header = self.request.x_sim;
        let spec = Spec::parse(model, header)
            .map_err(|unknown| unknown_model(model.or(header).unwrap_or(""), &unknown))?;
        let mut first_seen = self.request.received;
        let behaviours = if spec.has_state() {
            let key = text::hash(model.unwrap_or("").as_bytes())
                ^ text::mix(text::hash(header.unwrap_or("").as_bytes()));
            let (at, is_first) = self.state.first_seen(key, self.request.received);
            first_seen = at;
            spec.later.filter(|_| !is_first).unwrap_or(spec.first)
        } else {
            spec.first
        };
        self.delay = behaviours.latency;
        self.retry_after = behaviours.retry_after;
        self.fail(&behaviours, first_seen)?;
        if behaviours.strict {
            strict::check(self.dialect, self.request.path, self.request.body)?;
        }
        self.departures = Departures {
            first_token: behaviours.first_token,
            gap: behaviours.pace.map_or(Duration::ZERO, |pace| pace.gap),
            tokens_max: behaviours.cut.or(behaviours.stall),
            malformed: behaviours.malformed,
            no_end: behaviours.no_end,
        };
        self.end = match (behaviours.cut, behaviours.stall) {
            (Some(cut), Some(stall)) if stall < cut => End::Stall,
            (Some(_), _) => End::Cut,
            (None, Some(_)) => End::Stall,
            (None, None) => End::Complete,
        };
        if let (Some(cut), Some(stall)) = (behaviours.cut, behaviours.stall) {
            self.departures.tokens_max = Some(cut.min(stall));
        }
        Ok(behaviours)
    }

    /// The failures that need nothing of the request but its name.
    fn fail(&self, behaviours: &Behaviours, first_seen: Instant) -> Result<(), Stop> {
        if behaviours.reset {
            return Err(Stop::End(End::Reset));
        }
        if behaviours.silent {
            return Err(Stop::End(End::Silent));
        }
        let down_for = behaviours.flap.unwrap_or_default();
        if self.request.received.saturating_duration_since(first_seen) < down_for {
            return Err(Fault::of_status(503).into());
        }
        if let Some(status) = behaviours.status {
            return Err(Fault::of_status(status).into());
        }
        if behaviours.content_filter {
            return Err(match self.dialect {
                Dialect::OpenAi => Fault::new(
                    400,
                    "The response was filtered due to the prompt triggering the content \
                     management policy. Please modify your prompt and retry.",
                )
                .param("prompt")
                .code("content_filter"),
                Dialect::Anthropic => Fault::new(400, "Output blocked by content filtering policy"),
            }
            .into());
        }
        Ok(())
    }

    /// The headers that the vendor sends.
    fn headers(&self, request_id: String, events: bool, status: u16) -> Vec<Header> {
        let mut headers: Vec<Header> = Vec::with_capacity(12);
        let mut add = |name, value: Cow<'static, str>| headers.push((name, value));
        let kind = match events {
            true => "text/event-stream; charset=utf-8",
            false => "application/json",
        };
        add("content-type", kind.into());
        if events {
            add("cache-control", "no-cache".into());
        }
        match self.dialect {
            Dialect::OpenAi => {
                add("x-request-id", request_id.into());
                add("openai-version", "2020-10-01".into());
                add(
                    "openai-processing-ms",
                    match self.delay.as_millis() {
                        0 => "0".into(),
                        ms => ms.to_string().into(),
                    },
                );
                add("x-ratelimit-limit-requests", "100000".into());
                add("x-ratelimit-limit-tokens", "10000000".into());
                add(
                    "x-ratelimit-remaining-requests",
                    if status == 429 { "0" } else { "99999" }.into(),
                );
                add("x-ratelimit-remaining-tokens", "9999000".into());
                add("x-ratelimit-reset-requests", "1ms".into());
                add("x-ratelimit-reset-tokens", "6ms".into());
            }
            Dialect::Anthropic => {
                let reset = Utc::at(self.request.at).rfc3339_seconds();
                add("request-id", request_id.into());
                add("anthropic-ratelimit-requests-limit", "100000".into());
                add(
                    "anthropic-ratelimit-requests-remaining",
                    if status == 429 { "0" } else { "99999" }.into(),
                );
                add("anthropic-ratelimit-requests-reset", reset.clone().into());
                add("anthropic-ratelimit-tokens-limit", "10000000".into());
                add("anthropic-ratelimit-tokens-remaining", "9999000".into());
                add("anthropic-ratelimit-tokens-reset", reset.into());
            }
        }
        if let Some(seconds) = self.retry_after.filter(|_| status >= 400) {
            add("retry-after", seconds.to_string().into());
        }
        if let Some(allow) = self.allow {
            add("allow", allow.into());
        }
        headers
    }
}
