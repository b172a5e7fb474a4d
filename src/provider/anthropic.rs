//! `kind: anthropic`: Anthropic, and who speaks its API.

use crate::wire::{Dialect, Endpoint};

/// The URL of `endpoint`, if it is of this dialect. `base_url` is without `/v1`, as Anthropic's
/// own SDK takes it.
pub fn url(base_url: &str, endpoint: Endpoint) -> Option<String> {
    (endpoint.dialect() == Dialect::Anthropic).then(|| format!("{base_url}{}", endpoint.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_under_the_base_url() {
        let base = "https://api.anthropic.com";
        let check = |endpoint, expected: Option<&str>| {
            assert_eq!(url(base, endpoint).as_deref(), expected);
        };
        check(
            Endpoint::Messages,
            Some("https://api.anthropic.com/v1/messages"),
        );
        check(
            Endpoint::CountTokens,
            Some("https://api.anthropic.com/v1/messages/count_tokens"),
        );
        check(Endpoint::Embeddings, None);
    }
}
