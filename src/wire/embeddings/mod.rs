//! Embedding calls of one text each, merged into one call and its answer split again.
//!
//! A provider takes thousands of texts in one call, and many programs send them one by one. Calls
//! whose bodies differ in the text alone have the same [digest](Single::digest). Nothing of a text
//! or vector is read or written anew: literals go from body to body, and items from answer to
//! answer, as they stand.
//!
//! Start at [`Single::of`], then [`merge`] and [`split`].

mod parts;
mod scan;
mod shares;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::json::view::View;
use super::json::write::Writer;
use super::json::{canonical, walk_object};

pub use self::parts::{OTHERS_BYTES_MAX, Parts, split};

/// What digests are made under: another form of them needs another one.
const CONTEXT: &str = "victor 2026 embeddings that can be merged 1";

/// What is known of a call that asks for the vector of one text. Where things stand is in bytes of
/// the body that it was [read from](Single::of).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// The literal of the text, quotes included.
    literal: Range<usize>,
    /// The value of `user`.
    user: Option<Range<usize>>,
    digest: [u8; 32],
}

impl Single {
    /// Reads the body of a `POST /v1/embeddings`. `None` if that is anything but an object in
    /// UTF-8 whose `input` is one text or a list of one text; for an empty text, since that is
    /// refused and the others of its call would be refused with it; and for a body that could be
    /// read in two ways, such as one with a key given twice.
    pub fn of(body: &[u8]) -> Option<Self> {
        let text = str::from_utf8(body).ok()?;
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        canonical::write(text, &["input", "user"], &mut |bytes| {
            hasher.update(bytes);
        })
        .ok()?;
        let (mut input, mut user) = (None, None);
        walk_object(text, |member| {
            match View::new(&text[member.key]).string().as_deref() {
                Some("input") => input = Some(member.value),
                Some("user") => user = Some(member.value),
                _ => {}
            }
        })
        .ok()?;
        let input = input?;
        let mut literal = View::new(&text[input.clone()]);
        if literal.is_array() {
            let mut items = literal.items();
            literal = items.next().filter(|_| items.next().is_none())?;
        }
        literal.lit().filter(|text| !text.is_empty())?;
        let start = input.start + offset(&text[input], literal.text());
        Some(Self {
            literal: start..start + literal.text().len(),
            user,
            digest: *hasher.finalize().as_bytes(),
        })
    }

    /// A hash of all that the body says beside `input` and `user`. Calls with the same one can be
    /// merged, if they also go to the same place for the same account: headers are not in it.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Where the text's literal stands in the body, quotes included.
    pub const fn literal(&self) -> &Range<usize> {
        &self.literal
    }

    /// The bytes of the text as it is written, for [`split`]: what it costs is about in proportion
    /// to them. From 1.
    pub const fn weight(&self) -> u64 {
        (self.literal.end - self.literal.start) as u64 - 2
    }
}

/// The body of one call for all of `bodies`, which have the same digest, each with what was read
/// from it: the first body with the list of all texts, in order. `user` stays if all name the same
/// one; on behalf of several, none is named.
pub fn merge(bodies: &[(&[u8], &Single)]) -> Vec<u8> {
    let Some((first, others)) = bodies.split_first() else {
        return Vec::new();
    };
    let is_one_user = others.iter().all(|it| user(it) == user(first));
    let bytes: usize = bodies.iter().map(|(_, it)| it.literal.len() + 1).sum();
    let mut out = Writer::with_capacity(first.0.len() + bytes);
    let text = str::from_utf8(first.0).unwrap_or_default();
    out.object(|out| {
        // What has been walked is walked again without a fault.
        let _ = walk_object(text, |member| {
            let key = &text[member.key];
            match View::new(key).string().as_deref() {
                Some("input") => {
                    out.raw_key(key).array(|out| {
                        for (body, single) in bodies {
                            out.raw(part(body, &single.literal));
                        }
                    });
                }
                Some("user") if !is_one_user => {}
                _ => {
                    out.raw_key(key).raw(&text[member.value]);
                }
            }
        });
    });
    out.into_bytes()
}

fn user<'b>((body, single): &(&'b [u8], &Single)) -> Option<&'b str> {
    single.user.as_ref().map(|user| part(body, user))
}

fn part<'b>(body: &'b [u8], range: &Range<usize>) -> &'b str {
    let part = body.get(range.clone()).map(str::from_utf8);
    part.and_then(Result::ok).unwrap_or_default()
}

/// Where `part`, which is within `whole`, begins.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
