//! What is to be done about the log of a schedule's server: a pure function of what is known.

use dbbackup_contract::{Failure, Outcome, Reason, Report};
use dbbackup_crds::{ArchiverStatus, ArchiverTask};
use jiff::{SignedDuration, Timestamp};

use crate::reconcile::one_shot::another_action;
use crate::run::RunView;

/// So long it is tried to drop the slot: an object that is to go must not hang for ever.
pub(super) const DROPPED_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// What is wanted of a log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// It is archived, by a Job of this digest.
    Archived(String),
    /// It should be, and no Job can be begun now.
    Held {
        /// Why not.
        why: Failure,
        /// Whether the one that runs must end: nothing may be written any more.
        stops: bool,
    },
    /// It is not, and the server must keep nothing for it. Since when the object is going, if
    /// it is.
    Dropped(Option<Timestamp>),
}

/// What is seen of the Job that was begun last.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    /// It was told to end, and has not yet.
    Ending,
    /// It was told to end, and is gone.
    Gone,
    /// It said a moment ago that it archives.
    Speaks,
    /// What its Job and its pods tell.
    Run(RunView),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing before this time, if ever.
    Rest(Option<Timestamp>),
    /// Create the next Job.
    Begin(ArchiverTask),
    /// The Job is on its way, or works.
    Watch,
    /// Another Job is to take its place: away with it.
    Stop,
    /// It is going.
    Await,
    /// It has ended, and should not have.
    Fail(Failure),
    /// The slot is gone.
    Dropped,
    /// The slot stays: it could not be dropped in time.
    Leave(Failure),
    /// There is nothing of it.
    Forget,
}

/// Plans the next step. `was_archived` says whether there was ever anything in the archive.
pub(super) fn plan(
    wanted: &Wanted,
    known: Option<&ArchiverStatus>,
    seen: Option<&Seen>,
    was_archived: bool,
    now: Timestamp,
) -> Step {
    match (wanted, known) {
        (Wanted::Archived(_), None) => Step::Begin(ArchiverTask::Archive),
        (Wanted::Held { .. }, None) => Step::Rest(None),
        (Wanted::Dropped(_), None) => Step::Forget,
        (Wanted::Dropped(going), Some(known)) => drop_slot(known, seen, *going, was_archived, now),
        (_, Some(known)) => archive(wanted, known, seen, now),
    }
}

fn archive(wanted: &Wanted, known: &ArchiverStatus, seen: Option<&Seen>, now: Timestamp) -> Step {
    let seen = match (known.stop_time, seen) {
        (Some(_), Some(Seen::Ending)) => return Step::Await,
        (Some(_), _) | (None, None) => return next(wanted, known, now),
        (None, Some(seen)) => seen,
    };
    let is_other = known.task != ArchiverTask::Archive
        || match wanted {
            Wanted::Archived(digest) => known.digest.as_ref() != Some(digest),
            Wanted::Held { stops, .. } => *stops,
            Wanted::Dropped(_) => true,
        };
    if is_other { Step::Stop } else { go_on(known, seen) }
}

/// None runs: when the next one begins.
fn next(wanted: &Wanted, known: &ArchiverStatus, now: Timestamp) -> Step {
    let Wanted::Archived(digest) = wanted else { return Step::Rest(None) };
    // What has changed may have corrected what the last one failed with.
    let has_changed = known.digest.as_ref() != Some(digest);
    match known.retry_time.filter(|retry| *retry > now && !has_changed) {
        Some(retry) => Step::Rest(Some(retry)),
        None => Step::Begin(ArchiverTask::Archive),
    }
}

/// What became of a Job that was not told to end.
fn go_on(known: &ArchiverStatus, seen: &Seen) -> Step {
    let run = match seen {
        Seen::Speaks => return Step::Watch,
        Seen::Ending => return Step::Await,
        Seen::Gone => {
            let name = known.job_name.as_deref().unwrap_or_default();
            return Step::Fail(Failure::new(Reason::JobGone, format!("the Job {name} is gone")));
        }
        Seen::Run(run) => run,
    };
    match run {
        RunView::Waiting(_) | RunView::Running { .. } => Step::Watch,
        RunView::NeverStarted(failure)
        | RunView::Unknown(failure, _)
        | RunView::Lost(failure, _) => Step::Fail(failure.clone()),
        RunView::Reported(report, _) => {
            let (is_its, name) = match (known.task, report.as_ref()) {
                (ArchiverTask::Archive, Report::Archive(_)) => (true, "the archiver"),
                (ArchiverTask::Retire, Report::Retire(_)) => (true, "the Job that drops the slot"),
                _ => (false, ""),
            };
            let has_dropped =
                known.task == ArchiverTask::Retire && report.outcome() == Outcome::Succeeded;
            match (is_its, report.error()) {
                (false, _) => Step::Fail(another_action()),
                (true, _) if has_dropped => Step::Dropped,
                (true, Some(failure)) => Step::Fail(failure.clone()),
                (true, None) => {
                    let message = format!("{name} was told to stop");
                    Step::Fail(Failure::new(Reason::Interrupted, message))
                }
            }
        }
    }
}

/// The archiver goes first, then the slot. After ten minutes the object is let go all the same.
fn drop_slot(
    known: &ArchiverStatus,
    seen: Option<&Seen>,
    going: Option<Timestamp>,
    was_archived: bool,
    now: Timestamp,
) -> Step {
    let since = going.or(known.retiring_since).unwrap_or(now);
    let until = since.checked_add(DROPPED_WITHIN).unwrap_or(since);
    let leave = |why: Option<&Failure>| {
        let late = || {
            let limit = crate::display::duration(DROPPED_WITHIN);
            Failure::new(Reason::DeadlineExceeded, format!("it took longer than {limit}"))
        };
        Step::Leave(why.or(known.error.as_ref()).cloned().unwrap_or_else(late))
    };
    let is_over = now >= until;
    let step = match (known.stop_time, seen) {
        (Some(_), Some(Seen::Ending)) => Step::Await,
        (Some(_), _) | (None, None) => {
            let retry = known.retry_time.filter(|_| known.task == ArchiverTask::Retire);
            match retry.filter(|retry| *retry > now) {
                Some(retry) => Step::Rest(Some(retry.min(until))),
                None => Step::Begin(ArchiverTask::Retire),
            }
        }
        (None, Some(_)) if known.task == ArchiverTask::Archive => Step::Stop,
        (None, Some(seen)) => go_on(known, seen),
    };
    // A server that was never reached has no slot, most likely: nobody waits ten minutes for it.
    let is_hopeless = going.is_some() && !was_archived;
    let stumbled = match seen {
        Some(Seen::Run(RunView::Running { last_failure, .. })) => last_failure.as_ref(),
        Some(Seen::Run(RunView::Waiting(waiting))) => waiting.last_failure.as_ref(),
        _ => None,
    };
    match step {
        Step::Fail(failure) if is_over || is_hopeless => leave(Some(&failure)),
        Step::Dropped | Step::Fail(_) => step,
        _ if is_over => leave(stumbled),
        Step::Watch if is_hopeless && stumbled.is_some() => leave(stumbled),
        step => step,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
