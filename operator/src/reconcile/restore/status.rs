//! What a `RestoreRequest`'s status has of a run, and what it takes over from a report.

use dbbackup_contract::{DatabaseCount, DatabaseReport, Failure, Outcome, Reason, RestoreReport};
use dbbackup_crds::{RestorePhase, RestoreRequest, RestoreRequestStatus};
use jiff::Timestamp;

use crate::conditions::{Standing, Verdict, conditions};
use crate::display;
use crate::reasons;
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
            Stage::Ended(Outcome::Failed) => match self.error.as_ref().map(|error| error.reason) {
                Some(Reason::RequestExpired) => RestorePhase::Expired,
                Some(Reason::AlreadyCarriedOut | Reason::CarriedOutInPart) => {
                    RestorePhase::AlreadyCarriedOut
                }
                _ => RestorePhase::Failed,
            },
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
        if report.plan.is_some() {
            self.plan.clone_from(&report.plan);
        }
    }
}

/// The plan of a restore, which waits for an approval from now on. Jobs that follow are
/// counted anew, unless one of them has found the plan changed.
pub(in crate::reconcile) fn proposed(
    mut status: RestoreRequestStatus,
    report: RestoreReport,
    generation: Option<i64>,
    now: Timestamp,
) -> RestoreRequestStatus {
    if report.error.is_none() {
        (status.jobs, status.attempts) = (None, None);
    }
    (status.job_name, status.report, status.progress) = (None, None, None);
    status.server = report.server.or(status.server);
    status.snapshot_id = report.snapshot_id.or(status.snapshot_id);
    status.plan = report.plan;
    let why = report
        .error
        .unwrap_or_else(|| Failure::new(Reason::AwaitingApproval, "its plan is in status.plan"));
    awaiting(status, &why, generation, now)
}

/// It waits for an approval. A plan of which nobody has approved yet is what was wanted; one
/// that is not what was approved stands in the way.
pub(super) fn awaiting(
    mut status: RestoreRequestStatus,
    why: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> RestoreRequestStatus {
    let plan = status.plan.as_ref().map_or_else(String::new, display::plan);
    let is_planned = why.reason == Reason::AwaitingApproval;
    let verdict = if is_planned {
        let message = format!("the plan: {plan}. {}", why.hint);
        Verdict::new(Standing::Ready, reasons::PLANNED, message)
    } else {
        Verdict::of_failure(Standing::Stalled, why)
    };
    let words = if is_planned { format!("planned: {plan}") } else { why.message.clone() };
    status.phase = Some(RestorePhase::AwaitingApproval);
    status.display = Some(display::shortened(words));
    status.error = (!is_planned).then(|| why.clone());
    status.observed_generation = generation;
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status
}
