//! The parts of an answer: a thought, words, a JSON document, a refusal, tool calls. Pure.
//!
//! Every part is a row of tokens, none of which is made before it is asked for. What a part looks
//! like on the wire is the business of the wordings (`openai`, `anthropic`, `responses`). Start at
//! [`Part`].

use super::text::Words;
use super::tool::Call;

/// Bytes of JSON that make one token, and so one event of a stream.
const FRAGMENT_BYTES: usize = 12;

/// Text that is sent piece by piece as it is, rather than word by word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragments(String);

impl From<String> for Fragments {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Fragments {
    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// How many fragments there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len().div_ceil(FRAGMENT_BYTES)).unwrap_or(u32::MAX)
    }

    /// Fragment `index`.
    pub fn get(&self, index: u32) -> &str {
        &self.0[self.boundary(index)..self.boundary(index.saturating_add(1))]
    }

    /// Keeps the first `most` fragments, and says whether that took any away.
    pub fn cut(&mut self, most: u32) -> bool {
        let is_longer = self.count() > most;
        if is_longer {
            self.0.truncate(self.boundary(most));
        }
        is_longer
    }

    fn boundary(&self, index: u32) -> usize {
        let at = (index as usize).saturating_mul(FRAGMENT_BYTES);
        self.0.floor_char_boundary(at)
    }
}

/// Tool calls whose fragments come one call after the other, or alternate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many calls other parts have made before.
    pub first: usize,
    /// Never empty.
    calls: Vec<Call>,
    /// Which fragment of which call each token is, where they alternate.
    order: Vec<(usize, u32)>,
}

impl Calls {
    /// One call, after `first` others.
    pub fn one(first: usize, call: Call) -> Self {
        Self {
            first,
            calls: vec![call],
            order: Vec::new(),
        }
    }

    /// Several calls whose fragments alternate.
    pub fn alternating(calls: Vec<Call>) -> Self {
        let longest = calls.iter().map(|call| call.arguments.count()).max();
        let rounds = (0..longest.unwrap_or(0)).flat_map(|index| {
            let in_round = calls.iter().enumerate();
            let in_round = in_round.filter(move |(_, call)| index < call.arguments.count());
            in_round.map(move |(number, _)| (number, index))
        });
        let order = rounds.collect();
        Self {
            first: 0,
            calls,
            order,
        }
    }

    /// The calls, in order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How many tokens all arguments have together.
    pub fn count(&self) -> u32 {
        let counts = self.calls.iter().map(|call| call.arguments.count());
        counts.fold(0, u32::saturating_add)
    }

    /// The number of the call, counted over all parts, and the fragment that token `index` is.
    pub fn fragment(&self, index: u32) -> (usize, &str) {
        let alternating = self.order.get(index as usize);
        let (number, index) = alternating.copied().unwrap_or((0, index));
        (self.first + number, self.calls[number].arguments.get(index))
    }
}

/// One part of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    /// What the model thinks before it answers.
    Thinking(Words),
    /// The words of each choice.
    Text,
    /// A JSON document that was asked for.
    Json(Fragments),
    /// Why the model will not answer.
    Refusal(Words),
    /// Tool calls; one, unless they alternate.
    Calls(Calls),
}

impl Part {
    /// How many tokens the part has in the choice whose words are `words`.
    pub fn tokens(&self, words: &Words) -> u32 {
        match self {
            Self::Text => words.count(),
            Self::Thinking(own) | Self::Refusal(own) => own.count(),
            Self::Json(document) => document.count(),
            Self::Calls(calls) => calls.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> Call {
        Call {
            name_json: "\"f\"".to_owned(),
            arguments: arguments.to_owned().into(),
        }
    }

    #[test]
    fn fragments_add_up_and_can_be_cut() {
        let text = r#"{"a":"üüüüüüüüüüü","b":1}"#;
        let mut fragments = Fragments::from(text.to_owned());
        let joined: String = (0..fragments.count())
            .map(|index| fragments.get(index))
            .collect();
        assert_eq!(joined, text);
        assert!(!fragments.cut(9) && fragments.cut(1) && !fragments.cut(1));
        assert_eq!((fragments.count(), fragments.text()), (1, "{\"a\":\"üüü"));
    }

    #[test]
    fn calls_alternate_until_the_longest_has_ended() {
        let long = "[\"0123456789\",\"0123456789\",3]";
        let check = |calls: Calls, expected: &[usize]| {
            let numbers = (0..calls.count()).map(|index| calls.fragment(index).0);
            assert_eq!(numbers.collect::<Vec<_>>(), expected);
            for (number, call) in calls.calls().iter().enumerate() {
                let own = (0..calls.count()).map(|index| calls.fragment(index));
                let own = own.filter(|(of, _)| *of == calls.first + number);
                let joined: String = own.map(|(_, text)| text).collect();
                assert_eq!(joined, call.arguments.text());
            }
        };
        check(Calls::one(2, call(long)), &[2, 2, 2]);
        let three = vec![call(long), call("{}"), call(long)];
        check(Calls::alternating(three), &[0, 1, 2, 0, 2, 0, 2]);
    }
}
