//! Tests of the chunks that an encoder writes.

use super::*;
use crate::wire::Dialect;
use crate::wire::form::Stop;
use crate::wire::json::view::View;

fn start() -> Event<'static> {
    Event::Start {
        id: Lit::of("msg_1"),
        model: Lit::of("m"),
        created: None,
        usage: None,
    }
}

fn begin(part: u32, kind: PartStart<'static>) -> Event<'static> {
    let choice = 0;
    Event::PartStart { choice, part, kind }
}

fn grow(part: u32, delta: Delta<'static>) -> Event<'static> {
    Event::PartDelta {
        choice: 0,
        part,
        delta,
    }
}

fn call(part: u32, id: &'static str) -> Event<'static> {
    let (id, name) = (Lit::of(id), Lit::of("f"));
    begin(part, PartStart::ToolCall { id, name })
}

fn stop(part: u32) -> Event<'static> {
    Event::PartStop { choice: 0, part }
}

fn finish(choice: u32, stop: Stop) -> Event<'static> {
    Event::Finish {
        choice,
        stop,
        stop_sequence: None,
    }
}

fn encode(events: &[Event<'_>], include_usage: bool) -> String {
    let mut encoder = Encoder::new(&About {
        now: 17,
        include_usage,
        provider: Dialect::Anthropic,
        response_id: "",
    });
    let mut out = Vec::new();
    events.iter().for_each(|it| encoder.event(it, &mut out));
    String::from_utf8(out).unwrap()
}

/// Checks the deltas that these events of a choice become behind its role.
fn check(events: Vec<Event<'_>>, expected: &[&str]) {
    let mut all = vec![start()];
    all.extend(events);
    let written = encode(&all, false);
    let deltas = written.split("\n\n").filter_map(|chunk| {
        let rest = chunk.split_once("\"choices\":[{\"index\":0,\"delta\":")?.1;
        Some(
            rest.strip_suffix(",\"logprobs\":null,\"finish_reason\":null}]}")?
                .to_owned(),
        )
    });
    let deltas: Vec<String> = deltas.skip(1).collect();
    assert_eq!(deltas, expected);
}

#[test]
fn a_stream_is_as_the_vendors_byte_for_byte() {
    let events = [
        start(),
        begin(0, PartStart::Text),
        grow(0, Delta::Text(Lit::escaped("a\\n"))),
        grow(0, Delta::Text(Lit::default())),
        Event::Logprobs {
            choice: 0,
            value: View::new("{\"content\":\n[]}"),
        },
        stop(0),
        finish(0, Stop::End),
        finish(0, Stop::End),
        Event::Usage(Tokens {
            input: 3,
            output: 2,
            ..Tokens::default()
        }),
        Event::End,
    ];
    let head = r#"data: {"id":"chatcmpl-msg_1","object":"chat.completion.chunk","created":17,"model":"m","choices":["#;
    let expected = |usage: &str, last: &str| {
        format!(
            concat!(
                r#"{0}{{"index":0,"delta":{{"role":"assistant","content":"","refusal":null}},"logprobs":null,"finish_reason":null}}]{1}}}"#,
                "\n\n",
                r#"{0}{{"index":0,"delta":{{"content":"a\n"}},"logprobs":null,"finish_reason":null}}]{1}}}"#,
                "\n\n",
                r#"{0}{{"index":0,"delta":{{}},"logprobs":{{"content": []}},"finish_reason":null}}]{1}}}"#,
                "\n\n",
                r#"{0}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}]{1}}}"#,
                "\n\n{2}data: [DONE]\n\n"
            ),
            head, usage, last
        )
    };
    assert_eq!(encode(&events, false), expected("", ""));
    let last = format!(
        "{head}],\"usage\":{}}}\n\n",
        concat!(
            r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"#,
            r#""prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0},"#,
            r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#
        )
    );
    assert_eq!(encode(&events, true), expected(",\"usage\":null", &last));
}

#[test]
fn calls_are_numbered_among_themselves() {
    check(
        vec![
            begin(0, PartStart::Text),
            grow(0, Delta::Text(Lit::of("a"))),
            stop(0),
            call(1, "x"),
            call(2, "y"),
            grow(2, Delta::Arguments(Lit::escaped("{\\\"a"))),
            grow(1, Delta::Arguments(Lit::default())),
            grow(2, Delta::Arguments(Lit::escaped("\\\":1}"))),
            stop(1),
            stop(2),
        ],
        &[
            r#"{"content":"a"}"#,
            r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":1,"function":{"arguments":"{\"a"}}]}"#,
            r#"{"tool_calls":[{"index":1,"function":{"arguments":"\":1}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#,
        ],
    );
}

#[test]
fn thoughts_are_signed_where_they_end() {
    check(
        vec![
            begin(0, PartStart::Thinking),
            grow(0, Delta::Thinking(Lit::of("h"))),
            grow(0, Delta::Thinking(Lit::of("m"))),
            grow(0, Delta::Signature(Lit::of("s"))),
            stop(0),
            begin(1, PartStart::RedactedThinking(Lit::of("x"))),
            stop(1),
            begin(2, PartStart::Thinking),
            grow(2, Delta::Thinking(Lit::of("oh"))),
            stop(2),
            begin(3, PartStart::Refusal),
            grow(3, Delta::Refusal(Lit::of("no"))),
            stop(3),
        ],
        &[
            r#"{"reasoning_content":"h"}"#,
            r#"{"reasoning_content":"m"}"#,
            r#"{"thinking_blocks":[{"index":0,"type":"thinking","thinking":"hm","signature":"s"}]}"#,
            r#"{"thinking_blocks":[{"index":1,"type":"redacted_thinking","data":"x"}]}"#,
            r#"{"reasoning_content":"oh"}"#,
            r#"{"refusal":"no"}"#,
        ],
    );
}

#[test]
fn each_choice_has_its_role_and_its_finish() {
    let written = encode(&[start(), finish(1, Stop::MaxTokens), Event::End], false);
    let role = |index| {
        let role = r#"{"role":"assistant","content":"","refusal":null}"#;
        format!(r#"{{"index":{index},"delta":{role}"#)
    };
    assert!(written.contains(&role(0)) && written.contains(&role(1)));
    let end = r#"{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}"#;
    assert!(written.contains(end));
}

#[test]
fn thoughts_too_long_to_keep_are_not_signed() {
    let long = Lit::escaped("a".repeat(THOUGHT_BYTES_MAX));
    let events = [
        start(),
        begin(0, PartStart::Thinking),
        grow(0, Delta::Thinking(long)),
        grow(0, Delta::Thinking(Lit::of("b"))),
        grow(0, Delta::Signature(Lit::of("s"))),
        stop(0),
    ];
    assert!(!encode(&events, false).contains("thinking_blocks"));
}
