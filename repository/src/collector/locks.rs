//! Locks that have to last: of all that a snapshot cannot be restored without, and of the logs that
//! lead on from it ([`dbbackup_storage::Store::keep`]).

use std::time::SystemTime;

use dbbackup_storage::{ErrorKind, ObjectInfo, Operation, collect_listing, validate_name};
use futures::{StreamExt, stream};

use super::clock::StoreClock;
use super::mark::Marked;
use crate::Result;
use crate::names::{CONFIG, KEYS, LOGS, META, PACKS, PartName, SNAPSHOTS, SnapshotId};
use crate::repository::Inner;

/// Requests at the same time.
const AT_ONCE: usize = 16;

impl Inner {
    /// Extends the locks of configs, keys, heads, logs, and of the packs and meta objects that
    /// are in use, where less than half of one is left; returns how many. What is younger
    /// than that is not asked for.
    pub(super) async fn extend_locks(&self, marked: &Marked, clock: StoreClock) -> Result<u64> {
        let Some(lock) = self.store.capabilities().lock else { return Ok(0) };
        let old = |created: SystemTime| clock.age(created) > lock / 2;
        let (mut extended, mut failed) = (0, None);
        for folder in [CONFIG, KEYS, SNAPSHOTS, META, PACKS, LOGS] {
            let listed = collect_listing(self.store.list(folder)).await?;
            let needed = listed.into_iter().filter(|object| old(object.modified));
            let needed = needed.filter(|object| is_needed(folder, object, marked));
            let mut kept = stream::iter(needed)
                .map(|object| async move { self.keep(&object.name).await })
                .buffer_unordered(AT_ONCE);
            // One that fails takes no other's time away.
            while let Some(again) = kept.next().await {
                match again {
                    Ok(again) => extended += u64::from(again),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        failed.map_or(Ok(extended), Err)
    }

    /// What another collector has deleted meanwhile needs no lock.
    async fn keep(&self, name: &str) -> Result<bool> {
        match self.store.keep(name).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            kept => Ok(kept?),
        }
    }
}

/// Whether anything is lost with an object. Tombstones fence for ever, so they count, too. What is
/// there of a log is needed: what is not, is tidied away ([`crate::LogReader::tidy`]).
/// What somebody else has put there is not ours to lock.
fn is_needed(folder: &str, object: &ObjectInfo, marked: &Marked) -> bool {
    if validate_name(Operation::Keep, &object.name).is_err() {
        return false;
    }
    let last = object.name.rsplit('/').next().unwrap_or_default();
    match folder {
        PACKS => PartName::parse(last).is_some_and(|pack| marked.uses_pack(&pack)),
        META => PartName::parse(last).is_some_and(|meta| marked.uses_meta(&meta)),
        SNAPSHOTS => SnapshotId::parse(last)
            .is_ok_and(|id| marked.heads.contains_key(&id) || marked.tombstones.contains(&id)),
        _ => true,
    }
}
