//! The bytes on their way out and in of one connection.
//!
//! ureq's own buffers are allocated whole (128 KiB each way unless told otherwise) and are handed
//! to the socket piece by piece: the head in one write, the body in another. These start small,
//! grow only as far as an answer asks for, and collect what is sent, so that a head and a small
//! body leave in one packet. Pure: no socket here.

use ureq::unversioned::transport::Buffers;

/// Output collected before it must be sent.
pub const OUTPUT_BYTES: usize = 16 << 10;
/// What ureq is always offered: its longest header line, and a TLS record's header, must fit.
const OUTPUT_ROOM_MIN: usize = 6 << 10;
/// Input read at a time at first: events of a stream are smaller.
const INPUT_BYTES_MIN: usize = 4 << 10;
/// Input read at a time at most. Above the limit of a response head, which must fit whole.
pub const INPUT_BYTES_MAX: usize = 80 << 10;

/// Both directions of one connection.
#[derive(Debug, Default)]
pub struct InOut {
    output: Vec<u8>,
    /// Bytes of `output` that wait to be sent.
    pending: usize,
    input: Vec<u8>,
    /// `input[start..end]` has been received and not yet used.
    start: usize,
    end: usize,
    /// Whether the last look at the input used some of it.
    progress: bool,
    /// Whether the last read filled all the room there was.
    filled: bool,
}

impl InOut {
    /// Adds `amount` bytes, just written to [`Buffers::output`], to what waits. Returns whether
    /// it must be sent now.
    pub fn commit(&mut self, amount: usize) -> bool {
        self.pending += amount;
        debug_assert!(self.pending <= self.output.len());
        self.output.len() - self.pending < OUTPUT_ROOM_MIN
    }

    /// What waits to be sent.
    pub fn pending(&self) -> &[u8] {
        &self.output[..self.pending]
    }

    /// What waited has been sent, or never will be.
    pub fn clear_pending(&mut self) {
        self.pending = 0;
    }

    /// Gives the output buffer back: a stream only reads from here on, perhaps for minutes.
    pub fn drop_output(&mut self) {
        if self.pending == 0 {
            self.output = Vec::new();
        }
    }

    /// Whether something was received that nobody has used.
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Room for what is received next; empty only if [`INPUT_BYTES_MAX`] bytes wait unused.
    fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let full = self.end == self.input.len();
        if full && self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() || (self.filled && self.end == 0) {
            let grown = (self.input.len() * 2).clamp(INPUT_BYTES_MIN, INPUT_BYTES_MAX);
            self.input.resize(grown, 0);
        }
        self.filled = false;
        &mut self.input[self.end..]
    }
}

impl Buffers for InOut {
    fn output(&mut self) -> &mut [u8] {
        if self.output.is_empty() {
            self.output = vec![0; OUTPUT_BYTES];
        }
        &mut self.output[self.pending..]
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.room()
    }

    fn input_appended(&mut self, amount: usize) {
        self.end += amount;
        self.filled = self.end == self.input.len();
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start += amount;
        debug_assert!(self.start <= self.end);
    }

    /// The first is scratch for chunked requests, which are never sent from here.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], self.output())
    }

    fn can_use_input(&self) -> bool {
        self.has_input() && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffers: &mut InOut, bytes: &[u8]) -> usize {
        let room = buffers.input_append_buf();
        let amount = bytes.len().min(room.len());
        room[..amount].copy_from_slice(&bytes[..amount]);
        buffers.input_appended(amount);
        amount
    }

    #[test]
    fn a_head_and_a_body_wait_to_leave_together_until_there_is_little_room() {
        let mut buffers = InOut::default();
        buffers.output()[..4].copy_from_slice(b"head");
        assert!(!buffers.commit(4));
        buffers.output()[..4].copy_from_slice(b"body");
        assert!(!buffers.commit(4));
        assert_eq!(buffers.pending(), b"headbody");
        let room = buffers.output().len();
        assert!(buffers.commit(room));
        buffers.clear_pending();
        assert_eq!(buffers.output().len(), OUTPUT_BYTES);
        buffers.drop_output();
        assert_eq!(buffers.output.capacity(), 0);
    }

    #[test]
    fn input_grows_only_when_filled_and_never_past_its_bound() {
        let mut buffers = InOut::default();
        let large = vec![b'x'; INPUT_BYTES_MAX * 2];
        assert_eq!(receive(&mut buffers, b"event"), 5);
        buffers.input_consume(5);
        assert_eq!(buffers.input.len(), INPUT_BYTES_MIN);
        let mut total = 0;
        loop {
            match receive(&mut buffers, &large) {
                0 => break,
                amount => total += amount,
            }
        }
        assert_eq!(
            (total, buffers.input.len()),
            (INPUT_BYTES_MAX, INPUT_BYTES_MAX)
        );
        buffers.input_consume(10);
        assert_eq!(receive(&mut buffers, &large), 10, "used bytes make room");
        assert_eq!(buffers.input().len(), INPUT_BYTES_MAX);
    }

    #[test]
    fn input_that_could_not_be_used_asks_for_more() {
        let mut buffers = InOut::default();
        receive(&mut buffers, b"HTTP/1.1 2");
        buffers.input_consume(0);
        assert!(!buffers.can_use_input() && buffers.has_input());
        receive(&mut buffers, b"00 OK");
        assert_eq!(buffers.input(), b"HTTP/1.1 200 OK");
        buffers.input_consume(8);
        assert!(buffers.can_use_input());
    }
}
