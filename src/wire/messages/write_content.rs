//! Writes the turns of a request: `system` and `messages`.
//!
//! Anthropic wants users and assistants in turn, the results of tools before anything else that a
//! user says, and no text that says nothing. So turns are first gathered into [`Message`]s, where
//! everything that can fail is checked, and then written. Texts are borrowed until then.
//!
//! Start at [`gather`].

use std::borrow::Cow;

use super::super::Dialect;
use super::super::form::{Arguments, Dropped, Part, PartKind, Role, Source, Turn, Untranslatable};
use super::super::json::view::Lit;
use super::super::json::write::Writer;
use super::block::Place;
use super::write_part::{spoken, trim_end, trimmed, write_part};

/// The turns of a conversation as Anthropic wants them.
#[derive(Default)]
pub(super) struct Gathered<'r> {
    /// What stands in `system`.
    system: Vec<&'r Part<'r>>,
    messages: Vec<Message<'r>>,
}

/// One message.
struct Message<'r> {
    is_user: bool,
    /// Results of tools, which stand before all else.
    results: Vec<Piece<'r>>,
    pieces: Vec<Piece<'r>>,
}

/// One content block.
struct Piece<'r> {
    part: &'r Part<'r>,
    /// The arguments of a tool call.
    input: Cow<'r, str>,
}

/// Gathers `turns`. System prompts go to the front wherever they stand: Anthropic itself takes
/// messages of role `system` today, those who copy it do not.
///
/// # Errors
/// A part that Anthropic has no word for, or nothing left to send.
pub(super) fn gather<'r>(
    turns: &'r [Turn<'r>],
    dropped: &mut Dropped,
) -> Result<Gathered<'r>, Untranslatable> {
    let mut gathered = Gathered::default();
    let messages = Place::Top("messages");
    for (index, turn) in turns.iter().enumerate() {
        let message = messages.item(index);
        let content = message.member("content");
        if turn.name.is_some() {
            dropped.note("messages[].name");
        }
        let mut calls = 0;
        for (index, part) in turn.parts.iter().enumerate() {
            let place = content.item(index);
            if let Role::System | Role::Developer = turn.role {
                match &part.kind {
                    PartKind::Text(text) | PartKind::Refusal(text) if text.is_blank() => {}
                    PartKind::Text(_) | PartKind::Refusal(_) => gathered.system.push(part),
                    _ => return Err(place.fault("must be a text, as all of a system prompt is")),
                }
                continue;
            }
            let tool_calls = message.member("tool_calls");
            let call = tool_calls.item(calls);
            calls += usize::from(matches!(part.kind, PartKind::ToolCall { .. }));
            if let Some(piece) = piece(turn.role, part, &place, &call, dropped)? {
                gathered.push(turn.role, piece);
            }
        }
    }
    gathered.trim();
    if gathered.messages.is_empty() {
        return Err(messages.fault("has nothing to say, a system prompt apart: it must hold at least one message with a text, image, document or tool call"));
    }
    Ok(gathered)
}

impl<'r> Gathered<'r> {
    fn push(&mut self, role: Role, piece: Piece<'r>) {
        let is_user = role != Role::Assistant;
        if self.messages.last().map(|last| last.is_user) != Some(is_user) {
            self.messages.push(Message {
                is_user,
                results: Vec::new(),
                pieces: Vec::new(),
            });
        }
        let Some(message) = self.messages.last_mut() else {
            return;
        };
        match piece.part.kind {
            PartKind::ToolResult { .. } => message.results.push(piece),
            _ => message.pieces.push(piece),
        }
    }

    /// Takes away a text at the very end of an assistant's last message that is blank once it is
    /// trimmed: only long ones are not known to be blank before.
    fn trim(&mut self) {
        while let Some(last) = self.messages.last_mut().filter(|last| !last.is_user) {
            let says_nothing = |piece: &mut Piece<'_>| {
                spoken(&piece.part.kind).is_some_and(|text| trim_end(text.as_escaped()).is_empty())
            };
            if last.pieces.pop_if(says_nothing).is_none() && !last.pieces.is_empty() {
                return;
            }
            if last.pieces.is_empty() {
                self.messages.pop();
            }
        }
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let pieces = self.messages.iter().flat_map(Message::all);
        let parts = self
            .system
            .iter()
            .copied()
            .chain(pieces.map(|piece| piece.part));
        parts.map(part_size).sum()
    }

    /// Writes the members `system` and `messages`.
    pub(super) fn write(&self, it: &mut Writer) {
        if !self.system.is_empty() {
            it.key("system");
            self.write_system(it);
        }
        it.key("messages").array(|it| {
            let last = self.messages.len().saturating_sub(1);
            for (index, message) in self.messages.iter().enumerate() {
                it.object(|it| message.write(it, index == last));
            }
        });
    }

    fn write_system(&self, it: &mut Writer) {
        if self.system.iter().any(|part| part.cache.is_some()) {
            it.array(|it| {
                for part in &self.system {
                    write_part(it, part, "{}", false);
                }
            });
            return;
        }
        let between = Lit::of("\n\n");
        let texts = self.system.iter().filter_map(|part| spoken(&part.kind));
        let texts = texts.enumerate().flat_map(|(index, text)| {
            let between = (index > 0).then_some(&between);
            between.into_iter().chain([text])
        });
        it.joined(texts);
    }
}

impl<'r> Message<'r> {
    fn all(&self) -> impl Iterator<Item = &Piece<'r>> {
        self.results.iter().chain(&self.pieces)
    }

    fn write(&self, it: &mut Writer, is_last: bool) {
        it.key("role")
            .string(if self.is_user { "user" } else { "assistant" });
        it.key("content");
        // Anthropic refuses blanks at the end of what its model is to continue.
        let trims = is_last && !self.is_user;
        if self.results.is_empty()
            && let [piece] = self.pieces.as_slice()
            && piece.part.cache.is_none()
            && let Some(text) = spoken(&piece.part.kind)
        {
            it.lit(&trimmed(text, trims));
            return;
        }
        it.array(|it| {
            let last = self.results.len() + self.pieces.len() - 1;
            for (index, piece) in self.all().enumerate() {
                write_part(it, piece.part, &piece.input, trims && index == last);
            }
        });
    }
}

/// The piece that `part` is in a turn of `role`; `None` if it is left out.
fn piece<'r>(
    role: Role,
    part: &'r Part<'r>,
    place: &Place<'_>,
    call: &Place<'_>,
    dropped: &mut Dropped,
) -> Result<Option<Piece<'r>>, Untranslatable> {
    let is_assistant = role == Role::Assistant;
    let mut input = Cow::Borrowed("{}");
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) if text.is_blank() => return Ok(None),
        PartKind::Text(_) | PartKind::Refusal(_) => {}
        PartKind::Image { .. } | PartKind::Document { .. } if !is_assistant => {
            check_media(&part.kind, place, dropped)?;
        }
        PartKind::Thinking {
            signature: None, ..
        } if is_assistant => {
            // Anthropic takes back only what its own models have thought.
            dropped.note("messages[].reasoning_content");
            return Ok(None);
        }
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) if is_assistant => {}
        PartKind::ToolCall { arguments, .. } if is_assistant => {
            input = arguments.as_object().ok_or_else(|| {
                let function = call.member("function");
                function
                    .member("arguments")
                    .fault("is not a JSON object, which Anthropic wants")
            })?;
        }
        PartKind::ToolResult { content, .. } if !is_assistant => {
            for (index, inner) in content.iter().enumerate() {
                check_result(&inner.kind, &place.member("content").item(index), dropped)?;
            }
        }
        _ if is_assistant => {
            let fault = "cannot stand in an assistant's message with Anthropic, which takes texts, thoughts and tool calls there";
            return Err(place.fault(fault));
        }
        _ => {
            let fault = "cannot stand in a user's message with Anthropic, which takes texts, images, documents and tool results there";
            return Err(place.fault(fault));
        }
    }
    Ok(Some(Piece { part, input }))
}

fn check_result(
    kind: &PartKind<'_>,
    place: &Place<'_>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    match kind {
        PartKind::Text(_) | PartKind::Refusal(_) => Ok(()),
        PartKind::Image { .. } | PartKind::Document { .. } => check_media(kind, place, dropped),
        _ => Err(place.fault("must be a text, image or document, as all of a tool's result is")),
    }
}

fn check_media(
    kind: &PartKind<'_>,
    place: &Place<'_>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    if let PartKind::Image {
        detail: Some(detail),
        ..
    } = kind
        && detail.unescape() != "auto"
    {
        dropped.note("messages[].content[].image_url.detail");
    }
    match kind {
        PartKind::Image { source, .. } | PartKind::Document { source, .. } => match source {
            Source::File { vendor, .. } if *vendor != Dialect::Anthropic => Err(place.fault(
                "is a file uploaded to OpenAI, which an Anthropic provider cannot read: send its content instead",
            )),
            Source::Text(_) if matches!(kind, PartKind::Image { .. }) => {
                Err(place.fault("is an image made of text, which is none"))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn part_size(part: &Part<'_>) -> usize {
    // Names of members and quotes.
    const AROUND: usize = 96;
    AROUND
        + match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) | PartKind::RedactedThinking(text) => {
                text.as_escaped().len()
            }
            PartKind::Thinking { text, signature } => {
                let signature = signature.as_ref().map_or("", Lit::as_escaped);
                text.as_escaped().len() + signature.len()
            }
            PartKind::Image { source, .. } | PartKind::Document { source, .. } => match source {
                Source::Base64 { data: text, .. } | Source::Text(text) | Source::Url(text) => {
                    text.as_escaped().len()
                }
                Source::File { .. } => 0,
            },
            PartKind::ToolCall { arguments, .. } => match arguments {
                Arguments::Json(json) => json.len(),
                Arguments::Text(text) => text.as_escaped().len(),
            },
            // Goes one level deep, as results do.
            PartKind::ToolResult { content, .. } => content
                .iter()
                .filter(|part| !matches!(part.kind, PartKind::ToolResult { .. }))
                .map(part_size)
                .sum(),
        }
}
