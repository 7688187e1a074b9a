//! Whose turn it is: of a schedule's backups one at a time is copied to a place, and the
//! oldest that waits comes first, so that each copy finds in the one before it what has not
//! changed. One that has failed lets the others by until its next attempt is due.
//!
//! It is read from the watch, which may lag. What follows from that is at worst two copies
//! at once, which the repository allows.

use std::sync::Arc;

use dbbackup_crds::{Backup, BackupSchedule, CopyPhase, CopyStatus};
use jiff::Timestamp;
use kube::ResourceExt;

use super::wanted::{Wanted, entries, of_schedule, source_snapshot};
use crate::context::Guarded;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This one's.
    Now,
    /// It is the next one's, and another one runs.
    Next,
    /// Others come before it.
    Later,
}

/// The order of backups: by their slots.
pub(super) fn order(backup: &Backup) -> (Timestamp, String) {
    let resolved = backup.status.as_ref().and_then(|status| status.resolved.as_ref());
    let created = || backup.creation_timestamp().map(|time| time.0);
    let time = resolved.map(|resolved| resolved.slot_time).or_else(created);
    (time.unwrap_or(Timestamp::MAX), backup.name_any())
}

/// Whether `other` is another backup of the same schedule.
fn is_sibling(backup: &Backup, other: &Backup) -> bool {
    // Asked of every pair: nothing is copied for it.
    backup.spec.schedule_ref.is_some()
        && backup.spec.schedule_ref == other.spec.schedule_ref
        && backup.metadata.namespace == other.metadata.namespace
        && backup.metadata.name != other.metadata.name
}

/// Whether a copy is missing and could be begun now.
fn is_due(backup: &Backup, wanted: &Wanted, now: Timestamp) -> bool {
    let Some(status) = &backup.status else { return false };
    let is_missing = |copy: &CopyStatus| {
        !copy.phase.is_done()
            && copy.phase != CopyPhase::Running
            && copy.next_attempt_time.is_none_or(|time| time <= now)
    };
    backup.metadata.deletion_timestamp.is_none()
        && source_snapshot(status).is_some()
        && wanted.entry(status).is_none_or(is_missing)
}

/// Whether a copy is on its way.
fn runs(backup: &Backup, wanted: &Wanted) -> bool {
    let entry = backup.status.as_ref().and_then(|status| wanted.entry(status));
    entry.is_some_and(|copy| copy.phase == CopyPhase::Running)
}

/// Whether it is `backup`'s turn to be copied. Of `others` only its siblings count.
#[must_use]
pub fn turn<'a>(
    backup: &Backup,
    wanted: &Wanted,
    others: impl Iterator<Item = &'a Backup>,
    now: Timestamp,
) -> Turn {
    let own = order(backup);
    let mut turn = Turn::Now;
    for other in others.filter(|other| is_sibling(backup, other)) {
        if is_due(other, wanted, now) && order(other) < own {
            return Turn::Later;
        }
        if runs(other, wanted) {
            turn = Turn::Next;
        }
    }
    turn
}

/// Whether a backup is to be copied anywhere.
pub(crate) fn has_any(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|status| !status.copies.is_empty())
}

/// Names of the siblings that come first in line for the places that `changed` is copied to:
/// it may be their turn now.
pub(crate) fn next_in_line(
    backups: &[Arc<Guarded<Backup>>],
    changed: &Backup,
    now: Timestamp,
) -> Vec<String> {
    let Some(status) = &changed.status else { return Vec::new() };
    let places = status
        .copies
        .iter()
        .map(|copy| Wanted { name: copy.name.clone(), repository: copy.repository.name.clone() });
    let first = |place: Wanted| {
        let siblings = backups.iter().filter_map(|backup| backup.0.as_ref().ok());
        let waiting = siblings
            .filter(|other| is_sibling(changed, other))
            .filter(|other| is_due(other, &place, now));
        waiting.min_by_key(|other| order(other)).map(ResourceExt::name_any)
    };
    places.filter_map(first).collect()
}

/// Names of the schedule's backups whose statuses do not list what it wants.
pub(crate) fn unlisted(backups: &[Arc<Guarded<Backup>>], schedule: &BackupSchedule) -> Vec<String> {
    let wanted = of_schedule(schedule);
    let is_unlisted = |backup: &&Backup| {
        let status = backup.status.as_ref().filter(|status| source_snapshot(status).is_some());
        status.is_some_and(|status| entries(&status.copies, &wanted) != status.copies)
    };
    let backups = backups.iter().filter_map(|backup| backup.0.as_ref().ok());
    backups.filter(is_unlisted).map(ResourceExt::name_any).collect()
}

/// Whether a copy of the backup waits for this repository to be ready.
pub(crate) fn waits_for(backup: &Backup, repository: &str) -> bool {
    let copies = backup.status.iter().flat_map(|status| &status.copies);
    copies.into_iter().any(|copy| {
        copy.phase == CopyPhase::Pending
            && copy.error.is_some()
            && copy.repository.name == repository
    })
}
