//! Each way in which a backup fails has its reason, and leaves nothing unfinished.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use dbbackup_contract::{DatabaseOutcome, ErrorClass, Reason, TlsMode};
use support::proxy::Proxy;
use support::{
    MemoryBackup, Silent, TestServer, assert_scratch_empty, back_up, backup_of, connection,
    connection_as, report, secret,
};
use tokio_util::sync::CancellationToken;

/// A table whose dump takes a while.
const LARGE: &str =
    "CREATE TABLE large AS SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 100000) g";

#[tokio::test]
async fn secrets_and_addresses_that_are_wrong_have_their_reasons() {
    let server = TestServer::start(17, &[]);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();

    let mut wrong = connection_as(&server, dir.path(), "postgres", "wrong");
    let failure = back_up(&backup_of(wrong.clone(), &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::WrongPassword);
    assert!(!failure.to_string().contains("wrong\n"), "{failure}");

    wrong.access.credentials.password = None;
    let failure = back_up(&backup_of(wrong.clone(), &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::WrongPassword);

    let mut file = secret(&dir.path().join("other"), "note", "x");
    file.key = "password".to_owned();
    wrong.access.credentials.password = Some(file.clone());
    let failure = back_up(&backup_of(wrong.clone(), &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::SecretKeyNotFound);
    file.dir = dir.path().join("nowhere").to_str().unwrap().to_owned();
    wrong.access.credentials.password = Some(file);
    let failure = back_up(&backup_of(wrong, &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::SecretNotFound);

    // The folder is the same: the right password is back in it.
    let good = connection(&server, dir.path());
    let mut nowhere = good.clone();
    nowhere.access.host = "no-such-host.invalid".to_owned();
    let failure = back_up(&backup_of(nowhere, &[]), &backup).await.unwrap_err();
    assert_eq!((failure.reason, failure.class), (Reason::HostNotFound, ErrorClass::Retryable));

    let mut closed = good.clone();
    closed.access.port = 1;
    let failure = back_up(&backup_of(closed, &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerUnreachable);

    let mut other = good.clone();
    let greeter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.access.port = greeter.local_addr().unwrap().port();
    let greeting = std::thread::spawn(move || {
        for words in ["HTTP/1.1 400 Bad Request\r\n\r\nno", ""] {
            let (mut client, _) = greeter.accept().unwrap();
            let _ = client.read(&mut [0; 1024]).unwrap();
            client.write_all(words.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            // What else it says is read, lest closing be a reset.
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    for _ in 0..2 {
        let failure = back_up(&backup_of(other.clone(), &[]), &backup).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerUnreachable, "{failure}");
        assert!(failure.message.ends_with("does not answer as PostgreSQL does"), "{failure}");
    }
    greeting.join().unwrap();

    let mut encrypted = good.clone();
    encrypted.access.tls.mode = TlsMode::Require;
    let failure = back_up(&backup_of(encrypted, &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TlsRefused);

    let failure = back_up(&backup_of(good, &["postgres", "nosuch*"]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseNotFound);
    assert!(backup.names().is_empty());
}

#[tokio::test]
async fn the_line_that_pg_hba_lacks_is_shown_and_works() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE ROLE \"backup user\" SUPERUSER LOGIN PASSWORD 'b:a\\ck'");
    let only_us = "host all postgres 127.0.0.1/32 scram-sha-256\n";
    server.write("pg_hba.conf", only_us);
    server.reload();
    let dir = tempfile::tempdir().unwrap();
    // A password that must be escaped in a password file.
    let options = backup_of(connection_as(&server, dir.path(), "backup user", "b:a\\ck"), &[]);
    let backup = MemoryBackup::default();
    let failure = back_up(&options, &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NoPgHbaEntry);
    let (_, line) = failure.hint.split_once("server: ").unwrap();
    assert_eq!(line, "host postgres \"backup user\" 127.0.0.1/32 scram-sha-256");
    server.write("pg_hba.conf", &format!("{only_us}{line}\n"));
    server.reload();
    let made = back_up(&options, &backup).await.unwrap();
    assert_eq!(made.databases[0].outcome, DatabaseOutcome::Succeeded, "{made:#?}");
}

#[tokio::test]
async fn one_database_that_may_not_be_read_leaves_the_others() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE ROLE bk LOGIN PASSWORD 'bk'");
    for name in ["closed", "crm", "guarded", "shop"] {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql(name, "CREATE TABLE invoices AS SELECT 1 AS a");
        server.sql(name, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO bk");
    }
    server.sql("crm", "REVOKE SELECT ON invoices FROM bk");
    server.sql("guarded", "ALTER TABLE invoices ENABLE ROW LEVEL SECURITY");
    server.sql("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS false");
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection_as(&server, dir.path(), "bk", "bk"), &[]);
    let backup = MemoryBackup::default();
    let made = back_up(&options, &backup).await.unwrap();

    let crm = report(&made.databases, "crm");
    assert_eq!(crm.outcome, DatabaseOutcome::Failed);
    let error = crm.error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::PermissionDenied);
    assert_eq!(error.message, "permission denied for table public.invoices");
    let guarded = report(&made.databases, "guarded").error.as_ref().unwrap();
    assert_eq!(guarded.reason, Reason::PermissionDenied);
    assert_eq!(guarded.message, "row-level security hides rows of public.invoices");
    assert_eq!(report(&made.databases, "shop").outcome, DatabaseOutcome::Succeeded);
    assert_eq!(report(&made.databases, "shop").rows, 1);
    assert_eq!(report(&made.databases, "closed").outcome, DatabaseOutcome::Skipped);
    let names = backup.names();
    assert!(names.iter().any(|name| name == "databases/shop/tables/public/invoices"));
    assert!(!names.iter().any(|name| name.contains("crm") || name.contains("guarded")));
    assert_eq!(backup.json("globals.json")["withPasswords"], false);
}

#[tokio::test]
async fn a_lock_that_is_not_granted_names_who_holds_it() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE TABLE busy (a int)");
    let _held = server.hold("postgres", "BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE");
    let dir = tempfile::tempdir().unwrap();
    let mut options = backup_of(connection(&server, dir.path()), &[]);
    options.lock_timeout = Duration::from_secs(5);
    let made = back_up(&options, &MemoryBackup::default()).await.unwrap();
    let error = made.databases[0].error.as_ref().unwrap();
    assert_eq!((error.reason, error.class), (Reason::LockTimeout, ErrorClass::Retryable));
    assert!(error.message.contains("the lock is held by session"), "{error}");
    assert!(error.message.contains("application \"psql\""), "{error}");
}

#[tokio::test]
async fn a_server_that_is_gone_in_the_middle_ends_all() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", LARGE);
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection(&server, dir.path()), &[]);
    let backup = MemoryBackup::default();
    backup.at("tables/public/large", server.stopper());
    let failure = back_up(&options, &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerGoneAway, "{failure}");
    assert!(!backup.names().iter().any(|name| name.starts_with("databases/")));
}

#[tokio::test]
async fn a_dump_whose_session_is_ended_fails_alone() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", LARGE);
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection(&server, dir.path()), &[]);
    let backup = MemoryBackup::default();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'dbbackup dump%'";
    backup.at("tables/public/large", server.later("postgres", end));
    let made = back_up(&options, &backup).await.unwrap();
    let error = report(&made.databases, "shop").error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::ServerGoneAway, "{error}");
    assert_eq!(report(&made.databases, "postgres").outcome, DatabaseOutcome::Succeeded);
    assert!(!backup.names().iter().any(|name| name.starts_with("databases/shop/")));
}

#[tokio::test]
async fn silence_is_a_stall_that_says_where() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", LARGE);
    let proxy = Proxy::before(server.port).await;
    let dir = tempfile::tempdir().unwrap();
    let mut way = connection(&server, dir.path());
    way.access.port = proxy.port;
    way.stall_timeout = Duration::from_secs(2);
    let backup = MemoryBackup::default();
    let stop = proxy.clone();
    backup.at("tables/public/large", move || stop.stop_after(1_000_000));
    let failure = back_up(&backup_of(way, &[]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Stalled, "{failure}");
    assert!(failure.message.contains("waiting for pg_dump of database postgres"), "{failure}");
    assert!(!backup.names().iter().any(|name| name.starts_with("databases/")));
}

#[tokio::test]
async fn a_repository_that_takes_no_more_ends_all() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", LARGE);
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection(&server, dir.path()), &[]);
    let backup = MemoryBackup::default();
    *backup.full_at.lock().unwrap() = Some(10_000_000);
    let failure = back_up(&options, &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::StorageFull);
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_leaves_no_session_behind() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", LARGE);
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection(&server, dir.path()), &[]);
    let backup = MemoryBackup::default();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    backup.at("tables/public/large", move || stop.cancel());
    let failure = dbbackup_postgres::backup(&options, &backup, &Silent, &cancel).await.unwrap_err();
    assert_eq!((failure.reason, failure.class), (Reason::Interrupted, ErrorClass::Retryable));
    assert_scratch_empty(&options.server);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbbackup%'";
    let started = std::time::Instant::now();
    while server.sql("postgres", left) != "0" {
        assert!(started.elapsed() < Duration::from_secs(20), "sessions stay behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_refused_and_one_that_does_not_is_taken() {
    let server = TestServer::start(17, &[]);
    let dir = tempfile::tempdir().unwrap();
    let mut way = connection(&server, dir.path());
    let (port, _pooler) = server.pooler("transaction");
    way.access.port = port;
    let failure =
        back_up(&backup_of(way.clone(), &[]), &MemoryBackup::default()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::PoolerRefused, "{failure}");
    let (port, _pooler) = server.pooler("session");
    way.access.port = port;
    let made = back_up(&backup_of(way, &[]), &MemoryBackup::default()).await.unwrap();
    assert_eq!(made.databases[0].outcome, DatabaseOutcome::Succeeded, "{made:#?}");
}
