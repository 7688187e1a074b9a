use dbbackup_contract::{
    AccessMode, CheckSummary, CollectedReport, DamagedSnapshot, Failure, MAX_CHANGED_SNAPSHOTS,
    MaintainReport, Outcome, Reason, Report, RetainChange, SeriesRetention, UsageReport,
};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepository, BackupRepositoryStatus, BackupSchedule, BackupStatus,
    CheckOutcome, CopyPhase, MaintenanceRun, MaintenanceSpec,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::backups::{News, Told, after, after_copies};
use super::gather::{Asked, of_schedules};
use super::*;
use crate::conditions::{Standing, Verdict, conditions};
use crate::reconcile::fixtures;
use crate::run::RunView;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn planned(time: &str) -> BackupRepositoryStatus {
    BackupRepositoryStatus {
        next_maintenance_time: Some(time.parse().unwrap()),
        ..BackupRepositoryStatus::default()
    }
}

fn running() -> BackupRepositoryStatus {
    let mut status = planned("2026-11-24T05:00:00Z");
    status.maintenance = Some(MaintenanceRun { slot_time: now(), job_name: "j".into() });
    let ready = Verdict::new(Standing::Ready, "Opened", "");
    status.conditions = conditions(&[], &ready, Some(1), now());
    status
}

fn step(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    run: Option<&RunView>,
) -> Step {
    plan(repository, status, run, slots(&repository.spec.maintenance, "u"), now())
}

fn done() -> MaintainReport {
    MaintainReport {
        outcome: Outcome::Succeeded,
        let_go: vec!["a".into()],
        let_go_count: 1,
        collected: Some(CollectedReport { deleted_bytes: 184_000_000, ..Default::default() }),
        check: Some(CheckSummary { bytes_read: 5, as_of: Some(now()), ..CheckSummary::default() }),
        usage: Some(UsageReport {
            snapshot_count: 412,
            logical_bytes: 9_200_000_000_000,
            stored_bytes: 61_000_000_000,
        }),
        ..MaintainReport::begun(now())
    }
}

fn told<'a>(status: &'a BackupRepositoryStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn a_repository_is_maintained_at_its_slot_once_and_at_the_next_after_a_failure() {
    let repository = fixtures::repository();
    // The first slot is planned before any is due: an upgrade maintains nothing at once.
    assert_eq!(step(&repository, &BackupRepositoryStatus::default(), None), Step::Rest);
    assert_eq!(step(&repository, &planned("2026-11-23T12:00:01Z"), None), Step::Rest);
    let missed = "2026-11-20T05:00:00Z";
    let slot = missed.parse().unwrap();
    assert_eq!(step(&repository, &planned(missed), None), Step::Begin(slot));

    let begun = running();
    let run = |report| RunView::Reported(Box::new(report), 1);
    let goes_on = RunView::Running { attempts: 1, last_failure: None };
    assert_eq!(step(&repository, &begun, Some(&goes_on)), Step::Watch(None));
    let finished = run(Report::Maintain(Box::new(done())));
    assert_eq!(step(&repository, &begun, Some(&finished)), Step::Finish(Box::new(done())));
    let gone = Failure::new(Reason::JobGone, "the Job j is gone");
    let unknown = RunView::Unknown(gone.clone(), 0);
    assert_eq!(step(&repository, &begun, Some(&unknown)), Step::Fail(gone.clone()));

    let failed = ended(begun, Err(&gone), &repository, now());
    assert_eq!(failed.maintenance, None);
    assert_eq!(told(&failed, "Maintained").1, "JobGone");
    assert_eq!(told(&failed, "Ready").0, "True", "backups go on");
    assert_eq!(step(&repository, &failed, None), Step::Rest);
}

#[test]
fn a_repository_that_is_only_read_is_never_maintained() {
    let mut repository = fixtures::repository();
    repository.spec.access = AccessMode::ReadOnly;
    assert_eq!(step(&repository, &planned("2026-11-20T05:00:00Z"), None), Step::Rest);
    // What was approved before is not carried out either.
    let mut status = planned("2026-11-24T05:00:00Z");
    let refused = MaintainReport {
        waiting_plan: Some("sha256:0a".to_owned()),
        ..MaintainReport::begun(now())
    };
    status.maintenance = running().maintenance;
    status = ended(status, Ok(&refused), &repository, now());
    repository.spec.maintenance.approved_plan = Some("sha256:0a".to_owned());
    assert_eq!(step(&repository, &status, None), Step::Rest);
    repository.spec.access = AccessMode::ReadWrite;
    assert!(matches!(step(&repository, &status, None), Step::Begin(_)));
    // A Job that runs when access changes is watched to its end.
    repository.spec.access = AccessMode::ReadOnly;
    assert_eq!(step(&repository, &running(), None), Step::Watch(None));
}

#[test]
fn repositories_without_a_schedule_of_their_own_spread_over_the_day() {
    let spec = MaintenanceSpec::default();
    let hour = |uid: String| {
        let next = slots(&spec, &uid).unwrap().next_after(now()).unwrap();
        next.as_second() % 86_400 / 3600
    };
    let hours: std::collections::BTreeSet<_> = (0..200).map(|n| hour(format!("u{n}"))).collect();
    assert!(hours.len() >= 20, "{hours:?}");
    assert_eq!(hour("u1".into()), hour("u1".into()));

    let wrong = MaintenanceSpec { time_zone: "Mars/Base".into(), ..MaintenanceSpec::default() };
    let failure = slots(&wrong, "u").unwrap_err();
    assert!(failure.message.contains("spec.maintenance.timeZone"), "{}", failure.message);
    let mut repository = fixtures::repository();
    repository.spec.maintenance = wrong;
    let status = BackupRepositoryStatus::default();
    assert_eq!(step(&repository, &status, None), Step::Refuse(failure));
}

#[test]
fn a_maintenance_tells_what_it_did_and_how_the_repository_stands() {
    let status = ended(running(), Ok(&done()), &fixtures::repository(), now());
    assert_eq!(status.display.as_deref(), Some("412 snapshots, 61 GB stored of 9.2 TB"));
    let words = "let 1 snapshot go, freed 184 MB; the check passed";
    assert_eq!(told(&status, "Maintained"), ("True", "Succeeded", words));
    assert_eq!(told(&status, "Intact").1, "CheckPassed");
    assert_eq!(told(&status, "Ready").0, "True");
    let last = status.last_maintenance.clone().unwrap();
    assert_eq!((last.deleted_snapshots, last.deleted_bytes), (1, 184_000_000));
    let check = status.last_check.clone().unwrap();
    assert_eq!((check.outcome, check.read_percent), (CheckOutcome::Passed, 1));
    assert_eq!(check.as_of, done().check.unwrap().as_of);

    // Where damage was found, or nothing new was read, it is looked at once more.
    let with = |status: &BackupRepositoryStatus, problems, read_new| {
        let mut report = done();
        let later = now().checked_add(jiff::SignedDuration::from_hours(24)).unwrap();
        let check = CheckSummary { problems, as_of: Some(later), ..CheckSummary::default() };
        report.check = Some(check);
        let mut repository = fixtures::repository();
        repository.spec.maintenance.check.read_new = read_new;
        let run = running().maintenance;
        let status = BackupRepositoryStatus { maintenance: run, ..status.clone() };
        ended(status, Ok(&report), &repository, later).last_check.unwrap().as_of
    };
    assert_eq!(with(&status, 1, true), Some(now()));
    assert_eq!(with(&status, 0, false), Some(now()));
    assert!(with(&status, 0, true) > Some(now()));
}

#[test]
fn a_plan_that_is_too_large_tells_how_to_approve_of_it_and_is_then_carried_out_at_once() {
    let mut repository = fixtures::repository();
    let digest = format!("sha256:{}", "0a".repeat(32));
    let refused = MaintainReport {
        outcome: Outcome::Failed,
        waiting_plan: Some(digest.clone()),
        error: Some(Failure::new(Reason::TooMuchToDelete, "3 of 4 snapshots would be let go")),
        ..done()
    };
    let status = ended(running(), Ok(&refused), &repository, now());
    let (holds, reason, message) = told(&status, "Maintained");
    assert_eq!((holds, reason), ("False", "TooMuchToDelete"));
    assert!(message.contains(&format!("approvedPlan to {digest}")), "{message}");
    assert_eq!(told(&status, "Intact").0, "True");
    let column = status.display.as_deref().unwrap();
    assert!(column.ends_with("; maintenance: TooMuchToDelete"), "{column}");
    assert_eq!(step(&repository, &status, None), Step::Rest);

    repository.spec.maintenance.approved_plan = Some(digest);
    let at = "2026-11-23T12:00:01Z".parse().unwrap();
    assert_eq!(step(&repository, &status, None), Step::Begin(at));
    let mut again = status;
    again.maintenance = Some(MaintenanceRun { slot_time: at, job_name: "k".into() });
    let carried_out = ended(again, Ok(&done()), &repository, now());
    assert_eq!(step(&repository, &carried_out, None), Step::Rest);
}

#[test]
fn damage_is_told_until_a_check_passes() {
    let repository = fixtures::repository();
    let damaged = DamagedSnapshot { id: "a".into(), databases: vec!["shop".into()] };
    let report = MaintainReport {
        outcome: Outcome::PartiallyFailed,
        check: Some(CheckSummary {
            problems: 1,
            damaged_snapshots: 1,
            damaged: vec![damaged],
            ..CheckSummary::default()
        }),
        error: Some(Failure::new(Reason::RepositoryDamaged, "the check found: x")),
        ..done()
    };
    let status = ended(running(), Ok(&report), &repository, now());
    assert_eq!(told(&status, "Intact").1, "RepositoryDamaged");
    assert!(status.display.as_deref().unwrap().contains("not intact: RepositoryDamaged"));
    assert_eq!(status.last_check.as_ref().unwrap().damaged[0].databases, ["shop"]);

    // What could not be looked at says nothing.
    let mut next = status;
    next.maintenance = running().maintenance;
    let away = Failure::new(Reason::StorageUnavailable, "away");
    let blind = MaintainReport { check: None, error: Some(away), ..done() };
    let mut next = ended(next, Ok(&blind), &repository, now());
    assert_eq!(told(&next, "Intact").0, "False");
    next.maintenance = running().maintenance;
    let next = ended(next, Ok(&done()), &repository, now());
    assert_eq!(told(&next, "Intact").0, "True");
}

fn backup(name: &str, change: impl FnOnce(&mut Value)) -> Backup {
    let mut object = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {
            "name": name, "namespace": "shop", "creationTimestamp": "2026-11-20T01:15:02Z",
        },
        "spec": {"scheduleRef": {"name": "nightly"}},
        "status": {
            "phase": "Succeeded", "snapshotId": format!("snapshot-{name}"),
            "repository": {"name": "main", "id": "5d0c0f4e7a1b2c3d"},
            "resolved": {
                "repositoryRef": {"name": "main"}, "source": {}, "slotTime": "2026-11-20T01:15:00Z",
            },
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_backups_want_and_the_repository_does_not_know_is_asked_of_the_maintenance() {
    let slot = |object: &mut Value| {
        object["metadata"]["annotations"] = json!({"dbbackup.dev/slot": "2026-11-20T01:15:00Z"});
    };
    let backups = [
        backup("plain", |_| ()),
        backup("pin", |object| object["spec"]["pinned"] = true.into()),
        backup("known", |object| {
            object["spec"]["pinned"] = true.into();
            object["status"]["pinned"] = true.into();
        }),
        backup("unpin", |object| object["status"]["pinned"] = true.into()),
        backup("erase", |object| {
            object["spec"]["erase"] = json!({"confirm": "snapshot-erase"});
        }),
        backup("longer", |object| object["spec"]["retainFor"] = "2d".into()),
        backup("as-made", |object| {
            object["spec"]["retainFor"] = "2d".into();
            object["status"]["resolved"]["retainFor"] = "2d".into();
        }),
        backup("scheduled", |object| {
            slot(object);
            object["spec"]["retainFor"] = "2d".into();
        }),
        backup("running", |object| {
            object["spec"]["pinned"] = true.into();
            object["status"]["phase"] = "Running".into();
        }),
        backup("elsewhere", |object| {
            object["spec"]["pinned"] = true.into();
            object["status"]["repository"]["id"] = "another".into();
        }),
    ];
    let (identity, repository) = (fixtures::identity("main"), fixtures::repository());
    let asked = Asked::of_backups(&identity, &repository, Vec::new(), backups.iter(), now());
    assert_eq!(asked.pin, ["snapshot-pin"]);
    assert_eq!(asked.unpin, ["snapshot-unpin"]);
    assert_eq!(asked.erase, ["snapshot-erase"]);
    let longer = RetainChange { snapshot: "snapshot-longer".into(), seconds: Some(172_800) };
    assert_eq!(asked.retain, [longer]);
}

const OLD: &str = "a-20261101t011500z-b-0";

fn imported(name: &str, change: impl FnOnce(&mut Value)) -> Backup {
    backup(name, |object| {
        object["spec"] =
            json!({"imported": {"repositoryRef": {"name": "main"}, "snapshotId": OLD}});
        object["metadata"]["labels"] = json!({"dbbackup.dev/imported": "true"});
        object["status"]["series"] = "77aa/prod/nightly".into();
        object["status"]["snapshotId"] = OLD.into();
        object["status"]["resolved"] = Value::Null;
        change(object);
    })
}

fn asked_of(series: Vec<SeriesRetention>, backups: &[Backup]) -> Asked {
    let (identity, repository) = (fixtures::identity("main"), fixtures::repository());
    Asked {
        series: Vec::new(),
        ..Asked::of_backups(&identity, &repository, series, backups.iter(), now())
    }
}

#[test]
fn imported_backups_are_pinned_and_erased_like_others() {
    let pinned = |name, wanted: bool, known: bool| {
        imported(name, |object| {
            object["spec"]["pinned"] = wanted.into();
            object["status"]["pinned"] = known.into();
        })
    };
    let asked = |backups: &[Backup]| asked_of(Vec::new(), backups);
    assert_eq!(asked(&[pinned("a", true, false)]).pin, [OLD]);
    assert_eq!(asked(&[pinned("a", false, true)]).unpin, [OLD]);
    // Another object that stands for the same snapshot does not take its pin away.
    let both = asked(&[pinned("a", false, true), pinned("b", true, true)]);
    assert_eq!(both, Asked::default());
    let erased = imported("a", |object| object["spec"]["erase"] = json!({"confirm": OLD}));
    assert_eq!(asked(&[erased]).erase, [OLD]);

    let report = |let_go: &[&str], missing: &[&str]| MaintainReport {
        let_go: let_go.iter().map(|&id| id.into()).collect(),
        missing: missing.iter().map(|&id| id.into()).collect(),
        ..MaintainReport::begun(now())
    };
    let one = imported("a", |_| ());
    let (id, own) = (one.status.as_ref().unwrap().repository.as_ref().unwrap().id.as_deref(), OLD);
    assert_eq!(super::gather::snapshot_in(&one, "main", id), Some(own));
    for (report, phase) in
        [(report(&[OLD], &[]), BackupPhase::Expired), (report(&[], &[OLD]), BackupPhase::Missing)]
    {
        let told = News::of(&report).about(OLD).unwrap();
        let status = after(one.status.clone().unwrap(), told, Some(1), now());
        assert_eq!(status.phase, Some(phase));
    }
}

#[test]
fn what_an_imported_backup_is_wanted_for_is_told_once_it_is_over_or_a_schedule_decides() {
    // It is 22 days old.
    let wanted = |days: &str| imported("a", |object| object["spec"]["retainFor"] = days.into());
    let series = |name: &str| SeriesRetention {
        series: name.into(),
        retention: None,
        time_zone: "Etc/UTC".into(),
    };
    let change = |days: u64| RetainChange { snapshot: OLD.into(), seconds: Some(days * 86_400) };
    let (foreign, own) = (vec![series("3f6c/shop/nightly")], vec![series("77aa/prod/nightly")]);
    for (series, days, told) in [
        (&foreign, "23d", vec![]),
        (&foreign, "22d", vec![change(22)]),
        (&own, "23d", vec![change(23)]),
    ] {
        assert_eq!(asked_of(series.clone(), &[wanted(days)]).retain, told, "{days}");
    }
    assert_eq!(asked_of(own, &[imported("a", |_| ())]).retain, []);
    // As many as there is room for, however many there are: no maintenance is refused for them.
    let many = vec![wanted("1d"); MAX_CHANGED_SNAPSHOTS + 50];
    let changed = backup("longer", |object| object["spec"]["retainFor"] = "2d".into());
    let told = asked_of(foreign, &[many, vec![changed]].concat()).retain;
    assert_eq!(told.len(), MAX_CHANGED_SNAPSHOTS);
    assert_eq!(told[0].snapshot, "snapshot-longer");
}

fn asked() -> Asked {
    let schedule = |name: &str, repository: &str, retention: Value| -> BackupSchedule {
        serde_json::from_value(json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "repositoryRef": {"name": repository}, "source": {}, "schedule": "@daily",
                "timeZone": "Europe/Berlin", "retention": retention,
            },
        }))
        .unwrap()
    };
    let mut copied = schedule("copied-here", "other", json!({"keepLast": 1}));
    copied.spec.copies = serde_json::from_value(json!([
        {"name": "far", "repositoryRef": {"name": "third"}, "retention": {"keepLast": 2}},
        {"name": "near", "repositoryRef": {"name": "main"}, "retention": {"keepDaily": 3}},
    ]))
    .unwrap();
    let schedules = [
        schedule("nightly", "main", json!({"keepDaily": 7, "keepWithin": "48h"})),
        schedule("keeps-all", "main", Value::Null),
        schedule("elsewhere", "other", json!({"keepLast": 1})),
        copied,
    ];
    let series = of_schedules("3f6c", &fixtures::identity("main"), schedules.iter());
    Asked { series, pin: vec!["p".into()], ..Asked::default() }
}

#[test]
fn the_job_of_a_maintenance() {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let identity = fixtures::identity("main");
    let build = |repository: &BackupRepository, asked| {
        task::maintain_job(&around, repository, &identity, asked, "m".into(), now())
    };
    insta::assert_yaml_snapshot!(fixtures::readable(&build(&repository, asked()).unwrap()));

    let mut hasty = repository.clone();
    hasty.spec.maintenance.grace_period = dbbackup_crds::DurationText::new("5m");
    let failure = build(&hasty, asked()).unwrap_err();
    assert!(failure.message.contains("gracePeriod is 5m"), "{}", failure.message);
}

#[test]
fn the_largest_task_has_room_in_its_annotation() {
    let id = |n: usize| format!("aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-{n:04}");
    let ids = || (0..dbbackup_contract::MAX_CHANGED_SNAPSHOTS).map(id);
    let retain =
        ids().map(|snapshot| RetainChange { snapshot, seconds: Some(u64::from(u32::MAX)) });
    let mut series = asked().series;
    series[0].series = "c".repeat(36) + "/" + &"n".repeat(63) + "/" + &"s".repeat(40);
    let (pin, unpin, erase) = (ids().collect(), ids().collect(), ids().collect());
    let full =
        Asked { series: vec![series[0].clone(); 100], pin, unpin, erase, retain: retain.collect() };
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let identity = fixtures::identity("main");
    task::maintain_job(&around, &repository, &identity, full, "m".into(), now()).unwrap();
}

#[test]
fn a_backup_whose_snapshot_went_says_so_and_one_that_was_stolen_alarms() {
    let begun = BackupStatus { phase: Some(BackupPhase::Succeeded), ..BackupStatus::default() };
    let expired = after(begun.clone(), Told::LetGo, Some(1), now());
    assert_eq!(expired.phase, Some(BackupPhase::Expired));
    assert_eq!(expired.display.as_deref(), Some("expired: its snapshot was let go"));
    let missing = after(begun.clone(), Told::Missing, Some(1), now());
    assert_eq!(missing.phase, Some(BackupPhase::Missing));
    assert_eq!(missing.error.unwrap().reason, Reason::SnapshotsMissing);
    let pinned = after(begun.clone(), Told::Pinned(true), Some(1), now());
    assert_eq!(pinned, BackupStatus { pinned: true, ..begun });
}

#[test]
fn a_copy_that_was_let_go_has_expired_and_its_backup_has_not() {
    let of_copy = |object: &mut Value| {
        object["spec"]["erase"] = json!({"confirm": "snapshot-b"});
        object["spec"]["pinned"] = true.into();
        object["status"]["copies"] = json!([
            {"name": "far", "phase": "Succeeded", "snapshotId": "copy-b",
             "repository": {"name": "second", "id": "77aa"}},
            {"name": "third", "phase": "Succeeded", "snapshotId": "copy-b",
             "repository": {"name": "third", "id": "88bb"}},
        ]);
    };
    let copied = backup("b", of_copy);
    let (identity, mut repository) = (fixtures::identity("second"), fixtures::second_repository());
    repository.status.get_or_insert_default().id = Some("77aa".into());
    let asked = Asked::of_backups(&identity, &repository, Vec::new(), [&copied].into_iter(), now());
    // What is erased is erased everywhere; a pin holds in the backup's own repository.
    assert_eq!(asked, Asked { erase: vec!["copy-b".into()], ..Asked::default() });

    let report = |let_go: &[&str], missing: &[&str]| MaintainReport {
        let_go: let_go.iter().map(|&id| id.into()).collect(),
        missing: missing.iter().map(|&id| id.into()).collect(),
        ..MaintainReport::begun(now())
    };
    let tell = |report: &MaintainReport| {
        let before = copied.status.clone().unwrap();
        after_copies(before, "second", Some("77aa"), &News::of(report), now())
    };
    let (status, told) = tell(&report(&["copy-b"], &[]));
    assert_eq!(told, [("far".to_owned(), Told::LetGo)]);
    assert_eq!(status.phase, Some(BackupPhase::Succeeded));
    let phases: Vec<_> = status.copies.iter().map(|copy| copy.phase).collect();
    assert_eq!(phases, [CopyPhase::Expired, CopyPhase::Succeeded]);

    let (status, _) = tell(&report(&[], &["copy-b"]));
    assert_eq!(status.copies[0].phase, CopyPhase::Failed);
    assert!(status.copies[0].next_attempt_time.is_some(), "it is made again");
    assert_eq!(tell(&report(&["another"], &[])), (copied.status.clone().unwrap(), Vec::new()));
}
