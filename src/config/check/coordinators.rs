//! `coordinators`: the pools. The section's own keys hold for all, those below a name for one.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::providers::Providers;
use super::rest::CACHE_TTL;
use super::routes::{Routes, serves};
use super::{ENTRIES_MAX, MODEL, NAME, is_model, is_name};
use crate::config::checked::{Coordinator, Retry};
use crate::config::fault::{nearest, shown};
use crate::config::raw::{Map, Place, Raw};
use crate::config::scalar::{Bounds, Unit, Wrong};

/// The coordinators that are always there.
const BUILT_IN: [&str; 2] = ["ChatCoordinator", "EmbeddingCoordinator"];

/// Every coordinator, and where each `default_model` was written.
pub(super) struct Coordinators {
    pub list: BTreeMap<String, Coordinator>,
    models: Vec<(String, Place)>,
}

/// Reads `coordinators`.
pub(super) fn coordinators(raw: &mut Raw<'_>, root: &mut Map<'_>) -> Coordinators {
    let mut map = raw.map(root, "coordinators");
    let base = limits(raw, &mut map, &defaults());
    let named = raw.map(&mut map, "named");
    let mut coordinators = Coordinators {
        list: BTreeMap::new(),
        models: Vec::new(),
    };
    for name in BUILT_IN {
        let coordinator = Coordinator {
            name: name.to_owned(),
            ..base.clone()
        };
        coordinators.list.insert(name.to_owned(), coordinator);
    }
    let entries = raw.entries(&named);
    if entries.len() > ENTRIES_MAX {
        let wrong = Wrong::new(format!("holds {} coordinators", entries.len()));
        raw.fault(&named.place, wrong, format!("at most {ENTRIES_MAX}"));
    }
    for (name, field) in entries.into_iter().take(ENTRIES_MAX) {
        if let Err(wrong) = is_name(name) {
            raw.fault(&field.place, wrong, NAME);
        }
        let mut own = raw.open(field);
        let mut coordinator = limits(raw, &mut own, &base);
        coordinator.name = name.to_owned();
        if let Some((model, place)) = raw.text(&mut own, "default_model", MODEL) {
            coordinators.models.push((model.clone(), place));
            coordinator.default_model = Some(model);
        }
        raw.close(own);
        coordinators.list.insert(name.to_owned(), coordinator);
    }
    raw.close(map);
    coordinators
}

fn defaults() -> Coordinator {
    Coordinator {
        name: String::new(),
        max_concurrent: NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN),
        queue_size: 100,
        timeout: Duration::from_secs(120),
        history_limit: 10_000,
        retry: Retry {
            max_attempts: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            backoff: Duration::from_secs(1),
            exponential_backoff: true,
        },
        default_model: None,
        strict: false,
        cache_ttl: None,
        cache_sampled: true,
    }
}

/// Reads the keys that hold for all coordinators or for one, over what holds without them.
fn limits(raw: &mut Raw<'_>, map: &mut Map<'_>, base: &Coordinator) -> Coordinator {
    let most = Bounds::count(1, 16_384);
    let concurrent = raw.count(map, "max_concurrent", base.max_concurrent.get(), most);
    let queue = Bounds::count(0, 100_000);
    let history = Bounds::count(0, 10_000_000);
    let mut limits = Coordinator {
        max_concurrent: NonZeroUsize::new(concurrent).unwrap_or(base.max_concurrent),
        queue_size: raw.count(map, "queue_size", base.queue_size, queue),
        timeout: raw.timeout(map, "timeout_seconds", base.timeout),
        history_limit: raw.count(map, "history_limit", base.history_limit, history),
        strict: raw.boolean(map, "strict", base.strict),
        cache_ttl: raw
            .optional_duration(map, "cache_ttl", CACHE_TTL)
            .or(base.cache_ttl),
        cache_sampled: raw.boolean(map, "cache_sampled", base.cache_sampled),
        ..base.clone()
    };
    let mut map = raw.map(map, "retry");
    let most = Bounds::count(1, 100);
    let attempts = base.retry.max_attempts.get() as usize;
    let attempts = raw.count(&mut map, "max_attempts", attempts, most);
    let wait = Bounds::count(0, 600_000).of(Unit::Milliseconds);
    let exponential = base.retry.exponential_backoff;
    limits.retry = Retry {
        max_attempts: u32::try_from(attempts)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(base.retry.max_attempts),
        backoff: raw.duration(&mut map, "backoff_ms", base.retry.backoff, wait),
        exponential_backoff: raw.boolean(&mut map, "exponential_backoff", exponential),
    };
    raw.close(map);
    limits
}

impl Coordinators {
    /// Gives the built-in coordinators the simulator as default, where none is written.
    pub fn serve_simulator(&mut self) {
        for name in BUILT_IN {
            if let Some(coordinator) = self.list.get_mut(name) {
                coordinator
                    .default_model
                    .get_or_insert_with(|| "sim".to_owned());
            }
        }
    }

    /// Checks that every `default_model` is one that somebody serves.
    pub fn check_models(&self, raw: &mut Raw<'_>, providers: &Providers, routes: &Routes) {
        for (model, place) in &self.models {
            if let Err(wrong) = is_model(model) {
                raw.fault(place, wrong, MODEL);
                continue;
            }
            if !(providers.complete && routes.complete) || serves(model, providers, routes) {
                continue;
            }
            let mut wrong = Wrong::new(format!("no provider serves `{}`", shown(model)));
            let listed = providers
                .list
                .values()
                .flat_map(|provider| &provider.models);
            let known = routes.list.keys().chain(listed).map(String::as_str);
            wrong.suggestion = nearest(model, known).map(str::to_owned);
            let expected = "a key of `models`, `provider/model`, or a name in a provider's \
                            `models`";
            raw.fault(place, wrong, expected);
        }
    }
}
