//! Recoveries from a repository, by real servers.

mod drills;
mod stage;

use std::time::Duration;

use dbbackup_contract::{Failure, Outcome, Reason, RecoverAction, RecoverReport, RecoveryPoint};

use self::stage::{Container, History, at, request};
use super::recover_at;

fn failed(report: &RecoverReport) -> &Failure {
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    report.error.as_ref().unwrap()
}

fn succeeded(report: &RecoverReport) {
    assert_eq!((report.outcome, &report.error), (Outcome::Succeeded, &None), "{report:?}");
}

const EVENTS: &str = "SELECT string_agg(id::text, ',' ORDER BY id) FROM events";

/// A base, and two commits behind it with a time between.
async fn reaches_a_moment_between_two_commits(major: u32) {
    let history = History::begin(major).await;
    let tablespace = history.server.make_folder("ts");
    history.server.sql("postgres", &format!("CREATE TABLESPACE fast LOCATION '{tablespace}'"));
    history.server.sql(
        "shop",
        "CREATE TABLE elsewhere (id int) TABLESPACE fast; CREATE UNLOGGED TABLE volatile (id int)",
    );
    let base = history.base().await;
    let between = history
        .archived(async || {
            history.server.sql("shop", "INSERT INTO elsewhere SELECT generate_series(1, 1000)");
            let between = history.event(1);
            history.event(2);
            history.server.sql("shop", "DROP TABLE elsewhere");
            between
        })
        .await;
    let container = Container::of(major);
    let action = request(at(between));

    // A look writes nothing, and needs no server.
    let look = RecoverAction { dry_run: true, ..action.clone() };
    let look = history.recover(&container, &look).await;
    succeeded(&look);
    assert!(container.names().is_empty());
    assert_eq!(look.base.as_ref().unwrap().snapshot_id, base);
    assert!(look.needed_bytes > 20_000_000 && look.recovery_window.is_some(), "{look:?}");

    let report = history.recover(container.start(), &action).await;
    succeeded(&report);
    let (resolved, reached) = (report.resolved_target.as_ref().unwrap(), report.reached.as_ref());
    assert_eq!(look.resolved_target.as_ref(), Some(resolved));
    let reached = reached.unwrap();
    assert_eq!((&reached.lsn, reached.timeline), (&resolved.lsn, 2));
    assert!(reached.last_transaction_time.is_some_and(|time| time <= between));
    assert_eq!(reached.last_transaction_time, resolved.time);
    assert!(report.restored_bytes > 20_000_000 && report.durations.recovering_milliseconds > 0);
    let warnings = report.warnings.join("\n");
    assert!(warnings.contains("tablespaces/") && warnings.contains("unlogged"), "{warnings}");
    assert_eq!(container.names(), [".dbbackup-recovery", "pgdata", "tablespaces"]);

    // An attempt whose report was lost: it says the same, and touches nothing.
    let again = history.recover(&container, &action).await;
    assert_eq!(again, report);

    let settings = std::fs::read_to_string(container.data().join("postgresql.auto.conf")).unwrap();
    assert!(!settings.contains("recovery_target"), "{settings}");
    let server = container.server();
    assert_eq!(server.sql("shop", EVENTS), "1");
    assert_eq!(server.sql("shop", "SELECT count(*) FROM elsewhere"), "1000");
    assert_eq!(server.sql("postgres", "SELECT pg_is_in_recovery()"), "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_17_is_recovered_to_a_moment_between_two_commits() {
    reaches_a_moment_between_two_commits(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_13_which_says_less_is_recovered_to_a_moment_between_two_commits() {
    reaches_a_moment_between_two_commits(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_18_is_recovered_to_a_moment_between_two_commits() {
    reaches_a_moment_between_two_commits(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_before_the_newest_base_takes_an_older_one() {
    let history = History::begin(17).await;
    let mut times = Vec::new();
    let mut bases = Vec::new();
    history
        .archived(async || {
            for id in 0..3 {
                bases.push(history.base().await);
                times.push(history.event(id));
            }
            history.event(3);
        })
        .await;
    let container = Container::of(17);
    for (id, time) in times.iter().enumerate() {
        let look = RecoverAction { dry_run: true, ..request(at(*time)) };
        let report = history.recover(&container, &look).await;
        succeeded(&report);
        assert_eq!(report.base.unwrap().snapshot_id, bases[id], "{id}");
    }
    let report = history.recover(container.start(), &request(at(times[1]))).await;
    succeeded(&report);
    assert_eq!(container.server().sql("shop", EVENTS), "0,1");

    // The newest one is not asked for a moment, and a base that is named is taken.
    let look = RecoverAction { dry_run: true, ..request(RecoveryPoint::Immediate {}) };
    let report = history.recover(&container, &look).await;
    assert_eq!(report.base.unwrap().snapshot_id, bases[2]);
    let named = RecoverAction { snapshot: Some(bases[0].clone()), ..look };
    let report = history.recover(&container, &named).await;
    assert_eq!(report.base.unwrap().snapshot_id, bases[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_cannot_be_reached_is_refused_with_the_window() {
    let history = History::begin(17).await;
    let container = Container::of(17);
    let none = history.recover(&container, &request(RecoveryPoint::Latest {})).await;
    let failure = failed(&none);
    assert_eq!(failure.reason, Reason::SnapshotNotFound);
    assert!(failure.hint.contains("method: Physical"), "{failure}");

    let before = history.now();
    history.base().await;
    history.archived(async || _ = history.event(1)).await;
    for time in [before, history.now() + Duration::from_secs(3600)] {
        let report = history.recover(&container, &request(at(time))).await;
        let failure = failed(&report);
        assert_eq!(failure.reason, Reason::TargetUnreachable, "{failure}");
        let window = report.recovery_window.as_ref().unwrap();
        let (earliest, latest) = (window.earliest.unwrap(), window.latest.unwrap());
        assert!(before < earliest && earliest < latest, "{window:?}");
        let words = format!("bases and log reach from {earliest} to {latest}");
        assert!(failure.message.contains(&words), "{failure}");
    }
    assert!(container.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_volume_is_wiped_where_it_is_its_own_and_else_left_alone() {
    let history = History::begin(17).await;
    history.base().await;
    history.archived(async || _ = history.event(1)).await;
    let container = Container::of(17);
    let action = request(RecoveryPoint::Latest {});
    let foreign = container.volume().join("photos");
    std::fs::write(&foreign, "dear").unwrap();
    let report = history.recover(container.start(), &action).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::VolumeNotEmpty);
    assert!(failure.message.contains("photos"), "{failure}");
    assert_eq!(container.names(), ["photos"]);
    std::fs::remove_file(foreign).unwrap();

    // What an attempt leaves that was killed while it wrote.
    let mark = format!("{{\"requestUid\":\"{}\"}}", action.request_uid);
    std::fs::write(container.volume().join(".dbbackup-recovery"), mark).unwrap();
    std::fs::create_dir_all(container.data().join("base/1")).unwrap();
    std::fs::write(container.data().join("PG_VERSION"), "17\n").unwrap();
    let report = history.recover(&container, &action).await;
    succeeded(&report);
    assert_eq!(container.server().sql("shop", EVENTS), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_major_version_is_refused_before_anything_is_written() {
    let history = History::begin(17).await;
    history.base().await;
    history.archived(async || _ = history.event(1)).await;
    let container = Container::of(15);
    let report = history.recover(container.start(), &request(RecoveryPoint::Latest {})).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable);
    assert!(failure.message.contains("(PostgreSQL) 15"), "{failure}");
    assert!(failure.message.contains("version 17"), "{failure}");
    assert!(container.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_is_told_of_in_its_own_words() {
    let history = History::begin(17).await;
    let settings = "ALTER SYSTEM SET shared_preload_libraries = 'no_such_library'";
    history.server.sql("postgres", settings);
    history.base().await;
    history.archived(async || _ = history.event(1)).await;
    let container = Container::of(17);
    let report = history.recover(container.start(), &request(RecoveryPoint::Latest {})).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable, "{failure}");
    assert!(failure.message.contains("no_such_library"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_told_to_stop_leaves_no_server_behind() {
    let history = History::begin(17).await;
    history.base().await;
    history.archived(async || _ = history.event(1)).await;
    let container = Container::of(17);
    let (action, places) = (request(RecoveryPoint::Latest {}), container.start().places());
    let work = async |order: &super::Order<'_>| {
        let stop = async {
            while !container.has_server() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            order.cancel.cancel();
            std::future::pending::<RecoverReport>().await
        };
        tokio::select! {
            report = recover_at(order, &action, &places) => report,
            never = stop => never,
        }
    };
    let report = history.place.order(work).await;
    assert_eq!(failed(&report).reason, Reason::Interrupted, "{report:?}");
    assert!(!container.has_server());
}
