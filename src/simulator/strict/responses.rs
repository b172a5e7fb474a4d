//! What OpenAI takes at `/v1/responses`. Pure. The tables follow the SDK's `ResponseCreateParams`
//! and `ResponseInputItemParam`, the rules about items the API's error messages.
//!
//! Start at [`check`].

use serde_json::Value;

use super::kind::{self, Field, Finding, Kind, POSITIVE, Variants, may, must, null};
use super::openai::{
    EFFORT, IMAGE_URL, NAME, RETENTION, SERVICE_TIER, SHARE, TEMPERATURE, TEXTS, TOP_LOGPROBS,
    VERBOSITY, check_if_strict, check_named, check_stream_options,
};
use super::{has, list, text};

/// The least that `max_output_tokens` can be.
const OUTPUT_TOKENS_MIN: i64 = 16;

const REQUEST: &[Field] = &[
    must("model", Kind::Text),
    may(
        "input",
        Kind::Either(&[Kind::Text, Kind::List(&Kind::Chosen(item))]),
    ),
    may("access_programs", Kind::Map),
    null("background", Kind::Bool),
    may("background_options", Kind::Map),
    null("context_management", Kind::List(&Kind::Map)),
    null("conversation", Kind::Either(&[Kind::Text, Kind::Map])),
    may("image", Kind::Map),
    null("include", TEXTS),
    null("instructions", Kind::Text),
    null(
        "max_output_tokens",
        Kind::Integer(OUTPUT_TOKENS_MIN, i64::MAX),
    ),
    null("max_tool_calls", POSITIVE),
    null("metadata", Kind::Map),
    may("moderation", Kind::Map),
    null("parallel_tool_calls", Kind::Bool),
    null("previous_response_id", Kind::Text),
    null("prompt", Kind::Map),
    null("prompt_cache_key", Kind::Text),
    may("prompt_cache_options", Kind::Map),
    null("prompt_cache_retention", RETENTION),
    null("reasoning", REASONING),
    null("safety_identifier", Kind::Text),
    null("service_tier", SERVICE_TIER),
    null("store", Kind::Bool),
    null("stream", Kind::Bool),
    null(
        "stream_options",
        Kind::Object(&[may("include_obfuscation", Kind::Bool)]),
    ),
    null("temperature", TEMPERATURE),
    may("text", TEXT_CONFIG),
    may(
        "tool_choice",
        Kind::Either(&[CHOICES, Kind::Chosen(named_choice)]),
    ),
    may("tools", Kind::List(&Kind::Chosen(tool))),
    null("top_logprobs", TOP_LOGPROBS),
    null("top_p", SHARE),
    null("truncation", Kind::OneOf(&["auto", "disabled"])),
    may("user", Kind::Text),
];

const REASONING: Kind = Kind::Object(&[
    null(
        "context",
        Kind::OneOf(&["auto", "current_turn", "all_turns"]),
    ),
    null("effort", EFFORT),
    null("generate_summary", SUMMARY),
    may("mode", Kind::Text),
    null("summary", SUMMARY),
]);

const SUMMARY: Kind = Kind::OneOf(&["auto", "concise", "detailed"]);

const TEXT_CONFIG: Kind = Kind::Object(&[
    may("format", Kind::Tagged("type", FORMATS)),
    null("verbosity", VERBOSITY),
]);

const FORMATS: &[(&str, &[Field])] = &[
    ("text", &[must("type", Kind::Text)]),
    ("json_object", &[must("type", Kind::Text)]),
    (
        "json_schema",
        &[
            must("type", Kind::Text),
            must("name", NAME),
            must("schema", Kind::Map),
            may("description", Kind::Text),
            null("strict", Kind::Bool),
        ],
    ),
];

const CHOICES: Kind = Kind::OneOf(&["none", "auto", "required"]);

/// A choice of one tool. Those of the vendor's own are not looked into.
fn named_choice(value: &Value) -> Result<Kind, Finding> {
    const NAMED: &[Field] = &[must("type", Kind::Text), must("name", Kind::Text)];
    const VARIANTS: &[(&str, &[Field])] = &[
        ("function", NAMED),
        ("custom", NAMED),
        (
            "allowed_tools",
            &[
                must("type", Kind::Text),
                must("mode", Kind::OneOf(&["auto", "required"])),
                must("tools", Kind::Items(&Kind::Map)),
            ],
        ),
    ];
    own_or(value, VARIANTS)
}

const FUNCTION: &[Field] = &[
    must("type", Kind::Text),
    must("name", NAME),
    null("parameters", Kind::Map),
    null("strict", Kind::Bool),
    null("description", Kind::Text),
    null("allowed_callers", TEXTS),
    may("async", Kind::Bool),
    may("defer_loading", Kind::Bool),
    null("output_schema", Kind::Map),
];

fn tool(value: &Value) -> Result<Kind, Finding> {
    const VARIANTS: &[(&str, &[Field])] = &[
        ("function", FUNCTION),
        (
            "custom",
            &[
                must("type", Kind::Text),
                must("name", NAME),
                may("description", Kind::Text),
                may("format", Kind::Map),
                null("allowed_callers", TEXTS),
                may("async", Kind::Bool),
                may("defer_loading", Kind::Bool),
            ],
        ),
    ];
    own_or(value, VARIANTS)
}

/// Tools and items of the vendor's own, which are not looked into.
const OWN: [&str; 34] = [
    "additional_tools",
    "apply_patch",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer",
    "computer_call",
    "computer_call_output",
    "computer_use",
    "computer_use_preview",
    "file_search",
    "file_search_call",
    "image_generation",
    "image_generation_call",
    "local_shell",
    "local_shell_call",
    "local_shell_call_output",
    "mcp",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "namespace",
    "program",
    "program_output",
    "programmatic_tool_calling",
    "shell",
    "shell_call",
    "shell_call_output",
    "tool_search",
    "web_search_call",
];

fn own_or(value: &Value, variants: Variants) -> Result<Kind, Finding> {
    let name = text(value, "type");
    if OWN.contains(&name) || name.starts_with("web_search") || name.starts_with("tool_search") {
        return Ok(Kind::Map);
    }
    kind::tagged(value, "type", variants).map(Kind::Object)
}

const STATUS: Kind = Kind::OneOf(&["in_progress", "completed", "incomplete"]);
const FC_ID: Kind = Kind::Where(&Kind::Text, |id| begins(id, "fc"));
const CTC_ID: Kind = Kind::Where(&Kind::Text, |id| begins(id, "ctc"));
const MSG_ID: Kind = Kind::Where(&Kind::Text, |id| begins(id, "msg"));
const RS_ID: Kind = Kind::Where(&Kind::Text, |id| begins(id, "rs"));

/// Each kind of item has ids of its own.
fn begins(id: &Value, prefix: &str) -> Result<(), Finding> {
    let id = id.as_str().unwrap_or_default();
    if id.starts_with(prefix) {
        return Ok(());
    }
    let id: String = id.chars().take(64).collect();
    Err(Finding::rule(format!(
        "Invalid '{{path}}': '{id}'. Expected an ID that begins with '{prefix}'."
    )))
}

const OUTPUT: Kind = Kind::Either(&[Kind::Text, Kind::List(&INPUT_PART)]);

const ITEMS: &[(&str, &[Field])] = &[
    ("message", &[]),
    (
        "function_call",
        &[
            must("type", Kind::Text),
            must("call_id", Kind::Text),
            must("name", NAME),
            must("arguments", Kind::Text),
            may("id", FC_ID),
            null("status", STATUS),
            null("caller", Kind::Map),
            null("namespace", Kind::Text),
            may("async", Kind::Bool),
        ],
    ),
    (
        "function_call_output",
        &[
            must("type", Kind::Text),
            must("call_id", Kind::Text),
            must("output", OUTPUT),
            null("id", FC_ID),
            null("status", STATUS),
            null("caller", Kind::Map),
            null("name", Kind::Text),
            null("namespace", Kind::Text),
        ],
    ),
    (
        "custom_tool_call",
        &[
            must("type", Kind::Text),
            must("call_id", Kind::Text),
            must("name", NAME),
            must("input", Kind::Text),
            may("id", CTC_ID),
            null("status", STATUS),
            null("caller", Kind::Map),
            may("namespace", Kind::Text),
        ],
    ),
    (
        "custom_tool_call_output",
        &[
            must("type", Kind::Text),
            must("call_id", Kind::Text),
            must("output", OUTPUT),
            may("id", Kind::Text),
            null("caller", Kind::Map),
        ],
    ),
    (
        "reasoning",
        &[
            must("type", Kind::Text),
            must("id", RS_ID),
            must("summary", Kind::List(&SUMMARY_PART)),
            null("content", Kind::List(&REASONING_PART)),
            null("encrypted_content", Kind::Text),
            null("status", STATUS),
        ],
    ),
    (
        "item_reference",
        &[must("type", Kind::Text), must("id", Kind::Text)],
    ),
];

const SUMMARY_PART: Kind = Kind::Tagged("type", &[("summary_text", TYPED_TEXT)]);
const REASONING_PART: Kind = Kind::Tagged("type", &[("reasoning_text", TYPED_TEXT)]);
const TYPED_TEXT: &[Field] = &[must("type", Kind::Text), must("text", Kind::Text)];

const INPUT_MESSAGE: &[Field] = &[
    must("role", Kind::Text),
    must(
        "content",
        Kind::Either(&[Kind::Text, Kind::List(&INPUT_PART)]),
    ),
    may("type", Kind::Text),
    may("status", STATUS),
    null("phase", PHASE),
];

/// A message of the model's, as it answered it or as the caller writes it.
const OUTPUT_MESSAGE: &[Field] = &[
    must("role", Kind::Text),
    must(
        "content",
        Kind::Either(&[Kind::Text, Kind::List(&OUTPUT_PART)]),
    ),
    may("type", Kind::Text),
    may("id", MSG_ID),
    null("status", STATUS),
    null("phase", PHASE),
];

const PHASE: Kind = Kind::OneOf(&["commentary", "final_answer"]);

const INPUT_PART: Kind = Kind::Tagged(
    "type",
    &[
        (
            "input_text",
            &[
                must("type", Kind::Text),
                must("text", Kind::Text),
                null("prompt_cache_breakpoint", Kind::Map),
            ],
        ),
        (
            "input_image",
            &[
                must("type", Kind::Text),
                null("detail", Kind::OneOf(&["auto", "low", "high", "original"])),
                null("file_id", Kind::Text),
                null("image_url", IMAGE_URL),
                null("prompt_cache_breakpoint", Kind::Map),
            ],
        ),
        (
            "input_file",
            &[
                must("type", Kind::Text),
                may("detail", Kind::OneOf(&["auto", "low", "high"])),
                null("file_data", Kind::Text),
                null("file_id", Kind::Text),
                null("file_url", Kind::Text),
                null("filename", Kind::Text),
                null("prompt_cache_breakpoint", Kind::Map),
            ],
        ),
    ],
);

const OUTPUT_PART: Kind = Kind::Tagged(
    "type",
    &[
        (
            "output_text",
            &[
                must("type", Kind::Text),
                must("text", Kind::Text),
                may("annotations", Kind::List(&Kind::Map)),
                null("logprobs", Kind::List(&Kind::Map)),
            ],
        ),
        (
            "refusal",
            &[must("type", Kind::Text), must("refusal", Kind::Text)],
        ),
    ],
);

/// An item of the input; without a type it is a message, or a reference to an item.
fn item(value: &Value) -> Result<Kind, Finding> {
    const ROLES: &[(&str, &[Field])] = &[
        ("user", INPUT_MESSAGE),
        ("system", INPUT_MESSAGE),
        ("developer", INPUT_MESSAGE),
        ("assistant", OUTPUT_MESSAGE),
    ];
    let is_reference = has(value, "id") && !has(value, "role");
    match text(value, "type") {
        "" if is_reference => Ok(Kind::Map),
        "" if has(value, "type") => kind::tagged(value, "type", ITEMS).map(Kind::Object),
        "" | "message" => kind::tagged(value, "role", ROLES).map(Kind::Object),
        _ => own_or(value, ITEMS),
    }
}

/// Checks a request.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(REQUEST))?;
    check_stream_options(body)?;
    for (index, tool) in list(body, "tools") {
        check_if_strict(tool, "parameters").map_err(|finding| finding.at(index).within("tools"))?;
    }
    let format = &body["text"]["format"];
    check_if_strict(format, "schema").map_err(|finding| finding.within("format").within("text"))?;
    let choice = &body["tool_choice"];
    if text(choice, "type") == "function" {
        check_named(body, text(choice, "name"), |tool| text(tool, "name"))?;
    }
    check_items(body)
}

/// Each output answers a call before it, and each call is answered. What came before the input is
/// not known here.
fn check_items(body: &Value) -> Result<(), Finding> {
    let is_whole = !has(body, "previous_response_id") && !has(body, "conversation");
    let mut open: Vec<(&str, &str)> = Vec::new();
    for (_, item) in list(body, "input") {
        let (kind, id) = (text(item, "type"), text(item, "call_id"));
        match kind {
            "function_call" | "custom_tool_call" => open.push((kind, id)),
            "function_call_output" | "custom_tool_call_output" => {
                match open.iter().position(|(_, own)| *own == id) {
                    Some(at) => drop(open.remove(at)),
                    None if is_whole => {
                        let what = kind.replace('_', " ");
                        let what = what.trim_end_matches(" output");
                        let text =
                            format!("No tool call found for {what} output with call_id {id}.");
                        return Err(Finding::rule(text).within("input"));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }
    match open.first() {
        Some((kind, id)) => {
            let text = format!("No tool output found for {} {id}.", kind.replace('_', " "));
            Err(Finding::rule(text).within("input"))
        }
        None => Ok(()),
    }
}
