//! The response object.
//!
//! It is what a whole answer is, what the first and the last events carry and what is kept, so it
//! is written in one place. Start at [`Object::write`].

use super::super::form::{PartKind, Stop, Tokens};
use super::super::json::view::Lit;
use super::super::json::write::Writer;
use super::asked::Asked;

/// What of a response object is not repeated from the request.
pub(super) struct Object<'o> {
    pub(super) id: &'o str,
    /// Seconds since the epoch.
    pub(super) created_at: u64,
    /// The one that answered.
    pub(super) model: &'o Lit<'o>,
    pub(super) state: State<'o>,
    /// `None`: not known yet.
    pub(super) usage: Option<Tokens>,
}

/// How far a response is.
#[derive(Clone, Copy)]
pub(super) enum State<'o> {
    InProgress,
    /// At so many seconds since the epoch.
    Completed(u64),
    /// For this reason.
    Incomplete(&'static str),
    Failed {
        code: &'o str,
        message: &'o str,
    },
}

impl State<'_> {
    const fn label(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed(_) => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Why an answer is incomplete, in the vendor's words; `None`: it is complete. A refusal in words
/// is a complete answer; one without any was a filter's.
pub(super) const fn incomplete_reason(stop: Stop, has_refusal: bool) -> Option<&'static str> {
    match stop {
        Stop::MaxTokens | Stop::ContextFull => Some("max_output_tokens"),
        Stop::Refusal if !has_refusal => Some("content_filter"),
        Stop::Refusal | Stop::End | Stop::StopSequence | Stop::ToolCalls | Stop::Paused => None,
    }
}

/// Whether the part is a refusal in words.
pub(super) const fn is_refusal(kind: &PartKind<'_>) -> bool {
    matches!(kind, PartKind::Refusal(_))
}

impl Object<'_> {
    /// Writes the object, with the items that `output` writes.
    pub(super) fn write(
        &self,
        asked: &Asked,
        writer: &mut Writer,
        output: impl FnOnce(&mut Writer),
    ) {
        writer.object(|it| {
            it.key("id").string(self.id);
            it.key("object").string("response");
            it.key("created_at").number(self.created_at);
            it.key("status").string(self.state.label());
            match self.state {
                State::Completed(at) => it.key("completed_at").number(at.max(self.created_at)),
                _ => it.key("completed_at").null(),
            };
            it.key("error");
            match self.state {
                State::Failed { code, message } => it.object(|it| {
                    it.key("code").string(error_code(code));
                    it.key("message").string(message);
                }),
                _ => it.null(),
            };
            it.key("incomplete_details");
            match self.state {
                State::Incomplete(reason) => it.object(|it| {
                    it.key("reason").string(reason);
                }),
                _ => it.null(),
            };
            it.key("model");
            if self.model.is_empty() {
                it.lit(&asked.model());
            } else {
                it.lit(self.model);
            }
            it.key("output").array(output);
            it.key("usage");
            match &self.usage {
                Some(tokens) => write_usage(it, tokens),
                None => {
                    it.null();
                }
            }
            asked.write(it);
        });
    }
}

/// The vendor has a closed list of codes here, of which clients make an enum. The others on it are
/// of images and files, which nobody here looks into.
fn error_code(code: &str) -> &'static str {
    match code {
        "rate_limit_exceeded" => "rate_limit_exceeded",
        "invalid_prompt" => "invalid_prompt",
        _ => "server_error",
    }
}

fn write_usage(writer: &mut Writer, tokens: &Tokens) {
    let total = tokens.prompt().saturating_add(tokens.output);
    writer.object(|it| {
        it.key("input_tokens").number(tokens.prompt());
        it.key("input_tokens_details").object(|it| {
            it.key("cached_tokens").number(tokens.cache_read);
            it.key("cache_write_tokens").number(tokens.cache_write);
        });
        it.key("output_tokens").number(tokens.output);
        it.key("output_tokens_details").object(|it| {
            it.key("reasoning_tokens").number(tokens.reasoning);
        });
        it.key("total_tokens").number(total);
    });
}
