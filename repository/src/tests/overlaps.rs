//! Lives in which what a rule is for happens all at once. By chance (the simulation) they
//! come once in more lives than can be tried.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_storage::MemoryStore;

use super::collecting::{DAY, forget};
use super::fixture::*;
use super::repacking::{Day, repacked, rows};
use crate::{CollectOptions, Repository, Snapshot};

/// A backup that began when packs had been moved and were gone, and ends when all that told
/// where they went is gone, too: the snapshots that named them, and then the repacking.
async fn across_the_end_of_a_repacking(store: &Arc<MemoryStore>) -> (Repository, Snapshot) {
    let (repository, named): (_, Vec<Day>) = repacked(store).await;
    let writer = begin(&repository, 6).await.unwrap();
    for (name, content) in &rows(5) {
        assert_eq!(write(&writer, name, content).await.unwrap(), 0, "{name} is stored anew");
    }
    for (id, _) in &named {
        forget(&repository, id).await.unwrap();
    }
    // The hour is not over after which the writer would be taken for dead.
    for _ in 0..3 {
        store.age(Duration::from_secs(1100));
        let report = repository.collect(&CollectOptions::default()).await.unwrap();
        assert_eq!(report.deleted_objects, 0, "the writer uses them: {report:?}");
    }
    let heads = store.objects().keys().filter(|name| name.starts_with("snapshots/")).count();
    assert_eq!(heads, 0, "a repacking stays though nobody asks for what it moved");
    let snapshot = writer.commit(commit_info()).await.unwrap();
    (repository, snapshot)
}

#[tokio::test]
async fn a_backup_across_the_end_of_a_repacking_names_the_new_packs() {
    let store = Arc::new(MemoryStore::new());
    let (repository, snapshot) = across_the_end_of_a_repacking(&store).await;
    for _ in 0..5 {
        store.age(DAY);
        repository.collect(&CollectOptions::default()).await.unwrap();
    }
    // By somebody who remembers nothing.
    let fresh = open(store.clone()).await.unwrap();
    let snapshot = fresh.find(snapshot.id().as_str()).await.unwrap();
    assert_same(&restore(&snapshot).await.unwrap(), &rows(5));
}
