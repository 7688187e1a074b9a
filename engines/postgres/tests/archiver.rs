//! Archiving under load: nothing that was called kept is missing when it is replayed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dbbackup_postgres::{RestoreFilesOptions, restore_files};
use serde_json::Value;
use support::logs::{Archiver, MemoryArchive, base_of};
use support::{MemoryBackup, Silent, TestServer, connection};
use tokio_util::sync::CancellationToken;

/// The log in the files that the server knows.
fn write_to(archive: &MemoryArchive, folder: &Path) {
    for (about, bytes) in archive.parts().values() {
        let timeline = about["timeline"].as_u64().unwrap();
        match about["kind"].as_str().unwrap() {
            "History" => {
                std::fs::write(folder.join(format!("{timeline:08X}.history")), bytes).unwrap();
            }
            "Wal" => write_wal(folder, timeline, about, bytes),
            kind => panic!("{kind}"),
        }
    }
}

/// A server that is yet to be started on a base, with all of the archived log.
async fn with_log(major: u32, base: &MemoryBackup, archive: &MemoryArchive) -> TestServer {
    let recovered = TestServer::unborn(major);
    let options = RestoreFilesOptions { data_dir: recovered.path(""), tablespace_dir: None };
    restore_files(&options, base, &Silent, &CancellationToken::new()).await.unwrap();
    write_to(archive, &recovered.path("pg_wal"));
    recovered.give_to_postgres();
    recovered
}

fn lsn(text: &Value) -> u64 {
    let (high, low) = text.as_str().unwrap().split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

fn write_wal(folder: &Path, timeline: u64, about: &Value, bytes: &Bytes) {
    let (start, size) = (lsn(&about["start"]), about["segmentBytes"].as_u64().unwrap());
    assert_eq!(lsn(&about["end"]) - start, bytes.len() as u64, "{about}");
    let (number, each) = (start / size, (1 << 32) / size);
    let name = |timeline| format!("{timeline:08X}{:08X}{:08X}", number / each, number % each);
    let path = folder.join(name(timeline));
    if !path.exists() && !start.is_multiple_of(size) && timeline > 1 {
        // A timeline begins within a file: what is before it is the same.
        std::fs::copy(folder.join(name(timeline - 1)), &path).unwrap();
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(false).open(path).unwrap();
    file.set_len(size).unwrap();
    file.seek(SeekFrom::Start(start % size)).unwrap();
    file.write_all(bytes).unwrap();
}

fn create_notes(server: &TestServer) {
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE notes (id bigserial PRIMARY KEY, text text)");
}

fn load(server: &TestServer) -> support::server::Held {
    server.hold_running(
        "shop",
        "DO $$ BEGIN FOR i IN 1..10000000 LOOP
             INSERT INTO notes (text) SELECT repeat(md5(random()::text), 30) FROM generate_series(1, 10); COMMIT;
             PERFORM pg_sleep(0.001); END LOOP; END $$",
    )
}

/// What is there, as one line.
const COUNT: &str = "SELECT count(*) || ' ' || sum(hashtext(text)::bigint * id) FROM notes";

/// The server goes on with what a client has begun until it is told.
async fn end_load(server: &TestServer) {
    let at_it = "FROM pg_stat_activity WHERE query LIKE 'DO %'";
    server.sql("postgres", &format!("SELECT pg_terminate_backend(pid) {at_it}"));
    while server.sql("postgres", &format!("SELECT count(*) {at_it}")) != "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn replays_all(major: u32) {
    let server = TestServer::start(major, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    let loaded = load(&server);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let base = base_of(connection(&server, dir.path())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    // Another archiver goes on where the first one ended, in the middle of a range.
    archiver.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(loaded);
    end_load(&server).await;
    let expected = server.sql("shop", COUNT);
    archiver.catch_up(&server).await;
    archiver.stop().await;
    let kept = server.sql("postgres", "SELECT restart_lsn IS NOT NULL FROM pg_replication_slots");
    assert_eq!(kept, "t");

    let recovered = with_log(major, &base, &archive).await;
    recovered.boot();
    assert_eq!(recovered.sql("shop", COUNT), expected);
    let parts = archive.parts();
    let full = parts.values().filter(|(_, bytes)| bytes.len() == 16 << 20).count();
    assert!(full >= 2, "{full} full ranges of {} parts", parts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_13_that_was_kept_is_replayed() {
    replays_all(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_15_that_was_kept_is_replayed() {
    replays_all(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_18_that_was_kept_is_replayed() {
    replays_all(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_nothing_happens_and_what_happens_is_kept_in_time() {
    let server = TestServer::start(17, &["wal_level = replica", "autovacuum = off"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    archiver.catch_up(&server).await;
    server.sql("shop", "INSERT INTO notes (text) VALUES ('x')");
    server.sql("shop", "SELECT pg_create_restore_point('before it')");
    archiver.catch_up(&server).await;
    // The background writer notes now and then what runs, after a change.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (parts, named) = {
        let parts = archive.parts();
        let named = |(about, _): &&(Value, Bytes)| about.to_string().contains("before it");
        (parts.len(), parts.values().filter(named).count())
    };
    assert_eq!(named, 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(archive.parts().len() <= parts + 1, "it writes though nothing happens");
    archiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_said_with_its_bounds_and_what_comes_behind_it_is_kept() {
    let server = TestServer::start(
        17,
        &[
            "wal_level = replica",
            "max_slot_wal_keep_size = 16MB",
            "max_wal_size = 32MB",
            "min_wal_size = 32MB",
        ],
    );
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    archiver.catch_up(&server).await;
    archiver.stop().await;
    for _ in 0..6 {
        server.sql(
            "shop",
            "INSERT INTO notes (text) SELECT repeat('x', 1000) FROM generate_series(1, 20000)",
        );
        server.sql("shop", "SELECT pg_switch_wal(); CHECKPOINT");
    }
    let status = "SELECT wal_status FROM pg_replication_slots";
    assert_eq!(server.sql("postgres", status), "lost");
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    archiver.catch_up(&server).await;
    assert_eq!(server.sql("postgres", status), "reserved");
    archiver.stop().await;
    let parts = archive.parts();
    let parts: Vec<&Value> = parts.values().map(|(about, _)| about).collect();
    let gap = parts.iter().position(|about| about["kind"] == "Gap").unwrap();
    assert_eq!(parts[gap]["start"], parts[gap - 1]["end"]);
    assert_eq!(parts[gap]["end"], parts[gap + 1]["start"]);
    assert_eq!(parts.iter().filter(|about| about["kind"] == "Gap").count(), 1);
}

/// A standby of a server, from a base.
fn standby_of(server: &TestServer, base: &MemoryBackup) -> impl Future<Output = TestServer> {
    let standby = TestServer::unborn(server.major);
    let (port, base) = (server.port, base.clone());
    async move {
        let options = RestoreFilesOptions { data_dir: standby.path(""), tablespace_dir: None };
        restore_files(&options, &base, &Silent, &CancellationToken::new()).await.unwrap();
        let settings = format!(
            "primary_conninfo = 'host=127.0.0.1 port={port} user=postgres password=secret'\n"
        );
        standby.give_to_postgres();
        standby.write("postgresql.auto.conf", &settings);
        standby.write("standby.signal", "");
        standby.boot();
        standby
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_to_the_new_timeline() {
    let server = TestServer::start(17, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(connection(&server, dir.path()), &archive);
    let insert = "INSERT INTO notes (text) SELECT repeat('x', 500) FROM generate_series(1, 5000)";
    server.sql("shop", insert);
    let base = base_of(connection(&server, dir.path())).await;
    let standby = standby_of(&server, &base).await;
    server.sql("shop", insert);
    let written = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
    let has = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
    while standby.sql("postgres", &has) != "t" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    archiver.catch_up(&server).await;
    // The archive has what the standby never gets.
    standby.write("postgresql.auto.conf", "");
    standby.reload();
    while standby.sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") != "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.sql("shop", "INSERT INTO notes (text) VALUES ('lost with the primary')");
    archiver.catch_up(&server).await;
    archiver.stop().await;
    server.stop();
    standby.sql("postgres", "SELECT pg_promote()");
    standby.sql("shop", insert);

    let archiver = Archiver::start(connection(&standby, dir.path()), &archive);
    archiver.catch_up(&standby).await;
    let count = "SELECT count(*) || ' ' || max(text) FROM notes";
    let expected = standby.sql("shop", count);
    assert!(expected.starts_with("15000 x"), "{expected}");
    archiver.stop().await;
    let recovered = with_log(17, &base, &archive).await;
    recovered.write("postgresql.auto.conf", "restore_command = 'false'\n");
    recovered.write("recovery.signal", "");
    recovered.boot();
    while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(recovered.sql("shop", count), expected);
}

/// Rounds of kills; a longer run is asked for by `DBBACKUP_ROUNDS`.
fn rounds() -> usize {
    std::env::var("DBBACKUP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_the_server_and_of_the_archiver_lose_nothing() {
    let server = TestServer::start(17, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let way = || connection(&server, dir.path());
    let archive = MemoryArchive::default();
    let mut archiver = Archiver::start(way(), &archive);
    let base = base_of(way()).await;
    let mut random = 0x9E37_79B9_u32;
    for round in 0..rounds() {
        let loaded = load(&server);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(u64::from(random >> 22))).await;
        if random & (1 << 16) == 0 {
            server.stop();
            drop(loaded);
            server.boot();
        } else {
            drop(loaded);
            end_load(&server).await;
        }
        if random & (1 << 17) == 0 {
            archiver.kill().await;
            archiver = Archiver::start(way(), &archive);
        } else if archiver.has_ended() {
            // Whoever runs it runs it again.
            archiver = Archiver::start(way(), &archive);
        }
        server.sql("shop", &format!("INSERT INTO notes (text) VALUES ('round {round}')"));
    }
    if archiver.has_ended() {
        archiver = Archiver::start(way(), &archive);
    }
    archiver.catch_up(&server).await;
    let expected = server.sql("shop", COUNT);
    archiver.stop().await;
    let recovered = with_log(17, &base, &archive).await;
    recovered.boot();
    assert_eq!(recovered.sql("shop", COUNT), expected);
}
