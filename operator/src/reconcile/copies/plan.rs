//! What is to be done for one copy. Pure.

use dbbackup_contract::{CopyReport, Failure, Outcome, Reason, Report};
use dbbackup_crds::{BackupPhase, BackupStatus, CopyPhase, CopyStatus};
use jiff::Timestamp;

use super::Turn;
use super::wanted::source_snapshot;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// What is to be done for a copy.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Nothing before this time: the next attempt is due then.
    RestUntil(Timestamp),
    /// Others come first.
    Queue {
        /// Whether nobody but the one that runs does.
        is_next: bool,
    },
    /// It could begin: see whose turn it is, and whether the repositories are ready.
    Look,
    /// Its destination is not ready.
    Wait(Failure),
    /// The backup's own repository is not ready: others may have another one, and go by.
    Defer(Failure),
    /// Create the Job of this attempt.
    Begin(u32),
    /// The Job is on its way.
    Watch {
        /// The pod that has not started, where none has.
        waiting: Option<Waiting>,
        /// What an attempt of this Job failed with.
        last_failure: Option<Failure>,
    },
    /// It is done.
    Finish(CopyReport),
    /// The attempt has failed.
    Fail(Failure),
    /// There is nothing left to copy.
    GiveUp(Failure),
}

/// Plans the next step of a copy that runs.
#[must_use]
pub fn plan_begun(run: &RunView) -> Step {
    match run {
        RunView::Running { last_failure, .. } => {
            Step::Watch { waiting: None, last_failure: last_failure.clone() }
        }
        RunView::Waiting(waiting) => Step::Watch {
            waiting: Some(waiting.clone()),
            last_failure: waiting.cause.clone().or_else(|| waiting.last_failure.clone()),
        },
        // A copy that was committed all the same is found by the next attempt.
        RunView::NeverStarted(failure)
        | RunView::Unknown(failure, _)
        | RunView::Lost(failure, _) => Step::Fail(failure.clone()),
        RunView::Reported(report, _) => match report.as_ref() {
            Report::Copy(copy) if report.outcome() == Outcome::Succeeded => {
                Step::Finish(copy.clone())
            }
            Report::Copy(copy) => Step::Fail(copy.error.clone().unwrap_or_else(|| {
                Failure::new(Reason::Internal, "the runner could not copy the snapshot")
            })),
            _ => Step::Fail(another_action()),
        },
    }
}

/// Plans the next step of a copy that does not run.
#[must_use]
pub fn plan_unbegun(
    copy: &CopyStatus,
    status: &BackupStatus,
    is_wanted: bool,
    now: Timestamp,
) -> Step {
    if copy.phase.is_done() || !is_wanted {
        return Step::Rest;
    }
    if source_snapshot(status).is_none() {
        let is_told = copy.phase == CopyPhase::Failed && copy.next_attempt_time.is_none();
        return if is_told { Step::Rest } else { Step::GiveUp(gone(status)) };
    }
    match copy.next_attempt_time.filter(|next| now < *next) {
        Some(next) => Step::RestUntil(next),
        None => Step::Look,
    }
}

/// Why there is nothing left to copy.
fn gone(status: &BackupStatus) -> Failure {
    if status.phase == Some(BackupPhase::Missing) {
        let message = "the backup's snapshot is gone; it was not copied before";
        return Failure::new(Reason::SnapshotsMissing, message);
    }
    let message = "the backup's snapshot was let go before it was copied";
    Failure::new(Reason::SnapshotForgotten, message)
        .with_hint("Keep backups for longer, until their copies are made.")
}

/// Plans the next step of a copy that is due. `source` and `destination` say why a
/// repository cannot be used; they are not looked at before it is the copy's turn.
#[must_use]
pub fn plan_due(
    copy: &CopyStatus,
    turn: Turn,
    source: Option<Failure>,
    destination: Option<Failure>,
) -> Step {
    match (turn, source, destination) {
        (Turn::Later, ..) => Step::Queue { is_next: false },
        (Turn::Next, ..) => Step::Queue { is_next: true },
        (Turn::Now, Some(failure), _) => Step::Defer(failure),
        (Turn::Now, None, Some(failure)) => Step::Wait(failure),
        (Turn::Now, None, None) => Step::Begin(copy.attempts.unwrap_or(0).saturating_add(1)),
    }
}
