//! What is told of a log: the condition `LogArchived`, and the words in the column.

use std::time::Duration;

use dbbackup_contract::{ArchiverState, Failure, LogStatus};
use dbbackup_crds::{ArchiverStatus, ArchiverTask, BackupScheduleStatus, Condition};
use jiff::{SignedDuration, Timestamp};

use super::plan::{Seen, Wanted};
use super::window::{Base, oldest};
use crate::conditions::{Standing, Verdict, sentence, to_seconds, with_condition};
use crate::display;
use crate::reasons::{self, LOG_ARCHIVED_TYPE};
use crate::run::{RunView, Waiting};

/// An archiver that has said nothing for so long may be gone: it speaks every ten seconds, and
/// what it says is kept every thirty.
const SPEAKS_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// So long a log may not be archived until its schedule is not ready.
const READY_FOR: SignedDuration = SignedDuration::from_mins(5);
/// What is younger than this is not behind, whatever was asked for: the status has it seldom.
const NOT_BEHIND: Duration = Duration::from_secs(60);

/// How the archiving of a schedule's log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOutlook {
    /// Whether it is archived as it comes.
    pub holds: bool,
    /// Stable name of the cause.
    pub reason: String,
    /// What happened, and what a person can do.
    pub message: String,
    /// In the column.
    pub words: String,
    /// Why the schedule is not ready: it is not archived for minutes.
    pub trouble: Option<Verdict>,
}

/// Whether the log is archived now, as far as its archiver has said so lately.
pub(super) fn is_archived(known: &ArchiverStatus, log: Option<&LogStatus>, now: Timestamp) -> bool {
    let runs = known.task == ArchiverTask::Archive
        && known.job_name.is_some()
        && known.stop_time.is_none();
    runs && log.is_some_and(|log| {
        log.state == ArchiverState::Streaming && is_its(known, log) && is_fresh(log, now)
    })
}

/// Whether this Job said it, and not the one before.
fn is_its(known: &ArchiverStatus, log: &LogStatus) -> bool {
    log.time.zip(known.start_time).is_some_and(|(said, began)| said >= began)
}

fn is_fresh(log: &LogStatus, now: Timestamp) -> bool {
    log.time.is_some_and(|said| now.duration_since(said) < SPEAKS_WITHIN)
}

/// How old what is not archived is, as the archiver said it last: by the server's clock.
#[must_use]
pub(crate) fn lag(log: &LogStatus) -> Option<SignedDuration> {
    let (said, kept) = log.time.zip(log.kept_time)?;
    Some(said.duration_since(kept).max(SignedDuration::ZERO))
}

/// What an outlook is made from.
pub(super) struct Facts<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) status: &'a BackupScheduleStatus,
    pub(super) seen: Option<&'a Seen>,
    pub(super) bases: &'a [Base],
    pub(super) max_lag: Duration,
    pub(super) now: Timestamp,
}

/// What is to be told. `None` where nothing is archived, and nothing was.
pub(super) fn outlook(facts: &Facts<'_>) -> Option<LogOutlook> {
    let known = facts.status.archiver.as_deref();
    if let Wanted::Dropped(_) = facts.wanted {
        return known.map(dropping);
    }
    let log = facts.status.log.as_deref();
    if let (Some(known), Some(log)) = (known, log)
        && is_archived(known, Some(log), facts.now)
    {
        return Some(streaming(log, facts.bases, facts.max_lag));
    }
    let (reason, message, is_permanent) = idle(facts, known, log);
    let words = format!("log not archived: {reason}");
    let failing_since = known.and_then(|known| known.failing_since);
    let is_long = |since: Timestamp| facts.now.duration_since(since) > READY_FOR;
    let trouble = failing_since.is_some_and(is_long).then(|| {
        let standing = if is_permanent { Standing::Stalled } else { Standing::Reconciling };
        Verdict::new(standing, &reason, format!("the log is not archived: {message}"))
    });
    Some(LogOutlook { holds: false, reason, message, words, trouble })
}

/// It archives. What may be wrong all the same: log is missing, or it does not keep up.
fn streaming(log: &LogStatus, bases: &[Base], max_lag: Duration) -> LogOutlook {
    let base = oldest(log, bases);
    let lag = lag(log).unwrap_or_default();
    let limit = (max_lag * 10).max(NOT_BEHIND);
    let is_behind = log.behind_bytes > 0 && Duration::try_from(lag).is_ok_and(|lag| lag > limit);
    let words = format!("log {} behind", display::duration(lag));
    let outlook = |holds, reason: &str, message: String, words| LogOutlook {
        holds,
        reason: reason.to_owned(),
        message,
        words,
        trouble: None,
    };
    if let (None, Some(gap)) = (base, log.gaps.iter().max_by_key(|gap| gap.time)) {
        let failure = missing(&gap.start, &gap.end);
        let words = format!("{words}, with a gap until the next base");
        return outlook(false, failure.reason.as_str(), sentence(&failure), words);
    }
    if is_behind {
        let message = format!(
            "the log is archived, but slower than the server writes it: {} and {} behind. Look at \
             the load of the repository's storage and of the network, and at job.resources.",
            display::bytes(log.behind_bytes),
            display::duration(lag)
        );
        return outlook(false, reasons::LOG_BEHIND, message, words);
    }
    let message = match base {
        Some(_) => "the log is archived as the server writes it",
        None => {
            "the log is archived as the server writes it; it leads nowhere before the first base: \
             the next backup is one"
        }
    };
    outlook(true, reasons::STREAMING, message.to_owned(), words)
}

/// What is said of log that is missing.
pub(super) fn missing(start: &str, end: &str) -> Failure {
    let message = format!(
        "the log is missing from {start} to {end}, and no base has been made since: the next \
         base closes it"
    );
    Failure::new(dbbackup_contract::Reason::LogMissing, message)
}

/// Why nothing is archived now: reason, message, and whether it does not pass by itself.
fn idle(
    facts: &Facts<'_>,
    known: Option<&ArchiverStatus>,
    log: Option<&LogStatus>,
) -> (String, String, bool) {
    let told = |failure: &Failure, before: String, behind: &str| {
        let words = sentence(failure);
        let dot = if behind.is_empty() || words.ends_with('.') { "" } else { "." };
        let message = format!("{before}{words}{dot}{behind}");
        (failure.reason.as_str().to_owned(), message, !failure.is_retryable())
    };
    if let Wanted::Held { why, .. } = facts.wanted {
        return told(why, String::new(), "");
    }
    let starting = || {
        let message = "the archiver's pod is starting".to_owned();
        (reasons::STARTING.to_owned(), message, false)
    };
    let Some(known) = known else { return starting() };
    if let Some(log) = log.filter(|log| is_its(known, log) && is_fresh(log, facts.now))
        && let Some(failure) = log.error.as_ref().filter(|_| log.state == ArchiverState::Waiting)
    {
        return told(failure, String::new(), " It is tried again.");
    }
    if let Some(Seen::Run(RunView::Waiting(waiting))) = facts.seen
        && waiting.cause.is_some()
    {
        let verdict = Verdict::of_start(waiting);
        return (verdict.reason, verdict.message, is_permanent(waiting));
    }
    match (&known.error, known.retry_time, facts.seen) {
        (Some(failure), Some(again), None) => {
            let behind = format!(" It is begun again at {}.", to_seconds(again));
            told(failure, "archiving has ended: ".to_owned(), &behind)
        }
        (Some(failure), ..) => {
            told(failure, "archiving had ended: ".to_owned(), " It is begun again now.")
        }
        (None, _, Some(Seen::Run(RunView::Running { last_failure: Some(failure), .. }))) => {
            told(failure, "an attempt before has failed: ".to_owned(), "")
        }
        (None, _, Some(Seen::Run(RunView::Running { .. }))) => {
            let speaks = log.is_some_and(|log| is_its(known, log) && is_fresh(log, facts.now));
            running(known, speaks, facts.now)
        }
        _ => starting(),
    }
}

/// The pod runs, and does not archive yet; or nothing is heard of it.
fn running(known: &ArchiverStatus, speaks: bool, now: Timestamp) -> (String, String, bool) {
    let is_new = known.start_time.is_none_or(|began| now.duration_since(began) < SPEAKS_WITHIN);
    if is_new || speaks {
        let message = "the archiver opens the repository and connects to the server".to_owned();
        return (reasons::CONNECTING.to_owned(), message, false);
    }
    let job = known.job_name.as_deref().unwrap_or_default();
    let message = format!(
        "the archiver's pod runs, and has said nothing for minutes: what it does is not known. \
         See: kubectl logs job/{job}, and whether a NetworkPolicy lets it reach the operator."
    );
    (reasons::ARCHIVER_SILENT.to_owned(), message, false)
}

fn is_permanent(waiting: &Waiting) -> bool {
    waiting.cause.as_ref().is_some_and(|cause| !cause.is_retryable())
}

/// It is switched off, or the schedule is going.
fn dropping(known: &ArchiverStatus) -> LogOutlook {
    let why = known.error.as_ref().filter(|_| known.task == ArchiverTask::Retire);
    let doing = "the log is archived no more; the replication slot on the server is being dropped";
    let (message, words) = match why {
        None => (doing.to_owned(), "dropping the replication slot".to_owned()),
        Some(failure) => (
            format!("{doing}: {}", sentence(failure)),
            format!("dropping the replication slot: {}", failure.reason),
        ),
    };
    let reason = why.map_or(reasons::DROPPING_SLOT, |failure| failure.reason.as_str()).to_owned();
    LogOutlook { holds: false, reason, message, words, trouble: None }
}

/// The conditions with `LogArchived`; without an archive there is none.
#[must_use]
pub(in crate::reconcile::schedule) fn condition(
    mut conditions: Vec<Condition>,
    outlook: Option<&LogOutlook>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let Some(outlook) = outlook else {
        conditions.retain(|condition| condition.type_ != LOG_ARCHIVED_TYPE);
        return conditions;
    };
    let said = (LOG_ARCHIVED_TYPE, outlook.holds, outlook.reason.as_str(), outlook.message.clone());
    with_condition(conditions, said, generation, now)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
