//! What does not cross: left out and named, refused, or not of a dialect at all.

use std::fmt;

/// Names noted in one [`Dropped`]; further ones are counted.
const DROPPED_MAX: usize = 32;
/// Bytes of one name.
const DROPPED_BYTES_MAX: usize = 64;

/// The names of what was left out, for `x-victor-dropped`. Bounded; fit for a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    names: Vec<String>,
    more: usize,
}

impl Dropped {
    /// Notes `name`, a path as in `messages[].name`, once.
    pub fn note(&mut self, name: &str) {
        // It may be a member of the caller's own making.
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '"');
        let name: String = name
            .chars()
            .map(|c| if plain(c) { c } else { '_' })
            .take(DROPPED_BYTES_MAX)
            .collect();
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() == DROPPED_MAX {
            self.more += 1;
            return;
        }
        self.names.push(name);
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// As the header has it: names with commas between them.
impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.names.join(", "))?;
        if self.more > 0 {
            write!(out, ", and {} more", self.more)?;
        }
        Ok(())
    }
}

/// A request that cannot be said in the provider's dialect, or is none of the caller's: 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untranslatable {
    /// Where, as in `messages[3].content[0]`.
    pub at: String,
    /// What is wrong and what to do.
    pub why: String,
}

impl Untranslatable {
    /// The fault `why` at `at`.
    pub fn new(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "'{}' {}", self.at, self.why)
    }
}

impl std::error::Error for Untranslatable {}

/// An answer or event of a provider that is not of its dialect. Says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOfDialect(pub &'static str);

impl fmt::Display for NotOfDialect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for NotOfDialect {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_named_once_and_fits_a_header() {
        let mut dropped = Dropped::default();
        assert!(dropped.is_empty());
        dropped.note("seed");
        dropped.note("seed");
        dropped.note("my \"field\",\r\nü");
        assert_eq!(dropped.to_string(), "seed, my__field_____");
        for number in 0..100 {
            dropped.note(&format!("field{number}"));
        }
        assert!(dropped.to_string().ends_with(", and 70 more"));
    }
}
