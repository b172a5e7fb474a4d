//! Names that a dump can show, under numbers that fit an atomic.

use std::collections::BTreeSet;
use std::sync::OnceLock;

// Not `sync::Mutex`: that one is built on this registry.
use parking_lot::Mutex;

static STRINGS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
static NAMES: [OnceLock<&'static str>; NAMES_MAX] = [const { OnceLock::new() }; NAMES_MAX];
static NAMES_USED: Mutex<usize> = Mutex::new(0);
/// Distinct coordinator, provider and lock names that a dump can show.
const NAMES_MAX: usize = 1024;

/// Keeps one copy of `text` for the life of the process. Only for names that the configuration
/// bounds (coordinators, providers, models): what is interned is never freed.
pub fn intern(text: &str) -> &'static str {
    let mut strings = STRINGS.lock();
    if let Some(known) = strings.get(text) {
        return known;
    }
    let leaked: &'static str = Box::leak(text.to_owned().into_boxed_str());
    strings.insert(leaked);
    leaked
}

/// The number under which slots refer to a name; 0 is "none" and also what a full table gives.
pub(super) fn name_number(name: &'static str) -> usize {
    if name.is_empty() {
        return 0;
    }
    let mut used = NAMES_USED.lock();
    for (index, known) in NAMES.iter().enumerate().take(*used) {
        if known
            .get()
            .is_some_and(|known| std::ptr::eq(*known, name) || *known == name)
        {
            return index + 1;
        }
    }
    if *used == NAMES_MAX {
        return 0;
    }
    let _ = NAMES[*used].set(name);
    *used += 1;
    *used
}

pub(super) fn name_of(number: usize) -> &'static str {
    number
        .checked_sub(1)
        .and_then(|index| NAMES.get(index)?.get().copied())
        .unwrap_or("")
}

/// A provider's or lock's name with its number looked up once, so that entering a call costs no
/// search.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: &'static str,
    pub(super) number: usize,
}

impl Name {
    /// Interns `text`.
    pub fn new(text: &str) -> Self {
        let text = intern(text);
        Self {
            text,
            number: name_number(text),
        }
    }

    /// The name itself.
    pub const fn as_str(self) -> &'static str {
        self.text
    }
}

/// As [`name_number`], but never waits: the name table's own lock may be what is contended.
pub(super) fn lock_number(name: &'static str) -> usize {
    let used = NAMES.iter().take_while(|known| known.get().is_some());
    for (index, known) in used.enumerate() {
        if known.get() == Some(&name) {
            return index + 1;
        }
    }
    match NAMES_USED.try_lock() {
        Some(mut used) if *used < NAMES_MAX => {
            let _ = NAMES[*used].set(name);
            *used += 1;
            *used
        }
        _ => 0,
    }
}
