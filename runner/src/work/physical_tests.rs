//! Physical backups in a repository: what a second one stores, and what comes back.

use std::path::Path;
use std::sync::Arc;

use dbbackup_contract::{
    BackupAction, BackupReport, DatabaseSelection, Failure, Hooks, MadeBy, Method, Origin, Outcome,
    PreflightAction, Reason, Source,
};
use dbbackup_postgres::{
    RecoveryAction, RecoveryRequest, RecoveryTarget, RestoreFilesOptions, TimelineChoice,
    recover_files, restore_files,
};

use super::super::archive::{Archiving, KeptLog, LogWatcher, archive};
use super::super::fixtures::{Place, SERIES, a_day_later, keep_newest};
use super::super::postgres_server::{TestServer, access_to};
use super::super::{maintain, preflight};
use super::*;
use crate::progress::ProgressBoard;
use crate::streams::SnapshotSource;

fn action(server: &TestServer, secrets: &Path, run: &str, slot: &str) -> BackupAction {
    BackupAction {
        method: Method::Physical,
        series: SERIES.to_owned(),
        run_id: run.to_owned(),
        slot_time: slot.parse().unwrap(),
        origin: Origin {
            cluster: String::new(),
            namespace: String::new(),
            backup: "test".to_owned(),
            schedule: None,
        },
        made_by: MadeBy::Schedule,
        source: Source::Postgresql {
            access: access_to(server, "postgres", secrets),
            databases: DatabaseSelection::default(),
        },
        hooks: Hooks::default(),
    }
}

async fn backed_up(place: &Place, action: &BackupAction) -> BackupReport {
    let report = Box::pin(place.order(async |order| Box::pin(back_up(order, action)).await)).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    let start = report.log_start.as_ref().map(|start| start.timeline);
    assert_eq!(start, Some(1), "{report:?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_stores_the_pages_that_changed_and_all_of_it_comes_back() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE items (id int PRIMARY KEY, name text);
         INSERT INTO items SELECT g, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 10) i)
             FROM generate_series(1, 60000) g",
    );
    // Whoever reads a row for the first time writes into its page that it may be seen.
    server.sql("shop", "VACUUM FREEZE items");
    server.sql("postgres", "SELECT pg_switch_wal()");
    let (place, secrets) = (Place::new().await, tempfile::tempdir().unwrap());
    let first = action(&server, secrets.path(), "6f1c-1", "2026-11-20T01:15:00Z");
    let first = backed_up(&place, &first).await;
    // Rows of a few pages, though the log has these pages whole, too.
    server.sql("shop", "UPDATE items SET name = 'changed' WHERE id % 20000 = 0");
    let second = action(&server, secrets.path(), "6f1c-2", "2026-11-21T01:15:00Z");
    let second = backed_up(&place, &second).await;
    assert!(second.bytes.read * 2 > first.bytes.read, "{second:?}");
    assert!(second.bytes.new * 4 < first.bytes.new, "{:?}, then {:?}", first.bytes, second.bytes);

    let snapshot = place.repository.find(second.snapshot_id.as_deref().unwrap()).await.unwrap();
    snapshot.verify_manifest().await.unwrap();
    let recovered = TestServer::unborn(17);
    let options = RestoreFilesOptions { data_dir: recovered.path(""), tablespace_dir: None };
    let source = SnapshotSource::new(Arc::new(snapshot));
    let (board, cancel) = (ProgressBoard::new(None), CancellationToken::new());
    restore_files(&options, &source, &board, &cancel).await.unwrap();
    recovered.give_to_postgres();
    recovered.boot();
    let rows = "SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM items i";
    assert_eq!(recovered.sql("shop", rows), server.sql("shop", rows));
}

#[tokio::test]
async fn databases_cannot_be_chosen_for_it() {
    let (place, secrets) = (Place::new().await, tempfile::tempdir().unwrap());
    let server = TestServer::start(17, &[]);
    let mut wanted = action(&server, secrets.path(), "6f1c-1", "2026-11-20T01:15:00Z");
    let Source::Postgresql { databases, .. } = &mut wanted.source;
    databases.exclude.push("scratch".to_owned());
    let report = place.order(async |order| back_up(order, &wanted).await).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.reason), (Outcome::Failed, Reason::InvalidSpec));
    assert!(error.hint.contains("method Logical"), "{error}");
}

/// Hears up to where a log is kept.
#[derive(Default)]
struct Heard(std::sync::Mutex<String>);

impl dbbackup_postgres::ArchiveWatcher for Heard {
    fn update(&self, state: dbbackup_postgres::ArchiveState) {
        *self.0.lock().unwrap() = state.kept;
    }

    fn gap(&self, start: &str, end: &str, timeline: u32) {
        panic!("log is missing from {start} to {end} of timeline {timeline}");
    }
}

impl LogWatcher for Heard {
    fn waits(&self, failure: &Failure) {
        panic!("{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_beforehand_names_the_right_that_is_missing_and_what_cannot_be_chosen() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'secret'");
    let (place, secrets) = (Place::new().await, tempfile::tempdir().unwrap());
    let source = |role: &str, databases| Source::Postgresql {
        access: access_to(&server, role, secrets.path()),
        databases,
    };
    let look = async |source, archives_log| {
        let hooks = Hooks::default();
        let action = PreflightAction { source, method: Method::Physical, archives_log, hooks };
        place.order(async |order| preflight(order, &action).await).await
    };
    let all = DatabaseSelection::default();
    for archives_log in [false, true] {
        let report = look(source("postgres", all.clone()), archives_log).await;
        assert_eq!((report.outcome, report.error), (Outcome::Succeeded, None));
        assert!(report.server.unwrap().version.starts_with("17"));
    }
    let refused = look(source("reader", all.clone()), true).await;
    let error = refused.error.unwrap();
    assert_eq!(refused.outcome, Outcome::Failed);
    assert!(format!("{error} {}", error.hint).contains("REPLICATION"), "{error} {}", error.hint);

    let some = DatabaseSelection { exclude: vec!["scratch".to_owned()], ..all };
    let refused = look(source("postgres", some), false).await;
    let error = refused.error.unwrap();
    assert_eq!((refused.outcome, error.reason), (Outcome::Failed, Reason::InvalidSpec));
    assert!(error.hint.contains("method Logical"), "{error}");
}

/// Archives the server's log while `work` is done, and until all of it is kept.
async fn archived(
    place: &Place,
    server: &TestServer,
    secrets: &Path,
    work: impl Future<Output = ()>,
) {
    let access = access_to(server, "postgres", secrets);
    let what = Archiving {
        server: &access,
        series: SERIES,
        slot: "dbbackup_test",
        max_lag: Duration::from_millis(200),
    };
    let heard = Heard::default();
    let archived = place.order(async |order| {
        let working = async {
            work.await;
            let written = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
            loop {
                let kept = heard.0.lock().unwrap().clone();
                let has = format!("SELECT '{kept}'::pg_lsn >= '{written}'");
                if !kept.is_empty() && server.sql("postgres", &has) == "t" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            order.cancel.cancel();
        };
        let (ended, ()) = tokio::join!(Box::pin(archive(order, &what, &heard)), Box::pin(working));
        ended
    });
    archived.await.unwrap();
}

/// The log of a base.
fn log_of<'p>(place: &'p Place, base: &BackupReport) -> KeptLog<'p> {
    let log = place.repository.log_id(SERIES, &base.server.as_ref().unwrap().identity);
    KeptLog { repository: &place.repository, log }
}

/// A server that was brought forward from a base with all that was archived.
async fn brought_forward(place: &Place, base: &BackupReport) -> TestServer {
    let snapshot = place.repository.find(base.snapshot_id.as_deref().unwrap()).await.unwrap();
    let source = SnapshotSource::new(Arc::new(snapshot));
    let kept = log_of(place, base);
    let log = kept.archived().await.unwrap();
    let recovered = TestServer::unborn(17);
    let options = RestoreFilesOptions { data_dir: recovered.path(""), tablespace_dir: None };
    let request = RecoveryRequest {
        target: RecoveryTarget::Latest,
        timeline: TimelineChoice::Latest,
        action: RecoveryAction::Promote,
    };
    let (board, cancel) = (ProgressBoard::new(None), CancellationToken::new());
    recover_files(&options, &request, &source, &kept, &log, &board, &cancel).await.unwrap();
    recovered.give_to_postgres();
    recovered.boot();
    while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    recovered
}

/// A server with an empty table.
fn shop() -> TestServer {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE items (id int PRIMARY KEY)");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_brought_forward_with_the_log_that_was_archived_beside_it() {
    let (server, place, secrets) = (shop(), Place::new().await, tempfile::tempdir().unwrap());
    let base = action(&server, secrets.path(), "6f1c-1", "2026-11-20T01:15:00Z");
    let base = backed_up(&place, &base).await;
    let work = async {
        server.sql("shop", "INSERT INTO items SELECT generate_series(1, 1000)");
    };
    archived(&place, &server, secrets.path(), work).await;
    let recovered = brought_forward(&place, &base).await;
    assert_eq!(recovered.sql("shop", "SELECT count(*) FROM items"), "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_let_go_takes_its_log_along_and_the_next_one_is_brought_forward() {
    let (server, place, secrets) = (shop(), Place::new().await, tempfile::tempdir().unwrap());
    let first = action(&server, secrets.path(), "6f1c-1", "2026-11-20T01:15:00Z");
    let second = action(&server, secrets.path(), "6f1c-2", "2026-11-21T01:15:00Z");
    let mut base = None;
    let work = async {
        let fill_files = |from: u32| {
            for id in from..from + 4 {
                server.sql("shop", &format!("INSERT INTO items VALUES ({id})"));
                server.sql("postgres", "SELECT pg_switch_wal()");
            }
        };
        backed_up(&place, &first).await;
        fill_files(1);
        base = Some(backed_up(&place, &second).await);
        fill_files(5);
    };
    archived(&place, &server, secrets.path(), work).await;
    let base = base.unwrap();
    let parts = async || {
        let log = place.repository.read_log(&log_of(&place, &base).log).await.unwrap();
        log.parts().iter().map(|part| part.number).collect::<Vec<_>>()
    };
    let before = parts().await;
    let action = keep_newest();
    let mut deleted = Vec::new();
    for _ in 0..3 {
        a_day_later(&place.path());
        let report =
            Box::pin(place.order(async |order| Box::pin(maintain(order, &action)).await)).await;
        assert_eq!(report.error, None);
        assert_eq!(report.check.unwrap().problems, 0);
        deleted.push(report.deleted_log_parts);
    }
    let after = parts().await;
    assert!(deleted[1] > 0 && deleted[2] == 0, "{deleted:?}");
    assert!(before.ends_with(&after) && after.len() + 3 <= before.len(), "{before:?} {after:?}");
    let recovered = brought_forward(&place, &base).await;
    assert_eq!(recovered.sql("shop", "SELECT count(*), max(id) FROM items"), "8|8");
}
