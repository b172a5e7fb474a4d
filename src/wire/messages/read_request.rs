//! Reads a request of a caller who speaks Anthropic's dialect.
//!
//! The body is walked once for its members, and each is read after that. What is not as the
//! vendor's types say is refused with its place, since no provider would tell the caller about a
//! body that it never sees. What only Anthropic has goes along as it stands, for the writer of the
//! provider's dialect to name.
//!
//! Start at [`read_request`]; the conversation itself is read by
//! [`read_content`](super::read_content).

use std::borrow::Cow;

use super::super::Dialect;
use super::super::form::{
    Dropped, Format, Part, PartKind, Reasoning, Request, Role, Thinking, Tool, ToolChoice, Turn,
    Untranslatable,
};
use super::super::json::view::{Lit, View};
use super::block::{Place, list, number, object};
use super::read_content::{Holder, parts};

/// The request that `body` is.
///
/// # Errors
/// It is not as the vendor's types say, or a part of the conversation means nothing to anybody but
/// Anthropic.
pub fn read_request<'a>(body: View<'a>) -> Result<Request<'a>, Untranslatable> {
    let mut request = Request::default();
    let members = Members::of(body, &mut request);
    let mut dropped = Dropped::default();
    read_conversation(&members, &mut request.turns, &mut dropped)?;
    read_tools(&members, &mut request, &mut dropped)?;
    read_reasoning(&members, &mut request, &mut dropped)?;
    let numbers = [
        ("temperature", members.temperature, &mut request.temperature),
        ("top_p", members.top_p, &mut request.top_p),
        ("top_k", members.top_k, &mut request.top_k),
    ];
    for (name, value, place) in numbers {
        *place = Place::Top(name).optional(value, "a number", number)?;
    }
    request.max_tokens = Place::Top("max_tokens").optional(
        members.max_tokens,
        "a whole number from 0 up",
        View::u64,
    )?;
    let stops = Place::Top("stop_sequences");
    let sequences = stops.optional(members.stop_sequences, "a list of strings", list)?;
    for (index, stop) in sequences.into_iter().flat_map(View::items).enumerate() {
        let stop = stops
            .item(index)
            .required(Some(stop), "a string", View::lit)?;
        request.stop.push(stop);
    }
    request.stream = Place::Top("stream")
        .optional(members.stream, "true or false", View::bool)?
        .unwrap_or(false);
    // A stream of Anthropic's ends with its counts, always.
    request.include_usage = request.stream;
    request.user = read_user(&members, &mut dropped)?;
    request.dropped = dropped;
    Ok(request)
}

/// The members of a request that the form has a place for; `null` counts as not there.
#[derive(Default)]
struct Members<'a> {
    system: Option<View<'a>>,
    messages: Option<View<'a>>,
    tools: Option<View<'a>>,
    tool_choice: Option<View<'a>>,
    max_tokens: Option<View<'a>>,
    temperature: Option<View<'a>>,
    top_p: Option<View<'a>>,
    top_k: Option<View<'a>>,
    stop_sequences: Option<View<'a>>,
    stream: Option<View<'a>>,
    metadata: Option<View<'a>>,
    thinking: Option<View<'a>>,
    output_config: Option<View<'a>>,
}

impl<'a> Members<'a> {
    /// The members of `body`, with all others kept in `request`.
    fn of(body: View<'a>, request: &mut Request<'a>) -> Self {
        let mut members = Self::default();
        for (name, value) in body.members() {
            let place = match name.as_ref() {
                "system" => &mut members.system,
                "messages" => &mut members.messages,
                "tools" => &mut members.tools,
                "tool_choice" => &mut members.tool_choice,
                "max_tokens" => &mut members.max_tokens,
                "temperature" => &mut members.temperature,
                "top_p" => &mut members.top_p,
                "top_k" => &mut members.top_k,
                "stop_sequences" => &mut members.stop_sequences,
                "stream" => &mut members.stream,
                "metadata" => &mut members.metadata,
                "thinking" => &mut members.thinking,
                "output_config" => &mut members.output_config,
                // The target has its own.
                "model" => continue,
                _ => {
                    if !value.is_null() {
                        request.keep_extra(Dialect::Anthropic, name, value);
                    }
                    continue;
                }
            };
            *place = Some(value).filter(|value| !value.is_null());
        }
        members
    }
}

fn read_conversation<'a>(
    members: &Members<'a>,
    turns: &mut Vec<Turn<'a>>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    if members.system.is_some() {
        let place = Place::Top("system");
        let parts = parts(members.system, &place, Holder::System, dropped)?;
        push(turns, Role::System, parts);
    }
    let place = Place::Top("messages");
    let messages = place.required(members.messages, "a list of messages", list)?;
    for (index, message) in messages.items().enumerate() {
        read_message(message, &place.item(index), turns, dropped)?;
    }
    if turns.iter().all(|turn| turn.role == Role::System) {
        return Err(place.fault("must hold at least one message that says something"));
    }
    Ok(())
}

fn read_message<'a>(
    message: View<'a>,
    place: &Place<'_>,
    turns: &mut Vec<Turn<'a>>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    place.required(Some(message), "an object", object)?;
    let (mut role, mut content) = (None, None);
    for (name, value) in message.members() {
        match name.as_ref() {
            "role" => role = Some(value),
            "content" => content = Some(value).filter(|value| !value.is_null()),
            _ if value.is_null() => {}
            _ => dropped.note(&format!("messages[].{name}")),
        }
    }
    let roles = "one of user, assistant, system";
    let place_of_role = place.member("role");
    let (role, holder) = match place_of_role.required(role, roles, View::string)?.as_ref() {
        "user" => (Role::User, Holder::User),
        "assistant" => (Role::Assistant, Holder::Assistant),
        "system" => (Role::System, Holder::System),
        _ => return Err(place_of_role.fault(format!("must be {roles}"))),
    };
    let parts = parts(content, &place.member("content"), holder, dropped)?;
    // The results of tools answer the turn before, so they come first.
    let (results, others): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .partition(|part| matches!(part.kind, PartKind::ToolResult { .. }));
    push(turns, Role::Tool, results);
    push(turns, role, others);
    Ok(())
}

fn push<'a>(turns: &mut Vec<Turn<'a>>, role: Role, parts: Vec<Part<'a>>) {
    // A system prompt may be there and say nothing.
    let is_empty = parts.iter().all(
        |part| matches!(&part.kind, PartKind::Text(text) if text.is_empty() && role == Role::System),
    );
    if !is_empty {
        turns.push(Turn {
            role,
            name: None,
            parts,
        });
    }
}

fn read_tools<'a>(
    members: &Members<'a>,
    request: &mut Request<'a>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    let place = Place::Top("tools");
    let tools = place.optional(members.tools, "a list of tools", list)?;
    // Names of tools that Anthropic itself has.
    let mut own: Vec<Cow<'a, str>> = Vec::new();
    for (index, tool) in tools.into_iter().flat_map(View::items).enumerate() {
        let place = place.item(index);
        let tool = place.required(Some(tool), "an object", object)?;
        let kind = tool.get("type").and_then(View::string);
        match kind.filter(|kind| kind != "custom") {
            None => request.tools.push(read_tool(tool, &place, dropped)?),
            Some(kind) => {
                dropped.note(&format!("tools[].{kind}"));
                own.push(tool.get("name").and_then(View::string).unwrap_or_default());
            }
        }
    }
    read_choice(members.tool_choice, request)?;
    let has_no_tools = request.tools.is_empty() && !own.is_empty();
    let named = match &request.tool_choice {
        Some(ToolChoice::Named(name)) => Some(name.unescape()),
        _ => None,
    };
    let is_own = named.is_some_and(|name| own.contains(&name));
    let is_forced = has_no_tools && request.tool_choice == Some(ToolChoice::Required);
    if is_own || is_forced {
        return Err(Place::Top("tool_choice").fault(
            "asks for a tool of Anthropic's own, which the provider that this model is with does not have",
        ));
    }
    if has_no_tools {
        request.tool_choice = None;
        request.parallel_tools = None;
    }
    Ok(())
}

fn read_tool<'a>(
    tool: View<'a>,
    place: &Place<'_>,
    dropped: &mut Dropped,
) -> Result<Tool<'a>, Untranslatable> {
    let (mut name, mut description, mut schema) = (None, None, None);
    let (mut strict, mut cache) = (None, None);
    for (key, value) in tool.members().filter(|(_, value)| !value.is_null()) {
        match key.as_ref() {
            "name" => name = Some(value),
            "description" => description = Some(value),
            "input_schema" => schema = Some(value),
            "strict" => strict = Some(value),
            "cache_control" => cache = Some(value),
            "type" => {}
            // What is not asked for is not lost.
            _ if value.bool() == Some(false) => {}
            _ => dropped.note(&format!("tools[].{key}")),
        }
    }
    let text = "a string";
    Ok(Tool {
        name: place.member("name").required(name, text, View::lit)?,
        description: place
            .member("description")
            .optional(description, text, View::lit)?,
        schema: Some(place.member("input_schema").required(
            schema,
            "a JSON schema, which is an object",
            object,
        )?),
        strict: place
            .member("strict")
            .optional(strict, "true or false", View::bool)?,
        cache,
    })
}

fn read_choice<'a>(
    choice: Option<View<'a>>,
    request: &mut Request<'a>,
) -> Result<(), Untranslatable> {
    let place = Place::Top("tool_choice");
    let Some(choice) = place.optional(choice, "an object", object)? else {
        return Ok(());
    };
    let kinds = "one of auto, any, tool, none";
    let place_of_kind = place.member("type");
    let kind = place_of_kind.required(choice.get("type"), kinds, View::string)?;
    request.tool_choice = Some(match kind.as_ref() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => {
            let place = place.member("name");
            ToolChoice::Named(place.required(choice.get("name"), "a string", View::lit)?)
        }
        _ => return Err(place_of_kind.fault(format!("must be {kinds}"))),
    });
    let one_at_a_time = place.member("disable_parallel_tool_use").optional(
        choice.get("disable_parallel_tool_use"),
        "true or false",
        View::bool,
    )?;
    request.parallel_tools = one_at_a_time.filter(|one| *one).map(|one| !one);
    Ok(())
}

/// `thinking` and `output_config`.
fn read_reasoning<'a>(
    members: &Members<'a>,
    request: &mut Request<'a>,
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    let mut reasoning = Reasoning {
        effort: None,
        thinking: read_thinking(members.thinking, dropped)?,
    };
    let place = Place::Top("output_config");
    let config = place.optional(members.output_config, "an object", object)?;
    let members = config.into_iter().flat_map(View::members);
    for (name, value) in members.filter(|(_, value)| !value.is_null()) {
        match name.as_ref() {
            "effort" => {
                let place = place.member("effort");
                reasoning.effort = Some(place.required(Some(value), "a string", View::lit)?);
            }
            "format" => request.format = Some(read_format(value, &place.member("format"))?),
            _ => dropped.note(&format!("output_config.{name}")),
        }
    }
    if reasoning != Reasoning::default() {
        request.reasoning = Some(reasoning);
    }
    Ok(())
}

fn read_thinking(
    thinking: Option<View<'_>>,
    dropped: &mut Dropped,
) -> Result<Option<Thinking>, Untranslatable> {
    let place = Place::Top("thinking");
    let Some(thinking) = place.optional(thinking, "an object", object)? else {
        return Ok(None);
    };
    let kinds = "one of enabled, adaptive, between_tools, disabled";
    let place_of_kind = place.member("type");
    let kind = place_of_kind.required(thinking.get("type"), kinds, View::string)?;
    if thinking.get("display").is_some() {
        dropped.note("thinking.display");
    }
    Ok(Some(match kind.as_ref() {
        "adaptive" => Thinking::Adaptive,
        "disabled" => Thinking::Disabled,
        "enabled" => {
            let place = place.member("budget_tokens");
            let what = "a whole number from 0 up";
            Thinking::Budget(place.required(thinking.get("budget_tokens"), what, View::u64)?)
        }
        "between_tools" => {
            dropped.note("thinking.between_tools");
            return Ok(None);
        }
        _ => return Err(place_of_kind.fault(format!("must be {kinds}"))),
    }))
}

fn read_format<'a>(format: View<'a>, place: &Place<'_>) -> Result<Format<'a>, Untranslatable> {
    place.required(Some(format), "an object", object)?;
    if !format
        .get("type")
        .is_some_and(|kind| kind.is("json_schema"))
    {
        return Err(place.member("type").fault("must be json_schema"));
    }
    let what = "a JSON schema, which is an object";
    Ok(Format::JsonSchema {
        name: None,
        description: None,
        schema: place
            .member("schema")
            .required(format.get("schema"), what, object)?,
        strict: None,
    })
}

fn read_user<'a>(
    members: &Members<'a>,
    dropped: &mut Dropped,
) -> Result<Option<Lit<'a>>, Untranslatable> {
    let place = Place::Top("metadata");
    let metadata = place.optional(members.metadata, "an object", object)?;
    let mut user = None;
    let members = metadata.into_iter().flat_map(View::members);
    for (name, value) in members.filter(|(_, value)| !value.is_null()) {
        match name.as_ref() {
            "user_id" => user = Some(value),
            _ => dropped.note(&format!("metadata.{name}")),
        }
    }
    place
        .member("user_id")
        .optional(user, "a string", View::lit)
}
