//! A copy's entry in the status of its backup, after each step.

use std::time::Duration;

use dbbackup_contract::{CopyReport, Failure, Reason};
use dbbackup_crds::{CopyPhase, CopyStatus};
use jiff::{SignedDuration, Timestamp};

use crate::backoff::next_attempt;

/// How soon a copy is tried again that failed for the first time. Each later failure
/// doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause: a damaged snapshot costs four pods a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// How soon the backup's own repository is looked at again.
pub(super) const SOURCE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Others come first. What it failed with before still stands.
pub(super) fn queued(copy: &mut CopyStatus) {
    if copy.phase == CopyPhase::Pending {
        copy.error = None;
    }
    copy.next_attempt_time = None;
}

/// Its destination is not ready.
pub(super) fn waiting(copy: &mut CopyStatus, failure: Failure) {
    (copy.phase, copy.error, copy.next_attempt_time) = (CopyPhase::Pending, Some(failure), None);
}

/// The backup's own repository is not ready.
pub(super) fn deferred(copy: &mut CopyStatus, failure: Failure, now: Timestamp) {
    waiting(copy, failure);
    copy.next_attempt_time = now.checked_add(SOURCE_PAUSE).ok();
}

/// The Job of attempt `attempt` was created.
pub(super) fn begun(
    copy: &mut CopyStatus,
    job_name: String,
    attempt: u32,
    repository_id: Option<String>,
    now: Timestamp,
) {
    copy.phase = CopyPhase::Running;
    copy.repository.id = repository_id;
    copy.start_time = copy.start_time.or(Some(now));
    // The report of an adopted Job may be there already.
    copy.report = copy.report.take().filter(|report| report.job_name == job_name);
    (copy.job_name, copy.attempts) = (Some(job_name), Some(attempt));
    (copy.next_attempt_time, copy.completion_time, copy.error) = (None, None, None);
}

/// It is done.
pub(super) fn done(copy: &mut CopyStatus, report: &CopyReport) {
    copy.phase = CopyPhase::Succeeded;
    copy.snapshot_id.clone_from(&report.snapshot_id);
    copy.completion_time = Some(report.completion_time);
    // One that an earlier attempt had made tells nothing of what that cost.
    copy.bytes = (!report.already).then(|| report.bytes.clone());
    (copy.error, copy.next_attempt_time, copy.report) = (None, None, None);
}

/// An attempt has failed; the next one comes later each time.
pub(super) fn failed(copy: &mut CopyStatus, failure: Failure, now: Timestamp) {
    let attempts = copy.attempts.unwrap_or(1);
    given_up(copy, failure, now);
    copy.next_attempt_time = next_attempt(attempts, FIRST_PAUSE, LONGEST_PAUSE, now);
}

/// It has failed for good.
pub(super) fn given_up(copy: &mut CopyStatus, failure: Failure, now: Timestamp) {
    (copy.phase, copy.error) = (CopyPhase::Failed, Some(failure));
    (copy.completion_time, copy.next_attempt_time, copy.report) = (Some(now), None, None);
}

/// Maintenance has let it go.
pub(crate) fn expired(copy: &mut CopyStatus) {
    copy.phase = CopyPhase::Expired;
    copy.error = None;
}

/// It is gone, and nobody has let it go: it is made again, if there is still something to
/// make it from.
pub(crate) fn missing(copy: &mut CopyStatus, now: Timestamp) {
    let message = "the copy is gone, and nobody has let it go";
    failed(copy, Failure::new(Reason::SnapshotsMissing, message), now);
}
