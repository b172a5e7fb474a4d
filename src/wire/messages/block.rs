//! What the codec's halves share: content blocks as they are read, stop reasons, counts, ids, and
//! the names of places for errors.
//!
//! Nothing here builds a value: a block is looked through once, and its members stay where they
//! stand.

use std::borrow::Cow;
use std::fmt;

use super::super::form::{Stop, Tokens, Untranslatable};
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::super::usage::Usage;

/// The signature of a thought whose model signs nothing, "unsigned" in base64: the dialect has no
/// block of thinking without one. It is left out again where it comes back.
pub(super) const UNSIGNED: &str = "dW5zaWduZWQ=";

/// A place in a body, as errors name it: `messages[2].content[0].type`. Written out only when
/// something is wrong there.
#[derive(Clone, Copy)]
pub(super) enum Place<'p> {
    Top(&'static str),
    Item(&'p Place<'p>, usize),
    Member(&'p Place<'p>, &'static str),
}

impl Place<'_> {
    /// Item number `index` of the list here.
    pub(super) const fn item(&self, index: usize) -> Place<'_> {
        Place::Item(self, index)
    }

    /// The member `name` of the object here.
    pub(super) const fn member(&self, name: &'static str) -> Place<'_> {
        Place::Member(self, name)
    }

    /// The fault `why` here.
    pub(super) fn fault(&self, why: impl Into<String>) -> Untranslatable {
        Untranslatable::new(self.to_string(), why)
    }

    /// What `read` makes of a value here; `None` where there is none.
    pub(super) fn optional<'a, T>(
        &self,
        value: Option<View<'a>>,
        what: &str,
        read: impl Fn(View<'a>) -> Option<T>,
    ) -> Result<Option<T>, Untranslatable> {
        match value.map(read) {
            None => Ok(None),
            Some(None) => Err(self.fault(format!("must be {what}"))),
            Some(read) => Ok(read),
        }
    }

    /// As [`Self::optional`], of a value that must be there.
    pub(super) fn required<'a, T>(
        &self,
        value: Option<View<'a>>,
        what: &str,
        read: impl Fn(View<'a>) -> Option<T>,
    ) -> Result<T, Untranslatable> {
        self.optional(value, what, read)?
            .ok_or_else(|| self.fault(format!("is missing, it must be {what}")))
    }
}

impl fmt::Display for Place<'_> {
    // As deep as the codec goes into a body, which its types bound.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => out.write_str(name),
            Self::Item(list, index) => write!(out, "{list}[{index}]"),
            Self::Member(object, name) => write!(out, "{object}.{name}"),
        }
    }
}

/// The inside of a string; `None` for anything else, and for nothing.
pub(super) fn lit(value: Option<View<'_>>) -> Option<Lit<'_>> {
    value.and_then(View::lit)
}

/// A list, for [`Place::optional`] and [`Place::required`].
pub(super) fn list(value: View<'_>) -> Option<View<'_>> {
    value.is_array().then_some(value)
}

/// An object, likewise.
pub(super) fn object(value: View<'_>) -> Option<View<'_>> {
    value.is_object().then_some(value)
}

/// A number, likewise.
pub(super) fn number(value: View<'_>) -> Option<View<'_>> {
    value.f64().map(|_| value)
}

/// The members of a content block, or of a delta of one, whichever type it has; `null` counts as
/// not there.
#[derive(Default)]
pub(super) struct Block<'a> {
    pub(super) kind: Option<View<'a>>,
    pub(super) text: Option<View<'a>>,
    pub(super) thinking: Option<View<'a>>,
    pub(super) signature: Option<View<'a>>,
    pub(super) data: Option<View<'a>>,
    pub(super) id: Option<View<'a>>,
    pub(super) name: Option<View<'a>>,
    pub(super) input: Option<View<'a>>,
    pub(super) partial_json: Option<View<'a>>,
    pub(super) source: Option<View<'a>>,
    pub(super) title: Option<View<'a>>,
    pub(super) context: Option<View<'a>>,
    pub(super) tool_use_id: Option<View<'a>>,
    pub(super) content: Option<View<'a>>,
    pub(super) is_error: Option<View<'a>>,
    pub(super) cache: Option<View<'a>>,
}

impl<'a> Block<'a> {
    /// The block that `view` is, in one walk over it, with the names of all other members handed
    /// to `other`.
    pub(super) fn of(view: View<'a>, mut other: impl FnMut(&str)) -> Self {
        let mut block = Self::default();
        for (name, value) in view.members() {
            let place = match name.as_ref() {
                "type" => &mut block.kind,
                "text" => &mut block.text,
                "thinking" => &mut block.thinking,
                "signature" => &mut block.signature,
                "data" => &mut block.data,
                "id" => &mut block.id,
                "name" => &mut block.name,
                "input" => &mut block.input,
                "partial_json" => &mut block.partial_json,
                "source" => &mut block.source,
                "title" => &mut block.title,
                "context" => &mut block.context,
                "tool_use_id" => &mut block.tool_use_id,
                "content" => &mut block.content,
                "is_error" => &mut block.is_error,
                "cache_control" => &mut block.cache,
                // Who called a tool: the model, as everywhere else.
                "caller" => continue,
                _ => {
                    if !value.is_null() {
                        other(&name);
                    }
                    continue;
                }
            };
            *place = Some(value).filter(|value| !value.is_null());
        }
        block
    }

    /// Its `type`; empty where it has none.
    pub(super) fn kind(&self) -> Cow<'a, str> {
        self.kind.and_then(View::string).unwrap_or_default()
    }

    /// The signature of a `thinking` block; that of a model which signs nothing is [`UNSIGNED`] or
    /// empty.
    pub(super) fn signature(&self) -> Option<Lit<'a>> {
        lit(self.signature).filter(|signature| !matches!(signature.as_escaped(), "" | UNSIGNED))
    }
}

/// The form's word for a `stop_reason`. One that nobody knows yet is an end like any other.
pub(super) fn stop_of(reason: &str) -> Stop {
    match reason {
        "max_tokens" => Stop::MaxTokens,
        "model_context_window_exceeded" => Stop::ContextFull,
        "stop_sequence" => Stop::StopSequence,
        "tool_use" => Stop::ToolCalls,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Paused,
        _ => Stop::End,
    }
}

/// What an answer held, as far as its `stop_reason` depends on that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) tool_call: bool,
    pub(super) refusal: bool,
}

impl Held {
    /// The `stop_reason` of an answer that stopped for `stop`. A refusal is an ordinary end with
    /// OpenAI, and so is a call of the one tool that the model was made to call; here a client
    /// goes by the reason alone.
    pub(super) const fn stop_reason(self, stop: Stop) -> &'static str {
        match stop {
            Stop::End if self.tool_call => "tool_use",
            Stop::End if self.refusal => "refusal",
            Stop::End => "end_turn",
            Stop::MaxTokens => "max_tokens",
            Stop::ContextFull => "model_context_window_exceeded",
            Stop::StopSequence => "stop_sequence",
            Stop::ToolCalls => "tool_use",
            Stop::Refusal => "refusal",
            Stop::Paused => "pause_turn",
        }
    }
}

/// What a `usage` object counts.
pub(super) fn usage_of(usage: Option<View<'_>>) -> Usage {
    usage.map_or_else(Usage::default, |usage| Usage::of_object(usage.text()))
}

/// Writes the members of `MessageDeltaUsage`, which `Usage` has as well.
pub(super) fn write_counts(it: &mut Writer, tokens: &Tokens) {
    it.key("input_tokens").number(tokens.input);
    it.key("cache_creation_input_tokens")
        .number(tokens.cache_write);
    it.key("cache_read_input_tokens").number(tokens.cache_read);
    it.key("output_tokens").number(tokens.output);
    it.key("output_tokens_details");
    if tokens.reasoning == 0 {
        it.null();
    } else {
        it.object(|it| {
            it.key("thinking_tokens").number(tokens.reasoning);
        });
    }
    it.key("server_tool_use").null();
}

/// Writes a `Usage` object, with every member that the SDK's type has.
pub(super) fn write_usage(it: &mut Writer, tokens: &Tokens) {
    it.object(|it| {
        write_counts(it, tokens);
        for name in ["cache_creation", "inference_geo", "service_tier", "speed"] {
            it.key(name).null();
        }
    });
}

/// Writes the id of a message: the provider's, which has another beginning if it is no message of
/// Anthropic's.
pub(super) fn write_message_id(it: &mut Writer, id: &Lit<'_>) {
    if id.as_escaped().starts_with("msg_") {
        it.lit(id);
    } else {
        it.joined(&[Lit::of("msg_"), id.borrow()]);
    }
}

/// Writes the members of a `Message` that follow its id, up to its content.
pub(super) fn write_message_head(it: &mut Writer, model: &Lit<'_>) {
    it.key("type").string("message");
    it.key("role").string("assistant");
    it.key("model").lit(model);
    it.key("container").null();
    it.key("diagnostics").null();
}

/// Several texts as one, with `between` in their midst.
pub(super) fn joined<'l, 'a: 'l>(
    lits: impl IntoIterator<Item = &'l Lit<'a>>,
    between: &str,
) -> Lit<'static> {
    let between = Lit::of(between);
    let mut all = String::new();
    for (index, lit) in lits.into_iter().enumerate() {
        if index > 0 {
            all.push_str(between.as_escaped());
        }
        all.push_str(lit.as_escaped());
    }
    Lit::escaped(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_as_in_the_body() {
        let messages = Place::Top("messages");
        let message = messages.item(2);
        let content = message.member("content");
        let fault = content.item(0).member("type").fault("must be a string");
        assert_eq!(
            fault.to_string(),
            "'messages[2].content[0].type' must be a string"
        );
        let missing = content.required(None, "a list", list).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "'messages[2].content' is missing, it must be a list"
        );
        assert!(content.optional(None, "a list", list).unwrap().is_none());
        let wrong = content.optional(Some(View::new("{}")), "a list", list);
        assert_eq!(
            wrong.unwrap_err().to_string(),
            "'messages[2].content' must be a list"
        );
    }

    #[test]
    fn a_stop_reason_is_the_same_there_and_back() {
        for stop in [
            Stop::End,
            Stop::MaxTokens,
            Stop::ContextFull,
            Stop::StopSequence,
            Stop::ToolCalls,
            Stop::Refusal,
            Stop::Paused,
        ] {
            assert_eq!(stop_of(Held::default().stop_reason(stop)), stop);
        }
        assert_eq!(stop_of("something_new"), Stop::End);
    }

    #[test]
    fn an_answer_that_calls_or_refuses_says_so_in_its_stop_reason() {
        let check = |tool_call: bool, refusal: bool, stop: Stop, expected: &str| {
            assert_eq!(Held { tool_call, refusal }.stop_reason(stop), expected);
        };
        check(true, false, Stop::End, "tool_use");
        check(false, true, Stop::End, "refusal");
        check(true, true, Stop::MaxTokens, "max_tokens");
    }
}
