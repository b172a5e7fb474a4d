//! What a provider says, without our keys: one that quotes a key in an answer, an event, a header
//! or an error shall not show it to a caller or to the log.

use memchr::memmem::Finder;

use super::Provider;
use super::error::Cause;
use crate::config::checked;

/// A shorter key is no secret, and masking it would mangle answers.
const KEY_BYTES_MIN: usize = 8;

impl Provider {
    /// `said` with every key of ours masked, if one is quoted there.
    pub fn mask_key(&self, said: &[u8]) -> Option<Vec<u8>> {
        self.keys.iter().fold(None, |masked, key| {
            mask(key, masked.as_deref().unwrap_or(said)).or(masked)
        })
    }

    /// As [`Provider::mask_key`], in place.
    pub fn mask_text(&self, said: &mut String) {
        if let Some(masked) = self.mask_key(said.as_bytes()) {
            *said = String::from_utf8_lossy(&masked).into_owned();
        }
    }

    /// `cause` without a key in what it quotes.
    pub(super) fn mask_cause(&self, mut cause: Cause) -> Cause {
        match &mut cause {
            Cause::Told(said)
            | Cause::Resolve(said)
            | Cause::Connect(said)
            | Cause::Tls(said)
            | Cause::Malformed(said)
            | Cause::Header(said) => self.mask_text(said),
            _ => {}
        }
        cause
    }
}

/// Finds the keys, the longest first: one may be the beginning of another.
pub(super) fn finders(keys: &[checked::Secret]) -> Vec<Finder<'static>> {
    let keys = keys.iter().map(|key| key.expose());
    let mut keys: Vec<&str> = keys.filter(|key| key.len() >= KEY_BYTES_MIN).collect();
    keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.len()));
    let finders = keys.into_iter().map(|key| Finder::new(key).into_owned());
    finders.collect()
}

/// `said` with `key` masked, if it is quoted there.
fn mask(key: &Finder<'_>, said: &[u8]) -> Option<Vec<u8>> {
    let mut masked = Vec::new();
    let mut rest = said;
    while let Some(at) = key.find(rest) {
        masked.extend_from_slice(&rest[..at]);
        masked.extend_from_slice(b"***");
        rest = &rest[at + key.needle().len()..];
    }
    if rest.len() == said.len() {
        return None;
    }
    masked.extend_from_slice(rest);
    Some(masked)
}
