//! The message that a stream of Anthropic's came to.
//!
//! The grammar is the vendor's ("Streaming messages" in its reference): `message_start` has the
//! message without its content, blocks grow by the deltas of their types, and `message_delta` has
//! what is known at the end. An event or delta of a type that is not known here may be a part of
//! the answer, so such a stream has no body. Start at [`of_stream`].

use std::borrow::Cow;

use super::joined::Object;
use super::{Members, data_of, members, object, set};
use crate::wire::json::view::{Lit, View};
use crate::wire::json::walk_object;
use crate::wire::json::write::Writer;

#[derive(Default)]
struct Message<'a> {
    /// Without content and usage; empty before `message_start`.
    members: Members<'a>,
    usage: Members<'a>,
    blocks: Vec<Block<'a>>,
    has_stopped: bool,
}

/// A content block as it grows.
#[derive(Default)]
struct Block<'a> {
    block: Object<'a>,
    /// The input of a tool, which comes as a text.
    input: Option<Lit<'a>>,
}

/// See [`super::body_of_stream`].
pub(super) fn of_stream(events: &[u8]) -> Option<Vec<u8>> {
    let data = data_of(events)?;
    let mut message = Message::default();
    for event in &data {
        let event = object(event)?;
        let kind = event.get("type")?.string()?;
        match kind.as_ref() {
            "message_start" => message.start(event)?,
            "content_block_start" => message.block_start(event)?,
            "content_block_delta" => message.block_delta(event)?,
            "message_delta" => message.delta(event)?,
            "content_block_stop" | "ping" => {}
            "message_stop" if message.has_stopped => return message.body(events.len()),
            _ => return None,
        }
    }
    None
}

impl<'a> Message<'a> {
    fn start(&mut self, event: View<'a>) -> Option<()> {
        if !self.members.is_empty() {
            return None;
        }
        for (key, value) in members(event.get("message")?)? {
            match key.as_ref() {
                "content" if value.items().next().is_some() => return None,
                "content" => {}
                "usage" if value.is_object() => self.usage = members(value)?,
                "usage" => {}
                _ => self.members.push((key, value)),
            }
        }
        (!self.members.is_empty()).then_some(())
    }

    fn block_start(&mut self, event: View<'a>) -> Option<()> {
        let index = event.get("index")?.u64()?;
        let mut block = Block::default();
        block.block.join(event.get("content_block")?)?;
        self.blocks.push(block);
        let is_next = index + 1 == self.blocks.len() as u64;
        (is_next && !self.members.is_empty()).then_some(())
    }

    fn block_delta(&mut self, event: View<'a>) -> Option<()> {
        let index = usize::try_from(event.get("index")?.u64()?).ok()?;
        let block = self.blocks.get_mut(index)?;
        let delta = event.get("delta")?;
        let kind = delta.get("type")?.string()?;
        let Block { block, input } = block;
        match kind.as_ref() {
            "text_delta" => block.add("text", delta.get("text")?),
            "thinking_delta" => block.add("thinking", delta.get("thinking")?),
            // It comes whole.
            "signature_delta" if block.has("signature") => None,
            "signature_delta" => block.add("signature", delta.get("signature")?),
            "citations_delta" => block.push("citations", delta.get("citation")?),
            "input_json_delta" => {
                let more = delta.get("partial_json")?.lit()?;
                match input {
                    Some(input) => input.push(&more),
                    None => *input = Some(more),
                }
                Some(())
            }
            _ => None,
        }
    }

    fn delta(&mut self, event: View<'a>) -> Option<()> {
        for (key, value) in members(event)? {
            match key.as_ref() {
                "type" => {}
                "delta" => {
                    for (key, value) in members(value)? {
                        self.has_stopped |= key == "stop_reason" && value.is_string();
                        set(&mut self.members, key, value)?;
                    }
                }
                "usage" => {
                    for (key, value) in members(value)? {
                        // What is not known here was known at the start.
                        let is_known = |(known, _): &(Cow<'_, str>, View<'_>)| *known == key;
                        if !value.is_null() || !self.usage.iter().any(is_known) {
                            set(&mut self.usage, key, value)?;
                        }
                    }
                }
                _ => set(&mut self.members, key, value)?,
            }
        }
        (!self.members.is_empty()).then_some(())
    }

    fn body(&self, capacity: usize) -> Option<Vec<u8>> {
        let mut out = Writer::with_capacity(capacity / 2);
        let mut is_whole = true;
        out.object(|out| {
            let at_end = |key: &str| key.starts_with("stop_");
            let write = |out: &mut Writer, end: bool| {
                for (key, value) in self.members.iter().filter(|(key, _)| at_end(key) == end) {
                    out.key(key).view(*value);
                }
            };
            write(out, false);
            out.key("content").array(|out| {
                for block in &self.blocks {
                    is_whole &= block.write(out).is_some();
                }
            });
            write(out, true);
            out.key("usage").object(|out| {
                for (key, value) in &self.usage {
                    out.key(key).view(*value);
                }
            });
        });
        is_whole.then(|| out.into_bytes())
    }
}

impl Block<'_> {
    /// Writes the block. `None` for one whose input is no JSON object: it was cut short.
    fn write(&self, out: &mut Writer) -> Option<()> {
        let input = self.input.as_ref().map(Lit::unescape);
        let Some(json) = input.filter(|json| !json.trim_ascii().is_empty()) else {
            self.block.write(out);
            return Some(());
        };
        walk_object(&json, |_| {}).ok()?;
        out.object(|out| {
            self.block.write_others(&["input"], out);
            out.key("input").raw(json.trim_ascii());
        });
        Some(())
    }
}
