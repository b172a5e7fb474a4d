//! Reads requests for OpenAI's responses and legacy completions. Pure.
//!
//! Both have many fields of which few matter here, so they are read by name: what is not asked
//! for stays raw text. Start at [`Fields`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::body::Messages;

/// The fields of a request, by name.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Fields<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// A field as it was written; `None` if it is absent or null.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// A field's value; `None` if it is absent or null.
    ///
    /// # Errors
    /// It is of another type.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, serde_json::Error> {
        let raw = self.raw(name).map(RawValue::get);
        raw.map(serde_json::from_str).transpose()
    }
}

/// What of an input item matters here: whose it is, and how long.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Sums up the input of a response: a string, or a list of items.
///
/// # Errors
/// It is neither.
pub fn input(raw: &RawValue) -> Result<Messages, serde_json::Error> {
    if raw.get().starts_with('"') {
        return Ok(Messages {
            count: 1,
            content_bytes: raw.get().len(),
            ..Messages::default()
        });
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(ItemsVisitor)
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
        let mut messages = Messages::default();
        while let Some(item) = list.next_element::<Item<'de>>()? {
            messages.count = messages.count.saturating_add(1);
            let texts = [item.content, item.output, item.arguments];
            let bytes = texts.iter().flatten().map(|raw| raw.get().len());
            messages.content_bytes += bytes.sum::<usize>();
            messages.ends_with_assistant = item.role == "assistant";
            messages.ends_with_tool_result = item.kind.ends_with("_call_output");
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_summed_up() {
        let check = |json: &str, count: u32, bytes: usize, assistant: bool, result: bool| {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            let messages = input(&raw).unwrap();
            let seen = (messages.count, messages.content_bytes);
            assert_eq!(seen, (count, bytes), "{json}");
            let seen = (messages.ends_with_assistant, messages.ends_with_tool_result);
            assert_eq!(seen, (assistant, result), "{json}");
        };
        check(r#""hi""#, 1, 4, false, false);
        check(r#"[{"role":"user","content":"hi"}]"#, 1, 4, false, false);
        check(
            r#"[{"role":"user","content":"hi"},{"type":"message","role":"assistant","content":[]}]"#,
            2,
            6,
            true,
            false,
        );
        check(
            r#"[{"type":"function_call","arguments":"{}"},{"type":"function_call_output","output":"3"}]"#,
            2,
            7,
            false,
            true,
        );
        let number = RawValue::from_string("3".to_owned()).unwrap();
        assert!(input(&number).is_err());
    }

    #[test]
    fn fields_are_read_by_name() {
        let fields: Fields<'_> = serde_json::from_str(r#"{"a":null,"b":3,"c":[1]}"#).unwrap();
        assert!(fields.raw("a").is_none() && fields.raw("x").is_none());
        assert_eq!(fields.get::<i64>("b").unwrap(), Some(3));
        assert!(fields.get::<bool>("b").is_err());
        assert_eq!(fields.raw("c").unwrap().get(), "[1]");
    }
}
