//! What of a request its response says again.
//!
//! The vendor's response object repeats nearly every setting that it was asked with, and clients
//! rely on its members being there. What was asked is repeated as it stood, and what was not is
//! the vendor's default. Start at [`read_asked`].

use super::super::form::Untranslatable;
use super::super::json::view::{Lit, View};
use super::super::json::write::Writer;
use super::fields::{Fields, Path};

/// The members that are repeated, each with what it is where it was not asked. All are in the
/// vendor's `Response`, but for `store`, which only its examples have.
const ECHOED: [(&str, &str); 19] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("prompt_cache_retention", "null"),
    ("safety_identifier", "null"),
    ("service_tier", r#""default""#),
    ("store", "true"),
    ("temperature", "1.0"),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
    ("model", r#""""#),
];
/// Members of which something else is read, or that are repeated in another way.
const OTHERS: [&str; 3] = ["reasoning", "text", "include"];
/// All that is looked for, in one walk: the body can be large.
const NAMES: [&str; ECHOED.len() + OTHERS.len()] = {
    let mut names = [""; ECHOED.len() + OTHERS.len()];
    let mut index = 0;
    while index < ECHOED.len() {
        names[index] = ECHOED[index].0;
        index += 1;
    }
    while index < names.len() {
        names[index] = OTHERS[index - ECHOED.len()];
        index += 1;
    }
    names
};
/// The model is not repeated: the response names the one that answered.
const MODEL: usize = ECHOED.len() - 1;

/// What of a request is needed beside the form: to look up its past, to repeat it, to keep it.
/// Holds a copy of `instructions` and `tools`, so it is as large as those.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The response that this one goes on from.
    pub previous: Option<String>,
    /// Whether the response is to be kept; the vendor's default is yes.
    pub store: bool,
    /// Whether log probabilities are to come.
    pub(super) logprobs: bool,
    /// The values of [`ECHOED`], as texts of one line.
    echoed: [Option<Box<str>>; ECHOED.len()],
    reasoning: Box<str>,
    text: Box<str>,
}

/// Reads what of a request is needed beside the form. Looks at the top level only.
///
/// # Errors
/// `previous_response_id` is no string, or `store` neither true nor false.
pub fn read_asked(body: View<'_>) -> Result<Asked, Untranslatable> {
    let known = Fields::read(body, &Path::Top, NAMES, |_, _| {})?;
    let includes = known.get("include").into_iter().flat_map(View::items);
    let mut logprobs = known.get("top_logprobs").is_some_and(|it| it.text() != "0");
    logprobs |= includes
        .into_iter()
        .any(|it| it.is("message.output_text.logprobs"));
    Ok(Asked {
        previous: known
            .lit("previous_response_id")?
            .map(|id| id.unescape().into_owned()),
        store: known.bool("store")?.unwrap_or(true),
        logprobs,
        echoed: ECHOED.map(|(name, _)| known.get(name).map(one_line)),
        reasoning: completed(
            known.get("reasoning"),
            [("effort", "null"), ("summary", "null")],
        ),
        text: completed(
            known.get("text"),
            [
                ("format", r#"{"type":"text"}"#),
                ("verbosity", r#""medium""#),
            ],
        ),
    })
}

impl Asked {
    /// Writes all that is repeated, as members of the response object.
    pub(super) fn write(&self, writer: &mut Writer) {
        for ((name, default), asked) in ECHOED.iter().zip(&self.echoed).take(MODEL) {
            let value = asked.as_deref().unwrap_or(default);
            writer.key(name).raw(value);
        }
        writer.key("reasoning").raw(&self.reasoning);
        writer.key("text").raw(&self.text);
    }

    /// The model that was asked.
    pub(super) fn model(&self) -> Lit<'_> {
        let model = self.echoed[MODEL].as_deref();
        model
            .and_then(|text| View::new(text).lit())
            .unwrap_or_default()
    }

    /// How many bytes it takes to repeat it, roughly.
    pub(super) fn length(&self) -> usize {
        let echoed = self.echoed.iter().flatten().map(|text| text.len());
        echoed.sum::<usize>() + self.reasoning.len() + self.text.len() + 500
    }
}

/// An object with the `defaults` that it leaves out.
fn completed(view: Option<View<'_>>, defaults: [(&str, &str); 2]) -> Box<str> {
    let given = defaults.map(|(name, _)| view.and_then(|it| it.get(name)));
    let mut writer = Writer::default();
    writer.object(|it| {
        for ((name, default), given) in defaults.iter().zip(given) {
            it.key(name)
                .raw(&given.map_or_else(|| (*default).into(), one_line));
        }
        let others = view.into_iter().flat_map(View::members);
        for (name, value) in others.filter(|(name, _)| defaults.iter().all(|it| it.0 != name)) {
            it.key(&name).raw(&one_line(value));
        }
    });
    String::from_utf8(writer.into_bytes())
        .unwrap_or_default()
        .into()
}

/// A value without line breaks, which stand only between its parts: it goes into events, where a
/// line break would end the data.
pub(super) fn one_line(view: View<'_>) -> Box<str> {
    if view.text().contains(['\n', '\r']) {
        view.text().replace(['\n', '\r'], "").into()
    } else {
        view.text().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(body: &str) -> String {
        let mut writer = Writer::default();
        let asked = read_asked(View::new(body)).unwrap();
        writer.object(|it| asked.write(it));
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    #[test]
    fn what_was_not_asked_is_the_vendors_default() {
        let expected = concat!(
            r#"{"background":false,"instructions":null,"max_output_tokens":null,"metadata":{},"#,
            r#""parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"#,
            r#""prompt_cache_retention":null,"safety_identifier":null,"service_tier":"default","#,
            r#""store":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_logprobs":0,"#,
            r#""top_p":1.0,"truncation":"disabled","user":null,"#,
            r#""reasoning":{"effort":null,"summary":null},"#,
            r#""text":{"format":{"type":"text"},"verbosity":"medium"}}"#,
        );
        assert_eq!(written("{}"), expected);
        assert_eq!(written(r#"{"temperature":null,"text":null}"#), expected);
    }

    #[test]
    fn what_was_asked_is_repeated_as_it_stood_on_one_line() {
        let body = "{\"temperature\":0.70,\"tools\":[\n {\"type\":\r\n\"function\"}],\
             \"instructions\":\"a\\nb\",\"reasoning\":{\"effort\":\"low\",\"mode\":\"pro\"},\
             \"text\":{\"format\":\n{\"type\":\"json_object\"}},\"metadata\":{\"a\":\"b\"}}";
        let written = written(body);
        for expected in [
            r#""temperature":0.70,"#,
            r#""tools":[ {"type":"function"}],"#,
            r#""instructions":"a\nb","#,
            r#""reasoning":{"effort":"low","summary":null,"mode":"pro"},"#,
            r#""text":{"format":{"type":"json_object"},"verbosity":"medium"}"#,
            r#""metadata":{"a":"b"},"#,
        ] {
            assert!(written.contains(expected), "{written}");
        }
        assert!(!written.contains(['\n', '\r']));
    }

    #[test]
    fn the_past_and_the_wish_to_be_kept_are_read() {
        let check = |body: &str, previous: Option<&str>, store: bool| {
            let asked = read_asked(View::new(body)).unwrap();
            assert_eq!((asked.previous.as_deref(), asked.store), (previous, store));
        };
        check("{}", None, true);
        check(
            r#"{"previous_response_id":"resp_\u0031","store":false}"#,
            Some("resp_1"),
            false,
        );
        check(r#"{"previous_response_id":null,"store":null}"#, None, true);
        let check = |body: &str, expected: &str| {
            let fault = read_asked(View::new(body)).unwrap_err();
            assert_eq!(fault.to_string(), expected);
        };
        check(
            r#"{"previous_response_id":7}"#,
            "'previous_response_id' must be a string",
        );
        check(r#"{"store":"no"}"#, "'store' must be true or false");
    }

    #[test]
    fn log_probabilities_are_asked_for_in_two_ways() {
        let check = |body: &str, expected: bool| {
            let asked = read_asked(View::new(body)).unwrap();
            assert_eq!(asked.logprobs, expected, "{body}");
        };
        check(r#"{"include":["reasoning.encrypted_content"]}"#, false);
        check(r#"{"top_logprobs":0}"#, false);
        check(r#"{"top_logprobs":3}"#, true);
        check(r#"{"include":["message.output_text.logprobs"]}"#, true);
    }
}
