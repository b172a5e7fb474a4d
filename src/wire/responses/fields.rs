//! Members by name in one walk, and where in a request a fault is.
//!
//! An item can hold an image of megabytes and every look for a member walks the whole object, so
//! whoever wants several members of it asks for them together: [`Fields`]. A [`Path`] costs
//! nothing until a fault or a note wants it as text.

use std::borrow::Cow;
use std::fmt;

use super::super::form::{Dropped, Untranslatable};
use super::super::json::view::{Lit, View};

/// Characters of a caller's own word that a fault repeats.
const QUOTED_MAX: usize = 64;

/// What a fault says of things that only the vendor's own responses can do.
pub(super) const OWN_ONLY: &str = "which only a provider with responses of its own can take";

/// Where a value stands, as in `input[3].content[0].type`.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    /// The body itself.
    Top,
    Member(&'p Self, &'p str),
    Item(&'p Self, usize),
}

impl<'p> Path<'p> {
    /// A member of what stands here.
    pub(super) const fn member(&'p self, name: &'p str) -> Self {
        Self::Member(self, name)
    }

    /// An item of the list that stands here.
    pub(super) const fn item(&'p self, number: usize) -> Self {
        Self::Item(self, number)
    }

    /// The fault `why` here.
    pub(super) fn fault(&self, why: impl Into<String>) -> Untranslatable {
        Untranslatable::new(self.to_string(), why)
    }

    /// The fault that what stands here is the caller's `word`, and `why` that is one.
    pub(super) fn fault_of(&self, word: &str, why: &str) -> Untranslatable {
        let word: String = word.chars().take(QUOTED_MAX).collect();
        self.fault(format!("is '{word}', {why}"))
    }

    /// Notes that the member `name` of what stands here is left out. Items are not told apart:
    /// `input[].phase`.
    pub(super) fn drop(&self, name: &str, dropped: &mut Dropped) {
        let mut path = String::new();
        // A string takes everything.
        let _ = self.member(name).write(&mut path, false);
        dropped.note(&path);
    }

    fn write(&self, out: &mut dyn fmt::Write, with_numbers: bool) -> fmt::Result {
        match self {
            Self::Top => out.write_str("the body"),
            Self::Member(Self::Top, name) => out.write_str(name),
            Self::Member(parent, name) => {
                parent.write(out, with_numbers)?;
                write!(out, ".{name}")
            }
            Self::Item(parent, number) => {
                parent.write(out, with_numbers)?;
                if with_numbers {
                    write!(out, "[{number}]")
                } else {
                    out.write_str("[]")
                }
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, true)
    }
}

/// The string at `at`.
pub(super) fn lit<'a>(view: View<'a>, at: &Path<'_>) -> Result<Lit<'a>, Untranslatable> {
    view.lit().ok_or_else(|| at.fault("must be a string"))
}

/// The items of the list at `at`.
pub(super) fn list<'a>(
    view: View<'a>,
    at: &Path<'_>,
) -> Result<impl Iterator<Item = View<'a>>, Untranslatable> {
    if view.is_array() {
        Ok(view.items())
    } else {
        Err(at.fault("must be a list"))
    }
}

/// Some members of one object. `null` counts as not there, and of a repeated member the last one
/// counts, as everywhere.
pub(super) struct Fields<'a, 'p, const N: usize> {
    at: &'p Path<'p>,
    names: [&'static str; N],
    values: [Option<View<'a>>; N],
}

impl<'a, 'p, const N: usize> Fields<'a, 'p, N> {
    /// Walks the object at `at` once. Members of other names, unless they are `null`, go to
    /// `other`.
    pub(super) fn read(
        view: View<'a>,
        at: &'p Path<'p>,
        names: [&'static str; N],
        mut other: impl FnMut(Cow<'a, str>, View<'a>),
    ) -> Result<Self, Untranslatable> {
        if !view.is_object() {
            return Err(at.fault("must be an object"));
        }
        let mut values = [None; N];
        for (name, value) in view.members() {
            match names.iter().position(|known| *known == name) {
                Some(index) => values[index] = Some(value).filter(|it| !it.is_null()),
                None if value.is_null() => {}
                None => other(name, value),
            }
        }
        Ok(Self { at, names, values })
    }

    /// The same, with members of other names noted as left out.
    pub(super) fn read_noting(
        view: View<'a>,
        at: &'p Path<'p>,
        names: [&'static str; N],
        dropped: &mut Dropped,
    ) -> Result<Self, Untranslatable> {
        Self::read(view, at, names, |name, _| at.drop(&name, dropped))
    }

    /// The member, one of those asked for.
    pub(super) fn get(&self, name: &str) -> Option<View<'a>> {
        let index = self.names.iter().position(|known| *known == name);
        debug_assert!(index.is_some(), "{name} was not asked for");
        self.values[index?]
    }

    /// The member, which must be there.
    pub(super) fn need(&self, name: &str) -> Result<View<'a>, Untranslatable> {
        self.get(name)
            .ok_or_else(|| self.at.member(name).fault("is missing"))
    }

    /// The member, which must be a string.
    pub(super) fn lit(&self, name: &str) -> Result<Option<Lit<'a>>, Untranslatable> {
        let found = self.get(name).map(|view| lit(view, &self.at.member(name)));
        found.transpose()
    }

    /// The member, which must be there and be a string.
    pub(super) fn need_lit(&self, name: &str) -> Result<Lit<'a>, Untranslatable> {
        lit(self.need(name)?, &self.at.member(name))
    }

    /// The member, which must be true or false.
    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Untranslatable> {
        self.checked(name, "must be true or false", View::bool)
    }

    /// The member, which must be a whole number.
    pub(super) fn u64(&self, name: &str) -> Result<Option<u64>, Untranslatable> {
        self.checked(name, "must be a whole number", View::u64)
    }

    /// The member as it stands, which must be a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<View<'a>>, Untranslatable> {
        let number = |view: View<'a>| view.f64().map(|_| view);
        self.checked(name, "must be a number", number)
    }

    fn checked<T>(
        &self,
        name: &str,
        why: &str,
        read: impl FnOnce(View<'a>) -> Option<T>,
    ) -> Result<Option<T>, Untranslatable> {
        match self.get(name) {
            None => Ok(None),
            Some(view) => match read(view) {
                None => Err(self.at.member(name).fault(why)),
                some => Ok(some),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_a_caller_would() {
        let input = Path::Top.member("input");
        let item = input.item(3);
        let content = item.member("content");
        let part = content.item(0);
        let place = part.member("type");
        assert_eq!(
            place.fault("is missing").to_string(),
            "'input[3].content[0].type' is missing"
        );
        let mut dropped = Dropped::default();
        part.drop("detail", &mut dropped);
        Path::Top.drop("seed", &mut dropped);
        assert_eq!(dropped.to_string(), "input[].content[].detail, seed");
        assert_eq!(Path::Top.fault("x").at, "the body");
    }

    #[test]
    fn members_are_found_in_one_walk() {
        let body = View::new(r#"{"a":1,"b":"x","a":2,"c":null,"d":true,"e":null}"#);
        let mut others = Vec::new();
        let fields = Fields::read(body, &Path::Top, ["a", "b", "c"], |name, _| {
            others.push(name.into_owned());
        })
        .unwrap();
        assert_eq!(fields.u64("a"), Ok(Some(2)));
        assert_eq!(fields.lit("b"), Ok(Some(Lit::of("x"))));
        assert_eq!(fields.lit("c"), Ok(None));
        assert_eq!(fields.need("c").unwrap_err().to_string(), "'c' is missing");
        assert_eq!(
            fields.bool("a").unwrap_err().to_string(),
            "'a' must be true or false"
        );
        assert_eq!(others, ["d"]);
        assert!(Fields::read(View::new("[]"), &Path::Top, ["a"], |_, _| {}).is_err());
    }
}
