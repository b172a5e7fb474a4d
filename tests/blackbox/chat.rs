//! Calls end to end in both dialects: what the client gets, what the provider was sent, and the
//! headers that say how it went.

use serde_json::{Value, json};

use crate::common::config::{ANTHROPIC_KEY, Config, OPENAI_KEY};
use crate::common::daemon::{Daemon, chat, chat_stream, message, message_stream};
use crate::common::http::{Answer, post_with};
use crate::common::machine;
use crate::common::simulator::Simulator;
use crate::common::sse::{Stream, has_text, is_end};

/// Checks the headers that every answered call carries.
fn check_headers(answer: &Answer, coordinator: &str, provider: &str, model: &str) {
    let id = answer.header("x-request-id").unwrap_or_default();
    assert!(id.len() >= 8, "{answer:?}");
    assert_eq!(answer.header("x-victor-coordinator"), Some(coordinator));
    assert_eq!(answer.header("x-victor-provider"), Some(provider));
    assert_eq!(answer.header("x-victor-model"), Some(model));
    assert_eq!(answer.header("x-victor-attempts"), Some("1"));
    let cache = answer.header("x-victor-cache").unwrap_or_default();
    assert!(["miss", "bypass"].contains(&cache), "{cache:?}");
}

#[test]
fn a_plain_call_in_each_dialect() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_headers(&answer, "ChatCoordinator", "simo", "sim");
    let json = answer.json();
    assert_eq!(json["object"], "chat.completion");
    assert!(
        json["choices"][0]["message"]["content"].is_string(),
        "{json}"
    );
    assert!(json["usage"]["total_tokens"].as_u64() > Some(0), "{json}");

    let answer = daemon.post("/v1/messages", &message("sima/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_headers(&answer, "ChatCoordinator", "sima", "sim");
    let json = answer.json();
    assert_eq!(json["type"], "message");
    assert!(json["content"][0]["text"].is_string(), "{json}");
    assert!(json["usage"]["output_tokens"].as_u64() > Some(0), "{json}");
}

#[test]
fn a_streamed_call_in_each_dialect() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for (path, body, provider) in [
        (
            "/v1/chat/completions",
            chat_stream("simo/sim+pace-1x12"),
            "simo",
        ),
        ("/v1/messages", message_stream("sima/sim+pace-1x12"), "sima"),
    ] {
        let mut stream = Stream::open(daemon.api, path, &body);
        assert_eq!(stream.head.status, 200);
        check_headers(&stream.head, "ChatCoordinator", provider, "sim+pace-1x12");
        let content_type = stream.head.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("text/event-stream"),
            "{content_type}"
        );
        let events = stream.events().expect("a whole answer");
        assert_eq!(events.iter().filter(|event| has_text(event)).count(), 12);
        assert!(events.last().is_some_and(is_end), "{events:?}");
    }
}

#[test]
fn embeddings_and_counted_tokens() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = json!({"model": "simo/sim", "input": ["one", "two"]});
    let answer = daemon.post("/v1/embeddings", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    check_headers(&answer, "EmbeddingCoordinator", "simo", "sim");
    assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(2));

    let answer = daemon.post("/v1/messages/count_tokens", &message("sima/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["input_tokens"].as_u64() > Some(0));
}

/// Bodies as no library writes them: whitespace, unusual numbers, escapes, repeated and unknown
/// keys. The provider must see each byte but the model's name.
#[test]
fn a_body_passes_byte_for_byte_apart_from_the_model() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let bodies = [
        r#"{"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#,
        "\r\n\t {  \"messages\" : [ {\"content\":\"hi\",\t\"role\":\"user\"} ] ,\n \"model\"\t:\r\n\"MODEL\" , \"max_tokens\":64 } \n\n",
        r#"{"temperature":1.0,"top_p":1e0,"seed":12345678901234567890123,"x":-0.0,"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"messages":[{"role":"user","content":"\u0048\u00e9 \ud83d\ude00 é 😀 \/ \\ \""}],"max_tokens":64,"model":"MODEL"}"#,
        r#"{"model":"MODEL","max_tokens":64,"messages":[{"role":"user","content":"a"}],"unknown":{"model":"other","stream":true,"z":[1,2,{"model":"deep"}]},"metadata":{"model":"x"}}"#,
        r#"{"note":"\"model\":\"decoy\"","max_tokens":64,"messages":[{"role":"user","content":"{\"model\":\"decoy\"}"}],"model":"MODEL","stream":false}"#,
    ];
    for (path, name) in [("/v1/chat/completions", "simo"), ("/v1/messages", "sima")] {
        for body in bodies {
            simulator.reset();
            let sent = body.replace("MODEL", &format!("{name}/sim"));
            let answer = post_with(daemon.api, path, "", sent.as_bytes());
            assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
            let received = simulator.calls();
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].path, path);
            assert_eq!(received[0].body, body.replace("MODEL", "sim"), "{path}");
        }
    }
}

/// The answer passes too: byte for byte what the simulator gives to one who asks it directly.
#[test]
fn an_answer_passes_byte_for_byte() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for (path, provider, body) in [
        ("/v1/chat/completions", "simo", chat("sim+tools")),
        ("/v1/messages", "sima", message("sim")),
        ("/v1/chat/completions", "simo", chat_stream("sim+pace-0x9")),
        ("/v1/messages", "sima", message_stream("sim+pace-0x9")),
    ] {
        let direct = normal(&simulator_answer(&simulator, path, &body));
        let mut through = body.clone();
        through["model"] =
            format!("{provider}/{}", body["model"].as_str().unwrap_or_default()).into();
        let answer = daemon.post(path, &through);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(normal(&answer.text()), direct, "{path}");
    }
}

fn simulator_answer(simulator: &Simulator, path: &str, body: &Value) -> String {
    let answer = post_with(simulator.addr, path, "", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// Blanks out what differs from one answer of the simulator to the next: its ids and times.
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut digits = 0;
    for letter in text.chars() {
        digits = if letter.is_ascii_hexdigit() {
            digits + 1
        } else {
            0
        };
        if digits >= 8 {
            out.truncate(out.len() - usize::from(digits == 8) * 7);
            if digits == 8 {
                out.push('#');
            }
        } else {
            out.push(letter);
        }
    }
    out
}

#[test]
fn the_provider_gets_its_own_key_and_none_of_the_callers_secrets() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let headers = "authorization: Bearer sk-caller-secret-aaa1\r\nx-api-key: sk-caller-secret-aaa2\r\n\
        cookie: session=sk-caller-secret-aaa3\r\nproxy-authorization: Basic sk-caller-secret-aaa4\r\n\
        anthropic-version: 2023-06-01\r\nanthropic-beta: tools-2024-04-04\r\n\
        openai-organization: org-1\r\nopenai-project: proj-1\r\nidempotency-key: idem-1\r\n\
        x-forwarded-for: 10.1.2.3\r\naccept-encoding: gzip, br\r\nuser-agent: caller/1\r\n";
    for (path, body, key) in [
        ("/v1/chat/completions", chat("simo/sim"), OPENAI_KEY),
        ("/v1/messages", message("sima/sim"), ANTHROPIC_KEY),
    ] {
        simulator.reset();
        let answer = post_with(daemon.api, path, headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let calls = simulator.calls();
        let call = calls.first().expect("the call came");
        let header = |name: &str| call.header(name);
        let all = format!("{:?}", call.headers);
        // The simulator's log shows the last four letters of a secret.
        assert!(!all.contains("caller") && !all.contains("aaa"), "{all}");
        assert!(!all.contains("10.1.2.3"), "{all}");
        let tail = format!("***{}", &key[key.len() - 4..]);
        let (own, other) = match path {
            "/v1/messages" => ("x-api-key", "authorization"),
            _ => ("authorization", "x-api-key"),
        };
        assert_eq!(header(own), Some(tail.as_str()), "{all}");
        assert_eq!(header(other), None, "{all}");
        assert!(
            header("user-agent").is_some_and(|agent| agent.starts_with("victor")),
            "{all}"
        );
        assert_eq!(header("idempotency-key"), Some("idem-1"));
        assert_ne!(header("accept-encoding"), Some("gzip, br"));
        match path {
            "/v1/messages" => {
                assert_eq!(header("anthropic-version"), Some("2023-06-01"));
                assert_eq!(header("anthropic-beta"), Some("tools-2024-04-04"));
            }
            _ => {
                assert_eq!(header("openai-organization"), Some("org-1"));
                assert_eq!(header("openai-project"), Some("proj-1"));
            }
        }
        assert!(!answer.text().contains(key) && !format!("{:?}", answer.headers).contains(key));
    }
}

#[test]
fn a_sane_request_id_is_kept_and_another_is_replaced() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let call = |id: &str| {
        let header = format!("x-request-id: {id}\r\n");
        let body = chat("simo/sim").to_string();
        let answer = post_with(daemon.api, "/v1/chat/completions", &header, body.as_bytes());
        answer.header("x-request-id").unwrap_or_default().to_owned()
    };
    assert_eq!(call("my-call_1.2:3"), "my-call_1.2:3");
    let long = "x".repeat(4096);
    for bad in ["a b", "a\"b", "<script>", long.as_str(), "\u{e9}", "a{b}"] {
        let given = call(bad);
        assert!(given != bad && given.len() >= 8, "{bad:?} gave {given:?}");
    }
}

#[test]
fn the_models_that_a_client_may_ask_for() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("providers.simo.models", json!(["sim", "sim+latency-5"]))
        .set(
            "models.alias",
            json!([{"provider": "sima", "model": "sim+pace-1x3"}]),
        )
        .set(
            "coordinators.named.ChatCoordinator.default_model",
            "simo/sim",
        )
        .set("coordinators.named.Batch.default_model", "alias");
    let daemon = Daemon::with(&config);
    let list = daemon.get("/v1/models").json();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    for id in ["sim", "sim+latency-5", "alias"] {
        assert!(ids.contains(&id), "{id} is not among {ids:?}");
    }
    assert_eq!(daemon.get("/v1/models/alias").json()["id"], "alias");
    assert_eq!(daemon.get("/v1/models/none").status, 404);
    for (model, provider, upstream) in [
        ("simo/sim+latency-1", "simo", "sim+latency-1"),
        ("sim", "simo", "sim"),
        ("ChatCoordinator", "simo", "sim"),
    ] {
        let answer = daemon.post("/v1/chat/completions", &chat(model));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(
            answer.header("x-victor-provider"),
            Some(provider),
            "{model}"
        );
        assert_eq!(answer.header("x-victor-model"), Some(upstream), "{model}");
    }
    let answer = daemon.post("/v1/messages", &message("alias"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-victor-provider"), Some("sima"));
    let answer = post_with(
        daemon.api,
        "/v1/messages",
        "x-victor-coordinator: Batch\r\n",
        message("Batch").to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-victor-coordinator"), Some("Batch"));
}

#[test]
fn an_unknown_model_or_coordinator_is_named_with_near_matches() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set(
        "models.gpt-4o-mini",
        json!([{"provider": "simo", "model": "sim"}]),
    );
    let daemon = Daemon::with(&config);
    let answer = daemon.post("/v1/chat/completions", &chat("gpt-4o-mni"));
    assert_eq!(answer.status, 404);
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], "model_not_found", "{error}");
    let message_text = error["message"].as_str().unwrap_or_default();
    assert!(message_text.contains("gpt-4o-mini"), "{error}");
    let answer = daemon.post("/v1/messages", &message("gpt-4o-mni"));
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    let body = chat("simo/sim").to_string();
    let unknown = "x-victor-coordinator: Nobody\r\n";
    let answer = post_with(daemon.api, "/v1/chat/completions", unknown, body.as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], "coordinator_not_found", "{error}");
    let message_text = error["message"].as_str().unwrap_or_default();
    assert!(message_text.contains("'Nobody'"), "{error}");
    assert!(message_text.contains("ChatCoordinator"), "{error}");
}

/// The provider's fault is 502 or its own status, never the caller's; the caller's fault passes
/// with the provider's own reason.
#[test]
fn a_providers_error_is_told_in_the_dialect_that_was_spoken() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr)
        .set("coordinators.retry.max_attempts", 1)
        .providers("timeout", 2)
        .providers("first_token_timeout", 2);
    let daemon = Daemon::with(&config);
    for (behaviour, expected) in [
        ("status-500", &[500, 502][..]),
        ("status-503", &[502, 503]),
        ("status-529", &[529, 502, 503]),
        ("status-401", &[502, 401]),
        ("status-429+retry-after-7", &[429]),
        ("context-length", &[400]),
        ("content-filter", &[400]),
        ("reset", &[502]),
        ("silent", &[504]),
    ] {
        for stream in [false, true] {
            let mut openai = chat(&format!("simo/sim+{behaviour}"));
            let mut anthropic = message(&format!("sima/sim+{behaviour}"));
            openai["stream"] = stream.into();
            anthropic["stream"] = stream.into();
            let answer = daemon.post("/v1/chat/completions", &openai);
            assert!(
                expected.contains(&answer.status),
                "{behaviour} {stream}: {} {}",
                answer.status,
                answer.text()
            );
            let json = answer.json();
            let text = json["error"]["message"].as_str().unwrap_or_default();
            assert!(text.len() > 5, "{behaviour}: {json}");
            assert!(!answer.text().contains(OPENAI_KEY), "{json}");
            if behaviour.contains("retry-after") {
                assert_eq!(answer.header("retry-after"), Some("7"));
            }
            let answer = daemon.post("/v1/messages", &anthropic);
            assert!(
                expected.contains(&answer.status),
                "{behaviour} {stream}: {} {}",
                answer.status,
                answer.text()
            );
            let json = answer.json();
            assert_eq!(json["type"], "error", "{behaviour}: {json}");
            assert!(json["error"]["type"].is_string(), "{behaviour}: {json}");
        }
    }
}

/// A stream that the provider cuts ends in an error event, without its success marker.
#[test]
fn a_cut_stream_is_never_shown_as_complete() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).providers("idle_timeout", 1);
    let daemon = Daemon::with(&config);
    for behaviour in ["cut-4", "stall-4"] {
        let model = format!("sim+pace-1x10+{behaviour}");
        for (path, body) in [
            (
                "/v1/chat/completions",
                chat_stream(&format!("simo/{model}")),
            ),
            ("/v1/messages", message_stream(&format!("sima/{model}"))),
        ] {
            let mut stream = Stream::open(daemon.api, path, &body);
            assert_eq!(stream.head.status, 200, "{path} {behaviour}");
            let mut events = Vec::new();
            while let Ok(Some(event)) = stream.next_event() {
                events.push(event);
            }
            assert!(!events.iter().any(is_end), "{path} {behaviour}: {events:?}");
            let last = events.last().map(|event| event.json()).unwrap_or_default();
            assert!(last["error"].is_object(), "{path} {behaviour}: {events:?}");
        }
    }
}

#[test]
fn the_providers_limits_and_request_id_come_back() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let answer = daemon.post("/v1/chat/completions", &chat("simo/sim"));
    let upstream = answer
        .header("x-victor-upstream-request-id")
        .unwrap_or_default();
    assert!(!upstream.is_empty(), "{answer:?}");
    let limits = |answer: &Answer| {
        let has = |(name, _): &(String, String)| name.contains("ratelimit");
        answer.headers.iter().any(has)
    };
    assert!(limits(&answer), "{answer:?}");
    let answer = daemon.post("/v1/messages", &message("sima/sim"));
    assert!(limits(&answer), "{answer:?}");
}
