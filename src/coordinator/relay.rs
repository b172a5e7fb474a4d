//! Passing a provider's stream on to its caller, whole event by whole event.
//!
//! Only whole events are relayed, as the bytes that came, so a stream that is cut in the middle
//! of one leaves nothing half-said. A stream without its end marker is never shown as complete,
//! unless the model had said why it stopped: then nothing but the marker is missing, and it is
//! added. Everything else ends with an error event. The worker writes and never waits for the
//! client.
//!
//! Where caller and provider speak different dialects, each event goes through a [`Translator`]
//! on its way; so it does where another provider may have to go on with the stream. An event that
//! is no JSON is left out and counted.
//!
//! Start at [`Relay::run`].

use std::time::{Duration, Instant};

use super::caller::{Caller, Writer};
use super::ledger::Ledger;
use super::replay;
use crate::clock;
use crate::metrics::Outcome;
use crate::provider::route::Target;
use crate::provider::{Cause, ProviderError, Stream};
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind, in_band_error};
use crate::wire::sse::{Splitter, events};
use crate::wire::stream::{Observed, StreamWatch};
use crate::wire::translate::{Broken, Translator};

/// What may come before the first event that means something.
const PINGS_BYTES_MAX: usize = 64 << 10;
/// What is held back at most for `hold_first_ms`.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Events of one stream that may be left out, being malformed. One that has more is no stream.
const LEFT_OUT_MAX: u64 = 16;

/// Who is to be answered.
pub enum Outlet {
    /// Nothing has been answered yet.
    Fresh(Caller),
    /// A stream has begun and was cut; another provider may go on with it.
    Begun(Box<Begun>),
}

/// A stream that goes on with another provider.
pub struct Begun {
    writer: Writer,
    translator: Translator,
}

impl Begun {
    /// Prepares for the answer of another provider.
    pub fn restart(&mut self, plan: &crate::wire::translate::Plan) {
        self.translator.restart(plan);
    }

    /// The client's connection is watched by its cancel handle.
    pub fn cancel(&self) -> &std::sync::Arc<crate::cancel::Cancel> {
        self.writer.cancel()
    }

    /// Ends the stream with an error event: nobody can go on with it.
    pub fn fail(mut self, error: &ApiError, ledger: &Ledger) {
        let mut event = Vec::new();
        self.translator.fail(error, &ledger.request_id, &mut event);
        if self.writer.write(&event).is_ok() {
            self.writer.finish(ledger);
        }
    }
}

/// A stream that is about to be relayed.
pub struct Relay<'a> {
    pub stream: Stream,
    /// Where the caller asked.
    pub caller: Endpoint,
    /// Where the provider was asked.
    pub endpoint: Endpoint,
    /// How long the first events are held back, so that an early cut can still be rescued.
    pub hold_first: Duration,
    /// Takes the response object that a complete stream came to, before its last byte goes out.
    pub keep: &'a dyn Fn(&[u8]),
    pub ledger: &'a mut Ledger,
    /// When the provider was asked.
    pub started: Instant,
    pub target: &'a Target,
}

/// How a stream ended.
enum End {
    /// With its marker, or with ours in its place.
    Complete,
    /// The caller left, or does not read.
    ClientGone,
    /// The provider said in the stream that it failed, and that was relayed.
    Told(String),
    /// The provider failed without saying so.
    Failed(ProviderError),
}

/// A stream on its way.
struct Way<'a> {
    relay: Relay<'a>,
    watch: StreamWatch,
    /// Until the answer has begun.
    caller: Option<Caller>,
    writer: Option<Writer>,
    translator: Option<Translator>,
    /// What is held back.
    held: Vec<u8>,
    /// When the first event that means something came.
    began: Option<Instant>,
    /// Whether the end, if it has come, is the provider's own.
    is_marked: bool,
}

impl<'a> Relay<'a> {
    /// Relays to the end, through `translator` where there is one; a stream that had begun brings
    /// its own.
    ///
    /// # Errors
    /// The provider failed, and somebody else may answer: nothing was sent yet, or the stream may
    /// be gone on with.
    pub fn run(
        self,
        outlet: Outlet,
        translator: Option<Translator>,
    ) -> Result<(), (Outlet, ProviderError)> {
        let (caller, writer, translator) = match outlet {
            Outlet::Fresh(caller) => (Some(caller), None, translator),
            Outlet::Begun(begun) => (None, Some(begun.writer), Some(begun.translator)),
        };
        let mut way = Way {
            watch: StreamWatch::new(self.endpoint, self.ledger.choices),
            relay: self,
            caller,
            writer,
            translator,
            held: Vec::new(),
            began: None,
            is_marked: true,
        };
        let end = way.pump();
        way.conclude(end)
    }
}

impl Way<'_> {
    /// Relays until something ends the stream.
    fn pump(&mut self) -> End {
        let mut splitter = Splitter::new();
        let mut chunk = Vec::with_capacity(4096);
        let mut out = Vec::new();
        loop {
            chunk.clear();
            let read = self.relay.stream.read(&mut chunk);
            let end = match read {
                Ok(0) => Some(End::Failed(self.relay.stream.cut())),
                Ok(_) => None,
                Err(error) if error.is_clients() => return End::ClientGone,
                Err(error) => Some(End::Failed(error)),
            };
            if let Some(end) = end {
                return self.unmarked(end, &mut out);
            }
            let Ok(whole) = splitter.feed(&chunk) else {
                return End::Failed(self.relay.stream.malformed("an event of over 8 MiB"));
            };
            out.clear();
            let (bytes, ended) = self.look(whole, &mut out);
            if let Some(end) = self.push(bytes, ended) {
                return end;
            }
        }
    }

    /// The stream ended without its marker. Where the model had said why it stopped, the answer
    /// is complete all the same.
    fn unmarked(&mut self, end: End, out: &mut Vec<u8>) -> End {
        let marker: (&[u8], &[u8]) = match self.relay.endpoint {
            Endpoint::Responses => return end,
            Endpoint::Messages => (
                b"{\"type\":\"message_stop\"}",
                b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ),
            _ => (b"[DONE]", b"data: [DONE]\n\n"),
        };
        if !self.watch.finish().finish_reason {
            return end;
        }
        out.clear();
        match &mut self.translator {
            None => out.extend_from_slice(marker.1),
            Some(translator) => {
                if translator
                    .end(marker.0, clock::unix_seconds(), out)
                    .is_err()
                {
                    return end;
                }
            }
        }
        self.is_marked = false;
        self.push(out, Some(End::Complete)).unwrap_or(end)
    }

    /// Sends or holds back what is to be relayed; says what ended the stream.
    fn push(&mut self, bytes: &[u8], ended: Option<End>) -> Option<End> {
        let masked = self.relay.target.provider.mask_key(bytes);
        let bytes = masked.as_deref().unwrap_or(bytes);
        // A provider that fails before anything was sent need not be heard.
        if let (Some(End::Told(said)), None) = (&ended, &self.writer) {
            return Some(End::Failed(self.relay.stream.told(said)));
        }
        let failed = matches!(ended, Some(End::Failed(_)));
        if self.writer.is_none() && (failed || ended.is_none() && self.holds(bytes.len())) {
            self.held.extend_from_slice(bytes);
            if self.began.is_none() && self.held.len() > PINGS_BYTES_MAX {
                let why = "64 KiB of pings and no event";
                return Some(End::Failed(self.relay.stream.malformed(why)));
            }
            return ended;
        }
        if bytes.is_empty() && self.held.is_empty() && ended.is_none() {
            return None;
        }
        if self.writer.is_none() {
            self.writer = self.begin();
        }
        // A failure may be somebody else's to mend; whoever concludes settles that.
        if let Some(end) = ended.as_ref().filter(|end| !matches!(end, End::Failed(_))) {
            self.settle(end);
        }
        let Some(writer) = &mut self.writer else {
            return Some(End::ClientGone);
        };
        let mut held = std::mem::take(&mut self.held);
        let bytes = match held.is_empty() {
            true => bytes,
            false => {
                held.extend_from_slice(bytes);
                &held
            }
        };
        let sent = match ended {
            Some(End::Complete) => {
                let seen = self.watch.finish();
                let is_whole = self.is_marked && seen.finish_reason && seen.malformed == 0;
                writer.write_last(bytes, is_whole, self.relay.ledger)
            }
            _ => writer.write(bytes),
        };
        match sent {
            Ok(()) => ended,
            Err(_) => Some(End::ClientGone),
        }
    }

    /// Whether what comes now, before anything was sent, is held back: until an event means
    /// something, and for `hold_first_ms` from then on.
    fn holds(&self, more: usize) -> bool {
        match self.began {
            None => true,
            Some(began) => {
                began.elapsed() < self.relay.hold_first && self.held.len() + more < HELD_BYTES_MAX
            }
        }
    }

    /// Looks at whole events; returns what to relay, and what ended the stream with them. `out` is
    /// room for what cannot be relayed as it came.
    fn look<'e>(&mut self, whole: &'e [u8], out: &'e mut Vec<u8>) -> (&'e [u8], Option<End>) {
        if let Some(mut translator) = self.translator.take() {
            let ended = self.translate(whole, &mut translator, out);
            self.translator = Some(translator);
            return (out, ended);
        }
        // All that was seen so far goes out as it came, unless an event had to be left out.
        let (mut seen, mut is_whole) = (0, true);
        for event in events(whole) {
            let before = seen;
            seen += event.raw.len();
            let ended = match self.watch.observe(&event) {
                Observed::Idle => None,
                Observed::Progress => {
                    self.mark_first();
                    None
                }
                Observed::End => {
                    self.mark_first();
                    Some(End::Complete)
                }
                Observed::Error => {
                    Some(End::Told(self.relay.stream.said(self.watch.finish().error)))
                }
                Observed::Malformed => {
                    if is_whole {
                        is_whole = false;
                        out.extend_from_slice(&whole[..before]);
                    }
                    match self.leave_out("an event that is not JSON") {
                        None => continue,
                        end => return (out, end),
                    }
                }
            };
            if !is_whole {
                out.extend_from_slice(event.raw);
            }
            if ended.is_some() {
                return (if is_whole { &whole[..seen] } else { out }, ended);
            }
        }
        (if is_whole { whole } else { out }, None)
    }

    /// As [`Way::look`], where the events go through a translator.
    fn translate(
        &mut self,
        whole: &[u8],
        translator: &mut Translator,
        out: &mut Vec<u8>,
    ) -> Option<End> {
        for event in events(whole) {
            let data = event.data.as_deref().unwrap_or_default();
            let (done, ended) = match self.watch.observe(&event) {
                Observed::Idle => continue,
                Observed::Progress => {
                    self.mark_first();
                    (translator.event(data, out), None)
                }
                Observed::End => {
                    self.mark_first();
                    let done = translator.end(data, clock::unix_seconds(), out);
                    (done, Some(End::Complete))
                }
                Observed::Error => {
                    let said = self.relay.stream.said(self.watch.finish().error);
                    let error = ApiError::new(Kind::Upstream, said.as_str()).code("stream_error");
                    translator.fail(&error, &self.relay.ledger.request_id, out);
                    return Some(End::Told(said));
                }
                Observed::Malformed => match self.leave_out("an event that is not JSON") {
                    None => continue,
                    end => return end,
                },
            };
            match done {
                Ok(()) => {}
                Err(Broken::Differs) => return Some(End::Failed(self.relay.stream.differs())),
                Err(Broken::Malformed(why)) => {
                    let why = format!("an event that is not of its dialect: {why}");
                    return Some(End::Failed(self.relay.stream.malformed(&why)));
                }
            }
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Counts an event that is left out; too many end the stream.
    fn leave_out(&mut self, why: &str) -> Option<End> {
        self.relay.ledger.left_out(self.relay.target, 1);
        ::log::warn!(
            request_id = self.relay.ledger.request_id.as_str(),
            provider = self.relay.target.provider.name(), model = self.relay.target.model.as_str();
            "an event of a stream was left out: it is no JSON, and the answer lacks what it said"
        );
        let is_too_much = self.watch.finish().malformed > LEFT_OUT_MAX;
        is_too_much.then(|| End::Failed(self.relay.stream.malformed(why)))
    }

    fn mark_first(&mut self) {
        if self.began.is_none() {
            self.began = Some(Instant::now());
            self.relay.stream.has_begun();
            self.relay.ledger.first_event_came();
        }
        let is_finishing = self.watch.has_finish_reason();
        self.relay.stream.set_finishing(is_finishing);
    }

    fn begin(&mut self) -> Option<Writer> {
        let caller = self.caller.take()?;
        let ledger = &mut *self.relay.ledger;
        ledger.stream_begun = true;
        let content_type = match self.translator {
            None => ledger.content_type(),
            Some(_) => replay::EVENT_STREAM,
        };
        caller.stream(ledger, content_type)
    }

    /// Accounts for the stream, before its last byte goes out. Does nothing the second time.
    fn settle(&mut self, end: &End) {
        if self.relay.ledger.is_settled() {
            return;
        }
        let response = self.translator.as_ref().and_then(Translator::response);
        if let (End::Complete, Some(response)) = (end, response) {
            (self.relay.keep)(response);
        }
        let (outcome, status, error_type, message) = match end {
            End::Complete => (Outcome::Ok, 200, "", String::new()),
            End::ClientGone => (Outcome::Cancelled, 499, "client_gone", String::new()),
            End::Told(said) => (Outcome::ServerError, 200, "stream_error", said.clone()),
            End::Failed(error) => (error.outcome(), 200, error.error_type(), error.message()),
        };
        self.attempt_ended(
            outcome,
            if error_type.is_empty() {
                "200"
            } else {
                error_type
            },
        );
        self.relay.ledger.settle(status, error_type, &message);
    }

    fn attempt_ended(&mut self, outcome: Outcome, how: &str) {
        self.relay.ledger.usage = self.watch.finish().usage;
        let took = self.relay.started.elapsed();
        self.relay
            .ledger
            .attempt_ended(self.relay.target, outcome, took, how);
    }

    /// Ends the answer, or hands it back for somebody else to answer.
    fn conclude(mut self, end: End) -> Result<(), (Outlet, ProviderError)> {
        let can_restart = self
            .translator
            .as_ref()
            .is_some_and(Translator::can_restart);
        match end {
            End::Failed(error) if self.caller.is_some() || can_restart => {
                self.attempt_ended(error.outcome(), error.error_type());
                match (self.caller, self.writer, self.translator) {
                    (Some(caller), ..) => Err((Outlet::Fresh(caller), error)),
                    (None, Some(writer), Some(translator)) => {
                        let begun = Box::new(Begun { writer, translator });
                        Err((Outlet::Begun(begun), error))
                    }
                    _ => Ok(()),
                }
            }
            end => {
                self.settle(&end);
                self.finish(end);
                Ok(())
            }
        }
    }

    /// Writes what is left to say and ends the answer; then takes the provider's last bytes, so
    /// that its connection can be used again.
    fn finish(self, end: End) {
        let Some(mut writer) = self.writer else {
            return;
        };
        match end {
            End::Complete | End::Told(_) => {
                writer.finish(self.relay.ledger);
                self.relay.stream.drain();
            }
            End::ClientGone => drop(writer),
            End::Failed(error) => {
                let said = stream_error(&error);
                let request_id = &self.relay.ledger.request_id;
                let event = match self.translator {
                    None => {
                        in_band_error(self.relay.caller, &said, request_id, self.watch.events())
                    }
                    Some(mut translator) => {
                        let mut event = Vec::new();
                        translator.fail(&said, request_id, &mut event);
                        event
                    }
                };
                if writer.write(&event).is_ok() {
                    writer.finish(self.relay.ledger);
                }
            }
        }
    }
}

/// What the caller of a stream that broke is told.
fn stream_error(error: &ProviderError) -> ApiError {
    let kind = match error.status() {
        504 => Kind::Timeout,
        _ => Kind::Upstream,
    };
    let error_type = match &error.cause {
        Cause::Told(_) => "stream_error",
        _ => error.error_type(),
    };
    ApiError::new(kind, error.message()).code(error_type)
}
