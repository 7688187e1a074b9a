//! Copies of snapshots in a second repository.

use std::sync::Arc;

use dbbackup_contract::Reason;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, Store};

use super::collecting::forget;
use super::fixture::*;
use super::repacking::{collect_for_days, days};
use crate::{
    CheckLevel, Copied, CopyError, CopyOptions, CopyOutcome, Encryption, KeySource, Repository,
    copy,
};

/// A repository of another key.
async fn second(store: Arc<dyn Store>) -> Repository {
    let key = KeySource::raw("other", &[9; 32]).unwrap();
    opened(store, &Encryption::Keys(vec![key])).await.unwrap().repository
}

async fn copied(from: &Repository, to: &Repository, id: &str) -> Result<Copied, CopyError> {
    copy(from, to, id, &CopyOptions::default()).await
}

async fn assert_whole(repository: &Repository) {
    let report = repository.check(CheckLevel::Data).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_gives_back_the_same_and_says_what_it_is_of() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let clear = opened(Arc::new(MemoryStore::new()), &Encryption::None).await.unwrap().repository;
    let other = second(Arc::new(MemoryStore::new())).await;
    let original = back_up(&repository, 1, &contents(1)).await.unwrap();
    // A copy of a copy, too: from the clear one to another key.
    let (mut from, mut id) = (repository.clone(), original.id().to_string());
    for to in [clear, other] {
        let copied = copied(&from, &to, &id).await.unwrap();
        assert_eq!(copied.outcome, CopyOutcome::New);
        let (about, of) = (copied.snapshot.about(), original.about());
        assert_eq!(about.copied_from.as_ref().unwrap().snapshot, id);
        assert_eq!(about.copied_from.as_ref().unwrap().repository_id, from.id().to_string());
        assert_eq!((&about.series, about.slot_time), (&of.series, of.slot_time));
        assert_eq!((&about.kind, &about.labels), (&of.kind, &of.labels));
        assert_eq!(about.bytes.read, of.bytes.read);
        assert_eq!(copied.snapshot.report(), original.report());
        assert_eq!(copied.snapshot.streams("").await.unwrap(), original.streams("").await.unwrap());
        let found = to.find(copied.snapshot.id().as_str()).await.unwrap();
        assert_same(&restore(&found).await.unwrap(), &contents(1));
        assert_whole(&to).await;
        (from, id) = (to, found.id().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_finds_the_first() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let store = Arc::new(MemoryStore::new());
    let other = second(store.clone()).await;
    let original = back_up(&repository, 1, &contents(1)).await.unwrap();
    let first = copied(&repository, &other, original.id().as_str()).await.unwrap();
    let objects = store.objects().len();
    let again = copied(&repository, &other, original.id().as_str()).await.unwrap();
    assert_eq!(again.outcome, CopyOutcome::Already);
    assert_eq!(again.snapshot.id(), first.snapshot.id());
    assert_eq!(store.objects().len(), objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_home_as_another_snapshot_and_never_into_its_own_repository() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let other = second(Arc::new(MemoryStore::new())).await;
    let original = back_up(&repository, 1, &contents(1)).await.unwrap();
    let id = original.id().as_str();
    let refused = copied(&repository, &repository, id).await.unwrap_err();
    assert!(matches!(refused, CopyError::SameRepository(_)));
    let there = copied(&repository, &other, id).await.unwrap().snapshot;
    let home = copied(&other, &repository, there.id().as_str()).await.unwrap();
    assert_ne!(home.snapshot.id(), original.id());
    assert_same(&restore(&home.snapshot).await.unwrap(), &contents(1));
    // All of it was known there.
    assert_eq!(home.bytes.new, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_written_off_or_unknown_is_not_copied() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let store = Arc::new(MemoryStore::new());
    let other = second(store.clone()).await;
    let reason = |result: Result<Copied, CopyError>| match result.unwrap_err() {
        CopyError::Source(error) => error.reason(),
        other => panic!("{other}"),
    };
    let gone = back_up(&repository, 1, &contents(1)).await.unwrap();
    forget(&repository, gone.id()).await.unwrap();
    let result = copied(&repository, &other, gone.id().as_str()).await;
    assert_eq!(reason(result), Reason::SnapshotForgotten);
    let lost = back_up(&repository, 2, &contents(1)).await.unwrap();
    repository.write_off(lost.id(), "lost").await.unwrap();
    let result = copied(&repository, &other, lost.id().as_str()).await;
    assert_eq!(reason(result), Reason::SnapshotWrittenOff);
    assert_eq!(reason(copied(&repository, &other, "zzz").await), Reason::SnapshotNotFound);
    assert!(other.snapshots(None).await.unwrap().snapshots.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_source_commits_nothing() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let other = second(Arc::new(MemoryStore::new())).await;
    let original = back_up(&repository, 1, &contents(1)).await.unwrap();
    let pack = store.objects().into_keys().find(|name| name.starts_with("packs/")).unwrap();
    let mut object = store.get(&pack).await.unwrap().to_vec();
    object[60] ^= 1;
    store.delete(&pack).await.unwrap();
    store.create(&pack, object.into()).await.unwrap();
    let error = copied(&repository, &other, original.id().as_str()).await.unwrap_err();
    let CopyError::Source(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), Reason::RepositoryDamaged);
    assert!(other.snapshots(None).await.unwrap().snapshots.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_survives_a_crash_at_every_write_of_the_destination() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let days = [contents(1), changed(&contents(1), 2)];
    let mut originals = Vec::new();
    for (n, contents) in (1..).zip(&days) {
        originals.push(back_up(&repository, n, contents).await.unwrap().id().to_string());
    }
    for effect in [Effect::CrashBefore, Effect::CrashAfter, Effect::LostAcknowledgement] {
        for at in 1.. {
            let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            let other = second(faulty.clone()).await;
            copied(&repository, &other, &originals[0]).await.unwrap();
            faulty.fail_at(at, effect);
            let attempt = copied(&repository, &other, &originals[1]).await;
            let crashed = faulty.has_failed();
            faulty.revive();
            let other = second(faulty.clone()).await;
            let copied = copied(&repository, &other, &originals[1]).await.unwrap();
            assert_same(&restore(&copied.snapshot).await.unwrap(), &days[1]);
            assert_eq!(other.snapshots(None).await.unwrap().snapshots.len(), 2);
            if !crashed {
                attempt.unwrap();
                assert!(at > 3, "only {at} writes were tried");
                break;
            }
        }
    }
}

/// Contents of which almost all is the same on the next day.
fn large(seed: u64) -> Contents {
    let mut contents = contents(seed);
    contents.insert("large".into(), noise(seed + 50, 30_000_000));
    contents
}

/// Nothing but their tables is left of a snapshot's packs.
async fn empty_packs(store: &MemoryStore, snapshot: &crate::Snapshot) {
    for pack in snapshot.packs().await.unwrap().iter() {
        let name = pack.entry.name.pack_object();
        let mut object = store.get(&name).await.unwrap().to_vec();
        object[40..pack.entry.block_table_at as usize].fill(0);
        store.delete(&name).await.unwrap();
        store.create(&name, object.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_copy_of_the_day_before_has_is_neither_read_nor_decrypted() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let other = second(Arc::new(MemoryStore::new())).await;
    let days = [large(1), changed(&large(1), 2)];
    let first = back_up(&repository, 1, &days[0]).await.unwrap();
    let second = back_up(&repository, 2, &days[1]).await.unwrap();
    let total = second.about().bytes.read;
    let copy = copied(&repository, &other, first.id().as_str()).await.unwrap();
    assert_eq!((copy.unchanged, copy.bytes.read), (0, first.about().bytes.read));
    empty_packs(&store, &first).await;
    // A repository that knows nothing of what it has read before.
    let repository = open(store.clone()).await.unwrap();
    let copy = copied(&repository, &other, second.id().as_str()).await.unwrap();
    assert!(copy.unchanged > total / 10 * 9, "{copy:?}");
    assert_eq!(copy.bytes.read + copy.unchanged, total);
    assert_eq!(copy.snapshot.about().bytes.read, total);
    assert!(copy.bytes.new <= copy.bytes.read && copy.bytes.stored < total / 10);
    assert_same(&restore(&copy.snapshot).await.unwrap(), &days[1]);
    assert_eq!(copy.snapshot.streams("").await.unwrap(), second.streams("").await.unwrap());
    assert_whole(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_pack_of_the_older_copy_is_read_again() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let other = second(Arc::new(MemoryStore::new())).await;
    let days = [contents(1), changed(&contents(1), 2)];
    let first = back_up(&repository, 1, &days[0]).await.unwrap();
    let second = back_up(&repository, 2, &days[1]).await.unwrap();
    let old = copied(&repository, &other, first.id().as_str()).await.unwrap().snapshot;
    let names: Vec<String> =
        old.packs().await.unwrap().iter().map(|pack| pack.entry.name.last_part()).collect();
    other.inner.condemn(1, names.clone()).await.unwrap();
    let copy = copied(&repository, &other, second.id().as_str()).await.unwrap();
    assert_eq!(copy.unchanged, 0);
    for pack in copy.snapshot.packs().await.unwrap().iter() {
        assert!(!names.contains(&pack.entry.name.last_part()));
    }
    assert_same(&restore(&copy.snapshot).await.unwrap(), &days[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_be_repacked_between_two_copies() {
    let (store, there) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let repository = open(store.clone()).await.unwrap();
    let other = second(there.clone()).await;
    let days = days(&repository, 1..=5).await;
    let mut copies = Vec::new();
    for (id, _) in &days {
        let copy = copied(&repository, &other, id.as_str()).await.unwrap();
        copies.push(copy.snapshot.id().clone());
    }
    // First the one, then both.
    for (n, side) in [(6, 0), (7, 1)] {
        for (id, copy) in days.iter().map(|(id, _)| id).zip(&copies).take(3) {
            match side {
                0 => forget(&other, copy).await.unwrap(),
                _ => forget(&repository, id).await.unwrap(),
            }
        }
        let (memory, repacked) = if side == 0 { (&there, &other) } else { (&store, &repository) };
        assert!(collect_for_days(memory, repacked).await.repacked_bytes > 0);
        let contents = changed(&days[4].1, n);
        let original = back_up(&repository, n as u32, &contents).await.unwrap();
        let copy = copied(&repository, &other, original.id().as_str()).await.unwrap();
        assert_same(&restore(&copy.snapshot).await.unwrap(), &contents);
        assert!(side == 1 || copy.unchanged > 5_000_000, "{copy:?}");
        assert_whole(&other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_older_copy_or_original_only_costs_reading() {
    let (store, there) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let repository = open(store.clone()).await.unwrap();
    let other = second(there.clone()).await;
    let days = [contents(1), changed(&contents(1), 2), changed(&contents(1), 3)];
    let mut ids = Vec::new();
    for (n, contents) in (1..).zip(&days) {
        ids.push(back_up(&repository, n, contents).await.unwrap().id().clone());
    }
    copied(&repository, &other, ids[0].as_str()).await.unwrap();
    forget(&repository, &ids[0]).await.unwrap();
    let copy = copied(&repository, &other, ids[1].as_str()).await.unwrap();
    assert_eq!(copy.unchanged, 0);
    assert_same(&restore(&copy.snapshot).await.unwrap(), &days[1]);
    there.delete(&copy.snapshot.id().head_name()).await.unwrap();
    let copy = copied(&repository, &other, ids[2].as_str()).await.unwrap();
    assert_eq!(copy.unchanged, 0);
    assert_same(&restore(&copy.snapshot).await.unwrap(), &days[2]);
}
