//! The table of cached answers: what is saved, loaded and cleared. What goes wrong is in
//! `cache/faults.rs`.

mod faults;

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::store::cache as table;

/// Far more than any of it needs.
const MAX: u64 = 1 << 30;
/// When the tests' clock starts.
const NOW: u64 = 1_000_000;

fn mark(number: u32, score: f64) -> CacheMark {
    let mut key = [0; 32];
    // Not in the order of the numbers.
    key[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
    key[28..].copy_from_slice(&number.to_be_bytes());
    CacheMark {
        key,
        coordinator: if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        }
        .into(),
        created: NOW - 1,
        expires: NOW + 60_000,
        score,
    }
}

fn marks(numbers: std::ops::Range<u32>) -> Vec<CacheMark> {
    let score = |number: u32| f64::from(1_000_000 - number);
    numbers.map(|number| mark(number, score(number))).collect()
}

/// What is stored under it: some bytes, which are its key's and its time's alone.
fn body(mark: &CacheMark, bytes: usize) -> Vec<u8> {
    let mut seed = mark.key.to_vec();
    seed.extend(mark.created.to_le_bytes());
    seed.into_iter().cycle().take(bytes).collect()
}

/// Saves with answers of `bytes` each; gives the numbers that were asked for as well.
fn save_sized(
    store: &Store,
    marks: &[CacheMark],
    bytes_max: u64,
    bytes: impl Fn(usize) -> usize + Send + 'static,
) -> (Result<CacheSaved, StoreError>, usize) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (all, count) = (marks.to_vec(), Arc::clone(&asked));
    let bodies: Bodies = Box::new(move |number, out| {
        count.fetch_add(1, Ordering::SeqCst);
        out.extend(body(&all[number], bytes(number)));
        true
    });
    let saved = ask(|then| store.save_cache(marks.to_vec(), bytes_max, bodies, then));
    (saved, asked.load(Ordering::SeqCst))
}

fn save(store: &Store, marks: &[CacheMark]) -> CacheSaved {
    save_sized(store, marks, MAX, |_| 100).0.unwrap()
}

fn load(store: &Store, coordinator: Option<&str>, items: usize) -> Vec<CacheRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let left = items - rows.len();
        let page = store.load_cache(coordinator, left, after, later()).unwrap();
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() || rows.len() == items {
            return rows;
        }
    }
}

/// What the table holds, the answers checked.
fn held(store: &Store) -> Vec<CacheMark> {
    let rows = load(store, None, usize::MAX);
    for row in &rows {
        assert_eq!(row.body, body(&row.mark, row.body.len()));
    }
    assert_eq!(read(&store.stats().cache_entries), rows.len() as u64);
    rows.into_iter().map(|row| row.mark).collect()
}

#[test]
fn what_is_saved_is_loaded_by_score_and_only_what_lacks_is_written() {
    let folder = Folder::new("cache");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    assert_eq!(held(&store), []);
    let first = marks(0..1_000);
    let (saved, asked) = save_sized(&store, &first, MAX, |number| number);
    let written = CacheSaved {
        written: 1_000,
        ..CacheSaved::default()
    };
    assert_eq!((saved, asked), (Ok(written), 1_000));
    assert_eq!(held(&store), first);
    store.shutdown();

    let store = setup.open(&folder.file());
    assert_eq!(held(&store), first);
    // Another list: some go, some come, one was answered anew, and all scores are turned round.
    let mut second = marks(100..1_010);
    second[7].created += 1;
    for mark in &mut second {
        mark.score = 1.0 / mark.score;
    }
    second.reverse();
    let (saved, asked) = save_sized(&store, &second, MAX, |_| 50);
    let changed = CacheSaved {
        held: 899,
        written: 11,
        removed: 101,
        left_out: 0,
    };
    assert_eq!((saved, asked), (Ok(changed), 11));
    assert_eq!(held(&store), second);
    let odd: Vec<_> = second
        .iter()
        .filter(|it| &*it.coordinator == "odd")
        .collect();
    let found = load(&store, Some("odd"), 300);
    assert_eq!(found.len(), 300);
    assert!(found.iter().zip(odd).all(|(row, mark)| row.mark == *mark));
    assert_eq!(load(&store, Some("none"), 300), []);
    assert_eq!(load(&store, None, 0), []);
    // A save of nothing empties the table.
    assert_eq!(save(&store, &[]).removed, 910);
    assert_eq!(held(&store), []);
    assert_eq!(read(&store.stats().cache_bytes), 0);
}

#[test]
fn equal_and_odd_scores_lose_no_row_and_a_key_is_there_once() {
    let folder = Folder::new("cache-odd");
    let store = Setup::default().open(&folder.file());
    let mut list = marks(0..2_500);
    for (number, mark) in list.iter_mut().enumerate() {
        mark.score = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY][number % 4];
    }
    let mut twice = list[0].clone();
    twice.created += 5;
    list.push(twice);
    let saved = save(&store, &list);
    assert_eq!((saved.written, saved.left_out), (2_500, 0));
    let mut found = held(&store);
    assert_eq!(found.len(), 2_500);
    assert!(found[..625].iter().all(|mark| mark.score == 1.0));
    assert!(found[625..].iter().all(|mark| mark.score == 0.0));
    assert!(found.contains(&list[0]));
    found.sort_by_key(|mark| mark.key);
    found.dedup_by_key(|mark| mark.key);
    assert_eq!(found.len(), 2_500);
    assert_eq!(save(&store, &list).held, 2_500);
}

#[test]
fn a_page_is_bounded_in_bytes_and_one_that_is_larger_stands_alone() {
    let folder = Folder::new("cache-pages");
    let store = Setup::default().open(&folder.file());
    let list = marks(0..5);
    let sizes = [3 << 20, 3 << 20, 3 << 20, 12 << 20, 17 << 20];
    let (saved, _) = save_sized(&store, &list, MAX, move |number| sizes[number]);
    let saved = saved.unwrap();
    assert_eq!((saved.written, saved.left_out), (4, 1), "one is too large");
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.load_cache(None, 100, after, later()).unwrap();
        pages.push(page.rows.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 1, 1]);
    assert_eq!(held(&store), list[..4]);
}

#[test]
fn what_has_expired_is_not_loaded_not_saved_and_goes() {
    let folder = Folder::new("cache-ttl");
    let setup = Setup::default();
    let store = setup.open(&folder.file());
    let mut list = marks(0..600);
    for mark in &mut list[300..] {
        mark.expires = NOW + 1_000;
    }
    list[0].expires = NOW;
    let saved = save(&store, &list);
    assert_eq!((saved.written, saved.left_out), (599, 1));
    setup.pass(1_000);
    let found = load(&store, None, usize::MAX);
    assert_eq!(found.len(), 299, "not even before a purge");
    // Any other write takes some along, and the rest follows by itself.
    store.keep(kept("a", None)).unwrap();
    let deadline = later();
    while read(&store.stats().cache_entries) > 299 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(held(&store), list[1..300]);
    setup.pass(60_000);
    let saved = save(&store, &list);
    assert_eq!((saved.held, saved.written), (0, 0));
    assert_eq!(saved.left_out, 600);
    assert_eq!(held(&store), []);
}

#[test]
fn the_most_valuable_fit_into_the_bound_whatever_was_there() {
    let folder = Folder::new("cache-bound");
    let store = Setup::default().open(&folder.file());
    let row = |mark: &CacheMark| table::bytes(mark, 1_000);
    let bound = |marks: &[CacheMark]| marks.iter().map(row).sum::<u64>();
    let list = marks(0..1_000);
    let save = |marks: &[CacheMark], bytes_max| save_sized(&store, marks, bytes_max, |_| 1_000);
    let (saved, asked) = save(&list, bound(&list[..600]));
    let saved = saved.unwrap();
    assert_eq!((saved.written, saved.left_out), (600, 400));
    assert!(asked <= 601, "{asked}");
    assert_eq!(held(&store), list[..600]);
    // Better ones come, and the least valuable make room.
    let better = [mark(5_001, 3e6), mark(5_003, 2e6)];
    let both = [&better[..], &list].concat();
    let saved = save(&both, bound(&list[..600])).0.unwrap();
    assert_eq!((saved.held, saved.written, saved.removed), (600, 2, 2));
    assert_eq!(held(&store), both[..600]);
    // The bound is lowered, to nothing at last.
    let saved = save(&both, bound(&both[..50])).0.unwrap();
    assert_eq!((saved.written, saved.removed), (0, 550));
    assert_eq!(held(&store), both[..50]);
    assert!(read(&store.stats().cache_bytes) <= bound(&both[..50]));
    save(&both, 0).0.unwrap();
    assert_eq!(held(&store), []);
}

#[test]
fn clearing_is_of_one_coordinator_or_of_all_and_ends_a_save() {
    let folder = Folder::new("cache-clear");
    let store = Setup::default().open(&folder.file());
    let list = marks(0..1_000);
    save(&store, &list);
    store.keep(kept("a", None)).unwrap();
    assert_eq!(store.clear_cache(Some("even"), later()), Ok(500));
    assert_eq!(store.clear_cache(Some("none"), later()), Ok(0));
    assert!(held(&store).iter().all(|mark| &*mark.coordinator == "odd"));
    assert_eq!(store.clear_cache(None, later()), Ok(500));
    assert_eq!(held(&store), []);
    assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
    // Of three at once, the clear undoes the first save and the last one holds.
    let go = hold(&store);
    let saved = Arc::new(Mutex::new("test.saved", Vec::new()));
    let queue = |marks: &[CacheMark]| {
        let saved = Arc::clone(&saved);
        let bodies: Bodies = Box::new(|_, _| true);
        let then = Box::new(move |it: Result<_, _>| saved.lock().push(it.map(drop)));
        store.save_cache(marks.to_vec(), MAX, bodies, then);
    };
    queue(&list);
    let cleared = std::thread::scope(|scope| {
        let clear = scope.spawn(|| store.clear_cache(None, later()));
        while store.queue_depth() < 2 {
            std::thread::yield_now();
        }
        queue(&list[..3]);
        queue(&list[..2]);
        drop(go);
        clear.join().unwrap()
    });
    assert_eq!(cleared, Ok(0));
    let deadline = later();
    while saved.lock().len() < 3 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let superseded = Err(StoreError::Superseded);
    assert_eq!(*saved.lock(), [superseded, superseded, Ok(())]);
    assert_eq!(load(&store, None, 9).len(), 2);
}

#[test]
fn a_save_lets_others_pass_and_does_not_hold_up_the_end() {
    let folder = Folder::new("cache-steps");
    let store = Setup::default().open(&folder.file());
    let list = marks(0..100_000);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let bodies: Bodies = Box::new(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        true
    });
    let (tell, told) = channel::bounded(1);
    let then = Box::new(move |saved| tell.send(saved).unwrap());
    store.save_cache(list, MAX, bodies, then);
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    store.keep(kept("a", None)).unwrap();
    let mut between = usize::MAX;
    for _ in 0..10 {
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(ids(&store, "a", &MINE).unwrap(), ["a"]);
        between = between.min(asked.load(Ordering::SeqCst) - before);
    }
    assert!(between <= 10 * table::CHUNK_ROWS, "{between}");
    assert!(told.is_empty());
    store.shutdown();
    assert_eq!(told.recv(), Ok(Err(StoreError::Closed)));
    let saved = ask(|then| store.save_cache(vec![], MAX, Box::new(|_, _| true), then));
    assert_eq!(saved, Err(StoreError::Closed));
    assert_eq!(read(&store.stats().writes_dropped), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each round has a list of its own and perhaps a bound; the table is always what a list of all
    /// that is known would give.
    #[test]
    fn the_table_is_what_the_last_list_says(
        rounds in prop::collection::vec(
            (prop::collection::btree_map(0_u32..60, (0_u64..3, 0_u32..1_000), 0..60), 0_u64..40),
            1..5,
        ),
    ) {
        let folder = Folder::new("cache-property");
        let store = Setup::default().open(&folder.file());
        for (list, room) in rounds {
            let mut list: Vec<CacheMark> = list
                .into_iter()
                // All scores differ, so that there is one answer only.
                .map(|(number, (created, score))| CacheMark {
                    created,
                    coordinator: "same".into(),
                    ..mark(number, f64::from(score * 100 + number))
                })
                .collect();
            list.sort_by(|one, other| other.score.total_cmp(&one.score));
            let bytes_max = room * table::bytes(&mark(0, 0.0), 10);
            let saved = save_sized(&store, &list, bytes_max, |_| 10).0.unwrap();
            list.truncate(room as usize);
            prop_assert_eq!(held(&store), list, "{:?}", saved);
        }
    }
}
