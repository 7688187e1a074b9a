//! Recovery to points in time: what a server holds that was recovered, beside what a client has
//! written down of its own commits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_postgres::{
    RecoveryAction, RecoveryRequest, RecoveryTarget, RestoreFilesOptions, RestoredFiles,
    TimelineChoice, recover_files,
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
    let server = TestServer::start(major, &["wal_level = replica"]);
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
    async fn recover(
        &self,
        to: &TestServer,
        target: RecoveryTarget,
    ) -> Result<RestoredFiles, Failure> {
        let options = RestoreFilesOptions { data_dir: to.path(""), tablespace_dir: None };
        let request = RecoveryRequest {
            target,
            timeline: TimelineChoice::Latest,
            action: RecoveryAction::Promote,
        };
        let parts = self.archive.parts().into_iter().map(|(number, (about, _))| (number, about));
        recover_files(
            &options,
            &request,
            &self.base,
            &self.archive.writer(),
            parts.collect(),
            &Silent,
            &CancellationToken::new(),
        )
        .await
    }

    /// The events of a server that was recovered to a target.
    async fn events(&self, target: RecoveryTarget) -> usize {
        let recovered = TestServer::unborn(self.server.major);
        self.recover(&recovered, target.clone())
            .await
            .unwrap_or_else(|e| panic!("{target:?}: {e}"));
        recovered.give_to_postgres();
        recovered.boot();
        while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let events = recovered.sql("shop", "SELECT count(*) || ' ' || max(id) FROM events");
        let (count, last) = events.split_once(' ').unwrap();
        assert_eq!(count.parse::<usize>().unwrap(), last.parse::<usize>().unwrap() + 1, "{events}");
        count.parse().unwrap()
    }
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
