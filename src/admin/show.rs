//! Results for people: what `victor admin` prints where `--json` is not asked for.
//!
//! A daemon of another version may leave a member out; it is then shown as `-`, never a failure.

use std::fmt::Write as _;

use serde_json::Value;

/// The text for a verb's result, with a line end after each line.
pub fn text(verb: &str, result: &Value) -> String {
    match verb {
        "version" => version(result),
        "status" => status(result),
        "drain" => drain(result),
        "thread-dump" => format!("{}\n", word(&result["path"])),
        "config-list" => settings(result),
        "config-get" => format!("{}\n", word(&result["value"])),
        "config-set" => format!(
            "{} = {} (was {}) until {}\n",
            word(&result["key"]),
            word(&result["value"]),
            word(&result["before"]),
            word(&result["until"])
        ),
        "restart-provider" => restart(result),
        "cache-stats" => cache_stats(result),
        "clear-cache" => format!(
            "{} entries taken out, {} bytes\n",
            word(&result["entries"]),
            word(&result["bytes"])
        ),
        "warm-cache" => format!(
            "{} entries brought back, {} bytes; {} left out\n",
            word(&result["entries"]),
            word(&result["bytes"]),
            word(&result["skipped"])
        ),
        _ => format!("{result:#}\n"),
    }
}

/// A value as one word: a text without its quotes.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `1 call`, `2 calls`.
fn count(value: &Value, noun: &str) -> String {
    let plural = if value.as_u64() == Some(1) { "" } else { "s" };
    format!("{} {noun}{plural}", word(value))
}

fn version(result: &Value) -> String {
    format!(
        "daemon  victor {}, process {}, admin protocol {}\nprogram victor {}, admin protocol {}\n",
        word(&result["version"]),
        word(&result["pid"]),
        word(&result["protocol"]),
        env!("CARGO_PKG_VERSION"),
        super::PROTOCOL
    )
}

/// Lines are put into a string, which does not fail, here and below.
fn status(result: &Value) -> String {
    let mut text = String::new();
    let demo = if result["demo"] == true { ", demo" } else { "" };
    let _ = writeln!(
        text,
        "{}, {}{demo}: victor {}, up {} s, {} in flight, {} queued",
        word(&result["status"]),
        word(&result["phase"]),
        word(&result["version"]),
        result["uptime_seconds"].as_f64().unwrap_or_default() as u64,
        word(&result["in_flight"]),
        word(&result["queued"])
    );
    let mut rows = vec![
        [
            "coordinator",
            "state",
            "calls",
            "errors",
            "p95 ms",
            "queued",
            "running",
        ]
        .map(str::to_owned),
    ];
    for row in result["coordinators"].as_array().into_iter().flatten() {
        let errors = row["error_rate"].as_f64();
        rows.push([
            word(&row["name"]),
            word(&row["state"]),
            word(&row["executions"]),
            errors.map_or_else(|| "-".to_owned(), |it| format!("{:.1} %", it * 100.0)),
            word(&row["p95_ms"]),
            word(&row["queue_depth"]),
            word(&row["in_flight"]),
        ]);
    }
    table(&mut text, &rows);
    for (name, component) in result["components"].as_object().into_iter().flatten() {
        if component["status"] != "healthy" {
            let (status, why) = (word(&component["status"]), word(&component["message"]));
            let _ = writeln!(text, "{name} is {status}: {why}");
        }
    }
    let reasons = result["reasons"].as_array().into_iter().flatten();
    for reason in reasons.filter_map(Value::as_str) {
        if reason.starts_with("key metric") {
            let _ = writeln!(text, "{reason}");
        }
    }
    text
}

fn drain(result: &Value) -> String {
    let begun = match result["already_draining"] == true {
        true => "draining already",
        false => "draining",
    };
    format!(
        "{begun}: {} in flight and {} queued may go on for {} s, new ones are told 503\n",
        word(&result["in_flight"]),
        word(&result["queued"]),
        word(&result["drain_timeout_seconds"])
    )
}

fn settings(result: &Value) -> String {
    let settings = result.as_object().into_iter().flatten();
    settings
        .map(|(key, value)| format!("{key} = {}\n", word(value)))
        .collect()
}

fn restart(result: &Value) -> String {
    format!(
        "{} closed, {} in use to be closed with the end of its call\n\
         {} to look up anew, {} closed, {} usable again\n",
        count(&result["connections_closed"], "idle connection"),
        word(&result["connections_in_use"]),
        count(&result["names_forgotten"], "name"),
        count(&result["breakers_closed"], "breaker"),
        count(&result["keys_restored"], "key"),
    )
}

fn cache_stats(result: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}, at most {} bytes; {} evicted, {} expired, {} cleared",
        word(&result["policy"]),
        word(&result["bytes_max"]),
        word(&result["evicted"]),
        word(&result["expired"]),
        word(&result["cleared"])
    );
    let heads = [
        "coordinator",
        "entries",
        "bytes",
        "hits",
        "misses",
        "coalesced",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for row in result["coordinators"].as_array().into_iter().flatten() {
        rows.push(heads.map(|head| word(&row[head])));
    }
    table(&mut text, &rows);
    text
}

/// Columns as wide as their widest cell, numbers included.
fn table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_has_a_row_for_each_coordinator_and_a_line_for_each_trouble() {
        let status = json!({
            "status": "degraded", "phase": "ready", "version": "1", "uptime_seconds": 61.5,
            "in_flight": 1, "queued": 0,
            "coordinators": [{"name": "Chat", "state": "running", "executions": 12,
                "error_rate": 0.25, "p95_ms": null, "queue_depth": 0, "in_flight": 1}],
            "components": {"provider.a": {"status": "degraded", "message": "slow"},
                "provider.b": {"status": "healthy", "message": "fine"}},
        });
        assert_eq!(
            text("status", &status),
            "degraded, ready: victor 1, up 61 s, 1 in flight, 0 queued\n\
             coordinator  state    calls  errors  p95 ms  queued  running\n\
             Chat         running  12     25.0 %  -       0       1\n\
             provider.a is degraded: slow\n"
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_shown_all_the_same() {
        for verb in [
            "version",
            "status",
            "drain",
            "restart-provider",
            "cache-stats",
            "new",
        ] {
            assert!(text(verb, &json!({})).ends_with('\n'), "{verb}");
        }
        assert_eq!(text("config-get", &json!({"value": "x y"})), "x y\n");
        assert_eq!(
            text("config-list", &json!({"a": 1, "b": "c"})),
            "a = 1\nb = c\n"
        );
    }
}
