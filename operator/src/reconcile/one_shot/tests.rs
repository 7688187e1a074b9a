//! How the end of a run is told, for both kinds.

use dbbackup_contract::{
    BackupReport, DatabaseCount, DatabaseOutcome, DatabaseReport, ErrorClass, Failure, HookOutcome,
    HookReport, HookStage, Outcome, Progress, Reason, RestoreReport,
};
use dbbackup_crds::{BackupPhase, BackupStatus, RestorePhase, RestoreRequestStatus};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Told, finished, has_ended_lately, starting};
use crate::conditions::holds;
use crate::reasons::{COMPLETE, FAILED, STALLED};
use crate::run::Waiting;

const BEGUN: &str = "2026-11-20T01:00:00Z";
const ENDED: &str = "2026-11-20T01:02:32Z";

fn now() -> Timestamp {
    ENDED.parse().unwrap()
}

fn database(name: &str, error: Option<Failure>) -> DatabaseReport {
    let outcome =
        if error.is_some() { DatabaseOutcome::Failed } else { DatabaseOutcome::Succeeded };
    serde_json::from_value(json!({"name": name, "outcome": outcome, "error": error})).unwrap()
}

fn backup(
    outcome: Outcome,
    snapshot: Option<&str>,
    databases: Vec<DatabaseReport>,
) -> BackupReport {
    let report = json!({
        "outcome": outcome, "snapshotId": snapshot, "startTime": BEGUN, "completionTime": ENDED,
        "databaseCount": DatabaseCount::of(&databases), "databases": databases,
    });
    serde_json::from_value(report).unwrap()
}

fn restore(outcome: Outcome, error: Option<Failure>) -> RestoreReport {
    let report = json!({
        "outcome": outcome, "startTime": BEGUN, "completionTime": ENDED, "error": error,
    });
    serde_json::from_value(report).unwrap()
}

fn began() -> BackupStatus {
    BackupStatus {
        phase: Some(BackupPhase::Running),
        progress: Some(Progress { remaining_seconds: Some(9), ..Progress::default() }),
        next_inspection_time: Some(now()),
        ..BackupStatus::default()
    }
}

#[test]
fn a_success_is_told_by_phase_conditions_column_and_event() {
    let report = backup(Outcome::Succeeded, Some("s"), vec![database("shop", None)]);
    let (status, end) = finished(began(), &Ok(report), 1, Some(1), now());
    assert_eq!(status.phase, Some(BackupPhase::Succeeded));
    assert!(holds(&status.conditions, COMPLETE, Some(1)));
    assert_eq!(status.display.as_deref(), Some("1 database, 0 B in 2m32s"));
    assert_eq!(end.told, Told::Success("1 database, 0 B in 2m32s".into()));
    assert_eq!((status.error, status.next_inspection_time, status.progress), (None, None, None));
}

#[test]
fn progress_that_is_quicker_than_the_news_of_its_pod_stays() {
    let progress = || Some(Progress { bytes_total: Some(9), ..Progress::default() });
    let waiting = |attempt: u32| Waiting {
        attempt,
        last_failure: (attempt > 1).then(|| Failure::new(Reason::OutOfMemory, "killed")),
        cause: None,
        until: now(),
        limit: "job.startTimeout",
    };
    let begun = BackupStatus { display: Some("starting".into()), ..began() };
    let mut status = BackupStatus { progress: progress(), ..begun };
    status = starting(status, &waiting(1), Some(1), now());
    assert_eq!(status.progress, progress());
    status = starting(status, &waiting(2), Some(1), now());
    assert_eq!(status.progress, None, "of the attempt before");
    status.progress = progress();
    status = starting(status, &waiting(2), Some(1), now());
    assert_eq!(status.progress, progress());
}

#[test]
fn a_hook_that_failed_stands_beside_the_success() {
    let mut report = backup(Outcome::Succeeded, Some("s"), vec![database("shop", None)]);
    let failure = Failure::new(Reason::HookFailed, "hook resume: no");
    let hook = HookReport::of("resume", HookStage::After, HookOutcome::Failed);
    report.hooks = vec![HookReport { error: Some(failure), ..hook }];
    let (status, _) = finished(began(), &Ok(report.clone()), 1, Some(1), now());
    assert_eq!(status.phase, Some(BackupPhase::Succeeded));
    assert!(holds(&status.conditions, COMPLETE, Some(1)));
    assert_eq!(status.display.as_deref(), Some("1 database, 0 B in 2m32s; hook resume failed"));
    assert_eq!((status.hooks, status.error), (report.hooks, None));
}

#[test]
fn a_success_that_names_no_snapshot_is_none() {
    let report = backup(Outcome::Succeeded, None, vec![database("shop", None)]);
    let (status, end) = finished(began(), &Ok(report), 1, Some(1), now());
    assert_eq!((status.phase, end.outcome), (Some(BackupPhase::Failed), Outcome::Failed));
    assert!(holds(&status.conditions, FAILED, Some(1)));
    assert_eq!(status.error.unwrap().reason, Reason::NothingCommitted);
}

#[test]
fn a_part_says_how_many_are_done_and_why_the_first_one_is_not() {
    let denied =
        Failure::new(Reason::PermissionDenied, "no right to read items").with_hint("Grant it.");
    let databases = vec![database("crm", Some(denied)), database("shop", None)];
    let mut report = backup(Outcome::PartiallyFailed, Some("s"), databases);
    report.error = Some(Failure::new(Reason::DatabaseFailed, "crm: no right to read items"));
    let (status, end) = finished(began(), &Ok(report), 1, Some(1), now());
    assert_eq!(status.phase, Some(BackupPhase::PartiallyFailed));
    let ready = &status.conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "DatabaseFailed"));
    assert_eq!(
        ready.message,
        "1 of 2 databases are in the snapshot. crm: no right to read items. Grant it."
    );
    let column =
        "1 of 2 databases are in the snapshot; crm: PermissionDenied: no right to read items";
    assert_eq!(status.display.as_deref(), Some(column));
    let Told::Failure(told) = end.told else { panic!() };
    assert_eq!(told.reason, Reason::DatabaseFailed);
}

#[test]
fn a_failure_is_told_with_its_attempts_its_hint_and_that_the_object_has_ended() {
    let host = Failure::new(Reason::HostNotFound, "host x is not known").with_hint("Correct it.");
    for end in [Err(host.clone()), Ok(restore(Outcome::Failed, Some(host)))] {
        let status = RestoreRequestStatus { attempts: Some(2), ..Default::default() };
        let (status, end) = finished(status, &end, 4, Some(1), now());
        assert_eq!(status.phase, Some(RestorePhase::Failed));
        assert!(holds(&status.conditions, STALLED, Some(1)));
        assert_eq!((status.attempts, status.completion_time), (Some(4), Some(now())));
        let column = "gave up after 4 attempts: HostNotFound: host x is not known";
        assert_eq!(status.display.as_deref(), Some(column));
        let Told::Failure(told) = end.told else { panic!() };
        assert_eq!(told.message, "gave up after 4 attempts: host x is not known");
        assert_eq!(told.hint, "Correct it. This object has ended; create another one.");
        assert_eq!(status.error.unwrap().class, ErrorClass::Retryable);
    }
}

#[test]
fn the_job_of_a_run_that_ended_while_the_operator_was_away_is_let_go_too() {
    let report = backup(Outcome::Succeeded, Some("s"), vec![database("shop", None)]);
    let seen = now() + SignedDuration::from_hours(60);
    for end in [Ok(report), Err(Failure::new(Reason::JobGone, "gone"))] {
        let (status, _) = finished(began(), &end, 1, Some(1), seen);
        assert!(has_ended_lately(&status.conditions, seen + SignedDuration::from_mins(59)));
        assert!(!has_ended_lately(&status.conditions, seen + SignedDuration::from_mins(61)));
    }
    assert!(!has_ended_lately(&began().conditions, seen));
}
