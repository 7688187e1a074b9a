//! Archiving under load: nothing that was called kept is missing when it is replayed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dbbackup_contract::Reason;
use dbbackup_postgres::{
    ArchiveOptions, QUIET_AFTER, RecoveryAction, RecoveryRequest, RecoveryTarget,
    RestoreFilesOptions, TimelineChoice, archive_log, drop_slot, recover_files, restore_files,
};
use serde_json::Value;
use support::logs::{Archiver, MemoryArchive, Watcher, base_of, based_at};
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
            "Quiet" => {}
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
    let told = archiver.gaps();
    archiver.stop().await;
    let gaps = archive.log().gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(told, [(gaps[0].start.clone(), gaps[0].end.clone(), 1)]);
    assert!(gaps[0].after.is_some(), "{gaps:?}");
    assert!(archive.log().unbroken_since() > Some(gaps[0].time));
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

/// Says something in the database; where the log ends then, as a target.
fn note(server: &TestServer, text: &str) -> RecoveryTarget {
    server.sql("shop", &format!("INSERT INTO notes (text) VALUES ('{text}')"));
    let lsn = server.sql("shop", "SELECT pg_current_wal_flush_lsn()");
    RecoveryTarget::Position { lsn, inclusive: false }
}

/// Lets the log grow by some ranges.
fn fill(server: &TestServer) {
    let rows = "SELECT repeat(md5(g::text), 30) FROM generate_series(1, 40000) g";
    server.sql("shop", &format!("CREATE TABLE filler AS {rows}; DROP TABLE filler"));
}

/// All that was said.
const NOTES: &str = "SELECT string_agg(text, ' ' ORDER BY id) FROM notes";

/// A server that was recovered from an archive, and is a primary.
async fn recovered(
    base: &MemoryBackup,
    archive: &MemoryArchive,
    timeline: TimelineChoice,
    target: RecoveryTarget,
) -> TestServer {
    let server = TestServer::unborn(17);
    let options = RestoreFilesOptions { data_dir: server.path(""), tablespace_dir: None };
    let request = RecoveryRequest { target, timeline, action: RecoveryAction::Promote };
    let (parts, log, never) = (archive.writer(), archive.log(), CancellationToken::new());
    recover_files(&options, &request, base, &parts, &log, &Silent, &never).await.unwrap();
    server.give_to_postgres();
    server.boot();
    while server.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server
}

/// The same, of which the log goes into the archive that it came from: it says something, and
/// where that ends is given, too. Two archivers, one after the other.
async fn goes_on(
    base: &MemoryBackup,
    archive: &MemoryArchive,
    (timeline, target): (TimelineChoice, RecoveryTarget),
    text: &str,
) -> (TestServer, RecoveryTarget) {
    let server = recovered(base, archive, timeline, target).await;
    let dir = tempfile::tempdir().unwrap();
    let archiver = Archiver::start(connection(&server, dir.path()), archive);
    let said = note(&server, text);
    archiver.catch_up(&server).await;
    archiver.stop().await;
    let archiver = Archiver::start(connection(&server, dir.path()), archive);
    fill(&server);
    archiver.catch_up(&server).await;
    archiver.stop().await;
    (server, said)
}

/// A server with its archive and a base; it has said `a` before that, then `b`, `c` and `d`. Where
/// `b` and `c` end.
async fn said_abcd(archive: &MemoryArchive) -> (TestServer, MemoryBackup, [RecoveryTarget; 2]) {
    let server = TestServer::start(17, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let archiver = Archiver::start(connection(&server, dir.path()), archive);
    note(&server, "a");
    let base = base_of(connection(&server, dir.path())).await;
    let b = note(&server, "b");
    fill(&server);
    let c = note(&server, "c");
    fill(&server);
    note(&server, "d");
    archiver.catch_up(&server).await;
    archiver.stop().await;
    (server, base, [b, c])
}

#[tokio::test(flavor = "multi_thread")]
async fn recoveries_to_points_before_those_of_others_are_archived_each_from_where_it_began() {
    let archive = MemoryArchive::default();
    let (server, base, [b, c]) = said_abcd(&archive).await;
    server.stop();
    let latest = TimelineChoice::Latest;
    let (server, two) = goes_on(&base, &archive, (latest, c), "two").await;
    server.stop();
    // Before the second timeline began, and again on the second, when there is a third.
    let along_1 = TimelineChoice::Number(1);
    let (server, _) = goes_on(&base, &archive, (along_1, b), "three").await;
    assert_eq!(server.sql("shop", NOTES), "a b three");
    server.stop();
    let along_2 = TimelineChoice::Number(2);
    let (server, _) = goes_on(&base, &archive, (along_2, two), "four").await;
    assert_eq!(server.sql("shop", NOTES), "a b c two four");
    server.stop();

    let parts = archive.parts();
    let histories = parts.values().filter(|(about, _)| about["kind"] == "History");
    let number = |about: &Value, name: &str| about[name].as_u64().unwrap();
    let forks = histories.map(|(about, _)| (number(about, "before"), number(about, "timeline")));
    assert_eq!(forks.collect::<Vec<_>>(), [(1, 2), (1, 3), (2, 4)]);
    assert_eq!(archive.log().gaps(), []);
    let said = ["a b c d", "a b c two", "a b three", "a b c two four"];
    for (timeline, said) in (1..).zip(said) {
        let along = TimelineChoice::Number(timeline);
        let server = recovered(&base, &archive, along, RecoveryTarget::Latest).await;
        assert_eq!(server.sql("shop", NOTES), said, "along {timeline}");
    }
}

/// Why a server is not archived. It had no slot before, and has none then.
async fn refusal(server: &TestServer, archive: &MemoryArchive) -> Reason {
    let dir = tempfile::tempdir().unwrap();
    let way = connection(server, dir.path());
    drop_slot(&way, "dbbackup_test").await.unwrap();
    let options = ArchiveOptions {
        server: way,
        slot: "dbbackup_test".to_owned(),
        max_lag: Duration::from_millis(200),
        quiet_after: QUIET_AFTER,
    };
    let (mut writer, watcher, never) =
        (archive.writer(), Watcher::default(), CancellationToken::new());
    let ended = archive_log(&options, &mut writer, &watcher, &never).await;
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_replication_slots"), "0");
    ended.unwrap_err().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_followed_is_left_without_a_slot() {
    let archive = MemoryArchive::default();
    let (first, base, [b, c]) = said_abcd(&archive).await;
    goes_on(&base, &archive, (TimelineChoice::Latest, c), "two").await;
    assert_eq!(refusal(&first, &archive).await, Reason::ServerGoneAway);
    first.stop();

    let third = recovered(&base, &archive, TimelineChoice::Number(1), b).await;
    // For an archive that began on the second timeline.
    let parts = archive.parts();
    let of_2 = |(_, (about, _)): &(u32, (Value, Bytes))| about["timeline"] == 2;
    let began_late = MemoryArchive::default();
    began_late.0.lock().unwrap().extend(parts.into_iter().filter(of_2));
    assert_eq!(refusal(&third, &began_late).await, Reason::TimelineForeign);
}

/// Quiet parts of an archive, by their numbers.
fn quiet_parts(archive: &MemoryArchive) -> Vec<(u32, Value)> {
    let parts = archive.parts().into_iter().map(|(number, (about, _))| (number, about));
    parts.filter(|(_, about)| about["kind"] == "Quiet").collect()
}

/// Waits until the archive says once more that nothing happens.
async fn next_quiet(archive: &MemoryArchive, before: Option<u32>) -> (u32, Value) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let last = quiet_parts(archive).pop();
        if let Some((number, about)) = last
            && Some(number) > before
        {
            return (number, about);
        }
        assert!(tokio::time::Instant::now() < limit, "it says nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nothing_happens_is_one_part_and_is_merged_with_what_comes_around_it() {
    let server = TestServer::start(17, &["wal_level = replica", "autovacuum = off"]);
    create_notes(&server);
    server.sql("postgres", "SELECT pg_switch_wal()");
    let dir = tempfile::tempdir().unwrap();
    let archive = MemoryArchive::default();
    let quiet_after = Duration::from_millis(500);
    let way = || connection(&server, dir.path());
    let archiver = Archiver::start_quiet_after(way(), &archive, quiet_after);
    server.sql("shop", "INSERT INTO notes (text) VALUES ('a')");
    archiver.catch_up(&server).await;
    // Each takes the place of the one before it, also across archivers.
    let (first, about) = next_quiet(&archive, None).await;
    let (second, later) = next_quiet(&archive, Some(first)).await;
    assert!(about["clock"].as_str() < later["clock"].as_str(), "{about} {later}");
    if about["at"] == later["at"] {
        assert!(!archive.parts().contains_key(&first));
    }
    archiver.stop().await;
    let archiver = Archiver::start_quiet_after(way(), &archive, quiet_after);
    let (third, about) = next_quiet(&archive, Some(second)).await;
    if about["at"] == later["at"] {
        // It names the first of all whose place it takes.
        let expected = later.get("replaces").cloned().unwrap_or_else(|| second.into());
        assert_eq!(about["replaces"], expected);
    }
    let kept_time = archive.log().kept_time().unwrap();
    assert_eq!(kept_time.to_string(), about["clock"].as_str().unwrap());
    assert!(archiver.state().unwrap().kept_time >= Some(kept_time));

    // The log goes on; a file of it becomes full, and is one part without what was between.
    server.sql("shop", "INSERT INTO notes (text) VALUES ('b')");
    archiver.catch_up(&server).await;
    let (last, _) = next_quiet(&archive, Some(third)).await;
    server.sql("postgres", "SELECT pg_switch_wal()");
    server.sql("shop", "INSERT INTO notes (text) VALUES ('c')");
    archiver.catch_up(&server).await;
    archiver.stop().await;
    let parts = archive.parts();
    assert!(!parts.contains_key(&last) && !parts.contains_key(&third));
    let mut ends: Option<Value> = None;
    for (about, _) in parts.values().filter(|(about, _)| about["kind"] == "Wal") {
        assert!(ends.is_none_or(|end| end == about["start"]), "{about}");
        ends = Some(about["end"].clone());
    }
    assert!(archive.log().kept_time() > Some(kept_time));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_goes_on_though_the_log_before_the_last_base_was_deleted() {
    let server = TestServer::start(17, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let way = || connection(&server, dir.path());
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(way(), &archive);
    for _ in 0..6 {
        let rows = "SELECT repeat(md5(g::text), 30) FROM generate_series(1, 15000) g";
        server.sql("shop", &format!("INSERT INTO notes (text) {rows}"));
    }
    archiver.catch_up(&server).await;
    let (base, start) = based_at(way()).await;
    archiver.catch_up(&server).await;
    archiver.stop().await;
    let unneeded = archive.log().unneeded(&[start]);
    assert!(unneeded.len() >= 2, "{unneeded:?} of {}", archive.parts().len());
    archive.0.lock().unwrap().retain(|number, _| Some(number) > unneeded.last());
    let archiver = Archiver::start(way(), &archive);
    server.sql("shop", "INSERT INTO notes (text) VALUES ('x')");
    let expected = server.sql("shop", COUNT);
    archiver.catch_up(&server).await;
    archiver.stop().await;
    let recovered = with_log(17, &base, &archive).await;
    recovered.boot();
    assert_eq!(recovered.sql("shop", COUNT), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_dropped_when_its_archiver_has_ended_and_no_other_kind_of_slot_is() {
    let server = TestServer::start(17, &["wal_level = logical"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let way = || connection(&server, dir.path());
    let slots =
        || server.sql("postgres", "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots");
    assert!(!drop_slot(&way(), "dbbackup_test").await.unwrap(), "there is none");
    let archive = MemoryArchive::default();
    let archiver = Archiver::start(way(), &archive);
    archiver.catch_up(&server).await;
    // It ends a moment later.
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        archiver.stop().await;
    };
    let began = std::time::Instant::now();
    let (dropped, ()) = tokio::join!(async { drop_slot(&way(), "dbbackup_test").await }, stop);
    assert!(dropped.unwrap());
    assert!((1..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(slots(), "");

    server
        .sql("postgres", "SELECT pg_create_logical_replication_slot('dbbackup_test', 'pgoutput')");
    let failure = drop_slot(&way(), "dbbackup_test").await.unwrap_err();
    assert_eq!(failure.reason, Reason::InvalidSpec, "{failure}");
    assert_eq!(slots(), "dbbackup_test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_an_archiver_that_does_not_end_is_ended_and_that_of_another_program_is_named()
 {
    let server = TestServer::start(17, &["wal_level = replica"]);
    create_notes(&server);
    let dir = tempfile::tempdir().unwrap();
    let way = || connection(&server, dir.path());
    let archiver = Archiver::start(way(), &MemoryArchive::default());
    archiver.catch_up(&server).await;
    assert!(drop_slot(&way(), "dbbackup_test").await.unwrap());
    for _ in 0..100 {
        if archiver.has_ended() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(archiver.has_ended(), "its connection was ended");

    server.sql("postgres", "SELECT pg_create_physical_replication_slot('dbbackup_test', true)");
    let _other = server.receive_log("dbbackup_test");
    let in_use = "SELECT count(*) FROM pg_replication_slots WHERE active";
    while server.sql("postgres", in_use) != "1" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let failure = drop_slot(&way(), "dbbackup_test").await.unwrap_err();
    assert!(failure.is_retryable(), "{failure:?}");
    assert!(failure.message.contains("application \"pg_receivewal\""), "{failure}");
    assert_eq!(server.sql("postgres", in_use), "1");
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
