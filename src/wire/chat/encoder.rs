//! Writes a streamed answer for a caller that speaks chat completions.
//!
//! The vendor's SDKs put chunks together by the indices of choices and tool calls, and take a
//! choice as done with its finish reason, so each is written exactly once. Start at
//! [`Encoder::event`].

use super::answer_out::{self, finish_reason, redacted, thinking, usage};
use crate::wire::form::{Delta, Event, PartStart, Tokens};
use crate::wire::json::view::Lit;
use crate::wire::json::write::Writer;
use crate::wire::translate::About;

/// Bytes of thoughts that are kept until they are signed. Longer ones cannot be sent back.
const THOUGHT_BYTES_MAX: usize = 8 << 20;

/// What has been written of a stream.
pub struct Encoder {
    now: u64,
    include_usage: bool,
    /// How every chunk begins.
    head: Vec<u8>,
    usage: Tokens,
    choices: Vec<Choice>,
}

struct Choice {
    index: u32,
    /// Tool calls that have begun.
    calls: u64,
    /// Blocks of thoughts that were written. The vendor's Python SDK takes no list in a delta whose
    /// items have no index.
    blocks: u64,
    /// Open parts about which something must be known.
    parts: Vec<(u32, Part)>,
    finished: bool,
}

enum Part {
    Call {
        /// Among the calls of its choice.
        index: u64,
        has_arguments: bool,
    },
    Thought {
        /// All of it, escaped; `None` once it is too long.
        text: Option<String>,
        signature: Option<String>,
    },
}

impl Encoder {
    /// An encoder at the start of a stream.
    pub fn new(about: &About<'_>) -> Self {
        let mut encoder = Self {
            now: about.now,
            include_usage: about.include_usage,
            head: Vec::new(),
            usage: Tokens::default(),
            choices: Vec::new(),
        };
        encoder.begin(&Lit::default(), &Lit::default(), None);
        encoder
    }

    /// Writes what `event` is to the caller: whole events, or nothing.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start {
                id,
                model,
                created,
                usage,
            } => {
                self.begin(id, model, *created);
                self.usage = usage.unwrap_or_default();
                // At once, so that the caller knows that an answer comes.
                self.choice(0, out);
            }
            Event::PartStart { choice, part, kind } => self.part_start(*choice, *part, kind, out),
            Event::PartDelta {
                choice,
                part,
                delta,
            } => self.part_delta(*choice, *part, delta, out),
            Event::PartStop { choice, part } => self.part_stop(*choice, *part, out),
            Event::Logprobs { choice, value } => {
                self.choice(*choice, out);
                // Blanks may be line ends, which would end the event.
                let value = value.text().replace(['\n', '\r'], " ");
                self.chunk(*choice, out, |_| {}, Some(&value), None);
            }
            Event::Finish { choice, stop, .. } => {
                let state = self.choice(*choice, out);
                if !std::mem::replace(&mut state.finished, true) {
                    let reason = finish_reason(*stop);
                    self.chunk(*choice, out, |_| {}, None, Some(reason));
                }
            }
            Event::Usage(tokens) => self.usage = *tokens,
            Event::End => self.end(out),
        }
    }

    fn begin(&mut self, id: &Lit<'_>, model: &Lit<'_>, created: Option<u64>) {
        let mut head = Writer::behind(b"data: ".to_vec());
        head.object(|out| {
            out.key("id");
            answer_out::id(out, id);
            out.key("object").string("chat.completion.chunk");
            out.key("created").number(created.unwrap_or(self.now));
            out.key("model").lit(model);
        });
        self.head = head.into_bytes();
        // Left open for the choices.
        self.head.pop();
        self.head.extend_from_slice(b",\"choices\":");
    }

    /// What is known of a choice, whose role is said before anything else of it.
    fn choice(&mut self, index: u32, out: &mut Vec<u8>) -> &mut Choice {
        let known = self.choices.iter().position(|it| it.index == index);
        let at = known.unwrap_or_else(|| {
            let role = |out: &mut Writer| {
                out.key("role").string("assistant");
                out.key("content").string("");
                out.key("refusal").null();
            };
            self.chunk(index, out, role, None, None);
            self.choices.push(Choice {
                index,
                calls: 0,
                blocks: 0,
                parts: Vec::new(),
                finished: false,
            });
            self.choices.len() - 1
        });
        &mut self.choices[at]
    }

    /// Writes a chunk of one choice with what `fill` puts into its delta.
    fn chunk(
        &self,
        choice: u32,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Writer),
        logprobs: Option<&str>,
        reason: Option<&str>,
    ) {
        out.extend_from_slice(&self.head);
        let mut writer = Writer::behind(std::mem::take(out));
        writer.array(|out| {
            out.object(|out| {
                out.key("index").number(u64::from(choice));
                out.key("delta").object(fill);
                out.key("logprobs").raw(logprobs.unwrap_or("null"));
                out.key("finish_reason");
                match reason {
                    Some(reason) => out.string(reason),
                    None => out.null(),
                };
            });
        });
        *out = writer.into_bytes();
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn part_start(&mut self, choice: u32, part: u32, kind: &PartStart<'_>, out: &mut Vec<u8>) {
        let state = self.choice(choice, out);
        match kind {
            PartStart::Text | PartStart::Refusal => {}
            PartStart::Thinking => {
                let thought = Part::Thought {
                    text: Some(String::new()),
                    signature: None,
                };
                state.parts.push((part, thought));
            }
            PartStart::RedactedThinking(data) => {
                let index = Some(state.blocks);
                state.blocks += 1;
                let block = |out: &mut Writer| {
                    out.key("thinking_blocks")
                        .array(|out| redacted(out, index, data));
                };
                self.chunk(choice, out, block, None, None);
            }
            PartStart::ToolCall { id, name } => {
                let index = state.calls;
                state.calls += 1;
                let call = Part::Call {
                    index,
                    has_arguments: false,
                };
                state.parts.push((part, call));
                let call = |out: &mut Writer| {
                    out.key("id").lit(id);
                    out.key("type").string("function");
                    out.key("function").object(|out| {
                        out.key("name").lit(name);
                        out.key("arguments").string("");
                    });
                };
                self.chunk(choice, out, |out| tool_call(out, index, call), None, None);
            }
        }
    }

    fn part_delta(&mut self, choice: u32, part: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let parts = &mut self.choice(choice, out).parts;
        let state = parts
            .iter_mut()
            .rfind(|it| it.0 == part)
            .map(|it| &mut it.1);
        let (key, lit) = match (delta, state) {
            (Delta::Text(lit), _) => ("content", lit),
            (Delta::Refusal(lit), _) => ("refusal", lit),
            (Delta::Thinking(lit), state) => {
                if let Some(Part::Thought { text, .. }) = state {
                    keep(text, lit);
                }
                ("reasoning_content", lit)
            }
            (Delta::Signature(lit), state) => {
                if let Some(Part::Thought { signature, .. }) = state {
                    *signature = Some(lit.as_escaped().to_owned());
                }
                return;
            }
            (Delta::Arguments(lit), state) => {
                if let Some(Part::Call {
                    index,
                    has_arguments,
                }) = state
                    && !lit.is_empty()
                {
                    *has_arguments = true;
                    let index = *index;
                    self.arguments(choice, index, lit, out);
                }
                return;
            }
        };
        if !lit.is_empty() {
            let fill = |out: &mut Writer| {
                out.key(key).lit(lit);
            };
            self.chunk(choice, out, fill, None, None);
        }
    }

    fn arguments(&self, choice: u32, index: u64, text: &Lit<'_>, out: &mut Vec<u8>) {
        let function = |out: &mut Writer| {
            out.key("function").object(|out| {
                out.key("arguments").lit(text);
            });
        };
        self.chunk(
            choice,
            out,
            |out| tool_call(out, index, function),
            None,
            None,
        );
    }

    fn part_stop(&mut self, choice: u32, part: u32, out: &mut Vec<u8>) {
        let state = self.choice(choice, out);
        let Some(at) = state.parts.iter().rposition(|it| it.0 == part) else {
            return;
        };
        match state.parts.swap_remove(at).1 {
            // Callers parse what has come, and nothing at all is no JSON.
            Part::Call {
                index,
                has_arguments: false,
            } => self.arguments(choice, index, &Lit::of("{}"), out),
            Part::Thought {
                text: Some(text),
                signature: Some(signature),
            } => {
                let index = Some(state.blocks);
                state.blocks += 1;
                let (text, signature) = (Lit::escaped(text), Lit::escaped(signature));
                let block = |out: &mut Writer| {
                    out.key("thinking_blocks")
                        .array(|out| thinking(out, index, &text, Some(&signature)));
                };
                self.chunk(choice, out, block, None, None);
            }
            Part::Call { .. } | Part::Thought { .. } => {}
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.include_usage {
            out.extend_from_slice(&self.head);
            let mut writer = Writer::behind(std::mem::take(out));
            writer.array(|_| {}).key("usage");
            usage(&mut writer, &self.usage);
            *out = writer.into_bytes();
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// The `tool_calls` of a delta: call number `index`, and what `fill` says of it.
fn tool_call(out: &mut Writer, index: u64, fill: impl FnOnce(&mut Writer)) {
    out.key("tool_calls").array(|out| {
        out.object(|out| {
            out.key("index").number(index);
            fill(out);
        });
    });
}

fn keep(text: &mut Option<String>, more: &Lit<'_>) {
    if let Some(kept) = text {
        if kept.len() + more.as_escaped().len() > THOUGHT_BYTES_MAX {
            *text = None;
        } else {
            kept.push_str(more.as_escaped());
        }
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
