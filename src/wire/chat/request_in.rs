//! Reads a request of a caller that speaks chat completions.
//!
//! Start at [`read_request`]; the conversation is in [`turns_in`](super::turns_in), tools are in
//! [`tools_in`](super::tools_in).

use std::borrow::Cow;

use super::shape::{
    BOOL, COUNT, LIST, NUMBER, OBJECT, Read, STRING, fields, is_empty, list, needed, number,
    object, optional, within,
};
use super::tools_in::{read_choice, read_functions, read_tools};
use super::turns_in::read_turns;
use crate::wire::Dialect;
use crate::wire::form::{Format, Reasoning, Request, Untranslatable};
use crate::wire::json::view::{Lit, View};

/// What the body of a request asks for. Its model is read elsewhere.
///
/// # Errors
/// It is not of this dialect, or a piece of its conversation has no counterpart in any other.
pub fn read_request<'a>(body: View<'a>) -> Result<Request<'a>, Untranslatable> {
    let mut reading = Reading::default();
    for (name, value) in body.members() {
        if !value.is_null() && !is_default(&name, value) {
            reading.member(name, value)?;
        }
    }
    reading.finish()
}

/// Whether `value` is what the vendor takes where nothing is said, so that leaving it out loses
/// nothing.
fn is_default(name: &str, value: View<'_>) -> bool {
    match name {
        "n" => value.u64() == Some(1),
        "logprobs" | "store" => value.bool() == Some(false),
        "frequency_penalty" | "presence_penalty" => value.f64() == Some(0.0),
        "service_tier" => value.is("auto"),
        "modalities" => {
            let mut modalities = value.items();
            modalities.next().is_some_and(|it| it.is("text")) && modalities.next().is_none()
        }
        _ => false,
    }
}

/// A request, and the members of it that are read once all are known.
#[derive(Default)]
struct Reading<'a> {
    request: Request<'a>,
    messages: Option<View<'a>>,
    tools: Option<View<'a>>,
    functions: Option<View<'a>>,
    tool_choice: Option<View<'a>>,
    function_call: Option<View<'a>>,
    /// The older name of `max_completion_tokens`.
    max_tokens: Option<u64>,
    /// The older name of `safety_identifier`.
    user: Option<Lit<'a>>,
}

impl<'a> Reading<'a> {
    fn member(&mut self, name: Cow<'a, str>, value: View<'a>) -> Read<()> {
        let it = &mut self.request;
        let at = name.as_ref();
        let some = Some(value);
        match at {
            "model" => {}
            "messages" => self.messages = some,
            "tools" => self.tools = some,
            "functions" => self.functions = some,
            "tool_choice" => self.tool_choice = some,
            "function_call" => self.function_call = some,
            "max_tokens" => self.max_tokens = optional(some, at, COUNT, View::u64)?,
            "user" => self.user = optional(some, at, STRING, View::lit)?,
            "max_completion_tokens" => it.max_tokens = optional(some, at, COUNT, View::u64)?,
            "safety_identifier" => it.user = optional(some, at, STRING, View::lit)?,
            "parallel_tool_calls" => it.parallel_tools = optional(some, at, BOOL, View::bool)?,
            "temperature" => it.temperature = optional(some, at, NUMBER, number)?,
            "top_p" => it.top_p = optional(some, at, NUMBER, number)?,
            "top_k" => it.top_k = optional(some, at, NUMBER, number)?,
            "frequency_penalty" => it.frequency_penalty = optional(some, at, NUMBER, number)?,
            "presence_penalty" => it.presence_penalty = optional(some, at, NUMBER, number)?,
            "seed" => it.seed = optional(some, at, NUMBER, number)?,
            "n" => it.n = optional(some, at, COUNT, View::u64)?,
            "stop" => it.stop = read_stop(value)?,
            "stream" => it.stream = needed(some, at, BOOL, View::bool)?,
            "stream_options" => self.stream_options(value)?,
            "response_format" => it.format = within(read_format(value), || at.to_owned())?,
            "reasoning_effort" => {
                let effort = optional(some, at, STRING, View::lit)?;
                let thinking = None;
                it.reasoning = Some(Reasoning { effort, thinking });
            }
            "verbosity" => it.verbosity = optional(some, at, STRING, View::lit)?,
            "logprobs" => it.logprobs = optional(some, at, BOOL, View::bool)?,
            "top_logprobs" => it.top_logprobs = optional(some, at, NUMBER, number)?,
            _ => self.extra(name, value),
        }
        Ok(())
    }

    fn stream_options(&mut self, value: View<'a>) -> Read<()> {
        let options = needed(Some(value), "stream_options", OBJECT, object)?;
        let dropped = &mut self.request.dropped;
        let names = ["include_usage", "include_obfuscation"];
        let [usage, obfuscation] = fields(options, names, |name| {
            dropped.note(&format!("stream_options.{name}"));
        });
        // Nothing is obfuscated here, so not to want it is granted.
        if obfuscation.is_some_and(|it| it.bool() != Some(false)) {
            dropped.note("stream_options.include_obfuscation");
        }
        let usage = optional(usage, "stream_options.include_usage", BOOL, View::bool)?;
        self.request.include_usage = usage.unwrap_or(false);
        Ok(())
    }

    fn extra(&mut self, name: Cow<'a, str>, value: View<'a>) {
        if is_empty(value) {
            return;
        }
        self.request.keep_extra(Dialect::Openai, name, value);
    }

    fn finish(self) -> Read<Request<'a>> {
        let mut request = self.request;
        let messages = needed(self.messages, "messages", LIST, list)?;
        request.turns = read_turns(messages, &mut request.dropped)?;
        if let Some(tools) = self.tools {
            let read = read_tools(tools, &mut request.dropped);
            request.tools = within(read, || "tools".to_owned())?;
        }
        if let Some(functions) = self.functions {
            let read = read_functions(functions, &mut request.dropped);
            let mut read = within(read, || "functions".to_owned())?;
            request.tools.append(&mut read);
        }
        for (at, choice) in [
            ("function_call", self.function_call),
            ("tool_choice", self.tool_choice),
        ] {
            if let Some(choice) = choice {
                let read = read_choice(choice, &request.tools, &mut request.dropped);
                request.tool_choice = Some(within(read, || at.to_owned())?);
            }
        }
        request.max_tokens = request.max_tokens.or(self.max_tokens);
        match (&request.user, self.user) {
            (Some(newer), Some(user)) if *newer != user => request.dropped.note("user"),
            (Some(_), _) => {}
            (None, user) => request.user = user,
        }
        Ok(request)
    }
}

fn read_stop<'a>(value: View<'a>) -> Read<Vec<Lit<'a>>> {
    if let Some(stop) = value.lit() {
        return Ok(vec![stop]);
    }
    if !value.is_array() {
        return Err(Untranslatable::new(
            "stop",
            "must be a string or a list of strings",
        ));
    }
    let stops = value.items().enumerate().map(|(index, stop)| {
        let read = needed(Some(stop), "", STRING, View::lit);
        within(read, || format!("stop[{index}]"))
    });
    stops.collect()
}

fn read_format(value: View<'_>) -> Read<Option<Format<'_>>> {
    let format = needed(Some(value), "", OBJECT, object)?;
    let [kind, schema] = fields(format, ["type", "json_schema"], |_| {});
    let kind = needed(kind, "type", STRING, View::string)?;
    match kind.as_ref() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => {
            let schema = needed(schema, "json_schema", OBJECT, object)?;
            within(read_schema(schema), || "json_schema".to_owned()).map(Some)
        }
        _ => Err(Untranslatable::new(
            "type",
            "must be text, json_object or json_schema",
        )),
    }
}

fn read_schema(value: View<'_>) -> Read<Format<'_>> {
    let names = ["name", "description", "schema", "strict"];
    let [name, description, schema, strict] = fields(value, names, |_| {});
    Ok(Format::JsonSchema {
        name: optional(name, "name", STRING, View::lit)?,
        description: optional(description, "description", STRING, View::lit)?,
        // Where none is given, it is some object.
        schema: optional(schema, "schema", OBJECT, object)?
            .unwrap_or_else(|| View::new(r#"{"type":"object"}"#)),
        strict: optional(strict, "strict", BOOL, View::bool)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::Extra;
    use crate::wire::form::{Part, PartKind, Role, Tool, ToolChoice, Turn};

    /// Checks what a request with `members` beside model and one message asks for.
    fn check(members: &str, expected: Request<'_>, noted: &str) {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}]{}{members}}}"#,
            if members.is_empty() { "" } else { "," }
        );
        let mut request = read_request(View::new(&body)).unwrap();
        assert_eq!(request.dropped.to_string(), noted, "{members}");
        request.dropped = Default::default();
        let turns = vec![Turn {
            role: Role::User,
            name: None,
            parts: vec![Part::from(PartKind::Text(Lit::of("a")))],
        }];
        assert_eq!(request, Request { turns, ..expected }, "{members}");
    }

    fn check_fault(body: &str, expected: &str) {
        let fault = read_request(View::new(body)).unwrap_err();
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn what_is_not_asked_for_or_is_the_default_is_nothing() {
        check("", Request::default(), "");
        check(
            r#""temperature":null,"n":1,"logprobs":false,"store":false,"modalities":["text"],"service_tier":"auto",
            "frequency_penalty":0,"presence_penalty":0.0,"stop":null,"stream":false,"logit_bias":{},"tools":[],
            "response_format":{"type":"text"},"stream_options":{"include_obfuscation":false}"#,
            Request::default(),
            "",
        );
    }

    #[test]
    fn how_an_answer_is_drawn_is_read() {
        let number = |text| Some(View::new(text));
        let expected = Request {
            max_tokens: Some(7),
            temperature: number("0.50"),
            top_p: number("1"),
            top_k: number("40"),
            frequency_penalty: number("0.1"),
            presence_penalty: number("-0.2"),
            seed: number("-3"),
            n: Some(2),
            stop: vec![Lit::of("x"), Lit::escaped("\\n")],
            logprobs: Some(true),
            top_logprobs: number("5"),
            ..Request::default()
        };
        check(
            r#""max_tokens":9,"max_completion_tokens":7,"temperature":0.50,"top_p":1,"top_k":40,"frequency_penalty":0.1,
            "presence_penalty":-0.2,"seed":-3,"n":2,"stop":["x","\n"],"logprobs":true,"top_logprobs":5"#,
            expected,
            "",
        );
        let expected = Request {
            max_tokens: Some(9),
            stop: vec![Lit::of("x")],
            ..Request::default()
        };
        check(r#""max_tokens":9.0,"stop":"x""#, expected, "");
    }

    #[test]
    fn what_the_answer_is_to_be_like_is_read() {
        let expected = Request {
            stream: true,
            include_usage: true,
            reasoning: Some(Reasoning {
                effort: Some(Lit::of("low")),
                thinking: None,
            }),
            verbosity: Some(Lit::of("high")),
            user: Some(Lit::of("s")),
            format: Some(Format::JsonObject),
            ..Request::default()
        };
        check(
            r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":true},"reasoning_effort":"low",
            "verbosity":"high","user":"u","safety_identifier":"s","response_format":{"type":"json_object"}"#,
            expected,
            "stream_options.include_obfuscation, user",
        );
        let schema = |name: Option<&'static str>, schema, strict| Request {
            format: Some(Format::JsonSchema {
                name: name.map(Lit::of),
                description: None,
                schema: View::new(schema),
                strict,
            }),
            user: Some(Lit::of("u")),
            ..Request::default()
        };
        check(
            r#""user":"u","response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"a": 1},"strict":true}}"#,
            schema(Some("x"), r#"{"a": 1}"#, Some(true)),
            "",
        );
        check(
            r#""user":"u","response_format":{"type":"json_schema","json_schema":{}}"#,
            schema(None, r#"{"type":"object"}"#, None),
            "",
        );
    }

    #[test]
    fn tools_of_today_and_of_old_are_offered() {
        let tool = |name| Tool {
            name: Lit::of(name),
            description: None,
            schema: None,
            strict: None,
            cache: None,
        };
        let expected = Request {
            tools: vec![tool("f"), tool("g")],
            tool_choice: Some(ToolChoice::Named(Lit::of("g"))),
            parallel_tools: Some(false),
            ..Request::default()
        };
        check(
            r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}},"function_call":{"name":"g"},
            "functions":[{"name":"g"}],"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false"#,
            Request {
                tool_choice: Some(ToolChoice::Auto),
                ..expected.clone()
            },
            "tool_choice.allowed_tools",
        );
        check(
            r#""tools":[{"type":"function","function":{"name":"f"}}],"functions":[{"name":"g"}],"function_call":{"name":"g"},
            "parallel_tool_calls":false"#,
            expected,
            "",
        );
    }

    #[test]
    fn what_else_is_asked_is_kept_as_it_stands() {
        let extra = |name: &'static str, value| Extra {
            vendor: Dialect::Openai,
            name: name.into(),
            value: View::new(value),
        };
        let expected = Request {
            extra: vec![
                extra("metadata", r#"{"a": "c"}"#),
                extra("store", "true"),
                extra("my_own", "[1]"),
            ],
            ..Request::default()
        };
        check(
            r#""metadata":{"a": "b"},"store":true,"my_own":[1],"metadata":{"a": "c"}"#,
            expected,
            "",
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check_fault("{}", "'messages' must be a list");
        check_fault(r#"{"temperature":"1"}"#, "'temperature' must be a number");
        check_fault(
            r#"{"max_tokens":-1}"#,
            "'max_tokens' must be a whole number from 0 up",
        );
        check_fault(r#"{"stream":1}"#, "'stream' must be true or false");
        check_fault(r#"{"stop":[1]}"#, "'stop[0]' must be a string");
        check_fault(
            r#"{"stop":1}"#,
            "'stop' must be a string or a list of strings",
        );
        check_fault(
            r#"{"stream_options":{"include_usage":1}}"#,
            "'stream_options.include_usage' must be true or false",
        );
        check_fault(
            r#"{"response_format":{"type":"x"}}"#,
            "'response_format.type' must be text, json_object or json_schema",
        );
        check_fault(
            r#"{"response_format":{"type":"json_schema","json_schema":{"strict":1}}}"#,
            "'response_format.json_schema.strict' must be true or false",
        );
        check_fault(
            r#"{"messages":[],"tools":[{"type":"function","function":{}}]}"#,
            "'tools[0].function.name' must be a string",
        );
        check_fault(
            r#"{"messages":[],"tool_choice":"any"}"#,
            "'tool_choice' must be none, auto or required",
        );
    }
}
