//! Who may call: keys, and the rule that a listener beyond loopback has some.

use serde_json::json;

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, message, refused};
use crate::common::http::{Answer, post_with};
use crate::common::machine;
use crate::common::simulator::Simulator;

const KEY: &str = "vk-0123456789abcdef";

#[test]
fn a_call_needs_a_key_once_there_are_keys() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config =
        Config::behind(simulator.addr).set("auth.keys", json!(["vk-another-key-fedcba98", KEY]));
    let daemon = Daemon::with(&config);
    let openai = |headers: &str| {
        let body = chat("simo/sim").to_string();
        post_with(daemon.api, "/v1/chat/completions", headers, body.as_bytes())
    };
    let anthropic = |headers: &str| {
        let body = message("sima/sim").to_string();
        post_with(daemon.api, "/v1/messages", headers, body.as_bytes())
    };
    let calls: [&dyn Fn(&str) -> Answer; 2] = [&openai, &anthropic];
    for call in calls {
        for good in [
            format!("authorization: Bearer {KEY}\r\n"),
            format!("Authorization: bearer {KEY}\r\n"),
            format!("x-api-key: {KEY}\r\n"),
            "x-api-key: vk-another-key-fedcba98\r\n".to_owned(),
        ] {
            let answer = call(&good);
            assert_eq!(answer.status, 200, "{good}: {}", answer.text());
        }
        for bad in [
            String::new(),
            "authorization: Bearer \r\n".to_owned(),
            "x-api-key: \r\n".to_owned(),
            "authorization: Bearer wrong\r\n".to_owned(),
            format!("authorization: Basic {KEY}\r\n"),
            format!("authorization: {KEY}\r\n"),
            format!("x-api-key: {}\r\n", &KEY[..KEY.len() - 1]),
            format!("x-api-key: {KEY}x\r\n"),
            format!("x-api-key: {}\r\n", KEY.to_uppercase()),
        ] {
            let answer = call(&bad);
            assert_eq!(answer.status, 401, "{bad:?}: {}", answer.text());
            assert!(!answer.text().contains("0123456789"), "{}", answer.text());
        }
    }
    let wrong = openai("authorization: Bearer wrong\r\n").json();
    assert_eq!(wrong["error"]["code"], "invalid_api_key");
    assert_eq!(
        anthropic("").json()["error"]["type"],
        "authentication_error"
    );
    assert_eq!(daemon.get("/v1/models").status, 401);
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/health/detailed",
    ] {
        assert_eq!(daemon.get(path).status, 200, "{path} needs no key");
    }
    let seen = simulator.calls();
    assert_eq!(seen.len(), 8);
    assert!(
        !format!("{seen:?}").contains("vk-"),
        "a caller's key went upstream"
    );
    let log = std::fs::read_to_string(daemon.log_path()).unwrap_or_default();
    assert!(
        !log.contains("vk-") && !log.contains("upstream-"),
        "a key is in the log"
    );
}

#[test]
fn a_listener_beyond_loopback_without_keys_does_not_start() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let open = Config::behind(simulator.addr).set("server.listen", "0.0.0.0:0");
    let output = refused(&open.yaml(&std::env::temp_dir()));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("auth.keys"), "{stderr}");
    let remote_ops = Config::behind(simulator.addr).set("ops.listen", "0.0.0.0:0");
    let output = refused(&remote_ops.yaml(&std::env::temp_dir()));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("allow_remote"), "{stderr}");
}
