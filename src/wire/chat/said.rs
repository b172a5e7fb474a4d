//! What a model says in one message of an answer, or in one delta of a stream, which have the
//! same members.
//!
//! Servers differ here more than anywhere: some write a content as a list, some leave ids or
//! indices out, some give arguments as an object. What is plainly meant is taken. Start at
//! [`Said`].

use std::borrow::Cow;

use super::shape::fields;
use crate::wire::form::{Arguments, NotOfDialect, Stop};
use crate::wire::json::view::{Lit, View};

/// The members of a message or delta.
pub(super) struct Said<'a> {
    content: Option<View<'a>>,
    /// Why the model refused.
    pub(super) refusal: Option<Lit<'a>>,
    /// What it thought, as DeepSeek and many after it have it.
    pub(super) thought: Option<Lit<'a>>,
    blocks: Option<View<'a>>,
    tool_calls: Option<View<'a>>,
    function_call: Option<View<'a>>,
}

/// A piece of content.
pub(super) enum Piece<'a> {
    Text(Lit<'a>),
    Thinking(Lit<'a>),
    Refusal(Lit<'a>),
}

/// One of `thinking_blocks`.
pub(super) enum Block<'a> {
    Thinking {
        text: Lit<'a>,
        signature: Option<Lit<'a>>,
    },
    Redacted(Lit<'a>),
}

/// A tool call, or a fragment of one.
pub(super) struct Call<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<Lit<'a>>,
    pub(super) name: Option<Lit<'a>>,
    pub(super) arguments: Option<Arguments<'a>>,
}

impl<'a> Said<'a> {
    pub(super) fn of(message: View<'a>) -> Self {
        let names = [
            "content",
            "refusal",
            "reasoning_content",
            "reasoning",
            "thinking_blocks",
            "tool_calls",
            "function_call",
        ];
        let [
            content,
            refusal,
            reasoning_content,
            reasoning,
            blocks,
            tool_calls,
            function_call,
        ] = fields(message, names, |_| {});
        Self {
            content,
            refusal: refusal.and_then(text),
            thought: reasoning_content
                .and_then(text)
                .or_else(|| reasoning.and_then(text)),
            blocks,
            tool_calls,
            function_call,
        }
    }

    /// The content's pieces that are not empty.
    pub(super) fn content(&self) -> Result<Vec<Piece<'a>>, NotOfDialect> {
        let Some(content) = self.content else {
            return Ok(Vec::new());
        };
        if content.is_string() {
            return Ok(text(content).map(Piece::Text).into_iter().collect());
        }
        if !content.is_array() {
            return Err(NotOfDialect("a content that is neither text nor a list"));
        }
        Ok(content.items().flat_map(pieces).collect())
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = Block<'a>> {
        self.blocks
            .into_iter()
            .flat_map(View::items)
            .filter_map(block)
    }

    /// The calls with their positions in the list.
    pub(super) fn calls(&self) -> impl Iterator<Item = Result<Call<'a>, NotOfDialect>> {
        let calls = self.tool_calls.into_iter().flat_map(View::items).map(call);
        // What came before `tool_calls`: one function, and no id.
        let legacy = self.function_call.into_iter().filter(|it| it.is_object());
        calls.chain(legacy.map(|it| {
            let [name, arguments] = fields(it, ["name", "arguments"], |_| {});
            Ok(Call {
                index: None,
                id: None,
                name: name.and_then(text),
                arguments: arguments.and_then(self::arguments),
            })
        }))
    }
}

/// A text that is not empty.
pub(super) fn text(value: View<'_>) -> Option<Lit<'_>> {
    value.lit().filter(|it| !it.is_empty())
}

/// One item of a content list, which is one piece or, for Mistral's thoughts, several.
fn pieces(item: View<'_>) -> Vec<Piece<'_>> {
    let names = ["text", "thinking", "refusal"];
    let [said, thought, refusal] = fields(item, names, |_| {});
    let mut pieces = Vec::new();
    if let Some(thought) = thought {
        let inner = thought.items().filter_map(|it| text(it.get("text")?));
        pieces.extend(text(thought).into_iter().chain(inner).map(Piece::Thinking));
    }
    pieces.extend(said.and_then(text).map(Piece::Text));
    pieces.extend(refusal.and_then(text).map(Piece::Refusal));
    pieces
}

/// One item of `thinking_blocks`.
pub(super) fn block(item: View<'_>) -> Option<Block<'_>> {
    let names = ["type", "thinking", "signature", "data"];
    let [kind, thinking, signature, data] = fields(item, names, |_| {});
    match kind?.string()?.as_ref() {
        "thinking" => Some(Block::Thinking {
            text: thinking.and_then(View::lit).unwrap_or_default(),
            signature: signature.and_then(text),
        }),
        "redacted_thinking" => Some(Block::Redacted(data?.lit()?)),
        _ => None,
    }
}

fn call(item: View<'_>) -> Result<Call<'_>, NotOfDialect> {
    let [index, id, kind, function] = fields(item, ["index", "id", "type", "function"], |_| {});
    if kind.is_some_and(|kind| kind.is("custom")) {
        return Err(NotOfDialect(
            "a call of a custom tool, which none was offered",
        ));
    }
    let function = function.unwrap_or(View::new("{}"));
    let [name, arguments] = fields(function, ["name", "arguments"], |_| {});
    Ok(Call {
        index: index.and_then(View::u64),
        id: id.and_then(text),
        name: name.and_then(text),
        arguments: arguments.and_then(self::arguments),
    })
}

/// Arguments, which some servers give as the object itself.
pub(super) fn arguments(value: View<'_>) -> Option<Arguments<'_>> {
    match value.lit() {
        Some(text) => Some(Arguments::Text(text)),
        None => value
            .is_object()
            .then(|| Arguments::Json(Cow::Borrowed(value.text()))),
    }
}

/// Why a choice stopped, of its `finish_reason`; `None` while it goes on. Several servers say
/// `stop` of an answer that calls tools, and callers that run tools go by the reason.
pub(super) fn stop(reason: View<'_>, calls_tools: bool) -> Result<Option<Stop>, NotOfDialect> {
    let Some(reason) = text(reason) else {
        return Ok(None);
    };
    Ok(Some(match reason.unescape().as_ref() {
        "length" => Stop::MaxTokens,
        "content_filter" => Stop::Refusal,
        "error" => return Err(NotOfDialect("an answer that ended in an error")),
        // `stop`, `tool_calls`, `function_call`, and the words of other servers for them.
        _ if calls_tools => Stop::ToolCalls,
        _ => Stop::End,
    }))
}

/// The id of a call to which the server gave none.
pub(super) fn made_id(choice: u64, call: usize) -> Lit<'static> {
    Lit::escaped(format!("call_{choice}_{call}"))
}
