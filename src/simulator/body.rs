//! Reads request bodies, borrowing from them: the prompt itself is never copied.
//!
//! Values that only need to be passed over (messages, tools, schemas) stay raw text; serde_json
//! skips them without recursion, so nesting costs no stack. Start at [`Chat`] and [`Messages`].

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::text;

/// Inputs of one embeddings request (the vendor's bound).
pub const INPUTS_MAX: usize = 2048;

/// A chat request of either dialect, as far as the simulator looks at it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Chat<'a> {
    pub model: Option<String>,
    pub stream: Option<bool>,
    #[serde(borrow)]
    pub messages: Option<&'a RawValue>,
    pub max_tokens: Option<i64>,
    pub max_completion_tokens: Option<i64>,
    pub n: Option<i64>,
    #[serde(borrow)]
    pub stop: Option<&'a RawValue>,
    pub stop_sequences: Option<Vec<String>>,
    pub stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    pub system: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tools: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_choice: Option<&'a RawValue>,
    pub parallel_tool_calls: Option<bool>,
    #[serde(borrow)]
    pub response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    pub output_config: Option<&'a RawValue>,
    #[serde(borrow)]
    pub output_format: Option<&'a RawValue>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<i64>,
}

/// OpenAI's `stream_options`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct StreamOptions {
    pub include_usage: Option<bool>,
}

/// An embeddings request.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Embeddings<'a> {
    pub model: Option<String>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    pub dimensions: Option<i64>,
    #[serde(borrow)]
    pub encoding_format: Option<Cow<'a, str>>,
}

impl Chat<'_> {
    /// The stop sequences of either dialect: one string, or a list.
    pub fn stops(&self) -> Result<Vec<String>, serde_json::Error> {
        if let Some(stops) = &self.stop_sequences {
            return Ok(stops.clone());
        }
        self.stop.map_or(Ok(Vec::new()), stops)
    }

    /// The bytes of the prompt beside the messages: system prompt and tools.
    pub fn beside_messages_bytes(&self) -> usize {
        let bytes = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
        bytes(self.system) + bytes(self.tools)
    }
}

/// OpenAI's `stop`: one string, or a list.
pub fn stops(stop: &RawValue) -> Result<Vec<String>, serde_json::Error> {
    if stop.get().starts_with('"') {
        Ok(vec![serde_json::from_str(stop.get())?])
    } else {
        serde_json::from_str(stop.get())
    }
}

/// What there is to know of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many messages.
    pub count: u32,
    /// Bytes of JSON in all their contents.
    pub content_bytes: usize,
    /// Whether the assistant has the last word.
    pub ends_with_assistant: bool,
    /// Whether the last message gives a tool's result.
    pub ends_with_tool_result: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// The type of one content block.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

impl Messages {
    /// Walks the conversation once.
    ///
    /// # Errors
    /// It is not a list of messages that each have a role.
    pub fn read(raw: &RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw.get())
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
        let mut messages = Messages::default();
        let mut last = None;
        while let Some(message) = list.next_element::<Message<'de>>()? {
            messages.count = messages.count.saturating_add(1);
            messages.content_bytes += message.content.map_or(0, |raw| raw.get().len());
            last = Some(message);
        }
        if let Some(last) = last {
            messages.ends_with_assistant = last.role == "assistant";
            messages.ends_with_tool_result =
                last.role == "tool" || last.content.is_some_and(has_tool_result);
        }
        Ok(messages)
    }
}

/// Whether an Anthropic message gives a tool's result in any of its blocks.
fn has_tool_result(content: &RawValue) -> bool {
    if !content.get().starts_with('[') {
        return false;
    }
    let blocks: Result<Vec<Block<'_>>, _> = serde_json::from_str(content.get());
    blocks.is_ok_and(|blocks| blocks.iter().any(|block| block.kind == "tool_result"))
}

/// What is to be embedded: a seed for each input's vector, and their tokens together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// One for each input, in order.
    pub seeds: Vec<u64>,
    /// The tokens of all.
    pub tokens: u32,
}

impl Inputs {
    /// Reads a string, a list of strings, a list of tokens, or a list of lists of tokens.
    ///
    /// # Errors
    /// It is none of these, an input is empty, or there are more than [`INPUTS_MAX`].
    pub fn read(raw: &RawValue) -> Result<Self, serde_json::Error> {
        let text = raw.get();
        let mut inputs = Self::default();
        if text.starts_with('"') {
            inputs.add(text)?;
            return Ok(inputs);
        }
        let first = text.strip_prefix('[').map(str::trim_start);
        if first.is_some_and(|first| first.starts_with(|c: char| c.is_ascii_digit())) {
            inputs.add(text)?;
            return Ok(inputs);
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_seq(InputsVisitor(&mut inputs))?;
        Ok(inputs)
    }

    /// Adds one input: a JSON string or a list of tokens.
    fn add(&mut self, text: &str) -> Result<(), serde_json::Error> {
        let tokens = match text.as_bytes().first() {
            Some(b'"') if text.len() > 2 => text::prompt_tokens(text.len() - 2, 0),
            Some(b'[') => {
                let tokens: Vec<u32> = serde_json::from_str(text)?;
                u32::try_from(tokens.len()).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        if tokens == 0 {
            return Err(Error::custom(
                "an input must be a string or a list of tokens, not empty",
            ));
        }
        if self.seeds.len() == INPUTS_MAX {
            return Err(Error::custom(format_args!("more than {INPUTS_MAX} inputs")));
        }
        self.tokens = self.tokens.saturating_add(tokens);
        self.seeds.push(text::hash(text.as_bytes()));
        Ok(())
    }
}

struct InputsVisitor<'i>(&'i mut Inputs);

impl<'de> Visitor<'de> for InputsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings, or a list of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(input) = list.next_element::<&RawValue>()? {
            self.0.add(input.get()).map_err(Error::custom)?;
        }
        if self.0.seeds.is_empty() {
            return Err(Error::custom("the list of inputs is empty"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_conversation_is_summed_up() {
        let check = |json: &str, count: u32, assistant: bool, tool_result: bool| {
            let messages = Messages::read(&raw(json)).unwrap();
            let seen = (
                messages.count,
                messages.ends_with_assistant,
                messages.ends_with_tool_result,
            );
            assert_eq!(seen, (count, assistant, tool_result), "{json}");
        };
        check(r#"[{"role":"user","content":"hi"}]"#, 1, false, false);
        check(
            r#"[{"role":"user","content":"hi"},{"role":"assistant","content":null}]"#,
            2,
            true,
            false,
        );
        check(
            r#"[{"role":"tool","tool_call_id":"x","content":"3"}]"#,
            1,
            false,
            true,
        );
        check(
            r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","content":[]}]}]"#,
            1,
            false,
            true,
        );
        check("[]", 0, false, false);
        assert!(Messages::read(&raw(r#"[{"content":"hi"}]"#)).is_err());
        assert!(Messages::read(&raw(r#"{"role":"user"}"#)).is_err());
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!(
            r#"{{"model":"sim","messages":[{{"role":"user","content":{deep}}}],"x":{deep}}}"#
        );
        let chat: Chat<'_> = serde_json::from_slice(body.as_bytes()).unwrap();
        let messages = Messages::read(chat.messages.unwrap()).unwrap();
        assert_eq!((messages.count, messages.content_bytes), (1, 200_000));
        assert!(Inputs::read(&raw(&deep)).is_err());
    }

    #[test]
    fn inputs_come_in_four_forms() {
        let check = |json: &str, expected: Option<(usize, u32)>| {
            let inputs = Inputs::read(&raw(json)).ok();
            assert_eq!(
                inputs.map(|inputs| (inputs.seeds.len(), inputs.tokens)),
                expected,
                "{json}"
            );
        };
        check(r#""hello""#, Some((1, 2)));
        check(r#"["hello","you"]"#, Some((2, 3)));
        check("[1, 2,3]", Some((1, 3)));
        check("[ [1,2],[3]]", Some((2, 3)));
        for wrong in [
            "\"\"",
            "[]",
            "[[]]",
            "3",
            "{}",
            "null",
            "[true]",
            "[\"\"]",
            "[1,\"a\"]",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn stops_are_one_string_or_a_list() {
        let check = |body: &str, expected: &[&str]| {
            let chat: Chat<'_> = serde_json::from_str(body).unwrap();
            assert_eq!(chat.stops().unwrap(), expected);
        };
        check(r#"{"stop":"a"}"#, &["a"]);
        check(r#"{"stop":["a","b"]}"#, &["a", "b"]);
        check(r#"{"stop":null}"#, &[]);
        check(r#"{"stop_sequences":["c"]}"#, &["c"]);
    }
}
