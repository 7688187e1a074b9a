use dbbackup_contract::{Reason, Report};
use dbbackup_crds::{BackupSchedule, BackupScheduleStatus};
use jiff::tz::TimeZone;
use serde_json::json;

use super::super::{Outlook, standing};
use super::*;
use crate::run::Waiting;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-23T12:00:00Z";

/// The schedule in its second generation, which is known for an hour.
fn schedule() -> (BackupSchedule, BackupScheduleStatus) {
    let json = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "shop", "generation": 2},
        "spec": {"repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily"},
    });
    let schedule = serde_json::from_value(json).unwrap();
    let status = BackupScheduleStatus {
        observed_generation: Some(2),
        generation_time: Some(at("2026-11-23T11:00:00Z")),
        ..BackupScheduleStatus::default()
    };
    (schedule, status)
}

fn look(generation: i64, time: &str, failure: Option<Failure>) -> Option<LastPreflight> {
    let outcome = if failure.is_some() { "Failed" } else { "Succeeded" };
    let json = json!({"time": time, "generation": generation, "outcome": outcome,
        "databaseCount": {"total": 3, "succeeded": 3, "failed": 0}});
    Some(LastPreflight { error: failure, ..serde_json::from_value(json).unwrap() })
}

fn wrong_password() -> Option<Failure> {
    Some(Failure::new(Reason::WrongPassword, "the server refused the password of alice"))
}

#[test]
fn each_generation_is_looked_at_unless_a_backup_has_proved_it_or_runs() {
    let (schedule, status) = schedule();
    let success = |began, ended| Children {
        last_success: Some(at(ended)),
        proof: Some((at(began), at(ended))),
        ..Children::default()
    };
    let step = |status: &BackupScheduleStatus, children: &Children| {
        plan(&schedule, status, children, None, at(NOW))
    };
    assert_eq!(step(&status, &Children::default()), Step::Begin);
    // One that began before this generation proves nothing of it, though it ended later.
    let older = success("2026-11-23T10:15:00Z", "2026-11-23T11:45:00Z");
    assert_eq!(step(&status, &older), Step::Begin);
    let next = Step::Rest(Some(at("2026-11-24T11:30:00Z")));
    assert_eq!(step(&status, &success("2026-11-23T11:20:00Z", "2026-11-23T11:30:00Z")), next);
    // Where nobody knows since when it is the present one, it does.
    let older = BackupScheduleStatus { generation_time: None, ..status.clone() };
    let next = Step::Rest(Some(at("2026-11-24T02:15:00Z")));
    assert_eq!(step(&older, &success("2026-11-23T02:10:00Z", "2026-11-23T02:15:00Z")), next);

    let running = Children { active: vec!["nightly-1".into()], ..Children::default() };
    assert_eq!(step(&status, &running), Step::Rest(None));
    let mut suspended = schedule.clone();
    suspended.spec.suspend = true;
    let children = Children::default();
    assert_eq!(plan(&suspended, &status, &children, None, at(NOW)), Step::Rest(None));

    let known = |observed| {
        let status = BackupScheduleStatus { observed_generation: observed, ..status.clone() };
        generation_time(&schedule, &status, at(NOW))
    };
    assert_eq!(known(Some(2)), status.generation_time);
    assert_eq!((known(Some(1)), known(None)), (Some(at(NOW)), Some(at(NOW))));
}

#[test]
fn it_is_looked_again_after_a_day_and_sooner_where_somebody_is_about_to_correct_it() {
    let (schedule, mut status) = schedule();
    let none = Children::default();
    for (last, expected) in [
        (look(2, "2026-11-23T11:01:00Z", None), Step::Rest(Some(at("2026-11-24T11:01:00Z")))),
        (look(1, "2026-11-23T11:01:00Z", None), Step::Begin),
        (look(2, "2026-11-22T11:01:00Z", None), Step::Begin),
        (
            look(2, "2026-11-23T11:01:00Z", wrong_password()),
            Step::Rest(Some(at("2026-11-23T12:01:00Z"))),
        ),
        (look(2, "2026-11-23T10:59:00Z", wrong_password()), Step::Begin),
    ] {
        status.last_preflight = last;
        assert_eq!(plan(&schedule, &status, &none, None, at(NOW)), expected);
    }
    // It has been so for days: once a day is enough.
    status.generation_time = Some(at("2026-11-01T00:00:00Z"));
    status.last_preflight = look(2, "2026-11-23T11:01:00Z", wrong_password());
    let tomorrow = Step::Rest(Some(at("2026-11-24T11:01:00Z")));
    assert_eq!(plan(&schedule, &status, &none, None, at(NOW)), tomorrow);
}

#[test]
fn what_is_missing_may_come_for_an_hour_and_is_looked_for_each_minute() {
    let (schedule, status) = schedule();
    let secret = || Some(Failure::new(Reason::SecretNotFound, "the Secret db does not exist"));
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    let found = |schedule: &BackupSchedule, status: &BackupScheduleStatus, now: &str| {
        let none = Children::default();
        let step = plan(schedule, status, &none, None, at(now));
        let status = standing(status.clone(), schedule, &none, &outlook, at(now));
        let stands = status.conditions.iter().find(|it| it.type_ != "Ready").unwrap().clone();
        assert!(stands.message.starts_with("a backup would fail: "), "{}", stands.message);
        let is_told = stands.message.ends_with(". It is looked again within a minute.");
        (step, stands.type_, is_told)
    };
    let rest = |time: &str| Step::Rest(Some(at(time)));
    let key = Some(Failure::new(Reason::SecretKeyNotFound, "the Secret db has no key password"));
    let database = Some(Failure::new(Reason::DatabaseNotFound, "crm fits no database"));
    for (last, step, stands) in [
        (look(2, "2026-11-23T11:59:30Z", secret()), rest("2026-11-23T12:00:30Z"), "Reconciling"),
        (look(2, "2026-11-23T11:59:30Z", key), rest("2026-11-23T12:00:30Z"), "Reconciling"),
        (look(2, "2026-11-23T11:59:30Z", database), rest("2026-11-23T12:00:30Z"), "Reconciling"),
        (look(2, "2026-11-23T11:58:00Z", secret()), Step::Begin, "Reconciling"),
        // The hour is over: somebody has to do something.
        (look(2, "2026-11-23T12:00:00Z", secret()), rest("2026-11-23T13:00:00Z"), "Stalled"),
        // What is there and wrong does not come right by itself.
        (
            look(2, "2026-11-23T11:59:30Z", wrong_password()),
            rest("2026-11-23T12:59:30Z"),
            "Stalled",
        ),
    ] {
        let status = BackupScheduleStatus { last_preflight: last, ..status.clone() };
        let is_told = stands == "Reconciling";
        assert_eq!(found(&schedule, &status, NOW), (step, stands.to_owned(), is_told));
    }
    // Of one whose generation's time nobody has written down, since it was created.
    let mut created = schedule.clone();
    let last_preflight = look(2, "2026-11-23T11:59:30Z", secret());
    let status = BackupScheduleStatus { generation_time: None, last_preflight, ..status };
    for (time, stands) in
        [("2026-11-23T11:30:00Z", "Reconciling"), ("2026-11-01T00:00:00Z", "Stalled")]
    {
        created.metadata.creation_timestamp = Some(dbbackup_crds::Time(at(time)));
        assert_eq!(found(&created, &status, NOW).1, stands);
    }
}

#[test]
fn a_look_that_goes_on_says_what_its_attempts_fail_with() {
    let (schedule, mut status) = schedule();
    status.preflight =
        Some(PreflightRun { job_name: "j".into(), generation: 2, start_time: at(NOW) });
    let none = Children::default();
    let zone = TimeZone::UTC;
    let host = || Some(Failure::new(Reason::HostNotFound, "shop-db is not known").with_hint(""));
    let node = Failure::new(Reason::Unschedulable, "no node takes the pod").with_hint("");
    let waiting = |attempt, last_failure, cause| {
        RunView::Waiting(Waiting { attempt, last_failure, cause, until: at(NOW), limit: "l" })
    };
    let running = |attempts, last_failure| RunView::Running { attempts, last_failure };
    let secret = Some(Failure::new(Reason::SecretNotFound, "the Secret db does not exist"));
    let proof = look(2, "2026-11-23T11:10:00Z", None);
    let missed = look(2, "2026-11-23T11:10:00Z", secret);
    let refused = look(2, "2026-11-23T11:10:00Z", wrong_password());
    let ahead = "it is looked whether backups would work";
    let second = format!("{ahead}: attempt 1 failed, 2 is on its way: shop-db is not known");
    let third = format!("{ahead}: attempt 3 runs; the one before failed: shop-db is not known");
    let starts = format!("{ahead}: no node takes the pod. It is given up at {NOW} (l).");
    let password = wrong_password().unwrap();
    let password = format!("a backup would fail: {}. {}", password.message, password.hint);
    let looking = "looking ahead, attempt 2: HostNotFound, never succeeded";
    for (last, run, words, reason, message) in [
        (None, running(1, None), "never succeeded", "Preflight", ahead),
        (None, waiting(1, None, None), "never succeeded", "Preflight", ahead),
        (None, waiting(2, host(), None), looking, "HostNotFound", &*second),
        (
            None,
            running(3, host()),
            "looking ahead, attempt 3: HostNotFound, never succeeded",
            "HostNotFound",
            &third,
        ),
        (
            None,
            waiting(1, None, Some(node)),
            "looking ahead: Unschedulable, never succeeded",
            "Unschedulable",
            &starts,
        ),
        // The Secret has come, and now the server is not there.
        (
            missed,
            waiting(2, host(), None),
            "a backup would fail: SecretNotFound, looking ahead, attempt 2: HostNotFound, never succeeded",
            "HostNotFound",
            &second,
        ),
        // Somebody has to correct something all the same.
        (
            refused,
            waiting(2, host(), None),
            "a backup would fail: WrongPassword, looking ahead, attempt 2: HostNotFound, never succeeded",
            "WrongPassword",
            &password,
        ),
        // What was proved holds until the end of the look.
        (
            proof,
            waiting(2, host(), None),
            looking,
            "PreflightPassed",
            "3 databases can be backed up",
        ),
    ] {
        let status = BackupScheduleStatus { last_preflight: last, ..status.clone() };
        let Step::Watch(attempt) = plan(&schedule, &status, &none, Some(&run), at(NOW)) else {
            panic!("{run:?}")
        };
        let ahead = attempt.trouble();
        let outlook = Outlook { ahead, ..Outlook::calm(&zone) };
        let status = standing(status, &schedule, &none, &outlook, at(NOW));
        let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!(status.display.as_deref(), Some(words));
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), (reason, message));
    }
}

#[test]
fn a_look_ends_with_what_its_runner_says_or_with_what_was_seen() {
    let (schedule, mut status) = schedule();
    let run = PreflightRun { job_name: "j".into(), generation: 2, start_time: at(NOW) };
    status.preflight = Some(run.clone());
    let none = Children::default();
    let step = |status: &BackupScheduleStatus, run: RunView| {
        plan(&schedule, status, &none, Some(&run), at(NOW))
    };
    let report: PreflightReport = serde_json::from_value(json!({
        "outcome": "Failed", "startTime": NOW, "completionTime": NOW,
        "error": wrong_password(),
    }))
    .unwrap();
    let reported = RunView::Reported(Box::new(Report::Preflight(Box::new(report.clone()))), 1);
    assert_eq!(step(&status, reported.clone()), Step::Finish(Box::new(report.clone())));
    let gone = Failure::new(Reason::JobGone, "gone");
    assert_eq!(step(&status, RunView::Unknown(gone.clone(), 1)), Step::Fail(gone.clone()));
    status.preflight = Some(PreflightRun { generation: 1, ..run.clone() });
    assert_eq!(step(&status, reported), Step::Abandon);

    status.preflight = Some(run);
    ended(&mut status, Ok(&report), at(NOW));
    let last = last(&schedule, &status).unwrap();
    assert_eq!((last.job_name.as_deref(), &last.error), (Some("j"), &wrong_password()));
    assert!(status.preflight.is_none());
}

#[test]
fn ready_means_that_a_backup_or_a_look_has_proved_it() {
    let (schedule, status) = schedule();
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    let ended = at("2026-11-23T11:30:00Z");
    let success = Children {
        last_success: Some(ended),
        proof: Some((at("2026-11-23T11:20:00Z"), ended)),
        ..Children::default()
    };
    let host = Some(Failure::new(Reason::HostNotFound, "shop-db is not known"));
    for (last, children, ready, reason, words) in [
        (None, &Children::default(), false, "Preflight", "never succeeded"),
        (
            look(2, "2026-11-23T11:10:00Z", None),
            &Children::default(),
            true,
            "PreflightPassed",
            "never succeeded",
        ),
        (
            look(2, "2026-11-23T11:10:00Z", wrong_password()),
            &Children::default(),
            false,
            "WrongPassword",
            "a backup would fail: WrongPassword, never succeeded",
        ),
        (look(2, "2026-11-23T11:10:00Z", host), &success, true, "Accepted", "last ok under 1h ago"),
        (
            look(1, "2026-11-23T10:10:00Z", None),
            &Children::default(),
            false,
            "Preflight",
            "never succeeded",
        ),
    ] {
        let status = BackupScheduleStatus { last_preflight: last, ..status.clone() };
        let status = standing(status, &schedule, children, &outlook, at(NOW));
        let condition = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!((condition.status == "True", condition.reason.as_str()), (ready, reason));
        assert_eq!(status.display.as_deref(), Some(words));
    }
}

#[test]
fn hooks_that_fail_beside_a_success_are_told_and_do_not_make_it_unready() {
    let (schedule, status) = schedule();
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    let hook = json!({"name": "resume", "stage": "After", "outcome": "Failed", "error": {
        "class": "Warning", "reason": "HookFailed", "message": "hook resume: no", "hint": "Look."}});
    let hook: dbbackup_contract::HookReport = serde_json::from_value(hook).unwrap();
    let message = |status: BackupScheduleStatus, children: &Children| {
        let status = standing(status, &schedule, children, &outlook, at(NOW));
        let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap().clone();
        assert_eq!(ready.status, "True", "{}", ready.message);
        ready.message
    };
    let mut looked = look(2, "2026-11-23T11:10:00Z", None).unwrap();
    looked.hooks = vec![hook.clone()];
    let ahead = BackupScheduleStatus { last_preflight: Some(looked), ..status.clone() };
    assert_eq!(
        message(ahead, &Children::default()),
        "3 databases can be backed up; but hook resume: no. Look."
    );
    let json = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "nightly-1", "namespace": "shop"},
        "spec": {"scheduleRef": {"name": "nightly"}},
        "status": {"phase": "Succeeded", "hooks": [hook],
            "startTime": "2026-11-23T11:20:00Z", "completionTime": "2026-11-23T11:30:00Z"},
    });
    let mut children = Children::default();
    children.add(&serde_json::from_value(json).unwrap());
    let looked_since = look(2, "2026-11-23T11:40:00Z", None);
    let ahead = BackupScheduleStatus { last_preflight: looked_since, ..status.clone() };
    let told = message(ahead, &children);
    assert_eq!(told, "3 databases can be backed up; but hook resume: no. Look.");
    let told = message(status, &children);
    assert!(told.ends_with("its last backup succeeded; but hook resume: no. Look."), "{told}");
}

#[test]
fn that_a_look_has_passed_is_told_once_for_each_spec() {
    let (mut schedule, status) = schedule();
    let now = |last_preflight| BackupScheduleStatus { last_preflight, ..status.clone() };
    let (ten, eleven) = ("2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z");
    let mut told = |before, after| {
        schedule.status = Some(now(before));
        passed(&schedule, &now(after)).is_some()
    };
    assert!(told(None, look(2, ten, None)));
    // The status is written, and read again.
    assert!(!told(look(2, ten, None), look(2, ten, None)));
    assert!(!told(look(2, ten, None), look(2, eleven, None)), "it had passed before");
    assert!(told(look(2, ten, wrong_password()), look(2, eleven, None)));
    assert!(told(look(1, ten, None), look(2, eleven, None)), "of another spec");
    assert!(!told(None, look(2, ten, wrong_password())));
}
