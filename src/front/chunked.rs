//! The chunked transfer coding, decoded as it arrives (RFC 9112 section 7.1). Pure.
//!
//! Strict: hexadecimal digits only, CRLF only, extensions and trailers bounded and dropped.

/// A chunk line, its extensions included, is at most this long.
const LINE_BYTES_MAX: usize = 1024;
/// All trailers together are at most this long.
const TRAILER_BYTES_MAX: usize = 8192;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkError {
    /// The coding is broken: where the body ends is not known.
    Malformed,
    /// The decoded body would pass its limit.
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// A decoder in the middle of one body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes that the current chunk still has, or the size that is being read.
    left: u64,
    line_bytes: usize,
    trailer_bytes: usize,
    trailer_named: bool,
}

impl Chunked {
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            line_bytes: 0,
            trailer_bytes: 0,
            trailer_named: false,
        }
    }

    /// Whether the whole body has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes as much of `input` as belongs to the body, appending to `out`, which never grows
    /// past `body_bytes_max`. Returns how much of `input` was taken.
    pub fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        body_bytes_max: usize,
    ) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let take = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - at);
                out.extend_from_slice(&input[at..at + take]);
                at += take;
                self.left -= take as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.step(input[at])?;
            if self.state == State::Data && self.left > (body_bytes_max - out.len()) as u64 {
                return Err(ChunkError::TooLarge);
            }
            at += 1;
        }
        Ok(at)
    }

    /// Takes one byte of anything but data.
    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_MAX || self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::Malformed);
        }
        self.state = match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.left = self.left << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b';') => State::Extension,
            (State::Size { digits: 1.. }, b'\r') => State::SizeLf,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.line_bytes = 0;
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line_bytes = 0;
                State::Size { digits: 0 }
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, _) => self.trailer(byte)?,
            (State::TrailerLf, b'\n') => {
                self.line_bytes = 0;
                State::TrailerStart
            }
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(ChunkError::Malformed),
        };
        Ok(())
    }

    /// A byte of a trailer line, which has the shape of a header line.
    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.state == State::TrailerStart {
            self.trailer_named = false;
        }
        match byte {
            b':' if self.state == State::TrailerStart => Err(ChunkError::Malformed),
            b':' => {
                self.trailer_named = true;
                Ok(State::Trailer)
            }
            b'\r' if self.trailer_named => Ok(State::TrailerLf),
            b'\t' | b' '..=b'~' | 0x80.. if self.trailer_named => Ok(State::Trailer),
            b'!'..=b'~' => Ok(State::Trailer),
            _ => Err(ChunkError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_in(pieces: &[&[u8]], limit: usize) -> Result<(Vec<u8>, bool), ChunkError> {
        let (mut decoder, mut out) = (Chunked::new(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &mut out, limit)?;
        }
        Ok((out, decoder.is_done()))
    }

    #[test]
    fn a_body_is_decoded_however_it_is_split() {
        let text = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-t: 1\r\n\r\n";
        for split in 0..text.len() {
            let (body, done) = decode_in(&[&text[..split], &text[split..]], 100).expect("valid");
            assert_eq!((body.as_slice(), done), (&b"hello world"[..], true));
        }
    }

    #[test]
    fn what_follows_the_body_is_left() {
        let (mut decoder, mut out) = (Chunked::new(), Vec::new());
        let taken = decoder
            .decode(b"1\r\na\r\n0\r\n\r\nGET /", &mut out, 10)
            .expect("valid");
        assert_eq!(taken, 11);
    }

    #[test]
    fn doubtful_codings_are_refused() {
        for text in [
            "+5\r\nhello\r\n",
            " 5\r\n",
            "5 \r\nhello",
            "0x5\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "\r\n",
            "ffffffffffffffffff\r\n",
            "5;a\n",
            "5;a\0\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\n: x\r\n",
            "0\r\nname\r\n\r\n",
            "5\r\nhello\n",
        ] {
            assert_eq!(
                decode_in(&[text.as_bytes()], 100),
                Err(ChunkError::Malformed),
                "{text:?}"
            );
        }
        let endless = [b"5;".as_slice(), &[b'a'; 2000]].concat();
        assert_eq!(decode_in(&[&endless], 100), Err(ChunkError::Malformed));
    }

    #[test]
    fn the_limit_holds_before_the_data_comes() {
        assert_eq!(decode_in(&[b"b\r\n"], 10), Err(ChunkError::TooLarge));
        assert_eq!(
            decode_in(&[b"5\r\nhello\r\n6\r\n"], 10),
            Err(ChunkError::TooLarge)
        );
    }
}
