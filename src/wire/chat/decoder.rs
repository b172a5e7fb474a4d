//! Reads a streamed answer, chunk by chunk.
//!
//! A choice's parts begin where its deltas change from one kind to another. Tool calls may be open
//! side by side, since servers may send their fragments in turns;
//! [`Sequencer`](crate::wire::sequencer::Sequencer) puts them in order where that is wanted. A
//! choice is finished not with its finish reason but once nothing more can follow, since some
//! servers give a reason with every chunk.
//!
//! Start at [`Decoder::event`]; what one choice goes through is in [`choice`](super::choice).

use super::choice::Choice;
use super::said::{self, Said};
use super::shape::{fields, object};
use crate::wire::Dialect;
use crate::wire::form::{Event, NotOfDialect};
use crate::wire::json::view::{Lit, View};
use crate::wire::usage::Usage;

/// Choices of one answer; what the vendor lets a caller ask for.
const CHOICES_MAX: usize = 128;

/// What is known of a stream between its chunks.
#[derive(Default)]
pub struct Decoder {
    started: bool,
    choices: Vec<Choice>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the data of one event, an object, and adds what happens to `out`.
    ///
    /// # Errors
    /// It is no chunk of this dialect. The stream cannot go on from there.
    pub fn event<'e>(
        &mut self,
        data: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let names = ["id", "model", "created", "choices", "usage"];
        let [id, model, created, choices, usage] = fields(data, names, |_| {});
        if choices.is_some_and(|it| !it.is_array()) {
            return Err(NotOfDialect("a chunk whose choices are no list"));
        }
        let mut choices = choices.map_or(View::new("[]"), |it| it).items().peekable();
        let usage = usage.and_then(object);
        let has_choices = choices.peek().is_some();
        let id = id.and_then(said::text);
        // Azure begins with a chunk about the prompt that has neither id nor model.
        if !self.started && (has_choices || usage.is_some() || id.is_some()) {
            self.started = true;
            out.push(Event::Start {
                id: id.unwrap_or_default(),
                model: model.and_then(View::lit).unwrap_or_default(),
                created: created.and_then(View::u64),
                usage: None,
            });
        }
        for (position, choice) in choices.enumerate() {
            self.choice(position, choice, out)?;
        }
        if let Some(usage) = usage {
            // Alone, it is the last chunk.
            if !has_choices {
                self.finish(false, out);
            }
            let usage = Usage::of_object(usage.text());
            out.push(Event::Usage(usage.tokens(Dialect::Openai)));
        }
        Ok(())
    }

    /// The stream's success marker came: what is still owed, then the end.
    pub fn end<'e>(&mut self, out: &mut Vec<Event<'e>>) {
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                id: Lit::default(),
                model: Lit::default(),
                created: None,
                usage: None,
            });
        }
        self.finish(true, out);
        out.push(Event::End);
    }

    fn choice<'e>(
        &mut self,
        position: usize,
        choice: View<'e>,
        out: &mut Vec<Event<'e>>,
    ) -> Result<(), NotOfDialect> {
        let names = ["index", "delta", "logprobs", "finish_reason"];
        let [index, delta, logprobs, reason] = fields(choice, names, |_| {});
        let index = index.and_then(View::u64).unwrap_or(position as u64);
        let index = u32::try_from(index).map_err(|_| NotOfDialect("a choice beyond any index"))?;
        let known = self.choices.iter().position(|it| it.index == index);
        let at = match known {
            Some(at) => at,
            None if self.choices.len() == CHOICES_MAX => {
                return Err(NotOfDialect("more choices than can be asked for"));
            }
            None => {
                self.choices.push(Choice::new(index));
                self.choices.len() - 1
            }
        };
        let state = &mut self.choices[at];
        if let Some(delta) = delta.and_then(object) {
            state.delta(&Said::of(delta), out)?;
        }
        if let Some(value) = logprobs.and_then(object) {
            let choice = index;
            out.push(Event::Logprobs { choice, value });
        }
        if let Some(reason) = reason
            && let Some(stop) = said::stop(reason, false)?
        {
            state.stop = Some(stop);
        }
        Ok(())
    }

    /// Finishes the choices that gave a reason, or all that have begun.
    fn finish<'e>(&mut self, all: bool, out: &mut Vec<Event<'e>>) {
        for choice in &mut self.choices {
            if !choice.finished && (all || choice.stop.is_some()) {
                choice.finish(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::{Delta, PartStart};

    /// What happens as the data of `chunks` comes, and then the end.
    fn decode(chunks: &[&str]) -> Result<Vec<String>, NotOfDialect> {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            let mut out = Vec::new();
            decoder.event(View::new(chunk), &mut out)?;
            seen.extend(out.iter().map(brief));
        }
        let mut out = Vec::new();
        decoder.end(&mut out);
        seen.extend(out.iter().map(brief));
        Ok(seen)
    }

    /// An event in a word or two: choice, part, and what it says.
    fn brief(event: &Event<'_>) -> String {
        match event {
            Event::Start { id, .. } => format!("start {}", id.as_escaped()),
            Event::PartStart { choice, part, kind } => {
                let kind = match kind {
                    PartStart::Text => "text".to_owned(),
                    PartStart::Thinking => "thinking".to_owned(),
                    PartStart::Refusal => "refusal".to_owned(),
                    PartStart::RedactedThinking(data) => format!("redacted {}", data.as_escaped()),
                    PartStart::ToolCall { id, name } => {
                        format!("call {} {}", id.as_escaped(), name.as_escaped())
                    }
                };
                format!("{choice}.{part} {kind}")
            }
            Event::PartDelta {
                choice,
                part,
                delta,
            } => {
                let (mark, lit) = match delta {
                    Delta::Text(lit) | Delta::Refusal(lit) | Delta::Thinking(lit) => ("+", lit),
                    Delta::Arguments(lit) => ("(", lit),
                    Delta::Signature(lit) => ("signed ", lit),
                };
                format!("{choice}.{part} {mark}{}", lit.as_escaped())
            }
            Event::PartStop { choice, part } => format!("{choice}.{part} stop"),
            Event::Logprobs { choice, value } => format!("{choice} logprobs {}", value.text()),
            Event::Finish { choice, stop, .. } => format!("{choice} {stop:?}"),
            Event::Usage(tokens) => format!("usage {} {}", tokens.input, tokens.output),
            Event::End => "end".to_owned(),
        }
    }

    /// Checks what happens between start and end as a choice has these deltas and `reason`.
    fn check(deltas: &[&str], reason: &str, expected: &[&str]) {
        let mut chunks: Vec<String> = deltas
            .iter()
            .map(|delta| {
                format!(
                    r#"{{"id":"i","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
                )
            })
            .collect();
        chunks.push(format!(
            r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":{reason}}}]}}"#
        ));
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let seen = decode(&chunks).unwrap();
        let [start, seen @ .., end] = seen.as_slice() else {
            panic!("{seen:?}");
        };
        assert_eq!((start.as_str(), end.as_str()), ("start i", "end"));
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_text_begins_with_its_first_words_and_is_finished_once() {
        let seen = decode(&[
            r#"{"id":"","choices":[],"prompt_filter_results":[]}"#,
            r#"{"id":"i","model":"m","created":3,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
            r#"{"id":"i","choices":[{"index":0,"delta":{"content":"a\n"},"logprobs":{"content":[]},"finish_reason":"stop"}]}"#,
            r#"{"id":"i","choices":[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":"stop"}]}"#,
            r#"{"id":"i","choices":[{"index":0,"delta":{"content":null}}]}"#,
            r#"{"id":"i","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            r#"{"id":"i","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        ]);
        let expected = [
            "start i",
            "0.0 text",
            "0.0 +a\\n",
            r#"0 logprobs {"content":[]}"#,
            "0.0 +b",
            "0.0 stop",
            "0 End",
            "usage 5 2",
            "end",
        ];
        assert_eq!(seen.unwrap(), expected);
    }

    #[test]
    fn another_kind_is_another_part() {
        check(
            &[
                r#"{"reasoning_content":"h"}"#,
                r#"{"reasoning":"m"}"#,
                r#"{"content":"a"}"#,
                r#"{"refusal":"no"}"#,
                r#"{"content":[{"type":"text","text":"b"}]}"#,
            ],
            "\"length\"",
            &[
                "0.0 thinking",
                "0.0 +h",
                "0.0 +m",
                "0.0 stop",
                "0.1 text",
                "0.1 +a",
                "0.1 stop",
                "0.2 refusal",
                "0.2 +no",
                "0.2 stop",
                "0.3 text",
                "0.3 +b",
                "0.3 stop",
                "0 MaxTokens",
            ],
        );
    }

    #[test]
    fn blocks_sign_thoughts_and_do_not_repeat_them() {
        check(
            &[
                r#"{"reasoning_content":"hm"}"#,
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}]}"#,
                r#"{"thinking_blocks":[{"type":"redacted_thinking","data":"x"}]}"#,
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"oh"}]}"#,
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"t"}]}"#,
            ],
            "\"content_filter\"",
            &[
                "0.0 thinking",
                "0.0 +hm",
                "0.0 signed s",
                "0.0 stop",
                "0.1 redacted x",
                "0.1 stop",
                "0.2 thinking",
                "0.2 +oh",
                "0.2 signed t",
                "0.2 stop",
                "0 Refusal",
            ],
        );
    }

    #[test]
    fn calls_may_come_in_turns() {
        check(
            &[
                r#"{"content":"a"}"#,
                r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"y","function":{"name":"g","arguments":"{"}},{"index":0,"function":{"arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"}"}},{"index":1,"id":null,"function":{"name":null,"arguments":"}"}}]}"#,
            ],
            "\"stop\"",
            &[
                "0.0 text",
                "0.0 +a",
                "0.0 stop",
                "0.1 call x f",
                "0.2 call y g",
                "0.2 ({",
                "0.1 ({",
                "0.1 (}",
                "0.2 (}",
                "0.1 stop",
                "0.2 stop",
                "0 ToolCalls",
            ],
        );
    }

    #[test]
    fn calls_without_indices_or_ids_are_told_apart() {
        check(
            &[
                r#"{"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"id":"y","function":{"name":"f"}}]}"#,
                r#"{"tool_calls":[{"function":{"arguments":{"a": "b"}}}]}"#,
            ],
            "null",
            &[
                "0.0 call x f",
                "0.0 ({}",
                "0.0 stop",
                "0.1 call y f",
                "0.1 ({\\\"a\\\": \\\"b\\\"}",
                "0.1 stop",
                "0 ToolCalls",
            ],
        );
        check(
            &[
                r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":7,"id":"z"}]}"#,
                r#"{"tool_calls":[{"index":7,"function":{"name":"g"}}]}"#,
            ],
            "\"tool_calls\"",
            &[
                "0.0 call call_0_0 f",
                "0.0 ({}",
                "0.0 stop",
                "0.1 call call_0_1 f",
                "0.1 ({}",
                "0.2 call z g",
                "0.1 stop",
                "0.2 stop",
                "0 ToolCalls",
            ],
        );
        check(
            &[
                r#"{"function_call":{"name":"f","arguments":""}}"#,
                r#"{"function_call":{"arguments":"{}"}}"#,
            ],
            "\"function_call\"",
            &["0.0 call call_0_0 f", "0.0 ({}", "0.0 stop", "0 ToolCalls"],
        );
    }

    #[test]
    fn the_marker_vouches_for_what_gave_no_reason() {
        check(&[r#"{"role":"assistant"}"#], "null", &["0 End"]);
        check(
            &[r#"{"content":"a"}"#],
            "null",
            &["0.0 text", "0.0 +a", "0.0 stop", "0 End"],
        );
        check(
            &[r#"{"content":"a"}"#],
            "\"tool_calls\"",
            &["0.0 text", "0.0 +a", "0.0 stop", "0 End"],
        );
        assert_eq!(decode(&[]).unwrap(), ["start ", "end"]);
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        let check = |chunks: &[&str], expected: &str| {
            assert_eq!(decode(chunks).unwrap_err().0, expected);
        };
        check(&[r#"{"choices":1}"#], "a chunk whose choices are no list");
        check(
            &[r#"{"choices":[{"index":4294967296}]}"#],
            "a choice beyond any index",
        );
        check(
            &[
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#,
            ],
            "a tool call without a name",
        );
        check(
            &[
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
                r#"{"choices":[],"usage":{}}"#,
                r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            ],
            "a delta of a choice that is finished",
        );
        let many: Vec<String> = (0..=CHOICES_MAX)
            .map(|index| format!(r#"{{"choices":[{{"index":{index}}}]}}"#))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, "more choices than can be asked for");
    }
}
