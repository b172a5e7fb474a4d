//! One attempt over HTTP: the request as ureq wants it, the answer as it came.
//!
//! An [`Upstream`] is what all slots of a provider share (URLs, key, TLS); a [`Client`] is one
//! slot's own: an agent whose pool holds the slot's one connection. What goes wrong is named here,
//! in [`Upstream::cause`], from the error and from how far the call had got.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::header::{self, HeaderName, HeaderValue};
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::RustlsConnector;
use ureq::{Agent, Body, Proxy, SendBody};

use super::error::{Cause, Phase};
use super::line::{Fault, Line, Progress};
use super::resolver::{AtConnect, Resolver};
use super::{Outbound, anthropic, openai, transport};
use crate::config::checked::{self, KeyHeader, Kind, Secret};
use crate::wire::Endpoint;

/// A connection idle for longer is not used again: middle boxes forget silent connections.
pub const IDLE_AGE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a response head at most.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one caller's header at most: it must fit into what the output buffer has left.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// A connection that was idle for less was not closed for being idle.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Within this time of sending, the end of a pooled connection means that it was ending before
/// the request reached it; see [`Upstream::was_stale`].
const STALE_WITHIN: Duration = Duration::from_secs(1);
const USER_AGENT: &str = concat!("victor/", env!("CARGO_PKG_VERSION"));

/// What all slots of a provider share.
pub struct Upstream {
    config: ureq::config::Config,
    tls: Arc<RustlsConnector>,
    resolver: Arc<Resolver>,
    connect_timeout: Duration,
    /// By [`Endpoint`], with the value of `host`; `None` where the dialect has none.
    urls: [Option<(Uri, HeaderValue)>; Endpoint::ALL.len()],
    /// In the order of the configuration.
    keys: Vec<(HeaderName, HeaderValue)>,
    keepalive: bool,
}

/// What one slot has of its own.
pub struct Client {
    pub agent: Agent,
    pub line: Arc<Line>,
}

impl Upstream {
    /// From what the configuration says.
    ///
    /// # Errors
    /// A certificate file that cannot be read or holds none, a key or URL that no header or
    /// request can carry, a proxy that ureq does not understand.
    pub fn new(config: &checked::Provider) -> Result<Self, String> {
        let mut urls = [const { None }; Endpoint::ALL.len()];
        for (slot, endpoint) in urls.iter_mut().zip(Endpoint::ALL) {
            let url = match config.kind {
                Kind::Openai if endpoint == Endpoint::Responses && !config.speech.responses => None,
                Kind::Openai => openai::url(&config.base_url, endpoint),
                Kind::Anthropic => anthropic::url(&config.base_url, endpoint),
                Kind::Simulator => None,
            };
            *slot = url.map(|url| parse_url(&url)).transpose()?;
        }
        let keepalive = config.keepalive;
        let agent_config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy(config)?)
            .tls_config(tls(config)?)
            .user_agent(USER_AGENT)
            .max_response_header_size(HEAD_BYTES_MAX)
            // TLS has buffers of its own, sized by these; a record is at most 16 KiB.
            .input_buffer_size(16 << 10)
            .output_buffer_size(16 << 10)
            .max_idle_connections(usize::from(keepalive))
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE_AGE_MAX)
            .build();
        Ok(Self {
            config: agent_config,
            tls: Arc::default(),
            resolver: Arc::default(),
            connect_timeout: config.connect_timeout,
            urls,
            keys: keys(config)?,
            keepalive,
        })
    }

    /// A slot's own part.
    pub fn client(&self) -> Client {
        let line = Arc::new(Line::new(self.connect_timeout));
        let chain = transport::chain(
            Arc::clone(&line),
            Arc::clone(&self.resolver),
            Arc::clone(&self.tls),
        );
        Client {
            agent: Agent::with_parts(self.config.clone(), chain, AtConnect),
            line,
        }
    }

    /// Forgets the addresses that were looked up; returns of how many names.
    pub fn forget_addresses(&self) -> usize {
        self.resolver.forget()
    }

    /// Whether there is a URL for `endpoint`.
    pub fn serves(&self, endpoint: Endpoint) -> bool {
        self.urls[endpoint as usize].is_some()
    }

    /// Sends the request and reads the head of its answer; where a pooled connection turns out to
    /// have ended, once more on a new one.
    ///
    /// # Errors
    /// See [`Cause`].
    pub fn send(
        &self,
        client: &Client,
        outbound: &Outbound<'_>,
        key: usize,
        by: Instant,
    ) -> Result<Response<Body>, Cause> {
        let line = &client.line;
        let mut is_second = false;
        loop {
            line.begin(outbound.cancel, by, outbound.streamed);
            let mut body = Parts(outbound.body);
            let request = self.request(outbound, key, &mut body)?;
            let error = match client.agent.run(request) {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let cause = self.cause(line, error, outbound.streamed, false);
            if is_second || cause != Cause::Reset || !self.was_stale(line) {
                return Err(cause);
            }
            log::debug!(request_id = outbound.request_id; "a pooled connection had ended; opening a new one");
            is_second = true;
        }
    }

    /// Whether a connection that ended without an answer had most likely ended before the request
    /// reached it: it was a pooled one that had been idle for a while, nothing of an answer came,
    /// and it took no longer than that takes to show.
    ///
    /// A provider closes idle connections as it likes, and the close can cross our request on the
    /// wire. RFC 9110, 9.2.2 lets a client repeat a POST if it has means to know that the first
    /// was never applied. Proof there is none: Go repeats a POST only if nothing was written,
    /// nginx only if told that it may. So this is kept to where hardly another reading is left: servers
    /// close connections that have been idle for seconds, not ones that carried a call just now. To
    /// count that against the provider would punish it for ordinary keep-alive.
    fn was_stale(&self, line: &Line) -> bool {
        let view = line.view();
        !view.fresh
            && view.idle >= STALE_AFTER
            && view
                .sent_at
                .is_none_or(|sent_at| sent_at.elapsed() < STALE_WITHIN)
    }

    fn request<'b>(
        &self,
        outbound: &Outbound<'_>,
        key: usize,
        body: &'b mut Parts<'_>,
    ) -> Result<Request<SendBody<'b>>, Cause> {
        let (url, host) = self.urls[outbound.endpoint as usize]
            .as_ref()
            .ok_or_else(|| Cause::Header("it does not speak this dialect".to_owned()))?;
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in outbound.headers {
            let (name, value) = caller_header(name, value)?;
            headers.append(name, value);
        }
        headers.insert(header::HOST, host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let accept = match outbound.streamed {
            true => "text/event-stream",
            false => "application/json",
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let length: usize = outbound.body.iter().map(|part| part.len()).sum();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Some((name, value)) = self.keys.get(key) {
            headers.insert(name.clone(), value.clone());
        }
        if !self.keepalive {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let mut request = Request::new(SendBody::from_reader(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What an error of ureq means, given how far the call had got. `begun`: whether the first
    /// event of a stream has come.
    pub fn cause(&self, line: &Line, error: ureq::Error, streamed: bool, begun: bool) -> Cause {
        let progress = line.view().progress;
        match error {
            ureq::Error::Other(other) => match other.downcast::<Fault>() {
                Ok(fault) => fault_cause(*fault, progress, streamed, begun),
                Err(other) => Cause::Malformed(other.to_string()),
            },
            ureq::Error::Io(error) => io_cause(&error, progress),
            ureq::Error::Rustls(error) => Cause::Tls(error.to_string()),
            ureq::Error::Tls(why) => Cause::Tls(why.to_owned()),
            ureq::Error::ConnectProxyFailed(why) => Cause::Connect(why),
            ureq::Error::LargeResponseHeader(..) => {
                Cause::Malformed(format!("a head of more than {} KiB", HEAD_BYTES_MAX >> 10))
            }
            ureq::Error::Protocol(error) => Cause::Malformed(error.to_string()),
            error => Cause::Malformed(error.to_string()),
        }
    }
}

fn fault_cause(fault: Fault, progress: Progress, streamed: bool, begun: bool) -> Cause {
    match fault {
        Fault::Timeout => Cause::Timeout(match (progress, streamed) {
            (Progress::Connecting, _) => Phase::Connect,
            (Progress::Begun | Progress::Sending, _) => Phase::Send,
            (Progress::Waiting, false) => Phase::FirstByte,
            (Progress::Answering, false) => Phase::Whole,
            (_, true) if begun => Phase::Idle,
            (_, true) => Phase::FirstToken,
        }),
        Fault::Reset => ended(progress),
        Fault::Resolve(why) => Cause::Resolve(why),
        Fault::Connect(why) => Cause::Connect(why),
        Fault::Overlong => Cause::Malformed("a line that does not end".to_owned()),
        Fault::Io(why) => Cause::Connect(why),
        // The caller looks at the cancel handle first; without a reason there the slot is closed.
        Fault::Cancelled => Cause::Closed,
    }
}

/// What an ended connection means.
fn ended(progress: Progress) -> Cause {
    match progress {
        Progress::Connecting => Cause::Connect("the connection was closed at once".to_owned()),
        Progress::Answering => Cause::Cut,
        _ => Cause::Reset,
    }
}

fn io_cause(error: &io::Error, progress: Progress) -> Cause {
    match error.kind() {
        // What rustls finds wrong with what it receives.
        io::ErrorKind::InvalidData if progress == Progress::Connecting => {
            Cause::Tls(error.to_string())
        }
        io::ErrorKind::InvalidData => Cause::Malformed(error.to_string()),
        io::ErrorKind::NotConnected => Cause::Closed,
        _ => ended(progress),
    }
}

fn caller_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Cause> {
    let fault = |what: &str| Cause::Header(format!("header {name} {what}"));
    if value.len() > HEADER_BYTES_MAX {
        return Err(fault("is longer than 4096 bytes"));
    }
    let name =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault("is not a header's name"))?;
    let value = HeaderValue::from_str(value).map_err(|_| fault("holds control characters"))?;
    Ok((name, value))
}

fn parse_url(url: &str) -> Result<(Uri, HeaderValue), String> {
    let parsed: Uri = url
        .parse()
        .map_err(|error| format!("base_url: {url} is not a URL: {error}"))?;
    let authority = parsed
        .authority()
        .ok_or_else(|| format!("base_url: {url} names no host"))?;
    let host =
        HeaderValue::from_str(authority.as_str()).map_err(|error| format!("base_url: {error}"))?;
    Ok((parsed, host))
}

fn keys(config: &checked::Provider) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let keys = config.api_keys.iter();
    keys.map(|key| key_header(config.key_header, key)).collect()
}

fn key_header(kind: KeyHeader, key: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let (name, text) = match kind {
        KeyHeader::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
        KeyHeader::XApiKey => (
            HeaderName::from_static("x-api-key"),
            key.expose().to_owned(),
        ),
        KeyHeader::ApiKey => (HeaderName::from_static("api-key"), key.expose().to_owned()),
    };
    let too_long = text.len() > HEADER_BYTES_MAX;
    let value = HeaderValue::from_str(&text).ok().filter(|_| !too_long);
    let mut value = value.ok_or("api_key: a header cannot carry it (control characters?)")?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn proxy(config: &checked::Provider) -> Result<Option<Proxy>, String> {
    let proxy = config.proxy.as_ref();
    proxy
        .map(|proxy| Proxy::new(proxy.expose()))
        .transpose()
        // Without the value: it may hold credentials.
        .map_err(|_| "proxy: expected http://host:port".to_owned())
}

fn tls(config: &checked::Provider) -> Result<TlsConfig, String> {
    let Some(path) = &config.ca_file else {
        return Ok(TlsConfig::builder().root_certs(RootCerts::WebPki).build());
    };
    let pem =
        std::fs::read(path).map_err(|error| format!("ca_file: {}: {error}", path.display()))?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("ca_file: {}: {error}", path.display())),
        }
    }
    if roots.is_empty() {
        return Err(format!("ca_file: {} holds no certificate", path.display()));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}

/// The parts of a body, read one after the other.
struct Parts<'a>([&'a [u8]; 3]);

impl Read for Parts<'_> {
    fn read(&mut self, mut room: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        for part in &mut self.0 {
            let amount = part.len().min(room.len());
            let (now, later) = part.split_at(amount);
            room[..amount].copy_from_slice(now);
            room = &mut room[amount..];
            *part = later;
            total += amount;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_body_are_one_body() {
        let mut read = Vec::new();
        Parts([b"{\"model\":", b"", b"\"m\"}"])
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, b"{\"model\":\"m\"}");
        let mut parts = Parts([b"ab", b"cd", b"e"]);
        let mut three = [0; 3];
        assert_eq!(parts.read(&mut three).unwrap(), 3);
        assert_eq!(&three, b"abc");
        assert_eq!(parts.read(&mut three).unwrap(), 2);
        assert_eq!(parts.read(&mut three).unwrap(), 0);
    }

    #[test]
    fn a_callers_header_is_checked_and_named() {
        assert!(caller_header("anthropic-beta", "tools").is_ok());
        let check = |name: &str, value: &str, what: &str| match caller_header(name, value) {
            Err(Cause::Header(why)) => assert!(why.contains(name) && why.contains(what), "{why}"),
            other => panic!("{other:?}"),
        };
        check("idempotency-key", "a\r\nx-evil: 1", "control");
        check("idempotency-key", &"k".repeat(5000), "4096");
    }
}
