//! What goes wrong: the file, the disk, the queue, a panic.

use rusqlite::Connection;

use super::*;

#[test]
fn a_damaged_or_foreign_file_is_set_aside() {
    let not_sqlite = |path: &Path| fs::write(path, "no database at all, ".repeat(100)).unwrap();
    let foreign = |path: &Path| {
        let sql = "PRAGMA application_id = 7; CREATE TABLE theirs (x)";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    let unmarked = |path: &Path| {
        let sql = "CREATE TABLE theirs (x)";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    let tableless = |path: &Path| {
        Setup::default().open(path).shutdown();
        let sql = "DROP TABLE response_contents; DROP TABLE responses";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    let cases: [&dyn Fn(&Path); 4] = [&not_sqlite, &foreign, &unmarked, &tableless];
    for (number, make) in cases.into_iter().enumerate() {
        let folder = Folder::new(&format!("damaged-{number}"));
        make(&folder.file());
        let before = fs::read(folder.file()).unwrap();
        let store = Setup::default().open(&folder.file());
        store.keep(kept("a", None)).unwrap();
        assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"], "{number}");
        assert_eq!(store.report().condition, Condition::Working);
        assert_eq!(read(&store.stats().set_aside), 1);
        let aside = folder.set_aside();
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read(&aside[0]).unwrap(), before, "{number}");
    }
}

#[test]
fn damage_that_shows_later_costs_the_file_and_not_the_service() {
    let folder = Folder::new("damaged-later");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    store.keep(large("a", None, 500)).unwrap();
    store.shutdown();
    // The pages of the table of contents, in the middle; the rest stays sound.
    let mut bytes = fs::read(folder.file()).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[8_192 * 2..middle] {
        *byte = 0xa5;
    }
    fs::write(folder.file(), &bytes).unwrap();
    let store = setup.open(&folder.file());
    // Whatever is lost, asking for it is answered, and what is kept next is kept.
    let _ = store.conversation("a", &MINE, later());
    store.keep(kept("b", None)).unwrap();
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["b"]);
    assert_eq!(store.report().condition, Condition::Working);
    assert_eq!(folder.set_aside().len(), 1);
}

#[test]
fn a_file_that_is_removed_while_in_use_is_begun_anew() {
    let folder = Folder::new("removed");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    assert!(ids(&store, "a", &MINE).is_some());
    fs::remove_file(folder.file()).unwrap();
    store.keep(kept("b", None)).unwrap();
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["b"]);
    store.shutdown();
    let store = Setup::default().open(&folder.file());
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["b"]);
}

#[test]
fn a_newer_schema_is_left_alone() {
    let folder = Folder::new("newer");
    Setup::default().open(&folder.file()).shutdown();
    let newer = schema::VERSION + 1;
    let sql = format!("PRAGMA user_version = {newer}");
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute_batch(&sql).unwrap();
    drop(connection);
    let store = Setup::default().open(&folder.file());
    assert_eq!(fetch(&store, "a", MINE), Err(StoreError::Unavailable));
    assert_eq!(store.keep(kept("a", None)), Err(StoreError::Unavailable));
    let found = store.conversation("a", &MINE, later());
    assert_eq!(found, Err(StoreError::Unavailable));
    let report = store.report();
    assert_eq!(report.condition, Condition::Unavailable);
    assert!(report.message.contains("a newer version of this program"));
    assert!(folder.set_aside().is_empty());
    assert_eq!(read(&store.stats().writes_dropped), 1);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_tried_again() {
    let folder = Folder::new("unwritable");
    // A file where a folder should be can be written to by nobody, root included.
    let wanted = folder.0.join("sub");
    fs::write(&wanted, "").unwrap();
    let setup = Setup {
        retry_after: Duration::from_millis(1),
        ..Setup::default()
    };
    let store = setup.open(&wanted.join("victor.db"));
    assert_eq!(store.report().condition, Condition::Unavailable);
    assert_eq!(fetch(&store, "a", MINE), Err(StoreError::Unavailable));
    assert!(store.report().failures >= 1);
    fs::remove_file(&wanted).unwrap();
    let deadline = later();
    while fetch(&store, "a", MINE) != Ok(None) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let report = store.report();
    assert_eq!((report.condition, report.failures), (Condition::Working, 0));
}

#[test]
fn a_full_queue_refuses_and_counts() {
    let folder = Folder::new("full");
    let setup = Setup {
        queue: Bounds {
            items: 2,
            bytes: 1 << 20,
        },
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    let held = hold(&store);
    store.keep(kept("a", None)).unwrap();
    store.keep(kept("b", Some("a"))).unwrap();
    assert_eq!(fetch(&store, "a", MINE), Err(StoreError::QueueFull));
    assert_eq!(delete(&store, "a", MINE), Err(StoreError::QueueFull));
    let soon = Instant::now() + Duration::from_millis(5);
    let found = store.conversation("a", &MINE, soon);
    assert_eq!(found, Err(StoreError::Timeout));
    assert_eq!(store.keep(kept("c", None)), Err(StoreError::QueueFull));
    assert_eq!(read(&store.stats().writes_dropped), 2);
    assert_eq!(store.queue_depth(), 2);
    assert_eq!(store.report().condition, Condition::Failing);
    drop(held);
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["a", "b"]);
    assert_eq!(store.report().condition, Condition::Working);
}

#[test]
fn a_panic_on_the_thread_ends_nothing() {
    let folder = Folder::new("panic");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    let then = Box::new(|_| panic!("on purpose"));
    store.fetch("a".to_owned(), MINE, then);
    assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
}

#[test]
fn a_file_that_takes_no_writes_is_still_read_and_shown_as_failing() {
    let folder = Folder::new("read-only");
    let store = Setup::default().open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    assert!(ids(&store, "a", &MINE).is_some());
    // Somebody else has the file locked for writing, for longer than is waited.
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.keep(kept("b", None)).unwrap();
    assert!(fetch(&store, "a", MINE).unwrap().is_some());
    let report = store.report();
    assert_eq!(report.condition, Condition::Failing, "{report:?}");
    assert!(report.failures >= 1 && report.message.contains("locked"));
    assert_eq!(read(&store.stats().writes_failed), 1);
    other.execute_batch("ROLLBACK").unwrap();
    store.keep(kept("c", None)).unwrap();
    assert!(ids(&store, "c", &MINE).is_some());
    assert_eq!(store.report().condition, Condition::Working);
}

#[test]
fn a_full_disk_loses_what_does_not_fit_and_nothing_else() {
    let folder = Folder::new("disk-full");
    let setup = Setup {
        settings: "PRAGMA max_page_count = 40",
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    // Those that wait together fail together at first; what fits is kept all the same.
    let held = hold(&store);
    store.keep(large("large", None, 500)).unwrap();
    store.keep(kept("b", Some("a"))).unwrap();
    drop(held);
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["a", "b"]);
    assert_eq!(fetch(&store, "large", MINE), Ok(None));
    let stats = store.stats();
    assert_eq!((read(&stats.writes_ok), read(&stats.writes_failed)), (2, 1));
    assert_eq!(read(&stats.responses), 2);

    store.keep(large("large", None, 500)).unwrap();
    // Asked for behind it, so that it has failed by then; reading alone mends nothing.
    assert_eq!(fetch(&store, "none", MINE), Ok(None));
    let report = store.report();
    assert_eq!(report.condition, Condition::Failing, "{report:?}");
    assert!(report.message.contains("full"), "{report:?}");
    store.keep(kept("c", Some("b"))).unwrap();
    assert_eq!(ids(&store, "c", &MINE).unwrap(), ["a", "b", "c"]);
    assert_eq!(store.report().condition, Condition::Working);
    assert!(folder.set_aside().is_empty());
}

/// Where the child of the test below writes.
const CHILD_FILE: &str = "VICTOR_TEST_STORE_FILE";

/// No test of its own: what the one below runs in a process that it kills.
#[test]
fn a_child_that_writes_until_it_is_killed() {
    let Some(file) = std::env::var_os(CHILD_FILE) else {
        return;
    };
    let store = Setup::default().open(Path::new(&file));
    let (mut number, end) = (0_u64, later());
    while Instant::now() < end && store.keep(large(&number.to_string(), None, 3)).is_ok() {
        number += 1;
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_usable_file() {
    let folder = Folder::new("kill");
    for round in 0..4_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::faults::a_child_that_writes_until_it_is_killed",
            ])
            .env(CHILD_FILE, folder.file())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // In the midst of its writes: once it has written something, and a bit more each time.
        let journal = folder.0.join("victor.db-wal");
        let deadline = later();
        let grown = (1 + round * 37) << 12;
        while fs::metadata(&journal).map_or(0, |found| found.len()) < grown {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Setup::default().open(&folder.file());
        assert_eq!(store.report().condition, Condition::Working);
        store.keep(kept("after", None)).unwrap();
        assert_eq!(ids(&store, "after", &MINE).unwrap(), ["after"]);
        store.shutdown();
        let connection = Connection::open(folder.file()).unwrap();
        let check: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        assert!(folder.set_aside().is_empty());
    }
}
