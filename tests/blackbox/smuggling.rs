//! Request smuggling (RFC 9112 sections 6.3 and 11.2): every form that makes two readers
//! disagree about where a request ends is refused, the connection is closed, and the request
//! hidden behind it is never answered and never reaches a provider.

use std::time::Duration;

use crate::common::daemon::Daemon;
use crate::common::http::Connection;
use crate::common::machine;
use crate::common::simulator::Simulator;

/// What would be smuggled: its answer shows on the wire, its call in the simulator's log.
const HIDDEN: &str = "GET /health/live HTTP/1.1\r\nhost: victor\r\n\r\n";
const BODY: &str = r#"{"model":"simo/sim","messages":[{"role":"user","content":"hi"}]}"#;

/// A POST of a chat call with `fields` for its framing, each ending in CRLF.
fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: victor\r\n\
         content-type: application/json\r\n{fields}\r\n{body}{HIDDEN}"
    )
}

/// The chat call with a chunked body as it is spelled in `body`.
fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

fn well_chunked() -> String {
    format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())
}

/// Sends each request on a connection of its own and checks that one answer comes back, with one
/// of the expected statuses, and then the end of the connection.
fn check_refused(cases: &[(String, &[u16])]) {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    for (request, expected) in cases {
        let mut connection = Connection::open(daemon.api);
        connection.send(request.as_bytes());
        let seen = connection.rest(Duration::from_secs(10));
        let seen = String::from_utf8_lossy(&seen);
        let status = seen.get(9..12).and_then(|digits| digits.parse().ok());
        assert!(
            status.is_some_and(|status: u16| expected.contains(&status)),
            "{request:?}: expected {expected:?}, got {seen:?}"
        );
        let answers = seen
            .split("HTTP/1.1 ")
            .skip(1)
            .filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
            .count();
        assert_eq!(
            answers, 1,
            "the hidden request was answered: {request:?}: {seen:?}"
        );
        assert!(
            seen.to_ascii_lowercase().contains("\r\nconnection: close"),
            "{request:?}: {seen:?}"
        );
    }
    assert!(simulator.calls().is_empty(), "a provider was asked");
    daemon.assert_well();
}

fn check_all(requests: impl IntoIterator<Item = String>, expected: &[u16]) {
    let cases: Vec<_> = requests.into_iter().map(|text| (text, expected)).collect();
    check_refused(&cases);
}

#[test]
fn a_length_and_a_coding_exclude_each_other() {
    let length = BODY.len();
    check_all(
        [
            post(
                &format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
                &well_chunked(),
            ),
            post(
                &format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
                &well_chunked(),
            ),
            post(
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                &well_chunked(),
            ),
            post(
                "content-length: 4\r\ntransfer-encoding: identity\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ],
        &[400],
    );
}

#[test]
fn a_length_is_given_once() {
    let length = BODY.len();
    check_all(
        [
            post(
                &format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
                BODY,
            ),
            post(
                &format!("content-length: 0\r\ncontent-length: {length}\r\n"),
                BODY,
            ),
            post(
                &format!("content-length: {length}\r\nx-a: b\r\nCONTENT-LENGTH: 0\r\n"),
                BODY,
            ),
        ],
        &[400],
    );
}

#[test]
fn a_length_is_digits_only() {
    let forms = [
        "+64",
        "-1",
        "-0",
        "0x40",
        "64,64",
        "64, 64",
        "64 64",
        "64;",
        "6 4",
        "64.0",
        "6e1",
        "",
        "\"64\"",
        "\u{b}64",
        "64\u{c}",
        "\u{666}\u{664}",
        "_64",
        "6_4",
        "0b1",
        "NaN",
        "18446744073709551616",
        "18446744073709551680",
        "99999999999999999999999999",
    ];
    check_all(
        forms.map(|form| post(&format!("content-length: {form}\r\n"), BODY)),
        &[400],
    );
}

#[test]
fn a_coding_is_chunked_and_nothing_else() {
    let forms = [
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "x, chunked",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "gzip, chunked",
        "gzip",
        "\"chunked\"",
        "chunked;q=1",
        "chun ked",
        "chunked chunked",
        "",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunk\u{212a}ed",
    ];
    check_all(
        forms.map(|form| post(&format!("transfer-encoding: {form}\r\n"), &well_chunked())),
        // RFC 9112 section 6.1 names 501 for a coding that is not understood.
        &[400, 501],
    );
}

#[test]
fn a_coding_is_given_once_and_not_in_http_1_0() {
    check_all(
        [
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                &well_chunked(),
            ),
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
                &well_chunked(),
            ),
            post(
                "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
                &well_chunked(),
            ),
            chunked(&well_chunked()).replacen("HTTP/1.1", "HTTP/1.0", 1),
            post(
                "connection: keep-alive\r\ntransfer-encoding: chunked\r\n",
                &well_chunked(),
            )
            .replacen("HTTP/1.1", "HTTP/1.0", 1),
        ],
        &[400, 501],
    );
}

#[test]
fn a_field_line_is_spelled_in_one_way_only() {
    let length = BODY.len();
    let fields = [
        format!("content-length : {length}\r\n"),
        format!("content-length\t: {length}\r\n"),
        format!("content-length:\r\n {length}\r\n"),
        format!("x-a: b\r\n content-length: {length}\r\n"),
        format!("x-a: b\r\n\tcontent-length: {length}\r\n"),
        format!("content-length: {length}\r\n \r\n"),
        format!("x-a: b\rcontent-length: {length}\r\n"),
        format!("x-a: b\r\rcontent-length: {length}\r\n"),
        format!("x-a\r: b\r\ncontent-length: {length}\r\n"),
        format!("x-a: b\0c\r\ncontent-length: {length}\r\n"),
        format!("x\0a: b\r\ncontent-length: {length}\r\n"),
        format!("content-length\0: {length}\r\n"),
        format!(": b\r\ncontent-length: {length}\r\n"),
        format!("x-a\r\ncontent-length: {length}\r\n"),
        format!("x a: b\r\ncontent-length: {length}\r\n"),
        format!("x-a: b\u{1}\r\ncontent-length: {length}\r\n"),
        format!("x-a: b\u{7f}\r\ncontent-length: {length}\r\n"),
        format!("(x-a): b\r\ncontent-length: {length}\r\n"),
        format!("x-\u{e9}: b\r\ncontent-length: {length}\r\n"),
    ];
    check_all(fields.map(|fields| post(&fields, BODY)), &[400]);
}

#[test]
fn a_line_ends_in_crlf_and_nothing_else() {
    let length = BODY.len();
    let whole = post(&format!("content-length: {length}\r\n"), BODY);
    let bare = |at: usize| {
        let mut lines: Vec<&str> = whole.splitn(6, "\r\n").collect();
        let joined = format!("{}\n{}", lines[at], lines[at + 1]);
        lines[at] = &joined;
        lines.remove(at + 1);
        lines.join("\r\n")
    };
    check_all(
        [
            bare(0),
            bare(1),
            bare(2),
            bare(3),
            whole.replacen("\r\n", "\n", 5),
            whole.replacen("host: victor\r\n", "host: victor\n", 1),
            post("x-a: b\ntransfer-encoding: chunked\r\n", &well_chunked()),
        ],
        &[400],
    );
}

#[test]
fn the_request_line_is_spelled_in_one_way_only() {
    let lines = [
        "GET  /health/live HTTP/1.1",
        "GET /health/live  HTTP/1.1",
        "GET /health/live HTTP/1.1 ",
        " GET /health/live HTTP/1.1",
        "GET\t/health/live\tHTTP/1.1",
        "GET /health/live\rHTTP/1.1",
        "GET /health/live\0 HTTP/1.1",
        "GET /health/live x HTTP/1.1",
        "GET /health/live http/1.1",
        "GET /health/live HTTP/1,1",
        "GET /health/live HTTP/11",
        "GET /health/live HTTP/01.1",
        "GET /health/live HTTP/1.1x",
        "GET /health/live HTTP/2.0",
        "GET /health/live HTTP/1.2",
        "GET /health/live",
        "GE(T /health/live HTTP/1.1",
        "/health/live HTTP/1.1",
        "GET health/live HTTP/1.1",
        "GET /health/live#fragment HTTP/1.1",
    ];
    check_all(
        lines.map(|line| format!("{line}\r\nhost: victor\r\n\r\n{HIDDEN}")),
        &[400, 505],
    );
}

#[test]
fn a_request_names_one_host() {
    let heads = [
        "GET /health/live HTTP/1.1\r\n",
        "GET /health/live HTTP/1.1\r\nhost: victor\r\nhost: victor\r\n",
        "GET /health/live HTTP/1.1\r\nhost: victor\r\nHost: other\r\n",
        "GET /health/live HTTP/1.1\r\nhost: victor, other\r\n",
        "GET /health/live HTTP/1.1\r\nhost: vic tor\r\n",
        "GET /health/live HTTP/1.1\r\nhost: user@victor\r\n",
        "GET /health/live HTTP/1.1\r\nhost: victor/path\r\n",
        "GET /health/live HTTP/1.1\r\nhost: victor#x\r\n",
        "GET http://other/health/live HTTP/1.1\r\nhost: victor\r\n",
        "GET http://other@victor/health/live HTTP/1.1\r\nhost: victor\r\n",
        "GET http://victor:81/health/live HTTP/1.1\r\nhost: victor:82\r\n",
        "GET http:///health/live HTTP/1.1\r\nhost: victor\r\n",
        "GET ftp://victor/health/live HTTP/1.1\r\nhost: victor\r\n",
        "GET //victor/health/live HTTP/1.1\r\n",
        "CONNECT victor:443 HTTP/1.1\r\nhost: other:443\r\n",
    ];
    check_all(heads.map(|head| format!("{head}\r\n{HIDDEN}")), &[400]);
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_only() {
    let size = format!("{:x}", BODY.len());
    let sizes = [
        format!("+{size}"),
        format!("-{size}"),
        format!("0x{size}"),
        format!(" {size}"),
        format!("\t{size}"),
        format!("{size} "),
        format!("{size}h"),
        format!("4_0{size}"),
        String::new(),
        format!("\u{b}{size}"),
        format!("{size}\0"),
        format!("{size},{size}"),
        format!("10000000000000000{size}"),
        "FFFFFFFFFFFFFFFFF".to_owned(),
        format!("{}{size}", "0".repeat(40)),
    ];
    check_all(
        sizes.map(|size| chunked(&format!("{size}\r\n{BODY}\r\n0\r\n\r\n"))),
        &[400, 413],
    );
}

#[test]
fn a_chunk_extension_hides_no_line_end() {
    let size = format!("{:x}", BODY.len());
    let endings = [
        "\n".to_owned(),
        ";a\n".to_owned(),
        ";a\r".to_owned(),
        ";a\rb\r\n".to_owned(),
        ";a=\"b\nc\"\r\n".to_owned(),
        ";a=\"b\0c\"\r\n".to_owned(),
        ";\u{1}\r\n".to_owned(),
        "\r\r\n".to_owned(),
        format!(";{}\r\n", "a".repeat(64 * 1024)),
    ];
    check_all(
        endings.map(|ending| chunked(&format!("{size}{ending}{BODY}\r\n0\r\n\r\n"))),
        &[400],
    );
}

#[test]
fn a_chunk_ends_where_it_says() {
    let size = format!("{:x}", BODY.len());
    let shorter = format!("{:x}", BODY.len() - 1);
    check_all(
        [
            chunked(&format!("{size}\r\n{BODY}0\r\n\r\n")),
            chunked(&format!("{size}\r\n{BODY}\n0\r\n\r\n")),
            chunked(&format!("{size}\r\n{BODY}\r0\r\n\r\n")),
            chunked(&format!("{size}\r\n{BODY}xx0\r\n\r\n")),
            chunked(&format!("{shorter}\r\n{BODY}\r\n0\r\n\r\n")),
            chunked(&format!("{size}\r\n{BODY}\r\n0\n\n")),
            chunked(&format!("{size}\r\n{BODY}\r\n0\r\n\n")),
        ],
        &[400],
    );
}

#[test]
fn a_trailer_is_spelled_as_a_field_and_is_bounded() {
    let size = format!("{:x}", BODY.len());
    let trailers = [
        "x-a\r\n".to_owned(),
        "x-a : b\r\n".to_owned(),
        " x-a: b\r\n".to_owned(),
        "x-a: b\rc\r\n".to_owned(),
        "x-a: b\n".to_owned(),
        "x-a: b\0\r\n".to_owned(),
        "x-a: b\r\n folded\r\n".to_owned(),
        format!("x-a: {}\r\n", "b".repeat(128 * 1024)),
        "x-a: b\r\n".repeat(20_000),
    ];
    check_all(
        trailers.map(|trailer| chunked(&format!("{size}\r\n{BODY}\r\n0\r\n{trailer}\r\n"))),
        &[400, 431],
    );
}

/// A trailer cannot change how the message was framed: it is refused, or it is ignored, and the
/// next request is answered as what it is.
#[test]
fn a_trailer_changes_no_framing() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let size = format!("{:x}", BODY.len());
    for trailer in [
        "content-length: 5",
        "transfer-encoding: chunked",
        "host: other",
        "authorization: Bearer x",
        "x-victor-coordinator: Nobody",
    ] {
        let mut connection = Connection::open(daemon.api);
        let body = format!("{size}\r\n{BODY}\r\n0\r\n{trailer}\r\n\r\n");
        connection.send(chunked(&body).as_bytes());
        let first = connection.answer();
        match first.status {
            400 => assert!(connection.closed(Duration::from_secs(5)), "{trailer}"),
            200 => {
                let second = connection.answer();
                assert_eq!(second.status, 200, "{trailer}");
                assert_eq!(second.json()["status"], "alive", "{trailer}");
            }
            status => panic!("{trailer}: {status}: {}", first.text()),
        }
    }
    daemon.assert_well();
}

/// The same checks let through what is well-formed, so that they show something.
#[test]
fn well_formed_requests_in_a_row_are_all_answered() {
    let _turn = machine::light();
    let simulator = Simulator::start();
    let mut daemon = Daemon::start(&simulator);
    let size = format!("{:x}", BODY.len());
    for request in [
        post(&format!("content-length: {}\r\n", BODY.len()), BODY),
        post(&format!("Content-Length:   {} \t\r\n", BODY.len()), BODY),
        post(&format!("content-length: 000{}\r\n", BODY.len()), BODY),
        chunked(&well_chunked()),
        post("Transfer-Encoding:\tChunked\r\n", &well_chunked()),
        chunked(&format!("{}\r\n{BODY}\r\n0\r\n\r\n", size.to_uppercase())),
        chunked(&format!("{size};a=b;c=\"d e\"\r\n{BODY}\r\n000\r\n\r\n")),
        chunked(&format!(
            "1\r\n{{\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            BODY.len() - 1,
            &BODY[1..]
        )),
        format!("\r\n{}", chunked(&well_chunked())),
    ] {
        let mut connection = Connection::open(daemon.api);
        connection.send(request.as_bytes());
        let first = connection.answer();
        assert_eq!(first.status, 200, "{request:?}: {}", first.text());
        let second = connection.answer();
        assert_eq!(second.json()["status"], "alive", "{request:?}");
    }
    daemon.assert_well();
}
