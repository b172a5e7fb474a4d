//! `kind: simulator`: the scripted provider, called in process.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::error::{Cause, Phase};
use super::semaphore::Permit;
use super::stream::{Source, Stream};
use super::upstream::Client;
use super::{
    ANSWER_BYTES_MAX, Answer, AnswerBody, Outbound, Provider, Time, headers, is_event_stream,
};
use crate::cancel::Cancel;
use crate::simulator::{self, InProcess, SimRequest};
use crate::thread;
use crate::wire::{Dialect, Endpoint};

/// The simulator as a provider.
#[derive(Default)]
pub struct Simulator(InProcess);

/// A streamed answer with the permit it holds.
pub struct Running {
    answer: simulator::Answer<Arc<Cancel>>,
    _permit: Permit<Client>,
}

impl Running {
    /// As [`simulator::Answer::read`].
    pub fn read(&mut self, buf: &mut Vec<u8>, by: Instant) -> io::Result<usize> {
        self.answer.read(buf, by)
    }
}

/// What the simulator's errors mean once the head has come.
pub fn body_cause(error: &io::Error, streamed: bool, begun: bool) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut if begun => Cause::Timeout(Phase::Idle),
        io::ErrorKind::TimedOut if streamed => Cause::Timeout(Phase::FirstToken),
        io::ErrorKind::TimedOut => Cause::Timeout(Phase::Whole),
        _ => Cause::Cut,
    }
}

fn head_cause(error: &io::Error, streamed: bool) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut if streamed => Cause::Timeout(Phase::FirstToken),
        io::ErrorKind::TimedOut => Cause::Timeout(Phase::FirstByte),
        _ => Cause::Reset,
    }
}

fn path(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "/v1/chat/completions",
        Endpoint::Responses => "/v1/responses",
        Endpoint::Completions => "/v1/completions",
        Endpoint::Embeddings => "/v1/embeddings",
        Endpoint::Messages => "/v1/messages",
        Endpoint::CountTokens => "/v1/messages/count_tokens",
    }
}

impl Simulator {
    /// As [`Provider::call`].
    pub fn call(
        &self,
        provider: &Arc<Provider>,
        permit: Permit<Client>,
        outbound: &Outbound<'_>,
        time: Time,
    ) -> Result<Answer, Cause> {
        let body = outbound.body.concat();
        let header = |wanted: &str| {
            let mut headers = outbound.headers.iter();
            headers.find_map(|(name, value)| (*name == wanted).then_some(*value))
        };
        let request = SimRequest {
            method: "POST",
            path: path(outbound.endpoint),
            x_sim: header("x-sim"),
            api_key: None,
            anthropic_version: outbound.endpoint.dialect() == Dialect::Anthropic,
            body: &body,
            received: Instant::now(),
            at: SystemTime::now(),
        };
        thread::set_state(thread::State::WaitingFirstByte);
        let answer = self.0.call(&request, Arc::clone(outbound.cancel), time.by);
        let mut answer = answer.map_err(|error| head_cause(&error, outbound.streamed))?;
        let status = answer.status();
        let pairs = || {
            answer
                .headers()
                .iter()
                .map(|(name, value)| (*name, &**value))
        };
        let is_stream =
            outbound.streamed && (200..300).contains(&status) && is_event_stream(pairs());
        let (hints, _) = provider.governor.heed(status, pairs(), 0, outbound.pace);
        let headers = headers::relayed(pairs());
        let upstream_request_id = headers::request_id(pairs());
        let body = if is_stream {
            let source = Source::Simulator(Box::new(Running {
                answer,
                _permit: permit,
            }));
            let cancel = Arc::clone(outbound.cancel);
            AnswerBody::Stream(Stream::new(Arc::clone(provider), source, cancel, time))
        } else {
            thread::set_state(thread::State::Relaying);
            AnswerBody::Plain(read_whole(&mut answer, time.by, outbound.streamed)?)
        };
        Ok(Answer {
            status,
            headers,
            upstream_request_id,
            retry_after: hints.retry_after,
            body,
        })
    }
}

fn read_whole(
    answer: &mut simulator::Answer<Arc<Cancel>>,
    by: Instant,
    streamed: bool,
) -> Result<Vec<u8>, Cause> {
    let mut body = Vec::new();
    while answer
        .read(&mut body, by)
        .map_err(|error| body_cause(&error, streamed, false))?
        > 0
    {
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Cause::TooLarge);
        }
    }
    Ok(body)
}
