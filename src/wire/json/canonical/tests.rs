//! What is the same and what is not, case by case; `cache/tests/key.rs` has the properties.

use super::super::walk_object;
use super::*;

fn form(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    write(text, &[], &mut |piece| bytes.extend_from_slice(piece))?;
    Ok(bytes)
}

fn of_value(value: &str) -> Vec<u8> {
    form(&format!("{{\"a\":{value}}}")).unwrap_or_else(|refusal| panic!("{value}: {refusal:?}"))
}

fn same(one: &str, other: &str) {
    assert_eq!(of_value(one), of_value(other), "{one} and {other}");
}

fn differ(one: &str, other: &str) {
    assert_ne!(of_value(one), of_value(other), "{one} and {other}");
}

#[test]
fn a_number_is_what_it_says() {
    for one in [
        "1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "0.001e3", "1.000e00",
    ] {
        same("1", one);
    }
    for zero in ["0", "0.0", "0e5", "0.00e-99999999999999999999999"] {
        same("0", zero);
    }
    same("120", "1.2e2");
    same("-0.0120", "-12e-3");
    same("100.5", "1005e-1");
    differ("1", "-1");
    differ("0", "-0");
    differ("12", "120");
    differ("0.12", "1.2");
    differ("100.5", "10.05");
    differ("9007199254740992", "9007199254740993");
    differ("1e400", "1e401");
    differ("1", "\"1\"");
    differ("0.1000000000000000000000000001", "0.1");
    same("1e999999999999999999", "10e999999999999999998");
    assert_eq!(
        form("{\"a\":1e1000000000000000000}"),
        Err(Refusal::Exponent)
    );
}

#[test]
fn a_string_is_what_it_says() {
    same(r#""é/\n""#, r#""\u00E9\/\u000a""#);
    same(r#""😀""#, r#""\ud83d\uDE00""#);
    same(
        r#""\b\f\n\r\t\"\\""#,
        r#""\u0008\u000c\u000a\u000d\u0009\u0022\u005c""#,
    );
    differ(r#""\ud83d""#, r#""\ud83e""#);
    differ(r#""\ud83d""#, "\"\u{fffd}\"");
    differ(r#""\ude00\ud83d""#, r#""\ud83d\ude00""#);
    differ(r#""\\n""#, r#""\n""#);
    differ("[\"ab\",\"c\"]", "[\"a\",\"bc\"]");
}

#[test]
fn members_have_no_order_and_items_have() {
    same(
        r#"{"b":[{"y":1,"x":2}],"a":{}}"#,
        r#" { "\u0061":{ } , "b" : [ {"x":2,"y":1} ] } "#,
    );
    same(
        r#"[{"a":{"c":1,"b":[]}},{"d":2}]"#,
        r#"[{"a":{"b":[],"c":1}},{"d":2}]"#,
    );
    differ("[1,2]", "[2,1]");
    differ("[[1],2]", "[[1,2]]");
    differ(r#"[{"a":1},{"b":1}]"#, r#"[{"a":1,"b":1}]"#);
    differ("[]", "{}");
    differ("[null]", "[]");
}

#[test]
fn what_can_be_read_in_two_ways_has_no_form() {
    for (text, refusal) in [
        (r#"{"a":1,"a":1}"#, Refusal::Repeated),
        (r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#, Refusal::Repeated),
        ("[]", Refusal::NotJson),
        ("{} {}", Refusal::NotJson),
        ("{\"a\":01}", Refusal::NotJson),
        ("{\"a\":[1,]}", Refusal::NotJson),
        ("{\"a\":1,}", Refusal::NotJson),
        ("{\"a\":{]}}", Refusal::NotJson),
        ("", Refusal::NotJson),
    ] {
        assert_eq!(form(text), Err(refusal), "{text}");
    }
    let many = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(MEMBERS_MAX));
    assert_eq!(form(&many), Err(Refusal::TooMany));
}

#[test]
fn depth_costs_neither_stack_nor_time() {
    let deep = |levels: usize| {
        let (open, close) = (r#"{"b":1,"a":"#, "}");
        open.repeat(levels) + "0" + &close.repeat(levels)
    };
    assert!(form(&deep(DEPTH_MAX)).is_ok());
    assert_eq!(form(&deep(DEPTH_MAX + 1)), Err(Refusal::NotJson));
}

#[test]
fn what_the_walk_accepts_has_a_form() {
    for text in [r#"{"a":[[],{},[{}]],"b":{"c":{}}}"#, "\n{}\t", r#"{"":""}"#] {
        let walk = walk_object(text, |_| {});
        assert_eq!(walk.is_ok(), form(text).is_ok(), "{text}");
    }
}
