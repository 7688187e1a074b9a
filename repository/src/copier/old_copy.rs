//! The newest snapshot of the source's series that was copied already.

use super::unchanged::Unchanged;
use crate::names::SnapshotId;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::{Error, Result, SnapshotWriter};

/// A snapshot of the source, and its copy in the destination.
#[derive(Debug)]
pub(super) struct OldCopy {
    old: Snapshot,
    copy: Snapshot,
}

impl OldCopy {
    /// Looks among the predecessors of the copy that is being written. A session in the
    /// source must exist: what it shows stays.
    pub(super) async fn find(source: &Repository, writer: &SnapshotWriter) -> Result<Option<Self>> {
        let mut n = 0;
        while let Some(copy) = writer.older(n).await {
            n += 1;
            let from = copy.about().copied_from.as_ref();
            let from = from.filter(|from| from.repository_id == source.id().to_string());
            let Some(Ok(id)) = from.map(|from| SnapshotId::parse(&from.snapshot)) else { continue };
            match source.find(id.as_str()).await {
                // That it was written off says that something of its data is lost, not
                // that its addresses are others: but then nothing is relied on.
                Ok(old) if old.id() == &id && old.written_off().is_none() => {
                    return Ok(Some(Self { old, copy }));
                }
                Ok(_) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => tracing::debug!(%error, snapshot = %id, "its copy is of no use"),
            }
        }
        Ok(None)
    }

    /// What a stream of the snapshot may take over. A copy fails for nothing that an
    /// older one lost: then all is read.
    pub(super) async fn stream(&self, name: &str) -> Option<Unchanged> {
        match Unchanged::of(&self.old, &self.copy, name).await {
            Ok(unchanged) => unchanged,
            Err(error) => {
                tracing::warn!(%error, name, "the older copy is of no use");
                None
            }
        }
    }
}
