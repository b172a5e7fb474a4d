//! Who serves a model: from the name that a client wrote to the providers that may answer.
//!
//! Names are looked for in this order: `provider/model`, a key of `models`,
//! a provider's `models` list, a coordinator's name. All that the configuration names is resolved
//! once, at start; only `provider/model` with a model of the caller's choosing, and the
//! simulator's behaviours, are made up as they are asked for. Nothing here talks to a provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Provider;
use super::breaker::Breaker;
use super::limiter::Limiter;
use crate::config::checked::{self, CheckedConfig, Kind, OnCut};
use crate::wire::near::near_matches;
use crate::wire::request::json_string;

/// The simulator's plain behaviour; others are `sim+…`.
const SIM: &str = "sim";

/// Calls of a route after which the count of them and of their hedges is halved.
const HEDGING_CALLS_MAX: u64 = 1000;

/// Who serves a model. Its settings are those of [`checked::Route`].
pub struct Route {
    /// In order of preference, never empty.
    pub targets: Vec<Target>,
    /// The targets in words: what calls that share an answer must have alike.
    pub identity: String,
    /// A call without a first byte for so long is sent to another target too; `None`: never.
    pub hedge_after: Option<Duration>,
    /// From 0 to 1: at most this share of the route's calls is sent twice.
    pub hedge_share: f64,
    /// How long the beginning of a stream is held back, so that a failure within it shows to nobody.
    pub hold_first: Duration,
    pub on_cut: OnCut,
    hedging: Hedging,
}

/// How often a route's calls were sent twice.
#[derive(Default)]
struct Hedging {
    calls: AtomicU64,
    hedges: AtomicU64,
}

impl Route {
    /// Counts a call that may be sent twice.
    pub fn count_call(&self) {
        let calls = self.hedging.calls.fetch_add(1, Ordering::Relaxed);
        if calls >= HEDGING_CALLS_MAX {
            // What was long ago says little, and must not be saved up for a burst.
            let hedges = self.hedging.hedges.load(Ordering::Relaxed);
            self.hedging.calls.store(calls / 2, Ordering::Relaxed);
            self.hedging.hedges.store(hedges / 2, Ordering::Relaxed);
        }
    }

    /// Takes a second request from the share of calls that may have one.
    pub fn try_hedge(&self) -> bool {
        let calls = self.hedging.calls.load(Ordering::Relaxed) as f64;
        let taken =
            self.hedging
                .hedges
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hedges| {
                    ((hedges as f64) < calls * self.hedge_share).then_some(hedges + 1)
                });
        taken.is_ok()
    }

    /// The route of a name that `models` does not have: no hedging, nothing held back.
    fn of(targets: Vec<Target>) -> Self {
        Self::new(&checked::Route::of(Vec::new()), targets)
    }

    fn new(config: &checked::Route, targets: Vec<Target>) -> Self {
        let identity = targets.iter().map(Target::identity).collect();
        Self {
            targets,
            identity,
            hedge_after: config.hedge_after,
            hedge_share: config.hedge_share,
            hold_first: config.hold_first,
            on_cut: config.on_cut,
            hedging: Hedging::default(),
        }
    }
}

/// One place that can serve it.
pub struct Target {
    pub provider: Arc<Provider>,
    /// The provider's own name for the model.
    pub model: String,
    /// The same as a JSON string, quotes and escapes included, to put into a body.
    pub model_json: Vec<u8>,
    /// Whether calls to it are let through now.
    pub breaker: Breaker,
    /// How fast it may be asked.
    pub pace: Arc<Limiter>,
    /// Its share of the calls among the targets of its rank.
    pub weight: NonZeroU32,
    /// 0 for those that are asked first; never falls along a route, nor leaves a number out.
    pub rank: u32,
    /// Tokens that question and answer may have together. `None`, here and below: not known, and
    /// taken to fit.
    pub context_tokens: Option<u64>,
    /// Whether it serves calls that offer tools.
    pub tools: Option<bool>,
    /// Whether it serves calls that hold images.
    pub images: Option<bool>,
    /// Whether it serves streamed calls.
    pub streaming: Option<bool>,
}

impl Target {
    /// A target of which nothing is known, on the first rank.
    fn new(provider: &Arc<Provider>, model: &str) -> Self {
        Self {
            provider: Arc::clone(provider),
            model: model.to_owned(),
            model_json: json_string(model),
            breaker: provider.governor().breaker(model),
            pace: provider.governor().pace(model),
            weight: NonZeroU32::MIN,
            rank: 0,
            context_tokens: None,
            tools: None,
            images: None,
            streaming: None,
        }
    }

    /// Who it is, in words that no other target has.
    fn identity(&self) -> String {
        let (provider, kind) = (self.provider.name(), self.provider.kind());
        format!("{kind:?} {provider}/{} at {}\n", self.model, self.rank)
    }

    fn configured(provider: &Arc<Provider>, config: &checked::Target) -> Self {
        Self {
            weight: config.weight,
            rank: config.rank,
            context_tokens: config.context_tokens,
            tools: config.tools,
            images: config.images,
            streaming: config.streaming,
            ..Self::new(provider, &config.model)
        }
    }
}

/// All routes of a configuration.
pub struct Routes {
    known: HashMap<String, Arc<Route>>,
    providers: BTreeMap<String, Arc<Provider>>,
    simulator: Option<Arc<Provider>>,
    ids: Vec<String>,
}

impl Routes {
    /// The routes of `config` over its `providers`, by name.
    pub fn new(config: &CheckedConfig, providers: &BTreeMap<String, Arc<Provider>>) -> Self {
        let simulator = providers
            .values()
            .find(|provider| provider.kind() == Kind::Simulator);
        let mut routes = Self {
            known: HashMap::new(),
            providers: providers.clone(),
            simulator: simulator.cloned(),
            ids: Vec::new(),
        };
        for target in config.models.values().flat_map(|route| &route.targets) {
            routes.keep_qualified(&target.provider, &target.model);
        }
        for (name, provider) in &config.providers {
            for model in &provider.models {
                routes.keep_qualified(name, model);
            }
        }
        let mut ids = BTreeSet::new();
        for (name, route) in &config.models {
            let targets = route.targets.iter().filter_map(|target| {
                let provider = providers.get(&target.provider)?;
                Some(Target::configured(provider, target))
            });
            routes.learn(name, Route::new(route, targets.collect()), &mut ids);
        }
        for (model, targets) in listed(config, providers) {
            routes.learn(&model, Route::of(targets), &mut ids);
        }
        if let Some(simulator) = &routes.simulator {
            let targets = vec![Target::new(simulator, SIM)];
            routes.learn(SIM, Route::of(targets), &mut ids);
        }
        for coordinator in config.coordinators.values() {
            let default = coordinator.default_model.as_deref();
            let route = default.and_then(|model| routes.resolve(model));
            if let Some(route) = route
                && routes.resolve(&coordinator.name).is_none()
            {
                ids.insert(coordinator.name.clone());
                routes.known.insert(coordinator.name.clone(), route);
            }
        }
        routes.ids = ids.into_iter().collect();
        routes
    }

    /// Keeps the route of a `provider/model` that the configuration names, so that finding it
    /// makes nothing anew.
    fn keep_qualified(&mut self, provider: &str, model: &str) {
        let name = format!("{provider}/{model}");
        if let Some(target) = self.qualified(&name) {
            self.known.insert(name, Arc::new(Route::of(vec![target])));
        }
    }

    /// Adds a name unless one that goes before it has it.
    fn learn(&mut self, name: &str, route: Route, ids: &mut BTreeSet<String>) {
        // `provider/model` goes first, so a key of that form must not hide it.
        if route.targets.is_empty()
            || self.known.contains_key(name)
            || self.qualified(name).is_some()
        {
            return;
        }
        ids.insert(name.to_owned());
        self.known.insert(name.to_owned(), Arc::new(route));
    }

    /// The route of `name` as a client wrote it.
    pub fn resolve(&self, name: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.known.get(name) {
            return Some(Arc::clone(route));
        }
        let target = self.qualified(name).or_else(|| self.simulated(name))?;
        Some(Arc::new(Route::of(vec![target])))
    }

    /// `provider/model`; the model may hold slashes itself.
    fn qualified(&self, name: &str) -> Option<Target> {
        let (provider, model) = name.split_once('/')?;
        let provider = self.providers.get(provider)?;
        (!model.is_empty()).then(|| Target::new(provider, model))
    }

    /// `sim+latency-200` and the like, where there is a simulator.
    fn simulated(&self, name: &str) -> Option<Target> {
        let simulator = self.simulator.as_ref()?;
        let behaviours = name.strip_prefix(SIM)?.strip_prefix('+')?;
        (!behaviours.is_empty()).then(|| Target::new(simulator, name))
    }

    /// Names that a mistyped one may have meant; see [`near_matches`].
    pub fn near(&self, name: &str) -> Vec<String> {
        let near = near_matches(name, self.ids.iter().map(String::as_str));
        match name.split_once('/') {
            Some((provider, model)) if near.is_empty() => {
                near_matches(provider, self.providers.keys().map(String::as_str))
                    .into_iter()
                    .map(|provider| format!("{provider}/{model}"))
                    .collect()
            }
            _ => near,
        }
    }

    /// Every name with a route of its own, sorted: what `GET /v1/models` lists.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }
}

/// The models in the providers' own lists. One that several list is served by all, in the order
/// of their names.
fn listed(
    config: &CheckedConfig,
    providers: &BTreeMap<String, Arc<Provider>>,
) -> BTreeMap<String, Vec<Target>> {
    let mut found: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for (name, provider) in &config.providers {
        let Some(own) = providers.get(name) else {
            continue;
        };
        for model in &provider.models {
            let targets = found.entry(model.clone()).or_default();
            let mut target = Target::new(own, model);
            target.rank = targets.last().map_or(0, |last| last.rank + 1);
            targets.push(target);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
providers:
  acme: {kind: openai, base_url: 'http://127.0.0.1:1/v1', models: [small, shared]}
  bolt: {kind: anthropic, base_url: 'http://127.0.0.1:1', models: [shared, acme/large]}
  play: {kind: simulator}
models:
  best:
    - {provider: bolt, model: large}
    - {provider: acme, model: 'quo\"te'}
  small: [{provider: bolt, model: other}]
  even:
    targets:
      - {provider: acme, model: a, weight: 3, context_tokens: 8192, tools: false}
      - {provider: bolt, model: b, weight: 1, images: true, streaming: false}
      - {provider: bolt, model: c}
    hedge_after_ms: 1500
    hedge_share: 0.5
    hold_first_ms: 20
    on_cut: restart
coordinators:
  named:
    ChatCoordinator: {default_model: best}
    Idle: {max_concurrent: 1}
";

    fn routes() -> Routes {
        let config = crate::config::check_text("test.yml", TEXT, &|_| None, false).unwrap();
        let providers = config.providers.iter();
        let providers = providers.map(|(name, it)| (name.clone(), Provider::new(it).unwrap()));
        Routes::new(&config, &providers.collect())
    }

    #[test]
    fn a_name_is_found_in_the_promised_order() {
        let routes = routes();
        let check = |name, expected: &[&str]| {
            let route = routes.resolve(name);
            let targets = route.iter().flat_map(|route| &route.targets);
            let found: Vec<_> = targets
                .map(|target| format!("{} {}", target.provider.name(), target.model))
                .collect();
            assert_eq!(found, expected, "{name}");
        };
        check("acme/small", &["acme small"]);
        check("acme/any/thing", &["acme any/thing"]);
        check("acme/", &[]);
        check("nobody/small", &[]);
        check("best", &["bolt large", "acme quo\"te"]);
        check("small", &["bolt other"]);
        check("shared", &["acme shared", "bolt shared"]);
        // The provider that is named goes before the list that happens to hold the same name.
        check("acme/large", &["acme large"]);
        check("ChatCoordinator", &["bolt large", "acme quo\"te"]);
        check("Idle", &[]);
        check("sim", &["play sim"]);
        check("sim+latency-200", &["play sim+latency-200"]);
        check("sim+", &[]);
        check("simple", &[]);
        check("", &[]);
    }

    #[test]
    fn a_model_is_ready_to_be_put_into_a_body() {
        let route = routes().resolve("best").unwrap();
        assert_eq!(route.targets[1].model_json, br#""quo\"te""#);
    }

    #[test]
    fn a_route_has_what_is_written_about_it_and_others_have_the_defaults() {
        let routes = routes();
        let even = routes.resolve("even").unwrap();
        assert_eq!(even.hedge_after, Some(Duration::from_millis(1500)));
        assert_eq!((even.hedge_share, even.on_cut), (0.5, OnCut::Restart));
        assert_eq!(even.hold_first, Duration::from_millis(20));
        let weights: Vec<_> = even.targets.iter().map(|it| it.weight.get()).collect();
        assert_eq!(weights, [3, 1, 1]);
        let [a, b, ..] = even.targets.as_slice() else {
            panic!("too few targets");
        };
        assert_eq!((a.context_tokens, a.tools), (Some(8192), Some(false)));
        assert_eq!((b.images, b.streaming), (Some(true), Some(false)));
        let check = |name, expected: &[u32]| {
            let route = routes.resolve(name).unwrap();
            let ranks: Vec<_> = route.targets.iter().map(|target| target.rank).collect();
            assert_eq!(ranks, expected, "{name}");
            if name != "even" {
                assert_eq!((route.hedge_after, route.hedge_share), (None, 0.05));
                assert_eq!(
                    (route.hold_first, route.on_cut),
                    (Duration::ZERO, OnCut::Error)
                );
                assert!(route.targets.iter().all(|it| it.tools.is_none()));
            }
        };
        check("even", &[0, 0, 1]);
        check("best", &[0, 1]);
        check("shared", &[0, 1]);
        // Nothing is known of a target that is asked for by its own name.
        check("acme/a", &[0]);
        check("sim+cut-4", &[0]);
    }

    #[test]
    fn what_is_listed_is_sorted_and_can_be_asked_for() {
        let routes = routes();
        let ids = routes.ids();
        let expected = ["ChatCoordinator", "best", "even", "shared", "sim", "small"];
        assert_eq!(ids, expected);
        assert!(ids.iter().all(|id| routes.resolve(id).is_some()));
    }

    #[test]
    fn a_known_name_is_found_and_not_made() {
        let routes = routes();
        for name in ["best", "acme/small", "bolt/large", "sim"] {
            let (one, two) = (routes.resolve(name), routes.resolve(name));
            assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()), "{name}");
        }
    }
}
