//! Writes a request for a provider that speaks chat completions.
//!
//! Many servers speak this dialect, and most refuse a member that they do not know, so only what
//! the vendor has had for long is written: no cache marks, no thoughts. Start at
//! [`write_request`]; the conversation is in [`turns_out`](super::turns_out).

use super::content_out;
use super::turns_out::write_turns;
use crate::wire::Dialect;
use crate::wire::form::{
    Dropped, Format, Reasoning, Request, Thinking, Tool, ToolChoice, Untranslatable,
};
use crate::wire::json::view::Lit;
use crate::wire::json::write::Writer;
use crate::wire::translate::Target;

/// Stop sequences that the vendor takes.
const STOP_MAX: usize = 4;
/// Members of the vendor's that the form has no place for and this endpoint knows.
const EXTRA: [&str; 12] = [
    "audio",
    "logit_bias",
    "metadata",
    "modalities",
    "moderation",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "store",
    "web_search_options",
];

/// What is found out while writing.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) dropped: Dropped,
    /// The first piece of the conversation that cannot be said.
    pub(super) fault: Option<Untranslatable>,
}

impl Notes {
    pub(super) fn fault(&mut self, at: &str, why: &str) {
        self.fault
            .get_or_insert_with(|| Untranslatable::new(at, why));
    }
}

/// The body that asks `request` of `target`. What chat completions have no word for is noted in
/// `request.dropped`.
///
/// # Errors
/// A piece of the conversation cannot be said in chat completions.
pub fn write_request(
    request: &mut Request<'_>,
    target: &Target<'_>,
) -> Result<Vec<u8>, Untranslatable> {
    let mut notes = Notes {
        dropped: std::mem::take(&mut request.dropped),
        fault: None,
    };
    let mut out = Writer::with_capacity(content_out::weight(&request.turns) + 4096);
    out.object(|out| {
        out.key("model").string(target.model);
        out.key("messages")
            .array(|out| write_turns(out, &request.turns, &mut notes));
        tools(out, request, &mut notes.dropped);
        sampling(out, request, &mut notes.dropped);
        wishes(out, request);
        extra(out, request, &mut notes.dropped);
    });
    request.dropped = notes.dropped;
    match notes.fault {
        Some(fault) => Err(fault),
        None => Ok(out.into_bytes()),
    }
}

fn tools(out: &mut Writer, request: &Request<'_>, dropped: &mut Dropped) {
    // The vendor refuses a choice among no tools. To call none of none is no loss.
    if request.tools.is_empty() {
        if let Some(ToolChoice::Required | ToolChoice::Named(_)) = request.tool_choice {
            dropped.note("tool_choice");
        }
        return;
    }
    out.key("tools").array(|out| {
        for it in &request.tools {
            if it.cache.is_some() {
                dropped.note("cache_control");
            }
            tool(out, it);
        }
    });
    if let Some(choice) = &request.tool_choice {
        out.key("tool_choice");
        match choice {
            ToolChoice::Auto => out.string("auto"),
            ToolChoice::None => out.string("none"),
            ToolChoice::Required => out.string("required"),
            ToolChoice::Named(name) => out.object(|out| {
                out.key("type").string("function");
                out.key("function").object(|out| {
                    out.key("name").lit(name);
                });
            }),
        };
    }
    if let Some(parallel) = request.parallel_tools {
        out.key("parallel_tool_calls").bool(parallel);
    }
}

fn tool(out: &mut Writer, tool: &Tool<'_>) {
    out.object(|out| {
        out.key("type").string("function");
        out.key("function").object(|out| {
            out.key("name").lit(&tool.name);
            if let Some(description) = &tool.description {
                out.key("description").lit(description);
            }
            out.key("parameters");
            match (tool.schema, tool.strict) {
                (Some(schema), _) => out.view(schema),
                // Strict schemas have to be closed.
                (None, Some(true)) => out
                    .raw(r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#),
                (None, _) => out.raw(r#"{"type":"object","properties":{}}"#),
            };
            if let Some(strict) = tool.strict {
                out.key("strict").bool(strict);
            }
        });
    });
}

/// How the answer is drawn, and how long it may be.
fn sampling(out: &mut Writer, request: &Request<'_>, dropped: &mut Dropped) {
    let counts = [
        ("max_completion_tokens", request.max_tokens),
        ("n", request.n),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            out.key(name).number(count);
        }
    }
    let numbers = [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
        ("seed", request.seed),
        ("top_logprobs", request.top_logprobs),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            out.key(name).view(number);
        }
    }
    if request.top_k.is_some() {
        dropped.note("top_k");
    }
    if let Some(logprobs) = request.logprobs {
        out.key("logprobs").bool(logprobs);
    }
    if !request.stop.is_empty() {
        if request.stop.len() > STOP_MAX {
            dropped.note("stop_sequences");
        }
        out.key("stop").array(|out| {
            for stop in request.stop.iter().take(STOP_MAX) {
                out.lit(stop);
            }
        });
    }
}

/// What the answer is to be like, and for whom.
fn wishes(out: &mut Writer, request: &Request<'_>) {
    if request.stream {
        out.key("stream").bool(true);
        // Asked for whether the caller wants it or not: the tokens are counted here.
        out.key("stream_options").object(|out| {
            out.key("include_usage").bool(true);
        });
    }
    if let Some(it) = &request.format {
        out.key("response_format");
        format(out, it);
    }
    if let Some(effort) = request.reasoning.as_ref().and_then(effort) {
        out.key("reasoning_effort").lit(&effort);
    }
    if let Some(verbosity) = &request.verbosity {
        out.key("verbosity").lit(verbosity);
    }
    if let Some(user) = &request.user {
        // `safety_identifier` would be the vendor's newer word, which others do not know.
        out.key("user").lit(user);
    }
}

fn format(out: &mut Writer, format: &Format<'_>) {
    out.object(|out| match format {
        Format::JsonObject => {
            out.key("type").string("json_object");
        }
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            out.key("type").string("json_schema");
            out.key("json_schema").object(|out| {
                let unnamed = Lit::of("answer");
                out.key("name").lit(name.as_ref().unwrap_or(&unnamed));
                if let Some(description) = description {
                    out.key("description").lit(description);
                }
                out.key("schema").view(*schema);
                if let Some(strict) = strict {
                    out.key("strict").bool(*strict);
                }
            });
        }
    });
}

fn effort<'r>(reasoning: &'r Reasoning<'_>) -> Option<Lit<'r>> {
    match (&reasoning.effort, reasoning.thinking) {
        (Some(effort), _) => Some(effort.borrow()),
        (None, Some(Thinking::Disabled)) => Some(Lit::of("none")),
        (None, Some(Thinking::Budget(tokens))) => Some(Lit::of(match tokens {
            ..2048 => "low",
            2048..8192 => "medium",
            _ => "high",
        })),
        (None, Some(Thinking::Adaptive) | None) => None,
    }
}

fn extra(out: &mut Writer, request: &Request<'_>, dropped: &mut Dropped) {
    for it in &request.extra {
        if it.vendor == Dialect::Openai && EXTRA.contains(&it.name.as_ref()) {
            out.key(&it.name).view(it.value);
        } else {
            dropped.note(&it.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::{Arguments, Extra, Part, PartKind, Role, Turn};
    use crate::wire::json::view::View;
    use crate::wire::translate::StructuredOutput;

    const TARGET: Target<'static> = Target {
        model: "gpt-x",
        default_max_tokens: 1,
        structured_output: StructuredOutput::Native,
        sampling: true,
    };

    /// Writes `request` and checks what is asked beside model and messages, and what is dropped.
    fn check(mut request: Request<'_>, expected: &str, dropped: &str) {
        let body = write_request(&mut request, &TARGET).unwrap();
        let body = String::from_utf8(body).unwrap();
        let rest = body.strip_prefix(r#"{"model":"gpt-x","messages":[]"#);
        let rest = rest.unwrap().strip_prefix(',').unwrap_or("}");
        assert_eq!(rest.strip_suffix('}').unwrap(), expected);
        assert_eq!(request.dropped.to_string(), dropped);
    }

    fn tool(name: &str) -> Tool<'_> {
        Tool {
            name: Lit::of(name),
            description: None,
            schema: None,
            strict: None,
            cache: None,
        }
    }

    #[test]
    fn tools_have_parameters_and_are_chosen_among() {
        let get = Tool {
            description: Some(Lit::of("Gets")),
            schema: Some(View::new(r#"{"type": "object"}"#)),
            strict: Some(false),
            cache: Some(View::new("{}")),
            ..tool("get")
        };
        let request = Request {
            tools: vec![get, tool("put")],
            tool_choice: Some(ToolChoice::Named(Lit::of("get"))),
            parallel_tools: Some(false),
            ..Request::default()
        };
        check(
            request,
            concat!(
                r#""tools":[{"type":"function","function":{"name":"get","description":"Gets","parameters":{"type": "object"},"strict":false}},"#,
                r#"{"type":"function","function":{"name":"put","parameters":{"type":"object","properties":{}}}}],"#,
                r#""tool_choice":{"type":"function","function":{"name":"get"}},"parallel_tool_calls":false"#
            ),
            "cache_control",
        );
        for (choice, dropped) in [
            (ToolChoice::Auto, ""),
            (ToolChoice::None, ""),
            (ToolChoice::Required, "tool_choice"),
        ] {
            let request = Request {
                tool_choice: Some(choice),
                parallel_tools: Some(true),
                ..Request::default()
            };
            check(request, "", dropped);
        }
    }

    #[test]
    fn how_an_answer_is_drawn_has_the_vendors_names() {
        let number = |text| Some(View::new(text));
        let request = Request {
            max_tokens: Some(7),
            n: Some(2),
            temperature: number("0.50"),
            top_p: number("1"),
            top_k: number("40"),
            frequency_penalty: number("0.1"),
            presence_penalty: number("0.2"),
            seed: number("-3"),
            logprobs: Some(true),
            top_logprobs: number("5"),
            stop: ["a", "b", "c", "d", "e"].map(Lit::of).to_vec(),
            ..Request::default()
        };
        check(
            request,
            concat!(
                r#""max_completion_tokens":7,"n":2,"temperature":0.50,"top_p":1,"frequency_penalty":0.1,"#,
                r#""presence_penalty":0.2,"seed":-3,"top_logprobs":5,"logprobs":true,"stop":["a","b","c","d"]"#
            ),
            "top_k, stop_sequences",
        );
    }

    #[test]
    fn a_stream_always_counts_its_tokens() {
        let request = Request {
            stream: true,
            user: Some(Lit::of("u1")),
            verbosity: Some(Lit::of("low")),
            ..Request::default()
        };
        check(
            request,
            r#""stream":true,"stream_options":{"include_usage":true},"verbosity":"low","user":"u1""#,
            "",
        );
    }

    #[test]
    fn a_format_is_named() {
        let schema = |name: Option<&'static str>, strict| Request {
            format: Some(Format::JsonSchema {
                name: name.map(Lit::of),
                description: name.map(Lit::of),
                schema: View::new("{}"),
                strict,
            }),
            ..Request::default()
        };
        check(
            schema(None, None),
            r#""response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{}}}"#,
            "",
        );
        check(
            schema(Some("x"), Some(true)),
            r#""response_format":{"type":"json_schema","json_schema":{"name":"x","description":"x","schema":{},"strict":true}}"#,
            "",
        );
        let object = Request {
            format: Some(Format::JsonObject),
            ..Request::default()
        };
        check(object, r#""response_format":{"type":"json_object"}"#, "");
    }

    #[test]
    fn thinking_becomes_an_effort() {
        let check = |effort: Option<&'static str>, thinking, expected: &str| {
            let reasoning = Some(Reasoning {
                effort: effort.map(Lit::of),
                thinking,
            });
            let expected = match expected {
                "" => String::new(),
                effort => format!(r#""reasoning_effort":"{effort}""#),
            };
            let request = Request {
                reasoning,
                ..Request::default()
            };
            check(request, &expected, "");
        };
        check(Some("minimal"), None, "minimal");
        check(Some("max"), Some(Thinking::Adaptive), "max");
        check(Some("low"), Some(Thinking::Budget(9999)), "low");
        check(None, Some(Thinking::Disabled), "none");
        check(None, Some(Thinking::Adaptive), "");
        check(None, None, "");
        for (tokens, effort) in [
            (0, "low"),
            (2047, "low"),
            (2048, "medium"),
            (8191, "medium"),
            (8192, "high"),
        ] {
            check(None, Some(Thinking::Budget(tokens)), effort);
        }
    }

    #[test]
    fn only_extras_of_the_vendor_that_the_endpoint_knows_are_written() {
        let extra = |vendor, name: &'static str| Extra {
            vendor,
            name: name.into(),
            value: View::new(r#"{"a":1}"#),
        };
        let request = Request {
            extra: vec![
                extra(Dialect::Openai, "metadata"),
                extra(Dialect::Anthropic, "metadata"),
                extra(Dialect::Openai, "truncation"),
                extra(Dialect::Openai, "logit_bias"),
            ],
            ..Request::default()
        };
        check(
            request,
            r#""metadata":{"a":1},"logit_bias":{"a":1}"#,
            "metadata, truncation",
        );
    }

    #[test]
    fn notes_survive_a_refusal() {
        let mut request = Request {
            turns: vec![Turn {
                role: Role::System,
                name: None,
                parts: vec![Part::from(PartKind::ToolCall {
                    id: Lit::of("1"),
                    name: Lit::of("f"),
                    arguments: Arguments::Json("{}".into()),
                })],
            }],
            ..Request::default()
        };
        request.dropped.note("seed");
        let fault = write_request(&mut request, &TARGET).unwrap_err();
        assert_eq!(fault.at, "messages[].content[]");
        assert_eq!(request.dropped.to_string(), "seed");
    }
}
