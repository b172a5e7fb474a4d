//! Requests, answers and streams in the internal form, as much of it as chat completions have
//! words for.

use proptest::option;
use proptest::prelude::*;

use crate::wire::Dialect;
use crate::wire::form::{
    Answer, Arguments, Choice, Delta, Event, Extra, Format, Part, PartKind, PartStart, Reasoning,
    Request, Role, Source, Stop, Tokens, Tool, ToolChoice, Turn,
};
use crate::wire::json::view::{Lit, View};

fn lit(text: &str) -> Lit<'static> {
    Lit::of(text).into_owned()
}

fn any_lit() -> impl Strategy<Value = Lit<'static>> {
    "\\PC{0,6}[\n\"\\\\]?".prop_map(|text| lit(&text))
}

/// One that is not blank.
fn word() -> impl Strategy<Value = Lit<'static>> {
    "[a-zé\"\\\\][a-z\n\u{1}]{0,4}".prop_map(|text| lit(&text))
}

fn object() -> impl Strategy<Value = View<'static>> {
    let objects = [r#"{"a": 1}"#, r#"{"type":"object","properties":{}}"#];
    prop::sample::select(objects.to_vec()).prop_map(View::new)
}

fn number() -> impl Strategy<Value = View<'static>> {
    prop::sample::select(vec!["1", "0.50", "1e-3", "-7"]).prop_map(View::new)
}

fn text() -> impl Strategy<Value = PartKind<'static>> {
    any_lit().prop_map(PartKind::Text)
}

fn base64(media_type: &'static str) -> impl Strategy<Value = Source<'static>> {
    "[A-Za-z+/]{0,8}={0,2}".prop_map(move |data| Source::Base64 {
        media_type: Lit::of(media_type),
        data: lit(&data),
    })
}

fn image() -> impl Strategy<Value = PartKind<'static>> {
    let url = "https://[a-z]{1,5}".prop_map(|url| Source::Url(lit(&url)));
    let source = prop_oneof![base64("image/png"), url];
    (source, option::of(word())).prop_map(|(source, detail)| PartKind::Image { source, detail })
}

fn document() -> impl Strategy<Value = PartKind<'static>> {
    let file = word().prop_map(|id| {
        let vendor = Dialect::Openai;
        (Source::File { vendor, id }, None)
    });
    let data = (base64("application/pdf"), word().prop_map(Some));
    prop_oneof![data, file].prop_map(|(source, title)| PartKind::Document {
        source,
        title,
        context: None,
    })
}

fn call() -> impl Strategy<Value = PartKind<'static>> {
    (word(), word(), word()).prop_map(|(id, name, arguments)| PartKind::ToolCall {
        id,
        name,
        arguments: Arguments::Text(arguments),
    })
}

fn parts(kinds: Vec<PartKind<'static>>) -> Vec<Part<'static>> {
    kinds.into_iter().map(Part::from).collect()
}

fn result() -> impl Strategy<Value = PartKind<'static>> {
    let text = option::of(word().prop_map(PartKind::Text));
    (word(), text).prop_map(|(id, text)| PartKind::ToolResult {
        id,
        content: parts(text.into_iter().collect()),
        is_error: false,
    })
}

/// What an assistant says: texts, at most one refusal, and calls, in that order.
fn said(texts: usize) -> impl Strategy<Value = Vec<PartKind<'static>>> {
    (
        prop::collection::vec(word().prop_map(PartKind::Text), 0..=texts),
        option::of(word().prop_map(PartKind::Refusal)),
        prop::collection::vec(call(), 0..3),
    )
        .prop_map(|(mut kinds, refusal, mut calls)| {
            kinds.extend(refusal);
            kinds.append(&mut calls);
            kinds
        })
}

fn turn() -> impl Strategy<Value = Turn<'static>> {
    let told = prop::collection::vec(text(), 1..3);
    let asked = prop::collection::vec(prop_oneof![text(), image(), document()], 1..4);
    let role = prop::sample::select(vec![Role::System, Role::Developer]);
    prop_oneof![
        (role, option::of(word()), told),
        (Just(Role::User), option::of(word()), asked),
        (Just(Role::Assistant), option::of(word()), said(2)),
        (
            Just(Role::Tool),
            Just(None),
            prop::collection::vec(result(), 1..3)
        ),
    ]
    .prop_map(|(role, name, kinds)| Turn {
        role,
        name,
        parts: parts(kinds),
    })
}

fn turns() -> impl Strategy<Value = Vec<Turn<'static>>> {
    prop::collection::vec(turn(), 0..5).prop_map(|mut turns| {
        // Results that follow each other are one turn.
        turns.dedup_by(|later, earlier| later.role == Role::Tool && earlier.role == Role::Tool);
        turns
    })
}

fn tool() -> impl Strategy<Value = Tool<'static>> {
    let description = option::of(any_lit());
    (word(), description, object(), option::of(any::<bool>())).prop_map(
        |(name, description, schema, strict)| Tool {
            name,
            description,
            schema: Some(schema),
            strict,
            cache: None,
        },
    )
}

fn choice() -> impl Strategy<Value = ToolChoice<'static>> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        word().prop_map(ToolChoice::Named),
    ]
}

fn format() -> impl Strategy<Value = Format<'static>> {
    let named = (
        word(),
        option::of(any_lit()),
        object(),
        option::of(any::<bool>()),
    );
    prop_oneof![
        Just(Format::JsonObject),
        named.prop_map(|(name, description, schema, strict)| Format::JsonSchema {
            name: Some(name),
            description,
            schema,
            strict,
        }),
    ]
}

fn extra() -> impl Strategy<Value = Vec<Extra<'static>>> {
    let names = vec!["metadata", "store", "prediction", "prompt_cache_key"];
    let extra = prop::sample::subsequence(names, 0..=4);
    (extra, object()).prop_map(|(names, value)| {
        let extra = names.into_iter().map(|name| Extra {
            vendor: Dialect::Openai,
            name: name.into(),
            value,
        });
        extra.collect()
    })
}

/// A request of which writing and reading loses nothing.
pub(super) fn request() -> impl Strategy<Value = Request<'static>> {
    let tools = prop::collection::vec(tool(), 0..3);
    let offered = (tools, option::of(choice()), option::of(any::<bool>()));
    let numbers = prop::collection::vec(option::of(number()), 6);
    let counts = (option::of(any::<u64>()), option::of(2..9_u64));
    let words = (
        prop::collection::vec(any_lit(), 0..5),
        option::of(word()),
        option::of(word()),
        option::of(word()),
    );
    let flags = (any::<bool>(), option::of(Just(true)));
    let all = (
        turns(),
        offered,
        numbers,
        counts,
        words,
        flags,
        option::of(format()),
        extra(),
    );
    all.prop_map(
        |(turns, offered, numbers, counts, words, flags, format, extra)| {
            let (tools, tool_choice, parallel_tools) = offered;
            let (stop, effort, user, verbosity) = words;
            let is_offered = !tools.is_empty();
            Request {
                turns,
                tool_choice: tool_choice.filter(|_| is_offered),
                parallel_tools: parallel_tools.filter(|_| is_offered),
                tools,
                max_tokens: counts.0,
                n: counts.1,
                temperature: numbers[0],
                top_p: numbers[1],
                frequency_penalty: numbers[2],
                presence_penalty: numbers[3],
                seed: numbers[4],
                top_logprobs: numbers[5],
                stop,
                stream: flags.0,
                include_usage: flags.0,
                logprobs: flags.1,
                format,
                reasoning: effort.map(|effort| Reasoning {
                    effort: Some(effort),
                    thinking: None,
                }),
                user,
                verbosity,
                extra,
                ..Request::default()
            }
        },
    )
}

/// Thoughts: one, or several in blocks.
fn thoughts() -> impl Strategy<Value = Vec<PartKind<'static>>> {
    let thinking = |text, signature| PartKind::Thinking { text, signature };
    let signed = (any_lit(), word()).prop_map(move |(text, it)| thinking(text, Some(it)));
    let block = prop_oneof![signed, any_lit().prop_map(PartKind::RedactedThinking)];
    prop_oneof![
        word().prop_map(move |text| vec![thinking(text, None)]),
        prop::collection::vec(block, 0..3),
    ]
}

fn tokens() -> impl Strategy<Value = Tokens> {
    prop::array::uniform5(0..1_000_000_u64).prop_map(
        |[input, cache_read, cache_write, output, reasoning]| Tokens {
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
        },
    )
}

/// Why a choice stopped that did or did not call tools.
fn stop(calls_tools: bool, pick: u8) -> Stop {
    match pick % 3 {
        0 if calls_tools => Stop::ToolCalls,
        0 => Stop::End,
        1 => Stop::MaxTokens,
        _ => Stop::Refusal,
    }
}

/// An answer of which writing and reading loses nothing.
pub(super) fn answer() -> impl Strategy<Value = Answer<'static>> {
    let choice = (thoughts(), said(1), any::<u8>(), option::of(object()));
    let choice = choice.prop_map(|(mut kinds, mut said, pick, logprobs)| {
        kinds.append(&mut said);
        let calls = matches!(kinds.last(), Some(PartKind::ToolCall { .. }));
        Choice {
            parts: parts(kinds),
            stop: stop(calls, pick),
            stop_sequence: None,
            logprobs,
        }
    });
    let choices = prop::collection::vec(choice, 1..4);
    (
        "chatcmpl-[a-z]{0,4}",
        any_lit(),
        any::<u64>(),
        choices,
        tokens(),
    )
        .prop_map(|(id, model, created, choices, usage)| Answer {
            id: lit(&id),
            model,
            created: Some(created),
            choices,
            usage,
        })
}

/// A part of a stream: how it begins, and its deltas.
type Grown = (PartStart<'static>, Vec<Delta<'static>>);

fn grown() -> impl Strategy<Value = Grown> {
    let words = || prop::collection::vec(word(), 1..4);
    let of = |kind: PartStart<'static>, delta: fn(Lit<'static>) -> Delta<'static>| {
        words().prop_map(move |texts| (kind.clone(), texts.into_iter().map(delta).collect()))
    };
    let signed = (words(), word()).prop_map(|(texts, signature)| {
        let mut deltas: Vec<_> = texts.into_iter().map(Delta::Thinking).collect();
        deltas.push(Delta::Signature(signature));
        (PartStart::Thinking, deltas)
    });
    let call = (word(), word(), any_lit(), any::<prop::sample::Index>()).prop_map(
        |(id, name, text, at)| {
            let json = serde_json::json!({"a": text.unescape()}).to_string();
            let cuts = (0..json.len()).filter(|cut| json.is_char_boundary(*cut));
            let cuts: Vec<usize> = cuts.skip(1).collect();
            let (head, tail) = json.split_at(cuts[at.index(cuts.len())]);
            let deltas = [head, tail].map(|it| Delta::Arguments(lit(it)));
            (PartStart::ToolCall { id, name }, deltas.to_vec())
        },
    );
    prop_oneof![
        of(PartStart::Text, Delta::Text),
        of(PartStart::Refusal, Delta::Refusal),
        of(PartStart::Thinking, Delta::Thinking),
        signed,
        any_lit().prop_map(|data| (PartStart::RedactedThinking(data), Vec::new())),
        call,
    ]
}

/// Whether a reader cannot tell where the one ends and the other begins.
fn run_together(earlier: &Grown, later: &Grown) -> bool {
    let is_signed = matches!(earlier.1.last(), Some(Delta::Signature(_)));
    let is_call = matches!(earlier.0, PartStart::ToolCall { .. });
    let is_redacted = matches!(earlier.0, PartStart::RedactedThinking(_));
    let same = std::mem::discriminant(&earlier.0) == std::mem::discriminant(&later.0);
    same && !is_signed && !is_call && !is_redacted
}

/// A stream of one choice of which writing and reading loses nothing.
pub(super) fn stream() -> impl Strategy<Value = Vec<Event<'static>>> {
    let parts = prop::collection::vec(grown(), 0..6);
    let start = ("chatcmpl-[a-z]{1,4}", any_lit(), any::<u64>());
    (start, parts, any::<u8>(), tokens()).prop_map(|(start, mut parts, pick, tokens)| {
        parts.dedup_by(|later, earlier| run_together(earlier, later));
        // The ids of calls tell them apart.
        let mut events = vec![Event::Start {
            id: lit(&start.0),
            model: start.1,
            created: Some(start.2),
            usage: None,
        }];
        let mut calls = false;
        for (part, (mut kind, deltas)) in (0..).zip(parts) {
            if let PartStart::ToolCall { id, .. } = &mut kind {
                *id = Lit::escaped(format!("call_{part}"));
                calls = true;
            }
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
            stop: stop(calls, pick),
            stop_sequence: None,
        });
        events.push(Event::Usage(tokens));
        events.push(Event::End);
        events
    })
}
