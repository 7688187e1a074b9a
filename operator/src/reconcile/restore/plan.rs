//! What is to be done for a `RestoreRequest`: a pure function of what is known of it.

use std::collections::BTreeSet;

use dbbackup_contract::{
    ErrorClass, Failure, FindReport, Outcome, Reason, Report, RestoreReport, RestoreStrategy,
};
use dbbackup_crds::{ResolvedRestore, RestoreDatabaseSpec, RestoreRequestSpec};

use super::gather::{Gathered, Resolution};
use crate::reconcile::backup::repository_trouble;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// Jobs of one restore. Its journal is idempotent, so that one whose report is
/// lost is carried out again: what is done already is found done.
const MAX_JOBS: u32 = 3;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: it has ended.
    Nothing,
    /// It waits for something that others must do.
    Wait(Failure),
    /// Create the Job that finds the newest snapshot; the failure says why it is not the first.
    Find(Box<ResolvedRestore>, Option<Failure>),
    /// The snapshot was found: from now on it is this one.
    Choose(Box<ResolvedRestore>, String),
    /// Create the Job that makes the plan; the failure says why it is not the first one.
    Plan(Box<ResolvedRestore>, Option<Failure>),
    /// The plan is made, or is not the one that was approved: somebody has to approve of it.
    Propose(Box<RestoreReport>),
    /// It waits for that.
    AwaitApproval(Failure),
    /// Create the next Job; the failure says why it is not the first one.
    Begin(Box<ResolvedRestore>, Option<Failure>),
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
    Finish(Box<RestoreReport>, u32),
    /// It has ended without one.
    Fail(Failure, u32),
}

/// Plans the next step.
#[must_use]
pub fn plan(seen: &Gathered) -> Step {
    if seen.status.phase.is_some_and(dbbackup_crds::RestorePhase::is_terminal) {
        return Step::Nothing;
    }
    if seen.status.job_name.is_none()
        && let Some(failure) = refused(&seen.request.spec).or_else(|| expired(seen))
    {
        return Step::Fail(failure, 0);
    }
    let resolved = match &seen.resolved {
        Resolution::Known(resolved) => resolved,
        Resolution::Missing(failure) => return Step::Wait(failure.clone()),
        Resolution::Impossible(failure) => return Step::Fail(failure.clone(), 0),
    };
    match &seen.run {
        None => match repository_trouble(&resolved.repository_ref.name, seen.repository.as_ref()) {
            Some(failure) => Step::Wait(failure),
            None => cannot_note(seen)
                .or_else(|| unapproved(seen))
                .unwrap_or_else(|| next_job(seen, resolved, None)),
        },
        Some(RunView::Waiting(waiting)) => Step::Start(waiting.clone()),
        Some(RunView::Running { attempts, last_failure }) => {
            Step::Run { attempts: *attempts, last_failure: last_failure.clone() }
        }
        Some(RunView::NeverStarted(failure)) => Step::Fail(failure.clone(), 0),
        Some(RunView::Reported(report, attempts)) => match report.as_ref() {
            Report::Restore(report) if is_proposal(report) => {
                Step::Propose(Box::new(report.clone()))
            }
            Report::Restore(report) => Step::Finish(Box::new(report.clone()), *attempts),
            Report::Find(report) => found(resolved, report, *attempts),
            _ => again(seen, resolved, &another_action(), *attempts),
        },
        Some(RunView::Unknown(cause, attempts) | RunView::Lost(cause, attempts)) => {
            again(seen, resolved, cause, *attempts)
        }
    }
}

/// A restore of the newest snapshot first finds out which one that is: later
/// attempts must take up what the first one began, whatever was committed since.
fn next_job(seen: &Gathered, resolved: &ResolvedRestore, cause: Option<Failure>) -> Step {
    let resolved = Box::new(resolved.clone());
    match resolved.snapshot_id {
        // Once there is a plan, `unapproved` has let it pass.
        Some(_) if seen.request.spec.dry_run && seen.status.plan.is_none() => {
            Step::Plan(resolved, cause)
        }
        Some(_) => Step::Begin(resolved, cause),
        None => Step::Find(resolved, cause),
    }
}

/// Whether a report has a plan that somebody has to look at: nothing was done then, whatever
/// the request says by now.
fn is_proposal(report: &RestoreReport) -> bool {
    let changed = |error: &Failure| error.reason == Reason::PlanChanged;
    let is_possible = report.outcome != Outcome::Failed;
    report.plan.is_some() && (is_possible || report.error.as_ref().is_some_and(changed))
}

/// What a plan still waits for: once there is one, only an approval of it goes on, whatever
/// `dryRun` says. So nobody has to change what Git says.
fn unapproved(seen: &Gathered) -> Option<Step> {
    let plan = seen.status.plan.as_ref()?;
    let spec = &seen.request.spec;
    let (reason, message) = match &spec.approved_plan {
        Some(approved) if *approved == plan.digest => return None,
        // In the words of the runner, which may have found it.
        Some(approved) => {
            let message = format!("approvedPlan is {approved}, and the plan is {}", plan.digest);
            (Reason::PlanChanged, message)
        }
        None => (Reason::AwaitingApproval, format!("the plan is {}", plan.digest)),
    };
    Some(Step::AwaitApproval(Failure::new(reason, message)))
}

/// What replaces databases is noted in the repository.
fn cannot_note(seen: &Gathered) -> Option<Step> {
    let repository = seen.repository.as_ref()?;
    let replaces = seen.request.spec.strategy != RestoreStrategy::CreateNew;
    if !replaces || repository.spec.access.may_write() {
        return None;
    }
    let name = repository.metadata.name.as_deref().unwrap_or_default();
    let message = format!("the BackupRepository {name} is only read (access: ReadOnly)");
    let failure = Failure::new(Reason::RepositoryReadOnly, message).with_hint(
        "A restore that replaces databases is noted in its repository. Use CreateNew, or restore \
         from a copy in a repository that may be written to.",
    );
    Some(Step::Fail(failure, 0))
}

/// A restore that has not begun may be too late.
fn expired(seen: &Gathered) -> Option<Failure> {
    let until = seen.request.spec.valid_until.filter(|until| *until < seen.now)?;
    let message = format!("validUntil has passed: it could begin until {until}");
    Some(Failure::new(Reason::RequestExpired, message))
}

fn found(resolved: &ResolvedRestore, report: &FindReport, attempts: u32) -> Step {
    match &report.snapshot_id {
        Some(id) => Step::Choose(Box::new(resolved.clone()), id.clone()),
        None => {
            let unexplained =
                || Failure::new(Reason::Internal, "no snapshot was found, and no reason was given");
            Step::Fail(report.error.clone().unwrap_or_else(unexplained), attempts)
        }
    }
}

/// What is to be done when nobody knows what became of a Job: it is carried out
/// again, but not for ever.
fn again(seen: &Gathered, resolved: &ResolvedRestore, cause: &Failure, attempts: u32) -> Step {
    let may_be_done = matches!(
        cause.reason,
        Reason::JobGone | Reason::PodDisrupted | Reason::PodFailed | Reason::OutcomeUnknown
    );
    // Anything else has ended it in every attempt of its Job.
    if !may_be_done {
        return Step::Fail(cause.clone(), attempts);
    }
    // An approval that was taken back, or one that was never given, stops it here.
    if let Some(step) = unapproved(seen) {
        return step;
    }
    let trouble = repository_trouble(&resolved.repository_ref.name, seen.repository.as_ref());
    if seen.status.jobs.unwrap_or(0) < MAX_JOBS {
        return match trouble {
            Some(failure) => Step::Wait(failure),
            None => next_job(seen, resolved, Some(cause.clone())),
        };
    }
    let message = format!("{}; the restore was begun {MAX_JOBS} times", cause.message);
    let mut failure = Failure { class: ErrorClass::Fatal, message, ..cause.clone() };
    if cause.reason == Reason::JobGone {
        failure =
            failure.with_hint("Find out who deletes the Job, then create another RestoreRequest.");
    }
    Step::Fail(failure, attempts)
}

/// What the CRD cannot say within its budget.
fn refused(spec: &RestoreRequestSpec) -> Option<Failure> {
    name_given_twice(&spec.databases).or_else(|| unconfirmed(spec)).or_else(|| unasserted(spec))
}

/// An assertion about a database that is not restored would never be asked.
fn unasserted(spec: &RestoreRequestSpec) -> Option<Failure> {
    let is_restored = |name: &String| {
        spec.databases.is_empty() || spec.databases.iter().any(|it| it.name == *name)
    };
    let stray = spec.assertions.iter().find(|it| !is_restored(&it.database))?;
    let message = format!(
        "spec.assertions: {} is about {}, which is not restored",
        stray.name, stray.database
    );
    Some(
        Failure::new(Reason::InvalidSpec, message)
            .with_hint("Say the database's name as the backup has it."),
    )
}

/// What is dropped is said twice.
fn unconfirmed(spec: &RestoreRequestSpec) -> Option<Failure> {
    let names = || spec.databases.iter().map(RestoreDatabaseSpec::target_name);
    let message = match spec.strategy {
        RestoreStrategy::Overwrite if spec.databases.is_empty() => {
            "spec.databases is empty: strategy Overwrite drops databases, and says which".to_owned()
        }
        RestoreStrategy::Overwrite => {
            let missing = names().find(|name| !spec.confirm.iter().any(|it| it == name))?;
            format!("spec.confirm lacks {missing}: strategy Overwrite drops that database")
        }
        _ => return None,
    };
    Some(
        Failure::new(Reason::InvalidSpec, message)
            .with_hint("Repeat the name in confirm, or use strategy: Swap, which keeps it."),
    )
}

/// Two databases cannot become one.
fn name_given_twice(databases: &[RestoreDatabaseSpec]) -> Option<Failure> {
    let mut seen = BTreeSet::new();
    let (index, twice) =
        databases.iter().enumerate().find(|(_, database)| !seen.insert(database.target_name()))?;
    let name = twice.target_name();
    let message = format!("spec.databases[{index}]: the name {name} is given to two databases");
    Some(
        Failure::new(Reason::InvalidSpec, message)
            .with_hint("Give one of them another name with `as`."),
    )
}
