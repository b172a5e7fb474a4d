//! What a worker does with a call: decode what a front thread left undecoded, pick the target,
//! ask the provider, answer.
//!
//! One attempt at the first target that speaks the caller's dialect: retries, the next target
//! and translation belong between [`choose`] and [`Work::ask`]. Start at [`run`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Decoded};
use super::ledger::Ledger;
use super::relay;
use crate::cancel::Reason;
use crate::front::{Body, Responder};
use crate::metrics::{Accounted, Outcome};
use crate::provider::route::{Route, Target};
use crate::provider::{Answer, AnswerBody, Cause, Header, Outbound, ProviderError};
use crate::thread;
use crate::wire::errors::{ApiError, Kind, provider_reason};
use crate::wire::request::with_model;
use crate::wire::{Endpoint, usage};

/// Request headers that a provider is given, beside those that the provider module makes.
const FORWARDED: [&str; 5] = [
    "anthropic-version",
    "anthropic-beta",
    "openai-organization",
    "openai-project",
    "idempotency-key",
];

/// Runs a call to its end on the calling worker. Never panics.
pub fn run(call: Call) {
    thread::set_call(&call.request_id);
    call.responder.cancel().detach();
    let mut work = Work::new(call);
    if catch_unwind(AssertUnwindSafe(|| work.execute())).is_err() {
        ::log::error!(
            request_id = work.ledger.request_id.as_str();
            "a worker panicked in a call; the worker goes on"
        );
        let error = ApiError::new(
            Kind::Internal,
            "victor failed on this call; the log says why under this request id",
        );
        work.fail(&error, None);
    }
    work.end();
}

/// A call in a worker's hands.
struct Work {
    call: CallParts,
    /// Until the answer has begun.
    responder: Option<Responder>,
    ledger: Ledger,
    /// The bytes of this call that are charged to the coordinator.
    accounted: Accounted,
}

/// What of a call is needed until its end.
struct CallParts {
    endpoint: Endpoint,
    request: crate::front::Request,
    decoded: Option<Decoded>,
    routes: Arc<crate::provider::route::Routes>,
    deadline: Instant,
}

impl Work {
    fn new(call: Call) -> Self {
        let ledger = Ledger::of(&call);
        Self {
            call: CallParts {
                endpoint: call.endpoint,
                request: call.request,
                decoded: call.decoded,
                routes: call.routes,
                deadline: call.deadline,
            },
            responder: Some(call.responder),
            ledger,
            accounted: call.accounted,
        }
    }

    fn execute(&mut self) {
        if let Some(reason) = self.responder.as_ref().and_then(|it| it.cancel().reason()) {
            self.cancelled(reason);
            return;
        }
        if self.call.decoded.is_none() {
            match Decoded::of(&self.call.request.body, &self.call.routes) {
                Ok(decoded) => {
                    decoded.scanned.model.clone_into(&mut self.ledger.model);
                    self.call.decoded = Some(decoded);
                }
                Err(error) => {
                    self.ledger.not_executed();
                    self.fail(&error, None);
                    return;
                }
            }
        }
        let Some(decoded) = self.call.decoded.take() else {
            return;
        };
        match choose(&decoded.route, self.call.endpoint) {
            Ok(target) => self.ask(&decoded, target),
            Err(error) => self.fail(&error, None),
        }
    }

    /// Asks one target and answers with what comes back.
    fn ask(&mut self, decoded: &Decoded, target: &Target) {
        let Some(responder) = &self.responder else {
            return;
        };
        let cancel = Arc::clone(responder.cancel());
        target.provider.name().clone_into(&mut self.ledger.provider);
        target.model.clone_into(&mut self.ledger.model);
        self.ledger.attempts += 1;
        self.ledger.streamed = decoded.scanned.stream && self.call.endpoint.streams();
        let headers = forwarded(&self.call.request);
        let started = Instant::now();
        let answer = target.provider.call(&Outbound {
            endpoint: self.call.endpoint,
            model: &target.model,
            body: with_model(
                &self.call.request.body,
                &decoded.scanned.model_span,
                &target.model_json,
            ),
            headers: &headers,
            streamed: self.ledger.streamed,
            request_id: &self.ledger.request_id,
            cancel: &cancel,
            deadline: self.call.deadline,
        });
        match answer {
            Ok(answer) => self.pass_on(answer, target, started),
            Err(error) => {
                thread::set_state(thread::State::Running);
                self.ledger
                    .attempt_ended(target, error.outcome(), started.elapsed());
                self.provider_failed(&error);
            }
        }
    }

    /// Answers with what `target`, asked at `started`, has answered.
    fn pass_on(&mut self, answer: Answer, target: &Target, started: Instant) {
        let Answer {
            status,
            mut headers,
            upstream_request_id,
            body,
        } = answer;
        push_upstream_id(&mut headers, upstream_request_id);
        match body {
            AnswerBody::Plain(body) => {
                thread::set_state(thread::State::Running);
                self.answer_whole(status, &headers, body, target, started.elapsed());
            }
            AnswerBody::Stream(stream) => {
                let Some(responder) = self.responder.take() else {
                    return;
                };
                let relayed = relay::Relay {
                    stream,
                    headers,
                    endpoint: self.call.endpoint,
                    ledger: &mut self.ledger,
                    started,
                    target,
                }
                .run(responder);
                if let Err((responder, error)) = relayed {
                    self.responder = Some(responder);
                    self.provider_failed(&error);
                }
            }
        }
    }

    /// Passes a whole answer on, whatever its status.
    fn answer_whole(
        &mut self,
        status: u16,
        headers: &[Header],
        body: Vec<u8>,
        target: &Target,
        took: Duration,
    ) {
        self.accounted.add(body.len());
        if status < 400 {
            self.ledger.usage = usage::of_answer(self.call.endpoint, &body);
        }
        self.ledger.attempt_ended(target, outcome_of(status), took);
        if matches!(status, 401 | 403) {
            // The provider may quote the key in its answer, and it is not the caller's key.
            let kind = if status == 401 {
                Kind::Authentication
            } else {
                Kind::Permission
            };
            let name = target.provider.name();
            let message = format!(
                "{name} refused the key that victor holds for it ({status}); the operator must \
                 check providers.{name}.api_key"
            );
            self.fail(
                &ApiError::new(kind, message).code("provider_key_refused"),
                None,
            );
            return;
        }
        let Some(responder) = self.responder.take() else {
            return;
        };
        let (error_type, reason) = match status {
            ..400 => ("", None),
            _ => (outcome_of(status).as_str(), provider_reason(&body)),
        };
        let mut response = self.ledger.response(status);
        for (name, value) in headers {
            response.push_header(name, value.as_bytes());
        }
        response.body = Body::Owned(body);
        self.ledger
            .settle(status, error_type, reason.as_deref().unwrap_or_default());
        responder.respond(response);
    }

    fn provider_failed(&mut self, error: &ProviderError) {
        if let Cause::Cancelled(reason) = error.cause {
            self.cancelled(reason);
            return;
        }
        let status = error.status();
        let kind = match status {
            504 => Kind::Timeout,
            503 => Kind::Overloaded,
            _ => Kind::Upstream,
        };
        let retry_after = (status == 503).then_some(Duration::from_secs(1));
        let error = ApiError::new(kind, error.message())
            .status(status)
            .code(error.error_type());
        self.fail(&error, retry_after);
    }

    fn cancelled(&mut self, reason: Reason) {
        match reason {
            Reason::ClientGone | Reason::SlowClient => {
                self.ledger.settle(499, "client_gone", "");
                self.responder = None;
            }
            Reason::Deadline => {
                let message = "the call's deadline passed before the provider answered";
                self.fail(
                    &ApiError::new(Kind::Timeout, message).code("deadline"),
                    None,
                );
            }
            Reason::Shutdown => {
                let message = "victor is being stopped; send the call again";
                let error = ApiError::new(Kind::Overloaded, message).code("draining");
                self.fail(&error, Some(Duration::from_secs(1)));
            }
        }
    }

    /// Answers with an error of ours, if nothing has been answered yet.
    fn fail(&mut self, error: &ApiError, retry_after: Option<Duration>) {
        self.ledger.settle(
            error.status,
            error.code.unwrap_or(error.kind.label()),
            &error.message,
        );
        if let Some(responder) = self.responder.take() {
            let mut response = self.ledger.response(error.status);
            response.push_header("content-type", b"application/json");
            if let Some(after) = retry_after {
                response.push_header("retry-after", after.as_secs().max(1).to_string().as_bytes());
            }
            let dialect = self.call.endpoint.dialect();
            let body = crate::wire::errors::error_body(dialect, error, &self.ledger.request_id);
            responder.respond(response.body(body));
        }
    }

    fn end(self) {
        self.ledger.close();
    }
}

/// The first target that speaks the endpoint's dialect.
fn choose(route: &Route, endpoint: Endpoint) -> Result<&Target, ApiError> {
    if let Some(target) = route.targets.iter().find(|it| it.provider.serves(endpoint)) {
        return Ok(target);
    }
    let names: Vec<&str> = route.targets.iter().map(|it| it.provider.name()).collect();
    Err(ApiError::new(
        Kind::InvalidRequest,
        format!(
            "the model is served by {}, which does not speak the {} API; ask for another model \
             or through the other API",
            names.join(", "),
            endpoint.dialect().label()
        ),
    )
    .param("model")
    .code("dialect_not_served"))
}

/// The provider's own id of the request, for whoever must ask the provider about it.
fn push_upstream_id(headers: &mut Vec<Header>, id: Option<String>) {
    if let Some(id) = id {
        headers.push(("x-victor-upstream-request-id".into(), id));
    }
}

fn forwarded(request: &crate::front::Request) -> Vec<(&'static str, &str)> {
    FORWARDED
        .into_iter()
        .filter_map(|name| Some((name, request.header(name)?)))
        .collect()
}

/// What a provider's status says about the provider.
fn outcome_of(status: u16) -> Outcome {
    match status {
        ..400 => Outcome::Ok,
        429 => Outcome::RateLimited,
        408 => Outcome::Timeout,
        401 | 403 => Outcome::KeyRefused,
        400..500 => Outcome::CallerFault,
        _ => Outcome::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_blamed_on_whoever_is_at_fault() {
        for (status, expected) in [
            (200, Outcome::Ok),
            (400, Outcome::CallerFault),
            (401, Outcome::KeyRefused),
            (404, Outcome::CallerFault),
            (408, Outcome::Timeout),
            (429, Outcome::RateLimited),
            (500, Outcome::ServerError),
            (529, Outcome::ServerError),
        ] {
            assert_eq!(outcome_of(status), expected, "{status}");
        }
    }
}
