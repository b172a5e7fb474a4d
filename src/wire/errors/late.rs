//! Errors that come too late to be an answer: the head of a stream has gone out already.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ApiError, in_band_error, provider_reason, words};
use crate::wire::translate::kind_of;
use crate::wire::{Dialect, Endpoint, openai};

/// An answer with an error, whole as it would have been sent, as the event that takes its place once
/// the head of a stream has gone out. No other event has gone before. `body` goes in as it came if it
/// has the endpoint's own shape, as a provider's may and ours does; otherwise what it says is said
/// in that shape.
pub fn event_of_answer(endpoint: Endpoint, status: u16, body: &[u8], request_id: &str) -> Vec<u8> {
    let text = str::from_utf8(body).unwrap_or_default().trim();
    own_shape(endpoint, status, text).map_or_else(
        || {
            let reason = provider_reason(body);
            let message = reason.unwrap_or_else(|| format!("the call failed with status {status}"));
            let error = ApiError::new(kind_of(status), message).status(status);
            in_band_error(endpoint, &error, request_id, 0)
        },
        String::into_bytes,
    )
}

/// The event of an error in the shape that the SDKs of `endpoint` look for; `None` for any other.
fn own_shape(endpoint: Endpoint, status: u16, text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let answer: Whole<'_> = serde_json::from_str(text).ok()?;
    // An error that says nothing is none to an SDK, which would go on reading.
    let error = answer.error.filter(|error| words(error.get()).is_some())?;
    // Within JSON's texts a line break is escaped: those that are left stand between words.
    let line = text.replace(['\n', '\r'], " ");
    match endpoint.dialect() {
        Dialect::Openai if endpoint == Endpoint::Responses => {
            openai::error_event_of(error.get(), status)
        }
        Dialect::Openai => Some(format!("data: {line}\n\n")),
        Dialect::Anthropic => (answer.r#type? == "error" && error.get().starts_with('{'))
            .then(|| format!("event: error\ndata: {line}\n\n")),
    }
}

/// The two members that tell an answer with an error from others.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, error_body};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_answer_becomes_an_event_of_its_dialect() {
        let check = |endpoint, status, body: &str, expected: &str| {
            let event = event_of_answer(endpoint, status, body.as_bytes(), "req-1");
            assert_eq!(String::from_utf8(event).unwrap(), expected, "{body}");
        };
        // Ours, whatever it is, is what it would have been within the stream.
        let ours = ApiError::new(Kind::Timeout, "too\nlate").code("deadline");
        for endpoint in [
            Endpoint::ChatCompletions,
            Endpoint::Responses,
            Endpoint::Messages,
        ] {
            let body = error_body(endpoint.dialect(), &ours, "req-1");
            let event = event_of_answer(endpoint, 504, &body, "req-1");
            assert_eq!(event, in_band_error(endpoint, &ours, "req-1", 0));
        }
        let told = r#"{"error":{"message":"full","type":"server_error","param":null,"code":null}}"#;
        let chat = Endpoint::ChatCompletions;
        check(
            chat,
            429,
            "\n{\r\n  \"error\": {\"message\": \"a\\nb\", \"limit\": 1.50},\n \"x\": 1}\n",
            "data: {    \"error\": {\"message\": \"a\\nb\", \"limit\": 1.50},  \"x\": 1}\n\n",
        );
        check(
            chat,
            500,
            r#"{"error":"full"}"#,
            "data: {\"error\":\"full\"}\n\n",
        );
        for foreign in [
            r#"{"detail":"full"}"#,
            r#"[{"error":{"message":"full"}}]"#,
            "full\n",
        ] {
            check(chat, 500, foreign, &format!("data: {told}\n\n"));
        }
        let status = told.replace("full", "the call failed with status 502");
        for nothing in ["", "<html>", r#"{"error":{}}"#, r#"{"error":{"message":""#] {
            check(chat, 502, nothing, &format!("data: {status}\n\n"));
        }
        check(
            Endpoint::Messages,
            529,
            "{\"type\":\"error\",\n\"error\":{\"type\":\"overloaded_error\",\"message\":\"full\"}}",
            "event: error\ndata: {\"type\":\"error\", \"error\":{\"type\":\"overloaded_error\",\"message\":\"full\"}}\n\n",
        );
        check(
            Endpoint::Messages,
            529,
            r#"{"error":{"message":"full"}}"#,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"full\"},\"request_id\":\"req-1\"}\n\n",
        );
        let event = |code: &str| {
            format!(
                "event: error\ndata: {{\"type\":\"error\",\"code\":\"{code}\",\"message\":\"full\",\"param\":null,\"sequence_number\":0}}\n\n"
            )
        };
        for (error, code) in [
            (r#"{"message":"full","type":"t","code":"c"}"#, "c"),
            (r#"{"message":"full","type":"t","code":null}"#, "t"),
            (r#"{"message":"full","code":7}"#, "7"),
            (r#"{"message":"full"}"#, "rate_limit_error"),
            (r#""full""#, "rate_limit_error"),
        ] {
            let body = format!("{{\"error\":{error}}}");
            check(Endpoint::Responses, 429, &body, &event(code));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_answer_becomes_one_whole_event(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                "(\\{\"type\":\"error\",\n?\"error\":\\{\"message\":\"\\PC{0,9}\"\\}\r?\\}\n?)".prop_map(String::into_bytes),
            ],
            endpoint in prop::sample::select(&Endpoint::ALL[..]),
        ) {
            let event = event_of_answer(endpoint, 500, &body, "req-1");
            let event = String::from_utf8(event).unwrap();
            let is_whole = event.ends_with("}\n\n") && !event.contains('\r');
            prop_assert!(is_whole);
            let data = event.trim_start_matches("event: error\n").strip_prefix("data: ");
            let data = data.unwrap().trim_end_matches('\n');
            prop_assert!(serde_json::from_str::<serde_json::Value>(data).is_ok(), "{}", data);
        }
    }
}
