//! Writes a streamed answer as whole server-sent events.
//!
//! The vendor's grammar is strict: one block open at a time, numbers from 0, the stop reason and
//! the final counts in one event. Other vendors tell the counts behind the stop reason, so that
//! event waits for them, or for the end.
//!
//! Start at [`Encoder::event`].

use super::super::form::{Delta, Event, PartStart, Stop, Tokens};
use super::super::json::view::Lit;
use super::super::json::write::Writer;
use super::super::translate::About;
use super::answer::{write_caller, write_or_null};
use super::block::{
    Held, UNSIGNED, write_counts, write_message_head, write_message_id, write_usage,
};

/// The writer of one stream.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The number of the block that is open, or of the next one.
    index: u64,
    is_open: bool,
    /// The open part is a thought whose model signs nothing.
    is_unsigned: bool,
    held: Held,
    /// The stop reason that has not been written yet.
    finish: Option<(Stop, Option<Lit<'static>>)>,
    usage: Tokens,
}

impl Encoder {
    /// The writer of a stream that has not begun.
    pub fn new(_: &About<'_>) -> Self {
        Self::default()
    }

    /// Puts the events that `event` becomes behind `out`. Parts must come one after the other; only
    /// the first choice is written, since a message is one answer.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start {
                id, model, usage, ..
            } => {
                self.usage = usage.unwrap_or_default();
                write_start(out, id, model, &self.usage);
            }
            Event::PartStart {
                choice: 0, kind, ..
            } => self.part_start(kind, out),
            Event::PartDelta {
                choice: 0, delta, ..
            } if self.is_open => self.part_delta(delta, out),
            Event::PartStop { choice: 0, .. } => self.part_stop(out),
            Event::Finish {
                choice: 0,
                stop,
                stop_sequence,
            } => {
                self.part_stop(out);
                self.finish = Some((*stop, stop_sequence.clone().map(Lit::into_owned)));
            }
            Event::Usage(usage) => {
                self.usage = *usage;
                self.message_delta(out);
            }
            Event::End => {
                self.message_delta(out);
                write_event(out, "message_stop", |_| {});
            }
            // Log probabilities have no place here, and neither have other choices.
            Event::Logprobs { .. }
            | Event::PartStart { .. }
            | Event::PartDelta { .. }
            | Event::PartStop { .. }
            | Event::Finish { .. } => {}
        }
    }

    fn part_start(&mut self, kind: &PartStart<'_>, out: &mut Vec<u8>) {
        self.part_stop(out);
        self.is_open = true;
        self.is_unsigned = matches!(kind, PartStart::Thinking);
        self.held.tool_call |= matches!(kind, PartStart::ToolCall { .. });
        self.held.refusal |= matches!(kind, PartStart::Refusal);
        write_event(out, "content_block_start", |it| {
            it.key("index").number(self.index);
            it.key("content_block")
                .object(|it| write_part_start(it, kind));
        });
    }

    fn part_delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let (kind, name, text) = match delta {
            Delta::Text(text) | Delta::Refusal(text) => ("text_delta", "text", text),
            Delta::Thinking(text) => ("thinking_delta", "thinking", text),
            Delta::Signature(text) => ("signature_delta", "signature", text),
            Delta::Arguments(text) => ("input_json_delta", "partial_json", text),
        };
        if text.is_empty() {
            return;
        }
        self.is_unsigned &= !matches!(delta, Delta::Signature(_));
        write_event(out, "content_block_delta", |it| {
            it.key("index").number(self.index);
            it.key("delta").object(|it| {
                it.key("type").string(kind);
                it.key(name).lit(text);
            });
        });
    }

    fn part_stop(&mut self, out: &mut Vec<u8>) {
        if !self.is_open {
            return;
        }
        if self.is_unsigned {
            self.part_delta(&Delta::Signature(Lit::of(UNSIGNED)), out);
        }
        self.is_open = false;
        write_event(out, "content_block_stop", |it| {
            it.key("index").number(self.index);
        });
        self.index += 1;
    }

    /// Writes the stop reason that waits, if one does.
    fn message_delta(&mut self, out: &mut Vec<u8>) {
        let Some((stop, stop_sequence)) = self.finish.take() else {
            return;
        };
        write_event(out, "message_delta", |it| {
            it.key("delta").object(|it| {
                it.key("stop_reason").string(self.held.stop_reason(stop));
                it.key("stop_sequence");
                write_or_null(it, stop_sequence.as_ref());
                it.key("stop_details").null();
                it.key("container").null();
            });
            it.key("usage").object(|it| write_counts(it, &self.usage));
        });
    }
}

fn write_start(out: &mut Vec<u8>, id: &Lit<'_>, model: &Lit<'_>, usage: &Tokens) {
    write_event(out, "message_start", |it| {
        it.key("message").object(|it| {
            it.key("id");
            write_message_id(it, id);
            write_message_head(it, model);
            it.key("content").array(|_| {});
            for name in ["stop_reason", "stop_sequence", "stop_details"] {
                it.key(name).null();
            }
            it.key("usage");
            write_usage(it, usage);
        });
    });
}

/// Writes the members of the block that begins.
fn write_part_start(it: &mut Writer, kind: &PartStart<'_>) {
    match kind {
        PartStart::Text | PartStart::Refusal => {
            it.key("type").string("text");
            it.key("text").string("");
        }
        PartStart::Thinking => {
            it.key("type").string("thinking");
            it.key("thinking").string("");
            it.key("signature").string("");
        }
        PartStart::RedactedThinking(data) => {
            it.key("type").string("redacted_thinking");
            it.key("data").lit(data);
        }
        PartStart::ToolCall { id, name } => {
            it.key("type").string("tool_use");
            it.key("id").lit(id);
            it.key("name").lit(name);
            it.key("input").object(|_| {});
            write_caller(it);
        }
    }
}

/// Writes one event. Its data is one line: what is inside a literal holds no line end.
fn write_event(out: &mut Vec<u8>, kind: &str, fill: impl FnOnce(&mut Writer)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut writer = Writer::behind(std::mem::take(out));
    writer.object(|it| {
        it.key("type").string(kind);
        fill(it);
    });
    *out = writer.into_bytes();
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::super::super::Dialect;
    use super::*;

    fn written(events: &[Event<'_>]) -> String {
        let mut encoder = Encoder::new(&About {
            now: 0,
            include_usage: true,
            provider: Dialect::Openai,
            response_id: "resp_1",
        });
        let mut out = Vec::new();
        for event in events {
            encoder.event(event, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn start(kind: PartStart<'_>) -> Event<'_> {
        Event::PartStart {
            choice: 0,
            part: 0,
            kind,
        }
    }

    fn delta(delta: Delta<'_>) -> Event<'_> {
        Event::PartDelta {
            choice: 0,
            part: 0,
            delta,
        }
    }

    fn finish(stop: Stop) -> Event<'static> {
        Event::Finish {
            choice: 0,
            stop,
            stop_sequence: None,
        }
    }

    const STOP: Event<'_> = Event::PartStop { choice: 0, part: 0 };

    #[test]
    fn a_stream_begins_with_a_whole_message_without_content() {
        let begin = Event::Start {
            id: Lit::of("chatcmpl-1"),
            model: Lit::of("gpt"),
            created: Some(1),
            usage: None,
        };
        assert_eq!(
            written(&[begin]),
            concat!(
                "event: message_start\n",
                r#"data: {"type":"message_start","message":{"id":"msg_chatcmpl-1","type":"message","role":"assistant","#,
                r#""model":"gpt","container":null,"diagnostics":null,"content":[],"stop_reason":null,"#,
                r#""stop_sequence":null,"stop_details":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"#,
                r#""cache_read_input_tokens":0,"output_tokens":0,"output_tokens_details":null,"server_tool_use":null,"#,
                r#""cache_creation":null,"inference_geo":null,"service_tier":null,"speed":null}}}"#,
                "\n\n",
            )
        );
    }

    #[test]
    fn parts_are_written_as_blocks_one_after_the_other() {
        let check = |kind: PartStart<'_>, growth: Delta<'_>, block: &str, expected: &str| {
            let empty = delta(Delta::Text(Lit::default()));
            let stream = written(&[start(kind), empty, delta(growth), STOP]);
            assert_eq!(
                stream,
                format!(
                    "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{block}}}\n\n\
                    event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{expected}}}\n\n\
                    event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n"
                )
            );
        };
        let text = r#"{"type":"text","text":""}"#;
        check(
            PartStart::Text,
            Delta::Text(Lit::escaped("a\\n")),
            text,
            r#"{"type":"text_delta","text":"a\n"}"#,
        );
        check(
            PartStart::Refusal,
            Delta::Refusal(Lit::of("no")),
            text,
            r#"{"type":"text_delta","text":"no"}"#,
        );
        check(
            PartStart::Thinking,
            Delta::Signature(Lit::of("sig")),
            r#"{"type":"thinking","thinking":"","signature":""}"#,
            r#"{"type":"signature_delta","signature":"sig"}"#,
        );
        check(
            PartStart::ToolCall {
                id: Lit::of("t"),
                name: Lit::of("f"),
            },
            Delta::Arguments(Lit::of("{\"a\":")),
            r#"{"type":"tool_use","id":"t","name":"f","input":{},"caller":{"type":"direct"}}"#,
            r#"{"type":"input_json_delta","partial_json":"{\"a\":"}"#,
        );
        let blocks = written(&[
            start(PartStart::RedactedThinking(Lit::of("enc"))),
            start(PartStart::Text),
        ]);
        assert!(blocks.contains(r#""content_block":{"type":"redacted_thinking","data":"enc"}"#));
        assert!(blocks.contains(r#""content_block_stop","index":0}"#));
        assert!(blocks.contains(r#""content_block_start","index":1,"#));
    }

    #[test]
    fn the_stop_reason_waits_for_the_counts_or_the_end() {
        let usage = Event::Usage(Tokens {
            input: 5,
            output: 2,
            ..Tokens::default()
        });
        let stopped = |input: u64, output: u64, reason: &str| {
            format!(
                "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\
                \"stop_sequence\":null,\"stop_details\":null,\"container\":null}},\"usage\":{{\"input_tokens\":{input},\
                \"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":{output},\
                \"output_tokens_details\":null,\"server_tool_use\":null}}}}\n\n"
            )
        };
        let end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let check = |events: &[Event<'_>], expected: String| {
            assert_eq!(written(events), expected);
        };
        check(&[finish(Stop::End)], String::new());
        check(
            &[finish(Stop::End), usage.clone(), usage.clone(), Event::End],
            stopped(5, 2, "end_turn") + end,
        );
        check(
            &[usage, finish(Stop::MaxTokens), Event::End],
            stopped(5, 2, "max_tokens") + end,
        );
        check(
            &[finish(Stop::Paused), Event::End],
            stopped(0, 0, "pause_turn") + end,
        );
    }

    #[test]
    fn a_refusal_and_a_call_are_told_by_the_stop_reason_and_other_choices_not_at_all() {
        let refused = written(&[start(PartStart::Refusal), finish(Stop::End), Event::End]);
        assert!(refused.contains(r#""stop_reason":"refusal""#), "{refused}");
        let call = PartStart::ToolCall {
            id: Lit::of("t"),
            name: Lit::of("f"),
        };
        let called = written(&[start(call), finish(Stop::End), Event::End]);
        assert!(called.contains(r#""stop_reason":"tool_use""#), "{called}");
        let other = [
            Event::PartStart {
                choice: 1,
                part: 0,
                kind: PartStart::Text,
            },
            Event::PartStop { choice: 1, part: 0 },
        ];
        assert_eq!(written(&other), "");
    }
}
