//! The component `database`: from what the store reports to a status and a sentence.
//!
//! The daemon serves without its database, so the component never makes the whole unhealthy.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::clock::Utc;
use crate::store::{Condition, Store};

use super::assess::{Component, Verdict, ms};
use super::key_metrics::Status;

fn verdict(condition: Condition, message: &str) -> Verdict {
    match condition {
        Condition::Opening | Condition::Working => (Status::Healthy, message.to_owned()),
        Condition::Failing => {
            let message = format!("the last write failed: {message}");
            (Status::Degraded, message)
        }
        Condition::Unavailable => (Status::Unhealthy, message.to_owned()),
    }
}

pub(super) fn component(store: &Store) -> Component {
    let report = store.report();
    let stats = store.stats();
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (status, message) = verdict(report.condition, &report.message);
    Component {
        name: "database".to_owned(),
        status,
        message,
        latency_ms: ms(report.latency),
        details: json!({
            "queue_depth": store.queue_depth(),
            "responses": read(&stats.responses),
            "responses_bytes": read(&stats.responses_bytes),
            "responses_bytes_max": store.responses_bytes_max(),
            "writes_failed": read(&stats.writes_failed),
            "writes_dropped": read(&stats.writes_dropped),
            "files_set_aside": read(&stats.set_aside),
        }),
        last_check: Utc::at(report.checked).rfc3339().to_string(),
        consecutive_failures: report.failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_cannot_be_opened_is_unhealthy() {
        let check = |condition, expected| assert_eq!(verdict(condition, "x").0, expected);
        check(Condition::Opening, Status::Healthy);
        check(Condition::Working, Status::Healthy);
        check(Condition::Failing, Status::Degraded);
        check(Condition::Unavailable, Status::Unhealthy);
    }
}
