//! Logs of servers in a repository that is maintained.

use dbbackup_contract::{MadeBy, MaintainReport};
use dbbackup_repository::CommitInfo;
use serde_json::{Value, json};

use super::*;
use crate::work::fixtures::{Place, SERIES, a_day_later, keep_newest};
use crate::work::maintain;

const SERVER: &str = "7";

impl Place {
    async fn tidied(&self) -> MaintainReport {
        a_day_later(&self.path());
        self.order(async |order| maintain(order, &keep_newest()).await).await
    }

    /// A base of that day of November.
    async fn base(&self, day: u8, report: Value) -> String {
        let slot = format!("2026-11-{day:02}T01:00:00Z");
        let writer = self.begin(SERIES, day, &slot).await;
        let info = CommitInfo::new(BASE_KIND, json!({}), report);
        let info = CommitInfo { made_by: MadeBy::Schedule, ..info };
        writer.commit(info).await.unwrap().id().to_string()
    }

    /// A log of so many files, from `0/1000000` on.
    async fn log(&self, files: u32) -> LogId {
        let log = self.repository.log_id(SERIES, SERVER);
        let mut writer = self.repository.append_to_log(&log).await.unwrap();
        for number in 1..=files {
            let at = |number: u32| format!("0/{:X}", u64::from(number) << 24);
            let about = json!({
                "kind": "Wal", "timeline": 1, "start": at(number), "end": at(number + 1),
                "segmentBytes": 1 << 24, "transactions": 0,
            });
            writer.append(about, b"log", None).await.unwrap();
        }
        log
    }

    async fn first_part(&self, log: &LogId) -> u32 {
        self.repository.read_log(log).await.unwrap().parts()[0].number
    }
}

/// What a base says of itself; of one that was made before log was archived without `start`.
fn report(day: u8, start: Option<&str>) -> Value {
    let time = format!("2026-11-{day:02}T01:00:00Z");
    let mut report = json!({
        "outcome": "Succeeded", "startTime": time, "completionTime": time,
        "server": {"version": "17.2", "identity": SERVER, "sizeBytes": 1},
    });
    if let Some(start) = start {
        report["logStart"] = json!({"lsn": start, "timeline": 1});
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_base_goes_with_its_head_and_what_others_need_stays() {
    let place = Place::new().await;
    let log = place.log(12).await;
    // Without a base nothing goes: the first one may be on its way.
    let first = place.tidied().await;
    assert_eq!((first.error, first.deleted_log_parts), (None, 0));
    place.base(1, report(1, Some("0/2000028"))).await;
    assert_eq!(place.tidied().await.deleted_log_parts, 1);
    place.base(2, report(2, Some("0/6000028"))).await;
    let let_go = place.tidied().await;
    assert_eq!((let_go.error, let_go.let_go_count, let_go.deleted_log_parts), (None, 1, 0));
    // Its head is there as long as somebody may read it.
    assert_eq!(place.first_part(&log).await, 1);
    let gone = place.tidied().await;
    assert_eq!((gone.error, gone.deleted_log_parts), (None, 4));
    assert_eq!((place.first_part(&log).await, gone.check.unwrap().problems), (5, 0));
    assert_eq!(place.tidied().await.deleted_log_parts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_does_not_say_where_its_log_begins_keeps_all_of_it() {
    for unknown in [report(1, None), json!({"outcome": "Succeeded"})] {
        let place = Place::new().await;
        let log = place.log(12).await;
        place.base(1, unknown).await;
        let pinning = place.repository.snapshots(None).await.unwrap().snapshots;
        place.repository.pin(pinning[0].id(), "wanted").await.unwrap();
        place.base(2, report(2, Some("0/6000028"))).await;
        for _ in 0..3 {
            let report = place.tidied().await;
            assert_eq!((report.error, report.deleted_log_parts), (None, 0));
        }
        assert_eq!(place.first_part(&log).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_base_was_stolen_no_log_goes_and_a_damaged_log_keeps_no_other() {
    let place = Place::new().await;
    let log = place.log(12).await;
    let stolen = place.base(1, report(1, Some("0/2000028"))).await;
    assert_eq!(place.tidied().await.deleted_log_parts, 1);
    let head = place.path().join("snapshots").join(&stolen);
    let bytes = std::fs::read(&head).unwrap();
    place.base(2, report(2, Some("0/6000028"))).await;
    std::fs::remove_file(&head).unwrap();
    let alarmed = place.tidied().await;
    assert_eq!(alarmed.error.unwrap().reason, Reason::SnapshotsMissing);
    assert_eq!((alarmed.deleted_log_parts, place.first_part(&log).await), (0, 1));
    std::fs::write(&head, bytes).unwrap();

    let other = place.repository.log_id(SERIES, "8");
    let mut writer = place.repository.append_to_log(&other).await.unwrap();
    for _ in 0..3 {
        writer.append(json!({}), b"log", None).await.unwrap();
    }
    std::fs::remove_file(place.path().join("logs").join(other.as_str()).join("1")).unwrap();
    place.tidied().await;
    let report = place.tidied().await;
    assert_eq!(report.error.unwrap().reason, Reason::ObjectMissing);
    assert_eq!((report.deleted_log_parts, place.first_part(&log).await), (4, 5));
}
