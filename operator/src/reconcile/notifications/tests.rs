use dbbackup_contract::{Failure, NotifyReport, Outcome, Reason, Report};
use dbbackup_crds::{
    Backup, BackupPhase, BackupSchedule, NotificationEvent, NotificationPhase, NotificationStatus,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::conditions::conditions;
use crate::reconcile::fixtures;
use crate::run::{RunView, Waiting};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(events: &[&str]) -> BackupSchedule {
    schedule_with(&json!([{"name": "ops", "events": events, "webhook": {"url": "http://hook"}}]))
}

fn schedule_with(notifications: &Value) -> BackupSchedule {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {
            "repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily",
            "job": {"resources": {"limits": {"memory": "8Gi"}}, "parallelism": 8,
                "nodeSelector": {"zone": "a"}},
            "notifications": notifications,
        },
        "status": {"lastSuccessfulTime": "2026-11-19T01:17:32Z"},
    }))
    .unwrap()
}

fn entry(phase: NotificationPhase) -> NotificationStatus {
    NotificationStatus { phase, ..NotificationStatus::pending("ops", NotificationEvent::Failed) }
}

/// A backup that ended at this time of a day of November, and who was told of it.
fn backup(time: &str, phase: BackupPhase, told: &[NotificationStatus]) -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": format!("nightly-{time}"), "namespace": "shop", "uid": time},
        "spec": {"scheduleRef": {"name": "nightly"}},
        "status": {
            "phase": phase, "completionTime": format!("2026-11-{time}Z"), "notifications": told,
        },
    }))
    .unwrap()
}

#[test]
fn what_is_told_depends_on_the_end_and_on_the_one_before() {
    use BackupPhase::{Failed, PartiallyFailed, Succeeded};
    use NotificationEvent as Event;
    let all: &[&str] = &["Succeeded", "Failed", "PartiallyFailed", "Recovered"];
    let usual: &[&str] = &["Failed", "PartiallyFailed", "Recovered"];
    for (on, before, outcome, expected) in [
        (usual, None, Outcome::Failed, Some(Event::Failed)),
        (usual, None, Outcome::PartiallyFailed, Some(Event::PartiallyFailed)),
        (usual, None, Outcome::Succeeded, None),
        (usual, Some(Succeeded), Outcome::Succeeded, None),
        (usual, Some(Failed), Outcome::Succeeded, Some(Event::Recovered)),
        (usual, Some(PartiallyFailed), Outcome::Succeeded, Some(Event::Recovered)),
        (usual, Some(PartiallyFailed), Outcome::Failed, Some(Event::Failed)),
        // Nobody was told of the one before.
        (usual, Some(Failed), Outcome::Failed, Some(Event::Failed)),
        (all, None, Outcome::Succeeded, Some(Event::Succeeded)),
        (all, Some(Failed), Outcome::Succeeded, Some(Event::Recovered)),
        (&["Succeeded"], Some(Failed), Outcome::Succeeded, Some(Event::Succeeded)),
        (&["Succeeded"], None, Outcome::Failed, None),
        (&["Recovered"], Some(Failed), Outcome::Failed, None),
    ] {
        let before = before.map(|phase| backup("20T01:30:00", phase, &[]));
        let before: Vec<&Backup> = before.iter().collect();
        let due = due(&schedule(on), outcome, &before, at("2026-11-21T01:30:00Z"));
        let events: Vec<_> = due.iter().map(|entry| entry.event).collect();
        assert_eq!(events, expected.into_iter().collect::<Vec<_>>(), "{on:?} {before:?}");
        assert!(due.iter().all(|entry| entry.phase == NotificationPhase::Pending));
    }
}

#[test]
fn a_failure_that_goes_on_is_told_once_a_day_and_again_where_nobody_heard_of_it() {
    use NotificationPhase::{Failed, Pending, Running, Sent};
    let on = schedule(&["Failed", "Recovered"]);
    let tells = |before: &[Backup], now: &str| {
        let before: Vec<&Backup> = before.iter().collect();
        !due(&on, Outcome::Failed, &before, at(now)).is_empty()
    };
    let failed = |time: &str, told: &[NotificationStatus]| backup(time, BackupPhase::Failed, told);
    for (phase, again) in [(Sent, false), (Pending, false), (Running, false), (Failed, true)] {
        let before = [failed("20T01:30:00", &[entry(phase)]), failed("20T02:30:00", &[])];
        assert_eq!(tells(&before, "2026-11-20T03:30:00Z"), again, "{phase:?}");
        // The next night's fails a little sooner.
        assert!(tells(&before, "2026-11-21T01:29:00Z"), "{phase:?}");
    }
    let told = entry(Sent);
    let (first, ended) =
        (failed("20T01:30:00", &[told]), backup("20T02:30:00", BackupPhase::Succeeded, &[]));
    assert!(tells(&[first.clone(), ended], "2026-11-20T03:30:00Z"), "it had ended meanwhile");
    // The time of sending counts, where it came late.
    let late = NotificationStatus { time: Some(at("2026-11-20T12:00:00Z")), ..entry(Sent) };
    assert!(!tells(&[failed("20T01:30:00", &[late])], "2026-11-21T01:30:00Z"));
    // Somebody else was told.
    let other = NotificationStatus { name: "other".into(), ..entry(Sent) };
    assert!(tells(&[failed("20T01:30:00", &[other])], "2026-11-20T03:30:00Z"));
    // One that runs tells nothing yet.
    let mut runs = failed("20T02:30:00", &[]);
    runs.status.get_or_insert_default().phase = Some(BackupPhase::Running);
    assert!(!tells(&[first, runs], "2026-11-20T03:30:00Z"));
}

#[test]
fn only_a_report_of_a_success_ends_it_and_tries_have_an_end() {
    let reported = |outcome, error| {
        let report = NotifyReport { outcome, completion_time: Timestamp::UNIX_EPOCH, error };
        RunView::Reported(Box::new(Report::Notify(report)), 1)
    };
    let busy = Failure::new(Reason::NotificationFailed, "busy");
    let no = Failure::new(Reason::NotificationRefused, "no");
    let image = Failure::new(Reason::ImagePullFailed, "no image");
    let until = Timestamp::UNIX_EPOCH;
    let waiting = Waiting { attempt: 1, last_failure: None, cause: None, until, limit: "" };
    for (attempts, run, expected) in [
        (1, reported(Outcome::Succeeded, None), Step::Finish),
        (1, reported(Outcome::Failed, Some(busy.clone())), Step::Retry(busy.clone())),
        (3, reported(Outcome::Failed, Some(busy.clone())), Step::Retry(busy.clone())),
        (4, reported(Outcome::Failed, Some(busy.clone())), Step::GiveUp(busy.clone())),
        (1, reported(Outcome::Failed, Some(no.clone())), Step::GiveUp(no)),
        (1, RunView::NeverStarted(image.clone()), Step::Retry(image.clone())),
        (4, RunView::NeverStarted(image.clone()), Step::GiveUp(image)),
        (1, RunView::Unknown(busy.clone(), 1), Step::Retry(busy.clone())),
        (1, RunView::Lost(busy.clone(), 1), Step::Retry(busy)),
        (1, RunView::Running { attempts: 1, last_failure: None }, Step::Watch(None)),
        (1, RunView::Waiting(waiting.clone()), Step::Watch(Some(waiting))),
    ] {
        let entry =
            NotificationStatus { attempts: Some(attempts), ..entry(NotificationPhase::Running) };
        assert_eq!(plan_begun(&entry, &run), expected, "{run:?}");
    }
    let other = Report::Init(serde_json::from_value(json!({"outcome": "Succeeded"})).unwrap());
    let step =
        plan_begun(&entry(NotificationPhase::Running), &RunView::Reported(Box::new(other), 1));
    assert!(matches!(step, Step::GiveUp(_)), "{step:?}");
}

#[test]
fn the_next_attempt_waits_longer_each_time_and_what_is_settled_rests() {
    let now = at("2026-11-20T01:30:00Z");
    let mut told = entry(NotificationPhase::Pending);
    let mut pauses = Vec::new();
    for attempt in 1..=4 {
        assert_eq!(plan_unbegun(&told, now), Step::Begin(attempt));
        status::begun(&mut told, format!("j{attempt}"), attempt);
        status::failed(&mut told, Failure::new(Reason::NotificationFailed, "busy"), now);
        let next = told.next_attempt_time.unwrap();
        assert_eq!(plan_unbegun(&told, now), Step::RestUntil(next));
        pauses.push(next.duration_since(now).as_mins());
        told.next_attempt_time = Some(now);
    }
    assert_eq!(pauses, [5, 10, 20, 40]);
    status::sent(&mut told, now);
    assert_eq!((told.phase, &told.error, told.time), (NotificationPhase::Sent, &None, Some(now)));
    assert_eq!(plan_unbegun(&told, now), Step::Rest);
    status::given_up(&mut told, Failure::new(Reason::NotificationRefused, "no"), now);
    assert_eq!(plan_unbegun(&told, now), Step::Rest);
}

#[test]
fn the_job_of_a_message_has_its_own_secrets_and_no_repository() {
    let schedule = schedule_with(&json!([
        {"name": "ops", "webhook": {
            "urlSecretRef": {"name": "hook", "key": "url"},
            "signingKeySecretRef": {"name": "hook", "key": "key"},
            "authorizationSecretRef": {"name": "hook-token", "key": "token"},
            "caRef": {"kind": "ConfigMap", "name": "corporate-ca"},
        }},
        {"name": "mail", "email": {
            "host": "mail.example.com", "tls": "TLS", "from": "dbbackup@example.com",
            "to": ["ops@example.com"], "credentialsSecretRef": {"name": "mail"},
        }},
    ]));
    let mut backup = fixtures::backup();
    backup.status = Some(
        serde_json::from_value(json!({
            "phase": "Expired", "startTime": "2026-11-20T01:15:00Z",
            "completionTime": "2026-11-20T01:15:09Z", "repository": {"name": "main"},
            "error": Failure::new(Reason::ServerUnreachable, "nothing answers at db:5432"),
            "bytes": {"read": 3, "new": 2, "stored": 1},
            "databaseCount": {"total": 2, "succeeded": 1, "failed": 1},
        }))
        .unwrap(),
    );
    let identity = fixtures::identity("shop-nightly-29391435");
    let job = |index: usize, event| {
        let spec = &schedule.spec.notifications[index];
        let entry = NotificationStatus::pending(&spec.name, event);
        let name = task::notify_job_name(&identity, &entry, 1);
        let (around, subject) = (fixtures::surroundings(), (&backup, &identity));
        let job = task::notify_job(&around, subject, (&schedule, spec), &entry, name).unwrap();
        fixtures::readable(&job)
    };
    insta::assert_yaml_snapshot!(job(0, NotificationEvent::PartiallyFailed));
    let task = "/spec/template/metadata/annotations/dbbackup.dev~1task/action/notify";
    let mail = job(1, NotificationEvent::Recovered);
    let mail = mail.pointer(task).unwrap();
    assert_eq!(mail["channel"]["email"]["port"], 465);
    assert_eq!(mail["channel"]["email"]["credentials"]["password"]["object"], "the Secret mail");
    // What a backup that succeeded failed with before is nobody's business.
    assert_eq!(mail["notice"].get("error"), None);
    assert_eq!(mail["notice"]["backup"]["phase"], "Succeeded");
    assert_eq!(mail["notice"]["lastSuccessfulTime"], "2026-11-20T01:15:09Z");
}

#[test]
fn the_schedule_tells_whether_the_last_message_of_each_has_arrived() {
    let now = at("2026-11-22T12:00:00Z");
    let schedule = schedule_with(&json!([
        {"name": "ops", "webhook": {"url": "http://hook"}},
        {"name": "mail", "webhook": {"url": "http://hook"}},
    ]));
    let refused = Failure::new(Reason::NotificationRefused, "status 404").with_hint("Look.");
    let failed = NotificationStatus { error: Some(refused), ..entry(NotificationPhase::Failed) };
    let mail = NotificationStatus { name: "mail".into(), ..entry(NotificationPhase::Sent) };
    let (first, second) = (
        backup("20T01:30:00", BackupPhase::Failed, &[entry(NotificationPhase::Sent), mail]),
        backup("21T01:30:00", BackupPhase::Failed, &[failed]),
    );
    let newer = backup("22T01:30:00", BackupPhase::Failed, &[entry(NotificationPhase::Pending)]);
    let told = |backups: &[&Backup]| {
        let outlooks = outlook(&schedule, backups);
        let all = condition(conditions(&[], &ready(), Some(1), now), &outlooks, Some(1), now);
        let found = all.into_iter().find(|condition| condition.type_ == "Notified");
        (found.map(|found| (found.status, found.reason, found.message)), trouble(&outlooks))
    };
    let said = |status: &str, reason: &str, message: &str| {
        Some((status.to_owned(), reason.to_owned(), message.to_owned()))
    };
    assert_eq!(told(&[]), (None, None));
    assert_eq!(told(&[&newer]), (None, None));
    let fine = said("True", "Succeeded", "the last message of each notification has arrived");
    assert_eq!(told(&[&first]), (fine, None));
    let lost = said("False", "NotificationRefused", "ops: status 404. Look.");
    let column = Some("notification ops: NotificationRefused".to_owned());
    assert_eq!(told(&[&second, &newer, &first]), (lost, column));
}

fn ready() -> crate::conditions::Verdict {
    crate::conditions::Verdict::new(crate::conditions::Standing::Ready, "Accepted", "")
}
