//! A load client for the benchmarks: many streams at once, and the latency of single calls.
//!
//! It only ever talks to addresses on this machine, it ends by itself, and it prints one line of
//! `key=value` pairs for each thing it measured. Start reading at [`main`].

use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Calls that may be on their way at once, so that the rest of them is read meanwhile.
const CONNECTING_MAX: usize = 100;

/// Load for the benchmarks.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many streamed calls at once, each read to its end.
    Streams {
        #[command(flatten)]
        call: Call,
        /// How many at once.
        #[arg(long)]
        streams: usize,
        /// Processes whose resident memory is watched.
        #[arg(long)]
        pid: Vec<u32>,
    },
    /// Plain calls one after the other on one connection.
    Latency {
        #[command(flatten)]
        call: Call,
        /// How many.
        #[arg(long, default_value_t = 1000)]
        calls: usize,
    },
    /// The time to the first event, asked in turns of the provider itself and through the daemon.
    FirstByte {
        #[command(flatten)]
        call: Call,
        /// The provider's own address and what it calls the model.
        #[arg(long)]
        direct: SocketAddr,
        #[arg(long)]
        direct_model: String,
        /// How many of each.
        #[arg(long, default_value_t = 1000)]
        calls: usize,
    },
    /// Calls that are sent and never read, held for some seconds.
    Hold {
        #[command(flatten)]
        call: Call,
        /// How many.
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        seconds: u64,
    },
}

#[derive(Args, Clone)]
struct Call {
    /// Where to.
    #[arg(long)]
    addr: SocketAddr,
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// The model; without it a GET is sent.
    #[arg(long)]
    model: Option<String>,
    /// Ask for a stream.
    #[arg(long)]
    stream: bool,
    /// One more header, as `name: value`.
    #[arg(long)]
    header: Option<String>,
}

impl Call {
    fn bytes(&self, close: bool) -> Vec<u8> {
        let mut head = String::from("host: victor\r\n");
        if let Some(header) = &self.header {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        let Some(model) = &self.model else {
            return format!("GET {} HTTP/1.1\r\n{head}\r\n", self.path).into_bytes();
        };
        let body = format!(
            r#"{{"model":"{model}","stream":{},"max_tokens":64,"messages":[{{"role":"user","content":"Hello there"}}]}}"#,
            self.stream
        );
        format!(
            "POST {} HTTP/1.1\r\n{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        )
        .into_bytes()
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Streams { call, streams, pid } => run_streams(&call, streams, &pid),
        Command::Latency { call, calls } => run_latency(&call, calls),
        Command::FirstByte {
            call,
            direct,
            direct_model,
            calls,
        } => run_first_byte(&call, direct, direct_model, calls),
        Command::Hold {
            call,
            streams,
            seconds,
        } => run_hold(&call, streams, seconds),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the percentiles of some durations.
fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    println!(
        "{what}: n={} p50_ms={:.3} p95_ms={:.3} p99_ms={:.3} max_ms={:.3}",
        times.len(),
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
}

fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// One stream of many.
struct Running {
    socket: TcpStream,
    started: Instant,
    sent: usize,
    first: Option<Instant>,
    status_ok: bool,
    events: u64,
    /// The end of what has come, long enough for every marker.
    tail: Vec<u8>,
    marked: bool,
    over: bool,
}

impl Running {
    fn open(addr: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            started: Instant::now(),
            sent: 0,
            first: None,
            status_ok: false,
            events: 0,
            tail: Vec::new(),
            marked: false,
            over: false,
        })
    }

    fn write(&mut self, request: &[u8]) {
        while self.sent < request.len() {
            match self.socket.write(&request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        while !self.over {
            match self.socket.read(buffer) {
                Ok(0) => self.over = true,
                Ok(read) => self.take(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.over = true,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let kept = self.tail.len();
        self.tail.extend_from_slice(bytes);
        if self.first.is_none() {
            self.status_ok = self.tail.starts_with(b"HTTP/1.1 200");
            if memchr::memmem::find(&self.tail, b"data: ").is_none() {
                return;
            }
            self.first = Some(Instant::now());
        }
        // An event may have begun in what was kept; it is counted when its end comes.
        let from = kept.saturating_sub(1);
        self.events += memchr::memmem::find_iter(&self.tail[from..], b"\n\n").count() as u64;
        self.marked |= memchr::memmem::find(&self.tail, b"[DONE]").is_some()
            || memchr::memmem::find(&self.tail, b"event: message_stop").is_some();
        let excess = self.tail.len().saturating_sub(32);
        self.tail.drain(..excess);
    }

    fn is_whole(&self) -> bool {
        self.status_ok && self.marked && self.tail.ends_with(b"\r\n0\r\n\r\n")
    }
}

/// What a run of many streams has seen, beyond the streams themselves.
#[derive(Default)]
struct Watch {
    open_most: usize,
    rss_kib_most: Vec<u64>,
}

impl Watch {
    fn look(&mut self, open: usize, pids: &[u32]) {
        self.open_most = self.open_most.max(open);
        self.rss_kib_most.resize(pids.len(), 0);
        for (most, pid) in self.rss_kib_most.iter_mut().zip(pids) {
            *most = (*most).max(rss_kib(*pid));
        }
    }
}

fn run_streams(call: &Call, count: usize, pids: &[u32]) -> Result<()> {
    let request = call.bytes(true);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4096);
    let mut buffer = vec![0; 64 << 10];
    let mut running: Vec<Running> = Vec::with_capacity(count);
    let (mut connecting, mut over) = (0, 0);
    let mut watch = Watch::default();
    let before: Vec<u64> = pids.iter().map(|pid| rss_kib(*pid)).collect();
    let started = Instant::now();
    let mut looked = started;
    while over < count {
        while running.len() < count && connecting < CONNECTING_MAX {
            let stream = Running::open(call.addr)?;
            let fd = stream.socket.as_raw_fd();
            let mut source = SourceFd(&fd);
            let token = Token(running.len());
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut source, token, both)?;
            running.push(stream);
            connecting += 1;
        }
        poll.poll(&mut events, Some(Duration::from_secs(60)))?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            let stream = &mut running[event.token().0];
            if stream.over {
                continue;
            }
            if stream.sent < request.len() {
                stream.write(&request);
                connecting -= usize::from(stream.over || stream.sent == request.len());
            }
            stream.read(&mut buffer);
            over += usize::from(stream.over);
        }
        if looked.elapsed() > Duration::from_millis(250) {
            looked = Instant::now();
            let open = running
                .iter()
                .filter(|stream| stream.first.is_some() && !stream.over);
            watch.look(open.count(), pids);
        }
    }
    let whole = running.iter().filter(|stream| stream.is_whole()).count();
    let events: u64 = running.iter().map(|stream| stream.events).sum();
    println!(
        "streams: n={count} whole={whole} lost={} at_once={} events={events} seconds={:.1}",
        count - whole,
        watch.open_most,
        started.elapsed().as_secs_f64()
    );
    for ((pid, most), before) in pids.iter().zip(&watch.rss_kib_most).zip(before) {
        let (before, most) = (mib(before), mib(*most));
        println!("memory: pid={pid} before_mib={before:.1} most_mib={most:.1}");
    }
    let mut firsts: Vec<Duration> = running
        .iter()
        .filter_map(|stream| Some(stream.first? - stream.started))
        .collect();
    report("first event", &mut firsts);
    match whole == count {
        true => Ok(()),
        false => Err(format!("{} streams were lost", count - whole).into()),
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Reads until `end` is in what has come.
fn read_until(socket: &mut TcpStream, end: &[u8], seen: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 16384];
    while memchr::memmem::find(seen, end).is_none() {
        match socket.read(&mut buffer)? {
            0 => return Err("the connection ended early".into()),
            read => seen.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(())
}

fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(socket)
}

/// Reads a whole answer framed by length; gives its status.
fn read_answer(socket: &mut TcpStream, seen: &mut Vec<u8>) -> Result<u16> {
    seen.clear();
    read_until(socket, b"\r\n\r\n", seen)?;
    let head_end = memchr::memmem::find(seen, b"\r\n\r\n").unwrap_or_default() + 4;
    let head = String::from_utf8_lossy(&seen[..head_end]).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .ok_or("no content-length")?
        .trim()
        .parse()?;
    let mut rest = vec![0; (head_end + length).saturating_sub(seen.len())];
    socket.read_exact(&mut rest)?;
    Ok(head.get(9..12).unwrap_or_default().parse()?)
}

fn run_latency(call: &Call, calls: usize) -> Result<()> {
    let request = call.bytes(false);
    let mut socket = connect(call.addr)?;
    let (mut times, mut seen) = (Vec::with_capacity(calls), Vec::new());
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..calls {
        let started = Instant::now();
        socket.write_all(&request)?;
        *statuses
            .entry(read_answer(&mut socket, &mut seen)?)
            .or_default() += 1;
        times.push(started.elapsed());
    }
    report(&format!("{} {statuses:?}", call.path), &mut times);
    Ok(())
}

/// Sends one streamed call and gives the time to its first event; reads it to its end.
fn first_event(socket: &mut TcpStream, request: &[u8], seen: &mut Vec<u8>) -> Result<Duration> {
    seen.clear();
    let started = Instant::now();
    socket.write_all(request)?;
    read_until(socket, b"data: ", seen)?;
    let took = started.elapsed();
    read_until(socket, b"\r\n0\r\n\r\n", seen)?;
    Ok(took)
}

fn run_first_byte(call: &Call, direct: SocketAddr, model: String, calls: usize) -> Result<()> {
    let straight = Call {
        addr: direct,
        model: Some(model),
        ..call.clone()
    };
    let (through_bytes, direct_bytes) = (call.bytes(false), straight.bytes(false));
    let (mut through, mut direct) = (connect(call.addr)?, connect(direct)?);
    let (mut seen, mut pairs) = (Vec::new(), Vec::with_capacity(calls));
    // The first calls open connections behind the daemon.
    for number in 0..calls + 50 {
        let one = first_event(&mut direct, &direct_bytes, &mut seen)?;
        let other = first_event(&mut through, &through_bytes, &mut seen)?;
        if number >= 50 {
            pairs.push((one, other));
        }
    }
    let mut directs: Vec<_> = pairs.iter().map(|pair| pair.0).collect();
    let mut throughs: Vec<_> = pairs.iter().map(|pair| pair.1).collect();
    report("direct", &mut directs);
    report("through", &mut throughs);
    let added = throughs[calls / 2].saturating_sub(directs[calls / 2]);
    println!("added at the median: ms={:.3}", added.as_secs_f64() * 1e3);
    Ok(())
}

fn run_hold(call: &Call, count: usize, seconds: u64) -> Result<()> {
    let request = call.bytes(false);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = connect(call.addr)?;
        socket.write_all(&request)?;
        held.push(socket);
    }
    println!("held: n={count}");
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
