//! Which snapshots of a repository the cluster knows: those that a `Backup` of the
//! namespace stands for, is about to, or has had copied there. It is read from the API
//! server, not from a watch that may lag.

use std::collections::BTreeSet;

use dbbackup_contract::{FoundSnapshot, KnownSnapshots, copy_run_id};
use dbbackup_crds::Backup;
use kube::ResourceExt;

use crate::context::Guarded;
use crate::reconcile::maintenance::is_in;

/// What is known of a repository.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Snapshots that a status tells of.
    snapshots: BTreeSet<String>,
    /// Snapshots of objects that were created for them and have no status yet.
    begun: BTreeSet<String>,
    /// Runs whose snapshots are a `Backup`'s own, or copies of them, told of or not.
    runs: BTreeSet<String>,
}

impl Known {
    /// What these objects know of the repository of this name and id.
    pub(super) fn of(repository: &str, id: Option<&str>, backups: &[Guarded<Backup>]) -> Self {
        let mut known = Self::default();
        for backup in backups {
            // A run is its object's also where that cannot be read.
            known.runs.extend(backup.uid());
            if let Ok(backup) = &backup.0 {
                known.add(repository, id, backup);
            }
        }
        known
    }

    fn add(&mut self, repository: &str, id: Option<&str>, backup: &Backup) {
        let status = backup.status.clone().unwrap_or_default();
        if let Some(imported) = &backup.spec.imported
            && imported.repository_ref.name == repository
        {
            let list = if status.phase.is_none() { &mut self.begun } else { &mut self.snapshots };
            list.insert(imported.snapshot_id.clone());
        }
        if status.repository.as_ref().is_some_and(|known| is_in(known, repository, id)) {
            self.snapshots.extend(status.snapshot_id.clone());
        }
        let own = status.repository.as_ref().and_then(|own| own.id.as_ref());
        for copy in status.copies.iter().filter(|copy| copy.repository.name == repository) {
            if is_in(&copy.repository, repository, id) {
                self.snapshots.extend(copy.snapshot_id.clone());
            }
            // One under way, or of which the report was lost.
            if let Some((own, snapshot)) = own.zip(status.snapshot_id.as_ref()) {
                self.runs.insert(copy_run_id(own, snapshot));
            }
        }
    }

    /// Whether it is known.
    pub(super) fn has(&self, found: &FoundSnapshot) -> bool {
        self.snapshots.contains(&found.id) || self.runs.contains(&found.run_id)
    }

    /// As a task names them.
    pub(super) fn named(&self, salt: &str) -> KnownSnapshots {
        KnownSnapshots::of(salt, self.snapshots.union(&self.begun).map(String::as_str))
    }
}
