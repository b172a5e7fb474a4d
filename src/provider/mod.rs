//! The providers: the only module that opens sockets outward.
//!
//! A [`Provider`] makes one attempt at one call: it takes a permit, sends, and returns an answer
//! or what went wrong. It never retries a failure, never chooses another target and never looks
//! into a body: those are the business of whoever calls it, with [`route`] saying who serves a
//! model. A request can neither choose a URL here nor see a key.
//!
//! A permit is a slot, and each slot has an agent of its own whose pool holds its one connection.
//! One agent for all would do too, but its pool is a list behind a lock that every call searches
//! twice, and its bound on idle connections is not one on connections. This way there are never
//! more connections than `max_connections`, the one used last is warm and used next, and no call
//! waits for another's lock. TLS configuration, resumable sessions and looked-up names are shared.
//!
//! [`shared_cache`] is no provider: it is here since it opens sockets too.
//!
//! Start at [`Provider::call`]; then `upstream` (the request), `transport` (the socket), `line`
//! (deadlines and cancelling between the two), `stream` and `error`.

pub mod adaptive;
mod anthropic;
pub mod backoff;
pub mod breaker;
pub mod bucket;
pub mod budget;
mod buffers;
mod error;
pub mod governor;
mod head;
mod headers;
pub mod hints;
pub mod keys;
pub mod limiter;
mod line;
mod mask;
mod openai;
mod providers;
mod resolver;
mod restart;
pub mod route;
mod semaphore;
pub mod shared_cache;
mod simulator;
mod stream;
mod time;
mod transport;
mod upstream;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use serde::de::IgnoredAny;
use ureq::http::{Response, header};

pub use error::{Cause, Phase, ProviderError};
pub use governor::Governor;
pub use headers::Header;
pub use providers::Providers;
pub use restart::Restarted;
pub use stream::Stream;

use crate::cancel::Cancel;
use crate::config::checked::{self, Batching, Kind, Speech};
use crate::thread;
use crate::wire::Endpoint;
use head::{check_head, is_event_stream};
use limiter::Limiter;
use line::Line;
use semaphore::{Permit, Refused, Semaphore};
use stream::{Http, Lease, Source};
use time::Time;
use upstream::{Client, Upstream};

/// Bytes of an answer that is read whole, at most.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes read at first, and at most, at a time of an answer that is read whole.
const PLAIN_READ_BYTES: usize = 8 << 10;
const PLAIN_READ_BYTES_MAX: usize = 256 << 10;

/// One attempt.
#[derive(Clone, Copy)]
pub struct Outbound<'a> {
    /// What is asked for; of the provider's dialect.
    pub endpoint: Endpoint,
    /// The provider's own name for the model.
    pub model: &'a str,
    /// Sent in order, as one body.
    pub body: [&'a [u8]; 3],
    /// The caller's headers that may go to a provider, already picked.
    pub headers: &'a [(&'a str, &'a str)],
    /// Whether the body asks for a stream.
    pub streamed: bool,
    /// For the log.
    pub request_id: &'a str,
    /// Ends the attempt from another thread.
    pub cancel: &'a Arc<Cancel>,
    /// Plain: for the whole attempt. Streamed: until the first event.
    pub deadline: Instant,
    /// How fast the model may be asked; see [`Governor::pace`].
    pub pace: &'a Limiter,
    /// Set to the time at which the request was about to be sent, all waits behind it.
    pub asked: &'a Cell<Option<Instant>>,
    /// Set if the rate limit held the request back.
    pub held_back: &'a Cell<bool>,
}

/// What a provider answered, whatever its status.
pub struct Answer {
    /// From 200 to 299 or from 400 to 599.
    pub status: u16,
    /// Those that go back to the caller; names in lower case.
    pub headers: Vec<Header>,
    /// The provider's own id of the request.
    pub upstream_request_id: Option<String>,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The body, or the way to it.
    pub body: AnswerBody,
}

/// The body of an answer.
pub enum AnswerBody {
    /// The whole of it, at most [`ANSWER_BYTES_MAX`].
    Plain(Vec<u8>),
    /// Events: the call was streamed, the status 2xx, the type `text/event-stream`.
    Stream(Stream),
}

/// One provider.
pub struct Provider {
    name: thread::Name,
    kind: Kind,
    speech: Speech,
    batching: Option<Batching>,
    timeout: Duration,
    first_token_timeout: Duration,
    idle_timeout: Duration,
    permits: Arc<Semaphore<Client>>,
    governor: Governor,
    /// Find our keys in what the provider says, for some quote them; the longest first, so that none
    /// is masked as the beginning of another.
    keys: Vec<Finder<'static>>,
    via: Via,
}

enum Via {
    Http(Box<Upstream>),
    Simulator(simulator::Simulator),
}

impl Provider {
    /// From what the configuration says. Opens no connection.
    ///
    /// # Errors
    /// A sentence that begins with the key at fault; see [`Upstream::new`].
    pub fn new(config: &checked::Provider) -> Result<Arc<Self>, String> {
        let via = match config.kind {
            Kind::Simulator => Via::Simulator(simulator::Simulator::default()),
            Kind::Openai | Kind::Anthropic => {
                let upstream = Upstream::new(config);
                let named = |why| format!("providers.{}.{why}", config.name);
                Via::Http(Box::new(upstream.map_err(named)?))
            }
        };
        Ok(Arc::new(Self {
            name: thread::Name::new(&config.name),
            kind: config.kind,
            speech: config.speech,
            batching: config.batching,
            timeout: config.timeout,
            first_token_timeout: config.first_token_timeout,
            idle_timeout: config.idle_timeout,
            keys: mask::finders(&config.api_keys),
            governor: Governor::new(config),
            permits: Semaphore::new(config.max_connections.get(), upstream::IDLE_AGE_MAX),
            via,
        }))
    }

    /// The name in the configuration.
    pub const fn name(&self) -> &'static str {
        self.name.as_str()
    }

    /// The kind in the configuration.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The endpoint at which the provider is asked what a caller asks at `asked`: the same where
    /// it has that, so that the body passes through; else the one that the call is translated
    /// for. `None`: it has nothing of the kind.
    pub fn endpoint_for(&self, asked: Endpoint) -> Option<Endpoint> {
        let has = |endpoint| match &self.via {
            Via::Http(upstream) => upstream.serves(endpoint),
            // It keeps no conversations; this process does that for it.
            Via::Simulator(_) => endpoint != Endpoint::Responses,
        };
        if has(asked) {
            return Some(asked);
        }
        let others = [Endpoint::ChatCompletions, Endpoint::Messages];
        others
            .into_iter()
            .find(|other| asked.is_chat() && has(*other))
    }

    /// How embedding calls for it are merged, if they are.
    pub const fn batching(&self) -> Option<Batching> {
        self.batching
    }

    /// What its server understands of its dialect.
    pub const fn speech(&self) -> Speech {
        self.speech
    }

    /// What it has learnt from its calls.
    pub const fn governor(&self) -> &Governor {
        &self.governor
    }

    /// How many calls may run from now on, where that adapts.
    pub fn bear(&self, calls: usize) {
        self.permits.set_max(calls);
    }

    /// Calls that run now.
    pub fn permits_in_use(&self) -> usize {
        self.permits.in_use()
    }

    /// Calls that wait for a permit now.
    pub fn permits_waiting(&self) -> usize {
        self.permits.waiting()
    }

    /// Refuses new calls, and those that wait for a permit. Those that run go on to their end;
    /// their connections close with them, idle ones now.
    pub fn shutdown(&self) {
        for client in self.permits.close() {
            client.agent.shutdown();
        }
    }

    /// Makes one attempt. Blocks, at most until `outbound.deadline`, the provider's own timeout
    /// or a cancel, whichever is first. The permit is held until the answer is whole or its
    /// stream has ended or is dropped.
    ///
    /// # Errors
    /// See [`Cause`]. An answer with an error status is an answer.
    pub fn call(self: &Arc<Self>, outbound: &Outbound<'_>) -> Result<Answer, ProviderError> {
        thread::set_provider(self.name);
        self.attempt(outbound).map_err(|cause| {
            // Whatever broke, broke because of the cancel.
            let reason = outbound.cancel.reason();
            self.error(reason.map_or(cause, Cause::Cancelled))
        })
    }

    fn attempt(self: &Arc<Self>, outbound: &Outbound<'_>) -> Result<Answer, Cause> {
        if let Some(reason) = outbound.cancel.reason() {
            return Err(Cause::Cancelled(reason));
        }
        // Whoever waits for one model's quota to come back must not hold what the others need.
        self.wait(
            outbound,
            outbound.pace.acquire(outbound.cancel, outbound.deadline),
        )?;
        let permit = self.permit(outbound)?;
        let turn = self
            .governor
            .wait_for_turn(outbound.cancel, outbound.deadline);
        self.wait(outbound, turn)?;
        outbound.asked.set(Some(Instant::now()));
        let own = match outbound.streamed {
            true => self.first_token_timeout,
            false => self.timeout,
        };
        let time = Time::new(outbound.deadline, own);
        let answer = match &self.via {
            Via::Http(upstream) => self.over_http(upstream, permit, outbound, time),
            Via::Simulator(simulator) => simulator.call(self, permit, outbound, time),
        };
        answer.map_err(|cause| time.judge(cause))
    }

    fn permit(&self, outbound: &Outbound<'_>) -> Result<Permit<Client>, Cause> {
        let permit = match self.permits.try_acquire() {
            Ok(None) => {
                thread::set_state(thread::State::WaitingPermit);
                self.permits.acquire(outbound.cancel, outbound.deadline)
            }
            Ok(Some(permit)) => Ok(permit),
            Err(refused) => Err(refused),
        };
        permit.map_err(|refused| match refused {
            Refused::Deadline => Cause::NoPermit,
            // The caller of this puts the reason in its place.
            Refused::Cancelled | Refused::Closed => Cause::Closed,
        })
    }

    /// What came of a wait for a limiter.
    fn wait(
        &self,
        outbound: &Outbound<'_>,
        waited: Result<Duration, limiter::Refused>,
    ) -> Result<(), Cause> {
        if waited != Ok(Duration::ZERO) {
            outbound.held_back.set(true);
        }
        waited.map(drop).map_err(|refused| match refused {
            limiter::Refused::Deadline => {
                let now = Instant::now();
                let free = self.governor.next_free(outbound.pace, now);
                Cause::RateLimited(free.saturating_duration_since(now))
            }
            // The caller of this puts the reason in its place.
            limiter::Refused::Cancelled => Cause::Closed,
        })
    }

    /// Sends the request, once more with each further key while the provider refuses a key or its
    /// quota is used up.
    fn send(
        &self,
        upstream: &Upstream,
        lease: &mut Lease,
        outbound: &Outbound<'_>,
        time: Time,
    ) -> Result<(Response<ureq::Body>, Option<Duration>), Cause> {
        let key = |now: Instant| {
            let key = self.governor.key(now);
            key.map_err(|until| Cause::RateLimited(until.saturating_duration_since(now)))
        };
        let mut with = key(Instant::now())?;
        let mut left = self.governor.keys();
        let mut limited_until = None;
        loop {
            let response = upstream.send(lease.client(upstream), outbound, with, time.by)?;
            let status = response.status().as_u16();
            let headers = headers::pairs(response.headers());
            let (hints, other_key) = self.governor.heed(status, headers, with, outbound.pace);
            // One that rests may be back before the last one is asked: each has one turn in a call.
            left -= 1;
            let another = (other_key && left > 0).then(|| key(Instant::now()));
            let Some(Ok(another)) = another else {
                // A key that is good and rests says more than one that is none.
                return match limited_until.filter(|_| matches!(status, 401 | 403)) {
                    Some(rest) => Err(Cause::RateLimited(rest)),
                    None => Ok((response, hints.retry_after)),
                };
            };
            if matches!(status, 401 | 403) {
                ::log::warn!(
                    request_id = outbound.request_id, provider = self.name();
                    "key {} of {} is refused ({status}) and not used for 10 minutes", with + 1,
                    self.governor.keys()
                );
            }
            limited_until = limited_until.or(match (status, hints.retry_after) {
                (429, after) => Some(after.unwrap_or(limiter::PAUSE_DEFAULT)),
                _ => None,
            });
            with = another;
            // So that the connection can be used again.
            self.read_whole(response, lease, outbound.streamed)?;
        }
    }

    fn over_http(
        self: &Arc<Self>,
        upstream: &Upstream,
        permit: Permit<Client>,
        outbound: &Outbound<'_>,
        time: Time,
    ) -> Result<Answer, Cause> {
        let mut lease = Lease::new(permit, upstream);
        let (response, retry_after) = self.send(upstream, &mut lease, outbound, time)?;
        let status = response.status().as_u16();
        check_head(&response)?;
        let is_stream = outbound.streamed && (200..300).contains(&status) && {
            let pairs = headers::pairs(response.headers());
            is_event_stream(pairs)
        };
        let mut headers = headers::relayed(headers::pairs(response.headers()));
        for (_, value) in &mut headers {
            self.mask_text(value);
        }
        let mut upstream_request_id = headers::request_id(headers::pairs(response.headers()));
        if let Some(id) = &mut upstream_request_id {
            self.mask_text(id);
        }
        let body = if is_stream {
            let reader = response.into_body().into_reader();
            let source = Source::Http(Box::new(Http { reader, lease }));
            let cancel = Arc::clone(outbound.cancel);
            AnswerBody::Stream(Stream::new(Arc::clone(self), source, cancel, time))
        } else {
            let is_success = response.status().is_success();
            let body = self.read_whole(response, &lease, outbound.streamed)?;
            if outbound.streamed && is_success {
                let why = "an event stream was asked for, and something else came";
                return Err(Cause::Malformed(why.to_owned()));
            }
            AnswerBody::Plain(self.mask_key(&body).unwrap_or(body))
        };
        Ok(Answer {
            status,
            headers,
            upstream_request_id,
            retry_after,
            body,
        })
    }

    fn read_whole(
        &self,
        response: Response<ureq::Body>,
        lease: &Lease,
        streamed: bool,
    ) -> Result<Vec<u8>, Cause> {
        let length = response.body().content_length();
        let is_success = response.status().is_success();
        let is_framed = length.is_some()
            || response.headers().contains_key(header::TRANSFER_ENCODING)
            || response.status().as_u16() == 204;
        if length.is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
            return Err(Cause::TooLarge);
        }
        let mut reader = response.into_body().into_reader();
        let mut body = Vec::new();
        // The last read, which finds nothing, is what returns the connection to its pool.
        let mut most = PLAIN_READ_BYTES;
        loop {
            match stream::read_some(&mut reader, &mut body, most) {
                Ok(0) => break,
                Ok(_) if body.len() > ANSWER_BYTES_MAX => return Err(Cause::TooLarge),
                Ok(amount) => {
                    // Room is cleared before it is read into, so it follows what comes.
                    if amount == most {
                        most = (most * 2).min(PLAIN_READ_BYTES_MAX);
                    }
                }
                Err(error) => return Err(self.cause(lease.line(), error.into(), streamed, false)),
            }
        }
        // Framed by nothing but the end of the connection, a cut cannot be told from an end; but
        // half a JSON value can be told from a whole one.
        if is_success && !is_framed && serde_json::from_slice::<IgnoredAny>(&body).is_err() {
            return Err(Cause::Cut);
        }
        Ok(body)
    }

    fn cause(&self, line: &Line, error: ureq::Error, streamed: bool, begun: bool) -> Cause {
        match &self.via {
            Via::Http(upstream) => upstream.cause(line, error, streamed, begun),
            Via::Simulator(_) => Cause::Closed,
        }
    }

    fn error(&self, cause: Cause) -> ProviderError {
        ProviderError {
            provider: self.name(),
            cause: self.mask_cause(cause),
        }
    }
}
