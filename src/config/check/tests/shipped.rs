//! The reference in `config/victor.yml` against the schema, and damaged texts of all kinds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::config::checked::CheckedConfig;
use crate::config::raw::Raw;
use crate::config::{check_text, tree};

const SHIPPED: &str = include_str!("../../../../config/victor.yml");

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> CheckedConfig {
    check_text("victor.yml", text, &no_env, false).unwrap()
}

/// The shipped file with every switched-off setting switched on.
fn shipped_uncommented() -> String {
    let lines = SHIPPED.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        match line[indent..].strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                format!("{}{rest}\n", &line[..indent])
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[test]
fn the_shipped_file_holds_with_an_empty_environment() {
    let config = load(SHIPPED);
    assert_eq!(config.providers.len(), 2);
    assert_eq!(config.warnings.len(), 2, "{:#?}", config.warnings);
    for (warning, name) in config.warnings.iter().zip(["anthropic", "openai"]) {
        assert!(warning.contains(&format!("calls to {name} will be refused")));
    }
}

#[test]
fn what_the_shipped_file_shows_as_defaults_are_the_defaults() {
    let written = shipped_uncommented();
    let mut shown = format!(
        "{:#?}",
        load(&written.replace("    ca_file", "    #ca_file"))
    );
    let mut config = load(SHIPPED);
    // The examples, which the file marks as such.
    let full = load(&written.replace("    ca_file", "    #ca_file"));
    config.warnings.clone_from(&full.warnings);
    for (name, coordinator) in &mut config.coordinators {
        coordinator.cache_ttl = full.coordinators[name].cache_ttl;
    }
    for (name, provider) in &mut config.providers {
        provider.rate_limit = full.providers[name].rate_limit;
        provider.batching = full.providers[name].batching;
        provider.prices.clone_from(&full.providers[name].prices);
        provider.proxy.clone_from(&full.providers[name].proxy);
    }
    config.cache.redis.clone_from(&full.cache.redis);
    for (name, route) in &mut config.models {
        let full = &full.models[name];
        route.hedge_after = full.hedge_after;
        for (target, full) in route.targets.iter_mut().zip(&full.targets) {
            target.context_tokens = full.context_tokens;
            target.tools = full.tools;
            target.images = full.images;
            target.streaming = full.streaming;
        }
    }
    shown.push('\n');
    assert_eq!(format!("{config:#?}\n"), shown);
}

#[test]
fn the_shipped_file_and_the_schema_name_the_same_keys() {
    let text = shipped_uncommented();
    let mut raw = Raw::new("victor.yml", &no_env);
    crate::config::check::check(&mut raw, tree::parse(&text), false);
    // The path of `ca_file` is only an example.
    let schema: BTreeSet<&str> = raw.written.iter().map(|w| w.schema.as_str()).collect();
    let missing: Vec<_> = raw
        .known
        .iter()
        .filter(|key| !schema.contains(key.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in config/victor.yml: {missing:#?}");
    let found = raw.into_faults();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].key, "providers.anthropic.ca_file");
}

#[test]
fn the_worst_texts_are_read_in_bounded_time() {
    // Long enough for work that grows with the square to show, with room for a slow machine.
    let most = tree::TEXT_BYTES_MAX / 8;
    for part in [
        "a: b: c\n",
        "- ",
        "[",
        "{",
        "&a ",
        "a: *a\n",
        "'",
        "\"\\",
        "? ",
        "- &a *a\n",
        "a:\n ",
        "${",
        "a: {\n",
        "1,",
        "\t",
        ": ",
        "|\n",
        "%A\n",
        "!a ",
        "\u{85}",
        "\u{feff}",
    ] {
        for head in [
            "",
            "models: [",
            "providers:\n  x: {",
            "auth: {keys: [",
            "state_dir: \"",
        ] {
            let text = format!("{head}{}", part.repeat((most - head.len()) / part.len()));
            let started = std::time::Instant::now();
            let _ = check_text("f", &text, &no_env, false);
            let took = started.elapsed();
            assert!(took.as_secs() < 10, "{head}{part}: {took:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_accepted_or_refused_but_never_panics(text in any::<String>()) {
        let _ = check_text("f", &text, &no_env, false);
    }

    #[test]
    fn any_mixture_of_yaml_is_accepted_or_refused(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "server", "providers", "openai", "models", "listen", ": ", ":\n", "\n  ", "\n    ",
            "- ", "{", "}", "[", "]", ", ", "'", "\"", "${", "}", "&a ", "*a", "!!str ", "|\n",
            "? ", "---\n", "...\n", "#", "\t", "é", "0", "-1", ".nan", "~", "%TAG", "\\", "\r",
        ]), 0..60)
    ) {
        let text = parts.concat();
        let _ = check_text("f", &text, &no_env, true);
    }

    #[test]
    fn a_damaged_file_is_accepted_or_refused(
        at in 0..SHIPPED.len(), length in 0usize..40, with in "[ -~\n]{0,8}"
    ) {
        let mut bytes = shipped_uncommented().into_bytes();
        let end = (at + length).min(bytes.len());
        bytes.splice(at.min(end)..end, with.bytes());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = check_text("f", &text, &no_env, false);
    }
}
