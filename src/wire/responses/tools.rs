//! The tools that a request offers, and which of them the model shall call.
//!
//! Functions are the only tools that every provider knows. Those that the vendor runs itself are
//! left out, and noted, unless the model is made to call one. Start at [`read_tools`].

use std::borrow::Cow;
use std::collections::HashSet;

use super::super::form::{Dropped, Request, Tool, ToolChoice, Untranslatable};
use super::super::json::view::View;
use super::fields::{self, Fields, OWN_ONLY, Path};

/// Reads `tools` and `tool_choice` into `request`.
pub(super) fn read_tools<'a>(
    request: &mut Request<'a>,
    tools: Option<View<'a>>,
    choice: Option<View<'a>>,
) -> Result<(), Untranslatable> {
    if let Some(tools) = tools {
        let at = Path::Top.member("tools");
        for (number, tool) in fields::list(tools, &at)?.enumerate() {
            let tool = read_tool(tool, &at.item(number), &mut request.dropped)?;
            request.tools.extend(tool);
        }
    }
    let at = Path::Top.member("tool_choice");
    if let Some(choice) = choice {
        request.tool_choice = Some(read_choice(choice, &at, &mut request.tools)?);
    }
    match &request.tool_choice {
        Some(ToolChoice::Required) if request.tools.is_empty() => {
            return Err(at.fault("asks for a call, and there is no function to call"));
        }
        Some(ToolChoice::Named(name))
            if !request.tools.iter().any(|tool| {
                // They are short, and may be escaped in two ways.
                tool.name.unescape() == name.unescape()
            }) =>
        {
            let name = name.unescape();
            return Err(at
                .member("name")
                .fault_of(&name, "which is none of the tools"));
        }
        _ => {}
    }
    if request.tools.is_empty() {
        // Elsewhere they may only stand beside tools; here clients send them always.
        request.tool_choice = None;
        request.parallel_tools = None;
    }
    Ok(())
}

/// A function; `None` for a tool of the vendor's own.
fn read_tool<'a>(
    tool: View<'a>,
    at: &Path<'_>,
    dropped: &mut Dropped,
) -> Result<Option<Tool<'a>>, Untranslatable> {
    let names = ["type", "name", "description", "parameters", "strict"];
    let mut others = Vec::new();
    let known = Fields::read(tool, at, names, |name, value| others.push((name, value)))?;
    let kind = known.need_lit("type")?.unescape();
    if kind != "function" {
        at.drop(&kind, dropped);
        return Ok(None);
    }
    for (name, value) in others {
        // That the model itself may call it goes without saying.
        let only_direct = name == "allowed_callers" && value.items().all(|it| it.is("direct"));
        if !only_direct && value.bool() != Some(false) {
            at.drop(&name, dropped);
        }
    }
    let schema = known.get("parameters");
    if schema.is_some_and(|it| !it.is_object()) {
        return Err(at.member("parameters").fault("must be an object"));
    }
    Ok(Some(Tool {
        name: known.need_lit("name")?,
        description: known.lit("description")?,
        schema,
        strict: known.bool("strict")?,
        cache: None,
    }))
}

fn read_choice<'a>(
    choice: View<'a>,
    at: &Path<'_>,
    tools: &mut Vec<Tool<'a>>,
) -> Result<ToolChoice<'a>, Untranslatable> {
    if choice.is_string() {
        return read_mode(choice, at);
    }
    if !choice.is_object() {
        return Err(at.fault("must be a string or an object"));
    }
    let known = Fields::read(choice, at, ["type", "name", "mode", "tools"], |_, _| {})?;
    let kind = known.need_lit("type")?.unescape();
    match kind.as_ref() {
        "function" => Ok(ToolChoice::Named(known.need_lit("name")?)),
        "allowed_tools" => {
            let mode = read_mode(known.need("mode")?, &at.member("mode"))?;
            let allowed = read_allowed(known.need("tools")?, &at.member("tools"))?;
            let is_allowed = |tool: &Tool<'_>| allowed.contains(&tool.name.unescape());
            if mode == ToolChoice::Auto && !tools.iter().any(is_allowed) {
                return Ok(ToolChoice::None);
            }
            // What may not be called need not be shown.
            tools.retain(is_allowed);
            Ok(mode)
        }
        other => Err(at.member("type").fault_of(other, OWN_ONLY)),
    }
}

fn read_mode<'a>(mode: View<'_>, at: &Path<'_>) -> Result<ToolChoice<'a>, Untranslatable> {
    let mode = fields::lit(mode, at)?.unescape();
    match mode.as_ref() {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Required),
        other => Err(at.fault_of(other, "but must be none, auto or required")),
    }
}

/// The names of the functions among the tools that may be called.
fn read_allowed<'a>(
    tools: View<'a>,
    at: &Path<'_>,
) -> Result<HashSet<Cow<'a, str>>, Untranslatable> {
    let mut names = HashSet::new();
    for (number, tool) in fields::list(tools, at)?.enumerate() {
        let at = at.item(number);
        let known = Fields::read(tool, &at, ["type", "name"], |_, _| {})?;
        if known.need_lit("type")?.unescape() == "function" {
            names.insert(known.need_lit("name")?.unescape());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::super::json::view::Lit;
    use super::*;

    const F: &str = r#"{"type":"function","name":"f"}"#;
    const G: &str = r#"{"type":"function","name":"g"}"#;
    const SEARCH: &str = r#"{"type":"web_search","search_context_size":"low"}"#;

    fn read<'a>(tools: &'a str, choice: &'a str) -> Result<Request<'a>, String> {
        let mut request = Request {
            parallel_tools: Some(true),
            ..Request::default()
        };
        let choice = Some(View::new(choice)).filter(|it| !it.is_null());
        read_tools(&mut request, Some(View::new(tools)), choice)
            .map(|()| request)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_function_is_a_tool() {
        let tools = r#"[{"type":"function","name":"f","description":"d","strict":true,
            "parameters":{"type":"object"},"allowed_callers":["direct"],"defer_loading":false,
            "output_schema":{}}]"#;
        let request = read(tools, "null").unwrap();
        let expected = Tool {
            name: Lit::of("f"),
            description: Some(Lit::of("d")),
            schema: Some(View::new(r#"{"type":"object"}"#)),
            strict: Some(true),
            cache: None,
        };
        assert_eq!(request.tools, [expected]);
        assert_eq!(request.dropped.to_string(), "tools[].output_schema");
    }

    #[test]
    fn a_tool_of_the_vendors_own_is_left_out_and_noted() {
        let tools = format!("[{SEARCH},{F}]");
        let request = read(&tools, "null").unwrap();
        assert_eq!(request.tools.len(), 1);
        assert_eq!(request.dropped.to_string(), "tools[].web_search");
        let tools = format!("[{SEARCH}]");
        let request = read(&tools, r#""auto""#).unwrap();
        assert_eq!((request.tool_choice, request.parallel_tools), (None, None));
    }

    #[test]
    fn a_choice_is_one_of_the_forms_own() {
        let tools = format!("[{F},{G},{SEARCH}]");
        let check = |choice: &str, expected: Option<ToolChoice<'_>>, names: &[&str]| {
            let request = read(&tools, choice).unwrap();
            assert_eq!(request.tool_choice, expected, "{choice}");
            let left: Vec<_> = request.tools.iter().map(|it| it.name.unescape()).collect();
            assert_eq!(left, names, "{choice}");
        };
        let allowed = |mode: &str, tool: &str| {
            format!(r#"{{"type":"allowed_tools","mode":"{mode}","tools":[{tool}]}}"#)
        };
        check("null", None, &["f", "g"]);
        check(r#""none""#, Some(ToolChoice::None), &["f", "g"]);
        check(r#""auto""#, Some(ToolChoice::Auto), &["f", "g"]);
        check(r#""required""#, Some(ToolChoice::Required), &["f", "g"]);
        let named = ToolChoice::Named(Lit::of("g"));
        check(G, Some(named), &["f", "g"]);
        check(&allowed("auto", G), Some(ToolChoice::Auto), &["g"]);
        check(&allowed("required", F), Some(ToolChoice::Required), &["f"]);
        check(
            &allowed("auto", SEARCH),
            Some(ToolChoice::None),
            &["f", "g"],
        );
    }

    #[test]
    fn what_must_be_called_must_be_a_function() {
        let check = |tools: &str, choice: &str, expected: &str| {
            assert_eq!(read(tools, choice).unwrap_err(), expected);
        };
        check(
            &format!("[{SEARCH}]"),
            r#""required""#,
            "'tool_choice' asks for a call, and there is no function to call",
        );
        check(
            &format!("[{SEARCH},{F}]"),
            r#"{"type":"web_search_preview"}"#,
            "'tool_choice.type' is 'web_search_preview', which only a provider with responses of its own can take",
        );
        check(
            &format!("[{F}]"),
            &format!(r#"{{"type":"allowed_tools","mode":"required","tools":[{SEARCH}]}}"#),
            "'tool_choice' asks for a call, and there is no function to call",
        );
        check(
            &format!("[{F}]"),
            G,
            "'tool_choice.name' is 'g', which is none of the tools",
        );
        check("{}", "null", "'tools' must be a list");
        check(
            r#"[{"type":"function"}]"#,
            "null",
            "'tools[0].name' is missing",
        );
        check(
            r#"[{"type":"function","name":"f","parameters":[]}]"#,
            "null",
            "'tools[0].parameters' must be an object",
        );
        check(
            "[]",
            r#""any""#,
            "'tool_choice' is 'any', but must be none, auto or required",
        );
    }
}
