//! What OpenAI's endpoints have in common, and the two that are small: legacy completions and
//! embeddings. Pure.
//!
//! The tables follow the SDK's `openai.types`; patterns and messages are the API's own.

use serde_json::Value;

use super::kind::{self, Field, Finding, INTEGER, Kind, POSITIVE, Wrong, may, must, null};
use super::{has, is_base64, is_plain, is_url, list, text};

/// Longest name of a tool or a schema.
const NAME_BYTES_MAX: usize = 64;
/// Most stop sequences.
const STOPS_MAX: usize = 4;

pub const TEMPERATURE: Kind = Kind::Number(0.0, 2.0);
pub const SHARE: Kind = Kind::Number(0.0, 1.0);
pub const PENALTY: Kind = Kind::Number(-2.0, 2.0);
pub const TOP_LOGPROBS: Kind = Kind::Integer(0, 20);
pub const NAME: Kind = Kind::Where(&Kind::Text, name);
pub const IMAGE_URL: Kind = Kind::Where(&Kind::Text, image_url);
pub const TEXTS: Kind = Kind::List(&Kind::Text);
pub const EFFORT: Kind = Kind::OneOf(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]);
pub const VERBOSITY: Kind = Kind::OneOf(&["low", "medium", "high"]);
pub const RETENTION: Kind = Kind::OneOf(&["in_memory", "24h"]);
pub const SERVICE_TIER: Kind =
    Kind::OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]);
pub const STREAM_OPTIONS: Kind = Kind::Object(&[
    may("include_obfuscation", Kind::Bool),
    may("include_usage", Kind::Bool),
]);
pub const STOP: Kind = Kind::Where(&Kind::Either(&[Kind::Text, TEXTS]), stop);

/// A name of letters, digits, `_` and `-`.
fn name(value: &Value) -> Result<(), Finding> {
    let name = value.as_str().unwrap_or_default();
    if name.len() > NAME_BYTES_MAX {
        let length = name.len();
        return Err(Finding::rule(format!(
            "Invalid '{{path}}': string too long. Expected a string with maximum length \
             {NAME_BYTES_MAX}, but got a string with length {length} instead."
        )));
    }
    if !is_plain(name) {
        return Err(Finding::rule(
            "Invalid '{path}': string does not match pattern. Expected a string that matches the \
             pattern '^[a-zA-Z0-9_-]+$'.",
        ));
    }
    Ok(())
}

/// An address, or the image itself as `data:image/png;base64,…`.
fn image_url(value: &Value) -> Result<(), Finding> {
    let url = value.as_str().unwrap_or_default();
    let data = url.strip_prefix("data:").map(|data| {
        let (kind, data) = data.split_once(";base64,").unwrap_or_default();
        let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
        kinds.contains(&kind) && is_base64(data)
    });
    if data.unwrap_or_else(|| is_url(url)) {
        return Ok(());
    }
    let start: String = url.chars().take(32).collect();
    Err(Finding::rule(format!(
        "Invalid '{{path}}'. Expected a valid URL, or a base64-encoded data URL with an image MIME \
         type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got '{start}'."
    )))
}

fn stop(value: &Value) -> Result<(), Finding> {
    match value.as_array() {
        Some(list) if list.len() > STOPS_MAX => Err(Finding::rule(format!(
            "Invalid '{{path}}': array too long. Expected an array with maximum length \
             {STOPS_MAX}, but got an array with length {} instead.",
            list.len()
        ))),
        _ => Ok(()),
    }
}

/// `stream_options` only make sense beside `stream`.
pub fn check_stream_options(body: &Value) -> Result<(), Finding> {
    let streams = body.get("stream").and_then(Value::as_bool) == Some(true);
    if has(body, "stream_options") && !streams {
        let text = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Finding::rule(text).within("stream_options"));
    }
    Ok(())
}

/// The function that `tool_choice` names must be offered.
pub fn check_named(
    body: &Value,
    name: &str,
    offered: impl Fn(&Value) -> &str,
) -> Result<(), Finding> {
    let is_offered = list(body, "tools").any(|(_, tool)| offered(tool) == name);
    if name.is_empty() || is_offered {
        return Ok(());
    }
    let text = format!("Tool choice '{name}' not found in 'tools' parameter.");
    Err(Finding::rule(text).within("tool_choice"))
}

/// A schema that is to be kept to strictly names every property, and allows no other.
pub fn check_strict_schema(schema: &Value, name: &str, depth: u32) -> Result<(), Finding> {
    let wrong = |why: String| Err(Finding::rule(format!("Invalid schema for '{name}': {why}")));
    if depth == 0 {
        return Ok(());
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return wrong(
                "'additionalProperties' is required to be supplied and to be false.".into(),
            );
        }
        for (property, own) in properties {
            if list(schema, "required").all(|(_, one)| one != property) {
                return wrong(format!(
                    "'required' is required to be supplied and to be an array including every key \
                     in properties. Missing '{property}'."
                ));
            }
            check_strict_schema(own, name, depth - 1)?;
        }
    }
    for key in ["items", "anyOf", "$defs"] {
        let inner = match schema.get(key) {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(Value::Object(defs)) if key == "$defs" => defs.values().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        for one in inner {
            check_strict_schema(one, name, depth - 1)?;
        }
    }
    Ok(())
}

/// A function, or a schema of an answer, whose `strict` is true.
pub fn check_if_strict(own: &Value, schema: &str) -> Result<(), Finding> {
    if own.get("strict") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    let depth = 32;
    let Some(found) = own.get(schema) else {
        return Ok(());
    };
    check_strict_schema(found, text(own, "name"), depth).map_err(|finding| finding.within(schema))
}

const PROMPT: Kind = Kind::Either(&[Kind::Text, Kind::Items(&Kind::Any)]);

const COMPLETION: &[Field] = &[
    must("model", Kind::Text),
    null("prompt", PROMPT),
    null("best_of", Kind::Integer(0, 20)),
    null("echo", Kind::Bool),
    null("frequency_penalty", PENALTY),
    null("logit_bias", Kind::Map),
    null("logprobs", Kind::Integer(0, 5)),
    null("max_tokens", Kind::Integer(0, i64::MAX)),
    null("n", Kind::Integer(1, 128)),
    null("presence_penalty", PENALTY),
    null("seed", INTEGER),
    null("stop", STOP),
    null("stream", Kind::Bool),
    null("stream_options", STREAM_OPTIONS),
    null("suffix", Kind::Text),
    null("temperature", TEMPERATURE),
    null("top_p", SHARE),
    may("user", Kind::Text),
];

/// Checks a request for a legacy completion.
pub fn check_completion(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(COMPLETION))?;
    check_stream_options(body)
}

const EMBEDDINGS: &[Field] = &[
    must("model", Kind::Text),
    must("input", PROMPT),
    may("dimensions", POSITIVE),
    may("encoding_format", Kind::OneOf(&["float", "base64"])),
    may("user", Kind::Text),
];

/// Checks a request for embeddings.
pub fn check_embeddings(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(EMBEDDINGS))?;
    if text(body, "input").is_empty() && body["input"].is_string() {
        return Err(Finding::new(Wrong::Empty).within("input"));
    }
    Ok(())
}
