//! The names of coordinators as small numbers, which is what each entry has room for.
//!
//! A coordinator asks for its own once, and new names are as rare as reloads: so a name is written
//! once and read without a lock.

use std::sync::{Arc, OnceLock};

/// Coordinators that have ever been. A configuration has 256 at most; reloads can bring others.
pub const COORDINATORS_MAX: usize = 1024;

/// A coordinator, for whom an entry is stored, as the cache that gave it knows it; another cache's
/// is another coordinator, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(Option<u16>);

impl Owner {
    /// Its number; `None` for one too many, for whom nothing is stored.
    pub(super) const fn number(self) -> Option<u16> {
        self.0
    }
}

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

    /// The owner of a name; one too many once there are [`COORDINATORS_MAX`] others.
    pub fn owner(&self, name: &str) -> Owner {
        Owner(self.find(name).or_else(|| {
            // If another thread comes first, with this name or another, that is seen here.
            let is_its = |cell: &OnceLock<Arc<str>>| **cell.get_or_init(|| name.into()) == *name;
            let number = self.0.iter().position(is_its)?;
            u16::try_from(number).ok()
        }))
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
            assert_eq!(names.owner(&number.to_string()).number(), Some(number));
        }
        assert_eq!(names.owner("7").number(), Some(7));
        assert_eq!(names.owner("one more").number(), None);
        assert_eq!(names.find("one more"), None);
        assert_eq!(names.names().len(), COORDINATORS_MAX);
    }
}
