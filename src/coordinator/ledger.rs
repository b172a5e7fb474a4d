//! The account of one call: who served it, how long it took, how it ended.
//!
//! Counters move before the last byte of an answer is written, so that whoever has the answer
//! also finds it in the metrics; the log line follows. Each call is accounted exactly once.

mod attempts;
mod shared;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Coordinator;
use super::call::{Call, push_request_id};
use super::caller::Caller;
use crate::config::checked::Retry;
use crate::decimal::decimal;
use crate::front::Response;
use crate::log::{self, CallRecord};
use crate::metrics::{Accounted, Cached, Route, Settled};
use crate::provider::Header;
use crate::provider::breaker::Ticket;
use crate::wire::Endpoint;
use crate::wire::errors::ApiError;
use crate::wire::usage::Usage;

pub(super) use shared::{Ended, Served};

/// Bytes of the path that the log shows of a call with many attempts.
const PATH_BYTES_MAX: usize = 1000;
const CONTENT_TYPE: &str = "content-type";
/// The status of a call whose client left, in metrics and log: nobody is told it.
const CLIENT_LEFT: u16 = 499;

/// What is known of a call so far.
pub struct Ledger {
    endpoint: Endpoint,
    coordinator: Arc<Coordinator>,
    pub request_id: String,
    peer: SocketAddr,
    received: Instant,
    /// Whether the call counts as an execution: it reached the coordinator and is a call.
    executed: bool,
    /// Whether the coordinator took it.
    taken: bool,
    /// Whether it is a call of a caller's. One that was merged from several is not: each of those
    /// is accounted for.
    is_callers: bool,
    /// How many calls were asked for in one with this one, itself included; 0 for a call that
    /// cannot be merged.
    merged: u32,
    pub provider: String,
    pub model: String,
    pub attempts: u32,
    pub streamed: bool,
    /// How many choices were asked for; see `Scanned::choices`.
    pub choices: Option<u32>,
    pub first_event: Option<Duration>,
    pub usage: Usage,
    /// What the provider said of itself beside its answer, passed back with whatever is answered.
    pub upstream_headers: Vec<Header>,
    pub upstream_request_id: String,
    /// Every attempt and how it ended, once there was more than one.
    path: String,
    /// The running attempt's, for its breaker.
    ticket: Option<Ticket>,
    asked: Option<Instant>,
    /// The caller has been sent a part of a stream.
    pub stream_begun: bool,
    /// The names of what the provider was not told, or the caller cannot be.
    pub dropped: String,
    /// What of the answer was estimated here.
    pub estimated: &'static str,
    /// What the log adds to the message.
    pub note: String,
    /// What the last attempt took.
    pub spent: Duration,
    /// How the call met the cache.
    pub cached: Cached,
    /// How old the answer is, in seconds, if it came from the cache.
    pub age: Option<u64>,
    /// Set once the call's own client has left while others wait for the same answer.
    pub left: Option<Arc<AtomicBool>>,
    has_left: bool,
    settled: bool,
    status: u16,
    error_type: &'static str,
    message: String,
}

impl Ledger {
    /// Opens the account of a call that reached its coordinator.
    pub fn of(call: &Call) -> Self {
        Self {
            endpoint: call.endpoint,
            coordinator: Arc::clone(&call.coordinator),
            request_id: call.request_id.clone(),
            peer: call.request.peer,
            received: call.request.received,
            executed: true,
            taken: true,
            is_callers: !matches!(call.caller, Caller::Batch(_)),
            merged: 0,
            provider: String::new(),
            model: call
                .decoded
                .as_ref()
                .map_or_else(String::new, |it| it.scanned.model.clone()),
            attempts: 0,
            streamed: false,
            choices: None,
            first_event: None,
            usage: Usage::default(),
            upstream_headers: Vec::new(),
            upstream_request_id: String::new(),
            path: String::new(),
            ticket: None,
            asked: None,
            stream_begun: false,
            dropped: String::new(),
            estimated: "",
            note: String::new(),
            spent: Duration::ZERO,
            cached: call.cached,
            age: None,
            left: None,
            has_left: false,
            settled: false,
            status: 0,
            error_type: "",
            message: String::new(),
        }
    }

    /// Opens the account of a call that its coordinator does not take.
    pub fn rejected(call: &Call) -> Self {
        Self {
            taken: false,
            ..Self::of(call)
        }
    }

    /// The coordinator does not take the call after all.
    pub fn not_taken(&mut self) {
        self.taken = false;
    }

    /// The call turned out not to be one, its body being no request.
    pub fn not_executed(&mut self) {
        self.executed = false;
    }

    /// Moves the counters. `error_type` is empty for a call that ended as it should. `status` is what
    /// the call came to: where a caller was kept waiting by the early head of a stream, which says
    /// 200, counters and log still have the 503 or 504 that it is told in the stream.
    pub fn settle(&mut self, status: u16, error_type: &'static str, message: &str) {
        if self.settled {
            return;
        }
        self.settled = true;
        self.status = status;
        self.error_type = error_type;
        message.clone_into(&mut self.message);
        if !self.note.is_empty() {
            self.message.push_str("; it said: ");
            self.message.push_str(&self.note);
        }
        let left = self.left.as_ref();
        self.has_left = left.is_some_and(|left| left.load(Ordering::Relaxed));
        if !self.is_callers {
            return;
        }
        let (told, error_type) = self.told();
        self.coordinator
            .process
            .http(Route::from(self.endpoint), told);
        if self.executed {
            self.coordinator.metrics.settle(&Settled {
                ran: self.taken,
                error: is_error(told, error_type),
                duration: self.received.elapsed(),
                first_event: self.first_event,
                streamed: self.streamed,
                cached: self.cached,
            });
        }
    }

    /// Status and error type as they count for the call's own client.
    const fn told(&self) -> (u16, &'static str) {
        match self.has_left {
            true => (CLIENT_LEFT, "client_gone"),
            false => (self.status, self.error_type),
        }
    }

    /// Settles as a whole answer that is an error of ours.
    pub fn settle_error(&mut self, error: &ApiError) {
        let error_type = error.code.unwrap_or(error.kind.label());
        self.settle(error.status, error_type, &error.message);
    }

    /// Charges to the coordinator what is still to be remembered of the answer.
    pub fn charge(&self) -> Accounted {
        Accounted::new(&self.coordinator.metrics)
    }

    /// Whether one call was made for several.
    pub const fn is_merged(&self) -> bool {
        self.merged > 0
    }

    /// Where the caller asked.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Since when the call is here.
    pub const fn received(&self) -> Instant {
        self.received
    }

    /// How often, and how far apart, a target may be asked.
    pub fn retry(&self) -> Retry {
        self.coordinator.config().retry
    }

    /// The coordinator's name.
    pub fn coordinator_name(&self) -> &'static str {
        self.coordinator.name()
    }

    /// Says what happened, once everything has been written.
    pub fn close(&self) {
        if !self.is_callers {
            return;
        }
        let (status, error_type) = self.told();
        log::call_line(&CallRecord {
            request_id: &self.request_id,
            peer: Some(self.peer),
            route: Route::from(self.endpoint).as_str(),
            coordinator: self.coordinator.name(),
            provider: &self.provider,
            model: &self.model,
            status,
            duration: self.received.elapsed(),
            cache: self.cached.as_str(),
            attempts: self.attempts,
            merged: self.merged,
            path: match self.attempts {
                ..=1 => "",
                _ => &self.path,
            },
            error_type,
            message: &self.message,
            streamed: self.streamed,
            client_gone: status == CLIENT_LEFT,
            failed: is_error(status, error_type),
            upstream_request_id: &self.upstream_request_id,
            time_to_first_token: self.first_event,
            input_tokens: self.usage.input,
            output_tokens: self.usage.output,
        });
    }

    /// The client left; nobody is to blame.
    pub fn client_left(mut self) {
        self.settle(CLIENT_LEFT, "client_gone", "");
        self.close();
    }

    /// The type of what the provider has answered; empty if it gave none.
    pub fn content_type(&self) -> &str {
        let mut headers = self.upstream_headers.iter();
        headers
            .find(|(name, _)| name == CONTENT_TYPE)
            .map_or("", |(_, value)| value)
    }

    /// A response with the headers that say how the call was served.
    pub fn response(&self, status: u16) -> Response {
        let mut response = Response::new(status);
        push_request_id(&mut response, self.endpoint.dialect(), &self.request_id);
        self.push_headers(&mut response);
        response
    }

    fn push_headers(&self, response: &mut Response) {
        response.push_header("x-victor-coordinator", self.coordinator.name().as_bytes());
        if !self.provider.is_empty() {
            response.push_header("x-victor-provider", self.provider.as_bytes());
            response.push_header("x-victor-model", self.model.as_bytes());
        }
        response.push_header("x-victor-cache", self.cached.as_str().as_bytes());
        let mut digits = [0; 20];
        let attempts = decimal(&mut digits, u64::from(self.attempts));
        response.push_header("x-victor-attempts", attempts);
        if let Some(age) = self.age {
            response.push_header("age", decimal(&mut digits, age));
        }
        if !self.upstream_request_id.is_empty() {
            let id = self.upstream_request_id.as_bytes();
            response.push_header("x-victor-upstream-request-id", id);
        }
        if !self.dropped.is_empty() {
            response.push_header("x-victor-dropped", self.dropped.as_bytes());
        }
        if !self.estimated.is_empty() {
            response.push_header("x-victor-estimated", self.estimated.as_bytes());
        }
        for (name, value) in &self.upstream_headers {
            if name != CONTENT_TYPE {
                response.push_header(name, value.as_bytes());
            }
        }
    }

    /// Whether the counters have moved.
    pub const fn is_settled(&self) -> bool {
        self.settled
    }
}

/// Whether an execution counts as failed: not where the caller is at fault (400, 404, 413 …) or
/// left. 401 and 403 come from a provider that refused our key; a status below 400 with an error
/// is a stream that broke off.
fn is_error(status: u16, error_type: &str) -> bool {
    match status {
        0..=399 => !error_type.is_empty(),
        401 | 403 | 408 | 429 => true,
        _ => status >= 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_did_wrong_is_no_error_of_ours() {
        for (status, error_type, expected) in [
            (200, "", false),
            (200, "provider_cut", true),
            (400, "caller_fault", false),
            (401, "provider_key_refused", true),
            (429, "rate_limited", true),
            (CLIENT_LEFT, "client_gone", false),
            (503, "queue_full", true),
        ] {
            assert_eq!(
                is_error(status, error_type),
                expected,
                "{status} {error_type}"
            );
        }
    }
}
