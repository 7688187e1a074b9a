//! Where a stream's known chunks are looked for first: in the newest snapshot of
//! the series that holds a stream of that name. Mostly that is the newest one;
//! after a partial night, or where the newest is damaged, it is an older one.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::shared::Shared;
use super::walker::OldStream;
use crate::names::SnapshotId;
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Readable snapshots that are looked at, the newest included. Each takes its
/// head in memory, and its table of packs once a stream is taken from it.
pub(super) const MAX_PREDECESSORS: usize = 8;
/// Names that are tried for them: among them are tombstones and damaged heads.
const MAX_TRIED: usize = 64;

/// The snapshots of a series, newest first, read one by one when they are needed.
#[derive(Debug)]
pub(crate) struct Predecessors {
    repository: Repository,
    newest: Option<Snapshot>,
    older: Mutex<Older>,
    /// Heads that could not be read before the newest that can.
    damaged: u64,
}

#[derive(Debug, Default)]
struct Older {
    read: Vec<Snapshot>,
    unread: VecDeque<SnapshotId>,
}

impl Predecessors {
    /// Reads the newest readable snapshot of a series, and no other yet. The
    /// session must exist, and what is condemned must have been read.
    pub(crate) async fn find(repository: &Repository, series: &str) -> crate::Result<Self> {
        let mut unread = VecDeque::from(repository.names_of(series).await?);
        let (mut newest, mut damaged) = (None, 0);
        while let Some(id) = unread.pop_front() {
            match repository.snapshot(&id).await {
                Ok(Some(snapshot)) => {
                    newest = Some(snapshot);
                    break;
                }
                Ok(None) => {}
                Err(error @ crate::Error::Storage(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, snapshot = %id, "passed over");
                    damaged += 1;
                }
            }
        }
        unread.truncate(MAX_TRIED);
        let older = Mutex::new(Older { read: Vec::new(), unread });
        Ok(Self { repository: repository.clone(), newest, older, damaged })
    }

    /// The newest snapshot: the one that the head names.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.newest.as_ref()
    }

    /// All that were read: those whose packs may be used. For the commit, when no
    /// stream is open.
    pub(super) fn read(&self) -> Vec<Snapshot> {
        let older = self.older.try_lock();
        let older = older.map(|older| older.read.clone()).unwrap_or_default();
        self.newest.iter().cloned().chain(older).collect()
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The newest snapshot, or the `n`-th before it.
    pub(super) async fn nth(&self, n: usize, shared: &Shared) -> Option<Snapshot> {
        match n.checked_sub(1) {
            None => self.newest.clone(),
            Some(n) => self.older(n, shared).await,
        }
    }

    /// Heads that were passed over for the newest.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The stream `name` of the newest snapshot that holds it and can be read.
    /// No backup fails for what an older one lost.
    pub(super) async fn stream(&self, shared: &Shared, name: &str) -> Option<Arc<OldStream>> {
        for n in 0..MAX_PREDECESSORS {
            let snapshot = self.nth(n, shared).await?;
            if let Some(found) = OldStream::of(&snapshot, shared, name).await {
                return Some(found);
            }
        }
        None
    }

    /// The `n`-th snapshot before the newest.
    async fn older(&self, n: usize, shared: &Shared) -> Option<Snapshot> {
        let mut older = self.older.lock().await;
        while older.read.len() <= n {
            let id = older.unread.pop_front()?;
            match self.repository.snapshot(&id).await {
                Ok(Some(snapshot)) => older.read.push(snapshot),
                Ok(None) => {}
                Err(error) => {
                    shared.pass_over(&error, id.as_str());
                    if matches!(error, crate::Error::Storage(_)) {
                        // A store that does not answer now is not asked for each stream.
                        older.unread.clear();
                    }
                }
            }
        }
        older.read.get(n).cloned()
    }
}
