//! The runbook's table of key metrics: what each is, and from where on it deserves a word.
//!
//! Pure: views and readings in, levels out. A value without samples is `None` and healthy.

use serde::Serialize;

use crate::metrics::Lookups;
use crate::metrics::window::{View, WINDOW};

use super::round;
use super::system::Reading;

/// Warning and critical bounds of the runbook's table "Key Metrics".
const ERROR_RATE: (f64, f64) = (0.01, 0.05);
const LATENCY_SECONDS: (f64, f64) = (2.0, 5.0);
pub(super) const MEMORY_BYTES: (f64, f64) = (2e9, 4e9);
pub(super) const CPU_PERCENT: (f64, f64) = (50.0, 80.0);
const HIT_RATE: (f64, f64) = (0.8, 0.5);
/// Lookups in the window from which on their hit rate is judged: a cache that has hardly been asked
/// cannot be warm.
const LOOKUPS_MIN: u64 = 100;

/// How a part of the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Status {
    /// The status of the HTTP answer that says it.
    pub const fn http(self) -> u16 {
        match self {
            Self::Healthy | Self::Degraded => 200,
            Self::Unhealthy => 503,
        }
    }
}

/// How a key metric is, by the runbook's first table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Healthy,
    Warning,
    Critical,
}

impl Level {
    /// A value that is bad when it is high; without one all is well.
    pub(super) fn of(value: Option<f64>, (warning, critical): (f64, f64)) -> Self {
        match value {
            Some(value) if value > critical => Self::Critical,
            Some(value) if value >= warning => Self::Warning,
            _ => Self::Healthy,
        }
    }

    /// How a share of hits is: bad when it is low.
    fn of_hit_rate(lookups: &Lookups) -> Self {
        let (warning, critical) = HIT_RATE;
        match lookups.hit_rate() {
            Some(rate) if lookups.count() >= LOOKUPS_MIN => {
                Self::of(Some(-rate), (-warning, -critical))
            }
            _ => Self::Healthy,
        }
    }

    pub(super) const fn status(self) -> Status {
        match self {
            Self::Healthy => Status::Healthy,
            Self::Warning | Self::Critical => Status::Degraded,
        }
    }
}

/// One entry of `key_metrics`.
#[derive(Serialize)]
pub(super) struct KeyMetric {
    #[serde(serialize_with = "plain_number")]
    value: Option<f64>,
    state: Level,
    window_seconds: u64,
}

/// Whole numbers, bytes say, without a fraction.
fn plain_number<S: serde::Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 2_f64.powi(53) => {
            to.serialize_i64(*value as i64)
        }
        value => to.serialize_some(value),
    }
}

/// `key_metrics`
#[derive(Serialize)]
pub(super) struct KeyMetrics {
    error_rate: KeyMetric,
    latency_p95_seconds: KeyMetric,
    cache_hit_rate: KeyMetric,
    memory_bytes: KeyMetric,
    cpu_percent: KeyMetric,
}

impl KeyMetrics {
    pub(super) fn new(view: &View, lookups: &Lookups, reading: &Reading) -> Self {
        let metric = |value, bounds, window_seconds| KeyMetric {
            value,
            state: Level::of(value, bounds),
            window_seconds,
        };
        let window = WINDOW.as_secs();
        let memory = reading
            .memory
            .value
            .map(|memory| memory.resident_bytes as f64);
        let cpu = reading.cpu.value;
        let cpu_span = cpu.map_or(0, |cpu| cpu.span.as_secs());
        let p95 = view.quantile(0.95).map(|p95| p95.as_secs_f64());
        Self {
            error_rate: metric(view.error_rate(), ERROR_RATE, window),
            latency_p95_seconds: metric(p95, LATENCY_SECONDS, window),
            cache_hit_rate: KeyMetric {
                value: lookups.hit_rate(),
                state: Level::of_hit_rate(lookups),
                window_seconds: window,
            },
            memory_bytes: metric(memory, MEMORY_BYTES, 0),
            cpu_percent: metric(cpu.map(|cpu| round(cpu.percent)), CPU_PERCENT, cpu_span),
        }
    }

    /// Those that are not healthy, in words.
    pub(super) fn reasons(&self) -> Vec<String> {
        let all = [
            ("error_rate", &self.error_rate),
            ("latency_p95_seconds", &self.latency_p95_seconds),
            ("cache_hit_rate", &self.cache_hit_rate),
            ("memory_bytes", &self.memory_bytes),
            ("cpu_percent", &self.cpu_percent),
        ];
        let said = all.into_iter().filter_map(|(name, metric)| {
            let word = match metric.state {
                Level::Healthy => return None,
                Level::Warning => "a warning",
                Level::Critical => "critical",
            };
            let value = round(metric.value.unwrap_or_default());
            Some(format!("key metric {name} is {word}: {value}"))
        });
        said.collect()
    }

    pub(super) fn worst(&self) -> Level {
        let all = [
            &self.error_rate,
            &self.latency_p95_seconds,
            &self.cache_hit_rate,
            &self.memory_bytes,
            &self.cpu_percent,
        ];
        let worst = all.into_iter().map(|metric| metric.state).max();
        worst.unwrap_or(Level::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_runbooks_table() {
        let check = |value: Option<f64>, bounds, expected| {
            assert_eq!(Level::of(value, bounds), expected, "{value:?}");
        };
        check(None, ERROR_RATE, Level::Healthy);
        check(Some(0.009), ERROR_RATE, Level::Healthy);
        check(Some(0.01), ERROR_RATE, Level::Warning);
        check(Some(0.05), ERROR_RATE, Level::Warning);
        check(Some(0.051), ERROR_RATE, Level::Critical);
        check(Some(1.9), LATENCY_SECONDS, Level::Healthy);
        check(Some(5.1), LATENCY_SECONDS, Level::Critical);
        check(Some(3e9), MEMORY_BYTES, Level::Warning);
        check(Some(80.5), CPU_PERCENT, Level::Critical);
    }
}
