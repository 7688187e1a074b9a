//! Physical backups under load: what a server that is started on a restored base says, and what
//! PostgreSQL's own tools do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use dbbackup_contract::{DatabaseOutcome, Failure, Method, Reason};
use dbbackup_postgres::{
    BackupResult, FilesOptions, RestoreFilesOptions, RestoredFiles, ServerConnection, backup_files,
    preflight_files, restore_files,
};
use support::{MemoryBackup, Silent, TestServer, connection, connection_as};
use tokio_util::sync::CancellationToken;

/// Those that PostgreSQL's own tools are there of.
const WITH_TOOLS: [u32; 3] = [15, 17, 18];

async fn back_up_files(
    server: ServerConnection,
    backup: &MemoryBackup,
) -> Result<BackupResult, Failure> {
    let options = FilesOptions { server, run: "a1b2c3".to_owned() };
    backup_files(&options, backup, &Silent, &CancellationToken::new()).await
}

async fn recover_to(
    data_dir: &Path,
    tablespace_dir: Option<&Path>,
    backup: &MemoryBackup,
) -> Result<RestoredFiles, Failure> {
    let options = RestoreFilesOptions {
        data_dir: data_dir.to_owned(),
        tablespace_dir: tablespace_dir.map(Path::to_owned),
    };
    restore_files(&options, backup, &Silent, &CancellationToken::new()).await
}

/// Accounts whose sum never changes, and a log of all that was done with them.
fn create_bank(server: &TestServer) {
    server.sql("postgres", "CREATE DATABASE bank");
    server.sql(
        "bank",
        "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text);
         INSERT INTO accounts SELECT g, 1000, repeat(md5(g::text), 20) FROM generate_series(1, 20000) g;
         CREATE TABLE moves (id bigserial PRIMARY KEY, a int, b int, amount int);
         CREATE INDEX ON moves (a); CREATE UNLOGGED TABLE notes (x text); INSERT INTO notes VALUES ('x')",
    );
}

/// Moves between accounts until dropped.
fn load(server: &TestServer) -> support::server::Held {
    server.hold_running(
        "bank",
        "DO $$ BEGIN FOR i IN 1..1000000 LOOP
             UPDATE accounts SET balance = balance - 1, filler = filler || 'x' WHERE id = i * 7919 % 20000 + 1;
             UPDATE accounts SET balance = balance + 1 WHERE id = i * 104729 % 20000 + 1;
             INSERT INTO moves (a, b, amount) VALUES (i * 7919 % 20000 + 1, i * 104729 % 20000 + 1, 1);
             COMMIT; END LOOP; END $$",
    )
}

/// The sum of all accounts, whether each move is in both of its accounts, and their number.
const IS_WHOLE: &str = "SELECT (SELECT sum(balance) FROM accounts) = 20000000 AND NOT EXISTS (
    SELECT FROM accounts FULL JOIN (SELECT id, sum(n) AS n FROM (
        SELECT a AS id, -amount AS n FROM moves UNION ALL SELECT b, amount FROM moves) m GROUP BY id) s USING (id)
    WHERE balance <> 1000 + coalesce(n, 0))";

async fn survives_load(major: u32) {
    let server = TestServer::start(major, &["wal_level = replica", "checkpoint_timeout = 30s"]);
    create_bank(&server);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let loaded = load(&server);
    let result = back_up_files(connection(&server, dir.path()), &backup).await.unwrap();
    drop(loaded);
    assert_eq!(result.method.used, Method::Physical);
    let bank = result.databases.iter().find(|database| database.name == "bank").unwrap();
    assert_eq!(bank.outcome, DatabaseOutcome::Succeeded, "{bank:?}");
    assert!(bank.bytes > 16 << 20, "{bank:?}");
    // It goes with its connection: the server notices a moment later that this one has ended.
    let slots = || server.sql("postgres", "SELECT count(*) FROM pg_replication_slots");
    for _ in 0..200 {
        if slots() == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(slots(), "0", "the slot is gone");

    let recovered = TestServer::unborn(major);
    let restored = recover_to(&recovered.path(""), None, &backup).await.unwrap();
    assert_eq!(restored.missing_settings, []);
    recovered.give_to_postgres();
    if WITH_TOOLS.contains(&major) {
        recovered.run("pg_verifybackup", &[]);
    }
    recovered.boot();
    assert_eq!(recovered.sql("bank", IS_WHOLE), "t");
    let moves: u64 = recovered.sql("bank", "SELECT count(*) FROM moves").parse().unwrap();
    assert!(moves > 0);
    assert_eq!(recovered.sql("bank", "SELECT count(*) FROM notes"), "0", "it was unlogged");
    recovered
        .sql("bank", "SET enable_seqscan = off; INSERT INTO moves (a, b, amount) VALUES (1, 2, 0)");
    if WITH_TOOLS.contains(&major) {
        recovered.sql("bank", "CREATE EXTENSION amcheck");
        recovered.ask("pg_amcheck", &["--heapallindexed", "-d", "bank"]);
        let has_checksums = recovered.has_checksums();
        recovered.end();
        if has_checksums {
            recovered.run("pg_checksums", &["--check"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_13_taken_under_load_is_consistent() {
    survives_load(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_14_taken_under_load_is_consistent() {
    survives_load(14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_15_taken_under_load_is_consistent() {
    survives_load(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_16_taken_under_load_is_consistent() {
    survives_load(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_17_taken_under_load_is_consistent() {
    survives_load(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_18_taken_under_load_is_consistent() {
    survives_load(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_damaged_on_the_server_is_named_and_the_rest_is_backed_up() {
    let server = TestServer::start(18, &[]);
    assert!(server.has_checksums());
    create_bank(&server);
    server.sql("bank", "CHECKPOINT");
    let path = server.sql("bank", "SELECT pg_relation_filepath('accounts')");
    damage(&server.path(&path), 5 * 8192 + 4000);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let result = back_up_files(connection(&server, dir.path()), &backup).await.unwrap();
    let of = |name: &str| result.databases.iter().find(|found| found.name == name).unwrap();
    let error = of("bank").error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::DataCorrupted);
    assert!(error.message.ends_with(&format!("page 5 of {path}")), "{error}");
    assert_eq!(of("postgres").outcome, DatabaseOutcome::Succeeded);
    assert!(backup.names().contains(&format!("files/{path}")));
}

fn damage(path: &Path, at: u64) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_go_where_they_are_sent() {
    let server = TestServer::start(17, &[]);
    let place = server.make_folder("fast");
    server.sql("postgres", &format!("CREATE TABLESPACE fast LOCATION '{place}'"));
    server.sql("postgres", "CREATE DATABASE shop TABLESPACE fast");
    server.sql("shop", "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let oid = server.sql("postgres", "SELECT oid FROM pg_tablespace WHERE spcname = 'fast'");
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let result = back_up_files(connection(&server, dir.path()), &backup).await.unwrap();
    let shop = result.databases.iter().find(|found| found.name == "shop").unwrap();
    assert!(shop.bytes > 1 << 20, "{shop:?}");

    let recovered = TestServer::unborn(17);
    let refused = recover_to(&recovered.path(""), None, &backup).await.unwrap_err();
    assert_eq!(refused.reason, Reason::UsageError);
    assert!(
        refused.message.contains(&place) && refused.hint.contains("--tablespace-dir"),
        "{refused}"
    );
    // As it will be seen from inside of the root.
    let places = dir.path().join("spaces");
    recover_to(&recovered.path(""), Some(&places), &backup).await.unwrap();
    let link = std::fs::read_link(recovered.path(&format!("pg_tblspc/{oid}"))).unwrap();
    assert_eq!(link, places.join(&oid));
    recovered.adopt_tablespace(&oid, &link);
    recovered.give_to_postgres();
    recovered.boot();
    assert_eq!(recovered.sql("shop", "SELECT sum(g) FROM t"), "500500");
    let again = recover_to(&recovered.path(""), Some(&places), &backup).await.unwrap_err();
    assert_eq!(again.reason, Reason::LocalFileError);
    assert!(again.message.ends_with("is not empty"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_backed_up_so_is_refused_with_what_to_do() {
    let server = TestServer::start(17, &["wal_level = minimal", "max_wal_senders = 0"]);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let refused = |way| back_up_files(way, &backup);
    let failure = refused(connection(&server, dir.path())).await.unwrap_err();
    assert_eq!(failure.reason, Reason::WalLevelTooLow, "{failure}");
    assert!(failure.hint.contains("wal_level = replica"), "{failure}");

    let server = TestServer::start(17, &["max_wal_senders = 1", "max_replication_slots = 0"]);
    server.sql(
        "postgres",
        "CREATE ROLE \"back\"\"up\" LOGIN PASSWORD 'p'; GRANT pg_read_all_data TO \"back\"\"up\"",
    );
    let failure = refused(connection_as(&server, dir.path(), "back\"up", "p")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::PermissionDenied, "{failure}");
    assert!(failure.hint.contains("ALTER ROLE \"back\"\"up\" REPLICATION"), "{failure}");
    let failure = refused(connection(&server, dir.path())).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TooManyConnections, "{failure}");
    assert!(failure.hint.starts_with("Raise max_wal_senders to 2 "), "{failure}");
    assert!(backup.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_beforehand_finds_what_a_backup_and_an_archiver_would_and_makes_nothing() {
    let server = TestServer::start(17, &["max_wal_senders = 3", "max_replication_slots = 2"]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'p' REPLICATION");
    let dir = tempfile::tempdir().unwrap();
    let way = || connection_as(&server, dir.path(), "reader", "p");
    let look =
        async |archives_log| preflight_files(&way(), archives_log, &CancellationToken::new()).await;
    let result = look(true).await.unwrap();
    assert!(result.server.version.starts_with("17") && result.server.size_bytes > 1 << 20);
    let names: Vec<_> = result.databases.iter().map(|report| report.name.as_str()).collect();
    assert!(names.contains(&"shop") && names.contains(&"template0"), "{names:?}");
    assert!(result.databases.iter().all(|report| report.outcome == DatabaseOutcome::Succeeded));
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(server.sql("postgres", slots), "0");

    // One slot is left: enough for a backup, and for an archiver that has its own already.
    let make = |name: &str| {
        server.sql("postgres", &format!("SELECT pg_create_physical_replication_slot('{name}')"))
    };
    make("other");
    assert!(look(false).await.is_ok());
    let failure = look(true).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TooManyConnections, "{failure}");
    assert!(failure.hint.starts_with("Raise max_replication_slots to 3 "), "{failure}");
    server.sql("postgres", "SELECT pg_drop_replication_slot('other')");
    make("dbbackup_0123456789abcdef");
    assert!(look(true).await.is_ok());

    server.sql("postgres", "ALTER ROLE reader NOREPLICATION");
    assert_eq!(look(false).await.unwrap_err().reason, Reason::PermissionDenied);
    // `all` does not let replication in.
    server.sql("postgres", "ALTER ROLE reader REPLICATION");
    server.write("pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    server.reload();
    let failure = look(false).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NoPgHbaEntry, "{failure}");
}
