//! Each call is given its own vector, and what cannot be told apart is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn single(body: &str) -> Option<Single> {
    Single::of(body.as_bytes())
}

/// The merged body of these.
fn merged(bodies: &[&str]) -> String {
    let singles: Vec<Single> = bodies.iter().map(|body| single(body).unwrap()).collect();
    let all: Vec<_> = std::iter::zip(bodies, &singles)
        .map(|(body, single)| (body.as_bytes(), single))
        .collect();
    String::from_utf8(merge(&all)).unwrap()
}

#[test]
fn one_text_is_found_where_it_stands() {
    let check = |body: &str, expected: Option<&str>| {
        let single = single(body);
        let found = single.as_ref().map(|it| &body[it.literal().clone()]);
        assert_eq!(found, expected, "{body}");
    };
    check(r#"{"model":"m","input":"a\n"}"#, Some(r#""a\n""#));
    check(r#" {"input" : [ "é" ] } "#, Some("\"é\""));
    check(r#"{"\u0069nput":"a"}"#, Some("\"a\""));
    for none in [
        "",
        "[]",
        r#"{"input":"a""#,
        r#"{"model":"m"}"#,
        r#"{"input":""}"#,
        r#"{"input":[""]}"#,
        r#"{"input":[]}"#,
        r#"{"input":["a","b"]}"#,
        r#"{"input":[1,2]}"#,
        r#"{"input":[["a"]]}"#,
        r#"{"input":{"text":"a"}}"#,
        r#"{"input":null}"#,
        r#"{"input":"a","input":"a"}"#,
        r#"{"input":"a","\u0069nput":"a"}"#,
        r#"{"input":"a","x":{"b":1,"b":1}}"#,
    ] {
        check(none, None);
    }
    assert_eq!(Single::of(b"{\"input\":\"\xff\"}"), None);
    assert_eq!(single(r#"{"input":"abc"}"#).unwrap().weight(), 3);
}

#[test]
fn calls_that_differ_in_more_than_the_text_have_different_digests() {
    let digest = |body: &str| *single(body).unwrap().digest();
    let first = digest(r#"{"model":"m","input":"a","dimensions":8}"#);
    let same = |body: &str| assert_eq!(digest(body), first, "{body}");
    same(r#"{ "dimensions": 8.0, "input": ["b"], "model": "\u006d", "user": "u" }"#);
    let other = |body: &str| assert_ne!(digest(body), first, "{body}");
    other(r#"{"model":"n","input":"a","dimensions":8}"#);
    other(r#"{"model":"m","input":"a","dimensions":9}"#);
    other(r#"{"model":"m","input":"a"}"#);
    other(r#"{"model":"m","input":"a","dimensions":8,"encoding_format":"base64"}"#);
    other(r#"{"model":"m","input":"a","dimensions":8,"x":{"user":"u"}}"#);
}

#[test]
fn a_merged_body_is_the_first_with_all_texts() {
    assert_eq!(
        merged(&[
            r#"{"model" : "m", "input": "a\n", "dimensions":8.0}"#,
            r#"{"dimensions":8,"input":["b"],"model":"m"}"#,
        ]),
        r#"{"model":"m","input":["a\n","b"],"dimensions":8.0}"#
    );
    let of = |user: &str| format!(r#"{{"input":"a","user":{user}}}"#);
    let same = merged(&[&of("\"u\""), &of("\"u\"")]);
    assert_eq!(same, r#"{"input":["a","a"],"user":"u"}"#);
    let differ = r#"{"input":["a","a"]}"#;
    assert_eq!(merged(&[&of("\"u\""), &of("\"v\"")]), differ);
    assert_eq!(merged(&[&of("\"u\""), r#"{"input":"a"}"#]), differ);
    assert_eq!(merge(&[]), b"");
}

#[test]
fn a_part_is_as_the_provider_wrote_it() {
    let answer = concat!(
        r#"{"object":"list", "data":[{"embedding":[0.10, -1e-3],"index": 1 ,"object":"embedding"},"#,
        r#"{"object":"embedding","index":0,"embedding":"AAC\/"}], "mod\u0065l":"m","#,
        r#""usage":{"prompt_tokens":3,"total_tokens":5,"details":{"a":1},"cost":0.5}}"#
    );
    let parts = split(answer.as_bytes(), &[1, 9]).unwrap();
    assert_eq!((parts.len(), parts.is_empty()), (2, false));
    let part = |index| String::from_utf8(parts.part(index).unwrap()).unwrap();
    assert_eq!(
        part(0),
        concat!(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAC\/"}],"#,
            r#""mod\u0065l":"m","usage":{"prompt_tokens":1,"total_tokens":2,"details":{"a":1},"cost":0.5}}"#
        )
    );
    assert_eq!(
        part(1),
        concat!(
            r#"{"object":"list","data":[{"embedding":[0.10, -1e-3],"index": 0 ,"object":"embedding"}],"#,
            r#""mod\u0065l":"m","usage":{"prompt_tokens":2,"total_tokens":3,"details":{"a":1},"cost":0.5}}"#
        )
    );
    assert!(parts.part(2).is_err());
    assert!(
        split(br#"{"data":[],"usage":{"prompt_tokens":3}}"#, &[])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_does_not_answer_all_texts_is_refused() {
    // Of what is wrong within an item, its part tells.
    let is_good = |answer: &str| {
        let parts = split(answer.as_bytes(), &[1, 1]);
        parts.is_ok_and(|parts| (0..2).all(|index| parts.part(index).is_ok()))
    };
    let check = |answer: &str| assert!(!is_good(answer), "{answer}");
    let data = |items: &str| check(&format!(r#"{{"data":[{items}]}}"#));
    let (zero, one) = (r#"{"index":0}"#, r#"{"index":1}"#);
    let good = format!(r#"{{"data":[{one},{zero}],"usage":null}}"#);
    assert!(is_good(&good));
    assert!(is_good(&format!(
        r#"{{"x":[{{"]}}":"\"}}"}},[1],[]],"y":1.5,"z":null, "data" : [ {one} , {zero} ] }}"#
    )));
    data(zero);
    data(&format!("{zero},{zero}"));
    data(&format!("{zero},{one},{{\"index\":2}}"));
    data(&format!(r#"{zero},{{"index":1,"index":1}}"#));
    data(&format!(r#"{zero},{{"index":1,"\u0069ndex":1}}"#));
    data(&format!(r#"{zero},{{"index":"1"}}"#));
    data(&format!(r#"{zero},{{"index":-1}}"#));
    data(&format!("{zero},{{}}"));
    data(&format!("{zero},1"));
    data("");
    data(&format!("{zero} {one}"));
    data(&format!("{zero},{one},"));
    data(&format!(",{zero},{one}"));
    data(&format!("{zero},{{\"embedding\":[}}"));
    check(&format!(r#"{{"data":[{zero},{one}"#));
    check(&format!(r#"{{"x":[{{"]}}":"}}"}}],"data":[{zero}]}}"#));
    check(&format!(r#"{{"x":[1,"data":[{zero},{one}]}}"#));
    check(r#"{"data":{"index":0}}"#);
    check(r#"{"error":{}}"#);
    check(&format!("{good} x"));
    check(&good.replace("null", "{},\"data\":[]"));
    check(&good.replace("null", "{},\"usage\":{}"));
    check(&good.replace("null", &"1".repeat(OTHERS_BYTES_MAX)));
}

#[test]
fn parts_can_be_made_on_several_threads() {
    const fn is_sync<T: Sync + Send>() {}
    is_sync::<Parts<'_>>();
}

/// What a server may answer to `count` texts, and in which order its items are.
fn any_answer() -> impl Strategy<Value = (Vec<usize>, u64, bool)> {
    let order = (1..40_usize).prop_map(|count| (0..count).collect::<Vec<_>>());
    (order.prop_shuffle(), 0..500_u64, any::<bool>())
}

/// Text of a body or answer, or nearly.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 18] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"data\":[",
        "\"index\":",
        "\"usage\":{",
        "\"input\":",
        "\"a\"",
        "\"total_tokens\":",
        "\"prompt_tokens\":",
        "0",
        "1",
        "\"user\":",
        "\"\\u0069ndex\"",
        "null",
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        prop::collection::vec(prop::sample::select(&WORDS[..]), 0..30)
            .prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn each_is_given_its_own((order, tokens, base64) in any_answer(), texts in prop::collection::vec(".{1,20}", 40)) {
        let texts = &texts[..order.len()];
        let body = |text: &String| json!({"model": "m", "input": text}).to_string();
        let bodies: Vec<String> = texts.iter().map(body).collect();
        let merged: Value = serde_json::from_str(&merged(&bodies.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        prop_assert_eq!(&merged["input"], &json!(texts));
        // The vector says what it is of.
        let vector = |index: usize| match base64 {
            true => merged["input"][index].clone(),
            false => json!([merged["input"][index], index]),
        };
        let item = |index: &usize| json!({"index": index, "embedding": vector(*index)});
        let data: Vec<Value> = order.iter().map(item).collect();
        let answer = json!({"object": "list", "data": data, "model": "m",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens + 2}}).to_string();
        let weights: Vec<u64> = bodies.iter().map(|body| single(body).unwrap().weight()).collect();
        let parts = split(answer.as_bytes(), &weights).unwrap();
        let (mut prompt, mut total) = (0, 0);
        for index in 0..texts.len() {
            let part: Value = serde_json::from_slice(&parts.part(index).unwrap()).unwrap();
            prop_assert_eq!(&part["data"], &json!([{"index": 0, "embedding": vector(index)}]));
            prompt += part["usage"]["prompt_tokens"].as_u64().unwrap();
            total += part["usage"]["total_tokens"].as_u64().unwrap();
        }
        prop_assert_eq!((prompt, total), (tokens, tokens + 2));
    }

    #[test]
    fn any_bytes_are_looked_at(body in any_bytes(), other in any_bytes(), weights in prop::collection::vec(any::<u64>(), 0..4)) {
        if let Some(single) = Single::of(&body) {
            serde_json::from_slice::<Value>(&merge(&[(&body, &single), (&body, &single)])).unwrap();
            // Not what it was read from.
            merge(&[(&other, &single)]);
        }
        for bytes in [&body, &other] {
            if let Ok(parts) = split(bytes, &weights) {
                for index in 0..=parts.len() {
                    let _ = parts.part(index).map(|part| serde_json::from_slice::<Value>(&part).unwrap());
                }
            }
        }
    }
}
