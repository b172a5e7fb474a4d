//! A caller of one dialect and a provider of the other: what the wire shows of it. The SDKs' own
//! view is in `sdk`.

use serde_json::{Value, json};

use crate::common::config::Config;
use crate::common::daemon::{Daemon, chat, chat_stream, message, message_stream};
use crate::common::http;
use crate::common::machine;
use crate::common::simulator::Simulator;

/// What the provider received last, as JSON.
fn last_call(simulator: &Simulator) -> (String, Value) {
    let calls = simulator.calls();
    let call = calls.last().expect("a call");
    (
        call.path.clone(),
        serde_json::from_str(&call.body).expect("JSON"),
    )
}

/// The data of every event of a stream that is JSON.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.split("\n\n").filter_map(|event| {
        let line = event.lines().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(line?).ok()
    });
    data.collect()
}

fn with(mut body: Value, members: Value) -> Value {
    for (key, value) in members.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_call_crosses_both_ways_and_says_who_answered() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);

    let answer = daemon.post("/v1/chat/completions", &chat("sima/sim+strict"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-victor-provider"), Some("sima"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-victor-dropped").is_none());
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["usage"]["prompt_tokens"].as_u64() > Some(0));
    let (path, told) = last_call(&simulator);
    assert_eq!(path, "/v1/messages");
    assert_eq!(told["model"], "sim+strict");
    assert_eq!(told["max_tokens"], 8192);

    let answer = daemon.post("/v1/messages", &message("simo/sim+strict"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (&body["type"], &body["stop_reason"]),
        (&json!("message"), &json!("end_turn"))
    );
    let (path, told) = last_call(&simulator);
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(told["max_completion_tokens"], 64);
}

/// Anthropic's version has to be told, whoever calls, and the other vendor's headers are not.
#[test]
fn a_provider_gets_the_headers_of_its_own_dialect() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let body = chat("sima/sim").to_string();
    let headers = "openai-organization: acme\r\nanthropic-beta: x\r\n";
    let answer = http::post_with(daemon.api, "/v1/chat/completions", headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let calls = simulator.calls();
    let call = calls.last().expect("a call");
    assert_eq!(call.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(call.header("anthropic-beta"), Some("x"));
    assert_eq!(call.header("openai-organization"), None);
}

#[test]
fn what_is_dropped_is_named_and_strict_refuses_it() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config =
        Config::behind(simulator.addr).set("coordinators.named.Exact", json!({"strict": true}));
    let daemon = Daemon::with(&config);
    let body = with(
        chat("sima/sim+strict"),
        json!({"seed": 7, "logit_bias": {"5": 1}, "temperature": 1.5, "made_up": 1}),
    );
    for (stream, status) in [(false, 200), (true, 200)] {
        let body = with(body.clone(), json!({"stream": stream}));
        let answer = daemon.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, status, "{}", answer.text());
        let dropped = answer.header("x-victor-dropped").expect("names");
        for name in ["seed", "logit_bias", "temperature", "made_up"] {
            assert!(
                dropped.split(", ").any(|it| it == name),
                "{name}: {dropped}"
            );
        }
    }
    let before = simulator.calls().len();
    let answer = http::post_with(
        daemon.api,
        "/v1/chat/completions",
        "x-victor-coordinator: Exact\r\n",
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.json();
    assert_eq!(error["error"]["code"], "not_translatable");
    let message = error["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("seed") && message.contains("made_up"),
        "{message}"
    );
    assert_eq!(simulator.calls().len(), before, "nothing was sent");
}

/// A piece of the question itself is never left out.
#[test]
fn a_question_that_cannot_be_said_is_refused_at_its_place() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let audio = json!([{"role": "user", "content": [
        {"type": "text", "text": "What is said here?"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]}]);
    let answer = daemon.post(
        "/v1/chat/completions",
        &with(chat("sima/sim"), json!({"messages": audio})),
    );
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.json();
    assert_eq!(error["error"]["param"], "messages[0].content[1]");
    assert!(simulator.calls().is_empty());
}

#[test]
fn a_count_of_tokens_is_estimated_where_it_cannot_be_had() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let answer = daemon.post("/v1/messages/count_tokens", &message("simo/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-victor-estimated"), Some("input_tokens"));
    assert_eq!(answer.json(), json!({"input_tokens": 7}));
    assert!(simulator.calls().is_empty());
    let answer = daemon.post("/v1/messages/count_tokens", &message("sima/sim"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-victor-estimated").is_none());
}

#[test]
fn a_providers_refusal_is_told_in_the_callers_words() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for (status, told, openai, anthropic) in [
        (400, 400, "invalid_request_error", "invalid_request_error"),
        (404, 404, "invalid_request_error", "not_found_error"),
        (429, 429, "rate_limit_error", "rate_limit_error"),
        (500, 500, "server_error", "api_error"),
        (529, 503, "service_unavailable_error", "overloaded_error"),
    ] {
        for stream in [false, true] {
            let more = json!({"stream": stream});
            let body = with(
                chat(&format!("sima/sim+status-{status}+retry-after-3")),
                more.clone(),
            );
            let answer = daemon.post("/v1/chat/completions", &body);
            let error = answer.json();
            assert_eq!(answer.status, told, "{error}");
            assert_eq!(error["error"]["type"], openai, "{error}");
            assert_eq!(answer.header("retry-after"), Some("3"), "{status}");
            let body = with(message(&format!("simo/sim+status-{status}")), more);
            let answer = daemon.post("/v1/messages", &body);
            let error = answer.json();
            assert_eq!(answer.status, status, "{error}");
            assert_eq!(error["error"]["type"], anthropic, "{error}");
            assert!(error["request_id"].is_string());
        }
    }
    let answer = daemon.post("/v1/chat/completions", &chat("sima/sim+context-length"));
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
}

/// The names of a stream's events, and whether any of them says that it is complete.
fn ending(stream: &str) -> (String, bool) {
    let complete = stream.contains("[DONE]")
        || stream.contains("\"message_stop\"")
        || stream.contains("\"response.completed\"")
        || stream.contains("\"finish_reason\":\"stop\"");
    (stream.to_owned(), complete)
}

#[test]
fn a_stream_that_breaks_is_never_shown_as_complete_in_any_dialect() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::with(&Config::behind(simulator.addr).providers("idle_timeout", 1));
    let responses = |model: &str| json!({"model": model, "input": "Hello", "stream": true});
    for fault in ["cut-5", "stall-5"] {
        let model = |provider: &str| format!("{provider}/sim+pace-1x20+{fault}");
        for (path, body, error) in [
            (
                "/v1/chat/completions",
                chat_stream(&model("sima")),
                "data: {\"error\":",
            ),
            (
                "/v1/messages",
                message_stream(&model("simo")),
                "event: error",
            ),
            ("/v1/responses", responses(&model("simo")), "event: error"),
            ("/v1/responses", responses(&model("sima")), "event: error"),
        ] {
            let answer = daemon.post(path, &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let (text, complete) = ending(&answer.text());
            assert!(!complete, "{path} {fault}: {text}");
            assert!(text.contains(error), "{path} {fault}: {text}");
        }
    }
}

/// Where nothing but the marker is missing, or an event cannot be read, the rest is an answer.
#[test]
fn a_stream_that_only_lacks_its_marker_or_has_an_odd_event_is_complete() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let responses = |model: &str| json!({"model": model, "input": "Hello", "stream": true});
    for fault in ["no-end", "malformed-6"] {
        let model = |provider: &str| format!("{provider}/sim+pace-1x20+{fault}");
        for (path, body) in [
            ("/v1/chat/completions", chat_stream(&model("simo"))),
            ("/v1/chat/completions", chat_stream(&model("sima"))),
            ("/v1/messages", message_stream(&model("sima"))),
            ("/v1/messages", message_stream(&model("simo"))),
            ("/v1/responses", responses(&model("simo"))),
        ] {
            let text = daemon.post(path, &body).text();
            let (_, complete) = ending(&text);
            assert!(
                complete && !text.contains("error\":{"),
                "{path} {fault}: {text}"
            );
        }
    }
}

/// Choices may come one after the other: without the marker only their number says that all came,
/// and a list of prompts does not tell it.
#[test]
fn without_its_marker_a_stream_is_complete_if_all_choices_came() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let model = "simo/sim+pace-1x20+no-end";
    let mut chat = chat_stream(model);
    chat["n"] = json!(2);
    let prompts = json!({"model": model, "prompt": ["a", "b"], "stream": true});
    for (path, body, expected) in [
        ("/v1/chat/completions", chat, true),
        ("/v1/completions", prompts, false),
    ] {
        let text = daemon.post(path, &body).text();
        let complete = text.contains("data: [DONE]");
        assert_eq!(complete, expected, "{path}: {text}");
        assert_ne!(complete, text.contains("provider_cut"), "{path}: {text}");
    }
}

#[test]
fn deltas_come_as_they_are_made() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    for (path, body, delta) in [
        (
            "/v1/chat/completions",
            chat_stream("sima/sim+pace-1x12"),
            "\"content\":\"",
        ),
        (
            "/v1/messages",
            message_stream("simo/sim+pace-1x12"),
            "\"text_delta\"",
        ),
    ] {
        let answer = daemon.post(path, &body);
        let events = events(&answer.text());
        let deltas = events
            .iter()
            .filter(|event| event.to_string().contains(delta))
            .count();
        // The first chunk of OpenAI's dialect has an empty text.
        assert!((12..=13).contains(&deltas), "{path}: {}", answer.text());
    }
}

/// `previous_response_id` over a provider that keeps nothing.
#[test]
fn a_conversation_of_responses_goes_on_over_any_provider() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let keys = ["vk-one-0123456789abcdef", "vk-two-0123456789abcdef"];
    let config = Config::behind(simulator.addr).set("auth.keys", json!(keys));
    let daemon = Daemon::with(&config);
    let ask = |key: &str, method: &str, path: &str, body: &Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut client = http::Connection::open(daemon.api);
        client.send(text.as_bytes());
        client.answer()
    };
    for provider in ["simo", "sima"] {
        let model = format!("{provider}/sim+strict");
        let first =
            json!({"model": model, "input": "My name is Ada.", "instructions": "Be brief."});
        let answer = ask(keys[0], "POST", "/v1/responses", &first);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.json()["id"].as_str().expect("an id").to_owned();

        let second = json!({"model": model, "input": "What is it?", "previous_response_id": id, "stream": true});
        let answer = ask(keys[0], "POST", "/v1/responses", &second);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let (_, told) = last_call(&simulator);
        let told = told["messages"].to_string();
        assert!(
            told.contains("My name is Ada.") && told.contains("What is it?"),
            "{told}"
        );
        assert!(
            !told.contains("Be brief."),
            "instructions do not carry over: {told}"
        );
        let events = events(&answer.text());
        let last = events.last().expect("events");
        assert_eq!(last["type"], "response.completed");
        let second_id = last["response"]["id"].as_str().expect("an id");

        // The streamed one was kept as well, and is what was streamed.
        let path = format!("/v1/responses/{second_id}");
        let kept = ask(keys[0], "GET", &path, &Value::Null);
        assert_eq!(kept.status, 200, "{}", kept.text());
        assert_eq!(kept.json(), last["response"]);

        // Another caller's key opens none of it.
        assert_eq!(ask(keys[1], "GET", &path, &Value::Null).status, 404);
        let answer = ask(keys[1], "POST", "/v1/responses", &second);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(
            answer.json()["error"]["code"],
            "previous_response_not_found"
        );

        assert_eq!(ask(keys[0], "DELETE", &path, &Value::Null).status, 200);
        assert_eq!(ask(keys[0], "GET", &path, &Value::Null).status, 404);

        let secret = json!({"model": model, "input": "Forget it.", "store": false});
        let answer = ask(keys[0], "POST", "/v1/responses", &secret);
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        assert_eq!(answer.json()["store"], false);
        let path = format!("/v1/responses/{id}");
        assert_eq!(ask(keys[0], "GET", &path, &Value::Null).status, 404);
    }
}

/// A provider that has the route itself is asked at it, and told everything as it came.
#[test]
fn responses_pass_through_to_a_provider_that_has_them() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let config = Config::behind(simulator.addr).set("providers.simo.responses", true);
    let daemon = Daemon::with(&config);
    let body = json!({
        "model": "simo/sim", "input": "Hello", "previous_response_id": "resp_theirs",
        "made_up": [1.50], "stream": false,
    });
    let answer = daemon.post("/v1/responses", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (path, told) = last_call(&simulator);
    assert_eq!(path, "/v1/responses");
    assert_eq!(told["previous_response_id"], "resp_theirs");
    assert_eq!(told["made_up"], json!([1.5]));
    let stream = with(body, json!({"stream": true, "model": "simo/sim+pace-1x4"}));
    let answer = daemon.post("/v1/responses", &stream);
    assert!(
        answer.text().contains("response.completed"),
        "{}",
        answer.text()
    );
    let cut = with(stream, json!({"model": "simo/sim+pace-1x9+cut-3"}));
    let answer = daemon.post("/v1/responses", &cut);
    let (text, complete) = ending(&answer.text());
    assert!(!complete && text.contains("event: error"), "{text}");
}

/// 30 MB of images cross the dialects unharmed.
#[test]
fn a_body_of_thirty_megabytes_crosses() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let daemon = Daemon::start(&simulator);
    let data = "iVBORw0KGgo".repeat((30 << 20) / 11);
    let content = json!([
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}},
    ]);
    let body = with(
        chat("sima/sim"),
        json!({"messages": [{"role": "user", "content": content}]}),
    );
    let answer = daemon.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["usage"]["prompt_tokens"].as_u64() > Some(1_000_000));
}
