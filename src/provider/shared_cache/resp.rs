//! The protocol of Redis and Valkey, as far as a cache needs it (RESP2, "Redis serialization
//! protocol specification"). Pure.
//!
//! Commands are arrays of bulk strings. Of replies only the single ones are read: no command that is
//! sent here is answered by an array. Everything that a server says is bounded before it is kept.

use std::fmt;

/// The largest value that is written or read, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// The longest line of a reply, in bytes. Errors quote what they are about.
const LINE_BYTES_MAX: usize = 4096;
/// The longest code of an error that is kept.
const CODE_BYTES_MAX: usize = 32;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` or another word of success.
    Ok,
    /// An error's code, as in `OOM`. The rest of an error is dropped: a server that does not know
    /// `AUTH` quotes the password.
    Error(String),
    /// `:1`
    Integer(i64),
    /// A value.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
}

/// Not the protocol, or more of it than is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Line,
    Kind,
    Length,
    TooLarge,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "a line without an end",
            Self::Kind => "a reply of an unknown kind",
            Self::Length => "a length that is none",
            Self::TooLarge => "a value of over 8 MiB",
        })
    }
}

/// Appends a command.
pub fn command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let number = |out: &mut Vec<u8>, kind: u8, number: usize| {
        out.push(kind);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    let bytes: usize = arguments.iter().map(|it| it.len() + 16).sum();
    out.reserve(bytes + 16);
    number(out, b'*', arguments.len());
    for argument in arguments {
        number(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// The first reply in `bytes` and its length; `None` if it is not whole yet.
///
/// # Errors
/// It is no reply, whatever may still come.
pub fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        let kind = bytes.first().copied().unwrap_or(b'+');
        return match kind {
            _ if bytes.len() >= LINE_BYTES_MAX => Err(Malformed::Line),
            b'+' | b'-' | b':' | b'$' => Ok(None),
            _ => Err(Malformed::Kind),
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let (kind, rest) = line.split_first().ok_or(Malformed::Kind)?;
    let used = end + 1;
    match kind {
        b'+' => Ok(Some((Reply::Ok, used))),
        b'-' => Ok(Some((Reply::Error(code(rest)), used))),
        b':' => Ok(Some((Reply::Integer(integer(rest)?), used))),
        b'$' => match integer(rest)? {
            -1 => Ok(Some((Reply::Nil, used))),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed::Length)?;
                bulk(bytes, used, length)
            }
        },
        _ => Err(Malformed::Kind),
    }
}

fn bulk(bytes: &[u8], start: usize, length: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    if length > VALUE_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let end = start + length;
    match bytes.get(start..end + 2) {
        None => Ok(None),
        Some(value) if value.ends_with(b"\r\n") => {
            let value = value[..length].to_vec();
            Ok(Some((Reply::Bulk(value), end + 2)))
        }
        Some(_) => Err(Malformed::Length),
    }
}

fn integer(digits: &[u8]) -> Result<i64, Malformed> {
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::Length)?;
    text.parse().map_err(|_| Malformed::Length)
}

fn code(line: &[u8]) -> String {
    let word = line.split(|b| *b == b' ').next().unwrap_or_default();
    let sound = (1..=CODE_BYTES_MAX).contains(&word.len())
        && word.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
    if sound {
        String::from_utf8_lossy(word).into_owned()
    } else {
        "an error without a code".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        command(&mut out, &[b"GET", b"k\r\n"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n");
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        fn check(bytes: &[u8], expected: Result<Option<(Reply, usize)>, Malformed>) {
            assert_eq!(reply(bytes), expected, "{}", bytes.escape_ascii());
        }
        check(b"", Ok(None));
        check(b"+OK", Ok(None));
        check(b"+OK\r\n+", Ok(Some((Reply::Ok, 5))));
        check(b":12\r\n", Ok(Some((Reply::Integer(12), 5))));
        check(b"$-1\r\n", Ok(Some((Reply::Nil, 5))));
        check(b"$0\r\n\r\n", Ok(Some((Reply::Bulk(vec![]), 6))));
        check(b"$3\r\nab", Ok(None));
        check(b"$2\r\nab\r\n:", Ok(Some((Reply::Bulk(b"ab".to_vec()), 8))));
        let oom = Reply::Error("OOM".to_owned());
        check(b"-OOM command not allowed\r\n", Ok(Some((oom, 26))));
        check(b"$2\r\nabcd", Err(Malformed::Length));
        check(b"$-2\r\n", Err(Malformed::Length));
        check(b"$8388609\r\n", Err(Malformed::TooLarge));
        check(b"$99999999999999999999\r\n", Err(Malformed::Length));
        check(b"$9223372036854775807\r\n", Err(Malformed::TooLarge));
        check(b"*1\r\n", Err(Malformed::Kind));
        check(b"HTTP/1.1 400 Bad Request", Err(Malformed::Kind));
        check(b"\r\n", Err(Malformed::Kind));
        check(b"+OK\n", Err(Malformed::Line));
        check(&[b'+'; LINE_BYTES_MAX], Err(Malformed::Line));
    }

    #[test]
    fn an_error_is_its_code_alone() {
        for line in [
            "-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n",
            "-hunter2\r\n",
            "-\r\n",
        ] {
            let Ok(Some((Reply::Error(code), _))) = reply(line.as_bytes()) else {
                panic!("{line}");
            };
            assert!(!code.contains("hunter2"), "{code}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_reply_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, used))) = reply(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn a_value_comes_back_however_it_is_cut(
            value in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200
        ) {
            let mut bytes = format!("${}\r\n", value.len()).into_bytes();
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
            let cut = cut.min(bytes.len() - 1);
            prop_assert_eq!(reply(&bytes[..cut]), Ok(None));
            let used = bytes.len();
            prop_assert_eq!(reply(&bytes), Ok(Some((Reply::Bulk(value), used))));
        }
    }
}
