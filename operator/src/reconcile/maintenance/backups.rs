//! Tells the backups what maintenance has decided about their snapshots.

use std::collections::BTreeSet;

use dbbackup_contract::{Failure, MaintainReport, Reason};
use dbbackup_crds::{Backup, BackupPhase, BackupRepositoryStatus, BackupStatus};
use jiff::Timestamp;

use super::gather::{copy_in, list, readable, snapshot_in};
use crate::cluster::write_status;
use crate::conditions::{Standing, Verdict, conditions};
use crate::context::{Context, Identity, ReconcileError};
use crate::events::{publish, warn};
use crate::reconcile::copies;
use crate::{display, reasons};

/// A backup's own snapshot, in messages.
const SNAPSHOT: &str = "its snapshot";

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
        let id = repository.id.as_deref();
        let own = snapshot_in(backup, &identity.name, id).and_then(|found| news.about(found));
        let before = backup.status.clone().unwrap_or_default();
        let (status, of_copies) = after_copies(before, &identity.name, id, &news, now);
        if own.is_none() && of_copies.is_empty() {
            continue;
        }
        let status = match own {
            Some(told) => after(status, told, backup.metadata.generation, now),
            None => status,
        };
        let backup = write_status(context, backup, status).await?;
        publish_news(context, &backup, own, SNAPSHOT).await;
        for (copy, told) in of_copies {
            publish_news(context, &backup, Some(told), &format!("its copy {copy}")).await;
        }
    }
    Ok(())
}

/// Tells what became of `what`.
async fn publish_news(context: &Context, backup: &Backup, told: Option<Told>, what: &str) {
    match told {
        Some(Told::LetGo) => {
            let rest = if what == SNAPSHOT { "; the object can be deleted" } else { "" };
            let note = format!("{what} was let go{rest}");
            publish(context, backup, reasons::EXPIRED, "Maintain", note);
        }
        Some(Told::Missing) => warn(context, backup, "Maintain", &missing(what)).await,
        Some(Told::Pinned(_)) | None => {}
    }
}

/// The status of a backup after what was decided about its copies in the repository, and
/// what that was, by the names of the copies. A pin of a copy is none of the backup's.
pub(super) fn after_copies(
    mut status: BackupStatus,
    repository: &str,
    id: Option<&str>,
    news: &News<'_>,
    now: Timestamp,
) -> (BackupStatus, Vec<(String, Told)>) {
    let mut all = Vec::new();
    for copy in &mut status.copies {
        let told = copy_in(copy, repository, id).and_then(|found| news.about(found));
        match told {
            Some(Told::LetGo) => copies::expired(copy),
            Some(Told::Missing) => copies::missing(copy, now),
            Some(Told::Pinned(_)) | None => continue,
        }
        all.extend(told.map(|told| (copy.name.clone(), told)));
    }
    (status, all)
}

/// What was decided, by snapshot.
pub(super) struct News<'a> {
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
    pub(super) fn of(report: &'a MaintainReport) -> Self {
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

    pub(super) fn about(&self, snapshot: &str) -> Option<Told> {
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
            let failure = missing(SNAPSHOT);
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

/// The status of a backup whose snapshot was let go.
pub(crate) fn expired(
    status: BackupStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    after(status, Told::LetGo, generation, now)
}

fn missing(what: &str) -> Failure {
    let message = format!("{what} is gone, and nobody has let it go");
    Failure::new(Reason::SnapshotsMissing, message)
}
