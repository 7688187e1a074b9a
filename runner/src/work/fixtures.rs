//! A repository in a folder, and orders to work on it, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    AccessMode, Bandwidth, CheckShare, EncryptionAccess, Initialize, MaintainAction,
    RepositoryAccess, RetentionSpec, SeriesRetention, StorageAccess,
};
use dbbackup_repository::{Begun, Encryption, Repository, SessionOptions, SnapshotWriter};
use dbbackup_storage::{VolumeOptions, VolumeStore};
use tokio_util::sync::CancellationToken;

pub(crate) use self::days::a_day_later;
use super::Order;
use crate::progress::ProgressBoard;

#[path = "../../tests/program/days.rs"]
mod days;

/// A series of a schedule.
pub(crate) const SERIES: &str = "3f6c/shop/nightly";

/// A maintenance that keeps the newest snapshot of the series, and reads everything back.
pub(crate) fn keep_newest() -> MaintainAction {
    let retention = RetentionSpec { keep_last: Some(1), ..RetentionSpec::default() };
    let (series, time_zone) = (SERIES.to_owned(), "UTC".to_owned());
    MaintainAction {
        series: vec![SeriesRetention { series, retention: Some(retention), time_zone }],
        grace_seconds: 600,
        max_delete_percent: 100,
        check: CheckShare { read_percent: 100, number: 1, new_since: None },
        ..MaintainAction::default()
    }
}

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
