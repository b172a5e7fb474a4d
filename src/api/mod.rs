//! The routes of the API plane.
//!
//! Everything here runs on a front thread and is short: find the route, check the key, look into
//! the body if it is small, and either answer or hand the call to its coordinator. Health is
//! answered before anything else and never waits behind calls. Start at [`Api::handle`].

mod auth;
mod models;
mod responses;

use std::sync::Arc;
use std::time::Duration;

use crate::config::CheckedConfig;
use crate::coordinator::call::{Call, Decoded, error_response, push_request_id};
use crate::coordinator::caller::Caller;
use crate::coordinator::{Coordinator, Registry};
use crate::front::{Handler, Request, Responder, Response};
use crate::health::{Health, Lifecycle};
use crate::log::{self, CallRecord};
use crate::metrics::{Accounted, Cached, Metrics, Rejection, Route};
use crate::provider::route::Routes;
use crate::store::Store;
use crate::wire::errors::{ApiError, Kind, error_body};
use crate::wire::near::near_matches;
use crate::wire::{Dialect, Endpoint};

use self::auth::Keys;

/// Bodies above this are looked into by a worker, so that one long prompt does not hold up the
/// small calls beside it.
const FRONT_BODY_BYTES_MAX: usize = 256 << 10;
/// What a caller is told to wait while the daemon drains: its successor is up by then.
const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The API plane.
pub struct Api {
    keys: Keys,
    expose_metrics: bool,
    routes: Arc<Routes>,
    coordinators: Arc<Registry>,
    health: Arc<Health>,
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
}

/// An error that is answered on the front thread.
struct Refused {
    route: Route,
    dialect: Dialect,
    error: ApiError,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

impl Refused {
    const fn new(route: Route, dialect: Dialect, error: ApiError) -> Self {
        Self {
            route,
            dialect,
            error,
            retry_after: None,
            allow: None,
        }
    }
}

impl Api {
    /// The plane over what serves it.
    pub fn new(
        config: &CheckedConfig,
        routes: Arc<Routes>,
        coordinators: Arc<Registry>,
        health: Arc<Health>,
        lifecycle: Arc<Lifecycle>,
        metrics: Arc<Metrics>,
        store: Arc<Store>,
    ) -> Self {
        Self {
            keys: Keys::new(&config.auth),
            expose_metrics: config.server.expose_metrics,
            routes,
            coordinators,
            health,
            lifecycle,
            metrics,
            store,
        }
    }

    /// The answer to a request that reads something: health, metrics, models.
    fn read(&self, request: &Request) -> Result<(Route, Response), Refused> {
        let path = request.path();
        if let Some((status, body)) = self.health.answer(path) {
            let response = Response::json(status, body).header("cache-control", "no-store");
            return Ok((Route::Health, response));
        }
        let dialect = dialect_of(request);
        if path == "/metrics" && self.expose_metrics {
            self.admit(request, Route::Metrics, dialect)?;
            let text = self.metrics.render().into_bytes();
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            let response = Response::new(200).header("content-type", kind).body(text);
            return Ok((Route::Metrics, response));
        }
        if let Some(rest) = path.strip_prefix("/v1/models") {
            self.admit(request, Route::Models, dialect)?;
            if self.lifecycle.is_draining() {
                return Err(draining(Route::Models, dialect));
            }
            return models::answer(rest, dialect, &self.routes)
                .map(|response| (Route::Models, response))
                .map_err(|error| Refused::new(Route::Models, dialect, error));
        }
        Err(not_found(request))
    }

    /// Checks the caller's key.
    fn admit(&self, request: &Request, route: Route, dialect: Dialect) -> Result<(), Refused> {
        self.keys
            .admit(request)
            .map_err(|error| Refused::new(route, dialect, error))
    }

    /// What can be said of a call before its body is read.
    fn gate(&self, endpoint: Endpoint, request: &Request) -> Result<(), Refused> {
        let (route, dialect) = (Route::from(endpoint), endpoint.dialect());
        let refused = |error| Refused::new(route, dialect, error);
        self.admit(request, route, dialect)?;
        if self.lifecycle.is_draining() {
            let coordinator = self.coordinators.default_for(endpoint);
            coordinator.metrics().reject(Rejection::Draining);
            return Err(draining(route, dialect));
        }
        if let Some(coding) = request.header("content-encoding")
            && !coding.trim().eq_ignore_ascii_case("identity")
        {
            let message = "the request body is encoded; send it without content-encoding";
            return Err(refused(
                ApiError::new(Kind::InvalidRequest, message).status(415),
            ));
        }
        Ok(())
    }

    /// Finds the coordinator of a call and what its body says.
    fn prepare(
        &self,
        endpoint: Endpoint,
        request: &Request,
    ) -> Result<(Arc<Coordinator>, Option<Decoded>), Refused> {
        let (route, dialect) = (Route::from(endpoint), endpoint.dialect());
        let refused = |error| Refused::new(route, dialect, error);
        self.gate(endpoint, request)?;
        let named = match request.header("x-victor-coordinator") {
            Some(name) => Some(self.named(name).map_err(refused)?),
            None => None,
        };
        let decoded = if request.body.len() <= FRONT_BODY_BYTES_MAX {
            Some(Decoded::of(&request.body, &self.routes).map_err(refused)?)
        } else {
            None
        };
        let by_model = decoded
            .as_ref()
            .and_then(|it| self.coordinators.get(&it.scanned.model));
        let coordinator = named
            .or(by_model)
            .unwrap_or_else(|| self.coordinators.default_for(endpoint));
        Ok((Arc::clone(coordinator), decoded))
    }

    fn named(&self, name: &str) -> Result<&Arc<Coordinator>, ApiError> {
        self.coordinators.get(name).ok_or_else(|| {
            let known: Vec<_> = self.coordinators.iter().map(|it| it.name()).collect();
            let near = near_matches(name, known.iter().copied());
            let hint = match near.as_slice() {
                [] => format!("there are {}", known.join(", ")),
                near => format!("did you mean {}?", near.join(", ")),
            };
            let message = format!(
                "there is no coordinator '{}'; {hint}",
                &name[..name.floor_char_boundary(64)]
            );
            ApiError::new(Kind::InvalidRequest, message).code("coordinator_not_found")
        })
    }

    /// Hands a call to its coordinator.
    fn run(&self, endpoint: Endpoint, request: Request, responder: Responder) {
        match self.prepare(endpoint, &request) {
            Ok((coordinator, decoded)) => {
                let accounted = Accounted::new(coordinator.metrics());
                accounted.add(request.body.len());
                let call = Call {
                    accounted,
                    scope: self.keys.scope(&request),
                    endpoint,
                    request_id: request_id(&request),
                    deadline: request.received + coordinator.config().timeout,
                    decoded,
                    routes: Arc::clone(&self.routes),
                    coordinator: Arc::clone(&coordinator),
                    caller: Caller::Alone(responder),
                    cached: Cached::Bypass,
                    is_timed: false,
                    is_looked_up: false,
                    request,
                };
                coordinator.submit(Box::new(call));
            }
            Err(refused) => self.refuse_call(refused, &request, responder),
        }
    }

    /// Answers with an error, counts it and says so in the log.
    fn refuse_call(&self, refused: Refused, request: &Request, responder: Responder) {
        responder.respond(self.refusal(refused, request));
    }

    /// The answer to a call that is refused, counted and said in the log.
    fn refusal(&self, refused: Refused, request: &Request) -> Response {
        let Refused {
            route,
            dialect,
            error,
            retry_after,
            allow,
        } = refused;
        let id = request_id(request);
        let mut response = error_response(dialect, &error, &id, retry_after);
        let coordinator = Endpoint::from_path(request.path())
            .map(|endpoint| self.coordinators.default_for(endpoint).name());
        if let Some(coordinator) = coordinator {
            response.push_header("x-victor-coordinator", coordinator.as_bytes());
        }
        push_untouched(&mut response);
        if let Some(allow) = allow {
            response.push_header("allow", allow.as_bytes());
        }
        if error.status == 401 {
            response.push_header("www-authenticate", b"Bearer");
        }
        self.metrics.http(route, error.status);
        log::call_line(&CallRecord {
            request_id: &id,
            peer: Some(request.peer),
            route: route.as_str(),
            coordinator: coordinator.unwrap_or_default(),
            status: error.status,
            duration: request.received.elapsed(),
            error_type: error.code.unwrap_or(error.kind.label()),
            message: &error.message,
            ..CallRecord::default()
        });
        response
    }
}

impl Handler for Api {
    fn handle(&self, request: Request, responder: Responder) {
        if let Some(endpoint) = Endpoint::from_path(request.path()) {
            if request.method() == "POST" {
                self.run(endpoint, request, responder);
            } else {
                let refused = wrong_method(Route::from(endpoint), endpoint.dialect(), "POST");
                self.refuse_call(refused, &request, responder);
            }
            return;
        }
        if let Some(id) = responses::id_of(request.path()) {
            self.kept_response(id, &request, responder);
            return;
        }
        let answer = match self.read(&request) {
            Ok((route, _)) if !matches!(request.method(), "GET" | "HEAD") => {
                Err(wrong_method(route, dialect_of(&request), "GET, HEAD"))
            }
            answer => answer,
        };
        match answer {
            Ok((route, mut response)) => {
                push_request_id(&mut response, dialect_of(&request), &request_id(&request));
                push_untouched(&mut response);
                self.metrics.http(route, response.status);
                responder.respond(response);
            }
            Err(refused) => self.refuse_call(refused, &request, responder),
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        let Some(endpoint) = Endpoint::from_path(request.path()) else {
            return Ok(());
        };
        let admitted = match request.method() {
            "POST" => self.gate(endpoint, request),
            _ => Err(wrong_method(
                Route::from(endpoint),
                endpoint.dialect(),
                "POST",
            )),
        };
        admitted.map_err(|refused| self.refusal(refused, request))
    }

    fn refuse(&self, path: Option<&str>, status: u16, message: &str) -> Response {
        let kind = match status {
            408 => Kind::Timeout,
            413 => Kind::TooLarge,
            500.. => Kind::Overloaded,
            _ => Kind::InvalidRequest,
        };
        self.metrics.http(Route::Refused, status);
        let endpoint = path.and_then(Endpoint::from_path);
        let dialect = endpoint.map_or(Dialect::Openai, Endpoint::dialect);
        let error = ApiError::new(kind, message).status(status);
        let id = new_request_id();
        let mut response = Response::json(status, error_body(dialect, &error, &id));
        push_request_id(&mut response, dialect, &id);
        push_untouched(&mut response);
        response
    }
}

/// What is said of an answer for which neither cache nor provider was asked.
fn push_untouched(response: &mut Response) {
    response.push_header("x-victor-cache", b"bypass");
    response.push_header("x-victor-attempts", b"0");
}

fn draining(route: Route, dialect: Dialect) -> Refused {
    let message = "this gateway is being stopped; send the call again in a moment";
    let error = ApiError::new(Kind::Overloaded, message).code("draining");
    Refused {
        retry_after: Some(DRAIN_RETRY_AFTER),
        ..Refused::new(route, dialect, error)
    }
}

fn wrong_method(route: Route, dialect: Dialect, allow: &'static str) -> Refused {
    let message = format!("this route takes {allow} only");
    let error = ApiError::new(Kind::InvalidRequest, message).status(405);
    Refused {
        allow: Some(allow),
        ..Refused::new(route, dialect, error)
    }
}

fn not_found(request: &Request) -> Refused {
    let message = "there is no such route; see GET /v1/models, POST /v1/chat/completions, \
                   /v1/responses, /v1/messages, /v1/messages/count_tokens, /v1/completions, \
                   /v1/embeddings and GET /health";
    Refused::new(
        Route::Other,
        dialect_of(request),
        ApiError::new(Kind::NotFound, message),
    )
}

/// The dialect of a caller whose route does not say it: Anthropic's SDKs send their version.
fn dialect_of(request: &Request) -> Dialect {
    match request.header("anthropic-version") {
        Some(_) => Dialect::Anthropic,
        None => Dialect::Openai,
    }
}

/// The caller's own request id if it is sane (a token of at most 64 characters), else a new one.
fn request_id(request: &Request) -> String {
    let sane = |id: &&str| {
        (1..=crate::thread::REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte))
    };
    match request.header("x-request-id").filter(sane) {
        Some(id) => id.to_owned(),
        None => new_request_id(),
    }
}

/// `req_` and 24 random hexadecimal digits, written by hand: every call has one, and the formatter
/// takes 2,000 instructions for it.
fn new_request_id() -> String {
    let mut id = *b"req_000000000000000000000000";
    let (high, low) = (fastrand::u64(..), fastrand::u32(..));
    let mut write = |places: std::ops::Range<usize>, mut random: u64| {
        for place in &mut id[places] {
            *place = b"0123456789abcdef"[random as usize & 15];
            random >>= 4;
        }
    };
    write(4..20, high);
    write(20..28, u64::from(low));
    str::from_utf8(&id).unwrap_or_default().to_owned()
}
