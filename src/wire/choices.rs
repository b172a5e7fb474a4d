//! Which of a streamed answer's choices have ended, for streams of OpenAI's that close without
//! their marker.
//!
//! An answer without `[DONE]` is whole if as many choices as were asked for, and all that began,
//! have said why they stopped, and meant it: some servers send an empty reason, or one with every
//! chunk. Choices may come one after the other. Nearly every chunk belongs to the first choice and
//! has no reason; those are not read.

use std::collections::BTreeSet;

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

/// Choices that are told apart; beyond them nothing is taken for whole.
const CHOICES_MAX: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub struct Choices {
    /// How many were asked for. `None`: not known, so nothing is taken for whole.
    asked: Option<u32>,
    begun: BTreeSet<u32>,
    done: BTreeSet<u32>,
    /// A choice went on after it had said why it stopped, so nothing it says means its end.
    is_unreliable: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    delta: Value,
    #[serde(default)]
    text: Value,
}

impl Choice {
    /// Whether it brings a part of the answer.
    fn says(&self) -> bool {
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let is_delta = |value: &Value| {
            let lists = value.as_array().is_some_and(|list| !list.is_empty());
            is_text(value) || lists
        };
        is_text(&self.text)
            || self.delta.as_object().is_some_and(|delta| {
                let parts = delta.iter().filter(|(name, _)| *name != "role");
                parts.map(|(_, value)| value).any(is_delta)
            })
    }
}

impl Choices {
    /// None has begun of the `asked` ones.
    pub const fn new(asked: Option<u32>) -> Self {
        Self {
            asked,
            begun: BTreeSet::new(),
            done: BTreeSet::new(),
            is_unreliable: false,
        }
    }

    /// Takes note of a chunk; `may_finish`: it has a finish reason that is a text.
    pub fn observe(&mut self, data: &[u8], may_finish: bool) {
        if !may_finish && self.done.is_empty() && is_of_the_first(data) {
            self.begun.insert(0);
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
            return;
        };
        for choice in chunk.choices {
            if self.begun.len() >= CHOICES_MAX {
                self.is_unreliable = true;
                return;
            }
            self.begun.insert(choice.index);
            let is_done = choice
                .finish_reason
                .as_ref()
                .is_some_and(|it| !it.is_empty());
            self.is_unreliable |= choice.says() && self.done.contains(&choice.index);
            if is_done {
                self.done.insert(choice.index);
            }
        }
    }

    /// Whether every choice that was asked for, or began, has ended.
    pub fn are_done(&self) -> bool {
        let are_all = |asked| self.done.len() >= asked as usize;
        !self.is_unreliable
            && !self.done.is_empty()
            && self.asked.is_some_and(are_all)
            && self.begun.is_subset(&self.done)
    }
}

/// Whether no index but 0 is named: of a choice, or of a tool call within one.
fn is_of_the_first(data: &[u8]) -> bool {
    let key = b"\"index\":";
    memmem::find_iter(data, key).all(|at| {
        let rest = data[at + key.len()..].trim_ascii_start();
        rest.first() == Some(&b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_all_its_choices_are() {
        let check = |chunks: &[(u32, &str, &str)], expected: bool| {
            let mut choices = Choices::new(Some(1));
            for (index, content, reason) in chunks {
                let chunk = format!(
                    r#"{{"choices":[{{"index":{index},"delta":{{"content":"{content}"}},"finish_reason":{reason}}}]}}"#
                );
                choices.observe(chunk.as_bytes(), reason.starts_with('"'));
            }
            assert_eq!(choices.are_done(), expected, "{chunks:?}");
        };
        let (none, stop) = ("null", "\"stop\"");
        check(&[(0, "a", none), (0, "", stop)], true);
        check(&[(0, "a", none), (0, "b", stop)], true);
        check(&[(0, "a", none)], false);
        check(&[(0, "a", "\"\""), (0, "b", "\"\"")], false);
        // A reason with every chunk.
        check(&[(0, "a", stop), (0, "b", stop)], false);
        // One of two was cut.
        check(&[(0, "a", none), (1, "b", none), (0, "", stop)], false);
        check(
            &[(0, "a", none), (1, "b", none), (0, "", stop), (1, "", stop)],
            true,
        );
        check(&[(0, "a", none), (0, "", stop), (1, "b", none)], false);
    }

    #[test]
    fn a_choice_that_has_not_begun_is_waited_for() {
        let end = |index: u32| {
            format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#)
        };
        let mut choices = Choices::new(Some(2));
        choices.observe(end(0).as_bytes(), true);
        assert!(!choices.are_done());
        choices.observe(end(1).as_bytes(), true);
        assert!(choices.are_done());
        let mut unknown = Choices::new(None);
        unknown.observe(end(0).as_bytes(), true);
        assert!(!unknown.are_done());
    }

    #[test]
    fn what_follows_the_end_spoils_nothing() {
        let mut choices = Choices::new(Some(1));
        choices.observe(
            br#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            true,
        );
        choices.observe(br#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false);
        choices.observe(
            br#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            false,
        );
        assert!(choices.are_done());
    }
}
