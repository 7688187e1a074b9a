//! Recovery to points in time: what a server holds that was recovered, beside what a client has
//! written down of its own commits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_postgres::{
    ControlFile, ControlState, PlanError, RecoveryAction, RecoveryPlan, RecoveryRequest,
    RecoveryTarget, RestoreFilesOptions, RestoredFiles, TimelineChoice, forget_recovery_settings,
    plan_recovery, read_control, recover_files,
};
use jiff::Timestamp;
use support::logs::{Archiver, MemoryArchive, base_of};
use support::{MemoryBackup, Silent, TestServer, connection};
use tokio_util::sync::CancellationToken;

/// What the client knows of one of its transactions.
struct Commit {
    xid: u32,
    /// Where the server's log ended when it had returned, and the server's clock then.
    lsn: String,
    time: Timestamp,
}

/// A server with a history: a base somewhere in it, and all of its log.
struct History {
    server: TestServer,
    base: MemoryBackup,
    archive: MemoryArchive,
    commits: Vec<Commit>,
    /// Commits before the base.
    before: usize,
}

fn commit(server: &TestServer, number: usize) -> Commit {
    let text = server.sql_stdin(
        "shop",
        &format!(
            "BEGIN; INSERT INTO events VALUES ({number}); SELECT txid_current(); COMMIT;
             SELECT pg_current_wal_flush_lsn(); SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"');"
        ),
    );
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let [xid, lsn, time] = lines[..] else { panic!("{text}") };
    Commit { xid: xid.parse().unwrap(), lsn: lsn.to_owned(), time: time.parse().unwrap() }
}

async fn make_history(major: u32) -> History {
    history_of(TestServer::start(major, &["wal_level = replica"])).await
}

async fn history_of(server: TestServer) -> History {
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE events (id int PRIMARY KEY)");
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    let mut commits: Vec<_> = (0..5).map(|number| commit(&server, number)).collect();
    let base = base_of(connection(&server, dir.path())).await;
    let before = commits.len();
    for number in before..30 {
        match number {
            10 => {
                server.sql("postgres", "SELECT pg_create_restore_point('before the mistake')");
            }
            // Over the border of a file.
            15 => {
                server.sql("postgres", "SELECT pg_switch_wal()");
            }
            // One that is rolled back, one with savepoints, and one that takes room.
            20 => {
                server.sql("shop", "BEGIN; INSERT INTO events VALUES (1000); ROLLBACK");
                server.sql("shop", "CREATE TABLE filler AS SELECT repeat(md5(g::text), 30) FROM generate_series(1, 30000) g");
            }
            _ => {}
        }
        commits.push(commit(&server, number));
    }
    archiver.catch_up(&server).await;
    archiver.stop().await;
    History { server, base, archive, commits, before }
}

impl History {
    async fn plan(&self, target: RecoveryTarget) -> Result<RecoveryPlan, PlanError> {
        let request = request(target);
        plan_recovery(&request, &self.base, &self.archive.writer(), &self.archive.log()).await
    }

    async fn recover(
        &self,
        to: &TestServer,
        target: RecoveryTarget,
    ) -> Result<RestoredFiles, Failure> {
        let options = RestoreFilesOptions { data_dir: to.path(""), tablespace_dir: None };
        recover_files(
            &options,
            &request(target),
            &self.base,
            &self.archive.writer(),
            &self.archive.log(),
            &Silent,
            &CancellationToken::new(),
        )
        .await
    }

    /// A server that was recovered to a target, and is a primary.
    async fn recovered(&self, target: RecoveryTarget) -> TestServer {
        let recovered = TestServer::unborn(self.server.major);
        self.recover(&recovered, target.clone())
            .await
            .unwrap_or_else(|e| panic!("{target:?}: {e}"));
        recovered.give_to_postgres();
        recovered.boot();
        while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        recovered
    }

    /// The events of a server that was recovered to a target.
    async fn events(&self, target: RecoveryTarget) -> usize {
        let recovered = self.recovered(target).await;
        let events = recovered.sql("shop", "SELECT count(*) || ' ' || max(id) FROM events");
        let (count, last) = events.split_once(' ').unwrap();
        assert_eq!(count.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1, "{events}");
        count.parse().unwrap()
    }
}

fn request(target: RecoveryTarget) -> RecoveryRequest {
    RecoveryRequest { target, timeline: TimelineChoice::Latest, action: RecoveryAction::Promote }
}

/// Compares what is read of a server's state with what its own program says.
fn control_is_as_told(server: &TestServer) -> ControlFile {
    let control = read_control(&server.path("")).unwrap();
    let told = server.told("pg_controldata");
    let of = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}: {told}")).trim().to_owned()
    };
    assert_eq!(control.system_identifier.to_string(), of("Database system identifier"));
    assert_eq!(control.version.to_string(), of("pg_control version number"));
    assert_eq!(control.checkpoint, of("Latest checkpoint location"));
    assert_eq!(control.redo, of("Latest checkpoint's REDO location"));
    assert_eq!(control.timeline.to_string(), of("Latest checkpoint's TimeLineID"));
    let state = match control.state {
        ControlState::ShutDown => "shut down",
        ControlState::InProduction => "in production",
        other => panic!("{other:?}"),
    };
    assert_eq!(state, of("Database cluster state"));
    control
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_server_is_read_as_its_own_program_reads_it() {
    for major in [15, 17, 18] {
        let server = TestServer::start(major, &[]);
        server.sql("postgres", "CHECKPOINT");
        assert!(!control_is_as_told(&server).is_shut_down());
        server.end();
        assert!(control_is_as_told(&server).is_shut_down());
    }
    // Without that program.
    for major in [13, 14, 16] {
        let server = TestServer::start(major, &[]);
        server.end();
        assert!(read_control(&server.path("")).unwrap().is_shut_down());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_where_the_point_is_and_writes_nothing() {
    let history = make_history(17).await;
    let Commit { xid, lsn, time } = &history.commits[20];
    for target in [
        RecoveryTarget::Transaction { xid: *xid, inclusive: true },
        RecoveryTarget::Time { time: *time, inclusive: true },
        RecoveryTarget::Position { lsn: lsn.clone(), inclusive: false },
    ] {
        let plan = history.plan(target.clone()).await.unwrap();
        let point = plan.resolved();
        assert_eq!(point.timeline, 1);
        // By its time or position what the server itself writes between two commits belongs to it.
        let ends = format!("SELECT '{}'::pg_lsn <= '{lsn}'", point.lsn);
        let is_exact = matches!(target, RecoveryTarget::Transaction { .. });
        assert!(!is_exact || history.server.sql("postgres", &ends) == "t", "{point:?} {lsn}");
        let begins = format!("SELECT '{}'::pg_lsn < '{}'", plan.record(), point.lsn);
        assert_eq!(history.server.sql("postgres", &begins), "t");
        let newest = point.time.unwrap();
        assert!(newest <= *time && newest > history.commits[19].time, "{newest} {time}");
        assert!(plan.log_bytes() >= 32 << 20 && plan.log_bytes() % (16 << 20) == 0);
        assert!(plan.server_version().starts_with("17"));
    }
    let consistent = history.plan(RecoveryTarget::Immediate).await.unwrap();
    assert_eq!((consistent.log_bytes(), consistent.resolved().time), (0, None));
    // An older base may lead to what is before this one, and none to what is not archived.
    let first = &history.commits[0];
    for target in [
        RecoveryTarget::Time { time: first.time, inclusive: true },
        RecoveryTarget::Transaction { xid: first.xid, inclusive: true },
        RecoveryTarget::Position { lsn: first.lsn.clone(), inclusive: false },
    ] {
        let error = history.plan(target.clone()).await.unwrap_err();
        assert!(matches!(error, PlanError::TooEarly(_)), "{target:?}: {error:?}");
    }
    let far = Timestamp::now() + Duration::from_secs(3600);
    for target in [
        RecoveryTarget::Time { time: far, inclusive: true },
        RecoveryTarget::Transaction { xid: 999_999, inclusive: true },
        RecoveryTarget::Name("no such".to_owned()),
        RecoveryTarget::Position { lsn: "F/0".to_owned(), inclusive: false },
    ] {
        let error = history.plan(target.clone()).await.unwrap_err();
        assert!(matches!(error, PlanError::Other(_)), "{target:?}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_led_a_server_to_its_point_is_taken_out_when_it_is_there() {
    for major in [13, 17, 18] {
        // A target that an earlier recovery of the server has left in its settings.
        let server = TestServer::start(major, &["wal_level = replica"]);
        server.sql("postgres", "ALTER SYSTEM SET recovery_target_time = '2020-01-01 00:00:00+00'");
        server.sql("postgres", "ALTER SYSTEM SET work_mem = '7MB'");
        let history = history_of(server).await;
        for rewrites in [false, true] {
            let target =
                RecoveryTarget::Transaction { xid: history.commits[12].xid, inclusive: true };
            let recovered = history.recovered(target).await;
            if rewrites {
                recovered.sql("postgres", "ALTER SYSTEM SET random_page_cost = 3");
            }
            recovered.end();
            let control = read_control(&recovered.path("")).unwrap();
            assert_eq!((control.state, control.timeline), (ControlState::ShutDown, 2));
            forget_recovery_settings(&recovered.path("")).unwrap();
            let settings = std::fs::read_to_string(recovered.path("postgresql.auto.conf")).unwrap();
            assert!(!settings.contains("recovery_target_lsn"), "{settings}");
            assert!(!settings.contains("restore_command"), "{settings}");
            assert!(settings.contains("work_mem = '7MB'"), "{settings}");
            assert_eq!(settings.contains("recovery_target_time"), !rewrites, "{settings}");
            recovered.boot();
            let asked = "SELECT count(*) FROM events WHERE NOT pg_is_in_recovery()";
            assert_eq!(recovered.sql("shop", asked), "13");
            assert_eq!(recovered.sql("postgres", "SHOW work_mem"), "7MB");
            forget_recovery_settings(&recovered.path("")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_in_an_idle_hour_is_reached_once_the_archive_says_that_it_was_idle() {
    let server = TestServer::start(17, &["wal_level = replica", "autovacuum = off"]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE events (id int PRIMARY KEY)");
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let way = || connection(&server, dir.path());
    let archiver = Archiver::start_quiet_after(way(), &archive, Duration::from_millis(500));
    let base = base_of(way()).await;
    let commits: Vec<_> = (0..3).map(|number| commit(&server, number)).collect();
    archiver.catch_up(&server).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = Timestamp::now();
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while archive.log().kept_time() < Some(idle) {
        assert!(tokio::time::Instant::now() < limit, "{:?}", archive.log().kept_time());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    archiver.stop().await;
    let history = History { server, base, archive, commits, before: 0 };
    let at = |time| RecoveryTarget::Time { time, inclusive: true };
    assert_eq!(history.events(at(idle)).await, 3);
    let kept = history.archive.log().kept_time().unwrap();
    let plan = history.plan(at(kept)).await.unwrap();
    assert!(plan.resolved().time.unwrap() <= history.commits[2].time);
    let behind = history.plan(at(kept + Duration::from_millis(1))).await.unwrap_err();
    assert!(matches!(behind, PlanError::Other(_)), "{behind:?}");
}

async fn reaches_each_point(major: u32, numbers: &[usize]) {
    let history = make_history(major).await;
    for &number in numbers {
        let Commit { xid, lsn, time } = &history.commits[number];
        let time = |inclusive| RecoveryTarget::Time { time: *time, inclusive };
        assert_eq!(history.events(time(true)).await, number + 1, "{number} by its time");
        let lsn = RecoveryTarget::Position { lsn: lsn.clone(), inclusive: false };
        assert_eq!(history.events(lsn).await, number + 1, "{number} by its position");
        let transaction = |inclusive| RecoveryTarget::Transaction { xid: *xid, inclusive };
        assert_eq!(history.events(transaction(true)).await, number + 1, "{number} by its xid");
        assert_eq!(history.events(transaction(false)).await, number, "{number} before its xid");
    }
    let name = RecoveryTarget::Name("before the mistake".to_owned());
    assert_eq!(history.events(name).await, 10);
    assert_eq!(history.events(RecoveryTarget::Latest).await, history.commits.len());
    assert_eq!(history.events(RecoveryTarget::Immediate).await, history.before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_17_is_recovered_to_each_of_its_points() {
    reaches_each_point(17, &[6, 14, 15, 20, 28]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_18_is_recovered_to_each_of_its_points() {
    reaches_each_point(18, &[12, 20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_13_is_recovered_to_each_of_its_points() {
    reaches_each_point(13, &[12, 20]).await;
}

/// The server was put back to before its newest base, and has gone on: what is recovered without a
/// word about timelines is what it has gone on with, never what it has given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_a_history_that_was_given_up_leads_there_only_where_its_timeline_is_named() {
    let mut history = history_of(TestServer::start(17, &["wal_level = replica"])).await;
    let dir = tempfile::tempdir().unwrap();
    let given_up = base_of(connection(&history.server, dir.path())).await;
    let last = commit(&history.server, 30);
    let archiver = Archiver::start(connection(&history.server, dir.path()), &history.archive);
    archiver.catch_up(&history.server).await;
    archiver.stop().await;
    // Back to the tenth commit, and on from there.
    let lsn = history.commits[10].lsn.clone();
    let recovered = history.recovered(RecoveryTarget::Position { lsn, inclusive: false }).await;
    let after = commit(&recovered, 100);
    let archiver = Archiver::start(connection(&recovered, dir.path()), &history.archive);
    archiver.catch_up(&recovered).await;
    archiver.stop().await;

    let older = std::mem::replace(&mut history.base, given_up);
    for target in [
        RecoveryTarget::Latest,
        RecoveryTarget::Time { time: after.time, inclusive: true },
        RecoveryTarget::Time { time: last.time, inclusive: true },
    ] {
        let error = history.plan(target.clone()).await.unwrap_err();
        let PlanError::TooEarly(failure) = error else { panic!("{target:?}: {error}") };
        assert_eq!(failure.reason, Reason::TargetUnreachable);
        assert!(
            failure.message.starts_with("timeline 2 does not go through the base"),
            "{failure}"
        );
    }
    assert_eq!(history.plan(RecoveryTarget::Immediate).await.unwrap().resolved().timeline, 1);
    let (target, action) = (RecoveryTarget::Latest, RecoveryAction::Promote);
    for timeline in [TimelineChoice::Current, TimelineChoice::Number(1)] {
        let request = RecoveryRequest { target: target.clone(), timeline, action };
        let (writer, log) = (history.archive.writer(), history.archive.log());
        let plan = plan_recovery(&request, &history.base, &writer, &log).await.unwrap();
        assert_eq!(plan.resolved().timeline, 1);
        let request = RecoveryRequest { timeline: TimelineChoice::Number(7), ..request };
        let unknown = plan_recovery(&request, &history.base, &writer, &log).await.unwrap_err();
        assert!(matches!(unknown, PlanError::Other(_)), "{unknown}");
    }
    history.base = older;
    let newest = history.recovered(RecoveryTarget::Latest).await;
    assert_eq!(newest.sql("shop", "SELECT count(*) || ' ' || max(id) FROM events"), "12 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_refused_before_anything_is_written() {
    let history = make_history(15).await;
    let recovered = TestServer::unborn(15);
    let first = &history.commits[0];
    let far = Timestamp::now() + Duration::from_secs(3600);
    for (target, words) in [
        (RecoveryTarget::Time { time: far, inclusive: true }, "which reaches until"),
        (RecoveryTarget::Time { time: first.time, inclusive: true }, "before the moment"),
        (RecoveryTarget::Transaction { xid: first.xid, inclusive: true }, "xid"),
        (
            RecoveryTarget::Transaction { xid: 999_999, inclusive: true },
            "999999 is not in the archive",
        ),
        (RecoveryTarget::Name("no such".to_owned()), "no such"),
        (RecoveryTarget::Position { lsn: "F/0".to_owned(), inclusive: false }, "F/0 is not in"),
    ] {
        let failure = history.recover(&recovered, target.clone()).await.map(drop).unwrap_err();
        assert_eq!(failure.reason, Reason::TargetUnreachable, "{target:?}: {failure}");
        assert!(words == "xid" || failure.message.contains(words), "{failure}");
        assert!(!recovered.path("").exists());
    }
    // A part in the middle that is gone.
    let number = {
        let parts = history.archive.parts();
        let wal: Vec<u32> = parts.keys().copied().collect();
        wal[wal.len() / 2]
    };
    history.archive.0.lock().unwrap().remove(&number);
    let last = RecoveryTarget::Transaction { xid: history.commits[29].xid, inclusive: true };
    let failure = history.recover(&recovered, last).await.map(drop).unwrap_err();
    assert_eq!(failure.reason, Reason::TargetUnreachable, "{failure}");
    assert!(!recovered.path("").exists());
}
