//! The keys of a provider: `api_key`, `api_keys`, or the variable that its vendor's SDK reads.
//!
//! No fault and no warning here ever shows a key.

use std::collections::HashMap;

use crate::config::checked::Secret;
use crate::config::presets::Preset;
use crate::config::raw::{Field, Map, Place, Raw};
use crate::config::scalar::Wrong;

/// Keys of one provider: each has a state of its own, and each is looked for in every answer.
const KEYS_MAX: usize = 100;

/// The keys that are written, or else the one in the variable that the vendor's own SDK reads.
pub(super) fn keys(
    raw: &mut Raw<'_>,
    map: &mut Map<'_>,
    name: &str,
    known: Option<&Preset>,
) -> Vec<Secret> {
    let one = raw.field(map, "api_key");
    let several = raw.field(map, "api_keys");
    if let (Some(_), Some(several)) = (&one, &several) {
        let wrong = Wrong::new("is written beside `api_key`");
        raw.fault(&several.place, wrong, "one of the two");
    }
    let variable = known.and_then(|preset| preset.key_variable);
    let written = if several.is_some() {
        "api_keys"
    } else {
        "api_key"
    };
    let keys = if one.is_none() && several.is_none() {
        let value = variable.and_then(|variable| (raw.env)(variable));
        Some(value.and_then(implied).into_iter().collect())
    } else {
        // Both are read even where only one may be there, so that all of their faults are found.
        let one = one.map(|field| raw.secret(&field).map(|key| key.into_iter().collect()).ok());
        let several = several.map(|field| listed(raw, &field));
        several.or(one).flatten()
    };
    let Some(keys) = keys else {
        return Vec::new();
    };
    if keys.is_empty()
        && let Some(variable) = variable
    {
        raw.warnings.push(format!(
            "calls to {name} will be refused without a key: neither providers.{name}.{written} nor \
             the environment variable {variable} holds one"
        ));
    }
    keys
}

/// The key in a variable that nobody named here; what cannot be one is left alone.
fn implied(value: String) -> Option<Secret> {
    let value = value.trim();
    let sound = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic());
    sound.then(|| Secret::new(value))
}

/// The keys of a list; `None` if it has a fault. As with a single key, one whose variable is empty
/// is no fault, but among others it would not be missed, so a warning names it.
fn listed(raw: &mut Raw<'_>, field: &Field<'_>) -> Option<Vec<Secret>> {
    let expected = format!("a list of 1 to {KEYS_MAX} keys, all different");
    let items = raw.items(field, &expected)?;
    if items.is_empty() || items.len() > KEYS_MAX {
        let wrong = Wrong::new(format!("holds {} keys", items.len()));
        raw.fault(&field.place, wrong, expected);
        return None;
    }
    let mut keys: Vec<Secret> = Vec::with_capacity(items.len());
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut empty: Vec<Place> = Vec::new();
    let mut sound = true;
    for (index, item) in items.into_iter().enumerate() {
        let Ok(key) = raw.secret(&item) else {
            sound = false;
            continue;
        };
        let Some(key) = key else {
            empty.push(item.place);
            continue;
        };
        if let Some(first) = seen.insert(key.expose().to_owned(), index) {
            let wrong = Wrong::new(format!("is the same key as [{first}]"));
            raw.fault(&item.place, wrong, expected.as_str());
            sound = false;
        }
        keys.push(key);
    }
    if !keys.is_empty() {
        for place in empty {
            let path = place.path;
            raw.warnings
                .push(format!("{path} is empty: it is left out of the keys"));
        }
    }
    sound.then_some(keys)
}
