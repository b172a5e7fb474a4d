//! An answer of several vectors as answers of one vector each.
//!
//! Where the vectors stand is found in one quick pass; to check one and to make its part is the
//! work of that part alone, so that they can be made side by side. Start at [`split`].

use std::ops::Range;

use super::scan;
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
    /// The answer without its vectors.
    others: String,
    members: Vec<Member>,
    /// By their indices.
    items: Vec<&'a str>,
}

/// A member of the answer, or of its usage: where its key stands, and what there is of its value.
#[derive(Debug)]
struct Member {
    key: Range<usize>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// The list of vectors.
    Data,
    Usage(Vec<Member>),
    /// A count, divided.
    Shares(Vec<u64>),
    /// As it stands.
    Same(Range<usize>),
}

/// Takes apart the answer to a call for as many texts as there are `weights`: see
/// [`Single::weight`](super::Single::weight). Every count of the usage is divided in proportion to
/// them, since providers give one usage for all; the parts' counts add up to it.
///
/// # Errors
/// It is no such answer: no JSON object, without a list of vectors, with more or fewer of them,
/// with an index that is missing, given twice or beyond their number; or with more than
/// [`OTHERS_BYTES_MAX`] beside them.
pub fn split<'a>(answer: &'a [u8], weights: &[u64]) -> Result<Parts<'a>, NotOfDialect> {
    let text = str::from_utf8(answer).map_err(|_| NotOfDialect("it is not UTF-8"))?;
    let (list, found) = scan::list(text, weights.len())?;
    let (before, behind) = (&text[..list.start], &text[list.end..]);
    if before.len() + behind.len() > OTHERS_BYTES_MAX {
        return Err(NotOfDialect("it holds more beside its vectors than any"));
    }
    let others = [before, "[]", behind].concat();
    let members = members(&others, weights)?;
    let mut items = vec![None; weights.len()];
    for item in found {
        let item = &text[item];
        let index = index_of(item).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| items.get_mut(index)) {
            Some(place @ None) => *place = Some(item),
            Some(Some(_)) => return Err(NotOfDialect("two vectors have the same index")),
            None => return Err(NotOfDialect("a vector without an index that was asked for")),
        }
    }
    let items: Option<Vec<_>> = items.into_iter().collect();
    Ok(Parts {
        items: items.ok_or(NotOfDialect("fewer vectors than were asked for"))?,
        others,
        members,
    })
}

/// The members of an answer without its vectors.
fn members(others: &str, weights: &[u64]) -> Result<Vec<Member>, NotOfDialect> {
    let mut members = Vec::new();
    let (mut lists, mut usages) = (0, 0);
    walk_object(others, |member| {
        let name = View::new(&others[member.key.clone()]).string();
        let value = match name.as_deref() {
            Some("data") => {
                lists += 1;
                Value::Data
            }
            Some("usage") => {
                usages += 1;
                usage(others, member.value, weights)
            }
            _ => Value::Same(member.value),
        };
        members.push(Member {
            key: member.key,
            value,
        });
    })
    .map_err(|_| NotOfDialect("it is not a JSON object"))?;
    match (lists, usages) {
        (1, 0 | 1) => Ok(members),
        _ => Err(NotOfDialect("a member is given twice")),
    }
}

/// The usage that stands at `range`, each count with its shares. What the total has beside the
/// prompt is divided by itself, so that no part of it is less than that of the prompt.
fn usage(others: &str, range: Range<usize>, weights: &[u64]) -> Value {
    let text = &others[range.clone()];
    let prompt = View::new(text).get("prompt_tokens").and_then(View::u64);
    let within = |it: Range<usize>| range.start + it.start..range.start + it.end;
    let mut members = Vec::new();
    let walked = walk_object(text, |member| {
        let is_total = View::new(&text[member.key.clone()]).is("total_tokens");
        let count = View::new(&text[member.value.clone()]).u64();
        let value = match (count, prompt) {
            (Some(total), Some(prompt)) if is_total && total >= prompt => {
                let rest = divide(total - prompt, weights);
                let both = divide(prompt, weights).into_iter().zip(rest);
                Value::Shares(both.map(|(prompt, rest)| prompt + rest).collect())
            }
            (Some(count), _) => Value::Shares(divide(count, weights)),
            (None, _) => Value::Same(within(member.value)),
        };
        members.push(Member {
            key: within(member.key),
            value,
        });
    });
    match walked {
        Ok(()) => Value::Usage(members),
        // `null`, say.
        Err(_) => Value::Same(range),
    }
}

/// The first index of an item; what is behind it is not looked at.
fn index_of(item: &str) -> Option<u64> {
    let mut members = View::new(item).members();
    members.find(|(key, _)| key == "index")?.1.u64()
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

    /// The answer to text `index` alone, counted from 0. Its vector has index 0, and is else as the
    /// provider wrote it.
    ///
    /// # Errors
    /// The item is no JSON object or has two indices, or there is none beyond the last one.
    pub fn part(&self, index: usize) -> Result<Vec<u8>, NotOfDialect> {
        let beyond = NotOfDialect("a vector beyond those that were asked for");
        let item = *self.items.get(index).ok_or(beyond)?;
        let mut places = Vec::new();
        walk_object(item, |member| {
            if View::new(&item[member.key]).is("index") {
                places.push(member.value);
            }
        })
        .map_err(|_| NotOfDialect("a vector that is no JSON object"))?;
        let [place] = places.as_slice() else {
            return Err(NotOfDialect("a vector with two indices"));
        };
        let pieces = [&item[..place.start], "0", &item[place.end..]];
        let mut out = Writer::with_capacity(self.others.len() + item.len() + 1);
        self.write(&self.members, index, &pieces, &mut out);
        Ok(out.into_bytes())
    }

    /// Writes an object of these members. As deep as an answer with a usage.
    fn write(&self, members: &[Member], index: usize, item: &[&str], out: &mut Writer) {
        out.object(|out| {
            for Member { key, value } in members {
                out.raw_key(&self.others[key.clone()]);
                match value {
                    Value::Data => {
                        out.array(|out| {
                            out.raw_parts(item);
                        });
                    }
                    Value::Usage(counts) => self.write(counts, index, item, out),
                    Value::Shares(shares) => {
                        out.number(shares[index]);
                    }
                    Value::Same(value) => {
                        out.raw(&self.others[value.clone()]);
                    }
                }
            }
        });
    }
}
