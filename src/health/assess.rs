//! The thresholds: from counts and readings to statuses, and their roll-up.
//!
//! Pure but for reading the metrics. What had no traffic is healthy; a value without samples is
//! `None`, never 0. Only the coordinators can make the whole unhealthy, and only all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Utc;
use crate::metrics::window::{View, WINDOW};
use crate::metrics::{CoordinatorMetrics, Metrics, ProviderShared, Share, Standing};
use crate::store::Store;

use super::cache::{self, CacheFacts};
use super::database;
use super::key_metrics::{CPU_PERCENT, KeyMetrics, Level, MEMORY_BYTES, Status};
use super::system::{Disk, MemoryUse, Reading, Timed};
use super::{Phase, round};

/// A coordinator whose last so many executions all failed cannot serve.
const COORDINATOR_FAILURES: u32 = 10;
/// Above this share of failed executions a coordinator is degraded: the runbook's "healthy" ends.
const COORDINATOR_ERROR_RATE: f64 = 0.01;
/// A provider that failed so many times in a row is unhealthy; as the default breaker.
const PROVIDER_FAILURES: u32 = 5;
/// A provider is degraded above this share of faults …
const PROVIDER_DEGRADED: f64 = 0.05;
/// … and unhealthy from this one on, if it had at least so many requests.
const PROVIDER_UNHEALTHY: (f64, u64) = (0.5, 10);
/// Above this share of requests met by its rate limit a provider is degraded.
const PROVIDER_RATE_LIMITED: f64 = 0.1;
/// Below this free share of the machine's memory or the state folder's disk it is degraded.
const FREE_MIN: f64 = 0.05;

/// A status and the sentence that explains it.
pub(super) type Verdict = (Status, String);

/// One entry of `components`.
#[derive(Serialize)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) message: String,
    pub(super) latency_ms: Option<f64>,
    pub(super) details: Value,
    pub(super) last_check: String,
    pub(super) consecutive_failures: u32,
}

/// A coordinator's bounds, as configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_concurrent: usize,
    pub(super) queue_size: usize,
}

/// One entry of `coordinators`.
#[derive(Serialize)]
pub(super) struct CoordinatorRow {
    pub(super) name: &'static str,
    /// `starting`, `running`, `draining` or `stopped`.
    state: &'static str,
    executions: u64,
    errors: u64,
    rejected: u64,
    error_rate: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    cache_hit_rate: Option<f64>,
    queue_depth: i64,
    queue_size: Option<usize>,
    in_flight: i64,
    workers: i64,
    max_concurrent: Option<usize>,
    memory_bytes: i64,
}

/// Everything that health knows at one time.
pub(super) struct Assessment {
    pub(super) status: Status,
    /// Why it is not healthy, in sentences.
    pub(super) reasons: Vec<String>,
    pub(super) components: BTreeMap<String, Component>,
    pub(super) coordinators: Vec<CoordinatorRow>,
    pub(super) key_metrics: KeyMetrics,
}

/// What health looks at beside the metrics and the machine.
pub(super) struct Parts<'a> {
    pub store: Option<&'a Store>,
    pub cache: Option<CacheFacts>,
}

/// Judges every part and rolls it up.
pub(super) fn assess(
    metrics: &Metrics,
    phase: Phase,
    limits: &BTreeMap<&'static str, Limits>,
    reading: &Reading,
    parts: &Parts<'_>,
) -> Assessment {
    let now = Utc::now().rfc3339().to_string();
    let mut total = View::empty(metrics.uptime());
    let mut components = Vec::new();
    let mut coordinators = Vec::new();
    for coordinator in metrics.coordinators() {
        let view = coordinator.view();
        total.add(&view);
        let limits = limits.get(coordinator.name()).copied();
        let component = coordinator_component(&coordinator, &view, phase, limits, &now);
        components.push(component);
        coordinators.push(coordinator_row(&coordinator, &view, phase, limits));
    }
    let can_serve = components.iter().any(|c| c.status != Status::Unhealthy);
    for provider in metrics.providers() {
        components.push(provider_component(&provider, &now));
    }
    components.extend(parts.store.map(database::component));
    let cache = parts.cache.as_ref();
    components.extend(cache.map(|facts| cache::component(facts, metrics, &now)));
    components.extend(system_components(reading));
    let key_metrics = KeyMetrics::new(&total, &metrics.lookups(), reading);
    let worst = components.iter().map(|component| component.status).max();
    let status = match (can_serve, worst) {
        (false, _) => Status::Unhealthy,
        (true, Some(Status::Healthy) | None) => key_metrics.worst().status(),
        (true, Some(_)) => Status::Degraded,
    };
    let said = components.iter().filter(|it| it.status != Status::Healthy);
    let said = said.map(|it| format!("{}: {}", it.name, it.message));
    let reasons = said.chain(key_metrics.reasons()).collect();
    let by_name = |component: Component| (component.name.clone(), component);
    Assessment {
        status,
        reasons,
        components: components.into_iter().map(by_name).collect(),
        coordinators,
        key_metrics,
    }
}

pub(super) fn ms(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| round(duration.as_secs_f64() * 1000.0))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// What a coordinator is judged by.
struct CoordinatorFacts {
    phase: Phase,
    up: bool,
    executions: u64,
    error_rate: Option<f64>,
    consecutive_failures: u32,
    queue_depth: i64,
    queue_size: Option<usize>,
}

fn coordinator_verdict(facts: &CoordinatorFacts) -> Verdict {
    let full = facts.queue_size.is_some_and(|size| {
        size > 0 && facts.queue_depth >= i64::try_from(size).unwrap_or(i64::MAX)
    });
    if facts.phase == Phase::Draining {
        return (Status::Unhealthy, "draining: takes no new calls".to_owned());
    }
    if !facts.up {
        let message = match facts.phase {
            Phase::Starting => "starting: takes no calls yet",
            _ => "takes no calls: its workers are not running",
        };
        return (Status::Unhealthy, message.to_owned());
    }
    // Without executions in the window the failures are old news.
    let failures = facts.consecutive_failures;
    if facts.executions > 0 && failures >= COORDINATOR_FAILURES {
        let message = format!("the last {failures} executions failed");
        return (Status::Unhealthy, message);
    }
    if full {
        return (Status::Degraded, "the queue is full".to_owned());
    }
    match facts.error_rate {
        None => (Status::Healthy, "no executions in 5 minutes".to_owned()),
        Some(rate) if rate >= COORDINATOR_ERROR_RATE => {
            let message = format!("{} of executions failed in 5 minutes", percent(rate));
            (Status::Degraded, message)
        }
        Some(_) => (Status::Healthy, "serving".to_owned()),
    }
}

fn coordinator_component(
    coordinator: &CoordinatorMetrics,
    view: &View,
    phase: Phase,
    limits: Option<Limits>,
    now: &str,
) -> Component {
    let facts = CoordinatorFacts {
        phase,
        up: coordinator.up.get() > 0,
        executions: view.count,
        error_rate: view.error_rate(),
        consecutive_failures: coordinator.consecutive_failures(),
        queue_depth: coordinator.queue_depth.get(),
        queue_size: limits.map(|limits| limits.queue_size),
    };
    let (status, message) = coordinator_verdict(&facts);
    Component {
        name: format!("coordinator.{}", coordinator.name()),
        status,
        message,
        latency_ms: ms(view.quantile(0.5)),
        details: json!({
            "error_rate": facts.error_rate,
            "executions": view.count,
            "window_seconds": WINDOW.as_secs(),
            "queue_depth": facts.queue_depth,
            "queue_size": facts.queue_size,
            "in_flight": coordinator.in_flight.get(),
            "workers": coordinator.workers.get(),
        }),
        last_check: now.to_owned(),
        consecutive_failures: facts.consecutive_failures,
    }
}

fn coordinator_row(
    coordinator: &Arc<CoordinatorMetrics>,
    view: &View,
    phase: Phase,
    limits: Option<Limits>,
) -> CoordinatorRow {
    let state = match (phase, coordinator.up.get() > 0) {
        (Phase::Draining, _) => "draining",
        (_, true) => "running",
        (Phase::Starting, false) => "starting",
        (Phase::Ready, false) => "stopped",
    };
    CoordinatorRow {
        name: coordinator.name(),
        state,
        executions: coordinator.executions(),
        errors: coordinator.errors(),
        rejected: coordinator.rejections(),
        error_rate: view.error_rate(),
        p50_ms: ms(view.quantile(0.5)),
        p95_ms: ms(view.quantile(0.95)),
        p99_ms: ms(view.quantile(0.99)),
        cache_hit_rate: coordinator.cache.view().hit_rate(),
        queue_depth: coordinator.queue_depth.get(),
        queue_size: limits.map(|limits| limits.queue_size),
        in_flight: coordinator.in_flight.get(),
        workers: coordinator.workers.get(),
        max_concurrent: limits.map(|limits| limits.max_concurrent),
        memory_bytes: coordinator.accounted_bytes.get(),
    }
}

/// `faults`: requests that tell about the provider, and the share it failed. `limited`: the share
/// that its rate limit met.
/// Models whose breakers are listed.
const BREAKERS_SHOWN_MAX: usize = 100;

fn provider_verdict(
    requests: u64,
    faults: Option<f64>,
    limited: Option<f64>,
    consecutive_failures: u32,
    standing: &Standing,
) -> Verdict {
    let faulty = faults.unwrap_or(0.0);
    if requests > 0 && consecutive_failures >= PROVIDER_FAILURES {
        let message = format!("the last {consecutive_failures} requests failed");
        return (Status::Unhealthy, message);
    }
    if faulty >= PROVIDER_UNHEALTHY.0 && requests >= PROVIDER_UNHEALTHY.1 {
        let message = format!("{} of requests failed in 5 minutes", percent(faulty));
        return (Status::Unhealthy, message);
    }
    if faulty > PROVIDER_DEGRADED {
        let message = format!("{} of requests failed in 5 minutes", percent(faulty));
        return (Status::Degraded, message);
    }
    let open = |(_, state): &&(Box<str>, &'static str)| *state != "closed";
    if let Some((model, _)) = standing.breakers.iter().find(open) {
        let open = standing.breakers.iter().filter(open).count();
        let message = match open {
            1 => format!("the circuit breaker of {model} is open"),
            open => format!("the circuit breakers of {open} models are open"),
        };
        return (Status::Degraded, message);
    }
    let retired = standing.keys.iter().filter(|it| **it == "retired").count();
    if retired > 0 {
        let message = format!("{retired} of {} keys are refused", standing.keys.len());
        return (Status::Degraded, message);
    }
    match limited {
        Some(share) if share > PROVIDER_RATE_LIMITED => {
            let message = format!("its rate limit met {} of requests", percent(share));
            (Status::Degraded, message)
        }
        None if requests == 0 => (Status::Healthy, "no requests in 5 minutes".to_owned()),
        _ => (Status::Healthy, "answering".to_owned()),
    }
}

fn provider_component(provider: &ProviderShared, now: &str) -> Component {
    let view = provider.view();
    let limited = provider.rate_limited_view();
    let failures = provider.consecutive_failures();
    let permits = provider.permits();
    let standing = provider.standing();
    let (status, message) = provider_verdict(
        view.count,
        view.error_rate(),
        limited.error_rate(),
        failures,
        &standing,
    );
    let breakers: serde_json::Map<String, Value> = standing
        .breakers
        .iter()
        .take(BREAKERS_SHOWN_MAX)
        .map(|(model, state)| (model.to_string(), (*state).into()))
        .collect();
    Component {
        name: format!("provider.{}", provider.name()),
        status,
        message,
        latency_ms: ms(view.quantile(0.5)),
        details: json!({
            "requests": view.count,
            "error_rate": view.error_rate(),
            "rate_limited": limited.errors,
            "window_seconds": WINDOW.as_secs(),
            "permits_in_use": permits.in_use,
            "permits_max": provider.permits_max.get(),
            "permits_waiting": permits.waiting,
            "breakers": breakers,
            "keys": standing.keys,
            "adaptive_limit": standing.adaptive_limit,
        }),
        last_check: now.to_owned(),
        consecutive_failures: failures,
    }
}

const UNREADABLE: &str = "cannot be read";

/// The state and message of `system.memory`: the process against the runbook's bounds, and what
/// the machine has left.
pub(super) fn memory_status(memory: &Timed<MemoryUse>) -> Verdict {
    let Some(memory) = memory.value else {
        return (Status::Degraded, UNREADABLE.to_owned());
    };
    let level = Level::of(Some(memory.resident_bytes as f64), MEMORY_BYTES);
    let resident = memory.resident_bytes / (1 << 20);
    if level != Level::Healthy {
        return (level.status(), format!("{resident} MiB resident"));
    }
    let free = memory
        .machine
        .map(|machine| share(machine.available_bytes, machine.total_bytes));
    match free {
        Some(free) if free < FREE_MIN => {
            let message = format!("the machine has {} of its memory left", percent(free));
            (Status::Degraded, message)
        }
        _ => (Status::Healthy, format!("{resident} MiB resident")),
    }
}

/// The state and message of `system.cpu`.
pub(super) fn cpu_status(cpu: &Timed<Share>) -> Verdict {
    let Some(cpu) = cpu.value else {
        return (Status::Degraded, UNREADABLE.to_owned());
    };
    let level = Level::of(Some(cpu.percent), CPU_PERCENT);
    let message = format!("{:.1} % of all cores", cpu.percent);
    (level.status(), message)
}

/// The state and message of `system.disk`.
pub(super) fn disk_status(disk: &Timed<Disk>) -> Verdict {
    let Some(disk) = disk.value else {
        return (Status::Degraded, UNREADABLE.to_owned());
    };
    let free = share(disk.available_bytes, disk.total_bytes);
    let message = format!("{} of the state folder's disk is free", percent(free));
    let status = if free < FREE_MIN {
        Status::Degraded
    } else {
        Status::Healthy
    };
    (status, message)
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn system_components(reading: &Reading) -> [Component; 3] {
    let component = |name: &str, (status, message): Verdict, took, failures, details| Component {
        name: format!("system.{name}"),
        status,
        message,
        latency_ms: ms(Some(took)),
        details,
        last_check: reading.at.clone(),
        consecutive_failures: failures,
    };
    let Reading {
        memory, cpu, disk, ..
    } = reading;
    let machine = memory.value.and_then(|memory| memory.machine);
    let memory_details = json!({
        "resident_bytes": memory.value.map(|memory| memory.resident_bytes),
        "machine_total_bytes": machine.map(|machine| machine.total_bytes),
        "machine_available_bytes": machine.map(|machine| machine.available_bytes),
    });
    let cpu_details = json!({
        "percent": cpu.value.map(|cpu| round(cpu.percent)),
        "window_seconds": cpu.value.map(|cpu| round(cpu.span.as_secs_f64())),
    });
    let disk_details = json!({
        "total_bytes": disk.value.map(|disk| disk.total_bytes),
        "available_bytes": disk.value.map(|disk| disk.available_bytes),
    });
    [
        component(
            "memory",
            memory_status(memory),
            memory.took,
            memory.failures,
            memory_details,
        ),
        component("cpu", cpu_status(cpu), cpu.took, cpu.failures, cpu_details),
        component(
            "disk",
            disk_status(disk),
            disk.took,
            disk.failures,
            disk_details,
        ),
    ]
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
