//! What a `RestoreRequest`'s status has of a run, and what it takes over from a report.

use dbbackup_contract::{DatabaseCount, DatabaseReport, Failure, Outcome, Reason, RestoreReport};
use dbbackup_crds::{RestorePhase, RestoreRequest, RestoreRequestStatus};
use jiff::Timestamp;

use crate::display;
use crate::reconcile::{Common, OneShot, RunReport, RunStatus, Stage};

impl OneShot for RestoreRequest {
    const ACTION: &'static str = "Restore";
    const RUN: &'static str = "the restore";
}

impl RunReport for RestoreReport {
    const DONE: &'static str = "are restored";

    fn outcome(&self) -> Outcome {
        self.outcome
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
        display::restore(self)
    }

    fn unexplained() -> Failure {
        Failure::new(Reason::Internal, "the restore failed and the report says no reason")
    }
}

impl RunStatus for RestoreRequestStatus {
    type Report = RestoreReport;

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
            Stage::Running => RestorePhase::Running,
            Stage::Ended(Outcome::Succeeded) => RestorePhase::Succeeded,
            Stage::Ended(Outcome::PartiallyFailed) => RestorePhase::PartiallyFailed,
            Stage::Ended(Outcome::Failed) => RestorePhase::Failed,
        });
    }

    fn begin(&mut self, job: String, jobs: u32, now: Timestamp) {
        self.job_name = Some(job);
        self.jobs = Some(jobs);
        self.start_time = self.start_time.or(Some(now));
    }

    fn take_over(&mut self, report: &RestoreReport) {
        self.completion_time = Some(report.completion_time);
        if self.start_time.is_none() {
            self.start_time = Some(report.start_time);
        }
        if report.snapshot_id.is_some() {
            self.snapshot_id.clone_from(&report.snapshot_id);
        }
        self.server.clone_from(&report.server);
        self.restored_bytes = Some(report.restored_bytes);
        self.globals.clone_from(&report.globals);
        self.database_count = Some(report.database_count);
        self.databases.clone_from(&report.databases);
    }
}
