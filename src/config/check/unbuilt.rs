//! The keys whose capability is not built yet.
//!
//! They are read and checked like all others, so that a configuration stays valid while the
//! daemon grows, but whoever wrote one is told at start that it has no effect so far. Building a
//! capability deletes its rows here.

use super::providers::Providers;
use super::routes::Routes;
use crate::config::checked::Kind;
use crate::config::raw::Raw;

/// Schema paths; a row covers everything below it.
const NOT_BUILT: &[&str] = &[
    "admin.socket",
    "cache",
    "coordinators.history_limit",
    "coordinators.retry",
    "coordinators.named.*.history_limit",
    "coordinators.named.*.retry",
    "models.*[].weight",
    "providers.*.rate_limit",
    "providers.*.enable_batching",
    "providers.*.batch_size",
    "providers.*.batch_timeout_ms",
    "providers.*.breaker",
];
/// Without failover, the targets of a route after the first that can serve a call.
const TARGET: &str = "models.*[]";
/// The warning names this many keys and counts the rest.
const NAMED_MAX: usize = 100;

/// Adds the one warning that names every such key that was written.
pub(super) fn warn(raw: &mut Raw<'_>, providers: &Providers, routes: &Routes) {
    let names: Vec<&str> = raw
        .written
        .iter()
        .filter(|written| {
            written.leaf && NOT_BUILT.iter().any(|row| covers(row, &written.schema))
                || written.schema == TARGET && !is_asked(&written.path, providers, routes)
        })
        .map(|written| written.path.as_str())
        .collect();
    if names.is_empty() {
        return;
    }
    let mut warning = format!(
        "accepted but without effect so far: {}",
        names[..names.len().min(NAMED_MAX)].join(", ")
    );
    if names.len() > NAMED_MAX {
        warning.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    raw.warnings.push(warning);
}

/// Whether the target at `path`, as in `models.NAME[1]`, is the first of its route that can serve
/// chat, which is any, or embeddings, which Anthropic's dialect does not have.
fn is_asked(path: &str, providers: &Providers, routes: &Routes) -> bool {
    let place = path.strip_prefix("models.").and_then(|path| {
        let (name, index) = path.strip_suffix(']')?.rsplit_once('[')?;
        Some((routes.list.get(name)?, index.parse::<usize>().ok()?))
    });
    let Some((targets, index)) = place else {
        return true;
    };
    let kinds: Vec<Kind> = targets
        .iter()
        .filter_map(|target| Some(providers.list.get(&target.provider)?.kind))
        .collect();
    let embeds = |kind: &Kind| *kind != Kind::Anthropic;
    index == 0 || kinds.iter().position(embeds) == Some(index)
}

fn covers(row: &str, schema: &str) -> bool {
    schema
        .strip_prefix(row)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
