//! Requests and answers for property tests: such as Anthropic has a word for in every part.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::super::Dialect;
use super::super::super::form::{
    Answer, Arguments, Choice, Extra, Format, Part, PartKind, Reasoning, Request, Role, Source,
    Stop, Thinking, Tokens, Tool, ToolChoice, Turn,
};
use super::super::super::json::view::{Lit, View};

/// Texts that are not blank and have no blanks at their end, which are not sent.
fn lit() -> impl Strategy<Value = Lit<'static>> {
    "[a-z \"\\\\\né😀/]{0,8}[a-zé\"\\\\]".prop_map(|text| Lit::of(&text).into_owned())
}

fn id() -> impl Strategy<Value = Lit<'static>> {
    "[a-zA-Z0-9_-]{1,8}".prop_map(Lit::escaped)
}

fn object() -> impl Strategy<Value = &'static str> {
    select(
        &[
            r#"{"type":"object"}"#,
            r#"{ "type" : "object", "x" : [ {} ] }"#,
        ][..],
    )
}

fn cache() -> impl Strategy<Value = Option<View<'static>>> {
    prop::option::of(Just(View::new(r#"{"type":"ephemeral","ttl":"1h"}"#)))
}

fn cached(kind: impl Strategy<Value = PartKind<'static>>) -> impl Strategy<Value = Part<'static>> {
    (kind, cache()).prop_map(|(kind, cache)| Part { kind, cache })
}

fn file() -> impl Strategy<Value = Source<'static>> {
    id().prop_map(|id| Source::File {
        vendor: Dialect::Anthropic,
        id,
    })
}

fn media() -> impl Strategy<Value = PartKind<'static>> {
    let bytes = || {
        prop_oneof![
            lit().prop_map(Source::Url),
            (lit(), lit()).prop_map(|(media_type, data)| Source::Base64 { media_type, data }),
            file(),
        ]
    };
    let image = bytes().prop_map(|source| PartKind::Image {
        source,
        detail: None,
    });
    let source = prop_oneof![bytes(), lit().prop_map(Source::Text)];
    let text = || prop::option::of(lit());
    let document =
        (source, text(), text()).prop_map(|(source, title, context)| PartKind::Document {
            source,
            title,
            context,
        });
    prop_oneof![image, document]
}

/// What users say, and tools.
fn said() -> impl Strategy<Value = Part<'static>> {
    cached(prop_oneof![lit().prop_map(PartKind::Text), media()])
}

fn results() -> impl Strategy<Value = Vec<Part<'static>>> {
    let content = prop::collection::vec(said(), 0..3);
    let result =
        (id(), content, any::<bool>()).prop_map(|(id, content, is_error)| PartKind::ToolResult {
            id,
            content,
            is_error,
        });
    prop::collection::vec(cached(result), 0..3)
}

/// What an assistant says, with or without marks for a cache.
fn spoken() -> impl Strategy<Value = PartKind<'static>> {
    let thinking = (lit(), prop::option::of(lit()));
    prop_oneof![
        lit().prop_map(PartKind::Text),
        thinking.prop_map(|(text, signature)| PartKind::Thinking { text, signature }),
        lit().prop_map(PartKind::RedactedThinking),
        (id(), id(), object()).prop_map(|(id, name, arguments)| PartKind::ToolCall {
            id,
            name,
            arguments: Arguments::Json(arguments.into()),
        }),
    ]
}

fn assistants() -> impl Strategy<Value = Vec<Part<'static>>> {
    let part = (spoken(), cache()).prop_map(|(mut kind, cache)| {
        let mut cache = cache;
        if let PartKind::Thinking { signature, .. } = &mut kind {
            // Without it, it would not be sent.
            signature.get_or_insert(Lit::escaped("sig"));
            cache = None;
        }
        if let PartKind::RedactedThinking(_) = kind {
            cache = None;
        }
        Part { kind, cache }
    });
    prop::collection::vec(part, 1..4)
}

/// A conversation as it is read: no two turns of a kind in a row, and the prompt in front.
fn turns() -> impl Strategy<Value = Vec<Turn<'static>>> {
    let rounds = (results(), prop::collection::vec(said(), 0..3), assistants());
    let system = prop::option::of(cached(lit().prop_map(PartKind::Text)));
    let first = prop::collection::vec(said(), 1..3);
    (system, first, prop::collection::vec(rounds, 0..3)).prop_map(|(system, first, rounds)| {
        let turn = |role, parts| Turn {
            role,
            name: None,
            parts,
        };
        let mut turns: Vec<_> = system
            .map(|part| turn(Role::System, vec![part]))
            .into_iter()
            .collect();
        turns.push(turn(Role::User, first));
        for (results, said, assistants) in rounds {
            turns.push(turn(Role::Assistant, assistants));
            // An assistant cannot follow itself.
            let is_none = results.is_empty() && said.is_empty();
            let said = if is_none {
                vec![PartKind::Text(Lit::of("go on")).into()]
            } else {
                said
            };
            turns.push(turn(Role::Tool, results));
            turns.push(turn(Role::User, said));
        }
        turns.retain(|turn| !turn.parts.is_empty());
        turns
    })
}

fn tools() -> impl Strategy<Value = Vec<Tool<'static>>> {
    let tool = (
        id(),
        prop::option::of(lit()),
        object(),
        prop::option::of(any::<bool>()),
        cache(),
    );
    let tool = tool.prop_map(|(name, description, schema, strict, cache)| Tool {
        name,
        description,
        schema: Some(View::new(schema)),
        strict,
        cache,
    });
    prop::collection::vec(tool, 0..3)
}

fn choice() -> impl Strategy<Value = Option<ToolChoice<'static>>> {
    prop::option::of(prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        id().prop_map(ToolChoice::Named),
    ])
}

fn thinking() -> impl Strategy<Value = Option<Thinking>> {
    prop::option::of(prop_oneof![
        (1..5000_u64).prop_map(Thinking::Budget),
        Just(Thinking::Adaptive),
        Just(Thinking::Disabled),
    ])
}

pub(super) fn requests() -> impl Strategy<Value = Request<'static>> {
    let number = || prop::option::of(select(&["0.5", "1", "0.25"][..]).prop_map(View::new));
    let effort = prop::option::of(select(&["low", "high", "max"][..]).prop_map(Lit::escaped));
    let extra = Extra {
        vendor: Dialect::Anthropic,
        name: "container".into(),
        value: View::new(r#"{"id":"c"}"#),
    };
    let settings = (
        (tools(), choice(), any::<bool>(), 5000..9000_u64),
        (number(), any::<bool>(), prop::collection::vec(lit(), 0..3)),
        (thinking(), effort, prop::option::of(object())),
        (
            any::<bool>(),
            prop::option::of(lit()),
            prop::option::of(Just(extra)),
        ),
    );
    (turns(), settings).prop_map(|(turns, (tooling, sampling, reasoning, rest))| {
        let (tools, tool_choice, one_at_a_time, max_tokens) = tooling;
        let (number, is_top_p, stop) = sampling;
        let (thinking, effort, schema) = reasoning;
        let (stream, user, extra) = rest;
        let mut request = Request {
            turns,
            max_tokens: Some(max_tokens),
            stop,
            stream,
            include_usage: stream,
            user,
            extra: extra.into_iter().collect(),
            format: schema.map(|schema| Format::JsonSchema {
                name: None,
                description: None,
                schema: View::new(schema),
                strict: None,
            }),
            reasoning: thinking.map(|thinking| Reasoning {
                effort,
                thinking: Some(thinking),
            }),
            ..Request::default()
        };
        let thinks = !matches!(thinking, None | Some(Thinking::Disabled));
        // What does not go together is left out by the writer.
        if !tools.is_empty() && !thinks {
            request.parallel_tools = (one_at_a_time
                && !matches!(tool_choice, None | Some(ToolChoice::None)))
            .then_some(false);
            request.tool_choice = tool_choice;
        }
        request.tools = tools;
        match (thinks, is_top_p) {
            (true, _) => {}
            (false, true) => request.top_p = number,
            (false, false) => request.temperature = number,
        }
        request.top_k = number.filter(|_| !thinks);
        request
    })
}

fn tokens() -> impl Strategy<Value = Tokens> {
    any::<[u32; 5]>().prop_map(
        |[input, cache_read, cache_write, output, reasoning]| Tokens {
            input: input.into(),
            cache_read: cache_read.into(),
            cache_write: cache_write.into(),
            output: output.into(),
            reasoning: reasoning.into(),
        },
    )
}

fn stop() -> impl Strategy<Value = (Stop, Option<Lit<'static>>)> {
    prop_oneof![
        select(
            &[
                Stop::MaxTokens,
                Stop::ContextFull,
                Stop::ToolCalls,
                Stop::Refusal,
                Stop::Paused,
            ][..]
        )
        .prop_map(|stop| (stop, None)),
        lit().prop_map(|sequence| (Stop::StopSequence, Some(sequence))),
    ]
}

pub(super) fn answers() -> impl Strategy<Value = Answer<'static>> {
    let parts = prop::collection::vec(spoken().prop_map(Part::from), 0..4);
    (id(), lit(), parts, stop(), tokens()).prop_map(|(id, model, parts, stop, usage)| Answer {
        id: Lit::escaped(format!("msg_{}", id.as_escaped())),
        model,
        created: None,
        choices: vec![Choice {
            parts,
            stop: stop.0,
            stop_sequence: stop.1,
            logprobs: None,
        }],
        usage,
    })
}
