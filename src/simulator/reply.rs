//! The routes of the simulator and the bodies that answer them. Pure; called by `script::plan`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::behaviour::{Behaviours, Spec};
use super::body::{self, Inputs, Messages};
use super::chat::{Chat, Choice, Finish};
use super::fault::{Dialect, Fault, push_json};
use super::openai::Vectors;
use super::script::{Plan, Stop, unknown_model};
use super::steps::Body;
use super::text::{self, Words};
use super::{anthropic, openai, tool};

/// The key that is refused; any other, and none, is accepted.
const BAD_KEY: &str = "bad-key";
/// Tokens of an answer that nothing else bounds.
const TOKENS_DEFAULT: u32 = 16;
/// Tokens beyond those that `cut`, `stall` and `malformed` need to show themselves.
const TOKENS_BEYOND: u32 = 8;
/// Answers to one request (the vendor's bound).
const CHOICES_MAX: i64 = 128;
/// Tokens of all choices together.
const TOKENS_TOTAL_MAX: i64 = 4_000_000;
/// Dimensions of a vector where none are asked for, and the most that can be.
const DIMENSIONS_DEFAULT: i64 = 256;
const DIMENSIONS_MAX: i64 = 4096;
/// Numbers in one embeddings answer.
const VECTOR_VALUES_MAX: usize = 4 << 20;
/// The context window that `context-length` pretends to.
const CONTEXT_TOKENS: u32 = 8192;

/// What answers a route.
type Route = fn(&mut Plan<'_>) -> Result<Body, Stop>;

/// The body that answers the request.
pub(super) fn body(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    if plan.request.api_key == Some(BAD_KEY) {
        let message = match plan.dialect {
            Dialect::OpenAi => "Incorrect API key provided: bad-***.",
            Dialect::Anthropic => "invalid x-api-key",
        };
        return Err(Fault::new(401, message).code("invalid_api_key").into());
    }
    let path = plan.request.path;
    let (allowed, answer): (_, Route) = match path {
        "/v1/chat/completions" | "/v1/messages" => ("POST", chat),
        "/v1/messages/count_tokens" => ("POST", count_tokens),
        "/v1/embeddings" => ("POST", embeddings),
        "/v1/models" => ("GET", models),
        _ if path.starts_with("/v1/models/") => ("GET", one_model),
        _ => {
            let text = format!("Invalid URL ({} {path})", plan.request.method);
            return Err(Fault::new(404, text).code("unknown_url").into());
        }
    };
    let method = plan.request.method;
    if method != allowed && !(allowed == "GET" && method == "HEAD") {
        plan.allow = Some(allowed);
        let text = format!("Not allowed to {method} on {path}; use {allowed}.");
        return Err(Fault::new(405, text).code("method_not_allowed").into());
    }
    answer(plan)
}

fn read<'de, T: Deserialize<'de>>(plan: &Plan<'de>) -> Result<T, Stop> {
    let body: &'de [u8] = plan.request.body;
    serde_json::from_slice(body).map_err(|error| {
        let text = if error.is_data() {
            format!("Invalid request body: {error}")
        } else {
            format!("We could not parse the JSON body of your request: {error}")
        };
        Fault::new(400, text).into()
    })
}

/// The fault for a required field that is not there.
fn missing(dialect: Dialect, field: &'static str) -> Stop {
    let text = match dialect {
        Dialect::OpenAi if field == "model" => "you must provide a model parameter".to_owned(),
        Dialect::OpenAi => format!("Missing required parameter: '{field}'."),
        Dialect::Anthropic => format!("{field}: Field required"),
    };
    Fault::new(400, text)
        .param(field)
        .code("missing_required_parameter")
        .into()
}

fn invalid(field: &'static str, why: impl std::fmt::Display) -> Stop {
    let text = format!("Invalid '{field}': {why}");
    Fault::new(400, text)
        .param(field)
        .code("invalid_value")
        .into()
}

fn bounded(field: &'static str, value: i64, most: i64) -> Result<u32, Stop> {
    let number = u32::try_from(value).ok();
    let bounded = number.filter(|_| (1..=most).contains(&value));
    bounded.ok_or_else(|| {
        invalid(
            field,
            format_args!("expected 1 to {most}, but got {value}."),
        )
    })
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

fn chat(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let mut request: body::Chat<'_> = read(plan)?;
    let (messages, behaviours, seed) = conversation(plan, &mut request)?;
    let prompt = prompt_tokens(&request, &messages);
    refuse_prompt(plan.dialect, &behaviours, &messages, prompt)?;
    let most = tokens_max(plan.dialect, &request)?;
    let n = match plan.dialect {
        Dialect::OpenAi => bounded("n", request.n.unwrap_or(1), CHOICES_MAX)?,
        Dialect::Anthropic => 1,
    };
    let call = tool::decide(
        request.tools,
        request.tool_choice,
        behaviours.tools,
        messages.ends_with_tool_result,
    )
    .map_err(|error| {
        Fault::new(400, error)
            .param("tool_choice")
            .code("invalid_value")
    })?;
    let stops = request.stops().map_err(|error| invalid("stop", error))?;
    let tokens = tokens(&behaviours);
    if i64::from(tokens) * i64::from(n) > TOKENS_TOTAL_MAX {
        return Err(invalid(
            "n",
            format_args!("{n} answers of {tokens} tokens are too much"),
        ));
    }
    let mut stop_sequence = None;
    let choices = (0..n).map(|index| {
        let (choice, stop) = choice(seed, index, tokens, most, &stops, call.is_some());
        if index == 0 {
            stop_sequence = stop;
        }
        choice
    });
    let choices = choices.collect();
    let model = plan.model.as_deref().unwrap_or_default();
    let id = text::mix(seed ^ text::hash(model.as_bytes()));
    let model_json = json(model);
    let include_usage = request
        .stream_options
        .and_then(|options| options.include_usage);
    let chat = Box::new(Chat {
        dialect: plan.dialect,
        id,
        event_head: match (plan.dialect, plan.stream) {
            (Dialect::OpenAi, true) => openai::event_head(id, &model_json),
            _ => Vec::new(),
        },
        model_json,
        prompt_tokens: prompt,
        include_usage: include_usage.unwrap_or(false),
        choices,
        call,
        stop_sequence,
    });
    Ok(if plan.stream {
        Body::Events(chat)
    } else {
        Body::Plain(chat)
    })
}

fn json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// The behaviours that refuse the prompt itself.
fn refuse_prompt(
    dialect: Dialect,
    behaviours: &Behaviours,
    messages: &Messages,
    prompt: u32,
) -> Result<(), Stop> {
    if behaviours.context_length {
        let tokens = prompt.saturating_add(CONTEXT_TOKENS);
        return Err(match dialect {
            Dialect::OpenAi => Fault::new(
                400,
                format!(
                    "This model's maximum context length is {CONTEXT_TOKENS} tokens. However, \
                     your messages resulted in {tokens} tokens. Please reduce the length of the \
                     messages."
                ),
            )
            .param("messages")
            .code("context_length_exceeded"),
            Dialect::Anthropic => Fault::new(
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

/// How many tokens an answer has before `max_tokens` and stop sequences shorten it.
fn tokens(behaviours: &Behaviours) -> u32 {
    if let Some(pace) = behaviours.pace {
        return pace.tokens;
    }
    let shown = [behaviours.cut, behaviours.stall, behaviours.malformed];
    let most = shown.into_iter().flatten().max().unwrap_or(0);
    TOKENS_DEFAULT.max(most.saturating_add(TOKENS_BEYOND))
}

/// One answer, and the stop sequence that ended it.
fn choice(
    seed: u64,
    index: u32,
    tokens: u32,
    most: Option<u32>,
    stops: &[String],
    is_call: bool,
) -> (Choice, Option<String>) {
    let seed = if index == 0 {
        seed
    } else {
        text::mix(seed ^ u64::from(index))
    };
    let bounded = most.map_or(tokens, |most| most.min(tokens));
    let mut words = Words::new(seed, bounded);
    let mut finish = if bounded < tokens {
        Finish::Length
    } else {
        Finish::Complete
    };
    let mut stopped = None;
    if is_call {
        finish = Finish::Tool;
    } else if !stops.is_empty()
        && let Some(stop) = words.stop_before(stops)
    {
        finish = Finish::Stopped;
        stopped = Some(stop.to_owned());
    }
    (Choice { words, finish }, stopped)
}

fn count_tokens(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let mut request: body::Chat<'_> = read(plan)?;
    let (messages, _, _) = conversation(plan, &mut request)?;
    plan.stream = false;
    let tokens = prompt_tokens(&request, &messages);
    Ok(Body::Ready(
        format!("{{\"input_tokens\":{tokens}}}").into_bytes(),
    ))
}

fn embeddings(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let request: body::Embeddings<'_> = read(plan)?;
    let Some(model) = request.model else {
        return Err(missing(plan.dialect, "model"));
    };
    let model = plan.model.insert(model).clone();
    plan.behave(Some(&model))?;
    let Some(input) = request.input else {
        return Err(missing(plan.dialect, "input"));
    };
    let inputs = Inputs::read(input).map_err(|error| invalid("input", error))?;
    let asked = request.dimensions.unwrap_or(DIMENSIONS_DEFAULT);
    let dimensions = bounded("dimensions", asked, DIMENSIONS_MAX)? as usize;
    if inputs.seeds.len() * dimensions > VECTOR_VALUES_MAX {
        return Err(invalid(
            "input",
            format_args!("more than {VECTOR_VALUES_MAX} numbers"),
        ));
    }
    let base64 = match request
        .encoding_format
        .as_ref()
        .map_or("float", Cow::as_ref)
    {
        "float" => false,
        "base64" => true,
        _ => return Err(invalid("encoding_format", "expected float or base64.")),
    };
    Ok(Body::Vectors(Box::new(Vectors {
        model_json: json(&model),
        seeds: inputs.seeds,
        tokens: inputs.tokens,
        dimensions,
        base64,
    })))
}

fn models(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    plan.behave(None)?;
    let mut out = Vec::with_capacity(2048);
    match plan.dialect {
        Dialect::OpenAi => openai::models(&mut out),
        Dialect::Anthropic => anthropic::models(&mut out),
    }
    Ok(Body::Ready(out))
}

/// One model by name. Its own behaviours are not acted upon here, only those of the header.
fn one_model(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    plan.behave(None)?;
    let id = percent_decoded(plan.request.path.trim_start_matches("/v1/models/"));
    Spec::parse(Some(&id), None).map_err(|unknown| unknown_model(&id, &unknown))?;
    plan.model = Some(id.clone());
    let mut out = Vec::with_capacity(256);
    match plan.dialect {
        Dialect::OpenAi => openai::model(&id, &mut out),
        Dialect::Anthropic => anthropic::model(&id, &mut out),
    }
    Ok(Body::Ready(out))
}

/// `%2B` and its like decoded (RFC 3986 section 2.1); what is no escape stays.
fn percent_decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| byte == b'%');
        let digits = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
