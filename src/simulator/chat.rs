//! A generated answer of any endpoint, as a body or event by event. Pure.
//!
//! Every event belongs to the opening (role, `message_start`), to a part (what begins it, its
//! tokens, what ends it), or to the closing (finish reason, usage, end marker). Nothing is made
//! before it is asked for: an answer of a million tokens costs no more memory than one of ten.
//! `openai`, `anthropic` and their like hold the wording.

use super::part::Part;
use super::text::Words;
use super::{anthropic, legacy, logprobs, openai, responses};

/// Whose wording an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's `/v1/chat/completions`.
    Chat,
    /// OpenAI's `/v1/completions`.
    Legacy,
    /// OpenAI's `/v1/responses`.
    Responses,
    /// Anthropic's `/v1/messages`.
    Messages,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was complete.
    Complete,
    /// `max_tokens` was reached.
    Length,
    /// A stop sequence came up.
    Stopped,
    /// It calls tools.
    Tool,
    /// The model refused.
    Refused,
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
    pub api: Api,
    /// From which the answer's ids are made.
    pub id: u64,
    /// The model's name as JSON, quotes included.
    pub model_json: String,
    /// Of the prompt, without those that came from the cache.
    pub prompt_tokens: u32,
    /// Of the prompt, from the provider's cache.
    pub cached_tokens: u32,
    /// Whether an OpenAI stream ends with its usage.
    pub include_usage: bool,
    /// Never empty; only OpenAI's older endpoints have more than one.
    pub choices: Vec<Choice>,
    /// What every choice consists of, in order; never empty.
    pub parts: Vec<Part>,
    /// Which stop sequence came up in the first choice.
    pub stop_sequence: Option<String>,
    /// What every OpenAI event begins with; made once.
    pub event_head: Vec<u8>,
    /// The members of a response that repeat its request.
    pub echo: Vec<u8>,
    /// How many alternatives to each token are told, if how likely it was is asked for.
    pub logprobs: Option<u8>,
    /// Whether a response's thoughts carry their encrypted form.
    pub is_encrypted: bool,
}

impl Chat {
    /// The tokens of one part of choice `index`.
    pub fn tokens(&self, part: usize, index: usize) -> u32 {
        self.parts[part].tokens(&self.choices[index].words)
    }

    /// The tokens of one part of the choice where it is longest.
    pub fn tokens_most(&self, part: usize) -> u32 {
        let all = (0..self.choices.len()).map(|index| self.tokens(part, index));
        all.max().unwrap_or(0)
    }

    /// The tokens of all choices.
    pub fn tokens_total(&self) -> u32 {
        self.sum(|_| true)
    }

    /// The tokens of all that was only thought.
    pub fn tokens_thought(&self) -> u32 {
        self.sum(|part| matches!(part, Part::Thinking(_)))
    }

    fn sum(&self, counted: impl Fn(&Part) -> bool) -> u32 {
        let parts = self.parts.iter().filter(|part| counted(part));
        let all = parts.flat_map(|part| {
            let choices = self.choices.iter();
            choices.map(|choice| part.tokens(&choice.words))
        });
        all.fold(0, u32::saturating_add)
    }

    /// About how many bytes what is told of a token adds to it.
    pub fn logprob_bytes(&self) -> usize {
        self.logprobs.map_or(0, logprobs::entry_bytes)
    }

    /// How many events open the stream.
    pub fn openings(&self) -> usize {
        match self.api {
            Api::Chat => self.choices.len(),
            Api::Legacy => 0,
            Api::Responses => responses::OPENINGS,
            Api::Messages => anthropic::OPENINGS,
        }
    }

    /// How many events begin a part.
    pub fn part_openings(&self, part: usize) -> usize {
        match self.api {
            Api::Chat => openai::part_openings(self, part),
            Api::Legacy => 0,
            Api::Responses => responses::part_openings(&self.parts[part]),
            Api::Messages => anthropic::part_openings(part),
        }
    }

    /// How many events end a part.
    pub fn part_closings(&self, part: usize) -> usize {
        match self.api {
            Api::Chat | Api::Legacy => 0,
            Api::Responses => responses::part_closings(&self.parts[part]),
            Api::Messages => anthropic::part_closings(&self.parts[part]),
        }
    }

    /// How many events close the stream; the last one is the end marker.
    pub fn closings(&self) -> usize {
        match self.api {
            Api::Chat | Api::Legacy => self.choices.len() + usize::from(self.include_usage) + 1,
            Api::Responses => responses::CLOSINGS,
            Api::Messages => anthropic::CLOSINGS,
        }
    }

    /// Appends event `number` (from 0) of the stream.
    pub fn event(&self, event: Event, number: u32, out: &mut Vec<u8>) {
        match self.api {
            Api::Chat => openai::event(self, event, out),
            Api::Legacy => legacy::event(self, event, out),
            Api::Responses => responses::event(self, event, number, out),
            Api::Messages => anthropic::event(self, event, out),
        }
    }

    /// Appends the body of a plain answer.
    pub fn plain(&self, out: &mut Vec<u8>) {
        match self.api {
            Api::Chat => openai::plain(self, out),
            Api::Legacy => legacy::plain(self, out),
            Api::Responses => responses::plain(self, out),
            Api::Messages => anthropic::plain(self, out),
        }
    }
}

/// One event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One of those that open the stream.
    Opening(usize),
    /// One of those that begin a part.
    PartOpening { part: usize, index: usize },
    /// One token of one choice.
    Token {
        part: usize,
        index: u32,
        choice: usize,
    },
    /// One of those that end a part.
    PartClosing { part: usize, index: usize },
    /// One of those that close the stream.
    Closing(usize),
}
