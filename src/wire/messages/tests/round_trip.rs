//! What is written is read again as the same.

use proptest::prelude::*;

use super::super::super::form::{Answer, Delta, Dropped, Event, PartKind, PartStart, Tokens};
use super::super::super::json::view::{Lit, View};
use super::super::super::json::walk_object;
use super::super::super::sse;
use super::super::{Decoder, Encoder, read_answer, read_request, write_answer, write_request};
use super::strategies::{answers, requests};
use super::{ABOUT, TARGET};

/// A stream that says what `answer` says, each text in two pieces.
fn events(answer: &Answer<'static>) -> Vec<Event<'static>> {
    let mut events = vec![Event::Start {
        id: answer.id.clone(),
        model: answer.model.clone(),
        created: None,
        usage: Some(Tokens {
            output: 1,
            reasoning: 0,
            ..answer.usage
        }),
    }];
    let choice = &answer.choices[0];
    for (part, kind) in (0_u32..).zip(&choice.parts) {
        let twice = |text: &Lit<'static>, delta: fn(Lit<'static>) -> Delta<'static>| {
            vec![delta(text.clone()), delta(text.clone())]
        };
        let (kind, deltas) = match &kind.kind {
            PartKind::Thinking { text, signature } => {
                let mut deltas = twice(text, Delta::Thinking);
                deltas.extend(signature.clone().map(Delta::Signature));
                (PartStart::Thinking, deltas)
            }
            PartKind::RedactedThinking(data) => (PartStart::RedactedThinking(data.clone()), vec![]),
            PartKind::ToolCall { id, name, .. } => {
                let (id, name) = (id.clone(), name.clone());
                let arguments = Lit::escaped(r#"{\"a\""#);
                (
                    PartStart::ToolCall { id, name },
                    twice(&arguments, Delta::Arguments),
                )
            }
            PartKind::Text(text) => (PartStart::Text, twice(text, Delta::Text)),
            _ => continue,
        };
        let choice = 0;
        events.push(Event::PartStart { choice, part, kind });
        events.extend(deltas.into_iter().map(|delta| Event::PartDelta {
            choice,
            part,
            delta,
        }));
        events.push(Event::PartStop { choice, part });
    }
    events.push(Event::Finish {
        choice: 0,
        stop: choice.stop,
        stop_sequence: choice.stop_sequence.clone(),
    });
    events.extend([Event::Usage(answer.usage), Event::End]);
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_request_is_read_as_it_was_written(request in requests()) {
        let mut request = request;
        let body = write_request(&mut request, &TARGET).unwrap();
        prop_assert!(request.dropped.is_empty(), "{}", request.dropped);
        let body = String::from_utf8(body).unwrap();
        walk_object(&body, |_| {}).unwrap();
        prop_assert_eq!(read_request(View::new(&body)).unwrap(), request);
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(answer in answers()) {
        let mut dropped = Dropped::default();
        let body = String::from_utf8(write_answer(&answer, &ABOUT, &mut dropped)).unwrap();
        walk_object(&body, |_| {}).unwrap();
        prop_assert_eq!(read_answer(View::new(&body)).unwrap(), answer);
        prop_assert!(dropped.is_empty());
    }

    #[test]
    fn a_stream_is_read_as_it_was_written(answer in answers()) {
        let expected = events(&answer);
        let mut encoder = Encoder::new(&ABOUT);
        let mut stream = Vec::new();
        for event in &expected {
            encoder.event(event, &mut stream);
        }
        let data: Vec<String> = sse::events(&stream)
            .map(|event| {
                let data = String::from_utf8(event.data.unwrap().into_owned()).unwrap();
                assert!(View::new(&data).get("type").unwrap().is(event.name.unwrap()));
                walk_object(&data, |_| {}).unwrap();
                data
            })
            .collect();
        let (mut decoder, mut found) = (Decoder::new(), Vec::new());
        for data in &data {
            decoder.event(View::new(data), &mut found).unwrap();
        }
        prop_assert_eq!(found, expected);
    }
}
