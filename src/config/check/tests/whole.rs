//! Whole files: what is accepted, what each fault says and where, what is warned about.

use std::time::Duration;

use crate::config::checked::{CheckedConfig, KeyHeader, Kind};
use crate::config::fault::Fault;
use crate::config::presets::PRESETS;
use crate::config::{check_text, tree};

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> CheckedConfig {
    check_text("victor.yml", text, &no_env, false).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        panic!("{}\n{text}", faults.join("\n"))
    })
}

fn faults(text: &str) -> Vec<String> {
    match check_text("f", text, &no_env, false) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(Fault::to_string).collect(),
    }
}

/// Checks that `text` has exactly the one fault that begins with `expected`.
fn check(text: &str, expected: &str) {
    let found = faults(text);
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "expected {expected}, found {found:#?} in\n{text}"
    );
}

/// Checks that `text` is accepted with exactly one warning that holds `expected`, besides that of
/// a configuration without providers.
fn check_warning(text: &str, expected: &str) {
    let config = load(text);
    let found = config.warnings.iter();
    let found: Vec<_> = found.filter(|w| !w.starts_with("no provider is")).collect();
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "expected {expected}, found {found:#?} in\n{text}"
    );
}

#[test]
fn every_spelling_of_the_runbook_is_accepted() {
    let config = load(
        r#"
# config/victor.yml
providers:
  anthropic:
    # Timeout
    timeout: 60  # Increase from default 30
    max_connections: 10
    keepalive: true
    rate_limit:
      requests_per_second: 50
      burst: 100
    enable_batching: true
    batch_size: 10
    batch_timeout_ms: 100
    breaker: {failures: 5, window: 30, open_for: 15}
    models: [claude-sonnet-4-5]
  openai: {base_url: "https://api.openai.com/v1", api_key: "${OPENAI_API_KEY:-}"}
models:
  gpt-4o-mini:
    - {provider: openai, model: gpt-4o-mini}
    - {provider: anthropic, model: claude-haiku-4-5, weight: 1}
cache:       {enabled: true, max_size_mb: 512, default_ttl: 3600, warm_on_startup: true, warm_items: 1000,
              eviction_policy: "lru", enable_coalescing: true, coalescing_window_ms: 100}
coordinators:
  max_concurrent: 10
  queue_size: 100
  timeout_seconds: 30
  history_limit: 1000  # Reduce from 10000
  retry:
    max_attempts: 3
    backoff_ms: 1000
    exponential_backoff: true
  named:
    ChatCoordinator: {default_model: gpt-4o-mini}
    Nightly:
server: {listen: 127.0.0.1:8000, expose_metrics: true}
ops: {listen: "[::1]:9090"}
admin: {socket: /run/victor/admin.sock}
metrics:
  sample_rate: 0.1  # Sample 10% of executions
logging:     {level: info, format: json, file: /var/log/victor/coordinators.log}
python:
  gc_threshold: (700, 10, 10)  # More aggressive GC
"#,
    );
    assert_eq!(
        config.providers["anthropic"].timeout,
        Duration::from_secs(60)
    );
    assert_eq!(config.models["gpt-4o-mini"].targets.len(), 2);
    assert_eq!(config.coordinators.len(), 3);
    assert_eq!(config.coordinators["Nightly"].history_limit, 1000);
    let unbuilt = config.warnings.last().unwrap();
    let key = "coordinators.history_limit";
    assert!(unbuilt.contains(key), "{key} in {unbuilt}");
    for key in [
        "rate_limit",
        "batch_size",
        "breaker",
        "models",
        "retry",
        "admin.socket",
    ] {
        assert!(!unbuilt.contains(key), "{key} in {unbuilt}");
    }
    assert!(
        config
            .warnings
            .iter()
            .any(|w| w.contains("no such collector"))
    );
}

#[test]
fn nothing_written_gives_the_defaults() {
    for text in [
        "",
        "\u{feff}# nothing\n",
        "---\n",
        "server:\ncache: {}\nproviders: ~\n",
    ] {
        let config = load(text);
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.cache.max_size_bytes, 256 << 20);
        assert_eq!(
            config.database.path.to_str(),
            Some("/var/lib/victor/victor.db")
        );
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(config.database.responses_ttl, month);
        assert_eq!(config.database.responses_max_bytes, 256 << 20);
        assert!(config.providers.is_empty() && config.auth.keys.is_empty());
        assert_eq!(config.coordinators.len(), 2);
    }
}

#[test]
fn a_demonstration_needs_nothing() {
    let config = check_text("defaults", "", &no_env, true).unwrap();
    assert_eq!(config.providers["simulator"].kind, Kind::Simulator);
    assert_eq!(config.providers["simulator"].models, ["sim"]);
    assert_eq!(config.state_dir.to_str(), Some(".victor"));
    assert_eq!(config.admin.socket.to_str(), Some(".victor/admin.sock"));
    assert_eq!(config.logging.file, None);
    let chat = &config.coordinators["ChatCoordinator"];
    assert_eq!(chat.default_model.as_deref(), Some("sim"));
    assert!(
        config.demo && config.warnings.is_empty(),
        "{:?}",
        config.warnings
    );

    let text = "providers: {mine: {kind: simulator}}\nstate_dir: /srv/v\nlogging: {file: /l}\n\
                coordinators: {named: {ChatCoordinator: {default_model: sim+latency-200}}}\n";
    let config = check_text("f", text, &no_env, true).unwrap();
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.state_dir.to_str(), Some("/srv/v"));
    assert!(config.logging.file.is_some());
}

#[test]
fn every_preset_works_by_its_name() {
    let text: String = PRESETS
        .iter()
        .map(|preset| match preset.name {
            "azure" => "  azure: {base_url: 'https://r.openai.azure.com/openai/v1'}\n".to_owned(),
            name => format!("  {name}:\n"),
        })
        .collect();
    let env = |name: &str| (name == "GROQ_API_KEY").then(|| "gsk".to_owned());
    let config = check_text("f", &format!("providers:\n{text}"), &env, false).unwrap();
    assert_eq!(config.providers.len(), PRESETS.len());
    assert_eq!(config.providers["azure"].key_header, KeyHeader::ApiKey);
    assert_eq!(config.providers["anthropic"].key_header, KeyHeader::XApiKey);
    let groq = config.providers["groq"].first_key();
    assert_eq!(groq.map(|key| key.expose()), Some("gsk"));
    // Every vendor but groq, whose key is there, and those that need none.
    assert_eq!(config.warnings.len(), PRESETS.len() - 4);
}

#[test]
fn a_listener_that_others_reach_needs_keys_or_a_word() {
    let key = "0123456789abcdef-x";
    check(
        "server: {listen: '0.0.0.0:8000'}",
        "f:1:10: server.listen: ",
    );
    check(
        "server: {listen: '[::]:8000'}\nauth: {keys: []}",
        "f:1:10: server.listen: ",
    );
    load(&format!(
        "server: {{listen: '0.0.0.0:8000'}}\nauth: {{keys: [{key}]}}"
    ));
    check("ops: {listen: '10.0.0.1:9090'}", "f:1:7: ops.listen: ");
    load("ops: {listen: '10.0.0.1:9090', allow_remote: true}");
    check("ops: {listen: '127.0.0.1:8000'}", "f:1:7: ops.listen: ");
    check(
        "server: {listen: 'localhost:9090'}",
        "f:1:10: server.listen: ",
    );
    load("server: {listen: '127.0.0.1:0'}\nops: {listen: '127.0.0.1:0'}");
    check(
        "server: {listen: 8000}",
        "f:1:10: server.listen: `8000` is not an address",
    );
    check(
        "server: {listen: ':8000'}",
        "f:1:10: server.listen: `:8000` has no address",
    );
}

#[test]
fn broken_keys_are_refused_and_never_shown() {
    for (keys, part) in [
        ("['']", "empty"),
        ("[~]", "empty"),
        ("['hunter2 hunter2 hunter2']", "white space"),
        (
            "[hunter2-0123456789, hunter2-0123456789]",
            "same key as item 1",
        ),
        ("[[hunter2-0123456789]]", "holds a list"),
        ("hunter2-0123456789", "holds a single value"),
        ("['${hunter2-0123456789}']", "does not hold the name"),
        ("['file:/no/such/file']", "cannot be read"),
        ("['credential:none']", "CREDENTIALS_DIRECTORY"),
    ] {
        let found = faults(&format!("auth: {{keys: {keys}}}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(part), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn weak_keys_are_warned_about_and_never_shown() {
    for (key, part) in [
        ("hunter2", "short"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
    ] {
        let text = format!("auth: {{keys: [{key}]}}");
        let config = check_text("f", &text, &|_| None, false).expect("holds");
        assert_eq!(config.auth.keys.len(), 1);
        let warning = config.warnings.iter().find(|it| it.contains("auth.keys"));
        let warning = warning.expect("a warning");
        assert!(
            warning.contains(part) && !warning.contains(key),
            "{warning}"
        );
    }
}

#[test]
fn single_faults_say_what_is_wrong() {
    check(
        "providers: {antropic: {}}",
        "f:1:13: providers.antropic: has no `kind`",
    );
    check(
        "database: {responses_ttl: -1}",
        "f:1:12: database.responses_ttl: `-1` is out of range",
    );
    check(
        "database: {responses_max_mb: 1GB}",
        "f:1:12: database.responses_max_mb: `1GB` carries a unit",
    );
    check(
        "providers: {x: {kind: openai}}",
        "f:1:13: providers.x: has no `base_url`",
    );
    check(
        "providers: {openai: {adaptive: 1}}",
        "f:1:22: providers.openai.adaptive: ",
    );
    check(
        "providers: {azure: {}}",
        "f:1:13: providers.azure: has no `base_url`",
    );
    check(
        "providers: {'a/b': {kind: simulator}}",
        "f:1:13: providers.a/b: ",
    );
    check(
        "providers: {simulator: {base_url: 'http://x/'}}",
        "f:1:25: ",
    );
    check(
        "providers: {simulator: {kind: openai, base_url: 'http://x/y'}}",
        "f:1:13: ",
    );
    check(
        "providers: {openai: {proxy: 'socks5://u:p@h:1'}}",
        "f:1:22: ",
    );
    check("providers: {openai: {ca_file: /no/such/file}}", "f:1:22: ");
    check("providers: {openai: {rate_limit: {burst: 1}}}", "f:1:22: ");
    check(
        "providers: {openai: {models: ['']}}",
        "f:1:31: providers.openai.models[0]: ",
    );
    check(
        "providers: {openai: {models: [a, a]}}",
        "f:1:34: providers.openai.models[1]: ",
    );
    check(
        "models: {'': [{provider: ollama, model: y}]}\nproviders: {ollama: }",
        "f:1:10: ",
    );
    check("'': 1", "f:1:1: ");
    check("server: {}\nproviders: {x", "f:2:12: providers");
    check(
        "models: {m: [{model: y}]}",
        "f:1:14: models.m[0]: has no `provider`",
    );
    check("cache: &a {}\n", "f:1:");
    check(
        "cache: {default_ttl: .nan}",
        "f:1:9: cache.default_ttl: `.nan` is not a number",
    );
    check("<<: {a: 1}", "f:1:1: <<: merge keys");
    check("- a", "f:1:1: holds a list");
    check("state_dir: ''", "f:1:1: state_dir: is blank");
    check("cache: {}\n---\nb: 1\n", "f:2:1: a second document");
    let long = "x".repeat(80);
    check(
        &format!("coordinators: {{named: {{{long}: {{}}}}}}"),
        "f:1:24: ",
    );
    let admin = format!("admin: {{socket: /{long}{long}}}");
    check(&admin, "f:1:9: admin.socket: is longer");
}

#[test]
fn warnings_are_given_for_what_holds_but_surprises() {
    check_warning(
        "providers: {x: {kind: openai, base_url: 'http://h'}}",
        "has no path",
    );
    let text = "providers: {x: {kind: anthropic, base_url: 'http://h/v1'}}";
    check_warning(text, "/v1/v1/messages");
    let text = "providers: {ollama: {timeout: 60}}\ncoordinators: {timeout_seconds: 60}";
    check_warning(
        text,
        "providers.ollama.timeout (60 s) is not below timeout_seconds of Chat",
    );
    check_warning("python: {gc_threshold: [700, 10, 10]}", "no such collector");
    check_warning(
        "coordinators: {history_limit: 1}",
        "without effect so far: coordinators.history_limit",
    );
}

#[test]
fn the_environment_fills_in_any_value() {
    let env = |name: &str| match name {
        "SECONDS" => Some("7".to_owned()),
        "HOST" => Some("example.com".to_owned()),
        "BAD" => Some("not-to-be-shown".to_owned()),
        _ => None,
    };
    let text = "providers: {openai: {base_url: 'https://${HOST}/v1', timeout: \"${SECONDS}\"}}";
    let config = check_text("f", text, &env, false).unwrap();
    let openai = &config.providers["openai"];
    assert_eq!(openai.base_url, "https://example.com/v1");
    assert_eq!(openai.timeout, Duration::from_secs(7));
    let text = "server:\n  idle_timeout: ${BAD}\n";
    let found = check_text("f", text, &env, false).unwrap_err();
    assert_eq!((found.len(), found[0].line, found[0].column), (1, 2, 3));
    assert!(found[0].message.contains("`${BAD}`"), "{}", found[0]);
    assert!(!found[0].to_string().contains("not-to-be-shown"));
}

#[test]
fn a_syntax_error_does_not_hide_the_other_faults() {
    let text = "server:\n  listen: 'unclosed\nproviders:\n  openai:\n    timeout: 0\ncache: {\n\
                models:\n  m:\n    - {provider: openia, model: x}\n";
    let found = faults(text);
    assert_eq!(found.len(), 4, "{found:#?}");
    for (line, fault) in [2, 5, 6, 9].iter().zip(&found) {
        let near = [*line, line + 1].map(|line| format!("f:{line}:"));
        assert!(
            near.iter().any(|start| fault.starts_with(start)),
            "{found:#?}"
        );
    }
    // With the providers unreadable, nobody can say that a route leads nowhere.
    let found = faults("providers: {\nmodels:\n  m:\n    - {provider: x, model: y}\n");
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn size_and_number_of_faults_are_bounded() {
    let found = faults(&"#".repeat(tree::TEXT_BYTES_MAX + 1));
    assert_eq!(found.len(), 1);
    let many: String = (0..5000).map(|index| format!("key{index}: 1\n")).collect();
    let found = faults(&many);
    assert_eq!(found.len(), 1000);
    assert!(found[999].contains("4000 faults more"), "{}", found[999]);
}
