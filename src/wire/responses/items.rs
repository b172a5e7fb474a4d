//! The items of a conversation, and the turns that they are.
//!
//! An item is less than a turn: what a model thought, said and called in one go are several of
//! them, and so are the results of its calls. Neighbours of one kind become one turn. Items of
//! the conversation before are the same, whether they were asked or answered. Start at
//! [`read_turns`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::super::form::{Arguments, Dropped, Part, PartKind, Role, Turn, Untranslatable};
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::content::{joined_texts, read_content};
use super::fields::{self, Fields, OWN_ONLY, Path};

/// How the `encrypted_content` of what the provider itself encrypted begins. A signature, which
/// is in base 64, cannot.
pub(super) const REDACTED: &str = "redacted:";
/// How the `encrypted_content` of a thought begins that a provider signed; the signature follows.
pub(super) const SIGNED: &str = "signed:";

/// The members of any item. One list for all kinds, since the kind is known only after the walk.
/// `status` and `created_by` say nothing to a model.
const NAMES: [&str; 13] = [
    "type",
    "id",
    "role",
    "content",
    "call_id",
    "name",
    "arguments",
    "output",
    "summary",
    "encrypted_content",
    "caller",
    "status",
    "created_by",
];

type Known<'a, 'p> = Fields<'a, 'p, { NAMES.len() }>;

/// Reads the turns of `past` and then of `input`, behind those that are in `turns` already.
pub(super) fn read_turns<'a>(
    turns: &mut Vec<Turn<'a>>,
    input: Option<View<'a>>,
    past: &[View<'a>],
    dropped: &mut Dropped,
) -> Result<(), Untranslatable> {
    let before = Path::Top.member("previous_response_id");
    let referenced: BTreeSet<Cow<'a, str>> = references(input, past).into_iter().collect();
    let own_ids = past.iter().map(|item| id_among(*item, &referenced));
    let own_ids: Vec<Option<Cow<'a, str>>> = own_ids.collect();
    let by_id = own_ids
        .iter()
        .zip(past)
        .filter_map(|(id, item)| Some((id.clone()?, *item)))
        .collect();
    let mut reader = Reader {
        turns,
        by_id,
        placed: BTreeSet::new(),
        dropped,
    };
    for (number, item) in past.iter().enumerate() {
        if own_ids[number].is_some() {
            continue;
        }
        reader.item(*item, &before.item(number))?;
    }
    let at = Path::Top.member("input");
    let Some(input) = input else {
        return if past.is_empty() {
            Err(at.fault("is missing"))
        } else {
            Ok(())
        };
    };
    if let Some(text) = input.lit() {
        let parts = vec![PartKind::Text(text).into()];
        reader.turn(Role::User, parts);
        return Ok(());
    }
    if !input.is_array() {
        return Err(at.fault("must be a string or a list of items"));
    }
    for (number, item) in input.items().enumerate() {
        reader.item(item, &at.item(number))?;
    }
    Ok(())
}

/// The request's `input` as the text of a list of items, for keeping: a text becomes one message
/// of the user's.
///
/// # Errors
/// It is neither a text nor a list.
pub fn input_items(body: View<'_>) -> Result<Vec<u8>, Untranslatable> {
    let at = Path::Top.member("input");
    let Some(input) = body.get("input") else {
        return Ok(b"[]".to_vec());
    };
    if input.is_array() {
        return Ok(input.text().as_bytes().to_vec());
    }
    let Some(text) = input.lit() else {
        return Err(at.fault("must be a string or a list of items"));
    };
    let mut writer = Writer::with_capacity(text.as_escaped().len() + 100);
    writer.array(|it| {
        it.object(|it| {
            it.key("type").string("message").key("role").string("user");
            it.key("content").array(|it| {
                it.object(|it| {
                    it.key("type").string("input_text").key("text").lit(&text);
                });
            });
        });
    });
    Ok(writer.into_bytes())
}

/// The ids of earlier items that a request's `input` refers to instead of repeating them, as some
/// clients do with what the vendor keeps, and without naming a response to go on from. Those items,
/// and no others, are then the `past` to read the request with;
/// [`response_of`](super::response_of) tells whose they are.
pub fn referenced_items(body: View<'_>) -> Vec<String> {
    let ids = references(body.get("input"), &[]).into_iter();
    ids.map(Cow::into_owned).collect()
}

fn references<'a>(input: Option<View<'a>>, past: &[View<'a>]) -> Vec<Cow<'a, str>> {
    let input = input.into_iter().flat_map(View::items);
    let items = past.iter().copied().chain(input);
    items.filter_map(reference).collect()
}

/// The id of the item that this one refers to.
fn reference(item: View<'_>) -> Option<Cow<'_, str>> {
    let known = Fields::read(item, &Path::Top, ["type", "role", "id"], |_, _| {}).ok()?;
    is_reference(known.get("type"), known.get("role"))
        .then(|| known.get("id")?.string())
        .flatten()
}

/// The vendor lets the type of a reference be left out, as that of a message.
fn is_reference(kind: Option<View<'_>>, role: Option<View<'_>>) -> bool {
    match kind {
        Some(kind) => kind.is("item_reference"),
        None => role.is_none(),
    }
}

/// The item's id, if it is one of these and the item no reference itself.
fn id_among<'a>(item: View<'a>, ids: &BTreeSet<Cow<'a, str>>) -> Option<Cow<'a, str>> {
    if ids.is_empty() || reference(item).is_some() {
        return None;
    }
    let id = item.get("id").and_then(View::string)?;
    ids.contains(&id).then_some(id)
}

struct Reader<'a, 't> {
    turns: &'t mut Vec<Turn<'a>>,
    /// The items of the past that are referred to.
    by_id: BTreeMap<Cow<'a, str>, View<'a>>,
    /// Those that stand in their place by now.
    placed: BTreeSet<Cow<'a, str>>,
    dropped: &'t mut Dropped,
}

impl<'a> Reader<'a, '_> {
    fn item(&mut self, item: View<'a>, at: &Path<'_>) -> Result<(), Untranslatable> {
        let known = Fields::read_noting(item, at, NAMES, self.dropped)?;
        if is_reference(known.get("type"), known.get("role")) {
            return self.referenced(&known, at);
        }
        let kind = match known.lit("type")? {
            Some(kind) => kind.unescape(),
            None => "message".into(),
        };
        match kind.as_ref() {
            "message" => self.message(&known, at),
            "function_call" => self.call(&known, at),
            "function_call_output" => self.result(&known, at),
            "reasoning" => self.reasoning(&known, at),
            other => Err(at.member("type").fault_of(other, OWN_ONLY)),
        }
    }

    /// An item of the past stands where it is referred to, and nowhere else: the same call cannot
    /// be made twice.
    fn referenced(&mut self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        let id = known.need_lit("id")?.unescape();
        if !self.placed.insert(id.clone()) {
            // One reference costs a few bytes, and what it stands for may be megabytes.
            return Err(at
                .member("id")
                .fault_of(&id, "which was referred to before"));
        }
        match self.by_id.get(&id).copied() {
            Some(item) => self.item(item, at),
            None => Err(at
                .member("id")
                .fault_of(&id, "of which nothing is known here: send the item itself")),
        }
    }

    fn message(&mut self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        let role = known.need_lit("role")?.unescape();
        let role = match role.as_ref() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            other => {
                let why = "but must be user, assistant, system or developer";
                return Err(at.member("role").fault_of(other, why));
            }
        };
        let at = at.member("content");
        let parts = read_content(known.need("content")?, &at, self.dropped)?;
        let refusal = |part: &Part<'_>| matches!(part.kind, PartKind::Refusal(_));
        if role != Role::Assistant && parts.iter().any(refusal) {
            return Err(at.fault("has a refusal, which only an assistant can give"));
        }
        self.turn(role, parts);
        Ok(())
    }

    fn call(&mut self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        self.caller(known, at)?;
        let call = PartKind::ToolCall {
            id: known.need_lit("call_id")?,
            name: known.need_lit("name")?,
            arguments: Arguments::Text(known.need_lit("arguments")?),
        };
        self.turn(Role::Assistant, vec![call.into()]);
        Ok(())
    }

    fn result(&mut self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        self.caller(known, at)?;
        let output = at.member("output");
        let content = read_content(known.need("output")?, &output, self.dropped)?;
        let refusal = |part: &Part<'_>| matches!(part.kind, PartKind::Refusal(_));
        if content.iter().any(refusal) {
            return Err(output.fault("has a refusal, which only an assistant can give"));
        }
        let result = PartKind::ToolResult {
            id: known.need_lit("call_id")?,
            content,
            // An output can be incomplete, which is no failure.
            is_error: false,
        };
        self.turn(Role::Tool, vec![result.into()]);
        Ok(())
    }

    /// A call can be made by a program of the vendor's instead of by the model.
    fn caller(&self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        let Some(caller) = known.get("caller") else {
            return Ok(());
        };
        let at = at.member("caller");
        let kind = Fields::read(caller, &at, ["type"], |_, _| {})?.need_lit("type")?;
        match kind.unescape().as_ref() {
            "direct" => Ok(()),
            other => Err(at.member("type").fault_of(other, OWN_ONLY)),
        }
    }

    fn reasoning(&mut self, known: &Known<'a, '_>, at: &Path<'_>) -> Result<(), Untranslatable> {
        let mut text = joined_texts(known.get("summary"), &at.member("summary"))?;
        if text.is_empty() {
            text = joined_texts(known.get("content"), &at.member("content"))?;
        }
        let signature = known.lit("encrypted_content")?;
        let redacted = signature.as_ref().and_then(|it| it.strip_prefix(REDACTED));
        let signed = signature.as_ref().and_then(|it| it.strip_prefix(SIGNED));
        if signature.is_some() && redacted.is_none() && signed.is_none() {
            // What OpenAI encrypted says nothing to anybody else, who would refuse it.
            at.drop("encrypted_content", self.dropped);
        }
        let thinking = match (text.is_empty(), redacted, signed) {
            (true, Some(redacted), _) => PartKind::RedactedThinking(redacted),
            // It only stands for what the vendor keeps under its id.
            (true, None, None) => return Ok(()),
            (_, _, signature) => PartKind::Thinking { text, signature },
        };
        self.turn(Role::Assistant, vec![thinking.into()]);
        Ok(())
    }

    /// Adds a turn, or to the one before: what an assistant did at once, and the results of it.
    fn turn(&mut self, role: Role, parts: Vec<Part<'a>>) {
        let joins = matches!(role, Role::Assistant | Role::Tool);
        match self.turns.last_mut() {
            Some(last) if joins && last.role == role => last.parts.extend(parts),
            _ => self.turns.push(Turn {
                role,
                name: None,
                parts,
            }),
        }
    }
}

/// A system turn of one text.
pub(super) fn instructions<'a>(
    text: View<'a>,
    turns: &mut Vec<Turn<'a>>,
) -> Result<(), Untranslatable> {
    let text: Lit<'a> = fields::lit(text, &Path::Top.member("instructions"))?;
    turns.push(Turn {
        role: Role::System,
        name: None,
        parts: vec![PartKind::Text(text).into()],
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown;
    use super::*;

    fn read(input: &str, past: &[&str]) -> Result<(String, String), String> {
        let past: Vec<View<'_>> = past.iter().map(|item| View::new(item)).collect();
        let (mut turns, mut dropped) = (Vec::new(), Dropped::default());
        let input = Some(View::new(input)).filter(|it| !it.is_null());
        read_turns(&mut turns, input, &past, &mut dropped).map_err(|fault| fault.to_string())?;
        Ok((shown(&turns), dropped.to_string()))
    }

    fn check(input: &str, expected: &str) {
        assert_eq!(read(input, &[]).unwrap(), (expected.into(), String::new()));
    }

    #[test]
    fn a_message_is_a_turn_of_its_role() {
        check(r#""hi""#, r#"user: "hi""#);
        check(
            r#"[{"role":"developer","content":"be kind"},{"type":"message","role":"system","content":"x"},
            {"role":"user","content":[{"type":"input_text","text":"hi"},
            {"type":"input_image","image_url":"data:image/png;base64,AA=="}]},
            {"role":"user","content":"ho","status":"completed","phase":null}]"#,
            r#"developer: "be kind" / system: "x" / user: "hi"; image image/png AA== / user: "ho""#,
        );
    }

    #[test]
    fn what_an_assistant_did_at_once_is_one_turn() {
        check(
            r#"[{"role":"user","content":"a"},
            {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"t"},
            {"type":"summary_text","text":"u"}],"encrypted_content":"signed:sig="},
            {"type":"message","role":"assistant","id":"msg_1","status":"completed","content":
            [{"type":"output_text","text":"b","annotations":[]},{"type":"refusal","refusal":"no"}]},
            {"role":"assistant","content":"c"},
            {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"a\":1}","status":"completed"},
            {"type":"function_call","call_id":"c2","name":"g","arguments":"","caller":{"type":"direct"}},
            {"type":"function_call_output","call_id":"c1","output":"one","status":"incomplete"},
            {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},
            {"type":"input_file","file_id":"file-1"}]},
            {"role":"assistant","content":"d"}]"#,
            r#"user: "a" / assistant: think "t\n\nu" sig=; "b"; refuse "no"; "c"; call c1 f "{\"a\":1}"; call c2 g "" / tool: result c1 ["one"]; result c2 ["two"; document file-1] / assistant: "d""#,
        );
    }

    #[test]
    fn thoughts_are_a_summary_or_a_text_or_encrypted() {
        let check_one = |members: &str, expected: &str| {
            check(
                &format!(r#"[{{"type":"reasoning","id":"rs_1",{members}}}]"#),
                expected,
            );
        };
        check_one(
            r#""summary":[],"content":[{"type":"reasoning_text","text":"t"}]"#,
            r#"assistant: think "t" -"#,
        );
        check_one(
            r#""summary":[],"encrypted_content":"signed:sig""#,
            r#"assistant: think "" sig"#,
        );
        check_one(
            r#""summary":[],"encrypted_content":"redacted:x=""#,
            "assistant: redacted x=",
        );
        check_one(r#""summary":[],"encrypted_content":null"#, "");
    }

    #[test]
    fn a_reference_stands_for_an_item_of_the_past() {
        let past = [
            r#"{"role":"user","content":"a"}"#,
            r#"{"type":"message","id":"msg_1","role":"assistant","content":"b"}"#,
            r#"{"type":"message","id":"msg_2","role":"assistant","content":"c"}"#,
        ];
        let check = |input: &str, expected: &str| {
            assert_eq!(read(input, &past).unwrap().0, expected);
        };
        check("null", r#"user: "a" / assistant: "b"; "c""#);
        check(
            r#"[{"role":"user","content":"d"}]"#,
            r#"user: "a" / assistant: "b"; "c" / user: "d""#,
        );
        check(
            r#"[{"role":"user","content":"d"},{"type":"item_reference","id":"msg_2"},{"id":"msg_1"}]"#,
            r#"user: "a" / user: "d" / assistant: "c"; "b""#,
        );
        // A few bytes that stand for megabytes, as often as one likes.
        let twice = r#"[{"id":"msg_1"},{"id":"msg_1"}]"#;
        let error = read(twice, &past).unwrap_err();
        assert!(error.contains("referred to before"), "{error}");
        let body = r#"{"input":["x",{"id":"msg_1"},{"type":"item_reference","id":"msg_2"},{"role":"user","id":"y"}]}"#;
        assert_eq!(referenced_items(View::new(body)), ["msg_1", "msg_2"]);
    }

    #[test]
    fn what_is_not_said_again_is_noted() {
        let input = r#"[{"role":"assistant","content":"a","phase":"commentary"},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}","namespace":"n"}]"#;
        let (_, dropped) = read(input, &[]).unwrap();
        assert_eq!(dropped, "input[].phase, input[].namespace");
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_its_place() {
        let check = |input: &str, expected: &str| {
            assert_eq!(read(input, &[]).unwrap_err(), expected);
        };
        check("null", "'input' is missing");
        check("7", "'input' must be a string or a list of items");
        check("[7]", "'input[0]' must be an object");
        check("[{}]", "'input[0].id' is missing");
        check(
            r#"[{"role":"user","content":"a"},{"type":"web_search_call","id":"ws_1"}]"#,
            "'input[1].type' is 'web_search_call', which only a provider with responses of its own can take",
        );
        check(
            r#"[{"type":"function_call","call_id":"c","name":"f","arguments":"","caller":{"type":"program"}}]"#,
            "'input[0].caller.type' is 'program', which only a provider with responses of its own can take",
        );
        check(
            r#"[{"type":"item_reference","id":"msg_9"}]"#,
            "'input[0].id' is 'msg_9', of which nothing is known here: send the item itself",
        );
        check(
            r#"[{"role":"tool","content":"a"}]"#,
            "'input[0].role' is 'tool', but must be user, assistant, system or developer",
        );
        check(r#"[{"role":"user"}]"#, "'input[0].content' is missing");
        check(
            r#"[{"role":"user","content":{}}]"#,
            "'input[0].content' must be a string or a list of parts",
        );
        check(
            r#"[{"role":"user","content":[{"type":7}]}]"#,
            "'input[0].content[0].type' must be a string",
        );
        check(
            r#"[{"role":"user","content":[{"type":"refusal","refusal":"no"}]}]"#,
            "'input[0].content' has a refusal, which only an assistant can give",
        );
        check(
            r#"[{"type":"function_call","name":"f","arguments":"{}"}]"#,
            "'input[0].call_id' is missing",
        );
        check(
            r#"[{"type":"reasoning","summary":[{"text":7}]}]"#,
            "'input[0].summary[0].text' must be a string",
        );
        let fault = read("null", &[r#"{"type":"mcp_call"}"#]).unwrap_err();
        assert!(fault.starts_with("'previous_response_id[0].type' is 'mcp_call'"));
    }

    #[test]
    fn an_input_is_kept_as_items() {
        let check = |body: &str, expected: &str| {
            let items = input_items(View::new(body)).unwrap();
            assert_eq!(String::from_utf8(items).unwrap(), expected);
        };
        check(
            r#"{"input":"a\nb"}"#,
            r#"[{"type":"message","role":"user","content":[{"type":"input_text","text":"a\nb"}]}]"#,
        );
        check(r#"{"input":[ {"id":"x"}]}"#, r#"[ {"id":"x"}]"#);
        check("{}", "[]");
        assert!(input_items(View::new(r#"{"input":7}"#)).is_err());
    }
}
