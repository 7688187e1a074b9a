//! What is to be done for a `PitrRestore`: a pure function of what is known of it.

use dbbackup_contract::{ErrorClass, Failure, Outcome, Reason, RecoverReport, Report};
use dbbackup_crds::{PitrPhase, ResolvedPitr};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::claim::{ClaimState, claim_name, claim_state};
use super::gather::{Gathered, Resolution};
use super::target::target;
use crate::reconcile::backup::repository_trouble;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// Jobs of one recovery, and of the look before it. The volume is marked with the request, so
/// that a Job whose report is lost is carried out again: it wipes what is its own, or finds that
/// all is done.
const MAX_JOBS: u32 = 3;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: it has ended.
    Nothing,
    /// It waits for something that others must do.
    Wait(Failure),
    /// Create the Job that looks for the moment; the failure says why it is not the first.
    Look(ResolvedPitr, Option<Failure>),
    /// The moment was found: from now on it is this base.
    Note(Box<RecoverReport>),
    /// Create the claim.
    MakeClaim(Box<PersistentVolumeClaim>),
    /// Create the Job that recovers onto the claim; the failure says why it is not the first.
    Recover {
        /// What is recovered.
        resolved: ResolvedPitr,
        /// The name of the claim.
        claim: String,
        /// Why it is not the first Job.
        cause: Option<Failure>,
    },
    /// The Job's pod has not started.
    Start(Waiting),
    /// The Job runs.
    Run {
        /// Pods that were begun.
        attempts: u32,
        /// What the last attempt failed with.
        last_failure: Option<Failure>,
    },
    /// It has ended with a report.
    Finish(Box<RecoverReport>, u32),
    /// It has ended without one.
    Fail(Failure, u32),
}

/// Plans the next step.
#[must_use]
pub fn plan(seen: &Gathered) -> Step {
    if seen.status.phase.is_some_and(PitrPhase::is_terminal) {
        return Step::Nothing;
    }
    if seen.status.job_name.is_none()
        && let Some(failure) = refused(seen).or_else(|| expired(seen))
    {
        return Step::Fail(failure, 0);
    }
    let resolved = match &seen.resolved {
        Resolution::Known(resolved) => resolved,
        Resolution::Missing(failure) => return Step::Wait(failure.clone()),
        Resolution::Impossible(failure) => return Step::Fail(failure.clone(), 0),
    };
    match &seen.run {
        None => next(seen, resolved, None),
        Some(RunView::Waiting(waiting)) => Step::Start(waiting.clone()),
        Some(RunView::Running { attempts, last_failure }) => {
            Step::Run { attempts: *attempts, last_failure: last_failure.clone() }
        }
        Some(RunView::NeverStarted(failure)) => Step::Fail(failure.clone(), 0),
        Some(RunView::Reported(report, attempts)) => match report.as_ref() {
            Report::Recover(report) if seen.status.base.is_none() => looked(report, *attempts),
            Report::Recover(report) => Step::Finish(report.clone(), *attempts),
            _ => again(seen, resolved, &another_action(), *attempts),
        },
        Some(RunView::Unknown(cause, attempts) | RunView::Lost(cause, attempts)) => {
            again(seen, resolved, cause, *attempts)
        }
    }
}

/// What the schema let through.
fn refused(seen: &Gathered) -> Option<Failure> {
    target(&seen.request.spec.recovery_target).err()
}

/// A recovery that has made nothing yet may be too late. A look is nothing.
fn expired(seen: &Gathered) -> Option<Failure> {
    let has_made = seen.status.volume_claim_name.is_some();
    let until = seen.request.spec.valid_until.filter(|until| *until < seen.now && !has_made)?;
    let message = format!("validUntil has passed: it could begin until {until}");
    Some(Failure::new(Reason::RequestExpired, message))
}

/// The next Job: first the look, then, onto the claim, the recovery from the base that it chose.
fn next(seen: &Gathered, resolved: &ResolvedPitr, cause: Option<Failure>) -> Step {
    let name = &resolved.repository_ref.name;
    if let Some(failure) = repository_trouble(name, seen.repository.as_ref()) {
        return Step::Wait(failure);
    }
    let resolved = resolved.clone();
    if seen.status.base.is_none() {
        return Step::Look(resolved, cause);
    }
    match claim_state(seen) {
        ClaimState::Ready => Step::Recover { resolved, claim: claim_name(seen).to_owned(), cause },
        ClaimState::Missing(claim) => Step::MakeClaim(claim),
        ClaimState::Awaited(failure) => Step::Wait(failure),
        ClaimState::Refused(failure) => Step::Fail(failure, 0),
    }
}

/// A look that has found the moment says where, and from which base.
fn looked(report: &RecoverReport, attempts: u32) -> Step {
    let report = Box::new(report.clone());
    if report.outcome != Outcome::Succeeded {
        return Step::Finish(report, attempts);
    }
    if report.base.is_some() && report.resolved_target.is_some() {
        return Step::Note(report);
    }
    let message = "the moment was found, and it was not said where";
    Step::Fail(Failure::new(Reason::Internal, message), attempts)
}

/// What is to be done when nobody knows what became of a Job: it is carried out
/// again, but not for ever.
fn again(seen: &Gathered, resolved: &ResolvedPitr, cause: &Failure, attempts: u32) -> Step {
    let may_be_done = matches!(
        cause.reason,
        Reason::JobGone | Reason::PodDisrupted | Reason::PodFailed | Reason::OutcomeUnknown
    );
    // Anything else has ended it in every attempt of its Job.
    if !may_be_done {
        return Step::Fail(cause.clone(), attempts);
    }
    if seen.status.jobs.unwrap_or(0) < MAX_JOBS {
        return next(seen, resolved, Some(cause.clone()));
    }
    let message = format!("{}; the recovery was begun {MAX_JOBS} times", cause.message);
    let mut failure = Failure { class: ErrorClass::Fatal, message, ..cause.clone() };
    if cause.reason == Reason::JobGone {
        failure =
            failure.with_hint("Find out who deletes the Job, then create another PitrRestore.");
    }
    Step::Fail(failure, attempts)
}
