//! What a `Backup`'s status has of a run, and what it takes over from a report.

use dbbackup_contract::{BackupReport, DatabaseCount, DatabaseReport, Failure, Outcome, Reason};
use dbbackup_crds::{Backup, BackupPhase, BackupStatus, RepositoryStatusRef};
use jiff::Timestamp;

use super::hooks;
use crate::conditions::{Standing, Verdict, sentence};
use crate::display;
use crate::reconcile::one_shot::running;
use crate::reconcile::{Common, LOOK_AGAIN, OneShot, RunReport, RunStatus, Stage};

/// The status of a run of which only the repository knows what became.
pub(super) fn unknown(
    status: BackupStatus,
    cause: &Failure,
    doing: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    let message = format!("{}; {doing}", cause.message);
    let verdict =
        Verdict::new(Standing::Reconciling, Reason::OutcomeUnknown.as_str(), message.clone());
    running(status, &verdict, format!("outcome unknown: {message}"), generation, now)
}

/// The repository is asked by the inspection `number`, or will be, where `refused` says
/// why its Job could not be created. What was seen of the run is written down in both
/// cases: its own Job is ended then, and tells it to nobody any more.
pub(super) fn asking(
    status: BackupStatus,
    (cause, attempts): (&Failure, u32),
    number: u32,
    refused: Option<&Failure>,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupStatus {
    let doing = match refused {
        None => "the repository is being asked".to_owned(),
        Some(why) => could_not_ask(why),
    };
    let mut status = unknown(status, cause, &doing, generation, now);
    status.attempts = Some(attempts);
    status.error = Some(cause.clone());
    let begun = if refused.is_some() { number.saturating_sub(1) } else { number };
    status.inspections = Some(begun);
    status.next_inspection_time = refused.and_then(|_| now.checked_add(LOOK_AGAIN).ok());
    status
}

/// Why there is no answer of the repository yet.
pub(super) fn could_not_ask(why: &Failure) -> String {
    format!("the repository could not be asked: {}", sentence(why))
}

/// The status of a run whose next Job is about to be created. What became of those before
/// is settled: should this one be refused, the run waits, and is not judged by them.
pub(super) fn beginning(mut status: BackupStatus) -> BackupStatus {
    (status.job_name, status.inspections, status.next_inspection_time) = (None, None, None);
    status
}

impl OneShot for Backup {
    const ACTION: &'static str = "Backup";
    const RUN: &'static str = "the backup";
}

impl RunReport for BackupReport {
    const DONE: &'static str = "are in the snapshot";

    fn outcome(&self) -> Outcome {
        // A success that names no snapshot is none.
        if self.snapshot_id.is_some() { self.outcome } else { Outcome::Failed }
    }

    fn error(&self) -> Option<&Failure> {
        self.error.as_ref()
    }

    fn databases(&self) -> &[DatabaseReport] {
        &self.databases
    }

    fn database_count(&self) -> DatabaseCount {
        self.database_count
    }

    fn words(&self) -> String {
        display::backup(self)
    }

    fn unexplained() -> Failure {
        Failure::new(Reason::NothingCommitted, "the run left no snapshot in the repository")
    }
}

impl RunStatus for BackupStatus {
    type Report = BackupReport;

    fn common(&mut self) -> Common<'_> {
        Common {
            observed_generation: &mut self.observed_generation,
            display: &mut self.display,
            conditions: &mut self.conditions,
            completion_time: &mut self.completion_time,
            progress: &mut self.progress,
            attempts: &mut self.attempts,
            error: &mut self.error,
            report: &mut self.report,
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.phase = Some(match stage {
            Stage::AsBefore => self.phase.unwrap_or_default(),
            Stage::Running => BackupPhase::Running,
            Stage::Ended(Outcome::Succeeded) => BackupPhase::Succeeded,
            Stage::Ended(Outcome::PartiallyFailed) => BackupPhase::PartiallyFailed,
            Stage::Ended(Outcome::Failed) => BackupPhase::Failed,
        });
        if let Stage::Ended(_) = stage {
            self.next_inspection_time = None;
            hooks::note_unknown(self);
        }
    }

    fn begin(&mut self, job: String, jobs: u32, now: Timestamp) {
        self.job_name = Some(job);
        self.jobs = Some(jobs);
        self.start_time = self.start_time.or(Some(now));
        self.inspections = None;
        self.next_inspection_time = None;
    }

    fn take_over(&mut self, report: &BackupReport) {
        self.consistent_time = report.consistent_time;
        self.completion_time = Some(report.completion_time);
        if self.start_time.is_none() {
            self.start_time = Some(report.start_time);
        }
        self.snapshot_id.clone_from(&report.snapshot_id);
        if let Some(id) = &report.repository_id {
            let name = self.repository.take().map(|known| known.name).unwrap_or_default();
            self.repository = Some(RepositoryStatusRef { name, id: Some(id.clone()) });
        }
        self.method.clone_from(&report.method);
        self.server.clone_from(&report.server);
        self.position.clone_from(&report.position);
        self.log_start = report.log_start.clone().map(Box::new);
        self.bytes = Some(report.bytes.clone());
        self.database_count = Some(report.database_count);
        self.databases.clone_from(&report.databases);
        self.verification.clone_from(&report.verification);
        self.hooks.clone_from(&report.hooks);
        self.attempts = self.attempts.max(Some(report.attempt.saturating_add(1)));
    }
}
