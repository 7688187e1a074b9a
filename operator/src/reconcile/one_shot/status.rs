//! The status of a run, from what was done and seen.

use dbbackup_contract::{ErrorClass, Failure, Outcome};
use jiff::Timestamp;

use super::{End, RunReport, RunStatus, Stage};
use crate::conditions::{Standing, Verdict, conditions};
use crate::display;
use crate::run::Waiting;

/// It waits for something that others must do.
#[must_use]
pub fn waiting<S: RunStatus>(
    mut status: S,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> S {
    let verdict = Verdict::of_failure(Standing::Reconciling, failure);
    *status.common().error = Some(failure.clone());
    let words = format!("waiting: {}", failure.message);
    put(&mut status, Stage::AsBefore, &verdict, words, generation, now);
    status
}

/// It runs, or starts, or is being asked about.
#[must_use]
pub fn running<S: RunStatus>(
    mut status: S,
    verdict: &Verdict,
    display: String,
    generation: Option<i64>,
    now: Timestamp,
) -> S {
    put(&mut status, Stage::Running, verdict, display, generation, now);
    status
}

/// The pod of its first or next attempt has not started.
#[must_use]
pub(crate) fn starting<S: RunStatus>(
    mut status: S,
    waiting: &Waiting,
    generation: Option<i64>,
    now: Timestamp,
) -> S {
    let words = display::shortened(display::start(waiting));
    let common = status.common();
    *common.error = waiting.cause.clone().or_else(|| waiting.last_failure.clone());
    // How far the attempt before came says nothing of the next one. But what comes while one is
    // waited for is its own: a runner is quicker than the news that its pod has started, and
    // one that waits for a lock does not say it again.
    if common.display.as_deref() != Some(&words) {
        *common.progress = None;
    }
    running(status, &Verdict::of_start(waiting), words, generation, now)
}

/// It has ended, with a report or with a failure that was seen from outside.
#[must_use]
pub fn finished<S: RunStatus>(
    mut status: S,
    end: &Result<S::Report, Failure>,
    attempts: u32,
    generation: Option<i64>,
    now: Timestamp,
) -> (S, End) {
    let common = status.common();
    *common.report = None;
    *common.attempts = Some(attempts.max(common.attempts.unwrap_or(0)));
    match end {
        Ok(report) => {
            status.take_over(report);
            let common = status.common();
            let error = report.error().filter(|error| error.class != ErrorClass::Ignorable);
            *common.error = error.cloned();
            if report.outcome() == Outcome::Failed {
                common.error.get_or_insert_with(S::Report::unexplained);
            }
        }
        Err(failure) => {
            *common.completion_time = Some(now);
            *common.error = Some(failure.clone());
        }
    }
    // The report has how much it was; the last news from before the end was a guess.
    *status.common().progress = None;
    let attempts = status.common().attempts.unwrap_or(0);
    let end = match end {
        Ok(report) => End::of_report(report, attempts),
        Err(failure) => End::of_failure(failure, attempts),
    };
    let (stage, display) = (Stage::Ended(end.outcome), end.display.clone());
    put(&mut status, stage, &end.verdict, display, generation, now);
    (status, end)
}

/// A run that has ended stands as it did, whatever its spec says now. GitOps tools would wait
/// for ever for a generation that nobody looks at.
#[must_use]
pub(crate) fn seen_by<S: RunStatus>(mut status: S, generation: Option<i64>) -> S {
    let common = status.common();
    *common.observed_generation = generation;
    for condition in common.conditions {
        condition.observed_generation = generation;
    }
    status
}

fn put<S: RunStatus>(
    status: &mut S,
    stage: Stage,
    verdict: &Verdict,
    display: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.enter(stage);
    let common = status.common();
    *common.display = Some(display::shortened(display));
    *common.observed_generation = generation;
    *common.conditions = conditions(common.conditions, verdict, generation, now);
}
