//! What is told of drills: `status.lastDrill`, the condition `RestoreProved`, words in the column.

use dbbackup_contract::{DrillOutcome, DrillReport, Failure, Outcome, Reason};
use dbbackup_crds::{BackupSchedule, BackupScheduleStatus, Condition, LastDrill};
use jiff::{SignedDuration, Timestamp};

use super::super::attempt::Attempt;
use super::task::wanted;
use super::{DrillOutlook, ended_run};
use crate::conditions::{Verdict, sentence, to_seconds, with_condition, with_unknown};
use crate::display;
use crate::reasons::{self, RESTORE_PROVED_TYPE};

/// What came of a drill, in the status. Nothing else changes: a backup is what it was.
pub(super) fn ended(
    status: &mut BackupScheduleStatus,
    end: Result<&DrillReport, &Failure>,
    now: Timestamp,
) {
    let Some(run) = ended_run(status) else { return };
    let nothing = LastDrill {
        outcome: DrillOutcome::Failed,
        time: now,
        slot_time: run.slot_time,
        job_name: Some(run.job_name),
        base: None,
        reached: None,
        server: None,
        recovery_milliseconds: None,
        recovery_point_milliseconds: None,
        durations: dbbackup_contract::DrillDurations::default(),
        needed_bytes: 0,
        restored_bytes: 0,
        databases: 0,
        assertions: Vec::new(),
        error: None,
    };
    let last = match end {
        Ok(report) => of_report(report, nothing),
        Err(failure) => LastDrill { error: Some(failure.clone()), ..nothing },
    };
    if last.outcome == DrillOutcome::Passed {
        status.drill.get_or_insert_default().last_passed_time = Some(last.time);
    }
    status.last_drill = Some(Box::new(last));
}

/// A success that names no base, or that an assertion contradicts, is none.
fn of_report(report: &DrillReport, nothing: LastDrill) -> LastDrill {
    let recovery = &report.recovery;
    let all_hold = report.assertions.iter().all(|it| it.outcome == DrillOutcome::Passed);
    let is_whole = recovery.base.is_some() && recovery.reached.is_some() && all_hold;
    let passed = report.outcome == Outcome::Succeeded && report.error.is_none() && is_whole;
    let unexplained = || Failure::new(Reason::Internal, "the drill does not say what came of it");
    let error = (!passed).then(|| report.error.clone().unwrap_or_else(unexplained));
    LastDrill {
        outcome: if passed { DrillOutcome::Passed } else { DrillOutcome::Failed },
        time: report.completion_time,
        base: recovery.base.clone(),
        reached: recovery.reached.clone(),
        server: recovery.server.clone(),
        recovery_milliseconds: report.recovery_milliseconds,
        recovery_point_milliseconds: report.recovery_point_milliseconds,
        durations: report.durations,
        needed_bytes: recovery.needed_bytes,
        restored_bytes: recovery.restored_bytes,
        databases: report.databases,
        assertions: report.assertions.clone(),
        error,
        ..nothing
    }
}

/// What is told of a drill that runs.
pub(super) fn goes_on(attempt: &Attempt) -> Verdict {
    match attempt {
        Attempt::Starts(waiting) => Verdict::of_start(waiting),
        Attempt::Runs(number, last) => Verdict::of_attempt("the drill", *number, last.as_ref()),
    }
}

/// The conditions with `RestoreProved`; without drills there is none. What the last drill has found
/// holds until the next one has ended.
#[must_use]
pub(in crate::reconcile::schedule) fn condition(
    mut conditions: Vec<Condition>,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    outlook: Option<&DrillOutlook>,
    now: Timestamp,
) -> Vec<Condition> {
    if wanted(schedule).is_none() {
        conditions.retain(|condition| condition.type_ != RESTORE_PROVED_TYPE);
        return conditions;
    }
    let generation = schedule.metadata.generation;
    if let Some(last) = &status.last_drill {
        let (reason, message) = match &last.error {
            None => (reasons::DRILL_PASSED, words(last)),
            Some(failure) => (failure.reason.as_str(), sentence(failure)),
        };
        let message = format!(
            "{message}{}",
            outlook.and_then(|it| it.trouble.as_ref()).map_or_else(String::new, stands_in_the_way)
        );
        let holds = last.outcome == DrillOutcome::Passed;
        let said = (RESTORE_PROVED_TYPE, holds, reason, message);
        return with_condition(conditions, said, generation, now);
    }
    let (reason, message) = not_yet(status, outlook);
    with_unknown(conditions, (RESTORE_PROVED_TYPE, &reason, message), generation, now)
}

fn stands_in_the_way(failure: &Failure) -> String {
    format!(" The next drill does not begin: {}", sentence(failure))
}

/// Why nothing was found out yet.
fn not_yet(status: &BackupScheduleStatus, outlook: Option<&DrillOutlook>) -> (String, String) {
    if let Some(failure) = outlook.and_then(|it| it.trouble.as_ref()) {
        return (failure.reason.as_str().to_owned(), sentence(failure));
    }
    if let Some(verdict) = outlook.and_then(|it| it.goes_on.as_ref()) {
        return (verdict.reason.clone(), verdict.message.clone());
    }
    let next = status.next_drill_time.map_or_else(String::new, |next| {
        format!("; the next drill begins at {}", to_seconds(next))
    });
    if status.drill.as_ref().is_some_and(|drill| drill.passed_over_time.is_some()) {
        let message = format!("a drill was due, and there was no base yet{next}");
        return (reasons::NO_BASE.to_owned(), message);
    }
    (reasons::NOT_DRILLED.to_owned(), format!("no drill was carried out yet{next}"))
}

/// What is to be told in the column: that the last drill failed, or that there can be none.
#[must_use]
pub(in crate::reconcile::schedule) fn trouble(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    outlook: Option<&DrillOutlook>,
) -> Option<String> {
    wanted(schedule)?;
    let failed = status.last_drill.as_ref().and_then(|last| last.error.as_ref());
    let words = |failure: &Failure| format!("drill failed: {}", failure.reason);
    let no_drill = |failure: &Failure| format!("no drill: {}", failure.reason);
    failed.map(words).or_else(|| outlook.and_then(|it| it.trouble.as_ref()).map(no_drill))
}

/// A drill that has passed: `recovered nightly-… (12 GB) in 6m52s, 400ms old; 3 databases open, 2
/// assertions hold`.
pub(super) fn words(last: &LastDrill) -> String {
    let milliseconds = |count: Option<u64>| {
        let count = i64::try_from(count.unwrap_or_default()).unwrap_or(i64::MAX);
        display::duration(SignedDuration::from_millis(count))
    };
    let base = last.base.as_ref().map_or("nothing", |base| base.snapshot_id.as_str());
    let took = milliseconds(last.recovery_milliseconds);
    let age = last.recovery_point_milliseconds.map_or_else(String::new, |age| {
        format!(", to a moment {} before", milliseconds(Some(age)))
    });
    let opened = match last.databases {
        1 => "1 database opens".to_owned(),
        many => format!("{many} databases open"),
    };
    let held = match last.assertions.len() {
        0 => String::new(),
        1 => ", 1 assertion holds".to_owned(),
        many => format!(", {many} assertions hold"),
    };
    let bytes = display::bytes(last.restored_bytes);
    format!("recovered {base} ({bytes}) in {took}{age}; {opened}{held}")
}
