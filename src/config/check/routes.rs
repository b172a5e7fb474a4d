//! `models`: what a client may ask for, and who serves it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::providers::Providers;
use super::{MODEL, MODELS_MAX, is_model};
use crate::config::checked::{Kind, OnCut, Route, Target};
use crate::config::fault::{nearest, shown};
use crate::config::raw::{Field, Map, Raw};
use crate::config::scalar::{Bounds, Unit, Wrong};

/// Targets of one route.
const TARGETS_MAX: usize = 32;

/// The routes, and whether all of them could be read.
pub(super) struct Routes {
    pub list: BTreeMap<String, Route>,
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
        let route = route(raw, field, providers);
        routes.list.insert(name.to_owned(), route);
    }
    routes
}

/// A list of targets, or settings of the route with the list among them.
fn route(raw: &mut Raw<'_>, field: Field<'_>, providers: &Providers) -> Route {
    if !field.is_map() {
        return Route::of(targets(raw, &field, providers));
    }
    let schema = field.place.schema.clone();
    let mut map = raw.open(field);
    let list = raw.field(&mut map, "targets");
    if list.is_none() && !map.broken {
        raw.fault(&map.place, Wrong::new("has no `targets`"), TARGETS);
    }
    let mut route = Route::of(Vec::new());
    if let Some(mut list) = list {
        // A target is the same in both forms of a route.
        list.place.schema = schema;
        route.targets = targets(raw, &list, providers);
    }
    let after = Bounds::count(1, 600_000).of(Unit::Milliseconds);
    let after = raw.number(&mut map, "hedge_after_ms", after);
    route.hedge_after = after.map(|millis| Duration::from_millis(millis as u64));
    let share = Bounds {
        whole: false,
        ..Bounds::count(0, 1)
    };
    route.hedge_share = raw
        .number(&mut map, "hedge_share", share)
        .unwrap_or(route.hedge_share);
    let hold = Bounds::count(0, 60_000).of(Unit::Milliseconds);
    route.hold_first = raw.duration(&mut map, "hold_first_ms", route.hold_first, hold);
    let on_cut = [OnCut::Error, OnCut::Restart].map(|it| (it.as_str(), it));
    route.on_cut = raw
        .choice(&mut map, "on_cut", &on_cut)
        .unwrap_or(route.on_cut);
    raw.close(map);
    route
}

const TARGETS: &str = "a list of targets, as in `- {provider: openai, model: gpt-4o-mini}`, or \
                       `targets:` with such a list";

fn targets(raw: &mut Raw<'_>, field: &Field<'_>, providers: &Providers) -> Vec<Target> {
    let Some(items) = raw.items(field, TARGETS) else {
        return Vec::new();
    };
    if items.is_empty() {
        let wrong = Wrong::new("has no target that could serve it");
        raw.fault(&field.place, wrong, TARGETS);
    }
    if items.len() > TARGETS_MAX {
        let wrong = Wrong::new(format!("has {} targets", items.len()));
        raw.fault(&field.place, wrong, format!("at most {TARGETS_MAX}"));
    }
    let mut targets: Vec<Target> = Vec::new();
    let mut follows_weight = false;
    for item in items.into_iter().take(TARGETS_MAX) {
        let Some((mut target, is_weighted)) = target(raw, item, providers) else {
            continue;
        };
        // Neighbours with a written weight are equals; every other target is second to the one
        // before it.
        if let Some(last) = targets.last() {
            target.rank = last.rank + u32::from(!(is_weighted && follows_weight));
        }
        follows_weight = is_weighted;
        targets.push(target);
    }
    targets
}

/// A target, whose rank is left to its route, and whether its weight was written.
fn target(raw: &mut Raw<'_>, item: Field<'_>, providers: &Providers) -> Option<(Target, bool)> {
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
    let provider = provider(raw, &mut map, providers);
    let model = raw.text(&mut map, "model", MODEL);
    if let Some((model, place)) = &model
        && let Err(wrong) = is_model(model)
    {
        raw.fault(place, wrong, MODEL);
    }
    let is_weighted = map.has("weight");
    let weight = raw.count(&mut map, "weight", 1, Bounds::count(1, 1000));
    let context = raw.number(&mut map, "context_tokens", Bounds::count(1, 100_000_000));
    let tools = raw.boolean_if_written(&mut map, "tools");
    let images = raw.boolean_if_written(&mut map, "images");
    let streaming = raw.boolean_if_written(&mut map, "streaming");
    raw.close(map);
    let target = Target {
        provider: provider?,
        model: model?.0,
        weight: u32::try_from(weight)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
        rank: 0,
        context_tokens: context.map(|tokens| tokens as u64),
        tools,
        images,
        streaming,
    };
    Some((target, is_weighted))
}

fn provider(raw: &mut Raw<'_>, map: &mut Map<'_>, providers: &Providers) -> Option<String> {
    let named = "the name of a provider that is configured";
    let (name, place) = raw.text(map, "provider", named)?;
    if providers.complete && !providers.list.contains_key(&name) {
        let known: Vec<&str> = providers.list.keys().map(String::as_str).collect();
        let mut wrong = Wrong::new(format!("there is no provider `{}`", shown(&name)));
        wrong.suggestion = nearest(&name, known.iter().copied()).map(str::to_owned);
        let expected = match known.as_slice() {
            [] => "a provider; none is configured".to_owned(),
            known => format!("one of {}", known.join(", ")),
        };
        raw.fault(&place, wrong, expected);
    }
    Some(name)
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
