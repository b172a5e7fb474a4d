//! The routes of the simulator, and the answers that need no model: embeddings, models. Pure;
//! called by `script::plan`. What a model would say is put together in `compose` and
//! `respond`.

use std::borrow::Cow;

use serde::Deserialize;

use super::behaviour::Spec;
use super::body::{self, Inputs};
use super::fault::{Dialect, Fault, push_json};
use super::script::{Plan, Stop, unknown_model};
use super::steps::Body;
use super::vectors::Vectors;
use super::{anthropic, compose, openai, respond, strict};

/// The key that is refused; any other, and none, is accepted.
const BAD_KEY: &str = "bad-key";
/// Dimensions of a vector where none are asked for, and the most that can be.
const DIMENSIONS_DEFAULT: i64 = 256;
const DIMENSIONS_MAX: i64 = 4096;
/// What a text contains that is refused with all others of its request.
const POISON: &str = "poison";
/// Numbers in one embeddings answer.
const VECTOR_VALUES_MAX: usize = 4 << 20;

/// What answers a route.
type Route = fn(&mut Plan<'_>) -> Result<Body, Stop>;

/// The body that answers the request.
pub(super) fn body(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    if plan.request.api_key == Some(BAD_KEY) {
        let message = match plan.dialect {
            Dialect::OpenAi => "Incorrect API key provided: bad-***.",
            Dialect::Anthropic => "invalid x-api-key",
        };
        return Err(Fault::new(401, message).code("invalid_api_key").into());
    }
    let path = plan.request.path;
    let (allowed, answer): (_, Route) = match path {
        "/v1/chat/completions" | "/v1/messages" => ("POST", compose::chat),
        "/v1/responses" => ("POST", respond::response),
        "/v1/completions" => ("POST", respond::completion),
        "/v1/messages/count_tokens" => ("POST", compose::count_tokens),
        "/v1/embeddings" => ("POST", embeddings),
        "/v1/models" => ("GET", models),
        _ if path.starts_with("/v1/models/") => ("GET", one_model),
        _ => {
            let text = format!("Invalid URL ({} {path})", plan.request.method);
            return Err(Fault::new(404, text).code("unknown_url").into());
        }
    };
    let method = plan.request.method;
    if method != allowed && !(allowed == "GET" && method == "HEAD") {
        plan.allow = Some(allowed);
        let text = format!("Not allowed to {method} on {path}; use {allowed}.");
        return Err(Fault::new(405, text).code("method_not_allowed").into());
    }
    answer(plan)
}

pub(super) fn read<'de, T: Deserialize<'de>>(plan: &Plan<'de>) -> Result<T, Stop> {
    let body: &'de [u8] = plan.request.body;
    serde_json::from_slice(body).map_err(|error| {
        if !error.is_data() {
            let text = format!("We could not parse the JSON body of your request: {error}");
            return Fault::new(400, text).into();
        }
        refused_strictly(plan).unwrap_or_else(|| {
            let text = format!("Invalid request body: {error}");
            Fault::new(400, text).into()
        })
    })
}

/// What the vendor would say of a body that is of another shape, where that is asked for.
fn refused_strictly(plan: &Plan<'_>) -> Option<Stop> {
    let request = plan.request;
    let body: serde_json::Value = serde_json::from_slice(request.body).ok()?;
    let model = body.get("model").and_then(serde_json::Value::as_str);
    let spec = Spec::parse(model, request.x_sim).ok()?;
    let checked = strict::check(plan.dialect, request.path, request.body);
    checked.err().filter(|_| spec.first.strict).map(Stop::from)
}

/// The fault for a required field that is not there.
pub(super) fn missing(dialect: Dialect, field: &'static str) -> Stop {
    let text = match dialect {
        Dialect::OpenAi if field == "model" => "you must provide a model parameter".to_owned(),
        Dialect::OpenAi => format!("Missing required parameter: '{field}'."),
        Dialect::Anthropic => format!("{field}: Field required"),
    };
    Fault::new(400, text)
        .param(field)
        .code("missing_required_parameter")
        .into()
}

pub(super) fn invalid(field: &'static str, why: impl std::fmt::Display) -> Stop {
    let text = format!("Invalid '{field}': {why}");
    Fault::new(400, text)
        .param(field)
        .code("invalid_value")
        .into()
}

pub(super) fn bounded(field: &'static str, value: i64, most: i64) -> Result<u32, Stop> {
    let number = u32::try_from(value).ok();
    let bounded = number.filter(|_| (1..=most).contains(&value));
    bounded.ok_or_else(|| {
        invalid(
            field,
            format_args!("expected 1 to {most}, but got {value}."),
        )
    })
}

pub(super) fn json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

fn embeddings(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let request: body::Embeddings<'_> = read(plan)?;
    let Some(model) = request.model else {
        return Err(missing(plan.dialect, "model"));
    };
    let model = plan.model.insert(model).clone();
    let behaviours = plan.behave(Some(&model))?;
    let Some(input) = request.input else {
        return Err(missing(plan.dialect, "input"));
    };
    let inputs = Inputs::read(input).map_err(|error| invalid("input", error))?;
    if behaviours.poison && input.get().contains(POISON) {
        let text = "'$.input' is invalid. Please check the API reference: \
                    https://platform.openai.com/docs/api-reference.";
        return Err(Fault::new(400, text).into());
    }
    let asked = request.dimensions.unwrap_or(DIMENSIONS_DEFAULT);
    let dimensions = bounded("dimensions", asked, DIMENSIONS_MAX)? as usize;
    if inputs.seeds.len() * dimensions > VECTOR_VALUES_MAX {
        return Err(invalid(
            "input",
            format_args!("more than {VECTOR_VALUES_MAX} numbers"),
        ));
    }
    let base64 = match request
        .encoding_format
        .as_ref()
        .map_or("float", Cow::as_ref)
    {
        "float" => false,
        "base64" => true,
        _ => return Err(invalid("encoding_format", "expected float or base64.")),
    };
    Ok(Body::Vectors(Box::new(Vectors {
        model_json: json(&model),
        seeds: inputs.seeds,
        tokens: inputs.tokens,
        dimensions,
        base64,
    })))
}

fn models(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    plan.behave(None)?;
    let mut out = Vec::with_capacity(2048);
    match plan.dialect {
        Dialect::OpenAi => openai::models(&mut out),
        Dialect::Anthropic => anthropic::models(&mut out),
    }
    Ok(Body::Ready(out))
}

/// One model by name. Its own behaviours are not acted upon here, only those of the header.
fn one_model(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    plan.behave(None)?;
    let id = percent_decoded(plan.request.path.trim_start_matches("/v1/models/"));
    Spec::parse(Some(&id), None).map_err(|unknown| unknown_model(&id, &unknown))?;
    plan.model = Some(id.clone());
    let mut out = Vec::with_capacity(256);
    match plan.dialect {
        Dialect::OpenAi => openai::model(&id, &mut out),
        Dialect::Anthropic => anthropic::model(&id, &mut out),
    }
    Ok(Body::Ready(out))
}

/// `%2B` and its like decoded (RFC 3986 section 2.1); what is no escape stays.
fn percent_decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| byte == b'%');
        let digits = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
