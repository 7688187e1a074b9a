//! Databases that stand under the names of restored ones: kept aside (`Swap`) or dropped
//! (`Overwrite`), at one moment, whatever happens around it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_postgres::{Replace, RestoreOptions, RestoreResult, Strategy, settle};
use support::gate::Gate;
use support::{
    MemoryBackup, Silent, TestServer, assert_all_succeeded, back_up, backup_of, connection,
    connection_as, put_back, report, restore_to,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The data of the shop's table, as a stream.
const LATE: &str = "tables/public/items";
const KEPT: &str = "shop_before_20261120t081200z";

/// A server whose shop was backed up, and has changed since.
struct Changed {
    server: Arc<TestServer>,
    backup: MemoryBackup,
    dir: TempDir,
}

impl Changed {
    async fn new(major: u32, settings: &[&str]) -> Self {
        let server = Arc::new(TestServer::start(major, settings));
        let dir = tempfile::tempdir().unwrap();
        server.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'c'");
        server.sql("postgres", "CREATE DATABASE shop OWNER clerk");
        server.sql("postgres", "COMMENT ON DATABASE shop IS 'as it was'");
        server.sql("shop", "CREATE TABLE items AS SELECT g FROM generate_series(1, 500) g");
        server.sql("shop", "GRANT SELECT ON items TO clerk");
        let backup = MemoryBackup::default();
        let options = backup_of(connection(&server, dir.path()), &["shop"]);
        assert_all_succeeded(&back_up(&options, &backup).await.unwrap().databases);
        let changed = Self { server, backup, dir };
        changed.change();
        changed
    }

    /// The mistake after which people restore.
    fn change(&self) {
        self.server.sql("shop", "DELETE FROM items WHERE g > 3");
        self.server.sql("postgres", "COMMENT ON DATABASE shop IS 'after the mistake'");
    }

    fn request(
        &self,
        strategy: fn(Replace) -> Strategy,
        terminate_sessions: bool,
    ) -> RestoreOptions {
        let server = connection(&self.server, self.dir.path());
        let mut options = restore_to(server, &[("shop", "shop")]);
        options.lock_timeout = Duration::from_secs(60);
        options.strategy = strategy(Replace {
            terminate_sessions,
            lock_timeout: Duration::from_secs(20),
            stamp: "20261120t081200z".into(),
        });
        options
    }

    fn rows(&self, database: &str) -> String {
        self.server.sql(database, "SELECT count(*) FROM items")
    }

    fn comment(&self, database: &str) -> String {
        let sql = format!(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'"
        );
        self.server.sql("postgres", &sql)
    }

    fn databases(&self) -> Vec<String> {
        let names = self.server.databases().into_iter();
        names.filter(|name| name != "postgres").collect()
    }
}

/// What a restore of the shop was refused with, and that nothing was created.
async fn refused(changed: &Changed, options: &RestoreOptions) -> Failure {
    let result = put_back(options, &changed.backup).await.unwrap();
    assert_eq!(changed.databases(), ["shop"]);
    assert_eq!(changed.rows("shop"), "3");
    report(&result.databases, "shop").error.clone().unwrap()
}

async fn restored(changed: &Changed, options: &RestoreOptions) -> RestoreResult {
    let result = put_back(options, &changed.backup).await.unwrap();
    assert_all_succeeded(&result.databases);
    settle(options, &result.placed).await.unwrap();
    assert_eq!(changed.rows("shop"), "500");
    assert_eq!(changed.comment("shop"), "as it was");
    result
}

#[tokio::test]
async fn a_swapped_database_is_kept_and_comes_back_by_the_statements_that_are_told() {
    for major in [13, 14, 17, 18] {
        let changed = Changed::new(major, &[]).await;
        let result = restored(&changed, &changed.request(Strategy::Swap, false)).await;
        let told = report(&result.databases, "shop");
        assert_eq!(told.kept_as.as_deref(), Some(KEPT), "{major}");
        assert_eq!(changed.databases(), ["shop", KEPT]);
        assert_eq!(changed.rows(KEPT), "3");
        assert_eq!(changed.comment(KEPT), "after the mistake");
        changed.server.sql_stdin("postgres", told.undo.as_deref().unwrap());
        assert_eq!(changed.databases(), ["shop", "shop_restored_20261120t081200z"]);
        assert_eq!(
            (changed.rows("shop"), changed.comment("shop")),
            ("3".into(), "after the mistake".into())
        );
    }
}

#[tokio::test]
async fn a_name_with_capitals_that_an_earlier_release_gave_is_told_by_a_retry() {
    let changed = Changed::new(17, &[]).await;
    let options = changed.request(Strategy::Swap, false);
    // It ends before anybody was told.
    assert_all_succeeded(&put_back(&options, &changed.backup).await.unwrap().databases);
    let earlier = "shop_before_20261120T081200Z";
    let rename = format!("ALTER DATABASE {KEPT} RENAME TO \"{earlier}\"");
    changed.server.sql("postgres", &rename);
    let result = restored(&changed, &options).await;
    let told = report(&result.databases, "shop");
    assert_eq!(told.kept_as.as_deref(), Some(earlier));
    changed.server.sql_stdin("postgres", told.undo.as_deref().unwrap());
    assert_eq!(changed.rows("shop"), "3");
}

#[tokio::test]
async fn an_overwritten_database_is_gone_when_the_restored_one_stands_in_its_place() {
    for major in [13, 17, 18] {
        let changed = Changed::new(major, &[]).await;
        // A template cannot be dropped as it is.
        changed.server.sql("postgres", "ALTER DATABASE shop IS_TEMPLATE true");
        let mut options = changed.request(Strategy::Overwrite, false);
        let result = restored(&changed, &options).await;
        let told = report(&result.databases, "shop");
        assert_eq!((&told.kept_as, &told.undo), (&None, &None));
        assert_eq!(changed.databases(), ["shop"]);

        // The same restore once more would drop what was written since.
        changed.server.sql("shop", "INSERT INTO items VALUES (501)");
        options.is_continued = true;
        let again = put_back(&options, &changed.backup).await.unwrap();
        let failure = report(&again.databases, "shop").error.clone().unwrap();
        assert_eq!(failure.reason, Reason::DatabaseExists);
        assert_eq!(changed.rows("shop"), "501");
    }
}

#[tokio::test]
async fn a_name_that_is_free_is_taken_as_by_any_restore() {
    let changed = Changed::new(17, &[]).await;
    changed.server.sql("postgres", "DROP DATABASE shop WITH (FORCE)");
    let result = restored(&changed, &changed.request(Strategy::Swap, false)).await;
    assert_eq!(report(&result.databases, "shop").kept_as, None);
    assert_eq!(changed.databases(), ["shop"]);
}

#[tokio::test]
async fn a_database_in_use_is_left_alone_or_its_sessions_are_ended_as_the_request_says() {
    let changed = Changed::new(17, &[]).await;
    let held = changed.server.hold("shop", "BEGIN; SELECT count(*) FROM items");
    let failure = refused(&changed, &changed.request(Strategy::Swap, false)).await;
    assert_eq!(failure.reason, Reason::DatabaseInUse);
    assert_eq!(failure.message, "database shop is in use: 1 session, of postgres");
    restored(&changed, &changed.request(Strategy::Swap, true)).await;
    drop(held);
    assert_eq!(changed.rows(KEPT), "3");
}

/// What an application sees that connects again whenever it is sent away: whether the shop is
/// the restored one, each time that this changes.
async fn application(port: u16, looked: Arc<Semaphore>, stop: CancellationToken) -> Vec<bool> {
    let address = format!("host=127.0.0.1 port={port} user=clerk password=c dbname=shop");
    let mut seen = Vec::new();
    while !stop.is_cancelled() {
        let connected = tokio_postgres::connect(&address, tokio_postgres::NoTls).await;
        let Ok((client, connection)) = connected else { continue };
        let connection = tokio::spawn(connection);
        while let Ok(row) = client.query_one("SELECT count(*) = 500 FROM items", &[]).await
            && !stop.is_cancelled()
        {
            let is_restored = row.get(0);
            if seen.last() != Some(&is_restored) {
                seen.push(is_restored);
                looked.add_permits(1);
            }
        }
        connection.abort();
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_that_come_back_at_once_do_not_keep_a_swap_from_happening() {
    let changed = Changed::new(17, &[]).await;
    let (looked, stop) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let port = changed.server.port;
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(application(port, Arc::clone(&looked), stop.clone())))
        .collect();
    // Each has seen the old one, and then each the restored one.
    looked.acquire_many(8).await.unwrap().forget();
    restored(&changed, &changed.request(Strategy::Swap, true)).await;
    looked.acquire_many(8).await.unwrap().forget();
    stop.cancel();
    for client in clients {
        assert_eq!(client.await.unwrap(), [false, true], "the old one, then the restored one");
    }
    assert_eq!(changed.databases(), ["shop", KEPT]);
}

/// A session that comes while the restore loads, where sessions are not to be ended.
#[tokio::test]
async fn a_session_that_stays_costs_nothing_that_was_loaded() {
    let changed = Changed::new(17, &[]).await;
    let mut options = changed.request(Strategy::Swap, false);
    if let Strategy::Swap(how) = &mut options.strategy {
        how.lock_timeout = Duration::from_millis(1);
    }
    let (loading, is_loading) = std::sync::mpsc::channel();
    let (connected, is_connected) = std::sync::mpsc::channel::<()>();
    let backup = changed.backup.copy();
    backup.at(LATE, move || {
        loading.send(()).unwrap();
        is_connected.recv().unwrap();
    });
    let server = Arc::clone(&changed.server);
    let held = std::thread::spawn(move || {
        is_loading.recv().unwrap();
        let held = server.hold("shop", "SELECT 1");
        connected.send(()).unwrap();
        held
    });
    let result = put_back(&options, &backup).await.unwrap();
    let failure = report(&result.databases, "shop").error.clone().unwrap();
    assert_eq!(failure.reason, Reason::DatabaseInUse);
    assert!(failure.is_retryable(), "{failure}");
    assert_eq!(changed.rows("shop"), "3");
    assert_eq!(changed.databases().len(), 2, "what was loaded stays");

    drop(held.join().unwrap());
    options.is_continued = true;
    options.strategy = changed.request(Strategy::Swap, false).strategy;
    // It is not loaded once more: that would not succeed.
    let other = changed.backup.copy();
    let items = other.names().into_iter().find(|name| name.ends_with(LATE)).unwrap();
    other.change(&items, |bytes| bytes[0] ^= 1);
    let result = put_back(&options, &other).await.unwrap();
    assert_all_succeeded(&result.databases);
    assert_eq!(changed.rows("shop"), "500");
}

#[tokio::test]
async fn what_keeps_a_database_from_being_replaced_is_told_before_anything_is_made() {
    let changed = Changed::new(17, &["max_prepared_transactions = 2", "wal_level = logical"]).await;
    let overwrite = changed.request(Strategy::Overwrite, true);
    let server = &changed.server;

    server.sql_stdin("shop", "BEGIN; INSERT INTO items VALUES (0); PREPARE TRANSACTION 'half'");
    let failure = refused(&changed, &overwrite).await;
    assert_eq!(failure.reason, Reason::DatabaseInUse);
    assert!(failure.message.contains("prepared transactions"), "{failure}");
    server.sql("shop", "ROLLBACK PREPARED 'half'");

    server.sql("shop", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    assert_eq!(refused(&changed, &overwrite).await.reason, Reason::DatabaseInUse);
    server.sql("shop", "SELECT pg_drop_replication_slot('s')");

    server.sql("postgres", &format!("CREATE DATABASE \"{KEPT}\""));
    let taken = put_back(&changed.request(Strategy::Swap, true), &changed.backup).await.unwrap();
    let failure = report(&taken.databases, "shop").error.clone().unwrap();
    assert_eq!(failure.reason, Reason::DatabaseExists);
    assert!(failure.message.contains(KEPT), "{failure}");
    server.sql("postgres", &format!("DROP DATABASE \"{KEPT}\" WITH (FORCE)"));

    // A role that may create databases, and owns another.
    server.sql("postgres", "CREATE ROLE restorer LOGIN CREATEDB PASSWORD 'r'");
    let mut limited = changed.request(Strategy::Swap, true);
    limited.server = connection_as(server, changed.dir.path(), "restorer", "r");
    let failure = refused(&changed, &limited).await;
    assert_eq!(failure.reason, Reason::PermissionDenied);
    // One that may act for the owner, and not end a superuser's session.
    server.sql("postgres", "GRANT clerk TO restorer");
    server.sql("postgres", "GRANT pg_signal_backend TO restorer");
    let held = server.hold("shop", "SELECT 1");
    let failure = refused(&changed, &limited).await;
    assert_eq!(failure.reason, Reason::PermissionDenied);
    assert!(failure.message.contains("1 of the sessions on database shop"), "{failure}");
    drop(held);
}

#[tokio::test]
async fn the_database_that_restores_connect_to_is_not_replaced() {
    let changed = Changed::new(17, &[]).await;
    let mut options = changed.request(Strategy::Swap, true);
    options.databases[0].as_name = Some("postgres".into());
    let failure = refused(&changed, &options).await;
    assert_eq!(failure.reason, Reason::DatabaseInUse);
}

#[tokio::test]
async fn a_replacement_that_is_killed_before_any_statement_leaves_the_old_or_the_new() {
    for strategy in [Strategy::Swap as fn(Replace) -> Strategy, Strategy::Overwrite] {
        let changed = Changed::new(17, &[]).await;
        let gate = Gate::before(changed.server.port).await;
        let options = changed.request(strategy, true);
        let is_kept = matches!(options.strategy, Strategy::Swap(_));
        let mut gated = options.clone();
        gated.server.access.port = gate.port;
        let (mut old, mut new) = (0, 0);
        for number in 0.. {
            gate.hold(number);
            let attempt = async {
                let cancel = CancellationToken::new();
                let restored =
                    dbbackup_postgres::restore(&gated, &changed.backup, &Silent, &cancel).await;
                settle(&gated, &restored.unwrap().placed).await.unwrap();
            };
            let killed = tokio::select! {
                () = attempt => false,
                () = gate.reached() => true,
            };
            if killed {
                gate.cut();
                // Under its name stands the one or the other, whole.
                match (
                    changed.rows("shop").as_str(),
                    changed.databases().contains(&KEPT.to_owned()),
                ) {
                    ("3", false) => old += 1,
                    ("500", kept) if kept == is_kept => new += 1,
                    seen => panic!("killed before statement {number}: {seen:?}"),
                }
            }
            if killed {
                restored(&changed, &options).await;
            }
            assert_eq!(
                (changed.rows("shop"), changed.comment("shop")),
                ("500".into(), "as it was".into())
            );
            let expected: &[&str] = if is_kept { &["shop", KEPT] } else { &["shop"] };
            assert_eq!(changed.databases(), expected, "killed before statement {number}");
            if !killed {
                break;
            }
            if is_kept {
                changed.server.sql("postgres", &format!("DROP DATABASE \"{KEPT}\" WITH (FORCE)"));
            }
            changed.change();
        }
        let passed = gate.passed();
        assert!(passed.iter().any(|sql| sql.contains("RENAME TO")), "{passed:?}");
        assert!(old >= 5 && new >= 1, "{old} before the swap, {new} after it");
    }
}
