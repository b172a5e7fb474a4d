//! What Anthropic takes at `/v1/messages`. Pure. The tables follow the SDK's
//! `MessageCreateParams`, the rules of a conversation the API's error messages.
//!
//! Content blocks are in `blocks`. Start at [`check`].

use serde_json::Value;

use super::blocks::{CACHE_CONTROL, MESSAGE, SYSTEM, check_conversation};
use super::kind::{self, Field, Finding, Kind, POSITIVE, may, must, null};
use super::{has, is_plain, list, text};

/// The least that a thought can be given.
const BUDGET_TOKENS_MIN: i64 = 1024;
/// The least `top_p` beside thinking.
const TOP_P_THINKING_MIN: f64 = 0.95;
/// Longest name of a tool.
const NAME_BYTES_MAX: usize = 128;

const SHARE: Kind = Kind::Number(0.0, 1.0);

/// `temperature`, `top_p` and `top_k` are no longer in the newest SDK's types; the API takes them.
/// What is for requests with a beta header only is not looked into.
const REQUEST: &[Field] = &[
    must("model", Kind::Text),
    must("max_tokens", POSITIVE),
    must("messages", Kind::Items(&MESSAGE)),
    null("cache_control", CACHE_CONTROL),
    null("compaction", Kind::Any),
    null("container", Kind::Either(&[Kind::Text, Kind::Map])),
    null("context_management", Kind::Any),
    null("diagnostics", Kind::Map),
    null("fallbacks", Kind::Any),
    null("inference_geo", Kind::Text),
    may("mcp_servers", Kind::List(&Kind::Map)),
    may("metadata", Kind::Object(&[null("user_id", Kind::Text)])),
    may("output_config", OUTPUT_CONFIG),
    null("output_format", FORMAT),
    may("service_tier", Kind::OneOf(&["auto", "standard_only"])),
    null("speed", Kind::OneOf(&["standard", "fast"])),
    may(
        "stop_sequences",
        Kind::List(&Kind::Where(&Kind::Text, not_blank)),
    ),
    may("stream", Kind::Bool),
    may("system", SYSTEM),
    may("temperature", SHARE),
    may("thinking", THINKING),
    null("thread", Kind::Any),
    may("tool_choice", TOOL_CHOICE),
    may("tools", Kind::List(&Kind::Chosen(tool))),
    may("top_k", Kind::Integer(0, i64::MAX)),
    may("top_p", SHARE),
    may("user_profile_id", Kind::Text),
    may("workspace_id", Kind::Text),
];

const COUNT: &[Field] = &[
    must("model", Kind::Text),
    must("messages", Kind::Items(&MESSAGE)),
    null("cache_control", CACHE_CONTROL),
    null("context_management", Kind::Any),
    may("mcp_servers", Kind::List(&Kind::Map)),
    may("output_config", OUTPUT_CONFIG),
    null("output_format", FORMAT),
    null("speed", Kind::OneOf(&["standard", "fast"])),
    may("system", SYSTEM),
    may("thinking", THINKING),
    may("tool_choice", TOOL_CHOICE),
    may("tools", Kind::List(&Kind::Chosen(tool))),
    may("user_profile_id", Kind::Text),
    may("workspace_id", Kind::Text),
];

const FORMAT: Kind = Kind::Object(&[
    must("type", Kind::OneOf(&["json_schema"])),
    must("schema", Kind::Map),
]);

const OUTPUT_CONFIG: Kind = Kind::Object(&[
    null(
        "effort",
        Kind::OneOf(&["low", "medium", "high", "xhigh", "max"]),
    ),
    null("format", FORMAT),
    null("task_budget", Kind::Map),
]);

const DISPLAY: Kind = Kind::OneOf(&["summarized", "omitted"]);

const THINKING: Kind = Kind::Tagged(
    "type",
    &[
        (
            "enabled",
            &[
                must("type", Kind::Text),
                must("budget_tokens", Kind::Integer(BUDGET_TOKENS_MIN, i64::MAX)),
                null("display", DISPLAY),
            ],
        ),
        (
            "adaptive",
            &[must("type", Kind::Text), null("display", DISPLAY)],
        ),
        ("between_tools", &[must("type", Kind::Text)]),
        ("disabled", &[must("type", Kind::Text)]),
    ],
);

const CHOICE_OF_ANY: &[Field] = &[
    must("type", Kind::Text),
    may("disable_parallel_tool_use", Kind::Bool),
];

const TOOL_CHOICE: Kind = Kind::Tagged(
    "type",
    &[
        ("auto", CHOICE_OF_ANY),
        ("any", CHOICE_OF_ANY),
        (
            "tool",
            &[
                must("type", Kind::Text),
                must("name", Kind::Text),
                may("disable_parallel_tool_use", Kind::Bool),
            ],
        ),
        ("none", &[must("type", Kind::Text)]),
    ],
);

const TOOL: &[Field] = &[
    must("name", Kind::Where(&Kind::Text, name)),
    must("input_schema", Kind::Where(&Kind::Map, input_schema)),
    null("type", Kind::OneOf(&["custom"])),
    may("description", Kind::Text),
    null("cache_control", CACHE_CONTROL),
    may("allowed_callers", Kind::List(&Kind::Text)),
    may("defer_loading", Kind::Bool),
    null("eager_input_streaming", Kind::Bool),
    may("input_examples", Kind::List(&Kind::Map)),
    may("strict", Kind::Bool),
];

/// How the types of the vendor's own tools begin; they carry a date.
const OWN_TOOLS: [&str; 9] = [
    "bash_",
    "browser_toolset_",
    "code_execution_",
    "computer_",
    "memory_",
    "text_editor_",
    "tool_search_tool_",
    "web_fetch_",
    "web_search_",
];

/// A tool of the caller's, or one of the vendor's own, which is not looked into.
fn tool(value: &Value) -> Result<Kind, Finding> {
    match text(value, "type") {
        "" | "custom" => Ok(Kind::Object(TOOL)),
        own if OWN_TOOLS.iter().any(|prefix| own.starts_with(prefix)) => Ok(Kind::Map),
        _ => kind::tagged(value, "type", &[("custom", TOOL)]).map(Kind::Object),
    }
}

fn name(value: &Value) -> Result<(), Finding> {
    let name = value.as_str().unwrap_or_default();
    if is_plain(name) && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Finding::rule(
        "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    ))
}

fn input_schema(value: &Value) -> Result<(), Finding> {
    const SCHEMA: &[Field] = &[must("type", Kind::OneOf(&["object"]))];
    kind::tagged(value, "type", &[("object", SCHEMA)]).map(drop)
}

fn not_blank(value: &Value) -> Result<(), Finding> {
    match value.as_str().unwrap_or_default().trim() {
        "" => Err(Finding::rule(
            "each stop sequence must contain non-whitespace",
        )),
        _ => Ok(()),
    }
}

/// Checks a request for a message.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(REQUEST))?;
    check_rest(body)?;
    check_thinking(body)
}

/// Checks a request to count tokens.
///
/// # Errors
/// As [`check`].
pub fn check_count(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(COUNT))?;
    check_rest(body)
}

fn check_rest(body: &Value) -> Result<(), Finding> {
    let mut names: Vec<&str> = Vec::new();
    for (_, tool) in list(body, "tools") {
        let name = text(tool, "name");
        if !name.is_empty() && names.contains(&name) {
            return Err(Finding::rule("Tool names must be unique.").within("tools"));
        }
        names.push(name);
    }
    if has(body, "tool_choice") {
        let choice = &body["tool_choice"];
        if names.is_empty() {
            let text = "tool_choice may only be specified while providing tools";
            return Err(Finding::rule(text).within("tool_choice"));
        }
        let name = text(choice, "name");
        if text(choice, "type") == "tool" && !names.contains(&name) {
            let text = format!("Tool '{name}' not found in provided tools");
            return Err(Finding::rule(text).within("tool_choice"));
        }
    }
    check_conversation(body)
}

/// What thinking does not go together with.
fn check_thinking(body: &Value) -> Result<(), Finding> {
    let thinking = body.get("thinking").unwrap_or(&Value::Null);
    let kind = text(thinking, "type");
    if !matches!(kind, "enabled" | "adaptive") {
        return Ok(());
    }
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_f64);
    let budget = number(thinking, "budget_tokens").unwrap_or(0.0);
    if budget >= number(body, "max_tokens").unwrap_or(f64::MAX) {
        let text = "`max_tokens` must be greater than `thinking.budget_tokens`.";
        return Err(Finding::rule(text).within("max_tokens"));
    }
    let refuse = |name: &str, text: &'static str| Err(Finding::rule(text).within(name));
    if number(body, "temperature").is_some_and(|temperature| temperature != 1.0) {
        return refuse(
            "temperature",
            "`temperature` may only be set to 1 when thinking is enabled.",
        );
    }
    if number(body, "top_p").is_some_and(|share| share < TOP_P_THINKING_MIN) {
        return refuse(
            "top_p",
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.",
        );
    }
    if has(body, "top_k") {
        return refuse("top_k", "`top_k` must be unset when thinking is enabled.");
    }
    if let Some(choice) = body.get("tool_choice")
        && matches!(text(choice, "type"), "any" | "tool")
    {
        return refuse(
            "tool_choice",
            "Thinking may not be enabled when tool_choice forces tool use.",
        );
    }
    if kind == "enabled" {
        check_thought_kept(body)?;
    }
    Ok(())
}

/// While tools are being called, the thought that led to the calls must be sent back.
fn check_thought_kept(body: &Value) -> Result<(), Finding> {
    let messages: Vec<&Value> = list(body, "messages").map(|(_, message)| message).collect();
    let Some((last, before)) = messages.split_last() else {
        return Ok(());
    };
    let has_result = list(last, "content").any(|(_, block)| text(block, "type") == "tool_result");
    let Some(calling) = before.last().filter(|_| has_result) else {
        return Ok(());
    };
    let first = calling["content"]
        .get(0)
        .map_or("text", |block| text(block, "type"));
    if matches!(first, "thinking" | "redacted_thinking") {
        return Ok(());
    }
    let text = format!(
        "Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is \
         enabled, a final `assistant` message must start with a thinking block."
    );
    let finding = Finding::rule(text).within("type").at(0).within("content");
    Err(finding.at(messages.len() - 2).within("messages"))
}
