//! The only place that starts threads, and the registry that shows them.
//!
//! Every thread has a name of at most 15 bytes (what the kernel keeps), a role, and a slot of
//! atomics that says what it is doing and for which call. The thread dump and the metrics read
//! the slots without taking a lock, so a stuck thread cannot hide another one. [`spawn`] starts a
//! thread whose body returns a `Result`: an error or a panic ends it aloud, in the log.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

// Not `sync::Mutex`: that one is built on this registry.
use parking_lot::Mutex;

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
    /// Writes the log.
    Log,
    /// Turns signals into events.
    Signals,
    /// Paces the simulator's answers.
    Simulator,
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
    /// Waits for one of the provider's permits.
    WaitingPermit,
    /// Looks a name up, connects, or shakes hands.
    Connecting,
    /// Sends the request to the provider.
    Sending,
    /// Has sent the request; nothing has come back yet.
    WaitingFirstByte,
    /// Reads the provider's answer.
    Relaying,
    /// Waits for a slow client to make room.
    WaitingClient,
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
    Main => "main", Accept => "accept", Front => "front", Worker => "worker", Ops => "ops",
    Log => "log", Signals => "signals", Simulator => "simulator", Foreign => "foreign",
});
names!(State {
    Idle => "idle", Running => "running", WaitingPermit => "waiting_permit",
    Connecting => "connecting", Sending => "sending", WaitingFirstByte => "waiting_first_byte",
    Relaying => "relaying", WaitingClient => "waiting_client", Free => "free",
});

/// The kernel keeps 15 bytes of a thread's name.
pub const NAME_BYTES_MAX: usize = 15;
/// Request ids longer than this are cut in the dump (the front accepts none longer).
pub const REQUEST_ID_BYTES_MAX: usize = 64;
const CHUNK_SLOTS: usize = 256;
const CHUNKS_MAX: usize = 256;

/// A thread's row in the registry. All fields are atomics: readers never wait for writers.
struct Slot {
    name: [AtomicU64; 2],
    group: AtomicUsize,
    role: AtomicU8,
    state: AtomicU8,
    tid: AtomicU32,
    since_ms: AtomicU64,
    /// Odd while `request` and `provider` are being changed, so that a reader can tell.
    version: AtomicU32,
    provider: AtomicUsize,
    request_len: AtomicU8,
    request: [AtomicU64; REQUEST_ID_BYTES_MAX / 8],
    lock_name: AtomicUsize,
    lock_holder: AtomicU32,
}

impl Slot {
    fn free() -> Self {
        Self {
            name: Default::default(),
            group: AtomicUsize::new(0),
            role: AtomicU8::new(0),
            state: AtomicU8::new(State::Free as u8),
            tid: AtomicU32::new(0),
            since_ms: AtomicU64::new(0),
            version: AtomicU32::new(0),
            provider: AtomicUsize::new(0),
            request_len: AtomicU8::new(0),
            request: Default::default(),
            lock_name: AtomicUsize::new(0),
            lock_holder: AtomicU32::new(0),
        }
    }
}

/// One thread as the dump shows it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The thread's name.
    pub name: String,
    /// The coordinator or plane that its work is charged to; empty for none.
    pub group: &'static str,
    /// What it is for.
    pub role: Role,
    /// What it is doing.
    pub state: State,
    /// The kernel's thread id.
    pub tid: u32,
    /// For how long it has been in that state, in milliseconds.
    pub since_ms: u64,
    /// The call it works for; empty for none.
    pub request_id: String,
    /// The provider it is asking; empty for none.
    pub provider: &'static str,
    /// The lock it waits for and the name of the thread that holds it.
    pub waits_for: Option<(&'static str, String)>,
}

static CHUNKS: [OnceLock<Box<[Slot]>>; CHUNKS_MAX] = [const { OnceLock::new() }; CHUNKS_MAX];
static FREE: Mutex<FreeSlots> = Mutex::new(FreeSlots {
    next: 0,
    free: Vec::new(),
});
static STRINGS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
static NAMES: [OnceLock<&'static str>; NAMES_MAX] = [const { OnceLock::new() }; NAMES_MAX];
static NAMES_USED: Mutex<usize> = Mutex::new(0);
/// Distinct coordinator, provider and lock names that a dump can show.
const NAMES_MAX: usize = 1024;

struct FreeSlots {
    next: u32,
    free: Vec<u32>,
}

thread_local! {
    /// This thread's slot plus one; 0 for a thread that is not registered.
    static CURRENT: Cell<u32> = const { Cell::new(0) };
}

/// Milliseconds since the process first asked; the clock of the slots.
pub fn uptime_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Keeps one copy of `text` for the life of the process. Only for names that the configuration
/// bounds (coordinators, providers, models): what is interned is never freed.
pub fn intern(text: &str) -> &'static str {
    let mut strings = STRINGS.lock();
    if let Some(known) = strings.get(text) {
        return known;
    }
    let leaked: &'static str = Box::leak(text.to_owned().into_boxed_str());
    strings.insert(leaked);
    leaked
}

/// The number under which slots refer to a name; 0 is "none" and also what a full table gives.
fn name_number(name: &'static str) -> usize {
    if name.is_empty() {
        return 0;
    }
    let mut used = NAMES_USED.lock();
    for (index, known) in NAMES.iter().enumerate().take(*used) {
        if known
            .get()
            .is_some_and(|known| std::ptr::eq(*known, name) || *known == name)
        {
            return index + 1;
        }
    }
    if *used == NAMES_MAX {
        return 0;
    }
    let _ = NAMES[*used].set(name);
    *used += 1;
    *used
}

fn name_of(number: usize) -> &'static str {
    number
        .checked_sub(1)
        .and_then(|index| NAMES.get(index)?.get().copied())
        .unwrap_or("")
}

/// A provider's or lock's name with its number looked up once, so that entering a call costs no
/// search.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: &'static str,
    number: usize,
}

impl Name {
    /// Interns `text`.
    pub fn new(text: &str) -> Self {
        let text = intern(text);
        Self {
            text,
            number: name_number(text),
        }
    }

    /// The name itself.
    pub const fn as_str(self) -> &'static str {
        self.text
    }
}

/// Writes `text` into words of eight bytes, padded with zeros.
fn store_text(words: &[AtomicU64], text: &[u8]) {
    for (word, chunk) in words.iter().zip(text.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
}

/// Reads the first `len` bytes that [`store_text`] wrote, up to a zero.
fn load_text(words: &[AtomicU64], len: usize) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .take(len)
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn slot(number: u32) -> Option<&'static Slot> {
    let index = number.checked_sub(1)? as usize;
    CHUNKS
        .get(index / CHUNK_SLOTS)?
        .get()?
        .get(index % CHUNK_SLOTS)
}

/// This thread's slot number, never 0 for a registered thread.
pub fn current_slot() -> u32 {
    CURRENT.try_with(Cell::get).unwrap_or(0)
}

fn own_slot() -> Option<&'static Slot> {
    slot(current_slot())
}

/// Takes a slot for the calling thread. Threads beyond the registry's size run unseen.
fn register(name: &str, group: &'static str, role: Role) {
    let number = {
        let mut free = FREE.lock();
        match free.free.pop() {
            Some(number) => number,
            None if (free.next as usize) < CHUNK_SLOTS * CHUNKS_MAX => {
                free.next += 1;
                free.next
            }
            None => return,
        }
    };
    let chunk = (number as usize - 1) / CHUNK_SLOTS;
    CHUNKS[chunk].get_or_init(|| (0..CHUNK_SLOTS).map(|_| Slot::free()).collect());
    CURRENT.with(|current| current.set(number));
    if let Some(slot) = slot(number) {
        store_text(&slot.name, &[0; 16]);
        store_text(&slot.name, name.as_bytes());
        slot.group.store(name_number(group), Ordering::Relaxed);
        slot.role.store(role as u8, Ordering::Relaxed);
        slot.tid.store(
            rustix::thread::gettid().as_raw_nonzero().get() as u32,
            Ordering::Relaxed,
        );
        slot.since_ms.store(uptime_ms(), Ordering::Relaxed);
        slot.state.store(State::Idle as u8, Ordering::Release);
    }
}

/// Frees the slot when the thread ends, however it ends.
struct Registered;

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(slot) = own_slot() {
            clear_call();
            slot.state.store(State::Free as u8, Ordering::Release);
            FREE.lock().free.push(current_slot());
        }
        CURRENT.with(|current| current.set(0));
    }
}

/// Registers the calling thread, which somebody else started: the main thread, a library's.
pub fn adopt(name: &str, role: Role) {
    if current_slot() == 0 {
        register(name, "", role);
    }
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
        let (name, role, group) = (self.name.clone(), self.role, self.group);
        let join = std::thread::Builder::new()
            .name(self.name.clone())
            .stack_size(self.stack_bytes)
            .spawn(move || {
                register(&name, group, role);
                let _registered = Registered;
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

/// Says what the calling thread does from now on.
pub fn set_state(state: State) {
    if let Some(slot) = own_slot()
        && slot.state.swap(state as u8, Ordering::Relaxed) != state as u8
    {
        slot.since_ms.store(uptime_ms(), Ordering::Relaxed);
    }
}

/// Says which call the calling thread works for.
pub fn set_call(request_id: &str) {
    change_call(|slot| {
        let bytes = request_id.as_bytes();
        let bytes = &bytes[..bytes.len().min(REQUEST_ID_BYTES_MAX)];
        store_text(&slot.request, bytes);
        slot.request_len.store(bytes.len() as u8, Ordering::Relaxed);
    });
}

/// Says which provider the calling thread asks.
pub fn set_provider(provider: Name) {
    change_call(|slot| slot.provider.store(provider.number, Ordering::Relaxed));
}

/// The calling thread works for no call any more.
pub fn clear_call() {
    change_call(|slot| {
        slot.request_len.store(0, Ordering::Relaxed);
        slot.provider.store(0, Ordering::Relaxed);
    });
}

fn change_call(change: impl FnOnce(&Slot)) {
    if let Some(slot) = own_slot() {
        slot.version.fetch_add(1, Ordering::AcqRel);
        change(slot);
        slot.version.fetch_add(1, Ordering::Release);
    }
}

/// Marks the calling thread as waiting for a lock until the returned guard is dropped.
pub fn waiting_for_lock(name: &'static str, holder: &AtomicU32) -> LockWait {
    let slot = own_slot();
    if let Some(slot) = slot {
        slot.lock_holder
            .store(holder.load(Ordering::Relaxed), Ordering::Relaxed);
        slot.lock_name.store(lock_number(name), Ordering::Release);
    }
    LockWait(slot)
}

/// As [`name_number`], but never waits: the name table's own lock may be what is contended.
fn lock_number(name: &'static str) -> usize {
    let used = NAMES.iter().take_while(|known| known.get().is_some());
    for (index, known) in used.enumerate() {
        if known.get() == Some(&name) {
            return index + 1;
        }
    }
    match NAMES_USED.try_lock() {
        Some(mut used) if *used < NAMES_MAX => {
            let _ = NAMES[*used].set(name);
            *used += 1;
            *used
        }
        _ => 0,
    }
}

/// See [`waiting_for_lock`].
pub struct LockWait(Option<&'static Slot>);

impl Drop for LockWait {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.lock_name.store(0, Ordering::Relaxed);
        }
    }
}

/// Every registered thread, oldest slot first. Takes no lock.
pub fn snapshot() -> Vec<Row> {
    let now_ms = uptime_ms();
    let mut rows = Vec::new();
    for slot in CHUNKS
        .iter()
        .map_while(OnceLock::get)
        .flat_map(|chunk| chunk.iter())
    {
        let (Some(role), Some(state)) = (
            Role::from_u8(slot.role.load(Ordering::Relaxed)),
            State::from_u8(slot.state.load(Ordering::Acquire)),
        ) else {
            continue;
        };
        if state == State::Free {
            continue;
        }
        let (request_id, provider) = read_call(slot);
        let lock = name_of(slot.lock_name.load(Ordering::Acquire));
        let holder = || {
            self::slot(slot.lock_holder.load(Ordering::Relaxed))
                .map_or_else(|| "nobody".to_owned(), |holder| load_text(&holder.name, 16))
        };
        rows.push(Row {
            name: load_text(&slot.name, NAME_BYTES_MAX),
            group: name_of(slot.group.load(Ordering::Relaxed)),
            role,
            state,
            tid: slot.tid.load(Ordering::Relaxed),
            since_ms: now_ms.saturating_sub(slot.since_ms.load(Ordering::Relaxed)),
            request_id,
            provider,
            waits_for: (!lock.is_empty()).then(|| (lock, holder())),
        });
    }
    rows
}

/// A slot's call. Tries a few times for a consistent view, then takes what is there: a dump must
/// never wait for a thread.
fn read_call(slot: &Slot) -> (String, &'static str) {
    let mut call = (String::new(), "");
    for _ in 0..8 {
        let before = slot.version.load(Ordering::Acquire);
        let len = slot.request_len.load(Ordering::Relaxed) as usize;
        let provider = name_of(slot.provider.load(Ordering::Relaxed));
        call = (load_text(&slot.request, len), provider);
        if before.is_multiple_of(2) && slot.version.load(Ordering::Acquire) == before {
            break;
        }
    }
    call
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
