//! Reads messages as the turns of a conversation. Start at [`read_turns`].

use super::answer_in::thinking;
use super::content_in::{read_cache, read_content};
use super::said::{arguments, block, text};
use super::shape::{LIST, OBJECT, Read, STRING, fields, list, needed, object, optional, within};
use crate::wire::form::{Dropped, Part, PartKind, Role, Turn, Untranslatable};
use crate::wire::json::view::{Lit, View};

/// The turns that `messages` are. The results of tools that follow each other are one turn.
pub(super) fn read_turns<'a>(messages: View<'a>, dropped: &mut Dropped) -> Read<Vec<Turn<'a>>> {
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for (index, message) in messages.items().enumerate() {
        let read = read_message(message, dropped);
        let mut turn = within(read, || format!("messages[{index}]"))?;
        match turns.last_mut() {
            Some(last) if last.role == Role::Tool && turn.role == Role::Tool => {
                last.parts.append(&mut turn.parts);
            }
            _ => turns.push(turn),
        }
    }
    Ok(turns)
}

fn read_message<'a>(message: View<'a>, dropped: &mut Dropped) -> Read<Turn<'a>> {
    let message = needed(Some(message), "", OBJECT, object)?;
    let role = needed(message.get("role"), "role", STRING, View::string)?;
    match role.as_ref() {
        "system" => read_said(message, Role::System, dropped),
        "developer" => read_said(message, Role::Developer, dropped),
        "user" => read_said(message, Role::User, dropped),
        "assistant" => read_assistant(message, dropped),
        "tool" => read_result(message, "tool_call_id", dropped),
        // What came before `tool`: there, a call has no id beside its function's name.
        "function" => read_result(message, "name", dropped),
        _ => Err(Untranslatable::new(
            "role",
            "must be system, developer, user, assistant, tool or function",
        )),
    }
}

/// The members of a message that `names` gives; others are noted.
fn members<'a, const N: usize>(
    message: View<'a>,
    names: [&str; N],
    dropped: &mut Dropped,
) -> [Option<View<'a>>; N] {
    fields(message, names, |name| {
        if name != "role" {
            dropped.note(&format!("messages[].{name}"));
        }
    })
}

fn read_said<'a>(message: View<'a>, role: Role, dropped: &mut Dropped) -> Read<Turn<'a>> {
    let names = ["content", "name", "cache_control"];
    let [content, name, cache] = members(message, names, dropped);
    let mut parts = read_content(content, dropped)?;
    mark(&mut parts, cache)?;
    Ok(Turn {
        role,
        name: optional(name, "name", STRING, View::lit)?,
        parts,
    })
}

/// Puts the mark of a whole message on its last part.
fn mark<'a>(parts: &mut [Part<'a>], cache: Option<View<'a>>) -> Read<()> {
    if let (Some(cache), Some(last)) = (read_cache(None, cache)?, parts.last_mut()) {
        last.cache.get_or_insert(cache);
    }
    Ok(())
}

fn read_result<'a>(message: View<'a>, id_name: &str, dropped: &mut Dropped) -> Read<Turn<'a>> {
    // The name of a tool beside the id of its call says nothing new.
    let names = [id_name, "content", "cache_control", "name"];
    let [id, content, cache, _] = members(message, names, dropped);
    let id = needed(id, id_name, STRING, View::lit)?;
    let mut parts = match content {
        None if id_name == "name" => Vec::new(),
        content => read_content(content, dropped)?,
    };
    // A tool that returned nothing.
    parts.retain(|part| !matches!(&part.kind, PartKind::Text(text) if text.is_empty()));
    let result = PartKind::ToolResult {
        id,
        content: parts,
        is_error: false,
    };
    let mut parts = vec![Part::from(result)];
    mark(&mut parts, cache)?;
    Ok(Turn {
        role: Role::Tool,
        name: None,
        parts,
    })
}

fn read_assistant<'a>(message: View<'a>, dropped: &mut Dropped) -> Read<Turn<'a>> {
    let names = [
        "content",
        "name",
        "cache_control",
        "refusal",
        "reasoning_content",
        "reasoning",
        "thinking_blocks",
        "tool_calls",
        "function_call",
        "audio",
    ];
    let [
        content,
        name,
        cache,
        refusal,
        reasoning_content,
        reasoning,
        blocks,
        calls,
        function_call,
        audio,
    ] = members(message, names, dropped);
    if audio.is_some() {
        return Err(Untranslatable::new(
            "audio",
            "is audio, which has no counterpart at this provider: send its transcript as content",
        ));
    }
    let thought = reasoning_content.or(reasoning);
    let mut parts = read_thoughts(blocks, thought)?;
    if content.is_some() {
        let said = read_content(content, dropped)?;
        // Beside tool calls, an empty text is how some callers write nothing.
        let says = |part: &Part<'_>| !matches!(&part.kind, PartKind::Text(text) if text.is_empty());
        parts.extend(said.into_iter().filter(says));
    }
    let refusal = optional(refusal, "refusal", STRING, View::lit)?;
    let refusal = refusal.filter(|it| !it.is_empty());
    parts.extend(refusal.map(|it| Part::from(PartKind::Refusal(it))));
    if let Some(calls) = calls {
        read_calls(calls, &mut parts, dropped)?;
    }
    if let Some(function) = function_call {
        let function = needed(Some(function), "function_call", OBJECT, object)?;
        let call = within(read_function_call(function, None), || {
            "function_call".to_owned()
        })?;
        parts.push(call);
    }
    mark(&mut parts, cache)?;
    Ok(Turn {
        role: Role::Assistant,
        name: optional(name, "name", STRING, View::lit)?,
        parts,
    })
}

/// What the assistant thought: in blocks, which its vendor wants back as they were, or else as a
/// text, which holds the same.
fn read_thoughts<'a>(blocks: Option<View<'a>>, thought: Option<View<'a>>) -> Read<Vec<Part<'a>>> {
    let mut parts = Vec::new();
    if let Some(blocks) = blocks {
        let blocks = needed(Some(blocks), "thinking_blocks", LIST, list)?;
        for (index, item) in blocks.items().enumerate() {
            let why = "must be a block of thinking or redacted_thinking";
            let read = needed(Some(item), "", why, block);
            let block = within(read, || format!("thinking_blocks[{index}]"))?;
            parts.push(Part::from(thinking(block)));
        }
    }
    // `reasoning` means other things with other servers, so what is no text is let be.
    if let (true, Some(text)) = (parts.is_empty(), thought.and_then(text)) {
        let signature = None;
        parts.push(Part::from(PartKind::Thinking { text, signature }));
    }
    Ok(parts)
}

fn read_calls<'a>(calls: View<'a>, parts: &mut Vec<Part<'a>>, dropped: &mut Dropped) -> Read<()> {
    let calls = needed(Some(calls), "tool_calls", LIST, list)?;
    for (index, call) in calls.items().enumerate() {
        let call = within(read_call(call, dropped), || format!("tool_calls[{index}]"))?;
        parts.push(call);
    }
    Ok(())
}

fn read_call<'a>(call: View<'a>, dropped: &mut Dropped) -> Read<Part<'a>> {
    let call = needed(Some(call), "", OBJECT, object)?;
    // Answers of a stream that are sent back still have their index.
    let names = ["id", "type", "function", "index", "cache_control"];
    let [id, kind, function, _, cache] = fields(call, names, |name| {
        dropped.note(&format!("messages[].tool_calls[].{name}"));
    });
    let kind = optional(kind, "type", STRING, View::string)?;
    match kind.as_deref() {
        Some("function") | None => {}
        Some("custom") => {
            return Err(Untranslatable::new(
                "type",
                "is custom, and custom tools have no counterpart at this provider: use functions",
            ));
        }
        Some(_) => return Err(Untranslatable::new("type", "must be function")),
    }
    let id = needed(id, "id", STRING, View::lit)?;
    let function = needed(function, "function", OBJECT, object)?;
    let mut part = within(read_function_call(function, Some(id)), || {
        "function".to_owned()
    })?;
    part.cache = read_cache(None, cache)?;
    Ok(part)
}

/// A function's name and arguments. Without an id, the name is the id.
fn read_function_call<'a>(function: View<'a>, id: Option<Lit<'a>>) -> Read<Part<'a>> {
    let [name, given] = fields(function, ["name", "arguments"], |_| {});
    let name = needed(name, "name", STRING, View::lit)?;
    Ok(Part::from(PartKind::ToolCall {
        id: id.unwrap_or_else(|| name.clone()),
        name,
        arguments: needed(given, "arguments", STRING, arguments)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::Arguments;
    use crate::wire::form::PartKind as Kind;

    /// Checks the turns of a list of `messages`: their roles, names and parts.
    fn check(messages: &str, expected: Vec<(Role, Option<&str>, Vec<Kind<'_>>)>, noted: &str) {
        let list = format!("[{messages}]");
        let mut dropped = Dropped::default();
        let turns = read_turns(View::new(&list), &mut dropped).unwrap();
        let expected: Vec<Turn<'_>> = expected
            .into_iter()
            .map(|(role, name, kinds)| Turn {
                role,
                name: name.map(Lit::of),
                parts: kinds.into_iter().map(Part::from).collect(),
            })
            .collect();
        assert_eq!(turns, expected, "{messages}");
        assert_eq!(dropped.to_string(), noted, "{messages}");
    }

    fn check_fault(message: &str, expected: &str) {
        let list = format!("[{message}]");
        let fault = read_turns(View::new(&list), &mut Dropped::default()).unwrap_err();
        assert!(fault.to_string().starts_with(expected), "{fault}");
    }

    fn text(text: &str) -> Kind<'_> {
        Kind::Text(Lit::of(text))
    }

    fn thought<'a>(text: &'a str, signature: Option<&'a str>) -> Kind<'a> {
        Kind::Thinking {
            text: Lit::of(text),
            signature: signature.map(Lit::of),
        }
    }

    fn call<'a>(id: &'a str, arguments: &'a str) -> Kind<'a> {
        Kind::ToolCall {
            id: Lit::of(id),
            name: Lit::of("f"),
            arguments: Arguments::Text(Lit::escaped(arguments)),
        }
    }

    fn result<'a>(id: &'a str, content: Vec<Kind<'a>>) -> Kind<'a> {
        Kind::ToolResult {
            id: Lit::of(id),
            content: content.into_iter().map(Part::from).collect(),
            is_error: false,
        }
    }

    #[test]
    fn everybody_speaks_in_a_role_of_their_own() {
        check(
            r#"{"role":"system","content":"s"},{"role":"developer","content":[{"type":"text","text":"d"}]},
            {"role":"user","content":"u","name":"Ann","x":1},{"role":"assistant","content":"a"}"#,
            vec![
                (Role::System, None, vec![text("s")]),
                (Role::Developer, None, vec![text("d")]),
                (Role::User, Some("Ann"), vec![text("u")]),
                (Role::Assistant, None, vec![text("a")]),
            ],
            "messages[].x",
        );
    }

    #[test]
    fn an_assistant_thinks_speaks_and_calls() {
        check(
            r#"{"role":"assistant","content":"a","refusal":null,"annotations":[],"audio":null,"function_call":null,
            "reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","index":0,"function":{"name":"f","arguments":"{\"a\":1}"}}]}"#,
            vec![(
                Role::Assistant,
                None,
                vec![thought("hm", None), text("a"), call("c1", r#"{\"a\":1}"#)],
            )],
            "",
        );
        check(
            r#"{"role":"assistant","content":"","refusal":"no","reasoning_content":"hm","thinking_blocks":[
            {"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"}]}"#,
            vec![(
                Role::Assistant,
                None,
                vec![
                    thought("hm", Some("s")),
                    Kind::RedactedThinking(Lit::of("x")),
                    Kind::Refusal(Lit::of("no")),
                ],
            )],
            "",
        );
        check(
            r#"{"role":"assistant","content":null,"reasoning":{"effort":"low"},"tool_calls":null}"#,
            vec![(Role::Assistant, None, vec![])],
            "",
        );
    }

    #[test]
    fn results_that_follow_each_other_are_one_turn() {
        check(
            r#"{"role":"tool","tool_call_id":"1","content":"a","name":"f"},
            {"role":"tool","tool_call_id":"2","content":""},
            {"role":"tool","tool_call_id":"3","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},
            {"role":"user","content":""},{"role":"tool","tool_call_id":"4","content":"d"}"#,
            vec![
                (
                    Role::Tool,
                    None,
                    vec![
                        result("1", vec![text("a")]),
                        result("2", vec![]),
                        result("3", vec![text("b"), text("c")]),
                    ],
                ),
                (Role::User, None, vec![text("")]),
                (Role::Tool, None, vec![result("4", vec![text("d")])]),
            ],
            "",
        );
    }

    #[test]
    fn a_function_of_old_is_a_tool_whose_id_is_its_name() {
        check(
            r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},
            {"role":"function","name":"f","content":"a"},{"role":"function","name":"g","content":null}"#,
            vec![
                (Role::Assistant, None, vec![call("f", "{}")]),
                (
                    Role::Tool,
                    None,
                    vec![result("f", vec![text("a")]), result("g", vec![])],
                ),
            ],
            "",
        );
    }

    #[test]
    fn a_message_is_marked_at_its_last_part() {
        let messages = View::new(
            r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"cache_control":{"type":"ephemeral"}}]"#,
        );
        let turns = read_turns(messages, &mut Dropped::default()).unwrap();
        let marks = turns[0].parts.iter().map(|part| part.cache);
        assert_eq!(
            marks.collect::<Vec<_>>(),
            [None, Some(View::new(r#"{"type":"ephemeral"}"#))]
        );
    }

    #[test]
    fn what_is_no_message_is_told_with_its_place() {
        check_fault("1", "'messages[0]' must be an object");
        check_fault("{}", "'messages[0].role' must be a string");
        check_fault(r#"{"role":"x"}"#, "'messages[0].role' must be system,");
        check_fault(
            r#"{"role":"user","content":null}"#,
            "'messages[0].content' must be a string or",
        );
        check_fault(
            r#"{"role":"user","content":[{"type":1}]}"#,
            "'messages[0].content[0].type' must be a string",
        );
        check_fault(
            r#"{"role":"tool","content":"a"}"#,
            "'messages[0].tool_call_id' must be a string",
        );
        check_fault(
            r#"{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{}}]}"#,
            "'messages[0].tool_calls[0].type' is custom",
        );
        check_fault(
            r#"{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}}]}"#,
            "'messages[0].tool_calls[0].function.arguments' must be a string",
        );
        check_fault(
            r#"{"role":"assistant","audio":{"id":"a"}}"#,
            "'messages[0].audio' is audio",
        );
        check_fault(
            r#"{"role":"assistant","thinking_blocks":[{"type":"x"}]}"#,
            "'messages[0].thinking_blocks[0]' must be a block",
        );
    }
}
