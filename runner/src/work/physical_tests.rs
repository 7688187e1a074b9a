//! Physical backups in a repository: what a second one stores, and what comes back.

use std::sync::Arc;

use dbbackup_contract::{
    BackupAction, BackupReport, CredentialFiles, DatabaseSelection, Hooks, MadeBy, Method, Origin,
    Outcome, PostgresqlAccess, Reason, SecretFile, Source, TlsAccess, TlsMode, UserName,
};
use dbbackup_postgres::{
    RecoveryAction, RecoveryRequest, RecoveryTarget, RestoreFilesOptions, TimelineChoice,
    recover_files, restore_files,
};

use super::super::archive::{Archiving, KeptLog, archive};
use super::super::fixtures::{Place, SERIES};
use super::super::postgres_server::TestServer;
use super::*;
use crate::streams::SnapshotSource;

fn action(server: &TestServer, secrets: &std::path::Path, run: &str, slot: &str) -> BackupAction {
    std::fs::write(secrets.join("password"), "secret").unwrap();
    let dir = secrets.display().to_string();
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
            access: PostgresqlAccess {
                host: "127.0.0.1".to_owned(),
                port: server.port,
                credentials: CredentialFiles {
                    username: UserName::Literal("postgres".to_owned()),
                    password: Some(SecretFile::local(dir, "password".to_owned())),
                },
                tls: TlsAccess { mode: TlsMode::Prefer, ..TlsAccess::default() },
            },
            databases: DatabaseSelection::default(),
        },
        hooks: Hooks::default(),
    }
}

async fn backed_up(place: &Place, action: &BackupAction) -> BackupReport {
    let report = place.order(async |order| back_up(order, action).await).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
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
    let (board, cancel) = (crate::progress::ProgressBoard::new(None), CancellationToken::new());
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_brought_forward_with_the_log_that_was_archived_beside_it() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE items (id int PRIMARY KEY)");
    let (place, secrets) = (Place::new().await, tempfile::tempdir().unwrap());
    let base = action(&server, secrets.path(), "6f1c-1", "2026-11-20T01:15:00Z");
    let report = backed_up(&place, &base).await;
    let Source::Postgresql { access, .. } = &base.source;
    let what = Archiving {
        server: access,
        series: SERIES,
        slot: "dbbackup_test",
        max_lag: std::time::Duration::from_millis(200),
    };
    let heard = Heard::default();
    let archived = place.order(async |order| {
        let stop = async {
            server.sql("shop", "INSERT INTO items SELECT generate_series(1, 1000)");
            let written = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
            loop {
                let kept = heard.0.lock().unwrap().clone();
                let has = format!("SELECT '{kept}'::pg_lsn >= '{written}'");
                if !kept.is_empty() && server.sql("postgres", &has) == "t" {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            order.cancel.cancel();
        };
        let (ended, ()) = tokio::join!(archive(order, &what, &heard), stop);
        ended
    });
    archived.await.unwrap();

    let log = place.repository.log_id(SERIES, &report.server.unwrap().identity);
    let reader = place.repository.read_log(&log).await.unwrap();
    let parts = reader.parts().iter().map(|part| (part.number, part.about.clone())).collect();
    let snapshot = place.repository.find(report.snapshot_id.as_deref().unwrap()).await.unwrap();
    let source = SnapshotSource::new(Arc::new(snapshot));
    let kept = KeptLog { repository: &place.repository, log };
    let recovered = TestServer::unborn(17);
    let options = RestoreFilesOptions { data_dir: recovered.path(""), tablespace_dir: None };
    let request = RecoveryRequest {
        target: RecoveryTarget::Latest,
        timeline: TimelineChoice::Latest,
        action: RecoveryAction::Promote,
    };
    let (board, cancel) = (crate::progress::ProgressBoard::new(None), CancellationToken::new());
    recover_files(&options, &request, &source, &kept, parts, &board, &cancel).await.unwrap();
    recovered.give_to_postgres();
    recovered.boot();
    while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(recovered.sql("shop", "SELECT count(*) FROM items"), "1000");
}
