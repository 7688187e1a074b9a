//! Maintenance of a repository in a folder.

use std::path::PathBuf;

use dbbackup_contract::{CheckShare, MadeBy, RetainChange, RetentionSpec};
use dbbackup_repository::{CommitInfo, Cutting};

use super::*;
use crate::work::fixtures::{Place, SERIES, a_day_later};

const BY_HAND: MadeBy = MadeBy::Person { retain_for_seconds: Some(3600) };

impl Place {
    /// A snapshot of that day of November with bytes that no other one has.
    async fn snapshot(&self, series: &str, day: u8, made_by: MadeBy) -> String {
        let slot = format!("2026-11-{day:02}T01:00:00Z");
        let writer = self.begin(series, day, &slot).await;
        let mut stream = writer.stream("data", Cutting::default()).await.unwrap();
        stream
            .write(bytes::Bytes::from(noise(series.len() as u64 * 100 + u64::from(day))))
            .await
            .unwrap();
        stream.finish().await.unwrap();
        let info = CommitInfo { made_by, ..CommitInfo::new("Logical", "".into(), "".into()) };
        writer.commit(info).await.unwrap().id().to_string()
    }

    async fn maintain(&self, action: &MaintainAction) -> MaintainReport {
        self.order(async |order| maintain(order, action).await).await
    }

    async fn ids(&self) -> BTreeSet<String> {
        let list = self.repository.snapshots(None).await.unwrap().snapshots;
        list.iter().map(|snapshot| snapshot.id().to_string()).collect()
    }

    /// The only file that lies below this folder.
    fn only_file(&self, folder: &str) -> PathBuf {
        let mut path = self.path().join(folder);
        while path.is_dir() {
            path = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
        }
        path
    }
}

/// Bytes that nothing compresses: xorshift64 (Marsaglia, 2003).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed << 8 | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(100_000).collect()
}

fn keep_last(count: Option<u32>) -> MaintainAction {
    let retention = count.map(|_| RetentionSpec { keep_last: count, ..RetentionSpec::default() });
    let time_zone = "UTC".to_owned();
    MaintainAction {
        series: vec![SeriesRetention { series: SERIES.into(), retention, time_zone }],
        grace_seconds: 600,
        max_delete_percent: 50,
        check: CheckShare { read_percent: 100, number: 1, new_since: None },
        ..MaintainAction::default()
    }
}

fn reason(report: &MaintainReport) -> Option<Reason> {
    report.error.as_ref().map(|error| error.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_too_large_waits_and_a_pin_holds_before_anything_goes() {
    let place = Place::new().await;
    let mut ids = Vec::new();
    for day in 1..=4 {
        ids.push(place.snapshot(SERIES, day, MadeBy::Schedule).await);
    }
    let other = place.snapshot("3f6c/shop/other", 1, MadeBy::Schedule).await;

    let refused = place.maintain(&keep_last(Some(1))).await;
    assert_eq!(reason(&refused), Some(Reason::TooMuchToDelete));
    assert_eq!((refused.outcome, refused.let_go_count), (Outcome::Failed, 0));
    let message = refused.error.unwrap().message;
    assert!(message.contains("3 of 5 snapshots"), "{message}");
    assert!(message.contains(&refused.waiting_plan.unwrap()), "{message}");
    // The rest was done all the same.
    assert_eq!(refused.usage.unwrap().snapshot_count, 5);
    assert_eq!(refused.check.unwrap().problems, 0);

    let mut action = keep_last(Some(1));
    action.pin.push(ids[0].clone());
    let done = place.maintain(&action).await;
    assert_eq!(done.error, None);
    assert_eq!(done.pinned, [ids[0].clone()]);
    assert_eq!(done.let_go, ids[1..3]);
    assert_eq!(done.usage.unwrap().snapshot_count, 3);
    let left = [ids[0].clone(), ids[3].clone(), other].into();
    assert_eq!(place.ids().await, left);

    // Told once more, in case that nobody has heard it.
    let mut action = keep_last(Some(1));
    action.unpin.push(ids[0].clone());
    action.max_delete_percent = 20;
    let again = place.maintain(&action).await;
    assert_eq!((again.let_go_count, &again.let_go[..]), (0, &ids[1..3]));
    assert_eq!((&again.unpinned[..], again.outcome), (&ids[..1], Outcome::PartiallyFailed));
    action.approved_plan = again.waiting_plan;
    let approved = place.maintain(&action).await;
    assert_eq!((approved.let_go_count, approved.error), (1, None));
    assert!(!place.ids().await.contains(&ids[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_snapshot_used_that_was_let_go_is_deleted_by_later_runs() {
    let place = Place::new().await;
    for day in 1..=2 {
        place.snapshot(SERIES, day, MadeBy::Schedule).await;
    }
    let mut action = keep_last(Some(1));
    action.max_delete_percent = 60;
    assert_eq!(place.maintain(&action).await.let_go_count, 1);
    let mut deleted = 0;
    for _ in 0..3 {
        a_day_later(&place.path());
        let report = place.maintain(&action).await;
        assert_eq!(report.error, None);
        deleted += report.collected.unwrap().deleted_bytes;
    }
    assert!(deleted >= 100_000, "{deleted}");
    let last = place.maintain(&action).await;
    assert!(last.let_go.is_empty(), "its head is gone");
    assert!(last.usage.unwrap().stored_bytes < 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_made_goes_when_its_time_is_over_also_without_a_policy() {
    let place = Place::new().await;
    let slot = place.snapshot(SERIES, 2, MadeBy::Schedule).await;
    let wanted = place.snapshot(SERIES, 1, BY_HAND).await;
    let over = place.snapshot(SERIES, 3, BY_HAND).await;
    let newest = place.snapshot(SERIES, 4, MadeBy::Schedule).await;
    let mut action = keep_last(None);
    action.retain.push(RetainChange { snapshot: wanted.clone(), seconds: None });
    let report = place.maintain(&action).await;
    assert_eq!((report.error, &report.let_go[..]), (None, &[over][..]));
    assert_eq!(place.ids().await, [slot, wanted.clone(), newest].into());

    action.erase.push(wanted.clone());
    let erased = place.maintain(&action).await;
    assert!(erased.let_go.contains(&wanted) && erased.error.is_none(), "{erased:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_series_without_a_schedule_those_alone_go_that_are_wanted_for_a_while() {
    let place = Place::new().await;
    let foreign = "77aa/shop/nightly";
    let old = place.snapshot(foreign, 1, MadeBy::Schedule).await;
    let over_long_ago = place.snapshot(foreign, 2, BY_HAND).await;
    let wanted = place.snapshot(foreign, 3, BY_HAND).await;
    let newest = place.snapshot(foreign, 4, MadeBy::Schedule).await;
    let mut action = keep_last(Some(1));
    action.max_delete_percent = 100;
    for (snapshot, seconds) in [(&old, 60), (&wanted, u64::MAX), (&newest, 60)] {
        action.retain.push(RetainChange { snapshot: snapshot.clone(), seconds: Some(seconds) });
    }
    let report = place.maintain(&action).await;
    assert_eq!((report.error, &report.let_go[..]), (None, &[old][..]));
    // The newest good one of a series stays, whatever is said.
    assert_eq!(place.ids().await, [over_long_ago, wanted, newest].into());
    // One that is gone keeps nobody from the rest.
    assert_eq!(place.maintain(&action).await.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_beside_what_was_done() {
    let place = Place::new().await;
    let id = place.snapshot(SERIES, 1, MadeBy::Schedule).await;
    let pack = place.only_file("packs");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let report = place.maintain(&keep_last(Some(1))).await;
    assert_eq!(reason(&report), Some(Reason::RepositoryDamaged));
    assert!(report.collected.is_some());
    let check = report.check.unwrap();
    assert_eq!((check.damaged_snapshots, &check.damaged[0].id), (1, &id));

    let mut structure = keep_last(Some(1));
    structure.check.read_percent = 0;
    let before = Timestamp::now();
    let report = place.maintain(&structure).await;
    assert_eq!(report.error, None);
    // What was committed within the last minutes is looked at once more the next time.
    let as_of = report.check.unwrap().as_of.unwrap();
    assert!((540..=601).contains(&before.duration_since(as_of).as_secs()), "{as_of}");
    structure.check.new_since = Some(as_of);
    let report = place.maintain(&structure).await;
    assert_eq!(reason(&report), Some(Reason::RepositoryDamaged));
    structure.check.new_since = Some(before + Duration::from_secs(3600));
    assert_eq!(place.maintain(&structure).await.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_somebody_has_stolen_raises_the_alarm() {
    let place = Place::new().await;
    let id = place.snapshot(SERIES, 1, MadeBy::Schedule).await;
    assert_eq!(place.maintain(&keep_last(Some(1))).await.error, None);
    std::fs::remove_file(place.only_file("snapshots")).unwrap();
    let report = place.maintain(&keep_last(Some(1))).await;
    assert_eq!(reason(&report), Some(Reason::SnapshotsMissing));
    assert_eq!(report.missing, std::slice::from_ref(&id));

    let mut pinned = keep_last(Some(1));
    pinned.pin.push(id.clone());
    let report = place.maintain(&pinned).await;
    assert_eq!((reason(&report), report.missing), (Some(Reason::SnapshotsMissing), vec![id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_carried_out_keeps_its_series_and_stops_no_other() {
    let place = Place::new().await;
    for day in 1..=2 {
        place.snapshot(SERIES, day, MadeBy::Schedule).await;
        place.snapshot("3f6c/shop/other", day, MadeBy::Schedule).await;
    }
    let mut action = keep_last(Some(1));
    let other = SeriesRetention { time_zone: "Mars/Base".into(), ..action.series[0].clone() };
    action.series.push(SeriesRetention { series: "3f6c/shop/other".into(), ..other });
    let report = place.maintain(&action).await;
    assert_eq!((reason(&report), report.let_go_count), (Some(Reason::InvalidSpec), 1));
    assert_eq!((report.outcome, place.ids().await.len()), (Outcome::PartiallyFailed, 3));
}
