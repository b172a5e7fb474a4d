//! Structured output: the JSON document that a request asks for instead of words. Pure.
//!
//! OpenAI's chat has it in `response_format`, Anthropic in `output_config.format` (before that in
//! `output_format`), OpenAI's responses in `text.format`. Start at [`asked`].

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::Chat;
use super::part::Fragments;
use super::tool;

/// A format of any dialect: the schema is at the top, or one level further down.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonSchema<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

/// Anthropic's `output_config` and OpenAI's `text`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

/// The document that a chat request of either dialect asks for.
///
/// # Errors
/// The format is not of the dialect's shape.
pub fn asked(request: &Chat<'_>, seed: u64) -> Result<Option<Fragments>, serde_json::Error> {
    if let Some(config) = request.output_config {
        return of_config(config, seed);
    }
    let format = request.response_format.or(request.output_format);
    format.map_or(Ok(None), |format| document(format, seed))
}

/// The document that `output_config` or `text` asks for.
///
/// # Errors
/// As [`asked`].
pub fn of_config(config: &RawValue, seed: u64) -> Result<Option<Fragments>, serde_json::Error> {
    let config: Option<Config<'_>> = serde_json::from_str(config.get())?;
    let format = config.and_then(|config| config.format);
    format.map_or(Ok(None), |format| document(format, seed))
}

fn document(format: &RawValue, seed: u64) -> Result<Option<Fragments>, serde_json::Error> {
    let format: Option<Format<'_>> = serde_json::from_str(format.get())?;
    let format = format.unwrap_or_default();
    let text = match format.kind.as_str() {
        "json_object" => format!("{{\"sim\":\"answer {:04x}\"}}", seed & 0xffff),
        "json_schema" => {
            let nested = format.json_schema.and_then(|nested| nested.schema);
            let schema = nested.or(format.schema);
            let value = schema.and_then(tool::document);
            value.map_or_else(|| "{}".to_owned(), |value| value.to_string())
        }
        _ => return Ok(None),
    };
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialects_format_is_read() {
        let check = |body: &str, expected: Option<&str>| {
            let chat: Chat<'_> = serde_json::from_str(body).unwrap();
            let document = asked(&chat, 0x1f3a).unwrap();
            assert_eq!(document.as_ref().map(Fragments::text), expected, "{body}");
        };
        let schema = r#"{"type":"object","properties":{"a":{"const":1}}}"#;
        let schema = format!(r#""type":"json_schema","schema":{schema}"#);
        let nested = schema.replacen(r#""schema":"#, r#""json_schema":{"name":"n","schema":"#, 1);
        let made = Some(r#"{"a":1}"#);
        check(&format!(r#"{{"response_format":{{{nested}}}}}}}"#), made);
        check(
            &format!(r#"{{"output_config":{{"effort":"low","format":{{{schema}}}}}}}"#),
            made,
        );
        check(&format!(r#"{{"output_format":{{{schema}}}}}"#), made);
        let object = r#"{"response_format":{"type":"json_object"}}"#;
        check(object, Some(r#"{"sim":"answer 1f3a"}"#));
        check(r#"{"response_format":{"type":"text"}}"#, None);
        check(r#"{"output_config":{"effort":"low","format":null}}"#, None);
        check("{}", None);
        let wrong: Chat<'_> = serde_json::from_str(r#"{"response_format":3}"#).unwrap();
        assert!(asked(&wrong, 0).is_err());
    }
}
