//! Findings in the vendors' words. Pure. Start at [`fault`].

use std::fmt::Write;

use super::kind::{Finding, Key, Wrong};
use crate::simulator::fault::{Dialect, Fault};

/// The vendor's 400 for a finding.
pub fn fault(dialect: Dialect, finding: &Finding) -> Fault {
    match dialect {
        Dialect::OpenAi => openai(finding),
        Dialect::Anthropic => Fault::new(400, anthropic(finding)),
    }
}

/// `messages[0].content[1].text`
fn openai_path(finding: &Finding) -> String {
    let mut out = String::new();
    for key in finding.path() {
        let _ = match key {
            Key::Index(index) => write!(out, "[{index}]"),
            Key::Name(name) if out.is_empty() => write!(out, "{name}"),
            Key::Name(name) => write!(out, ".{name}"),
        };
    }
    out
}

/// `messages.0.content.1.text`
fn anthropic_path(finding: &Finding) -> String {
    let mut out = String::new();
    for key in finding.path() {
        let dot = if out.is_empty() { "" } else { "." };
        let _ = match key {
            Key::Index(index) => write!(out, "{dot}{index}"),
            Key::Name(name) => write!(out, "{dot}{name}"),
        };
    }
    out
}

fn quoted(list: &[&str]) -> String {
    let quoted: Vec<_> = list.iter().map(|one| format!("'{one}'")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{}, and {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

fn openai(finding: &Finding) -> Fault {
    let path = openai_path(finding);
    let number = |is_integer: bool| if is_integer { "integer" } else { "decimal" };
    let (code, text) = match &finding.wrong {
        Wrong::Missing => (
            "missing_required_parameter",
            format!("Missing required parameter: '{path}'."),
        ),
        Wrong::Unknown => ("unknown_parameter", format!("Unknown parameter: '{path}'.")),
        Wrong::Type { expected, got } => (
            "invalid_type",
            format!("Invalid type for '{path}': expected {expected}, but got {got} instead."),
        ),
        Wrong::Below {
            limit,
            got,
            is_integer,
        } => (
            match is_integer {
                true => "integer_below_min_value",
                false => "decimal_below_min_value",
            },
            format!(
                "Invalid '{path}': {} below minimum value. Expected a value >= {limit}, but got \
                 {got} instead.",
                number(*is_integer)
            ),
        ),
        Wrong::Above {
            limit,
            got,
            is_integer,
        } => (
            match is_integer {
                true => "integer_above_max_value",
                false => "decimal_above_max_value",
            },
            format!(
                "Invalid '{path}': {} above maximum value. Expected a value <= {limit}, but got \
                 {got} instead.",
                number(*is_integer)
            ),
        ),
        Wrong::NotOneOf { allowed, got } => (
            "invalid_value",
            format!(
                "Invalid value: '{got}'. Supported values are: {}.",
                quoted(allowed)
            ),
        ),
        Wrong::Empty => (
            "empty_array",
            format!(
                "Invalid '{path}': empty array. Expected an array with minimum length 1, but got \
                 an empty array instead."
            ),
        ),
        Wrong::Rule(text) => ("invalid_value", text.replace("{path}", &path)),
    };
    Fault::new(400, text).param(path).code(code)
}

fn anthropic(finding: &Finding) -> String {
    let text = match &finding.wrong {
        Wrong::Missing => "Field required".to_owned(),
        Wrong::Unknown => "Extra inputs are not permitted".to_owned(),
        Wrong::Type { expected, .. } => {
            let expected = match expected.as_ref() {
                "a string" => "string",
                "a boolean" => "boolean",
                "an integer" => "integer",
                "a decimal" => "number",
                "an array" => "list",
                "an object" => "dictionary",
                other => other.trim_start_matches("one of "),
            };
            format!("Input should be a valid {expected}")
        }
        Wrong::Below { limit, .. } => {
            format!("Input should be greater than or equal to {limit}")
        }
        Wrong::Above { limit, .. } => format!("Input should be less than or equal to {limit}"),
        Wrong::NotOneOf { allowed, got } => format!(
            "Input tag '{got}' found does not match any of the expected values: {}",
            quoted(allowed)
        ),
        Wrong::Empty => "at least one item is required".to_owned(),
        Wrong::Rule(text) => text.to_string(),
    };
    match anthropic_path(finding) {
        path if path.is_empty() => text,
        path => format!("{path}: {text}"),
    }
}
