//! What a model would say: reads a request, and puts together the parts of its answer. Pure.
//!
//! Start at [`chat`], which serves the chat endpoints of both dialects. [`Asked`] is what is left
//! of a request of whichever endpoint once it has been read.

use serde_json::value::RawValue;

use super::behaviour::Behaviours;
use super::body::{self, Messages};
use super::chat::{Api, Chat, Choice, Finish};
use super::fault::{Dialect, Fault};
use super::format;
use super::logprobs::TOP_MAX;
use super::openai;
use super::part::{Calls, Fragments, Part};
use super::reply::{bounded, invalid, json, missing, read};
use super::script::{Plan, Stop};
use super::steps::Body;
use super::text::{self, Purpose, Words};
use super::tool::{self, Ask, Call};

/// Tokens of an answer that nothing else bounds.
const TOKENS_DEFAULT: u32 = 16;
/// Tokens of what is thought before an answer.
const THOUGHT_TOKENS: u32 = 8;
/// Tokens beyond those that `cut`, `stall` and `malformed` need to show themselves.
const TOKENS_BEYOND: u32 = 8;
/// Answers to one request (the vendor's bound).
pub(super) const CHOICES_MAX: i64 = 128;
/// Tokens of all choices together.
const TOKENS_TOTAL_MAX: i64 = 4_000_000;
/// The JSON of all choices together.
const JSON_BYTES_MAX: usize = 64 << 20;
/// What is told of all tokens together: it is not to fill the memory.
const LOGPROBS_BYTES_MAX: usize = 64 << 20;
/// The context window that `context-length` pretends to.
const CONTEXT_TOKENS: u32 = 8192;

/// What decides an answer.
pub(super) struct Asked {
    pub behaviours: Behaviours,
    /// Of the prompt.
    pub seed: u64,
    /// How many answers.
    pub choices: u32,
    /// The most tokens of one.
    pub most: Option<u32>,
    pub stops: Vec<String>,
    pub calls: Vec<Call>,
    /// The document that is asked for.
    pub document: Option<Fragments>,
}

/// What is answered.
pub(super) struct Composed {
    pub parts: Vec<Part>,
    pub choices: Vec<Choice>,
    pub stop_sequence: Option<String>,
}

impl Asked {
    /// Puts the parts together.
    ///
    /// # Errors
    /// More tokens are asked for than all choices may have.
    pub fn compose(self, api: Api) -> Result<Composed, Stop> {
        let n = self.choices;
        let tokens = bound_tokens(&self.behaviours, n)?;
        let calls = self.calls.iter().map(|call| call.arguments.text().len());
        let document = self.document.iter().map(|document| document.text().len());
        if calls.chain(document).sum::<usize>() * n as usize > JSON_BYTES_MAX {
            return Err(invalid("n", "too much JSON for so many answers"));
        }
        let mut left = self.most.unwrap_or(u32::MAX);
        let mut parts = Vec::with_capacity(1);
        if self.behaviours.thinking {
            let count = THOUGHT_TOKENS.min(left);
            let words = Words::with_purpose(Purpose::Thought, self.seed, count);
            parts.push(Part::Thinking(words));
            left -= count;
        }
        if self.behaviours.refusal {
            let count = TOKENS_DEFAULT.min(left);
            let words = Words::with_purpose(Purpose::Refusal, self.seed, count);
            let is_whole = count == TOKENS_DEFAULT;
            let finish = if is_whole {
                Finish::Refused
            } else {
                Finish::Length
            };
            return Ok(finished(parts, Part::Refusal(words), left, finish, n));
        }
        if !self.calls.is_empty() {
            // Only a stream of OpenAI's chat has a place for that: elsewhere a block ends first.
            let interleave = self.behaviours.interleave && api == Api::Chat;
            push_calls(&mut parts, self.calls, interleave);
            return Ok(Composed::same(parts, Finish::Tool, n));
        }
        if let Some(mut document) = self.document {
            let is_cut = document.cut(left);
            let finish = if is_cut {
                Finish::Length
            } else {
                Finish::Complete
            };
            return Ok(finished(parts, Part::Json(document), left, finish, n));
        }
        if left == 0 {
            return Ok(Composed::same(parts, Finish::Length, n));
        }
        parts.push(Part::Text);
        let mut stop_sequence = None;
        let choices = (0..n).map(|index| {
            let (choice, stop) = choice(self.seed, index, tokens, left, &self.stops);
            if index == 0 {
                stop_sequence = stop;
            }
            choice
        });
        let choices = choices.collect();
        Ok(Composed {
            parts,
            choices,
            stop_sequence,
        })
    }
}

impl Composed {
    /// `n` choices without words of their own.
    fn same(parts: Vec<Part>, finish: Finish, n: u32) -> Self {
        let words = Words::new(0, 0);
        Self {
            parts,
            choices: vec![Choice { words, finish }; n as usize],
            stop_sequence: None,
        }
    }
}

/// An answer that ends with `last`, unless nothing is `left` for it.
fn finished(mut parts: Vec<Part>, last: Part, left: u32, finish: Finish, n: u32) -> Composed {
    if left > 0 {
        parts.push(last);
    }
    Composed::same(parts, finish, n)
}

fn push_calls(parts: &mut Vec<Part>, calls: Vec<Call>, interleave: bool) {
    if interleave && calls.len() > 1 {
        parts.push(Part::Calls(Calls::alternating(calls)));
    } else {
        let each = calls.into_iter().enumerate();
        parts.extend(each.map(|(number, call)| Part::Calls(Calls::one(number, call))));
    }
}

/// The conversation, read, and how the model behaves.
fn conversation(
    plan: &mut Plan<'_>,
    chat: &mut body::Chat<'_>,
) -> Result<(Messages, Behaviours, u64), Stop> {
    let Some(model) = chat.model.take() else {
        return Err(missing(plan.dialect, "model"));
    };
    plan.stream = chat.stream.unwrap_or(false);
    let model = plan.model.insert(model).clone();
    let behaviours = plan.behave(Some(&model))?;
    let Some(raw) = chat.messages else {
        return Err(missing(plan.dialect, "messages"));
    };
    let messages = Messages::read(raw).map_err(|error| invalid("messages", error))?;
    if messages.count == 0 {
        return Err(invalid("messages", "at least one message is required"));
    }
    let system = text::hash(chat.system.map_or("", RawValue::get).as_bytes());
    Ok((
        messages,
        behaviours,
        text::hash(raw.get().as_bytes()) ^ system,
    ))
}

fn prompt_tokens(chat: &body::Chat<'_>, messages: &Messages) -> u32 {
    let bytes = messages.content_bytes + chat.beside_messages_bytes();
    text::prompt_tokens(bytes, messages.count)
}

/// The most tokens that the request allows for, if it says so.
fn tokens_max(dialect: Dialect, request: &body::Chat<'_>) -> Result<Option<u32>, Stop> {
    let asked = match dialect {
        Dialect::OpenAi => request.max_completion_tokens.or(request.max_tokens),
        Dialect::Anthropic if request.max_tokens.is_none() => {
            return Err(missing(dialect, "max_tokens"));
        }
        Dialect::Anthropic => request.max_tokens,
    };
    asked
        .map(|asked| bounded("max_tokens", asked, i64::from(u32::MAX)))
        .transpose()
}

/// Answers a chat request of either dialect.
pub(super) fn chat(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let mut request: body::Chat<'_> = read(plan)?;
    let (messages, behaviours, seed) = conversation(plan, &mut request)?;
    let api = match plan.dialect {
        Dialect::OpenAi => Api::Chat,
        Dialect::Anthropic => Api::Messages,
    };
    let prompt = prompt_tokens(&request, &messages);
    refuse_prompt(api, &behaviours, &messages, prompt)?;
    let most = tokens_max(plan.dialect, &request)?;
    let n = match plan.dialect {
        Dialect::OpenAi => bounded("n", request.n.unwrap_or(1), CHOICES_MAX)?,
        Dialect::Anthropic => 1,
    };
    let calls = tool::decide(Ask {
        tools: request.tools,
        choice: request.tool_choice,
        wanted: behaviours.tools,
        single: request.parallel_tool_calls == Some(false),
        after_result: messages.ends_with_tool_result,
    })
    .map_err(|error| {
        Fault::new(400, error)
            .param("tool_choice")
            .code("invalid_value")
    })?;
    let stops = request.stops().map_err(|error| invalid("stop", error))?;
    let document =
        format::asked(&request, seed).map_err(|error| invalid("response_format", error))?;
    let asked = Asked {
        behaviours,
        seed,
        choices: n,
        most,
        stops,
        calls,
        document,
    };
    let include_usage = request
        .stream_options
        .and_then(|options| options.include_usage);
    let logprobs = logprobs(api, &request)?;
    let mut chat = answer(plan, api, prompt, asked)?;
    chat.logprobs = logprobs;
    if chat.tokens_total() as usize * chat.logprob_bytes() > LOGPROBS_BYTES_MAX {
        return Err(invalid("logprobs", "too much for so many tokens"));
    }
    if plan.stream && api == Api::Chat {
        chat.include_usage = include_usage.unwrap_or(false);
        chat.event_head = openai::event_head(chat.id, &chat.model_json);
    }
    Ok(body(plan, chat))
}

/// How many alternatives to each token are asked for, if any word of that is said.
fn logprobs(api: Api, request: &body::Chat<'_>) -> Result<Option<u8>, Stop> {
    if api != Api::Chat || request.logprobs != Some(true) {
        return Ok(None);
    }
    let asked = request.top_logprobs.unwrap_or(0);
    let top = u8::try_from(asked).ok().filter(|top| *top <= TOP_MAX);
    let wrong = format_args!("expected 0 to {TOP_MAX}, but got {asked}.");
    top.map(Some).ok_or_else(|| invalid("top_logprobs", wrong))
}

/// The answer of whichever endpoint.
pub(super) fn answer(
    plan: &Plan<'_>,
    api: Api,
    prompt: u32,
    asked: Asked,
) -> Result<Box<Chat>, Stop> {
    let model = plan.model.as_deref().unwrap_or_default();
    let id = text::mix(asked.seed ^ text::hash(model.as_bytes()));
    let cached_tokens = asked.behaviours.cached;
    let composed = asked.compose(api)?;
    Ok(Box::new(Chat {
        api,
        id,
        model_json: json(model),
        prompt_tokens: prompt,
        cached_tokens,
        include_usage: false,
        choices: composed.choices,
        parts: composed.parts,
        stop_sequence: composed.stop_sequence,
        event_head: Vec::new(),
        echo: Vec::new(),
        logprobs: None,
        is_encrypted: false,
    }))
}

/// The answer, plain or streamed as was asked for.
pub(super) fn body(plan: &Plan<'_>, chat: Box<Chat>) -> Body {
    if plan.stream {
        Body::Events(chat)
    } else {
        Body::Plain(chat)
    }
}

/// The behaviours that refuse the prompt itself.
pub(super) fn refuse_prompt(
    api: Api,
    behaviours: &Behaviours,
    messages: &Messages,
    prompt: u32,
) -> Result<(), Stop> {
    if behaviours.context_length {
        let tokens = prompt.saturating_add(CONTEXT_TOKENS);
        let too_long = |text: String| Fault::new(400, text).code("context_length_exceeded");
        let resulted = |what: &str| {
            format!(
                "This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your \
                 {what} resulted in {tokens} tokens. Please reduce the length of the {what}."
            )
        };
        return Err(match api {
            Api::Chat => too_long(resulted("messages")).param("messages"),
            Api::Legacy => too_long(resulted("prompt")).param("prompt"),
            Api::Responses => {
                let text = "Your input exceeds the context window of this model. Please adjust \
                            your input and try again.";
                too_long(text.to_owned()).param("input")
            }
            Api::Messages => Fault::new(
                400,
                format!("prompt is too long: {tokens} tokens > {CONTEXT_TOKENS} maximum"),
            ),
        }
        .into());
    }
    if behaviours.no_prefill && messages.ends_with_assistant {
        let text = "This model does not support assistant message prefill. The conversation must \
                    end with a user message.";
        return Err(Fault::new(400, text).param("messages").into());
    }
    Ok(())
}

/// How many tokens each of `n` answers has, if all together are not too many.
pub(super) fn bound_tokens(behaviours: &Behaviours, n: u32) -> Result<u32, Stop> {
    let tokens = tokens(behaviours);
    if i64::from(tokens) * i64::from(n) > TOKENS_TOTAL_MAX {
        let why = format_args!("{n} answers of {tokens} tokens are too much");
        return Err(invalid("n", why));
    }
    Ok(tokens)
}

/// How many tokens an answer has before `max_tokens` and stop sequences shorten it.
fn tokens(behaviours: &Behaviours) -> u32 {
    if let Some(pace) = behaviours.pace {
        return pace.tokens;
    }
    let shown = [behaviours.cut, behaviours.stall, behaviours.malformed];
    let most = shown.into_iter().flatten().max().unwrap_or(0);
    TOKENS_DEFAULT.max(most.saturating_add(TOKENS_BEYOND))
}

/// One answer in words, and the stop sequence that ended it.
fn choice(
    seed: u64,
    index: u32,
    tokens: u32,
    most: u32,
    stops: &[String],
) -> (Choice, Option<String>) {
    let seed = if index == 0 {
        seed
    } else {
        text::mix(seed ^ u64::from(index))
    };
    let bounded = most.min(tokens);
    let mut words = Words::new(seed, bounded);
    let mut finish = if bounded < tokens {
        Finish::Length
    } else {
        Finish::Complete
    };
    let mut stopped = None;
    if !stops.is_empty()
        && let Some(stop) = words.stop_before(stops)
    {
        finish = Finish::Stopped;
        stopped = Some(stop.to_owned());
    }
    (Choice { words, finish }, stopped)
}

/// Counts the tokens of a prompt.
pub(super) fn count_tokens(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let mut request: body::Chat<'_> = read(plan)?;
    let (messages, _, _) = conversation(plan, &mut request)?;
    plan.stream = false;
    let tokens = prompt_tokens(&request, &messages);
    Ok(Body::Ready(
        format!("{{\"input_tokens\":{tokens}}}").into_bytes(),
    ))
}
