//! What `pg_dump` does not write, or not for everybody: it is kept all the same,
//! or named, or refused before the dump begins.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use dbbackup_contract::{DatabaseOutcome, Reason};
use dbbackup_postgres::{RestoreOptions, ServerConnection};
use support::nasty::similar_asserts;
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, connection_as,
    put_back, report, restore_to, scratch_of,
};

/// A server with a database `shop`, what `sql` makes in it, and a role that may read all.
fn shop(major: u32, sql: &[&str]) -> TestServer {
    let server = TestServer::start(major, &[]);
    server.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'reader'");
    server.sql("postgres", "CREATE DATABASE shop");
    for statement in sql {
        server.sql("shop", statement);
    }
    server
}

async fn backup_by(way: ServerConnection) -> (MemoryBackup, Vec<String>) {
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(way, &["shop"]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    (backup, made.databases[0].warnings.clone())
}

async fn refusal_of(way: ServerConnection) -> String {
    let made = back_up(&backup_of(way, &["shop"]), &MemoryBackup::default()).await.unwrap();
    let error = made.databases[0].error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::PermissionDenied, "{error}");
    error.message.clone()
}

#[tokio::test]
async fn what_is_not_in_a_backup_is_named() {
    for major in [13, 18] {
        let server = shop(
            major,
            &[
                "CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2)",
                "CREATE TABLE parted (a int) PARTITION BY LIST (a)",
                "CREATE TABLE part PARTITION OF parted DEFAULT",
                // Not valid, and written down all the same.
                "CREATE INDEX on_root ON ONLY parted (a)",
                "CREATE EXTENSION postgres_fdw",
                "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
                "CREATE USER MAPPING FOR reader SERVER far OPTIONS (password 'secret')",
                "CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'secret')",
                "CREATE FUNCTION pg_catalog.helper(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE DOMAIN pg_catalog.positive AS int",
            ],
        );
        for number in 1..=4 {
            let sql = format!("CREATE UNIQUE INDEX CONCURRENTLY broken_{number} ON twice (a)");
            assert!(!server.try_sql("shop", &sql).0);
        }
        server.sql(
            "postgres",
            "SET allow_system_table_mods = on; INSERT INTO pg_shseclabel \
             SELECT oid, 'pg_database'::regclass, 'provider', 'label' FROM pg_database \
             WHERE datname = 'shop'",
        );
        let dir = tempfile::tempdir().unwrap();
        let (backup, warnings) = backup_by(connection(&server, dir.path())).await;
        let of_all = [
            "not in the backup, because they are not valid: indexes public.broken_1, \
             public.broken_2, public.broken_3 and 1 more",
            "not in the backup, because they are in the schema pg_catalog: \
             pg_catalog.helper(integer), pg_catalog.positive",
            "not in the backup: the security labels of the database itself",
        ];
        assert_eq!(warnings, of_all);
        let restore = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
        assert_all_succeeded(&put_back(&restore, &backup).await.unwrap().databases);
        assert_eq!(server.sql("shop2", "SELECT count(*) FROM pg_user_mappings"), "2");
        let lost = "SELECT to_regclass('broken_1'), to_regproc('pg_catalog.helper')";
        assert_eq!(server.sql("shop2", lost), "|");

        server.sql("shop", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
        let reader = connection_as(&server, dir.path(), "reader", "reader");
        let (backup, warnings) = backup_by(reader).await;
        let hidden = "2 user mappings are in the backup without their options (passwords): only a \
                      superuser may read them";
        assert_eq!(warnings.last().unwrap(), hidden);
        // What is there of the secret is nothing.
        let prelude = String::from_utf8_lossy(&backup.get("databases/shop/prelude")).into_owned();
        assert!(prelude.contains("CREATE USER MAPPING") && !prelude.contains("secret"));
    }
}

#[tokio::test]
async fn what_a_standby_has_not_is_named() {
    let server = shop(
        17,
        &[
            "CREATE UNLOGGED TABLE fast (id serial, a int)",
            "INSERT INTO fast (a) VALUES (1), (2)",
            "CREATE TABLE safe AS SELECT 1 AS a",
            "CHECKPOINT",
        ],
    );
    server.stop();
    server.write("standby.signal", "");
    server.boot();
    let dir = tempfile::tempdir().unwrap();
    let (backup, warnings) = backup_by(connection(&server, dir.path())).await;
    let named = "not in the backup, because a standby has no rows of what is unlogged: \
                 public.fast, public.fast_id_seq";
    assert_eq!(warnings, [named]);
    let target = TestServer::start(17, &[]);
    let restore = restore_to(connection(&target, dir.path()), &[("shop", "shop")]);
    assert_all_succeeded(&put_back(&restore, &backup).await.unwrap().databases);
    let rows = "SELECT (SELECT count(*) FROM fast), (SELECT count(*) FROM safe)";
    assert_eq!(target.sql("shop", rows), "0|1");
}

#[tokio::test]
async fn what_may_not_be_read_is_refused_before_the_dump() {
    let server = shop(
        17,
        &[
            "CREATE ROLE writer",
            "SELECT lo_from_bytea(n, 'x') FROM generate_series(100, 101) n",
            "ALTER LARGE OBJECT 101 OWNER TO writer",
        ],
    );
    server.install_extension();
    server.sql("shop", "CREATE EXTENSION dbbackup_nasty");
    server.sql("shop", "INSERT INTO nasty_settings VALUES ('ours', '1')");
    // Policies of the root hide nothing of what is read: the partitions.
    for statement in [
        "CREATE TABLE parted (a int) PARTITION BY LIST (a)",
        "CREATE TABLE part PARTITION OF parted DEFAULT",
        "INSERT INTO parted VALUES (1)",
        "ALTER TABLE parted ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON parted, part TO reader",
    ] {
        server.sql("shop", statement);
    }
    let dir = tempfile::tempdir().unwrap();
    let reader = || connection_as(&server, dir.path(), "reader", "reader");
    let of_extension = "permission denied for table public.nasty_settings";
    let refused = refusal_of(reader()).await;
    assert!(refused.contains("nasty_settings") && refused.contains("nasty_numbers"), "{refused}");
    assert!(!refused.contains("nasty_private"), "{refused}");
    server.sql("shop", "GRANT SELECT ON SEQUENCE nasty_numbers TO reader");
    assert_eq!(refusal_of(reader()).await, of_extension);
    server.sql("shop", "GRANT SELECT ON nasty_settings TO reader");

    let refused = refusal_of(reader()).await;
    assert_eq!(refused, "permission denied for 2 large objects, the first is 100");
    server.sql("shop", "GRANT writer TO reader");
    assert_eq!(refusal_of(reader()).await, "permission denied for large object 100");
    server.sql("shop", "GRANT SELECT ON LARGE OBJECT 100 TO PUBLIC");
    let (backup, warnings) = backup_by(reader()).await;
    assert_eq!(warnings, [""; 0]);
    let layout = backup.json("databases/shop/layout.json");
    let rows = |name: &str| {
        let blocks = layout["blocks"].as_array().unwrap();
        blocks.iter().find(|block| block["name"] == name).map(|block| block["rows"].clone())
    };
    assert_eq!(rows("nasty_settings").unwrap(), 1);
    assert_eq!(rows("nasty_private"), None);
    assert_eq!(rows("part").unwrap(), 1);
}

#[tokio::test]
async fn what_a_new_database_has_and_this_one_had_not_is_dropped() {
    let server = shop(17, &["DROP SCHEMA public", "DROP EXTENSION plpgsql"]);
    server.sql("shop", "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a");
    let dir = tempfile::tempdir().unwrap();
    let (backup, _) = backup_by(connection(&server, dir.path())).await;
    for major in [13, 14, 17] {
        let target = TestServer::start(major, &[]);
        let restore = restore_to(connection(&target, dir.path()), &[("shop", "shop")]);
        let restore = with_clients_of(&server, restore);
        let restored = put_back(&restore, &backup).await.unwrap();
        assert_all_succeeded(&restored.databases);
        assert_eq!(restored.databases[0].warnings, [""; 0]);
        let has =
            "SELECT to_regnamespace('public'), (SELECT count(*) FROM pg_extension), a FROM s.t";
        assert_eq!(target.sql("shop", has), "|0|1", "{major}");
    }
    // Who is no superuser owns the one, and not the other.
    let target = TestServer::start(17, &[]);
    target.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'maker'");
    for statement in ["ALTER DATABASE shop OWNER TO maker", "CREATE ROLE maker"] {
        let _ = server.try_sql("postgres", statement);
    }
    server.sql("postgres", "ALTER DATABASE shop OWNER TO maker");
    server.sql("shop", "ALTER SCHEMA s OWNER TO maker; ALTER TABLE s.t OWNER TO maker");
    let (backup, _) = backup_by(connection(&server, dir.path())).await;
    let maker = connection_as(&target, dir.path(), "maker", "maker");
    let mut restore = restore_to(maker, &[("shop", "shop")]);
    restore.globals = dbbackup_contract::GlobalsPolicy::Skip;
    let restored = put_back(&restore, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(
        restored.databases[0].warnings,
        ["it has EXTENSION plpgsql, which it had not: only a superuser can drop it"]
    );
    assert_eq!(target.sql("shop", "SELECT to_regnamespace('public'), a FROM s.t"), "|1");
}

/// The image's way: an archive is read by clients that are not older than what wrote it.
fn with_clients_of(server: &TestServer, restore: RestoreOptions) -> RestoreOptions {
    let clients = dbbackup_postgres::ClientFolders::new(vec![server.clients()]);
    RestoreOptions { server: ServerConnection { clients, ..restore.server }, ..restore }
}

#[tokio::test]
async fn amounts_of_money_are_read_as_they_were_written_or_not_at_all() {
    let server = shop(17, &["CREATE TABLE paid (price money)"]);
    server.sql("postgres", "ALTER DATABASE shop SET lc_monetary TO 'de_DE.utf8'");
    server.sql("shop", "SET lc_monetary = 'C'; INSERT INTO paid VALUES ('1234.56')");
    let dir = tempfile::tempdir().unwrap();
    let (backup, _) = backup_by(connection(&server, dir.path())).await;
    let rows = String::from_utf8(backup.get("databases/shop/tables/public/paid")).unwrap();
    assert!(rows.contains("1.234,56 €"), "{rows}");
    let restore = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    assert_all_succeeded(&put_back(&restore, &backup).await.unwrap().databases);
    assert_eq!(server.sql("shop2", "SELECT price::numeric FROM paid"), "1234.56");

    let mut document = backup.json("databases/shop/database.json");
    assert_eq!(document["unwritten"]["lcMonetary"], "de_DE.utf8");
    document["unwritten"]["lcMonetary"] = "xx_XX.utf8".into();
    backup.change("databases/shop/database.json", |bytes| {
        *bytes = serde_json::to_vec(&document).unwrap();
    });
    let restore = restore_to(connection(&server, dir.path()), &[("shop", "shop3")]);
    let restored = put_back(&restore, &backup).await.unwrap();
    let error = restored.databases[0].error.as_ref().unwrap();
    assert_eq!(error.reason, Reason::LocaleNotAvailable, "{error}");
    assert!(error.message.contains("xx_XX.utf8"), "{error}");
    assert_eq!(server.databases(), ["postgres", "shop", "shop2"]);
}

#[tokio::test]
async fn a_database_with_subscriptions_that_fails_late_is_dropped_and_its_slots_are_left_alone() {
    // Nothing listens there: whoever asked for the slot would hear that.
    let server = shop(
        18,
        &[
            "CREATE SUBSCRIPTION far CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p \
             WITH (connect = false, slot_name = 'its_slot')",
            "CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
            "CREATE MATERIALIZED VIEW filled AS SELECT public.fails()",
            "CREATE OR REPLACE FUNCTION fails() RETURNS int LANGUAGE plpgsql \
             AS $$BEGIN RAISE 'no'; END$$",
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let (backup, _) = backup_by(connection(&server, dir.path())).await;
    let restore = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    let restored = put_back(&restore, &backup).await.unwrap();
    assert_eq!(report(&restored.databases, "shop").outcome, DatabaseOutcome::Failed);
    assert_eq!(server.databases(), ["postgres", "shop"]);

    // The same of a restore that is gone, beside event triggers that would have their say.
    let stream = "tables/public/late";
    server.sql("shop", "DROP MATERIALIZED VIEW filled; CREATE TABLE late AS SELECT 1 AS a");
    let (backup, _) = backup_by(connection(&server, dir.path())).await;
    let gone = RestoreOptions { request_uid: "gone".to_owned(), ..restore.clone() };
    support::killed_at(&gone, &backup, stream).await;
    let scratch = scratch_of(&server);
    for statement in [
        "CREATE SUBSCRIPTION again CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p \
         WITH (connect = false, slot_name = 'its_slot')",
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql \
         AS $$BEGIN RAISE 'no'; END$$",
        "CREATE EVENT TRIGGER comes ON login EXECUTE FUNCTION forbid()",
        "ALTER EVENT TRIGGER comes ENABLE ALWAYS",
        "CREATE EVENT TRIGGER forbids ON ddl_command_start EXECUTE FUNCTION forbid()",
    ] {
        server.sql_with(&scratch, "-c event_triggers=off", statement);
    }
    let restored = put_back(&restore, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(restored.left_behind.len(), 1, "{:?}", restored.left_behind);
    assert_eq!(server.databases(), ["postgres", "shop", "shop2"]);
    assert!(!server.log().contains("could not connect to the publisher"), "{}", server.log());
}

#[tokio::test]
async fn names_of_other_encodings_come_back_and_stay_apart() {
    let server = TestServer::start(17, &[]);
    let databases = [
        ("latin", "ENCODING 'LATIN1' LC_COLLATE 'de_DE.iso88591' LC_CTYPE 'de_DE.iso88591'"),
        ("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C'"),
    ];
    let names = "DO $$DECLARE name text; BEGIN \
        FOREACH name IN ARRAY ARRAY[E'gr\\xfc\\xdfe', E'gr\\xf6\\xdfe', E'\\xe4', E'\\xf6'] LOOP \
            EXECUTE format('CREATE TABLE %I AS SELECT %L AS a', name, name); \
            EXECUTE format('CREATE SEQUENCE %I', name || '_s'); \
            EXECUTE format('COMMENT ON TABLE %I IS %L', name, name); \
        END LOOP; END$$";
    for (name, options) in databases {
        server.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {options}"));
        let encoding = if name == "latin" { "LATIN1" } else { "SQL_ASCII" };
        server.sql_with(name, &format!("-c client_encoding={encoding}"), names);
    }
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let options = backup_of(connection(&server, dir.path()), &["latin", "ascii"]);
    assert_all_succeeded(&back_up(&options, &backup).await.unwrap().databases);
    let streams = backup.names();
    for (name, _) in databases {
        let table = format!("databases/{name}/tables/public/gr%FC%DFe");
        assert!(streams.contains(&table), "{streams:#?}");
    }
    let again = [("latin", "latin2"), ("ascii", "ascii2")];
    let restore = restore_to(connection(&server, dir.path()), &again);
    let restored = put_back(&restore, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    dbbackup_postgres::settle(&restore, &restored.placed).await.unwrap();
    for (name, again) in again {
        assert_eq!(report(&restored.databases, name).tables, 4);
        similar_asserts(&server.dump(name), &server.dump(again).replace(again, name));
        let bytes = "SELECT string_agg(relname::bytea::text, ' ' ORDER BY relname::bytea) \
                     FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace = 2200";
        assert_eq!(server.sql(name, bytes), server.sql(again, bytes));
    }
}
