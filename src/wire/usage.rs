//! What an answer cost, as the provider counted it.
//!
//! Nothing is computed here: a number that the provider did not give stays `None`, and a field of
//! the wrong type counts as not given, since an answer must never fail over its bookkeeping.
//! Start at [`of_answer`].

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::form::Tokens;
use super::json::view::View;
use super::{Dialect, Endpoint, responses};

/// Tokens of one answer, in the provider's own reckoning: OpenAI's `input` includes what was read
/// from its cache, Anthropic's does not. `reasoning` is part of `output` with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub input: Option<u64>,
    /// Answer tokens.
    pub output: Option<u64>,
    /// Prompt tokens that the provider had in its cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens that the provider put into its cache.
    pub cache_write: Option<u64>,
    /// Answer tokens spent on reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes every number that `later` gives: a stream counts up, it does not add up.
    pub fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.reasoning = later.reasoning.or(self.reasoning);
    }

    /// The numbers that were given, each with its `type` label in metrics.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
        ]
        .into_iter()
        .filter_map(|(label, count)| Some((label, count?)))
    }

    /// The same in the one reckoning of the internal form; what was not given counts as 0.
    pub fn tokens(&self, dialect: Dialect) -> Tokens {
        let or_none = |count: Option<u64>| count.unwrap_or(0);
        let (cache_read, cache_write) = (or_none(self.cache_read), or_none(self.cache_write));
        let input = match dialect {
            Dialect::Openai => or_none(self.input)
                .saturating_sub(cache_read)
                .saturating_sub(cache_write),
            Dialect::Anthropic => or_none(self.input),
        };
        Tokens {
            input,
            cache_read,
            cache_write,
            output: or_none(self.output),
            reasoning: or_none(self.reasoning),
        }
    }

    /// Reads a `usage` object of either dialect; their fields do not overlap.
    pub(super) fn of_object(object: &str) -> Self {
        serde_json::from_str::<Fields>(object)
            .map(Self::from)
            .unwrap_or_default()
    }
}

/// The usage within the body of a whole answer of `endpoint`; all `None` where there is none.
/// What `count_tokens` answers is a count but costs nothing, so it is no usage. `None` for a body
/// that is not one JSON object: no endpoint answers with such a thing.
pub fn of_answer(endpoint: Endpoint, body: &[u8]) -> Option<Usage> {
    // serde reads a list into a struct as well.
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    let Some(answer) = serde_json::from_slice::<Answer>(body)
        .ok()
        .filter(|_| is_object)
    else {
        // An answer with an odd usage is an answer all the same.
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        return (is_object && is_json).then(Usage::default);
    };
    match endpoint {
        Endpoint::CountTokens => return Some(Usage::default()),
        Endpoint::Responses => {
            let answer = str::from_utf8(body).ok().map(View::new);
            let seen = answer.and_then(|answer| responses::observe(None, answer).usage);
            return Some(seen.unwrap_or_default());
        }
        _ => {}
    }
    let usage = answer.usage.map(|usage| Usage::of_object(usage.get()));
    Some(usage.unwrap_or_default())
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// OpenAI: `CompletionUsage`, `CreateEmbeddingResponse.usage`; DeepSeek's name for cached tokens.
/// Anthropic: `Usage`, `MessageDeltaUsage`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    prompt_tokens: Count,
    completion_tokens: Count,
    prompt_cache_hit_tokens: Count,
    prompt_tokens_details: Details,
    completion_tokens_details: Details,
    input_tokens: Count,
    output_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    output_tokens_details: Details,
}

impl From<Fields> for Usage {
    fn from(fields: Fields) -> Self {
        let prompt = fields.prompt_tokens_details.0;
        Self {
            input: fields.prompt_tokens.0.or(fields.input_tokens.0),
            output: fields.completion_tokens.0.or(fields.output_tokens.0),
            cache_read: prompt
                .cached_tokens
                .0
                .or(fields.prompt_cache_hit_tokens.0)
                .or(fields.cache_read_input_tokens.0),
            cache_write: prompt
                .cache_write_tokens
                .0
                .or(fields.cache_creation_input_tokens.0),
            reasoning: (fields.completion_tokens_details.0.reasoning_tokens.0).or(fields
                .output_tokens_details
                .0
                .thinking_tokens
                .0),
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct DetailFields {
    cached_tokens: Count,
    cache_write_tokens: Count,
    reasoning_tokens: Count,
    thinking_tokens: Count,
}

/// Details that are given; `null` and anything but an object are none.
#[derive(Clone, Copy, Default)]
struct Details(DetailFields);

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?;
        Ok(Self(serde_json::from_str(raw.get()).unwrap_or_default()))
    }
}

/// A token count; anything but a whole number from 0 up is none.
#[derive(Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CountVisitor).map(Self)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Option<u64>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Some(count))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(count).ok())
    }

    fn visit_f64<E>(self, count: f64) -> Result<Self::Value, E> {
        // Some servers write 12.0. Beyond 2^53 a float is not a count any more.
        let whole = count.fract() == 0.0 && (0.0..=9e15).contains(&count);
        Ok(whole.then_some(count as u64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: Endpoint, body: &str, expected: &[(&str, u64)]) {
        let usage = of_answer(endpoint, body.as_bytes()).unwrap_or_default();
        assert_eq!(usage.counts().collect::<Vec<_>>(), expected, "{body}");
    }

    #[test]
    fn each_endpoint_has_its_own_names_for_the_same_thing() {
        check(
            Endpoint::ChatCompletions,
            r#"{"choices":[{"usage":{"prompt_tokens":1}}],"usage":{"prompt_tokens":9,"completion_tokens":12,
            "total_tokens":21,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":3}}}"#,
            &[
                ("input", 9),
                ("output", 12),
                ("cache_read", 4),
                ("reasoning", 3),
            ],
        );
        check(
            Endpoint::Embeddings,
            r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#,
            &[("input", 5)],
        );
        check(
            Endpoint::Messages,
            r#"{"type":"message","usage":{"input_tokens":7,"output_tokens":2,"cache_read_input_tokens":3,
            "cache_creation_input_tokens":null,"output_tokens_details":{"thinking_tokens":1}}}"#,
            &[
                ("input", 7),
                ("output", 2),
                ("cache_read", 3),
                ("reasoning", 1),
            ],
        );
        check(Endpoint::CountTokens, r#"{"input_tokens":7}"#, &[]);
    }

    #[test]
    fn what_is_odd_is_not_counted_and_spoils_nothing_else() {
        let chat = |body: &str, expected: &[(&str, u64)]| {
            check(Endpoint::ChatCompletions, body, expected);
        };
        chat("not json", &[]);
        chat("[]", &[]);
        chat(r#"{"usage":null}"#, &[]);
        chat(r#"{"usage":"none"}"#, &[]);
        chat(
            r#"{"usage":{"prompt_tokens":-1,"completion_tokens":2.0,"prompt_tokens_details":"x",
            "completion_tokens_details":null,"cache_read_input_tokens":[{"a":[1]}]}}"#,
            &[("output", 2)],
        );
        chat(
            r#"{"usage":{"prompt_tokens":{"a":1},"completion_tokens":true}}"#,
            &[],
        );
    }

    #[test]
    fn a_later_count_replaces_an_earlier_one_and_an_absent_one_does_not() {
        let mut usage = Usage::of_object(r#"{"input_tokens":7,"output_tokens":1}"#);
        usage.update(Usage::of_object(r#"{"output_tokens":15}"#));
        assert_eq!((usage.input, usage.output), (Some(7), Some(15)));
    }
}
