//! What the stream decoder makes of what a provider sends.

use super::super::super::form::{Event, NotOfDialect, Tokens};
use super::super::super::json::view::{Lit, View};
use super::super::Decoder;

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":9,"output_tokens":1}}}"#;

/// The events after `message_start`, in short.
fn read(stream: &[&str]) -> Result<Vec<String>, NotOfDialect> {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    decoder.event(View::new(START), &mut out)?;
    out.clear();
    for data in stream {
        decoder.event(View::new(data), &mut out)?;
    }
    Ok(out.iter().map(short).collect())
}

fn short(event: &Event<'_>) -> String {
    match event {
        Event::PartStart { part, kind, .. } => format!("{part} {kind:?}"),
        Event::PartDelta { part, delta, .. } => format!("{part} {delta:?}"),
        Event::PartStop { part, .. } => format!("{part} stop"),
        Event::Finish {
            stop,
            stop_sequence,
            ..
        } => format!("{stop:?} {stop_sequence:?}"),
        Event::Usage(tokens) => format!("{} {}", tokens.input, tokens.output),
        other => format!("{other:?}"),
    }
    .replace("Lit(", "(")
}

fn check(stream: &[&str], expected: &[&str]) {
    assert_eq!(read(stream).unwrap(), expected);
}

#[test]
fn a_stream_begins_with_its_message() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    decoder
        .event(View::new(r#"{"type":"ping"}"#), &mut out)
        .unwrap();
    decoder.event(View::new(START), &mut out).unwrap();
    let usage = Tokens {
        input: 9,
        output: 1,
        ..Default::default()
    };
    let start = Event::Start {
        id: Lit::of("msg_1"),
        model: Lit::of("m"),
        created: None,
        usage: Some(usage),
    };
    assert_eq!(out, [start]);
    assert!(decoder.event(View::new(START), &mut out).is_err());
}

#[test]
fn every_kind_of_block_is_read_and_the_others_are_not_counted() {
    check(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"enc"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"so","citations":null}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"\n"}}"#,
            r#"{"type":"something_new","index":3}"#,
            r#"{"type":"content_block_stop","index":3}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
            r#"{"type":"content_block_stop","index":4}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":12}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        &[
            "0 Thinking",
            r#"0 Thinking(("hm"))"#,
            r#"0 Signature(("sig"))"#,
            "0 stop",
            r#"1 RedactedThinking(("enc"))"#,
            "1 stop",
            "2 Text",
            r#"2 Text(("so"))"#,
            r#"2 Text(("\\n"))"#,
            "2 stop",
            r#"3 ToolCall { id: ("t"), name: ("f") }"#,
            r#"3 Arguments(("{\\\"a\\\":"))"#,
            r#"3 Arguments(("1}"))"#,
            "3 stop",
            "ToolCalls None",
            "9 12",
            "End",
        ],
    );
}

#[test]
fn arguments_that_come_with_the_start_are_passed_on_unless_others_follow() {
    const CALL: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#;
    const STOP: &str = r#"{"type":"content_block_stop","index":0}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
    let start = r#"0 ToolCall { id: ("t"), name: ("f") }"#;
    check(
        &[CALL, STOP],
        &[start, r#"0 Arguments(("{\\\"a\\\":1}"))"#, "0 stop"],
    );
    check(
        &[CALL, delta, STOP],
        &[start, r#"0 Arguments(("{}"))"#, "0 stop"],
    );
}

#[test]
fn what_is_open_ends_with_the_stop_reason_which_comes_once() {
    check(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":8,"output_tokens":3}}"#,
            r#"{"type":"message_stop"}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ],
        &[
            "0 Text",
            "0 stop",
            r#"StopSequence Some(("END"))"#,
            "8 3",
            "End",
        ],
    );
    check(&[r#"{"type":"message_stop"}"#], &["End None", "End"]);
}

#[test]
fn what_comes_out_of_order_is_not_of_the_dialect() {
    let check = |stream: &[&str], expected: &str| {
        assert_eq!(read(stream).unwrap_err().0, expected, "{stream:?}");
    };
    const TEXT: &str =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    check(
        &[r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#],
        "an event of a content block that is not open",
    );
    check(&[TEXT, TEXT], "a content block that is open already");
    check(
        &[
            TEXT,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}"#,
        ],
        "a delta of another type than its block",
    );
    check(
        &[
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            TEXT,
        ],
        "a content block after the stop reason",
    );
    check(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t"}}"#,
        ],
        "a content_block_start without what its type asks for",
    );
    let mut decoder = Decoder::new();
    assert_eq!(
        decoder.event(View::new(TEXT), &mut Vec::new()),
        Err(NotOfDialect("an event before message_start"))
    );
}
