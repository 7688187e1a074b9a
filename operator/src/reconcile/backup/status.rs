//! The status of a `Backup`, from what was done and seen.

use dbbackup_contract::{BackupReport, ErrorClass, Failure, Outcome, ProgressPhase, Reason};
use dbbackup_crds::{BackupPhase, BackupStatus, RepositoryStatusRef};
use jiff::Timestamp;

use crate::conditions::{Standing, Verdict, conditions, ended, sentence};
use crate::display;
use crate::reasons;

/// It waits for something that others must do.
#[must_use]
pub fn waiting(
    mut status: BackupStatus,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    let phase = status.phase.unwrap_or_default();
    let verdict = Verdict::of_failure(Standing::Reconciling, failure);
    status.display = Some(display::shortened(format!("waiting: {}", failure.message)));
    status.error = Some(failure.clone());
    put(&mut status, phase, &verdict, generation, now);
    status
}

/// It runs, or starts, or is being asked about.
#[must_use]
pub fn running(
    mut status: BackupStatus,
    verdict: &Verdict,
    display: String,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    status.display = Some(display::shortened(display));
    put(&mut status, BackupPhase::Running, verdict, generation, now);
    status
}

/// It has ended, with a report or with a failure that was seen from outside.
#[must_use]
pub fn finished(
    mut status: BackupStatus,
    end: &Result<BackupReport, Failure>,
    attempts: u32,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    status.report = None;
    status.next_inspection_time = None;
    status.attempts = Some(attempts.max(status.attempts.unwrap_or(0)));
    match end {
        Ok(report) => {
            take_over(&mut status, report);
            let attempts = status.attempts.unwrap_or(0);
            let (phase, verdict) = judged(report, attempts);
            status.display = Some(display::shortened(match (phase, &report.error) {
                (BackupPhase::Failed, Some(error)) => {
                    display::gave_up(error, attempts) + &display::failure(error)
                }
                (BackupPhase::Failed, None) => verdict.message.clone(),
                _ => display::backup(report),
            }));
            put(&mut status, phase, &verdict, generation, now);
        }
        Err(failure) => {
            status.completion_time = Some(now);
            status.progress = None;
            status.error = Some(failure.clone());
            let attempts = status.attempts.unwrap_or(0);
            let words = display::gave_up(failure, attempts) + &display::failure(failure);
            status.display = Some(display::shortened(words));
            let verdict = Verdict::of_failure(Standing::Failed, &ended(failure, attempts));
            put(&mut status, BackupPhase::Failed, &verdict, generation, now);
        }
    }
    status
}

/// Phase and verdict of a report.
fn judged(report: &BackupReport, attempts: u32) -> (BackupPhase, Verdict) {
    let count = report.database_count;
    match report.outcome {
        // A success that names no snapshot is none.
        Outcome::Succeeded if report.snapshot_id.is_some() => (
            BackupPhase::Succeeded,
            Verdict::new(Standing::Complete, reasons::SUCCEEDED, display::backup(report)),
        ),
        Outcome::PartiallyFailed if report.snapshot_id.is_some() => {
            let reason = report.error.as_ref().map_or(Reason::DatabaseFailed, |error| error.reason);
            let first = report.databases.iter().find_map(|database| {
                let error = database.error.as_ref()?;
                Some(format!("{}: {}", database.name, sentence(error)))
            });
            let message = format!(
                "{} are in the snapshot. {}",
                display::databases(count),
                first.unwrap_or_default()
            );
            let verdict = Verdict::new(Standing::Failed, reason.as_str(), message.trim_end());
            (BackupPhase::PartiallyFailed, verdict)
        }
        _ => {
            let failure = report.error.clone().unwrap_or_else(|| {
                Failure::new(Reason::NothingCommitted, "the run left no snapshot in the repository")
            });
            (BackupPhase::Failed, Verdict::of_failure(Standing::Failed, &ended(&failure, attempts)))
        }
    }
}

fn take_over(status: &mut BackupStatus, report: &BackupReport) {
    status.consistent_time = report.consistent_time;
    status.completion_time = Some(report.completion_time);
    if status.start_time.is_none() {
        status.start_time = Some(report.start_time);
    }
    status.snapshot_id.clone_from(&report.snapshot_id);
    if let Some(id) = &report.repository_id {
        let name = status.repository.take().map(|known| known.name).unwrap_or_default();
        status.repository = Some(RepositoryStatusRef { name, id: Some(id.clone()) });
    }
    status.method.clone_from(&report.method);
    status.server.clone_from(&report.server);
    status.position.clone_from(&report.position);
    status.bytes = Some(report.bytes.clone());
    status.database_count = Some(report.database_count);
    status.databases.clone_from(&report.databases);
    status.verification.clone_from(&report.verification);
    status.error = report.error.clone().filter(|error| error.class != ErrorClass::Ignorable);
    status.attempts = status.attempts.max(Some(report.attempt.saturating_add(1)));
    if report.outcome == Outcome::Failed {
        status.progress = None;
    } else if let Some(progress) = &mut status.progress {
        progress.phase = ProgressPhase::Finishing;
        progress.percent = Some(100);
        progress.remaining_seconds = None;
        progress.current = None;
    }
}

fn put(
    status: &mut BackupStatus,
    phase: BackupPhase,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.phase = Some(phase);
    status.observed_generation = generation;
    status.conditions = conditions(&status.conditions, verdict, generation, now);
}
