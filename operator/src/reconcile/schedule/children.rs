//! What a schedule's backups tell of it.

use dbbackup_contract::{DatabaseOutcome, Failure, Reason};
use dbbackup_crds::{Backup, BackupPhase, BackupRepository, BackupSchedule, BackupStatus};
use jiff::Timestamp;
use kube::ResourceExt;

use super::archiver::{self, Base};
use crate::context::{Context, Identity};
use crate::labels;
use crate::reconcile::{backup, copies, notifications};

/// What a schedule's backups tell of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// Those that have not ended, by name.
    pub active: Vec<String>,
    /// When one last succeeded.
    pub last_success: Option<Timestamp>,
    /// Of those that succeeded, when the one that began last began, and when it ended.
    pub proof: Option<(Timestamp, Timestamp)>,
    /// The newest one: slot or creation, name, phase.
    pub newest: Option<(Timestamp, String, BackupPhase)>,
    /// The one that ended last, by hand or not.
    pub last_ended: Option<Ended>,
    /// How far they are copied to each place.
    pub copies: Vec<copies::Outlook>,
    /// What became of telling each who is told of them.
    pub told: Vec<notifications::Outlook>,
    /// The bases among them that the log can be replayed on.
    pub bases: Vec<Base>,
    /// Whether a first one waits for the archiver of the log, which is about to begin.
    pub awaits_log: bool,
}

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began, or was created if it never did.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub time: Timestamp,
    /// Its name.
    pub name: String,
    /// How.
    pub phase: BackupPhase,
    /// Why it did not do all; `None` where it has succeeded.
    pub failure: Option<Failure>,
    /// The databases that are not in its snapshot, by name.
    pub left_out: Vec<String>,
    /// What went wrong with hooks of it, where it is not what it failed by.
    pub of_hooks: Option<Failure>,
}

/// What the watch knows of the schedule's backups, those by hand included.
pub(super) fn of(
    context: &Context,
    identity: &Identity,
    schedule: &BackupSchedule,
    repository: Option<&BackupRepository>,
) -> Children {
    let known = context.backups_of.get(&identity.namespace, &identity.name);
    let ours: Vec<&Backup> = known.iter().filter_map(|backup| backup.0.as_ref().ok()).collect();
    let mut children = Children {
        copies: copies::outlook(schedule, &ours),
        told: notifications::outlook(schedule, &ours),
        bases: archiver::bases(schedule, repository, &ours),
        ..Children::default()
    };
    ours.iter().for_each(|backup| children.add(backup));
    children.active.sort();
    children
}

impl Children {
    pub(super) fn add(&mut self, backup: &Backup) {
        let status = backup.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        if !phase.is_terminal() {
            self.active.push(backup.name_any());
        }
        if phase == BackupPhase::Succeeded {
            self.last_success = self.last_success.max(status.completion_time);
            self.proof = self.proof.max(status.start_time.zip(status.completion_time));
        }
        let is_scheduled = labels::slot_of(backup).is_some();
        let created = backup.creation_timestamp().map(|time| time.0);
        if let Some(created) = created.filter(|_| is_scheduled)
            && self.newest.as_ref().is_none_or(|(time, ..)| *time < created)
        {
            self.newest = Some((created, backup.name_any(), phase));
        }
        if phase.is_terminal()
            && let Some(time) = status.completion_time.or(created)
            && self.last_ended.as_ref().is_none_or(|last| last.time < time)
        {
            let began = status.start_time.or(created);
            self.last_ended = Some(Ended::of(backup.name_any(), began, time, phase, status));
        }
    }
}

impl Ended {
    fn of(
        name: String,
        began: Option<Timestamp>,
        time: Timestamp,
        phase: BackupPhase,
        status: BackupStatus,
    ) -> Self {
        let unexplained = || match phase {
            BackupPhase::PartiallyFailed => {
                Failure::new(Reason::DatabaseFailed, "some databases failed")
            }
            _ => Failure::new(Reason::Internal, "no reason is known"),
        };
        // What was let go is told of no more.
        let has_failed = !matches!(phase, BackupPhase::Succeeded | BackupPhase::Expired);
        let failure = has_failed.then(|| status.error.unwrap_or_else(unexplained));
        let of_hooks = backup::hooks::trouble(&status.hooks);
        let failed = |outcome| outcome == DatabaseOutcome::Failed;
        let left_out = status.databases.into_iter().filter(|database| failed(database.outcome));
        let left_out = left_out.map(|database| database.name).collect();
        Self { began, time, name, phase, failure, left_out, of_hooks }
    }
}
