//! Every provider of a configuration, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Provider;
use crate::config::CheckedConfig;

/// The providers of the process.
pub struct Providers {
    by_name: BTreeMap<String, Arc<Provider>>,
}

impl Providers {
    /// The configured providers. Opens no connection.
    ///
    /// # Errors
    /// As [`Provider::new`], for the first that fails.
    pub fn new(config: &CheckedConfig) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for (name, provider) in &config.providers {
            by_name.insert(name.clone(), Provider::new(provider)?);
        }
        Ok(Self { by_name })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.by_name.values()
    }

    /// The map itself, for routes.
    pub const fn by_name(&self) -> &BTreeMap<String, Arc<Provider>> {
        &self.by_name
    }

    /// Refuses new calls everywhere; see [`Provider::shutdown`].
    pub fn shutdown(&self) {
        self.iter().for_each(|provider| provider.shutdown());
    }
}
