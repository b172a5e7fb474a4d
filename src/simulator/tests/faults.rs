//! Refusals, failures, and answers that are cut, stalled or broken.

use super::*;
use crate::simulator::script::End;

#[test]
fn streams_are_cut_stalled_broken_and_left_open() {
    for (path, opening, closing) in [(CHAT, 1, 2), (MESSAGES, 3, 3)] {
        let check = |model: &str, extra: &str, end: End, count: usize, tokens: u32| {
            let (script, all) = events(path, model, extra);
            assert_eq!(
                (script.end, all.len(), script.steps.tokens()),
                (end, count, tokens),
                "{model}"
            );
            all
        };
        check("sim+cut-40", "", End::Cut, opening + 40, 40);
        check("sim+cut-0", "", End::Cut, opening, 0);
        check("sim+stall-20", "", End::Stall, opening + 20, 20);
        check("sim+cut-5+stall-3", "", End::Stall, opening + 3, 3);
        check("sim+cut-40", r#""max_tokens":4"#, End::Cut, opening + 4, 4);
        let all = check(
            "sim+no-end",
            "",
            End::Complete,
            opening + 16 + closing - 1,
            16,
        );
        assert!(
            !all.iter()
                .any(|data| data == "[DONE]" || data.contains("message_stop"))
        );
        let all = check(
            "sim+malformed-10",
            "",
            End::Complete,
            opening + 18 + closing,
            18,
        );
        for (index, data) in all.iter().enumerate().filter(|(_, data)| *data != "[DONE]") {
            let broken = serde_json::from_str::<Value>(data).is_err();
            assert_eq!(broken, index == 9, "{data}");
        }
    }
    let mut script = planned(CHAT, &chat("sim+cut-3", ""));
    let (_, out) = run(&mut script);
    assert!(
        script.chunked && script.end == End::Cut && serde_json::from_str::<Value>(&out).is_err()
    );
    let mut script = planned(CHAT, &chat("sim+malformed-1", ""));
    let (_, out) = run(&mut script);
    assert!(
        !script.chunked
            && script.end == End::Complete
            && serde_json::from_str::<Value>(&out).is_err()
    );
}

#[test]
fn failures_have_the_vendors_status_and_code() {
    let check = |model: &str, status: u16, code: Option<&str>, kind: &str| {
        let (found, body) = answer(CHAT, &chat(model, r#""stream":true"#));
        assert_eq!(
            (found, body["error"]["code"].as_str()),
            (status, code),
            "{model}"
        );
        let (found, body) = answer(MESSAGES, &chat(model, r#""stream":true"#));
        assert_eq!(
            (found, body["error"]["type"].as_str()),
            (status, Some(kind)),
            "{model}"
        );
        assert!(body["request_id"].is_string());
    };
    check(
        "sim+status-401",
        401,
        Some("invalid_api_key"),
        "authentication_error",
    );
    check("sim+status-403", 403, Some("forbidden"), "permission_error");
    check(
        "sim+status-413",
        413,
        Some("request_too_large"),
        "request_too_large",
    );
    check(
        "sim+status-429",
        429,
        Some("rate_limit_exceeded"),
        "rate_limit_error",
    );
    check("sim+latency-200+status-503", 503, None, "api_error");
    check("sim+status-529", 529, None, "overloaded_error");
    check(
        "sim+context-length",
        400,
        Some("context_length_exceeded"),
        "invalid_request_error",
    );
    check(
        "sim+content-filter",
        400,
        Some("content_filter"),
        "invalid_request_error",
    );
    check(
        "sim+nonsense",
        404,
        Some("model_not_found"),
        "not_found_error",
    );
    check("gpt-4o", 404, Some("model_not_found"), "not_found_error");
    assert_eq!(planned(CHAT, &chat("sim+reset", "")).end, End::Reset);
    assert_eq!(
        planned(CHAT, &chat("sim+latency-3+silent", "")).end,
        End::Silent
    );
}

#[test]
fn prefill_is_refused_only_where_asked() {
    let body = |model: &str| {
        format!(
            r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"assistant","content":"a"}}]}}"#
        )
    };
    assert_eq!(answer(MESSAGES, &body("sim+no-prefill")).0, 400);
    assert_eq!(answer(MESSAGES, &body("sim")).0, 200);
    assert_eq!(answer(CHAT, &chat("sim+no-prefill", "")).0, 200);
}

#[test]
fn once_and_flap_depend_on_what_was_asked_before() {
    let state = State::default();
    let status = |model: &str, after: u64| {
        let body = chat(model, "");
        let mut request = request(CHAT, &body);
        request.received += Duration::from_secs(after);
        let script = plan(&request, &state);
        (
            script.status,
            header(&script, "retry-after").map(str::to_owned),
        )
    };
    let model = "sim+status-429-once+retry-after-2";
    assert_eq!(status(model, 0), (429, Some("2".to_owned())));
    assert_eq!(status(model, 0), (200, None));
    assert_eq!(status("sim+status-429-once", 0).0, 429);
    assert_eq!(status("sim+flap-60", 0).0, 503);
    assert_eq!(status("sim+flap-60", 59).0, 503);
    assert_eq!(status("sim+flap-60", 61).0, 200);
    state.reset();
    assert_eq!(status(model, 0).0, 429);
}

fn check_refused(path: &str, body: &str, status: u16, says: &str) {
    let (found, answer) = answer(path, body);
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(
        found == status && message.contains(says),
        "{path} {body}: {found} {message}"
    );
}

#[test]
fn wrong_requests_are_refused_in_the_dialects_shape() {
    let check = check_refused;
    check(CHAT, "{", 400, "could not parse the JSON");
    check(CHAT, "[1]", 400, "Invalid request body");
    check(CHAT, r#"{"messages":[]}"#, 400, "model");
    check(CHAT, r#"{"model":"sim"}"#, 400, "messages");
    check(
        CHAT,
        r#"{"model":"sim","messages":[]}"#,
        400,
        "at least one",
    );
    check(
        CHAT,
        r#"{"model":3,"messages":[]}"#,
        400,
        "Invalid request body",
    );
    check(CHAT, &chat("sim", r#""max_tokens":0"#), 400, "max_tokens");
    check(CHAT, &chat("sim", r#""n":129"#), 400, "'n'");
    check(
        CHAT,
        &chat("sim+pace-0x1000000", r#""n":128"#),
        400,
        "too much",
    );
    check(
        CHAT,
        &chat("sim", r#""tool_choice":"required""#),
        400,
        "tool_choice",
    );
    check(
        MESSAGES,
        r#"{"model":"sim","messages":[{"role":"user","content":"a"}]}"#,
        400,
        "max_tokens: Field required",
    );
}

#[test]
fn wrong_paths_methods_and_embeddings_are_refused() {
    let check = check_refused;
    check("/v1/nothing", "{}", 404, "/v1/nothing");
    check(CHAT, "", 405, "use POST");
    check("/v1/models", "{}", 405, "use GET");
    check(
        "/v1/embeddings",
        r#"{"model":"sim","input":[]}"#,
        400,
        "input",
    );
    check(
        "/v1/embeddings",
        r#"{"model":"sim","input":"a","dimensions":5000}"#,
        400,
        "dimensions",
    );
    check(
        "/v1/embeddings",
        r#"{"model":"sim","input":"a","encoding_format":"hex"}"#,
        400,
        "encoding_format",
    );
    check(
        "/v1/embeddings",
        r#"{"model":"sim+poison","input":["a","a poison, b"]}"#,
        400,
        "$.input",
    );
    let harmless = r#"{"model":"sim+poison","input":["a","b"]}"#;
    assert_eq!(answer("/v1/embeddings", harmless).0, 200);
}

#[test]
fn the_bad_key_is_refused() {
    let body = chat("sim", "");
    let script = plan(
        &SimRequest {
            api_key: Some("bad-key"),
            ..request(CHAT, &body)
        },
        &State::default(),
    );
    assert_eq!(script.status, 401);
}

#[test]
fn a_strict_vendor_names_the_first_fault_of_a_request() {
    let check = |path: &str, body: &str, x_sim: Option<&str>, says: &str| {
        let request = SimRequest {
            x_sim,
            ..request(path, body)
        };
        let mut script = plan(&request, &State::default());
        let (_, out) = run(&mut script);
        assert!(script.status == 400 && out.contains(says), "{body}: {out}");
        let body: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
    };
    let body = chat("sim+strict", r#""temperature":1.5"#);
    assert_eq!(answer(CHAT, &body).0, 200);
    check(MESSAGES, &body, None, "temperature: Input should be less");
    let body = chat("m", r#""top_k":1"#);
    check(CHAT, &body, Some("strict"), r#""param":"top_k""#);
    // What no struct of ours could hold is refused in the vendor's words too.
    let body = chat("sim+strict", r#""n":"two""#);
    check(CHAT, &body, None, r#""param":"n","code":"invalid_type""#);
    check(
        CHAT,
        &chat("sim", r#""n":"two""#),
        None,
        "Invalid request body",
    );
    let body = r#"{"model":"sim+strict","input":3}"#;
    check(RESPONSES, body, None, r#""param":"input""#);
    assert_eq!(
        answer(CHAT, &chat("sim+strict+status-503", r#""n":0"#)).0,
        503
    );
}
