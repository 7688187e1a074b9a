//! Archiving as a Job: until it is told to stop, while the operator hears how it goes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dbbackup_contract::{
    ArchiveAction, ArchiveReport, ArchiverState, Failure, LogGap, LogStatus, MAX_LISTED_GAPS,
    Outcome, Reason,
};
use dbbackup_postgres::{ArchiveState, ArchiveWatcher, ArchivedLog, slot_name};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Order;
use super::archive::{Archiving, LogWatcher, archive};
use super::open::named;

/// Where nothing happens that somebody should know at once, it is told so often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long what was received may take to be kept after a stop. With the report's own time it stays
/// below the 30 s that Kubernetes gives a pod.
const LAST_PARTS: Duration = Duration::from_secs(15);

/// Archives until it is told to stop, which is a success; a failure is in the report.
pub(crate) async fn keep_log(order: &Order<'_>, action: &ArchiveAction) -> ArchiveReport {
    keep_log_telling(order, action, &|status| order.board.log(status)).await
}

async fn keep_log_telling(
    order: &Order<'_>,
    action: &ArchiveAction,
    tell: &(dyn Fn(LogStatus) + Sync),
) -> ArchiveReport {
    let slot = slot_name(&action.series);
    let what = Archiving {
        server: &action.server,
        series: &action.series,
        slot: &slot,
        max_lag: Duration::from_millis(action.max_lag_milliseconds),
    };
    let teller = LogTeller::begin(&slot, tell);
    let error = match until_stopped(order.cancel, archive(order, &what, &teller)).await {
        Ok(()) => None,
        Err(failure) if failure.reason == Reason::Interrupted => None,
        Err(failure) => Some(named(failure, &order.repository.name)),
    };
    let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    ArchiveReport { outcome, completion_time: Timestamp::now(), error }
}

/// Archives, and after a stop for a few seconds more. What could not be kept by then the server has:
/// it was never told that it may forget it.
async fn until_stopped(
    cancel: &CancellationToken,
    archiving: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let over = async {
        cancel.cancelled().await;
        tokio::time::sleep(LAST_PARTS).await;
    };
    tokio::select! {
        biased;
        ended = archiving => ended,
        () = over => {
            tracing::warn!("what was received last was not kept in time; the server still has it");
            Ok(())
        }
    }
}

/// Says how a log is archived: at once what matters, the rest now and then.
struct LogTeller<'a> {
    tell: &'a (dyn Fn(LogStatus) + Sync),
    told: Mutex<Told>,
}

struct Told {
    status: LogStatus,
    /// Gaps that were found by this archiver.
    found: Vec<LogGap>,
    last: Option<Instant>,
}

impl<'a> LogTeller<'a> {
    fn begin(slot: &str, tell: &'a (dyn Fn(LogStatus) + Sync)) -> Self {
        let status = LogStatus { slot: Some(slot.to_owned()), ..LogStatus::default() };
        let told = Told { status, found: Vec::new(), last: None };
        let teller = Self { tell, told: Mutex::new(told) };
        teller.change(|_| {});
        teller
    }

    fn change(&self, change: impl FnOnce(&mut Told)) {
        // A panic elsewhere leaves no half state: fields are set one by one, and told again.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.status.clone();
        change(&mut told);
        let is_due = told.last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if !is_due && !matters(&before, &told.status) {
            return;
        }
        if before.state != told.status.state {
            let position = told.status.position.as_deref().unwrap_or_default();
            tracing::info!(state = ?told.status.state, position, "archiving");
        }
        told.last = Some(Instant::now());
        told.status.time = Some(Timestamp::now());
        (self.tell)(told.status.clone());
    }
}

/// Whether somebody should hear of a change at once.
fn matters(before: &LogStatus, after: &LogStatus) -> bool {
    let facts = |status: &LogStatus| (status.state, status.timeline, status.gap_count);
    facts(before) != facts(after) || before.error != after.error || before.server != after.server
}

impl ArchiveWatcher for LogTeller<'_> {
    fn update(&self, state: ArchiveState) {
        self.change(|Told { status, .. }| {
            status.state = ArchiverState::Streaming;
            status.error = None;
            status.timeline = Some(state.timeline);
            status.position = Some(state.kept);
            status.behind_bytes = state.behind_bytes;
            status.kept_time = state.kept_time.max(status.kept_time);
            // A log that had nothing begins now.
            if status.server.is_some() {
                status.unbroken_since.get_or_insert_with(Timestamp::now);
            }
        });
    }

    fn gap(&self, start: &str, end: &str, timeline: u32) {
        self.change(|told| {
            let (start, end, time) = (start.to_owned(), end.to_owned(), Timestamp::now());
            let gap = LogGap { start, end, timeline, after: told.status.kept_time, time };
            told.found.push(gap);
            // Before that nobody knows how many there are.
            if told.status.server.is_some() {
                told.status.gap_count += 1;
                told.status.gaps.extend(told.found.last().cloned());
                keep_newest(&mut told.status.gaps);
                told.status.unbroken_since = Some(time);
            }
        });
    }
}

impl LogWatcher for LogTeller<'_> {
    fn waits(&self, failure: &Failure) {
        self.change(|Told { status, .. }| {
            status.state = ArchiverState::Waiting;
            status.error = Some(failure.clone());
        });
    }

    fn wants_log(&self) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).status.server.is_none()
    }

    fn knows(&self, server: &str, log: Option<&ArchivedLog>) {
        self.change(|Told { status, found, .. }| {
            status.server = Some(server.to_owned());
            let mut gaps = log.map(ArchivedLog::gaps).unwrap_or_default();
            let is_new = |gap: &&LogGap| {
                !gaps
                    .iter()
                    .any(|known| (&known.start, known.timeline) == (&gap.start, gap.timeline))
            };
            let new: Vec<LogGap> = found.iter().filter(is_new).cloned().collect();
            let since = new.last().map(|gap| gap.time).or_else(|| log?.unbroken_since());
            gaps.extend(new);
            status.gap_count = u32::try_from(gaps.len()).unwrap_or(u32::MAX);
            keep_newest(&mut gaps);
            status.gaps = gaps;
            status.unbroken_since = since;
            let kept_time = log.and_then(ArchivedLog::kept_time);
            status.kept_time = kept_time.max(status.kept_time);
        });
    }
}

fn keep_newest(gaps: &mut Vec<LogGap>) {
    gaps.drain(..gaps.len().saturating_sub(MAX_LISTED_GAPS));
}

#[cfg(test)]
#[path = "keep_log_tests.rs"]
mod tests;
