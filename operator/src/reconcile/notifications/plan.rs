//! What is to be done for one who is to be told. Pure.

use dbbackup_contract::{Failure, Outcome, Reason, Report};
use dbbackup_crds::NotificationStatus;
use jiff::Timestamp;

use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// Attempts after which it is given up: half an hour and more, with what a Job tries itself.
const MOST_ATTEMPTS: u32 = 4;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Nothing before this time: the next attempt is due then.
    RestUntil(Timestamp),
    /// Create the Job of this attempt, if there is a place.
    Begin(u32),
    /// The Job is on its way; the pod that has not started, where none has.
    Watch(Option<Waiting>),
    /// It has arrived.
    Finish,
    /// The attempt has failed, and another one may help.
    Retry(Failure),
    /// It has failed for good.
    GiveUp(Failure),
}

/// Plans the next step of one whose Job runs.
#[must_use]
pub fn plan_begun(entry: &NotificationStatus, run: &RunView) -> Step {
    match run {
        RunView::Running { .. } => Step::Watch(None),
        RunView::Waiting(waiting) => Step::Watch(Some(waiting.clone())),
        // What keeps a pod from starting may pass, whatever it says of one that ends with it.
        RunView::NeverStarted(failure)
        | RunView::Unknown(failure, _)
        | RunView::Lost(failure, _) => failed(entry, failure.clone(), true),
        RunView::Reported(report, _) => match report.as_ref() {
            Report::Notify(told) if told.outcome == Outcome::Succeeded => Step::Finish,
            Report::Notify(told) => {
                let failure = told.error.clone().unwrap_or_else(|| {
                    Failure::new(Reason::Internal, "the runner could not send the message")
                });
                let again = failure.is_retryable();
                failed(entry, failure, again)
            }
            _ => failed(entry, another_action(), false),
        },
    }
}

/// An attempt has failed.
pub(super) fn failed(entry: &NotificationStatus, failure: Failure, again: bool) -> Step {
    let is_last = entry.attempts.unwrap_or(1) >= MOST_ATTEMPTS;
    if again && !is_last { Step::Retry(failure) } else { Step::GiveUp(failure) }
}

/// Plans the next step of one whose Job does not run.
#[must_use]
pub fn plan_unbegun(entry: &NotificationStatus, now: Timestamp) -> Step {
    if entry.phase.is_settled() {
        return Step::Rest;
    }
    match entry.next_attempt_time.filter(|next| now < *next) {
        Some(next) => Step::RestUntil(next),
        None => Step::Begin(entry.attempts.unwrap_or(0).saturating_add(1)),
    }
}
