//! Keeping a caller that waits for a stream from being cut off as idle.
//!
//! A call may wait for minutes before its first event, and proxies on its way close what is silent
//! for one. Server-sent events have comments for this, which every client skips (HTML standard,
//! section 9.2.6). The front sends them; what they and the head before them say is said here.

use super::Coordinator;
use super::call::push_request_id;
use crate::front::{Early, Responder, Response};
use crate::wire::Endpoint;
use crate::wire::errors::event_of_answer;
use crate::wire::request::Scanned;

/// Headers of a stream that its caller is told even when another head has gone out: in a comment.
const LATE_PREFIX: &str = "x-victor-";
/// The one of them that the early head has as well.
const COORDINATOR: &str = "x-victor-coordinator";

impl Coordinator {
    /// Has comments sent to the caller of a call that asks for a stream, for as long as it waits.
    pub(super) fn keep_alive(
        &self,
        endpoint: Endpoint,
        scanned: &Scanned,
        request_id: &str,
        responder: &mut Responder,
    ) {
        if scanned.stream && endpoint.streams() && !self.keep_alive_comment.is_zero() {
            let early = EarlyStream {
                endpoint,
                request_id: request_id.to_owned(),
                coordinator: self.name,
            };
            responder.keep_alive(self.keep_alive_comment, Box::new(early));
        }
    }
}

/// The headers that make every stream one that nothing on its way collects.
pub fn push_stream_headers(head: &mut Response) {
    head.push_header("cache-control", b"no-cache");
    // nginx and its like would otherwise collect events before they pass them on.
    head.push_header("x-accel-buffering", b"no");
}

/// What is said to a caller before its provider has said anything.
struct EarlyStream {
    endpoint: Endpoint,
    request_id: String,
    coordinator: &'static str,
}

impl Early for EarlyStream {
    fn head(&self) -> Response {
        let mut head = Response::new(200);
        push_request_id(&mut head, self.endpoint.dialect(), &self.request_id);
        head.push_header(COORDINATOR, self.coordinator.as_bytes());
        head.push_header("content-type", b"text/event-stream; charset=utf-8");
        push_stream_headers(&mut head);
        head
    }

    fn comment(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }

    fn failure(&self, failure: &Response) -> Vec<u8> {
        let body = failure.body.as_bytes();
        event_of_answer(self.endpoint, failure.status, body, &self.request_id)
    }

    /// Who answers, and what was left out on the way, is known only by now.
    fn late(&self, head: &Response) -> Vec<u8> {
        let mut comment = String::new();
        for (name, value) in head.fields() {
            if name.starts_with(LATE_PREFIX) && name != COORDINATOR {
                comment.extend([": ", name, ": ", &String::from_utf8_lossy(value), "\n"]);
            }
        }
        if !comment.is_empty() {
            comment.push('\n');
        }
        comment.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: EarlyStream = EarlyStream {
        endpoint: Endpoint::Messages,
        request_id: String::new(),
        coordinator: "ChatCoordinator",
    };

    #[test]
    fn headers_that_come_too_late_are_told_in_a_comment() {
        let head = Response::new(200)
            .header("x-request-id", "req-1")
            .header("x-victor-coordinator", "ChatCoordinator")
            .header("x-victor-provider", "acme")
            .header("x-victor-dropped", "a, b\ndata: c");
        assert_eq!(
            String::from_utf8(EARLY.late(&head)).unwrap(),
            ": x-victor-provider: acme\n: x-victor-dropped: a, b?data: c\n\n"
        );
        assert_eq!(EARLY.late(&Response::new(200)), b"");
    }

    #[test]
    fn an_early_head_has_what_is_known_by_then() {
        let head = EARLY.head();
        let names: Vec<&str> = head.fields().map(|(name, _)| name).collect();
        let expected = [
            "x-request-id",
            "request-id",
            "x-victor-coordinator",
            "content-type",
            "cache-control",
            "x-accel-buffering",
        ];
        assert_eq!((head.status, names.as_slice()), (200, &expected[..]));
    }
}
