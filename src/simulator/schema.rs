//! Values that satisfy a JSON schema: the arguments of tool calls, and structured answers. Pure,
//! deterministic, and bounded: a schema that refers to itself, or is huge, ends in something small.
//!
//! The usual keywords are heeded, `pattern` and conditions are not. Start at [`value`].

use serde_json::{Map, Number, Value};

/// How deep a value may nest.
const DEPTH_MAX: u32 = 16;
/// From this depth on only what is required is made, so that a schema that refers to itself ends
/// where it allows an end.
const DEPTH_SPARE: u32 = 5;
/// How many values one document may have.
const VALUES_MAX: u32 = 1_000;
/// How much of a schema may be copied into one document, and how much may be merged to decide on
/// one: a small schema can refer to a large part of itself many times.
const COPIED_BYTES_MAX: usize = 256 << 10;
const MERGED_BYTES_MAX: usize = 4 << 20;
/// The most items of one array, and the longest string.
const ITEMS_MAX: u64 = 64;
const STRING_BYTES_MAX: u64 = 1024;

/// A value that satisfies `root` as far as the usual keywords go.
pub fn value(root: &Value) -> Value {
    let mut maker = Maker {
        root,
        values: 0,
        copied: 0,
        merged: 0,
    };
    maker.make(root, 0)
}

/// Makes values from the schemas of one document.
struct Maker<'s> {
    root: &'s Value,
    values: u32,
    copied: usize,
    merged: usize,
}

/// About how many bytes a value has.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 8,
        Value::Object(map) => {
            let each = map.iter().map(|(key, value)| key.len() + weight(value));
            each.sum::<usize>() + 8
        }
        _ => 8,
    }
}

impl<'s> Maker<'s> {
    fn make(&mut self, schema: &Value, depth: u32) -> Value {
        self.values += 1;
        let spent = self.copied > COPIED_BYTES_MAX || self.merged > MERGED_BYTES_MAX;
        if depth > DEPTH_MAX || self.values > VALUES_MAX || spent {
            return Value::Null;
        }
        if let Some(fixed) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
            // What was measured counts even if it is not copied, so that measuring ends too.
            self.copied = self.copied.saturating_add(weight(fixed));
            let fits = self.copied <= COPIED_BYTES_MAX;
            return if fits { fixed.clone() } else { Value::Null };
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
            return target.map_or(Value::Null, |target| self.make(target, depth + 1));
        }
        if let Some(chosen) = self.combined(schema, depth) {
            return self.make(&chosen, depth + 1);
        }
        match kind(schema, depth) {
            Some("string") => Value::String(string(schema)),
            Some("integer") => number(schema, true),
            Some("number") => number(schema, false),
            Some("boolean") => Value::Bool(true),
            Some("array") => self.array(schema, depth),
            Some("object") => self.object(schema, depth),
            _ => Value::Null,
        }
    }

    /// The schema with its `anyOf`, `oneOf` and `allOf` decided and merged into it; `None` where
    /// it has none of them.
    fn combined(&mut self, schema: &Value, depth: u32) -> Option<Value> {
        let list = |key: &str| {
            let list = schema.get(key).and_then(Value::as_array);
            list.filter(|list| !list.is_empty())
        };
        let all = list("allOf").map(Vec::as_slice).unwrap_or_default();
        let any = list("anyOf").or_else(|| list("oneOf"));
        if all.is_empty() && any.is_none() {
            return None;
        }
        self.merged = self.merged.saturating_add(weight(schema));
        if self.merged > MERGED_BYTES_MAX {
            return Some(Value::Null);
        }
        let mut merged = schema.as_object()?.clone();
        for key in ["allOf", "anyOf", "oneOf"] {
            merged.remove(key);
        }
        let chosen = any.and_then(|any| {
            let ends = |one: &&Value| one.get("type").is_some_and(|kind| kind == "null");
            let early = any.iter().find(ends).filter(|_| depth >= DEPTH_SPARE);
            early.or_else(|| any.first())
        });
        for one in all.iter().chain(chosen) {
            let one = self.resolved(one);
            self.merged = self.merged.saturating_add(weight(one));
            if self.merged > MERGED_BYTES_MAX {
                return Some(Value::Null);
            }
            merge(&mut merged, one);
        }
        Some(Value::Object(merged))
    }

    /// A schema, or what it refers to.
    fn resolved<'v>(&self, schema: &'v Value) -> &'v Value
    where
        's: 'v,
    {
        let root = self.root;
        let path = schema.get("$ref").and_then(Value::as_str);
        let path = path.and_then(|path| path.strip_prefix('#'));
        let target = path.and_then(|path| root.pointer(path));
        target.unwrap_or(schema)
    }

    fn array(&mut self, schema: &Value, depth: u32) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let usual = u64::from(depth < DEPTH_SPARE);
        let count = bound("minItems").unwrap_or(usual).max(usual);
        let count = count.min(bound("maxItems").unwrap_or(ITEMS_MAX));
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let prefix = prefix.map(Vec::as_slice).unwrap_or_default();
        let items = schema.get("items").unwrap_or(&Value::Null);
        let made = (0..count.max(prefix.len() as u64).min(ITEMS_MAX)).map(|index| {
            let own = prefix.get(index as usize).unwrap_or(items);
            self.make(own, depth + 1)
        });
        Value::Array(made.collect())
    }

    /// The required properties, or all of them where none is said to be required.
    fn object(&mut self, schema: &Value, depth: u32) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let named = |name: &str| {
            required.map(|required| required.iter().any(|one| one.as_str() == Some(name)))
        };
        let mut object = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            if named(name).unwrap_or(depth < DEPTH_SPARE) && self.values < VALUES_MAX {
                object.insert(name.clone(), self.make(property, depth + 1));
            }
        }
        // What is required and not described is of the kind that further properties are.
        let further = schema.get("additionalProperties").unwrap_or(&Value::Null);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) && self.values < VALUES_MAX {
                object.insert(name.to_owned(), self.make(further, depth + 1));
            }
        }
        Value::Object(object)
    }
}

/// The type that is made of a schema.
fn kind(schema: &Value, depth: u32) -> Option<&str> {
    match schema.get("type") {
        Some(Value::Array(kinds)) => {
            let mut named = kinds.iter().filter_map(Value::as_str);
            let is_null = |kind: &&str| (*kind == "null") == (depth >= DEPTH_SPARE);
            named.clone().find(is_null).or_else(|| named.next())
        }
        Some(kind) => kind.as_str(),
        None if schema.get("properties").is_some() => Some("object"),
        None if schema.get("items").or(schema.get("prefixItems")).is_some() => Some("array"),
        None => None,
    }
}

/// Adds what `from` asks for to `into`.
fn merge(into: &mut Map<String, Value>, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        match (into.get_mut(key), value) {
            (Some(Value::Object(own)), Value::Object(more)) if key == "properties" => {
                own.extend(more.clone());
            }
            (Some(Value::Array(own)), Value::Array(more)) if key == "required" => {
                own.extend(more.iter().cloned());
            }
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn string(schema: &Value) -> String {
    let made = match schema.get("format").and_then(Value::as_str) {
        Some("date") => "2024-01-01",
        Some("date-time") => "2024-01-01T00:00:00Z",
        Some("time") => "00:00:00Z",
        Some("duration") => "P1D",
        Some("email") => "sim@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "sim",
    };
    let bound = |key: &str| {
        let bound = schema.get(key).and_then(Value::as_u64);
        bound.map(|n| n.min(STRING_BYTES_MAX) as usize)
    };
    let mut made = made.to_owned();
    while made.len() < bound("minLength").unwrap_or(0) {
        made.push('m');
    }
    made.truncate(bound("maxLength").unwrap_or(usize::MAX));
    made
}

/// The least number that is allowed, or one.
fn number(schema: &Value, is_integer: bool) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| Some(bound("exclusiveMinimum")? + 1.0));
    let (most, below) = (bound("maximum"), bound("exclusiveMaximum"));
    let mut made = least.unwrap_or(1.0);
    if let Some(most) = most.filter(|most| made > *most) {
        made = most;
    }
    if let Some(below) = below.filter(|below| made >= *below) {
        // Between two bounds that no whole number separates lies their middle.
        let above = bound("exclusiveMinimum").or(least).unwrap_or(below - 2.0);
        made = (above + below) / 2.0;
    }
    if is_integer {
        made = made.ceil();
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
        made = (made / step).ceil() * step;
    }
    let whole = made.fract() == 0.0 && made.abs() < 9e15;
    let number = if whole {
        Some(Number::from(made as i64))
    } else {
        Number::from_f64(made)
    };
    number.map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, expected: &str) {
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!(value(&schema).to_string(), expected, "{schema}");
    }

    #[test]
    fn values_satisfy_their_schema() {
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
            r#"{"type":"string","minLength":5,"format":"none"}"#,
            r#""simmm""#,
        );
        check(
            r#"{"items":{"type":"null"},"maxItems":1,"minItems":0}"#,
            "[null]",
        );
        check(
            r#"{"prefixItems":[{"type":"string"},{"const":2}]}"#,
            r#"["sim",2]"#,
        );
        check("null", "null");
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let both = |bounds: &str, integer: &str, number: &str| {
            check(&format!(r#"{{"type":"integer"{bounds}}}"#), integer);
            check(&format!(r#"{{"type":"number"{bounds}}}"#), number);
        };
        both("", "1", "1");
        both(r#","maximum":0"#, "0", "0");
        both(r#","minimum":0.5"#, "1", "0.5");
        both(r#","exclusiveMinimum":3,"multipleOf":5"#, "5", "5");
        both(r#","minimum":0,"exclusiveMaximum":1"#, "0", "0");
        let narrow = r#"{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1}"#;
        check(narrow, "0.5");
    }

    #[test]
    fn schemas_are_merged_and_alternatives_decided() {
        check(
            r##"{"allOf":[{"$ref":"#/$defs/A"},{"properties":{"b":{"type":"integer"}},"required":["b"]}],
                "$defs":{"A":{"type":"object","properties":{"a":{"const":1}},"required":["a"]}}}"##,
            r#"{"a":1,"b":1}"#,
        );
        check(
            r#"{"type":"object","properties":{"a":{"const":1},"b":{"const":2}},"anyOf":[{"required":["b"]}]}"#,
            r#"{"b":2}"#,
        );
        check(
            r#"{"type":"object","required":["x"],"additionalProperties":{"type":"integer"}}"#,
            r#"{"x":1}"#,
        );
    }

    #[test]
    fn a_small_schema_makes_no_large_value() {
        let long = "x".repeat(100_000);
        let items = vec![r##"{"$ref":"#/$defs/L"}"##; 500].join(",");
        let many = vec![r##"{"$ref":"#/$defs/L"}"##; 20_000].join(",");
        for large in [
            format!(r#"{{"allOf":[{many}],"title":"{long}"}}"#),
            format!(r#"{{"const":"{long}"}}"#),
            format!(r#"{{"allOf":[{{"type":"string","description":"{long}"}}]}}"#),
        ] {
            let schema = format!(r#"{{"prefixItems":[{items}],"$defs":{{"L":{large}}}}}"#);
            let schema: Value = serde_json::from_str(&schema).unwrap();
            assert!(value(&schema).to_string().len() < 2 * COPIED_BYTES_MAX);
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let looped = r##"{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}"##;
        let looped: Value = serde_json::from_str(looped).unwrap();
        assert!(value(&looped).to_string().len() < 100_000);
        for tree in [
            r##"{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["v","next"]}"##,
            r##"{"type":"object","properties":{"v":{"type":"integer"},"next":{"type":"array","items":{"$ref":"#"}}},"required":["v","next"]}"##,
        ] {
            let tree: Value = serde_json::from_str(tree).unwrap();
            let (made, mut depth) = (value(&tree), 0);
            let mut node = &made;
            while node.is_object() {
                assert_eq!(node["v"], 1, "{made}");
                node = node["next"].get(0).unwrap_or(&node["next"]);
                depth += 1;
            }
            assert!(depth > 1 && (node.is_null() || *node == Value::Array(Vec::new())));
        }
    }
}
