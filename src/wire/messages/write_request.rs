//! Writes a request for an Anthropic provider.
//!
//! Most of what can go wrong with a request is that two of its members do not go together with
//! Anthropic: thinking with a temperature or a forced tool, a budget with fewer tokens than that,
//! a temperature with a `top_p`. What gives way is decided here, before anything is written, and
//! noted. The conversation itself is written by [`write_content`](super::write_content).
//!
//! Start at [`write_request`].

use super::super::Dialect;
use super::super::form::{
    Dropped, Format, Reasoning, Request, Thinking, Tool, ToolChoice, Untranslatable,
};
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::super::translate::{JSON_TOOL, StructuredOutput, Target};
use super::write_content::{Gathered, gather};

/// A schema for tools that take nothing.
const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;
/// A schema for answers that may be any object.
const ANY_OBJECT: &str = r#"{"type":"object","additionalProperties":true}"#;
const JSON_TOOL_DESCRIPTION: &str =
    "Gives the answer. Call it exactly once, with the whole answer as its arguments.";
/// Below this Anthropic's models do not think.
const THINKING_TOP_P_MIN: f64 = 0.95;
/// Bytes for what is neither conversation nor tool.
const SIZE_REST: usize = 1024;

/// The body of `request` for `target`. What Anthropic has no word for is noted in
/// `request.dropped`.
///
/// # Errors
/// A part of the conversation cannot be said to Anthropic.
pub fn write_request(
    request: &mut Request<'_>,
    target: &Target<'_>,
) -> Result<Vec<u8>, Untranslatable> {
    let mut dropped = std::mem::take(&mut request.dropped);
    let body = write(request, target, &mut dropped);
    request.dropped = dropped;
    body
}

fn write(
    request: &Request<'_>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> Result<Vec<u8>, Untranslatable> {
    let gathered = gather(&request.turns, dropped)?;
    note_unknown(request, dropped);
    let plan = Plan::of(request, target, dropped);
    let mut writer = Writer::with_capacity(gathered.size() + tools_size(request) + SIZE_REST);
    writer.object(|it| plan.write(it, request, target, &gathered, dropped));
    Ok(writer.into_bytes())
}

/// Notes what Anthropic has no word for. What asks for nothing, as a penalty of 0 does, is not
/// lost.
fn note_unknown(request: &Request<'_>, dropped: &mut Dropped) {
    let is_some = |number: Option<View<'_>>| number.is_some_and(|it| it.f64() != Some(0.0));
    let unknown = [
        ("frequency_penalty", is_some(request.frequency_penalty)),
        ("presence_penalty", is_some(request.presence_penalty)),
        ("seed", request.seed.is_some()),
        ("n", request.n.is_some_and(|n| n > 1)),
        ("logprobs", request.logprobs == Some(true)),
        ("top_logprobs", is_some(request.top_logprobs)),
        ("verbosity", request.verbosity.is_some()),
        ("stop", request.stop.iter().any(Lit::is_blank)),
    ];
    for (name, _) in unknown.iter().filter(|(_, is_asked)| *is_asked) {
        dropped.note(name);
    }
    for extra in &request.extra {
        if extra.vendor == Dialect::Openai {
            dropped.note(&extra.name);
        }
    }
}

/// What the members are that depend on each other.
struct Plan<'r> {
    thinking: Option<Thinking>,
    effort: Option<Lit<'r>>,
    max_tokens: u64,
    /// The schema that the answer has by [`StructuredOutput::Native`].
    format: Option<View<'r>>,
    /// What makes the model answer in JSON otherwise.
    json_tool: Option<JsonTool<'r>>,
    choice: Option<ToolChoice<'r>>,
}

struct JsonTool<'r> {
    description: Option<Lit<'r>>,
    schema: View<'r>,
}

impl<'r> Plan<'r> {
    fn of(request: &'r Request<'_>, target: &Target<'_>, dropped: &mut Dropped) -> Self {
        let (thinking, effort) = thinking(request.reasoning.as_ref());
        let thinks = thinks(thinking);
        let asked = request.max_tokens.unwrap_or(target.default_max_tokens);
        let max_tokens = match thinking {
            // The budget is part of it, so what was meant for the answer comes on top.
            Some(Thinking::Budget(budget)) if asked <= budget => budget.saturating_add(asked),
            _ => asked,
        };
        let (format, json_tool) = format(request.format.as_ref(), target, dropped);
        Self {
            thinking,
            effort,
            max_tokens,
            format,
            choice: choice(request, json_tool.is_some(), thinks, dropped),
            json_tool,
        }
    }

    fn write(
        &self,
        it: &mut Writer,
        request: &Request<'_>,
        target: &Target<'_>,
        gathered: &Gathered<'_>,
        dropped: &mut Dropped,
    ) {
        it.key("model").string(target.model);
        it.key("max_tokens").number(self.max_tokens);
        if request.stream {
            it.key("stream").bool(true);
        }
        gathered.write(it);
        self.write_tools(it, request);
        if let Some(choice) = &self.choice {
            it.key("tool_choice");
            write_choice(it, choice, request.parallel_tools == Some(false));
        }
        self.write_reasoning(it);
        write_sampling(it, request, thinks(self.thinking), dropped);
        let stops = request.stop.iter().filter(|stop| !stop.is_blank());
        if stops.clone().next().is_some() {
            it.key("stop_sequences").array(|it| {
                for stop in stops {
                    it.lit(stop);
                }
            });
        }
        if let Some(user) = &request.user {
            it.key("metadata").object(|it| {
                it.key("user_id").lit(user);
            });
        }
        for extra in &request.extra {
            if extra.vendor == Dialect::Anthropic {
                it.key(&extra.name).view(extra.value);
            }
        }
    }

    fn write_tools(&self, it: &mut Writer, request: &Request<'_>) {
        if request.tools.is_empty() && self.json_tool.is_none() {
            return;
        }
        it.key("tools").array(|it| {
            for tool in &request.tools {
                write_tool(it, tool);
            }
            if let Some(tool) = &self.json_tool {
                write_tool(
                    it,
                    &Tool {
                        name: Lit::of(JSON_TOOL),
                        description: Some(
                            tool.description
                                .clone()
                                .unwrap_or(Lit::of(JSON_TOOL_DESCRIPTION)),
                        ),
                        schema: Some(tool.schema),
                        strict: None,
                        cache: None,
                    },
                );
            }
        });
    }

    fn write_reasoning(&self, it: &mut Writer) {
        if let Some(thinking) = self.thinking {
            it.key("thinking").object(|it| match thinking {
                Thinking::Budget(budget) => {
                    it.key("type").string("enabled");
                    it.key("budget_tokens").number(budget);
                }
                Thinking::Adaptive => {
                    it.key("type").string("adaptive");
                }
                Thinking::Disabled => {
                    it.key("type").string("disabled");
                }
            });
        }
        if self.effort.is_none() && self.format.is_none() {
            return;
        }
        it.key("output_config").object(|it| {
            if let Some(effort) = &self.effort {
                it.key("effort").lit(effort);
            }
            if let Some(schema) = self.format {
                it.key("format").object(|it| {
                    it.key("type").string("json_schema");
                    it.key("schema").view(schema);
                });
            }
        });
    }
}

const fn thinks(thinking: Option<Thinking>) -> bool {
    matches!(thinking, Some(Thinking::Budget(_) | Thinking::Adaptive))
}

/// `thinking` and `output_config.effort`. OpenAI's `none` is to think not at all, and its
/// `minimal` is less than Anthropic has.
fn thinking<'r>(reasoning: Option<&'r Reasoning<'_>>) -> (Option<Thinking>, Option<Lit<'r>>) {
    let Some(reasoning) = reasoning else {
        return (None, None);
    };
    let Some(effort) = &reasoning.effort else {
        return (reasoning.thinking, None);
    };
    let or = |thinking| Some(reasoning.thinking.unwrap_or(thinking));
    match effort.unescape().as_ref() {
        "none" => (or(Thinking::Disabled), None),
        "minimal" => (or(Thinking::Adaptive), Some(Lit::of("low"))),
        _ => (or(Thinking::Adaptive), Some(effort.borrow())),
    }
}

/// The format as a schema for Anthropic itself, or as a tool.
fn format<'r>(
    format: Option<&'r Format<'_>>,
    target: &Target<'_>,
    dropped: &mut Dropped,
) -> (Option<View<'r>>, Option<JsonTool<'r>>) {
    match format {
        None => (None, None),
        Some(Format::JsonObject) => {
            let tool = JsonTool {
                description: None,
                schema: View::new(ANY_OBJECT),
            };
            (None, Some(tool))
        }
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => match target.structured_output {
            StructuredOutput::Native => {
                if description.is_some() {
                    dropped.note("response_format.json_schema.description");
                }
                (Some(*schema), None)
            }
            StructuredOutput::Tool => {
                let tool = JsonTool {
                    description: description.as_ref().map(Lit::borrow),
                    schema: *schema,
                };
                (None, Some(tool))
            }
        },
    }
}

/// Which tool is to be called; `None` for the default.
fn choice<'r>(
    request: &'r Request<'_>,
    json_tool: bool,
    thinks: bool,
    dropped: &mut Dropped,
) -> Option<ToolChoice<'r>> {
    if request.tools.is_empty() && !json_tool {
        return None;
    }
    let answer = || ToolChoice::Named(Lit::of(JSON_TOOL));
    let choice = match (&request.tool_choice, json_tool) {
        (Some(ToolChoice::Named(name)), _) => ToolChoice::Named(name.borrow()),
        (Some(ToolChoice::None), false) => ToolChoice::None,
        // With no other tool to be called, the answer is all that is left.
        (Some(ToolChoice::None), true) => answer(),
        (_, true) if request.tools.is_empty() => answer(),
        (_, true) | (Some(ToolChoice::Required), false) => ToolChoice::Required,
        (Some(ToolChoice::Auto), false) => ToolChoice::Auto,
        // Said aloud only to forbid several at once.
        (None, false) if request.parallel_tools == Some(false) => ToolChoice::Auto,
        (None, false) => return None,
    };
    let is_forced = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
    if !(thinks && is_forced) {
        return Some(choice);
    }
    // A model that thinks cannot be made to call a tool.
    if let Some(ToolChoice::Required | ToolChoice::Named(_)) = request.tool_choice {
        dropped.note("tool_choice");
    }
    Some(ToolChoice::Auto)
}

fn write_choice(it: &mut Writer, choice: &ToolChoice<'_>, one_at_a_time: bool) {
    it.object(|it| {
        let kind = match choice {
            ToolChoice::Auto => "auto",
            ToolChoice::None => "none",
            ToolChoice::Required => "any",
            ToolChoice::Named(_) => "tool",
        };
        it.key("type").string(kind);
        if let ToolChoice::Named(name) = choice {
            it.key("name").lit(name);
        }
        if one_at_a_time && *choice != ToolChoice::None {
            it.key("disable_parallel_tool_use").bool(true);
        }
    });
}

fn write_tool(it: &mut Writer, tool: &Tool<'_>) {
    it.object(|it| {
        it.key("name").lit(&tool.name);
        if let Some(description) = &tool.description {
            it.key("description").lit(description);
        }
        it.key("input_schema");
        write_schema(it, tool.schema);
        if let Some(strict) = tool.strict {
            it.key("strict").bool(strict);
        }
        if let Some(cache) = tool.cache {
            it.key("cache_control").view(cache);
        }
    });
}

/// Anthropic wants the schema of an object, and wants it said.
fn write_schema(it: &mut Writer, schema: Option<View<'_>>) {
    let Some(schema) = schema.filter(|schema| schema.is_object()) else {
        it.raw(NO_ARGUMENTS);
        return;
    };
    if schema.get("type").is_some_and(|kind| kind.is("object")) {
        it.view(schema);
        return;
    }
    it.object(|it| {
        it.key("type").string("object");
        for (name, value) in schema.members().filter(|(name, _)| name != "type") {
            it.key(&name).view(value);
        }
    });
}

/// Temperature and its kin. A model that thinks takes only a temperature of 1 and a `top_p` close
/// to that, and models since Claude Opus 4.1 refuse the two together: OpenAI's clients often send
/// both, so the temperature stays and `top_p`, which is 1 where nothing else was meant, goes.
fn write_sampling(it: &mut Writer, request: &Request<'_>, thinks: bool, dropped: &mut Dropped) {
    let temperature = request.temperature.map(|it| (it, it.f64().unwrap_or(1.0)));
    let is_kept = temperature.is_some_and(|(_, value)| !thinks || value == 1.0);
    match temperature {
        Some(_) if !is_kept => dropped.note("temperature"),
        Some((_, value)) if value > 1.0 => {
            dropped.note("temperature");
            it.key("temperature").number(1);
        }
        Some((temperature, _)) => {
            it.key("temperature").view(temperature);
        }
        None => {}
    }
    if let Some(top_p) = request.top_p {
        let value = top_p.f64().unwrap_or(1.0);
        if value != 1.0 && (is_kept || thinks && value < THINKING_TOP_P_MIN) {
            dropped.note("top_p");
        } else if !is_kept {
            it.key("top_p").view(top_p);
        }
    }
    match request.top_k {
        Some(_) if thinks => dropped.note("top_k"),
        Some(top_k) => {
            it.key("top_k").view(top_k);
        }
        None => {}
    }
}

fn tools_size(request: &Request<'_>) -> usize {
    // Names of members, the tool's own name, and quotes.
    const AROUND: usize = 160;
    let size = |tool: &Tool<'_>| {
        let description = tool.description.as_ref().map_or("", Lit::as_escaped);
        let schema = tool.schema.map_or("", View::text);
        AROUND + description.len() + schema.len()
    };
    request.tools.iter().map(size).sum()
}
