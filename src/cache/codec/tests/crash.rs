//! A process that saves answers as fast as it can, killed at any moment: whatever the database
//! gives back is what was put there, under its own key, and not too old.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crossbeam::channel;

use super::*;
use crate::config::checked::Database;
use crate::store::{Bodies, CacheMark, Condition, Store};

const KILLS: u32 = 50;
/// How many answers there are to choose a list from.
const NUMBERS: u32 = 240;
/// Where the child writes.
const CHILD_FOLDER: &str = "VICTOR_TEST_CACHE_FOLDER";

fn open(folder: &Path) -> Arc<Store> {
    let config = Database {
        path: folder.join("victor.db"),
        log_queries: false,
        responses_ttl: Duration::from_secs(60),
        responses_max_bytes: 1 << 20,
    };
    Store::open(&config).unwrap()
}

fn key_of(number: u32) -> Key {
    Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// The one answer that belongs to a key and a time.
fn derive(key: &Key, created_ms: u64) -> Entry {
    let seed = blake3::keyed_hash(key.as_bytes(), &created_ms.to_le_bytes());
    let seed = seed.as_bytes();
    // Up to 32 KiB.
    let length = usize::from(u16::from_le_bytes([seed[0], seed[1]])) / 2;
    let bytes: Vec<u8> = seed.iter().copied().cycle().take(length).collect();
    let body = match seed[2] % 2 {
        0 => Body::Whole(bytes.into()),
        _ => Body::Events(Events::new(bytes.chunks(100)).unwrap()),
    };
    let small = small();
    // From 50 ms to 13 s.
    let ttl = Duration::from_millis(50 * (1 + u64::from(seed[4])));
    Entry {
        key: *key,
        expires: small.created + ttl,
        body,
        usage: Usage {
            input: Some(seed[3].into()),
            ..Usage::default()
        },
        upstream_request_id: Some(format!("req-{created_ms}").into()),
        dropped: "".into(),
        created_at: UNIX_EPOCH + Duration::from_millis(created_ms),
        ..small
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// No test of its own: what the one below runs in a process that it kills.
#[test]
fn a_child_that_saves_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let store = open(&folder);
    let mut entries: HashMap<u32, (u64, Arc<Entry>)> = HashMap::new();
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        // Half of the list is as it was, the rest is answered anew or left out.
        for number in 0..NUMBERS {
            match fastrand::u8(..4) {
                0 => entries.remove(&number).map(drop).unwrap_or_default(),
                1 => {
                    let created = now_ms();
                    let entry = Arc::new(derive(&key_of(number), created));
                    entries.insert(number, (created, entry));
                }
                _ => {}
            }
        }
        let mut list: Vec<(u32, u64, Arc<Entry>)> = Vec::new();
        for (number, (created, entry)) in &entries {
            list.push((*number, *created, Arc::clone(entry)));
        }
        let mark = |(number, created, entry): &(u32, u64, Arc<Entry>)| CacheMark {
            key: *key_of(*number).as_bytes(),
            coordinator: "ChatCoordinator".into(),
            created: *created,
            expires: created + u64::try_from(entry.ttl().as_millis()).unwrap(),
            score: fastrand::f64(),
        };
        let mut marks: Vec<CacheMark> = list.iter().map(mark).collect();
        marks.iter_mut().for_each(|mark| mark.score += 1.0);
        let bodies: Bodies = Box::new(move |index, out| {
            encode(&list[index].2, out);
            true
        });
        let (tell, told) = channel::bounded(1);
        let then = Box::new(move |saved| tell.send(saved).unwrap());
        store.save_cache(marks, 4 << 20, bodies, then);
        told.recv().unwrap().unwrap();
        fs::write(folder.join("saved"), "").unwrap();
    }
}

/// Loads all rows and holds them against what their keys say; gives how many there were.
fn check(store: &Store, keys: &HashMap<[u8; 32], Key>) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let (now, now_wall, asked_ms) = (Instant::now(), SystemTime::now(), now_ms());
        let deadline = now + Duration::from_secs(30);
        let page = store.load_cache(None, usize::MAX, after, deadline).unwrap();
        for row in &page.rows {
            let key = &keys[&row.mark.key];
            let entry = decode(key, &row.body, now, now_wall).unwrap();
            assert!(row.mark.expires > asked_ms && entry.expires > now);
            let derived = derive(key, row.mark.created);
            let expected = Entry {
                created: entry.created,
                expires: entry.created + derived.ttl(),
                ..derived
            };
            assert_eq!(entry, expected);
            count += 1;
        }
        after = page.next;
        if after.is_none() {
            return count;
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_no_wrong_answer() {
    let name = format!("victor-cache-{}-kill", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let keys = (0..NUMBERS).map(|number| (*key_of(number).as_bytes(), key_of(number)));
    let keys: HashMap<_, _> = keys.collect();
    let mut found = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "cache::codec::tests::crash::a_child_that_saves_until_it_is_killed",
            ])
            .env(CHILD_FOLDER, &folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Of every other one not even the first save comes to its end.
        let journal = folder.join("victor.db-wal");
        match kill % 2 {
            0 => until(|| fs::metadata(&journal).is_ok_and(|found| found.len() > 0)),
            _ => until(|| fs::exists(folder.join("saved")).unwrap()),
        }
        let moment = Instant::now() + Duration::from_millis(fastrand::u64(..30));
        until(|| Instant::now() >= moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = fs::remove_file(folder.join("saved"));
        let store = open(&folder);
        until(|| store.report().condition != Condition::Opening);
        assert_eq!(store.report().condition, Condition::Working);
        found += check(&store, &keys);
        store.shutdown();
    }
    assert!(found > 0);
    let file = folder.join("victor.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    assert_eq!(ask("PRAGMA integrity_check").unwrap(), "ok");
    // No row without its answer, no answer without its row.
    let orphans = "SELECT printf('%d', count(*)) FROM cache_entries AS e
         FULL JOIN cache_bodies AS b ON b.seq = e.seq WHERE e.seq IS NULL OR b.seq IS NULL";
    assert_eq!(ask(orphans).unwrap(), "0");
    drop(connection);
    let is_aside = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains("damaged");
    assert!(
        !fs::read_dir(&folder)
            .unwrap()
            .any(|it| is_aside(it.unwrap()))
    );
    fs::remove_dir_all(&folder).unwrap();
}
