use dbbackup_contract::{AccessMode, ByteCounts, DatabaseCount, InspectReport};
use dbbackup_crds::{Backup, BackupPhase, BackupSpec, BackupStatus, JobSpec, LocalRef, SourceSpec};
use serde_json::json;

use super::*;
use crate::context::Identity;
use crate::reconcile::backup::status::{asking, beginning};

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn resolved() -> ResolvedBackup {
    ResolvedBackup {
        hooks: None,
        repository_ref: LocalRef { name: "main".into() },
        source: SourceSpec::default(),
        method: dbbackup_contract::Method::Logical,
        job: JobSpec::default(),
        schedule: Some("nightly".into()),
        retain_for: None,
        slot_time: now(),
    }
}

fn ready_repository() -> BackupRepository {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupRepository",
        "metadata": {"name": "main", "namespace": "shop", "uid": "r", "generation": 2},
        "spec": {"storage": {"volume": {"claimName": "c"}}, "encryption": {"none": {}}},
        "status": {"id": "5d0c", "conditions": [{"type": "Ready", "status": "True", "reason": "Opened",
            "message": "", "observedGeneration": 2, "lastTransitionTime": "2026-11-23T00:00:00Z"}]},
    }))
    .unwrap()
}

fn fresh() -> Gathered {
    Gathered {
        backup: Backup::new("b", BackupSpec::default()),
        identity: Identity { namespace: "shop".into(), name: "b".into(), uid: "u".into() },
        status: BackupStatus::default(),
        resolved: Resolution::Known(Box::new(resolved())),
        repository: Some(ready_repository()),
        slot: None,
        deadline_seconds: None,
        jitter: SignedDuration::ZERO,
        run: None,
        inspection: None,
    }
}

fn begun(run: RunView) -> Gathered {
    let mut seen = fresh();
    seen.status.phase = Some(BackupPhase::Running);
    seen.status.resolved = Some(Box::new(resolved()));
    seen.status.job_name = Some("j".into());
    seen.status.jobs = Some(1);
    seen.run = Some(run);
    seen
}

fn inspected(answer: RunView, cause: Reason) -> Gathered {
    let mut seen = begun(RunView::Unknown(Failure::new(cause, "seen"), 1));
    seen.status.inspections = Some(1);
    seen.status.error = Some(Failure::new(cause, "seen"));
    seen.inspection = Some(answer);
    seen
}

fn answer(
    state: Option<RunState>,
    backup: Option<BackupReport>,
    error: Option<Failure>,
) -> RunView {
    RunView::Reported(Box::new(Report::Inspect(InspectReport { state, backup, error })), 1)
}

fn report() -> BackupReport {
    BackupReport {
        outcome: Outcome::Succeeded,
        snapshot_id: Some("s".into()),
        repository_id: None,
        start_time: now(),
        consistent_time: None,
        completion_time: now(),
        attempt: 0,
        method: None,
        server: None,
        position: None,
        log_start: None,
        bytes: ByteCounts::default(),
        database_count: DatabaseCount::default(),
        databases: Vec::new(),
        verification: None,
        hooks: Vec::new(),
        error: None,
    }
}

#[test]
fn a_new_backup_begins_when_its_repository_is_ready() {
    assert!(matches!(plan(&fresh(), now()), Step::Begin(_)));
}

#[test]
fn a_backup_waits_for_what_it_refers_to() {
    let mut no_schedule = fresh();
    no_schedule.resolved = Resolution::NoSchedule("nightly".into());
    let mut no_repository = fresh();
    no_repository.repository = None;
    let mut old_generation = fresh();
    if let Some(repository) = &mut old_generation.repository {
        repository.metadata.generation = Some(3);
    }
    let mut only_read = fresh();
    if let Some(repository) = &mut only_read.repository {
        repository.spec.access = AccessMode::ReadOnly;
    }
    for (seen, reason) in [
        (no_schedule, Reason::ReferenceNotFound),
        (no_repository, Reason::ReferenceNotFound),
        (old_generation, Reason::ReferenceNotReady),
        (only_read, Reason::RepositoryReadOnly),
    ] {
        let Step::Wait(failure) = plan(&seen, now()) else { panic!("{reason}") };
        assert_eq!(failure.reason, reason);
    }
}

#[test]
fn a_terminal_phase_never_returns_to_running() {
    for phase in [BackupPhase::Succeeded, BackupPhase::PartiallyFailed, BackupPhase::Failed] {
        let mut seen = begun(RunView::Running { attempts: 1, last_failure: None });
        seen.status.phase = Some(phase);
        assert_eq!(plan(&seen, now()), Step::Nothing);
    }
}

#[test]
fn a_slot_of_long_ago_without_a_trace_is_looked_up_and_never_run() {
    for (hours, deadline, begins) in
        [(23, None, true), (25, None, false), (1, Some(600), false), (1, Some(7200), true)]
    {
        let mut seen = fresh();
        seen.slot = Some(now() - SignedDuration::from_hours(hours));
        seen.deadline_seconds = deadline;
        let step = plan(&seen, now());
        if begins {
            assert!(matches!(step, Step::Begin(_)), "{step:?}");
        } else {
            let Step::Ask { cause, .. } = step else { panic!("{step:?}") };
            assert_eq!(cause.reason, Reason::DeadlineExceeded);
        }
    }
    // One that was looked at in time goes on, however long its repository took.
    let mut seen = fresh();
    seen.slot = Some(now() - SignedDuration::from_hours(99));
    seen.status.resolved = Some(Box::new(resolved()));
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
    // So does one that has waited for its turn, and the schedule's own delay is no lateness.
    let mut seen = fresh();
    seen.slot = Some(now() - SignedDuration::from_hours(99));
    seen.status.error = Some(Failure::new(Reason::Queued, "not yet"));
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
    let mut seen = fresh();
    seen.slot = Some(now() - SignedDuration::from_mins(60));
    (seen.deadline_seconds, seen.jitter) = (Some(600), SignedDuration::from_mins(55));
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
}

#[test]
fn an_unknown_outcome_asks_the_repository() {
    for reason in [Reason::JobGone, Reason::OutOfMemory, Reason::PodDisrupted, Reason::PodFailed] {
        let seen = begun(RunView::Unknown(Failure::new(reason, "seen"), 2));
        let Step::Ask { cause, attempts: 2, number: 1 } = plan(&seen, now()) else {
            panic!("{reason}")
        };
        assert_eq!(cause.reason, reason);
    }
}

#[test]
fn a_run_that_was_cut_while_it_committed_has_not_failed_before_the_repository_was_asked() {
    let cut = Failure::new(Reason::OutcomeUnknown, "whether it is there is not known");
    let mut said = report();
    (said.outcome, said.snapshot_id) = (Outcome::Failed, None);
    said.error = Some(cut.clone());
    let mut seen = begun(RunView::Reported(Box::new(Report::Backup(said)), 4));
    assert_eq!(plan(&seen, now()), Step::Ask { cause: cut.clone(), attempts: 4, number: 1 });
    // The same report stands beside the repository's answer, which decides.
    (seen.status.inspections, seen.status.error) = (Some(1), Some(cut));
    seen.inspection = Some(answer(Some(RunState::Committed), Some(report()), None));
    assert!(matches!(plan(&seen, now()), Step::Finish(..)));
    seen.inspection = Some(answer(Some(RunState::NotCommitted), None, None));
    assert!(matches!(plan(&seen, now()), Step::Fail(..)));
}

#[test]
fn what_the_repository_holds_is_a_success_even_if_everything_else_is_lost() {
    let seen = inspected(answer(Some(RunState::Committed), Some(report()), None), Reason::JobGone);
    let Step::Finish(found, _) = plan(&seen, now()) else { panic!() };
    assert_eq!(*found, report());
}

#[test]
fn what_the_repository_does_not_hold_has_failed_for_the_reason_that_was_seen() {
    let seen = inspected(answer(Some(RunState::NotCommitted), None, None), Reason::OutOfMemory);
    let Step::Fail(failure, 0) = plan(&seen, now()) else { panic!() };
    let message = "seen; the repository holds no snapshot of this run";
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::OutOfMemory, message));
    assert_eq!(failure.hint, Reason::OutOfMemory.hint(), "what was seen says what to do");
    let seen = inspected(answer(Some(RunState::NotCommitted), None, None), Reason::JobGone);
    let Step::Fail(failure, _) = plan(&seen, now()) else { panic!() };
    assert_eq!(failure.class, ErrorClass::Fatal);
    assert!(failure.hint.contains("another Backup"));
}

#[test]
fn a_lost_node_begins_the_run_again_but_not_for_ever() {
    let mut seen =
        inspected(answer(Some(RunState::NotCommitted), None, None), Reason::PodDisrupted);
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
    seen.status.jobs = Some(MAX_JOBS);
    assert!(matches!(plan(&seen, now()), Step::Fail(..)));
}

#[test]
fn what_was_seen_of_a_lost_run_outlives_its_job() {
    let cause = Failure::new(Reason::PodDisrupted, "its node is lost");
    let refused = Failure::new(Reason::PodRejected, "exceeded quota");
    let gone = || RunView::Unknown(Failure::new(Reason::JobGone, "gone"), 0);
    let mut seen = begun(RunView::Lost(cause.clone(), 2));
    let ask = Step::Ask { cause: cause.clone(), attempts: 2, number: 1 };
    assert_eq!(plan(&seen, now()), ask);
    // The inspection's Job is refused, and the run's Job is gone the next time.
    let asking = |refused: Option<&Failure>| {
        asking(begun(gone()).status, (&cause, 2), 1, refused, Some(1), now())
    };
    seen.status = asking(Some(&refused));
    (seen.run, seen.inspection) = (Some(gone()), Some(gone()));
    let Step::Await { trouble: None, again: Some(again), .. } = plan(&seen, now()) else {
        panic!()
    };
    assert_eq!(plan(&seen, again), ask);
    // It is taken, and the repository has an answer.
    seen.status = asking(None);
    assert_eq!(seen.status.inspections, Some(1));
    seen.inspection = Some(answer(Some(RunState::NotCommitted), None, None));
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
    // The next Job is refused, too: the run waits for it.
    seen.status = beginning(seen.status);
    seen.status.error = Some(refused);
    (seen.run, seen.inspection) = (None, None);
    assert_eq!((&seen.status.job_name, seen.status.inspections), (&None, None));
    assert!(matches!(plan(&seen, now()), Step::Begin(_)));
}

#[test]
fn a_repository_that_cannot_be_asked_is_asked_again_later() {
    let unavailable = Failure::new(Reason::StorageUnavailable, "away");
    for answer in [
        answer(None, None, Some(unavailable.clone())),
        RunView::NeverStarted(unavailable.clone()),
        RunView::Unknown(unavailable, 1),
    ] {
        let mut seen = inspected(answer, Reason::JobGone);
        let Step::Await { again: Some(again), trouble: Some(_), .. } = plan(&seen, now()) else {
            panic!()
        };
        assert!(again > now());
        seen.status.next_inspection_time = Some(again);
        assert!(matches!(plan(&seen, now()), Step::Await { .. }));
        assert!(matches!(plan(&seen, again), Step::Ask { number: 2, .. }));
    }
}

#[test]
fn a_report_that_comes_during_an_inspection_is_taken() {
    let mut seen = inspected(RunView::Running { attempts: 1, last_failure: None }, Reason::JobGone);
    seen.run = Some(RunView::Reported(Box::new(Report::Backup(report())), 1));
    assert!(matches!(plan(&seen, now()), Step::Finish(..)));
}

#[test]
fn a_pod_that_never_started_left_nothing_to_ask_for() {
    let cause = Failure::new(Reason::ImagePullFailed, "no");
    let mut seen = begun(RunView::NeverStarted(cause.clone()));
    assert!(matches!(plan(&seen, now()), Step::Fail(..)));
    // Another one was seen to run, and is gone: its node was drained.
    seen.status.attempts = Some(1);
    assert_eq!(plan(&seen, now()), Step::Ask { cause, attempts: 1, number: 1 });
}
