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
use super::verdict::{self, Verdict};
use crate::cancel::Reason;
use crate::config::checked::Kind;
use crate::front::{Body, Request, Responder};
use crate::metrics::Accounted;
use crate::provider::route::{Route, Target};
use crate::provider::{Answer, AnswerBody, Cause, Outbound, ProviderError};
use crate::thread;
use crate::wire::Endpoint;
use crate::wire::errors::{self, ApiError};
use crate::wire::request::with_model;

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
            errors::Kind::Internal,
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
    request: Request,
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
        let headers = forwarded(&self.call.request, target);
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
        self.ledger.upstream_request_id = answer.upstream_request_id.unwrap_or_default();
        self.ledger.upstream_headers = answer.headers;
        match answer.body {
            AnswerBody::Plain(body) => {
                thread::set_state(thread::State::Running);
                self.answer_whole(answer.status, body, target, started.elapsed());
            }
            AnswerBody::Stream(stream) => {
                let Some(responder) = self.responder.take() else {
                    return;
                };
                let relayed = relay::Relay {
                    stream,
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

    /// Passes a whole answer on, or what has to be said in its place.
    fn answer_whole(&mut self, status: u16, body: Vec<u8>, target: &Target, took: Duration) {
        self.accounted.add(body.len());
        let content_type = self.ledger.content_type().to_owned();
        match verdict::of(
            target.provider.name(),
            self.call.endpoint,
            status,
            &content_type,
            &body,
        ) {
            Verdict::Pass {
                usage,
                outcome,
                reason,
            } => {
                self.ledger.usage = usage;
                self.ledger.attempt_ended(target, outcome, took);
                let Some(responder) = self.responder.take() else {
                    return;
                };
                let mut response = self.ledger.response(status);
                response.push_header("content-type", content_type.as_bytes());
                response.body = Body::Owned(body);
                let error_type = if status < 400 { "" } else { outcome.as_str() };
                self.ledger
                    .settle(status, error_type, reason.as_deref().unwrap_or_default());
                responder.respond(response);
            }
            Verdict::Replace {
                error,
                outcome,
                reason,
            } => {
                self.ledger.attempt_ended(target, outcome, took);
                self.ledger.note = reason.unwrap_or_default();
                self.fail(&error, None);
            }
        }
    }

    fn provider_failed(&mut self, error: &ProviderError) {
        if let Cause::Cancelled(reason) = error.cause {
            self.cancelled(reason);
            return;
        }
        let status = error.status();
        let kind = match status {
            504 => errors::Kind::Timeout,
            503 => errors::Kind::Overloaded,
            _ => errors::Kind::Upstream,
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
                let message = "the call's deadline, its coordinator's timeout_seconds, passed before the provider \
                               answered";
                self.fail(
                    &ApiError::new(errors::Kind::Timeout, message).code("deadline"),
                    None,
                );
            }
            Reason::Shutdown => {
                let message = "victor is being stopped; send the call again";
                let error = ApiError::new(errors::Kind::Overloaded, message).code("draining");
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
            let body = errors::error_body(dialect, error, &self.ledger.request_id);
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
        errors::Kind::InvalidRequest,
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

fn forwarded<'r>(request: &'r Request, target: &Target) -> Vec<(&'static str, &'r str)> {
    let simulated = target.provider.kind() == Kind::Simulator;
    FORWARDED
        .into_iter()
        .chain(simulated.then_some("x-sim"))
        .filter_map(|name| Some((name, request.header(name)?)))
        .collect()
}
