//! Lines as whoever reads the log finds them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn line(format: LogFormat, message: &str, fields: impl FnOnce(&mut Line)) -> String {
    let mut line = Line::begin(format, UNIX_EPOCH, Level::Warn, "victor::test", message);
    fields(&mut line);
    line.finish(|line| String::from_utf8(line.to_vec()).unwrap())
}

fn parsed(message: &str, fields: impl FnOnce(&mut Line)) -> Json {
    let text = line(LogFormat::Json, message, fields);
    assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_line_has_its_fixed_fields_first() {
    assert_eq!(
        line(LogFormat::Json, "hello", |_| ()),
        "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"WARN\",\
         \"logger\":\"victor::test\",\"message\":\"hello\",\"service\":\"victor\"}\n"
    );
    assert_eq!(
        line(LogFormat::Text, "hello\n\"x\"", |line| line
            .text("key", "a \"b\"\n")),
        "1970-01-01T00:00:00.000Z WARN  victor::test hello\\n\"x\" key=\"a \\\"b\\\"\\n\"\n"
    );
}

#[test]
fn key_values_keep_their_types_and_cannot_hide_a_fixed_field() {
    let pairs: &[(&str, Value<'_>)] = &[
        ("count", Value::from(3_u64)),
        ("below", Value::from(-3_i64)),
        ("ratio", Value::from(0.25)),
        ("not_a_number", Value::from(f64::NAN)),
        ("on", Value::from(true)),
        ("name", Value::from("a\"b")),
        ("level", Value::from("mine")),
    ];
    let record = Record::builder()
        .level(Level::Info)
        .target("t")
        .args(format_args!("m"))
        .key_values(&pairs)
        .build();
    let line = Line::of(LogFormat::Json, UNIX_EPOCH, &record);
    let got: Json = line.finish(|line| serde_json::from_slice(line).unwrap());
    let expected = json!({
        "timestamp": "1970-01-01T00:00:00.000Z", "level": "INFO", "logger": "t",
        "message": "m", "service": "victor", "count": 3, "below": -3, "ratio": 0.25,
        "not_a_number": null, "on": true, "name": "a\"b", "_level": "mine",
    });
    assert_eq!(got, expected);
}

#[test]
fn durations_are_numbers() {
    let got = parsed("", |line| {
        line.milliseconds("a", Duration::from_micros(1_234_056));
        line.milliseconds("b", Duration::ZERO);
    });
    assert_eq!((&got["a"], &got["b"]), (&json!(1234.056), &json!(0.0)));
}

#[test]
fn a_long_value_is_cut_at_a_character() {
    let got = parsed(&"ä".repeat(MESSAGE_BYTES_MAX), |line| {
        line.text("value", &"ab".repeat(VALUE_BYTES_MAX));
    });
    let message = got["message"].as_str().unwrap();
    assert_eq!(message.len(), MESSAGE_BYTES_MAX + "…".len());
    assert!(got["value"].as_str().unwrap().ends_with("b…"));
}

proptest! {
    #[test]
    fn any_text_comes_back_from_its_line(message in ".{0,200}", value in any::<String>()) {
        let got = parsed(&message, |line| line.text("value", &value));
        prop_assert_eq!(got["message"].as_str(), Some(message.as_str()));
        if value.len() <= VALUE_BYTES_MAX {
            prop_assert_eq!(got["value"].as_str(), Some(value.as_str()));
        }
    }
}
