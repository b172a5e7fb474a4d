//! What holds for any request, answer and stream: reading and writing are each other's reverse,
//! and how a text is cut makes no difference.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Dialect;
use super::super::form::{
    Answer, Arguments, Choice, Delta, Dropped, Event, Part, PartKind, PartStart, Request, Source,
    Stop, Tokens, Turn,
};
use super::super::json::view::{Lit, View};
use super::super::{sse, translate::About};
use super::*;

pub(super) const ABOUT: About<'static> = About {
    now: 1_700_000_000,
    include_usage: false,
    provider: Dialect::Anthropic,
    response_id: "resp_1",
};

/// Turns in few words: `user: "hi" / assistant: think "a" sig; call c1 f "{}"`.
pub(super) fn shown(turns: &[Turn<'_>]) -> String {
    let turns = turns.iter().map(|turn| {
        let role = format!("{:?}", turn.role).to_lowercase();
        format!("{role}: {}", shown_parts(&turn.parts))
    });
    turns.collect::<Vec<_>>().join(" / ")
}

fn shown_parts(parts: &[Part<'_>]) -> String {
    let parts = parts.iter().map(|part| match &part.kind {
        PartKind::Text(text) => format!("{:?}", text.unescape()),
        PartKind::Refusal(text) => format!("refuse {:?}", text.unescape()),
        PartKind::Thinking { text, signature } => {
            let signature = signature.as_ref().map_or("-".into(), Lit::unescape);
            format!("think {:?} {signature}", text.unescape())
        }
        PartKind::RedactedThinking(data) => format!("redacted {}", data.unescape()),
        PartKind::ToolCall {
            id,
            name,
            arguments,
        } => {
            let arguments = arguments.as_text();
            let arguments = arguments.unescape();
            format!("call {} {} {arguments:?}", id.unescape(), name.unescape())
        }
        PartKind::ToolResult { id, content, .. } => {
            format!("result {} [{}]", id.unescape(), shown_parts(content))
        }
        PartKind::Image { source, .. } => format!("image {}", shown_source(source)),
        PartKind::Document { source, .. } => format!("document {}", shown_source(source)),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn shown_source(source: &Source<'_>) -> String {
    match source {
        Source::Url(url) => url.unescape().into_owned(),
        Source::Base64 { media_type, data } => {
            format!("{} {}", media_type.unescape(), data.unescape())
        }
        Source::Text(text) => format!("{:?}", text.unescape()),
        Source::File { id, .. } => id.unescape().into_owned(),
    }
}

/// The events of `stream`, each named after its `type` and numbered in turn.
pub(super) fn events_of(stream: &[u8]) -> Vec<Value> {
    let events = sse::events(stream).enumerate().map(|(number, event)| {
        let data: Value = serde_json::from_slice(&event.data.unwrap()).unwrap();
        assert_eq!(event.name, data["type"].as_str());
        assert_eq!(data["sequence_number"], number);
        data
    });
    events.collect()
}

/// Puts a response together from its events, as strictly as the vendor's SDK for Node.js.
fn accumulated(events: &[Value]) -> Value {
    let mut response = events[0]["response"].clone();
    for event in events {
        let output = &mut response["output"];
        let index = event["output_index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "response.created" | "response.in_progress" => {
                assert_eq!(event["response"]["output"], json!([]));
                assert_eq!(event["response"]["usage"], Value::Null);
            }
            "response.output_item.added" => {
                assert_eq!(output.as_array().unwrap().len(), index);
                output.as_array_mut().unwrap().push(event["item"].clone());
            }
            "response.output_item.done" => {
                for late in ["status", "encrypted_content"] {
                    if !event["item"][late].is_null() {
                        output[index][late] = event["item"][late].clone();
                    }
                }
                assert_eq!(output[index], event["item"]);
            }
            "response.completed" | "response.incomplete" => {
                assert_eq!(event["response"]["output"], *output);
                response = event["response"].clone();
            }
            _ => {
                assert_eq!(output[index]["id"], event["item_id"]);
                accumulate_part(&mut output[index], event);
            }
        }
    }
    response
}

/// The same for the events of a part of `item`.
fn accumulate_part(item: &mut Value, event: &Value) {
    let append = |to: &mut Value| {
        let delta = event["delta"].as_str().unwrap();
        *to = format!("{}{delta}", to.as_str().unwrap()).into();
    };
    let content = event["content_index"].as_u64().unwrap_or(0) as usize;
    match event["type"].as_str().unwrap() {
        "response.content_part.added" => {
            let parts = item["content"].as_array_mut().unwrap();
            assert_eq!(parts.len(), content);
            parts.push(event["part"].clone());
        }
        "response.reasoning_summary_part.added" => {
            let parts = item["summary"].as_array_mut().unwrap();
            assert!(parts.is_empty());
            parts.push(event["part"].clone());
        }
        "response.output_text.delta" => append(&mut item["content"][content]["text"]),
        "response.refusal.delta" => append(&mut item["content"][content]["refusal"]),
        "response.function_call_arguments.delta" => append(&mut item["arguments"]),
        "response.reasoning_summary_text.delta" => append(&mut item["summary"][0]["text"]),
        "response.output_text.done" => {
            assert_eq!(item["content"][content]["text"], event["text"]);
        }
        "response.refusal.done" => {
            assert_eq!(item["content"][content]["refusal"], event["refusal"]);
        }
        "response.content_part.done" => assert_eq!(item["content"][content], event["part"]),
        "response.function_call_arguments.done" => {
            assert_eq!(item["arguments"], event["arguments"]);
            assert_eq!(item["name"], event["name"]);
        }
        "response.reasoning_summary_text.done" => {
            assert_eq!(item["summary"][0]["text"], event["text"]);
        }
        "response.reasoning_summary_part.done" => {
            assert_eq!(item["summary"][0], event["part"]);
        }
        other => panic!("{other}"),
    }
}

/// An answer that borrows from nothing.
fn answer() -> impl Strategy<Value = Answer<'static>> {
    let lit = |pattern: &'static str| pattern.prop_map(|text: String| Lit::of(&text).into_owned());
    let kind = prop_oneof![
        lit("\\PC{0,12}|[\"\\\\\n\u{1}é😀]{0,6}").prop_map(PartKind::Text),
        lit("\\PC{1,8}").prop_map(PartKind::Refusal),
        (lit("\\PC{1,8}"), prop::option::of(lit("[a-z=]{1,8}")))
            .prop_map(|(text, signature)| PartKind::Thinking { text, signature }),
        lit("[a-z=]{1,8}").prop_map(|signature| PartKind::Thinking {
            text: Lit::default(),
            signature: Some(signature),
        }),
        lit("[a-z=]{0,8}").prop_map(PartKind::RedactedThinking),
        (lit("[a-z]{1,4}"), lit("[a-z]{1,4}"), "[{}\"a:1]{0,8}").prop_map(
            |(id, name, arguments)| PartKind::ToolCall {
                id,
                name,
                arguments: Arguments::Json(arguments.into()),
            }
        ),
    ];
    let stop = prop_oneof![
        Just(Stop::End),
        Just(Stop::MaxTokens),
        Just(Stop::Refusal),
        Just(Stop::ToolCalls)
    ];
    let usage = (0..99_u64, 0..99_u64, 0..99_u64).prop_map(|(input, cache_read, output)| Tokens {
        input,
        cache_read,
        output,
        ..Tokens::default()
    });
    (prop::collection::vec(kind, 0..6), stop, usage).prop_map(|(kinds, stop, usage)| Answer {
        id: Lit::of("x"),
        model: Lit::of("m"),
        created: Some(7),
        choices: vec![Choice {
            parts: kinds.into_iter().map(Part::from).collect(),
            stop,
            stop_sequence: None,
            logprobs: None,
        }],
        usage,
    })
}

/// The answer's events, with its texts cut into pieces of as many characters as `cuts` say.
fn stream(answer: &Answer<'_>, cuts: &[usize], out: &mut Vec<u8>) -> Encoder {
    let asked = read_asked(View::new(r#"{"tools":[{"type":"web_search"}]}"#)).unwrap();
    let mut encoder = Encoder::new(asked, &ABOUT);
    encoder.event(
        &Event::Start {
            id: answer.id.clone(),
            model: answer.model.clone(),
            created: answer.created,
            usage: None,
        },
        out,
    );
    let choice = &answer.choices[0];
    for (part, number) in choice.parts.iter().zip(0..) {
        let (kind, deltas) = events_of_part(&part.kind, cuts);
        encoder.event(
            &Event::PartStart {
                choice: 0,
                part: number,
                kind,
            },
            out,
        );
        for delta in deltas {
            let event = Event::PartDelta {
                choice: 0,
                part: number,
                delta,
            };
            encoder.event(&event, out);
        }
        encoder.event(
            &Event::PartStop {
                choice: 0,
                part: number,
            },
            out,
        );
    }
    let finish = Event::Finish {
        choice: 0,
        stop: choice.stop,
        stop_sequence: None,
    };
    for event in [finish, Event::Usage(answer.usage), Event::End] {
        encoder.event(&event, out);
    }
    encoder
}

fn events_of_part(
    kind: &PartKind<'_>,
    cuts: &[usize],
) -> (PartStart<'static>, Vec<Delta<'static>>) {
    let pieces = |lit: &Lit<'_>| -> Vec<Lit<'static>> {
        let text: Vec<char> = lit.unescape().chars().collect();
        let mut rest = text.as_slice();
        let mut pieces = Vec::new();
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            let piece: String = piece.iter().collect();
            pieces.push(Lit::of(&piece).into_owned());
            rest = others;
        }
        pieces
    };
    let all = |lit: &Lit<'_>, delta: fn(Lit<'static>) -> Delta<'static>| {
        pieces(lit).into_iter().map(delta).collect::<Vec<_>>()
    };
    match kind {
        PartKind::Text(text) => (PartStart::Text, all(text, Delta::Text)),
        PartKind::Refusal(text) => (PartStart::Refusal, all(text, Delta::Refusal)),
        PartKind::Thinking { text, signature } => {
            let mut deltas = all(text, Delta::Thinking);
            deltas.extend(
                signature
                    .clone()
                    .map(|it| Delta::Signature(it.into_owned())),
            );
            (PartStart::Thinking, deltas)
        }
        PartKind::RedactedThinking(data) => {
            let data = data.clone().into_owned();
            (PartStart::RedactedThinking(data), Vec::new())
        }
        PartKind::ToolCall {
            id,
            name,
            arguments,
        } => {
            let start = PartStart::ToolCall {
                id: id.clone().into_owned(),
                name: name.clone().into_owned(),
            };
            (start, all(&arguments.as_text(), Delta::Arguments))
        }
        other => panic!("{other:?}"),
    }
}

/// Any value, with the dialect's own names and words in it.
fn value() -> impl Strategy<Value = Value> {
    let names = "type|role|content|text|id|call_id|name|arguments|output|summary|encrypted_content\
        |image_url|file_id|file_data|filename|detail|refusal|caller|tools|mode|format|schema|effort\
        |annotations|prompt_cache_breakpoint|[a-z]{0,3}";
    let words = "message|input_text|output_text|input_image|input_file|function_call|reasoning\
        |function_call_output|item_reference|function|allowed_tools|json_schema|user|assistant|auto\
        |required|data:a;base64,b|data:,|summary_text|msg_1_0|redacted:x|\\PC{0,4}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let object = prop::collection::vec((names, inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any body, with the names of members that are known.
fn body() -> impl Strategy<Value = Value> {
    let names = "input|instructions|previous_response_id|store|metadata|stream|max_output_tokens\
        |temperature|top_logprobs|include|text|reasoning|tools|tool_choice|background|truncation\
        |user|safety_identifier|[a-z]{0,3}";
    prop::collection::vec((names, value()), 0..8)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_answer_comes_back_as_the_turn_that_it_is(answer in answer()) {
        let asked = read_asked(View::new("{}")).unwrap();
        let mut dropped = Dropped::default();
        let response = write_answer(&answer, &asked, &ABOUT, &mut dropped);
        prop_assert!(dropped.is_empty());
        let response = String::from_utf8(response).unwrap();
        serde_json::from_str::<Value>(&response).unwrap();
        let past = output_items(View::new(&response));
        let request = read_request(View::new(r#"{"input":"go on"}"#), &past).unwrap();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for part in &answer.choices[0].parts {
            let mut part = part.clone();
            if let PartKind::ToolCall { arguments, .. } = &mut part.kind {
                *arguments = Arguments::Text(arguments.as_text().into_owned());
            }
            parts.push(part);
        }
        let found = if parts.is_empty() { &[][..] } else { &request.turns[0].parts };
        prop_assert_eq!(found, &parts);
        prop_assert!(request.dropped.is_empty());
        let expected_turns = if parts.is_empty() { 1 } else { 2 };
        prop_assert_eq!(request.turns.len(), expected_turns);
    }

    #[test]
    fn how_a_stream_is_cut_makes_no_difference(
        answer in answer(), cuts in prop::collection::vec(0..4_usize, 0..4)
    ) {
        let mut out = Vec::new();
        let encoder = stream(&answer, &cuts, &mut out);
        let asked = read_asked(View::new(r#"{"tools":[{"type":"web_search"}]}"#)).unwrap();
        let expected = write_answer(&answer, &asked, &ABOUT, &mut Dropped::default());
        let response = str::from_utf8(encoder.response().unwrap()).unwrap();
        prop_assert_eq!(response, str::from_utf8(&expected).unwrap());
        let events = events_of(&out);
        let whole: Value = serde_json::from_str(response).unwrap();
        prop_assert_eq!(accumulated(&events), whole);
        let seen = observe(None, View::new(&events.last().unwrap().to_string()));
        prop_assert!(seen.end && seen.error.is_none());
        prop_assert_eq!(seen.usage.unwrap().tokens(Dialect::Openai), answer.usage);
    }

    #[test]
    fn any_body_is_read_or_refused(body in body(), past in prop::collection::vec(value(), 0..3)) {
        let body = body.to_string();
        let past: Vec<String> = past.iter().map(Value::to_string).collect();
        let past: Vec<View<'_>> = past.iter().map(|item| View::new(item)).collect();
        let body = View::new(&body);
        let _ = read_request(body, &past);
        referenced_items(body);
        observe(None, body);
        output_items(body);
        if let Ok(items) = input_items(body) {
            prop_assert!(serde_json::from_slice::<Vec<Value>>(&items).is_ok());
        }
        if let Ok(asked) = read_asked(body) {
            let response = write_answer(&Answer::default(), &asked, &ABOUT, &mut Dropped::default());
            prop_assert!(serde_json::from_slice::<Value>(&response).is_ok());
        }
    }

    #[test]
    fn any_items_and_settings_are_read_or_refused(
        items in prop::collection::vec(value(), 0..4), name in "tools|tool_choice|text|reasoning|include", other in value()
    ) {
        let mut body = json!({"input": items});
        body[name] = other;
        let body = body.to_string();
        if let Ok(Request { turns, .. }) = read_request(View::new(&body), &[]) {
            shown(&turns);
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_no_panic(text in "[\\[\\]{}\",:a-c0-9\\\\u .é-]{0,40}") {
        for text in [text.clone(), format!("{{\"input\":[{text}"), format!("{{\"text\":{text}")] {
            let body = View::new(&text);
            let _ = (read_request(body, &[body]), read_asked(body), input_items(body));
            observe(None, body);
            output_items(body);
        }
    }
}
