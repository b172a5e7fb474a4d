//! The names of coordinators as small numbers, which is what each entry has room for.
//!
//! Every insert asks for one, on every thread, and new names are as rare as reloads: so a name is
//! written once and read without a lock.

use std::sync::{Arc, OnceLock};

/// Coordinators that have ever inserted. A configuration has 256 at most; reloads can bring others.
pub const COORDINATORS_MAX: usize = 1024;

/// See the module. Names stand side by side from the front.
pub struct Coordinators(Box<[OnceLock<Arc<str>>]>);

impl Coordinators {
    pub fn new() -> Self {
        Self((0..COORDINATORS_MAX).map(|_| OnceLock::new()).collect())
    }

    /// The number of a name that has one.
    pub fn find(&self, name: &str) -> Option<u16> {
        let number = self.known().position(|known| **known == *name)?;
        u16::try_from(number).ok()
    }

    /// The number of a name; `None` once there are [`COORDINATORS_MAX`] others.
    pub fn number(&self, name: &str) -> Option<u16> {
        self.find(name).or_else(|| {
            // If another thread comes first, with this name or another, that is seen here.
            let is_its = |cell: &OnceLock<Arc<str>>| **cell.get_or_init(|| name.into()) == *name;
            let number = self.0.iter().position(is_its)?;
            u16::try_from(number).ok()
        })
    }

    /// Every name, by number.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.known().cloned().collect()
    }

    fn known(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map_while(OnceLock::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_one_too_many_has_none() {
        let names = Coordinators::new();
        for number in 0..COORDINATORS_MAX as u16 {
            assert_eq!(names.number(&number.to_string()), Some(number));
        }
        assert_eq!(names.number("7"), Some(7));
        assert_eq!(names.number("one more"), None);
        assert_eq!(names.find("one more"), None);
        assert_eq!(names.names().len(), COORDINATORS_MAX);
    }
}
