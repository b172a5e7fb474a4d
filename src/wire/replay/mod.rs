//! A complete answer in its other shape: the body that a stream came to, the stream that says a
//! body.
//!
//! A stored answer is kept as it was given, and a later caller may want it the other way. The
//! internal form of [`translate`](super::translate) has no place for much that callers of the same
//! dialect read (fingerprints, log probabilities, members that only one server has), so nothing
//! goes through it here: a stream's JSON is joined as the vendors' SDKs join it, a body's JSON is
//! dealt out. What cannot be said in the other shape without a loss that matters is `None`, and
//! the caller asks the provider instead.
//!
//! Texts stay escaped and other values stay the text they are, so the work is linear in the
//! bytes. Start at [`body_of_stream`] and [`stream_of_body`].

mod chat_body;
mod chat_stream;
mod complete;
mod joined;
mod message_body;
mod message_stream;
mod out;
#[cfg(test)]
mod tests;

pub use complete::{is_complete, is_complete_stream};

use std::borrow::Cow;

use super::Endpoint;
use super::json::view::View;
use super::json::walk_object;
use super::sse;

/// Members of one object that is joined or dealt out. The vendors' own have about 20.
const MEMBERS_MAX: usize = 64;

/// The body that the vendor would have answered with, had the call that `events` answer not asked
/// for a stream. `events`: all of the stream, its end marker included.
///
/// `None` for a stream without its end marker, with an error in it, or not of the dialect; for one
/// that has no such body (audio, whose pieces are encoded one by one; arguments of an Anthropic
/// tool that were cut short); and for every endpoint but [`Endpoint::ChatCompletions`] and
/// [`Endpoint::Messages`].
///
/// A chat stream that was not asked for its usage has none, and then neither has the body.
pub fn body_of_stream(endpoint: Endpoint, events: &[u8]) -> Option<Vec<u8>> {
    match endpoint {
        Endpoint::ChatCompletions => chat_body::of_stream(events),
        Endpoint::Messages => message_body::of_stream(events),
        _ => None,
    }
}

/// The events of a stream that says what `body`, a plain answer, says. `include_usage`: a chat
/// stream ends with the usage, if the body has one.
///
/// Texts are cut into pieces of [`PIECE_BYTES`](out::PIECE_BYTES). `None` for what is no answer of
/// the dialect, and for one that no stream says: with audio, or with an image or another single
/// value that is longer than [`EVENT_BYTES_MAX`](sse::EVENT_BYTES_MAX). The stream has at most four
/// times the bytes of the body, and 1 MiB.
pub fn stream_of_body(endpoint: Endpoint, body: &[u8], include_usage: bool) -> Option<Vec<u8>> {
    match endpoint {
        Endpoint::ChatCompletions => chat_stream::of_body(body, include_usage),
        Endpoint::Messages => message_stream::of_body(body),
        _ => None,
    }
}

/// A chat stream whose caller asked for its usage, as one who did not is given it: without the
/// chunk that has a usage and no choice. All other bytes stay.
pub fn without_usage(events: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.len());
    for event in sse::events(events) {
        let is_usage = event.data.is_some_and(|data| is_usage_alone(&data));
        if !is_usage {
            out.extend_from_slice(event.raw);
        }
    }
    out
}

fn is_usage_alone(data: &[u8]) -> bool {
    if memchr::memmem::find(data, b"\"usage\"").is_none() {
        return false;
    }
    let Some(chunk) = object(data) else {
        return false;
    };
    let has_choice = |choices: View<'_>| choices.items().next().is_some();
    // Azure's first chunk has neither choice nor usage, and something else to say.
    let is_usage = |usage: View<'_>| usage.text().starts_with('{');
    chunk.get("usage").is_some_and(is_usage) && !chunk.get("choices").is_some_and(has_choice)
}

/// The one JSON object that `bytes` are.
fn object(bytes: &[u8]) -> Option<View<'_>> {
    let text = str::from_utf8(bytes).ok()?;
    walk_object(text, |_| {}).ok()?;
    Some(View::new(text))
}

/// Members of an object, each once.
type Members<'a> = Vec<(Cow<'a, str>, View<'a>)>;

/// Sets a member, unless to `null`. `None` for one too many.
fn set<'a>(all: &mut Members<'a>, key: Cow<'a, str>, value: View<'a>) -> Option<()> {
    if let Some((_, known)) = all.iter_mut().find(|(known, _)| *known == key) {
        if !value.is_null() {
            *known = value;
        }
        return Some(());
    }
    all.push((key, value));
    (all.len() <= MEMBERS_MAX).then_some(())
}

/// The members of an object; `None` for anything else, for more than [`MEMBERS_MAX`], and for a
/// key that is given twice, of which readers differ in what they make.
fn members(object: View<'_>) -> Option<Members<'_>> {
    if !object.is_object() {
        return None;
    }
    let found: Vec<_> = object.members().take(MEMBERS_MAX + 1).collect();
    let is_new = |at: usize| found[..at].iter().all(|(key, _)| *key != found[at].0);
    let is_usual = found.len() <= MEMBERS_MAX && (1..found.len()).all(is_new);
    is_usual.then_some(found)
}

/// The data of all events that have any; an event that says by its name that it is an error is
/// `None`.
fn data_of(events: &[u8]) -> Option<Vec<Cow<'_, [u8]>>> {
    let with_data = sse::events(events).filter(|event| event.data.is_some());
    let data = with_data.map(|event| event.data.filter(|_| event.name != Some("error")));
    data.collect()
}
