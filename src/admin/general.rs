//! Verbs about the daemon as a whole: `version`, `status`, `drain`, `thread-dump`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AdminError, Code, PROTOCOL, Report, Verbs, parse, result};
use crate::diagnostics;
use crate::health::Health;
use crate::metrics::{Event, Metrics};

/// See the module.
pub struct General {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// Where thread dumps go.
    pub dumps: PathBuf,
    /// How long calls in flight may go on once a drain has begun.
    pub drain_timeout: Duration,
    /// Asks for the drain; must not block. `false`: nobody is there to do it.
    pub drain: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The arguments of a verb that takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: u32,
    pid: u32,
}

impl Verbs for General {
    fn call(&self, verb: &str, args: &Value, _: Report<'_>) -> Option<Result<Value, AdminError>> {
        let run = match verb {
            "version" => Self::version,
            "status" => Self::status,
            "drain" => Self::drain,
            "thread-dump" => Self::thread_dump,
            _ => return None,
        };
        Some(parse::<Nothing>(args).and_then(|Nothing {}| run(self)))
    }
}

impl General {
    fn version(&self) -> Result<Value, AdminError> {
        result(Version {
            version: env!("CARGO_PKG_VERSION"),
            protocol: PROTOCOL,
            pid: std::process::id(),
        })
    }

    fn detailed(&self) -> Result<Value, AdminError> {
        let (_, body) = self
            .health
            .answer("/health/detailed")
            .ok_or_else(|| AdminError::new(Code::Internal, "health has no details"))?;
        serde_json::from_slice(&body)
            .map_err(|error| AdminError::new(Code::Internal, error.to_string()))
    }

    /// What `/health/detailed` says, without what only dashboards read.
    fn status(&self) -> Result<Value, AdminError> {
        Ok(compact(self.detailed()?))
    }

    fn drain(&self) -> Result<Value, AdminError> {
        let already = self.health.lifecycle().is_draining();
        if !already && !(self.drain)() {
            let why = "the daemon is ending";
            return Err(AdminError::new(Code::Unavailable, why));
        }
        let status = self.detailed()?;
        Ok(json!({
            "already_draining": already,
            "in_flight": status["in_flight"],
            "queued": status["queued"],
            "drain_timeout_seconds": self.drain_timeout.as_secs_f64(),
        }))
    }

    fn thread_dump(&self) -> Result<Value, AdminError> {
        let path = diagnostics::thread_dump::dump(Some(&self.dumps));
        self.metrics.event(Event::ThreadDump);
        match path {
            Some(path) => Ok(json!({"path": path.display().to_string()})),
            None => {
                let folder = self.dumps.display();
                let why =
                    format!("no file can be written in {folder}; standard error has the dump");
                Err(AdminError::new(Code::Failed, why))
            }
        }
    }
}

/// Members of a component and of a coordinator's row that are kept.
const COMPONENT: [&str; 2] = ["status", "message"];
const COORDINATOR: [&str; 8] = [
    "name",
    "state",
    "executions",
    "error_rate",
    "p95_ms",
    "cache_hit_rate",
    "queue_depth",
    "in_flight",
];
const WHOLE: [&str; 9] = [
    "status",
    "phase",
    "demo",
    "version",
    "timestamp",
    "uptime_seconds",
    "in_flight",
    "queued",
    "key_metrics",
];

fn pick(from: &Value, names: &[&str]) -> Map<String, Value> {
    let members = names.iter();
    members
        .map(|name| ((*name).to_owned(), from[*name].clone()))
        .collect()
}

fn compact(detailed: Value) -> Value {
    let mut compact = pick(&detailed, &WHOLE);
    let rows = detailed["coordinators"].as_array().into_iter().flatten();
    let rows = rows.map(|row| Value::Object(pick(row, &COORDINATOR)));
    compact.insert("coordinators".to_owned(), rows.collect());
    let components = detailed["components"].as_object().into_iter().flatten();
    let components: Map<String, Value> = components
        .map(|(name, it)| (name.clone(), Value::Object(pick(it, &COMPONENT))))
        .collect();
    compact.insert("components".to_owned(), Value::Object(components));
    Value::Object(compact)
}
