//! Several writers at once, and the collector's first step.

use std::sync::Arc;

use dbbackup_storage::MemoryStore;
use futures::future::join_all;

use super::fixture::*;
use crate::{Begun, Error};

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_one_series_harm_each_other_in_nothing() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    back_up(&repository, 1, &contents(1)).await.unwrap();
    let days: Vec<_> = (2..6_u32).map(|n| (n, changed(&contents(1), u64::from(n)))).collect();
    let backups = days.iter().map(|(n, contents)| {
        let (repository, n, contents) = (repository.clone(), *n, contents.clone());
        tokio::spawn(async move { back_up(&repository, n, &contents).await })
    });
    for (done, (_, expected)) in join_all(backups).await.into_iter().zip(&days) {
        let snapshot = done.unwrap().unwrap();
        assert_same(&restore(&snapshot).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_one_run_at_once_lead_to_one_snapshot() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let contents = contents(1);
    let attempts = (0..6).map(|_| {
        let (repository, contents) = (repository.clone(), contents.clone());
        tokio::spawn(async move { back_up(&repository, 1, &contents).await })
    });
    let mut ids = std::collections::BTreeSet::new();
    for done in join_all(attempts).await {
        match done.unwrap() {
            Ok(snapshot) => {
                ids.insert(snapshot.id().clone());
            }
            Err(Error::Fenced(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(ids.len(), 1);
    let snapshots = repository.snapshots(None).await.unwrap().snapshots;
    assert_eq!(snapshots.len(), 1);
    assert_same(&restore(&snapshots[0]).await.unwrap(), &contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_initialisations_one_wins_and_all_open_it() {
    for _ in 0..5 {
        let store = Arc::new(MemoryStore::new());
        let tries = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { opened(store, &encrypted()).await })
        });
        let mut created = 0;
        let mut ids = std::collections::BTreeSet::new();
        for done in join_all(tries).await {
            // A loser whose own slots are not the winner's finds the winner's by the same key.
            let opened = done.unwrap().unwrap();
            created += u32::from(opened.created);
            ids.insert(opened.repository.id().to_string());
            assert_eq!(keys_of(&opened), ["main"]);
        }
        assert_eq!((created, ids.len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_pack_is_absent_for_a_new_backup_unless_it_was_pardoned() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let contents = Contents::from([("a".into(), noise(1, 3_000_000))]);
    let first = back_up(&repository, 1, &contents).await.unwrap();
    let pack = first.packs().await.unwrap()[0].entry.name.clone();
    repository.inner.condemn(7, vec![pack.last_part()]).await.unwrap();

    let writer = begin(&repository, 2).await.unwrap();
    assert_eq!(write(&writer, "a", &contents["a"]).await.unwrap(), 3_000_000);
    let second = writer.commit(commit_info()).await.unwrap();
    assert!(second.packs().await.unwrap().iter().all(|used| used.entry.name != pack));

    // The collector deletes it now: the new snapshot does not need it.
    dbbackup_storage::Store::delete(&*store, &pack.pack_object()).await.unwrap();
    assert_same(&restore(&second).await.unwrap(), &contents);

    let kept = second.packs().await.unwrap()[0].entry.name.clone();
    repository.inner.condemn(8, vec![kept.last_part()]).await.unwrap();
    repository.inner.pardon(8, vec![kept.last_part()]).await.unwrap();
    let writer = begin(&repository, 3).await.unwrap();
    assert_eq!(write(&writer, "a", &contents["a"]).await.unwrap(), 0);
    writer.commit(commit_info()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backup_begins_while_a_condemn_cannot_be_read() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    store.overwrite("condemned/1", "not sealed".into());
    let error = repository.begin(session(1)).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn sessions_beat_while_they_are_open_and_readers_say_when_they_end() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let Begun::Started(writer) = repository.begin(session(1)).await.unwrap() else { panic!() };
    let reader = repository.begin_reading().await.unwrap();
    let beats = || store.objects().keys().filter(|name| name.starts_with("beats/")).count();
    assert_eq!(beats(), 0);
    tokio::time::sleep(crate::session::BEAT_INTERVAL * 3 + std::time::Duration::from_secs(5)).await;
    assert_eq!(beats(), 6);
    reader.end().await.unwrap();
    assert_eq!(beats(), 7);
    drop(writer);
    let sessions = store.objects().keys().filter(|name| name.starts_with("sessions/")).count();
    assert_eq!(sessions, 2, "nobody but the collector removes sessions");
}
