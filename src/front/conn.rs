//! One connection's reading side, and the table of all of a thread's connections.

use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Instant;

use super::Limits;
use super::budget::Charge;
use super::chunked::{ChunkError, Chunked};
use super::outbox::Wire;
use super::parse::{Framing, Parsed, Refusal, blank_lead, head_end, parse_head};
use crate::cancel::Cancel;

/// A body renews its deadline each time it has grown by this much: a slow upload lives, a
/// trickle does not.
const PROGRESS_BYTES: usize = 64 << 10;
/// A closing connection may still send this much before it is dropped.
const LINGER_BYTES_MAX: usize = 1 << 20;

const TOO_LARGE: Refusal = Refusal {
    status: 413,
    message: "the request body is larger than server.max_body_mb allows; send less",
};

const TOO_MANY: Refusal = Refusal {
    status: 503,
    message: "too many large request bodies are on their way; send this one again in a moment",
};

/// Where a connection stands.
pub(super) enum Phase {
    /// Nothing of a next request has come.
    Idle,
    /// A head has begun.
    Head,
    /// A head has come, its body not yet.
    Body(Box<Body>),
    /// A request is out with the handler.
    Busy,
    /// The last answer is being sent.
    Closing,
    /// Everything is sent and the sending side closed; what still comes is discarded, so that
    /// the client's stack does not throw the answer away (RFC 9112 section 9.6).
    Linger { left: usize },
}

/// A declared body of which one such part is here gets room for all of it.
const LARGE_SHARE: usize = 16;

/// A body on its way in.
pub(super) struct Body {
    pub parsed: Parsed,
    coding: Coding,
    bytes: Vec<u8>,
    marked: usize,
    charge: Charge,
}

enum Coding {
    Length(usize),
    Chunked(Chunked),
}

impl Body {
    /// Takes what belongs to the body.
    pub fn take(&mut self, data: &[u8], bytes_max: usize) -> Result<usize, Refusal> {
        let taken = self.decode(data, bytes_max)?;
        if self.charge.grow_to(self.bytes.len()) {
            Ok(taken)
        } else {
            Err(TOO_MANY)
        }
    }

    fn decode(&mut self, data: &[u8], bytes_max: usize) -> Result<usize, Refusal> {
        match &mut self.coding {
            Coding::Length(length) => {
                let take = data.len().min(*length - self.bytes.len());
                let needed = self.bytes.len() + take;
                if needed > self.bytes.capacity() {
                    // Grow by doubling, but never past what was declared; and once a share of that
                    // is here, by all that is left, so that a big body is not held twice while it
                    // moves. Room that nothing was written to is no memory yet.
                    let grown = match self.bytes.len() >= *length / LARGE_SHARE {
                        true => *length,
                        false => self.bytes.capacity() * 2,
                    };
                    let room = grown.max(needed).min(*length);
                    self.bytes.reserve_exact(room - self.bytes.len());
                }
                self.bytes.extend_from_slice(&data[..take]);
                Ok(take)
            }
            Coding::Chunked(decoder) => {
                decoder
                    .decode(data, &mut self.bytes, bytes_max)
                    .map_err(|error| match error {
                        ChunkError::TooLarge => TOO_LARGE,
                        ChunkError::Malformed => Refusal {
                            status: 400,
                            message: "the chunked body is malformed",
                        },
                    })
            }
        }
    }

    pub fn is_done(&self) -> bool {
        match &self.coding {
            Coding::Length(length) => self.bytes.len() == *length,
            Coding::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// Whether the body has grown enough to renew its deadline.
    pub fn made_progress(&mut self) -> bool {
        let grown = self.bytes.len() - self.marked >= PROGRESS_BYTES;
        if grown {
            self.marked = self.bytes.len();
        }
        grown
    }

    /// Gives the head and the whole body away.
    pub fn finish(&mut self) -> (Parsed, Vec<u8>, Charge) {
        (
            std::mem::take(&mut self.parsed),
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.charge),
        )
    }
}

/// A connection as its front thread sees it.
pub(super) struct Conn {
    pub wire: Arc<Wire>,
    pub peer: SocketAddr,
    pub phase: Phase,
    /// Bytes read and not yet handled: a head in pieces, or requests behind the current one.
    pub input: Vec<u8>,
    /// Whether `input` may hold a whole request, so that it is worth another look.
    pub retry_input: bool,
    /// Whether it has had its turn and others come before more of `input` is handled.
    pub yields: bool,
    /// How much of `input` was searched for the end of a head.
    scanned: usize,
    /// Whether the socket may have more to read.
    pub read_ready: bool,
    /// Whether bytes wait in the outbox for the socket.
    pub blocked: bool,
    /// How many bytes the outbox had given away when its deadline was last renewed.
    pub taken: u64,
    /// Since when it has given away nothing.
    pub stalled_since: Option<Instant>,
    pub cancel: Option<Arc<Cancel>>,
}

impl Conn {
    pub fn new(wire: Arc<Wire>, peer: SocketAddr) -> Self {
        Self {
            wire,
            peer,
            phase: Phase::Idle,
            input: Vec::new(),
            retry_input: false,
            yields: false,
            scanned: 0,
            read_ready: false,
            blocked: false,
            taken: 0,
            stalled_since: None,
            cancel: None,
        }
    }

    /// Looks for a head at the start of `data`. Returns what was taken of it.
    pub fn take_head(
        &mut self,
        data: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Parsed>), Refusal> {
        const TOO_LONG: Refusal = Refusal {
            status: 431,
            message: "the request head is longer than 32 KiB; shorten it",
        };
        let lead = if self.scanned == 0 {
            blank_lead(data)
        } else {
            0
        };
        let data = &data[lead..];
        match head_end(data, self.scanned)? {
            Some(end) if end > limits.head_bytes_max => Err(TOO_LONG),
            None if data.len() > limits.head_bytes_max => Err(TOO_LONG),
            None => {
                // Half an empty line may turn out to be one that is skipped.
                let is_lead = data.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                self.scanned = if is_lead { 0 } else { data.len() };
                Ok((lead, None))
            }
            Some(end) => {
                self.scanned = 0;
                parse_head(&data[..end], limits.fields_max).map(|parsed| (lead + end, Some(parsed)))
            }
        }
    }

    /// Prepares for the body that `parsed` announces. Returns whether the client waits to be
    /// told to go on.
    ///
    /// # Errors
    /// The body is declared larger than the limit: refused before any of it is read.
    pub fn begin_body(
        &mut self,
        parsed: Parsed,
        limits: &Limits,
    ) -> Result<bool, (Option<String>, Refusal)> {
        let (coding, capacity) = match parsed.framing {
            Framing::Length(length) if length > limits.body_bytes_max as u64 => {
                return Err((parsed.path().map(str::to_owned), TOO_LARGE));
            }
            Framing::Length(length) => (
                Coding::Length(length as usize),
                (length as usize).min(PROGRESS_BYTES),
            ),
            Framing::Chunked => (Coding::Chunked(Chunked::new()), 0),
        };
        let wants_continue = parsed.expects_continue;
        let bytes = Vec::with_capacity(capacity);
        self.phase = Phase::Body(Box::new(Body {
            parsed,
            coding,
            bytes,
            marked: 0,
            charge: Charge::default(),
        }));
        Ok(wants_continue)
    }

    /// Begins to discard what still comes.
    pub fn linger(&mut self) {
        self.phase = Phase::Linger {
            left: LINGER_BYTES_MAX,
        };
        self.read_ready = true;
        self.retry_input = false;
    }
}

/// Connections by index; a token adds the generation, so that an event or message for a
/// connection that is gone does not reach the one that took its place.
#[derive(Default)]
pub(super) struct Slab {
    entries: Vec<(u32, Option<Conn>)>,
    free: Vec<usize>,
    used: usize,
}

impl Slab {
    /// The token that the next inserted connection will have.
    pub fn next_token(&self) -> usize {
        match self.free.last() {
            Some(index) => *index | (self.entries[*index].0 as usize) << 32,
            None => self.entries.len(),
        }
    }

    /// Inserts a connection that was given [`Slab::next_token`].
    pub fn insert(&mut self, conn: Conn) -> usize {
        self.used += 1;
        match self.free.pop() {
            Some(index) => {
                self.entries[index].1 = Some(conn);
                index
            }
            None => {
                self.entries.push((0, Some(conn)));
                self.entries.len() - 1
            }
        }
    }

    /// The index of the connection that has this token, if it is still there.
    pub fn find(&self, token: usize) -> Option<usize> {
        let (index, generation) = (token & 0xffff_ffff, (token >> 32) as u32);
        let (known, conn) = self.entries.get(index)?;
        (*known == generation && conn.is_some()).then_some(index)
    }

    pub fn holds(&self, index: usize) -> bool {
        self.entries
            .get(index)
            .is_some_and(|(_, conn)| conn.is_some())
    }

    pub fn remove(&mut self, index: usize) -> Option<Conn> {
        let (generation, conn) = self.entries.get_mut(index)?;
        let conn = conn.take()?;
        // The last generation is never used: the poller's waker has the token of all ones.
        *generation = (*generation + 1) % (u32::MAX - 1);
        self.free.push(index);
        self.used -= 1;
        Some(conn)
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub fn indices(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|index| self.holds(*index))
            .collect()
    }
}

impl Index<usize> for Slab {
    type Output = Conn;
    fn index(&self, index: usize) -> &Conn {
        self.entries[index]
            .1
            .as_ref()
            .expect("only live connections are indexed")
    }
}

impl IndexMut<usize> for Slab {
    fn index_mut(&mut self, index: usize) -> &mut Conn {
        self.entries[index]
            .1
            .as_mut()
            .expect("only live connections are indexed")
    }
}
