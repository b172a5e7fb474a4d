//! What a worker does with a call: decode what a front thread left undecoded, have it served,
//! account for it.
//!
//! Who is asked, how often, and what becomes of it is in `attempts`. Start at [`run`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::On;
use super::batch::{self, Asked, Batch};
use super::call::{Call, Decoded};
use super::caller::Caller;
use super::ledger::Ledger;
use super::passage::{self, Question};
use super::relay::Outlet;
use super::shared::{self, Looked};
use crate::cancel::{Cancel, Reason};
use crate::front::Request;
use crate::metrics::Accounted;
use crate::provider::route::Target;
use crate::store::{Scope, Store};
use crate::thread;
use crate::wire::errors::{self, ApiError};
use crate::wire::json::view::View;
use crate::wire::translate::{self, Plan};
use crate::wire::{Endpoint, estimate};

/// Runs a call to its end on the calling worker. Never panics.
pub fn run(call: Box<Call>) {
    thread::set_call(&call.request_id);
    call.caller.cancel().detach();
    if let Caller::Batch(batch) = &call.caller {
        let batch = Arc::clone(batch);
        batch::serve::run(&call, &batch);
        return;
    }
    let request_id = call.request_id.clone();
    // Whoever waits for the call is told when it is dropped.
    if catch_unwind(AssertUnwindSafe(|| prepare(call))).is_err() {
        panicked(&request_id);
    }
}

/// Looks for the answer elsewhere before the call is asked.
fn prepare(call: Box<Call>) {
    let Some(call) = look_up(call) else {
        return;
    };
    // Others wait for the answer as long as the claim is held.
    let Looked::Ours(call, _claim) = shared::ask_others(call) else {
        return;
    };
    let mut work = Work::new(*call);
    if catch_unwind(AssertUnwindSafe(|| work.execute())).is_err() {
        panicked(&work.ledger.request_id);
        let error = ApiError::new(
            errors::Kind::Internal,
            "victor failed on this call; the log says why under this request id",
        );
        work.fail(&error, None);
    }
    work.end();
}

fn panicked(request_id: &str) {
    ::log::error!(request_id; "a worker panicked in a call; the worker goes on");
}

/// Does what a front thread has left: looks into a big body, and asks the cache. `None`: the call
/// is answered, or waits for the answer to another one.
fn look_up(mut call: Box<Call>) -> Option<Box<Call>> {
    if call.is_looked_up || call.caller.cancel().is_cancelled() {
        return Some(call);
    }
    if call.decoded.is_none() {
        match Decoded::of(&call.request.body, &call.routes) {
            Ok(decoded) => call.decoded = Some(decoded),
            Err(error) => {
                let mut ledger = Ledger::of(&call);
                ledger.not_executed();
                call.fail(ledger, &error, None);
                return None;
            }
        }
    }
    let answers = Arc::clone(call.coordinator.answers());
    let mut call = answers.consult(call, On::Worker)?;
    call.keep_alive();
    Some(call)
}

/// A call in a worker's hands.
pub(super) struct Work {
    pub call: CallParts,
    /// Until the answer is complete, or nobody else can complete it.
    pub outlet: Option<Outlet>,
    /// What the response is called, if the call is one for a response.
    pub response_id: String,
    pub ledger: Ledger,
    /// The bytes of this call that are charged to the coordinator.
    pub accounted: Accounted,
}

/// What of a call is needed until its end.
pub(super) struct CallParts {
    pub endpoint: Endpoint,
    pub request: Arc<Request>,
    decoded: Option<Arc<Decoded>>,
    pub deadline: Instant,
    store: Arc<Store>,
    scope: Scope,
    strict: bool,
}

impl CallParts {
    /// The plan of a stream that stays in its dialect and may have to be gone on with.
    pub fn plan_of_same(&self, endpoint: Endpoint) -> Option<Plan> {
        let body = str::from_utf8(&self.request.body).ok()?;
        translate::same(endpoint, body)
    }

    pub fn question(&self) -> Question<'_> {
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
        let mut ledger = Ledger::of(&call);
        if let Caller::Lead(lead) = &call.caller {
            lead.watch(&mut ledger);
        }
        Self {
            call: CallParts {
                endpoint: call.endpoint,
                request: Arc::new(call.request),
                decoded: call.decoded.map(Arc::new),
                deadline: call.deadline,
                store: Arc::clone(call.coordinator.store()),
                scope: call.scope,
                strict: call.coordinator.config().strict,
            },
            outlet: Some(Outlet::Fresh(call.caller)),
            response_id: match call.endpoint {
                Endpoint::Responses => passage::new_response_id(),
                _ => String::new(),
            },
            ledger,
            accounted: call.accounted,
        }
    }

    /// What is asked for the calls of a batch, as `call` is for all of them.
    pub(super) fn of_batch(call: &Call, batch: &Arc<Batch>, asked: Asked) -> Self {
        Self {
            call: CallParts {
                endpoint: call.endpoint,
                request: asked.request,
                decoded: Some(asked.decoded),
                deadline: asked.deadline,
                store: Arc::clone(call.coordinator.store()),
                scope: call.scope,
                strict: call.coordinator.config().strict,
            },
            outlet: Some(Outlet::Fresh(Caller::Batch(Arc::clone(batch)))),
            response_id: String::new(),
            ledger: Ledger::of(call),
            accounted: Accounted::new(call.coordinator.metrics()),
        }
    }

    pub(super) fn execute(&mut self) {
        if let Some(reason) = self.cancel().and_then(|it| it.reason()) {
            self.cancelled(reason);
            return;
        }
        let Some(decoded) = self.call.decoded.take() else {
            return;
        };
        self.ledger.choices = decoded.scanned.choices;
        match decoded.route.targets.first() {
            // It need not be asked for what it cannot tell.
            Some(target) if self.is_estimated(target) => self.estimate(target),
            _ => self.serve(&decoded),
        }
    }

    fn is_estimated(&self, target: &Target) -> bool {
        let asked = self.call.endpoint;
        asked == Endpoint::CountTokens && target.provider.endpoint_for(asked).is_none()
    }

    /// The call's cancel handle, until the answer has begun.
    pub(super) fn cancel(&self) -> Option<Arc<Cancel>> {
        Some(Arc::clone(match self.outlet.as_ref()? {
            Outlet::Fresh(caller) => caller.cancel(),
            Outlet::Begun(begun) => begun.cancel(),
        }))
    }

    /// Answers a call for a count of tokens that its provider cannot count.
    fn estimate(&mut self, target: &Target) {
        target.provider.name().clone_into(&mut self.ledger.provider);
        target.model.clone_into(&mut self.ledger.model);
        let text = str::from_utf8(&self.call.request.body).unwrap_or_default();
        let tokens = estimate::input_tokens(View::new(text));
        self.ledger.estimated = "input_tokens";
        self.ledger.settle(200, "", "");
        if let Some(Outlet::Fresh(caller)) = self.outlet.take() {
            let body = format!("{{\"input_tokens\":{tokens}}}");
            caller.respond(&self.ledger, 200, "application/json", body.into_bytes());
        }
    }

    pub(super) fn cancelled(&mut self, reason: Reason) {
        match reason {
            Reason::ClientGone | Reason::SlowClient | Reason::Outpaced => {
                self.ledger.settle(499, "client_gone", "");
                self.outlet = None;
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

    /// Ends the answer with an error of ours: the whole of it, or an event where a stream has begun.
    pub(super) fn fail(&mut self, error: &ApiError, retry_after: Option<Duration>) {
        let outlet = self.outlet.take();
        // The head of a stream that has begun said 200.
        let status = match outlet {
            Some(Outlet::Begun(_)) => 200,
            _ => error.status,
        };
        let error_type = error.code.unwrap_or(error.kind.label());
        self.ledger.settle(status, error_type, &error.message);
        match outlet {
            None => {}
            Some(Outlet::Begun(begun)) => begun.fail(error, &self.ledger),
            Some(Outlet::Fresh(caller)) => caller.fail(&self.ledger, error, retry_after),
        }
    }

    fn end(self) {
        self.ledger.close();
    }
}
