//! Whatever step a run is at: a server that hangs is a stall that says where, and
//! a request to stop is heard; a retry then finds a state that it knows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dbbackup_contract::{Failure, Reason};
use dbbackup_postgres::{RestoreOptions, ServerConnection, settle};
use support::proxy::Proxy;
use support::{
    MemoryBackup, Silent, TestServer, assert_all_succeeded, assert_scratch_empty, back_up,
    backup_of, connection, put_back, restore_to,
};
use tokio_util::sync::CancellationToken;

/// What is said at a step of a backup, and what is waited for then.
const BACKUP_STEPS: &[(&str, &str)] = &[
    ("pg_control_system", "the server to say who it is"),
    ("d.datconnlimit <> -2", "the server to list its databases"),
    ("pg_auth_members", "the server to list its roles"),
    ("database\0shop", "the server to open a session in database shop"),
    ("pg_export_snapshot", "the server to export a snapshot of database shop"),
    ("WHERE d.datname = $1", "the server to describe database shop"),
];

/// The same of a restore.
const RESTORE_STEPS: &[(&str, &str)] = &[
    ("pg_control_system", "the server to say who it is"),
    ("rolcreatedb", "the server to list what it has"),
    ("shobj_description", "the server to be asked for what database shop needs"),
    ("pg_try_advisory_lock", "the server to lock the name shop2"),
    ("CREATE ROLE", "the server to create roles"),
    ("CREATE DATABASE", "the server to create the scratch database of shop2"),
    ("REVOKE CONNECT", "the server to mark the scratch database of shop2"),
    (": loaded", "the server to mark the loaded scratch database of shop2"),
    ("ALTER DATABASE \"dbb_", "the server to prepare the scratch database of shop2"),
    ("RENAME TO", "the server to rename the scratch database to shop2"),
];

/// A server with a database `shop`.
fn shop() -> TestServer {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE ROLE shop_owner");
    server.sql("postgres", "CREATE DATABASE shop OWNER shop_owner");
    server.sql("shop", "CREATE TABLE items AS SELECT g FROM generate_series(1, 500) g");
    server
}

/// Runs `case` for each step on a thread of its own, four at a time.
fn at_each<C>(
    steps: &[(&'static str, &'static str)],
    case: impl Fn(&'static str, &'static str) -> C,
) where
    C: FnOnce() + Send,
{
    for some in steps.chunks(4) {
        std::thread::scope(|scope| {
            for (said, words) in some {
                scope.spawn(case(said, words));
            }
        });
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A way to `server` through a proxy at which something happens.
async fn way(server: &TestServer, dir: &std::path::Path) -> (Proxy, ServerConnection) {
    let proxy = Proxy::before(server.port).await;
    let mut way = connection(server, dir);
    way.access.port = proxy.port;
    (proxy, way)
}

/// Waits until the server has noticed that nobody of ours is there any more.
async fn all_gone(server: &TestServer) {
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbbackup%'";
    let started = Instant::now();
    while server.sql("postgres", left) != "0" {
        assert!(started.elapsed() < Duration::from_secs(60), "sessions stay behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn scratch_databases(server: &TestServer) -> String {
    server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'dbb\\_%'")
}

#[test]
fn a_server_that_hangs_at_any_step_of_a_backup_is_a_stall_that_says_where() {
    at_each(BACKUP_STEPS, |said, words| {
        move || {
            wait(async {
                let server = shop();
                let dir = tempfile::tempdir().unwrap();
                let (proxy, mut way) = way(&server, dir.path()).await;
                way.stall_timeout = Duration::from_secs(1);
                proxy.at(said, server.freezer());
                let backup = MemoryBackup::default();
                let made = back_up(&backup_of(way.clone(), &["shop"]), &backup).await;
                let failure = made.expect_err(said);
                assert_eq!(failure.reason, Reason::Stalled, "{said}: {failure}");
                let expected = format!("no byte moved for 1 s, waiting for {words}");
                assert!(failure.message.starts_with(&expected), "{said}: {failure}");
                server.thaw();
                // However busy the machine is now.
                way.stall_timeout = Duration::from_secs(60);
                let made = back_up(&backup_of(way, &["shop"]), &MemoryBackup::default()).await;
                assert_all_succeeded(&made.unwrap().databases);
            });
        }
    });
}

#[test]
fn a_stop_is_heard_at_any_step_of_a_backup() {
    at_each(BACKUP_STEPS, |said, _| {
        move || {
            wait(async {
                let server = shop();
                let dir = tempfile::tempdir().unwrap();
                let (proxy, way) = way(&server, dir.path()).await;
                let cancel = CancellationToken::new();
                let (stop, freeze) = (cancel.clone(), server.freezer());
                proxy.at(said, move || {
                    freeze();
                    stop.cancel();
                });
                // Were the stop not heard, it would be a stall.
                let options = backup_of(way, &["shop"]);
                let backup = MemoryBackup::default();
                let made = dbbackup_postgres::backup(&options, &backup, &Silent, &cancel).await;
                assert_eq!(made.expect_err(said).reason, Reason::Interrupted, "{said}");
                assert_scratch_empty(&options.server);
                server.thaw();
                all_gone(&server).await;
            });
        }
    });
}

/// Restores `shop` as `shop2` to a server of its own; `happen` makes what happens
/// when `said` is said. Returns the failure, and what a retry needs.
async fn restored(
    backup: &MemoryBackup,
    said: &str,
    target: &TestServer,
    dir: &std::path::Path,
    stall_timeout: Duration,
    happen: impl FnOnce(CancellationToken) -> Box<dyn FnOnce() + Send>,
) -> (Failure, RestoreOptions) {
    let (proxy, mut way) = way(target, dir).await;
    way.stall_timeout = stall_timeout;
    let cancel = CancellationToken::new();
    proxy.at(said, happen(cancel.clone()));
    let options = restore_to(way, &[("shop", "shop2")]);
    let ended = dbbackup_postgres::restore(&options, backup, &Silent, &cancel).await;
    assert!(proxy.was_said(), "{said} was never said");
    assert_scratch_empty(&options.server);
    let direct = connection(target, dir);
    (ended.expect_err(said), RestoreOptions { server: direct, ..options })
}

async fn retry_succeeds(target: &TestServer, options: &RestoreOptions, backup: &MemoryBackup) {
    all_gone(target).await;
    let mut options = options.clone();
    // However busy the machine is now.
    options.server.stall_timeout = Duration::from_secs(60);
    let restored = put_back(&options, backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(scratch_databases(target), "");
    assert_eq!(target.databases(), ["postgres", "shop2"]);
}

fn backup_of_shop() -> MemoryBackup {
    let server = shop();
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let options = backup_of(connection(&server, dir.path()), &["shop"]);
    assert_all_succeeded(&wait(back_up(&options, &backup)).unwrap().databases);
    backup
}

#[test]
fn a_server_that_hangs_at_any_step_of_a_restore_is_a_stall_that_says_where() {
    let backup = backup_of_shop();
    at_each(RESTORE_STEPS, |said, words| {
        let backup = backup.clone();
        move || {
            wait(async {
                let target = TestServer::start(17, &[]);
                let dir = tempfile::tempdir().unwrap();
                let limit = Duration::from_secs(1);
                let freeze = target.freezer();
                let (failure, options) =
                    restored(&backup, said, &target, dir.path(), limit, |_| Box::new(freeze)).await;
                assert_eq!(failure.reason, Reason::Stalled, "{said}: {failure}");
                let expected = format!("no byte moved for 1 s, waiting for {words}");
                assert!(failure.message.starts_with(&expected), "{said}: {failure}");
                target.thaw();
                retry_succeeds(&target, &options, &backup).await;
            });
        }
    });
}

#[test]
fn a_stop_is_heard_even_if_the_server_hangs_in_a_restore() {
    let backup = backup_of_shop();
    // Some steps: cleaning up waits for the server, and gives up, at most of them.
    let some: Vec<_> = RESTORE_STEPS.iter().copied().step_by(3).collect();
    at_each(&some, |said, _| {
        let backup = backup.clone();
        move || {
            wait(async {
                let target = TestServer::start(17, &[]);
                let dir = tempfile::tempdir().unwrap();
                let limit = Duration::from_secs(60);
                let freeze = target.freezer();
                let happen = |cancel: CancellationToken| -> Box<dyn FnOnce() + Send> {
                    Box::new(move || {
                        freeze();
                        cancel.cancel();
                    })
                };
                let (failure, options) =
                    restored(&backup, said, &target, dir.path(), limit, happen).await;
                assert_eq!(failure.reason, Reason::Interrupted, "{said}: {failure}");
                target.thaw();
                retry_succeeds(&target, &options, &backup).await;
            });
        }
    });
}

#[test]
fn a_stopped_restore_leaves_nothing_but_what_is_loaded() {
    let backup = backup_of_shop();
    at_each(RESTORE_STEPS, |said, _| {
        let backup = backup.clone();
        move || {
            wait(async {
                let target = TestServer::start(17, &[]);
                let dir = tempfile::tempdir().unwrap();
                let limit = Duration::from_secs(60);
                let happen = |cancel: CancellationToken| -> Box<dyn FnOnce() + Send> {
                    Box::new(move || cancel.cancel())
                };
                let (failure, options) =
                    restored(&backup, said, &target, dir.path(), limit, happen).await;
                assert_eq!(failure.reason, Reason::Interrupted, "{said}: {failure}");
                all_gone(&target).await;
                let comments = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') \
                                FROM pg_database WHERE datname LIKE 'dbb\\_%' OR datname = 'shop2'";
                let left = target.sql("postgres", comments);
                assert!(left.is_empty() || left.ends_with(": loaded"), "{said}: {left}");
                retry_succeeds(&target, &options, &backup).await;
            });
        }
    });
}

#[tokio::test]
async fn a_statement_that_takes_longer_than_the_limit_is_no_stall() {
    let backup = tokio::task::spawn_blocking(backup_of_shop).await.unwrap();
    let target = Arc::new(TestServer::start(17, &[]));
    let dir = tempfile::tempdir().unwrap();
    let (proxy, mut way) = way(&target, dir.path()).await;
    way.stall_timeout = Duration::from_secs(1);
    // The server waits five seconds for somebody who is connected to a database
    // that is renamed.
    let held = Arc::new(Mutex::new(None));
    let (server, keep) = (Arc::clone(&target), Arc::clone(&held));
    proxy.at("RENAME TO", move || {
        let connect = "SELECT datname AS scratch FROM pg_database WHERE datname LIKE 'dbb\\_%' \\gset\n\
                       \\connect :scratch\nSELECT 1";
        *keep.lock().unwrap() = Some(server.hold("postgres", connect));
    });
    let restored = put_back(&restore_to(way, &[("shop", "shop2")]), &backup).await.unwrap();
    assert!(held.lock().unwrap().is_some());
    assert_all_succeeded(&restored.databases);
    assert_eq!(target.databases(), ["postgres", "shop2"]);
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_a_stall() {
    let backup = tokio::task::spawn_blocking(backup_of_shop).await.unwrap();
    let target = TestServer::start(17, &["synchronous_standby_names = 'nobody'"]);
    let dir = tempfile::tempdir().unwrap();
    let mut way = connection(&target, dir.path());
    way.stall_timeout = Duration::from_secs(1);
    let failure = put_back(&restore_to(way, &[("shop", "shop2")]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Stalled, "{failure}");
    assert!(failure.message.contains("waits for IPC SyncRep"), "{failure}");
}

#[tokio::test]
async fn settling_with_a_server_that_hangs_is_a_stall_too() {
    let backup = tokio::task::spawn_blocking(backup_of_shop).await.unwrap();
    let target = TestServer::start(17, &[]);
    let dir = tempfile::tempdir().unwrap();
    let (proxy, mut way) = way(&target, dir.path()).await;
    way.stall_timeout = Duration::from_secs(1);
    let options = restore_to(way, &[("shop", "shop2")]);
    let restored = put_back(&options, &backup).await.unwrap();
    proxy.at("shobj_description", target.freezer());
    let failure = settle(&options, &restored.placed).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Stalled, "{failure}");
    assert!(
        failure.message.contains("waiting for the server to settle database shop2"),
        "{failure}"
    );
}
