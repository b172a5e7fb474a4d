//! The registry: a slot of atomics for every thread, read without a lock.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

// Not `sync::Mutex`: that one is built on this registry.
use parking_lot::Mutex;

use super::names::{Name, lock_number, name_number, name_of};
use super::{Role, State, uptime_ms};

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

struct FreeSlots {
    next: u32,
    free: Vec<u32>,
}

thread_local! {
    /// This thread's slot plus one; 0 for a thread that is not registered.
    static CURRENT: Cell<u32> = const { Cell::new(0) };
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

/// A slot for a thread that is about to start: it is seen from now on, scheduled or not. Given
/// back when dropped, and so when the thread ends, however it ends.
pub(super) struct Reserved(u32);

impl Reserved {
    /// Takes a slot. Threads beyond the registry's size run unseen.
    pub fn new(name: &str, group: &'static str, role: Role) -> Option<Self> {
        let number = {
            let mut free = FREE.lock();
            match free.free.pop() {
                Some(number) => number,
                None if (free.next as usize) < CHUNK_SLOTS * CHUNKS_MAX => {
                    free.next += 1;
                    free.next
                }
                None => return None,
            }
        };
        let chunk = (number as usize - 1) / CHUNK_SLOTS;
        CHUNKS[chunk].get_or_init(|| (0..CHUNK_SLOTS).map(|_| Slot::free()).collect());
        if let Some(slot) = slot(number) {
            store_text(&slot.name, &[0; 16]);
            store_text(&slot.name, name.as_bytes());
            slot.group.store(name_number(group), Ordering::Relaxed);
            slot.role.store(role as u8, Ordering::Relaxed);
            slot.tid.store(0, Ordering::Relaxed);
            slot.since_ms.store(uptime_ms(), Ordering::Relaxed);
            slot.state.store(State::Idle as u8, Ordering::Release);
        }
        Some(Self(number))
    }

    /// The slot is the calling thread's from now on.
    pub fn occupy(&self) {
        CURRENT.with(|current| current.set(self.0));
        if let Some(slot) = slot(self.0) {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            slot.tid.store(tid as u32, Ordering::Relaxed);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(slot) = slot(self.0) {
            if current_slot() == self.0 {
                clear_call();
                CURRENT.with(|current| current.set(0));
            }
            slot.state.store(State::Free as u8, Ordering::Release);
            FREE.lock().free.push(self.0);
        }
    }
}

/// Registers the calling thread, which somebody else started: the main thread, a library's.
pub fn adopt(name: &str, role: Role) {
    if current_slot() == 0
        && let Some(reserved) = Reserved::new(name, "", role)
    {
        reserved.occupy();
        // Such a thread is there to the end of the process.
        std::mem::forget(reserved);
    }
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
