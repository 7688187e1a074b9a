//! Small repositories that were written once and must be readable for ever.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dbbackup_storage::{MemoryStore, VolumeOptions, VolumeStore};

use super::fixture::*;
use crate::{Encryption, ForgetReason, Kdf, KeySource, Repository, TombstoneReason};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0").join(name)
}

fn golden_contents() -> Contents {
    Contents::from([
        ("globals".into(), b"CREATE ROLE shop;\n".to_vec()),
        ("db/shop".into(), b"INSERT INTO customer VALUES (1, 'Ada');\n".repeat(2000)),
        ("db/noise".into(), noise(42, 100_000)),
        ("db/empty".into(), Vec::new()),
    ])
}

pub(super) fn golden_days() -> [Contents; 2] {
    [golden_contents(), changed(&golden_contents(), 43)]
}

async fn volume(path: PathBuf, writable: bool) -> Arc<VolumeStore> {
    let options = VolumeOptions { writable, create_folder: writable, ..VolumeOptions::default() };
    Arc::new(VolumeStore::open(path, options).await.unwrap())
}

#[tokio::test]
async fn the_golden_repositories_of_version_0_are_readable() {
    for (name, encryption) in [("encrypted", encrypted()), ("clear", Encryption::None)] {
        let store = volume(folder(name), false).await;
        let repository = Repository::open(store, &encryption).await.unwrap().repository;
        let snapshots = repository.snapshots(None).await.unwrap().snapshots;
        assert_eq!(snapshots.len(), 2);
        for (snapshot, contents) in snapshots.iter().zip(golden_days()) {
            assert_same(&restore(snapshot).await.unwrap(), &contents);
        }
        let report = repository.check(crate::CheckLevel::Data).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

/// Days of a repository that has been in use: each changes a part of the rows.
pub(super) fn lived_in_day(n: u32) -> Contents {
    let mut rows = noise(7, 400_000);
    for day in 2..=n as usize {
        rows[(day - 1) * 70_000..][..60_000].copy_from_slice(&noise(day as u64, 60_000));
    }
    Contents::from([("db/rows".into(), rows), ("globals".into(), b"CREATE ROLE shop;\n".to_vec())])
}

/// What its snapshots hold: the last one is a copy.
pub(super) const LIVED_IN_DAYS: [u32; 3] = [3, 4, 4];

/// One with everything that a repository comes to hold: a second key, a run that was
/// given up, pins, what was let go, notes of the collector, moved blocks, a copy.
async fn live_in() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let environment = Arc::new(FixedEnvironment::new(3));
    let options = crate::OpenOptions { environment, ..options() };
    let opened = Repository::open_with(store.clone(), &encrypted(), options).await.unwrap();
    let repository = opened.repository;
    let second = KeySource::passphrase("second", b"correct horse").unwrap();
    repository.add_key(&second, Kdf::Argon2id).await.unwrap();
    let mut ids = Vec::new();
    for n in 1..=4 {
        let snapshot = back_up(&repository, n, &lived_in_day(n)).await.unwrap();
        ids.push(snapshot.id().clone());
    }
    drop(begin(&repository, 9).await.unwrap());
    let fence = Some(TombstoneReason::Inspect);
    repository.resolve_run("c/ns/shop", "run-9", day(9), fence).await.unwrap();
    repository.pin(&ids[2], "before the migration").await.unwrap();
    for id in &ids[..2] {
        repository.forget(id, ForgetReason::Retention, "no rule keeps it").await.unwrap();
    }
    for _ in 0..5 {
        store.age(super::collecting::DAY);
        repository.collect(&super::repacking::eager()).await.unwrap();
    }
    // One that is condemned, and one that was just let go.
    let snapshot = back_up(&repository, 5, &lived_in_day(5)).await.unwrap();
    repository.forget(snapshot.id(), ForgetReason::Erase, "a mistake").await.unwrap();
    repository.begin_reading().await.unwrap().end().await.unwrap();
    copy_into(&repository).await;
    store
}

/// A copy of another repository's snapshot: its head holds that one's key of digests.
async fn copy_into(repository: &Repository) {
    let environment = Arc::new(FixedEnvironment::new(5));
    let options = crate::OpenOptions { environment, ..options() };
    let key = Encryption::Keys(vec![KeySource::raw("other", &[9; 32]).unwrap()]);
    let store = Arc::new(MemoryStore::new());
    let other = Repository::open_with(store, &key, options).await.unwrap().repository;
    let original = back_up(&other, 6, &lived_in_day(4)).await.unwrap();
    let options = crate::CopyOptions::default();
    crate::copy(&other, repository, original.id().as_str(), &options).await.unwrap();
}

#[tokio::test]
async fn a_golden_repository_that_was_in_use_is_readable() {
    for encryption in [
        encrypted(),
        Encryption::Keys(vec![KeySource::passphrase("second", b"correct horse").unwrap()]),
    ] {
        let store = volume(folder("lived-in"), false).await;
        let repository = Repository::open(store, &encryption).await.unwrap().repository;
        let snapshots = repository.snapshots(None).await.unwrap().snapshots;
        assert_eq!(snapshots.len(), 3);
        for (snapshot, n) in snapshots.iter().zip(LIVED_IN_DAYS) {
            assert_same(&restore(snapshot).await.unwrap(), &lived_in_day(n));
        }
        assert!(snapshots[2].about().copied_from.is_some());
        assert_eq!(repository.pinned().await.unwrap().len(), 1);
        assert!(repository.inner.read_moves().await.unwrap().len() > 1);
        let report = repository.check(crate::CheckLevel::Data).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

#[tokio::test]
async fn a_repository_in_use_can_be_written() {
    let objects = live_in().await.objects();
    for folder in ["verdict/", "marks/", "decisions/", "beats/", "snapshots/", "keys/"] {
        assert!(objects.keys().any(|name| name.starts_with(folder)), "{folder}");
    }
    if std::env::var_os("DBBACKUP_WRITE_GOLDEN").is_some() {
        let folder = folder("lived-in");
        let _ = std::fs::remove_dir_all(&folder);
        write_to(&folder, objects);
    }
}

/// Writes objects as a volume keeps them.
pub(super) fn write_to(folder: &Path, objects: BTreeMap<String, Bytes>) {
    for (name, object) in objects {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, object).unwrap();
    }
}

/// Writes them to a folder of its own. With `DBBACKUP_WRITE_GOLDEN=1` it writes the
/// committed ones anew, after a change of version 0; from version 1 on, never.
#[tokio::test]
async fn golden_repositories_can_be_written() {
    let scratch = tempfile::tempdir().unwrap();
    let anew = std::env::var_os("DBBACKUP_WRITE_GOLDEN").is_some();
    for (name, encryption) in [("encrypted", encrypted()), ("clear", Encryption::None)] {
        let path = if anew { folder(name) } else { scratch.path().join(name) };
        let _ = std::fs::remove_dir_all(&path);
        let store = volume(path.clone(), true).await;
        let options =
            crate::OpenOptions { environment: Arc::new(FixedEnvironment::new(1)), ..options() };
        let opened = Repository::open_with(store, &encryption, options).await.unwrap();
        for (n, contents) in (1..).zip(golden_days()) {
            back_up(&opened.repository, n, &contents).await.unwrap();
        }
        std::fs::remove_dir(path.join(".tmp")).unwrap();
        let list = opened.repository.snapshots(None).await.unwrap();
        assert_eq!((list.snapshots.len(), list.unreadable.len()), (2, 0));
    }
}
