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
    dbbackup_postgres::settle(&restore, &restored).await.unwrap();
    for (name, again) in again {
        assert_eq!(report(&restored.databases, name).tables, 4);
        similar_asserts(&server.dump(name), &server.dump(again).replace(again, name));
        let bytes = "SELECT string_agg(relname::bytea::text, ' ' ORDER BY relname::bytea) \
                     FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace = 2200";
        assert_eq!(server.sql(name, bytes), server.sql(again, bytes));
    }
}
