//! The dialects that clients and providers speak: OpenAI's and Anthropic's.
//!
//! Everything here is pure: bytes in, values out. Nothing in this module opens a socket, reads a
//! clock, takes a lock or logs, and nothing recurses as deep as a stranger's bytes ask for. Where
//! caller and provider share a dialect, a body passes through byte for byte apart from its model
//! name, so most of this module looks at bytes without building a value from them.
//!
//! Start reading at [`request`], which looks at what a caller sent, then follow an answer back:
//! [`sse`] cuts a stream into events, [`stream`] watches them, [`usage`] counts the tokens, and
//! [`errors`] says what went wrong in the caller's own dialect. What only one vendor does is in
//! [`openai`] or [`anthropic`].

pub mod anthropic;
pub mod chat;
pub mod choices;
pub mod embeddings;
pub mod errors;
pub mod estimate;
pub mod form;
pub mod json;
pub mod messages;
pub mod near;
pub mod openai;
pub mod replay;
pub mod request;
pub mod responses;
pub mod sequencer;
pub mod sse;
pub mod stream;
pub mod translate;
pub mod usage;

/// Whose API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions and embeddings, and everybody who copies them.
    Openai,
    /// Anthropic's messages.
    Anthropic,
}

impl Dialect {
    /// The name in configuration, logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// A kind of call that runs through a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI's `POST /v1/chat/completions`, streamed or not.
    ChatCompletions,
    /// OpenAI's `POST /v1/responses`, streamed or not.
    Responses,
    /// OpenAI's legacy `POST /v1/completions`, streamed or not.
    Completions,
    /// OpenAI's `POST /v1/embeddings`.
    Embeddings,
    /// Anthropic's `POST /v1/messages`, streamed or not.
    Messages,
    /// Anthropic's `POST /v1/messages/count_tokens`.
    CountTokens,
}

impl Endpoint {
    /// Every endpoint, for tables that want one entry each.
    pub const ALL: [Self; 6] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
    ];

    /// The dialect that the endpoint belongs to.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions | Self::Responses | Self::Completions | Self::Embeddings => {
                Dialect::Openai
            }
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
        }
    }

    /// What to append to a provider's `base_url`. OpenAI's base ends in `/v1`, Anthropic's does
    /// not: that is how either vendor's SDK takes it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Responses => "/responses",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// The endpoint at `path` of our own API plane; `path` is without its query.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            "/v1/responses" => Some(Self::Responses),
            "/v1/completions" => Some(Self::Completions),
            "/v1/embeddings" => Some(Self::Embeddings),
            "/v1/messages" => Some(Self::Messages),
            "/v1/messages/count_tokens" => Some(Self::CountTokens),
            _ => None,
        }
    }

    /// The name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }

    /// Whether it asks a model for an answer in words, which any dialect can be translated into.
    pub const fn is_chat(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Responses | Self::Messages
        )
    }

    /// Whether the endpoint has a streamed form at all.
    pub const fn streams(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Responses | Self::Completions | Self::Messages
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_found_at_its_path_and_only_there() {
        for endpoint in Endpoint::ALL {
            let own = match endpoint.dialect() {
                Dialect::Openai => format!("/v1{}", endpoint.path()),
                Dialect::Anthropic => endpoint.path().to_owned(),
            };
            assert_eq!(Endpoint::from_path(&own), Some(endpoint));
            assert_eq!(Endpoint::from_path(&format!("{own}/")), None);
        }
    }
}
