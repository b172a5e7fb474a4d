//! Tests of the order in which a sequencer lets parts go out.

use super::*;
use crate::wire::form::Stop;
use proptest::prelude::*;

const fn start(part: u32, kind: PartStart<'static>) -> Event<'static> {
    Event::PartStart {
        choice: 0,
        part,
        kind,
    }
}

fn call(part: u32) -> Event<'static> {
    let id = Lit::escaped(part.to_string());
    let name = Lit::of("f");
    start(part, PartStart::ToolCall { id, name })
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

fn arguments(part: u32, text: &'static str) -> Event<'static> {
    grow(part, Delta::Arguments(Lit::of(text).into_owned()))
}

const fn stop(part: u32) -> Event<'static> {
    Event::PartStop { choice: 0, part }
}

const fn finish(choice: u32) -> Event<'static> {
    Event::Finish {
        choice,
        stop: Stop::End,
        stop_sequence: None,
    }
}

/// Checks, event by event, what goes out.
fn check(steps: Vec<(Event<'static>, Vec<Event<'static>>)>) {
    let mut sequencer = Sequencer::new();
    for (step, (event, expected)) in steps.into_iter().enumerate() {
        let mut out = Vec::new();
        sequencer.event(event, &mut out).unwrap();
        assert_eq!(out, expected, "step {step}");
    }
}

#[test]
fn parts_that_are_in_order_stream_through() {
    let events = [
        start(0, PartStart::Thinking),
        grow(0, Delta::Thinking(Lit::of("hm"))),
        grow(0, Delta::Signature(Lit::of("s"))),
        stop(0),
        start(1, PartStart::RedactedThinking(Lit::of("x"))),
        stop(1),
        start(2, PartStart::Text),
        text(2, "a"),
        stop(2),
        call(3),
        arguments(3, "{}"),
        stop(3),
        finish(0),
        Event::End,
    ];
    check(events.map(|event| (event.clone(), vec![event])).to_vec());
}

#[test]
fn calls_in_turns_wait_for_each_other() {
    check(vec![
        (call(0), vec![call(0)]),
        (call(1), vec![]),
        (arguments(1, "{"), vec![]),
        (arguments(0, "{\"a\":\"}"), vec![arguments(0, "{\"a\":\"}")]),
        (arguments(1, "}"), vec![]),
        (call(2), vec![]),
        (
            arguments(0, "\\\"\"}"),
            vec![
                arguments(0, "\\\"\"}"),
                stop(0),
                call(1),
                arguments(1, "{"),
                arguments(1, "}"),
                stop(1),
                call(2),
            ],
        ),
        (arguments(0, " "), vec![]),
        (stop(0), vec![]),
        (arguments(2, "{}"), vec![arguments(2, "{}")]),
        (stop(1), vec![]),
        (stop(2), vec![stop(2)]),
    ]);
}

#[test]
fn a_whole_call_makes_place_and_one_that_stopped_too() {
    check(vec![
        (call(0), vec![call(0)]),
        (arguments(0, "{}"), vec![arguments(0, "{}")]),
        (call(1), vec![stop(0), call(1)]),
        (stop(0), vec![]),
        (call(2), vec![]),
        (stop(2), vec![]),
        (start(3, PartStart::Text), vec![]),
        (text(3, "a"), vec![]),
        (
            stop(1),
            vec![
                stop(1),
                call(2),
                stop(2),
                start(3, PartStart::Text),
                text(3, "a"),
            ],
        ),
        (text(3, "b"), vec![text(3, "b")]),
        (finish(0), vec![stop(3), finish(0)]),
    ]);
}

#[test]
fn a_text_goes_on_in_another_part() {
    check(vec![
        (start(0, PartStart::Text), vec![start(0, PartStart::Text)]),
        (text(0, "a"), vec![text(0, "a")]),
        (call(1), vec![stop(0), call(1)]),
        (text(0, "b"), vec![]),
        (
            stop(1),
            vec![stop(1), start(2, PartStart::Text), text(2, "b")],
        ),
        (text(0, "c"), vec![text(2, "c")]),
        (stop(0), vec![stop(2)]),
        (finish(0), vec![finish(0)]),
    ]);
}

#[test]
fn other_choices_are_left_out() {
    let other = |event: Event<'static>| match event {
        Event::PartStart { part, kind, .. } => Event::PartStart {
            choice: 1,
            part,
            kind,
        },
        event => event,
    };
    check(vec![
        (other(call(0)), vec![]),
        (finish(1), vec![]),
        (Event::End, vec![Event::End]),
    ]);
}

#[test]
fn what_waits_is_bounded() {
    let mut sequencer = Sequencer::new();
    let mut out = Vec::new();
    sequencer.event(call(0), &mut out).unwrap();
    sequencer.event(call(1), &mut out).unwrap();
    let long = Lit::escaped("1".repeat(1 << 20));
    let mut long = || {
        let delta = Delta::Arguments(long.clone());
        sequencer.event(grow(1, delta), &mut out)
    };
    for _ in 0..7 {
        assert_eq!(long(), Ok(()));
    }
    assert_eq!(long(), Err(TooLong));
}

#[test]
fn braces_tell_a_whole_object() {
    let check = |fragments: &[&str], whole: bool| {
        let mut braces = Braces::default();
        fragments.iter().for_each(|it| braces.read(it));
        assert_eq!(braces.are_whole(), whole, "{fragments:?}");
    };
    check(&["{}"], true);
    check(&[" {\"a", "\":[{}]}", "\n"], true);
    check(&["{\"a\":\"\\", "\"}\"}"], true);
    check(&[], false);
    check(&["{\"a\":\"}"], false);
    check(&["{}x"], false);
    check(&["[]"], false);
    check(&["1{}"], false);
}

/// A part: its kind, and its deltas' texts.
fn any_part() -> impl Strategy<Value = (Kind, Vec<String>)> {
    let texts = prop::collection::vec("[a-z]{1,3}", 0..4);
    prop_oneof![
        texts.clone().prop_map(|it| (Kind::Text, it)),
        texts.clone().prop_map(|it| (Kind::Thinking, it)),
        texts.prop_map(|it| (Kind::Refusal, it)),
        Just((Kind::Redacted, Vec::new())),
        // Whole objects and cut ones, in fragments.
        (
            "[{}\\[\\]\"\\\\ ]{0,4}",
            any::<bool>(),
            any::<prop::sample::Index>()
        )
            .prop_map(|(text, whole, at)| {
                let mut json = serde_json::json!({ "a": [text] }).to_string();
                if !whole {
                    json.pop();
                }
                let (head, tail) = json.split_at(at.index(json.len()));
                (Kind::ToolCall, vec![head.to_owned(), tail.to_owned()])
            }),
    ]
}

fn start_of(part: u32, kind: Kind) -> PartStart<'static> {
    let id = Lit::escaped(part.to_string());
    match kind {
        Kind::Redacted => PartStart::RedactedThinking(id),
        Kind::ToolCall => PartStart::ToolCall {
            id,
            name: Lit::of("f"),
        },
        kind => kind.again().unwrap(),
    }
}

/// The delta of `part` that says `text`; a text says whose it is as well.
fn delta_of(part: u32, kind: Kind, text: &str) -> Delta<'static> {
    let marked = Lit::escaped(format!("{part}{text};"));
    match kind {
        Kind::Thinking => Delta::Thinking(marked),
        Kind::Refusal => Delta::Refusal(marked),
        Kind::ToolCall => Delta::Arguments(Lit::of(text).into_owned()),
        _ => Delta::Text(marked),
    }
}

/// The events of `parts`, in turns as `picks` say.
fn interleaved(
    parts: &[(Kind, Vec<String>)],
    picks: &[prop::sample::Index],
) -> Vec<Event<'static>> {
    let mut queues: Vec<VecDeque<Event<'static>>> = Vec::new();
    for (part, (kind, texts)) in parts.iter().enumerate() {
        let part = part as u32;
        let mut queue = VecDeque::from([start(part, start_of(part, *kind))]);
        queue.extend(texts.iter().map(|it| grow(part, delta_of(part, *kind, it))));
        queue.push_back(stop(part));
        queues.push(queue);
    }
    let mut events = Vec::new();
    let mut begun = 0;
    let mut picks = picks.iter().cycle();
    while queues.iter().any(|queue| !queue.is_empty()) {
        // One more than have begun: the next one may begin.
        let many = (begun + 1).min(queues.len());
        let pick = picks.next().map_or(0, |pick| pick.index(many));
        let live = (0..many).map(|at| (pick + at) % many);
        let Some(at) = live.into_iter().find(|at| !queues[*at].is_empty()) else {
            break;
        };
        begun = begun.max(at + 1);
        events.extend(queues[at].pop_front());
    }
    events.push(finish(0));
    events.push(Event::End);
    events
}

/// What each part says in `events`: texts by their marks, calls by their ids.
fn said(events: &[Event<'_>]) -> Vec<(String, String)> {
    let mut said: Vec<(String, String)> = Vec::new();
    let mut add = |key: String, text: &str| match said.iter_mut().find(|it| it.0 == key) {
        Some(it) => it.1.push_str(text),
        None => said.push((key, text.to_owned())),
    };
    let mut ids = Vec::new();
    for event in events {
        match event {
            Event::PartStart { part, kind, .. } => match kind {
                PartStart::ToolCall { id, .. } => {
                    ids.push((*part, id.as_escaped().to_owned()));
                    add(format!("call {}", id.as_escaped()), "");
                }
                PartStart::RedactedThinking(data) => add(data.as_escaped().to_owned(), "x"),
                _ => {}
            },
            Event::PartDelta { part, delta, .. } => {
                let text = lit_of(delta).unescape();
                let key = match delta {
                    Delta::Arguments(_) => {
                        let id = ids.iter().find(|it| it.0 == *part).unwrap();
                        format!("call {}", id.1)
                    }
                    delta => format!("{:?} {}", std::mem::discriminant(delta), &text[..1]),
                };
                add(key, &text);
            }
            _ => {}
        }
    }
    said.sort();
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_part_is_open_at_a_time_and_nothing_is_lost(
        parts in prop::collection::vec(any_part(), 1..6),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let events = interleaved(&parts, &picks);
        let mut sequencer = Sequencer::new();
        let mut out = Vec::new();
        for event in &events {
            sequencer.event(event.clone(), &mut out).unwrap();
        }
        prop_assert_eq!(said(&out), said(&events));
        prop_assert_eq!(sequencer.kept, 0);
        let (mut open, mut next) = (None, 0);
        for event in &out {
            match event {
                Event::PartStart { part, .. } => {
                    prop_assert_eq!((open, *part), (None, next));
                    (open, next) = (Some(*part), next + 1);
                }
                Event::PartDelta { part, .. } => prop_assert_eq!(open, Some(*part)),
                Event::PartStop { part, .. } => prop_assert_eq!(open.take(), Some(*part)),
                _ => prop_assert_eq!(open, None),
            }
        }
        prop_assert_eq!(&out[out.len() - 2..], &[finish(0), Event::End]);
    }
}
