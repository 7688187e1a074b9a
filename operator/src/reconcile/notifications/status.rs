//! The entry of one who is told in the status of the backup, after each step.

use std::time::Duration;

use dbbackup_contract::Failure;
use dbbackup_crds::{NotificationPhase, NotificationStatus};
use jiff::Timestamp;

use crate::backoff::next_attempt;

/// How soon one that failed for the first time is tried again. Each later failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The Job of attempt `attempt` was created.
pub(super) fn begun(entry: &mut NotificationStatus, job_name: String, attempt: u32) {
    entry.phase = NotificationPhase::Running;
    // The report of an adopted Job may be there already.
    entry.report = entry.report.take().filter(|report| report.job_name == job_name);
    (entry.job_name, entry.attempts) = (Some(job_name), Some(attempt));
    entry.next_attempt_time = None;
}

/// It has arrived.
pub(super) fn sent(entry: &mut NotificationStatus, now: Timestamp) {
    settled(entry, NotificationPhase::Sent, None, now);
}

/// It has failed for good.
pub(super) fn given_up(entry: &mut NotificationStatus, failure: Failure, now: Timestamp) {
    settled(entry, NotificationPhase::Failed, Some(failure), now);
}

fn settled(
    entry: &mut NotificationStatus,
    phase: NotificationPhase,
    error: Option<Failure>,
    now: Timestamp,
) {
    (entry.phase, entry.error, entry.time) = (phase, error, Some(now));
    (entry.next_attempt_time, entry.report) = (None, None);
}

/// An attempt has failed; the next one comes later each time.
pub(super) fn failed(entry: &mut NotificationStatus, failure: Failure, now: Timestamp) {
    (entry.phase, entry.error, entry.report) = (NotificationPhase::Pending, Some(failure), None);
    let attempts = entry.attempts.unwrap_or(1);
    entry.next_attempt_time = next_attempt(attempts, FIRST_PAUSE, LONGEST_PAUSE, now);
}
