//! The configuration as an operator meets it: every fault at once, each at its line and column.

use std::process::Command;

use crate::common::config::Folder;
use crate::common::daemon::{Daemon, refused};
use crate::common::machine;

/// A file with twenty different faults. After `#!` stands what the report must say of the line:
/// the key's path, then words that the message holds. The fault is expected where the line's
/// first letter is.
const FAULTS: &str = r#"
servr:                                      #! servr server
  listen: 127.0.0.1:0
server:
  listen: nonsense                          #! server.listen
  max_conections: 10                        #! server.max_conections max_connections
  header_timeout: soon                      #! server.header_timeout
  idle_timeout: -5                          #! server.idle_timeout
  max_body_mb: 0                            #! server.max_body_mb
  max_body_mb: 32                           #! server.max_body_mb
ops:
  listen: 0.0.0.0:0                         #! ops.listen allow_remote
providers:
  openai:
    base_url: api.openai.com/v1             #! providers.openai.base_url
    timeout: 30s                            #! providers.openai.timeout
    max_connections: 0                      #! providers.openai.max_connections
    rate_limit:
      requests_per_second: 10
      burst: 0                              #! providers.openai.rate_limit.burst
  mystery:                                  #! providers.mystery kind
    base_url: http://127.0.0.1:1
  anthropic:
    api_key: ${NOT_SET_ANYWHERE}            #! providers.anthropic.api_key NOT_SET_ANYWHERE
    keepalive: maybe                        #! providers.anthropic.keepalive
cache:
  eviction_policy: random                   #! cache.eviction_policy lru
  max_size_mb: [1, 2]                       #! cache.max_size_mb
coordinators:
  max_concurrent: many                      #! coordinators.max_concurrent
  retry:
    max_attempts: 0                         #! coordinators.retry.max_attempts
metrics:
  sample_rate: 1.5                          #! metrics.sample_rate
logging:
  level: loud                               #! logging.level
"#;

#[test]
fn twenty_different_faults_are_all_named_at_their_line_and_column() {
    let _turn = machine::light();
    let output = refused(FAULTS);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "it said it was ready");
    let mut faults = 0;
    for (number, line) in FAULTS.lines().enumerate() {
        let Some((written, expected)) = line.split_once("#!") else {
            continue;
        };
        faults += 1;
        let key_column = written.len() - written.trim_start().len() + 1;
        let mut words = expected.split_whitespace();
        let path = words.next().expect("a path");
        let place = format!("victor.yml:{}:{key_column}: {path}", number + 1);
        let said = stderr.lines().find(|said| said.contains(&place));
        let said = said.unwrap_or_else(|| panic!("no {place} in\n{stderr}"));
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word}");
        }
    }
    assert!(faults >= 20, "{faults} faults");
    let reported = stderr
        .lines()
        .filter(|line| line.contains("victor.yml:"))
        .count();
    assert_eq!(
        reported, faults,
        "more is reported than is wrong:\n{stderr}"
    );
}

#[test]
fn what_is_no_yaml_is_named_at_its_place() {
    let _turn = machine::light();
    for (text, line) in [
        ("server:\n  listen: [1, 2\nops: {}\n", 0),
        ("server:\n\tlisten: 127.0.0.1:0\n", 2),
        ("- a\n- b\n", 1),
        ("just words\n", 1),
        ("server: &a {listen: 127.0.0.1:0}\nops: *b\n", 2),
    ] {
        let output = refused(text);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {stderr}");
        let place = match line {
            0 => "victor.yml:".to_owned(),
            line => format!("victor.yml:{line}:"),
        };
        assert!(stderr.contains(&place), "{text:?}: {stderr}");
    }
}

#[test]
fn relations_between_keys_are_checked() {
    let _turn = machine::light();
    for (text, needle) in [
        (
            "models:\n  a:\n    - {provider: nobody, model: b}\nproviders: {openai: {}}\n",
            "nobody",
        ),
        (
            "server: {listen: 127.0.0.1:8123}\nops: {listen: 127.0.0.1:8123}\n",
            "8123",
        ),
    ] {
        let output = refused(text);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {stderr}");
        assert!(stderr.contains(needle), "{text:?}: {stderr}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let _turn = machine::light();
    let output = Command::new(env!("CARGO_BIN_EXE_victor"))
        .args(["serve", "--config", "nowhere/victor.yml"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("nowhere/victor.yml"), "{stderr}");
}

#[test]
fn a_secret_is_never_shown() {
    let _turn = machine::light();
    let output = refused(
        "providers:\n  openai:\n    base_url: http://user:hunter2@127.0.0.1/v1\n    \
         api_key: sk-hunter3\n    timeout: x\nauth: {keys: [hunter4, [1]]}\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("hunter"), "{said}");
}

/// The annotated reference is a configuration that is accepted, once its keys are there.
#[test]
fn the_shipped_configuration_is_accepted() {
    let _turn = machine::light();
    let text = std::fs::read_to_string(machine::root().join("config/victor.yml"))
        .expect("config/victor.yml is shipped");
    let text = text
        .replace("127.0.0.1:8000", "127.0.0.1:0")
        .replace("127.0.0.1:9090", "127.0.0.1:0");
    let folder = Folder::new();
    let file = folder.write("victor.yml", &text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_victor"));
    command.args(["serve", "--config"]).arg(file);
    command.current_dir(folder.path());
    // Keys of our own, and folders where this test may write.
    for name in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
        command.env(name, "sk-shipped");
    }
    let daemon = Daemon::run(command, folder);
    assert_eq!(daemon.get("/health/ready").status, 200);
}
