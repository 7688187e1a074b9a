//! Blocks in use are moved out of packs of which little is used.

use std::sync::Arc;

use dbbackup_storage::{Effect, FaultyStore, MemoryStore, Store};

use super::collecting::{DAY, assert_restores, forget, packs};
use super::fixture::*;
use crate::{CheckLevel, CollectOptions, CollectReport, RepackOptions, Repository, SnapshotId};

pub(super) type Day = (SnapshotId, Contents);

/// Repacks whatever there is to gain.
pub(super) fn eager() -> CollectOptions {
    let repack = RepackOptions { unused_percent: 5, merge_from: 2, ..RepackOptions::default() };
    CollectOptions { repack: Some(repack), ..CollectOptions::default() }
}

pub(super) async fn collect_for_days(
    store: &MemoryStore,
    repository: &Repository,
) -> CollectReport {
    let mut sum = CollectReport::default();
    for _ in 0..8 {
        store.age(DAY);
        let report = repository.collect(&eager()).await.unwrap();
        sum.repacked_bytes += report.repacked_bytes;
        sum.deleted_bytes += report.deleted_bytes;
    }
    sum
}

/// Day `n`: some of it as it was on the first, some of each day since.
pub(super) fn rows(n: u32) -> Contents {
    let mut rows = noise(1, 6_000_000);
    for day in 2..=n as usize {
        let at = (day - 1) % 6 * 900_000;
        rows[at..at + 600_000].copy_from_slice(&noise(day as u64, 600_000));
    }
    Contents::from([("rows".into(), rows), ("fresh".into(), noise(900 + u64::from(n), 500_000))])
}

pub(super) async fn days(
    repository: &Repository,
    numbers: std::ops::RangeInclusive<u32>,
) -> Vec<Day> {
    let mut days = Vec::new();
    for n in numbers {
        let snapshot = back_up(repository, n, &rows(n)).await.unwrap();
        days.push((snapshot.id().clone(), rows(n)));
    }
    days
}

fn stored(store: &MemoryStore) -> usize {
    let objects = store.objects();
    let packs = objects.iter().filter(|(name, _)| name.starts_with("packs/"));
    packs.map(|(_, object)| object.len()).sum()
}

async fn assert_whole(repository: &Repository, days: &[Day]) {
    assert_restores(repository, days).await;
    for snapshot in repository.snapshots(None).await.unwrap().snapshots {
        snapshot.verify_manifest().await.unwrap();
    }
    for level in [CheckLevel::Structure, CheckLevel::Footers, CheckLevel::Data] {
        let report = repository.check(level).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.snapshots, days.len() as u64);
    }
}

/// Days 1 to 5, of which the first three were let go, repacked.
pub(super) async fn repacked(store: &Arc<MemoryStore>) -> (Repository, Vec<Day>) {
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=5).await;
    for (id, _) in &days[..3] {
        forget(&repository, id).await.unwrap();
    }
    let report = collect_for_days(store, &repository).await;
    assert!(report.repacked_bytes > 6_000_000, "{report:?}");
    (repository, days[3..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_is_freed_and_everything_else_is_there() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    // 6.5 MB of the last day, and the half megabyte that the day before has alone,
    // beside its rows that changed.
    assert!(stored(&store) < 8_100_000, "{}", stored(&store));
    assert_eq!(packs(&store), 1);
    assert_whole(&repository, &kept).await;
    // Who comes anew finds it all, too.
    assert_whole(&open(store.clone()).await.unwrap(), &kept).await;
    // Nothing is left to do.
    assert_eq!(collect_for_days(&store, &repository).await, CollectReport::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_backup_finds_what_was_moved() {
    let store = Arc::new(MemoryStore::new());
    let (repository, mut kept) = repacked(&store).await;
    let again = back_up(&repository, 6, &rows(5)).await.unwrap();
    assert_eq!(again.about().bytes.new, 0);
    kept.push((again.id().clone(), rows(5)));
    assert_whole(&repository, &kept).await;
    // It names the new packs alone: they stay when the repacking is not needed any more.
    for (id, _) in &kept[..2] {
        forget(&repository, id).await.unwrap();
    }
    for _ in 0..6 {
        store.age(DAY);
        repository.collect(&CollectOptions::default()).await.unwrap();
    }
    assert_whole(&repository, &kept[2..]).await;
    assert_eq!(repository.inner.read_moves().await.unwrap().len(), 0);
    let heads = store.objects().keys().filter(|name| name.starts_with("snapshots/")).count();
    assert_eq!(heads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_moved_again() {
    let store = Arc::new(MemoryStore::new());
    let (repository, mut kept) = repacked(&store).await;
    for n in 6..=9 {
        // One names the moved blocks where they are, the older ones where they were.
        kept.extend(days(&repository, n..=n).await);
        let oldest = kept.remove(0);
        forget(&repository, &oldest.0).await.unwrap();
        collect_for_days(&store, &repository).await;
        assert_whole(&repository, &kept).await;
        assert!(stored(&store) < 8_500_000, "{}", stored(&store));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_not_disturbed_when_blocks_are_moved_under_its_hands() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=5).await;
    for (id, _) in &days[..3] {
        forget(&repository, id).await.unwrap();
    }
    let snapshot = repository.find(days[4].0.as_str()).await.unwrap();
    let mut stream = snapshot.stream("rows").await.unwrap();
    let mut content = stream.next().await.unwrap().unwrap().to_vec();
    let other = open(store.clone()).await.unwrap();
    assert!(collect_for_days(&store, &other).await.deleted_bytes > 6_000_000);
    while let Some(bytes) = stream.next().await.unwrap() {
        content.extend_from_slice(&bytes);
    }
    assert!(content == days[4].1["rows"]);
    assert_same(&restore(&snapshot).await.unwrap(), &days[4].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_moved_blocks_is_told_of_the_snapshots_that_use_them() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    let objects = store.objects();
    let (name, pack) = objects.iter().find(|(name, _)| name.starts_with("packs/")).unwrap();
    let mut flipped = pack.to_vec();
    flipped[1000] ^= 1;
    store.overwrite(name, flipped.into());
    let report = repository.check(CheckLevel::Data).await.unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(!report.problems[0].touched.is_empty());
    store.delete(name).await.unwrap();
    for level in [CheckLevel::Structure, CheckLevel::Footers, CheckLevel::Data] {
        let report = repository.check(level).await.unwrap();
        let touched: std::collections::BTreeSet<_> = report
            .problems
            .iter()
            .flat_map(|p| p.touched.iter().map(|t| t.snapshot.clone()))
            .collect();
        assert_eq!(touched, kept.iter().map(|(id, _)| id.clone()).collect(), "{level:?}");
    }
    let fresh = open(store.clone()).await.unwrap();
    let snapshot = fresh.find(kept[0].0.as_str()).await.unwrap();
    assert_eq!(snapshot.verify_manifest().await.unwrap_err().reason().as_str(), "ObjectMissing");
    assert_eq!(restore(&snapshot).await.unwrap_err().reason().as_str(), "ObjectMissing");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_repackings_head_what_it_moved_is_missing_and_nothing_is_deleted() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    let ours: Vec<_> = kept.iter().map(|(id, _)| id.head_name()).collect();
    let is_repacking =
        |name: &str| name.starts_with("snapshots/") && !ours.iter().any(|head| head == name);
    let name = store.objects().into_keys().find(|name| is_repacking(name)).unwrap();
    let whole = store.objects()[&name].clone();
    let mut flipped = whole.to_vec();
    flipped[200] ^= 1;
    for (damaged, stops) in [
        (None, "SnapshotsMissing"),
        (Some(flipped), "RepositoryDamaged"),
        (Some(whole[..whole.len() / 2].to_vec()), "RepositoryDamaged"),
        (Some([&whole[..], b"more"].concat()), "RepositoryDamaged"),
    ] {
        match damaged {
            Some(bytes) => store.overwrite(&name, bytes.into()),
            None => store.delete(&name).await.unwrap(),
        }
        let fresh = open(store.clone()).await.unwrap();
        for (id, _) in &kept {
            let snapshot = fresh.find(id.as_str()).await.unwrap();
            assert_eq!(restore(&snapshot).await.unwrap_err().reason().as_str(), "ObjectMissing");
        }
        let report = fresh.check(CheckLevel::Structure).await.unwrap();
        let touched = report.problems.iter().flat_map(|problem| &problem.touched);
        let touched: std::collections::BTreeSet<_> = touched.map(|t| t.snapshot.clone()).collect();
        assert!(kept.iter().all(|(id, _)| touched.contains(id)), "{:?}", report.problems);
        let before = packs(&store);
        store.age(DAY);
        let stopped = fresh.collect(&eager()).await.unwrap_err();
        assert_eq!(stopped.reason().as_str(), stops);
        assert_eq!(packs(&store), before);
        store.overwrite(&name, whole.clone());
    }
    assert_whole(&repository, &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_gone_is_written_off_and_maintenance_goes_on() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    let heads: Vec<_> =
        store.objects().into_keys().filter(|name| name.starts_with("snapshots/")).collect();
    // The last one of the series, and the repacking that the other one needs.
    assert_eq!(heads.len(), 3);
    for name in heads.iter().filter(|name| **name != kept[0].0.head_name()) {
        store.delete(name).await.unwrap();
    }
    store.age(DAY);
    assert_eq!(
        repository.collect(&eager()).await.unwrap_err().reason().as_str(),
        "SnapshotsMissing"
    );
    let report = repository.check(CheckLevel::Structure).await.unwrap();
    let lost = |all: bool| -> std::collections::BTreeSet<_> {
        let touched = report.problems.iter().flat_map(|problem| &problem.touched);
        touched.filter(|touched| touched.all == all).map(|t| t.snapshot.clone()).collect()
    };
    assert_eq!(lost(true).len(), 2, "{:?}", report.problems);
    assert_eq!(lost(false).into_iter().collect::<Vec<_>>(), [kept[0].0.clone()]);
    for id in lost(true) {
        repository.write_off(&id, "deleted by mistake").await.unwrap();
    }
    store.age(DAY);
    repository.collect(&eager()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn repacking_may_be_cut_off_at_every_write() {
    let mut cuts = 0;
    for effect in [Effect::CrashBefore, Effect::CrashAfter] {
        for at in 1.. {
            let memory = Arc::new(MemoryStore::new());
            let repository = open(memory.clone()).await.unwrap();
            let days = days(&repository, 1..=4).await;
            for (id, _) in &days[..2] {
                forget(&repository, id).await.unwrap();
            }
            let faulty = Arc::new(FaultyStore::new(memory.clone()));
            let cut_off = open(faulty.clone()).await.unwrap();
            faulty.fail_at(at, effect);
            for _ in 0..5 {
                memory.age(DAY);
                let _ = cut_off.collect(&eager()).await;
            }
            let cut = faulty.has_failed();
            faulty.revive();
            assert_restores(&repository, &days[2..]).await;
            collect_for_days(&memory, &repository).await;
            assert_whole(&repository, &days[2..]).await;
            assert_eq!(packs(&memory), 1, "cut at write {at}");
            if !cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 20, "only {cuts} writes were tried");
}
