//! The internal form: what a request, an answer and a stream say, in no vendor's words.
//!
//! Every dialect has a codec of its own that reads into this form and writes out of it, so any
//! caller can be joined to any provider without a codec for each pair: [`chat`](super::chat) is
//! OpenAI's chat completions, [`messages`](super::messages) Anthropic's messages,
//! [`responses`](super::responses) OpenAI's responses. The form borrows from the body it was read
//! from: texts are [`Lit`]s and schemas [`View`]s, so a prompt of 30 MB is copied once, into the
//! body that goes out.
//!
//! Nothing is lost in silence. What the form has no place for, and what a codec finds in the form
//! that its dialect has no word for, is noted in [`Dropped`]. What is a part of the conversation
//! itself and cannot be said in the other dialect is refused instead ([`Untranslatable`]): an
//! answer to a question with a piece missing would be an answer to another question.
//!
//! Start at [`Request`], then [`Answer`] and [`Event`]; [`translate`](super::translate) joins the
//! codecs.

mod loss;

use std::borrow::Cow;

use super::json::view::{Lit, View};

pub use self::loss::{Dropped, NotOfDialect, Untranslatable};

/// Members of one vendor's that a request keeps.
const EXTRAS_MAX: usize = 256;

/// What a model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request<'a> {
    /// The conversation in order, system prompts among it.
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    /// `None`: the vendor's default, which is [`ToolChoice::Auto`] with both.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether several tools may be called in one turn; `None`: the default, which is yes.
    pub parallel_tools: Option<bool>,
    pub max_tokens: Option<u64>,
    pub temperature: Option<View<'a>>,
    pub top_p: Option<View<'a>>,
    pub top_k: Option<View<'a>>,
    pub frequency_penalty: Option<View<'a>>,
    pub presence_penalty: Option<View<'a>>,
    pub seed: Option<View<'a>>,
    /// How many answers.
    pub n: Option<u64>,
    pub stop: Vec<Lit<'a>>,
    pub stream: bool,
    /// Whether an OpenAI stream is to end with its usage.
    pub include_usage: bool,
    /// What the answer's text must be.
    pub format: Option<Format<'a>>,
    pub reasoning: Option<Reasoning<'a>>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<View<'a>>,
    /// The caller's own name for its user: OpenAI's `safety_identifier` or `user`, Anthropic's
    /// `metadata.user_id`.
    pub user: Option<Lit<'a>>,
    /// OpenAI's `verbosity`, of which Anthropic has none.
    pub verbosity: Option<Lit<'a>>,
    /// Members that only one vendor has, as they stand there. A codec of the same vendor may write
    /// the ones that its endpoint knows too; for all others they are dropped.
    pub extra: Vec<Extra<'a>>,
    /// What has been left out so far.
    pub dropped: Dropped,
}

impl<'a> Request<'a> {
    /// Keeps a member of its own vendor's; beyond [`EXTRAS_MAX`] it is dropped, for nobody has so
    /// many. Of a name that is repeated, the last one counts.
    pub fn keep_extra(&mut self, vendor: super::Dialect, name: Cow<'a, str>, value: View<'a>) {
        if let Some(known) = self.extra.iter_mut().find(|it| it.name == name) {
            known.value = value;
        } else if self.extra.len() < EXTRAS_MAX {
            self.extra.push(Extra {
                vendor,
                name,
                value,
            });
        } else {
            self.dropped.note(&name);
        }
    }
}

/// A member of a request for which the form has no place of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Extra<'a> {
    pub vendor: super::Dialect,
    pub name: Cow<'a, str>,
    pub value: View<'a>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator of the program: `system`.
    System,
    /// The same with OpenAI's newer models: `developer`.
    Developer,
    User,
    Assistant,
    /// The results of tools. Holds [`PartKind::ToolResult`]s only.
    Tool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn<'a> {
    pub role: Role,
    /// OpenAI's name of a participant.
    pub name: Option<Lit<'a>>,
    pub parts: Vec<Part<'a>>,
}

/// A piece of a turn or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'a> {
    pub kind: PartKind<'a>,
    /// Where the provider's prompt cache shall keep everything up to here: Anthropic's
    /// `cache_control` object as it stands there, or OpenAI's `prompt_cache_breakpoint` (for which
    /// this is `{"type":"ephemeral"}`).
    pub cache: Option<View<'a>>,
}

impl<'a> From<PartKind<'a>> for Part<'a> {
    fn from(kind: PartKind<'a>) -> Self {
        Self { kind, cache: None }
    }
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind<'a> {
    Text(Lit<'a>),
    Image {
        source: Source<'a>,
        /// OpenAI's `detail`.
        detail: Option<Lit<'a>>,
    },
    Document {
        source: Source<'a>,
        /// Its file name or title.
        title: Option<Lit<'a>>,
        /// What Anthropic takes beside it for the model to know.
        context: Option<Lit<'a>>,
    },
    /// What the model thought. Anthropic checks `signature` when the part comes back.
    Thinking {
        text: Lit<'a>,
        signature: Option<Lit<'a>>,
    },
    /// What the model thought, encrypted by the vendor.
    RedactedThinking(Lit<'a>),
    /// Why the model refused, OpenAI's `refusal`.
    Refusal(Lit<'a>),
    ToolCall {
        id: Lit<'a>,
        name: Lit<'a>,
        arguments: Arguments<'a>,
    },
    ToolResult {
        id: Lit<'a>,
        /// Texts, images and documents.
        content: Vec<Part<'a>>,
        is_error: bool,
    },
}

/// Where the bytes of an image or document are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source<'a> {
    Url(Lit<'a>),
    Base64 {
        /// `image/png`, say.
        media_type: Lit<'a>,
        data: Lit<'a>,
    },
    /// The text itself.
    Text(Lit<'a>),
    /// The vendor's own id of an uploaded file, which no other vendor knows.
    File {
        vendor: super::Dialect,
        id: Lit<'a>,
    },
}

/// The arguments of a tool call, in either of the ways that the dialects write them.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments<'a> {
    /// Anthropic: the object itself.
    Json(Cow<'a, str>),
    /// OpenAI: its text within a string. A model can have made it, so it may be no JSON at all.
    Text(Lit<'a>),
}

impl Arguments<'_> {
    /// As the inside of a string literal.
    pub fn as_text(&self) -> Lit<'_> {
        match self {
            Self::Json(json) => Lit::of(json),
            Self::Text(lit) => lit.borrow(),
        }
    }

    /// As a JSON object; `None` for what is none. Nothing at all is the empty object: models call
    /// tools without parameters so.
    pub fn as_object(&self) -> Option<Cow<'_, str>> {
        let json = match self {
            Self::Json(json) => Cow::Borrowed(json.as_ref()),
            Self::Text(lit) => lit.borrow().unescape(),
        };
        if json.trim_ascii().is_empty() {
            return Some(Cow::Borrowed("{}"));
        }
        super::json::walk_object(&json, |_| {})
            .is_ok()
            .then_some(json)
    }
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool<'a> {
    pub name: Lit<'a>,
    pub description: Option<Lit<'a>>,
    /// The JSON schema of its arguments; `None`: it takes none.
    pub schema: Option<View<'a>>,
    pub strict: Option<bool>,
    pub cache: Option<View<'a>>,
}

/// Which tool the model shall call.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice<'a> {
    Auto,
    None,
    /// Any one.
    Required,
    Named(Lit<'a>),
}

/// What the answer's text must be. Plain text is the default and has no word here.
#[derive(Clone, Debug, PartialEq)]
pub enum Format<'a> {
    /// Some JSON object.
    JsonObject,
    JsonSchema {
        name: Option<Lit<'a>>,
        description: Option<Lit<'a>>,
        schema: View<'a>,
        strict: Option<bool>,
    },
}

/// How much the model shall think before it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasoning<'a> {
    /// OpenAI's `reasoning_effort` (none, minimal, low, medium, high, xhigh), Anthropic's
    /// `output_config.effort` (low, medium, high, xhigh, max).
    pub effort: Option<Lit<'a>>,
    /// Anthropic's `thinking`.
    pub thinking: Option<Thinking>,
}

/// Anthropic's ways to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Up to so many tokens.
    Budget(u64),
    /// As much as the model sees fit.
    Adaptive,
    Disabled,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer<'a> {
    /// The provider's id of it.
    pub id: Lit<'a>,
    /// The model that answered, as the provider names it.
    pub model: Lit<'a>,
    /// Seconds since the epoch, where the provider says it.
    pub created: Option<u64>,
    /// One for each answer asked for.
    pub choices: Vec<Choice<'a>>,
    pub usage: Tokens,
}

/// One of the answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice<'a> {
    pub parts: Vec<Part<'a>>,
    pub stop: Stop,
    /// Which stop sequence came up.
    pub stop_sequence: Option<Lit<'a>>,
    /// OpenAI's `logprobs` object.
    pub logprobs: Option<View<'a>>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// `max_tokens`.
    MaxTokens,
    /// The model's context is full.
    ContextFull,
    StopSequence,
    /// It calls tools.
    ToolCalls,
    /// It, or a filter behind it, refused.
    Refusal,
    /// Anthropic's `pause_turn`: a long turn that the caller may continue.
    Paused,
}

/// Tokens in one reckoning for all vendors; see [`Usage`](super::usage::Usage) for the vendors'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Prompt tokens that were in no cache, neither read from nor written to it.
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    /// Part of `output`.
    pub reasoning: u64,
}

impl Tokens {
    /// All prompt tokens, as OpenAI counts them.
    pub const fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }
}

/// What happens in a streamed answer. A decoder gives, for each choice, parts one after the other
/// or several at once; [`Sequencer`](super::sequencer::Sequencer) puts them one after the other
/// for dialects that want them so.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The answer begins; the first event, once. Anthropic's prompt tokens are known by now.
    Start {
        id: Lit<'a>,
        model: Lit<'a>,
        created: Option<u64>,
        usage: Option<Tokens>,
    },
    /// Part number `part` of a choice begins: from 0 and rising by one, in order of beginning.
    PartStart {
        choice: u32,
        part: u32,
        kind: PartStart<'a>,
    },
    /// It grows.
    PartDelta {
        choice: u32,
        part: u32,
        delta: Delta<'a>,
    },
    /// It is whole.
    PartStop { choice: u32, part: u32 },
    /// OpenAI's log probabilities of what came last.
    Logprobs { choice: u32, value: View<'a> },
    /// A choice is done; every part of it has stopped.
    Finish {
        choice: u32,
        stop: Stop,
        stop_sequence: Option<Lit<'a>>,
    },
    /// What it cost; the last one counts.
    Usage(Tokens),
    /// The answer is complete; the last event, once. A stream without it was cut.
    End,
}

impl Event<'_> {
    /// Bytes of text that it brings.
    pub fn bytes(&self) -> usize {
        let text = |lit: &Lit<'_>| lit.as_escaped().len();
        match self {
            Self::PartStart { kind, .. } => match kind {
                PartStart::RedactedThinking(data) => text(data),
                PartStart::ToolCall { id, name } => text(id) + text(name),
                PartStart::Text | PartStart::Thinking | PartStart::Refusal => 0,
            },
            Self::PartDelta { delta, .. } => match delta {
                Delta::Text(it)
                | Delta::Thinking(it)
                | Delta::Signature(it)
                | Delta::Refusal(it)
                | Delta::Arguments(it) => text(it),
            },
            Self::Logprobs { value, .. } => value.text().len(),
            _ => 0,
        }
    }
}

/// How a part begins.
#[derive(Clone, Debug, PartialEq)]
pub enum PartStart<'a> {
    Text,
    Thinking,
    /// Whole at once.
    RedactedThinking(Lit<'a>),
    Refusal,
    ToolCall {
        id: Lit<'a>,
        name: Lit<'a>,
    },
}

/// How a part grows.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta<'a> {
    /// Of [`PartStart::Text`].
    Text(Lit<'a>),
    /// Of [`PartStart::Thinking`].
    Thinking(Lit<'a>),
    /// Of [`PartStart::Thinking`], once, last.
    Signature(Lit<'a>),
    /// Of [`PartStart::Refusal`].
    Refusal(Lit<'a>),
    /// Of [`PartStart::ToolCall`]: a fragment of the arguments' JSON text.
    Arguments(Lit<'a>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_or_the_text_of_one() {
        let check = |arguments: Arguments<'_>, object: Option<&str>, text: &str| {
            assert_eq!(arguments.as_object().as_deref(), object);
            assert_eq!(arguments.as_text().unescape(), text);
        };
        check(
            Arguments::Json(r#"{"a":"ü"}"#.into()),
            Some(r#"{"a":"ü"}"#),
            r#"{"a":"ü"}"#,
        );
        check(
            Arguments::Text(Lit::escaped(r#"{\"a\":1}"#)),
            Some(r#"{"a":1}"#),
            r#"{"a":1}"#,
        );
        check(Arguments::Text(Lit::of("")), Some("{}"), "");
        check(Arguments::Text(Lit::of("{\"a\":")), None, "{\"a\":");
        check(Arguments::Text(Lit::of("[1]")), None, "[1]");
    }
}
