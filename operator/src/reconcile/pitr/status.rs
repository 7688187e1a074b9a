//! What a `PitrRestore`'s status has of a run, and what it takes over from a report.

use dbbackup_contract::{DatabaseCount, DatabaseReport, Failure, Outcome, Reason, RecoverReport};
use dbbackup_crds::{PitrPhase, PitrRestore, PitrRestoreStatus};
use jiff::Timestamp;

use super::gather::Gathered;
use crate::conditions::{Standing, Verdict, conditions};
use crate::display;
use crate::reasons;
use crate::reconcile::one_shot::running;
use crate::reconcile::{Common, OneShot, RunReport, RunStatus, Stage};

impl OneShot for PitrRestore {
    const ACTION: &'static str = "Recover";
    const RUN: &'static str = "the recovery";
}

/// A recovery that has ended, with what its words need.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What the runner said.
    pub report: RecoverReport,
    /// The time that was asked for, if a time was.
    pub asked: Option<Timestamp>,
    /// The claim; empty of a look.
    pub claim: String,
}

impl Recovered {
    /// A report for the request that it is about.
    pub(super) fn of(seen: &Gathered, report: RecoverReport) -> Self {
        let claim = seen.status.volume_claim_name.clone().unwrap_or_default();
        Self { report, asked: seen.request.spec.recovery_target.time, claim }
    }
}

impl RunReport for Recovered {
    const DONE: &'static str = "are recovered";

    fn outcome(&self) -> Outcome {
        // A success that does not say where the server has ended is none, and half a server is
        // none either.
        match self.report.outcome {
            Outcome::Succeeded if self.report.reached.is_some() => Outcome::Succeeded,
            _ => Outcome::Failed,
        }
    }

    fn error(&self) -> Option<&Failure> {
        self.report.error.as_ref()
    }

    fn databases(&self) -> &[DatabaseReport] {
        &[]
    }

    fn database_count(&self) -> DatabaseCount {
        DatabaseCount::default()
    }

    fn words(&self) -> String {
        display::recovery(&self.report, self.asked, &self.claim)
    }

    fn unexplained() -> Failure {
        Failure::new(Reason::Internal, "the recovery failed and the report says no reason")
    }
}

impl RunStatus for PitrRestoreStatus {
    type Report = Recovered;

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
            Stage::Running if self.base.is_none() => PitrPhase::Validating,
            Stage::Running => PitrPhase::Running,
            Stage::Ended(Outcome::Succeeded) => PitrPhase::Succeeded,
            Stage::Ended(Outcome::PartiallyFailed | Outcome::Failed) => {
                match self.error.as_ref().map(|error| error.reason) {
                    Some(Reason::RequestExpired) => PitrPhase::Expired,
                    _ => PitrPhase::Failed,
                }
            }
        });
    }

    fn begin(&mut self, job: String, jobs: u32, now: Timestamp) {
        self.job_name = Some(job);
        self.jobs = Some(jobs);
        self.start_time = self.start_time.or(Some(now));
    }

    fn take_over(&mut self, end: &Recovered) {
        let report = &end.report;
        self.completion_time = Some(report.completion_time);
        if self.start_time.is_none() {
            self.start_time = Some(report.start_time);
        }
        take_findings(self, report);
        self.reached.clone_from(&report.reached);
        self.restored_bytes = Some(report.restored_bytes).filter(|bytes| *bytes > 0);
        self.durations = Some(report.durations);
    }
}

/// What both a look and a recovery find out. What one does not say stays as the other said it.
fn take_findings(status: &mut PitrRestoreStatus, report: &RecoverReport) {
    let RecoverReport { base, resolved_target, recovery_window, server, .. } = report.clone();
    status.base = base.or(status.base.take());
    status.resolved_target = resolved_target.or(status.resolved_target.take());
    status.recovery_window = recovery_window.or(status.recovery_window.take());
    status.server = server.or(status.server.take());
    if report.needed_bytes > 0 {
        status.needed_bytes = Some(report.needed_bytes);
    }
    status.warnings.clone_from(&report.warnings);
}

/// The look goes on.
pub(super) fn looking(
    status: PitrRestoreStatus,
    attempts: u32,
    last_failure: Option<&Failure>,
    generation: Option<i64>,
    now: Timestamp,
) -> PitrRestoreStatus {
    let verdict = Verdict::of_attempt("the look for the moment", attempts, last_failure);
    let words = match last_failure {
        None => "looking for the moment in the log".to_owned(),
        Some(_) => display::attempt(attempts, last_failure, None),
    };
    let mut status = running(status, &verdict, words, generation, now);
    (status.attempts, status.error) = (Some(attempts), last_failure.cloned());
    status
}

/// The look has found the moment. The Jobs that follow are counted anew.
pub(in crate::reconcile) fn noted(
    mut status: PitrRestoreStatus,
    report: &RecoverReport,
    generation: Option<i64>,
    now: Timestamp,
) -> PitrRestoreStatus {
    take_findings(&mut status, report);
    (status.job_name, status.jobs, status.attempts) = (None, None, None);
    (status.report, status.error, status.progress) = (None, None, None);
    let found = display::found(report);
    let verdict = Verdict::new(Standing::Reconciling, reasons::TARGET_FOUND, found.clone());
    told(status, &verdict, found, generation, now)
}

/// The claim was made.
pub(super) fn claimed(
    mut status: PitrRestoreStatus,
    claim: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> PitrRestoreStatus {
    status.volume_claim_name = Some(claim.to_owned());
    let words = format!("created the claim {claim}");
    let verdict = Verdict::new(Standing::Reconciling, reasons::CLAIM_CREATED, words.clone());
    told(status, &verdict, words, generation, now)
}

/// Between two Jobs.
fn told(
    mut status: PitrRestoreStatus,
    verdict: &Verdict,
    words: String,
    generation: Option<i64>,
    now: Timestamp,
) -> PitrRestoreStatus {
    status.display = Some(display::shortened(words));
    status.observed_generation = generation;
    status.conditions = conditions(&status.conditions, verdict, generation, now);
    status
}
