//! What is read of the parts when somebody looks at metrics or health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::WEDGED_AFTER;
use crate::cache::Reason;
use crate::coordinator::answers::Answers;
use crate::front::{self, Front, Stats};
use crate::health::Health;
use crate::log;
use crate::metrics::{Collector, Metrics, Permits, ProviderShared, Standing};
use crate::ops::Sources;
use crate::provider::breaker::State;
use crate::provider::keys::KeyState;
use crate::provider::{Provider, Providers};
use crate::store::Store;

/// Models of one provider whose breakers are shown as series.
const BREAKER_SERIES_MAX: usize = 100;

/// What the ops plane answers with.
pub(super) fn sources(metrics: &Arc<Metrics>, health: &Arc<Health>) -> Sources {
    let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
    Sources {
        metrics: Box::new(move || metrics.render()),
        health: Box::new(move |path| health.answer(path)),
    }
}

/// Lets metrics and health look at what others count.
pub(super) fn observe(
    metrics: &Arc<Metrics>,
    health: &Health,
    providers: &Arc<Providers>,
    api: &Front,
) {
    let stats = Arc::clone(api.stats());
    let shared: Vec<_> = providers
        .iter()
        .map(|it| metrics.provider_shared(it.name()))
        .collect();
    for (provider, shared) in providers.iter().zip(&shared) {
        let provider = Arc::clone(provider);
        shared.count_permits(move || Permits {
            in_use: provider.permits_in_use(),
            waiting: provider.permits_waiting(),
        });
    }
    for (provider, shared) in providers.iter().zip(&shared) {
        let provider = Arc::clone(provider);
        shared.show_standing(move || standing(&provider));
    }
    metrics.collect(Box::new(move |collector| {
        for provider in &shared {
            provider.permits();
            collect_breakers(collector, provider);
        }
        collect_connections(collector, &stats);
        collector.counter(
            "victor_log_dropped_total",
            "Log lines that were lost because the queue was full or nothing could be written.",
            &[],
            log::dropped() as f64,
        );
    }));
    metrics.account("outboxes", Box::new(|| front::outbox_bytes() as u64));
    health.watch("api", api.wedged_probe(WEDGED_AFTER));
}

/// What a provider has learnt from its calls.
fn standing(provider: &Provider) -> Standing {
    let now = Instant::now();
    let governor = provider.governor();
    let breakers = governor.breakers(now).into_iter();
    let keys = governor.key_states(now).into_iter();
    Standing {
        breakers: breakers
            .map(|(model, state)| {
                let state = match state {
                    State::Closed => "closed",
                    State::HalfOpen => "half_open",
                    State::Open => "open",
                };
                (model, state)
            })
            .collect(),
        keys: keys
            .map(|state| match state {
                KeyState::Usable => "usable",
                KeyState::Resting { .. } => "resting",
                KeyState::OnTrial => "on_trial",
                KeyState::Retired { .. } => "retired",
            })
            .collect(),
        adaptive_limit: governor.adaptive_limit(),
    }
}

fn collect_breakers(collector: &mut Collector, provider: &ProviderShared) {
    let mut breakers = provider.standing().breakers;
    // Callers can make up names of models; what is wrong is shown before what is not.
    breakers.sort_unstable_by(|one, other| {
        let key = |it: &(Box<str>, &'static str)| (it.1 == "closed", it.0.clone());
        key(one).cmp(&key(other))
    });
    for (model, state) in breakers.iter().take(BREAKER_SERIES_MAX) {
        let value = match *state {
            "closed" => 0.0,
            "half_open" => 1.0,
            _ => 2.0,
        };
        collector.gauge(
            "victor_provider_breaker_state",
            "The circuit breaker of a model: 0 closed, 1 half-open, 2 open.",
            &[("provider", provider.name()), ("model", model)],
            value,
        );
    }
}

fn collect_connections(collector: &mut Collector, stats: &Stats) {
    collector.gauge(
        "victor_http_connections",
        "Connections that clients have open on the API port.",
        &[],
        stats.connections.load(Ordering::Relaxed) as f64,
    );
    collector.counter(
        "victor_http_connections_accepted_total",
        "Connections accepted on the API port.",
        &[],
        stats.accepted.load(Ordering::Relaxed) as f64,
    );
    let ended = [
        ("refused", &stats.refused),
        ("evicted", &stats.evicted),
        ("timed_out", &stats.timed_out),
        ("slow_client", &stats.slow_clients),
        ("accept_error", &stats.accept_errors),
    ];
    for (reason, count) in ended {
        collector.counter(
            "victor_http_connections_ended_total",
            "Connections ended because a bound of the API port was reached, by reason.",
            &[("reason", reason)],
            count.load(Ordering::Relaxed) as f64,
        );
    }
}

/// Lets metrics look at what the cache counts.
pub(super) fn observe_cache(metrics: &Metrics, answers: &Arc<Answers>) {
    let own = Arc::clone(answers);
    metrics.collect(Box::new(move |collector| collect_cache(collector, &own)));
    let answers = Arc::clone(answers);
    let bytes = move || answers.cache().stats().held.bytes;
    metrics.account("cache", Box::new(bytes));
}

fn collect_cache(collector: &mut Collector, answers: &Answers) {
    let stats = answers.cache().stats();
    let mut gauge = |name, help, value: f64| collector.gauge(name, help, &[], value);
    gauge(
        "victor_cache_entries",
        "Answers in the cache, those that are too old but were not freed yet included.",
        stats.held.count as f64,
    );
    gauge(
        "victor_cache_bytes",
        "What they take, keys and places included.",
        stats.held.bytes as f64,
    );
    gauge(
        "victor_cache_bytes_max",
        "What they may take: cache.max_size_mb.",
        answers.cache().size_max() as f64,
    );
    gauge(
        "victor_cache_followers",
        "Calls that wait for the answer to an equal call now.",
        answers.followers() as f64,
    );
    let policy = answers.config().eviction_policy.as_str();
    for reason in Reason::ALL {
        collector.counter(
            "victor_cache_evictions_total",
            "Answers that left the cache, by reason: no room, too old, or cleared by an operator.",
            &[("policy", policy), ("reason", reason.label())],
            stats.evicted(reason).count as f64,
        );
    }
    collector.counter(
        "victor_cache_refused_total",
        "Answers that were not stored, being bigger than an eighth of the cache.",
        &[],
        stats.refused as f64,
    );
}

/// Lets metrics look at what the store counts.
pub(super) fn observe_store(metrics: &Metrics, store: &Arc<Store>) {
    let own = Arc::clone(store);
    metrics.collect(Box::new(move |collector| collect_store(collector, &own)));
    let store = Arc::clone(store);
    metrics.account("store_queue", Box::new(move || store.queue_bytes() as u64));
}

fn collect_store(collector: &mut Collector, store: &Store) {
    let stats = store.stats();
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    let mut gauge = |name, help, value| collector.gauge(name, help, &[], value);
    gauge(
        "victor_store_queue_depth",
        "Jobs that wait for the database's thread.",
        store.queue_depth() as f64,
    );
    gauge(
        "victor_store_responses",
        "Stored responses, those that have expired but were not purged yet included.",
        read(&stats.responses),
    );
    gauge(
        "victor_store_responses_bytes",
        "What the stored responses hold.",
        read(&stats.responses_bytes),
    );
    gauge(
        "victor_store_cache_entries",
        "Cached answers in the database, those that have expired but were not purged yet included.",
        read(&stats.cache_entries),
    );
    gauge(
        "victor_store_cache_bytes",
        "What the cached answers in the database hold.",
        read(&stats.cache_bytes),
    );
    let mut counter = |name, help, label, value: &str, count| {
        collector.counter(name, help, &[(label, value)], read(count));
    };
    for (outcome, count) in [
        ("ok", &stats.writes_ok),
        ("failed", &stats.writes_failed),
        ("dropped", &stats.writes_dropped),
    ] {
        let help = "Writes asked of the database, by outcome; dropped ones were never queued.";
        counter("victor_store_writes_total", help, "outcome", outcome, count);
    }
    for (reason, count) in [("ttl", &stats.evicted_ttl), ("size", &stats.evicted_size)] {
        let help = "Stored responses removed, by reason.";
        counter(
            "victor_store_evictions_total",
            help,
            "reason",
            reason,
            count,
        );
    }
    collector.counter(
        "victor_store_files_set_aside_total",
        "Database files set aside since they were damaged or another program's.",
        &[],
        read(&stats.set_aside),
    );
}
