//! An archive in memory, and an archiver at work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, LogPosition, Reason};
use dbbackup_postgres::{
    ArchiveOptions, ArchiveState, ArchiveWatcher, ArchivedLog, FilesOptions, LogArchive,
    LogPartHead, LogParts, ServerConnection, archive_log, backup_files,
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{MemoryBackup, Silent, TestServer};

pub type Parts = BTreeMap<u32, (Value, Bytes)>;

/// A physical backup of a server.
pub async fn base_of(server: ServerConnection) -> MemoryBackup {
    based_at(server).await.0
}

/// The same, with the position from where on it needs the log.
pub async fn based_at(server: ServerConnection) -> (MemoryBackup, LogPosition) {
    let options = FilesOptions { server, run: "a1".to_owned() };
    let base = MemoryBackup::default();
    let made = backup_files(&options, &base, &Silent, &CancellationToken::new()).await.unwrap();
    (base, made.log_start.unwrap())
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

    /// What is known of it without its bytes.
    pub fn log(&self) -> ArchivedLog {
        let head = |(number, (about, _)): (u32, (Value, Bytes))| LogPartHead {
            number,
            time: Timestamp::UNIX_EPOCH + Duration::from_secs(number.into()),
            about,
        };
        ArchivedLog::read(self.parts().into_iter().map(head).collect()).unwrap()
    }

    /// What appends to it, and reads it.
    pub fn writer(&self) -> Writer {
        let last = self.0.lock().unwrap().keys().next_back().copied();
        Writer { archive: self.clone(), last }
    }
}

/// The last state, and the gaps.
#[derive(Default)]
pub struct Watcher(Mutex<Option<ArchiveState>>, Mutex<Vec<(String, String, u32)>>);

impl ArchiveWatcher for Watcher {
    fn update(&self, state: ArchiveState) {
        *self.0.lock().unwrap() = Some(state);
    }

    fn gap(&self, start: &str, end: &str, timeline: u32) {
        self.1.lock().unwrap().push((start.to_owned(), end.to_owned(), timeline));
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
        Self::start_quiet_after(way, archive, Duration::from_secs(300))
    }

    /// One that says after so long that nothing happens.
    pub fn start_quiet_after(
        way: ServerConnection,
        archive: &MemoryArchive,
        quiet_after: Duration,
    ) -> Self {
        let (watcher, cancel) = (Arc::<Watcher>::default(), CancellationToken::new());
        let mut writer = archive.writer();
        let (heard, stop) = (Arc::clone(&watcher), cancel.clone());
        let options = ArchiveOptions {
            server: way,
            slot: "dbbackup_test".to_owned(),
            max_lag: Duration::from_millis(200),
            quiet_after,
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

    /// How it stands.
    pub fn state(&self) -> Option<ArchiveState> {
        self.watcher.0.lock().unwrap().clone()
    }

    /// The gaps that it has told of.
    pub fn gaps(&self) -> Vec<(String, String, u32)> {
        self.watcher.1.lock().unwrap().clone()
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
