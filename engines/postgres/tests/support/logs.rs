//! An archive in memory, and an archiver at work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use dbbackup_postgres::{
    ArchiveOptions, ArchiveState, ArchiveWatcher, FilesOptions, LogArchive, LogParts,
    ServerConnection, archive_log, backup_files,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{MemoryBackup, Silent, TestServer};

pub type Parts = BTreeMap<u32, (Value, Bytes)>;

/// A physical backup of a server.
pub async fn base_of(server: ServerConnection) -> MemoryBackup {
    let options = FilesOptions { server, run: "a1".to_owned() };
    let base = MemoryBackup::default();
    backup_files(&options, &base, &Silent, &CancellationToken::new()).await.unwrap();
    base
}

/// An archive in memory.
#[derive(Clone, Default)]
pub struct MemoryArchive(pub Arc<Mutex<Parts>>);

pub struct Writer {
    archive: MemoryArchive,
    last: Option<u32>,
}

#[async_trait]
impl LogParts for Writer {
    async fn part(&self, number: u32) -> Result<Option<(Value, Bytes)>, Failure> {
        Ok(self.archive.0.lock().unwrap().get(&number).cloned())
    }
}

#[async_trait]
impl LogArchive for Writer {
    fn last(&self) -> Option<u32> {
        self.last
    }

    async fn append(
        &mut self,
        about: Value,
        bytes: Bytes,
        replaces: Option<(u32, u32)>,
    ) -> Result<u32, Failure> {
        let mut parts = self.archive.0.lock().unwrap();
        let number = self.last.map_or(0, |last| last + 1);
        if parts.contains_key(&number) {
            return Err(Failure::new(Reason::Fenced, "somebody else was quicker"));
        }
        parts.insert(number, (about, bytes));
        if let Some((first, last)) = replaces {
            // As maintenance does, only sooner.
            for replaced in first..=last {
                parts.remove(&replaced);
            }
        }
        self.last = Some(number);
        Ok(number)
    }
}

impl MemoryArchive {
    /// All of it, by numbers.
    pub fn parts(&self) -> Parts {
        self.0.lock().unwrap().clone()
    }

    /// What appends to it, and reads it.
    pub fn writer(&self) -> Writer {
        let last = self.0.lock().unwrap().keys().next_back().copied();
        Writer { archive: self.clone(), last }
    }
}

#[derive(Default)]
pub struct Watcher(Mutex<Option<ArchiveState>>);

impl ArchiveWatcher for Watcher {
    fn update(&self, state: ArchiveState) {
        *self.0.lock().unwrap() = Some(state);
    }
}

/// An archiver at work.
pub struct Archiver {
    watcher: Arc<Watcher>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Failure>>,
}

impl Archiver {
    pub fn start(way: ServerConnection, archive: &MemoryArchive) -> Self {
        let (watcher, cancel) = (Arc::<Watcher>::default(), CancellationToken::new());
        let mut writer = archive.writer();
        let (heard, stop) = (Arc::clone(&watcher), cancel.clone());
        let options = ArchiveOptions {
            server: way,
            slot: "dbbackup_test".to_owned(),
            max_lag: Duration::from_millis(200),
        };
        let task = tokio::spawn(async move {
            let ended = archive_log(&options, &mut writer, &*heard, &stop).await;
            if let Err(failure) = &ended {
                eprintln!("archiver: {failure}");
            }
            ended
        });
        Self { watcher, cancel, task }
    }

    /// Waits until all is kept that the server has written up to now.
    pub async fn catch_up(&self, server: &TestServer) {
        let written = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
        let limit = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            assert!(!self.task.is_finished(), "the archiver has ended");
            let kept = self.watcher.0.lock().unwrap().as_ref().map(|state| state.kept.clone());
            if let Some(kept) = kept
                && server.sql("postgres", &format!("SELECT '{kept}'::pg_lsn >= '{written}'")) == "t"
            {
                return;
            }
            assert!(tokio::time::Instant::now() < limit, "the archiver does not catch up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it wherever it is.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}
