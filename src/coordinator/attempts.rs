//! One call's attempts at the targets of its route, until one answers or nothing more can be done.
//!
//! The [`Itinerary`] says which target is asked next; here it is asked, and what comes back is
//! passed on or, where it is a failure of which the caller has seen nothing, held for the case that
//! nothing better comes. Start at [`Work::serve`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Decoded;
use super::itinerary::{Failure, Itinerary, Step};
use super::needs::{self, views};
use super::passage::{self, Passage};
use super::pause;
use super::ready::{Asking, Called, Ready};
use super::relay::{self, Outlet};
use super::stages::Work;
use super::told::{Told, Whole, told_of, unasked};
use super::verdict::{self, Verdict};
use crate::cancel::Cancel;
use crate::clock;
use crate::config::checked::OnCut;
use crate::metrics::Outcome;
use crate::provider::breaker::{Admit, Ticket};
use crate::provider::route::{Route, Target};
use crate::provider::{Answer, AnswerBody, Cause, ProviderError};
use crate::wire::Endpoint;
use crate::wire::errors::{self, ApiError};
use crate::wire::translate::{self, Plan, Translator};

/// An attempt that failed with nothing of its answer passed on.
pub(super) struct Failed {
    pub why: Failure,
    /// `None`: what was held before is still the better answer.
    pub told: Option<Told>,
}

impl Failed {
    /// An attempt for which there was no thread.
    pub const fn to_begin() -> Self {
        Self {
            why: Failure::Unfit,
            told: None,
        }
    }
}

/// An attempt whose answer is there.
struct Sent<'t> {
    route: &'t Route,
    target: &'t Target,
    /// Where the provider was asked.
    endpoint: Endpoint,
    /// Where that is another dialect than the caller's.
    plan: Option<Plan>,
    started: Instant,
    retry_after: Option<Duration>,
}

impl Work {
    /// Asks the targets of the call's route and answers.
    pub(super) fn serve(&mut self, decoded: &Arc<Decoded>) {
        let route = Arc::clone(&decoded.route);
        let Some(cancel) = self.cancel() else {
            return;
        };
        let retry = self.ledger.retry();
        let needs = needs::of(&self.call, decoded);
        let candidates = needs::candidates(&route, self.call.endpoint);
        let mut way = Itinerary::new(&candidates, &needs, retry, self.call.deadline);
        let mut told = None;
        let mut failed_at = None;
        loop {
            let now = Instant::now();
            let mut retry = |index: usize| route.targets[index].provider.governor().try_retry(now);
            let step = way.next(now, &views(&route, now), &mut fastrand::f64, &mut retry);
            match step {
                Step::Ask(index) => {
                    self.ledger
                        .moved_on(failed_at.take(), &route.targets[index]);
                    let failed = match self.hedge_after(&route) {
                        None => self
                            .ask(decoded, index, &cancel)
                            .map(|failed| vec![(index, failed)]),
                        Some(after) => self.ask_twice(decoded, index, after, &mut way, &cancel),
                    };
                    let Some(failed) = failed else {
                        return;
                    };
                    for (index, failed) in failed {
                        if failed.why.is_attempt() {
                            failed_at = Some((&route.targets[index], failed.why.label()));
                        }
                        // What a provider said goes before why another could not be asked.
                        told = match failed.why {
                            Failure::Unfit => told.or(failed.told),
                            _ => failed.told.or(told),
                        };
                        way.failed(index, failed.why, Instant::now(), fastrand::f64());
                    }
                }
                Step::Wait { until, .. } => {
                    if let Err(reason) = pause::until(&cancel, until) {
                        self.cancelled(reason);
                        return;
                    }
                }
                Step::GiveUp(why) => {
                    let told =
                        told.unwrap_or_else(|| unasked(why, &route, self.call.endpoint, now));
                    self.give_up(told);
                    return;
                }
            }
        }
    }

    /// Asks one target and answers with what comes back; `Some`: it failed, and nothing was
    /// answered.
    fn ask(
        &mut self,
        decoded: &Arc<Decoded>,
        index: usize,
        cancel: &Arc<Cancel>,
    ) -> Option<Failed> {
        let (ready, ticket) = match self.prepare(&decoded.route, index) {
            Ok(prepared) => prepared,
            Err(failed) => return Some(*failed),
        };
        self.begin(decoded, &ready, ticket);
        let asking = self.asking(decoded);
        self.handle(ready.call(&asking, cancel))
    }

    /// What is needed to ask a target.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) fn prepare(
        &mut self,
        route: &Arc<Route>,
        index: usize,
    ) -> Result<(Ready, Ticket), Box<Failed>> {
        let failed = |why, told| Err(Box::new(Failed { why, told }));
        let target = &route.targets[index];
        let Some(endpoint) = target.provider.endpoint_for(self.call.endpoint) else {
            return failed(Failure::Unfit, None);
        };
        let ticket = match target.breaker.admit(Instant::now()) {
            Admit::Yes(ticket) | Admit::Probe(ticket) => ticket,
            Admit::No { retry_at } => return failed(Failure::NotAsked { retry_at }, None),
        };
        match Passage::new(&self.call.question(), target, endpoint) {
            Ok(passage) => {
                let route = Arc::clone(route);
                let ready = Ready {
                    route,
                    index,
                    endpoint,
                    passage,
                };
                Ok((ready, ticket))
            }
            Err(error) => failed(Failure::Unfit, Some(error.into())),
        }
    }

    pub(super) fn begin(&mut self, decoded: &Decoded, ready: &Ready, ticket: Ticket) {
        self.ledger.streamed = decoded.scanned.stream && self.call.endpoint.streams();
        self.ledger.attempt_begins(ready.target());
        self.ledger
            .turn_to(ready.target(), ticket, ready.passage.dropped());
    }

    /// What all attempts have in common.
    pub(super) fn asking(&self, decoded: &Arc<Decoded>) -> Asking {
        Asking {
            request: Arc::clone(&self.call.request),
            decoded: Arc::clone(decoded),
            streamed: self.ledger.streamed,
            request_id: self.ledger.request_id.clone(),
            deadline: self.call.deadline,
        }
    }

    /// Answers with what came of an attempt, unless it failed.
    pub(super) fn handle(&mut self, called: Called) -> Option<Failed> {
        let Called {
            ready,
            started,
            asked,
            held_back,
            answer,
        } = called;
        self.ledger.asked(asked);
        let route = Arc::clone(&ready.route);
        let target = &route.targets[ready.index];
        if held_back {
            self.ledger.held_back(target);
        }
        match answer {
            Ok(answer) => {
                let sent = Sent {
                    route: &route,
                    target,
                    endpoint: ready.endpoint,
                    plan: ready.passage.into_plan(),
                    started,
                    retry_after: answer.retry_after,
                };
                self.pass_on(answer, sent)
            }
            Err(error) => {
                let (outcome, how) = (error.outcome(), error.error_type());
                match error.cause {
                    Cause::RateLimited(_) => self.ledger.not_sent(),
                    _ => self
                        .ledger
                        .attempt_ended(target, outcome, started.elapsed(), how),
                }
                self.provider_failed(&error)
            }
        }
    }

    /// Answers with what a target has answered.
    fn pass_on(&mut self, answer: Answer, sent: Sent<'_>) -> Option<Failed> {
        self.ledger.upstream_request_id = answer.upstream_request_id.unwrap_or_default();
        self.ledger.upstream_headers = answer.headers;
        match answer.body {
            AnswerBody::Plain(body) => self.answer_whole(answer.status, body, &sent),
            AnswerBody::Stream(stream) => {
                let mut outlet = self.outlet.take()?;
                let may_restart = sent.route.on_cut == OnCut::Restart;
                let plan = match may_restart {
                    true => sent.plan.or_else(|| self.call.plan_of_same(sent.endpoint)),
                    false => sent.plan,
                };
                match (&mut outlet, &plan) {
                    (Outlet::Fresh(_), _) => {}
                    (Outlet::Begun(begun), Some(plan)) => begun.restart(plan),
                    (Outlet::Begun(_), None) => {
                        // It cannot be read here, so it cannot be compared.
                        self.outlet = Some(outlet);
                        let took = sent.started.elapsed();
                        self.ledger
                            .attempt_ended(sent.target, Outcome::Cancelled, took, "unread");
                        let (why, told) = (Failure::BrokenOff, None);
                        return Some(Failed { why, told });
                    }
                }
                let question = self.call.question();
                let response_id = &self.response_id;
                let now = clock::unix_seconds();
                let translator =
                    plan.map(|plan| Translator::new(plan, now, response_id, may_restart));
                let relayed = relay::Relay {
                    stream,
                    caller: self.call.endpoint,
                    endpoint: sent.endpoint,
                    hold_first: sent.route.hold_first,
                    keep: &|response| {
                        let masked = sent.target.provider.mask_key(response);
                        passage::keep(
                            &question,
                            response_id,
                            masked.as_deref().unwrap_or(response),
                        );
                    },
                    ledger: &mut self.ledger,
                    started: sent.started,
                    target: sent.target,
                }
                .run(outlet, translator);
                let (outlet, error) = relayed.err()?;
                self.outlet = Some(outlet);
                self.provider_failed(&error)
            }
        }
    }

    /// Passes a whole answer on, or says how it failed.
    fn answer_whole(&mut self, status: u16, body: Vec<u8>, sent: &Sent<'_>) -> Option<Failed> {
        let (target, took) = (sent.target, sent.started.elapsed());
        self.accounted.add(body.len());
        let content_type = self.ledger.content_type().to_owned();
        let verdict = verdict::of(
            target.provider.name(),
            self.call.endpoint,
            sent.endpoint,
            status,
            &content_type,
            &body,
        );
        let how = status.to_string();
        let (outcome, told) = match verdict {
            Verdict::Pass { usage, .. } if status < 400 => {
                self.ledger.usage = usage;
                return self.pass_whole(status, body, &content_type, sent);
            }
            Verdict::Pass {
                outcome, reason, ..
            } => {
                let reason = reason.unwrap_or_default();
                let error = ApiError::new(errors::Kind::Upstream, reason.as_str());
                let why = refusal(status, sent.retry_after, &body);
                let whole = Whole {
                    status,
                    content_type,
                    body,
                    outcome,
                    reason,
                };
                self.ledger.attempt_ended(target, outcome, took, &how);
                let told = Told {
                    error,
                    retry_after: None,
                    whole: Some(whole),
                };
                let told = Some(told);
                return Some(Failed { why, told });
            }
            Verdict::Replace {
                error,
                outcome,
                reason,
            } => {
                self.ledger.note = reason.unwrap_or_default();
                let told = Told {
                    error,
                    retry_after: None,
                    whole: None,
                };
                (outcome, Some(told))
            }
        };
        self.ledger.attempt_ended(target, outcome, took, &how);
        let why = match status {
            ..400 => Failure::Broken,
            _ => refusal(status, sent.retry_after, &body),
        };
        Some(Failed { why, told })
    }

    /// Passes a success on, translated where it has to be.
    fn pass_whole(
        &mut self,
        status: u16,
        body: Vec<u8>,
        content_type: &str,
        sent: &Sent<'_>,
    ) -> Option<Failed> {
        let (target, took) = (sent.target, sent.started.elapsed());
        let translated = match &sent.plan {
            None => Ok((body, content_type)),
            Some(plan) => self
                .translate_whole(plan, target, &body)
                .map(|body| (body, "application/json")),
        };
        match translated {
            Ok((body, content_type)) => {
                self.ledger
                    .attempt_ended(target, Outcome::Ok, took, &status.to_string());
                self.respond(status, content_type, body, ("", ""));
                None
            }
            Err(error) => {
                let how = error.code.unwrap_or_default();
                self.ledger
                    .attempt_ended(target, Outcome::Malformed, took, how);
                Some(Failed {
                    why: Failure::Broken,
                    told: Some(error.into()),
                })
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
        let response_id = &self.response_id;
        let translated = translate::answer(plan, body, clock::unix_seconds(), response_id);
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
            passage::keep(&self.call.question(), &self.response_id, &body);
        }
        Ok(body)
    }

    /// Sends a provider's answer, with the type and message of the error that it is, if it is one.
    fn respond(
        &mut self,
        status: u16,
        content_type: &str,
        body: Vec<u8>,
        error: (&'static str, &str),
    ) {
        let Some(outlet) = self.outlet.take() else {
            return;
        };
        let told = match outlet {
            Outlet::Fresh(_) => status,
            // The head of a stream that has begun said 200.
            Outlet::Begun(_) => 200,
        };
        self.ledger.settle(told, error.0, error.1);
        match outlet {
            Outlet::Fresh(caller) => caller.respond(&self.ledger, status, content_type, body),
            // A provider that was to go on with a stream refused.
            Outlet::Begun(begun) => {
                let error = ApiError::new(errors::Kind::Upstream, error.1).code(error.0);
                begun.fail(&error, &self.ledger);
            }
        }
    }

    /// Nothing better came.
    fn give_up(&mut self, told: Told) {
        match told.whole {
            Some(whole) => {
                let error = (whole.outcome.as_str(), whole.reason.as_str());
                self.respond(whole.status, &whole.content_type, whole.body, error);
            }
            None => self.fail(&told.error, told.retry_after),
        }
    }

    /// What a failed attempt means for the call; `None`: it is over.
    fn provider_failed(&mut self, error: &ProviderError) -> Option<Failed> {
        let why = match &error.cause {
            Cause::Cancelled(reason) => {
                self.cancelled(*reason);
                return None;
            }
            Cause::Resolve(_) | Cause::Connect(_) | Cause::Tls(_) => Failure::Connect,
            Cause::Reset | Cause::Closed => Failure::Reset,
            // The answer is another one, and what is held is still why the first broke off.
            Cause::Differs => {
                return Some(Failed {
                    why: Failure::BrokenOff,
                    told: None,
                });
            }
            _ if matches!(self.outlet, Some(Outlet::Begun(_))) => Failure::BrokenOff,
            Cause::Timeout(_) => Failure::Silent,
            Cause::Cut | Cause::Malformed(_) | Cause::TooLarge | Cause::Told(_) => Failure::Broken,
            Cause::RateLimited(after) => Failure::NotAsked {
                retry_at: Instant::now() + *after,
            },
            // The deadline has passed, or the request cannot be sent anywhere.
            Cause::NoPermit | Cause::Deadline(_) | Cause::Header(_) => {
                self.give_up(told_of(error));
                return None;
            }
        };
        Some(Failed {
            why,
            told: Some(told_of(error)),
        })
    }
}

/// What an error answer means for the attempts that may follow.
fn refusal(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Failure {
    match errors::refusal(body) {
        errors::Refusal::ContextLength => Failure::ContextLength,
        errors::Refusal::ContentFilter => Failure::ContentFilter,
        errors::Refusal::Other => Failure::Status {
            status,
            retry_after,
        },
    }
}
