//! Events as they go out: named, numbered, one object each.

use super::super::json::write::Writer;

/// Numbers events from 0, as the vendor's `sequence_number`.
#[derive(Default)]
pub(super) struct Events {
    next: u64,
}

impl Events {
    /// Appends the event `kind` to `out`, with the members that `fill` writes.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, kind: &str, fill: impl FnOnce(&mut Writer)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut writer = Writer::behind(std::mem::take(out));
        writer.object(|it| {
            it.key("type").string(kind);
            it.key("sequence_number").number(self.next);
            fill(it);
        });
        *out = writer.into_bytes();
        out.extend_from_slice(b"\n\n");
        self.next += 1;
    }
}
