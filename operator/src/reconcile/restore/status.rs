//! The status of a `RestoreRequest`, from what was done and seen.

use dbbackup_contract::{ErrorClass, Failure, Outcome, ProgressPhase, Reason, RestoreReport};
use dbbackup_crds::{RestorePhase, RestoreRequestStatus};
use jiff::Timestamp;

use crate::conditions::{Standing, Verdict, conditions, ended, sentence};
use crate::display;
use crate::reasons;

/// It waits for something that others must do.
#[must_use]
pub fn waiting(
    mut status: RestoreRequestStatus,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> RestoreRequestStatus {
    let phase = status.phase.unwrap_or_default();
    let verdict = Verdict::of_failure(Standing::Reconciling, failure);
    status.display = Some(display::shortened(format!("waiting: {}", failure.message)));
    status.error = Some(failure.clone());
    put(&mut status, phase, &verdict, generation, now);
    status
}

/// It runs, or starts.
#[must_use]
pub fn running(
    mut status: RestoreRequestStatus,
    verdict: &Verdict,
    display: String,
    generation: Option<i64>,
    now: Timestamp,
) -> RestoreRequestStatus {
    status.display = Some(display::shortened(display));
    put(&mut status, RestorePhase::Running, verdict, generation, now);
    status
}

/// It has ended, with a report or with a failure that was seen from outside.
#[must_use]
pub fn finished(
    mut status: RestoreRequestStatus,
    end: &Result<RestoreReport, Failure>,
    attempts: u32,
    generation: Option<i64>,
    now: Timestamp,
) -> RestoreRequestStatus {
    status.report = None;
    status.attempts = Some(attempts.max(status.attempts.unwrap_or(0)));
    match end {
        Ok(report) => {
            take_over(&mut status, report);
            let attempts = status.attempts.unwrap_or(0);
            let (phase, verdict) = judged(report, attempts);
            status.display = Some(display::shortened(match (phase, &report.error) {
                (RestorePhase::Failed, Some(error)) => {
                    display::gave_up(error, attempts) + &display::failure(error)
                }
                (RestorePhase::Failed, None) => verdict.message.clone(),
                _ => display::restore(report),
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
            put(&mut status, RestorePhase::Failed, &verdict, generation, now);
        }
    }
    status
}

fn judged(report: &RestoreReport, attempts: u32) -> (RestorePhase, Verdict) {
    match report.outcome {
        Outcome::Succeeded => (
            RestorePhase::Succeeded,
            Verdict::new(Standing::Complete, reasons::SUCCEEDED, display::restore(report)),
        ),
        Outcome::PartiallyFailed => {
            let reason = report.error.as_ref().map_or(Reason::DatabaseFailed, |error| error.reason);
            let first = report.databases.iter().find_map(|database| {
                let error = database.error.as_ref()?;
                Some(format!("{}: {}", database.name, sentence(error)))
            });
            let message = format!(
                "{} are restored. {}",
                display::databases(report.database_count),
                first.unwrap_or_default()
            );
            let verdict = Verdict::new(Standing::Failed, reason.as_str(), message.trim_end());
            (RestorePhase::PartiallyFailed, verdict)
        }
        Outcome::Failed => {
            let failure = report.error.clone().unwrap_or_else(|| {
                Failure::new(Reason::Internal, "the restore failed and the report says no reason")
            });
            (
                RestorePhase::Failed,
                Verdict::of_failure(Standing::Failed, &ended(&failure, attempts)),
            )
        }
    }
}

fn take_over(status: &mut RestoreRequestStatus, report: &RestoreReport) {
    status.completion_time = Some(report.completion_time);
    if status.start_time.is_none() {
        status.start_time = Some(report.start_time);
    }
    if report.snapshot_id.is_some() {
        status.snapshot_id.clone_from(&report.snapshot_id);
    }
    status.server.clone_from(&report.server);
    status.restored_bytes = Some(report.restored_bytes);
    status.globals.clone_from(&report.globals);
    status.database_count = Some(report.database_count);
    status.databases.clone_from(&report.databases);
    status.error = report.error.clone().filter(|error| error.class != ErrorClass::Ignorable);
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
    status: &mut RestoreRequestStatus,
    phase: RestorePhase,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.phase = Some(phase);
    status.observed_generation = generation;
    status.conditions = conditions(&status.conditions, verdict, generation, now);
}
