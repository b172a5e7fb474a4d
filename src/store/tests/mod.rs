//! The store as its callers see it, on files of its own and with a clock that tests turn. What goes
//! wrong is in `faults.rs`.

mod cache;
mod faults;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicI64;

use super::*;

const MINE: Scope = [1; 32];
const OTHER: Scope = [2; 32];
const TTL_MS: i64 = 60_000;

/// A fresh folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("victor-store-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("victor.db")
    }

    /// What was set aside, without companions.
    fn set_aside(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(&self.0).unwrap().map(|it| it.unwrap().path());
        let is_one = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("victor.db.damaged-")
                && !name.ends_with("-wal")
                && !name.ends_with("-shm")
        };
        paths.filter(is_one).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Setup {
    clock: Arc<AtomicI64>,
    ttl_ms: i64,
    bytes_max: u64,
    queue: Bounds,
    retry_after: Duration,
    settings: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            clock: Arc::new(AtomicI64::new(1_000_000)),
            ttl_ms: TTL_MS,
            bytes_max: 1 << 20,
            queue: QUEUE,
            retry_after: RETRY_AFTER,
            settings: "",
        }
    }
}

impl Setup {
    fn open(&self, path: &Path) -> Arc<Store> {
        let clock = Arc::clone(&self.clock);
        let options = Options {
            path: path.to_owned(),
            limits: Limits {
                ttl_ms: self.ttl_ms,
                bytes_max: self.bytes_max,
            },
            queue: self.queue,
            retry_after: self.retry_after,
            settings: self.settings,
            clock: Box::new(move || clock.load(Ordering::SeqCst)),
        };
        Store::start(options, false).unwrap()
    }

    fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }
}

fn kept(id: &str, previous: Option<&str>) -> Kept {
    Kept {
        id: id.to_owned(),
        previous: previous.map(str::to_owned),
        scope: MINE,
        created: 7,
        input: format!("[\"{id}\"]").into_bytes(),
        body: format!("{{\"id\":\"{id}\"}}").into_bytes(),
    }
}

/// One of `kib` KiB.
fn large(id: &str, previous: Option<&str>, kib: usize) -> Kept {
    Kept {
        body: vec![b'x'; kib << 10],
        ..kept(id, previous)
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn ids(store: &Store, id: &str, scope: &Scope) -> Option<Vec<String>> {
    let all = store.conversation(id, scope, later()).unwrap()?;
    Some(all.into_iter().map(|kept| kept.id).collect())
}

/// Runs a question for event threads and waits for its answer.
fn ask<T: Send + 'static>(question: impl FnOnce(Then<T>)) -> Result<T, StoreError> {
    let (tell, told) = channel::bounded(1);
    question(Box::new(move |answer| tell.send(answer).unwrap()));
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn fetch(store: &Store, id: &str, scope: Scope) -> Result<Option<Kept>, StoreError> {
    ask(|then| store.fetch(id.to_owned(), scope, then))
}

fn delete(store: &Store, id: &str, scope: Scope) -> Result<bool, StoreError> {
    ask(|then| store.delete(id.to_owned(), scope, then))
}

fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Keeps the store's thread busy until the sender is dropped.
fn hold(store: &Store) -> channel::Sender<()> {
    let (go, may_go) = channel::bounded::<()>(0);
    let (tell, told) = channel::bounded(1);
    store.fetch(
        "none".to_owned(),
        MINE,
        Box::new(move |_| {
            tell.send(()).unwrap();
            let _ = may_go.recv();
        }),
    );
    told.recv().unwrap();
    go
}

#[test]
fn what_was_kept_before_is_seen_and_outlives_the_process() {
    let folder = Folder::new("fifo");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    let all = [kept("a", None), kept("b", Some("a")), kept("c", Some("b"))];
    for one in &all {
        store.keep(one.clone()).unwrap();
    }
    let found = store.conversation("c", &MINE, later()).unwrap();
    assert_eq!(found.as_deref(), Some(&all[..]));
    assert_eq!(fetch(&store, "b", MINE), Ok(Some(all[1].clone())));
    store.shutdown();
    assert_eq!(store.keep(kept("d", None)), Err(StoreError::Closed));
    assert_eq!(fetch(&store, "b", MINE), Err(StoreError::Closed));

    let store = setup.open(&folder.file());
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["a", "b", "c"]);
    assert_eq!(read(&store.stats().responses), 3);
    assert!(read(&store.stats().responses_bytes) > 600);
    assert!(folder.set_aside().is_empty());
    let mode = fs::metadata(folder.file()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_row_is_invisible_to_every_other_scope() {
    let folder = Folder::new("scopes");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    store
        .keep(Kept {
            scope: OTHER,
            ..kept("b", Some("a"))
        })
        .unwrap();
    assert_eq!(ids(&store, "a", &OTHER), None);
    assert_eq!(fetch(&store, "a", OTHER), Ok(None));
    assert_eq!(delete(&store, "a", OTHER), Ok(false));
    // Its own row, but what it continues is somebody else's.
    assert_eq!(ids(&store, "b", &OTHER), None);
    assert!(fetch(&store, "b", OTHER).unwrap().is_some());
    // The same name twice is two rows.
    store
        .keep(Kept {
            scope: OTHER,
            ..kept("a", None)
        })
        .unwrap();
    assert_eq!(ids(&store, "b", &OTHER).unwrap(), ["a", "b"]);
    assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
}

#[test]
fn a_chain_with_a_missing_link_is_none_and_a_delete_makes_one() {
    let folder = Folder::new("chains");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("b", Some("a"))).unwrap();
    assert_eq!(ids(&store, "b", &MINE), None);
    store.keep(kept("a", None)).unwrap();
    store.keep(kept("c", Some("b"))).unwrap();
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["a", "b", "c"]);
    assert_eq!(delete(&store, "b", MINE), Ok(true));
    assert_eq!(delete(&store, "b", MINE), Ok(false));
    assert_eq!(ids(&store, "c", &MINE), None);
    assert!(fetch(&store, "c", MINE).unwrap().is_some());
    // A circle ends at the bound of the depth.
    store.keep(kept("b", Some("c"))).unwrap();
    let found = store.conversation("c", &MINE, later());
    assert_eq!(found, Err(StoreError::TooLong));
    // The newer one of a name takes the place of the older.
    store.keep(kept("b", None)).unwrap();
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["b", "c"]);
    assert_eq!(read(&store.stats().responses), 3);
}

#[test]
fn a_conversation_is_bounded_in_depth_and_bytes() {
    let folder = Folder::new("bounds");
    let setup = Setup {
        bytes_max: 200 << 20,
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    let name = |number: usize| format!("r{number}");
    for number in 0..=responses::CHAIN_MAX {
        let previous = number.checked_sub(1).map(name);
        let one = kept(&name(number), previous.as_deref());
        store.keep(one).unwrap();
    }
    let last = name(responses::CHAIN_MAX - 1);
    let found = ids(&store, &last, &MINE).unwrap();
    assert_eq!(found.len(), responses::CHAIN_MAX);
    assert_eq!((found[0].as_str(), found.last()), ("r0", Some(&last)));
    let beyond = store.conversation(&name(responses::CHAIN_MAX), &MINE, later());
    assert_eq!(beyond, Err(StoreError::TooLong));

    store.keep(large("half", None, 40 << 10)).unwrap();
    store.keep(large("more", Some("half"), 40 << 10)).unwrap();
    assert_eq!(ids(&store, "half", &MINE).unwrap(), ["half"]);
    let beyond = store.conversation("more", &MINE, later());
    assert_eq!(beyond, Err(StoreError::TooLong));
    let one = large("never", None, 65 << 10);
    assert_eq!(store.keep(one), Err(StoreError::TooLarge));
    assert_eq!(read(&store.stats().writes_dropped), 1);
}

#[test]
fn what_was_not_used_for_its_time_is_gone_and_a_use_is_of_the_whole_chain() {
    let folder = Folder::new("ttl");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    for one in [kept("a", None), kept("b", Some("a")), kept("x", None)] {
        store.keep(one).unwrap();
    }
    // Noted: the keeps are behind it in the queue.
    assert!(ids(&store, "b", &MINE).is_some());
    setup.pass(TTL_MS - 10);
    assert!(ids(&store, "b", &MINE).is_some());
    setup.pass(20);
    assert_eq!(
        fetch(&store, "x", MINE),
        Ok(None),
        "not even before a purge"
    );
    assert_eq!(delete(&store, "x", MINE), Ok(false));
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["a", "b"]);
    setup.pass(TTL_MS + 10);
    assert_eq!(ids(&store, "b", &MINE), None);
    store.keep(kept("c", None)).unwrap();
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["c"]);
    let stats = store.stats();
    assert_eq!(read(&stats.responses), 1);
    assert_eq!(
        (read(&stats.evicted_ttl), read(&stats.evicted_size)),
        (3, 0)
    );
}

#[test]
fn expired_rows_are_purged_at_the_start_however_many() {
    let folder = Folder::new("purge");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    for number in 0..1_000 {
        store.keep(kept(&number.to_string(), None)).unwrap();
    }
    store.shutdown();
    setup.pass(2 * TTL_MS);
    let store = setup.open(&folder.file());
    let deadline = later();
    while read(&store.stats().responses) > 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(read(&store.stats().evicted_ttl), 1_000);
    assert_eq!(read(&store.stats().responses_bytes), 0);
}

#[test]
fn the_least_recently_used_make_room() {
    let folder = Folder::new("size");
    let setup = Setup {
        bytes_max: 100 << 10,
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    for one in [
        large("a", None, 30),
        large("b", Some("a"), 30),
        large("x", None, 30),
    ] {
        store.keep(one).unwrap();
    }
    // All within one millisecond: the order of use is kept all the same.
    assert!(ids(&store, "b", &MINE).is_some());
    store.keep(large("c", Some("b"), 30)).unwrap();
    assert_eq!(fetch(&store, "x", MINE), Ok(None));
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["a", "b", "c"]);
    assert!(read(&store.stats().responses_bytes) <= 100 << 10);
    assert_eq!(read(&store.stats().evicted_size), 1);
    let one = large("never", None, 100);
    assert_eq!(store.keep(one), Err(StoreError::TooLarge));
}

#[test]
fn the_file_shrinks_with_its_bound() {
    let folder = Folder::new("shrink");
    let mut setup = Setup {
        bytes_max: 64 << 20,
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    for number in 0..40 {
        store
            .keep(large(&number.to_string(), None, 1 << 10))
            .unwrap();
    }
    store.shutdown();
    let before = fs::metadata(folder.file()).unwrap().len();
    assert!(before > 40 << 20, "{before}");
    setup.bytes_max = 1 << 20;
    let store = setup.open(&folder.file());
    store.shutdown();
    // What is free on shutdown already went; else the next start goes on.
    let store = setup.open(&folder.file());
    let deadline = later();
    while fs::metadata(folder.file()).unwrap().len() > 20 << 20 {
        assert!(Instant::now() < deadline);
        let _ = fetch(&store, "x", MINE);
        store.keep(kept("x", None)).unwrap();
    }
}

#[test]
fn a_store_that_keeps_nothing_takes_everything() {
    let folder = Folder::new("nothing");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    store.shutdown();
    for (ttl_ms, bytes_max) in [(0, 1 << 20), (TTL_MS, 0)] {
        let setup = Setup {
            ttl_ms,
            bytes_max,
            ..Setup::default()
        };
        let store = setup.open(&folder.file());
        assert_eq!(store.keep(kept("b", None)), Ok(()));
        assert_eq!(ids(&store, "b", &MINE), None);
        assert_eq!(read(&store.stats().writes_ok), 0);
        assert_eq!(store.responses_bytes_max(), 0);
        store.shutdown();
        assert_eq!(read(&store.stats().responses), 0);
    }
}
