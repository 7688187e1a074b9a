use dbbackup_contract::{CopyBytes, CopyReport, Failure, Outcome, Reason, Report};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepository, BackupSchedule, BackupStatus, CopyPhase, CopyStatus,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::fixtures;
use crate::run::{RunView, Waiting};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

fn place() -> Wanted {
    Wanted { name: "far".into(), repository: "second".into() }
}

fn copy(phase: CopyPhase) -> CopyStatus {
    let mut copy = entries(&[], &[place()]).remove(0);
    copy.phase = phase;
    copy
}

/// A backup of 1:15 on that day of November, done at half past one.
fn backup(day: u32, copies: &[CopyStatus]) -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": format!("nightly-{day}"), "namespace": "shop", "uid": format!("u{day}")},
        "spec": {"scheduleRef": {"name": "nightly"}},
        "status": {
            "phase": "Succeeded", "snapshotId": format!("snapshot-{day}"),
            "completionTime": format!("2026-11-{day}T01:30:00Z"),
            "repository": {"name": "main"},
            "resolved": {
                "repositoryRef": {"name": "main"}, "source": {},
                "slotTime": format!("2026-11-{day}T01:15:00Z"),
            },
            "copies": copies,
        },
    }))
    .unwrap()
}

fn schedule(copies: &Value) -> BackupSchedule {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {
            "repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily", "copies": copies,
        },
    }))
    .unwrap()
}

fn far() -> BackupSchedule {
    schedule(&json!([{"name": "far", "repositoryRef": {"name": "second"}}]))
}

fn report(snapshot: Option<&str>) -> CopyReport {
    let bytes = CopyBytes { read: 10, unchanged: 90, new: 8, stored: 4 };
    let snapshot_id = snapshot.map(str::to_owned);
    CopyReport { outcome: Outcome::Succeeded, snapshot_id, bytes, ..CopyReport::begun(now()) }
}

#[test]
fn the_entries_follow_what_is_wanted_and_keep_what_runs_or_is_there() {
    assert_eq!(entries(&[], &[place()]), [copy(CopyPhase::Pending)]);
    let elsewhere = Wanted { repository: "third".into(), ..place() };
    use CopyPhase::{Expired, Failed, Pending, Running, Succeeded};
    for (phase, stays_unwanted, stays_while_moved) in [
        (Pending, false, false),
        (Failed, false, false),
        (Running, true, true),
        (Succeeded, true, false),
        (Expired, true, false),
    ] {
        let known = [copy(phase)];
        assert_eq!(entries(&known, &[place()]), known, "{phase:?}");
        assert_eq!(entries(&known, &[]).len(), usize::from(stays_unwanted), "{phase:?}");
        let moved = &entries(&known, std::slice::from_ref(&elsewhere))[0];
        assert_eq!(moved == &known[0], stays_while_moved, "{phase:?}");
        assert!(stays_while_moved || moved.repository.name == "third");
    }
}

#[test]
fn a_backup_without_a_schedule_has_copies_of_its_own_and_one_without_either_has_none() {
    assert_eq!(wanted(&backup(20, &[]), Some(&far())), [place()]);
    assert_eq!(wanted(&backup(20, &[]), None), []);
    let mut single = backup(20, &[]);
    single.spec.schedule_ref = None;
    single.spec.template = Some(
        serde_json::from_value(json!({
            "repositoryRef": {"name": "main"}, "source": {},
            "copies": [{"name": "far", "repositoryRef": {"name": "second"}}],
        }))
        .unwrap(),
    );
    assert_eq!(wanted(&single, Some(&schedule(&json!([])))), [place()]);
    assert_eq!(turn(&single, &place(), [backup(19, &[])].iter(), now()), Turn::Now);
}

#[test]
fn the_oldest_comes_first_one_at_a_time_and_a_failure_lets_the_others_by() {
    let resting =
        |until: &str| CopyStatus { next_attempt_time: Some(at(until)), ..copy(CopyPhase::Failed) };
    let of = |own: u32, others: &[Backup]| turn(&backup(own, &[]), &place(), others.iter(), now());
    let mut gone = backup(20, &[]);
    gone.status.get_or_insert_default().phase = Some(BackupPhase::Expired);
    let mut stranger = backup(20, &[]);
    stranger.metadata.namespace = Some("other".into());
    for (what, other, expected) in [
        ("waits", backup(20, &[]), Turn::Later),
        ("waits, and is newer", backup(22, &[]), Turn::Now),
        ("runs", backup(20, &[copy(CopyPhase::Running)]), Turn::Next),
        ("runs, and is newer", backup(22, &[copy(CopyPhase::Running)]), Turn::Next),
        ("is done", backup(20, &[copy(CopyPhase::Succeeded)]), Turn::Now),
        ("was let go", backup(20, &[copy(CopyPhase::Expired)]), Turn::Now),
        ("rests", backup(20, &[resting("2026-11-23T12:00:01Z")]), Turn::Now),
        ("is due again", backup(20, &[resting("2026-11-23T12:00:00Z")]), Turn::Later),
        ("has no snapshot any more", gone, Turn::Now),
        ("is of another namespace", stranger, Turn::Now),
    ] {
        assert_eq!(of(21, &[other]), expected, "an older one that {what}");
    }
    let all = [backup(20, &[copy(CopyPhase::Running)]), backup(19, &[])];
    assert_eq!(of(21, &all), Turn::Later);
}

#[test]
fn those_are_woken_whose_turn_may_have_come() {
    let guarded = |backup| std::sync::Arc::new(kube::core::DeserializeGuard(Ok(backup)));
    let done = backup(19, &[copy(CopyPhase::Succeeded)]);
    let waiting = CopyStatus {
        error: Some(Failure::new(Reason::ReferenceNotReady, "away")),
        ..copy(CopyPhase::Pending)
    };
    let known = [
        guarded(done.clone()),
        guarded(backup(21, &[copy(CopyPhase::Pending)])),
        guarded(backup(20, std::slice::from_ref(&waiting))),
        guarded(backup(22, &[])),
    ];
    assert_eq!(next_in_line(&known, &done, now()), ["nightly-20"]);
    assert_eq!(unlisted(&known, &far()), ["nightly-22"]);
    assert!(waits_for(&backup(20, &[waiting]), "second"));
    assert!(!waits_for(&backup(21, &[copy(CopyPhase::Pending)]), "second"));
}

#[test]
fn only_a_report_that_names_the_copy_is_a_success() {
    let run = |report| RunView::Reported(Box::new(report), 1);
    let done = report(Some("c"));
    assert_eq!(plan_begun(&run(Report::Copy(done.clone()))), Step::Finish(done));
    let away = Failure::new(Reason::StorageUnavailable, "away");
    let failed = CopyReport { error: Some(away.clone()), ..CopyReport::begun(now()) };
    let another = Report::Find(dbbackup_contract::FindReport::default());
    let gone = Failure::new(Reason::JobGone, "the Job is gone");
    for (view, reason) in [
        (run(Report::Copy(report(None))), Reason::Internal),
        (run(Report::Copy(failed)), Reason::StorageUnavailable),
        (run(another), Reason::OutcomeUnknown),
        (RunView::Unknown(gone.clone(), 1), Reason::JobGone),
        (RunView::Lost(gone.clone(), 1), Reason::JobGone),
        (RunView::NeverStarted(gone), Reason::JobGone),
    ] {
        let Step::Fail(failure) = plan_begun(&view) else { panic!("{view:?}") };
        assert_eq!(failure.reason, reason, "{view:?}");
    }
    let goes_on = RunView::Running { attempts: 2, last_failure: Some(away.clone()) };
    let watch = Step::Watch { waiting: None, last_failure: Some(away) };
    assert_eq!(plan_begun(&goes_on), watch);
    let starts = Waiting { attempt: 1, last_failure: None, cause: None, until: now(), limit: "" };
    let watch = Step::Watch { waiting: Some(starts.clone()), last_failure: None };
    assert_eq!(plan_begun(&RunView::Waiting(starts)), watch);
}

#[test]
fn a_copy_is_begun_in_its_turn_and_waits_for_its_repositories() {
    let trouble = || Some(Failure::new(Reason::ReferenceNotReady, "away"));
    let step =
        |turn, source, destination| plan_due(&copy(CopyPhase::Pending), turn, source, destination);
    assert_eq!(step(Turn::Later, None, None), Step::Queue { is_next: false });
    assert_eq!(step(Turn::Next, None, None), Step::Queue { is_next: true });
    assert_eq!(step(Turn::Now, None, None), Step::Begin(1));
    assert_eq!(step(Turn::Now, trouble(), trouble()), Step::Defer(trouble().unwrap()));
    assert_eq!(step(Turn::Now, None, trouble()), Step::Wait(trouble().unwrap()));
    let again = CopyStatus { attempts: Some(3), ..copy(CopyPhase::Failed) };
    assert_eq!(plan_due(&again, Turn::Now, None, None), Step::Begin(4));
}

#[test]
fn a_failed_copy_is_tried_again_with_growing_pauses_while_there_is_a_snapshot() {
    let status = backup(20, &[]).status.unwrap();
    let mut failing = copy(CopyPhase::Pending);
    let failure = Failure::new(Reason::WrongKey, "no");
    let mut minutes = Vec::new();
    for attempt in 1..=11 {
        status::begun(&mut failing, format!("j{attempt}"), attempt, Some("id".into()), now());
        assert_eq!((failing.phase, &failing.error), (CopyPhase::Running, &None));
        status::failed(&mut failing, failure.clone(), now());
        let next = failing.next_attempt_time.unwrap();
        minutes.push(next.duration_since(now()).as_mins());
        assert_eq!(plan_unbegun(&failing, &status, true, now()), Step::RestUntil(next));
        assert_eq!(plan_unbegun(&failing, &status, true, next), Step::Look);
        assert_eq!(plan_unbegun(&failing, &status, false, next), Step::Rest, "not wanted any more");
    }
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);

    for (phase, reason) in [
        (BackupPhase::Expired, Reason::SnapshotForgotten),
        (BackupPhase::Missing, Reason::SnapshotsMissing),
    ] {
        let gone = BackupStatus { phase: Some(phase), ..status.clone() };
        let mut copy = failing.clone();
        let Step::GiveUp(failure) = plan_unbegun(&copy, &gone, true, now()) else { panic!() };
        assert_eq!(failure.reason, reason);
        status::given_up(&mut copy, failure, now());
        assert_eq!(plan_unbegun(&copy, &gone, true, now()), Step::Rest, "it is told once");
    }
}

#[test]
fn what_was_copied_stays_so_until_it_is_let_go_or_stolen() {
    let status = backup(20, &[]).status.unwrap();
    let mut copied = copy(CopyPhase::Running);
    copied.error = Some(Failure::new(Reason::JobGone, "before"));
    status::done(&mut copied, &report(Some("c")));
    assert_eq!((copied.phase, copied.snapshot_id.as_deref()), (CopyPhase::Succeeded, Some("c")));
    assert_eq!((copied.error.as_ref(), copied.bytes.as_ref().unwrap().stored), (None, 4));
    assert_eq!(plan_unbegun(&copied, &status, true, now()), Step::Rest);

    let mut stolen = copied.clone();
    missing(&mut stolen, now());
    assert_eq!(stolen.error.as_ref().unwrap().reason, Reason::SnapshotsMissing);
    let next = stolen.next_attempt_time.unwrap();
    assert_eq!(plan_unbegun(&stolen, &status, true, next), Step::Look);

    expired(&mut copied);
    assert_eq!(copied.phase, CopyPhase::Expired);
    assert_eq!(plan_unbegun(&copied, &status, true, now()), Step::Rest);
}

#[test]
fn a_copy_in_line_keeps_what_it_failed_with_and_one_that_waited_forgets_what_for() {
    let failure = Failure::new(Reason::WrongKey, "no");
    let mut failed = CopyStatus { error: Some(failure.clone()), ..copy(CopyPhase::Failed) };
    status::queued(&mut failed);
    assert_eq!((failed.phase, failed.error), (CopyPhase::Failed, Some(failure.clone())));
    let mut waited = copy(CopyPhase::Pending);
    status::waiting(&mut waited, failure.clone());
    assert_eq!((waited.phase, &waited.error), (CopyPhase::Pending, &Some(failure)));
    status::queued(&mut waited);
    assert_eq!(waited.error, None);
}

#[test]
fn the_job_of_a_copy_has_both_repositories() {
    let around = fixtures::surroundings();
    let (backup, identity) = (fixtures::backup(), fixtures::identity("shop-nightly-29391435"));
    let (source, mut destination) = (fixtures::repository(), fixtures::second_repository());
    let name = task::copy_job_name(&identity, &copy(CopyPhase::Pending), 1);
    assert_ne!(name, task::copy_job_name(&identity, &copy(CopyPhase::Pending), 2));
    let spec = fixtures::resolved_backup().job;
    let build = |destination: &BackupRepository| {
        let (subject, between) = ((&backup, &identity), (&source, destination));
        task::copy_job(&around, subject, "s1", between, &spec, name.clone()).unwrap()
    };
    insta::assert_yaml_snapshot!(fixtures::readable(&build(&destination)));

    // Two folders of one claim: a pod has it once.
    let volume = destination.spec.storage.volume.as_mut().unwrap();
    volume.claim_name = "backups".into();
    let pod = build(&destination).spec.unwrap().template.spec.unwrap();
    let claims = pod.volumes.unwrap();
    let claims = claims.iter().filter(|volume| volume.persistent_volume_claim.is_some());
    assert_eq!(claims.count(), 1);
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let of_claim = mounts.iter().filter(|mount| mount.name == "repository");
    let paths: Vec<_> = of_claim.map(|mount| mount.mount_path.as_str()).collect();
    assert_eq!(paths, ["/repository", "/destination"]);
}

fn condition_of(outlooks: &[Outlook]) -> (String, String, String) {
    let found = condition(Vec::new(), outlooks, Some(1), now());
    let copied = found.first().cloned().unwrap();
    (copied.status, copied.reason, copied.message)
}

#[test]
fn a_schedule_tells_whether_its_newest_backup_is_copied_and_which_place_is_behind() {
    let done =
        |time: &str| CopyStatus { completion_time: Some(at(time)), ..copy(CopyPhase::Succeeded) };
    let look = |backups: &[Backup]| {
        let known: Vec<&Backup> = backups.iter().collect();
        outlook(&far(), &known)
    };
    assert_eq!(condition(Vec::new(), &look(&[]), Some(1), now()), []);

    let time = "2026-11-20T02:00:00Z";
    let all = look(&[backup(20, &[done(time)])]);
    let words = "all copies of the newest backup are done";
    assert_eq!(condition_of(&all), ("True".into(), "Succeeded".into(), words.into()));
    assert_eq!(trouble(&all), None);
    let kept = schedule_copies(&[], &all);
    assert_eq!((kept[0].last_successful_time, kept[0].missing), (Some(at(time)), 0));

    // What is older than the newest copy is behind nothing, and is counted all the same.
    let (first, behind) = (backup(19, &[]), backup(21, &[copy(CopyPhase::Running)]));
    let caught_up = look(&[backup(20, &[done(time)]), first.clone()]);
    let (_, _, words) = condition_of(&caught_up);
    assert!(words.ends_with("; 1 of older ones are not"), "{words}");
    let running = look(&[behind.clone(), first, backup(20, &[done(time)])]);
    let words = "far is behind since 2026-11-21T01:30:00Z, 2 backups are not copied";
    assert_eq!(condition_of(&running), ("False".into(), "Copying".into(), words.into()));

    let failed = CopyStatus {
        error: Some(Failure::new(Reason::WrongKey, "no key opens it").with_hint("Give one.")),
        ..copy(CopyPhase::Failed)
    };
    let failing = look(&[backup(20, &[done(time)]), backup(21, &[failed]), backup(22, &[])]);
    let (_, reason, words) = condition_of(&failing);
    assert_eq!(reason, "WrongKey");
    assert!(words.ends_with("2 backups are not copied: no key opens it. Give one."), "{words}");
    assert_eq!(trouble(&failing).unwrap(), "copy far behind: WrongKey");

    // The objects of the copied ones are gone.
    let later = schedule_copies(&kept, &look(&[behind]));
    assert_eq!(later[0].last_successful_time, Some(at(time)));
    assert_eq!(later[0].behind_since, Some(at("2026-11-21T01:30:00Z")));
}
