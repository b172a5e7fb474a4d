//! Reads a request into the form.
//!
//! What changes what is asked and cannot be said elsewhere is refused; what only steers how the
//! vendor works goes into the form's extras, for its own chat completions to take or for others
//! to note. Start at [`read_request`].

use super::super::Dialect;
use super::super::form::{Format, Reasoning, Request, Untranslatable};
use super::super::json::view::View;
use super::fields::{self, Fields, Path};
use super::items;
use super::tools::read_tools;

/// The members that are read here, or are read elsewhere and no part of what is asked: `model`,
/// `store`, `previous_response_id`, `metadata`, and `stream_options`, which only pads events.
const NAMES: [&str; 27] = [
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "store",
    "metadata",
    "stream",
    "stream_options",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "include",
    "text",
    "reasoning",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "safety_identifier",
    "user",
    "background",
    "conversation",
    "prompt",
    "truncation",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Members that may go on as they stand.
const PASSED: [&str; 3] = ["service_tier", "prompt_cache_key", "prompt_cache_retention"];

type Known<'a, 'p> = Fields<'a, 'p, { NAMES.len() }>;

/// Reads a request. `past` are the items of the conversation before, asked and answered ones, in
/// order; one that the request refers to by its id stands where it is referred to instead. The
/// instructions of earlier calls do not carry over, as with the vendor.
///
/// # Errors
/// It is no request of this dialect, or asks for what no other provider can do.
pub fn read_request<'a>(body: View<'a>, past: &[View<'a>]) -> Result<Request<'a>, Untranslatable> {
    let mut request = Request::default();
    let mut others = Vec::new();
    let known = Fields::read(body, &Path::Top, NAMES, |name, value| {
        others.push((name, value));
    })?;
    refuse(&known)?;
    if let Some(text) = known.get("instructions") {
        items::instructions(text, &mut request.turns)?;
    }
    items::read_turns(
        &mut request.turns,
        known.get("input"),
        past,
        &mut request.dropped,
    )?;
    read_settings(&known, &mut request)?;
    if let Some(text) = known.get("text") {
        read_text(text, &mut request)?;
    }
    if let Some(reasoning) = known.get("reasoning") {
        read_reasoning(reasoning, &mut request)?;
    }
    if let Some(include) = known.get("include") {
        read_include(include, &mut request)?;
    }
    read_tools(&mut request, known.get("tools"), known.get("tool_choice"))?;
    let passed = PASSED
        .iter()
        .filter_map(|name| Some(((*name).into(), known.get(name)?)));
    let truncation = known
        .get("truncation")
        .filter(|it| !it.is("disabled"))
        .map(|it| ("truncation".into(), it));
    let extras = passed.chain(truncation).chain(others);
    for (name, value) in extras {
        request.keep_extra(Dialect::Openai, name, value);
    }
    Ok(request)
}

/// What makes it another question, or another way to be answered.
fn refuse(known: &Known<'_, '_>) -> Result<(), Untranslatable> {
    let at = |name| Path::Top.member(name);
    if known.bool("background")? == Some(true) {
        let why = "must be false: an answer is given to whoever waits for it";
        return Err(at("background").fault(why));
    }
    if known.get("conversation").is_some() {
        let why = "is kept by a provider with responses of its own; use 'previous_response_id'";
        return Err(at("conversation").fault(why));
    }
    if known.get("prompt").is_some() {
        let why = "is a template that a provider keeps; send 'instructions' and 'input'";
        return Err(at("prompt").fault(why));
    }
    if known.get("metadata").is_some_and(|it| !it.is_object()) {
        return Err(at("metadata").fault("must be an object"));
    }
    Ok(())
}

fn read_settings<'a>(
    known: &Known<'a, '_>,
    request: &mut Request<'a>,
) -> Result<(), Untranslatable> {
    request.stream = known.bool("stream")?.unwrap_or(false);
    // Every answer of this dialect says what it cost.
    request.include_usage = request.stream;
    request.max_tokens = known.u64("max_output_tokens")?;
    request.temperature = known.number("temperature")?;
    request.top_p = known.number("top_p")?;
    request.top_logprobs = known
        .number("top_logprobs")?
        .filter(|it| it.u64() != Some(0));
    if request.top_logprobs.is_some() {
        request.logprobs = Some(true);
    }
    request.parallel_tools = known.bool("parallel_tool_calls")?;
    let user = known.lit("user")?;
    request.user = known.lit("safety_identifier")?;
    match (user, &request.user) {
        (Some(_), Some(_)) => request.dropped.note("user"),
        (user, None) => request.user = user,
        (None, Some(_)) => {}
    }
    Ok(())
}

fn read_text<'a>(text: View<'a>, request: &mut Request<'a>) -> Result<(), Untranslatable> {
    let at = Path::Top.member("text");
    let names = ["format", "verbosity"];
    let text = Fields::read_noting(text, &at, names, &mut request.dropped)?;
    request.verbosity = text.lit("verbosity")?;
    let Some(format) = text.get("format") else {
        return Ok(());
    };
    let at = at.member("format");
    let names = ["type", "name", "description", "schema", "strict"];
    let format = Fields::read_noting(format, &at, names, &mut request.dropped)?;
    let kind = format.need_lit("type")?.unescape();
    request.format = match kind.as_ref() {
        "text" => None,
        "json_object" => Some(Format::JsonObject),
        "json_schema" => {
            let schema = format.need("schema")?;
            if !schema.is_object() {
                return Err(at.member("schema").fault("must be an object"));
            }
            Some(Format::JsonSchema {
                name: format.lit("name")?,
                description: format.lit("description")?,
                schema,
                strict: format.bool("strict")?,
            })
        }
        other => {
            let why = "but must be text, json_object or json_schema";
            return Err(at.member("type").fault_of(other, why));
        }
    };
    Ok(())
}

/// Whether thoughts are summed up is the vendor's own way of showing them; other providers show
/// them as they are.
fn read_reasoning<'a>(
    reasoning: View<'a>,
    request: &mut Request<'a>,
) -> Result<(), Untranslatable> {
    let at = Path::Top.member("reasoning");
    let names = ["effort", "summary", "generate_summary"];
    let reasoning = Fields::read_noting(reasoning, &at, names, &mut request.dropped)?;
    if let Some(effort) = reasoning.lit("effort")? {
        request.reasoning = Some(Reasoning {
            effort: Some(effort),
            thinking: None,
        });
    }
    Ok(())
}

fn read_include<'a>(include: View<'a>, request: &mut Request<'a>) -> Result<(), Untranslatable> {
    let at = Path::Top.member("include");
    for (number, name) in fields::list(include, &at)?.enumerate() {
        let at_item = at.item(number);
        match fields::lit(name, &at_item)?.unescape().as_ref() {
            // It is there always.
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => request.logprobs = Some(true),
            // What the vendor's own tools found.
            other => at_item.drop(other, &mut request.dropped),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::json::view::Lit;
    use super::super::tests::shown;
    use super::*;

    fn read(body: &str) -> Result<Request<'_>, String> {
        read_request(View::new(body), &[]).map_err(|fault| fault.to_string())
    }

    /// The request `{"input":"a",members}`.
    fn body(members: &str) -> String {
        format!(r#"{{"input":"a",{members}}}"#)
    }

    fn dropped(members: &str) -> String {
        read(&body(members)).unwrap().dropped.to_string()
    }

    #[test]
    fn instructions_come_first_and_those_of_the_past_do_not_come() {
        let past = [View::new(r#"{"role":"user","content":"a"}"#)];
        let body = r#"{"instructions":"be kind","input":"b","previous_response_id":"resp_1"}"#;
        let request = read_request(View::new(body), &past).unwrap();
        assert_eq!(
            shown(&request.turns),
            r#"system: "be kind" / user: "a" / user: "b""#
        );
    }

    #[test]
    fn a_setting_has_its_place_in_the_form() {
        let body = body(
            r#""stream":true,"max_output_tokens":9,"temperature":0.50,"top_p":1,"parallel_tool_calls":false,
            "user":"u","reasoning":{"effort":"low","summary":"auto"},
            "text":{"verbosity":"low","format":{"type":"json_schema","name":"n","strict":true,
            "description":"d","schema":{"type":"object"}}},
            "tools":[{"type":"function","name":"f"}],"tool_choice":"required""#,
        );
        let request = read(&body).unwrap();
        assert!(request.stream && request.include_usage && request.dropped.is_empty());
        assert_eq!(request.max_tokens, Some(9));
        assert_eq!(request.temperature.unwrap().text(), "0.50");
        assert_eq!(request.top_p.unwrap().text(), "1");
        assert_eq!(request.parallel_tools, Some(false));
        assert_eq!(request.user, Some(Lit::of("u")));
        assert_eq!(request.verbosity, Some(Lit::of("low")));
        assert_eq!(request.reasoning.unwrap().effort, Some(Lit::of("low")));
        let format = Format::JsonSchema {
            name: Some(Lit::of("n")),
            description: Some(Lit::of("d")),
            schema: View::new(r#"{"type":"object"}"#),
            strict: Some(true),
        };
        assert_eq!(request.format, Some(format));
        assert_eq!(request.tools.len(), 1);
        assert!(request.extra.is_empty());
    }

    #[test]
    fn a_text_is_a_text_by_default() {
        let check = |text: &str, expected: Option<Format<'_>>| {
            let body = body(&format!(r#""text":{text}"#));
            assert_eq!(read(&body).unwrap().format, expected);
        };
        check("null", None);
        check("{}", None);
        check(r#"{"format":{"type":"text"}}"#, None);
        check(
            r#"{"format":{"type":"json_object"}}"#,
            Some(Format::JsonObject),
        );
    }

    #[test]
    fn log_probabilities_are_asked_for() {
        let check = |members: &str, logprobs: Option<bool>, top: Option<&str>| {
            let body = body(members);
            let request = read(&body).unwrap();
            assert_eq!(request.logprobs, logprobs, "{members}");
            assert_eq!(request.top_logprobs.map(View::text), top, "{members}");
        };
        let include = r#""include":["message.output_text.logprobs"]"#;
        check(include, Some(true), None);
        check(
            &format!(r#"{include},"top_logprobs":3"#),
            Some(true),
            Some("3"),
        );
        check(r#""top_logprobs":3"#, Some(true), Some("3"));
        check(r#""top_logprobs":0"#, None, None);
    }

    #[test]
    fn what_is_handled_elsewhere_or_harmless_leaves_no_trace() {
        let body = body(
            r#""model":"m","store":false,"previous_response_id":"resp_1","metadata":{"a":"b"},
            "include":["reasoning.encrypted_content"],"truncation":"disabled","background":false,
            "stream_options":{"include_obfuscation":false},"conversation":null,"prompt":null,"x":null"#,
        );
        let request = read(&body).unwrap();
        assert!(request.extra.is_empty() && request.dropped.is_empty());
    }

    #[test]
    fn what_only_the_vendor_knows_goes_along() {
        let body = body(
            r#""service_tier":"flex","prompt_cache_key":"k","prompt_cache_retention":"24h",
            "truncation":"auto","max_tool_calls":3,"context_management":[],"mine":{"a":1}"#,
        );
        let request = read(&body).unwrap();
        let extra: Vec<_> = request.extra.iter().map(|it| it.name.as_ref()).collect();
        let expected = [
            "service_tier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "truncation",
            "max_tool_calls",
            "context_management",
            "mine",
        ];
        assert_eq!(extra, expected);
        assert_eq!(request.extra[6].value.text(), r#"{"a":1}"#);
        assert!(request.extra.iter().all(|it| it.vendor == Dialect::Openai));
    }

    #[test]
    fn what_is_left_out_is_noted() {
        let check = |members: &str, expected: &str| assert_eq!(dropped(members), expected);
        check(
            r#""reasoning":{"generate_summary":"auto","mode":"pro"}"#,
            "reasoning.mode",
        );
        check(
            r#""include":["file_search_call.results"]"#,
            "include[].file_search_call.results",
        );
        check(r#""user":"u","safety_identifier":"s""#, "user");
        check(
            r#""tools":[{"type":"custom","name":"c"}]"#,
            "tools[].custom",
        );
        check(
            r#""text":{"x":1,"format":{"type":"text","y":1}}"#,
            "text.x, text.format.y",
        );
    }

    #[test]
    fn what_would_be_another_question_is_refused() {
        let check = |members: &str, expected: &str| {
            assert_eq!(read(&body(members)).unwrap_err(), expected);
        };
        check(
            r#""background":true"#,
            "'background' must be false: an answer is given to whoever waits for it",
        );
        check(
            r#""conversation":"conv_1""#,
            "'conversation' is kept by a provider with responses of its own; use 'previous_response_id'",
        );
        check(
            r#""prompt":{"id":"pmpt_1"}"#,
            "'prompt' is a template that a provider keeps; send 'instructions' and 'input'",
        );
        check(r#""background":1"#, "'background' must be true or false");
        check(r#""metadata":[]"#, "'metadata' must be an object");
        check(r#""instructions":[]"#, "'instructions' must be a string");
        check(r#""temperature":"1""#, "'temperature' must be a number");
        check(
            r#""max_output_tokens":1.5"#,
            "'max_output_tokens' must be a whole number",
        );
        check(r#""include":"x""#, "'include' must be a list");
        check(r#""include":[1]"#, "'include[0]' must be a string");
        check(r#""text":"x""#, "'text' must be an object");
        check(
            r#""text":{"format":{"type":"xml"}}"#,
            "'text.format.type' is 'xml', but must be text, json_object or json_schema",
        );
        check(
            r#""text":{"format":{"type":"json_schema","name":"n"}}"#,
            "'text.format.schema' is missing",
        );
        check(
            r#""reasoning":{"effort":3}"#,
            "'reasoning.effort' must be a string",
        );
    }
}
