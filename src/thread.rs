//! The only place that starts threads, and the registry that shows them.
//!
//! Every thread has a name of at most 15 bytes (what the kernel keeps), a role, and a slot of
//! atomics that says what it is doing and for which call. The thread dump and the metrics read
//! the slots without taking a lock, so a stuck thread cannot hide another one. [`spawn`] starts a
//! thread whose body returns a `Result`: an error or a panic ends it aloud, in the log.

mod names;
mod registry;

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Instant;

pub use names::{Name, intern};
use registry::Reserved;
pub use registry::{
    LockWait, NAME_BYTES_MAX, REQUEST_ID_BYTES_MAX, Row, adopt, clear_call, current_slot, set_call,
    set_provider, set_state, snapshot, waiting_for_lock,
};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The main thread, which waits for the end.
    Main = 1,
    /// Accepts connections of one listener.
    Accept,
    /// Owns connections and their events.
    Front,
    /// Runs the calls of one coordinator.
    Worker,
    /// Serves the ops plane.
    Ops,
    /// Serves the admin plane.
    Admin,
    /// Writes the log.
    Log,
    /// Owns the database.
    Store,
    /// Saves the cache, or writes to the one that instances share.
    Cache,
    /// Turns signals into events.
    Signals,
    /// Paces the simulator's answers.
    Simulator,
    /// Computes what is too much for one thread.
    Compute,
    /// Started by a library or the runtime: tiny_http and jemalloc start their own.
    Foreign,
}

/// What a thread is doing. The order is that of a call's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Waits for work.
    Idle = 1,
    /// Works on the processor: parsing, deciding, encoding.
    Running,
    /// Waits for the database.
    WaitingStore,
    /// Waits for the cache that instances share, or for another instance's answer there.
    WaitingCache,
    /// Waits for one of the provider's permits.
    WaitingPermit,
    /// Waits until a target may be asked again: a backoff, a rate limit, an open breaker.
    WaitingRetry,
    /// Waits for more calls to ask for in one.
    WaitingBatch,
    /// Looks a name up, connects, or shakes hands.
    Connecting,
    /// Sends the request to the provider.
    Sending,
    /// Has sent the request; nothing has come back yet.
    WaitingFirstByte,
    /// Reads the provider's answer.
    Relaying,
    /// Gone; the slot is free.
    Free,
}

macro_rules! names {
    ($type:ident { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $type {
            /// The name that dumps and metrics print.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
            fn from_u8(value: u8) -> Option<Self> {
                match value { $(v if v == Self::$variant as u8 => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
names!(Role {
    Main => "main", Accept => "accept", Front => "front", Worker => "worker", Ops => "ops", Admin => "admin",
    Log => "log", Store => "store", Cache => "cache", Signals => "signals", Simulator => "simulator", Compute => "compute", Foreign => "foreign",
});
names!(State {
    Idle => "idle", Running => "running", WaitingStore => "waiting_store", WaitingCache => "waiting_cache", WaitingPermit => "waiting_permit", WaitingRetry => "waiting_retry", WaitingBatch => "waiting_batch",
    Connecting => "connecting", Sending => "sending", WaitingFirstByte => "waiting_first_byte",
    Relaying => "relaying", Free => "free",
});

/// Milliseconds since the process first asked; the clock of the slots.
pub fn uptime_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// A started thread.
pub struct Handle {
    name: String,
    join: Option<std::thread::JoinHandle<()>>,
}

impl Handle {
    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the thread to end. Its error or panic has been logged by itself.
    pub fn join(mut self) {
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.join
            .as_ref()
            .is_none_or(std::thread::JoinHandle::is_finished)
    }
}

/// What to start: a name, a role, the group its work is charged to, and a stack size.
pub struct Builder {
    name: String,
    role: Role,
    group: &'static str,
    stack_bytes: usize,
}

impl Builder {
    /// A thread called `name`, which is cut to [`NAME_BYTES_MAX`] bytes.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        let mut name: String = name.into();
        let mut end = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        Self {
            name,
            role,
            group: "",
            stack_bytes: 1 << 20,
        }
    }

    /// Charges the thread's processor time to `group`, a coordinator's name.
    pub fn group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses another thread (`EAGAIN`) or has no memory for its stack.
    pub fn spawn<F>(self, body: F) -> io::Result<Handle>
    where
        F: FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        let name = self.name.clone();
        let reserved = Reserved::new(&name, self.group, self.role);
        let join = std::thread::Builder::new()
            .name(self.name.clone())
            .stack_size(self.stack_bytes)
            .spawn(move || {
                let slot = reserved;
                if let Some(slot) = &slot {
                    slot.occupy();
                }
                match catch_unwind(AssertUnwindSafe(body)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => log::error!("thread {name} failed: {error}"),
                    Err(_) => log::error!("thread {name} panicked"),
                }
            })?;
        Ok(Handle {
            name: self.name,
            join: Some(join),
        })
    }
}

/// Starts a thread; see [`Builder`].
///
/// # Errors
/// As [`Builder::spawn`].
pub fn spawn<F>(name: impl Into<String>, role: Role, body: F) -> io::Result<Handle>
where
    F: FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
{
    Builder::new(name, role).spawn(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn row(name: &str) -> Option<Row> {
        snapshot().into_iter().find(|row| row.name == name)
    }

    #[test]
    fn a_thread_is_seen_with_its_call_while_it_runs_and_gone_after() {
        let (ready, is_ready) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let handle = Builder::new("test-thread-with-a-long-name", Role::Worker)
            .group("TestCoordinator")
            .spawn(move || {
                set_state(State::WaitingFirstByte);
                set_call("req-1");
                set_provider(Name::new("anthropic"));
                ready.send(()).unwrap();
                let _ = may_go.recv();
                Ok(())
            })
            .unwrap();
        is_ready.recv().unwrap();
        let seen = row("test-thread-wit").expect("registered under its cut name");
        assert_eq!(
            (seen.role, seen.state),
            (Role::Worker, State::WaitingFirstByte)
        );
        assert_eq!(
            (seen.request_id.as_str(), seen.provider),
            ("req-1", "anthropic")
        );
        assert_eq!(seen.group, "TestCoordinator");
        assert!(seen.tid > 0);
        go.send(()).unwrap();
        handle.join();
        assert!(row("test-thread-wit").is_none());
    }

    #[test]
    fn a_panic_ends_only_its_thread() {
        spawn("test-panic", Role::Worker, || panic!("on purpose"))
            .unwrap()
            .join();
        assert!(row("test-panic").is_none());
    }
}
