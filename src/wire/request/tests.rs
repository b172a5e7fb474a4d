//! Bodies that are scanned, and those that are refused.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::time::Instant;

fn refusal(body: impl AsRef<[u8]>) -> (Refusal, Option<&'static str>, usize) {
    let error = scan(body.as_ref()).unwrap_err();
    (error.refusal, error.param, error.offset)
}

#[test]
fn model_and_stream_are_found_wherever_they_stand() {
    let check = |body: &str, model: &str, literal: &str, stream: bool| {
        let scanned = scan(body.as_bytes()).unwrap();
        assert_eq!((scanned.model.as_str(), scanned.stream), (model, stream));
        assert_eq!(&body[scanned.model_span], literal);
    };
    check(r#"{"model":"m"}"#, "m", r#""m""#, false);
    check(r#"{"stream":true, "model" : "m" }"#, "m", r#""m""#, true);
    check(r#"{"model":"m","stream":null}"#, "m", r#""m""#, false);
    check(r#"{"mod\u0065l":"a\/b"}"#, "a/b", r#""a\/b""#, false);
    check(
        r#"{"x":{"model":1,"stream":1},"model":"é"}"#,
        "é",
        r#""é""#,
        false,
    );
}

#[test]
fn how_many_choices_are_asked_for_is_found() {
    let check = |members: &str, expected: Option<u32>| {
        let body = format!(r#"{{"model":"m"{members}}}"#);
        assert_eq!(scan(body.as_bytes()).unwrap().choices, expected, "{body}");
    };
    check("", Some(1));
    check(r#","n":null"#, Some(1));
    check(r#","n":3,"prompt":"p""#, Some(3));
    check(r#","n":"3""#, None);
    check(r#","n":2.5,"n":2"#, None);
    check(r#","prompt":["p","q"],"n":2"#, None);
}

#[test]
fn a_refusal_names_the_member_and_the_place() {
    let check = |body: &str, expected: Refusal, param: Option<&'static str>, at: usize| {
        assert_eq!(refusal(body), (expected, param, at), "{body}");
    };
    let (model, stream) = (Some("model"), Some("stream"));
    check("", Refusal::Empty, None, 0);
    check("{}", Refusal::Missing, model, 2);
    check(r#"{"model":7}"#, Refusal::Not("a string"), model, 9);
    check(
        r#"{"model":""}"#,
        Refusal::Not("a non-empty string"),
        model,
        9,
    );
    check(
        r#"{"model":"a\nb"}"#,
        Refusal::Not("free of control characters"),
        model,
        9,
    );
    check(
        r#"{"model":"\ud800"}"#,
        Refusal::Not("free of lone surrogates"),
        model,
        9,
    );
    check(
        r#"{"model":"m","stream":1}"#,
        Refusal::Not("true or false"),
        stream,
        22,
    );
    check(
        r#"{"model":"m","mod\u0065l":"n"}"#,
        Refusal::Repeated,
        model,
        13,
    );
    check(
        r#"{"model":"m","stream":true,"stream":false}"#,
        Refusal::Repeated,
        stream,
        27,
    );
    check(
        r#"{"model":"m","Model":"n"}"#,
        Refusal::WrongCase,
        model,
        13,
    );
    check(
        r#"{"model":"m"}}"#,
        Refusal::NotJson(Wrong::Expected("the end of the body")),
        None,
        13,
    );
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MODEL_BYTES_MAX + 1));
    check(&long, Refusal::Not("at most 256 bytes long"), model, 9);
    assert!(
        scan(
            long.replacen('m', "", 2)
                .replace("odel", "model")
                .as_bytes()
        )
        .is_ok()
    );
}

#[test]
fn invalid_utf8_is_refused_at_its_byte() {
    assert_eq!(
        refusal(b"{\"model\":\"m\",\"a\":\"\xff\"}"),
        (Refusal::NotUtf8, None, 18)
    );
}

#[test]
fn an_error_reads_as_a_sentence_with_line_and_column() {
    let error = scan(b"{\n  \"model\": \"m\",\n}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request body is not valid JSON: expected a key in double quotes \
         (line 3 column 1, byte 18)"
    );
}

#[test]
fn deep_nesting_is_refused_and_a_long_prompt_is_not() {
    let deep = format!(r#"{{"model":"m","x":{}"#, "[".repeat(10_000));
    assert_eq!(refusal(&deep).0, Refusal::NotJson(Wrong::TooDeep));
    let long = format!(r#"{{"x":"{}","model":"m"}}"#, "prompt ".repeat(4_500_000));
    assert_eq!(scan(long.as_bytes()).unwrap().model, "m");
}

/// Run with `--release -- --ignored --nocapture`: bytes a second of one core.
#[test]
#[ignore = "a measurement, not a check"]
fn how_fast_a_body_is_scanned() {
    let prompt = r#"{"model":"m","messages":[{"role":"user","content":"%"}]}"#;
    let turns = format!(
        "[{}]",
        vec![r#"{"role":"user","content":"Hi, how are you?"}"#; 50_000].join(",")
    );
    for (what, body) in [
        (
            "plain text",
            prompt.replace('%', &"What a day it was. ".repeat(200_000)),
        ),
        (
            "lines of code",
            prompt.replace('%', &"\\tlet x = \\\"y\\\";\\n".repeat(200_000)),
        ),
        (
            "not ASCII",
            prompt.replace('%', &"日本語のテキスト。".repeat(150_000)),
        ),
        (
            "short turns",
            format!(r#"{{"model":"m","messages":{turns}}}"#),
        ),
        (
            "numbers",
            format!(r#"{{"model":"m","x":[{}0]}}"#, "0.125,".repeat(500_000)),
        ),
    ] {
        let timed = |name: &str, run: &dyn Fn() -> bool| {
            let start = Instant::now();
            let mut bytes = 0;
            while start.elapsed().as_millis() < 300 {
                assert!(run());
                bytes += body.len();
            }
            let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
            println!("{what:>14}: {name:>10} {rate:6.0} MB/s");
        };
        timed("scan", &|| scan(body.as_bytes()).is_ok());
        timed("serde_json", &|| {
            serde_json::from_slice::<serde::de::IgnoredAny>(body.as_bytes()).is_ok()
                && str::from_utf8(body.as_bytes()).is_ok()
        });
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths come back from text exactly as they were.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("model|stream|.{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn bodies() -> impl Strategy<Value = (Map<String, Value>, String, Option<bool>)> {
    let others = prop::collection::hash_map("[a-z_\"\\\\é]{1,10}", values(), 0..5);
    let model = "[^\\p{Cc}]{1,40}";
    (others, model, any::<Option<bool>>()).prop_map(|(others, model, stream)| {
        let mut body: Map<String, Value> = others.into_iter().collect();
        body.insert("model".into(), json!(model));
        body.remove("stream");
        if let Some(stream) = stream {
            body.insert("stream".into(), json!(stream));
        }
        (body, model, stream)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = scan(&body).map_err(|error| error.to_string());
    }

    #[test]
    fn whatever_else_is_in_an_object_its_members_are_found(
        (body, model, stream) in bodies(), pretty in any::<bool>()
    ) {
        let text = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) };
        let scanned = scan(&text.unwrap()).unwrap();
        prop_assert_eq!(scanned.model, model);
        prop_assert_eq!(scanned.stream, stream.unwrap_or(false));
    }

    #[test]
    fn another_model_changes_nothing_else((body, model, _) in bodies(), other in ".{0,40}") {
        let text = serde_json::to_vec(&body).unwrap();
        let span = scan(&text).unwrap().model_span;
        let literal = json_string(&other);
        let sent = with_model(&text, &span, &literal).concat();
        let mut expected = body;
        expected.insert("model".into(), json!(other));
        prop_assert_eq!(serde_json::from_slice::<Map<String, Value>>(&sent).unwrap(), expected);
        prop_assert_eq!(&with_model(&text, &span, &json_string(&model)).concat(), &text);
    }
}
