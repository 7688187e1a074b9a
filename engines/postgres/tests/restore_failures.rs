//! A restore that cannot be done says why before anything is created; one that
//! fails or is killed leaves nothing in place and nothing behind that a retry
//! would not take up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_contract::{DatabaseOutcome, Failure, GlobalsPolicy, Reason};
use dbbackup_postgres::{RestoreOptions, settle};
use support::{
    MemoryBackup, Silent, TestServer, assert_all_succeeded, back_up, backup_of, connection,
    connection_as, killed_at, put_back, report, restore_to, scratch_of,
};
use tokio_util::sync::CancellationToken;

const SHOP: &str = "
    CREATE ROLE shop_owner;
    CREATE DATABASE shop OWNER shop_owner;
    COMMENT ON DATABASE shop IS 'the shop'";

/// A server with a database `shop`, and its backup.
async fn shop(dir: &std::path::Path) -> (TestServer, MemoryBackup) {
    let server = TestServer::start(17, &[]);
    for statement in SHOP.split(';') {
        server.sql("postgres", statement);
    }
    server.sql(
        "shop",
        "CREATE TABLE items AS SELECT g, 'item ' || g AS name FROM generate_series(1, 5000) g",
    );
    server.sql("shop", "CREATE TABLE orders AS SELECT g FROM generate_series(1, 77) g");
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir), &["shop"]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    (server, backup)
}

fn all_databases(server: &TestServer) -> Vec<String> {
    let names = server.databases();
    names.into_iter().filter(|name| name != "postgres").collect()
}

/// The failure of the only database of a restore.
async fn failed(options: &RestoreOptions, backup: &MemoryBackup) -> Failure {
    let restored = put_back(options, backup).await.unwrap();
    assert_eq!(restored.databases.len(), 1);
    assert_eq!(restored.databases[0].outcome, DatabaseOutcome::Failed);
    assert!(restored.placed.is_empty());
    restored.databases[0].error.clone().unwrap()
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);

    let same = restore_to(connection(&server, dir.path()), &[("shop", "shop")]);
    assert_eq!(failed(&same, &backup).await.reason, Reason::DatabaseExists);

    let edited = |edit: &dyn Fn(&mut serde_json::Value), file: &str| {
        let backup = backup.copy();
        backup.change(&format!("databases/shop/{file}"), |bytes| {
            let mut json = serde_json::from_slice(bytes).unwrap();
            edit(&mut json);
            *bytes = serde_json::to_vec(&json).unwrap();
        });
        backup
    };
    let table: [(&str, &str, &str, Reason); 5] = [
        ("layout.json", "/needs/extensions", "[\"nosuch\"]", Reason::ExtensionNotAvailable),
        ("layout.json", "/needs/tablespaces", "[\"nosuch\"]", Reason::TablespaceNotFound),
        ("layout.json", "/needs/owners", "[\"nobody\"]", Reason::RoleNotFound),
        ("layout.json", "/serverVersion", "\"99.1\"", Reason::VersionUnsupported),
        ("database.json", "/properties/collate", "\"xx_XX.utf8\"", Reason::LocaleNotAvailable),
    ];
    for (file, pointer, value, reason) in table {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        let backup = edited(&|json| *json.pointer_mut(pointer).unwrap() = value.clone(), file);
        let failure = failed(&options, &backup).await;
        assert_eq!(failure.reason, reason, "{pointer}: {failure}");
    }

    let missing = backup.copy();
    missing.streams.lock().unwrap().remove("databases/shop/tables/public/orders");
    let failure = put_back(&options, &missing).await.unwrap_err();
    assert_eq!(failure.reason, Reason::StreamNotFound);

    let twice = restore_to(connection(&server, dir.path()), &[("shop", "x"), ("shop", "x")]);
    assert_eq!(put_back(&twice, &backup).await.unwrap_err().reason, Reason::InvalidSpec);
    let unknown = restore_to(connection(&server, dir.path()), &[("shpo", "x")]);
    assert_eq!(put_back(&unknown, &backup).await.unwrap_err().reason, Reason::DatabaseNotFound);

    server.sql("postgres", "CREATE ROLE weak LOGIN PASSWORD 'weak'");
    let weak = connection_as(&server, dir.path(), "weak", "weak");
    let failure = put_back(&restore_to(weak.clone(), &[("shop", "x")]), &backup).await.unwrap_err();
    assert_eq!(failure.reason, Reason::PermissionDenied);
    server.sql("postgres", "ALTER ROLE weak CREATEDB");
    let failure = failed(&restore_to(weak, &[("shop", "x")]), &backup).await;
    assert_eq!(failure.reason, Reason::PermissionDenied);
    assert_eq!(failure.message, "our role may not make objects for postgres, shop_owner");
    assert_eq!(all_databases(&server), ["shop"]);
}

#[tokio::test]
async fn extensions_that_only_a_superuser_creates_are_refused_before_anything_is_created() {
    for major in [13, 17] {
        let dir = tempfile::tempdir().unwrap();
        let server = TestServer::start(major, &[]);
        server.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'maker'");
        server.sql("postgres", "CREATE DATABASE shop OWNER maker");
        // The second is trusted: the owner of a database may create it there.
        for extension in ["postgres_fdw", "hstore", "pageinspect"] {
            server.sql("shop", &format!("CREATE EXTENSION {extension}"));
        }
        let make = "CREATE TABLE items (a int); ALTER TABLE items OWNER TO maker";
        make.split(';').for_each(|sql| drop(server.sql("shop", sql)));
        let backup = MemoryBackup::default();
        back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await.unwrap();
        let by = |way| {
            let mut options = restore_to(way, &[("shop", "shop2")]);
            options.globals = GlobalsPolicy::Skip;
            options.no_owner = true;
            options
        };
        let maker = || by(connection_as(&server, dir.path(), "maker", "maker"));
        for options in [maker(), RestoreOptions { dry_run: true, ..maker() }] {
            let restored = put_back(&options, &backup).await.unwrap();
            let refused = match options.dry_run {
                true => restored.refused.unwrap().1,
                false => restored.databases[0].error.clone().unwrap(),
            };
            assert_eq!(refused.reason, Reason::PermissionDenied, "{major}: {refused}");
            assert_eq!(
                refused.message,
                "role maker may not create the extensions pageinspect, postgres_fdw: the target \
                 wants a superuser for them"
            );
            assert!(refused.hint.starts_with("Restore by a superuser"), "{}", refused.hint);
            assert_eq!(all_databases(&server), ["shop"]);
        }
        server.sql("shop", "DROP EXTENSION postgres_fdw, pageinspect");
        let backup = MemoryBackup::default();
        back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await.unwrap();
        assert_all_succeeded(&put_back(&maker(), &backup).await.unwrap().databases);
        let has = "SELECT count(*) FROM pg_extension WHERE extname = 'hstore'";
        assert_eq!(server.sql("shop2", has), "1");
    }
}

#[tokio::test]
async fn roles_that_are_missing_are_refused_or_made_and_those_that_exist_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = shop(dir.path()).await;
    source.sql("postgres", "CREATE ROLE parent; GRANT parent TO shop_owner; CREATE ROLE bystander");
    let backup = MemoryBackup::default();
    back_up(&backup_of(connection(&source, dir.path()), &["shop"]), &backup).await.unwrap();
    let target = TestServer::start(17, &[]);
    let mut options = restore_to(connection(&target, dir.path()), &[("shop", "shop")]);
    options.globals = GlobalsPolicy::Skip;
    let failure = failed(&options, &backup).await;
    assert_eq!(failure.reason, Reason::RoleNotFound);
    assert_eq!(failure.message, "the target lacks the roles shop_owner");
    assert!(all_databases(&target).is_empty());

    target.sql("postgres", "CREATE ROLE parent CREATEDB");
    options.globals = GlobalsPolicy::Merge;
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    let globals = restored.globals.unwrap();
    // postgres and parent exist; bystander has nothing to do with the database.
    assert_eq!((globals.created, globals.kept), (1, 2));
    let roles = "SELECT string_agg(rolname || rolcreatedb, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'";
    assert_eq!(target.sql("postgres", roles), "parenttrue postgrestrue shop_ownerfalse");
    assert_eq!(target.sql("postgres", "SELECT pg_has_role('shop_owner', 'parent', 'MEMBER')"), "t");
}

#[tokio::test]
async fn damage_puts_nothing_in_place_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    // A row with another letter is good SQL: only the digest tells.
    let changed = backup.copy();
    changed.change("databases/shop/tables/public/items", |bytes| {
        let at = bytes.windows(4).position(|w| w == b"item").unwrap();
        bytes[at] = b'I';
    });
    let failure = failed(&options, &changed).await;
    assert_eq!(failure.reason, Reason::ArchiveDamaged, "{failure}");
    assert_eq!(
        failure.message,
        "the archive is damaged: public.items differs from what was written"
    );

    let prelude = backup.copy();
    prelude.change("databases/shop/prelude", |bytes| {
        let at = bytes.windows(6).position(|w| w == b"CREATE").unwrap();
        bytes[at] = b'X';
    });
    let failure = failed(&options, &prelude).await;
    assert_eq!(failure.reason, Reason::ArchiveDamaged, "{failure}");
    assert_eq!(all_databases(&server), ["shop"]);
}

#[tokio::test]
async fn one_database_that_fails_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = shop(dir.path()).await;
    server.sql("postgres", "CREATE DATABASE broken");
    // A default that cannot be made again: its function looks for a table that is not there.
    for statement in [
        "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "CREATE TABLE t (a int CHECK (f(a) = 1))",
        "INSERT INTO t VALUES (1)",
        "CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2; END'",
    ] {
        server.sql("broken", statement);
    }
    let backup = MemoryBackup::default();
    back_up(&backup_of(connection(&server, dir.path()), &["shop", "broken"]), &backup)
        .await
        .unwrap();
    let options =
        restore_to(connection(&server, dir.path()), &[("broken", "broken2"), ("shop", "shop2")]);
    let restored = put_back(&options, &backup).await.unwrap();
    let broken = report(&restored.databases, "broken").error.as_ref().unwrap();
    assert_eq!(broken.reason, Reason::StatementFailed, "{broken}");
    assert!(broken.message.contains("violates check constraint \"t_a_check\""), "{broken}");
    assert!(!broken.message.contains("Failing row"), "{broken}");
    assert_eq!(report(&restored.databases, "shop").outcome, DatabaseOutcome::Succeeded);
    assert_eq!(all_databases(&server), ["broken", "shop", "shop2"]);
}

#[tokio::test]
async fn a_restore_that_was_killed_at_any_step_is_taken_up_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    let untouched = server.dump("shop").replace("shop", "shop2");
    let comment =
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop2'";

    // Killed while loading.
    killed_at(&options, &backup, "tables/public/orders").await;
    let scratch = scratch_of(&server);
    let oid = format!("SELECT oid FROM pg_database WHERE datname = '{scratch}'");
    let first = server.sql("postgres", &oid);

    // Killed between creating the database and marking it.
    server.sql("postgres", &format!("COMMENT ON DATABASE {scratch} IS NULL"));
    killed_at(&options, &backup, "tables/public/orders").await;
    assert_eq!(scratch_of(&server), scratch);
    assert_ne!(server.sql("postgres", &oid), first, "what was half loaded was dropped");

    // And now through, but killed before the outcome was told.
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(all_databases(&server), ["shop", "shop2"]);
    let again = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&again.databases);
    assert_eq!(again.databases[0].rows, 5077);

    // Killed between loading and renaming: nothing is loaded again.
    server.sql("postgres", &format!("ALTER DATABASE shop2 RENAME TO {scratch}"));
    let reader = backup.copy();
    let again = put_back(&options, &reader).await.unwrap();
    assert_all_succeeded(&again.databases);
    assert!(!reader.read.lock().unwrap().iter().any(|name| name.contains("/tables/")));
    assert_eq!(all_databases(&server), ["shop", "shop2"]);

    // Told, and settled: from now on it is nobody's but the owner's.
    assert!(server.sql("postgres", comment).starts_with("dbbackup restore "));
    settle(&options, &again.placed).await.unwrap();
    settle(&options, &again.placed).await.unwrap();
    assert_eq!(server.sql("postgres", comment), "the shop");
    assert_eq!(
        server.dump("shop2"),
        untouched.replace("the shop2", "the shop").replace("shop2_owner", "shop_owner")
    );
    assert_eq!(failed(&options, &backup).await.reason, Reason::DatabaseExists);
    assert_eq!(server.dump("shop").replace("shop", "shop2"), untouched);
}

#[tokio::test]
async fn a_scratch_database_of_somebody_else_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    killed_at(&options, &backup, "tables/public/orders").await;
    let scratch = scratch_of(&server);
    for foreign in [
        format!("COMMENT ON DATABASE {scratch} IS 'dbbackup restore another: loading'"),
        format!(
            "COMMENT ON DATABASE {scratch} IS NULL; ALTER DATABASE {scratch} CONNECTION LIMIT -1"
        ),
    ] {
        for statement in foreign.split(';') {
            server.sql("postgres", statement);
        }
        let failure = failed(&options, &backup).await;
        assert_eq!(failure.reason, Reason::ScratchNotOurs);
        assert!(failure.message.contains(&scratch), "{failure}");
        assert_eq!(scratch_of(&server), scratch);
    }
}

#[tokio::test]
async fn two_restores_to_one_name_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    let mut other = options.clone();
    other.request_uid = "another".to_owned();
    let slow = backup.copy();
    *slow.hangs_at.lock().unwrap() = Some("tables/public/orders".to_owned());
    let cancel = CancellationToken::new();
    let first = dbbackup_postgres::restore(&other, &slow, &Silent, &cancel);
    let second = async {
        while !slow.read.lock().unwrap().iter().any(|name| name.ends_with("orders")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let restored = put_back_beside(&options, &backup).await;
        assert_eq!(restored.reason, Reason::RestoreInProgress);
        assert!(restored.is_retryable());
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = first => ended,
        () = second => unreachable!(),
    };
    assert_eq!(ended.unwrap_err().reason, Reason::Interrupted);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
}

/// As `failed`, while another run has files of its own in the scratch folder.
async fn put_back_beside(options: &RestoreOptions, backup: &MemoryBackup) -> Failure {
    let cancel = CancellationToken::new();
    dbbackup_postgres::restore(options, backup, &Silent, &cancel).await.unwrap_err()
}

#[tokio::test]
async fn a_restore_whose_lock_is_lost_stops_and_a_retry_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = shop(dir.path()).await;
    let options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    let slow = backup.copy();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dbbackup'";
    slow.at("tables/public/orders", server.later("postgres", end));
    *slow.hangs_at.lock().unwrap() = Some("tables/public/orders".to_owned());
    let failure = put_back(&options, &slow).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerGoneAway, "{failure}");
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(all_databases(&server), ["shop", "shop2"]);
}

#[tokio::test]
async fn a_source_that_gives_nothing_is_a_stall_but_a_busy_server_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = shop(dir.path()).await;
    // An index whose making takes longer than the limit.
    server.sql("shop", "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_catalog.pg_sleep(0.06)'");
    server.sql("shop", "CREATE TABLE busy AS SELECT g FROM generate_series(1, 60) g");
    server.sql("shop", "CREATE INDEX ON busy (slow(g))");
    let backup = MemoryBackup::default();
    back_up(&backup_of(connection(&server, dir.path()), &["shop"]), &backup).await.unwrap();
    let mut options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    options.server.stall_timeout = Duration::from_secs(1);
    let slow = backup.copy();
    *slow.hangs_at.lock().unwrap() = Some("tables/public/orders".to_owned());
    let failure = failed(&options, &slow).await;
    assert_eq!(failure.reason, Reason::Stalled, "{failure}");
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
}
