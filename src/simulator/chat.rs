//! A chat answer in either dialect, as a body or event by event. Pure.
//!
//! Every event is one of the opening (role, `message_start`), the tokens, or the closing (finish
//! reason, usage, end marker). Nothing is made before it is asked for: an answer of a million
//! tokens costs no more memory than one of ten. `openai` and `anthropic` hold the wording.

use super::fault::Dialect;
use super::text::Words;
use super::tool::Call;
use super::{anthropic, openai};

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was complete.
    Complete,
    /// `max_tokens` was reached.
    Length,
    /// A stop sequence came up.
    Stopped,
    /// It calls a tool.
    Tool,
}

/// One of `n` answers.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub words: Words,
    pub finish: Finish,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Chat {
    pub dialect: Dialect,
    /// From which the answer's ids are made.
    pub id: u64,
    /// The model's name as JSON, quotes included.
    pub model_json: String,
    pub prompt_tokens: u32,
    /// Whether an OpenAI stream ends with its usage.
    pub include_usage: bool,
    /// Never empty; Anthropic has exactly one.
    pub choices: Vec<Choice>,
    /// Instead of words, in every choice.
    pub call: Option<Call>,
    /// Which stop sequence came up in the first choice.
    pub stop_sequence: Option<String>,
    /// What every OpenAI event begins with; made once.
    pub event_head: Vec<u8>,
}

impl Chat {
    /// The tokens of choice `index`.
    pub fn tokens(&self, index: usize) -> u32 {
        match &self.call {
            Some(call) => call.fragments(),
            None => self.choices[index].words.count(),
        }
    }

    /// The tokens of the longest choice.
    pub fn tokens_most(&self) -> u32 {
        let all = (0..self.choices.len()).map(|index| self.tokens(index));
        all.max().unwrap_or(0)
    }

    /// The tokens of all choices.
    pub fn tokens_total(&self) -> u32 {
        let all = (0..self.choices.len()).map(|index| self.tokens(index));
        all.fold(0, u32::saturating_add)
    }

    /// How many events open the stream.
    pub fn openings(&self) -> usize {
        match self.dialect {
            Dialect::OpenAi => self.choices.len(),
            Dialect::Anthropic => anthropic::OPENINGS,
        }
    }

    /// How many events close it; the last one is the end marker.
    pub fn closings(&self) -> usize {
        match self.dialect {
            Dialect::OpenAi => self.choices.len() + usize::from(self.include_usage) + 1,
            Dialect::Anthropic => anthropic::CLOSINGS,
        }
    }

    /// Appends opening event `index`.
    pub fn opening(&self, index: usize, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::OpenAi => openai::opening(self, index, out),
            Dialect::Anthropic => anthropic::opening(self, index, out),
        }
    }

    /// Appends the event of one token of one choice.
    pub fn token(&self, index: u32, choice: usize, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::OpenAi => openai::token(self, index, choice, out),
            Dialect::Anthropic => anthropic::token(self, index, out),
        }
    }

    /// Appends closing event `index`.
    pub fn closing(&self, index: usize, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::OpenAi => openai::closing(self, index, out),
            Dialect::Anthropic => anthropic::closing(self, index, out),
        }
    }

    /// Appends the body of a plain answer.
    pub fn plain(&self, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::OpenAi => openai::plain(self, out),
            Dialect::Anthropic => anthropic::plain(self, out),
        }
    }
}
