//! The verb about one provider: `restart-provider`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{AdminError, Report, Verbs, parse, result, unknown};
use crate::provider::Providers;

/// See the module.
pub struct Restart {
    pub providers: Arc<Providers>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    provider: String,
}

impl Verbs for Restart {
    fn call(&self, verb: &str, args: &Value, _: Report<'_>) -> Option<Result<Value, AdminError>> {
        (verb == "restart-provider").then(|| self.restart(parse(args)?))
    }
}

impl Restart {
    /// What it does is [`crate::provider::Provider::restart`]'s business: no call is ended.
    fn restart(&self, Arguments { provider: name }: Arguments) -> Result<Value, AdminError> {
        let known = self.providers.by_name();
        let provider = known
            .get(&name)
            .ok_or_else(|| unknown("provider", &name, known.keys().map(String::as_str)))?;
        let restarted = provider.restart();
        log::info!(
            provider = provider.name(),
            connections_closed = restarted.connections_closed,
            connections_in_use = restarted.connections_in_use,
            breakers_closed = restarted.breakers_closed,
            keys_restored = restarted.keys_restored;
            "provider {} begins anew", provider.name()
        );
        result(restarted)
    }
}
