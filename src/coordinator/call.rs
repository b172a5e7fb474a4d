//! One call on its way through a coordinator: what was asked, who is to be answered, and when
//! it is too late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Coordinator;
use super::caller::Caller;
use super::ledger::Ledger;
use super::memo;
use super::pool::Ticket;
use crate::cancel::{Abort, Reason};
use crate::front::{Request, Response};
use crate::metrics::{Accounted, Cached, Rejection};
use crate::provider::route::{Route, Routes};
use crate::store::Scope;
use crate::wire::errors::{ApiError, Kind, error_body};
use crate::wire::request::Scanned;
use crate::wire::{Dialect, Endpoint};

/// A call that was authenticated and given to a coordinator.
pub struct Call {
    pub endpoint: Endpoint,
    pub request: Request,
    /// The caller's own, or ours.
    pub request_id: String,
    /// What was found in the body; `None` if it is too big to be looked at on a front thread.
    pub decoded: Option<Decoded>,
    pub routes: Arc<Routes>,
    pub coordinator: Arc<Coordinator>,
    pub caller: Caller,
    /// How it has met the cache so far.
    pub cached: Cached,
    /// Whether its caller will be told that its deadline has passed.
    pub is_timed: bool,
    /// Whether the cache has been asked.
    pub is_looked_up: bool,
    /// The bytes of this call that are charged to the coordinator.
    pub accounted: Accounted,
    /// Whose conversations the call can go on with: a hash of the caller's key.
    pub scope: Scope,
    /// When the whole answer of a plain call, or the first event of a stream, is due.
    pub deadline: Instant,
}

/// What a body says and where it is to go.
pub struct Decoded {
    pub scanned: Scanned,
    pub route: Arc<Route>,
}

impl Decoded {
    /// Looks into a body.
    ///
    /// # Errors
    /// It is not a request, or names a model that nothing here serves.
    pub fn of(body: &[u8], routes: &Routes) -> Result<Self, ApiError> {
        let scanned = match memo::scanned(body) {
            Some(known) => known,
            None => crate::wire::request::scan(body)?,
        };
        match routes.resolve(&scanned.model) {
            Some(route) => Ok(Self { scanned, route }),
            None => {
                let near = routes.near(&scanned.model);
                Err(ApiError::model_not_found(&scanned.model, &near))
            }
        }
    }
}

impl Call {
    /// The deadline passed while the call waited for a worker.
    pub fn expire(self: Box<Self>) {
        let error = late_in_queue(&self.coordinator);
        self.coordinator
            .metrics()
            .reject(Rejection::DeadlineInQueue);
        let ledger = Ledger::of(&self);
        self.fail(ledger, &error, None);
    }

    /// The client left while the call waited for a worker.
    fn abandon(self: Box<Self>) {
        if let Caller::Batch(_) = self.caller {
            // Whoever was part of it has been told by itself.
            return;
        }
        self.coordinator
            .metrics()
            .reject(Rejection::ClientGoneInQueue);
        Ledger::of(&self).client_left();
    }

    /// Answers with an error of ours.
    pub fn fail(
        self: Box<Self>,
        mut ledger: Ledger,
        error: &ApiError,
        retry_after: Option<Duration>,
    ) {
        ledger.settle_error(error);
        self.caller.fail(&ledger, error, retry_after);
        ledger.close();
    }

    /// The coordinator does not take the call.
    pub fn reject(self: Box<Self>, error: &ApiError, retry_after: Duration) {
        let ledger = Ledger::rejected(&self);
        self.fail(ledger, error, Some(retry_after));
    }
}

/// What a caller is told whose deadline passed in a queue.
pub(super) fn late_in_queue(coordinator: &Coordinator) -> ApiError {
    let message = format!(
        "no worker of {} was free within {} s; the call was not sent to a provider",
        coordinator.name(),
        coordinator.config().timeout.as_secs_f64()
    );
    ApiError::new(Kind::Timeout, message).code("deadline_in_queue")
}

/// Ends the wait of a call that is too late, or whose client left.
impl Abort for Ticket<Call> {
    fn abort(&self) {
        let Some(call) = self.withdraw() else {
            return;
        };
        match call.caller.cancel().reason() {
            Some(Reason::Deadline) => call.expire(),
            _ => call.abandon(),
        }
    }
}

/// An error in the shape of `dialect`, with the headers that every answer has.
pub fn error_response(
    dialect: Dialect,
    error: &ApiError,
    request_id: &str,
    retry_after: Option<Duration>,
) -> Response {
    let mut response = Response::json(error.status, error_body(dialect, error, request_id));
    push_request_id(&mut response, dialect, request_id);
    push_retry_after(&mut response, retry_after);
    response
}

/// When to call again, in whole seconds and at least one.
pub fn push_retry_after(response: &mut Response, retry_after: Option<Duration>) {
    if let Some(after) = retry_after {
        response.push_header("retry-after", after.as_secs().max(1).to_string().as_bytes());
    }
}

/// Our request id, under the name that the dialect's SDKs read it from as well.
pub fn push_request_id(response: &mut Response, dialect: Dialect, request_id: &str) {
    response.push_header("x-request-id", request_id.as_bytes());
    if dialect == Dialect::Anthropic {
        response.push_header("request-id", request_id.as_bytes());
    }
}
