//! The provider against a server that does as it is told.

mod faults;
mod interleavings;
mod server;
mod traffic;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::cancel::{Cancel, Reason};
use crate::config::checked::{self, KeyHeader, Kind, Secret, Speech};
use crate::wire::Endpoint;
use server::{Peer, Server};

const BODY: [&[u8]; 3] = [b"{\"model\":", b"\"m\"", b"}"];

fn config(address: SocketAddr) -> checked::Provider {
    checked::Provider {
        name: "test".to_owned(),
        kind: Kind::Openai,
        base_url: format!("http://{address}/v1"),
        api_keys: vec![Secret::new("sk-hidden")],
        key_header: KeyHeader::Bearer,
        models: Vec::new(),
        timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(5),
        first_token_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        max_connections: NonZeroUsize::new(4).unwrap(),
        adaptive: false,
        keepalive: true,
        rate_limit: None,
        batching: None,
        prices: std::collections::BTreeMap::new(),
        breaker: checked::Breaker {
            failures: NonZeroU32::MIN,
            window: Duration::from_secs(1),
            open_for: Duration::from_secs(1),
        },
        ca_file: None,
        proxy: None,
        speech: Speech::of(Kind::Openai, false),
    }
}

fn provider(server: &Server) -> Arc<Provider> {
    Provider::new(&config(server.address)).unwrap()
}

fn outbound(cancel: &Arc<Cancel>, streamed: bool) -> Outbound<'_> {
    Outbound {
        endpoint: Endpoint::ChatCompletions,
        model: "m",
        body: BODY,
        headers: &[],
        streamed,
        request_id: "req-1",
        cancel,
        pace: Box::leak(Box::new(Limiter::new(None))),
        asked: Box::leak(Box::default()),
        held_back: Box::leak(Box::default()),
        deadline: Instant::now() + Duration::from_secs(20),
    }
}

/// Makes a plain call.
fn plain(provider: &Arc<Provider>) -> Result<Answer, ProviderError> {
    provider.call(&outbound(&Arc::new(Cancel::new()), false))
}

fn text(answer: Result<Answer, ProviderError>) -> String {
    match answer.map(|answer| answer.body) {
        Ok(AnswerBody::Plain(body)) => String::from_utf8(body).unwrap(),
        Ok(AnswerBody::Stream(_)) => panic!("a stream"),
        Err(error) => panic!("{error}"),
    }
}

fn stream(answer: Result<Answer, ProviderError>) -> Stream {
    match answer.map(|answer| answer.body) {
        Ok(AnswerBody::Stream(stream)) => stream,
        Ok(AnswerBody::Plain(_)) => panic!("no stream"),
        Err(error) => panic!("{error}"),
    }
}

fn cause<T>(result: Result<T, ProviderError>) -> Cause {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.cause,
    }
}

/// Reads a stream to its end, or to its error.
fn read_all(stream: &mut Stream) -> (String, Option<Cause>) {
    let mut read = Vec::new();
    loop {
        match stream.read(&mut read) {
            Ok(0) => return (String::from_utf8(read).unwrap(), None),
            Ok(_) if memchr::memmem::find(&read, b"data:").is_some() => stream.has_begun(),
            Ok(_) => {}
            Err(error) => return (String::from_utf8(read).unwrap(), Some(error.cause)),
        }
    }
}
