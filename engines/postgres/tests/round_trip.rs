//! What was backed up comes back equal, by `pg_dump -C` of both sides and by row digests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use dbbackup_contract::DatabaseOutcome;
use support::nasty::{NASTY, make_nasty, row_digests, similar_asserts};
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    report, restore_to,
};

#[tokio::test]
async fn a_nasty_database_comes_back_equal_with_its_properties_and_roles() {
    let (source, target) = (TestServer::start(17, &[]), TestServer::start(17, &[]));
    make_nasty(&source, 17);
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
    dbbackup_postgres::settle(&options, &restored).await.unwrap();

    similar_asserts(&source.dump(NASTY), &target.dump(NASTY));
    assert_eq!(row_digests(&source, NASTY), row_digests(&target, NASTY));
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

    let prefix = "databases/shop-%221%22%20gr%C3%B6%C3%9Fe%3B%20drop/";
    let odd =
        format!("{prefix}tables/Odd%20Schema%3B%20drop/t%C3%A0ble%20%22q%22%20%25%20%2F%20..");
    assert!(monday.names().contains(&odd), "{:#?}", monday.names());
    assert_eq!(monday.names(), tuesday.names());
    let changed: Vec<_> =
        monday.names().into_iter().filter(|n| monday.get(n) != tuesday.get(n)).collect();
    let expected: Vec<_> = ["database.json", "layout.json", "tables/app/events_2024_1"]
        .map(|name| format!("{prefix}{name}"))
        .into();
    assert_eq!(changed, expected, "an unchanged schema has an unchanged prelude");

    let layout = monday.json(&format!("{prefix}layout.json"));
    let blocks = layout["blocks"].as_array().unwrap();
    let everything = blocks.iter().find(|block| block["name"] == "everything").unwrap();
    assert_eq!(everything["rows"], 3002);
    let columns = server.sql(
        NASTY,
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'app.everything'::regclass AND attnum > 0 AND attgenerated = ''",
    );
    let copied = dir.path().join("copied");
    server.sql(
        NASTY,
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
    dbbackup_postgres::settle(&options, &restored).await.unwrap();
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
    let options = restore_to(connection(&new, dir.path()), &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(row_digests(&old, NASTY), row_digests(&new, NASTY));

    // And by 17's clients, whose script names a setting that 15 lacks.
    let again = TestServer::start(15, &[]);
    let mut by_new_clients = connection(&old, dir.path());
    by_new_clients.clients = connection(&new, dir.path()).clients;
    let backup = MemoryBackup::default();
    back_up(&backup_of(by_new_clients.clone(), &["shop*"]), &backup).await.unwrap();
    let mut target = connection(&again, dir.path());
    target.clients = by_new_clients.clients;
    let options = restore_to(target, &[]);
    let restored = put_back(&options, &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    dbbackup_postgres::settle(&options, &restored).await.unwrap();
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
    dbbackup_postgres::settle(&options, &restored).await.unwrap();
    for name in names {
        similar_asserts(&source.dump(name), &target.dump(name));
        let rows = "SELECT encode(a::bytea, 'hex') FROM t";
        if name == "ascii" {
            assert_eq!(source.sql(name, rows), target.sql(name, rows));
        }
    }
}

/// Joins the streams as `docs/postgresql.md` says, by nothing of ours.
fn joined(backup: &MemoryBackup, prefix: &str) -> Vec<u8> {
    let layout = backup.json(&format!("{prefix}layout.json"));
    let mut archive = backup.get(&format!("{prefix}prelude"));
    let at = usize::try_from(layout["prelude"]["dateAt"].as_u64().unwrap()).unwrap();
    let date = layout["prelude"]["date"].as_str().unwrap();
    let date = (0..date.len()).step_by(2).map(|i| u8::from_str_radix(&date[i..i + 2], 16).unwrap());
    archive.splice(at..at, date);
    for block in layout["blocks"].as_array().unwrap() {
        archive.push(if block["kind"] == "Table" { 1 } else { 3 });
        archive.push(0);
        let number = u32::try_from(block["dumpId"].as_u64().unwrap()).unwrap();
        archive.extend_from_slice(&number.to_le_bytes());
        archive.extend_from_slice(&backup.get(block["stream"].as_str().unwrap()));
    }
    archive
}

#[tokio::test]
async fn the_streams_join_to_exactly_what_pg_dump_wrote() {
    use std::os::unix::fs::PermissionsExt;
    for major in [15, 16, 17, 18] {
        let server = TestServer::start(major, &[]);
        make_nasty(&server, major);
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join(format!("clients/{major}/bin"));
        std::fs::create_dir_all(&bin).unwrap();
        let raw = dir.path().join("raw");
        let real = server.clients().join(format!("{major}/bin"));
        for program in ["pg_dump", "pg_restore", "psql"] {
            let (real, raw) = (real.join(program), raw.display());
            let script = format!("#!/bin/sh\n{} \"$@\" | tee {raw}\n", real.display());
            std::fs::write(bin.join(program), script).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(bin.join(program), mode).unwrap();
        }
        let mut way = connection(&server, dir.path());
        way.clients = dbbackup_postgres::ClientFolders::new(vec![dir.path().join("clients")]);
        let backup = MemoryBackup::default();
        let made = back_up(&backup_of(way, &["shop*"]), &backup).await.unwrap();
        assert_all_succeeded(&made.databases);
        let raw = std::fs::read(raw).unwrap();
        assert!(raw.starts_with(b"PGDMP") && raw.len() > 500_000);
        let prefix = "databases/shop-%221%22%20gr%C3%B6%C3%9Fe%3B%20drop/";
        assert!(joined(&backup, prefix) == raw, "PostgreSQL {major}");
    }
}
