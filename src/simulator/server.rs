//! `victor simulate`: the simulator behind a socket.
//!
//! What can be answered at once is answered on the front's own thread; what has a delay, or is
//! much work, goes to one of the timer threads. Nothing here decides what is answered: that is
//! `script::plan`.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Sender};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::fault::{Dialect, Fault};
use super::journal::{Ended, Journal, Outcome};
use super::script::{self, End, Script, SimRequest};
use super::state::State;
use super::timer::{Job, Message, Next, Timer, Way};
use crate::front::{Front, Handler, Limits, Request, Responder, Response};
use crate::thread::{self, Handle, Role};

/// The longest request body.
const BODY_BYTES_MAX: usize = 64 << 20;
/// The most connections, as far as the limit of open files allows.
const CONNECTIONS_MAX: usize = 100_000;
/// Files that are not connections: pollers, the listener, the log, standard streams.
const FILES_RESERVED: u64 = 64;
/// Larger bodies and answers are no work for a front thread.
const WORK_BYTES_MAX: usize = 256 << 10;
/// What may wait for one timer thread.
const MESSAGES_MAX: usize = 16_384;

/// A running simulator.
pub struct Server {
    front: Front,
    timers: Vec<Sender<Message>>,
    threads: Vec<Handle>,
    service: Arc<Service>,
}

/// What front and timer threads share.
pub(super) struct Service {
    pub state: State,
    pub journal: Journal,
    timers: Vec<Sender<Message>>,
    next: AtomicUsize,
}

/// Serves `listener`. With `log`, appends each finished request to that file as a JSON line.
///
/// # Errors
/// The file cannot be opened, or a thread or poller not be had.
pub fn serve(listener: TcpListener, log: Option<PathBuf>) -> io::Result<Server> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (journal, writer) = Journal::open(log.as_deref())?;
    let mut threads: Vec<Handle> = writer.into_iter().collect();
    let (timers, receivers): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| channel::bounded(MESSAGES_MAX)).unzip();
    let service = Arc::new(Service {
        state: State::default(),
        journal,
        timers: timers.clone(),
        next: AtomicUsize::new(0),
    });
    for (number, receiver) in receivers.into_iter().enumerate() {
        let timer = Timer::new(Arc::clone(&service), timers[number].clone(), receiver);
        let name = format!("sim-timer-{number}");
        threads.push(thread::spawn(name, Role::Simulator, move || {
            timer.run();
            Ok(())
        })?);
    }
    let limits = Limits {
        body_bytes_max: BODY_BYTES_MAX,
        connections_max: connections_max(),
        body_timeout: Duration::from_secs(60),
        // Longer than any client keeps an idle connection, so that none is closed under one.
        idle_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let handler = Arc::new(SimHandler(Arc::clone(&service)));
    let front = Front::start("sim", listener, cores, limits, handler)?;
    Ok(Server {
        front,
        timers,
        threads,
        service,
    })
}

impl Server {
    /// The address that is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.front.local_addr()
    }

    /// Forgets the log and the state of `-once` and `flap`, as `POST /_sim/reset` does.
    pub fn reset(&self) {
        self.service.reset();
    }

    /// Closes the listener and every connection, and joins the threads.
    pub fn stop(self) {
        self.front.stop(Duration::ZERO);
        for timer in &self.timers {
            // The front is gone, so the thread empties its channel and there is room soon.
            let _ = timer.send(Message::Stop);
        }
        // The writer of the log ends when the last owner of the journal is gone.
        drop(self.timers);
        drop(self.service);
        self.threads.into_iter().rev().for_each(Handle::join);
    }
}

/// Raises the soft limit of open files to the hard one, and leaves a reserve.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = current.unwrap_or(u64::MAX).saturating_sub(FILES_RESERVED);
    usize::try_from(files)
        .unwrap_or(usize::MAX)
        .clamp(1, CONNECTIONS_MAX)
}

/// The head of a script as the front takes it.
pub(super) fn head(script: &Script) -> Response {
    let mut response = Response::new(script.status);
    for (name, value) in &script.headers {
        response.push_header(name, value.as_bytes());
    }
    response
}

/// The request as the core takes it.
fn sim_request<'a>(request: &'a Request, journal: &Journal) -> SimRequest<'a> {
    let mut sim = SimRequest {
        method: request.method(),
        path: request.path(),
        x_sim: None,
        api_key: None,
        anthropic_version: false,
        body: &request.body,
        received: request.received,
        at: journal.wall(request.received),
    };
    for (name, value) in request.headers() {
        match name.len() {
            5 if name.eq_ignore_ascii_case("x-sim") => sim.x_sim = Some(value),
            7 if name.eq_ignore_ascii_case("api-key") => sim.api_key = Some(value),
            9 if name.eq_ignore_ascii_case("x-api-key") => sim.api_key = Some(value),
            13 if name.eq_ignore_ascii_case("authorization") => {
                let key = value.split_once(' ').map_or(value, |(_, key)| key.trim());
                sim.api_key = sim.api_key.or(Some(key));
            }
            17 if name.eq_ignore_ascii_case("anthropic-version") => sim.anthropic_version = true,
            _ => {}
        }
    }
    sim
}

impl Service {
    fn reset(&self) {
        self.journal.reset();
        self.state.reset();
    }

    /// Plans the answer to a request and enters it in the log. Answers at once if that is little
    /// work and nothing is to be waited for; else returns the job.
    fn plan_on_front(&self, mut request: Request, responder: Responder) -> Option<Box<Job>> {
        let mut script = script::plan(&sim_request(&request, &self.journal), &self.state);
        let is_plain = !script.chunked && script.end == End::Complete && script.delay.is_zero();
        if !is_plain || script.steps.work_bytes() > WORK_BYTES_MAX {
            let mut job = self.enter(request, script, responder);
            if !job.is_immediate(WORK_BYTES_MAX) {
                return Some(job);
            }
            let next = EVENTS.with_borrow_mut(|events| job.advance(self, events));
            return (!matches!(next, Next::Done)).then_some(job);
        }
        let mut body = Vec::with_capacity(script.steps.work_bytes().max(1024));
        script.steps.render(&mut body);
        let outcome = Outcome {
            status: script.status,
            ended: Ended::Complete,
            tokens: script.steps.tokens(),
            at: Instant::now(),
        };
        self.journal.enter(&mut request, &script, Some(outcome));
        responder.respond(head(&script).body(body));
        None
    }

    /// As [`Service::plan_on_front`], on a timer thread, which may work long.
    pub fn plan(&self, request: Request, responder: Responder) -> Option<Box<Job>> {
        let script = script::plan(&sim_request(&request, &self.journal), &self.state);
        Some(self.enter(request, script, responder))
    }

    fn enter(&self, mut request: Request, script: Script, responder: Responder) -> Box<Job> {
        let number = self.journal.enter(&mut request, &script, None);
        Box::new(Job {
            number,
            due: request.received + script.delay,
            script,
            way: Way::Head(responder),
        })
    }

    /// Hands work to a timer thread, each in turn. One whose channel is full is too far behind
    /// to be given more: its caller is told so.
    fn hand_over(&self, message: Message) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.timers.len();
        let Err(refused) = self.timers[index].try_send(message) else {
            return;
        };
        let responder = match refused.into_inner() {
            Message::Plan(work) => work.1,
            Message::Log(responder, _) => responder,
            Message::Run(job) => {
                let outcome = Outcome {
                    status: 503,
                    ended: Ended::Refused,
                    tokens: 0,
                    at: Instant::now(),
                };
                self.journal.close(job.number, outcome);
                match job.way {
                    Way::Head(responder) => responder,
                    Way::Stream(_) | Way::Done => return,
                }
            }
            Message::Gone { .. } | Message::Stop => return,
        };
        let text = "the simulator itself is overloaded; send fewer delayed requests at once";
        responder.respond(Response::text(503, text).header("retry-after", "1"));
    }
}

thread_local! {
    /// Where a front thread renders events.
    static EVENTS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct SimHandler(Arc<Service>);

impl Handler for SimHandler {
    fn handle(&self, request: Request, responder: Responder) {
        let service = &self.0;
        match request.path() {
            "/_sim/log" if request.method() == "GET" => {
                let with_bodies = request
                    .query()
                    .is_some_and(|query| query.split('&').any(|part| part == "body=1"));
                service.hand_over(Message::Log(responder, with_bodies));
            }
            "/_sim/reset" if request.method() == "POST" => {
                service.reset();
                responder.respond(Response::new(204));
            }
            _ if request.body.len() > WORK_BYTES_MAX => {
                service.hand_over(Message::Plan(Box::new((request, responder))));
            }
            _ => {
                if let Some(job) = service.plan_on_front(request, responder) {
                    service.hand_over(Message::Run(job));
                }
            }
        }
    }

    fn refuse(&self, path: Option<&str>, status: u16, message: &str) -> Response {
        let dialect = match path {
            Some(path) if path.starts_with("/v1/messages") => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        };
        let body = Fault::new(status, message.to_owned()).body(dialect, "req_sim");
        Response::json(status, body)
    }
}
