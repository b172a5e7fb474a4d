//! The item that a stream is in the middle of.
//!
//! The events that end a part and an item repeat all of its text, so the text is collected here,
//! escaped as it came. It is bounded by what the provider sends, which is the whole answer's
//! bound as well.

use super::super::form::{Delta, PartStart};
use super::super::json::view::Lit;
use super::super::json::write::Writer;
use super::events::Events;
use super::output::{
    Call, Content, Encrypted, Reasoning, Status, item_id, write_logprobs, write_message,
    write_summary,
};

/// An item whose end has not come.
pub(super) struct Open {
    id: String,
    /// Its place in `output`.
    index: usize,
    body: Body,
    /// Whether its last part is still growing.
    is_growing: bool,
}

enum Body {
    Message(Vec<Text>),
    Call {
        call_id: Lit<'static>,
        name: Lit<'static>,
        arguments: String,
    },
    Reasoning {
        /// Of its summary's one part; nothing: it has no part.
        text: String,
        signature: Option<Lit<'static>>,
    },
    Redacted(Lit<'static>),
}

/// A part of a message.
#[derive(Default)]
struct Text {
    is_refusal: bool,
    /// Escaped.
    text: String,
    /// With commas between them.
    logprobs: String,
}

impl Text {
    /// What it is so far.
    fn content(&self) -> Content<'_> {
        let text = Lit::escaped(self.text.as_str());
        if self.is_refusal {
            Content::Refusal(text)
        } else {
            let logprobs = &self.logprobs;
            Content::Text { text, logprobs }
        }
    }

    fn add_logprobs(&mut self, logprobs: &str) {
        if !self.logprobs.is_empty() && !logprobs.is_empty() {
            self.logprobs.push(',');
        }
        self.logprobs.push_str(logprobs);
    }

    /// The name of the events about its text.
    const fn event(&self, is_over: bool) -> &'static str {
        match (self.is_refusal, is_over) {
            (false, false) => "response.output_text.delta",
            (false, true) => "response.output_text.done",
            (true, false) => "response.refusal.delta",
            (true, true) => "response.refusal.done",
        }
    }
}

impl Open {
    /// Begins item number `index` of the response with a part, and says so.
    pub(super) fn begin(
        kind: &PartStart<'_>,
        index: usize,
        response_id: &str,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) -> Self {
        let (prefix, body) = match kind {
            PartStart::Text | PartStart::Refusal => ("msg", Body::Message(Vec::new())),
            PartStart::ToolCall { id, name } => {
                let body = Body::Call {
                    call_id: id.clone().into_owned(),
                    name: name.clone().into_owned(),
                    arguments: String::new(),
                };
                ("fc", body)
            }
            PartStart::Thinking => {
                let body = Body::Reasoning {
                    text: String::new(),
                    signature: None,
                };
                ("rs", body)
            }
            PartStart::RedactedThinking(data) => ("rs", Body::Redacted(data.clone().into_owned())),
        };
        let mut open = Self {
            id: item_id(prefix, response_id, index),
            index,
            body,
            is_growing: true,
        };
        events.write(out, "response.output_item.added", |it| {
            it.key("output_index").number(open.index as u64).key("item");
            open.write(it, Status::InProgress);
        });
        open.begin_text(kind, events, out);
        open
    }

    /// Whether a part of this kind goes on in the same item.
    pub(super) const fn takes(&self, kind: &PartStart<'_>) -> bool {
        matches!(self.body, Body::Message(_))
            && matches!(kind, PartStart::Text | PartStart::Refusal)
    }

    /// Begins another part of a message, if it is one and `kind` is one of its parts.
    pub(super) fn begin_text(
        &mut self,
        kind: &PartStart<'_>,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) {
        let is_refusal = match kind {
            PartStart::Text => false,
            PartStart::Refusal => true,
            _ => return,
        };
        let Body::Message(texts) = &mut self.body else {
            return;
        };
        let text = Text {
            is_refusal,
            ..Text::default()
        };
        events.write(out, "response.content_part.added", |it| {
            place(it, &self.id, self.index, Some(texts.len())).key("part");
            text.content().write(it);
        });
        texts.push(text);
        self.is_growing = true;
    }

    /// Goes on with what comes next; what is of another kind of part is left out. `logprobs` are
    /// those of the piece.
    pub(super) fn grow(
        &mut self,
        delta: &Delta<'_>,
        logprobs: &str,
        events: &mut Events,
        out: &mut Vec<u8>,
    ) {
        if !self.is_growing {
            return;
        }
        let (id, index) = (&self.id, self.index);
        match (&mut self.body, delta) {
            (Body::Message(texts), Delta::Text(piece) | Delta::Refusal(piece)) => {
                let content_index = texts.len().saturating_sub(1);
                let Some(text) = texts.last_mut() else { return };
                if text.is_refusal != matches!(delta, Delta::Refusal(_)) {
                    return;
                }
                text.text.push_str(piece.as_escaped());
                text.add_logprobs(logprobs);
                events.write(out, text.event(false), |it| {
                    place(it, id, index, Some(content_index));
                    it.key("delta").lit(piece);
                    if !text.is_refusal {
                        write_logprobs(it, logprobs);
                    }
                });
            }
            (Body::Call { arguments, .. }, Delta::Arguments(piece)) => {
                arguments.push_str(piece.as_escaped());
                events.write(out, "response.function_call_arguments.delta", |it| {
                    place(it, id, index, None).key("delta").lit(piece);
                });
            }
            (Body::Reasoning { text, .. }, Delta::Thinking(piece)) if !piece.is_empty() => {
                if text.is_empty() {
                    events.write(out, "response.reasoning_summary_part.added", |it| {
                        place(it, id, index, None).key("summary_index").number(0);
                        it.key("part");
                        write_summary(it, &Lit::default());
                    });
                }
                text.push_str(piece.as_escaped());
                events.write(out, "response.reasoning_summary_text.delta", |it| {
                    place(it, id, index, None).key("summary_index").number(0);
                    it.key("delta").lit(piece);
                });
            }
            (Body::Reasoning { signature, .. }, Delta::Signature(given)) => {
                *signature = Some(given.clone().into_owned());
            }
            _ => {}
        }
    }

    /// Takes log probabilities that came without a piece of their own.
    pub(super) fn add_logprobs(&mut self, logprobs: &str) {
        if let Body::Message(texts) = &mut self.body
            && let Some(text) = texts.last_mut().filter(|text| !text.is_refusal)
        {
            text.add_logprobs(logprobs);
        }
    }

    /// The part is whole.
    pub(super) fn end_part(&mut self, events: &mut Events, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_growing) {
            return;
        }
        let (id, index) = (&self.id, self.index);
        match &self.body {
            Body::Message(texts) => {
                let content_index = texts.len().saturating_sub(1);
                let Some(text) = texts.last() else { return };
                end_text(text, id, index, content_index, events, out);
            }
            Body::Call {
                name, arguments, ..
            } => {
                events.write(out, "response.function_call_arguments.done", |it| {
                    place(it, id, index, None).key("name").lit(name);
                    it.key("arguments").lit(&Lit::escaped(arguments.as_str()));
                });
            }
            Body::Reasoning { text, .. } if !text.is_empty() => {
                let text = Lit::escaped(text.as_str());
                events.write(out, "response.reasoning_summary_text.done", |it| {
                    place(it, id, index, None).key("summary_index").number(0);
                    it.key("text").lit(&text);
                });
                events.write(out, "response.reasoning_summary_part.done", |it| {
                    place(it, id, index, None).key("summary_index").number(0);
                    it.key("part");
                    write_summary(it, &text);
                });
            }
            Body::Reasoning { .. } | Body::Redacted(_) => {}
        }
    }

    /// The item is whole: says so and returns it, as it stands in `output`.
    pub(super) fn end(mut self, status: Status, events: &mut Events, out: &mut Vec<u8>) -> Vec<u8> {
        self.end_part(events, out);
        let item = self.to_json(status);
        events.write(out, "response.output_item.done", |it| {
            it.key("output_index").number(self.index as u64);
            it.key("item").raw(&item);
        });
        item.into_bytes()
    }

    /// The item as far as it is.
    pub(super) fn to_json(&self, status: Status) -> String {
        let mut writer = Writer::default();
        self.write(&mut writer, status);
        // It was put together from strings.
        String::from_utf8(writer.into_bytes()).unwrap_or_default()
    }

    fn write(&self, writer: &mut Writer, status: Status) {
        match &self.body {
            Body::Message(texts) => {
                let contents = texts.iter().map(Text::content);
                write_message(writer, &self.id, status, contents);
            }
            Body::Call {
                call_id,
                name,
                arguments,
            } => {
                let arguments = &Lit::escaped(arguments.as_str());
                let call = Call {
                    call_id,
                    name,
                    arguments,
                };
                call.write(writer, &self.id, status);
            }
            Body::Reasoning { text, signature } => {
                let signature = signature.as_ref().map(Encrypted::Signature);
                let reasoning = Reasoning {
                    text: &Lit::escaped(text.as_str()),
                    encrypted: signature.unwrap_or(Encrypted::Nothing),
                };
                reasoning.write(writer, &self.id);
            }
            Body::Redacted(data) => {
                let reasoning = Reasoning {
                    text: &Lit::default(),
                    encrypted: Encrypted::Redacted(data),
                };
                reasoning.write(writer, &self.id);
            }
        }
    }
}

fn end_text(
    text: &Text,
    id: &str,
    index: usize,
    content_index: usize,
    events: &mut Events,
    out: &mut Vec<u8>,
) {
    events.write(out, text.event(true), |it| {
        let place = place(it, id, index, Some(content_index));
        let whole = Lit::escaped(text.text.as_str());
        if text.is_refusal {
            place.key("refusal").lit(&whole);
        } else {
            place.key("text").lit(&whole);
            write_logprobs(place, &text.logprobs);
        }
    });
    events.write(out, "response.content_part.done", |it| {
        place(it, id, index, Some(content_index)).key("part");
        text.content().write(it);
    });
}

/// Which item, and which part of it, an event is about.
fn place<'w>(
    writer: &'w mut Writer,
    id: &str,
    index: usize,
    content_index: Option<usize>,
) -> &'w mut Writer {
    writer.key("item_id").string(id);
    writer.key("output_index").number(index as u64);
    if let Some(content_index) = content_index {
        writer.key("content_index").number(content_index as u64);
    }
    writer
}
