//! Joins the codecs: a caller's request into a provider's, a provider's answer into a caller's.

use super::Dialect;

/// The name of the tool that a model is made to call where it must answer in JSON and its API has
/// no word for that. Its arguments are the answer.
pub const JSON_TOOL: &str = "json_answer";

/// What a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The provider's own name for the model.
    pub model: &'t str,
    /// Anthropic wants `max_tokens`: what it is where the caller gave none.
    pub default_max_tokens: u64,
    /// How an Anthropic provider is made to answer in JSON.
    pub structured_output: StructuredOutput,
}

/// See [`Target::structured_output`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructuredOutput {
    /// By `output_config.format`.
    Native,
    /// By a call of [`JSON_TOOL`], which any model with tools understands.
    Tool,
}

/// What an answer's writer has to know beside the answer.
#[derive(Clone, Copy, Debug)]
pub struct About<'r> {
    /// Seconds since the epoch, for dialects that say when they answered where the provider's does
    /// not.
    pub now: u64,
    /// Whether an OpenAI chat stream ends with its usage.
    pub include_usage: bool,
    /// Of the provider that answered.
    pub provider: Dialect,
    /// For [`responses`](super::responses): the id that the response has, unique for ever.
    pub response_id: &'r str,
}
