//! A crash at every write leaves every committed snapshot restorable, and the
//! run can be tried again.

use std::sync::Arc;

use dbbackup_contract::Reason;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, TimedStore};

use super::fixture::*;
use crate::{Begun, Error, Result, RunState, TombstoneReason};

/// Several packs, so that a crash falls between them; a recipe in meta objects.
fn large(seed: u64) -> Contents {
    let mut contents = contents(seed);
    contents.insert("large".into(), noise(seed + 50, 30_000_000));
    contents
}

/// Crashes the backup of day `n` at its first, second, … write until one goes
/// through; after each, what was committed is restored.
async fn crash_everywhere(effect: Effect, days: &[Contents]) {
    let mut crashes = 0;
    for at in 1.. {
        let memory = Arc::new(MemoryStore::new());
        let faulty = Arc::new(FaultyStore::new(memory));
        let (last, before) = days.split_last().unwrap();
        let repository = open(faulty.clone()).await.unwrap();
        for (n, contents) in (1..).zip(before) {
            back_up(&repository, n, contents).await.unwrap();
        }
        let n = days.len() as u32;
        faulty.fail_at(at, effect);
        let attempt = back_up(&repository, n, last).await;
        let crashed = faulty.has_failed();
        faulty.revive();
        drop(repository);
        let repository = open(faulty.clone()).await.unwrap();
        assert_all(&repository, days, attempt.is_ok() && !crashed).await;
        // The retry succeeds, and the run has exactly one snapshot.
        let snapshot = back_up(&repository, n, last).await.unwrap();
        assert_same(&restore(&snapshot).await.unwrap(), last);
        assert_all(&repository, days, true).await;
        if !crashed {
            attempt.unwrap();
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= 3, "only {crashes} writes were tried");
}

/// Every snapshot that is there restores; the last day's is there if `complete`.
async fn assert_all(repository: &crate::Repository, days: &[Contents], complete: bool) {
    let snapshots = repository.snapshots(None).await.unwrap();
    assert!(snapshots.unreadable.is_empty());
    let found = snapshots.snapshots.len();
    assert!(found == days.len() || (!complete && found + 1 == days.len()), "{found} snapshots");
    for (snapshot, contents) in snapshots.snapshots.iter().zip(days) {
        snapshot.verify_manifest().await.unwrap();
        assert_same(&restore(snapshot).await.unwrap(), contents);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_survives_a_crash_at_every_write() {
    for effect in [Effect::CrashBefore, Effect::CrashAfter, Effect::Unavailable] {
        crash_everywhere(effect, &[large(1)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_survives_a_crash_at_every_write() {
    for effect in [Effect::CrashBefore, Effect::CrashAfter, Effect::Unavailable] {
        crash_everywhere(effect, &[contents(1), changed(&large(1), 2)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_of_any_write_is_no_failure_with_retries_and_no_harm_without() {
    crash_everywhere(Effect::LostAcknowledgement, &[contents(1), changed(&contents(1), 2)]).await;
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    open(faulty.clone()).await.unwrap();
    let mut options = options();
    options.retry.tries = 3;
    for at in 1..6 {
        let encryption = encrypted();
        let opened = crate::Repository::open_with(faulty.clone(), &encryption, options.clone());
        let repository = opened.await.unwrap().repository;
        for (n, effect) in [(1, Effect::LostAcknowledgement), (2, Effect::Unavailable)] {
            faulty.fail_at(at, effect);
            let contents = contents(at * 10 + n);
            let snapshot = back_up(&repository, at as u32 * 2 + n as u32, &contents).await.unwrap();
            assert_same(&restore(&snapshot).await.unwrap(), &contents);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_every_attempt_leads_to_one_snapshot_in_the_end() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    let contents = contents(1);
    for at in 1..=4 {
        faulty.fail_at(at, Effect::CrashBefore);
        let _ = back_up(&repository, 1, &contents).await;
        faulty.revive();
    }
    let snapshot = back_up(&repository, 1, &contents).await.unwrap();
    assert!(snapshot.id().attempt() > 0);
    assert_same(&restore(&snapshot).await.unwrap(), &contents);
    assert_eq!(repository.snapshots(None).await.unwrap().snapshots.len(), 1);
    assert!(matches!(
        repository.begin(session(1)).await.unwrap(),
        Begun::Committed(found) if found.id() == snapshot.id()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_frozen_cannot_commit_after_its_tombstone() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let frozen = begin(&repository, 1).await.unwrap();
    write(&frozen, "a", &noise(1, 100_000)).await.unwrap();
    let retry = begin(&repository, 1).await.unwrap();
    assert_eq!(retry.id().attempt(), 1);
    write(&retry, "a", &noise(1, 100_000)).await.unwrap();
    let error = frozen.commit(commit_info()).await.unwrap_err();
    assert!(matches!(error, Error::Fenced(_)), "{error}");
    retry.commit(commit_info()).await.unwrap();
    assert_eq!(repository.snapshots(None).await.unwrap().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_finds_out_and_fences_only_if_told_to() -> Result<()> {
    let repository = open(Arc::new(MemoryStore::new())).await?;
    let resolve = |fence| repository.resolve_run("c/ns/shop", "run-1", day(1), fence);
    assert!(matches!(resolve(None).await?, RunState::Free { next_attempt: 0 }));
    let writer = begin(&repository, 1).await?;
    assert!(matches!(resolve(None).await?, RunState::Unresolved { attempt: 0 }));
    let fenced = resolve(Some(TombstoneReason::Inspect)).await?;
    assert!(matches!(fenced, RunState::Free { next_attempt: 1 }));
    assert!(matches!(writer.commit(commit_info()).await, Err(Error::Fenced(_))));
    let again = begin(&repository, 1).await?;
    let snapshot = again.commit(commit_info()).await?;
    let fence = Some(TombstoneReason::Inspect);
    assert!(matches!(resolve(fence).await?, RunState::Committed(s) if s.id() == snapshot.id()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_fails_the_backup_and_nothing_else() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    let day_one = contents(1);
    back_up(&repository, 1, &day_one).await.unwrap();
    for at in 1..=4 {
        faulty.fail_at(at, Effect::Full);
        let error = back_up(&repository, 2, &large(2)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StorageFull, "{error}");
        faulty.revive();
    }
    let snapshots = repository.snapshots(None).await.unwrap().snapshots;
    assert_same(&restore(&snapshots[0]).await.unwrap(), &day_one);
    back_up(&repository, 2, &large(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_never_answered_ends_the_run_and_a_retry_finishes_it() {
    let limit = std::time::Duration::from_secs(1);
    let mut silent = 0;
    for at in 1.. {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let inner = faulty.clone();
        let store = TimedStore::open("the volume", limit, async { Ok(inner) }).await.unwrap();
        let repository = open(Arc::new(store)).await.unwrap();
        faulty.fail_at(at, Effect::NoAnswer);
        let attempt = back_up(&repository, 1, &large(1)).await;
        let reached = faulty.has_failed();
        faulty.revive();
        if let Err(error) = &attempt {
            assert!(reached, "{error}");
            assert_eq!(error.reason(), Reason::Stalled, "{error}");
            assert!(error.to_string().contains("the volume does not answer"), "{error}");
            assert!(repository.snapshots(None).await.unwrap().snapshots.is_empty());
            silent += 1;
        }
        let snapshot = back_up(&repository, 1, &large(1)).await.unwrap();
        assert_same(&restore(&snapshot).await.unwrap(), &large(1));
        if !reached {
            break;
        }
    }
    assert!(silent >= 3, "only {silent} writes were waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_writer_stops_and_leaves_no_thread_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = dbbackup_storage::VolumeOptions::default();
    let store = dbbackup_storage::VolumeStore::open(folder.path(), options).await.unwrap();
    let repository = open(Arc::new(store)).await.unwrap();
    let mut options = session(1);
    options.workers = 3;
    let cancel = options.cancel.clone();
    let Begun::Started(writer) = repository.begin(options).await.unwrap() else { panic!() };
    let mut stream = writer.stream("a", crate::Cutting::default()).await.unwrap();
    let endless = tokio::spawn(async move {
        for seed in 0.. {
            if let Err(error) = stream.write(noise(seed, 300_000).into()).await {
                return error;
            }
        }
        unreachable!()
    });
    while writer.totals().read < 20_000_000 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    let error = tokio::time::timeout(std::time::Duration::from_secs(10), endless).await;
    assert!(matches!(error.unwrap().unwrap(), Error::Cancelled));
    assert!(matches!(writer.commit(commit_info()).await, Err(Error::Cancelled)));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while worker_threads() > 0 || temporary_files(folder.path()) > 0 {
        assert!(std::time::Instant::now() < until, "{} threads", worker_threads());
        tokio::task::yield_now().await;
    }
}

/// Other tests of this process have workers of their own, under two at a time:
/// three distinguishes ours by their third.
fn worker_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "repository-2")
        .count()
}

fn temporary_files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder.join(".tmp")).unwrap().count()
}
