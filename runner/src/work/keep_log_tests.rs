//! Archiving as a Job, of a server that goes away meanwhile; and what is told of it.

use dbbackup_contract::{ArchiveAction, RetireAction};
use dbbackup_postgres::LogPartHead;
use serde_json::json;

use super::super::fixtures::{Place, SERIES};
use super::super::postgres_server::{TestServer, access_to};
use super::super::retire;
use super::*;

/// What was told.
#[derive(Default)]
struct Heard(Mutex<Vec<LogStatus>>);

impl Heard {
    fn take(&self, status: LogStatus) {
        self.0.lock().unwrap().push(status);
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn last(&self) -> LogStatus {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until something is told that is so.
    async fn until(&self, what: &str, is_so: impl Fn(&LogStatus) -> bool) -> LogStatus {
        for _ in 0..600 {
            if let Some(found) = self.0.lock().unwrap().iter().rev().find(|status| is_so(status)) {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {:#?}", self.last());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_how_it_goes_waits_for_the_server_and_has_succeeded_when_it_is_told_to_stop() {
    let server = TestServer::start(17, &[]);
    let (place, secrets) = (Place::new().await, tempfile::tempdir().unwrap());
    let access = access_to(&server, "postgres", secrets.path());
    let action = ArchiveAction {
        series: SERIES.to_owned(),
        server: access.clone(),
        max_lag_milliseconds: 200,
    };
    let heard = Heard::default();
    let tell = |status| heard.take(status);
    let report = place.order(async |order| {
        let watching = async {
            let is_known = |status: &LogStatus| {
                status.state == ArchiverState::Streaming && status.server.is_some()
            };
            let known = heard.until("it streams", is_known).await;
            assert_eq!((known.timeline, known.gap_count), (Some(1), 0));
            assert_eq!(known.slot, Some(slot_name(SERIES)));
            server.sql("postgres", "CREATE TABLE items AS SELECT generate_series(1, 1000) AS id");
            let written = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
            let has = |status: &LogStatus| {
                let kept = status.position.as_deref().unwrap_or("0/0");
                server.sql("postgres", &format!("SELECT '{kept}'::pg_lsn >= '{written}'")) == "t"
            };
            let kept = heard.until("what was written is kept", has).await;
            assert!(kept.unbroken_since.is_some(), "{kept:?}");
            server.stop();
            let waits = |status: &LogStatus| status.state == ArchiverState::Waiting;
            let waiting = heard.until("it waits", waits).await;
            assert!(waiting.error.unwrap().is_retryable());
            assert_eq!(waiting.server, known.server);
            let told = heard.count();
            server.boot();
            let again = |status: &LogStatus| {
                status.state == ArchiverState::Streaming && status.time > waiting.time
            };
            let again = heard.until("it streams again", again).await;
            assert!(again.error.is_none() && heard.count() > told, "{again:?}");
            order.cancel.cancel();
        };
        let (report, ()) = tokio::join!(keep_log_telling(order, &action, &tell), watching);
        report
    });
    let report = report.await;
    assert_eq!((report.outcome, report.error), (Outcome::Succeeded, None));
    let first = heard.0.lock().unwrap()[0].clone();
    assert_eq!((first.state, first.server), (ArchiverState::Connecting, None));

    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(server.sql("postgres", slots), "1");
    let action = RetireAction { series: SERIES.to_owned(), server: access };
    for _ in 0..2 {
        let (limit, cancel) = (Duration::from_secs(60), CancellationToken::new());
        let retired = retire(&action, secrets.path(), limit, &cancel).await;
        assert_eq!((retired.outcome, retired.error), (Outcome::Succeeded, None));
        assert_eq!(server.sql("postgres", slots), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_not_there_ends_it_and_so_does_a_stop_before_it_began() {
    let place = Place::new().await;
    let secrets = tempfile::tempdir().unwrap();
    let server = TestServer::unborn(17);
    let action = ArchiveAction {
        series: SERIES.to_owned(),
        server: access_to(&server, "postgres", secrets.path()),
        max_lag_milliseconds: 200,
    };
    std::fs::remove_dir_all(place.path().join("config")).unwrap();
    let heard = Heard::default();
    let report = place
        .order(async |order| keep_log_telling(order, &action, &|status| heard.take(status)).await)
        .await;
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.error.unwrap().message.contains("repository main"));
    let stopped = place.order(async |order| {
        order.cancel.cancel();
        keep_log_telling(order, &action, &|status| heard.take(status)).await
    });
    let stopped = stopped.await;
    assert_eq!((stopped.outcome, stopped.error), (Outcome::Succeeded, None));
}

fn at(kept: &str, timeline: u32) -> ArchiveState {
    ArchiveState {
        timeline,
        kept: kept.to_owned(),
        behind_bytes: 7,
        kept_time: Some("2026-11-30T12:00:00Z".parse().unwrap()),
        clock: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_matters_is_told_at_once_and_the_rest_now_and_then() {
    let heard = Heard::default();
    let tell = |status| heard.take(status);
    let teller = LogTeller::begin("slot", &tell);
    assert_eq!((heard.count(), heard.last().state), (1, ArchiverState::Connecting));
    teller.update(at("0/1", 1));
    assert_eq!((heard.count(), heard.last().state), (2, ArchiverState::Streaming));
    for _ in 0..9 {
        tokio::time::advance(Duration::from_secs(1)).await;
        teller.update(at("0/2", 1));
    }
    assert_eq!(heard.count(), 2);
    tokio::time::advance(Duration::from_secs(1)).await;
    teller.update(at("0/3", 1));
    assert_eq!((heard.count(), heard.last().position.as_deref()), (3, Some("0/3")));

    teller.update(at("0/4", 2));
    assert_eq!((heard.count(), heard.last().timeline), (4, Some(2)));
    let failure = Failure::new(Reason::ServerGoneAway, "it is gone");
    for _ in 0..3 {
        teller.waits(&failure);
    }
    let waiting = heard.last();
    assert_eq!((heard.count(), waiting.state), (5, ArchiverState::Waiting));
    assert_eq!((waiting.error, waiting.position.as_deref()), (Some(failure), Some("0/4")));
    teller.knows("7", None);
    assert_eq!((heard.count(), heard.last().gap_count), (6, 0));
    teller.gap("0/4", "0/8", 2);
    assert_eq!((heard.count(), heard.last().gap_count), (7, 1));
    teller.update(at("0/8", 2));
    assert_eq!((heard.count(), heard.last().error), (8, None));
}

#[tokio::test]
async fn gaps_from_before_and_those_of_its_own_are_told_once_each_and_the_newest_ten() {
    let heard = Heard::default();
    let tell = |status| heard.take(status);
    let teller = LogTeller::begin("slot", &tell);
    assert!(teller.wants_log());
    teller.gap("0/C0000000", "0/C1000000", 1);
    teller.gap("0/D0000000", "0/D1000000", 1);
    assert_eq!(heard.last().gap_count, 0, "those before are not known yet");
    let gap = |number: u32| {
        let (start, end) = (format!("0/{number:X}0000000"), format!("0/{number:X}1000000"));
        let about = json!({"kind": "Gap", "timeline": 1, "start": start, "end": end});
        LogPartHead { number, time: "2026-11-30T12:00:00Z".parse().unwrap(), about }
    };
    let log = ArchivedLog::read((1..=12).map(gap).collect()).unwrap();
    teller.knows("7", Some(&log));
    assert!(!teller.wants_log());
    let told = heard.last();
    assert_eq!((told.server.as_deref(), told.gap_count), (Some("7"), 13));
    let starts: Vec<&str> = told.gaps.iter().map(|gap| gap.start.as_str()).collect();
    assert_eq!((starts.len(), starts[0], starts[9]), (10, "0/40000000", "0/D0000000"));
    assert_eq!(told.unbroken_since, Some(told.gaps[9].time));
    // One that cannot be read is no reason to tell nothing.
    let other = LogTeller::begin("slot", &tell);
    other.gap("0/C0000000", "0/C1000000", 1);
    other.knows("7", None);
    assert_eq!((heard.last().server.as_deref(), heard.last().gap_count), (Some("7"), 1));
}
