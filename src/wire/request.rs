//! What a caller sent, looked at once and left as it is.
//!
//! Only `model` and `stream` are this daemon's business where caller and provider share a
//! dialect; everything else is the provider's and passes through unread. But the whole must be
//! JSON, and there must be one way only to read those two members: a body whose model we read
//! differently than the provider does would be routed, limited and billed as something that it
//! is not. So a repeated key is refused, however it is spelled.
//!
//! Start at [`scan`]; [`with_model`] is how the body leaves for the provider.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::{memchr_iter, memrchr};

use super::json::{self, Member, Wrong};

/// Bytes of a model name, unescaped. The longest in use (hosted fine-tunes) have about 150.
pub const MODEL_BYTES_MAX: usize = 256;

/// What a body says that the daemon acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The model asked for, unescaped: 1 to [`MODEL_BYTES_MAX`] bytes, no control characters.
    pub model: String,
    /// Where the model's string literal stands in the body, quotes included.
    pub model_span: Range<usize>,
    /// Whether a streamed answer is wanted; absent and `null` mean no.
    pub stream: bool,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing was sent.
    Empty,
    /// Not UTF-8, which RFC 8259 section 8.1 asks for.
    NotUtf8,
    /// Not JSON, or not an object, or nested too deep.
    NotJson(Wrong),
    /// There is no such member.
    Missing,
    /// The key is there more than once, perhaps written with escapes.
    Repeated,
    /// The key differs from the known one in upper and lower case only. Some servers take either
    /// for the same, so it could override what was checked here.
    WrongCase,
    /// The value is something else than this.
    Not(&'static str),
}

/// A refused body: why, which member, and where. Answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanError {
    /// Why.
    pub refusal: Refusal,
    /// The member at fault, as errors of OpenAI's dialect name it.
    pub param: Option<&'static str>,
    /// Bytes before the place at fault.
    pub offset: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its byte within the line, from 1.
    pub column: usize,
}

impl ScanError {
    fn new(body: &[u8], refusal: Refusal, param: Option<&'static str>, offset: usize) -> Self {
        let before = &body[..offset.min(body.len())];
        Self {
            refusal,
            param,
            offset,
            line: memchr_iter(b'\n', before).count() + 1,
            column: before.len() - memrchr(b'\n', before).map_or(0, |at| at + 1) + 1,
        }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let param = self.param.unwrap_or("the body");
        match self.refusal {
            Refusal::Empty => return write!(out, "the request body is empty: send a JSON object"),
            Refusal::Missing => return write!(out, "'{param}' is missing: name the model to ask"),
            Refusal::NotUtf8 => write!(out, "the request body is not valid UTF-8")?,
            Refusal::NotJson(wrong) => write!(out, "the request body is not valid JSON: {wrong}")?,
            Refusal::Repeated => write!(out, "'{param}' is given more than once")?,
            Refusal::WrongCase => write!(out, "'{param}' must be written in lower case")?,
            Refusal::Not(what) => write!(out, "'{param}' must be {what}")?,
        }
        let (line, column, offset) = (self.line, self.column, self.offset);
        write!(out, " (line {line} column {column}, byte {offset})")
    }
}

impl std::error::Error for ScanError {}

/// Checks that `body` is one JSON object in UTF-8 and finds what the daemon acts on, in one walk
/// that copies nothing but the model's name.
///
/// # Errors
/// The first thing found wrong, the form of the whole before the members.
pub fn scan(body: &[u8]) -> Result<Scanned, ScanError> {
    if body.is_empty() {
        return Err(ScanError::new(body, Refusal::Empty, None, 0));
    }
    let text = str::from_utf8(body)
        .map_err(|error| ScanError::new(body, Refusal::NotUtf8, None, error.valid_up_to()))?;
    let mut model = Found::new("model");
    let mut stream = Found::new("stream");
    json::walk_object(text, |member| {
        let literal = &text[member.key.clone()];
        if let Some(key) = short_key(literal) {
            model.offer(&key, &member);
            stream.offer(&key, &member);
        }
    })
    .map_err(|fault| ScanError::new(body, Refusal::NotJson(fault.wrong), None, fault.offset))?;
    let model_span = model
        .only(body)?
        .ok_or_else(|| ScanError::new(body, Refusal::Missing, Some("model"), body.len()))?;
    let stream_span = stream.only(body)?;
    Ok(Scanned {
        model: model_name(text, &model_span)?,
        model_span,
        stream: stream_flag(text, stream_span)?,
    })
}

/// What of one known member has been seen on the walk.
struct Found {
    name: &'static str,
    value: Option<Range<usize>>,
    /// The first fault with the key, and where.
    fault: Option<(Refusal, usize)>,
}

impl Found {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: None,
            fault: None,
        }
    }

    fn offer(&mut self, key: &str, member: &Member) {
        if !key.eq_ignore_ascii_case(self.name) {
            return;
        }
        let fault = if key != self.name {
            Some(Refusal::WrongCase)
        } else if self.value.is_some() {
            Some(Refusal::Repeated)
        } else {
            self.value = Some(member.value.clone());
            None
        };
        self.fault = self.fault.or(fault.map(|fault| (fault, member.key.start)));
    }

    fn only(self, body: &[u8]) -> Result<Option<Range<usize>>, ScanError> {
        match self.fault {
            Some((refusal, at)) => Err(ScanError::new(body, refusal, Some(self.name), at)),
            None => Ok(self.value),
        }
    }
}

/// The key within `literal`, unescaped, if it is short enough to be one that we know: six
/// characters at six bytes each (`\u006d`), and two quotes.
fn short_key(literal: &str) -> Option<Cow<'_, str>> {
    const LITERAL_BYTES_MAX: usize = "stream".len() * 6 + 2;
    if literal.len() > LITERAL_BYTES_MAX {
        None
    } else if literal.contains('\\') {
        serde_json::from_str::<String>(literal).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(&literal[1..literal.len() - 1]))
    }
}

fn model_name(text: &str, span: &Range<usize>) -> Result<String, ScanError> {
    let refuse = |what| {
        Err(ScanError::new(
            text.as_bytes(),
            Refusal::Not(what),
            Some("model"),
            span.start,
        ))
    };
    let literal = &text[span.clone()];
    if !literal.starts_with('"') {
        return refuse("a string");
    }
    // Escapes only shrink, the longest from six bytes to one.
    if literal.len() > MODEL_BYTES_MAX * 6 + 2 {
        return refuse("at most 256 bytes long");
    }
    let Ok(name) = serde_json::from_str::<String>(literal) else {
        return refuse("free of lone surrogates");
    };
    if name.is_empty() {
        return refuse("a non-empty string");
    }
    if name.len() > MODEL_BYTES_MAX {
        return refuse("at most 256 bytes long");
    }
    if name.chars().any(char::is_control) {
        return refuse("free of control characters");
    }
    Ok(name)
}

fn stream_flag(text: &str, span: Option<Range<usize>>) -> Result<bool, ScanError> {
    let Some(span) = span else {
        return Ok(false);
    };
    match &text[span.clone()] {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(ScanError::new(
            text.as_bytes(),
            Refusal::Not("true or false"),
            Some("stream"),
            span.start,
        )),
    }
}

/// The body with another model in place of the one at `model_span`, as three pieces to send one
/// after the other. `model_json` is a JSON string literal, see [`json_string`].
pub fn with_model<'a>(
    body: &'a [u8],
    model_span: &Range<usize>,
    model_json: &'a [u8],
) -> [&'a [u8]; 3] {
    [
        &body[..model_span.start],
        model_json,
        &body[model_span.end..],
    ]
}

/// `text` as a JSON string literal, quotes included.
pub fn json_string(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use std::time::Instant;

    fn refusal(body: impl AsRef<[u8]>) -> (Refusal, Option<&'static str>, usize) {
        let error = scan(body.as_ref()).unwrap_err();
        (error.refusal, error.param, error.offset)
    }

    #[test]
    fn model_and_stream_are_found_wherever_they_stand() {
        let check = |body: &str, model: &str, literal: &str, stream: bool| {
            let scanned = scan(body.as_bytes()).unwrap();
            assert_eq!((scanned.model.as_str(), scanned.stream), (model, stream));
            assert_eq!(&body[scanned.model_span], literal);
        };
        check(r#"{"model":"m"}"#, "m", r#""m""#, false);
        check(r#"{"stream":true, "model" : "m" }"#, "m", r#""m""#, true);
        check(r#"{"model":"m","stream":null}"#, "m", r#""m""#, false);
        check(r#"{"mod\u0065l":"a\/b"}"#, "a/b", r#""a\/b""#, false);
        check(
            r#"{"x":{"model":1,"stream":1},"model":"é"}"#,
            "é",
            r#""é""#,
            false,
        );
    }

    #[test]
    fn a_refusal_names_the_member_and_the_place() {
        let check = |body: &str, expected: Refusal, param: Option<&'static str>, at: usize| {
            assert_eq!(refusal(body), (expected, param, at), "{body}");
        };
        let (model, stream) = (Some("model"), Some("stream"));
        check("", Refusal::Empty, None, 0);
        check("{}", Refusal::Missing, model, 2);
        check(r#"{"model":7}"#, Refusal::Not("a string"), model, 9);
        check(
            r#"{"model":""}"#,
            Refusal::Not("a non-empty string"),
            model,
            9,
        );
        check(
            r#"{"model":"a\nb"}"#,
            Refusal::Not("free of control characters"),
            model,
            9,
        );
        check(
            r#"{"model":"\ud800"}"#,
            Refusal::Not("free of lone surrogates"),
            model,
            9,
        );
        check(
            r#"{"model":"m","stream":1}"#,
            Refusal::Not("true or false"),
            stream,
            22,
        );
        check(
            r#"{"model":"m","mod\u0065l":"n"}"#,
            Refusal::Repeated,
            model,
            13,
        );
        check(
            r#"{"model":"m","stream":true,"stream":false}"#,
            Refusal::Repeated,
            stream,
            27,
        );
        check(
            r#"{"model":"m","Model":"n"}"#,
            Refusal::WrongCase,
            model,
            13,
        );
        check(
            r#"{"model":"m"}}"#,
            Refusal::NotJson(Wrong::Expected("the end of the body")),
            None,
            13,
        );
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MODEL_BYTES_MAX + 1));
        check(&long, Refusal::Not("at most 256 bytes long"), model, 9);
        assert!(
            scan(
                long.replacen('m', "", 2)
                    .replace("odel", "model")
                    .as_bytes()
            )
            .is_ok()
        );
    }

    #[test]
    fn invalid_utf8_is_refused_at_its_byte() {
        assert_eq!(
            refusal(b"{\"model\":\"m\",\"a\":\"\xff\"}"),
            (Refusal::NotUtf8, None, 18)
        );
    }

    #[test]
    fn an_error_reads_as_a_sentence_with_line_and_column() {
        let error = scan(b"{\n  \"model\": \"m\",\n}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the request body is not valid JSON: expected a key in double quotes \
             (line 3 column 1, byte 18)"
        );
    }

    #[test]
    fn deep_nesting_is_refused_and_a_long_prompt_is_not() {
        let deep = format!(r#"{{"model":"m","x":{}"#, "[".repeat(10_000));
        assert_eq!(refusal(&deep).0, Refusal::NotJson(Wrong::TooDeep));
        let long = format!(r#"{{"x":"{}","model":"m"}}"#, "prompt ".repeat(4_500_000));
        assert_eq!(scan(long.as_bytes()).unwrap().model, "m");
    }

    /// Run with `--release -- --ignored --nocapture`: bytes a second of one core.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn how_fast_a_body_is_scanned() {
        let prompt = r#"{"model":"m","messages":[{"role":"user","content":"%"}]}"#;
        let turns = format!(
            "[{}]",
            vec![r#"{"role":"user","content":"Hi, how are you?"}"#; 50_000].join(",")
        );
        for (what, body) in [
            (
                "plain text",
                prompt.replace('%', &"What a day it was. ".repeat(200_000)),
            ),
            (
                "lines of code",
                prompt.replace('%', &"\\tlet x = \\\"y\\\";\\n".repeat(200_000)),
            ),
            (
                "not ASCII",
                prompt.replace('%', &"日本語のテキスト。".repeat(150_000)),
            ),
            (
                "short turns",
                format!(r#"{{"model":"m","messages":{turns}}}"#),
            ),
            (
                "numbers",
                format!(r#"{{"model":"m","x":[{}0]}}"#, "0.125,".repeat(500_000)),
            ),
        ] {
            let timed = |name: &str, run: &dyn Fn() -> bool| {
                let start = Instant::now();
                let mut bytes = 0;
                while start.elapsed().as_millis() < 300 {
                    assert!(run());
                    bytes += body.len();
                }
                let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
                println!("{what:>14}: {name:>10} {rate:6.0} MB/s");
            };
            timed("scan", &|| scan(body.as_bytes()).is_ok());
            timed("serde_json", &|| {
                serde_json::from_slice::<serde::de::IgnoredAny>(body.as_bytes()).is_ok()
                    && str::from_utf8(body.as_bytes()).is_ok()
            });
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Eighths come back from text exactly as they were.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("model|stream|.{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn bodies() -> impl Strategy<Value = (Map<String, Value>, String, Option<bool>)> {
        let others = prop::collection::hash_map("[a-z_\"\\\\é]{1,10}", values(), 0..5);
        let model = "[^\\p{Cc}]{1,40}";
        (others, model, any::<Option<bool>>()).prop_map(|(others, model, stream)| {
            let mut body: Map<String, Value> = others.into_iter().collect();
            body.insert("model".into(), json!(model));
            body.remove("stream");
            if let Some(stream) = stream {
                body.insert("stream".into(), json!(stream));
            }
            (body, model, stream)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&body).map_err(|error| error.to_string());
        }

        #[test]
        fn whatever_else_is_in_an_object_its_members_are_found(
            (body, model, stream) in bodies(), pretty in any::<bool>()
        ) {
            let text = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) };
            let scanned = scan(&text.unwrap()).unwrap();
            prop_assert_eq!(scanned.model, model);
            prop_assert_eq!(scanned.stream, stream.unwrap_or(false));
        }

        #[test]
        fn another_model_changes_nothing_else((body, model, _) in bodies(), other in ".{0,40}") {
            let text = serde_json::to_vec(&body).unwrap();
            let span = scan(&text).unwrap().model_span;
            let literal = json_string(&other);
            let sent = with_model(&text, &span, &literal).concat();
            let mut expected = body;
            expected.insert("model".into(), json!(other));
            prop_assert_eq!(serde_json::from_slice::<Map<String, Value>>(&sent).unwrap(), expected);
            prop_assert_eq!(&with_model(&text, &span, &json_string(&model)).concat(), &text);
        }
    }
}
