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

use super::json::view::View;
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
    /// How many choices the answer shall have, by `n`; `None`: the body does not tell, as with a
    /// list of prompts.
    pub choices: Option<u32>,
    /// What says whether the answer may be given again.
    pub asked: Asked,
}

/// What of a body says whether its answer may be given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `temperature` is 0.
    pub is_greedy: bool,
    /// There is a `seed`.
    pub has_seed: bool,
    /// `store`, if it says so.
    pub store: Option<bool>,
    /// The answer depends on, or begins, something that a server keeps: `previous_response_id`,
    /// `conversation`, `background` or `container`.
    pub is_stateful: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
}

impl Asked {
    fn note(&mut self, key: &str, value: &str) {
        let is_there = !matches!(value, "null" | "false");
        match key {
            "temperature" => self.is_greedy = value.parse::<f64>().is_ok_and(|it| it == 0.0),
            "seed" => self.has_seed = is_there,
            "store" => self.store = value.parse().ok(),
            "previous_response_id" | "conversation" | "background" | "container" => {
                self.is_stateful |= is_there;
            }
            "stream_options" => {
                let usage = View::new(value).get("include_usage");
                self.include_usage = usage.and_then(View::bool).unwrap_or(false);
            }
            _ => {}
        }
    }
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
    let mut choices = Some(1);
    let mut asked = Asked::default();
    json::walk_object(text, |member| {
        let literal = &text[member.key.clone()];
        if let Some(key) = short_key(literal) {
            model.offer(&key, &member);
            stream.offer(&key, &member);
            let value = &text[member.value.clone()];
            match key.as_ref() {
                "n" if value != "null" => choices = choices.and(value.parse().ok()),
                "prompt" if value.starts_with('[') => choices = None,
                key => asked.note(key, value),
            }
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
        choices,
        asked,
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
    const LITERAL_BYTES_MAX: usize = "previous_response_id".len() * 6 + 2;
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
mod tests;
