//! The account of one call: who served it, how long it took, how it ended.
//!
//! Counters move before the last byte of an answer is written, so that whoever has the answer
//! also finds it in the metrics; the log line follows. Each call is accounted exactly once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Coordinator;
use super::call::{Call, error_response, push_request_id};
use crate::config::checked::Retry;
use crate::front::{Responder, Response};
use crate::log::{self, CallRecord};
use crate::metrics::{Outcome, ProviderMetrics, Route, Settled, Token};
use crate::provider::Header;
use crate::provider::breaker::{State, Ticket};
use crate::provider::route::Target;
use crate::wire::Endpoint;
use crate::wire::errors::ApiError;
use crate::wire::request::Scanned;
use crate::wire::usage::Usage;

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
            settled: false,
            status: 0,
            error_type: "",
            message: String::new(),
        }
    }

    /// As [`Coordinator::keep_alive`], of a call whose body was looked into late.
    pub fn keep_alive(&self, scanned: &Scanned, responder: Option<&mut Responder>) {
        if let Some(responder) = responder {
            let (coordinator, id) = (&self.coordinator, &self.request_id);
            coordinator.keep_alive(self.endpoint, scanned, id, responder);
        }
    }

    /// Opens the account of a call that its coordinator does not take.
    pub fn rejected(call: &Call) -> Self {
        Self {
            taken: false,
            ..Self::of(call)
        }
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
        self.coordinator
            .process
            .http(Route::from(self.endpoint), status);
        if self.executed {
            self.coordinator.metrics.settle(&Settled {
                ran: self.taken,
                error: is_error(status, error_type),
                duration: self.received.elapsed(),
                first_event: self.first_event,
                streamed: self.streamed,
            });
        }
    }

    /// How often, and how far apart, a target may be asked.
    pub fn retry(&self) -> Retry {
        self.coordinator.config().retry
    }

    /// Counts a step to `target` after a failure elsewhere, or there, if there was one.
    pub fn moved_on(&self, failed: Option<(&Target, &'static str)>, target: &Target) {
        let is_retry = failed.is_some_and(|(before, _)| std::ptr::eq(before, target));
        if !is_retry {
            target.provider.governor().call(Instant::now());
        }
        let Some((before, reason)) = failed else {
            return;
        };
        let metrics = self.provider_metrics(before);
        match is_retry {
            true => metrics.shared().retried(reason),
            false => metrics.shared().failed_over(reason),
        }
    }

    /// The first event of the running attempt's stream has come.
    pub fn first_event_came(&mut self) {
        if self.first_event.is_none() {
            self.first_event = Some(self.received.elapsed());
        }
    }

    /// When the running attempt was about to be sent.
    pub const fn asked(&mut self, at: Option<Instant>) {
        self.asked = at;
    }

    /// The rate limit held a request back.
    pub fn held_back(&self, target: &Target) {
        self.provider_metrics(target).shared().held_back();
    }

    /// Counts events of a stream that were left out, being malformed.
    pub fn left_out(&self, target: &Target, events: u64) {
        self.provider_metrics(target).shared().left_out(events);
    }

    /// An attempt at `target` begins.
    pub fn attempt_begins(&mut self, target: &Target) {
        target.provider.name().clone_into(&mut self.provider);
        target.model.clone_into(&mut self.model);
        self.attempts += 1;
    }

    /// From here on the account is that of the attempt at `target`, which its breaker let through
    /// with `ticket`; `dropped` names what the provider is not told.
    pub fn turn_to(&mut self, target: &Target, ticket: Ticket, dropped: String) {
        target.provider.name().clone_into(&mut self.provider);
        target.model.clone_into(&mut self.model);
        self.dropped = dropped;
        self.ticket = Some(ticket);
        self.usage = Usage::default();
        if !self.stream_begun {
            self.first_event = None;
        }
        self.upstream_headers.clear();
        self.upstream_request_id.clear();
        self.note.clear();
    }

    /// Accounts for the attempt at hand, which has ended. `how` is its status or the word for what
    /// went wrong.
    pub fn attempt_ended(&mut self, target: &Target, outcome: Outcome, took: Duration, how: &str) {
        let ticket = self.ticket.take();
        let metrics = self.judge(target, ticket, outcome, took, how);
        for (token, count) in [
            (Token::Input, self.usage.input),
            (Token::Output, self.usage.output),
            (Token::CacheRead, self.usage.cache_read),
            (Token::CacheWrite, self.usage.cache_write),
            (Token::Reasoning, self.usage.reasoning),
        ] {
            metrics.tokens(token, count.unwrap_or(0));
        }
    }

    /// Counts an attempt that has ended, judges it before its breaker, and says so in the log.
    pub fn judge(
        &mut self,
        target: &Target,
        ticket: Option<Ticket>,
        outcome: Outcome,
        took: Duration,
        how: &str,
    ) -> Arc<ProviderMetrics> {
        // Without the waits for a permit and for a turn, which are our own.
        let asked = self.asked.take().map_or(took, |asked| asked.elapsed());
        let since_first = self.first_event.map_or(Duration::ZERO, |first| {
            self.received.elapsed().saturating_sub(first)
        });
        let first = asked.saturating_sub(since_first);
        let in_flight = || target.provider.permits_in_use();
        let governor = target.provider.governor();
        let (bear, turned) = governor.ended(&target.breaker, ticket, outcome, first, in_flight);
        if let Some(calls) = bear {
            target.provider.bear(calls);
        }
        if let Some(state) = turned {
            self.tell_breaker(target, state, how);
        }
        ::log::debug!(
            request_id = self.request_id.as_str(), coordinator = self.coordinator.name(),
            provider = target.provider.name(), model = target.model.as_str(),
            attempt = self.attempts, outcome = outcome.as_str(), how,
            duration_ms = took.as_secs_f64() * 1000.0;
            "attempt ended"
        );
        // A call that is answered at once has no path to speak of.
        let is_told = outcome != Outcome::Ok || !self.path.is_empty();
        if is_told && self.path.len() < PATH_BYTES_MAX {
            let separator = if self.path.is_empty() { "" } else { " " };
            let (provider, model) = (target.provider.name(), &target.model);
            self.path
                .push_str(&format!("{separator}{provider}/{model}:{how}"));
        }
        if outcome == Outcome::Ok {
            let process = &self.coordinator.process;
            process.admit_model(target.provider.name(), &target.model);
        }
        let metrics = self.provider_metrics(target);
        // From when it was sent: what it waited for before is no time of the provider's.
        metrics.settle(outcome, asked);
        metrics
    }

    /// Says that a breaker has opened or closed.
    fn tell_breaker(&self, target: &Target, state: State, how: &str) {
        let (provider, model) = (target.provider.name(), target.model.as_str());
        let request_id = self.request_id.as_str();
        match state {
            State::Closed => ::log::info!(
                request_id, provider, model;
                "circuit breaker closed: the model answers again"
            ),
            State::Open | State::HalfOpen => ::log::warn!(
                request_id, provider, model, how;
                "circuit breaker open: calls to the model failed, the last one with {how}"
            ),
        }
    }

    /// The attempt at hand was not made after all: its turn would have come too late.
    pub fn not_sent(&mut self) {
        self.ticket = None;
        self.attempts = self.attempts.saturating_sub(1);
    }

    fn provider_metrics(&self, target: &Target) -> Arc<ProviderMetrics> {
        let process = &self.coordinator.process;
        process.provider(target.provider.name(), &target.model)
    }

    /// Counts a second request beside a slow one.
    pub fn hedged(&self, target: &Target, outcome: &'static str) {
        self.provider_metrics(target).shared().hedged(outcome);
    }

    /// The coordinator's name.
    pub fn coordinator_name(&self) -> &'static str {
        self.coordinator.name()
    }

    /// Says what happened, once everything has been written.
    pub fn close(&self) {
        log::call_line(&CallRecord {
            request_id: &self.request_id,
            peer: Some(self.peer),
            route: Route::from(self.endpoint).as_str(),
            coordinator: self.coordinator.name(),
            provider: &self.provider,
            model: &self.model,
            status: self.status,
            duration: self.received.elapsed(),
            cache: "bypass",
            attempts: self.attempts,
            path: match self.attempts {
                ..=1 => "",
                _ => &self.path,
            },
            error_type: self.error_type,
            message: &self.message,
            streamed: self.streamed,
            client_gone: self.status == CLIENT_LEFT,
            failed: is_error(self.status, self.error_type),
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

    /// Answers with an error of ours.
    pub fn refuse(mut self, error: &ApiError, responder: Responder, retry_after: Option<Duration>) {
        let dialect = self.endpoint.dialect();
        let mut response = error_response(dialect, error, &self.request_id, retry_after);
        self.push_headers(&mut response);
        self.settle(
            error.status,
            error.code.unwrap_or(error.kind.label()),
            &error.message,
        );
        responder.respond(response);
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
        response.push_header("x-victor-cache", b"bypass");
        let mut digits = [0; 10];
        response.push_header("x-victor-attempts", decimal(&mut digits, self.attempts));
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

/// `number` in decimal, without allocating.
fn decimal(digits: &mut [u8; 10], mut number: u32) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
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

    #[test]
    fn numbers_are_decimal() {
        for (number, expected) in [(0, "0"), (7, "7"), (120, "120"), (u32::MAX, "4294967295")] {
            assert_eq!(decimal(&mut [0; 10], number), expected.as_bytes());
        }
    }
}
