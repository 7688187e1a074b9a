use dbbackup_contract::{DatabaseOutcome, Method};
use dbbackup_crds::{BackupPhase, BackupScheduleSpec, BackupStatus, JobSpec, SourceSpec};
use jiff::tz::TimeZone;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

fn schedule(change: impl FnOnce(&mut BackupScheduleSpec)) -> BackupSchedule {
    let mut spec = BackupScheduleSpec {
        repository_ref: LocalRef { name: "main".into() },
        notifications: Vec::new(),
        copies: Vec::new(),
        source: SourceSpec::default(),
        method: Method::Logical,
        point_in_time_recovery: None,
        schedule: "15 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        suspend: false,
        concurrency_policy: ConcurrencyPolicy::Forbid,
        starting_deadline_seconds: None,
        jitter: None,
        immediate: false,
        retention: None,
        hooks: None,
        verification: None,
        job: JobSpec::default(),
    };
    change(&mut spec);
    let mut schedule = BackupSchedule::new("nightly", spec);
    schedule.metadata.generation = Some(1);
    schedule.metadata.creation_timestamp = Some(dbbackup_crds::Time(at("2026-11-01T00:00:00Z")));
    schedule
}

fn ended(name: &str, phase: BackupPhase, failure: Option<Failure>) -> Ended {
    Ended {
        began: Some(now()),
        time: now(),
        name: name.into(),
        phase,
        failure,
        left_out: Vec::new(),
        of_hooks: None,
    }
}

fn failed(name: &str, phase: BackupPhase, reason: Reason, message: &str) -> Ended {
    ended(name, phase, Some(Failure::new(reason, message).with_hint("Correct it.")))
}

fn due() -> SlotDecision {
    SlotDecision { due: Some(at("2026-11-23T02:15:00Z")), missed: None, next: None }
}

#[test]
fn a_due_slot_is_created_unless_another_backup_runs_and_the_spec_forbids_two() {
    let slot = at("2026-11-23T02:15:00Z");
    let idle = Children::default();
    let busy = Children { active: vec!["nightly-1".into()], ..Children::default() };
    let allow = |spec: &mut BackupScheduleSpec| spec.concurrency_policy = ConcurrencyPolicy::Allow;
    for (schedule, children, expected) in [
        (schedule(|_| ()), &idle, Step::Create(slot)),
        (schedule(|_| ()), &busy, Step::Hold(slot)),
        (schedule(allow), &busy, Step::Create(slot)),
        (schedule(|spec| spec.suspend = true), &idle, Step::Rest),
    ] {
        assert_eq!(plan(&schedule, &due(), children), expected);
    }
    let missed = SlotDecision { due: None, missed: Some(slot), next: None };
    assert_eq!(plan(&schedule(|_| ()), &missed, &idle), Step::Skip(slot));
}

#[test]
fn the_first_backup_is_made_at_once_where_that_is_wanted_and_once() {
    let created = at("2026-11-01T00:00:00Z");
    let nothing_due = SlotDecision { due: None, missed: None, next: None };
    let none = Children::default();
    let wanted = |change: fn(&mut BackupScheduleSpec)| {
        schedule(|spec| {
            spec.immediate = true;
            change(spec);
        })
    };
    assert_eq!(plan(&wanted(|_| ()), &nothing_due, &none), Step::Create(created));
    // The slot that is due meanwhile comes after it.
    assert_eq!(plan(&wanted(|_| ()), &due(), &none), Step::Create(created));
    assert_eq!(plan(&schedule(|_| ()), &nothing_due, &none), Step::Rest);
    assert_eq!(plan(&wanted(|spec| spec.suspend = true), &nothing_due, &none), Step::Rest);

    let running = Children { active: vec!["by-hand".into()], ..Children::default() };
    assert_eq!(plan(&wanted(|_| ()), &nothing_due, &running), Step::Rest);
    let succeeded = Children { last_success: Some(now()), ..Children::default() };
    assert_eq!(plan(&wanted(|_| ()), &nothing_due, &succeeded), Step::Rest);
    // It was made, failed, and its object is gone: the next slot's turn.
    let mut tried = wanted(|_| ());
    let last_schedule_time = Some(created);
    tried.status = Some(BackupScheduleStatus { last_schedule_time, ..Default::default() });
    assert_eq!(plan(&tried, &nothing_due, &none), Step::Rest);
}

#[test]
fn a_first_base_waits_for_the_archiver_but_not_for_ever() {
    let created = at("2026-11-01T00:00:00Z");
    let first = schedule(|spec| {
        spec.immediate = true;
        spec.point_in_time_recovery =
            Some(serde_json::from_value(serde_json::json!({"enabled": true})).unwrap());
    });
    let nothing_due = SlotDecision { due: None, missed: None, next: None };
    let step = |status: &BackupScheduleStatus, now: &str| {
        let awaits_log = archiver::is_about_to_begin(&first, status, at(now));
        plan(&first, &nothing_due, &Children { awaits_log, ..Children::default() })
    };
    let mut status = BackupScheduleStatus::default();
    assert_eq!(step(&status, "2026-11-01T00:04:59Z"), Step::Hold(created));
    assert_eq!(step(&status, "2026-11-01T00:05:00Z"), Step::Create(created));
    let log = serde_json::json!({"state": "Streaming"});
    status.log = serde_json::from_value(log).unwrap();
    assert_eq!(step(&status, "2026-11-01T00:00:30Z"), Step::Hold(created), "nothing is kept yet");
    let log = serde_json::json!({"unbrokenSince": "2026-11-01T00:00:20Z"});
    status.log = serde_json::from_value(log).unwrap();
    assert_eq!(step(&status, "2026-11-01T00:00:30Z"), Step::Create(created));
}

#[test]
fn slots_count_from_the_creation_of_a_new_schedule() {
    let schedule = schedule(|_| ());
    let baseline = baseline(&schedule, &BackupScheduleStatus::default(), now()).unwrap();
    assert_eq!(baseline.time, at("2026-11-01T00:00:00Z"));
}

#[test]
fn a_changed_line_or_zone_or_the_end_of_a_suspension_starts_nothing_of_the_past() {
    let mut status = BackupScheduleStatus::default();
    let original = schedule(|_| ());
    status.slots_since = baseline(&original, &status, now());
    let children = Children::default();
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    status = standing(status, &original, &children, &outlook, now());
    assert_eq!(baseline(&original, &status, now()), status.slots_since, "nothing has changed");

    let later = at("2026-11-24T00:00:00Z");
    for changed in [
        schedule(|spec| spec.schedule = "0 23 * * *".into()),
        schedule(|spec| spec.time_zone = "Etc/UTC".into()),
    ] {
        assert_eq!(baseline(&changed, &status, later).unwrap().time, later);
    }
    let suspended = schedule(|spec| spec.suspend = true);
    status.slots_since = baseline(&suspended, &status, now());
    assert_eq!(status.slots_since, None);
    assert_eq!(baseline(&original, &status, later).unwrap().time, later);
}

#[test]
fn a_last_time_in_the_future_does_not_silence_a_schedule() {
    let schedule = schedule(|_| ());
    let mut status = BackupScheduleStatus::default();
    status.slots_since = baseline(&schedule, &status, now());
    status.last_schedule_time = Some(at("2036-01-01T00:00:00Z"));
    assert_eq!(last_slot(&status, now()), at("2026-11-01T00:00:00Z"));
    status.last_schedule_time = Some(at("2026-11-23T02:15:00Z"));
    assert_eq!(last_slot(&status, now()), at("2026-11-23T02:15:00Z"));
}

#[test]
fn the_status_says_in_words_how_the_schedule_stands() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let next = Some(at("2026-11-24T02:15:00Z"));
    let outlook = |held, trouble| Outlook { next, held, trouble, ..Outlook::calm(&zone) };
    let well = Children {
        last_success: Some(at("2026-11-23T04:30:00Z")),
        newest: Some((now(), "nightly-1".into(), BackupPhase::Succeeded)),
        ..Children::default()
    };
    let ill = Children {
        last_ended: Some(failed("nightly-1", BackupPhase::Failed, Reason::WrongPassword, "x")),
        ..Children::default()
    };
    let partly = Children {
        last_ended: Some(failed(
            "by-hand",
            BackupPhase::PartiallyFailed,
            Reason::DatabaseFailed,
            "x",
        )),
        ..well.clone()
    };
    let hook = Failure::new(Reason::HookFailed, "hook resume: it took longer than 60 s");
    let succeeded = ended("n-1", BackupPhase::Succeeded, None);
    let of_hooks = Some(Ended { of_hooks: Some(hook), ..succeeded });
    let hooked = Children { last_ended: of_hooks, ..well.clone() };
    let busy = Children { active: vec!["by-hand".into()], ..Children::default() };
    let trouble =
        Failure::new(Reason::ReferenceNotFound, "the BackupRepository main does not exist");
    let words = |schedule: &BackupSchedule, children: &Children, outlook: &Outlook<'_>| {
        let status = BackupScheduleStatus::default();
        standing(status, schedule, children, outlook, now()).display.unwrap()
    };
    let plain = schedule(|_| ());
    let suspended = schedule(|spec| spec.suspend = true);
    for (found, expected) in [
        (words(&plain, &well, &outlook(None, None)), "next 03:15 Europe/Berlin, last ok 7h ago"),
        (
            words(&plain, &ill, &outlook(None, None)),
            "last failed: WrongPassword (nightly-1), next 03:15 Europe/Berlin, never succeeded",
        ),
        (
            words(&plain, &partly, &outlook(None, None)),
            "last failed in part: DatabaseFailed (by-hand), next 03:15 Europe/Berlin, last ok 7h ago",
        ),
        (
            words(&plain, &hooked, &outlook(None, None)),
            "a hook failed (n-1), next 03:15 Europe/Berlin, last ok 7h ago",
        ),
        (words(&plain, &busy, &outlook(next, None)), "a slot waits for by-hand, never succeeded"),
        (words(&suspended, &well, &outlook(None, None)), "suspended, last ok 7h ago"),
        (
            words(&plain, &well, &outlook(None, Some(trouble))),
            "the BackupRepository main does not exist, next 03:15 Europe/Berlin, last ok 7h ago",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_schedule_is_ready_unless_the_backup_that_ended_last_did_not_do_all() {
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    let password =
        || failed("n-1", BackupPhase::Failed, Reason::WrongPassword, "the password is wrong");
    let host = || failed("n-1", BackupPhase::Failed, Reason::HostNotFound, "x is not known");
    let denied = || {
        let message = "crm: no right to read (PermissionDenied)";
        failed("n-1", BackupPhase::PartiallyFailed, Reason::DatabaseFailed, message)
    };
    let without = |names: &[&str]| Ended {
        left_out: names.iter().map(|name| (*name).to_owned()).collect(),
        ..denied()
    };
    let in_part = "crm: no right to read (PermissionDenied). Correct it.";
    for (last, suspended, expected, message) in [
        (
            None,
            false,
            ["Ready=False Reconciling=True", "Preflight"],
            "it is looked whether backups would work".to_owned(),
        ),
        (
            Some(ended("n", BackupPhase::Succeeded, None)),
            false,
            ["Ready=True", "Accepted"],
            "the schedule is understood; its last backup succeeded".to_owned(),
        ),
        (
            Some(ended("n", BackupPhase::Succeeded, None)),
            true,
            ["Ready=True", "Suspended"],
            "no backup is started: spec.suspend".to_owned(),
        ),
        (
            Some(password()),
            false,
            ["Ready=False Stalled=True", "WrongPassword"],
            "the last backup n-1 failed: the password is wrong. Correct it.".to_owned(),
        ),
        (
            Some(host()),
            false,
            ["Ready=False Reconciling=True", "HostNotFound"],
            "the last backup n-1 failed: x is not known. Correct it.".to_owned(),
        ),
        (
            Some(host()),
            true,
            ["Ready=False Stalled=True", "HostNotFound"],
            "the last backup n-1 failed: x is not known. Correct it.".to_owned(),
        ),
        (
            Some(without(&["crm"])),
            false,
            ["Ready=False Stalled=True", "DatabaseFailed"],
            format!("the last backup n-1 left out the database crm: {in_part}"),
        ),
        (
            Some(without(&["a", "b", "c", "d", "e", "f", "g"])),
            false,
            ["Ready=False Stalled=True", "DatabaseFailed"],
            format!(
                "the last backup n-1 left out the databases a, b, c, d, e and 2 more: {in_part}"
            ),
        ),
    ] {
        let last_success = last.as_ref().filter(|last| last.failure.is_none());
        let last_success = last_success.map(|last| last.time);
        let children = Children { last_ended: last, last_success, ..Children::default() };
        let status = BackupScheduleStatus::default();
        let schedule = schedule(|spec| spec.suspend = suspended);
        let status = standing(status, &schedule, &children, &outlook, now());
        let shown = |condition: &dbbackup_crds::Condition| {
            format!("{}={}", condition.type_, condition.status)
        };
        let types: Vec<_> = status.conditions.iter().map(shown).collect();
        assert_eq!([types.join(" ").as_str(), &status.conditions[0].reason], expected);
        for condition in &status.conditions {
            assert_eq!(condition.message, message);
        }
    }
}

#[test]
fn a_backup_that_failed_says_nothing_of_a_spec_that_came_after_it_began() {
    let zone = TimeZone::UTC;
    let outlook = Outlook::calm(&zone);
    let last = failed("n-1", BackupPhase::Failed, Reason::WrongPassword, "the password is wrong");
    let children = Children { last_ended: Some(last), ..Children::default() };
    let look = serde_json::json!({"time": "2026-11-23T13:00:00Z", "generation": 2,
        "outcome": "Succeeded", "databaseCount": {"total": 1, "succeeded": 1, "failed": 0}});
    let look: dbbackup_crds::LastPreflight = serde_json::from_value(look).unwrap();
    let schedule = |generation, created: &str, suspend| {
        let mut schedule = schedule(|spec| spec.suspend = suspend);
        schedule.metadata.generation = Some(generation);
        schedule.metadata.creation_timestamp = Some(dbbackup_crds::Time(at(created)));
        schedule
    };
    let told = |schedule: &BackupSchedule, last_preflight: Option<&_>| {
        let generation_time = Some(at("2026-11-23T12:30:00Z"));
        let last_preflight = last_preflight.cloned();
        let status = BackupScheduleStatus { generation_time, last_preflight, ..Default::default() };
        let status = standing(status, schedule, &children, &outlook, now());
        let first = status.conditions.into_iter().next().unwrap();
        (first.status == "True", first.reason, first.message)
    };
    let failed = "the last backup n-1 failed: the password is wrong. Correct it.";
    let (before, after) = ("2026-11-23T11:59:00Z", "2026-11-23T12:20:00Z");
    let ahead = "it is looked whether backups would work";
    let passed = format!("1 database can be backed up; before this spec, {failed}");
    let suspended = format!("no backup is started: spec.suspend; before this spec, {failed}");
    for (schedule, look, ready, reason, message) in [
        // Its spec is the one with which it was created, whenever it was looked at.
        (schedule(1, before, false), None, false, "WrongPassword", failed),
        // Another one of the same name, pruned and applied again.
        (schedule(1, after, false), None, false, "Preflight", ahead),
        (schedule(2, before, false), None, false, "Preflight", ahead),
        (schedule(2, before, false), Some(&look), true, "PreflightPassed", &passed),
        (schedule(2, before, true), None, true, "Suspended", &suspended),
    ] {
        assert_eq!(told(&schedule, look), (ready, reason.to_owned(), message.to_owned()));
    }
}

#[test]
fn a_schedule_whose_last_backup_failed_starts_the_next_one_all_the_same() {
    let children = Children {
        last_ended: Some(failed("n-1", BackupPhase::Failed, Reason::WrongPassword, "x")),
        ..Children::default()
    };
    let slot = at("2026-11-23T02:15:00Z");
    assert_eq!(plan(&schedule(|_| ()), &due(), &children), Step::Create(slot));
}

#[test]
fn the_backup_that_ended_last_tells_why_and_what_it_left_out() {
    use dbbackup_contract::DatabaseReport;
    let mut backup = Backup::new("n-1", BackupSpec::default());
    let error = Failure::new(Reason::DatabaseFailed, "crm: no right to read");
    backup.status = Some(BackupStatus {
        phase: Some(BackupPhase::PartiallyFailed),
        start_time: Some(at("2026-11-23T11:00:00Z")),
        completion_time: Some(now()),
        error: Some(error.clone()),
        databases: vec![
            DatabaseReport::new("crm", DatabaseOutcome::Failed),
            DatabaseReport::new("shop", DatabaseOutcome::Succeeded),
        ],
        ..BackupStatus::default()
    });
    let mut children = Children::default();
    children.add(&backup);
    let last = children.last_ended.clone().unwrap();
    assert_eq!((last.failure, last.left_out), (Some(error), vec!["crm".to_owned()]));
    assert_eq!(last.began, Some(at("2026-11-23T11:00:00Z")));
    // A warning of a backup that succeeded is no failure.
    backup.status.as_mut().unwrap().phase = Some(BackupPhase::Succeeded);
    children.last_ended = None;
    children.add(&backup);
    assert_eq!(children.last_ended.unwrap().failure, None);
}

#[test]
fn only_backups_with_a_slot_are_the_newest_but_those_by_hand_count_as_active_and_as_success() {
    let backup = |name: &str, slot: bool, phase: BackupPhase| {
        let mut backup = Backup::new(name, BackupSpec::default());
        backup.metadata.creation_timestamp = Some(dbbackup_crds::Time(now()));
        if slot {
            backup.annotations_mut().insert(labels::SLOT.into(), now().to_string());
        }
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            completion_time: Some(now()),
            ..BackupStatus::default()
        });
        backup
    };
    let mut children = Children::default();
    children.add(&backup("by-hand", false, BackupPhase::Succeeded));
    assert_eq!((children.newest.clone(), children.last_success), (None, Some(now())));
    assert_eq!(children.last_ended.as_ref().unwrap().name, "by-hand");
    children.add(&backup("running", false, BackupPhase::Running));
    children.add(&backup("nightly-1", true, BackupPhase::Failed));
    assert_eq!(children.active, ["running"]);
    assert_eq!(children.newest.unwrap().1, "nightly-1");
}
