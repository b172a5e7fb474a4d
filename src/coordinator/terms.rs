//! On what terms a call may share an answer: under which key, in which shape, for how long.
//!
//! Pure, but for what the thread [remembers](super::memo). Start at [`Terms::of`]; a call without
//! terms goes past the cache.

use std::time::Duration;

use crate::cache::{Key, Owner, Place};
use crate::config::checked;
use crate::front::Request;
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::request::Scanned;

use super::memo;
use super::ready::ANSWER_HEADERS;

/// The longest time that a call may ask for.
const TTL_MAX_SECONDS: u64 = 31 * 86_400;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One body.
    Whole,
    /// Events, with the usage where the dialect has it.
    Stream,
    /// Events of OpenAI's chat without the usage, which was not asked for.
    BareStream,
}

impl Shape {
    /// Whether it is one of events.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Self::Whole)
    }
}

/// What is common to all calls of a coordinator.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    pub cache: &'a checked::Cache,
    pub coordinator: &'a checked::Coordinator,
    pub owner: Owner,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Under which the answer is kept.
    pub key: Key,
    /// Whose the answer is.
    pub owner: Owner,
    /// Of answers that have all of it and more.
    pub richer: Option<Key>,
    pub shape: Shape,
    /// Whether one shape can be made into the other.
    pub is_convertible: bool,
    /// Whether an answer of before will do.
    pub may_read: bool,
    /// How old it may be.
    pub age_max: Option<Duration>,
    /// How long the answer may be given again.
    pub ttl: Duration,
    /// Whether that is only the window for calls that come a moment too late to share it.
    pub is_window: bool,
    /// Whether it may be shared while it is on its way.
    pub coalesces: bool,
}

impl Terms {
    /// The terms of a call for which `scanned` was found in the body of `request`; `None`: its
    /// answer is nobody else's, and nobody else's is its own. `target` says what the model stands
    /// for, `scope` for whom the call is.
    ///
    /// # Errors
    /// A header that says how to cache is none.
    pub fn of(
        policy: Policy<'_>,
        endpoint: Endpoint,
        scanned: &Scanned,
        request: &Request,
        target: &str,
        scope: &[u8; 32],
    ) -> Result<Option<Self>, ApiError> {
        let ttl = asked_ttl(request)?;
        let Policy {
            cache,
            coordinator,
            owner,
        } = policy;
        let control = Control::of(request);
        let asked = &scanned.asked;
        let is_sampled = !matches!(endpoint, Endpoint::Embeddings | Endpoint::CountTokens)
            && !asked.is_greedy
            && !asked.has_seed;
        // A stored response has a name of its own, and can be gone on with.
        let is_stored = asked.store.unwrap_or(endpoint == Endpoint::Responses);
        if !cache.enabled
            || control.no_store
            || is_stored
            || asked.is_stateful
            || endpoint == Endpoint::CountTokens
            || is_sampled && !coordinator.cache_sampled
        {
            return Ok(None);
        }
        let window = match cache.enable_coalescing {
            true => cache.coalescing_window,
            false => Duration::ZERO,
        };
        let ttl = ttl.unwrap_or(coordinator.cache_ttl.unwrap_or(cache.default_ttl));
        if ttl.max(window).is_zero() && !cache.enable_coalescing {
            return Ok(None);
        }
        let shape = match (scanned.stream && endpoint.streams(), endpoint) {
            (false, _) => Shape::Whole,
            (true, Endpoint::ChatCompletions) if !asked.include_usage => Shape::BareStream,
            (true, _) => Shape::Stream,
        };
        let is_convertible = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Messages);
        let scope = match cache.shared_between_keys {
            true => &[0; 32],
            false => scope,
        };
        let Some(key) = key(endpoint, &coordinator.name, target, scope, request, scanned) else {
            return Ok(None);
        };
        // What cannot be converted has a key for each shape.
        let is_apart = shape == Shape::BareStream || !is_convertible && shape.is_stream();
        Ok(Some(Self {
            key: match is_apart {
                true => key.variant(),
                false => key,
            },
            owner,
            richer: (shape == Shape::BareStream).then_some(key),
            shape,
            is_convertible,
            may_read: !control.no_cache,
            age_max: control.age_max,
            ttl: ttl.max(window),
            is_window: ttl < window,
            coalesces: cache.enable_coalescing && !control.no_cache,
        }))
    }
}

/// The key of a call, headers that can change its answer included.
fn key(
    endpoint: Endpoint,
    coordinator: &str,
    route: &str,
    scope: &[u8; 32],
    request: &Request,
    scanned: &Scanned,
) -> Option<Key> {
    let mut headers = [("", &b""[..]); ANSWER_HEADERS.len()];
    let mut count = 0;
    for name in ANSWER_HEADERS {
        if let Some(value) = request.header(name) {
            headers[count] = (name, value.as_bytes());
            count += 1;
        }
    }
    let place = Place {
        endpoint,
        coordinator,
        route,
        scope,
        headers: &headers[..count],
    };
    memo::key(&place, &request.body, scanned)
}

/// The call's own `x-victor-ttl`, in seconds.
fn asked_ttl(request: &Request) -> Result<Option<Duration>, ApiError> {
    let Some(text) = request.header("x-victor-ttl") else {
        return Ok(None);
    };
    match digits(text.trim()).filter(|seconds| *seconds <= TTL_MAX_SECONDS) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => {
            let message = format!(
                "the header x-victor-ttl is a whole number of seconds from 0 to {TTL_MAX_SECONDS}"
            );
            Err(ApiError::new(Kind::InvalidRequest, message).code("invalid_ttl"))
        }
    }
}

/// A number of nothing but digits; one that is too large is the largest.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// What a caller's `cache-control` says (RFC 9111, section 5.2.1); what is unknown there means
/// nothing.
#[derive(Default)]
struct Control {
    no_store: bool,
    no_cache: bool,
    age_max: Option<Duration>,
}

impl Control {
    fn of(request: &Request) -> Self {
        let mut control = Self::default();
        // Several lines are one list (RFC 9110, section 5.3).
        let lines = request.headers();
        let lines = lines.filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"));
        for directive in lines.flat_map(|(_, value)| value.split(',')) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            if name.eq_ignore_ascii_case("no-store") {
                control.no_store = true;
            } else if name.eq_ignore_ascii_case("no-cache") {
                control.no_cache = true;
            } else if name.eq_ignore_ascii_case("max-age") {
                // What is no number is as good as 0 (RFC 9111, section 4.2.1).
                let seconds = digits(argument.trim().trim_matches('"')).unwrap_or(0);
                let age = Duration::from_secs(seconds);
                control.age_max = Some(control.age_max.map_or(age, |other| other.min(age)));
            }
        }
        if control.age_max.is_some_and(|age| age.is_zero()) {
            control.no_cache = true;
        }
        control
    }
}
