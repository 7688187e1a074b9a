//! What `pg_dump` does not write, or not for everybody: it is kept all the same,
//! or named, or refused before the dump begins.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::nasty::similar_asserts;
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    report, restore_to,
};

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
