//! What OpenAI takes at `/v1/chat/completions`. Pure. The tables follow the SDK's
//! `CompletionCreateParams`, the rules of a conversation the API's error messages.
//!
//! Start at [`check`].

use serde_json::Value;

use super::kind::{self, Field, Finding, INTEGER, Kind, POSITIVE, may, must, null};
use super::openai::{
    EFFORT, IMAGE_URL, NAME, PENALTY, RETENTION, SERVICE_TIER, SHARE, STOP, STREAM_OPTIONS,
    TEMPERATURE, TOP_LOGPROBS, VERBOSITY, check_if_strict, check_named, check_stream_options,
};
use super::{has, list, text};

const REQUEST: &[Field] = &[
    must("model", Kind::Text),
    must("messages", Kind::Items(&MESSAGE)),
    null("audio", Kind::Map),
    null("frequency_penalty", PENALTY),
    may("function_call", Kind::Any),
    may("functions", Kind::Items(&Kind::Object(FUNCTION))),
    null("logit_bias", Kind::Map),
    null("logprobs", Kind::Bool),
    null("max_completion_tokens", POSITIVE),
    null("max_tokens", POSITIVE),
    null("metadata", Kind::Map),
    null("modalities", Kind::List(&Kind::OneOf(&["text", "audio"]))),
    null("moderation", Kind::Map),
    null("n", Kind::Integer(1, 128)),
    may("parallel_tool_calls", Kind::Bool),
    null("prediction", Kind::Map),
    null("presence_penalty", PENALTY),
    null("prompt_cache_key", Kind::Text),
    may("prompt_cache_options", Kind::Map),
    null("prompt_cache_retention", RETENTION),
    null("reasoning_effort", EFFORT),
    may("response_format", RESPONSE_FORMAT),
    null("safety_identifier", Kind::Text),
    null("seed", INTEGER),
    null("service_tier", SERVICE_TIER),
    null("stop", STOP),
    null("store", Kind::Bool),
    null("stream", Kind::Bool),
    null("stream_options", STREAM_OPTIONS),
    null("temperature", TEMPERATURE),
    may("tool_choice", TOOL_CHOICE),
    may("tools", Kind::Items(&TOOL)),
    null("top_logprobs", TOP_LOGPROBS),
    null("top_p", SHARE),
    may("user", Kind::Text),
    null("verbosity", VERBOSITY),
    may("web_search_options", Kind::Map),
];

const MESSAGE: Kind = Kind::Tagged(
    "role",
    &[
        ("system", INSTRUCTION),
        ("developer", INSTRUCTION),
        ("user", USER),
        ("assistant", ASSISTANT),
        ("tool", TOOL_MESSAGE),
        ("function", FUNCTION_MESSAGE),
    ],
);

const INSTRUCTION: &[Field] = &[
    must("role", Kind::Text),
    must("content", TEXT_CONTENT),
    may("name", Kind::Text),
];

const USER: &[Field] = &[
    must("role", Kind::Text),
    must(
        "content",
        Kind::Either(&[Kind::Text, Kind::Items(&USER_PART)]),
    ),
    may("name", Kind::Text),
];

/// `annotations` is in what the API answers, and so in what is sent back to it.
const ASSISTANT: &[Field] = &[
    must("role", Kind::Text),
    null(
        "content",
        Kind::Either(&[Kind::Text, Kind::Items(&ASSISTANT_PART)]),
    ),
    null("refusal", Kind::Text),
    may("name", Kind::Text),
    null("audio", Kind::Object(&[must("id", Kind::Text)])),
    null("function_call", Kind::Object(CALLED)),
    may("tool_calls", Kind::Items(&TOOL_CALL)),
    null("annotations", Kind::List(&Kind::Map)),
];

const TOOL_MESSAGE: &[Field] = &[
    must("role", Kind::Text),
    must("content", TEXT_CONTENT),
    must("tool_call_id", Kind::Text),
];

const FUNCTION_MESSAGE: &[Field] = &[
    must("role", Kind::Text),
    must("name", Kind::Text),
    null("content", Kind::Text),
];

const TEXT_CONTENT: Kind = Kind::Either(&[
    Kind::Text,
    Kind::Items(&Kind::Tagged("type", &[("text", TEXT_PART)])),
]);

const USER_PART: Kind = Kind::Tagged(
    "type",
    &[
        ("text", TEXT_PART),
        ("image_url", IMAGE_PART),
        ("input_audio", AUDIO_PART),
        ("file", FILE_PART),
    ],
);

const ASSISTANT_PART: Kind =
    Kind::Tagged("type", &[("text", TEXT_PART), ("refusal", REFUSAL_PART)]);

const TEXT_PART: &[Field] = &[
    must("type", Kind::Text),
    must("text", Kind::Text),
    may("prompt_cache_breakpoint", Kind::Map),
];

const REFUSAL_PART: &[Field] = &[must("type", Kind::Text), must("refusal", Kind::Text)];

const IMAGE_PART: &[Field] = &[
    must("type", Kind::Text),
    must(
        "image_url",
        Kind::Object(&[
            must("url", IMAGE_URL),
            may("detail", Kind::OneOf(&["auto", "low", "high", "original"])),
        ]),
    ),
    may("prompt_cache_breakpoint", Kind::Map),
];

const AUDIO_PART: &[Field] = &[
    must("type", Kind::Text),
    must(
        "input_audio",
        Kind::Object(&[
            must("data", Kind::Text),
            must("format", Kind::OneOf(&["wav", "mp3"])),
        ]),
    ),
    may("prompt_cache_breakpoint", Kind::Map),
];

const FILE_PART: &[Field] = &[
    must("type", Kind::Text),
    must(
        "file",
        Kind::Object(&[
            may("file_data", Kind::Text),
            may("file_id", Kind::Text),
            may("filename", Kind::Text),
        ]),
    ),
    may("prompt_cache_breakpoint", Kind::Map),
];

const TOOL_CALL: Kind = Kind::Tagged(
    "type",
    &[
        (
            "function",
            &[
                must("type", Kind::Text),
                must("id", Kind::Text),
                must("function", Kind::Object(CALLED)),
            ],
        ),
        (
            "custom",
            &[
                must("type", Kind::Text),
                must("id", Kind::Text),
                must(
                    "custom",
                    Kind::Object(&[must("name", Kind::Text), must("input", Kind::Text)]),
                ),
            ],
        ),
    ],
);

const CALLED: &[Field] = &[must("name", NAME), must("arguments", Kind::Text)];

const FUNCTION: &[Field] = &[
    must("name", NAME),
    may("description", Kind::Text),
    may("parameters", Kind::Map),
    null("strict", Kind::Bool),
];

const TOOL: Kind = Kind::Tagged(
    "type",
    &[
        (
            "function",
            &[
                must("type", Kind::Text),
                must(
                    "function",
                    Kind::Where(&Kind::Object(FUNCTION), strict_parameters),
                ),
            ],
        ),
        (
            "custom",
            &[
                must("type", Kind::Text),
                must(
                    "custom",
                    Kind::Object(&[
                        must("name", NAME),
                        may("description", Kind::Text),
                        may("format", Kind::Map),
                    ]),
                ),
            ],
        ),
    ],
);

const NAMED: Kind = Kind::Object(&[must("name", Kind::Text)]);

const TOOL_CHOICE: Kind = Kind::Either(&[
    Kind::OneOf(&["none", "auto", "required"]),
    Kind::Tagged(
        "type",
        &[
            (
                "function",
                &[must("type", Kind::Text), must("function", NAMED)],
            ),
            ("custom", &[must("type", Kind::Text), must("custom", NAMED)]),
            (
                "allowed_tools",
                &[
                    must("type", Kind::Text),
                    must(
                        "allowed_tools",
                        Kind::Object(&[
                            must("mode", Kind::OneOf(&["auto", "required"])),
                            must("tools", Kind::Items(&Kind::Map)),
                        ]),
                    ),
                ],
            ),
        ],
    ),
]);

const RESPONSE_FORMAT: Kind = Kind::Tagged(
    "type",
    &[
        ("text", &[must("type", Kind::Text)]),
        ("json_object", &[must("type", Kind::Text)]),
        (
            "json_schema",
            &[
                must("type", Kind::Text),
                must(
                    "json_schema",
                    Kind::Where(&Kind::Object(JSON_SCHEMA), strict_schema),
                ),
            ],
        ),
    ],
);

const JSON_SCHEMA: &[Field] = &[
    must("name", NAME),
    may("description", Kind::Text),
    may("schema", Kind::Map),
    null("strict", Kind::Bool),
];

fn strict_parameters(function: &Value) -> Result<(), Finding> {
    check_if_strict(function, "parameters")
}

fn strict_schema(format: &Value) -> Result<(), Finding> {
    check_if_strict(format, "schema")
}

/// Checks a request.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(body: &Value) -> Result<(), Finding> {
    kind::check(body, &Kind::Object(REQUEST))?;
    check_stream_options(body)?;
    for name in ["tool_choice", "parallel_tool_calls"] {
        if has(body, name) && !has(body, "tools") {
            let text = format!(
                "Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
            );
            return Err(Finding::rule(text).within(name));
        }
    }
    if has(body, "top_logprobs") && body.get("logprobs") != Some(&Value::Bool(true)) {
        let text = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
        return Err(Finding::rule(text).within("top_logprobs"));
    }
    if has(body, "max_tokens") && has(body, "max_completion_tokens") {
        let text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not \
                    supported.";
        return Err(Finding::rule(text).within("max_tokens"));
    }
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    check_named(body, text(&choice["function"], "name"), |tool| {
        text(&tool["function"], "name")
    })?;
    check_conversation(body)
}

/// Each tool message answers a call of the assistant's message before it, and each call is
/// answered.
fn check_conversation(body: &Value) -> Result<(), Finding> {
    let in_messages = |finding: Finding, index| finding.at(index).within("messages");
    let mut open: Vec<&str> = Vec::new();
    let mut count = 0;
    for (index, message) in list(body, "messages") {
        count = index + 1;
        match text(message, "role") {
            "tool" => {
                let id = text(message, "tool_call_id");
                let Some(at) = open.iter().position(|one| *one == id) else {
                    let text = "Invalid parameter: messages with role 'tool' must be a response \
                                to a preceding message with 'tool_calls'.";
                    return Err(in_messages(Finding::rule(text).within("role"), index));
                };
                open.remove(at);
            }
            _ if !open.is_empty() => return Err(in_messages(unanswered(&open), index)),
            "assistant" => {
                let says = ["content", "refusal", "tool_calls", "function_call", "audio"];
                if !says.iter().any(|name| has(message, name)) {
                    let text = "Invalid value for 'content': expected a string, got null.";
                    return Err(in_messages(Finding::rule(text).within("content"), index));
                }
                open.extend(list(message, "tool_calls").map(|(_, call)| text(call, "id")));
            }
            _ => {}
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(in_messages(unanswered(&open), count))
    }
}

fn unanswered(open: &[&str]) -> Finding {
    Finding::rule(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to \
         each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
        open.join(", ")
    ))
    .within("role")
}
