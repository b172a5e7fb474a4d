//! What the walker accepts, refuses and counts.

use super::*;
use proptest::prelude::*;
use serde_json::value::RawValue;

fn walk(text: &str) -> Result<Vec<(&str, &str)>, Fault> {
    let mut members = Vec::new();
    walk_object(text, |member| {
        members.push((&text[member.key], &text[member.value]));
    })?;
    Ok(members)
}

#[test]
fn members_are_found_with_their_exact_spans() {
    let text = " {\"a\" : [1, {\"b\": [] , \"c\":{}}] ,\"d\\u0065\":-1.5e+3\n}\n";
    assert_eq!(
        walk(text),
        Ok(vec![
            ("\"a\"", "[1, {\"b\": [] , \"c\":{}}]"),
            ("\"d\\u0065\"", "-1.5e+3"),
        ])
    );
    assert_eq!(walk("{}"), Ok(vec![]));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let check = |text: &str, wrong: Wrong, offset: usize| {
        assert_eq!(walk(text), Err(Fault { wrong, offset }), "{text}");
    };
    check("", Wrong::Ended("a JSON object"), 0);
    check("[]", Wrong::Expected("a JSON object"), 0);
    check("{\"a\":1,}", Wrong::Expected("a key in double quotes"), 7);
    check("{\"a\" 1}", Wrong::Expected("':'"), 5);
    check("{\"a\":01}", Wrong::Expected("',' or '}'"), 6);
    check("{\"a\":1.}", Wrong::Expected("a digit"), 7);
    check("{\"a\":tru}", Wrong::Expected("a value"), 5);
    check("{\"a\":[1 2]}", Wrong::Expected("',' or ']'"), 8);
    check("{\"a\":[1}", Wrong::Expected("',' or ']'"), 7);
    check("{\"a\":1} {}", Wrong::Expected("the end of the body"), 8);
    check(
        "{\"a\":\"b",
        Wrong::Ended("the closing quote of a string"),
        7,
    );
    check(
        "{\"a\":\"\\ud8x0\"}",
        Wrong::Expected("four hexadecimal digits"),
        10,
    );
    check(
        "{\"a\":\"\t\"}",
        Wrong::Expected("control characters to be escaped"),
        6,
    );
}

fn nested(levels: usize) -> String {
    let mut text = String::from("{\"a\":");
    (1..levels).for_each(|level| text.push_str(["[", "{\"b\":"][level % 2]));
    text.push('0');
    (1..levels)
        .rev()
        .for_each(|level| text.push(['}', ']'][usize::from(level % 2 == 0)]));
    text.push('}');
    text
}

#[test]
fn values_are_counted_at_every_depth() {
    for (text, expected) in [
        ("{}", 1),
        (r#"{"a":1,"b":[2,{"c":null}],"d":{}}"#, 7),
        (" [[],[]]", 3),
    ] {
        assert_eq!(count_values(text), expected, "{text}");
    }
}

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    let deepest = nested(DEPTH_MAX);
    assert!(walk(&deepest).is_ok());
    assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok());
    for levels in [DEPTH_MAX + 1, 10_000, 1_000_000] {
        let fault = walk(&nested(levels)).unwrap_err();
        assert_eq!(fault.wrong, Wrong::TooDeep);
    }
    let unclosed = format!("{{\"a\":{}", "[".repeat(1_000_000));
    assert_eq!(walk(&unclosed).unwrap_err().wrong, Wrong::TooDeep);
}

#[test]
fn a_run_ends_at_the_first_special_byte_wherever_it_stands() {
    let plain: Vec<u8> = (0x20..=0xff).filter(|byte| !is_special(*byte)).collect();
    for special in (0..=0xff).filter(|byte| is_special(*byte)) {
        for at in 0..100 {
            let mut bytes: Vec<u8> = plain.iter().copied().cycle().take(110).collect();
            bytes[at] = special;
            assert_eq!(plain_run(&bytes), at);
        }
    }
    assert_eq!(plain_run(&plain), plain.len());
}

/// Texts that are JSON, nearly JSON, and nothing like it.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        "\\{\"a\":[\\[\\]{}\",:0-9a-f.eE+\\\\u \\-]{0,24}\\}",
        "\\{(\"[a-c]\" ?: ?(-?[0-9]{1,3}(\\.[0-9])?(e[+-]?[0-9])?|\"[a-z\\\\\"]{0,40}\"|true|null|\\[1,\\{\\}\\]),?){0,4}\\}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn it_accepts_what_serde_json_accepts(text in texts()) {
        let ours = walk(&text).is_ok();
        // A raw value is checked against the grammar and against nothing else.
        let theirs = serde_json::from_str::<&RawValue>(&text)
            .is_ok_and(|raw| raw.get().starts_with('{'));
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
