//! Snapshots that were written off: somebody has said that they can no longer be
//! restored (`docs/format.md`, "Written-off snapshots").

use std::collections::BTreeMap;

use dbbackup_storage::collect_listing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::Kind;
use crate::head::HeadObject;
use crate::names::{SnapshotId, WRITTEN_OFF};
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// Longest reason, in bytes of UTF-8.
pub const MAX_WRITE_OFF_BYTES: usize = 4096;

/// That a snapshot was written off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteOff {
    /// The snapshot's id.
    pub snapshot: String,
    /// Why, in the words of whoever did it.
    pub reason: String,
    /// When.
    pub time: Timestamp,
}

impl Repository {
    /// Writes a snapshot off. Nothing of it is deleted, and nothing is undone by
    /// it; who does it twice gets what was written first.
    ///
    /// # Errors
    /// `SnapshotNotFound` if there is no such snapshot, no other one that was built on
    /// it, and the last collection has not seen it; `RepositoryVersionUnsupported` if a newer release has made it:
    /// not to be read by this one is no damage.
    pub async fn write_off(&self, id: &SnapshotId, reason: &str) -> Result<WriteOff> {
        let inner = &self.inner;
        inner.may_write()?;
        if reason.is_empty() || reason.len() > MAX_WRITE_OFF_BYTES {
            let detail = format!("a reason has 1 to {MAX_WRITE_OFF_BYTES} bytes");
            return Err(Error::Misuse(detail));
        }
        if !inner.was_a_snapshot(id).await?
            && !self.is_built_on(id).await?
            && !self.remembered_heads().await?.contains(id)
        {
            return Err(Error::SnapshotNotFound(id.to_string()));
        }
        let write_off = WriteOff {
            snapshot: id.to_string(),
            reason: reason.to_owned(),
            time: inner.environment.now(),
        };
        let json =
            serde_json::to_vec(&write_off).map_err(|error| Error::Misuse(error.to_string()))?;
        let name = id.written_off_name();
        if inner.put(Kind::WrittenOff, &name, &json).await?.created {
            return Ok(write_off);
        }
        inner.find_write_off(id).await?.ok_or(Error::Missing(name))
    }

    /// Whether a snapshot of the same series says that it was built on this one,
    /// which is gone then.
    async fn is_built_on(&self, id: &SnapshotId) -> Result<bool> {
        let series = id.as_str().split_inclusive('-').next().unwrap_or_default();
        let list = self.heads(series).await?;
        let mut predecessors = list.snapshots.iter().filter_map(|s| s.about().predecessor.as_ref());
        Ok(predecessors.any(|predecessor| predecessor.id == id.as_str()))
    }
}

impl Inner {
    /// Whether a head stands there, readable or not.
    async fn was_a_snapshot(&self, id: &SnapshotId) -> Result<bool> {
        match self.head_object(id).await {
            Ok(Some((HeadObject::Head(_), _))) | Err(Error::Damaged { .. }) => Ok(true),
            Ok(Some((HeadObject::Tombstone, _)) | None) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn find_write_off(&self, id: &SnapshotId) -> Result<Option<WriteOff>> {
        let name = id.written_off_name();
        let Some(content) = self.find_content(Kind::WrittenOff, &name).await? else {
            return Ok(None);
        };
        parse_write_off(&name, &content, id).map(Some)
    }

    /// Whether a snapshot was written off. What cannot be read does not count: a
    /// damage must not write anything off.
    pub(crate) async fn is_written_off(&self, id: &SnapshotId) -> Result<bool> {
        match self.find_write_off(id).await {
            Ok(found) => Ok(found.is_some()),
            Err(error @ (Error::Damaged { .. } | Error::VersionUnsupported(_))) => {
                tracing::warn!(%error, "does not count");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// All snapshots that were written off and whose id begins with `prefix`, and
    /// what is wrong with those whose note cannot be read.
    pub(crate) async fn all_written_off(
        &self,
        prefix: &str,
    ) -> Result<(BTreeMap<SnapshotId, WriteOff>, Vec<Error>)> {
        let (mut all, mut unreadable) = (BTreeMap::new(), Vec::new());
        let listing = self.store.list(&format!("{WRITTEN_OFF}{prefix}"));
        for object in collect_listing(listing).await? {
            let name = object.name.strip_prefix(WRITTEN_OFF).unwrap_or_default();
            let Ok(id) = SnapshotId::parse(name) else { continue };
            match self.find_write_off(&id).await {
                Ok(found) => all.extend(found.map(|found| (id, found))),
                Err(error @ (Error::Damaged { .. } | Error::VersionUnsupported(_))) => {
                    unreadable.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((all, unreadable))
    }
}

/// Reads the note that stands under `name`.
pub(crate) fn parse_write_off(name: &str, content: &[u8], id: &SnapshotId) -> Result<WriteOff> {
    let write_off: WriteOff =
        serde_json::from_slice(content).map_err(|error| Error::damaged(name, error.to_string()))?;
    if write_off.snapshot != id.as_str() {
        return Err(Error::damaged(name, "it is another snapshot's"));
    }
    Ok(write_off)
}
