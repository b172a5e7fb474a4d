//! Watches a streamed answer go by and knows at its end whether it was whole.
//!
//! A stream that stops without its success marker was cut, however orderly the connection
//! closed, and must not be shown as complete, stored or counted as a success. The watch changes
//! nothing and never delays an event: what a delta says is not read, only whether it is one.
//!
//! Start at [`StreamWatch::observe`].

use super::choices::Choices;
use super::json::view::View;
use super::sse::Event;
use super::usage::Usage;
use super::{Endpoint, anthropic, openai, responses};

/// What one event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// No part of the answer: a comment, a ping. Keeps a connection alive, ends no wait for a
    /// first event.
    Idle,
    /// A part of the answer.
    Progress,
    /// The success marker: the answer is complete and nothing of worth follows.
    End,
    /// The provider says that it failed. [`Finish::error`] has its reason.
    Error,
    /// Not what the dialect allows: its data is no JSON object, going by its ends.
    Malformed,
}

/// What a dialect reads from one event.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pub(super) idle: bool,
    pub(super) end: bool,
    pub(super) finish: bool,
    pub(super) error: Option<String>,
    pub(super) usage: Option<Usage>,
}

/// What a stream came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// The success marker came, with no error before it.
    pub complete: bool,
    /// The provider's own reason, if it reported an error within the stream.
    pub error: Option<String>,
    /// Whether the model said why it stopped, of every choice that began. With `complete` false: the answer's text is all
    /// there, and only the marker is missing.
    pub finish_reason: bool,
    /// Whether any part of the answer came: a call whose stream never began can be made again.
    pub began: bool,
    /// How many events were malformed.
    pub malformed: u64,
    /// The last counts that were given.
    pub usage: Usage,
}

/// The watch over one stream.
pub struct StreamWatch {
    endpoint: Endpoint,
    events: u64,
    ended: bool,
    choices: Choices,
    finish: Finish,
}

impl StreamWatch {
    /// A watch over a stream that has not begun, of as many choices as were asked for; see
    /// [`Scanned::choices`](super::request::Scanned::choices).
    pub fn new(endpoint: Endpoint, choices: Option<u32>) -> Self {
        Self {
            endpoint,
            events: 0,
            ended: false,
            choices: Choices::new(choices),
            finish: Finish::default(),
        }
    }

    /// Takes note of the next event.
    pub fn observe(&mut self, event: &Event<'_>) -> Observed {
        let Some(data) = event.data.as_deref() else {
            return Observed::Idle;
        };
        self.events += 1;
        let mark = match self.endpoint {
            Endpoint::Messages => anthropic::mark(event, data),
            Endpoint::Responses => response_mark(event, data),
            _ => openai::mark(data),
        };
        if let Some(usage) = mark.usage {
            self.finish.usage.update(usage);
        }
        match self.endpoint {
            Endpoint::Messages | Endpoint::Responses => self.finish.finish_reason |= mark.finish,
            _ => {
                self.choices.observe(data, mark.finish);
                self.finish.finish_reason = self.choices.are_done();
            }
        }
        if mark.error.is_some() {
            self.finish.error = mark.error;
            return Observed::Error;
        }
        if mark.end {
            self.ended = true;
            return Observed::End;
        }
        if !looks_like_object(data) {
            self.finish.malformed += 1;
            return Observed::Malformed;
        }
        if mark.idle {
            return Observed::Idle;
        }
        self.finish.began = true;
        Observed::Progress
    }

    /// Whether the model has said why it stopped.
    pub const fn has_finish_reason(&self) -> bool {
        self.finish.finish_reason
    }

    /// How many events have gone by, comments apart.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What the stream came to so far.
    pub fn finish(&self) -> Finish {
        let mut finish = self.finish.clone();
        finish.complete = self.ended && finish.error.is_none();
        finish
    }
}

/// What a provider's own responses say.
fn response_mark(event: &Event<'_>, data: &[u8]) -> Mark {
    let Ok(text) = str::from_utf8(data) else {
        return Mark::default();
    };
    let seen = responses::observe(event.name, View::new(text));
    Mark {
        idle: seen.idle,
        end: seen.end,
        finish: seen.finish,
        error: seen.error,
        usage: seen.usage,
    }
}

fn looks_like_object(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data.starts_with(b"{") && data.ends_with(b"}")
}

#[cfg(test)]
mod tests {
    use super::super::sse::events;
    use super::*;
    use proptest::prelude::*;

    fn watch(endpoint: Endpoint, stream: &str) -> (Vec<Observed>, Finish) {
        let mut watch = StreamWatch::new(endpoint, Some(1));
        let seen = events(stream.as_bytes())
            .map(|event| watch.observe(&event))
            .collect();
        (seen, watch.finish())
    }

    const OPENAI: &str = concat!(
        ": hello\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"say \\\"usage\\\":{\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\": \"stop\"}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\": {\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
    );

    #[test]
    fn a_stream_of_openais_is_complete_with_its_marker_and_not_before() {
        let (seen, finish) = watch(Endpoint::ChatCompletions, OPENAI);
        assert_eq!(seen[..2], [Observed::Idle, Observed::Progress]);
        assert!(!finish.complete && finish.finish_reason && finish.began);
        let (seen, finish) = watch(
            Endpoint::ChatCompletions,
            &format!("{OPENAI}data: [DONE]\n\n"),
        );
        assert_eq!(seen.last(), Some(&Observed::End));
        assert!(finish.complete);
        assert_eq!(
            (finish.usage.input, finish.usage.output),
            (Some(3), Some(2))
        );
    }

    #[test]
    fn a_stream_of_anthropics_is_complete_with_its_marker_and_counts_from_both_ends() {
        let stream = concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"stop_reason\":null,\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"delta\":{\"text\":\"hi\"}}\n\n",
            "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":12}}\n\n",
        );
        let (seen, finish) = watch(Endpoint::Messages, stream);
        assert_eq!(
            seen,
            [
                Observed::Progress,
                Observed::Idle,
                Observed::Progress,
                Observed::Progress
            ]
        );
        assert!(!finish.complete && finish.finish_reason);
        let end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let (_, finish) = watch(Endpoint::Messages, &format!("{stream}{end}"));
        assert!(finish.complete);
        let usage = finish.usage;
        assert_eq!(
            (usage.input, usage.output, usage.cache_read),
            (Some(9), Some(12), Some(4))
        );
        let nameless = end.trim_start_matches("event: message_stop\n");
        assert_eq!(watch(Endpoint::Messages, nameless).0, [Observed::End]);
    }

    #[test]
    fn an_error_within_a_stream_is_seen_and_spoils_a_marker_after_it() {
        let check = |endpoint, stream: &str, reason: &str| {
            let (seen, finish) = watch(endpoint, stream);
            assert!(seen.contains(&Observed::Error), "{stream}");
            assert!(!finish.complete && !finish.began);
            assert_eq!(finish.error.as_deref(), Some(reason));
        };
        check(
            Endpoint::ChatCompletions,
            "data: {\"error\":{\"message\":\"too busy\"}}\n\ndata: [DONE]\n\n",
            "too busy",
        );
        check(
            Endpoint::ChatCompletions,
            "data: {\"error\":{\"code\":5}}\n\n",
            "an error without a message",
        );
        check(
            Endpoint::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            "Overloaded",
        );
    }

    #[test]
    fn an_error_key_that_says_nothing_or_stands_deeper_is_none() {
        let check = |data: &str| {
            let (seen, _) = watch(Endpoint::ChatCompletions, &format!("data: {data}\n\n"));
            assert_eq!(seen, [Observed::Progress], "{data}");
        };
        check(r#"{"error":null,"choices":[]}"#);
        check(r#"{"choices":[{"delta":{"error":"x"}}]}"#);
        check(r#"{"choices":[{"delta":{"content":"\"error\":{}"}}]}"#);
    }

    #[test]
    fn a_usage_is_counted_behind_another_that_is_none() {
        let stream = "data: {\"x\":{\"usage\":null},\"usage\":{\"prompt_tokens\":1}}\n\n";
        assert_eq!(
            watch(Endpoint::ChatCompletions, stream).1.usage.input,
            Some(1)
        );
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        let stream = "data: {\"choices\":[\n\ndata: [DONE]\n\n";
        let (seen, finish) = watch(Endpoint::ChatCompletions, stream);
        assert_eq!(seen, [Observed::Malformed, Observed::End]);
        assert!(finish.complete, "it is left out, and the rest is whole");
        assert_eq!(finish.malformed, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_event_is_watched(data in "[{}\":,\\[\\]a-z\\\\ ]{0,30}", key in "error|usage|finish_reason|type") {
            for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Messages] {
                watch(endpoint, &format!("data: {{\"{key}\"{data}\n\n"));
                watch(endpoint, &format!("event: message_start\ndata: {data}\n\n"));
            }
        }
    }
}
