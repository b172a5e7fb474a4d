//! `cache`, `database`, `metrics`, `logging`, and `python`, which an older service read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::{is_path, shared};
use crate::config::checked::{Cache, Database, EvictionPolicy, LogFormat, Logging, Metrics};
use crate::config::raw::{Map, Raw};
use crate::config::scalar::{Bounds, Scalar, Unit, Wrong};

/// How long an answer may be given again.
pub(super) const CACHE_TTL: Bounds = Bounds {
    min: 0.0,
    max: 31.0 * 86_400.0,
    ..Bounds::TIMEOUT
};

/// Reads `cache`.
pub(super) fn cache(raw: &mut Raw<'_>, root: &mut Map<'_>) -> Cache {
    let mut section = raw.map(root, "cache");
    let map = &mut section;
    let size = Bounds::count(1, 1 << 20).of(Unit::Mebibytes);
    let window = Bounds::count(0, 60_000).of(Unit::Milliseconds);
    let policies = [
        ("lru", EvictionPolicy::Lru),
        ("lfu", EvictionPolicy::Lfu),
        ("fifo", EvictionPolicy::Fifo),
    ];
    let cache = Cache {
        enabled: raw.boolean(map, "enabled", true),
        max_size_bytes: raw.count(map, "max_size_mb", 256, size) << 20,
        default_ttl: raw.duration(map, "default_ttl", Duration::from_secs(1800), CACHE_TTL),
        warm_on_startup: raw.boolean(map, "warm_on_startup", false),
        warm_items: raw.count(map, "warm_items", 1000, Bounds::count(0, 10_000_000)),
        eviction_policy: raw
            .choice(map, "eviction_policy", &policies)
            .unwrap_or(EvictionPolicy::Lru),
        enable_coalescing: raw.boolean(map, "enable_coalescing", true),
        coalescing_window: raw.duration(
            map,
            "coalescing_window_ms",
            Duration::from_millis(100),
            window,
        ),
        snapshot_interval: raw.timeout(map, "snapshot_interval", Duration::from_secs(60)),
        shared_between_keys: raw.boolean(map, "shared_between_keys", false),
        redis: shared::redis(raw, map),
    };
    raw.close(section);
    cache
}

/// Reads `database`.
pub(super) fn database(raw: &mut Raw<'_>, root: &mut Map<'_>, state_dir: &Path) -> Database {
    let mut map = raw.map(root, "database");
    let expected = "the path of a file, under the state folder unless absolute";
    let path = raw.text(&mut map, "path", expected).map(|(text, place)| {
        if let Err(wrong) = is_path(&text) {
            raw.fault(&place, wrong, expected);
        }
        text
    });
    let ttl = Bounds {
        min: 0.0,
        max: 3660.0 * 86_400.0,
        ..Bounds::TIMEOUT
    };
    let size = Bounds::count(0, 1 << 20).of(Unit::Mebibytes);
    let month = Duration::from_secs(30 * 86_400);
    let database = Database {
        path: state_dir.join(path.unwrap_or_else(|| "victor.db".to_owned())),
        log_queries: raw.boolean(&mut map, "log_queries", false),
        responses_ttl: raw.duration(&mut map, "responses_ttl", month, ttl),
        responses_max_bytes: raw.count(&mut map, "responses_max_mb", 256, size) << 20,
    };
    raw.close(map);
    database
}

/// Reads `metrics`.
pub(super) fn metrics(raw: &mut Raw<'_>, root: &mut Map<'_>) -> Metrics {
    let mut map = raw.map(root, "metrics");
    let share = Bounds {
        whole: false,
        ..Bounds::count(0, 1)
    };
    let metrics = Metrics {
        sample_rate: raw.number(&mut map, "sample_rate", share).unwrap_or(1.0),
        aggregate_histograms: raw.boolean(&mut map, "aggregate_histograms", false),
    };
    raw.close(map);
    metrics
}

/// Reads `logging`. A demonstration logs to stderr unless a file is written.
pub(super) fn logging(raw: &mut Raw<'_>, root: &mut Map<'_>, demo: bool) -> Logging {
    let mut map = raw.map(root, "logging");
    let levels = [
        LevelFilter::Off,
        LevelFilter::Error,
        LevelFilter::Warn,
        LevelFilter::Info,
        LevelFilter::Debug,
        LevelFilter::Trace,
    ];
    let names = levels.map(|level| level.as_str().to_ascii_lowercase());
    let levels: Vec<(&str, LevelFilter)> = names.iter().map(String::as_str).zip(levels).collect();
    let level = raw.choice(&mut map, "level", &levels);
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = raw.choice(&mut map, "format", &formats);
    let expected = "the path of a file, or `stderr`";
    let written = map.has("file");
    let file = raw.text(&mut map, "file", expected);
    if let Some((text, place)) = &file
        && let Err(wrong) = is_path(text)
    {
        raw.fault(place, wrong, expected);
    }
    raw.close(map);
    let default = (!written && !demo).then(|| PathBuf::from("/var/log/victor/coordinators.log"));
    Logging {
        level: level.unwrap_or(LevelFilter::Info),
        format: format.unwrap_or(LogFormat::Json),
        file: match file {
            Some((text, _)) => (text != "stderr").then(|| PathBuf::from(text)),
            None => default,
        },
    }
}

/// Reads `python`, says that it has no effect, and drops it.
pub(super) fn python(raw: &mut Raw<'_>, root: &mut Map<'_>) {
    let written = root.has("python");
    let mut map = raw.map(root, "python");
    let expected = "three whole numbers, as in (700, 10, 10)";
    if let Some(field) = raw.field(&mut map, "gc_threshold") {
        if let Some(items) = field.list_len() {
            // Written as a YAML list: each item is one of the numbers.
            let items = raw.items(&field, expected).filter(|_| items == 3);
            let numbers = items.is_some_and(|items| {
                items.iter().all(|item| {
                    raw.scalar(item, expected)
                        .is_some_and(|scalar| scalar.text.trim().parse::<u32>().is_ok())
                })
            });
            if !numbers {
                let wrong = Wrong::new("is not a list of three whole numbers");
                raw.fault(&field.place, wrong, expected);
            }
        } else if let Some(scalar) = raw.scalar(&field, expected)
            && let Err(wrong) = threshold(&scalar)
        {
            raw.fault(&field.place, wrong, expected);
        }
    }
    raw.close(map);
    if written {
        raw.warnings.push(
            "python.gc_threshold has no effect: there is no such collector here, memory is freed \
             as soon as it is no longer used"
                .to_owned(),
        );
    }
}

fn threshold(scalar: &Scalar) -> Result<(), Wrong> {
    let inner = scalar.text.trim().strip_prefix('(');
    let inner = inner.and_then(|text| text.strip_suffix(')'));
    let numbers = inner.map(|inner| inner.split(',').map(|part| part.trim().parse::<u32>()));
    match numbers.map(|numbers| numbers.collect::<Result<Vec<_>, _>>()) {
        Some(Ok(numbers)) if numbers.len() == 3 => Ok(()),
        _ => Err(Wrong::new(format!("{} is not such a triple", scalar.shown))),
    }
}
