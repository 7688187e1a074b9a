use dbbackup_contract::{AssertionReport, Outcome, Reason, Report};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::super::attempt::Attempt;
use super::plan::set_baseline;
use super::*;
use crate::reconcile::fixtures;
use crate::run::Waiting;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-23T12:00:30Z";

fn schedule(change: impl FnOnce(&mut Value)) -> BackupSchedule {
    let mut json = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "u", "generation": 2},
        "spec": {"repositoryRef": {"name": "main"}, "source": fixtures::resolved_backup().source,
            "schedule": "@daily", "method": "Physical", "timeZone": "Europe/Berlin",
            "pointInTimeRecovery": {"enabled": true, "maxLag": "10s"},
            "verification": {"drill": {"schedule": "0 13 * * *", "pointInTime": true,
                "image": "postgres:17", "storage": {"size": "50Gi", "storageClassName": "fast"},
                "assertions": [{"name": "fresh", "database": "shop", "query": "select true"}]}}},
    });
    change(&mut json["spec"]);
    serde_json::from_value(json).unwrap()
}

/// With a slot that came half a minute ago, by the clock of Berlin.
fn status() -> BackupScheduleStatus {
    let drill = json!({"slotsSince": {"schedule": "0 13 * * *", "timeZone": "Europe/Berlin",
        "time": "2026-11-20T00:00:00Z"}});
    BackupScheduleStatus {
        drill: Some(serde_json::from_value(drill).unwrap()),
        ..BackupScheduleStatus::default()
    }
}

fn running() -> BackupScheduleStatus {
    let mut status = status();
    status.drill.as_mut().unwrap().run = Some(DrillRun {
        job_name: "nightly-drill-1".to_owned(),
        slot_time: at("2026-11-23T12:00:00Z"),
        start_time: at("2026-11-23T12:00:01Z"),
        jobs: 1,
    });
    status
}

fn seen<'a>(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    run: Option<&'a RunView>,
) -> Seen<'a> {
    Seen {
        run,
        jobs: status.drill.as_ref().and_then(|drill| drill.run.as_ref()).map(|run| run.jobs),
        slots: slots(schedule),
        last: last_slot(status, at(NOW)),
        has_base: true,
        repository: None,
    }
}

fn step(schedule: &BackupSchedule, status: &BackupScheduleStatus, run: Option<&RunView>) -> Step {
    plan(&seen(schedule, status, run), at(NOW))
}

fn passed() -> DrillReport {
    let mut report = DrillReport::begun(at("2026-11-23T12:00:10Z"));
    let recovery = json!({
        "outcome": "Succeeded", "startTime": "2026-11-23T12:00:10Z",
        "completionTime": "2026-11-23T12:07:00Z",
        "base": {"snapshotId": "nightly-1", "time": "2026-11-23T01:15:00Z"},
        "reached": {"lsn": "0/5", "timeline": 2}, "restoredBytes": 12_000_000_000_u64,
    });
    report.recovery = serde_json::from_value(recovery).unwrap();
    report.outcome = Outcome::Succeeded;
    report.completion_time = at("2026-11-23T12:07:02Z");
    report.recovery_milliseconds = Some(412_000);
    report.recovery_point_milliseconds = Some(4_000);
    report.databases = 3;
    report.assertions = vec![answer(DrillOutcome::Passed)];
    report
}

fn answer(outcome: DrillOutcome) -> AssertionReport {
    AssertionReport { name: "fresh".to_owned(), outcome, duration_milliseconds: 3, message: None }
}

fn failed() -> DrillReport {
    let failure =
        Failure::new(Reason::AssertionFailed, "assertion fresh does not hold: it is false")
            .with_hint("Look at the server.");
    let assertions = vec![answer(DrillOutcome::Failed)];
    DrillReport { outcome: Outcome::Failed, assertions, error: Some(failure), ..passed() }
}

#[test]
fn a_slot_of_its_own_begins_a_drill_and_one_that_runs_is_let_end() {
    let slot = at("2026-11-23T12:00:00Z");
    assert_eq!(step(&schedule(|_| ()), &status(), None), Step::Begin(slot));
    // Suspension is of backups.
    assert_eq!(
        step(&schedule(|spec| spec["suspend"] = true.into()), &status(), None),
        Step::Begin(slot)
    );
    let mut done = status();
    done.drill.as_mut().unwrap().last_schedule_time = Some(slot);
    assert_eq!(step(&schedule(|_| ()), &done, None), Step::Rest);

    let waiting = Waiting { attempt: 1, last_failure: None, cause: None, until: slot, limit: "x" };
    let starts = RunView::Waiting(waiting.clone());
    let watched = Step::Watch(Attempt::Starts(waiting));
    assert_eq!(step(&schedule(|_| ()), &running(), Some(&starts)), watched);
    let no_drill = schedule(|spec| spec["verification"] = json!({}));
    assert_eq!(step(&no_drill, &running(), Some(&starts)), Step::Abandon);
    assert_eq!(step(&no_drill, &status(), None), Step::Nothing);
}

#[test]
fn without_a_base_a_slot_is_passed_over_and_without_a_repository_it_waits() {
    let (schedule, status) = (schedule(|_| ()), status());
    let young = Seen { has_base: false, ..seen(&schedule, &status, None) };
    assert_eq!(plan(&young, at(NOW)), Step::PassOver(at("2026-11-23T12:00:00Z")));
    let away = Failure::new(Reason::ReferenceNotReady, "x");
    let waits = Seen { repository: Some(away.clone()), ..seen(&schedule, &status, None) };
    assert_eq!(plan(&waits, at(NOW)), Step::Wait(away));
}

#[test]
fn a_line_that_cannot_be_read_is_named_by_its_field() {
    let wrong = schedule(|spec| spec["verification"]["drill"]["schedule"] = "0 25 * * *".into());
    let Step::Refuse(failure) = step(&wrong, &status(), None) else { panic!() };
    assert_eq!(failure.reason, Reason::InvalidSpec);
    assert!(failure.message.contains("spec.verification.drill.schedule"), "{failure}");
}

#[test]
fn a_changed_line_makes_up_for_nothing_that_lies_in_the_past() {
    let (changed, mut status) =
        (schedule(|spec| spec["verification"]["drill"]["timeZone"] = "Etc/UTC".into()), status());
    set_baseline(&changed, &mut status, at(NOW));
    assert_eq!(last_slot(&status, at(NOW)), at(NOW));
    assert_eq!(step(&changed, &status, None), Step::Rest);
}

#[test]
fn what_nobody_knows_the_outcome_of_is_begun_again_but_not_for_ever() {
    let gone = Failure::new(Reason::JobGone, "the Job is gone");
    let unknown = RunView::Unknown(gone.clone(), 1);
    let (schedule, mut status) = (schedule(|_| ()), running());
    assert_eq!(step(&schedule, &status, Some(&unknown)), Step::Again(2));
    status.drill.as_mut().unwrap().run.as_mut().unwrap().jobs = 3;
    assert_eq!(step(&schedule, &status, Some(&unknown)), Step::Fail(gone));
    let never = Failure::new(Reason::ImagePullFailed, "x");
    let view = RunView::NeverStarted(never.clone());
    assert_eq!(step(&schedule, &running(), Some(&view)), Step::Fail(never));
}

#[test]
fn a_report_ends_it() {
    let report = Box::new(passed());
    let view = RunView::Reported(Box::new(Report::Drill(report.clone())), 1);
    assert_eq!(step(&schedule(|_| ()), &running(), Some(&view)), Step::Finish(report));
}

fn proved(status: &BackupScheduleStatus, outlook: &DrillOutlook) -> (String, String, String) {
    let conditions = condition(Vec::new(), &schedule(|_| ()), status, Some(outlook), at(NOW));
    let [one] = conditions.as_slice() else { panic!("{conditions:?}") };
    assert_eq!(one.type_, "RestoreProved");
    (one.status.clone(), one.reason.clone(), one.message.clone())
}

#[test]
fn a_drill_that_passed_proves_it_with_its_times() {
    let mut status = running();
    status::ended(&mut status, Ok(&passed()), at(NOW));
    let last = status.last_drill.clone().unwrap();
    assert_eq!((last.outcome, last.error.clone()), (DrillOutcome::Passed, None));
    assert_eq!(
        (last.recovery_milliseconds, last.slot_time),
        (Some(412_000), at("2026-11-23T12:00:00Z"))
    );
    let drill = status.drill.as_ref().unwrap();
    assert_eq!((&drill.run, drill.last_passed_time), (&None, Some(last.time)));
    let words = "recovered nightly-1 (12 GB) in 6m52s, to a moment 4s before; 3 databases open, 1 \
                 assertion holds";
    let expected = ("True".to_owned(), "DrillPassed".to_owned(), words.to_owned());
    assert_eq!(proved(&status, &DrillOutlook::default()), expected);
    assert_eq!(trouble(&schedule(|_| ()), &status, None), None);
}

#[test]
fn a_drill_that_failed_is_told_in_the_column_and_the_last_success_is_kept() {
    let mut status = running();
    let before = at("2026-11-22T12:05:00Z");
    status.drill.as_mut().unwrap().last_passed_time = Some(before);
    status::ended(&mut status, Ok(&failed()), at(NOW));
    assert_eq!(status.drill.as_ref().unwrap().last_passed_time, Some(before));
    let (holds, reason, message) = proved(&status, &DrillOutlook::default());
    assert_eq!((&*holds, &*reason), ("False", "AssertionFailed"));
    assert_eq!(message, "assertion fresh does not hold: it is false. Look at the server.");
    let words = trouble(&schedule(|_| ()), &status, None);
    assert_eq!(words.as_deref(), Some("drill failed: AssertionFailed"));
    let no_drill = schedule(|spec| spec["verification"] = json!({}));
    assert_eq!(trouble(&no_drill, &status, None), None);
    assert_eq!(condition(Vec::new(), &no_drill, &status, None, at(NOW)), []);
}

#[test]
fn a_success_that_names_no_base_or_that_an_assertion_contradicts_is_none() {
    let contradicted = DrillReport { assertions: vec![answer(DrillOutcome::Failed)], ..passed() };
    let mut nameless = passed();
    nameless.recovery.base = None;
    for report in [contradicted, nameless] {
        let mut status = running();
        status::ended(&mut status, Ok(&report), at(NOW));
        let last = status.last_drill.unwrap();
        assert_eq!(last.outcome, DrillOutcome::Failed);
        assert_eq!(last.error.unwrap().reason, Reason::Internal);
    }
}

#[test]
fn before_the_first_one_nobody_knows() {
    let mut status = status();
    status.next_drill_time = Some(at("2026-11-24T12:00:00Z"));
    let (holds, reason, message) = proved(&status, &DrillOutlook::default());
    assert_eq!((&*holds, &*reason), ("Unknown", "NotDrilled"));
    assert!(message.ends_with("the next drill begins at 2026-11-24T12:00:00Z"), "{message}");
    status.drill.as_mut().unwrap().passed_over_time = Some(at(NOW));
    assert_eq!(proved(&status, &DrillOutlook::default()).1, "NoBase");
    let failure = Failure::new(Reason::InvalidSpec, "no").with_hint("");
    let outlook = DrillOutlook { trouble: Some(failure), ..DrillOutlook::default() };
    assert_eq!(proved(&status, &outlook).1, "InvalidSpec");
}

fn job(schedule: &BackupSchedule) -> Result<Job, Failure> {
    let (around, identity) = (fixtures::surroundings(), fixtures::identity("nightly"));
    let name = "nightly-drill-1".to_owned();
    task::job(schedule, &identity, &around, &fixtures::repository(), name)
}

#[test]
fn the_job_of_a_drill_has_the_server_beside_it_and_storage_that_goes_with_its_pod() {
    let job = job(&schedule(|_| ())).unwrap();
    let spec = job.spec.as_ref().unwrap();
    assert_eq!((spec.backoff_limit, spec.ttl_seconds_after_finished), (Some(1), Some(600)));
    assert_eq!(job.metadata.owner_references.as_ref().unwrap()[0].kind, "BackupSchedule");
    let pod = spec.template.spec.as_ref().unwrap();
    let volume = pod.volumes.iter().flatten().find(|it| it.name == "recovered").unwrap();
    let claim = volume.ephemeral.as_ref().unwrap().volume_claim_template.as_ref().unwrap();
    let claim = serde_json::to_value(&claim.spec).unwrap();
    let expected = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        "resources": {"requests": {"storage": "50Gi"}}});
    assert_eq!(claim, expected);
    let beside: Vec<_> = pod.init_containers.iter().flatten().map(|it| &*it.name).collect();
    assert_eq!(beside, ["shim", "server"]);
    let annotations = spec.template.metadata.as_ref().unwrap().annotations.as_ref().unwrap();
    let task: Value =
        serde_json::from_str(&annotations[dbbackup_contract::TASK_ANNOTATION]).unwrap();
    let action = &task["action"]["drill"];
    assert_eq!(action["recovery"]["point"], json!({"latest": {}}));
    assert_eq!(action["recovery"]["series"], "3f6c/shop/nightly");
    assert_eq!(action["assertions"][0]["name"], "fresh");
    // No secret of the source: nobody needs one.
    assert!(!annotations[dbbackup_contract::TASK_ANNOTATION].contains("password"));
}

#[test]
fn without_point_in_time_the_base_alone_is_drilled_and_what_cannot_be_is_named_by_its_field() {
    let base = schedule(|spec| spec["verification"]["drill"]["pointInTime"] = false.into());
    let task = serde_json::to_string(&job(&base).unwrap()).unwrap();
    assert!(task.contains(r#"\"point\":{\"immediate\":{}}"#), "{task}");
    for (field, value, named) in [
        ("storage", json!({"size": "much"}), "spec.verification.drill.storage.size"),
        (
            "server",
            json!({"resources": {"limits": {"memory": "much"}}}),
            "spec.verification.drill.server.resources",
        ),
        (
            "job",
            json!({"resources": {"limits": {"memory": "much"}}}),
            "spec.verification.drill.job.resources",
        ),
    ] {
        let failure =
            job(&schedule(|spec| spec["verification"]["drill"][field] = value)).unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.contains(named), "{failure}");
    }
}
