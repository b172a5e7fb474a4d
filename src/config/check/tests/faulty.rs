//! One file with every kind of fault, and where each is reported.

use crate::config::check_text;
use crate::config::fault::Fault;

fn no_env(_: &str) -> Option<String> {
    None
}

/// Thirty-one faults, hardly two of a kind.
const FAULTY: &str = "\
serverr: {}
server:
  listen: 0.0.0.0:8000
  header_timeout: 30s
  body_timeout: -1
  idle_timeout: soon
  max_body_mb: 99999999999999999999
  max_connections: 2.5
  max_connections: 10
  drain_timeout: \"30\"
ops: {listen: 127.0.0.1:70000, allow_remote: yes}
auth:
  keys: []
providers:
  anthropic:
    timeuot: 60
    timeout: 0
    rate_limit: {requests_per_second: 50, burst: 0}
    api_key: ${NO_SUCH_VARIABLE}
  mystery:
    base_url: https://example.com/v1
  openai:
    kind: openia
  local:
    kind: openai
    base_url: https://user:hunter2@example.com/v1
    max_connections: [10]
models:
  gpt-4o-mini:
    - {provider: nobody, model: x}
    - {provider: openai, model: ' ', weight: 0}
  empty: []
cache:
  eviction_policy: mru
coordinators:
  max_concurrent: 0
  named:
    ChatCoordinator: {default_model: gpt-9}
    bad name: {}
metrics: {sample_rate: 1.5}
logging: {level: loud, format: xml}
python: {gc_threshold: often}
";

#[test]
fn every_fault_is_named_in_one_run_at_its_line_and_column() {
    let expected = [
        (1, 1, "serverr", "did you mean `server`?"),
        (3, 3, "server.listen", "auth.keys"),
        (4, 3, "server.header_timeout", "carries a unit"),
        (5, 3, "server.body_timeout", "out of range"),
        (6, 3, "server.idle_timeout", "not a number"),
        (7, 3, "server.max_body_mb", "out of range"),
        (8, 3, "server.max_connections", "not a whole number"),
        (9, 3, "server.max_connections", "the first time in line 8"),
        (
            10,
            3,
            "server.drain_timeout",
            "did you mean 30 without quotes?",
        ),
        (11, 7, "ops.listen", "above 65535"),
        (11, 32, "ops.allow_remote", "did you mean true?"),
        (
            16,
            5,
            "providers.anthropic.timeuot",
            "did you mean `timeout`?",
        ),
        (17, 5, "providers.anthropic.timeout", "out of range"),
        (
            18,
            43,
            "providers.anthropic.rate_limit.burst",
            "out of range",
        ),
        (
            19,
            5,
            "providers.anthropic.api_key",
            "NO_SUCH_VARIABLE is not set",
        ),
        (20, 3, "providers.mystery", "no `kind`"),
        (23, 5, "providers.openai.kind", "did you mean openai?"),
        (26, 5, "providers.local.base_url", "credentials"),
        (27, 5, "providers.local.max_connections", "holds a list"),
        (
            30,
            8,
            "models.gpt-4o-mini[0].provider",
            "no provider `nobody`",
        ),
        (31, 26, "models.gpt-4o-mini[1].model", "blank"),
        (31, 38, "models.gpt-4o-mini[1].weight", "out of range"),
        (32, 3, "models.empty", "no target"),
        (34, 3, "cache.eviction_policy", "did you mean lru?"),
        (36, 3, "coordinators.max_concurrent", "out of range"),
        (
            38,
            23,
            "coordinators.named.ChatCoordinator.default_model",
            "no provider serves",
        ),
        (39, 5, "coordinators.named.bad name", "no header"),
        (40, 11, "metrics.sample_rate", "out of range"),
        (41, 11, "logging.level", "not known"),
        (41, 24, "logging.format", "not known"),
        (42, 10, "python.gc_threshold", "triple"),
    ];
    let found = check_text("config/victor.yml", FAULTY, &no_env, false).unwrap_err();
    let all: Vec<String> = found.iter().map(Fault::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{}", all.join("\n"));
    for (fault, (line, column, key, part)) in all.iter().zip(expected) {
        let start = format!("config/victor.yml:{line}:{column}: {key}: ");
        assert!(
            fault.starts_with(&start) && fault.contains(part) && fault.contains(", expected "),
            "expected {start}…{part}, found {fault}"
        );
        assert!(!fault.contains("hunter2"));
    }
}
