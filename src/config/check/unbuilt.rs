//! The keys whose capability is not built yet.
//!
//! They are read and checked like all others, so that a configuration stays valid while the
//! daemon grows, but whoever wrote one is told at start that it has no effect so far. Building a
//! capability deletes its rows here.

use super::list;
use crate::config::raw::Raw;

/// Schema paths; a row covers everything below it.
const NOT_BUILT: &[&str] = &[
    "coordinators.history_limit",
    "coordinators.named.*.history_limit",
];

/// Adds the one warning that names every such key that was written.
pub(super) fn warn(raw: &mut Raw<'_>) {
    let names: Vec<&str> = raw
        .written
        .iter()
        .filter(|written| written.leaf && NOT_BUILT.iter().any(|row| covers(row, &written.schema)))
        .map(|written| written.path.as_str())
        .collect();
    if names.is_empty() {
        return;
    }
    raw.warnings.push(format!(
        "accepted but without effect so far: {}",
        list(&names)
    ));
}

fn covers(row: &str, schema: &str) -> bool {
    schema
        .strip_prefix(row)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
