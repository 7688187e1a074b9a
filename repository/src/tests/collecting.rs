//! Letting snapshots go, and collecting what is left of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore};

use super::fixture::*;
use crate::{
    CollectOptions, CollectReport, Error, ForgetReason, Repository, Result, SnapshotId,
    SnapshotWriter,
};

pub(super) const DAY: Duration = Duration::from_secs(25 * 3600);

async fn collect(repository: &Repository) -> Result<CollectReport> {
    repository.collect(&CollectOptions::default()).await
}

pub(super) async fn forget(repository: &Repository, id: &SnapshotId) -> Result<()> {
    repository.forget(id, ForgetReason::Retention, "no rule keeps it").await
}

/// Collects day after day until nothing is left to do.
async fn collect_all(store: &MemoryStore, repository: &Repository) -> CollectReport {
    let mut sum = CollectReport::default();
    for _ in 0..6 {
        store.age(DAY);
        let report = collect(repository).await.unwrap();
        assert!(report.blockers.is_empty(), "{report:?}");
        sum.deleted_objects += report.deleted_objects;
        sum.deleted_bytes += report.deleted_bytes;
        sum.removed_sessions += report.removed_sessions;
    }
    sum
}

/// Three days of data that changes wholly but for what both have.
async fn three_days(store: Arc<MemoryStore>) -> (Repository, Vec<(SnapshotId, Contents)>) {
    let repository = open(store).await.unwrap();
    let mut days = Vec::new();
    for n in 1..=3 {
        let mut contents = contents(1);
        contents.insert("fresh".into(), noise(100 + u64::from(n), 1_000_000));
        let snapshot = back_up(&repository, n, &contents).await.unwrap();
        days.push((snapshot.id().clone(), contents));
    }
    (repository, days)
}

pub(super) async fn assert_restores(repository: &Repository, days: &[(SnapshotId, Contents)]) {
    let found = repository.snapshots(None).await.unwrap();
    assert!(found.unreadable.is_empty());
    let ids: Vec<_> = found.snapshots.iter().map(|found| found.id().clone()).collect();
    assert_eq!(ids, days.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
    for (snapshot, (_, contents)) in found.snapshots.iter().zip(days) {
        assert_same(&restore(snapshot).await.unwrap(), contents);
    }
}

pub(super) fn packs(store: &MemoryStore) -> usize {
    store.objects().keys().filter(|name| name.starts_with("packs/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_forgotten_snapshot_used_is_deleted_and_nothing_else() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    assert_eq!(collect_all(&store, &repository).await.deleted_objects, 0);
    assert!(!store.objects().keys().any(|name| name.starts_with("sessions/")));
    let before = packs(&store);
    forget(&repository, &days[1].0).await.unwrap();
    // It is gone at once for everybody, and its data is there until nobody can use it.
    assert_restores(&repository, &[days[0].clone(), days[2].clone()]).await;
    assert!(matches!(repository.find(days[1].0.as_str()).await, Err(Error::Forgotten(_))));
    assert_eq!(packs(&store), before);
    let report = collect_all(&store, &repository).await;
    assert_eq!(report.deleted_objects, 1);
    assert!(report.deleted_bytes > 1_000_000, "{report:?}");
    assert_eq!(packs(&store), before - 1);
    assert_restores(&repository, &[days[0].clone(), days[2].clone()]).await;
    assert!(repository.check(crate::CheckLevel::Data).await.unwrap().problems.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_let_go_is_not_made_again() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    forget(&repository, &days[0].0).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(repository.begin(session(1)).await, Err(Error::Forgotten(_))));
        collect_all(&store, &repository).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_keeps_a_snapshot_until_it_is_taken_back() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    let id = &days[0].0;
    repository.pin(id, "before the migration").await.unwrap();
    repository.pin(id, "again").await.unwrap();
    assert_eq!(repository.pinned().await.unwrap().iter().collect::<Vec<_>>(), [id]);
    assert!(matches!(forget(&repository, id).await, Err(Error::Pinned(_))));
    collect_all(&store, &repository).await;
    assert_restores(&repository, &days).await;
    repository.unpin(id, "done").await.unwrap();
    forget(&repository, id).await.unwrap();
    forget(&repository, id).await.unwrap();
    assert!(matches!(repository.pin(id, "too late").await, Err(Error::Forgotten(_))));
    let unknown = SnapshotId::parse("aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-0").unwrap();
    assert!(matches!(repository.pin(&unknown, "").await, Err(Error::SnapshotNotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_run_has_left_is_deleted_and_a_living_one_is_waited_for() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    // Enough for one pack, and for no second, of which nobody knows when it arrives.
    let one_pack = async |writer: &SnapshotWriter, n: u64| {
        write(writer, "a", &noise(n, 24_000_000)).await.unwrap();
        uploaded(writer, 1).await;
    };
    let dead = begin(&repository, 1).await.unwrap();
    one_pack(&dead, 1).await;
    // The head of a dead process does not beat.
    drop(dead);
    let other = begin(&repository, 2).await.unwrap();
    one_pack(&other, 2).await;
    let left = packs(&store);
    assert_eq!(left, 2);
    // Not a day old yet, so that it may still be alive.
    assert_eq!(collect(&repository).await.unwrap().condemned_objects, 0);
    store.age(DAY);
    let living = begin(&repository, 3).await.unwrap();
    assert!(collect(&repository).await.unwrap().condemned_objects > 0);
    store.age(Duration::from_secs(1800));
    let waiting = collect(&repository).await.unwrap();
    assert_eq!(waiting.blockers.len(), 1, "{waiting:?}");
    assert_eq!(waiting.blockers[0].session, *living.id());
    // Nothing has gone; an upload may still have been under way.
    assert!(packs(&store) >= left);
    living.commit(commit_info()).await.unwrap();
    assert!(collect(&repository).await.unwrap().deleted_objects > 0);
    assert_eq!(packs(&store), 0);
    assert!(matches!(other.commit(commit_info()).await, Err(Error::Fenced(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_keeps_what_it_reads() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    store.age(DAY);
    let reading = repository.begin_reading().await.unwrap();
    let snapshot = repository.find(days[1].0.as_str()).await.unwrap();
    store.age(Duration::from_secs(1));
    forget(&repository, &days[1].0).await.unwrap();
    for _ in 0..4 {
        store.age(Duration::from_secs(700));
        collect(&repository).await.unwrap();
    }
    assert_same(&restore(&snapshot).await.unwrap(), &days[1].1);
    reading.end().await.unwrap();
    collect_all(&store, &repository).await;
    assert!(restore(&snapshot).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_deletes_nothing_and_too_much_is_refused_until_approved() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    forget(&repository, &days[1].0).await.unwrap();
    store.age(DAY);
    collect(&repository).await.unwrap();
    store.age(DAY);
    let before = store.objects();
    let dry = CollectOptions { dry_run: true, ..CollectOptions::default() };
    let dry = repository.collect(&dry).await.unwrap();
    assert!(dry.condemned_objects > 0 && dry.deleted_objects == 0, "{dry:?}");
    assert_eq!(store.objects(), before);
    let mut options = CollectOptions { max_delete_percent: Some(10), ..CollectOptions::default() };
    let refused = repository.collect(&options).await.unwrap_err();
    let Error::TooMuchToDelete { percent, limit: 10, plan } = refused else { panic!("{refused}") };
    assert!((20..50).contains(&percent), "{percent}");
    for _ in 0..3 {
        options.approved_plan = Some(plan.clone());
        store.age(DAY);
        repository.collect(&options).await.unwrap();
    }
    assert_restores(&repository, &[days[0].clone(), days[2].clone()]).await;
    assert_eq!(packs(&store), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_or_is_missing_stops_the_collection() {
    let store = Arc::new(MemoryStore::new());
    let (repository, days) = three_days(store.clone()).await;
    collect_all(&store, &repository).await;
    forget(&repository, &days[1].0).await.unwrap();
    let name = format!("snapshots/{}", days[2].0);
    let whole = store.objects()[&name].clone();
    let mut flipped = whole.to_vec();
    flipped[100] ^= 1;
    let before = packs(&store);
    let kept = |expected: &str, result: Result<CollectReport>| {
        let error = result.unwrap_err();
        assert_eq!(error.reason().as_str(), expected, "{error}");
        assert_eq!(packs(&store), before);
    };
    for _ in 0..3 {
        store.age(DAY);
        store.overwrite(&name, Bytes::from(flipped.clone()));
        kept("RepositoryDamaged", collect(&repository).await);
        store.overwrite("snapshots/unknown", Bytes::new());
        kept("RepositoryDamaged", collect(&repository).await);
        dbbackup_storage::Store::delete(&*store, "snapshots/unknown").await.unwrap();
        // Deleted by somebody: the last collection knew it.
        dbbackup_storage::Store::delete(&*store, &name).await.unwrap();
        kept("SnapshotsMissing", collect(&repository).await);
    }
    store.overwrite(&name, whole);
    collect_all(&store, &repository).await;
    assert_restores(&repository, &[days[0].clone(), days[2].clone()]).await;
    assert_eq!(packs(&store), before - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_name_among_the_decisions_stops_the_collection_alone() {
    let store = Arc::new(MemoryStore::new());
    let (repository, mut days) = three_days(store.clone()).await;
    forget(&repository, &days.remove(1).0).await.unwrap();
    repository.pin(&days[0].0, "").await.unwrap();
    // Each is listed before the one before.
    for name in ["decisions/x-0", "decisions/x", "decisions/X"] {
        store.overwrite(name, Bytes::new());
        assert_restores(&repository, &days).await;
        assert_eq!(repository.pinned().await.unwrap().len(), 1);
        repository.find(days[0].0.as_str()).await.unwrap();
        let report = repository.check(crate::CheckLevel::Structure).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert!(report.notes.iter().any(|note| note.object == name), "{name}");
        begin(&repository, 9).await.unwrap();
        let stopped = collect(&repository).await.unwrap_err();
        assert_eq!(stopped.object(), Some(name), "{stopped}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_name_among_the_condemned_stops_the_collection_and_no_backup() {
    let store = Arc::new(MemoryStore::new());
    let (repository, mut days) = three_days(store.clone()).await;
    for (name, n) in [("condemned/x", 4), ("condemned/X", 5), ("condemned/07", 6)] {
        store.overwrite(name, Bytes::new());
        let snapshot = back_up(&repository, n, &days[0].1).await.unwrap();
        days.push((snapshot.id().clone(), days[0].1.clone()));
        let stopped = collect(&repository).await.unwrap_err();
        assert!(stopped.object().is_some_and(|object| object.starts_with("condemned/")));
    }
    assert_restores(&repository, &days).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_may_be_cut_off_at_every_write() {
    let mut cuts = 0;
    for effect in [Effect::CrashBefore, Effect::CrashAfter] {
        for at in 1.. {
            let memory = Arc::new(MemoryStore::new());
            let (_, days) = three_days(memory.clone()).await;
            let faulty = Arc::new(FaultyStore::new(memory.clone()));
            let repository = open(faulty.clone()).await.unwrap();
            forget(&repository, &days[1].0).await.unwrap();
            faulty.fail_at(at, effect);
            for _ in 0..4 {
                memory.age(DAY);
                let _ = collect(&repository).await;
            }
            let cut = faulty.has_failed();
            faulty.revive();
            let kept = [days[0].clone(), days[2].clone()];
            assert_restores(&repository, &kept).await;
            collect_all(&memory, &repository).await;
            assert_restores(&repository, &kept).await;
            assert_eq!(packs(&memory), 2, "cut at write {at}");
            if !cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 20, "only {cuts} writes were tried");
}
