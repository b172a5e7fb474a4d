//! The daemon's side: accepts connections, checks who asks, does what is asked.
//!
//! One thread, `admin`, accepts. Each connection has a thread of its own for its one request, at
//! most [`CONNECTIONS_MAX`] of them; with none open there is none. A client that says nothing is
//! let go after [`REQUEST_WAIT_MAX`], one that does not read after [`ANSWER_WAIT_MAX`], and a verb
//! goes on to its end whether its client is still there or not.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::frame::{self, ANSWER_BYTES_MAX, Fault, REQUEST_BYTES_MAX, Timed};
use super::socket::{self, Socket};
use super::{AdminError, Code, PROTOCOL, Progress, Verbs};
use crate::sync::{Condvar, Mutex};
use crate::thread::{self, Handle, Role, State};

/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 16;
/// For a whole request to arrive.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// For the last frame of an answer to be taken.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// For word of progress to be taken; then the client is told nothing more.
const PROGRESS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Word of progress is not sent more often.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Before accepting is tried again after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long answers under way may take at the end, and then what hangs.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The running admin plane. Dropped without [`Admin::stop`], its threads go on.
pub struct Admin {
    shared: Arc<Shared>,
    accept: Handle,
}

struct Shared {
    socket: Socket,
    families: Vec<Box<dyn Verbs>>,
    seats: Mutex<[Option<Seat>; CONNECTIONS_MAX]>,
    /// Somebody has left its seat.
    left: Condvar,
    stopping: AtomicBool,
}

/// A connection that is being served.
struct Seat {
    stream: Arc<UnixStream>,
    thread: Option<Handle>,
    ended: bool,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default = "current")]
    v: u32,
    verb: String,
    #[serde(default)]
    args: Value,
}

const fn current() -> u32 {
    PROTOCOL
}

impl Admin {
    /// Serves `families` on `socket`.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn start(socket: Socket, families: Vec<Box<dyn Verbs>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            socket,
            families,
            seats: Mutex::new("admin.seats", [const { None }; CONNECTIONS_MAX]),
            left: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let accept = thread::spawn("admin", Role::Admin, move || {
            own.accept();
            Ok(())
        })?;
        Ok(Self { shared, accept })
    }

    /// Where the socket lies.
    pub fn path(&self) -> &Path {
        self.shared.socket.path()
    }

    /// Takes nothing more, lets answers under way go out, joins the threads and removes the
    /// socket. A verb that hangs is left behind.
    pub fn stop(self) {
        let Self { shared, accept } = self;
        shared.stopping.store(true, Ordering::Release);
        shared.socket.close();
        accept.join();
        // Whoever has not asked yet is not waited for; whoever waits for an answer gets it.
        shared.hang_up(Shutdown::Read);
        if !shared.wait_empty(STOP_GRACE) {
            shared.hang_up(Shutdown::Both);
            if !shared.wait_empty(STOP_GRACE) {
                log::warn!("an admin verb has not ended; it is left behind");
            }
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>) {
        loop {
            thread::set_state(State::Idle);
            let accepted = self.socket.accept();
            thread::set_state(State::Running);
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok(stream) => self.admit(stream),
                Err(error) => {
                    log::warn!("the admin socket cannot accept: {error}");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Gives a connection a thread, if it may have one.
    fn admit(self: &Arc<Self>, stream: UnixStream) {
        let peer = match socket::peer(&stream) {
            Ok(peer) => peer,
            Err(error) => return log::warn!("an admin client is of nobody: {error}"),
        };
        let own = rustix::process::geteuid().as_raw();
        if !may_ask(peer.0, own) {
            log::warn!(uid = peer.0, pid = peer.1; "an admin client of another user was refused");
            let why = format!(
                "user {} may not administer this daemon: be user {own}, or root",
                peer.0
            );
            return refuse(&stream, &AdminError::new(Code::Forbidden, why));
        }
        let stream = Arc::new(stream);
        let Some(seat) = self.take_seat(&stream) else {
            let why = format!("{CONNECTIONS_MAX} admin clients are connected already");
            return refuse(&stream, &AdminError::new(Code::Busy, why));
        };
        let (own, client) = (Arc::clone(self), Arc::clone(&stream));
        let thread = thread::spawn(format!("admin-{seat}"), Role::Admin, move || {
            thread::set_state(State::Running);
            own.serve(&client, peer);
            own.leave_seat(seat);
            Ok(())
        });
        match thread {
            Ok(thread) => {
                if let Some(seat) = &mut self.seats.lock()[seat] {
                    seat.thread = Some(thread);
                }
            }
            Err(error) => {
                self.seats.lock()[seat] = None;
                let why = format!("no thread can be had: {error}");
                refuse(&stream, &AdminError::new(Code::Unavailable, why));
            }
        }
    }

    /// A free seat. Those whose thread has ended are free once it is joined, here.
    fn take_seat(&self, stream: &Arc<UnixStream>) -> Option<usize> {
        let (found, old) = {
            let mut seats = self.seats.lock();
            let is_free = |seat: &Option<Seat>| seat.as_ref().is_none_or(|seat| seat.ended);
            let found = seats.iter().position(is_free)?;
            let seat = Seat {
                stream: Arc::clone(stream),
                thread: None,
                ended: false,
            };
            (found, seats[found].replace(seat))
        };
        if let Some(thread) = old.and_then(|seat| seat.thread) {
            thread.join();
        }
        Some(found)
    }

    fn leave_seat(&self, seat: usize) {
        if let Some(seat) = &mut self.seats.lock()[seat] {
            seat.ended = true;
        }
        self.left.notify_all();
    }

    fn hang_up(&self, how: Shutdown) {
        for seat in self.seats.lock().iter().flatten() {
            if !seat.ended {
                // One that its client has closed is closed.
                let _ = seat.stream.shutdown(how);
            }
        }
    }

    /// Waits until every seat is free, and joins the threads; `false` if it takes too long.
    fn wait_empty(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        let mut seats = self.seats.lock();
        while seats.iter().flatten().any(|seat| !seat.ended) {
            if self.left.wait_until(&mut seats, deadline) {
                return false;
            }
        }
        let all = std::mem::replace(&mut *seats, [const { None }; CONNECTIONS_MAX]);
        drop(seats);
        let threads = all.into_iter().flatten().filter_map(|seat| seat.thread);
        threads.for_each(Handle::join);
        true
    }

    /// One request and its answer.
    fn serve(&self, stream: &UnixStream, peer: (u32, i32)) {
        let mut timed = Timed {
            stream,
            deadline: Instant::now() + REQUEST_WAIT_MAX,
        };
        let answer = match frame::read(&mut timed, REQUEST_BYTES_MAX) {
            Ok(frame) => self.answer(&frame, stream, peer),
            // Nobody is there to be told, or nobody who talks.
            Err(Fault::Closed | Fault::Io(_)) => return,
            Err(Fault::Late) => {
                let why = format!("no request came within {} s", REQUEST_WAIT_MAX.as_secs());
                Err(AdminError::new(Code::BadRequest, why))
            }
            Err(Fault::TooLong(bytes)) => {
                let why = format!("a request of {bytes} bytes: at most {REQUEST_BYTES_MAX}");
                Err(AdminError::new(Code::TooLong, why))
            }
        };
        let frame = match &answer {
            Ok(value) => frame::encode(&json!({ "ok": value }), ANSWER_BYTES_MAX)
                .ok_or_else(|| AdminError::new(Code::TooLong, "the answer is over 16 MiB long")),
            Err(error) => Err(error.clone()),
        };
        let frame = frame.unwrap_or_else(|error| error_frame(&error));
        let sent = send(stream, &frame, ANSWER_WAIT_MAX);
        if let Err(error) = sent {
            log::info!(pid = peer.1; "an admin client left before its answer: {error}");
        }
    }

    fn answer(
        &self,
        frame: &[u8],
        stream: &UnixStream,
        peer: (u32, i32),
    ) -> Result<Value, AdminError> {
        let request: Request = serde_json::from_slice(frame)
            .map_err(|error| AdminError::new(Code::BadRequest, format!("no request: {error}")))?;
        if request.v != PROTOCOL {
            let why = format!(
                "protocol {} is asked for, and this daemon (victor {}) speaks {PROTOCOL}: use a \
                 victor of the daemon's version",
                request.v,
                env!("CARGO_PKG_VERSION")
            );
            return Err(AdminError::new(Code::Version, why));
        }
        let args = match request.args {
            Value::Null => json!({}),
            args => args,
        };
        let began = Instant::now();
        let answer = self.run(&request.verb, &args, &mut Reporter::new(stream));
        let verb: String = request.verb.chars().take(32).collect();
        let outcome = match &answer {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.message.clone(),
        };
        log::info!(
            uid = peer.0, pid = peer.1, duration_ms = began.elapsed().as_millis() as u64;
            "admin {verb}: {outcome}"
        );
        answer
    }

    fn run(&self, verb: &str, args: &Value, reporter: &mut Reporter) -> Result<Value, AdminError> {
        let mut report = |progress| reporter.report(&progress);
        for family in &self.families {
            let call = AssertUnwindSafe(|| family.call(verb, args, &mut report));
            match catch_unwind(call) {
                Ok(None) => {}
                Ok(Some(answer)) => return answer,
                Err(_) => {
                    let why = "the verb failed by a fault of victor's own; the log has more";
                    return Err(AdminError::new(Code::Internal, why));
                }
            }
        }
        let verb: String = verb.chars().take(64).collect();
        let why = format!("this daemon has no verb {verb:?}");
        Err(AdminError::new(Code::UnknownVerb, why))
    }
}

/// Whether a user may ask a daemon of user `own`. The file's mode says the same; this holds where
/// somebody has changed it.
const fn may_ask(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// Passes word of progress on while the client takes it.
struct Reporter<'a> {
    stream: &'a UnixStream,
    next: Instant,
    gone: bool,
}

impl<'a> Reporter<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self {
            stream,
            next: Instant::now(),
            gone: false,
        }
    }

    fn report(&mut self, progress: &Progress) {
        let now = Instant::now();
        if self.gone || now < self.next {
            return;
        }
        self.next = now + PROGRESS_PAUSE;
        let frame = frame::encode(&json!({ "progress": progress }), ANSWER_BYTES_MAX);
        let sent = frame.map(|frame| send(self.stream, &frame, PROGRESS_WAIT_MAX));
        if !matches!(sent, Some(Ok(()))) {
            // Half a frame may be out: nothing that follows could be understood.
            let _ = self.stream.shutdown(Shutdown::Both);
            self.gone = true;
        }
    }
}

fn error_frame(error: &AdminError) -> Vec<u8> {
    frame::encode(&json!({ "error": error }), ANSWER_BYTES_MAX).unwrap_or_default()
}

fn send(stream: &UnixStream, frame: &[u8], most: Duration) -> io::Result<()> {
    let deadline = Instant::now() + most;
    Timed { stream, deadline }.write_all(frame)
}

/// Tells a client why it is not served. Its socket is new and has room for a sentence, so this
/// does not hold up whoever accepts.
fn refuse(stream: &UnixStream, error: &AdminError) {
    let _ = stream.set_nonblocking(true);
    let _ = (&mut &*stream).write_all(&error_frame(error));
}

#[cfg(test)]
mod unit {
    use super::may_ask;

    #[test]
    fn the_daemons_user_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000) && may_ask(0, 0));
        assert!(!may_ask(1001, 1000) && !may_ask(65_534, 0));
    }
}
