//! What the order needs of a backup.

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{Backup, BackupPhase};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::labels::slot_of;

/// Namespace and name of an object.
pub(super) type Name = (String, String);

/// A backup in the line. Ordered by how long it is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Its slot; of one by hand, when it was made.
    pub(super) since: Timestamp,
    /// The repository that it writes into; in the backup's namespace.
    pub(super) repository: Name,
    pub(super) name: String,
}

impl Entry {
    pub(super) fn of(backup: &Backup, repository: &str) -> Self {
        let created = || backup.creation_timestamp().map(|time| time.0);
        Self {
            since: slot_of(backup).or_else(created).unwrap_or(Timestamp::MAX),
            repository: (backup.namespace().unwrap_or_default(), repository.to_owned()),
            name: backup.name_any(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.repository.0
    }

    /// Namespace and name of the backup.
    pub(super) fn key(&self) -> Name {
        (self.repository.0.clone(), self.name.clone())
    }
}

/// What the watch shows of a backup that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) uid: String,
    pub(super) stand: Stand,
}

/// Where a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Its Job runs, or starts.
    Runs(Entry),
    /// It does not.
    Rests {
        phase: BackupPhase,
        /// What keeps it from running besides its turn, such as a quota.
        trouble: Option<Failure>,
        /// Where it waits for its turn.
        waits: Option<Entry>,
    },
}

impl Shown {
    /// None of one that has ended, or that will not begin because it is being deleted.
    pub(super) fn of(backup: &Backup) -> Option<Self> {
        let status = backup.status.as_ref();
        let repository = status.and_then(|status| status.repository.as_ref());
        let entry = || Entry::of(backup, repository.map_or("", |repository| &repository.name));
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        let stand = if runs(backup) {
            Stand::Runs(entry())
        } else if phase.is_terminal() || backup.metadata.deletion_timestamp.is_some() {
            return None;
        } else {
            let error = status.and_then(|status| status.error.as_ref());
            let is_queued = error.is_some_and(|error| error.reason == Reason::Queued);
            let waits = is_queued && repository.is_some() && phase == BackupPhase::Pending;
            let trouble = error.filter(|_| !is_queued).cloned();
            Stand::Rests { phase, trouble, waits: waits.then(entry) }
        };
        Some(Self { uid: backup.metadata.uid.clone()?, stand })
    }

    /// Whether nothing has become of it since it was let begin when it was like `before`.
    pub(super) fn is_still(&self, before: &Self) -> bool {
        let rests = |shown: &Self| match &shown.stand {
            Stand::Rests { phase, trouble, .. } => Some((*phase, trouble.clone())),
            Stand::Runs(_) => None,
        };
        let now = rests(self);
        self.uid == before.uid && now.is_some() && now == rests(before)
    }
}

/// Whether its Job runs, or starts. Of one whose outcome is unknown the repository is being
/// asked: its Job is over, unless a node was lost and it may begin again.
fn runs(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|status| {
        let lost = status.error.as_ref().is_some_and(|it| it.reason == Reason::PodDisrupted);
        status.phase == Some(BackupPhase::Running) && (status.inspections.is_none() || lost)
    })
}
