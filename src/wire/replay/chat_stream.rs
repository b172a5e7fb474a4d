//! The chunks of a stream that says what a chat completion says.
//!
//! The vendor's grammar: a choice begins with its role and ends with its finish reason, a tool call
//! begins with its id and name and goes on with its arguments, the usage is alone and last. Choices
//! come one after the other. What the vendor repeats with every chunk is repeated; members that it
//! does not know come with the first. Start at [`of_body`].

use std::borrow::Cow;

use super::out::{Events, pieces, runs};
use super::{Members, members, object};
use crate::wire::json::view::{Lit, View};
use crate::wire::json::write::Writer;

/// Bytes of what every chunk repeats. The vendor's are 200.
const HEAD_BYTES_MAX: usize = 4 << 10;

struct Stream<'a> {
    events: Events,
    /// How every chunk begins, up to its choices.
    head: Vec<u8>,
    /// How every chunk ends.
    tail: &'static [u8],
    /// What only the first chunk has.
    first: Members<'a>,
}

/// See [`super::stream_of_body`].
pub(super) fn of_body(body: &[u8], include_usage: bool) -> Option<Vec<u8>> {
    let mut choices = None;
    let mut usage = None;
    let (mut head, mut first) = (Vec::new(), Vec::new());
    for (key, value) in members(object(body)?)? {
        match key.as_ref() {
            "choices" => choices = Some(value),
            "usage" => usage = Some(value).filter(|usage| usage.is_object()),
            "error" if !value.is_null() => return None,
            "object" | "error" => {}
            "id" | "created" | "model" | "service_tier" | "system_fingerprint" => {
                head.push((key, value));
            }
            _ => first.push((key, value)),
        }
    }
    let mut stream = Stream {
        events: Events::new(body.len()),
        head: head_of(&head)?,
        tail: match include_usage {
            true => b",\"usage\":null}\n\n",
            false => b"}\n\n",
        },
        first,
    };
    let mut choices = choices?.items().enumerate().peekable();
    choices.peek()?;
    for (position, choice) in choices {
        stream.choice(position, choice)?;
    }
    if let Some(usage) = usage.filter(|_| include_usage) {
        let fill = |out: &mut Writer| {
            out.array(|_| {}).key("usage").view(usage);
        };
        stream.events.event(&stream.head, fill, b"}\n\n");
    }
    stream.events.event(b"data: [DONE]", |_| {}, b"\n\n");
    stream.events.into_bytes()
}

fn head_of(members: &Members<'_>) -> Option<Vec<u8>> {
    let mut head = Writer::behind(b"data: ".to_vec());
    head.object(|out| {
        for (key, value) in members {
            // In one line, as all of them are numbers and texts.
            if value.is_object() || value.is_array() {
                continue;
            }
            out.key(key).view(*value);
            if key == "id" {
                out.key("object").string("chat.completion.chunk");
            }
        }
        if members.iter().all(|(key, _)| key != "id") {
            out.key("object").string("chat.completion.chunk");
        }
    });
    let mut head = head.into_bytes();
    // Left open for the choices.
    head.pop();
    head.extend_from_slice(b",\"choices\":");
    (head.len() <= HEAD_BYTES_MAX).then_some(head)
}

/// What a chunk says of its choice.
struct Said<'s, 'a> {
    logprobs: &'s dyn Fn(&mut Writer),
    reason: Option<View<'a>>,
    others: &'s [(Cow<'a, str>, View<'a>)],
}

/// That it goes on.
const GOES_ON: Said<'static, 'static> = Said {
    logprobs: &|out| {
        out.null();
    },
    reason: None,
    others: &[],
};

impl<'a> Stream<'a> {
    fn chunk(&mut self, index: u64, delta: impl FnOnce(&mut Writer), said: &Said<'_, '_>) {
        let first = std::mem::take(&mut self.first);
        let fill = |out: &mut Writer| {
            out.array(|out| {
                out.object(|out| {
                    out.key("index").number(index);
                    out.key("delta").object(delta);
                    out.key("logprobs");
                    (said.logprobs)(out);
                    out.key("finish_reason");
                    match said.reason {
                        Some(reason) => out.view(reason),
                        None => out.null(),
                    };
                    write(said.others, out);
                });
            });
            write(&first, out);
        };
        self.events.event(&self.head, fill, self.tail);
    }

    fn choice(&mut self, position: usize, choice: View<'a>) -> Option<()> {
        let (mut message, mut logprobs, mut reason) = (None, None, None);
        let mut index = position as u64;
        let mut others = Vec::new();
        for (key, value) in members(choice)? {
            match key.as_ref() {
                "index" => index = value.u64()?,
                "message" => message = Some(members(value)?),
                "logprobs" if value.is_null() => {}
                "logprobs" => logprobs = Some(members(value)?),
                "finish_reason" => reason = Some(value).filter(|value| value.is_string()),
                _ => others.push((key, value)),
            }
        }
        let (message, reason) = (message?, reason?);
        self.role(index, &message, logprobs.as_ref());
        // What is thought comes before what is said, and what is done comes last.
        let is_said = |key: &str| matches!(key, "content" | "refusal");
        let texts = |said: bool| {
            let of_kind = message.iter().filter(move |(key, _)| is_said(key) == said);
            of_kind.filter_map(|(key, value)| Some((key, value.lit()?)))
        };
        for (key, text) in texts(false).chain(texts(true)) {
            if key != "role" {
                self.text(index, key, &text);
            }
        }
        for (list, runs) in logprobs
            .iter()
            .flatten()
            .map(|(key, list)| (key, runs(*list)))
        {
            for run in runs {
                self.logprobs(index, list, &run);
            }
        }
        for (key, value) in &message {
            match key.as_ref() {
                _ if value.is_null() || value.is_string() => {}
                // Its pieces are encoded one by one.
                "audio" => return None,
                "tool_calls" if value.is_array() => self.calls(index, *value)?,
                "tool_calls" => return None,
                _ => {
                    let delta = |out: &mut Writer| {
                        out.key(key).view(*value);
                    };
                    self.chunk(index, delta, &GOES_ON);
                }
            }
        }
        let end = Said {
            reason: Some(reason),
            others: &others,
            ..GOES_ON
        };
        self.chunk(index, |_| {}, &end);
        Some(())
    }

    /// Begins a choice: its role, what will not come, and nothing yet of what will.
    fn role(&mut self, index: u64, message: &Members<'_>, logprobs: Option<&Members<'_>>) {
        let delta = |out: &mut Writer| {
            let role = message.iter().find(|(key, _)| key == "role");
            out.key("role");
            match role.filter(|(_, role)| role.is_string()) {
                Some((_, role)) => out.view(*role),
                None => out.string("assistant"),
            };
            for (key, value) in message {
                match key.as_ref() {
                    "content" if value.is_string() => {
                        out.key(key).string("");
                    }
                    key if key != "role" && matches!(value.text(), "null" | "\"\"") => {
                        out.key(key).view(*value);
                    }
                    _ => {}
                }
            }
        };
        let opened = |out: &mut Writer| match logprobs {
            Some(logprobs) => {
                out.object(|out| {
                    for (key, value) in logprobs {
                        out.key(key);
                        match value.is_array() {
                            true => out.array(|_| {}),
                            false => out.view(*value),
                        };
                    }
                });
            }
            None => {
                out.null();
            }
        };
        let said = Said {
            logprobs: &opened,
            ..GOES_ON
        };
        self.chunk(index, delta, &said);
    }

    fn text(&mut self, index: u64, key: &str, text: &Lit<'_>) {
        for piece in pieces(text.as_escaped()) {
            let delta = |out: &mut Writer| {
                out.key(key).lit(&Lit::escaped(piece));
            };
            self.chunk(index, delta, &GOES_ON);
        }
    }

    /// Some of the list `key` of log probabilities.
    fn logprobs(&mut self, index: u64, key: &str, run: &[View<'_>]) {
        let logprobs = |out: &mut Writer| {
            out.object(|out| {
                out.key(key).array(|out| {
                    for item in run {
                        out.view(*item);
                    }
                });
                // The vendor's type has both.
                for other in ["content", "refusal"] {
                    if key != other {
                        out.key(other).null();
                    }
                }
            });
        };
        let said = Said {
            logprobs: &logprobs,
            ..GOES_ON
        };
        self.chunk(index, |_| {}, &said);
    }

    fn calls(&mut self, choice: u64, calls: View<'_>) -> Option<()> {
        for (number, call) in calls.items().enumerate() {
            let call = members(call)?;
            // `function` has `arguments`, `custom` has `input`.
            let grows = |key: &str| matches!(key, "arguments" | "input");
            let open = |out: &mut Writer| {
                for (key, value) in call.iter().filter(|(key, _)| key != "index") {
                    out.key(key);
                    if !value.is_object() {
                        out.view(*value);
                        continue;
                    }
                    out.object(|out| {
                        for (key, value) in value.members() {
                            match grows(&key) && value.is_string() {
                                true => out.key(&key).string(""),
                                false => out.key(&key).view(value),
                            };
                        }
                    });
                }
            };
            self.chunk(choice, |out| fragment(out, number, open), &GOES_ON);
            for (kind, function) in &call {
                for (key, value) in function.members().filter(|(key, _)| grows(key)) {
                    let Some(text) = value.lit() else { continue };
                    for piece in pieces(text.as_escaped()) {
                        let more = |out: &mut Writer| {
                            out.key(kind).object(|out| {
                                out.key(&key).lit(&Lit::escaped(piece));
                            });
                        };
                        self.chunk(choice, |out| fragment(out, number, more), &GOES_ON);
                    }
                }
            }
        }
        Some(())
    }
}

/// The `tool_calls` of a delta: call `number`, and what `fill` says of it.
fn fragment(out: &mut Writer, number: usize, fill: impl FnOnce(&mut Writer)) {
    out.key("tool_calls").array(|out| {
        out.object(|out| {
            out.key("index").number(number as u64);
            fill(out);
        });
    });
}

fn write(members: &[(Cow<'_, str>, View<'_>)], out: &mut Writer) {
    for (key, value) in members {
        out.key(key).view(*value);
    }
}
