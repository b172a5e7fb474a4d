//! Passing a provider's stream on to its caller, whole event by whole event.
//!
//! Only whole events are relayed, as the bytes that came, so a stream that is cut in the middle
//! of one leaves nothing half-said. A stream without its end marker is never shown as complete:
//! it ends with an error event instead. The worker writes and never waits for the client.
//!
//! Where caller and provider speak different dialects, each event goes through a [`Translator`]
//! on its way; everything else is the same.

use std::borrow::Cow;
use std::time::Instant;

use super::keep_alive::push_stream_headers;
use super::ledger::Ledger;
use crate::clock;
use crate::front::{Responder, StreamWriter};
use crate::metrics::Outcome;
use crate::provider::route::Target;
use crate::provider::{ProviderError, Stream};
use crate::wire::Endpoint;
use crate::wire::errors::{ApiError, Kind, in_band_error};
use crate::wire::sse::{Splitter, events};
use crate::wire::stream::{Observed, StreamWatch};
use crate::wire::translate::Translator;

/// What may come before the first event that means something.
const HELD_BYTES_MAX: usize = 64 << 10;

/// A stream that is about to be relayed.
pub struct Relay<'a> {
    pub stream: Stream,
    /// Where the caller asked.
    pub caller: Endpoint,
    /// Where the provider was asked.
    pub endpoint: Endpoint,
    /// Where these differ in kind.
    pub translator: Option<Translator>,
    /// Takes the response object that a complete stream came to, before its last byte goes out.
    pub keep: &'a dyn Fn(&[u8]),
    pub ledger: &'a mut Ledger,
    /// When the provider was asked.
    pub started: Instant,
    pub target: &'a Target,
}

/// How a stream ended.
enum End {
    /// With its marker.
    Complete,
    /// The caller left, or does not read.
    ClientGone,
    /// The provider said in the stream that it failed, and that was relayed.
    Told(String),
    /// The provider failed without saying so.
    Failed(ProviderError),
}

impl Relay<'_> {
    /// Relays to the end.
    ///
    /// # Errors
    /// The provider failed before its first event: nothing was sent, the caller can be answered
    /// otherwise.
    pub fn run(mut self, responder: Responder) -> Result<(), (Responder, ProviderError)> {
        let mut watch = StreamWatch::new(self.endpoint);
        let mut splitter = Splitter::new();
        let mut chunk = Vec::with_capacity(4096);
        let mut responder = Some(responder);
        let mut writer: Option<StreamWriter> = None;
        let mut held = Vec::new();
        let mut translated = Vec::new();
        let end = loop {
            chunk.clear();
            match self.stream.read(&mut chunk) {
                Ok(0) => break End::Failed(self.stream.cut()),
                Ok(_) => {}
                Err(error) if error.is_clients() => break End::ClientGone,
                Err(error) => break End::Failed(error),
            }
            let whole = match splitter.feed(&chunk) {
                Ok(whole) => whole,
                Err(_) => break End::Failed(self.stream.malformed("an event of over 8 MiB")),
            };
            if whole.is_empty() {
                continue;
            }
            let (whole, ended) = self.look(whole, &mut watch, &mut translated);
            let masked = self.target.provider.mask_key(whole);
            let whole = masked.as_deref().unwrap_or(whole);
            if whole.is_empty() {
                match ended {
                    Some(end) => break end,
                    None => continue,
                }
            }
            if ended.is_none() && self.ledger.first_event.is_none() {
                // Until an event means something, the call can still be answered otherwise.
                held.extend_from_slice(whole);
                if held.len() > HELD_BYTES_MAX {
                    break End::Failed(self.stream.malformed("64 KiB of pings and no event"));
                }
                continue;
            }
            let whole = behind(&mut held, whole);
            if writer.is_none() {
                writer = responder.take().map(|responder| self.begin(responder));
            }
            let Some(writer) = &mut writer else {
                break End::ClientGone;
            };
            if let Some(end) = &ended {
                self.settle(&watch, end);
            }
            if writer.write(&whole).is_err() {
                break End::ClientGone;
            }
            if let Some(end) = ended {
                break end;
            }
        };
        match (responder, end) {
            (Some(responder), End::Failed(error)) => {
                self.ledger
                    .attempt_ended(self.target, error.outcome(), self.started.elapsed());
                Err((responder, error))
            }
            (_, end) => {
                self.settle(&watch, &end);
                self.finish(writer, end, watch.events());
                Ok(())
            }
        }
    }

    /// Looks at whole events; returns what to relay, and what ended the stream with them.
    /// `translated` is room for events of another dialect.
    fn look<'e>(
        &mut self,
        whole: &'e [u8],
        watch: &mut StreamWatch,
        translated: &'e mut Vec<u8>,
    ) -> (&'e [u8], Option<End>) {
        if self.translator.is_none() {
            return self.observe(whole, watch);
        }
        translated.clear();
        let ended = self.translate(whole, watch, translated);
        (translated, ended)
    }

    /// As [`Relay::look`], where the events stay as they are.
    fn observe<'e>(&mut self, whole: &'e [u8], watch: &mut StreamWatch) -> (&'e [u8], Option<End>) {
        let mut seen = 0;
        for event in events(whole) {
            let before = seen;
            seen += event.raw.len();
            match watch.observe(&event) {
                Observed::Idle => {}
                Observed::Progress => self.mark_first(),
                Observed::End => {
                    self.mark_first();
                    return (&whole[..seen], Some(End::Complete));
                }
                Observed::Error => {
                    let said = watch.finish().error.unwrap_or_default();
                    return (&whole[..seen], Some(End::Told(said)));
                }
                Observed::Malformed => {
                    let error = self.stream.malformed("an event that is not JSON");
                    return (&whole[..before], Some(End::Failed(error)));
                }
            }
        }
        (whole, None)
    }

    /// As [`Relay::look`], where the events go into the caller's dialect; appends to `out` what is
    /// to be relayed.
    fn translate(
        &mut self,
        whole: &[u8],
        watch: &mut StreamWatch,
        out: &mut Vec<u8>,
    ) -> Option<End> {
        let mut translator = self.translator.take()?;
        let mut ended = None;
        for event in events(whole) {
            let observed = watch.observe(&event);
            let data = event.data.as_deref().unwrap_or_default();
            let done = match observed {
                Observed::Idle => Ok(()),
                Observed::Progress => {
                    self.mark_first();
                    translator.event(data, out)
                }
                Observed::End => {
                    self.mark_first();
                    ended = Some(End::Complete);
                    translator.end(data, clock::unix_seconds(), out)
                }
                Observed::Error => {
                    let said = watch.finish().error.unwrap_or_default();
                    let error = ApiError::new(Kind::Upstream, said.as_str()).code("stream_error");
                    translator.fail(&error, &self.ledger.request_id, out);
                    ended = Some(End::Told(said));
                    Ok(())
                }
                Observed::Malformed => {
                    let error = self.stream.malformed("an event that is not JSON");
                    ended = Some(End::Failed(error));
                    Ok(())
                }
            };
            if let Err(error) = done {
                let why = format!("an event that is not of its dialect: {error}");
                ended = Some(End::Failed(self.stream.malformed(&why)));
            }
            if ended.is_some() {
                break;
            }
        }
        self.translator = Some(translator);
        ended
    }

    /// Hands on the response object of a stream that is complete.
    fn keep(&self, end: &End) {
        let response = self.translator.as_ref().and_then(Translator::response);
        if let (End::Complete, Some(response)) = (end, response) {
            (self.keep)(response);
        }
    }

    fn mark_first(&mut self) {
        if self.ledger.first_event.is_none() {
            self.stream.has_begun();
            self.ledger.first_event = Some(self.ledger.elapsed());
        }
    }

    fn begin(&self, responder: Responder) -> StreamWriter {
        let mut head = self.ledger.response(200);
        let content_type = match self.translator {
            None => self.ledger.content_type(),
            Some(_) => "text/event-stream; charset=utf-8",
        };
        head.push_header("content-type", content_type.as_bytes());
        push_stream_headers(&mut head);
        responder.stream(head)
    }

    /// Accounts for the stream, before its last byte goes out. Does nothing the second time.
    fn settle(&mut self, watch: &StreamWatch, end: &End) {
        if self.ledger.is_settled() {
            return;
        }
        self.keep(end);
        self.ledger.usage = watch.finish().usage;
        let (outcome, status, error_type, message) = match end {
            End::Complete => (Outcome::Ok, 200, "", String::new()),
            End::ClientGone => (Outcome::Cancelled, 499, "client_gone", String::new()),
            End::Told(said) => (Outcome::ServerError, 200, "stream_error", said.clone()),
            End::Failed(error) => (error.outcome(), 200, error.error_type(), error.message()),
        };
        self.ledger
            .attempt_ended(self.target, outcome, self.started.elapsed());
        self.ledger.settle(status, error_type, &message);
    }

    /// Writes what is left to say and ends the answer; then takes the provider's last bytes, so
    /// that its connection can be used again.
    fn finish(self, writer: Option<StreamWriter>, end: End, events: u64) {
        let Some(mut writer) = writer else { return };
        match end {
            End::Complete | End::Told(_) => {
                // A client that is gone needs no end.
                let _ = writer.finish();
                self.stream.drain();
            }
            End::ClientGone => drop(writer),
            End::Failed(error) => {
                let kind = if error.status() == 504 {
                    Kind::Timeout
                } else {
                    Kind::Upstream
                };
                let said = ApiError::new(kind, error.message()).code(error.error_type());
                let request_id = &self.ledger.request_id;
                let event = match self.translator {
                    None => in_band_error(self.caller, &said, request_id, events),
                    Some(mut translator) => {
                        let mut event = Vec::new();
                        translator.fail(&said, request_id, &mut event);
                        event
                    }
                };
                let _ = writer.write(&event).and_then(|()| writer.finish());
            }
        }
    }
}

/// `whole` behind what was held back, which is empty from then on.
fn behind<'w>(held: &mut Vec<u8>, whole: &'w [u8]) -> Cow<'w, [u8]> {
    if held.is_empty() {
        return Cow::Borrowed(whole);
    }
    held.extend_from_slice(whole);
    Cow::Owned(std::mem::take(held))
}
