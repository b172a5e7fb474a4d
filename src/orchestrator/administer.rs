//! What the admin plane is given to do its work with.

use std::sync::Arc;

use crossbeam::channel::Sender;

use super::cache::Hands;
use crate::admin::Verbs;
use crate::admin::cache::CacheVerbs;
use crate::admin::general::General;
use crate::admin::restart::Restart;
use crate::admin::settings::Settings;
use crate::config::CheckedConfig;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::provider::Providers;
use crate::store::Store;

/// Every family of verbs. `drain` is told when one is asked for.
pub(super) fn families(
    config: &CheckedConfig,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    providers: &Arc<Providers>,
    store: &Arc<Store>,
    cache: &Hands,
    drain: Sender<()>,
) -> Vec<Box<dyn Verbs>> {
    let general = General {
        health: Arc::clone(health),
        metrics: Arc::clone(metrics),
        // Whoever asks through the socket wants a file, even where the log goes to stderr.
        dumps: super::log_folder(config).unwrap_or_else(|| config.state_dir.clone()),
        drain_timeout: config.server.drain_timeout,
        // Full: it was asked for a moment ago.
        drain: Box::new(
            move || !matches!(drain.try_send(()), Err(error) if error.is_disconnected()),
        ),
    };
    vec![
        Box::new(general),
        Box::new(Settings::new(config, Arc::clone(store))),
        Box::new(Restart {
            providers: Arc::clone(providers),
        }),
        Box::new(CacheVerbs {
            cache: config.cache.enabled.then(|| Arc::new(cache.clone()) as _),
            coordinators: config.coordinators.keys().cloned().collect(),
        }),
    ]
}
