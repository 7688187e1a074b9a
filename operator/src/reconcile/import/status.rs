//! What is told of an import: by the repository, and by each `Backup` that it made.

use dbbackup_contract::{BackupReport, Failure, FoundSnapshot, ImportReport, Outcome};
use dbbackup_crds::{
    Backup, BackupRepositoryStatus, BackupStatus, LastImport, RepositoryStatusRef,
};
use jiff::Timestamp;

use super::take::Taken;
use crate::display;
use crate::reconcile::finished;

/// The repository's status after a look that has ended, with a report or without one.
#[must_use]
pub fn ended(
    mut status: BackupRepositoryStatus,
    end: Result<(&ImportReport, Taken), &Failure>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let Some(run) = status.import.take() else { return status };
    status.import_report = None;
    let (report, taken, error) = match end {
        Ok((report, taken)) => (report.clone(), taken.clone(), taken.refused),
        Err(failure) => (ImportReport::default(), Taken::default(), Some(failure.clone())),
    };
    status.last_import = Some(LastImport {
        time: now,
        number: run.number,
        job_name: run.job_name,
        occasion: run.occasion,
        found: sum(taken.found, report.more),
        imported: taken.imported,
        remaining: remaining(&taken, &report),
        unreadable: report.unreadable,
        error,
    });
    status
}

/// `imported 12 backups; 3 remain`.
pub(super) fn words(taken: &Taken, report: &ImportReport) -> String {
    let noun = if taken.imported == 1 { "backup" } else { "backups" };
    let rest = match remaining(taken, report) {
        0 => String::new(),
        1 => "; 1 remains".to_owned(),
        more => format!("; {more} remain"),
    };
    format!("imported {} {noun}{rest}", taken.imported)
}

fn remaining(taken: &Taken, report: &ImportReport) -> u64 {
    sum(taken.found.saturating_sub(taken.imported), report.more)
}

/// A schema's integers have 63 bits.
fn sum(one: u64, other: u64) -> u64 {
    one.saturating_add(other).min(i64::MAX.unsigned_abs())
}

/// The status of a `Backup` that stands for a snapshot that was found: as its own run would
/// have left it, but for what says that it was imported.
#[must_use]
pub fn imported(
    backup: &Backup,
    mut status: BackupStatus,
    found: &FoundSnapshot,
    repository: RepositoryStatusRef,
    now: Timestamp,
) -> BackupStatus {
    let report = BackupReport {
        snapshot_id: Some(found.id.clone()),
        repository_id: repository.id.clone(),
        ..found.report.clone()
    };
    status.repository = Some(repository);
    status.series = Some(found.series.clone());
    // A pin that this object does not ask for is none of its own to take back.
    status.pinned = found.pinned && backup.spec.pinned;
    let words = match report.outcome {
        Outcome::Succeeded => {
            let count = display::databases(report.database_count);
            let bytes = display::bytes(report.bytes.read);
            Some(format!("imported: {count}, {bytes} of {}", whose(&found.series)))
        }
        Outcome::PartiallyFailed | Outcome::Failed => None,
    };
    let (mut status, end) = finished(status, &Ok(report), 0, backup.metadata.generation, now);
    let words = words.unwrap_or_else(|| format!("imported: {}", end.display));
    status.display = Some(display::shortened(words));
    status
}

/// A series without its first part, which is the UID of a cluster.
fn whose(series: &str) -> &str {
    series.split_once('/').map_or(series, |(_, rest)| rest)
}
