//! Takes objects apart in one walk, and says what should have stood where something else does.
//!
//! A member can be a prompt of megabytes, so an object is never walked once for each member that
//! is wanted. Start at [`fields`].

use crate::wire::form::Untranslatable;
use crate::wire::json::view::View;

/// What is read from a request, or what is wrong with it.
pub(super) type Read<T> = Result<T, Untranslatable>;

pub(super) const STRING: &str = "must be a string";
pub(super) const LIST: &str = "must be a list";
pub(super) const OBJECT: &str = "must be an object";
pub(super) const NUMBER: &str = "must be a number";
pub(super) const COUNT: &str = "must be a whole number from 0 up";
pub(super) const BOOL: &str = "must be true or false";

/// The members `names` of `object`, the last one of each name. `null` counts as not there. The
/// names of others that say something go to `other`.
pub(super) fn fields<'a, const N: usize>(
    object: View<'a>,
    names: [&str; N],
    mut other: impl FnMut(&str),
) -> [Option<View<'a>>; N] {
    let mut found = [None; N];
    for (name, value) in object.members() {
        match names.iter().position(|it| *it == name) {
            Some(at) => found[at] = Some(value).filter(|value| !value.is_null()),
            None if says_something(value) => other(&name),
            None => {}
        }
    }
    found
}

/// Whether leaving `value` out would lose anything.
pub(super) fn says_something(value: View<'_>) -> bool {
    !value.is_null() && !is_empty(value)
}

/// Whether it is a list of nothing or an object without members.
pub(super) fn is_empty(value: View<'_>) -> bool {
    (value.is_array() && value.items().next().is_none())
        || (value.is_object() && value.members().next().is_none())
}

pub(super) fn number(value: View<'_>) -> Option<View<'_>> {
    value.f64().map(|_| value)
}

pub(super) fn object(value: View<'_>) -> Option<View<'_>> {
    value.is_object().then_some(value)
}

pub(super) fn list(value: View<'_>) -> Option<View<'_>> {
    value.is_array().then_some(value)
}

/// What `read` makes of `value` where there is one.
pub(super) fn optional<'a, T>(
    value: Option<View<'a>>,
    at: &str,
    why: &str,
    read: impl FnOnce(View<'a>) -> Option<T>,
) -> Read<Option<T>> {
    value
        .map(|value| needed(Some(value), at, why, read))
        .transpose()
}

/// What `read` makes of `value`, which has to be there.
pub(super) fn needed<'a, T>(
    value: Option<View<'a>>,
    at: &str,
    why: &str,
    read: impl FnOnce(View<'a>) -> Option<T>,
) -> Read<T> {
    value
        .and_then(read)
        .ok_or_else(|| Untranslatable::new(at, why))
}

/// Says of a fault within a value where that value is.
pub(super) fn within<T>(read: Read<T>, place: impl FnOnce() -> String) -> Read<T> {
    read.map_err(|mut fault| {
        let dot = if fault.at.is_empty() || fault.at.starts_with('[') {
            ""
        } else {
            "."
        };
        fault.at = format!("{}{dot}{}", place(), fault.at);
        fault
    })
}
