//! From what was written to what holds: one file for each family of sections.
//!
//! [`check`] reads every section and then looks at what must hold between them. A section that
//! has faults is still read to its end, with defaults in the place of what is wrong; only a
//! reading without any fault becomes a [`CheckedConfig`]. Nothing here touches the disk, but for
//! reading the secrets and certificates that the file refers to.

mod coordinators;
mod keys;
mod planes;
mod prices;
mod providers;
mod rest;
mod routes;
mod shared;
mod speech;
mod timeouts;
mod unbuilt;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::checked::{Admin, CheckedConfig};
use super::raw::Raw;
use super::scalar::Wrong;
use super::tree::Parsed;

/// The state folder unless another is written; see `places` for where it falls back to.
pub(super) const STATE_DIR: &str = "/var/lib/victor";
/// The state folder of a demonstration, and where the other falls back to.
pub(super) const STATE_DIR_LOCAL: &str = ".victor";

/// The admin socket unless another is written.
pub(super) const SOCKET: &str = "/run/victor/admin.sock";

/// Names that become part of a header, a metric or a path: this many characters at most.
const NAME_CHARS_MAX: usize = 64;
/// Model ids may be this long, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// Providers, routes, coordinators: what is configured stays in memory and in every metric.
const ENTRIES_MAX: usize = 256;
/// Model ids in all, and targets in all.
const MODELS_MAX: usize = 4096;
/// A warning names this many things and counts the rest.
const NAMED_MAX: usize = 100;

/// Checks everything; `None` if `raw` has noted faults.
pub(super) fn check(raw: &mut Raw<'_>, parsed: Parsed, demo: bool) -> Option<CheckedConfig> {
    for problem in parsed.problems {
        raw.problem(problem);
    }
    let mut root = raw.root(parsed.root.as_ref());
    let auth = planes::auth(raw, &mut root);
    let (server, ops) = planes::listeners(raw, &mut root, &auth);
    let state_dir = state_dir(raw, &mut root, demo);
    let admin = Admin {
        socket: planes::socket(raw, &mut root, demo, &state_dir),
    };
    let mut providers = providers::providers(raw, &mut root);
    if demo {
        providers::add_simulator(&mut providers);
    }
    let routes = routes::routes(raw, &mut root, &providers);
    let cache = rest::cache(raw, &mut root);
    let mut coordinators = coordinators::coordinators(raw, &mut root);
    if demo {
        coordinators.serve_simulator();
    }
    coordinators.check_models(raw, &providers, &routes);
    let database = rest::database(raw, &mut root, &state_dir);
    let metrics = rest::metrics(raw, &mut root);
    let logging = rest::logging(raw, &mut root, demo);
    rest::python(raw, &mut root);
    raw.close(root);

    let coordinators = coordinators.list;
    timeouts::warn(raw, &providers, &routes, &coordinators);
    if providers.list.is_empty() && !demo {
        raw.warnings.push(
            "no provider is configured: every call will be answered 404 (`providers`, or \
             `--demo` for the built-in simulator)"
                .to_owned(),
        );
    }
    unbuilt::warn(raw);
    raw.is_clean().then(|| CheckedConfig {
        server,
        ops,
        admin,
        state_dir,
        auth: auth.auth,
        providers: providers.list,
        models: routes.list,
        cache,
        coordinators,
        database,
        metrics,
        logging,
        warnings: std::mem::take(&mut raw.warnings),
        demo,
    })
}

/// The state folder and the admin socket as they are written, whatever else is: who only wants to
/// find the daemon needs neither its secrets nor a sound file. What is wrong with the two is noted
/// in `raw`.
pub(super) fn whereabouts(raw: &mut Raw<'_>, parsed: &Parsed, demo: bool) -> (PathBuf, PathBuf) {
    let mut root = raw.root(parsed.root.as_ref());
    let state_dir = state_dir(raw, &mut root, demo);
    let socket = planes::socket(raw, &mut root, demo, &state_dir);
    (state_dir, socket)
}

fn state_dir(raw: &mut Raw<'_>, root: &mut super::raw::Map<'_>, demo: bool) -> PathBuf {
    let expected = "the path of a folder";
    let written = raw.text(root, "state_dir", expected).map(|(text, place)| {
        if let Err(wrong) = is_path(&text) {
            raw.fault(&place, wrong, expected);
        }
        text
    });
    let default = if demo { STATE_DIR_LOCAL } else { STATE_DIR };
    PathBuf::from(written.unwrap_or_else(|| default.to_owned()))
}

/// The names in a row, up to a bound.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(S::as_ref).collect();
    let mut text = shown.join(", ");
    if names.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    text
}

/// Whether `name` can stand in a header, a metric label and a path.
fn is_name(name: &str) -> Result<(), Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() {
        Err(Wrong::new("has an empty name"))
    } else if name.chars().count() > NAME_CHARS_MAX {
        Err(Wrong::new("has too long a name"))
    } else if !name.chars().all(fits) {
        Err(Wrong::new("has a name that no header can carry"))
    } else {
        Ok(())
    }
}

/// What [`is_name`] takes.
const NAME: &str = "letters, digits, `-`, `_` and `.`, at most 64 of them";

/// Whether `model` can be a model's id: it is sent in JSON and shown in a header.
fn is_model(model: &str) -> Result<(), Wrong> {
    if model.trim().is_empty() {
        Err(Wrong::new("the model's name is blank"))
    } else if model.len() > MODEL_BYTES_MAX {
        Err(Wrong::new("the model's name is too long"))
    } else if model.trim() != model || !model.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        Err(Wrong::new("the model's name cannot be shown in a header"))
    } else {
        Ok(())
    }
}

/// What [`is_model`] takes.
const MODEL: &str = "a model's name of at most 256 printable ASCII characters";

/// Whether `text` can be a path.
fn is_path(text: &str) -> Result<(), Wrong> {
    if text.trim().is_empty() {
        Err(Wrong::new("is blank"))
    } else if text.contains('\0') {
        Err(Wrong::new("holds a NUL"))
    } else if text.len() > 4095 {
        Err(Wrong::new("is longer than the system takes"))
    } else {
        Ok(())
    }
}
