//! Every coordinator by name.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::{Coordinator, chat, embedding};
use crate::compute::Compute;
use crate::config::checked;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::wire::Endpoint;

/// The coordinators of the process.
pub struct Registry {
    by_name: BTreeMap<&'static str, Arc<Coordinator>>,
    chat: Arc<Coordinator>,
    embedding: Arc<Coordinator>,
}

impl Registry {
    /// Starts every configured coordinator. `keep_alive_comment` is how long a caller waits for a
    /// stream before each comment.
    ///
    /// # Errors
    /// The workers cannot be had, or a built-in coordinator is not among the configured ones.
    pub fn start(
        configured: &BTreeMap<String, checked::Coordinator>,
        metrics: &Arc<Metrics>,
        store: &Arc<Store>,
        answers: &Arc<Answers>,
        compute: &Arc<Compute>,
        keep_alive_comment: Duration,
    ) -> io::Result<Self> {
        let mut by_name = BTreeMap::new();
        for config in configured.values() {
            let coordinator = Coordinator::start(
                config.clone(),
                metrics,
                store,
                answers,
                compute,
                keep_alive_comment,
            )?;
            by_name.insert(coordinator.name(), coordinator);
        }
        let built_in = |name: &str| {
            by_name
                .get(name)
                .cloned()
                .ok_or_else(|| io::Error::other(format!("{name} is not configured")))
        };
        let (chat, embedding) = (built_in(chat::NAME)?, built_in(embedding::NAME)?);
        Ok(Self {
            by_name,
            chat,
            embedding,
        })
    }

    /// The coordinator of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Coordinator>> {
        self.by_name.get(name)
    }

    /// The coordinator that runs an endpoint when the caller names none.
    pub fn default_for(&self, endpoint: Endpoint) -> &Arc<Coordinator> {
        if embedding::runs(endpoint) {
            &self.embedding
        } else {
            debug_assert!(chat::runs(endpoint), "every endpoint has a coordinator");
            &self.chat
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Coordinator>> {
        self.by_name.values()
    }

    /// Waits until no call is inside any, at most until `deadline`. Returns whether none is.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        self.iter()
            .all(|coordinator| coordinator.wait_empty(deadline))
    }

    /// Ends every worker once its call is done.
    pub fn stop(&self) {
        self.iter().for_each(|coordinator| coordinator.stop());
    }
}
