//! Answers requests for OpenAI's responses and legacy completions: reads them by field, and hands
//! what they ask for to `compose`. Pure; called by `reply`.
//!
//! Start at [`response`]. Nothing is stored: `store` and `previous_response_id` are only echoed.

use super::body::{Inputs, StreamOptions};
use super::chat::Api;
use super::compose::{self, Asked};
use super::fault::Dialect;
use super::fields::{self, Fields};
use super::reply::{bounded, invalid, missing, read};
use super::script::{Plan, Stop};
use super::steps::Body;
use super::text;
use super::tool::{self, Ask};
use super::{format, legacy};

/// The fields of a request that its response repeats, and what stands there if it has none.
const ECHOED: [(&str, &str); 20] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", "{\"effort\":null,\"summary\":null}"),
    ("safety_identifier", "null"),
    ("store", "true"),
    ("temperature", "1.0"),
    (
        "text",
        "{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}",
    ),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];
/// A request with one of these needs no input of its own.
const INSTEAD_OF_INPUT: [&str; 3] = ["previous_response_id", "prompt", "conversation"];

/// A field's value.
fn get<'a, T: serde::Deserialize<'a>>(
    fields: &Fields<'a>,
    name: &'static str,
) -> Result<Option<T>, Stop> {
    fields.get(name).map_err(|error| invalid(name, error))
}

/// Reads the fields, and which model and whether a stream is asked for.
fn fields<'de>(plan: &mut Plan<'de>) -> Result<(Fields<'de>, String), Stop> {
    let fields: Fields<'_> = read(plan)?;
    let Some(model) = get::<String>(&fields, "model")? else {
        return Err(missing(plan.dialect, "model"));
    };
    plan.stream = get(&fields, "stream")?.unwrap_or(false);
    Ok((fields, plan.model.insert(model).clone()))
}

/// Answers a request for a response.
pub(super) fn response(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let (fields, model) = fields(plan)?;
    let behaviours = plan.behave(Some(&model))?;
    let input = fields.raw("input");
    if input.is_none()
        && INSTEAD_OF_INPUT
            .iter()
            .all(|name| fields.raw(name).is_none())
    {
        return Err(missing(Dialect::OpenAi, "input"));
    }
    let messages = match input {
        Some(input) => fields::input(input).map_err(|error| invalid("input", error))?,
        None => Default::default(),
    };
    let bytes = |name: &str| fields.raw(name).map_or("", |raw| raw.get());
    let beside = bytes("instructions").len() + bytes("tools").len();
    let prompt = text::prompt_tokens(messages.content_bytes + beside, messages.count);
    compose::refuse_prompt(Api::Responses, &behaviours, &messages, prompt)?;
    let seed = text::hash(bytes("input").as_bytes()) ^ text::hash(bytes("instructions").as_bytes());
    let most = get(&fields, "max_output_tokens")?
        .map(|most| bounded("max_output_tokens", most, i64::from(u32::MAX)))
        .transpose()?;
    let calls = tool::decide(Ask {
        tools: fields.raw("tools"),
        choice: fields.raw("tool_choice"),
        wanted: behaviours.tools,
        single: get(&fields, "parallel_tool_calls")? == Some(false),
        after_result: messages.ends_with_tool_result,
    })
    .map_err(|error| invalid("tool_choice", error))?;
    let document = fields
        .raw("text")
        .map_or(Ok(None), |text| format::of_config(text, seed))
        .map_err(|error| invalid("text", error))?;
    let asked = Asked {
        behaviours,
        seed,
        choices: 1,
        most,
        stops: Vec::new(),
        calls,
        document,
    };
    let mut chat = compose::answer(plan, Api::Responses, prompt, asked)?;
    chat.echo = echo(&fields);
    let include: Vec<String> = get(&fields, "include")?.unwrap_or_default();
    chat.is_encrypted = include
        .iter()
        .any(|one| one == "reasoning.encrypted_content");
    Ok(compose::body(plan, chat))
}

/// The members of a response that repeat its request, each with a comma before it.
fn echo(fields: &Fields<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(768);
    for (name, default) in ECHOED {
        let value = fields.raw(name).map_or(default, |raw| raw.get());
        for piece in [",\"", name, "\":", value] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    out.extend_from_slice(b",\"service_tier\":\"default\"");
    out
}

/// Answers a request for a legacy completion: every prompt of it, `n` times each.
pub(super) fn completion(plan: &mut Plan<'_>) -> Result<Body, Stop> {
    let (fields, model) = fields(plan)?;
    let mut behaviours = plan.behave(Some(&model))?;
    // There is no place for these in a completion.
    (behaviours.thinking, behaviours.refusal) = (false, false);
    let Some(prompt) = fields.raw("prompt") else {
        return Err(missing(plan.dialect, "prompt"));
    };
    if get(&fields, "echo")? == Some(true) {
        return Err(invalid("echo", "the simulator does not repeat prompts"));
    }
    let inputs = Inputs::read(prompt).map_err(|error| invalid("prompt", error))?;
    compose::refuse_prompt(Api::Legacy, &behaviours, &Default::default(), inputs.tokens)?;
    let n = get(&fields, "n")?.unwrap_or(1);
    let n = bounded("n", n, compose::CHOICES_MAX)?;
    let most = get(&fields, "max_tokens")?
        .map(|most| bounded("max_tokens", most, i64::from(u32::MAX)))
        .transpose()?;
    let stops = fields
        .raw("stop")
        .map_or(Ok(Vec::new()), super::body::stops);
    let stops = stops.map_err(|error| invalid("stop", error))?;
    let prompts = u32::try_from(inputs.seeds.len()).unwrap_or(u32::MAX);
    let asked = |seed: u64, choices: u32| Asked {
        behaviours: behaviours.clone(),
        seed,
        choices,
        most,
        stops: stops.clone(),
        calls: Vec::new(),
        document: None,
    };
    // All choices together are bounded, those of other prompts too.
    compose::bound_tokens(&behaviours, n.saturating_mul(prompts))?;
    let seed = text::hash(prompt.get().as_bytes());
    let mut chat = compose::answer(plan, Api::Legacy, inputs.tokens, asked(seed, 1))?;
    chat.choices.clear();
    for seed in inputs.seeds {
        let composed = asked(seed, n).compose(Api::Legacy)?;
        chat.choices.extend(composed.choices);
    }
    if plan.stream {
        let options: Option<StreamOptions> = get(&fields, "stream_options")?;
        chat.include_usage = options.and_then(|options| options.include_usage) == Some(true);
        chat.event_head = legacy::event_head(chat.id, &chat.model_json);
    }
    Ok(compose::body(plan, chat))
}
