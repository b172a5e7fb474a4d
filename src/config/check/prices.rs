//! `providers.*.prices`: what a provider's models cost, by the names that it knows them by.

use std::collections::BTreeMap;

use super::ENTRIES_MAX;
use crate::config::checked::Price;
use crate::config::raw::{Map, Raw};
use crate::config::scalar::{Bounds, Unit, Wrong};

/// Dollars for a million tokens.
const DOLLARS: Bounds = Bounds {
    min: 0.0,
    max: 1e6,
    unit: Unit::Plain,
    whole: false,
};

pub(super) fn prices(raw: &mut Raw<'_>, map: &mut Map<'_>) -> BTreeMap<String, Price> {
    let models = raw.map(map, "prices");
    let entries = raw.entries(&models);
    if entries.len() > ENTRIES_MAX {
        let wrong = Wrong::new(format!("holds {} models", entries.len()));
        raw.fault(&models.place, wrong, format!("at most {ENTRIES_MAX}"));
    }
    let mut prices = BTreeMap::new();
    for (model, field) in entries.into_iter().take(ENTRIES_MAX) {
        let mut own = raw.open(field);
        let price = Price {
            input: raw.number(&mut own, "input", DOLLARS).unwrap_or(0.0),
            output: raw.number(&mut own, "output", DOLLARS).unwrap_or(0.0),
        };
        raw.close(own);
        prices.insert(model.to_owned(), price);
    }
    prices
}
