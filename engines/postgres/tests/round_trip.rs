//! What was backed up comes back equal, by `pg_dump -C` of both sides and by row digests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use dbbackup_contract::DatabaseOutcome;
use support::nasty::{NASTY, PREFIX, make_nasty, prepare_target, row_digests, similar_asserts};
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    report, restore_to,
};

/// Settings of a server that read or write text otherwise than others do.
const OWN_WAYS: &[&str] = &[
    "array_nulls = off",
    "transform_null_equals = on",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = sql_standard",
    "bytea_output = escape",
    "lc_monetary = 'en_IN.utf8'",
    "timezone = 'Asia/Kolkata'",
    "default_transaction_isolation = serializable",
    "xmloption = document",
    "quote_all_identifiers = on",
];

#[tokio::test]
async fn a_nasty_database_comes_back_equal_with_its_properties_and_roles() {
    let (source, target) = (TestServer::start(17, &[]), TestServer::start(17, OWN_WAYS));
    make_nasty(&source, 17);
    prepare_target(&target);
    source.sql(NASTY, "SELECT lo_from_bytea(7, decode(repeat('00ff5c0a', 2000000), 'hex'))");
    source.sql(
        NASTY,
        "INSERT INTO app.bytes VALUES ('much', decode(repeat('0a5c2e0d', 5000000), 'hex'))",
    );
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&source, dir.path()), &[]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    assert_eq!(made.databases[0].name, NASTY, "the largest first");
    assert_eq!(
        made.server.version,
        source.sql("postgres", "SHOW server_version").split(' ').next().unwrap()
    );
    assert_eq!(
        made.server.identity,
        source.sql("postgres", "SELECT system_identifier FROM pg_control_system()")
    );
    assert_eq!(made.position.as_ref().unwrap().timeline, 1);

    let options = restore_to(connection(&target, dir.path()), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(report(&restored.databases, "postgres").outcome, DatabaseOutcome::Skipped);
    let nasty = report(&restored.databases, NASTY);
    assert_eq!(nasty.outcome, DatabaseOutcome::Succeeded);
    assert_eq!(nasty.rows, report(&made.databases, NASTY).rows);
    dbbackup_postgres::settle(&options, &restored.placed).await.unwrap();

    similar_asserts(&source.dump(NASTY), &target.dump(NASTY));
    similar_asserts(&row_digests(&source, NASTY), &row_digests(&target, NASTY));
    similar_asserts(&source.roles(), &target.roles());
    assert_eq!(source.databases(), target.databases());
}

#[tokio::test]
async fn a_digest_is_that_of_what_copy_gives_and_streams_keep_their_names() {
    let server = TestServer::start(17, &[]);
    make_nasty(&server, 17);
    let dir = tempfile::tempdir().unwrap();
    let options = backup_of(connection(&server, dir.path()), &["shop*"]);
    let (monday, tuesday) = (MemoryBackup::default(), MemoryBackup::default());
    back_up(&options, &monday).await.unwrap();
    server.sql(NASTY, "INSERT INTO app.events VALUES ('2024-05-05', 1, 'more')");
    back_up(&options, &tuesday).await.unwrap();

    let odd =
        format!("{PREFIX}tables/Odd%20Schema%3B%20drop/t%C3%A0ble%20%22q%22%20%25%20%2F%20..");
    assert!(monday.names().contains(&odd), "{:#?}", monday.names());
    assert_eq!(monday.names(), tuesday.names());
    let changed: Vec<_> =
        monday.names().into_iter().filter(|n| monday.get(n) != tuesday.get(n)).collect();
    let expected: Vec<_> = ["database.json", "layout.json", "tables/app/events_2024_1"]
        .map(|name| format!("{PREFIX}{name}"))
        .into();
    assert_eq!(changed, expected, "an unchanged schema has an unchanged prelude");

    let layout = monday.json(&format!("{PREFIX}layout.json"));
    let blocks = layout["blocks"].as_array().unwrap();
    let everything = blocks.iter().find(|block| block["name"] == "everything").unwrap();
    assert_eq!(everything["rows"], 3002);
    let columns = server.sql(
        NASTY,
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'app.everything'::regclass AND attnum > 0 AND attgenerated = ''",
    );
    let copied = dir.path().join("copied");
    server.sql_with(
        NASTY,
        "",
        &format!("\\copy app.everything ({columns}) TO '{}'", copied.to_str().unwrap()),
    );
    let output = std::process::Command::new("sha256sum").arg(&copied).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    assert_eq!(everything["sha256"], digest.split(' ').next().unwrap());
}

#[tokio::test]
async fn several_databases_come_back_under_other_names_beside_the_live_ones() {
    let server = TestServer::start(17, &[]);
    for name in ["crm", "shop"] {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql(
            name,
            &format!("CREATE TABLE t AS SELECT '{name}' AS n, g FROM generate_series(1, 9) g"),
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    back_up(&backup_of(connection(&server, dir.path()), &["crm", "sh?p"]), &backup).await.unwrap();
    let options =
        restore_to(connection(&server, dir.path()), &[("crm", "crm_on_friday"), ("shop", "shop2")]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    dbbackup_postgres::settle(&options, &restored.placed).await.unwrap();
    assert_eq!(server.databases(), ["crm", "crm_on_friday", "postgres", "shop", "shop2"]);
    let renamed = server.dump("crm_on_friday");
    similar_asserts(&server.dump("crm"), &renamed.replace("crm_on_friday", "crm"));
}

#[tokio::test]
async fn a_dump_of_version_15_is_read_too_and_restored_to_17() {
    let (old, new) = (TestServer::start(15, &[]), TestServer::start(17, &[]));
    make_nasty(&old, 15);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let made =
        back_up(&backup_of(connection(&old, dir.path()), &["shop*"]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    prepare_target(&new);
    let options = restore_to(connection(&new, dir.path()), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    similar_asserts(&row_digests(&old, NASTY), &row_digests(&new, NASTY));

    // And by 17's clients, whose script names a setting that 15 lacks. They say of every
    // subscription of 15 what only 16 understands.
    for name in ["\"from; nowhere\"", "idle"] {
        old.sql(NASTY, &format!("ALTER SUBSCRIPTION {name} DISABLE"));
        old.sql(NASTY, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"));
        old.sql(NASTY, &format!("DROP SUBSCRIPTION {name}"));
    }
    let again = TestServer::start(15, &[]);
    prepare_target(&again);
    let mut by_new_clients = connection(&old, dir.path());
    by_new_clients.clients = connection(&new, dir.path()).clients;
    let backup = MemoryBackup::default();
    back_up(&backup_of(by_new_clients.clone(), &["shop*"]), &backup).await.unwrap();
    let mut target = connection(&again, dir.path());
    target.clients = by_new_clients.clients;
    let options = restore_to(target, &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    dbbackup_postgres::settle(&options, &restored.placed).await.unwrap();
    similar_asserts(&old.dump(NASTY), &again.dump(NASTY));
}

#[tokio::test]
async fn encodings_and_locales_of_every_provider_come_back() {
    let (source, target) = (TestServer::start(17, &[]), TestServer::start(17, &[]));
    let databases = [
        ("icu", "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&a < g'"),
        ("builtin", "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
        ("latin", "ENCODING 'LATIN1' LC_COLLATE 'de_DE.iso88591' LC_CTYPE 'de_DE.iso88591'"),
        ("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C'"),
        ("template", "IS_TEMPLATE true"),
    ];
    for (name, options) in databases {
        source.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {options}"));
        source.sql(name, "CREATE TABLE t (a text); INSERT INTO t VALUES ('x')");
    }
    source.sql("latin", "INSERT INTO t VALUES ('größe')");
    // Bytes that are no text in any encoding.
    source.sql("ascii", "INSERT INTO t VALUES (E'\\xff\\xfe')");
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let names = databases.map(|(name, _)| name);
    let made = back_up(&backup_of(connection(&source, dir.path()), &names), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    let options = restore_to(connection(&target, dir.path()), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(restored.databases.len(), names.len());
    dbbackup_postgres::settle(&options, &restored.placed).await.unwrap();
    for name in names {
        similar_asserts(&source.dump(name), &target.dump(name));
        let rows = "SELECT encode(a::bytea, 'hex') FROM t";
        if name == "ascii" {
            assert_eq!(source.sql(name, rows), target.sql(name, rows));
        }
    }
}
