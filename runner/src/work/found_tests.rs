//! What is found in a repository in a folder.

use dbbackup_contract::KnownSnapshots;
use dbbackup_repository::{CommitInfo, Cutting, ForgetReason, SnapshotWriter};
use serde_json::json;

use super::*;
use crate::work::fixtures::{Place, SERIES};

impl Place {
    async fn begin_at(&self, hour: u8) -> SnapshotWriter {
        self.begin(SERIES, hour, &format!("2026-11-20T{hour:02}:00:00Z")).await
    }

    async fn backup(&self, hour: u8, report: Value) -> String {
        let writer = self.begin_at(hour).await;
        let mut stream = writer.stream("data", Cutting::default()).await.unwrap();
        stream.write(bytes::Bytes::from_static(b"some rows")).await.unwrap();
        stream.finish().await.unwrap();
        let info = CommitInfo {
            report: Box::new(move |_| report),
            ..CommitInfo::new("postgresql", json!({}), json!({}))
        };
        writer.commit(info).await.unwrap().id().to_string()
    }

    async fn look(&self, action: &ImportAction) -> ImportReport {
        self.order(async |order| look(order, action).await).await
    }

    async fn unknown(&self, known: &[&str]) -> ImportReport {
        let known = KnownSnapshots::of("salt", known.iter().copied());
        self.look(&ImportAction::Unknown { known }).await
    }

    async fn one(&self, snapshot: &str) -> ImportReport {
        self.look(&ImportAction::One { snapshot: snapshot.into() }).await
    }
}

/// A report as a backup commits it.
fn committed(outcome: &str) -> Value {
    json!({
        "outcome": outcome,
        "snapshotId": "of-another",
        "repositoryId": "of-another",
        "startTime": "2026-11-20T01:00:01Z",
        "consistentTime": "2026-11-20T01:00:02Z",
        "completionTime": "2026-11-20T01:00:09Z",
        "server": {"version": "17.11", "identity": "7", "sizeBytes": 9},
        "bytes": {"read": 77, "new": 7, "stored": 7},
        "databaseCount": {"total": 2, "succeeded": 1, "failed": 1},
        "databases": [{"name": "shop", "outcome": "Succeeded", "rows": 3}, {"name": "crm", "outcome": "Failed"}],
    })
}

fn ids(report: &ImportReport) -> Vec<&str> {
    report.found.iter().map(|found| found.id.as_str()).collect()
}

fn reason(report: &ImportReport) -> Option<Reason> {
    report.error.as_ref().map(|error| error.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_nobody_knows_are_found_the_newest_first_and_nothing_else_is() {
    let place = Place::new().await;
    let old = place.backup(1, committed("PartiallyFailed")).await;
    let known = place.backup(2, committed("Succeeded")).await;
    let new = place.backup(3, committed("Succeeded")).await;
    let let_go = place.backup(4, committed("Succeeded")).await;
    let id = SnapshotId::parse(&let_go).unwrap();
    place.repository.forget(&id, ForgetReason::Erase, "a test").await.unwrap();
    place.repository.pin(&SnapshotId::parse(&new).unwrap(), "a test").await.unwrap();
    place.backup(5, json!({})).await;
    place.backup(6, json!({"outcome": "Failed"})).await;

    let report = place.unknown(&[&known]).await;
    assert_eq!((ids(&report), report.more, &report.error), (vec![&*new, &*old], 0, &None));
    assert!(report.found[0].pinned && place.one(&new).await.found[0].pinned);
    let found = &report.found[1];
    assert!(!found.pinned);
    assert_eq!((&*found.series, &*found.run_id), (SERIES, "run 3f6c/shop/nightly 1"));
    assert_eq!(found.slot_time.to_string(), "2026-11-20T01:00:00Z");
    let told = &found.report;
    assert_eq!((told.outcome, told.snapshot_id.as_ref()), (Outcome::PartiallyFailed, Some(&old)));
    assert_eq!((&told.repository_id, told.database_count.total), (&None, 2));
    // What the head says of its own bytes, whatever was copied into its report.
    assert_eq!((told.bytes.read, told.databases[0].name.as_str()), (9, "crm"));
    assert_eq!(told.databases[1].rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_looked_up_whatever_it_is_and_fences_nothing() {
    let place = Place::new().await;
    let id = place.backup(1, committed("Succeeded")).await;
    assert_eq!(ids(&place.one(&id).await), [&*id]);
    let bare = place.backup(2, json!({})).await;
    assert_eq!(reason(&place.one(&bare).await), Some(Reason::InvalidSpec));
    for none in [&id[..20], "nonsense", &format!("{id}7")] {
        assert_eq!(reason(&place.one(none).await), Some(Reason::SnapshotNotFound), "{none}");
    }
    // A run that is under way has no snapshot yet, and may commit it afterwards.
    let writer = place.begin_at(3).await;
    let running = writer.id().to_string();
    assert_eq!(reason(&place.one(&running).await), Some(Reason::SnapshotNotFound));
    assert_eq!(ids(&place.unknown(&[]).await), [&*id]);
    writer.commit(CommitInfo::new("postgresql", json!({}), json!({}))).await.unwrap();

    let forgotten = SnapshotId::parse(&id).unwrap();
    place.repository.forget(&forgotten, ForgetReason::Erase, "a test").await.unwrap();
    assert_eq!(reason(&place.one(&id).await), Some(Reason::SnapshotForgotten));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_cannot_be_read_is_counted_and_stops_nothing() {
    let place = Place::new().await;
    let id = place.backup(1, committed("Succeeded")).await;
    let damaged = place.backup(2, committed("Succeeded")).await;
    std::fs::write(place.path().join("snapshots").join(&damaged), "no head").unwrap();
    let report = place.unknown(&[]).await;
    assert_eq!((ids(&report), report.unreadable), (vec![&*id], 1));
    // Heads of known ones are not even read.
    assert_eq!(place.unknown(&[&damaged]).await.unreadable, 0);
}

#[test]
fn of_a_report_of_another_release_what_can_be_read_is_taken() {
    let mut report = committed("Succeeded");
    report["method"] = json!({"used": "Quantum", "reason": "new"});
    report["server"] = json!(7);
    report["startTime"] = json!("yesterday");
    report["databases"][1]["outcome"] = json!("Teleported");
    report["error"] = json!({"class": "Fatal", "reason": "NewInTheNextRelease", "message": "m"});
    let at = Timestamp::from_second(60).unwrap();
    let read = report_in(&report, at, at).unwrap();
    assert_eq!((read.method, read.server, read.start_time), (None, None, at));
    assert_eq!(read.databases.len(), 1);
    assert_eq!(read.error.unwrap().reason, Reason::Unknown);
    for none in
        [json!({}), json!(null), json!({"outcome": "Done"}), json!([committed("Succeeded")])]
    {
        assert_eq!(report_in(&none, at, at), None, "{none}");
    }
}

#[test]
fn of_more_than_there_is_room_for_the_newest_are_kept() {
    let mut newest = Newest::default();
    let found = |n: usize| FoundSnapshot {
        id: format!("{n}"),
        series: "s".into(),
        run_id: "r".into(),
        slot_time: Timestamp::from_second(n as i64).unwrap(),
        pinned: false,
        report: report_in(&committed("Succeeded"), Timestamp::MIN, Timestamp::MIN).unwrap(),
    };
    let all = MAX_FOUND_SNAPSHOTS + 7;
    // In no order: 100 has no divisor in common with their number.
    (0..all).for_each(|n| newest.extend(Some(found(n * 100 % all))));
    let (kept, more) = newest.sorted();
    assert_eq!((kept.len(), more), (MAX_FOUND_SNAPSHOTS, 7));
    assert_eq!((&*kept[0].id, &*kept[kept.len() - 1].id), ("256", "7"));
}
