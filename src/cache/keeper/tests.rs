//! What is saved, where a clear comes in between.

use super::*;
use crate::cache::tests::{config, entry};
use crate::config::checked::{Database, EvictionPolicy};

#[test]
fn what_was_cleared_since_the_list_was_made_is_not_saved() {
    let folder = std::env::temp_dir().join(format!("victor-keeper-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = Store::open(&Database {
        path: folder.join("victor.db"),
        log_queries: false,
        responses_ttl: Duration::from_secs(60),
        responses_max_bytes: 1 << 20,
    })
    .unwrap();
    let config = checked::Cache {
        warm_items: 100,
        snapshot_interval: Duration::from_secs(3600),
        ..config(1 << 20, EvictionPolicy::Lru)
    };
    let cache = Arc::new(Cache::new(&config, Instant::now()));
    let keeper = Keeper::start(&cache, &store, &config, Vec::new(), Box::new(|| ())).unwrap();
    let insert = || {
        let now = Instant::now();
        let new = entry(Key::from_bytes([1; 32]), 100, now, Duration::from_secs(60));
        // From the wall clock's begin on it would be too old to be stored.
        let new = Entry {
            created_at: SystemTime::now(),
            ..Entry::clone(&new)
        };
        let _ = cache.insert(Arc::new(new), cache.owner("a"), now);
    };
    let stored = || {
        let deadline = Instant::now() + STORE_WAIT_MAX;
        let page = store.load_cache(None, usize::MAX, None, deadline);
        page.unwrap().rows.len()
    };

    insert();
    keeper.save().recv().unwrap();
    assert_eq!(stored(), 1);

    let (marks, bodies) = keeper.list();
    keeper.clear(None, &mut || _ = cache.clear()).unwrap();
    assert_eq!(stored(), 0);
    keeper.submit(marks, bodies).recv().unwrap();
    assert_eq!(stored(), 0);
    // The next one is made although nothing was asked for since.
    assert_eq!(keeper.used.load(Ordering::Relaxed), UNSAVED);

    insert();
    keeper.save().recv().unwrap();
    assert_eq!(stored(), 1);
    keeper.stop();
    let _ = std::fs::remove_dir_all(folder);
}
