//! `kind: openai`: OpenAI, and everybody who speaks its API.

use crate::wire::{Dialect, Endpoint};

/// The URL of `endpoint`, if it is of this dialect. `base_url` ends in `/v1`, or whatever the
/// vendor puts in its place, as OpenAI's own SDK takes it.
pub fn url(base_url: &str, endpoint: Endpoint) -> Option<String> {
    (endpoint.dialect() == Dialect::Openai).then(|| format!("{base_url}{}", endpoint.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_under_the_base_url() {
        let check = |base, endpoint, expected: Option<&str>| {
            assert_eq!(url(base, endpoint).as_deref(), expected);
        };
        check(
            "https://api.openai.com/v1",
            Endpoint::ChatCompletions,
            Some("https://api.openai.com/v1/chat/completions"),
        );
        check(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            Endpoint::Embeddings,
            Some("https://generativelanguage.googleapis.com/v1beta/openai/embeddings"),
        );
        check("https://api.openai.com/v1", Endpoint::Messages, None);
    }
}
