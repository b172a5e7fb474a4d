//! A stream and the plain answer to the same question are two shapes of one answer: each is made
//! into the other.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::Endpoint;
use crate::wire::replay::{body_of_stream, stream_of_body, without_usage};

const OPENAI_TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}},{"type":"function","function":{"name":"g","parameters":{"properties":{"text":{"type":"string","minLength":40}}}}}]"#;
const ANTHROPIC_TOOLS: &str = r#""tools":[{"name":"f","input_schema":{"properties":{"city":{"type":"string"},"days":{"type":"integer"}}}},{"name":"g","input_schema":{"properties":{"text":{"type":"string","minLength":40}}}}]"#;

/// What a good answer says that is asked for in this way.
fn said(path: &str, model: &str, extra: &str) -> Vec<u8> {
    let mut script = planned(path, &chat(model, extra));
    let (_, out) = run(&mut script);
    assert_eq!(script.status, 200, "{model} {extra}: {out}");
    out.into_bytes()
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn check(endpoint: Endpoint, model: &str, extra: &str) {
    let is_chat = endpoint == Endpoint::ChatCompletions;
    let path = if is_chat { CHAT } else { MESSAGES };
    let comma = if extra.is_empty() { "" } else { "," };
    let ask = |stream: &str| said(path, model, &format!("{stream}{comma}{extra}"));
    let with = ask(r#""stream":true,"stream_options":{"include_usage":true}"#);
    let mut plain = value(&said(path, model, extra));
    let joined = value(&body_of_stream(endpoint, &with).unwrap());
    let again = stream_of_body(endpoint, plain.to_string().as_bytes(), true).unwrap();
    let again = value(&body_of_stream(endpoint, &again).unwrap());
    assert_eq!(again, plain, "{model} {extra}");
    if is_chat {
        // No stream has it.
        for choice in plain["choices"].as_array_mut().unwrap() {
            choice["message"]
                .as_object_mut()
                .unwrap()
                .remove("annotations");
        }
        let without = ask(r#""stream":true"#);
        let nulled = String::from_utf8(without_usage(&with)).unwrap();
        assert_eq!(nulled.replace(",\"usage\":null", "").as_bytes(), without);
        assert_eq!(without_usage(&without), without);
        let mut joined = value(&body_of_stream(endpoint, &without).unwrap());
        joined["usage"] = plain["usage"].clone();
        assert_eq!(joined, plain, "{model} {extra}");
    }
    assert_eq!(joined, plain, "{model} {extra}");
}

#[test]
fn both_shapes_of_a_completion_say_the_same() {
    let check = |model: &str, extra: &str| check(Endpoint::ChatCompletions, model, extra);
    check("sim", "");
    check("sim+thinking+cached-100", "");
    check("sim+refusal", r#""logprobs":true,"top_logprobs":2"#);
    check("sim", r#""n":3,"logprobs":true"#);
    check(
        "sim",
        r#""logprobs":true,"top_logprobs":20,"max_tokens":200"#,
    );
    check("sim", r#""stop":["t"],"max_completion_tokens":4"#);
    check("sim", r#""response_format":{"type":"json_object"}"#);
    check("sim+tools", OPENAI_TOOLS);
    check("sim+tools-3+thinking", OPENAI_TOOLS);
    check(
        "sim+tools-3+interleave",
        &format!(r#""n":2,{OPENAI_TOOLS}"#),
    );
    check("sim+thinking", r#""max_tokens":1"#);
}

#[test]
fn both_shapes_of_a_message_say_the_same() {
    let check = |model: &str, extra: &str| check(Endpoint::Messages, model, extra);
    check("sim", "");
    check("sim+thinking+cached-100", "");
    check("sim+refusal", "");
    check("sim+tools-3+thinking", ANTHROPIC_TOOLS);
    check("sim", r#""stop_sequences":["t"]"#);
    check("sim+thinking", r#""max_tokens":1"#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_answer_has_both_shapes(
        thinking in any::<bool>(),
        kind in select(&["", "+refusal", "+tools", "+tools-4", "+tools-2+interleave"][..]),
        pace in 1_u32..300,
        choices in 1_u32..5,
        logprobs in any::<bool>(),
    ) {
        let thinking = if thinking { "+thinking" } else { "" };
        let model = format!("sim{thinking}{kind}+pace-0x{pace}");
        check(Endpoint::Messages, &model, ANTHROPIC_TOOLS);
        let extra = format!(r#""n":{choices},"logprobs":{logprobs},{OPENAI_TOOLS}"#);
        check(Endpoint::ChatCompletions, &model, &extra);
    }

    #[test]
    fn a_stream_that_is_not_whole_has_no_body(
        cut in 1_usize..4000, endpoint in select(&[Endpoint::ChatCompletions, Endpoint::Messages][..])
    ) {
        let path = if endpoint == Endpoint::Messages { MESSAGES } else { CHAT };
        let stream = said(path, "sim+thinking", r#""stream":true"#);
        let end = stream.len() - cut.min(stream.len());
        // Its last line may have come without its end.
        let ends = ["data: [DONE]", "data: {\"type\":\"message_stop\"}"];
        let is_over = ends.iter().any(|end_line| stream[..end].trim_ascii_end().ends_with(end_line.as_bytes()));
        prop_assert_eq!(body_of_stream(endpoint, &stream[..end]).is_some(), is_over);
    }
}
