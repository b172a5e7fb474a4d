//! An answer that was to be JSON and came as a call of [`JSON_TOOL`] becomes text again.
//!
//! A model that calls the tool may say something before it, which is no part of the JSON that the
//! caller will parse: such text is left out. A model that does not call it has answered in words,
//! and these stay; so the text of a stream is held back until it is known which it is.

use super::JSON_TOOL;
use crate::wire::form::{Answer, Delta, Event, Part, PartKind, PartStart, Stop};
use crate::wire::json::view::Lit;

/// Puts the JSON of a whole answer in the place of the call.
pub(super) fn unwrap(answer: &mut Answer<'_>) {
    for choice in &mut answer.choices {
        let is_call = |part: &Part<'_>| matches!(&part.kind, PartKind::ToolCall { name, .. } if is_json_tool(name));
        if !choice.parts.iter().any(is_call) {
            continue;
        }
        let mut others = false;
        choice.parts.retain_mut(|part| match &part.kind {
            PartKind::ToolCall {
                name, arguments, ..
            } if is_json_tool(name) => {
                part.kind = PartKind::Text(arguments.as_text().into_owned());
                true
            }
            PartKind::ToolCall { .. } => {
                others = true;
                true
            }
            PartKind::Text(_) => false,
            _ => true,
        });
        if choice.stop == Stop::ToolCalls && !others {
            choice.stop = Stop::End;
        }
    }
}

fn is_json_tool(name: &Lit<'_>) -> bool {
    name.as_escaped() == JSON_TOOL
}

/// The same for a stream, whose parts come one after the other. Only an Anthropic provider is
/// asked this way, and it has one choice.
#[derive(Default)]
pub(super) struct JsonTool {
    /// The part that is the JSON.
    json: Option<u32>,
    /// A part of text that is held back, and what it says so far.
    held: Vec<(u32, String)>,
    /// Whether any other tool is called.
    others: bool,
}

impl JsonTool {
    /// Hands on what `event` comes to.
    pub fn event<'e>(&mut self, event: Event<'e>, out: &mut Vec<Event<'e>>) {
        match event {
            Event::PartStart { part, kind, choice } => match kind {
                PartStart::Text => self.held.push((part, String::new())),
                PartStart::ToolCall { ref name, .. } if is_json_tool(name) => {
                    self.held.clear();
                    self.json = Some(part);
                    out.push(Event::PartStart {
                        choice,
                        part,
                        kind: PartStart::Text,
                    });
                }
                kind => {
                    self.others |= matches!(kind, PartStart::ToolCall { .. });
                    self.release(out);
                    out.push(Event::PartStart { choice, part, kind });
                }
            },
            Event::PartDelta {
                part,
                delta: Delta::Text(text),
                ..
            } if self.holds(part) => {
                if let Some((_, held)) = self.held.last_mut() {
                    held.push_str(text.as_escaped());
                }
            }
            Event::PartStop { part, .. } if self.holds(part) => {}
            Event::PartDelta {
                choice,
                part,
                delta: Delta::Arguments(text),
            } if self.json == Some(part) => out.push(Event::PartDelta {
                choice,
                part,
                delta: Delta::Text(text),
            }),
            Event::Finish {
                choice,
                stop,
                stop_sequence,
            } => {
                self.release(out);
                let is_answer = self.json.is_some() && !self.others && stop == Stop::ToolCalls;
                let stop = if is_answer { Stop::End } else { stop };
                out.push(Event::Finish {
                    choice,
                    stop,
                    stop_sequence,
                });
            }
            event => out.push(event),
        }
    }

    fn holds(&self, part: u32) -> bool {
        self.held.last().is_some_and(|(held, _)| *held == part)
    }

    /// The text that was held back is a part of the answer after all.
    fn release(&mut self, out: &mut Vec<Event<'_>>) {
        if self.json.is_some() {
            self.held.clear();
        }
        for (part, text) in std::mem::take(&mut self.held) {
            let choice = 0;
            out.push(Event::PartStart {
                choice,
                part,
                kind: PartStart::Text,
            });
            out.push(Event::PartDelta {
                choice,
                part,
                delta: Delta::Text(Lit::escaped(text)),
            });
            out.push(Event::PartStop { choice, part });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::{Arguments, Choice};

    fn call(name: &'static str) -> Part<'static> {
        Part::from(PartKind::ToolCall {
            id: Lit::of("c"),
            name: Lit::of(name),
            arguments: Arguments::Json(r#"{"a":1}"#.into()),
        })
    }

    fn text(said: &'static str) -> Part<'static> {
        Part::from(PartKind::Text(Lit::of(said)))
    }

    #[test]
    fn the_json_of_an_answer_is_its_text() {
        let check = |parts: Vec<Part<'static>>, expected: Vec<Part<'static>>, stop: Stop| {
            let mut answer = Answer {
                choices: vec![Choice {
                    parts,
                    stop: Stop::ToolCalls,
                    stop_sequence: None,
                    logprobs: None,
                }],
                ..Answer::default()
            };
            unwrap(&mut answer);
            assert_eq!(answer.choices[0].parts, expected);
            assert_eq!(answer.choices[0].stop, stop);
        };
        let json = || Part::from(PartKind::Text(Lit::of(r#"{"a":1}"#)));
        check(
            vec![text("Sure:"), call(JSON_TOOL)],
            vec![json()],
            Stop::End,
        );
        check(
            vec![call("other"), call(JSON_TOOL)],
            vec![call("other"), json()],
            Stop::ToolCalls,
        );
        check(
            vec![text("no"), call("other")],
            vec![text("no"), call("other")],
            Stop::ToolCalls,
        );
    }

    fn part(
        part: u32,
        kind: PartStart<'static>,
        deltas: Vec<Delta<'static>>,
    ) -> Vec<Event<'static>> {
        let choice = 0;
        let mut events = vec![Event::PartStart { choice, part, kind }];
        let deltas = deltas.into_iter();
        events.extend(deltas.map(|delta| Event::PartDelta {
            choice,
            part,
            delta,
        }));
        events.push(Event::PartStop { choice, part });
        events
    }

    fn finish(stop: Stop) -> Event<'static> {
        Event::Finish {
            choice: 0,
            stop,
            stop_sequence: None,
        }
    }

    fn tool(name: &'static str) -> PartStart<'static> {
        PartStart::ToolCall {
            id: Lit::of("c"),
            name: Lit::of(name),
        }
    }

    #[test]
    fn the_json_of_a_stream_is_its_text() {
        let check = |events: Vec<Event<'static>>, expected: Vec<Event<'static>>| {
            let (mut tool, mut out) = (JsonTool::default(), Vec::new());
            for event in events {
                tool.event(event, &mut out);
            }
            assert_eq!(out, expected);
        };
        let words = || part(0, PartStart::Text, vec![Delta::Text(Lit::of("Hm"))]);
        let json = |kind, delta: fn(Lit<'static>) -> Delta<'static>| {
            part(1, kind, vec![delta(Lit::of("{")), delta(Lit::of("}"))])
        };
        check(
            [
                words(),
                json(tool(JSON_TOOL), Delta::Arguments),
                vec![finish(Stop::ToolCalls)],
            ]
            .concat(),
            [json(PartStart::Text, Delta::Text), vec![finish(Stop::End)]].concat(),
        );
        check(
            [words(), vec![finish(Stop::End)]].concat(),
            [words(), vec![finish(Stop::End)]].concat(),
        );
        let other = || json(tool("other"), Delta::Arguments);
        check(
            [words(), other(), vec![finish(Stop::ToolCalls)]].concat(),
            [words(), other(), vec![finish(Stop::ToolCalls)]].concat(),
        );
    }
}
