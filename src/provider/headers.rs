//! Which headers of a provider's answer go back to the caller.
//!
//! A closed list: what SDKs read to wait, to retry and to report. Never cookies, never framing,
//! never anything about the path in between.

use std::borrow::Cow;

use ureq::http::HeaderMap;
use ureq::http::header::HeaderName;

/// Headers passed back as they are, besides those that [`PREFIXES`] cover.
const RELAYED: [&str; 7] = [
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-organization",
    "openai-version",
];
/// Rate limits, whose names vary with the vendor.
const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];
/// Headers passed back of one answer at most.
const RELAYED_MAX: usize = 48;

/// A header passed back; its name is in lower case.
pub type Header = (Cow<'static, str>, String);

fn relayed_name(name: &str) -> Option<Cow<'static, str>> {
    if let Some(known) = RELAYED.iter().find(|known| **known == name) {
        return Some(Cow::Borrowed(known));
    }
    let covered = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    covered.then(|| Cow::Owned(name.to_owned()))
}

/// Picks from pairs what goes back.
pub fn relayed<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Header> {
    headers
        .filter_map(|(name, value)| Some((relayed_name(name)?, value.to_owned())))
        .take(RELAYED_MAX)
        .collect()
}

/// The pairs of an answer; values that are not printable ASCII are left out.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((HeaderName::as_str(name), value.to_str().ok()?)))
}

/// The provider's own id of the request: Anthropic's `request-id`, everybody else's
/// `x-request-id`.
pub fn request_id<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut found = None;
    for (name, value) in headers {
        match name {
            "request-id" => return Some(value.to_owned()),
            "x-request-id" => found = Some(value.to_owned()),
            _ => {}
        }
    }
    found
}

/// Whether a `content-type` is `mime`, whatever its parameters.
pub fn is_mime(content_type: &str, mime: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(mime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sdks_read_goes_back() {
        let answer = [
            ("content-type", "application/json"),
            ("set-cookie", "session=1"),
            ("content-length", "12"),
            ("connection", "keep-alive"),
            ("x-ratelimit-remaining-tokens", "41"),
            ("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z"),
            ("x-request-id", "req_1"),
            ("server", "cloudflare"),
        ];
        let back = relayed(answer.into_iter());
        let names: Vec<_> = back.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(
            names,
            [
                "content-type",
                "x-ratelimit-remaining-tokens",
                "anthropic-ratelimit-requests-reset"
            ]
        );
        assert_eq!(request_id(answer.into_iter()).as_deref(), Some("req_1"));
    }

    #[test]
    fn a_mime_type_is_compared_without_parameters() {
        let check = |value, expected| assert_eq!(is_mime(value, "text/event-stream"), expected);
        check("text/event-stream", true);
        check("Text/Event-Stream ; charset=utf-8", true);
        check("text/event-streams", false);
        check("application/json", false);
    }
}
