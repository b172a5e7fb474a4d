//! What is wrong in a configuration, and where.
//!
//! A [`Fault`] is one thing that the operator has to change. It prints as one line that an editor
//! can jump to. It must never hold a secret: a value that cannot be read is shown as it was
//! written, before `${ENV}` is filled in (only a name that leads nowhere is shown filled in), and
//! URLs and the values of secrets are not shown at all.

use std::error::Error;
use std::fmt;

/// A place in the text: line and column, both from 1, the column counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    pub line: u32,
    pub column: u32,
}

impl Pos {
    /// The first character of the text: what concerns the file as a whole is reported here.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One fault. The position is that of the key whose value is wrong, or of the list item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named, say `config/victor.yml`.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The key's path, say `providers.anthropic.timeout`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: String,
    /// The nearest thing that would be right.
    pub suggestion: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}, expected {}", self.message, self.expected)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

impl Error for Fault {}

/// How many characters of a key or value a fault shows.
const SHOWN_CHARS_MAX: usize = 60;

/// `text` as a fault or a warning shows it: short, on one line, without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The candidate that is nearest to `text`, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A text far longer than any name is no slip of the finger, and comparing it costs its square.
    if text.len() > 128 {
        return None;
    }
    let text = text.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase();
            // One slip a three characters; or one is the beginning of the other.
            let slips = strsim::damerau_levenshtein(&text, &other);
            let near = slips <= 1 + text.chars().count().min(other.chars().count()) / 3
                || (text.len() > 3 && other.len() > 3)
                    && (other.starts_with(&text) || text.starts_with(&other));
            (near, slips, candidate)
        })
        .filter(|(near, ..)| *near)
        .min_by_key(|(_, slips, _)| *slips)
        .map(|(_, _, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_that_an_editor_can_jump_to() {
        let fault = Fault {
            file: "config/victor.yml".into(),
            line: 12,
            column: 5,
            key: "providers.anthropic.timeout".into(),
            message: "`30s` carries a unit".into(),
            expected: "a number of seconds".into(),
            suggestion: Some("30".into()),
        };
        assert_eq!(
            fault.to_string(),
            "config/victor.yml:12:5: providers.anthropic.timeout: `30s` carries a unit, \
             expected a number of seconds (did you mean 30?)"
        );
    }

    #[test]
    fn the_nearest_name_is_suggested_and_no_far_one() {
        fn check(text: &str, expected: Option<&str>) {
            let known = ["timeout", "connect_timeout", "base_url", "kind"];
            assert_eq!(nearest(text, known), expected, "{text}");
        }
        check("timeuot", Some("timeout"));
        check("Timeout", Some("timeout"));
        check("timeout_seconds", Some("timeout"));
        check("baseurl", Some("base_url"));
        check("kin", Some("kind"));
        check("zebra", None);
        check(&"x".repeat(1000), None);
    }

    #[test]
    fn what_is_shown_stays_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
