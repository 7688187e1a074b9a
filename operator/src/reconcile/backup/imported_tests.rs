use dbbackup_contract::{BackupReport, ImportReport};
use dbbackup_crds::BackupPhase;
use serde_json::{Value, json};

use super::*;
use crate::conditions::conditions;
use crate::reconcile::fixtures;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn backup(change: impl FnOnce(&mut Value)) -> Backup {
    let mut object = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {
            "name": "nightly", "namespace": "shop", "uid": "u",
            "creationTimestamp": "2026-11-23T11:59:30Z",
            "labels": {"dbbackup.dev/imported": "true"},
        },
        "spec": {"imported": {"repositoryRef": {"name": "main"}, "snapshotId": "a-b-c-0"}},
        // What the schema makes of a status that nobody has written.
        "status": {"observedGeneration": -1},
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn ready() -> BackupRepository {
    let mut repository = fixtures::repository();
    let verdict = Verdict::new(Standing::Ready, "Opened", "");
    repository.status.get_or_insert_default().conditions =
        conditions(&[], &verdict, Some(1), now());
    repository
}

fn step(backup: &Backup, repository: Option<&BackupRepository>, look: Option<&RunView>) -> Step {
    let (status, imported) = (backup.status.clone().unwrap(), backup.spec.imported.clone());
    plan(backup, &status, &imported.unwrap(), repository, look, now())
}

fn told(report: ImportReport) -> RunView {
    RunView::Reported(Box::new(Report::Import(Box::new(report))), 1)
}

fn looked_up(object: &mut Value) {
    object["status"] = json!({"phase": "Running", "inspections": 1});
}

#[test]
fn the_importer_writes_the_status_of_its_own_objects_and_is_not_waited_for_for_ever() {
    let repository = ready();
    let own = backup(|_| ());
    let until = "2026-11-23T12:00:30Z".parse().unwrap();
    assert_eq!(step(&own, Some(&repository), None), Step::Leave(until));
    let old = backup(|object| {
        object["metadata"]["creationTimestamp"] = "2026-11-23T11:59:00Z".into();
    });
    assert_eq!(step(&old, Some(&repository), None), Step::Look(1));
    let by_hand = backup(|object| object["metadata"]["labels"] = json!({}));
    assert_eq!(step(&by_hand, Some(&repository), None), Step::Look(1));
}

#[test]
fn a_repository_that_is_not_ready_is_waited_for() {
    let by_hand = backup(|object| object["metadata"]["labels"] = json!({}));
    let Step::Wait(failure) = step(&by_hand, None, None) else { panic!() };
    assert_eq!(failure.reason, Reason::ReferenceNotFound);
    let Step::Wait(failure) = step(&by_hand, Some(&fixtures::repository()), None) else { panic!() };
    assert_eq!(failure.reason, Reason::ReferenceNotReady);
}

#[test]
fn what_the_repository_says_of_the_snapshot_ends_it_and_no_answer_asks_again() {
    let (repository, begun) = (ready(), backup(looked_up));
    let step = |report| step(&begun, Some(&repository), Some(&told(report)));
    let report: BackupReport = serde_json::from_value(json!({
        "outcome": "Succeeded", "startTime": now(), "completionTime": now(),
    }))
    .unwrap();
    let found = FoundSnapshot {
        id: "a-b-c-0".into(),
        series: "s".into(),
        run_id: "r".into(),
        slot_time: now(),
        pinned: false,
        report,
    };
    let there = ImportReport { found: vec![found.clone()], ..ImportReport::default() };
    assert_eq!(step(there), Step::Take(Box::new(found)));
    let refused =
        |reason| ImportReport { error: Some(Failure::new(reason, "x")), ..ImportReport::default() };
    for reason in [
        Reason::SnapshotNotFound,
        Reason::SnapshotForgotten,
        Reason::SnapshotWrittenOff,
        Reason::InvalidSpec,
    ] {
        assert_eq!(step(refused(reason)), Step::End(Failure::new(reason, "x")));
    }
    for unanswered in [refused(Reason::StorageUnavailable), ImportReport::default()] {
        let Step::Await { trouble: Some(_), again: Some(again) } = step(unanswered) else {
            panic!()
        };
        assert!(again > now());
    }
}

#[test]
fn a_look_that_gave_no_answer_is_followed_by_the_next_one() {
    let repository = ready();
    let waiting = |time: &str| {
        backup(|object| {
            looked_up(object);
            object["status"]["nextInspectionTime"] = time.into();
        })
    };
    let later = "2026-11-23T12:00:20Z";
    let rests = Step::Await { trouble: None, again: Some(later.parse().unwrap()) };
    assert_eq!(step(&waiting(later), Some(&repository), None), rests);
    assert_eq!(step(&waiting("2026-11-23T12:00:00Z"), Some(&repository), None), Step::Look(2));
    let gone = RunView::Unknown(Failure::new(Reason::JobGone, "gone"), 0);
    let Step::Await { again: Some(_), .. } =
        step(&backup(looked_up), Some(&repository), Some(&gone))
    else {
        panic!()
    };
}

#[test]
fn one_that_was_let_go_meanwhile_has_expired() {
    let status = maintenance::expired(BackupStatus::default(), Some(1), now());
    assert_eq!(status.phase, Some(BackupPhase::Expired));
}
