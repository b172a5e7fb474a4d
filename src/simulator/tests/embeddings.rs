//! Calls that are merged have the answers that each would have had alone.

use super::*;
use crate::wire::embeddings::{Single, merge, split};

const EMBEDDINGS: &str = "/v1/embeddings";

#[test]
fn a_merged_call_has_the_vectors_of_each() {
    let check = |extra: &str| {
        let texts = [
            r#""a""#,
            r#"["\u00e9\"]"]"#,
            r#""a""#,
            r#""longer than the others""#,
        ];
        let bodies =
            texts.map(|text| format!(r#"{{"input": {text}, "model": "sim", "user": "u"{extra}}}"#));
        let singles = bodies
            .each_ref()
            .map(|body| Single::of(body.as_bytes()).unwrap());
        let calls: Vec<_> = std::iter::zip(&bodies, &singles)
            .map(|(body, single)| (body.as_bytes(), single))
            .collect();
        let merged = String::from_utf8(merge(&calls)).unwrap();
        let mut script = planned(EMBEDDINGS, &merged);
        let (_, whole) = run(&mut script);
        assert_eq!(script.status, 200, "{whole}");
        let weights = singles.each_ref().map(Single::weight);
        let parts = split(whole.as_bytes(), &weights).unwrap();
        let mut tokens = 0;
        for (index, body) in bodies.iter().enumerate() {
            let mut part: Value = serde_json::from_slice(&parts.part(index).unwrap()).unwrap();
            let (_, mut alone) = answer(EMBEDDINGS, body);
            let usage = [&mut part, &mut alone].map(|it| it["usage"].take());
            assert_eq!(part, alone);
            tokens += usage[0]["total_tokens"].as_u64().unwrap();
            assert_eq!(usage[0]["total_tokens"], usage[0]["prompt_tokens"]);
        }
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["usage"]["total_tokens"], tokens);
    };
    check("");
    check(r#","encoding_format":"base64","dimensions":8"#);
}
