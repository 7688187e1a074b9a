//! What is to be done for a `Backup`: a pure function of what is known of it.

use std::time::Duration;

use dbbackup_contract::{BackupReport, ErrorClass, Failure, Outcome, Reason, Report, RunState};
use dbbackup_crds::{BackupRepository, ResolvedBackup};
use jiff::{SignedDuration, Timestamp};

use super::gather::{Gathered, Resolution};
use crate::conditions::holds;
use crate::reasons::READY;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// Jobs of one run: one whose node was lost is begun again so often.
const MAX_JOBS: u32 = 3;
/// A slot's `Backup` that was never looked at is not run this long after its slot,
/// where its schedule says no deadline: another tool has restored the object.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing: it has ended.
    Nothing,
    /// It waits for something that others must do.
    Wait(Failure),
    /// Create the run's next Job.
    Begin(Box<ResolvedBackup>),
    /// The Job's pod has not started.
    Start(Waiting),
    /// The Job runs.
    Run {
        /// Pods that were begun.
        attempts: u32,
        /// What the last attempt failed with.
        last_failure: Option<Failure>,
    },
    /// Nobody knows what became of the run: ask the repository.
    Ask {
        /// What was seen of the run.
        cause: Failure,
        /// Pods that were begun.
        attempts: u32,
        /// The inspection's number.
        number: u32,
    },
    /// The repository is being asked, or is asked again at `again`.
    Await {
        /// What was seen of the run.
        cause: Failure,
        /// Why the last inspection gave no answer.
        trouble: Option<Failure>,
        /// When it is asked again; `None` while an inspection runs.
        again: Option<Timestamp>,
    },
    /// It has ended with a report.
    Finish(Box<BackupReport>, u32),
    /// It has ended without one, and there is nothing to restore.
    Fail(Failure, u32),
}

/// Plans the next step.
#[must_use]
pub fn plan(seen: &Gathered, now: Timestamp) -> Step {
    if seen.status.phase.is_some_and(dbbackup_crds::BackupPhase::is_terminal) {
        return Step::Nothing;
    }
    let resolved = match &seen.resolved {
        Resolution::Known(resolved) => resolved,
        Resolution::NoSchedule(name) => {
            return Step::Wait(Failure::new(
                Reason::ReferenceNotFound,
                format!("the BackupSchedule {name} does not exist"),
            ));
        }
        Resolution::Nothing => {
            let message = "spec names neither scheduleRef nor template";
            return Step::Fail(Failure::new(Reason::InvalidSpec, message), 0);
        }
    };
    if seen.status.inspections.is_some() {
        return plan_inspected(seen, resolved, now);
    }
    match &seen.run {
        None => plan_unbegun(seen, resolved, now),
        Some(run) => plan_begun(seen, run),
    }
}

fn plan_unbegun(seen: &Gathered, resolved: &ResolvedBackup, now: Timestamp) -> Step {
    if let Some(failure) = writing_trouble(&resolved.repository_ref.name, seen.repository.as_ref())
    {
        return Step::Wait(failure);
    }
    match too_late(seen, now) {
        Some(cause) => Step::Ask { cause, attempts: 0, number: 1 },
        None => Step::Begin(Box::new(resolved.clone())),
    }
}

/// An object with a slot that has passed long ago, and without a trace of a run:
/// it was restored from elsewhere, or the operator was away for too long.
fn too_late(seen: &Gathered, now: Timestamp) -> Option<Failure> {
    // One that waits for its turn was looked at in time.
    let is_queued = seen.status.error.as_ref().is_some_and(|error| error.reason == Reason::Queued);
    if seen.status.resolved.is_some() || is_queued {
        return None;
    }
    let slot = seen.slot?;
    let limit = seen.deadline_seconds.map_or(FORGOTTEN_AFTER, SignedDuration::from_secs);
    let limit = limit.saturating_add(seen.jitter);
    (now.duration_since(slot) > limit).then(|| {
        Failure::new(
            Reason::DeadlineExceeded,
            format!("the slot {slot} is longer ago than {}", crate::display::duration(limit)),
        )
    })
}

fn plan_begun(seen: &Gathered, run: &RunView) -> Step {
    match run {
        RunView::Waiting(waiting) => Step::Start(waiting.clone()),
        RunView::Running { attempts, last_failure } => {
            Step::Run { attempts: *attempts, last_failure: last_failure.clone() }
        }
        RunView::Reported(report, attempts) => match report.as_ref() {
            Report::Backup(report) => match unknown_outcome(report) {
                Some(cause) => Step::Ask { cause: cause.clone(), attempts: *attempts, number: 1 },
                None => Step::Finish(Box::new(report.clone()), *attempts),
            },
            _ => Step::Ask { cause: another_action(), attempts: *attempts, number: 1 },
        },
        // A pod that was disrupted counts for no attempt of its Job, and may be gone by now.
        RunView::NeverStarted(cause) => match seen.status.attempts.unwrap_or(0) {
            0 => Step::Fail(cause.clone(), 0),
            attempts => Step::Ask { cause: cause.clone(), attempts, number: 1 },
        },
        RunView::Unknown(cause, attempts) | RunView::Lost(cause, attempts) => {
            Step::Ask { cause: cause.clone(), attempts: *attempts, number: 1 }
        }
    }
}

/// The runner itself does not know: it was cut while it committed.
fn unknown_outcome(report: &BackupReport) -> Option<&Failure> {
    let error = report.error.as_ref().filter(|error| error.reason == Reason::OutcomeUnknown);
    error.filter(|_| report.outcome == Outcome::Failed)
}

fn plan_inspected(seen: &Gathered, resolved: &ResolvedBackup, now: Timestamp) -> Step {
    let number = seen.status.inspections.unwrap_or(1);
    let attempts = seen.status.attempts.unwrap_or(0);
    let cause = seen.status.error.clone().unwrap_or_else(|| {
        Failure::new(Reason::OutcomeUnknown, "neither report nor termination message arrived")
    });
    // The run's own report may still come: it is worth as much as the repository's.
    if let Some(RunView::Reported(report, attempts)) = &seen.run
        && let Report::Backup(report) = report.as_ref()
        && (report.outcome != Outcome::Failed)
    {
        return Step::Finish(Box::new(report.clone()), *attempts);
    }
    if let Some(again) = seen.status.next_inspection_time {
        if let Some(failure) =
            repository_trouble(&resolved.repository_ref.name, seen.repository.as_ref())
        {
            return Step::Await { cause, trouble: Some(failure), again: Some(again) };
        }
        return if now < again {
            Step::Await { cause, trouble: None, again: Some(again) }
        } else {
            Step::Ask { cause, attempts, number: number.saturating_add(1) }
        };
    }
    let again = |trouble: Failure| {
        let again = Some(ask_again(number, now));
        Step::Await { cause: cause.clone(), trouble: Some(trouble), again }
    };
    match &seen.inspection {
        None | Some(RunView::Waiting(_) | RunView::Running { .. }) => {
            Step::Await { cause, trouble: None, again: None }
        }
        Some(
            RunView::NeverStarted(failure)
            | RunView::Unknown(failure, _)
            | RunView::Lost(failure, _),
        ) => again(failure.clone()),
        Some(RunView::Reported(report, _)) => match report.as_ref() {
            Report::Inspect(report) => match (report.state, &report.backup) {
                (Some(RunState::Committed), Some(backup)) => {
                    Step::Finish(Box::new(backup.clone()), attempts.max(1))
                }
                (Some(RunState::NotCommitted), _) => not_committed(seen, resolved, cause, attempts),
                (Some(RunState::Committed), None) => again(Failure::new(
                    Reason::OutcomeUnknown,
                    "the repository holds the run's snapshot, and its report cannot be read",
                )),
                (None, _) => again(report.error.clone().unwrap_or_else(|| {
                    Failure::new(Reason::OutcomeUnknown, "the inspection gave no answer")
                })),
            },
            _ => again(another_action()),
        },
    }
}

/// When the repository is asked again that gave no answer to the question `number`.
pub(super) fn ask_again(number: u32, now: Timestamp) -> Timestamp {
    let (first, most) = (Duration::from_secs(15), Duration::from_secs(600));
    crate::backoff::next_attempt(number, first, most, now).unwrap_or(now)
}

fn not_committed(
    seen: &Gathered,
    resolved: &ResolvedBackup,
    cause: Failure,
    attempts: u32,
) -> Step {
    let node_was_lost = cause.reason == Reason::PodDisrupted;
    if node_was_lost && seen.status.jobs.unwrap_or(0) < MAX_JOBS {
        return Step::Begin(Box::new(resolved.clone()));
    }
    let message = format!("{}; the repository holds no snapshot of this run", cause.message);
    let failure = Failure { message, ..cause };
    let failure = match failure.reason {
        Reason::JobGone | Reason::PodDisrupted | Reason::OutcomeUnknown | Reason::PodFailed => {
            Failure { class: ErrorClass::Fatal, ..failure }
                .with_hint("Create another Backup to run it again.")
        }
        _ => failure,
    };
    Step::Fail(failure, attempts)
}

/// Why a repository cannot be used now.
#[must_use]
pub(crate) fn repository_trouble(
    name: &str,
    repository: Option<&BackupRepository>,
) -> Option<Failure> {
    let Some(repository) = repository else {
        return Some(Failure::new(
            Reason::ReferenceNotFound,
            format!("the BackupRepository {name} does not exist"),
        ));
    };
    let conditions = repository.status.as_ref().map(|status| status.conditions.as_slice());
    let conditions = conditions.unwrap_or_default();
    if holds(conditions, READY, repository.metadata.generation) {
        return None;
    }
    // What is said of an earlier spec says nothing of this one.
    let is_current = conditions.iter().any(|condition| {
        condition.type_ == READY && condition.observed_generation == repository.metadata.generation
    });
    let words = repository.status.as_ref().and_then(|status| status.display.as_deref());
    let why = words
        .filter(|_| is_current)
        .map_or_else(|| " yet".to_owned(), |words| format!(": {words}"));
    let failure = Failure::new(
        Reason::ReferenceNotReady,
        format!("the BackupRepository {name} is not ready{why}"),
    );
    Some(failure.with_hint(format!("See: kubectl describe backuprepository {name}.")))
}

/// Why nothing can be written to a repository now. That it is only read comes first: waiting
/// does not help.
#[must_use]
pub(crate) fn writing_trouble(
    name: &str,
    repository: Option<&BackupRepository>,
) -> Option<Failure> {
    if repository.is_some_and(|repository| !repository.spec.access.may_write()) {
        let message = format!("the BackupRepository {name} is only read: spec.access is ReadOnly");
        return Some(Failure::new(Reason::RepositoryReadOnly, message));
    }
    repository_trouble(name, repository)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
