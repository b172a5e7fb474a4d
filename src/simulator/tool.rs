//! Tool calls: which tool is called, and arguments made from its JSON schema. Pure, deterministic,
//! and bounded: a schema that refers to itself, or is huge, ends in something small.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// How deep arguments may nest.
const DEPTH_MAX: u32 = 16;
/// How many values arguments may have.
const VALUES_MAX: u32 = 1_000;
/// A longer schema is not read: its tool is called with `{}`.
const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// Bytes of arguments that make one token, and so one event of a stream.
const FRAGMENT_BYTES: usize = 12;

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The tool's name, as JSON.
    pub name_json: String,
    /// Its arguments: a JSON object as text.
    pub arguments: String,
}

impl Call {
    /// How many fragments the arguments are sent in.
    pub fn fragments(&self) -> u32 {
        self.arguments.len().div_ceil(FRAGMENT_BYTES) as u32
    }

    /// Fragment `index` of the arguments.
    pub fn fragment(&self, index: u32) -> &str {
        let at = |index: u32| {
            self.arguments
                .floor_char_boundary(index as usize * FRAGMENT_BYTES)
        };
        &self.arguments[at(index)..at(index + 1)]
    }
}

/// What a request says about tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The model may: it does if the behaviour `tools` asks for it.
    Auto,
    /// The model must not.
    None,
    /// The model must.
    Required,
    /// The model must call this one.
    Named(&'a str),
}

#[derive(Deserialize)]
struct ChoiceObject {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    function: Option<ChoiceFunction>,
}

#[derive(Deserialize)]
struct ChoiceFunction {
    name: String,
}

/// Decides on a tool call. `wanted` is whether the behaviour `tools` was asked for.
///
/// # Errors
/// `tools` or `tool_choice` are not of the dialect's shape, or name a tool that is not offered;
/// the text says which.
pub fn decide(
    tools: Option<&RawValue>,
    choice: Option<&RawValue>,
    wanted: bool,
    after_result: bool,
) -> Result<Option<Call>, String> {
    let mut name = String::new();
    let choice = read_choice(choice, &mut name)?;
    let Some(tools) = tools else {
        return match choice {
            Choice::Auto | Choice::None => Ok(None),
            _ => Err("tool_choice is only allowed when tools are specified.".to_owned()),
        };
    };
    let called = match choice {
        Choice::None => false,
        Choice::Auto => wanted,
        Choice::Required | Choice::Named(_) => true,
    };
    if !called || after_result {
        return Ok(None);
    }
    let tools: Vec<&RawValue> =
        serde_json::from_str(tools.get()).map_err(|error| format!("tools: {error}"))?;
    for (index, raw) in tools.iter().enumerate() {
        let tool = flat(raw).map_err(|error| format!("tools[{index}]: {error}"))?;
        let Some(found) = tool.name else { continue };
        if matches!(choice, Choice::Named(name) if name != found) {
            continue;
        }
        return Ok(Some(Call {
            name_json: Value::String(found).to_string(),
            arguments: arguments(tool.parameters.or(tool.input_schema)),
        }));
    }
    match choice {
        Choice::Named(name) => Err(format!("Tool '{name}' not found in provided tools.")),
        _ => Ok(None),
    }
}

fn read_choice<'n>(choice: Option<&RawValue>, name: &'n mut String) -> Result<Choice<'n>, String> {
    let Some(raw) = choice.map(RawValue::get) else {
        return Ok(Choice::Auto);
    };
    let wrong = |error: serde_json::Error| format!("tool_choice: {error}");
    let object = if raw.starts_with('"') {
        ChoiceObject {
            kind: serde_json::from_str(raw).map_err(wrong)?,
            name: None,
            function: None,
        }
    } else {
        serde_json::from_str(raw).map_err(wrong)?
    };
    match object.kind.as_str() {
        "auto" | "allowed_tools" => Ok(Choice::Auto),
        "none" => Ok(Choice::None),
        "any" | "required" => Ok(Choice::Required),
        "tool" | "function" => {
            let found = object
                .function
                .map(|function| function.name)
                .or(object.name);
            *name = found.ok_or("tool_choice: a name is missing")?;
            Ok(Choice::Named(name))
        }
        other => Err(format!("tool_choice: unknown choice '{other}'")),
    }
}

/// A tool with its parts at the top, whichever dialect it was written in.
fn flat(raw: &RawValue) -> Result<Tool<'_>, serde_json::Error> {
    let tool: Tool<'_> = serde_json::from_str(raw.get())?;
    match tool.function {
        Some(function) => serde_json::from_str(function.get()),
        None => Ok(tool),
    }
}

/// A tool; OpenAI's has its parts one level further down.
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
    let schema = schema.filter(|raw| raw.get().len() <= SCHEMA_BYTES_MAX);
    // serde_json refuses to nest deeper than 128 levels here.
    let root: Value = schema
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or(Value::Null);
    let mut maker = Maker {
        root: &root,
        values: 0,
    };
    match maker.make(&root, 0) {
        object @ Value::Object(_) => object.to_string(),
        _ => "{}".to_owned(),
    }
}

/// Makes values from the schemas of one document.
struct Maker<'s> {
    root: &'s Value,
    values: u32,
}

impl Maker<'_> {
    fn make(&mut self, schema: &Value, depth: u32) -> Value {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Value::Null;
        }
        if let Some(fixed) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
            return fixed.clone();
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
            return target.map_or(Value::Null, |target| self.make(target, depth + 1));
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(choice).and_then(|list| list.get(0)) {
                return self.make(first, depth + 1);
            }
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null"),
            kind => kind.and_then(Value::as_str),
        };
        match kind {
            Some("string") => Value::String(string(schema)),
            Some("integer" | "number") => number(schema),
            Some("boolean") => Value::Bool(true),
            Some("array") => self.array(schema, depth),
            Some("object") => self.object(schema, depth),
            None if schema.get("properties").is_some() => self.object(schema, depth),
            _ => Value::Null,
        }
    }

    fn array(&mut self, schema: &Value, depth: u32) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
        let items = schema.get("items").unwrap_or(&Value::Null);
        let made = (0..least.clamp(1, 8)).map(|_| self.make(items, depth + 1));
        Value::Array(made.collect())
    }

    /// The required properties, or all of them where none is said to be required.
    fn object(&mut self, schema: &Value, depth: u32) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let mut object = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let wanted =
                |required: &Vec<Value>| required.iter().any(|one| one.as_str() == Some(name));
            if required.is_none_or(wanted) && self.values < VALUES_MAX {
                object.insert(name.clone(), self.make(property, depth + 1));
            }
        }
        Value::Object(object)
    }
}

fn string(schema: &Value) -> String {
    let made = match schema.get("format").and_then(Value::as_str) {
        Some("date") => "2024-01-01",
        Some("date-time") => "2024-01-01T00:00:00Z",
        Some("time") => "00:00:00Z",
        Some("email") => "sim@example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "sim",
    };
    let bound = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_u64)
            .map(|n| n.min(1024) as usize)
    };
    let mut made = made.to_owned();
    while made.len() < bound("minLength").unwrap_or(0) {
        made.push('m');
    }
    made.truncate(bound("maxLength").unwrap_or(usize::MAX));
    made
}

fn number(schema: &Value) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum")?.checked_add(1));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum")?.checked_sub(1));
    let number = least.unwrap_or(1).min(most.unwrap_or(i64::MAX));
    Value::Number(Number::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn arguments_satisfy_their_schema() {
        let check = |schema: &str, expected: &str| {
            assert_eq!(arguments(Some(&raw(schema))), expected, "{schema}");
        };
        check(
            r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":3},
               "unit":{"enum":["c","f"]},"skip":{"type":"string"}},"required":["city","days","unit"]}"#,
            r#"{"city":"sim","days":3,"unit":"c"}"#,
        );
        check(
            r#"{"properties":{"a":{"type":["null","boolean"]},"b":{"type":"array","items":{"type":"number"},"minItems":2}}}"#,
            r#"{"a":true,"b":[1,1]}"#,
        );
        check(
            r##"{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},"$defs":{"N":{"const":"ü"}}}"##,
            r#"{"n":"ü"}"#,
        );
        check(
            r#"{"type":"object","properties":{"s":{"type":"string","minLength":5,"format":"none"}}}"#,
            r#"{"s":"simmm"}"#,
        );
        check(r#"{"type":"string"}"#, "{}");
        check("null", "{}");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let looped = r##"{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}"##;
        assert!(arguments(Some(&raw(looped))).len() < 100_000);
    }

    #[test]
    fn fragments_add_up() {
        let call = Call {
            name_json: "\"f\"".to_owned(),
            arguments: r#"{"a":"üüüüüüüüüüü","b":1}"#.to_owned(),
        };
        let joined: String = (0..call.fragments())
            .map(|index| call.fragment(index))
            .collect();
        assert_eq!(joined, call.arguments);
    }

    #[test]
    fn a_tool_is_called_when_wanted_or_required() {
        let openai = raw(
            r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"g"}}]"#,
        );
        let anthropic = raw(
            r#"[{"name":"f","input_schema":{"type":"object"}},{"name":"g","input_schema":{}}]"#,
        );
        let check = |choice: Option<&str>, wanted: bool, expected: Result<Option<&str>, ()>| {
            for tools in [&openai, &anthropic] {
                let choice = choice.map(raw);
                let call = decide(Some(tools), choice.as_deref(), wanted, false);
                let name = call
                    .map(|call| call.map(|call| call.name_json))
                    .map_err(|_| ());
                assert_eq!(
                    name.as_ref().map(Option::as_deref),
                    expected.as_ref().map(|name| *name)
                );
            }
        };
        check(None, false, Ok(None));
        check(None, true, Ok(Some("\"f\"")));
        check(Some("\"none\""), true, Ok(None));
        check(Some("\"required\""), false, Ok(Some("\"f\"")));
        check(Some(r#"{"type":"any"}"#), false, Ok(Some("\"f\"")));
        check(
            Some(r#"{"type":"function","function":{"name":"g"}}"#),
            false,
            Ok(Some("\"g\"")),
        );
        check(
            Some(r#"{"type":"tool","name":"g"}"#),
            false,
            Ok(Some("\"g\"")),
        );
        check(Some(r#"{"type":"tool","name":"h"}"#), false, Err(()));
        check(Some("3"), false, Err(()));
        assert_eq!(decide(Some(&openai), None, true, true), Ok(None));
        assert!(decide(None, Some(&raw("\"required\"")), true, false).is_err());
    }
}
