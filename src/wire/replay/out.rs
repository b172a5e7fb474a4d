//! The events of a stream that is made from a body, and the pieces of its texts.
//!
//! Start at [`Events::event`].

use crate::wire::json::view::View;
use crate::wire::json::write::Writer;
use crate::wire::sse;

/// Bytes of a text that one event has at most, as they are escaped. Clients that read line by line
/// take 64 KiB, and what an event says beside its text is small against 4.
pub(super) const PIECE_BYTES: usize = 4 << 10;

/// Events that are put one behind the other.
pub(super) struct Events {
    out: Vec<u8>,
    bytes_max: usize,
    is_too_long: bool,
}

impl Events {
    /// None yet, of a body of `bytes`. Four times as many are enough for any answer but one of
    /// countless empty parts.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes + bytes / 4),
            bytes_max: bytes.saturating_mul(4).saturating_add(1 << 20),
            is_too_long: false,
        }
    }

    /// Puts the bytes of one event behind the others: `head`, what `fill` writes, and `tail`.
    pub(super) fn event(&mut self, head: &[u8], fill: impl FnOnce(&mut Writer), tail: &[u8]) {
        if self.is_too_long {
            return;
        }
        let start = self.out.len();
        self.out.extend_from_slice(head);
        let from = self.out.len();
        let mut writer = Writer::behind(std::mem::take(&mut self.out));
        fill(&mut writer);
        self.out = writer.into_bytes();
        // Blanks may be line ends, which would end the event.
        for byte in &mut self.out[from..] {
            if let b'\n' | b'\r' = byte {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(tail);
        let bytes = self.out.len() - start;
        self.is_too_long = bytes > sse::EVENT_BYTES_MAX || self.out.len() > self.bytes_max;
    }

    /// All of them; `None` if that was too much.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        (!self.is_too_long).then_some(self.out)
    }
}

/// The inside of a string literal in pieces of [`PIECE_BYTES`] at most, each of them the inside of
/// one: neither an escape nor a pair of surrogates is cut.
pub(super) fn pieces(escaped: &str) -> impl Iterator<Item = &str> {
    let mut rest = escaped;
    std::iter::from_fn(move || {
        let (piece, more) = rest.split_at(piece_end(rest));
        rest = more;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Where the first piece of a text ends. Not at its beginning, unless it is empty.
fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let mut end = text.floor_char_boundary(PIECE_BYTES);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..end]) {
        let escape = at + found;
        at = escape + escape_bytes(&text[escape..]);
        if at > end {
            end = escape;
            break;
        }
    }
    end
}

/// The bytes of the escape that `text` begins with, and of the second half of a surrogate pair.
fn escape_bytes(text: &str) -> usize {
    let half = |from: usize| {
        let digits = text.get(from..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (half(0), half(6)) {
        (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
        (Some(_), _) => 6,
        (None, _) => 2,
    }
}

/// The items of a list in runs of about [`PIECE_BYTES`] each, as they stand there.
pub(super) fn runs(list: View<'_>) -> impl Iterator<Item = Vec<View<'_>>> {
    let mut items = list.items().peekable();
    std::iter::from_fn(move || {
        let mut run: Vec<_> = items.next().into_iter().collect();
        let mut bytes = run.first()?.text().len();
        while let Some(item) = items.next_if(|it| bytes + it.text().len() <= PIECE_BYTES) {
            bytes += item.text().len();
            run.push(item);
        }
        Some(run)
    })
}
