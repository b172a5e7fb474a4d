//! The head of an answer as bytes.

use std::cell::RefCell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::exchange::Terms;
use super::response::{Response, reason};
use crate::decimal::decimal;

/// How the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Length(usize),
    Chunked,
    /// By the end of the connection (HTTP/1.0).
    Close,
}

/// Appends the head of `response` to `to`.
pub(super) fn encode_head(
    to: &mut Vec<u8>,
    response: &Response,
    ending: Ending,
    terms: Terms,
    close: bool,
) {
    // Writing to a Vec cannot fail.
    if response.status == 200 {
        to.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let _ = write!(
            to,
            "HTTP/1.1 {} {}\r\n",
            response.status,
            reason(response.status)
        );
    }
    to.extend_from_slice(&response.headers);
    to.extend_from_slice(b"date: ");
    with_date(|date| to.extend_from_slice(date.as_bytes()));
    to.extend_from_slice(b"\r\n");
    match ending {
        Ending::Length(_) if matches!(response.status, 100..200 | 204 | 304) => {}
        Ending::Length(length) => {
            to.extend_from_slice(b"content-length: ");
            to.extend_from_slice(decimal(&mut [0; 20], length as u64));
            to.extend_from_slice(b"\r\n");
        }
        Ending::Chunked => to.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Ending::Close => {}
    }
    if close {
        to.extend_from_slice(b"connection: close\r\n");
    } else if terms.http10 {
        to.extend_from_slice(b"connection: keep-alive\r\n");
    }
    to.extend_from_slice(b"\r\n");
}

/// The current date as RFC 9110 section 5.6.7 wants it, formatted once a second and thread.
fn with_date(use_it: impl FnOnce(&str)) {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(known, text)| {
        if *known != second || text.is_empty() {
            *known = second;
            *text = httpdate::fmt_http_date(now);
        }
        use_it(text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_how_they_end() {
        let terms = Terms {
            http10: false,
            keep_alive: true,
            is_head: false,
        };
        let encode = |status, ending, close| {
            let mut head = Vec::new();
            encode_head(&mut head, &Response::new(status), ending, terms, close);
            String::from_utf8(head).expect("heads are text")
        };
        assert!(encode(200, Ending::Length(5), false).contains("\r\ncontent-length: 5\r\n\r\n"));
        assert!(
            encode(200, Ending::Chunked, true).ends_with("chunked\r\nconnection: close\r\n\r\n")
        );
        assert!(!encode(204, Ending::Length(0), false).contains("content-length"));
        assert!(encode(418, Ending::Close, false).starts_with("HTTP/1.1 418 \r\n"));
    }
}
