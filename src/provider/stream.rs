//! A streamed answer while it arrives.
//!
//! Bytes come out as they came in; what they mean is `wire`'s business. Only two things are
//! looked at here: whether the first event has come, since until then `first_token_timeout`
//! holds and afterwards `idle_timeout`, and whether the end is one that HTTP framing vouches for.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::BodyReader;

use super::error::{Cause, ProviderError};
use super::line::Line;
use super::semaphore::Permit;
use super::upstream::{Client, Upstream};
use super::{Provider, Time, simulator};
use crate::cancel::Cancel;
use crate::thread;

/// Bytes that one read returns at most.
const READ_BYTES_MAX: usize = 16 << 10;
/// Bytes that the first read returns at most; doubled whenever a read fills them.
const READ_BYTES_MIN: usize = 2 << 10;
/// How long the end of the framing may take behind the end marker.
const DRAIN_WAIT_MAX: Duration = Duration::from_millis(50);
/// How long what follows the finish reason may take.
const FINISHING_WAIT_MAX: Duration = Duration::from_secs(2);
/// What may follow the end marker.
const DRAIN_BYTES_MAX: usize = 4 << 10;

/// A streamed answer. Holds its permit until it has ended, failed or is dropped.
pub struct Stream {
    provider: Arc<Provider>,
    source: Source,
    cancel: Arc<Cancel>,
    /// Whether the first event that means something has come.
    begun: bool,
    /// Until when the first event must come.
    time: Time,
    idle_timeout: Duration,
    is_finishing: bool,
    read_bytes: usize,
    /// What was read ahead.
    primed: Vec<u8>,
}

pub(super) enum Source {
    Http(Box<Http>),
    Simulator(Box<simulator::Running>),
    /// The end came, one way or the other.
    Ended(Option<Cause>),
}

pub(super) struct Http {
    // In this order: an unfinished connection is closed before its slot is another call's.
    pub reader: BodyReader<'static>,
    pub lease: Lease,
}

/// A permit in use by a call over HTTP.
pub(super) struct Lease {
    permit: Permit<Client>,
    line: Arc<Line>,
}

impl Lease {
    pub fn new(mut permit: Permit<Client>, upstream: &Upstream) -> Self {
        let client = permit.item.get_or_insert_with(|| upstream.client());
        let line = Arc::clone(&client.line);
        Self { permit, line }
    }

    pub fn client(&mut self, upstream: &Upstream) -> &Client {
        self.permit.item.get_or_insert_with(|| upstream.client())
    }

    pub fn line(&self) -> &Line {
        &self.line
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.line.end() {
            // A late cancel may still shut this connection down: nobody else may have it.
            self.permit.item = None;
        }
    }
}

impl Stream {
    pub(super) fn new(
        provider: Arc<Provider>,
        source: Source,
        cancel: Arc<Cancel>,
        time: Time,
    ) -> Self {
        let idle_timeout = provider.idle_timeout;
        Self {
            provider,
            source,
            cancel,
            begun: false,
            time,
            idle_timeout,
            is_finishing: false,
            read_bytes: READ_BYTES_MIN,
            primed: Vec::new(),
        }
    }

    /// Waits for the first bytes, which the next read returns.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn prime(&mut self) -> Result<(), ProviderError> {
        let mut primed = Vec::new();
        self.read(&mut primed)?;
        self.primed = primed;
        Ok(())
    }

    /// Appends what has arrived to `buf`, waiting for at least one byte, and returns how many
    /// bytes that were, at most about 16 KiB. 0: the provider ended its answer; whether the
    /// dialect's own end marker came is for the caller to know, for an answer framed by the end
    /// of its connection can be cut without a trace.
    ///
    /// # Errors
    /// Cut, timeout, cancelled, malformed framing. Every later read says the same.
    pub fn read(&mut self, buf: &mut Vec<u8>) -> Result<usize, ProviderError> {
        thread::set_state(thread::State::Relaying);
        if !self.primed.is_empty() {
            let primed = std::mem::take(&mut self.primed);
            buf.extend_from_slice(&primed);
            return Ok(primed.len());
        }
        let by = match self.begun {
            true if self.is_finishing => Instant::now() + self.idle_timeout.min(FINISHING_WAIT_MAX),
            true => Instant::now() + self.idle_timeout,
            false => self.time.by,
        };
        let result = match &mut self.source {
            Source::Ended(None) => return Ok(0),
            Source::Ended(Some(cause)) => Err(cause.clone()),
            Source::Http(http) => {
                http.lease.line().extend(by);
                let read = read_some(&mut http.reader, buf, self.read_bytes);
                read.map_err(|error| {
                    let begun = self.begun;
                    self.provider
                        .cause(http.lease.line(), error.into(), true, begun)
                })
            }
            Source::Simulator(running) => {
                let begun = self.begun;
                running
                    .read(buf, by)
                    .map_err(|error| simulator::body_cause(&error, true, begun))
            }
        };
        match result {
            Ok(0) => {
                self.source = Source::Ended(None);
                Ok(0)
            }
            Ok(amount) => {
                if amount == self.read_bytes {
                    self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
                }
                Ok(amount)
            }
            Err(cause) => {
                let cause = match self.begun {
                    true => cause,
                    false => self.time.judge(cause),
                };
                let cause = self.cancel.reason().map_or(cause, Cause::Cancelled);
                self.source = Source::Ended(Some(cause.clone()));
                Err(self.provider.error(cause))
            }
        }
    }

    /// Takes what follows the dialect's end marker, which is the end of HTTP's framing, so that
    /// the connection can carry another call. A provider that keeps it open is not waited for.
    pub fn drain(mut self) {
        let by = Instant::now() + DRAIN_WAIT_MAX;
        let mut rest = Vec::new();
        while rest.len() < DRAIN_BYTES_MAX && Instant::now() < by {
            let read = match &mut self.source {
                Source::Ended(_) => return,
                Source::Http(http) => {
                    http.lease.line().extend(by);
                    read_some(&mut http.reader, &mut rest, READ_BYTES_MIN)
                }
                Source::Simulator(running) => running.read(&mut rest, by),
            };
            if !matches!(read, Ok(1..)) {
                return;
            }
        }
    }

    /// The first event has come: from here on the stream lives by `idle_timeout`. For the caller
    /// to say, who knows which events mean something: pings and comments do not.
    pub const fn has_begun(&mut self) {
        self.begun = true;
    }

    /// The model has said why it stopped: what is left to come, a count and a marker, comes at once
    /// or never.
    pub const fn set_finishing(&mut self, is_finishing: bool) {
        self.is_finishing = is_finishing;
    }

    /// What the provider said of its failure, without our key.
    pub fn said(&self, why: Option<String>) -> String {
        let mut said = why.unwrap_or_default();
        self.provider.mask_text(&mut said);
        said
    }

    /// The error of a stream in which the provider said that it failed.
    pub fn told(&self, why: &str) -> ProviderError {
        self.provider.error(Cause::Told(why.to_owned()))
    }

    /// The error of a stream that cannot go on with another.
    pub fn differs(&self) -> ProviderError {
        self.provider.error(Cause::Differs)
    }

    /// The error of a stream that ended without its end marker.
    pub fn cut(&self) -> ProviderError {
        self.provider.error(Cause::Cut)
    }

    /// The error of a stream that is not what it should be.
    pub fn malformed(&self, why: &str) -> ProviderError {
        self.provider.error(Cause::Malformed(why.to_owned()))
    }
}

/// Appends at most `most` bytes to `buf`.
pub(super) fn read_some(
    reader: &mut impl Read,
    buf: &mut Vec<u8>,
    most: usize,
) -> io::Result<usize> {
    let start = buf.len();
    buf.resize(start + most, 0);
    let result = reader.read(&mut buf[start..]);
    buf.truncate(start + result.as_ref().map_or(0, |amount| *amount));
    result
}
