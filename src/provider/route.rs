//! Who serves a model: from the name that a client wrote to the providers that may answer.
//!
//! Names are looked for in this order: `provider/model`, a key of `models`,
//! a provider's `models` list, a coordinator's name. All that the configuration names is resolved
//! once, at start; only `provider/model` with a model of the caller's choosing, and the
//! simulator's behaviours, are made up as they are asked for. Nothing here talks to a provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Provider;
use crate::config::checked::{CheckedConfig, Kind};
use crate::wire::near::near_matches;
use crate::wire::request::json_string;

/// The simulator's plain behaviour; others are `sim+…`.
const SIM: &str = "sim";

/// Who serves a model, in order of preference; never empty.
pub struct Route {
    pub targets: Vec<Target>,
}

/// One place that can serve it.
pub struct Target {
    pub provider: Arc<Provider>,
    /// The provider's own name for the model.
    pub model: String,
    /// The same as a JSON string, quotes and escapes included, to put into a body.
    pub model_json: Vec<u8>,
}

impl Target {
    fn new(provider: &Arc<Provider>, model: &str) -> Self {
        Self {
            provider: Arc::clone(provider),
            model: model.to_owned(),
            model_json: json_string(model),
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
        for target in config.models.values().flatten() {
            routes.keep_qualified(&target.provider, &target.model);
        }
        for (name, provider) in &config.providers {
            for model in &provider.models {
                routes.keep_qualified(name, model);
            }
        }
        let mut ids = BTreeSet::new();
        for (name, targets) in &config.models {
            let targets = targets.iter().filter_map(|target| {
                let provider = providers.get(&target.provider)?;
                Some(Target::new(provider, &target.model))
            });
            routes.learn(name, targets.collect(), &mut ids);
        }
        for (model, targets) in listed(config, providers) {
            routes.learn(&model, targets, &mut ids);
        }
        if let Some(simulator) = &routes.simulator {
            let targets = vec![Target::new(simulator, SIM)];
            routes.learn(SIM, targets, &mut ids);
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
            let targets = vec![target];
            self.known.insert(name, Arc::new(Route { targets }));
        }
    }

    /// Adds a name unless one that goes before it has it.
    fn learn(&mut self, name: &str, targets: Vec<Target>, ids: &mut BTreeSet<String>) {
        // `provider/model` goes first, so a key of that form must not hide it.
        if targets.is_empty() || self.known.contains_key(name) || self.qualified(name).is_some() {
            return;
        }
        ids.insert(name.to_owned());
        let route = Arc::new(Route { targets });
        self.known.insert(name.to_owned(), route);
    }

    /// The route of `name` as a client wrote it.
    pub fn resolve(&self, name: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.known.get(name) {
            return Some(Arc::clone(route));
        }
        let target = self.qualified(name).or_else(|| self.simulated(name))?;
        Some(Arc::new(Route {
            targets: vec![target],
        }))
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
            let target = Target::new(own, model);
            found.entry(model.clone()).or_default().push(target);
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
    fn what_is_listed_is_sorted_and_can_be_asked_for() {
        let routes = routes();
        let ids = routes.ids();
        assert_eq!(ids, ["ChatCoordinator", "best", "shared", "sim", "small"]);
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
