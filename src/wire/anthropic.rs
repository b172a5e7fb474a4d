//! What only Anthropic's dialect does: its error object, its model objects, its stream's events.
//!
//! Sources: docs.claude.com/en/api (errors, messages streaming, models), and what its Python SDK
//! insists on. This file knows no other dialect; what the two have in common is one level up.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::errors::{self, ApiError, Kind};
use super::sse::Event;
use super::stream::Mark;
use super::usage::Usage;

/// The `type` that goes with an error (docs.claude.com/en/api/errors).
const fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidRequest => "invalid_request_error",
        Kind::Authentication => "authentication_error",
        Kind::Permission => "permission_error",
        Kind::NotFound => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::RateLimit => "rate_limit_error",
        Kind::Timeout => "timeout_error",
        Kind::Overloaded => "overloaded_error",
        Kind::Internal | Kind::Upstream => "api_error",
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    r#type: &'static str,
    error: ErrorObject<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    r#type: &'static str,
    message: &'a str,
}

/// `{"type":"error","error":{"type","message"},"request_id"}`.
pub(super) fn error_json(error: &ApiError, request_id: &str) -> String {
    let body = ErrorBody {
        r#type: "error",
        error: ErrorObject {
            r#type: error_type(error.kind),
            message: &error.message,
        },
        request_id,
    };
    // Texts and nothing else: this cannot fail.
    serde_json::to_string(&body).unwrap_or_default()
}

/// One object of the models list. The vendor's page says to give the epoch where the day of
/// release is not known.
#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
    lifecycle: &'static str,
}

impl<'a> Model<'a> {
    const fn new(id: &'a str) -> Self {
        Self {
            r#type: "model",
            id,
            display_name: id,
            created_at: "1970-01-01T00:00:00Z",
            lifecycle: "active",
        }
    }
}

/// The body of `GET /v1/models` for a caller who sends `anthropic-version`. Always one page.
pub fn models_list<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let data: Vec<Model<'_>> = ids.into_iter().map(Model::new).collect();
    let (first, last) = (data.first(), data.last());
    json!({
        "first_id": first.map(|model| model.id),
        "last_id": last.map(|model| model.id),
        "has_more": false,
        "data": data,
    })
    .to_string()
    .into_bytes()
}

/// The body of `GET /v1/models/{id}` for such a caller.
pub fn model(id: &str) -> Vec<u8> {
    json!(Model::new(id)).to_string().into_bytes()
}

/// What an event with `data` says. The events are named, so that deltas need no reading at all;
/// where a server leaves the name out, it is the data's own `type`.
pub(super) fn mark(event: &Event<'_>, data: &[u8]) -> Mark {
    let mut mark = Mark::default();
    let name = match event.name {
        Some(name) => Cow::Borrowed(name),
        None => type_of(data),
    };
    match name.as_ref() {
        "message_stop" => mark.end = true,
        "ping" => mark.idle = true,
        "error" => {
            let reason = errors::provider_reason(data);
            mark.error = Some(reason.unwrap_or_else(|| "an error without a message".to_owned()));
        }
        "message_start" | "message_delta" => {
            if let Ok(body) = serde_json::from_slice::<Body>(data) {
                let message = body.message.unwrap_or_default();
                let usage = body.usage.or(message.usage);
                mark.usage = usage.map(|usage| Usage::of_object(usage.get()));
                mark.finish = body.delta.unwrap_or_default().stop_reason.is_some();
            }
        }
        _ => {}
    }
    mark
}

fn type_of(data: &[u8]) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_slice::<Typed<'_>>(data).map_or(Cow::Borrowed(""), |typed| typed.r#type)
}

/// `message_start` has its usage within `message`, `message_delta` beside `delta`.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_list_has_what_the_sdk_insists_on() {
        assert_eq!(
            String::from_utf8(models_list(["sim", "b"])).unwrap(),
            r#"{"data":[{"created_at":"1970-01-01T00:00:00Z","display_name":"sim","id":"sim","lifecycle":"active","type":"model"},{"created_at":"1970-01-01T00:00:00Z","display_name":"b","id":"b","lifecycle":"active","type":"model"}],"first_id":"sim","has_more":false,"last_id":"b"}"#
        );
        assert_eq!(
            String::from_utf8(models_list([])).unwrap(),
            r#"{"data":[],"first_id":null,"has_more":false,"last_id":null}"#
        );
    }
}
