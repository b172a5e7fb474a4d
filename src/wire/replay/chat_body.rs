//! The body that a stream of chat completions came to.
//!
//! Of the members at the top of the chunks, the first id, time and model count (Azure begins with
//! a chunk that has none), and the last of all others. Start at [`of_stream`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::joined::Object;
use super::{Members, data_of, members, object, set};
use crate::wire::json::view::View;
use crate::wire::json::write::Writer;

/// Choices of one answer; what the vendor lets a caller ask for.
const CHOICES_MAX: usize = 128;

#[derive(Default)]
struct Completion<'a> {
    top: Members<'a>,
    choices: BTreeMap<u64, Choice<'a>>,
}

#[derive(Default)]
struct Choice<'a> {
    message: Object<'a>,
    logprobs: Option<Object<'a>>,
    finish_reason: Option<View<'a>>,
    others: Members<'a>,
}

/// See [`super::body_of_stream`].
pub(super) fn of_stream(events: &[u8]) -> Option<Vec<u8>> {
    let data = data_of(events)?;
    // The vendor's SDK looks no further than this either.
    let is_end = |data: &Cow<'_, [u8]>| data.starts_with(b"[DONE]");
    let end = data.iter().position(is_end)?;
    let mut completion = Completion::default();
    for chunk in &data[..end] {
        completion.chunk(object(chunk)?)?;
    }
    completion.body(events.len())
}

impl<'a> Completion<'a> {
    fn chunk(&mut self, chunk: View<'a>) -> Option<()> {
        for (key, value) in members(chunk)? {
            match key.as_ref() {
                "error" if !value.is_null() => return None,
                "choices" if value.is_array() => {
                    for (position, choice) in value.items().enumerate() {
                        self.choice(position, choice)?;
                    }
                }
                "choices" if !value.is_null() => return None,
                // Noise that pads the chunks of a stream.
                "object" | "choices" | "error" | "obfuscation" => {}
                "id" | "created" | "model" => set_first(&mut self.top, key, value)?,
                _ => set(&mut self.top, key, value)?,
            }
        }
        Some(())
    }

    fn choice(&mut self, position: usize, choice: View<'a>) -> Option<()> {
        let members = members(choice)?;
        let index = members.iter().find(|(key, _)| key == "index");
        let index = index.map_or(Some(position as u64), |(_, index)| index.u64())?;
        if self.choices.len() == CHOICES_MAX && !self.choices.contains_key(&index) {
            return None;
        }
        let state = self.choices.entry(index).or_default();
        for (key, value) in members {
            match key.as_ref() {
                "index" => {}
                "error" if !value.is_null() => return None,
                "delta" | "logprobs" if value.is_null() => {}
                "delta" => state.message.join(value)?,
                "logprobs" => state.logprobs.get_or_insert_default().join(value)?,
                "finish_reason" if value.is("error") => return None,
                "finish_reason" => {
                    let reason = value.lit().filter(|reason| !reason.is_empty());
                    state.finish_reason = reason.map(|_| value).or(state.finish_reason);
                }
                _ => set(&mut state.others, key, value)?,
            }
        }
        Some(())
    }

    fn body(&self, capacity: usize) -> Option<Vec<u8>> {
        let is_whole = |choice: &Choice<'_>| {
            // The pieces of a sound are encoded one by one, and are no encoding together.
            choice.finish_reason.is_some() && !choice.message.has("audio")
        };
        if self.choices.is_empty() || !self.choices.values().all(is_whole) {
            return None;
        }
        let mut out = Writer::with_capacity(capacity / 4);
        out.object(|out| {
            self.top(out, &["id"], true);
            out.key("object").string("chat.completion");
            self.top(out, &["created", "model"], true);
            out.key("choices").array(|out| {
                for (index, choice) in &self.choices {
                    choice.write(*index, out);
                }
            });
            self.top(out, &["usage"], true);
            self.top(out, &["id", "created", "model", "usage"], false);
        });
        Some(out.into_bytes())
    }

    /// Writes the members at the top that are, or are not, among `names`.
    fn top(&self, out: &mut Writer, names: &[&str], among: bool) {
        for (key, value) in &self.top {
            if names.contains(&key.as_ref()) == among {
                out.key(key).view(*value);
            }
        }
    }
}

impl Choice<'_> {
    fn write(&self, index: u64, out: &mut Writer) {
        out.object(|out| {
            out.key("index").number(index);
            out.key("message").object(|out| self.write_message(out));
            out.key("logprobs");
            match &self.logprobs {
                Some(logprobs) => logprobs.write(out),
                None => {
                    out.null();
                }
            }
            out.key("finish_reason");
            match self.finish_reason {
                Some(reason) => out.view(reason),
                None => out.null(),
            };
            for (key, value) in &self.others {
                out.key(key).view(*value);
            }
        });
    }

    /// Streams begin with an empty text, whatever follows. A body has one only where nothing does.
    fn write_message(&self, out: &mut Writer) {
        let said = &self.message;
        if !said.has("role") || !said.write_member("role", out) {
            out.key("role").string("assistant");
        }
        let answers_otherwise = ["refusal", "tool_calls", "function_call"]
            .iter()
            .any(|key| said.has(key));
        if (answers_otherwise && !said.has("content")) || !said.write_member("content", out) {
            out.key("content").null();
        }
        if !said.has("refusal") || !said.write_member("refusal", out) {
            out.key("refusal").null();
        }
        said.write_others(&["role", "content", "refusal"], out);
    }
}

/// Sets a member that has not been set to anything yet.
fn set_first<'a>(all: &mut Members<'a>, key: Cow<'a, str>, value: View<'a>) -> Option<()> {
    let is_nothing = |value: View<'_>| matches!(value.text(), "null" | "\"\"" | "0");
    let known = all.iter().find(|(known, _)| *known == key);
    match known {
        Some((_, known)) if !is_nothing(*known) => Some(()),
        _ => set(all, key, value),
    }
}
