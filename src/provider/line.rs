//! What a call and the connection it runs on tell each other.
//!
//! ureq stands between the two and knows neither our deadlines nor our cancel handle. So each
//! slot of a provider has one [`Line`]: the call says until when the connection may block and who
//! may cancel it, the connection says how far it has got. ureq's own timeouts are all off; the
//! transport blocks nowhere without asking [`Line::io`] first, so nothing can wait for ever.
//!
//! A slot is one call's alone, so the lock here is never contended except by accident.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cancel::{Abort, Cancel};
use crate::sync::Mutex;
use crate::thread;

/// How far a call has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No connection yet.
    Begun,
    /// Looks up, connects, shakes hands.
    Connecting,
    /// Sends the request.
    Sending,
    /// The request is sent; nothing has come back.
    Waiting,
    /// Some of the answer has come.
    Answering,
}

impl Progress {
    /// How the thread dump shows it.
    const fn thread_state(self) -> thread::State {
        match self {
            Self::Begun | Self::Sending => thread::State::Sending,
            Self::Connecting => thread::State::Connecting,
            Self::Waiting => thread::State::WaitingFirstByte,
            Self::Answering => thread::State::Relaying,
        }
    }
}

/// Why the transport gave up; reaches us through ureq as `Error::Other`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The time given to the line is up.
    Timeout,
    /// The call was cancelled, or there is none.
    Cancelled,
    /// The peer reset the connection.
    Reset,
    /// No address for the name.
    Resolve(String),
    /// No connection.
    Connect(String),
    /// What was received does not fit the buffer and cannot be used.
    Overlong,
    /// Any other refusal of the system.
    Io(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for ureq::Error {
    fn from(fault: Fault) -> Self {
        Self::Other(Box::new(fault))
    }
}

/// See the module.
pub struct Line(Mutex<State>);

struct State {
    cancel: Option<Arc<Cancel>>,
    /// Until when the connection may block.
    by: Instant,
    connect_timeout: Duration,
    /// While connecting: until when.
    connect_by: Instant,
    progress: Progress,
    /// Whether this call opened the connection it uses.
    fresh: bool,
    streamed: bool,
    /// Address of the [`Abort`] that is attached to `cancel`; 0 for none.
    attached: usize,
    sent_at: Option<Instant>,
    /// When the call before this one ended.
    ended_at: Option<Instant>,
    /// How long the connection had carried no call when this one began.
    idle: Duration,
}

/// What a line saw of the call, for naming an error.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub progress: Progress,
    pub fresh: bool,
    /// When the first byte of the request left.
    pub sent_at: Option<Instant>,
    /// How long the connection had carried no call when this one began.
    pub idle: Duration,
}

impl Line {
    /// A line without a call. `connect_timeout` bounds each connect.
    pub fn new(connect_timeout: Duration) -> Self {
        let now = Instant::now();
        Self(Mutex::new(
            "provider.line",
            State {
                cancel: None,
                by: now,
                connect_timeout,
                connect_by: now,
                progress: Progress::Begun,
                fresh: false,
                streamed: false,
                attached: 0,
                sent_at: None,
                ended_at: None,
                idle: Duration::ZERO,
            },
        ))
    }

    /// A call begins, or begins again on another connection.
    pub fn begin(&self, cancel: &Arc<Cancel>, by: Instant, streamed: bool) {
        let mut state = self.0.lock();
        state.cancel = Some(Arc::clone(cancel));
        state.by = by;
        state.progress = Progress::Begun;
        state.fresh = false;
        state.streamed = streamed;
        state.sent_at = None;
        let ended_at = state.ended_at.take();
        state.idle = ended_at.map_or(Duration::ZERO, |at| at.elapsed());
    }

    /// From here on the connection may block until `by`.
    pub fn extend(&self, by: Instant) {
        self.0.lock().by = by;
    }

    /// The call is over. Returns whether the connection may be used by another one: not if the
    /// cancel came, even late, for then its abort may still be on its way.
    pub fn end(&self) -> bool {
        let cancel = {
            let mut state = self.0.lock();
            state.attached = 0;
            state.ended_at = Some(Instant::now());
            state.cancel.take()
        };
        let Some(cancel) = cancel else {
            return true;
        };
        // In this order: a cancel that found something attached has set its reason before.
        cancel.detach();
        !cancel.is_cancelled()
    }

    /// What was seen of the call.
    pub fn view(&self) -> View {
        let state = self.0.lock();
        View {
            progress: state.progress,
            fresh: state.fresh,
            sent_at: state.sent_at,
            idle: state.idle,
        }
    }

    /// Connecting begins or, with a proxy, begins a second time inside the first. Returns what to
    /// give to [`Line::connected`].
    pub fn connecting(&self) -> Progress {
        let mut state = self.0.lock();
        let before = state.progress;
        if before != Progress::Connecting {
            state.connect_by = state.by.min(Instant::now() + state.connect_timeout);
            state.progress = Progress::Connecting;
        }
        state.fresh = true;
        thread::set_state(thread::State::Connecting);
        before
    }

    /// Until when a connection must be there.
    pub fn connect_by(&self) -> Instant {
        self.0.lock().connect_by
    }

    /// Connecting ended.
    pub fn connected(&self, before: Progress) {
        self.0.lock().progress = before;
    }

    /// The connection is about to do something that may block, `closer` would end. Moves the
    /// call on to `progress`, except while connecting, and returns until when it may block.
    ///
    /// # Errors
    /// [`Fault::Cancelled`].
    pub fn io(&self, closer: &Arc<dyn Abort>, progress: Progress) -> Result<Instant, Fault> {
        let (cancel, by) = {
            let mut state = self.0.lock();
            let by = match state.progress {
                Progress::Connecting => state.connect_by,
                _ => state.by,
            };
            if state.progress == Progress::Begun || state.progress == Progress::Sending {
                state.progress = progress;
                state.sent_at.get_or_insert_with(Instant::now);
            }
            thread::set_state(state.progress.thread_state());
            let Some(cancel) = &state.cancel else {
                return Err(Fault::Cancelled);
            };
            if cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            }
            let address = Arc::as_ptr(closer).cast::<()>() as usize;
            if state.attached == address {
                return Ok(by);
            }
            let cancel = Arc::clone(cancel);
            state.attached = address;
            (cancel, by)
        };
        // Outside of the lock: a cancel that has come already aborts in here.
        cancel.attach(Arc::clone(closer));
        match cancel.is_cancelled() {
            true => Err(Fault::Cancelled),
            false => Ok(by),
        }
    }

    /// Whether the call was cancelled.
    pub fn is_cancelled(&self) -> bool {
        let state = self.0.lock();
        state
            .cancel
            .as_ref()
            .is_none_or(|cancel| cancel.is_cancelled())
    }

    /// Bytes of the answer came. Returns whether they are the first, and whether the call streams.
    pub fn received(&self) -> (bool, bool) {
        let mut state = self.0.lock();
        let first = state.progress == Progress::Waiting;
        if first {
            state.progress = Progress::Answering;
        }
        (first, state.streamed)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}
