//! What a repository's status tells of its maintenance.

use dbbackup_contract::{CheckSummary, Failure, MaintainReport, Outcome, Reason};
use dbbackup_crds::{
    BackupRepository, BackupRepositoryStatus, CheckOutcome, Condition, LastCheck, LastMaintenance,
    MaintenanceRun, RepositoryBytes,
};
use jiff::Timestamp;

use crate::conditions::{sentence, with_condition};
use crate::display;
use crate::reasons::{self, INTACT, MAINTAINED_TYPE};

/// The status after a maintenance that has ended, with a report or without one.
#[must_use]
pub fn ended(
    mut status: BackupRepositoryStatus,
    end: Result<&MaintainReport, &Failure>,
    repository: &BackupRepository,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let generation = repository.metadata.generation;
    let Some(run) = status.maintenance.take() else { return status };
    status.maintenance_report = None;
    status.last_maintenance = Some(last(run, end, now));
    let failure = match end {
        Ok(report) => report.error.as_ref(),
        Err(failure) => Some(failure),
    };
    status = with_maintained(status, failure, end.ok(), generation, now);
    if let Ok(report) = end {
        if let Some(usage) = &report.usage {
            status.snapshot_count = Some(usage.snapshot_count);
            status.bytes =
                Some(RepositoryBytes { logical: usage.logical_bytes, stored: usage.stored_bytes });
        }
        status = with_intact(status, report, generation, now);
        if let Some(check) = &report.check {
            let spec = &repository.spec.maintenance.check;
            let before = status.last_check.as_ref().and_then(|last| last.as_of);
            let mut last = last_check(check, report.completion_time, spec.read_percent);
            // What is damaged is new until it is whole: a check that leaves it to its share
            // would find everything well the next day. And where nothing new was read, all
            // that has come is yet to be.
            if check.problems > 0 || !spec.read_new {
                last.as_of = before;
            }
            status.last_check = Some(last);
        }
    }
    status.display = Some(column(&status));
    status
}

/// The status where the spec names no slots.
#[must_use]
pub(super) fn refused(
    status: BackupRepositoryStatus,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    with_maintained(status, Some(failure), None, generation, now)
}

fn last(
    run: MaintenanceRun,
    end: Result<&MaintainReport, &Failure>,
    now: Timestamp,
) -> LastMaintenance {
    let MaintenanceRun { slot_time, job_name } = run;
    let report = match end {
        Ok(report) => report.clone(),
        Err(failure) => {
            MaintainReport { error: Some(failure.clone()), ..MaintainReport::begun(now) }
        }
    };
    let collected = report.collected.unwrap_or_default();
    LastMaintenance {
        time: report.completion_time,
        slot_time,
        outcome: report.outcome,
        job_name,
        deleted_snapshots: report.let_go_count,
        deleted_bytes: collected.deleted_bytes,
        condemned_bytes: collected.condemned_bytes,
        waits_for: collected.waits_for,
        waiting_plan: report.waiting_plan,
        error: report.error,
    }
}

fn last_check(check: &CheckSummary, time: Timestamp, read_percent: u8) -> LastCheck {
    let passed = check.problems == 0;
    LastCheck {
        time,
        outcome: if passed { CheckOutcome::Passed } else { CheckOutcome::Failed },
        read_percent,
        as_of: check.as_of,
        bytes_read: check.bytes_read,
        problems: check.problems,
        damaged_snapshots: check.damaged_snapshots,
        damaged: check.damaged.clone(),
    }
}

/// `Maintained`: whether the last maintenance did all that it should.
fn with_maintained(
    mut status: BackupRepositoryStatus,
    failure: Option<&Failure>,
    report: Option<&MaintainReport>,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let (reason, message) = match failure {
        None => (reasons::SUCCEEDED, report.map(words).unwrap_or_default()),
        Some(failure) => {
            let plan = report.and_then(|report| report.waiting_plan.as_deref());
            let approve = plan.map_or_else(String::new, |plan| {
                format!(" To approve of it, set spec.maintenance.approvedPlan to {plan}.")
            });
            (failure.reason.as_str(), sentence(failure) + &approve)
        }
    };
    let condition = (MAINTAINED_TYPE, failure.is_none(), reason, message);
    status.conditions = with_condition(status.conditions, condition, generation, now);
    status
}

/// `Intact`: whether all that was looked at is there and whole. A check that could not be
/// carried out says nothing.
fn with_intact(
    mut status: BackupRepositoryStatus,
    report: &MaintainReport,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let damage = report.error.as_ref().filter(|_| has_damage(report));
    let condition = match (damage, &report.check) {
        (Some(failure), _) => (INTACT, false, failure.reason.as_str(), sentence(failure)),
        (None, Some(check)) => {
            let read = display::bytes(check.bytes_read);
            let message = format!("everything is there; {read} were read and are whole");
            (INTACT, true, reasons::CHECK_PASSED, message)
        }
        (None, None) => return status,
    };
    status.conditions = with_condition(status.conditions, condition, generation, now);
    status
}

fn has_damage(report: &MaintainReport) -> bool {
    let reason = report.error.as_ref().map(|error| error.reason);
    report.check.as_ref().is_some_and(|check| check.problems > 0)
        || !report.missing.is_empty()
        || matches!(reason, Some(Reason::RepositoryDamaged | Reason::ObjectMissing))
}

/// What is wrong with the repository or its maintenance, for the column: nothing, mostly.
#[must_use]
pub fn trouble(conditions: &[Condition]) -> Option<String> {
    let failed = |type_| {
        conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "False")
    };
    if let Some(condition) = failed(INTACT) {
        return Some(format!("not intact: {}", condition.reason));
    }
    failed(MAINTAINED_TYPE).map(|condition| format!("maintenance: {}", condition.reason))
}

/// `412 snapshots, 61 GB stored of 9.2 TB`, and what is wrong.
fn column(status: &BackupRepositoryStatus) -> String {
    let bytes = status.bytes.clone().unwrap_or_default();
    let count = status.snapshot_count.unwrap_or_default();
    let noun = if count == 1 { "snapshot" } else { "snapshots" };
    let (stored, logical) = (display::bytes(bytes.stored), display::bytes(bytes.logical));
    let words = format!("{count} {noun}, {stored} stored of {logical}");
    match trouble(&status.conditions) {
        None => words,
        Some(trouble) => display::shortened(format!("{words}; {trouble}")),
    }
}

/// `let 2 snapshots go, freed 184 MB; the check passed`.
#[must_use]
pub(super) fn words(report: &MaintainReport) -> String {
    let noun = if report.let_go_count == 1 { "snapshot" } else { "snapshots" };
    let freed = report.collected.as_ref().map_or(0, |collected| collected.deleted_bytes);
    let check = match (&report.check, report.outcome) {
        (Some(check), _) if check.problems == 0 => "the check passed",
        (Some(_), _) => "the check found damage",
        (None, Outcome::Succeeded) => "nothing was checked",
        (None, _) => "the check could not be carried out",
    };
    format!("let {} {noun} go, freed {}; {check}", report.let_go_count, display::bytes(freed))
}
