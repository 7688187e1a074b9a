use dbbackup_contract::{
    AccessMode, BackupReport, DatabaseCount, DatabaseOutcome, DatabaseReport, FoundSnapshot,
    Outcome, Reason, Report, copy_run_id,
};
use dbbackup_crds::{
    BackupPhase, BackupStatus, ImportPolicy, LastMaintenance, RepositoryStatusRef,
};
use serde_json::{Value, json};

use super::*;
use crate::conditions::{Standing, Verdict, conditions};
use crate::context::Guarded;
use crate::reconcile::fixtures;

const ID: &str = "5d0c0f4e7a1b2c3d";

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn found(snapshot: &str, run: &str) -> FoundSnapshot {
    let database = DatabaseReport::new("shop", DatabaseOutcome::Succeeded);
    let report: BackupReport = serde_json::from_value(json!({
        "outcome": "Succeeded",
        "startTime": "2026-11-20T01:15:01Z", "completionTime": "2026-11-20T01:17:01Z",
        "bytes": {"read": 1_300_000_000, "new": 5, "stored": 4},
        "databaseCount": {"total": 1, "succeeded": 1, "failed": 0},
        "databases": [database],
    }))
    .unwrap();
    FoundSnapshot {
        id: snapshot.into(),
        series: "77aa/prod/nightly".into(),
        run_id: run.into(),
        slot_time: "2026-11-20T01:15:00Z".parse().unwrap(),
        pinned: false,
        report,
    }
}

/// Opened at `time`, and nothing else.
fn opened(time: &str) -> BackupRepositoryStatus {
    let ready = Verdict::new(Standing::Ready, "Opened", "");
    BackupRepositoryStatus {
        id: Some(ID.into()),
        conditions: conditions(&[], &ready, Some(1), time.parse().unwrap()),
        ..BackupRepositoryStatus::default()
    }
}

fn maintained(mut status: BackupRepositoryStatus, job: &str) -> BackupRepositoryStatus {
    let last: LastMaintenance = serde_json::from_value(json!({
        "time": "2026-11-01T00:00:00Z", "slotTime": "2026-11-01T00:00:00Z",
        "outcome": "Succeeded", "jobName": job,
    }))
    .unwrap();
    status.last_maintenance = Some(last);
    status
}

/// A look has ended in this way.
fn looked(
    mut status: BackupRepositoryStatus,
    end: Result<(u64, u64), &Failure>,
) -> BackupRepositoryStatus {
    let occasion = occasion(&fixtures::repository(), &status);
    status.import = Some(ImportRun { number: 7, job_name: "j".into(), occasion });
    let report = ImportReport { more: 5, ..ImportReport::default() };
    let end = end.map(|(found, imported)| (&report, Taken { found, imported, refused: None }));
    ended(status, end, now())
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

#[test]
fn a_repository_is_looked_through_once_it_is_open_and_after_each_maintenance() {
    let repository = fixtures::repository();
    let is_due =
        |status: &BackupRepositoryStatus, time| goes_first(&repository, status, false, time);
    let fresh = opened("2026-11-23T11:59:00Z");
    assert!(is_due(&fresh, now()));
    assert_eq!(plan(&repository, &fresh, None), Step::Begin(1));
    // An operator that has just learned to import does not begin with all at once.
    assert!(!is_due(&opened("2026-11-01T00:00:00Z"), now()));
    let mut just_maintained = maintained(opened("2026-11-01T00:00:00Z"), "m0");
    just_maintained.last_maintenance.as_mut().unwrap().time = at("2026-11-23T11:30:00Z");
    assert!(is_due(&just_maintained, now()));

    let done = looked(fresh, Ok((2, 0)));
    assert!(!is_due(&done, at("2026-12-23T12:00:00Z")), "nothing has happened since");
    let later = maintained(done.clone(), "m1");
    assert!(is_due(&later, now()));
    assert_eq!(plan(&repository, &later, None), Step::Begin(8));
    assert!(!is_due(&looked(later, Ok((0, 0))), now()));
    let mut changed = repository.clone();
    changed.metadata.generation = Some(2);
    assert!(goes_first(&changed, &done, false, now()), "it was opened again");

    let mut unwanted = changed;
    unwanted.spec.import = ImportPolicy::None;
    assert!(!goes_first(&unwanted, &done, false, now()));
    assert!(!goes_first(&unwanted, &opened("2026-11-23T11:59:00Z"), false, now()));
}

#[test]
fn a_repository_that_is_only_read_is_looked_through_at_the_slots_of_its_maintenance() {
    let mut repository = fixtures::repository();
    repository.spec.access = AccessMode::ReadOnly;
    let looked = |repository: &BackupRepository, mut status: BackupRepositoryStatus| {
        let occasion = occasion(repository, &status);
        status.import = Some(ImportRun { number: 7, job_name: "j".into(), occasion });
        let taken = Taken { found: 0, imported: 0, refused: None };
        ended(status, Ok((&ImportReport::default(), taken)), now())
    };
    let is_due = |status: &BackupRepositoryStatus| goes_first(&repository, status, false, now());
    let mut status = opened("2026-11-23T11:59:00Z");
    status.next_maintenance_time = Some(at("2026-11-24T05:00:00Z"));
    assert!(is_due(&status));
    let mut done = looked(&repository, status.clone());
    assert!(!is_due(&done));
    // The slot has passed: the next one is written down.
    let next = Some(at("2026-11-25T05:00:00Z"));
    done.next_maintenance_time = next;
    assert!(is_due(&done));
    assert!(!is_due(&looked(&repository, done)));
    // One that is written to is looked through after its maintenance, and not before.
    let written = fixtures::repository();
    let mut done = looked(&written, status);
    done.next_maintenance_time = next;
    assert!(!goes_first(&written, &done, false, now()));
}

#[test]
fn what_a_report_had_no_room_for_comes_at_once_unless_nothing_of_it_was_taken() {
    let repository = fixtures::repository();
    let fresh = opened("2026-11-23T11:59:00Z");
    let some = looked(fresh.clone(), Ok((3, 2)));
    let last = some.last_import.clone().unwrap();
    assert_eq!((last.found, last.imported, last.remaining), (8, 2, 6));
    assert!(goes_first(&repository, &some, false, now()));
    // The maintenance that is due is not kept waiting by that.
    assert!(!goes_first(&repository, &some, true, now()));
    assert!(!goes_first(&repository, &looked(fresh, Ok((3, 0))), false, now()));
}

#[test]
fn a_look_that_failed_is_tried_again_after_an_hour_and_leaves_the_repository_ready() {
    let repository = fixtures::repository();
    let away = Failure::new(Reason::StorageUnavailable, "away");
    let before = opened("2026-11-23T11:59:00Z");
    let failed = looked(before.clone(), Err(&away));
    assert_eq!((&failed.conditions, &failed.display), (&before.conditions, &before.display));
    assert_eq!(failed.last_import.as_ref().unwrap().error, Some(away.clone()));
    let failed = maintained(failed, "m1");
    assert!(!goes_first(&repository, &failed, false, at("2026-11-23T12:59:59Z")));
    assert_eq!(retry_time(&repository, &failed), Some(at("2026-11-23T13:00:00Z")));
    assert!(goes_first(&repository, &failed, false, at("2026-11-23T13:00:00Z")));
    let mut unwanted = repository;
    unwanted.spec.import = ImportPolicy::None;
    assert_eq!(retry_time(&unwanted, &failed), None);
}

#[test]
fn maintenance_and_import_take_turns() {
    let repository = fixtures::repository();
    let mut status = maintained(opened("2026-11-23T11:59:00Z"), "m1");
    assert!(goes_first(&repository, &status, true, now()), "the maintenance was there last");
    let running = dbbackup_crds::MaintenanceRun { slot_time: now(), job_name: "m2".into() };
    status.maintenance = Some(running);
    assert!(!goes_first(&repository, &status, false, now()));
    status.maintenance = None;
    status.import = Some(ImportRun {
        number: 1,
        job_name: "j".into(),
        occasion: occasion(&repository, &status),
    });
    assert!(goes_first(&repository, &status, true, now()), "it ends first");

    let run = |report| RunView::Reported(Box::new(report), 1);
    let report = ImportReport { more: 3, ..ImportReport::default() };
    let told = run(Report::Import(Box::new(report.clone())));
    assert_eq!(plan(&repository, &status, Some(&told)), Step::Take(Box::new(report.clone())));
    let failure = Failure::new(Reason::WrongKey, "no key opens it");
    let report = ImportReport { error: Some(failure.clone()), ..report };
    let told = run(Report::Import(Box::new(report)));
    assert_eq!(plan(&repository, &status, Some(&told)), Step::Fail(failure));
    let goes_on = RunView::Running { attempts: 1, last_failure: None };
    assert_eq!(plan(&repository, &status, Some(&goes_on)), Step::Watch(None));
    let mut unwanted = repository;
    unwanted.spec.import = ImportPolicy::None;
    assert_eq!(plan(&unwanted, &status, Some(&goes_on)), Step::Stop);
}

fn backup(name: &str, spec: Value, status: Value) -> Guarded<Backup> {
    let mut object = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
    });
    (object["spec"], object["status"]) = (spec, status);
    kube::core::DeserializeGuard(Ok(serde_json::from_value(object).unwrap()))
}

#[test]
fn what_a_backup_stands_for_is_known_and_so_is_what_it_is_about_to() {
    let of = |repository: &str| json!({"scheduleRef": {"name": repository}});
    let imported = |repository: &str, id: &str| json!({"imported": {"repositoryRef": {"name": repository}, "snapshotId": id}});
    let unread = json!({"observedGeneration": -1});
    let copy = |name: &str, repository: Value, snapshot: Option<&str>| json!({"name": name, "phase": "Running", "repository": repository, "snapshotId": snapshot});
    let backups = [
        backup(
            "own",
            of("n"),
            json!({
                "phase": "Expired", "snapshotId": "own", "repository": {"name": "main", "id": ID},
            }),
        ),
        backup("running", of("n"), json!({"phase": "Running"})),
        backup(
            "elsewhere",
            of("n"),
            json!({
                "phase": "Succeeded", "snapshotId": "elsewhere",
                "repository": {"name": "second", "id": "77aa"},
                "copies": [
                    copy("here", json!({"name": "main", "id": ID}), Some("copied")),
                    copy("there", json!({"name": "third", "id": "88bb"}), Some("third")),
                ],
            }),
        ),
        backup(
            "another",
            of("n"),
            json!({
                "phase": "Succeeded", "snapshotId": "stranger",
                "repository": {"name": "main", "id": "of-another-place"},
            }),
        ),
        backup("by-hand", imported("main", "by-hand"), json!({"phase": "Failed"})),
        backup("begun", imported("main", "begun"), unread.clone()),
        backup("imported-elsewhere", imported("second", "imported-elsewhere"), unread),
    ];
    let known = Known::of("main", Some(ID), &backups);
    for (snapshot, run, is_known) in [
        ("own", "", true),
        ("new", "uid-of-running", true),
        ("copied", "", true),
        ("copy-under-way", &*copy_run_id("77aa", "elsewhere"), true),
        ("by-hand", "", true),
        // It is told again what to write into its status.
        ("begun", "", false),
        ("elsewhere", "", false),
        ("third", "", false),
        ("stranger", "", false),
        ("imported-elsewhere", "", false),
    ] {
        assert_eq!(known.has(&found(snapshot, run)), is_known, "{snapshot}");
    }
    let index = known.named("s").index().unwrap();
    for id in ["own", "copied", "by-hand", "begun"] {
        assert!(index.has(id), "{id}");
    }
    assert!(!index.has("elsewhere") && !index.has("stranger"));
}

#[test]
fn the_object_of_a_snapshot_is_the_same_whenever_it_is_made_and_nobodys_child() {
    let make = || take::object("shop", "main", Some(ID), &found("a-20261120t011500z-b-0", "r"));
    assert_eq!(make(), make());
    insta::assert_yaml_snapshot!(serde_json::to_value(make()).unwrap());
}

#[test]
fn the_status_of_an_imported_backup_is_what_its_own_run_would_have_left() {
    let place = || RepositoryStatusRef { name: "main".into(), id: Some(ID.into()) };
    let object = |pinned: bool| {
        let spec = json!({"imported": {"repositoryRef": {"name": "main"}, "snapshotId": "s"},
            "pinned": pinned});
        let mut object = backup("b", spec, json!({})).0.unwrap();
        object.metadata.generation = Some(1);
        object
    };
    let of = |found: &FoundSnapshot| {
        imported(&object(false), BackupStatus::default(), found, place(), now())
    };
    let whole = of(&found("s", "r"));
    insta::assert_yaml_snapshot!(serde_json::to_value(&whole).unwrap());
    assert_eq!(of(&found("s", "r")), whole);

    let mut partial = found("s", "r");
    partial.report.outcome = Outcome::PartiallyFailed;
    partial.report.database_count = DatabaseCount { total: 2, succeeded: 1, failed: 1 };
    let partial = of(&partial);
    assert_eq!(partial.phase, Some(BackupPhase::PartiallyFailed));
    let display = partial.display.unwrap();
    assert_eq!(display, "imported: 1 of 2 databases are in the snapshot");

    let pinned = FoundSnapshot { pinned: true, ..found("s", "r") };
    assert!(take::object("shop", "main", Some(ID), &pinned).spec.pinned);
    for asks in [true, false] {
        let status = imported(&object(asks), BackupStatus::default(), &pinned, place(), now());
        assert_eq!(status.pinned, asks, "what it does not ask for it does not take back");
    }
}

#[test]
fn what_was_imported_and_what_remains_is_told() {
    let report = ImportReport { more: 1, ..ImportReport::default() };
    let taken = |found, imported| Taken { found, imported, refused: None };
    for (found, count, more, words) in [
        (12, 12, 0, "imported 12 backups"),
        (1, 1, 1, "imported 1 backup; 1 remains"),
        (5, 3, 1, "imported 3 backups; 3 remain"),
    ] {
        let report = ImportReport { more, ..report.clone() };
        assert_eq!(status::words(&taken(found, count), &report), words);
    }
    let mut status = opened("2026-11-23T11:59:00Z");
    let occasion = occasion(&fixtures::repository(), &status);
    status.import = Some(ImportRun { number: 1, job_name: "j".into(), occasion });
    let endless = ImportReport { more: i64::MAX.unsigned_abs(), ..ImportReport::default() };
    let last = ended(status, Ok((&endless, taken(5, 3))), now()).last_import.unwrap();
    assert_eq!((last.found, last.remaining), (endless.more, endless.more));
}

#[test]
fn the_job_of_an_import() {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let known = Known::of("main", Some(ID), &[]).named("uid-of-main/1");
    let identity = fixtures::identity("main");
    let job = task::import_job(&around, &repository, &identity, known, "i".into()).unwrap();
    let job = fixtures::readable(&job);
    let task = job.pointer("/spec/template/metadata/annotations/dbbackup.dev~1task").unwrap();
    insta::assert_yaml_snapshot!(json!({"labels": job["metadata"]["labels"], "task": task}));
}

#[test]
fn the_largest_task_has_room_in_its_annotation() {
    let id = |n: usize| format!("aaaaaaaa-20260101t{n:06}z-aaaaaaaaaaaaaaaa-0");
    let imported = |n: usize| {
        let spec = json!({"imported": {"repositoryRef": {"name": "main"}, "snapshotId": id(n)}});
        backup(&format!("b{n}"), spec, json!({"phase": "Succeeded"}))
    };
    let backups: Vec<_> = (0..dbbackup_contract::MAX_KNOWN_SNAPSHOTS + 1).map(imported).collect();
    let (mut around, repository) = (fixtures::surroundings(), fixtures::repository());
    around.endpoint.ca_pem = "x".repeat(8000);
    let known = Known::of("main", Some(ID), &backups).named(&format!("{}/1", "u".repeat(36)));
    let identity = fixtures::identity("main");
    task::import_job(&around, &repository, &identity, known, "i".into()).unwrap();
}
