//! `GET` and `DELETE /v1/responses/{id}`: the responses that were kept for later calls.
//!
//! The store's own thread answers, so that no event thread waits for a disk.

use std::sync::Arc;
use std::time::Duration;

use super::{Api, Refused, push_untouched, request_id, wrong_method};
use crate::coordinator::call::{error_response, push_request_id};
use crate::coordinator::passage::unavailable;
use crate::front::{Request, Responder, Response};
use crate::metrics::{Metrics, Route};
use crate::store::StoreError;
use crate::wire::Dialect;
use crate::wire::errors::{ApiError, Kind};
use crate::wire::json::write::Writer;

/// Where the kept responses are.
const PREFIX: &str = "/v1/responses/";
/// Bytes of an id at most; ours have 53.
const ID_BYTES_MAX: usize = 128;

/// The id that a path names; `None` for every other path.
pub(super) fn id_of(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)
        .filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()) && !id.contains('/'))
}

/// Who is to be answered, from another thread.
struct Asker {
    responder: Responder,
    request_id: String,
    metrics: Arc<Metrics>,
}

impl Asker {
    fn answer(self, answer: Result<Vec<u8>, ApiError>) {
        let mut response = match answer {
            Ok(body) => {
                let mut response = Response::json(200, body);
                push_request_id(&mut response, Dialect::Openai, &self.request_id);
                response
            }
            Err(error) => {
                let retry_after = (error.status == 503).then_some(Duration::from_secs(1));
                error_response(Dialect::Openai, &error, &self.request_id, retry_after)
            }
        };
        push_untouched(&mut response);
        self.metrics.http(Route::Responses, response.status);
        self.responder.respond(response);
    }
}

impl Api {
    /// Answers a request for the kept response `id`.
    pub(super) fn kept_response(&self, id: &str, request: &Request, responder: Responder) {
        if let Err(refused) = self.admit_kept(request) {
            self.refuse_call(refused, request, responder);
            return;
        }
        let asker = Asker {
            responder,
            request_id: request_id(request),
            metrics: Arc::clone(&self.metrics),
        };
        let scope = self.keys.scope(request);
        let (id, shown) = (id.to_owned(), id.to_owned());
        if request.method() == "DELETE" {
            let then = move |deleted: Result<bool, StoreError>| {
                asker.answer(match deleted {
                    Ok(true) => Ok(deleted_body(&shown)),
                    Ok(false) => Err(not_kept(&shown)),
                    Err(error) => Err(unavailable(&error)),
                });
            };
            self.store.delete(id, scope, Box::new(then));
        } else {
            let then = move |kept: Result<Option<crate::store::Kept>, StoreError>| {
                asker.answer(match kept {
                    Ok(Some(kept)) => Ok(kept.body),
                    Ok(None) => Err(not_kept(&shown)),
                    Err(error) => Err(unavailable(&error)),
                });
            };
            self.store.fetch(id, scope, Box::new(then));
        }
    }

    fn admit_kept(&self, request: &Request) -> Result<(), Refused> {
        let (route, dialect) = (Route::Responses, Dialect::Openai);
        if !matches!(request.method(), "GET" | "DELETE") {
            return Err(wrong_method(route, dialect, "GET, DELETE"));
        }
        self.admit(request, route, dialect)?;
        if self.lifecycle.is_draining() {
            return Err(super::draining(route, dialect));
        }
        Ok(())
    }
}

fn deleted_body(id: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.object(|it| {
        it.key("id").string(id);
        it.key("object").string("response");
        it.key("deleted").bool(true);
    });
    writer.into_bytes()
}

fn not_kept(id: &str) -> ApiError {
    let message = format!(
        "there is no response '{id}' here: it has expired, was made with `store: false`, by another \
         key or somewhere else"
    );
    ApiError::new(Kind::NotFound, message)
        .param("response_id")
        .code("response_not_found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_the_path() {
        for (path, expected) in [
            ("/v1/responses/resp_1", Some("resp_1")),
            ("/v1/responses/", None),
            ("/v1/responses", None),
            ("/v1/responses/resp_1/input_items", None),
        ] {
            assert_eq!(id_of(path), expected, "{path}");
        }
        assert_eq!(id_of(&format!("/v1/responses/{}", "x".repeat(129))), None);
    }
}
