//! An answer of several vectors as answers of one vector each.
//!
//! The answer is gone through twice, whatever it holds; then each part is made by itself, so that
//! they can be made side by side. Start at [`split`].

use super::offset;
use super::shares::divide;
use crate::wire::form::NotOfDialect;
use crate::wire::json::view::View;
use crate::wire::json::walk_object;
use crate::wire::json::write::Writer;

/// Bytes of an answer beside its vectors. Each part has them all; the vendor's are 150.
pub const OTHERS_BYTES_MAX: usize = 16 << 10;

/// An answer that can be taken apart. Parts are independent of each other, and this is [`Sync`].
#[derive(Debug)]
pub struct Parts<'a> {
    members: Vec<(&'a str, Member<'a>)>,
    /// Bytes of all members but the vectors.
    others: usize,
    /// By their indices.
    items: Vec<Item<'a>>,
}

/// A member of the answer.
#[derive(Debug)]
enum Member<'a> {
    /// The list of vectors.
    Data,
    /// The counts that are divided, and how; all else stays.
    Usage(Vec<(&'a str, Count<'a>)>),
    Other(View<'a>),
}

#[derive(Debug)]
enum Count<'a> {
    Divided(Vec<u64>),
    Same(View<'a>),
}

/// What stands before and behind the index of an item.
#[derive(Clone, Copy, Debug)]
struct Item<'a>(&'a str, &'a str);

/// Takes apart the answer to a call for as many texts as there are `weights`: see
/// [`Single::weight`](super::Single::weight). Every count of the usage is divided in proportion to
/// them, since providers give one usage for all; the parts' counts add up to it.
///
/// # Errors
/// It is no such answer: not one JSON object, without a list of vectors, with more or fewer of
/// them, with an index that is missing, given twice or beyond their number; or with more than
/// [`OTHERS_BYTES_MAX`] beside them.
pub fn split<'a>(answer: &'a [u8], weights: &[u64]) -> Result<Parts<'a>, NotOfDialect> {
    let text = str::from_utf8(answer).map_err(|_| NotOfDialect("it is not UTF-8"))?;
    let mut parts = Parts {
        members: Vec::new(),
        others: 0,
        items: Vec::new(),
    };
    let (mut data, mut usage) = (Vec::new(), Vec::new());
    walk_object(text, |member| {
        let (key, value) = (&text[member.key], View::new(&text[member.value]));
        match View::new(key).string().as_deref() {
            Some("data") => {
                data.push(value);
                parts.members.push((key, Member::Data));
                return;
            }
            Some("usage") if value.is_object() => {
                usage.push(value);
                parts.members.push((key, Member::Usage(Vec::new())));
            }
            _ => parts.members.push((key, Member::Other(value))),
        }
        parts.others += key.len() + value.text().len() + 2;
    })
    .map_err(|_| NotOfDialect("it is not a JSON object"))?;
    if parts.others > OTHERS_BYTES_MAX {
        return Err(NotOfDialect("it holds more beside its vectors than any"));
    }
    let ([data], [] | [_]) = (data.as_slice(), usage.as_slice()) else {
        return Err(NotOfDialect("it has no list of vectors, or a member twice"));
    };
    parts.items = items(*data, weights.len())?;
    for (_, member) in &mut parts.members {
        if let (Member::Usage(counts), Some(usage)) = (member, usage.first()) {
            *counts = divided(*usage, weights);
        }
    }
    Ok(parts)
}

/// The items of the list, in the order of their indices.
fn items(data: View<'_>, count: usize) -> Result<Vec<Item<'_>>, NotOfDialect> {
    if !data.is_array() {
        return Err(NotOfDialect("its data is no list"));
    }
    let mut items = vec![None; count];
    for item in data.items() {
        let (index, item) = item_of(item)?;
        let index = usize::try_from(index).ok();
        match index.and_then(|index| items.get_mut(index)) {
            Some(place @ None) => *place = Some(item),
            Some(Some(_)) => return Err(NotOfDialect("two vectors have the same index")),
            None => return Err(NotOfDialect("a vector beyond those that were asked for")),
        }
    }
    let whole: Option<Vec<_>> = items.into_iter().collect();
    whole.ok_or(NotOfDialect("fewer vectors than were asked for"))
}

/// An item and its index.
fn item_of(item: View<'_>) -> Result<(u64, Item<'_>), NotOfDialect> {
    let text = item.text();
    let mut found: Option<View<'_>> = None;
    for (key, value) in item.members() {
        if key != "index" {
            continue;
        }
        if found.replace(value).is_some() {
            return Err(NotOfDialect("a vector with two indices"));
        }
        // The vector comes behind it with most, and need not be gone through to know that there
        // is no second index: one would be written so, or with an escape.
        let rest = &text.as_bytes()[offset(text, value.text())..];
        let may_repeat = memchr::memmem::find(rest, b"\"index\"").is_some();
        if !may_repeat && memchr::memchr(b'\\', rest).is_none() {
            break;
        }
    }
    let index = found.ok_or(NotOfDialect("a vector without an index"))?;
    let (before, rest) = text.split_at(offset(text, index.text()));
    let item = Item(before, &rest[index.text().len()..]);
    let number = index.u64();
    Ok((number.ok_or(NotOfDialect("an index is no number"))?, item))
}

/// The members of a usage, each count with its shares. What the total has beside the prompt is
/// divided by itself, so that no part of it is less than that of the prompt.
fn divided<'a>(usage: View<'a>, weights: &[u64]) -> Vec<(&'a str, Count<'a>)> {
    let prompt = usage.get("prompt_tokens").and_then(View::u64);
    let mut counts = Vec::new();
    // What has been walked is walked again without a fault.
    let _ = walk_object(usage.text(), |member| {
        let key = &usage.text()[member.key];
        let value = View::new(&usage.text()[member.value]);
        let is_total = View::new(key).is("total_tokens");
        let count = match (value.u64(), prompt) {
            (Some(total), Some(prompt)) if is_total && total >= prompt => {
                let rest = divide(total - prompt, weights);
                let both = divide(prompt, weights).into_iter().zip(rest);
                Count::Divided(both.map(|(prompt, rest)| prompt + rest).collect())
            }
            (Some(count), _) => Count::Divided(divide(count, weights)),
            (None, _) => Count::Same(value),
        };
        counts.push((key, count));
    });
    counts
}

impl Parts<'_> {
    /// How many there are: as many as weights.
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The answer to text `index` alone, counted from 0; `None` beyond the last one. Its vector has
    /// index 0, and is else as the provider wrote it.
    pub fn part(&self, index: usize) -> Option<Vec<u8>> {
        let Item(before, behind) = self.items.get(index)?;
        let bytes = self.others + before.len() + behind.len() + 32;
        let mut out = Writer::with_capacity(bytes);
        out.object(|out| {
            for (key, member) in &self.members {
                out.raw_key(key);
                match member {
                    Member::Data => out.array(|out| {
                        out.raw_parts(&[before, "0", behind]);
                    }),
                    Member::Usage(counts) => out.object(|out| {
                        for (key, count) in counts {
                            out.raw_key(key);
                            match count {
                                Count::Divided(shares) => out.number(shares[index]),
                                Count::Same(value) => out.view(*value),
                            };
                        }
                    }),
                    Member::Other(value) => out.view(*value),
                };
            }
        });
        Some(out.into_bytes())
    }
}
