//! A repository in a folder, and orders to work on it, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    AccessMode, Bandwidth, EncryptionAccess, Initialize, RepositoryAccess, StorageAccess,
};
use dbbackup_repository::{Begun, Encryption, Repository, SessionOptions, SnapshotWriter};
use dbbackup_storage::{VolumeOptions, VolumeStore};
use tokio_util::sync::CancellationToken;

use super::Order;
use crate::progress::ProgressBoard;

/// A series of a schedule.
pub(crate) const SERIES: &str = "3f6c/shop/nightly";

/// An unencrypted repository, and its folder.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) repository: Repository,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = VolumeStore::open(folder.path().join("r"), VolumeOptions::default());
        let store = Arc::new(store.await.unwrap());
        let opening =
            Repository::create_or_open(store, &Encryption::None, Initialize::IfEmpty).await;
        Self { folder, repository: opening.unwrap().repository }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("r")
    }

    /// Begins run `n` of a series.
    pub(crate) async fn begin(&self, series: &str, n: u8, slot: &str) -> SnapshotWriter {
        let run = format!("run {series} {n}");
        let options = SessionOptions::new(series, run, slot.parse().unwrap());
        let Begun::Started(writer) = self.repository.begin(options).await.unwrap() else {
            panic!("it was there")
        };
        writer
    }

    /// Works on it as a Job does.
    pub(crate) async fn order<T>(&self, work: impl AsyncFnOnce(&Order<'_>) -> T) -> T {
        let access = RepositoryAccess {
            name: "main".into(),
            storage: StorageAccess::Volume { path: self.path().display().to_string(), claim: None },
            encryption: EncryptionAccess::None {},
            expected_id: None,
            mode: AccessMode::ReadWrite,
            bandwidth: Bandwidth::default(),
        };
        let (board, cancel) = (ProgressBoard::new(None), CancellationToken::new());
        work(&Order::by_hand(&access, Duration::from_secs(60), &board, &cancel)).await
    }
}
