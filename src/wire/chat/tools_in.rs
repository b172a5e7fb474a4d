//! Reads the tools of a request and which of them are to be called, in the vendor's present words
//! and in its older ones. Start at [`read_tools`].

use std::collections::HashSet;

use super::content_in::read_cache;
use super::shape::{
    BOOL, LIST, OBJECT, Read, STRING, fields, list, needed, object, optional, within,
};
use crate::wire::form::{Dropped, Tool, ToolChoice, Untranslatable};
use crate::wire::json::view::View;

/// What is in `tools`. Only functions have a counterpart in other dialects; others are noted.
pub(super) fn read_tools<'a>(tools: View<'a>, dropped: &mut Dropped) -> Read<Vec<Tool<'a>>> {
    let tools = needed(Some(tools), "", LIST, list)?;
    let mut read = Vec::new();
    for (index, tool) in tools.items().enumerate() {
        let tool = within(read_tool(tool, dropped), || format!("[{index}]"))?;
        read.extend(tool);
    }
    Ok(read)
}

fn read_tool<'a>(tool: View<'a>, dropped: &mut Dropped) -> Read<Option<Tool<'a>>> {
    let tool = needed(Some(tool), "", OBJECT, object)?;
    // A type may be the name of anything, so its own members are not noted.
    let [kind, function, cache] = fields(tool, ["type", "function", "cache_control"], |_| {});
    let kind = optional(kind, "type", STRING, View::string)?;
    match kind.as_deref() {
        Some("function") => {}
        // Many callers leave out what can be seen.
        None if function.is_some() => {}
        None => return Err(Untranslatable::new("type", STRING)),
        Some(other) => {
            dropped.note(&format!("tools[].{other}"));
            return Ok(None);
        }
    }
    let function = needed(function, "function", OBJECT, object)?;
    let read = read_function(function, "tools[].function", dropped);
    let mut read = within(read, || "function".to_owned())?;
    read.cache = read_cache(None, cache)?.or(read.cache);
    Ok(Some(read))
}

/// What is in `functions`, which came before `tools`.
pub(super) fn read_functions<'a>(
    functions: View<'a>,
    dropped: &mut Dropped,
) -> Read<Vec<Tool<'a>>> {
    let functions = needed(Some(functions), "", LIST, list)?;
    let read = functions.items().enumerate().map(|(index, function)| {
        let read = needed(Some(function), "", OBJECT, object)
            .and_then(|function| read_function(function, "functions[]", dropped));
        within(read, || format!("[{index}]"))
    });
    read.collect()
}

fn read_function<'a>(function: View<'a>, at: &str, dropped: &mut Dropped) -> Read<Tool<'a>> {
    let names = [
        "name",
        "description",
        "parameters",
        "strict",
        "cache_control",
    ];
    let [name, description, schema, strict, cache] = fields(function, names, |name| {
        dropped.note(&format!("{at}.{name}"));
    });
    Ok(Tool {
        name: needed(name, "name", STRING, View::lit)?,
        description: optional(description, "description", STRING, View::lit)?,
        schema: optional(schema, "parameters", OBJECT, object)?,
        strict: optional(strict, "strict", BOOL, View::bool)?,
        cache: read_cache(None, cache)?,
    })
}

/// A `tool_choice` or `function_call`, among `tools`.
pub(super) fn read_choice<'a>(
    choice: View<'a>,
    tools: &[Tool<'_>],
    dropped: &mut Dropped,
) -> Read<ToolChoice<'a>> {
    if choice.is_string() {
        return read_mode(choice, "");
    }
    let names = ["type", "function", "name", "allowed_tools"];
    let [kind, function, name, allowed] = fields(choice, names, |_| {});
    let kind = optional(kind, "type", STRING, View::string)?;
    match (kind.as_deref(), function, name) {
        (Some("function") | None, Some(function), _) => {
            let [name] = fields(function, ["name"], |_| {});
            let name = needed(name, "function.name", STRING, View::lit)?;
            Ok(ToolChoice::Named(name))
        }
        // As `function_call` has it.
        (None, None, Some(name)) => {
            let name = needed(Some(name), "name", STRING, View::lit)?;
            Ok(ToolChoice::Named(name))
        }
        (Some("allowed_tools"), ..) => {
            let allowed = needed(allowed, "allowed_tools", OBJECT, object)?;
            let [mode, allowed] = fields(allowed, ["mode", "tools"], |_| {});
            let allowed = needed(allowed, "allowed_tools.tools", LIST, list)?;
            if narrows(allowed, tools) {
                dropped.note("tool_choice.allowed_tools");
            }
            let mode = mode.unwrap_or(View::new("\"auto\""));
            read_mode(mode, "allowed_tools.mode")
        }
        _ => Err(Untranslatable::new(
            "",
            "must be none, auto, required, a function or a list of allowed tools",
        )),
    }
}

fn read_mode<'a>(mode: View<'a>, at: &str) -> Read<ToolChoice<'a>> {
    match mode.string().as_deref() {
        Some("none") => Ok(ToolChoice::None),
        Some("auto") => Ok(ToolChoice::Auto),
        Some("required") => Ok(ToolChoice::Required),
        _ => Err(Untranslatable::new(at, "must be none, auto or required")),
    }
}

/// Whether any of `tools` is not in the list `allowed`.
fn narrows(allowed: View<'_>, tools: &[Tool<'_>]) -> bool {
    let names: HashSet<_> = allowed
        .items()
        .filter_map(|it| it.get("function")?.get("name")?.string())
        .collect();
    !tools
        .iter()
        .all(|tool| names.contains(&tool.name.unescape()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::view::Lit;

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
    fn functions_are_tools_and_others_are_noted() {
        let mut dropped = Dropped::default();
        let tools = View::new(
            r#"[{"type":"function","function":{"name":"get","description":"Gets","parameters":{"type": "object"},
            "strict":true,"x":1},"cache_control":{"type":"ephemeral"}},{"type":"custom","custom":{"name":"c"}},
            {"function":{"name":"put","parameters":null}}]"#,
        );
        let get = Tool {
            description: Some(Lit::of("Gets")),
            schema: Some(View::new(r#"{"type": "object"}"#)),
            strict: Some(true),
            cache: Some(View::new(r#"{"type":"ephemeral"}"#)),
            ..tool("get")
        };
        let read = read_tools(tools, &mut dropped).unwrap();
        assert_eq!(read, [get, tool("put")]);
        assert_eq!(dropped.to_string(), "tools[].function.x, tools[].custom");
        let functions = View::new(r#"[{"name":"put"}]"#);
        let read = read_functions(functions, &mut dropped).unwrap();
        assert_eq!(read, [tool("put")]);
    }

    #[test]
    fn a_choice_is_a_word_or_a_tool() {
        let tools = [tool("a"), tool("b")];
        let check = |text: &'static str, expected: ToolChoice<'_>, noted: &str| {
            let mut dropped = Dropped::default();
            let choice = read_choice(View::new(text), &tools, &mut dropped);
            assert_eq!(choice, Ok(expected), "{text}");
            assert_eq!(dropped.to_string(), noted, "{text}");
        };
        check("\"none\"", ToolChoice::None, "");
        check("\"auto\"", ToolChoice::Auto, "");
        check("\"required\"", ToolChoice::Required, "");
        let named = || ToolChoice::Named(Lit::of("a"));
        check(
            r#"{"type":"function","function":{"name":"a"}}"#,
            named(),
            "",
        );
        check(r#"{"name":"a"}"#, named(), "");
        check(
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"a"}}]}}"#,
            ToolChoice::Required,
            "tool_choice.allowed_tools",
        );
        check(
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[
            {"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}]}}"#,
            ToolChoice::Auto,
            "",
        );
    }

    #[test]
    fn what_is_no_tool_is_told_with_its_place() {
        let check = |text: &'static str, expected: &str| {
            let fault = read_tools(View::new(text), &mut Dropped::default()).unwrap_err();
            assert_eq!(fault.to_string(), expected);
        };
        check("{}", "'' must be a list");
        check("[1]", "'[0]' must be an object");
        check("[{}]", "'[0].type' must be a string");
        check(
            r#"[{"type":"function","function":{"name":1}}]"#,
            "'[0].function.name' must be a string",
        );
        let custom = View::new(r#"{"type":"custom","custom":{"name":"c"}}"#);
        let fault = read_choice(custom, &[], &mut Dropped::default()).unwrap_err();
        assert!(fault.why.starts_with("must be none, auto"));
    }
}
