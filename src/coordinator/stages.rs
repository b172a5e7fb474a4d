//! What a worker does with a call: decode what a front thread left undecoded, pick the target,
//! ask the provider, answer.
//!
//! One attempt at the first target that can serve the call: retries and the next target belong
//! between [`choose`] and [`Work::ask`]. Start at [`run`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Decoded};
use super::ledger::Ledger;
use super::passage::{self, Passage, Question};
use super::relay;
use super::verdict::{self, Verdict};
use crate::cancel::Reason;
use crate::clock;
use crate::config::checked::Kind;
use crate::front::{Body, Request, Responder};
use crate::metrics::Accounted;
use crate::provider::route::{Route, Target};
use crate::provider::{Answer, AnswerBody, Cause, Outbound, ProviderError};
use crate::store::{Scope, Store};
use crate::thread;
use crate::wire::errors::{self, ApiError};
use crate::wire::json::view::View;
use crate::wire::translate::{self, Plan, Translator};
use crate::wire::{Dialect, Endpoint, estimate};

/// Request headers that a provider of a dialect is given, beside those that the provider module
/// makes.
const FORWARDED: [(&str, Option<Dialect>); 5] = [
    ("anthropic-version", Some(Dialect::Anthropic)),
    ("anthropic-beta", Some(Dialect::Anthropic)),
    ("openai-organization", Some(Dialect::Openai)),
    ("openai-project", Some(Dialect::Openai)),
    ("idempotency-key", None),
];
/// What an Anthropic provider is told where the caller does not say it: the only version there is
/// (docs.claude.com/en/api/versioning).
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

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
    store: Arc<Store>,
    scope: Scope,
    strict: bool,
}

impl CallParts {
    fn question(&self) -> Question<'_> {
        Question {
            caller: self.endpoint,
            body: &self.request.body,
            store: &self.store,
            scope: &self.scope,
            deadline: self.deadline,
            strict: self.strict,
        }
    }
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
                store: Arc::clone(call.coordinator.store()),
                scope: call.scope,
                strict: call.coordinator.config().strict,
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
                    self.ledger
                        .keep_alive(&decoded.scanned, self.responder.as_mut());
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
            Ok((target, Some(endpoint))) => self.ask(&decoded, target, endpoint),
            Ok((target, None)) => self.estimate(target),
            Err(error) => self.fail(&error, None),
        }
    }

    /// Asks one target at `endpoint` and answers with what comes back.
    fn ask(&mut self, decoded: &Decoded, target: &Target, endpoint: Endpoint) {
        let Some(responder) = &self.responder else {
            return;
        };
        let cancel = Arc::clone(responder.cancel());
        target.provider.name().clone_into(&mut self.ledger.provider);
        target.model.clone_into(&mut self.ledger.model);
        let passage = match Passage::new(&self.call.question(), target, endpoint) {
            Ok(passage) => passage,
            Err(error) => {
                let retry_after = (error.status == 503).then_some(Duration::from_secs(1));
                self.fail(&error, retry_after);
                return;
            }
        };
        self.ledger.dropped = passage.dropped();
        self.ledger.attempts += 1;
        self.ledger.streamed = decoded.scanned.stream && self.call.endpoint.streams();
        let headers = forwarded(&self.call.request, target, endpoint.dialect());
        let started = Instant::now();
        let answer = target.provider.call(&Outbound {
            endpoint,
            model: &target.model,
            body: passage.body(&self.call.request.body, decoded, target),
            headers: &headers,
            streamed: self.ledger.streamed,
            request_id: &self.ledger.request_id,
            cancel: &cancel,
            deadline: self.call.deadline,
        });
        match answer {
            Ok(answer) => {
                let sent = Sent {
                    target,
                    endpoint,
                    plan: passage.into_plan(),
                    started,
                };
                self.pass_on(answer, sent);
            }
            Err(error) => {
                thread::set_state(thread::State::Running);
                self.ledger
                    .attempt_ended(target, error.outcome(), started.elapsed());
                self.provider_failed(&error);
            }
        }
    }

    /// Answers with what a target has answered.
    fn pass_on(&mut self, answer: Answer, sent: Sent<'_>) {
        self.ledger.upstream_request_id = answer.upstream_request_id.unwrap_or_default();
        self.ledger.upstream_headers = answer.headers;
        match answer.body {
            AnswerBody::Plain(body) => {
                thread::set_state(thread::State::Running);
                self.answer_whole(answer.status, body, &sent);
            }
            AnswerBody::Stream(stream) => {
                let Some(responder) = self.responder.take() else {
                    return;
                };
                let response_id = passage::new_response_id();
                let question = self.call.question();
                let now = clock::unix_seconds();
                let relayed = relay::Relay {
                    stream,
                    caller: self.call.endpoint,
                    endpoint: sent.endpoint,
                    translator: sent
                        .plan
                        .map(|plan| Translator::new(plan, now, &response_id)),
                    keep: &|response| passage::keep(&question, &response_id, response),
                    ledger: &mut self.ledger,
                    started: sent.started,
                    target: sent.target,
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
    fn answer_whole(&mut self, status: u16, body: Vec<u8>, sent: &Sent<'_>) {
        let (target, took) = (sent.target, sent.started.elapsed());
        self.accounted.add(body.len());
        let content_type = self.ledger.content_type().to_owned();
        match verdict::of(
            target.provider.name(),
            self.call.endpoint,
            sent.endpoint,
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
                let body = match &sent.plan {
                    None => body,
                    Some(plan) => match self.translate_whole(plan, target, &body) {
                        Ok(body) => body,
                        Err(error) => {
                            self.ledger.attempt_ended(
                                target,
                                crate::metrics::Outcome::Malformed,
                                took,
                            );
                            self.fail(&error, None);
                            return;
                        }
                    },
                };
                let content_type = match &sent.plan {
                    None => content_type.as_str(),
                    Some(_) => "application/json",
                };
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

    /// A whole answer in the caller's dialect, kept if its caller may go on with it.
    fn translate_whole(
        &mut self,
        plan: &Plan,
        target: &Target,
        body: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let response_id = passage::new_response_id();
        let translated = translate::answer(plan, body, clock::unix_seconds(), &response_id);
        let (body, dropped) = translated.map_err(|error| {
            let provider = target.provider.name();
            let message = format!("provider '{provider}' sent a malformed answer: {error}");
            ApiError::new(errors::Kind::Upstream, message).code("provider_malformed")
        })?;
        if !dropped.is_empty() {
            let before = std::mem::take(&mut self.ledger.dropped);
            let separator = if before.is_empty() { "" } else { ", " };
            self.ledger.dropped = format!("{before}{separator}{dropped}");
        }
        if self.call.endpoint == Endpoint::Responses {
            passage::keep(&self.call.question(), &response_id, &body);
        }
        Ok(body)
    }

    /// Answers a call for a count of tokens that its provider cannot count.
    fn estimate(&mut self, target: &Target) {
        target.provider.name().clone_into(&mut self.ledger.provider);
        target.model.clone_into(&mut self.ledger.model);
        let text = str::from_utf8(&self.call.request.body).unwrap_or_default();
        let tokens = estimate::input_tokens(View::new(text));
        self.ledger.estimated = "input_tokens";
        self.ledger.settle(200, "", "");
        if let Some(responder) = self.responder.take() {
            let mut response = self.ledger.response(200);
            response.push_header("content-type", b"application/json");
            let body = format!("{{\"input_tokens\":{tokens}}}");
            responder.respond(response.body(body.into_bytes()));
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

/// An attempt whose answer is there.
struct Sent<'t> {
    target: &'t Target,
    /// Where the provider was asked.
    endpoint: Endpoint,
    /// Where that is another dialect than the caller's.
    plan: Option<Plan>,
    started: Instant,
}

/// The first target that can serve the call, and at which endpoint; `None` for a count of tokens
/// that is to be estimated here.
fn choose(route: &Route, asked: Endpoint) -> Result<(&Target, Option<Endpoint>), ApiError> {
    for target in &route.targets {
        match target.provider.endpoint_for(asked) {
            None if asked == Endpoint::CountTokens => return Ok((target, None)),
            None => {}
            endpoint => return Ok((target, endpoint)),
        }
    }
    let names: Vec<&str> = route.targets.iter().map(|it| it.provider.name()).collect();
    Err(ApiError::new(
        errors::Kind::InvalidRequest,
        format!(
            "the model is served by {}, whose API has no counterpart for this one; ask for another \
             model",
            names.join(", "),
        ),
    )
    .param("model")
    .code("dialect_not_served"))
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
