//! What goes wrong with the table of cached answers: the queue, the disk, the file.

use rusqlite::Connection;

use super::*;

#[test]
fn a_full_queue_refuses_and_an_answer_that_is_gone_is_left_out() {
    let folder = Folder::new("cache-queue");
    let setup = Setup {
        queue: Bounds {
            items: 1,
            bytes: 1 << 20,
        },
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    let go = hold(&store);
    store.keep(kept("a", None)).unwrap();
    let (saved, asked) = save_sized(&store, &marks(0..3), MAX, |_| 1);
    assert_eq!((saved, asked), (Err(StoreError::QueueFull), 0));
    let soon = Instant::now() + Duration::from_millis(5);
    let refused = Err(StoreError::Timeout);
    assert_eq!(store.load_cache(None, 1, None, soon).map(drop), refused);
    assert_eq!(store.clear_cache(None, soon).map(drop), refused);
    assert_eq!(read(&store.stats().writes_dropped), 2);
    drop(go);
    assert!(ids(&store, "a", &MINE).is_some());
    let bodies: Bodies = Box::new(|number, _| number != 1);
    let saved = ask(|then| store.save_cache(marks(0..3), MAX, bodies, then)).unwrap();
    assert_eq!((saved.written, saved.left_out), (2, 1));
    // A panic ends the save and nothing else.
    let bodies: Bodies = Box::new(|_, _| panic!("on purpose"));
    let saved = ask(|then| store.save_cache(marks(0..3), MAX, bodies, then));
    assert_eq!(saved, Err(StoreError::Failed));
    assert_eq!(load(&store, None, 9).len(), 2);
    assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
}

#[test]
fn a_full_disk_ends_the_save_and_leaves_what_was_written() {
    let folder = Folder::new("cache-disk-full");
    let setup = Setup {
        settings: "PRAGMA max_page_count = 2500",
        ..Setup::default()
    };
    let store = setup.open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    let list = marks(0..100);
    let (saved, _) = save_sized(&store, &list, MAX, |_| 1 << 20);
    assert_eq!(saved, Err(StoreError::Failed));
    let report = store.report();
    assert_eq!(report.condition, Condition::Failing, "{report:?}");
    assert!(report.message.contains("full"), "{report:?}");
    assert_eq!(read(&store.stats().writes_failed), 1);
    let found = held(&store);
    assert!((4..10).contains(&found.len()), "{}", found.len());
    assert_eq!(found, list[..found.len()]);
    assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
    // A smaller list makes room by itself.
    let small = [list[0].clone(), list[99].clone()];
    assert_eq!(save(&store, &small).held, 1);
    assert_eq!(held(&store), small);
    assert_eq!(store.report().condition, Condition::Working);
    assert!(folder.set_aside().is_empty());
}

#[test]
fn a_damaged_file_loads_nothing_and_is_filled_anew() {
    let folder = Folder::new("cache-damaged");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    let list = marks(0..100);
    save_sized(&store, &list, MAX, |_| 10_000).0.unwrap();
    store.shutdown();
    let mut bytes = fs::read(folder.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[8_192 * 2..middle].fill(0xa5);
    fs::write(folder.file(), &bytes).unwrap();
    let store = setup.open(&folder.file());
    assert_eq!(load(&store, None, usize::MAX), []);
    assert_eq!(folder.set_aside().len(), 1);
    assert_eq!(save(&store, &list).written, 100);
    assert_eq!(held(&store), list);
    // In the midst of use: the next save finds an empty file, and knows it.
    fs::remove_file(folder.file()).unwrap();
    assert_eq!(save(&store, &list).written, 100);
    assert_eq!(held(&store), list);
    // Without its table the file is of no use.
    store.shutdown();
    let sql = "DROP TABLE cache_bodies; DROP TABLE cache_entries";
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let store = setup.open(&folder.file());
    assert_eq!(load(&store, None, usize::MAX), []);
    assert_eq!(folder.set_aside().len(), 2);
    assert_eq!(save(&store, &list).written, 100);
}

#[test]
fn a_newer_file_is_left_alone() {
    let folder = Folder::new("cache-newer");
    Setup::default().open(&folder.file()).shutdown();
    let newer = schema::VERSION + 1;
    let connection = Connection::open(folder.file()).unwrap();
    let sql = format!("PRAGMA user_version = {newer}");
    connection.execute_batch(&sql).unwrap();
    drop(connection);
    let store = Setup::default().open(&folder.file());
    let out = StoreError::Unavailable;
    let (saved, asked) = save_sized(&store, &marks(0..3), MAX, |_| 1);
    assert_eq!((saved, asked), (Err(out), 0));
    assert_eq!(store.clear_cache(None, later()), Err(out));
    let loaded = store.load_cache(None, 1, None, later());
    assert_eq!(loaded.map(drop), Err(out));
    assert_eq!(read(&store.stats().writes_dropped), 2);
    assert!(folder.set_aside().is_empty());
}

#[test]
fn a_file_of_the_first_schema_keeps_its_responses() {
    let folder = Folder::new("cache-upgrade");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    store.keep(kept("a", None)).unwrap();
    store.keep(kept("b", Some("a"))).unwrap();
    store.shutdown();
    // Back to what the first version has made.
    let sql = "DROP TABLE cache_bodies; DROP TABLE cache_entries; PRAGMA user_version = 1";
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let store = setup.open(&folder.file());
    assert_eq!(ids(&store, "b", &MINE).unwrap(), ["a", "b"]);
    assert_eq!(save(&store, &marks(0..3)).written, 3);
    assert_eq!(held(&store), marks(0..3));
    assert!(folder.set_aside().is_empty());
}

#[test]
fn what_another_process_removes_is_missed_and_written_again() {
    let folder = Folder::new("cache-other");
    let store = Setup::default().open(&folder.file());
    let list = marks(0..10);
    save(&store, &list);
    let connection = Connection::open(folder.file()).unwrap();
    let sql = "PRAGMA foreign_keys = ON; DELETE FROM cache_entries WHERE coordinator = 'odd'";
    connection.execute_batch(sql).unwrap();
    let saved = save(&store, &list);
    assert_eq!((saved.held, saved.written), (5, 5));
    assert_eq!(held(&store), list);
}
