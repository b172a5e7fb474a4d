//! Values that come in pieces, joined as the vendor's SDK joins deltas.
//!
//! Texts are put one behind the other, lists too, objects are joined member by member, and of all
//! other values the last one counts. Items of lists that have an `index` are pieces of the item
//! with that index. Members that say what something is do not grow, and must not change.
//! (`accumulate_delta` in <https://github.com/openai/openai-python>, `lib/streaming/_deltas.py`.)
//!
//! Start at [`Object::join`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::MEMBERS_MAX;
use crate::wire::json::view::{Lit, View};
use crate::wire::json::write::Writer;

/// Containers within one another that are joined; the vendors' have five.
const DEPTH_MAX: usize = 8;

/// An object in the making.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Joined<'a>)>);

/// A value in the making.
#[derive(Debug)]
enum Joined<'a> {
    Text(Lit<'a>),
    Object(Object<'a>),
    List(List<'a>),
    /// Anything else.
    Value(View<'a>),
}

/// A list in the making: of items that are whole, or of such as come in pieces.
#[derive(Debug, Default)]
struct List<'a> {
    /// What stands between the brackets of each piece; none is empty.
    whole: Vec<&'a str>,
    indexed: BTreeMap<u64, Object<'a>>,
}

impl<'a> Object<'a> {
    /// Joins the members of `delta` to those that are there. `None` for what cannot be joined.
    pub(super) fn join(&mut self, delta: View<'a>) -> Option<()> {
        self.join_at(delta, false, 0)
    }

    fn join_at(&mut self, delta: View<'a>, is_piece: bool, depth: usize) -> Option<()> {
        for (key, value) in super::members(delta)? {
            // It only says which item this is a piece of.
            if is_piece && key == "index" {
                continue;
            }
            self.member(key, value, depth)?;
        }
        Some(())
    }

    /// Joins one value to the member `key`. `None` for what cannot be joined.
    pub(super) fn add(&mut self, key: &'static str, value: View<'a>) -> Option<()> {
        self.member(Cow::Borrowed(key), value, 0)
    }

    /// Puts `item` behind the list that is the member `key`. `None` where that is none.
    pub(super) fn push(&mut self, key: &'static str, item: View<'a>) -> Option<()> {
        self.add(key, View::new("[]"))?;
        match self.0.iter_mut().find(|(known, _)| known == key)? {
            (_, Joined::List(list)) if list.indexed.is_empty() => list.whole.push(item.text()),
            _ => return None,
        }
        Some(())
    }

    fn member(&mut self, key: Cow<'a, str>, value: View<'a>, depth: usize) -> Option<()> {
        if let Some((key, joined)) = self.0.iter_mut().find(|(known, _)| *known == key) {
            return joined.join(key, value, depth);
        }
        if self.0.len() == MEMBERS_MAX {
            return None;
        }
        let value = Joined::open(&key, value, depth)?;
        self.0.push((key, value));
        Some(())
    }

    /// Whether `key` is there and neither `null` nor empty.
    pub(super) fn has(&self, key: &str) -> bool {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.is_some_and(|(_, value)| match value {
            Joined::Text(text) => !text.is_empty(),
            Joined::Object(_) => true,
            Joined::List(list) => !list.whole.is_empty() || !list.indexed.is_empty(),
            Joined::Value(value) => !value.is_null(),
        })
    }

    /// Writes the member `key`; false if it is not there.
    pub(super) fn write_member(&self, key: &str, out: &mut Writer) -> bool {
        let found = self.0.iter().find(|(known, _)| known == key);
        if let Some((_, value)) = found {
            out.key(key);
            value.write(out);
        }
        found.is_some()
    }

    /// Writes all members but those of these names.
    pub(super) fn write_others(&self, but: &[&str], out: &mut Writer) {
        for (key, value) in &self.0 {
            if !but.contains(&key.as_ref()) {
                out.key(key);
                value.write(out);
            }
        }
    }

    /// Writes the object.
    pub(super) fn write(&self, out: &mut Writer) {
        out.object(|out| self.write_others(&[], out));
    }
}

impl<'a> Joined<'a> {
    fn open(key: &str, value: View<'a>, depth: usize) -> Option<Self> {
        if let Some(text) = value.lit() {
            return Some(Self::Text(text));
        }
        let mut opened = match value {
            value if value.is_object() => Self::Object(Object::default()),
            value if value.is_array() => Self::List(List::default()),
            value => return Some(Self::Value(value)),
        };
        opened.join(key, value, depth)?;
        Some(opened)
    }

    fn join(&mut self, key: &str, value: View<'a>, depth: usize) -> Option<()> {
        if value.is_null() {
            return Some(());
        }
        if depth == DEPTH_MAX {
            return None;
        }
        match self {
            Self::Text(text) => {
                let more = value.lit()?;
                match key {
                    _ if text.is_empty() => *text = more,
                    // Some servers say it with every chunk.
                    "role" => {}
                    "id" | "type" | "name" if more.is_empty() || *text == more => {}
                    // Another item under the index of the first.
                    "id" | "type" | "name" => return None,
                    _ => text.push(&more),
                }
            }
            Self::Object(object) => object.join_at(value, false, depth + 1)?,
            Self::List(list) if value.is_array() => list.join(key, value, depth + 1)?,
            Self::Value(old) if old.is_null() => *self = Self::open(key, value, depth)?,
            Self::Value(old)
                if value.lit().is_none() && !value.is_object() && !value.is_array() =>
            {
                *old = value;
            }
            Self::List(_) | Self::Value(_) => return None,
        }
        Some(())
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Text(text) => {
                out.lit(text);
            }
            Self::Object(object) => object.write(out),
            Self::List(list) => {
                out.array(|out| {
                    list.indexed.values().for_each(|item| item.write(out));
                    list.whole.iter().for_each(|items| {
                        out.raw(items);
                    });
                });
            }
            Self::Value(value) => {
                out.view(*value);
            }
        }
    }
}

impl<'a> List<'a> {
    fn join(&mut self, key: &str, items: View<'a>, depth: usize) -> Option<()> {
        // In a body these have no index.
        let is_bare = matches!(key, "tool_calls" | "thinking_blocks");
        let mut has_whole = false;
        for item in items.items() {
            let index = Some(item).filter(|it| it.is_object());
            match index.and_then(|it| it.get("index")).and_then(View::u64) {
                Some(index) => {
                    let known = self.indexed.entry(index).or_default();
                    known.join_at(item, is_bare, depth)?;
                }
                // Servers differ in which call such a fragment is of.
                None if key == "tool_calls" => return None,
                None => has_whole = true,
            }
        }
        if has_whole {
            let inside = items.text().strip_prefix('[')?.strip_suffix(']')?;
            self.whole.push(inside.trim_ascii());
        }
        (self.whole.is_empty() || self.indexed.is_empty()).then_some(())
    }
}
