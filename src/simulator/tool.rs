//! Tool calls: which tools are called, and arguments made from their JSON schemas. Pure,
//! deterministic, and bounded: a schema that refers to itself, or is huge, ends in something small.
//! Start at [`decide`].

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::part::Fragments;
use super::schema;

/// A longer schema is not read: its tool is called with `{}`.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The tool's name, as JSON.
    pub name_json: String,
    /// Its arguments: a JSON object as text.
    pub arguments: Fragments,
}

/// What a request says about tools.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The tools offered.
    pub tools: Option<&'a RawValue>,
    /// Which of them may or must be called.
    pub choice: Option<&'a RawValue>,
    /// How many calls the behaviours `tools` and `tools-N` ask for; 0 without them.
    pub wanted: u32,
    /// Whether several calls in one answer are forbidden.
    pub single: bool,
    /// Whether the conversation ends with a tool's result, which is answered in words.
    pub after_result: bool,
}

/// Whether a tool is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Choice {
    /// The model may: it does if the behaviour `tools` asks for it.
    #[default]
    Auto,
    /// The model must not.
    None,
    /// The model must.
    Required,
    /// The model must call this one, once.
    Named(String),
}

/// A request's `tool_choice`.
#[derive(Debug, Default)]
struct Chosen {
    choice: Choice,
    /// Anthropic's `disable_parallel_tool_use`.
    single: bool,
    /// The only ones that may be called, where the request says so.
    allowed: Option<Vec<String>>,
}

impl Chosen {
    /// Whether this choice lets the tool of that name be called.
    fn allows(&self, name: &str) -> bool {
        match (&self.choice, &self.allowed) {
            (Choice::Named(named), _) => named == name,
            (_, Some(allowed)) => allowed.iter().any(|one| one == name),
            _ => true,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChoiceObject {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    function: Option<Named>,
    disable_parallel_tool_use: Option<bool>,
    mode: Option<String>,
    tools: Option<Vec<Named>>,
    allowed_tools: Option<Box<ChoiceObject>>,
}

/// A tool's name, at the top or under `function`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
    function: Option<Box<Named>>,
}

impl Named {
    fn into_name(self) -> Option<String> {
        self.function
            .and_then(|function| function.name)
            .or(self.name)
    }
}

/// Decides on tool calls; empty where none is to be made.
///
/// # Errors
/// `tools` or `tool_choice` are not of the dialect's shape, or name a tool that is not offered;
/// the text says which.
pub fn decide(ask: Ask<'_>) -> Result<Vec<Call>, String> {
    let chosen = ask.choice.map(read_choice).transpose()?.unwrap_or_default();
    let Some(tools) = ask.tools else {
        return match chosen.choice {
            Choice::Auto | Choice::None => Ok(Vec::new()),
            _ => Err("tool_choice is only allowed when tools are specified.".to_owned()),
        };
    };
    let many = ask.wanted as usize;
    let count = match chosen.choice {
        Choice::None => 0,
        Choice::Auto => many,
        Choice::Required => many.max(1),
        Choice::Named(_) => 1,
    };
    if count == 0 || ask.after_result {
        return Ok(Vec::new());
    }
    let single = ask.single || chosen.single;
    let calls = calls(tools, &chosen, if single { 1 } else { count })?;
    match chosen.choice {
        Choice::Named(name) if calls.is_empty() => {
            Err(format!("Tool '{name}' not found in provided tools."))
        }
        _ => Ok(calls),
    }
}

/// Calls of the first `count` tools that may be called, starting again at the first of them.
fn calls(tools: &RawValue, chosen: &Chosen, count: usize) -> Result<Vec<Call>, String> {
    let tools: Vec<&RawValue> =
        serde_json::from_str(tools.get()).map_err(|error| format!("tools: {error}"))?;
    let mut calls = Vec::new();
    for (index, raw) in tools.iter().enumerate() {
        let tool = flat(raw).map_err(|error| format!("tools[{index}]: {error}"))?;
        let Some(name) = tool.name.filter(|name| chosen.allows(name)) else {
            continue;
        };
        calls.push(Call {
            name_json: Value::String(name).to_string(),
            arguments: arguments(tool.parameters.or(tool.input_schema)).into(),
        });
        if calls.len() == count {
            break;
        }
    }
    let found = calls.len();
    for again in found..if found == 0 { 0 } else { count } {
        calls.push(calls[again % found].clone());
    }
    Ok(calls)
}

fn read_choice(choice: &RawValue) -> Result<Chosen, String> {
    let wrong = |error: serde_json::Error| format!("tool_choice: {error}");
    let raw = choice.get();
    let object = if raw.starts_with('"') {
        ChoiceObject {
            kind: serde_json::from_str(raw).map_err(wrong)?,
            ..ChoiceObject::default()
        }
    } else {
        serde_json::from_str(raw).map_err(wrong)?
    };
    let mut chosen = Chosen {
        single: object.disable_parallel_tool_use.unwrap_or(false),
        ..Chosen::default()
    };
    chosen.choice = match object.kind.as_str() {
        "auto" => Choice::Auto,
        "none" => Choice::None,
        "any" | "required" => Choice::Required,
        "tool" | "function" => {
            let function = object.function.and_then(Named::into_name);
            let name = function.or(object.name);
            Choice::Named(name.ok_or("tool_choice: a name is missing")?)
        }
        "allowed_tools" => {
            let (mode, tools) = match object.allowed_tools {
                Some(inner) => (inner.mode, inner.tools),
                None => (object.mode, object.tools),
            };
            let names = tools.into_iter().flatten().filter_map(Named::into_name);
            chosen.allowed = Some(names.collect());
            match mode.as_deref() {
                Some("required") => Choice::Required,
                _ => Choice::Auto,
            }
        }
        other => return Err(format!("tool_choice: unknown choice '{other}'")),
    };
    Ok(chosen)
}

/// A tool with its parts at the top, whichever dialect it was written in.
fn flat(raw: &RawValue) -> Result<Tool<'_>, serde_json::Error> {
    let tool: Tool<'_> = serde_json::from_str(raw.get())?;
    match tool.function {
        Some(function) => serde_json::from_str(function.get()),
        None => Ok(tool),
    }
}

/// A tool; in OpenAI's chat dialect its parts are one level further down.
#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function: Option<&'a RawValue>,
}

/// Arguments that satisfy `schema` as far as the usual keywords go.
fn arguments(schema: Option<&RawValue>) -> String {
    match schema.and_then(document) {
        Some(object @ Value::Object(_)) => object.to_string(),
        _ => "{}".to_owned(),
    }
}

/// A value that satisfies `schema`; `None` if the schema is too long or is no JSON.
pub fn document(schema: &RawValue) -> Option<Value> {
    if schema.get().len() > SCHEMA_BYTES_MAX {
        return None;
    }
    // serde_json refuses to nest deeper than 128 levels here.
    let root: Value = serde_json::from_str(schema.get()).ok()?;
    Some(schema::value(&root))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: &str = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"g"}}]"#;
    const ANTHROPIC: &str =
        r#"[{"name":"f","input_schema":{"type":"object"}},{"name":"g","input_schema":{}}]"#;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// The names of the tools called, in order.
    fn called(tools: &str, choice: Option<&str>, ask: Ask<'_>) -> Result<String, String> {
        let (tools, choice) = (raw(tools), choice.map(raw));
        let calls = decide(Ask {
            tools: Some(&tools),
            choice: choice.as_deref(),
            ..ask
        })?;
        let names = calls.iter().map(|call| call.name_json.trim_matches('"'));
        Ok(names.collect())
    }

    #[test]
    fn arguments_are_an_object() {
        let check = |schema: &str, expected: &str| {
            assert_eq!(arguments(Some(&raw(schema))), expected, "{schema}");
        };
        check(
            r#"{"type":"object","properties":{"a":{"const":1}}}"#,
            r#"{"a":1}"#,
        );
        check(r#"{"type":"string"}"#, "{}");
        check("null", "{}");
        assert_eq!(arguments(None), "{}");
    }

    #[test]
    fn a_tool_is_called_when_wanted_or_required() {
        let check = |choice: Option<&str>, wanted: u32, expected: Result<&str, ()>| {
            for tools in [OPENAI, ANTHROPIC] {
                let ask = Ask {
                    wanted,
                    ..Ask::default()
                };
                let names = called(tools, choice, ask).map_err(|_| ());
                assert_eq!(names.as_deref(), expected.as_deref(), "{choice:?}");
            }
        };
        check(None, 0, Ok(""));
        check(None, 1, Ok("f"));
        check(Some("\"none\""), 1, Ok(""));
        check(Some("\"required\""), 0, Ok("f"));
        check(Some(r#"{"type":"any"}"#), 0, Ok("f"));
        let named = r#"{"type":"function","function":{"name":"g"}}"#;
        check(Some(named), 0, Ok("g"));
        check(Some(r#"{"type":"tool","name":"g"}"#), 3, Ok("g"));
        check(Some(r#"{"type":"tool","name":"h"}"#), 0, Err(()));
        check(Some("3"), 0, Err(()));
        let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}"#;
        check(Some(allowed), 0, Ok("g"));
        let allowed = r#"{"type":"allowed_tools","mode":"auto","tools":[{"name":"g"}]}"#;
        check(Some(allowed), 2, Ok("gg"));
    }

    #[test]
    fn several_tools_are_called_unless_that_is_forbidden() {
        let check = |wanted: u32, single: bool, choice: Option<&str>, expected: &str| {
            let ask = Ask {
                wanted,
                single,
                ..Ask::default()
            };
            assert_eq!(called(OPENAI, choice, ask).unwrap(), expected);
        };
        check(2, false, None, "fg");
        check(5, false, Some("\"required\""), "fgfgf");
        check(5, true, None, "f");
        let single = r#"{"type":"auto","disable_parallel_tool_use":true}"#;
        check(2, false, Some(single), "f");
        let ask = Ask {
            wanted: 2,
            after_result: true,
            ..Ask::default()
        };
        assert_eq!(called(OPENAI, None, ask).unwrap(), "");
        assert_eq!(called("[]", None, Ask { wanted: 2, ..ask }).unwrap(), "");
        let required = raw("\"required\"");
        let none = Ask {
            choice: Some(&required),
            ..Ask::default()
        };
        assert!(decide(none).is_err());
    }
}
