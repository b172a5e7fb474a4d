//! Verbs about the configuration: `config-list`, `config-get`, `config-set`.
//!
//! What is shown is what is in force, defaults and fallbacks included, with secrets as `***`. Only
//! what can change in a running daemon can be set, and only until it ends: the file is the
//! operator's.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{AdminError, Code, Report, Verbs, parse, result, unknown};
use crate::config::CheckedConfig;
use crate::store::Store;

/// The one key that can be set so far.
const LOG_QUERIES: &str = "database.log_queries";

/// See the module.
pub struct Settings {
    /// As it was at start, without secrets.
    tree: Value,
    store: Arc<Store>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    key: String,
    value: String,
}

impl Verbs for Settings {
    fn call(&self, verb: &str, args: &Value, _: Report<'_>) -> Option<Result<Value, AdminError>> {
        Some(match verb {
            "config-list" => parse(args).and_then(|List {}| self.list()),
            "config-get" => parse(args).and_then(|Get { key }| self.get(&key)),
            "config-set" => parse(args).and_then(|Set { key, value }| self.set(&key, &value)),
            _ => return None,
        })
    }
}

impl Settings {
    /// Of the configuration that holds, over the store that it opened.
    pub fn new(config: &CheckedConfig, store: Arc<Store>) -> Self {
        let mut tree = Map::new();
        for section in config.to_yaml() {
            // What we wrote ourselves can be read.
            if let Ok(Value::Object(members)) = serde_yaml::from_str(&section) {
                tree.extend(members);
            }
        }
        Self {
            tree: unescaped(Value::Object(tree)),
            store,
        }
    }

    /// What holds now.
    fn in_force(&self) -> Value {
        let mut tree = self.tree.clone();
        tree["database"]["log_queries"] = self.store.log_queries().into();
        tree
    }

    fn list(&self) -> Result<Value, AdminError> {
        let tree = self.in_force();
        let mut settings = Vec::new();
        flatten("", &tree, &mut settings);
        let settings = settings.into_iter();
        result(
            settings
                .map(|(key, value)| (key, value.clone()))
                .collect::<Map<_, _>>(),
        )
    }

    fn get(&self, key: &str) -> Result<Value, AdminError> {
        let tree = self.in_force();
        match find(&tree, key) {
            Some(value) => Ok(json!({"key": key, "value": value})),
            None => Err(self.no_key(key)),
        }
    }

    fn set(&self, key: &str, value: &str) -> Result<Value, AdminError> {
        if key != LOG_QUERIES {
            if find(&self.tree, key).is_none() {
                return Err(self.no_key(key));
            }
            let why = format!(
                "{key} does not change while the daemon runs: write it in the configuration and \
                 restart; only {LOG_QUERIES} can be set"
            );
            return Err(AdminError::new(Code::BadArguments, why));
        }
        let value: bool = value
            .parse()
            .map_err(|_| AdminError::new(Code::BadArguments, format!("{key} is true or false")))?;
        let before = self.store.log_queries();
        self.store.set_log_queries(value);
        Ok(json!({"key": key, "value": value, "before": before, "until": "the daemon ends"}))
    }

    fn no_key(&self, key: &str) -> AdminError {
        let mut settings = Vec::new();
        flatten("", &self.tree, &mut settings);
        let sections = self.tree.as_object().into_iter().flat_map(Map::keys);
        let known = settings.iter().map(|(key, _)| key.as_str());
        unknown("setting", key, known.chain(sections.map(String::as_str)))
    }
}

/// `$${` is how a file writes `${`.
fn unescaped(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace("$${", "${").into(),
        Value::Array(items) => items.into_iter().map(unescaped).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            Value::Object(members.map(|(key, it)| (key, unescaped(it))).collect())
        }
        other => other,
    }
}

/// Every setting below `value` that is no mapping, with its path.
fn flatten<'a>(path: &str, value: &'a Value, out: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{key}"), value, out);
            }
        }
        value => out.push((path.to_owned(), value)),
    }
}

/// The value at a path. Names of models and providers hold dots themselves, so every member that
/// the path begins with is tried.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    members
        .iter()
        .find_map(|(key, value)| match path.strip_prefix(key.as_str())? {
            "" => Some(value),
            rest => find(value, rest.strip_prefix('.')?),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_names_with_dots() {
        let tree = json!({"models": {"gpt-4": {"a": 1}, "gpt-4.1": {"targets": [2]}}});
        let check = |path: &str, expected: Option<Value>| {
            assert_eq!(find(&tree, path).cloned(), expected, "{path}");
        };
        check("models.gpt-4.1.targets", Some(json!([2])));
        check("models.gpt-4.a", Some(json!(1)));
        check("models.gpt-4", Some(json!({"a": 1})));
        check("models.gpt", None);
        check("", None);
        check("models.", None);
    }

    #[test]
    fn settings_are_listed_by_their_paths() {
        let tree = json!({"a": {"b": 1, "c": []}, "d": "x"});
        let mut settings = Vec::new();
        flatten("", &tree, &mut settings);
        let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a.b", "a.c", "d"]);
    }
}
