//! The items that a response answers with, as JSON.
//!
//! Whole answers and events write the same items, so both write them here. Texts are the insides
//! of literals and go out as they came.

use super::super::form::{Part, PartKind};
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::items::{REDACTED, SIGNED};

/// How the ids of responses begin.
const RESPONSE_PREFIX: &str = "resp_";

/// The id of item number `number` of a response: unique for ever if the response's own is.
pub(super) fn item_id(prefix: &str, response_id: &str, number: usize) -> String {
    let rest = response_id.strip_prefix(RESPONSE_PREFIX);
    format!("{prefix}_{}_{number}", rest.unwrap_or(response_id))
}

/// The id of the response that an item with this id of ours is of, as long as the ids of responses
/// begin with `resp_`; `None` for an id that is not of our making. For a caller who refers to an
/// item without naming its response.
pub fn response_of(item_id: &str) -> Option<String> {
    let rest = ["msg_", "fc_", "rs_"]
        .iter()
        .find_map(|prefix| item_id.strip_prefix(prefix))?;
    let (response, number) = rest.rsplit_once('_')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !response.is_empty()).then(|| format!("{RESPONSE_PREFIX}{response}"))
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    const fn label(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A part of a message.
pub(super) enum Content<'c> {
    Text {
        text: Lit<'c>,
        /// Its log probabilities, with commas between them.
        logprobs: &'c str,
    },
    Refusal(Lit<'c>),
}

impl Content<'_> {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.object(|it| match self {
            Content::Text { text, logprobs } => {
                it.key("type").string("output_text");
                it.key("text").lit(text);
                it.key("annotations").array(|_| {});
                write_logprobs(it, logprobs);
            }
            Content::Refusal(text) => {
                it.key("type").string("refusal").key("refusal").lit(text);
            }
        });
    }
}

/// The member `logprobs`, of items with commas between them.
pub(super) fn write_logprobs(writer: &mut Writer, logprobs: &str) {
    writer.key("logprobs").array(|it| {
        if !logprobs.is_empty() {
            it.raw(logprobs);
        }
    });
}

/// A message with the parts that `contents` are.
pub(super) fn write_message<'c>(
    writer: &mut Writer,
    id: &str,
    status: Status,
    contents: impl IntoIterator<Item = Content<'c>>,
) {
    writer.object(|it| {
        it.key("id").string(id).key("type").string("message");
        it.key("status").string(status.label());
        it.key("role").string("assistant");
        it.key("content").array(|it| {
            for content in contents {
                content.write(it);
            }
        });
    });
}

/// The call of a function.
pub(super) struct Call<'c> {
    pub(super) call_id: &'c Lit<'c>,
    pub(super) name: &'c Lit<'c>,
    pub(super) arguments: &'c Lit<'c>,
}

impl Call<'_> {
    pub(super) fn write(&self, writer: &mut Writer, id: &str, status: Status) {
        writer.object(|it| {
            it.key("id").string(id).key("type").string("function_call");
            it.key("status").string(status.label());
            it.key("call_id").lit(self.call_id);
            it.key("name").lit(self.name);
            it.key("arguments").lit(self.arguments);
        });
    }
}

/// What the model thought. It has no status: the vendor gives none, and refuses an item that
/// comes back with one.
pub(super) struct Reasoning<'c> {
    /// Its summary, of one part; nothing: of none.
    pub(super) text: &'c Lit<'c>,
    pub(super) encrypted: Encrypted<'c>,
}

/// What goes along for the provider to know its own thoughts by.
#[derive(Clone, Copy)]
pub(super) enum Encrypted<'c> {
    Nothing,
    Signature(&'c Lit<'c>),
    /// The thoughts themselves.
    Redacted(&'c Lit<'c>),
}

impl Reasoning<'_> {
    pub(super) fn write(&self, writer: &mut Writer, id: &str) {
        writer.object(|it| {
            it.key("id").string(id).key("type").string("reasoning");
            it.key("summary").array(|it| {
                if !self.text.is_empty() {
                    write_summary(it, self.text);
                }
            });
            match self.encrypted {
                Encrypted::Nothing => {}
                Encrypted::Signature(lit) => {
                    it.key("encrypted_content").joined([&Lit::of(SIGNED), lit]);
                }
                Encrypted::Redacted(lit) => {
                    it.key("encrypted_content")
                        .joined([&Lit::of(REDACTED), lit]);
                }
            }
        });
    }
}

/// A part of a summary.
pub(super) fn write_summary(writer: &mut Writer, text: &Lit<'_>) {
    writer.object(|it| {
        it.key("type").string("summary_text").key("text").lit(text);
    });
}

/// Writes one item: a run of parts that belong into one, as [`belong_together`] says. Its last
/// `status` is that of a message or call.
pub(super) fn write_item(
    writer: &mut Writer,
    parts: &[&Part<'_>],
    number: usize,
    response_id: &str,
    status: Status,
    logprobs_of: impl Fn(&Part<'_>) -> String,
) {
    let id = |prefix| item_id(prefix, response_id, number);
    match parts.first().map(|part| &part.kind) {
        Some(PartKind::Text(_) | PartKind::Refusal(_)) => {
            let logprobs: Vec<String> = parts.iter().map(|part| logprobs_of(part)).collect();
            let contents = parts.iter().zip(&logprobs);
            let contents = contents.filter_map(|(part, logprobs)| match &part.kind {
                PartKind::Text(text) => Some(Content::Text {
                    text: text.borrow(),
                    logprobs,
                }),
                PartKind::Refusal(text) => Some(Content::Refusal(text.borrow())),
                _ => None,
            });
            write_message(writer, &id("msg"), status, contents);
        }
        Some(PartKind::ToolCall {
            id: call_id,
            name,
            arguments,
        }) => {
            let arguments = &arguments.as_text();
            let call = Call {
                call_id,
                name,
                arguments,
            };
            call.write(writer, &id("fc"), status);
        }
        Some(PartKind::Thinking { text, signature }) => {
            let signature = signature.as_ref().map(Encrypted::Signature);
            let encrypted = signature.unwrap_or(Encrypted::Nothing);
            Reasoning { text, encrypted }.write(writer, &id("rs"));
        }
        Some(PartKind::RedactedThinking(data)) => {
            let nothing = Lit::default();
            let reasoning = Reasoning {
                text: &nothing,
                encrypted: Encrypted::Redacted(data),
            };
            reasoning.write(writer, &id("rs"));
        }
        // They are no part of an answer.
        _ => {}
    }
}

/// Whether two neighbours are parts of one message.
pub(super) fn belong_together(a: &Part<'_>, b: &Part<'_>) -> bool {
    let is_content =
        |part: &Part<'_>| matches!(part.kind, PartKind::Text(_) | PartKind::Refusal(_));
    is_content(a) && is_content(b)
}

/// The items that a kept response answered with.
pub fn output_items(response: View<'_>) -> Vec<View<'_>> {
    response
        .get("output")
        .map(|output| output.items().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_of_the_response_that_its_id_tells() {
        let id = item_id("msg", "resp_0a1b", 12);
        assert_eq!(id, "msg_0a1b_12");
        let check = |id: &str, expected: Option<&str>| {
            assert_eq!(response_of(id).as_deref(), expected, "{id}");
        };
        check(&id, Some("resp_0a1b"));
        check(&item_id("rs", "resp_a_b", 0), Some("resp_a_b"));
        check("msg_67ccd2bf17f0819081ff3bb2cf6508e6", None);
        check("msg_x_", None);
        check("msg__0", None);
        check("call_a_0", None);
    }
}
