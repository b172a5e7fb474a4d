//! Writes what holds as YAML: every key with the value in force, secrets as `***`.
//!
//! What is written can be read again, and then holds the same, but for the secrets; that is what
//! keeps this list of keys and the checks in step.

use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::checked::{
    Breaker, CheckedConfig, Coordinator, Kind, LogFormat, Provider, RateLimit, Retry, Route,
    SharedCache, Target,
};

impl CheckedConfig {
    /// The configuration in force as YAML, with every default spelled out and every secret as
    /// `***`: a piece for each top-level key, since the whole may be longer than a log line.
    pub fn to_yaml(&self) -> Vec<String> {
        let providers = self
            .providers
            .iter()
            .map(|(k, v)| (Value::from(k.as_str()), provider(v)));
        let models = self.models.iter();
        let models = models.map(|(name, own)| (Value::from(name.as_str()), route(own)));
        let named = self.coordinators.iter();
        let named = named.map(|(name, own)| (Value::from(name.as_str()), coordinator(own)));
        let sections = [
            ("server", server(self)),
            ("ops", ops(self)),
            ("admin", map([("socket", path(&self.admin.socket))])),
            ("state_dir", path(&self.state_dir)),
            ("auth", map([("keys", secrets(self.auth.keys.len()))])),
            ("providers", Value::Mapping(providers.collect())),
            ("models", Value::Mapping(models.collect())),
            ("cache", cache(self)),
            (
                "coordinators",
                map([("named", Value::Mapping(named.collect()))]),
            ),
            (
                "database",
                map([
                    ("path", path(&self.database.path)),
                    ("log_queries", self.database.log_queries.into()),
                    ("responses_ttl", seconds(self.database.responses_ttl)),
                    (
                        "responses_max_mb",
                        (self.database.responses_max_bytes >> 20).into(),
                    ),
                ]),
            ),
            (
                "metrics",
                map([
                    ("sample_rate", self.metrics.sample_rate.into()),
                    (
                        "aggregate_histograms",
                        self.metrics.aggregate_histograms.into(),
                    ),
                ]),
            ),
            ("logging", logging(self)),
        ];
        // Texts, numbers, lists and mappings with text for keys: there is nothing to fail on.
        let written = |section| serde_yaml::to_string(&map([section])).unwrap_or_default();
        sections.into_iter().map(written).collect()
    }
}

/// A mapping without the keys that have no value.
fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
    let entries = entries.map(|(key, value)| (Value::from(key), value));
    Value::Mapping(entries.collect::<Mapping>())
}

/// A value that is read as itself: `${` would be filled in.
fn value(text: &str) -> Value {
    Value::from(text.replace("${", "$${"))
}

fn path(path: &std::path::Path) -> Value {
    value(&path.display().to_string())
}

fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        duration.as_secs().into()
    } else {
        duration.as_secs_f64().into()
    }
}

fn millis(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}

fn secrets(count: usize) -> Value {
    Value::Sequence(vec![Value::from("***"); count])
}

fn server(config: &CheckedConfig) -> Value {
    let server = &config.server;
    map([
        ("listen", value(&server.listen.to_string())),
        ("max_connections", server.max_connections.get().into()),
        ("header_timeout", seconds(server.header_timeout)),
        ("body_timeout", seconds(server.body_timeout)),
        ("idle_timeout", seconds(server.idle_timeout)),
        ("write_timeout", seconds(server.write_timeout)),
        ("max_body_mb", (server.max_body_bytes >> 20).into()),
        ("drain_timeout", seconds(server.drain_timeout)),
        ("keep_alive_comment", seconds(server.keep_alive_comment)),
        ("expose_metrics", server.expose_metrics.into()),
    ])
}

fn ops(config: &CheckedConfig) -> Value {
    let listen = config.ops.listen;
    let remote = !listen.ip().to_canonical().is_loopback();
    map([
        ("listen", value(&listen.to_string())),
        ("allow_remote", remote.into()),
    ])
}

fn provider(provider: &Provider) -> Value {
    let models = provider.models.iter().map(|model| value(model));
    let base_url = (provider.kind != Kind::Simulator).then(|| value(&provider.base_url));
    let secret = |is_there: bool| if is_there { "***".into() } else { Value::Null };
    let (api_key, api_keys) = match provider.api_keys.len() {
        count @ 0..=1 => (secret(count == 1), Value::Null),
        count => (Value::Null, secrets(count)),
    };
    map([
        ("kind", provider.kind.as_str().into()),
        ("base_url", base_url.unwrap_or(Value::Null)),
        ("api_key", api_key),
        ("api_keys", api_keys),
        ("models", Value::Sequence(models.collect())),
        ("timeout", seconds(provider.timeout)),
        ("connect_timeout", seconds(provider.connect_timeout)),
        ("first_token_timeout", seconds(provider.first_token_timeout)),
        ("idle_timeout", seconds(provider.idle_timeout)),
        ("max_connections", provider.max_connections.get().into()),
        ("adaptive", provider.adaptive.into()),
        ("keepalive", provider.keepalive.into()),
        (
            "rate_limit",
            provider.rate_limit.map_or(Value::Null, rate_limit),
        ),
        ("enable_batching", provider.batching.is_some().into()),
        (
            "batch_size",
            provider
                .batching
                .map_or(Value::Null, |batch| batch.size.get().into()),
        ),
        (
            "batch_timeout_ms",
            provider
                .batching
                .map_or(Value::Null, |batch| millis(batch.timeout)),
        ),
        ("prices", prices(provider)),
        ("breaker", breaker(provider.breaker)),
        (
            "ca_file",
            provider.ca_file.as_deref().map_or(Value::Null, path),
        ),
        ("proxy", secret(provider.proxy.is_some())),
        ("responses", provider.speech.responses.into()),
        (
            "default_max_tokens",
            provider.speech.default_max_tokens.into(),
        ),
        (
            "structured_output",
            provider.speech.structured_output.as_str().into(),
        ),
        ("sampling", provider.speech.sampling.into()),
    ])
}

fn rate_limit(limit: RateLimit) -> Value {
    map([
        ("requests_per_second", limit.requests_per_second.into()),
        ("burst", limit.burst.get().into()),
    ])
}

fn breaker(breaker: Breaker) -> Value {
    map([
        ("failures", breaker.failures.get().into()),
        ("window", seconds(breaker.window)),
        ("open_for", seconds(breaker.open_for)),
    ])
}

fn route(route: &Route) -> Value {
    let targets = route.targets.iter();
    let targets = targets.map(|own| target(own, &route.targets)).collect();
    map([
        ("targets", Value::Sequence(targets)),
        (
            "hedge_after_ms",
            route.hedge_after.map_or(Value::Null, millis),
        ),
        ("hedge_share", route.hedge_share.into()),
        ("hold_first_ms", millis(route.hold_first)),
        ("on_cut", route.on_cut.as_str().into()),
    ])
}

fn target(target: &Target, all: &[Target]) -> Value {
    let flag = |flag: Option<bool>| flag.map_or(Value::Null, Value::from);
    // A weight that is written puts its target on one rank with a weighted neighbour.
    let equals = all.iter().filter(|other| other.rank == target.rank).count();
    let is_weighted = equals > 1 || target.weight.get() > 1;
    let weight = is_weighted.then(|| target.weight.get().into());
    map([
        ("provider", value(&target.provider)),
        ("model", value(&target.model)),
        ("weight", weight.unwrap_or(Value::Null)),
        (
            "context_tokens",
            target.context_tokens.map_or(Value::Null, Value::from),
        ),
        ("tools", flag(target.tools)),
        ("images", flag(target.images)),
        ("streaming", flag(target.streaming)),
    ])
}

fn prices(provider: &Provider) -> Value {
    let prices = provider.prices.iter().map(|(model, price)| {
        let own = map([
            ("input", price.input.into()),
            ("output", price.output.into()),
        ]);
        (value(model), own)
    });
    Value::Mapping(prices.collect())
}

fn cache(config: &CheckedConfig) -> Value {
    let cache = &config.cache;
    map([
        ("enabled", cache.enabled.into()),
        ("max_size_mb", (cache.max_size_bytes >> 20).into()),
        ("default_ttl", seconds(cache.default_ttl)),
        ("warm_on_startup", cache.warm_on_startup.into()),
        ("warm_items", cache.warm_items.into()),
        ("eviction_policy", cache.eviction_policy.as_str().into()),
        ("enable_coalescing", cache.enable_coalescing.into()),
        ("coalescing_window_ms", millis(cache.coalescing_window)),
        ("snapshot_interval", seconds(cache.snapshot_interval)),
        ("shared_between_keys", cache.shared_between_keys.into()),
        ("redis", cache.redis.as_ref().map_or(Value::Null, redis)),
    ])
}

/// The URL as a whole is a secret: it may hold a password.
fn redis(redis: &SharedCache) -> Value {
    map([
        ("url", "***".into()),
        ("timeout_ms", millis(redis.timeout)),
        ("key_prefix", value(&redis.key_prefix)),
        ("max_connections", redis.max_connections.get().into()),
    ])
}

fn coordinator(coordinator: &Coordinator) -> Value {
    let model = coordinator.default_model.as_deref();
    map([
        ("default_model", model.map_or(Value::Null, value)),
        ("max_concurrent", coordinator.max_concurrent.get().into()),
        ("queue_size", coordinator.queue_size.into()),
        ("timeout_seconds", seconds(coordinator.timeout)),
        ("history_limit", coordinator.history_limit.into()),
        ("strict", coordinator.strict.into()),
        (
            "cache_ttl",
            coordinator.cache_ttl.map_or(Value::Null, seconds),
        ),
        ("cache_sampled", coordinator.cache_sampled.into()),
        ("retry", retry(coordinator.retry)),
    ])
}

fn retry(retry: Retry) -> Value {
    map([
        ("max_attempts", retry.max_attempts.get().into()),
        ("backoff_ms", millis(retry.backoff)),
        ("exponential_backoff", retry.exponential_backoff.into()),
    ])
}

fn logging(config: &CheckedConfig) -> Value {
    let logging = &config.logging;
    let format = match logging.format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    let file = logging.file.as_deref().map_or("stderr".into(), path);
    let level = logging.level.as_str().to_ascii_lowercase();
    map([
        ("level", level.into()),
        ("format", format.into()),
        ("file", file),
    ])
}

#[cfg(test)]
mod tests {
    use crate::config::{CheckedConfig, check_text};

    fn load(text: &str) -> CheckedConfig {
        check_text("f", text, &|_| None, false).unwrap()
    }

    #[test]
    fn what_is_written_holds_the_same_when_it_is_read_again() {
        let text = "server: {header_timeout: 0.5, expose_metrics: true}\n\
                    ops: {listen: '10.0.0.1:9', allow_remote: true}\nstate_dir: '/a/$${X}'\n\
                    providers:\n  ollama: {rate_limit: {requests_per_second: 0.5}, adaptive: true}\n  s: {kind: \
                    simulator, models: ['null', sim]}\n  openai: {enable_batching: true}\n\
                    models:\n  '12': [{provider: s, model: 'sim', weight: 3}]\n  m:\n    targets: \
                    [{provider: s, model: a, weight: 1}, {provider: s, model: b, weight: 1, tools: \
                    false}, {provider: s, model: c, context_tokens: 9, images: true, streaming: \
                    false}, {provider: s, model: d, weight: 2}]\n    hedge_after_ms: 5\n    \
                    hedge_share: 0.25\n    hold_first_ms: 7\n    on_cut: restart\n\
                    cache: {eviction_policy: lfu, default_ttl: 0}\nlogging: {level: off, file: \
                    stderr}\ncoordinators: {queue_size: 0, named: {X: {default_model: sim+cut-4}}}\n";
        let config = load(text);
        let mut again = load(&config.to_yaml().concat());
        again.warnings.clone_from(&config.warnings);
        assert_eq!(format!("{again:#?}"), format!("{config:#?}"));
    }

    #[test]
    fn secrets_are_not_written() {
        let text = "auth: {keys: [hunter2-0123456789]}\nproviders:\n  openai: {api_key: \
                    hunter2, proxy: 'http://u:hunter2@h:1'}\n  groq: {api_keys: [hunter2-a, \
                    hunter2-b]}\ncache: {redis: {url: 'redis://u:hunter2@h'}}\n";
        let config = load(text);
        let written = config.to_yaml().concat();
        assert!(!written.contains("hunter2"), "{written}");
        assert_eq!(written.matches("***").count(), 6, "{written}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
