//! Timeouts that add up to more than a call has: its attempts share the coordinator's
//! `timeout_seconds`.
//!
//! Nothing here is a fault: it may be meant, where nobody else could answer anyhow.

use std::collections::BTreeMap;

use super::list;
use super::providers::Providers;
use super::routes::Routes;
use crate::config::checked::{Coordinator, Provider, Route};
use crate::config::raw::Raw;

/// Warns of providers whose silence would use up the time of a second attempt, and of the routes
/// whose second target would never be asked for it.
pub(super) fn warn(
    raw: &mut Raw<'_>,
    providers: &Providers,
    routes: &Routes,
    coordinators: &BTreeMap<String, Coordinator>,
) {
    let starved = |provider: &Provider| -> Vec<&str> {
        coordinators
            .values()
            .filter(|coordinator| provider.timeout >= coordinator.timeout)
            .map(|coordinator| coordinator.name.as_str())
            .collect()
    };
    for provider in providers.list.values() {
        let starved = starved(provider);
        if !starved.is_empty() {
            raw.warnings.push(format!(
                "providers.{}.timeout ({} s) is not below timeout_seconds of {}: one silent \
                 attempt uses up the whole time of a call, none is left for a fallback",
                provider.name,
                provider.timeout.as_secs_f64(),
                starved.join(", ")
            ));
        }
    }
    let is_in_vain = |route: &Route| {
        let first = route.targets.first();
        let provider = first.and_then(|target| providers.list.get(&target.provider));
        route.targets.len() > 1 && provider.is_some_and(|provider| !starved(provider).is_empty())
    };
    let in_vain = routes.list.iter().filter(|(_, route)| is_in_vain(route));
    let in_vain: Vec<String> = in_vain.map(|(name, _)| format!("models.{name}")).collect();
    if !in_vain.is_empty() {
        raw.warnings.push(format!(
            "the first target may be silent for the whole time of a call, its provider's timeout \
             being not below timeout_seconds, and no time would be left for the second: {}",
            list(&in_vain)
        ));
    }
}
