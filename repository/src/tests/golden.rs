//! A tiny repository that was written once and must be readable for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbbackup_storage::{VolumeOptions, VolumeStore};

use super::fixture::*;
use crate::{Encryption, Repository};

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
