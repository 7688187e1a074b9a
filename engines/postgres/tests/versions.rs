//! Every major version of the server: to itself, to the next newer one, and to
//! older ones as far as these can have what it has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use dbbackup_contract::{DatabaseOutcome, Reason};
use dbbackup_postgres::{ClientFolders, RestoreResult, ServerConnection};
use support::nasty::{
    NASTY, PREFIX, for_major, make_nasty, prepare_target, row_digests, similar_asserts,
};
use support::raw::{assert_joins, recording};
use support::same::{assert_same_database, assert_same_roles};
use support::server::debian_clients;
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, connection_as,
    put_back, report, restore_to,
};

/// A way to `server` for an engine with the clients that an image has.
fn way_to(server: &TestServer, dir: &tempfile::TempDir) -> ServerConnection {
    let clients = ClientFolders::new([15, 17, 18].map(debian_clients).into());
    ServerConnection { clients, ..connection(server, dir.path()) }
}

#[test]
fn a_section_is_left_out_where_the_major_lacks_it() {
    let text = "a\n-- since 15 or on 13\nb\n-- end\n-- since this\n-- since 17\nc\n-- end\nd\n";
    let (none, first) = ("a\n\n\n\n-- since this\n\n\n\nd\n", "a\n\nb\n\n-- since this\n\n\n\nd\n");
    assert_eq!(for_major(text, 14, 14), none);
    assert_eq!(for_major(text, 13, 18), none);
    assert_eq!(for_major(text, 13, 13), first);
    assert_eq!(for_major(text, 15, 18), first);
    assert_eq!(for_major(text, 17, 17), "a\n\nb\n\n-- since this\n\nc\n\nd\n");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_before_anything() {
    let server = TestServer::start(12, &[]);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let options = backup_of(way_to(&server, &dir), &[]);
    let refused = [
        back_up(&options, &backup).await.map(drop).unwrap_err(),
        put_back(&restore_to(way_to(&server, &dir), &[]), &backup).await.map(drop).unwrap_err(),
    ];
    for failure in refused {
        assert_eq!(failure.reason, Reason::VersionUnsupported);
        assert_eq!(failure.message, "the server is PostgreSQL 12.22, older than 13");
        assert!(failure.hint.contains("from PostgreSQL 13 on"), "{failure}");
    }
    assert!(backup.names().is_empty());
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

/// Backs up a server of `from` that has what servers of `level` can have.
async fn nasty_of(from: u32, level: u32) -> (TestServer, MemoryBackup) {
    let source = TestServer::start(from, &[]);
    make_nasty(&source, level);
    let dir = tempfile::tempdir().unwrap();
    let mut way = way_to(&source, &dir);
    // 16's own is the only pg_dump that writes archives of 1.15; an image restores them by 17's.
    let major = source.client_major();
    way.clients = recording(&source.clients(), major, dir.path());
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(way, &[]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    assert_joins(&backup, PREFIX, dir.path());
    (source, backup)
}

/// Restores all of it to a new server of `to`, and compares the two.
async fn comes_back_on(to: u32, source: &TestServer, backup: &MemoryBackup) {
    let target = TestServer::start(to, &[]);
    prepare_target(&target);
    let dir = tempfile::tempdir().unwrap();
    let options = restore_to(way_to(&target, &dir), &[]);
    let restored = put_back(&options, backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(report(&restored.databases, "postgres").outcome, DatabaseOutcome::Skipped);
    let mut expected = vec![
        "not enabled, and naming the replication slots of the original: \
         subscriptions from; nowhere, idle",
    ];
    if source.sql(NASTY, "SELECT count(*) FROM pg_subscription") == "0" {
        expected.clear();
    }
    assert_eq!(warnings(&restored), expected);
    dbbackup_postgres::settle(&options, &restored.placed).await.unwrap();
    assert_same_database(source, &target, NASTY);
    similar_asserts(&row_digests(source, NASTY), &row_digests(&target, NASTY));
    assert_same_roles(source, &target);
    assert_eq!(source.databases(), target.databases());
}

/// Of the globals, then of each database.
fn warnings(restored: &RestoreResult) -> Vec<&str> {
    let globals = restored.globals.iter().flat_map(|globals| &globals.warnings);
    let databases = restored.databases.iter().flat_map(|database| &database.warnings);
    globals.chain(databases).map(String::as_str).collect()
}

#[tokio::test]
async fn what_13_has_comes_back_on_13_and_14() {
    let (source, backup) = nasty_of(13, 13).await;
    comes_back_on(13, &source, &backup).await;
    comes_back_on(14, &source, &backup).await;
}

#[tokio::test]
async fn what_14_has_comes_back_on_14_and_15() {
    let (source, backup) = nasty_of(14, 14).await;
    comes_back_on(14, &source, &backup).await;
    comes_back_on(15, &source, &backup).await;
}

#[tokio::test]
async fn what_15_has_comes_back_on_15_and_16() {
    let (source, backup) = nasty_of(15, 15).await;
    comes_back_on(15, &source, &backup).await;
    comes_back_on(16, &source, &backup).await;
}

#[tokio::test]
async fn what_16_has_comes_back_on_16_and_17() {
    let (source, backup) = nasty_of(16, 16).await;
    comes_back_on(16, &source, &backup).await;
    comes_back_on(17, &source, &backup).await;
}

#[tokio::test]
async fn what_17_has_comes_back_on_17_and_18() {
    let (source, backup) = nasty_of(17, 17).await;
    comes_back_on(17, &source, &backup).await;
    comes_back_on(18, &source, &backup).await;
}

#[tokio::test]
async fn what_18_has_comes_back_on_18() {
    let (source, backup) = nasty_of(18, 18).await;
    comes_back_on(18, &source, &backup).await;
}

#[tokio::test]
async fn what_older_servers_can_have_comes_back_on_them() {
    for (from, to) in [(14, 13), (17, 15), (18, 17), (18, 13)] {
        let (source, backup) = nasty_of(from, to).await;
        comes_back_on(to, &source, &backup).await;
    }
}

/// Roles of 16 and later, and a database that says who may do what.
const NEWER: &str = "
    CREATE ROLE keeper;
    CREATE ROLE staff;
    CREATE ROLE lead;
    CREATE ROLE worker;
    GRANT pg_maintain TO keeper;
    GRANT staff TO lead WITH ADMIN OPTION;
    SET ROLE lead; GRANT staff TO worker WITH INHERIT FALSE, SET FALSE; RESET ROLE;
    ALTER ROLE worker SET transaction_timeout TO '1h';
    ALTER ROLE worker SET work_mem TO '9MB';
    GRANT SET ON PARAMETER log_min_duration_statement, session_replication_role TO worker;
    GRANT ALTER SYSTEM ON PARAMETER work_mem TO lead WITH GRANT OPTION;
    GRANT SET ON PARAMETER log_statement TO PUBLIC;
    CREATE DATABASE shop OWNER keeper;
    ALTER DATABASE shop SET transaction_timeout TO '2h';
    ALTER DATABASE shop SET wal_compression TO zstd;
    ALTER DATABASE shop SET work_mem TO '8MB';
    ALTER ROLE worker IN DATABASE shop SET event_triggers TO off;
    CREATE DATABASE counted;
    CREATE DATABASE kept;
    CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < g';
    CREATE DATABASE fast TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'";

/// What concerns more roles than those that are restored.
const LEFT_OUT: &str = "SET on parameter log_statement for PUBLIC is left out: it would concern \
     roles of the target that are not restored";

const LEFT_OUT_ON_14: &[&str] = &[
    "membership of role keeper in pg_maintain is left out: PostgreSQL 14 has no such thing",
    "membership of role worker in staff with INHERIT and SET of its own is left out: \
     PostgreSQL 14 has no such thing",
    "SET on parameter log_min_duration_statement for role worker is left out: \
     PostgreSQL 14 has no such thing",
    LEFT_OUT,
    "SET on parameter session_replication_role for role worker is left out: \
     PostgreSQL 14 has no such thing",
    "ALTER SYSTEM on parameter work_mem for role lead is left out: PostgreSQL 14 has no such thing",
    "setting transaction_timeout of role worker is left out: \
     unrecognized configuration parameter \"transaction_timeout\"",
    "setting transaction_timeout of database shop is left out: \
     unrecognized configuration parameter \"transaction_timeout\"",
    "setting wal_compression of database shop is left out: \
     parameter \"wal_compression\" requires a Boolean value",
    "setting event_triggers of role worker in database shop is left out: \
     unrecognized configuration parameter \"event_triggers\"",
];

#[tokio::test]
async fn what_an_older_target_lacks_is_refused_or_left_out_and_told() {
    let source = TestServer::start(18, &[]);
    for statement in NEWER.split(";\n") {
        source.sql("postgres", statement);
    }
    source.sql("shop", "CREATE TABLE t AS SELECT 1 AS a");
    source.sql("counted", "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)");
    source.sql("kept", "CREATE TABLE t (a int); GRANT SELECT (a) ON t TO pg_maintain");
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(way_to(&source, &dir), &[]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);

    let target = TestServer::start(18, &[]);
    let options = restore_to(way_to(&target, &dir), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(warnings(&restored), [LEFT_OUT]);
    source.sql("postgres", "REVOKE SET ON PARAMETER log_statement FROM PUBLIC");
    assert_same_roles(&source, &target);

    for (major, refused) in [
        (17, &[("fast", Reason::LocaleNotAvailable), ("counted", Reason::VersionUnsupported)][..]),
        (
            14,
            &[
                ("fast", Reason::LocaleNotAvailable),
                ("icu", Reason::LocaleNotAvailable),
                ("kept", Reason::VersionUnsupported),
                ("counted", Reason::VersionUnsupported),
            ],
        ),
    ] {
        let target = TestServer::start(major, &[]);
        let options = restore_to(way_to(&target, &dir), &[]);
        let restored = put_back(&options, &backup).await.unwrap();
        for (database, reason) in refused {
            let error = report(&restored.databases, database).error.as_ref().unwrap();
            assert_eq!(error.reason, *reason, "{error}");
        }
        let failed = restored.databases.iter().filter(|database| database.error.is_some());
        assert_eq!(failed.count(), refused.len(), "{:#?}", restored.databases);
        let error = report(&restored.databases, "counted").error.as_ref().unwrap();
        assert!(
            error.message.starts_with(&format!(
                "PostgreSQL {major} did not take what PostgreSQL 18 has: syntax error"
            )),
            "{error}"
        );
        assert_eq!(target.sql("shop", "SELECT a FROM t"), "1");
        assert_eq!(target.sql("shop", "SHOW work_mem"), "8MB");
        // Who may create in a new schema public: nobody, whatever the target would have said.
        let may = "SELECT has_schema_privilege('worker', 'public', 'CREATE')";
        assert_eq!(target.sql("shop", may), "f");
        let expected = if major == 14 { LEFT_OUT_ON_14 } else { &[LEFT_OUT] };
        assert_eq!(warnings(&restored), expected);
        if major == 14 {
            let error = report(&restored.databases, "kept").error.as_ref().unwrap();
            assert_eq!(
                error.message,
                "PostgreSQL 14 has no role pg_maintain, which the database refers to"
            );
            let member = "SELECT pg_has_role('lead', 'staff', 'MEMBER'), pg_has_role('worker', 'staff', 'MEMBER')";
            assert_eq!(target.sql("postgres", member), "t|f");
        }
    }
}

#[tokio::test]
async fn what_a_newer_target_lacks_is_left_out_and_who_may_create_still_may() {
    let (source, target) = (
        TestServer::start(13, &[]),
        TestServer::start(18, &["shared_preload_libraries = 'auto_explain'"]),
    );
    for statement in [
        "CREATE ROLE worker",
        "CREATE DATABASE shop",
        "ALTER DATABASE shop SET operator_precedence_warning TO on",
        "ALTER DATABASE shop SET work_mem TO '8MB'",
        "CREATE DATABASE closed",
        // Accepted by any server that has not loaded the library, and by no other.
        "ALTER DATABASE shop SET auto_explain.gone TO 'secret'",
    ] {
        source.sql("postgres", statement);
    }
    source.sql("closed", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    back_up(&backup_of(way_to(&source, &dir), &[]), &backup).await.unwrap();
    let options = restore_to(way_to(&target, &dir), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(
        warnings(&restored),
        [
            "setting operator_precedence_warning of database shop is left out: \
          unrecognized configuration parameter \"operator_precedence_warning\"",
            "setting auto_explain.gone of database shop is left out: \
          invalid configuration parameter name \"auto_explain.gone\""
        ]
    );
    let may = "SELECT has_schema_privilege('worker', 'public', 'CREATE')";
    assert_eq!((target.sql("shop", may), target.sql("closed", may)), ("t".into(), "f".into()));
    assert_eq!(target.sql("shop", "SHOW work_mem"), "8MB");
}

#[tokio::test]
async fn limits_that_only_the_target_knows_do_not_end_a_load() {
    let source = TestServer::start(15, &[]);
    source.sql("postgres", "CREATE DATABASE shop");
    // An index that takes longer than a transaction may.
    for statement in [
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_catalog.pg_sleep(0.04)'",
        "CREATE TABLE busy AS SELECT g FROM generate_series(1, 40) g",
        "CREATE INDEX ON busy (slow(g))",
    ] {
        source.sql("shop", statement);
    }
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    back_up(&backup_of(way_to(&source, &dir), &["shop"]), &backup).await.unwrap();
    let limits = ["transaction_timeout = '500ms'", "idle_session_timeout = '500ms'"];
    let target = TestServer::start(17, &limits);
    // A repository that thinks longer than a session may be idle.
    backup.at("tables/public/busy", || std::thread::sleep(std::time::Duration::from_secs(1)));
    let options = restore_to(way_to(&target, &dir), &[("shop", "shop")]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
}

#[tokio::test]
async fn without_a_superuser_what_cannot_be_is_known_before_the_data_is_loaded() {
    let (source, target) = (TestServer::start(17, &[]), TestServer::start(14, &[]));
    for server in [&source, &target] {
        server.sql("postgres", "CREATE ROLE app LOGIN CREATEDB PASSWORD 'app'");
    }
    for name in ["logged", "shop"] {
        source.sql("postgres", &format!("CREATE DATABASE {name} OWNER app"));
        source.sql(
            name,
            "CREATE TABLE app_table AS SELECT 1 AS a; ALTER TABLE app_table OWNER TO app",
        );
    }
    // Nobody but a superuser may set it.
    source.sql("postgres", "ALTER DATABASE logged SET log_min_duration_statement TO 0");
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    back_up(&backup_of(way_to(&source, &dir), &["logged", "shop"]), &backup).await.unwrap();

    let way = way_to(&target, &dir);
    let by_app = connection_as(&target, dir.path(), "app", "app");
    let way = ServerConnection { access: by_app.access, ..way };
    let options = restore_to(way, &[("logged", "logged"), ("shop", "shop")]);
    let restored = put_back(&options, &backup).await.unwrap();
    let error = report(&restored.databases, "logged").error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::PermissionDenied, "{error}");
    assert!(error.message.contains("log_min_duration_statement"), "{error}");
    let read = backup.read.lock().unwrap().clone();
    assert!(!read.iter().any(|name| name.starts_with("databases/logged/tables")), "{read:?}");
    assert_eq!(target.databases(), ["postgres", "shop"]);
    assert_eq!(
        warnings(&restored),
        ["in database shop everybody may create in schema public, as in every new one of \
          PostgreSQL 14; a superuser can end that: REVOKE CREATE ON SCHEMA public FROM PUBLIC"]
    );
}
