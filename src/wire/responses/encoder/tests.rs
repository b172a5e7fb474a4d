//! What each event becomes, and in which order.

use super::super::super::json::view::View;
use super::super::read_asked;
use super::super::tests::{ABOUT, events_of};
use super::*;
use serde_json::{Value, json};

fn start() -> Event<'static> {
    Event::Start {
        id: Lit::of("x"),
        model: Lit::of("claude"),
        created: Some(7),
        usage: Some(Tokens::default()),
    }
}

const fn begin(part: u32, kind: PartStart<'static>) -> Event<'static> {
    Event::PartStart {
        choice: 0,
        part,
        kind,
    }
}

const fn grow(part: u32, delta: Delta<'static>) -> Event<'static> {
    Event::PartDelta {
        choice: 0,
        part,
        delta,
    }
}

fn text(part: u32, text: &'static str) -> Event<'static> {
    grow(part, Delta::Text(Lit::of(text)))
}

const fn finish(stop: Stop) -> Event<'static> {
    Event::Finish {
        choice: 0,
        stop,
        stop_sequence: None,
    }
}

const fn stop(part: u32) -> Event<'static> {
    Event::PartStop { choice: 0, part }
}

fn run(asked: &str, events: &[Event<'_>]) -> (Encoder, Vec<Value>) {
    let asked = read_asked(View::new(asked)).unwrap();
    let mut encoder = Encoder::new(asked, &ABOUT);
    let mut out = Vec::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    let events = events_of(&out);
    (encoder, events)
}

/// The events without the word `response.` that begins nearly all of them.
fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["type"].as_str().unwrap());
    names
        .map(|name| name.strip_prefix("response.").unwrap_or(name))
        .collect()
}

#[test]
fn a_text_has_the_vendors_events() {
    let (encoder, events) = run(
        "{}",
        &[
            start(),
            begin(0, PartStart::Text),
            text(0, "a"),
            text(0, "\"b"),
            stop(0),
            finish(Stop::End),
            Event::Usage(Tokens {
                output: 2,
                ..Tokens::default()
            }),
            Event::End,
        ],
    );
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&events), expected);
    let response = &events[0]["response"];
    assert_eq!(response["status"], "in_progress");
    assert_eq!(response["created_at"], 7);
    assert_eq!(response["model"], "claude");
    let item = json!({"id": "msg_1_0", "type": "message", "status": "in_progress",
        "role": "assistant", "content": []});
    assert_eq!(events[2]["item"], item);
    let delta = json!({"type": "response.output_text.delta", "sequence_number": 5,
        "item_id": "msg_1_0", "output_index": 0, "content_index": 0, "delta": "\"b",
        "logprobs": []});
    assert_eq!(events[5], delta);
    assert_eq!(events[6]["text"], "a\"b");
    assert_eq!(events[9]["response"]["usage"]["output_tokens"], 2);
    let kept: Value = serde_json::from_slice(encoder.response().unwrap()).unwrap();
    assert_eq!(events[9]["response"], kept);
}

#[test]
fn items_of_all_kinds_follow_each_other() {
    let call = PartStart::ToolCall {
        id: Lit::of("c1"),
        name: Lit::of("f"),
    };
    let (_, events) = run(
        "{}",
        &[
            start(),
            begin(0, PartStart::Thinking),
            grow(0, Delta::Thinking(Lit::of("t"))),
            grow(0, Delta::Signature(Lit::of("sig"))),
            stop(0),
            begin(1, PartStart::RedactedThinking(Lit::of("x"))),
            stop(1),
            begin(2, PartStart::Refusal),
            grow(2, Delta::Refusal(Lit::of("no"))),
            stop(2),
            begin(3, call),
            grow(3, Delta::Arguments(Lit::of("{}"))),
            stop(3),
            finish(Stop::ToolCalls),
            Event::End,
        ],
    );
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(events[7]["item"]["encrypted_content"], "signed:sig");
    assert_eq!(events[9]["item"]["encrypted_content"], "redacted:x");
    let done = json!({"type": "response.function_call_arguments.done", "sequence_number": 18,
        "item_id": "fc_1_3", "output_index": 3, "name": "f", "arguments": "{}"});
    assert_eq!(events[18], done);
    let ids = |item: &Value| item["id"].clone();
    let output = events[20]["response"]["output"].as_array().unwrap();
    let output: Vec<_> = output.iter().map(ids).collect();
    assert_eq!(output, ["rs_1_0", "rs_1_1", "msg_1_2", "fc_1_3"]);
}

#[test]
fn an_answer_that_was_cut_ends_incomplete() {
    let (_, events) = run(
        "{}",
        &[
            start(),
            begin(0, PartStart::Text),
            text(0, "a"),
            stop(0),
            finish(Stop::MaxTokens),
            Event::End,
        ],
    );
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(events[7]["item"]["status"], "incomplete");
}

#[test]
fn log_probabilities_go_with_the_piece_that_they_are_of() {
    let logprobs = |value| Event::Logprobs {
        choice: 0,
        value: View::new(value),
    };
    let (_, events) = run(
        r#"{"include":["message.output_text.logprobs"]}"#,
        &[
            start(),
            begin(0, PartStart::Text),
            text(0, "a"),
            logprobs("{\"content\":[{\"token\":\"a\",\n\"logprob\":-1}]}"),
            text(0, "b"),
            text(0, "c"),
            logprobs(r#"{"content":[{"token":"c"},{"token":""}]}"#),
            logprobs(r#"{"content":[{"token":"d"}]}"#),
            stop(0),
            finish(Stop::End),
            Event::End,
        ],
    );
    let expected = [
        json!([{"token": "a", "logprob": -1}]),
        json!([]),
        json!([{"token": "c"}, {"token": ""}]),
    ];
    for (event, expected) in events[4..7].iter().zip(expected) {
        assert_eq!(event["logprobs"], expected);
    }
    let of_all = events[7]["logprobs"].as_array().unwrap();
    let tokens: Vec<_> = of_all.iter().map(|it| it["token"].clone()).collect();
    assert_eq!(tokens, ["a", "c", "", "d"]);
}

#[test]
fn a_stream_that_breaks_says_so_once_and_keeps_nothing() {
    let asked = read_asked(View::new(r#"{"model":"gpt"}"#)).unwrap();
    let mut encoder = Encoder::new(asked, &ABOUT);
    let mut out = Vec::new();
    for event in [start(), begin(0, PartStart::Text), text(0, "a")] {
        encoder.event(&event, &mut out);
    }
    encoder.fail("upstream", "the provider\nhung up", &mut out);
    encoder.fail("upstream", "again", &mut out);
    encoder.event(&Event::End, &mut out);
    let events = events_of(&out);
    assert_eq!(
        names(&events)[4..],
        ["output_text.delta", "error", "failed"]
    );
    let error = json!({"type": "error", "sequence_number": 5, "code": "upstream",
        "message": "the provider\nhung up", "param": null});
    assert_eq!(events[5], error);
    let response = &events[6]["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(
        response["error"],
        json!({"code": "server_error", "message": "the provider\nhung up"})
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(encoder.response(), None);
}

#[test]
fn a_stream_that_never_began_begins_before_it_fails() {
    let asked = read_asked(View::new(r#"{"model":"gpt"}"#)).unwrap();
    let mut encoder = Encoder::new(asked, &ABOUT);
    let mut out = Vec::new();
    encoder.fail("rate_limit_exceeded", "slow down", &mut out);
    let events = events_of(&out);
    assert_eq!(
        names(&events),
        ["created", "in_progress", "error", "failed"]
    );
    assert_eq!(events[0]["response"]["model"], "gpt");
    assert_eq!(
        events[3]["response"]["error"]["code"],
        "rate_limit_exceeded"
    );
}

#[test]
fn the_time_of_completion_is_the_last_that_was_told() {
    let asked = read_asked(View::new("{}")).unwrap();
    let mut encoder = Encoder::new(asked, &ABOUT);
    let mut out = Vec::new();
    encoder.event(&start(), &mut out);
    encoder.set_now(ABOUT.now + 9);
    encoder.event(&Event::End, &mut out);
    let response = events_of(&out).pop().unwrap();
    assert_eq!(response["response"]["completed_at"], ABOUT.now + 9);
}

#[test]
fn other_choices_are_left_out() {
    let other = Event::PartStart {
        choice: 1,
        part: 0,
        kind: PartStart::Text,
    };
    let (_, events) = run("{}", &[start(), other, Event::End]);
    assert_eq!(names(&events), ["created", "in_progress", "completed"]);
}
