//! Joins the codecs: a caller's request into a provider's, a provider's answer into a caller's.
//!
//! Bodies are translated whole, streams event by event. What an answer's translation has to know
//! of its request is in a [`Plan`]. Start at [`request`], then [`answer`] and [`Translator`].

mod error;
mod json_tool;
mod splice;
mod stream;
#[cfg(test)]
mod tests;

use super::form::{Dropped, Format, NotOfDialect, Request, Untranslatable};
use super::json::view::View;
use super::json::{count_values, walk_object};
use super::{Dialect, Endpoint, chat, messages, responses};

pub use self::error::{kind_of, provider_error};
pub use self::stream::{Broken, Translator};

/// Values that a translated request or answer may hold. A conversation of a million tokens has some
/// ten thousand; what each turns into takes some hundred bytes.
const VALUES_MAX: usize = 250_000;

/// The name of the tool that a model is made to call where it must answer in JSON and its API has
/// no word for that. Its arguments are the answer.
pub const JSON_TOOL: &str = "json_answer";

/// What a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The provider's own name for the model.
    pub model: &'t str,
    /// Anthropic wants `max_tokens`: what it is where the caller gave none.
    pub default_max_tokens: u64,
    /// How an Anthropic provider is made to answer in JSON.
    pub structured_output: StructuredOutput,
    /// Whether an Anthropic provider's models take sampling parameters.
    pub sampling: bool,
}

/// See [`Target::structured_output`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructuredOutput {
    /// By `output_config.format`.
    Native,
    /// By a call of [`JSON_TOOL`], which any model with tools understands.
    Tool,
}

/// What an answer's writer has to know beside the answer.
#[derive(Clone, Copy, Debug)]
pub struct About<'r> {
    /// Seconds since the epoch, for dialects that say when they answered where the provider's does
    /// not.
    pub now: u64,
    /// Whether an OpenAI chat stream ends with its usage.
    pub include_usage: bool,
    /// Of the provider that answered.
    pub provider: Dialect,
    /// For [`responses`]: the id that the response has, unique for ever.
    pub response_id: &'r str,
}

/// A request in a provider's words.
#[derive(Debug)]
pub struct Translated {
    pub body: Vec<u8>,
    /// What of the caller's request is not in it.
    pub dropped: Dropped,
    pub plan: Plan,
}

/// What the translation of an answer has to know of its request.
#[derive(Debug)]
pub struct Plan {
    /// Where the caller asked.
    caller: Endpoint,
    /// Where the provider is asked.
    provider: Endpoint,
    include_usage: bool,
    /// The answer comes as a call of [`JSON_TOOL`].
    json_tool: bool,
    /// Of a caller of [`Endpoint::Responses`].
    asked: Option<responses::Asked>,
}

impl Plan {
    const fn about<'r>(&self, now: u64, response_id: &'r str) -> About<'r> {
        About {
            now,
            include_usage: self.include_usage,
            provider: self.provider.dialect(),
            response_id,
        }
    }
}

/// Translates the body of a request to `caller` into one to `provider`. Both ask a model for an
/// answer in words; see [`Endpoint::is_chat`]. `past` is the conversation that a request to
/// [`Endpoint::Responses`] goes on with.
///
/// # Errors
/// It is no request of the caller's dialect, or asks what the provider's has no words for.
pub fn request(
    caller: Endpoint,
    provider: Endpoint,
    body: &str,
    past: &[View<'_>],
    target: &Target<'_>,
) -> Result<Translated, Untranslatable> {
    let values: usize = past.iter().map(|item| count_values(item.text())).sum();
    if values + count_values(body) > VALUES_MAX {
        let why = format!("holds more than {VALUES_MAX} values, too many to be translated");
        return Err(Untranslatable::new("the request", why));
    }
    let view = View::new(body);
    let mut request = match caller {
        Endpoint::Messages => messages::read_request(view)?,
        Endpoint::Responses => responses::read_request(view, past)?,
        _ => chat::read_request(view)?,
    };
    let asked = match caller {
        Endpoint::Responses => Some(responses::read_asked(view)?),
        _ => None,
    };
    if provider == Endpoint::Messages && !target.sampling {
        drop_sampling(&mut request);
    }
    let json_tool = provider == Endpoint::Messages && needs_json_tool(&request, target);
    let include_usage = request.include_usage;
    let body = match provider {
        Endpoint::Messages => messages::write_request(&mut request, target)?,
        _ => chat::write_request(&mut request, target)?,
    };
    Ok(Translated {
        body,
        dropped: request.dropped,
        plan: Plan {
            caller,
            provider,
            include_usage,
            json_tool,
            asked,
        },
    })
}

/// Leaves out what the newest of Anthropic's models refuse. 1 is the default of each and no loss.
fn drop_sampling(request: &mut Request<'_>) {
    let members = [
        ("temperature", &mut request.temperature),
        ("top_p", &mut request.top_p),
        ("top_k", &mut request.top_k),
    ];
    for (name, member) in members {
        let is_default = |value: View<'_>| name != "top_k" && value.f64() == Some(1.0);
        if member.take().is_some_and(|value| !is_default(value)) {
            request.dropped.note(name);
        }
    }
}

/// The plan of a stream whose caller and provider share a dialect, for one that may have to be gone
/// on with from another provider; `None` where that cannot be: several answers at once, or a
/// dialect that only callers speak.
pub fn same(endpoint: Endpoint, body: &str) -> Option<Plan> {
    let view = View::new(body);
    let include_usage = match endpoint {
        Endpoint::Messages => true,
        Endpoint::ChatCompletions => {
            if view.get("n").is_some_and(|n| n.u64() != Some(1)) {
                return None;
            }
            let options = view.get("stream_options");
            let usage = options.and_then(|it| it.get("include_usage"));
            usage.and_then(View::bool).unwrap_or(false)
        }
        _ => return None,
    };
    Some(Plan {
        caller: endpoint,
        provider: endpoint,
        include_usage,
        json_tool: false,
        asked: None,
    })
}

/// Whether Anthropic's dialect has no word for the format that is asked for.
pub(super) fn needs_json_tool(request: &Request<'_>, target: &Target<'_>) -> bool {
    match &request.format {
        None => false,
        Some(Format::JsonObject) => true,
        Some(Format::JsonSchema { .. }) => target.structured_output == StructuredOutput::Tool,
    }
}

/// Translates a provider's whole answer; also returns what of it the caller's dialect has no place
/// for. `now`: seconds since the epoch.
///
/// # Errors
/// It is no answer of the provider's dialect.
pub fn answer(
    plan: &Plan,
    body: &[u8],
    now: u64,
    response_id: &str,
) -> Result<(Vec<u8>, Dropped), NotOfDialect> {
    let text = str::from_utf8(body).map_err(|_| NotOfDialect("it is not UTF-8"))?;
    walk_object(text, |_| {}).map_err(|_| NotOfDialect("it is not a JSON object"))?;
    if count_values(text) > VALUES_MAX {
        return Err(NotOfDialect("it holds more than 250,000 values"));
    }
    let view = View::new(text);
    let mut answer = match plan.provider {
        Endpoint::Messages => messages::read_answer(view)?,
        _ => chat::read_answer(view)?,
    };
    if plan.json_tool {
        json_tool::unwrap(&mut answer);
    }
    let about = plan.about(now, response_id);
    let mut dropped = Dropped::default();
    let body = match (plan.caller, &plan.asked) {
        (Endpoint::Messages, _) => messages::write_answer(&answer, &about, &mut dropped),
        (Endpoint::Responses, Some(asked)) => {
            responses::write_answer(&answer, asked, &about, &mut dropped)
        }
        _ => chat::write_answer(&answer, &about, &mut dropped),
    };
    Ok((body, dropped))
}
