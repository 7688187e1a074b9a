//! Nights that took only a part, and snapshots that were damaged since: streams
//! are known from the newest snapshot that holds them.

use std::sync::Arc;

use dbbackup_storage::{FaultyStore, MemoryStore, Store};

use super::fixture::*;
use crate::{Encryption, Repository, Snapshot};

const SIZE: usize = 3_000_000;

fn two_databases() -> Contents {
    Contents::from([("a".into(), noise(1, SIZE)), ("b".into(), noise(2, SIZE))])
}

fn only(name: &str) -> Contents {
    two_databases().into_iter().filter(|(found, _)| found == name).collect()
}

fn ciphers() -> [Encryption; 2] {
    [encrypted(), Encryption::None]
}

/// New bytes of each stream on day `n`, what was passed over, and the snapshot.
async fn added(repository: &Repository, n: u32) -> (Vec<u64>, u64, Snapshot) {
    let writer = begin(repository, n).await.unwrap();
    let mut new = Vec::new();
    for (name, content) in two_databases() {
        new.push(write(&writer, &name, &content).await.unwrap());
    }
    let passed_over = writer.passed_over();
    let snapshot = writer.commit(commit_info()).await.unwrap();
    assert_same(&restore(&snapshot).await.unwrap(), &two_databases());
    (new, passed_over, snapshot)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_newest_snapshot_lacks_is_known_from_an_older_one() {
    for encryption in ciphers() {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let repository = opened(faulty.clone(), &encryption).await.unwrap().repository;
        let first = back_up(&repository, 1, &two_databases()).await.unwrap();
        for day in 2..6 {
            back_up(&repository, day, &only("a")).await.unwrap();
        }
        let before = faulty.counts();
        let (new, passed_over, snapshot) = added(&repository, 6).await;
        assert_eq!((new, passed_over), (vec![0, 0], 0));
        assert!(faulty.counts().gets - before.gets >= 4, "older heads are read for b");
        // The head names the newest one, and both nights' packs stand in its table.
        assert_eq!(snapshot.about().sequence, 6);
        let named = snapshot.about().predecessor.clone().unwrap();
        assert_ne!(named.id, first.id().to_string());
        // Nothing but the session and the head is written.
        assert_eq!(faulty.counts().creates - before.creates, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_snapshots_are_read_only_for_streams_that_the_newest_lacks() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    for day in 1..6 {
        back_up(&repository, day, &two_databases()).await.unwrap();
    }
    let before = faulty.counts();
    let writer = begin(&repository, 6).await.unwrap();
    write(&writer, "a", &noise(1, SIZE)).await.unwrap();
    write(&writer, "b", &noise(2, SIZE)).await.unwrap();
    let after = faulty.counts();
    // The place of this run's head, and its decisions twice; one head, its
    // decisions, and whether it was written off.
    assert_eq!(after.gets - before.gets, 6);
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_look_back_is_bounded() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    back_up(&repository, 1, &two_databases()).await.unwrap();
    for day in 2..10 {
        back_up(&repository, day, &only("a")).await.unwrap();
    }
    let (new, _, _) = added(&repository, 10).await;
    assert_eq!(new[0], 0);
    assert!(new[1] > 0, "the ninth snapshot before is not looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_newest_head_costs_nothing_but_a_warning() {
    for encryption in ciphers() {
        let store = Arc::new(MemoryStore::new());
        let repository = opened(store.clone(), &encryption).await.unwrap().repository;
        let first = back_up(&repository, 1, &two_databases()).await.unwrap();
        let newest = back_up(&repository, 2, &two_databases()).await.unwrap();
        store.overwrite(&newest.id().head_name(), "cut".into());
        let (new, passed_over, snapshot) = added(&repository, 3).await;
        assert_eq!((new, passed_over), (vec![0, 0], 1));
        let named = snapshot.about().predecessor.clone().unwrap();
        assert_eq!(named.id, first.id().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_older_recipe_makes_the_stream_a_full_one_and_is_counted() {
    for encryption in ciphers() {
        let store = Arc::new(MemoryStore::new());
        let repository = opened(store.clone(), &encryption).await.unwrap().repository;
        let writer = begin(&repository, 1).await.unwrap();
        writer.leave_no_room_in_the_head();
        write(&writer, "b", &noise(2, SIZE)).await.unwrap();
        let first = writer.commit(commit_info()).await.unwrap();
        back_up(&repository, 2, &only("a")).await.unwrap();
        for meta in first.metas() {
            store.delete(&meta.name.meta_object()).await.unwrap();
        }
        // Its packs are there, and hooks lead to most of them.
        let (new, passed_over, _) = added(&repository, 3).await;
        assert_eq!((new[0], passed_over), (0, 1));
        assert!(new[1] < SIZE as u64, "{} bytes", new[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_gone_costs_its_own_chunks_alone() {
    for encryption in ciphers() {
        let store = Arc::new(MemoryStore::new());
        let repository = opened(store.clone(), &encryption).await.unwrap().repository;
        let long = Contents::from([("a".into(), noise(1, 60_000_000))]);
        let first = back_up(&repository, 1, &long).await.unwrap();
        let packs = first.packs().await.unwrap();
        assert!(packs.len() >= 3);
        store.delete(&packs[1].entry.name.pack_object()).await.unwrap();
        let writer = begin(&repository, 2).await.unwrap();
        let new = write(&writer, "a", &long["a"]).await.unwrap();
        assert!(new <= u64::from(packs[1].entry.size), "{new} bytes");
        // The walk along the recipe misses it, and so does the search by hooks.
        assert_eq!(writer.passed_over(), 2);
        let second = writer.commit(commit_info()).await.unwrap();
        assert_same(&restore(&second).await.unwrap(), &long);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_pack_of_an_older_snapshot_is_absent_too() {
    for pardoned in [false, true] {
        let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
        let first = back_up(&repository, 1, &only("b")).await.unwrap();
        back_up(&repository, 2, &only("a")).await.unwrap();
        let pack = first.packs().await.unwrap()[0].entry.name.clone();
        repository.inner.condemn(1, vec![pack.last_part()]).await.unwrap();
        if pardoned {
            repository.inner.pardon(1, vec![pack.last_part()]).await.unwrap();
        }
        let (new, passed_over, snapshot) = added(&repository, 3).await;
        let expected = if pardoned { 0 } else { SIZE as u64 };
        assert_eq!((new, passed_over), (vec![0, expected], 0));
        let packs = snapshot.packs().await.unwrap();
        assert_eq!(packs.iter().any(|used| used.entry.name == pack), pardoned);
    }
}
