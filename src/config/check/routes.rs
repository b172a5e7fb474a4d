//! `models`: what a client may ask for, and who serves it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::providers::Providers;
use super::{MODEL, MODELS_MAX, is_model};
use crate::config::checked::{Kind, Target};
use crate::config::fault::{nearest, shown};
use crate::config::raw::{Field, Map, Raw};
use crate::config::scalar::{Bounds, Wrong};

/// Targets of one route.
const TARGETS_MAX: usize = 32;

/// The routes, and whether all of them could be read.
pub(super) struct Routes {
    pub list: BTreeMap<String, Vec<Target>>,
    pub complete: bool,
}

/// Reads `models`.
pub(super) fn routes(raw: &mut Raw<'_>, root: &mut Map<'_>, providers: &Providers) -> Routes {
    let map = raw.map(root, "models");
    let mut routes = Routes {
        list: BTreeMap::new(),
        complete: !map.broken,
    };
    let entries = raw.entries(&map);
    if entries.len() > MODELS_MAX {
        let wrong = Wrong::new(format!("holds {} routes", entries.len()));
        raw.fault(&map.place, wrong, format!("at most {MODELS_MAX}"));
    }
    for (name, field) in entries.into_iter().take(MODELS_MAX) {
        if let Err(wrong) = is_model(name) {
            raw.fault(&field.place, wrong, MODEL);
        }
        let targets = targets(raw, &field, providers);
        routes.list.insert(name.to_owned(), targets);
    }
    routes
}

fn targets(raw: &mut Raw<'_>, field: &Field<'_>, providers: &Providers) -> Vec<Target> {
    let expected = "a list of targets, as in `- {provider: openai, model: gpt-4o-mini}`";
    let Some(items) = raw.items(field, expected) else {
        return Vec::new();
    };
    if items.is_empty() {
        let wrong = Wrong::new("has no target that could serve it");
        raw.fault(&field.place, wrong, expected);
    }
    if items.len() > TARGETS_MAX {
        let wrong = Wrong::new(format!("has {} targets", items.len()));
        raw.fault(&field.place, wrong, format!("at most {TARGETS_MAX}"));
    }
    let targets = items.into_iter().take(TARGETS_MAX);
    targets
        .filter_map(|item| target(raw, item, providers))
        .collect()
}

fn target(raw: &mut Raw<'_>, item: Field<'_>, providers: &Providers) -> Option<Target> {
    let mut map = raw.open(item);
    for key in ["provider", "model"] {
        if !map.has(key) && !map.broken {
            let wrong = Wrong::new(format!("has no `{key}`"));
            raw.fault(
                &map.place,
                wrong,
                "a provider and that provider's name for the model",
            );
        }
    }
    let named = "the name of a provider that is configured";
    let provider = raw.text(&mut map, "provider", named);
    if let Some((name, place)) = &provider
        && providers.complete
        && !providers.list.contains_key(name)
    {
        let mut wrong = Wrong::new(format!("there is no provider `{}`", shown(name)));
        wrong.suggestion =
            nearest(name, providers.list.keys().map(String::as_str)).map(str::to_owned);
        let known: Vec<&str> = providers.list.keys().map(String::as_str).collect();
        let expected = match known.as_slice() {
            [] => "a provider; none is configured".to_owned(),
            known => format!("one of {}", known.join(", ")),
        };
        raw.fault(place, wrong, expected);
    }
    let model = raw.text(&mut map, "model", MODEL);
    if let Some((model, place)) = &model
        && let Err(wrong) = is_model(model)
    {
        raw.fault(place, wrong, MODEL);
    }
    let weight = raw.count(&mut map, "weight", 1, Bounds::count(1, 1000));
    raw.close(map);
    Some(Target {
        provider: provider?.0,
        model: model?.0,
        weight: u32::try_from(weight)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
    })
}

/// Whether a client that asks for `model` finds it: as a route, as `provider/model`, in a
/// provider's list, or as one of the simulator's behaviours.
pub(super) fn serves(model: &str, providers: &Providers, routes: &Routes) -> bool {
    let simulated = model == "sim" || model.starts_with("sim+");
    routes.list.contains_key(model)
        || model
            .split_once('/')
            .is_some_and(|(name, rest)| providers.list.contains_key(name) && !rest.is_empty())
        || providers.list.values().any(|provider| {
            provider.models.iter().any(|known| known == model)
                || provider.kind == Kind::Simulator && simulated
        })
}
