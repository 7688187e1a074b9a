//! Locks that have to last, in a store that locks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dbbackup_storage::MemoryStore;

use super::fixture::*;
use crate::{CollectOptions, ForgetReason};

const LOCK: Duration = Duration::from_secs(10 * 24 * 3600);

/// Names of what is locked for more than half of the time yet.
fn locked(store: &MemoryStore) -> BTreeSet<String> {
    let long = |name: &String| store.locked_for(name).is_some_and(|left| left > LOCK / 2);
    store.objects().into_keys().filter(long).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_extends_the_locks_of_all_that_snapshots_need_and_of_nothing_else() {
    let store = Arc::new(MemoryStore::locking(LOCK));
    let repository = open(store.clone()).await.unwrap();
    let rows = |seed| Contents::from([("rows".into(), noise(seed, 300_000))]);
    let gone = back_up(&repository, 1, &rows(1)).await.unwrap();
    let kept = back_up(&repository, 2, &rows(2)).await.unwrap();
    repository.forget(gone.id(), ForgetReason::Retention, "no rule keeps it").await.unwrap();
    let log = repository.log_id("3f6c/shop/nightly", "7");
    let mut archive = repository.append_to_log(&log).await.unwrap();
    archive.append(serde_json::json!({}), b"log", None).await.unwrap();
    let collect = CollectOptions::default();

    // Somebody else's, which no request of ours can name.
    store.overwrite("config/A.b", Bytes::from_static(b"1"));
    store.overwrite("packs/README", Bytes::from_static(b"1"));

    // A third of the time: nobody is asked.
    store.age(LOCK / 3);
    assert_eq!(repository.collect(&collect).await.unwrap().extended_locks, 0);
    store.age(LOCK / 3);
    let dry = CollectOptions { dry_run: true, ..CollectOptions::default() };
    assert_eq!(repository.collect(&dry).await.unwrap().extended_locks, 0);
    let extended = repository.collect(&collect).await.unwrap().extended_locks;
    let locked = locked(&store);
    let folders = ["config/", "keys/", "logs/", "meta/", "packs/", "snapshots/"];
    let of_ours = |name: &&String| folders.iter().any(|folder| name.starts_with(folder));
    let now = locked.iter().filter(of_ours).collect::<Vec<_>>();
    assert_eq!(extended, now.len() as u64, "{now:?}");
    for name in store.objects().keys().filter(of_ours).filter(|name| !name.contains(['A', 'R'])) {
        // What the snapshot that was let go had alone may go.
        assert_eq!(locked.contains(name), !name.contains(gone.id().as_str()), "{name}");
    }
    assert!(locked.contains(&format!("snapshots/{}", kept.id())));
    // Again only when half of it is over.
    assert_eq!(repository.collect(&collect).await.unwrap().extended_locks, 0);
    assert_same(&restore(&kept).await.unwrap(), &rows(2));
}
