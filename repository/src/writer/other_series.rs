//! Live heads of other series: a copy of a database, a schedule that was renamed.

use std::collections::{BTreeMap, VecDeque};

use futures::StreamExt as _;

use crate::moves::MOVES_SERIES;
use crate::names::{SNAPSHOTS, SnapshotId, series_prefix};
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Other series of which the newest heads are read, those first that ran last.
const MAX_SERIES: usize = 32;
/// Heads that are read of each: the newest may be a night's that took only a part.
pub(super) const HEADS_OF_A_SERIES: usize = 2;
/// Names of a series that are tried for it: among them are tombstones.
const MAX_TRIED: usize = 4;

impl Repository {
    /// Names of the newest snapshots and tombstones of each series but that of `own`,
    /// newest first, those series first that ran last.
    pub(crate) async fn other_series(&self, own: &SnapshotId) -> Result<Vec<VecDeque<SnapshotId>>> {
        let mut series: BTreeMap<String, VecDeque<SnapshotId>> = BTreeMap::new();
        let mut listing = self.inner.store.list(SNAPSHOTS);
        while let Some(object) = listing.next().await {
            let name = object?.name;
            let Ok(id) = SnapshotId::parse(name.strip_prefix(SNAPSHOTS).unwrap_or_default()) else {
                continue;
            };
            let newest = series.entry(id.series_prefix().to_owned()).or_default();
            newest.push_front(id);
            newest.truncate(MAX_TRIED);
        }
        series.remove(own.series_prefix());
        // Repackings are none.
        series.remove(&series_prefix(&self.inner.keys, MOVES_SERIES));
        let mut series: Vec<_> = series.into_values().collect();
        series.sort_by_key(|ids| std::cmp::Reverse(ids.front().and_then(SnapshotId::slot_time)));
        series.truncate(MAX_SERIES);
        Ok(series)
    }

    /// The first of these snapshots that can be read and were neither let go nor
    /// written off, and what could not be read among them.
    pub(crate) async fn newest_of(
        &self,
        ids: VecDeque<SnapshotId>,
    ) -> (Vec<Snapshot>, Vec<(SnapshotId, Error)>) {
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for id in ids {
            match self.snapshot(&id).await {
                Ok(found) => read.extend(found),
                Err(error) => unread.push((id, error)),
            }
            if read.len() == HEADS_OF_A_SERIES {
                break;
            }
        }
        (read, unread)
    }
}
