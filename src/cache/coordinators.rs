//! The names of coordinators as small numbers, which is what each entry has room for.

use std::sync::Arc;

use crate::sync::RwLock;

/// Coordinators that have ever inserted. A configuration has 256 at most; reloads can bring others.
pub const COORDINATORS_MAX: usize = 1024;

/// See the module.
pub struct Coordinators(RwLock<Vec<Arc<str>>>);

impl Coordinators {
    pub const fn new() -> Self {
        Self(RwLock::new("cache.names", Vec::new()))
    }

    /// The number of a name that has one.
    pub fn find(&self, name: &str) -> Option<u16> {
        position(&self.0.read(), name)
    }

    /// The number of a name; `None` once there are [`COORDINATORS_MAX`] others.
    pub fn number(&self, name: &str) -> Option<u16> {
        self.find(name).or_else(|| {
            self.0.write(|names| {
                let known = position(names, name);
                let is_room = names.len() < COORDINATORS_MAX;
                known.or_else(|| {
                    is_room.then(|| {
                        names.push(name.into());
                        (names.len() - 1) as u16
                    })
                })
            })
        })
    }

    /// Every name, by number.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.read().clone()
    }
}

fn position(names: &[Arc<str>], name: &str) -> Option<u16> {
    let found = names.iter().position(|known| **known == *name)?;
    u16::try_from(found).ok()
}
