//! Tells the backups what maintenance has decided about their snapshots.

use std::collections::BTreeSet;

use dbbackup_contract::{Failure, MaintainReport, Reason};
use dbbackup_crds::{Backup, BackupPhase, BackupRepositoryStatus, BackupStatus};
use jiff::Timestamp;

use super::gather::{list, readable, snapshot_in};
use crate::cluster::{publish, warn, write_status};
use crate::conditions::{Standing, Verdict, conditions};
use crate::context::{Context, Identity, ReconcileError};
use crate::{display, reasons};

/// Writes it into the statuses of the backups that it concerns. To do it twice does no harm.
pub(super) async fn tell(
    context: &Context,
    identity: &Identity,
    repository: &BackupRepositoryStatus,
    report: &MaintainReport,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let news = News::of(report);
    if news.is_empty() {
        return Ok(());
    }
    for backup in &list::<Backup>(context, &identity.namespace).await? {
        let Some(backup) = readable(backup) else { continue };
        let snapshot = snapshot_in(backup, &identity.name, repository.id.as_deref());
        let Some(told) = snapshot.and_then(|snapshot| news.about(snapshot)) else { continue };
        let before = backup.status.clone().unwrap_or_default();
        let generation = backup.metadata.generation;
        let status = after(before, told, generation, now);
        let backup = write_status(context, backup, status).await?;
        match told {
            Told::LetGo => {
                let note = "its snapshot was let go; the object can be deleted".to_owned();
                publish(context, &backup, reasons::EXPIRED, "Maintain", note).await;
            }
            Told::Missing => warn(context, &backup, "Maintain", &missing()).await,
            Told::Pinned(_) => {}
        }
    }
    Ok(())
}

/// What was decided, by snapshot.
struct News<'a> {
    let_go: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    pinned: BTreeSet<&'a str>,
    unpinned: BTreeSet<&'a str>,
}

/// What is told to one backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its snapshot was let go.
    LetGo,
    /// Its snapshot is gone.
    Missing,
    /// The repository knows whether it is pinned.
    Pinned(bool),
}

impl<'a> News<'a> {
    fn of(report: &'a MaintainReport) -> Self {
        let set = |list: &'a [String]| list.iter().map(String::as_str).collect();
        Self {
            let_go: set(&report.let_go),
            missing: set(&report.missing),
            pinned: set(&report.pinned),
            unpinned: set(&report.unpinned),
        }
    }

    fn is_empty(&self) -> bool {
        [&self.let_go, &self.missing, &self.pinned, &self.unpinned].iter().all(|set| set.is_empty())
    }

    fn about(&self, snapshot: &str) -> Option<Told> {
        let is_in = |set: &BTreeSet<&str>| set.contains(snapshot);
        match () {
            () if is_in(&self.let_go) => Some(Told::LetGo),
            () if is_in(&self.missing) => Some(Told::Missing),
            () if is_in(&self.pinned) => Some(Told::Pinned(true)),
            () if is_in(&self.unpinned) => Some(Told::Pinned(false)),
            () => None,
        }
    }
}

/// The status of a backup that was told something.
pub(super) fn after(
    mut status: BackupStatus,
    told: Told,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    let (phase, words, verdict) = match told {
        Told::Pinned(pinned) => {
            status.pinned = pinned;
            return status;
        }
        Told::LetGo => {
            let words = "its snapshot was let go";
            let verdict = Verdict::new(Standing::Complete, reasons::EXPIRED, words);
            (BackupPhase::Expired, format!("expired: {words}"), verdict)
        }
        Told::Missing => {
            let failure = missing();
            let verdict = Verdict::of_failure(Standing::Failed, &failure);
            let words = display::failure(&failure);
            status.error = Some(failure);
            (BackupPhase::Missing, words, verdict)
        }
    };
    status.phase = Some(phase);
    status.display = Some(words);
    status.observed_generation = generation;
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status
}

fn missing() -> Failure {
    Failure::new(Reason::SnapshotsMissing, "its snapshot is gone, and nobody has let it go")
}
