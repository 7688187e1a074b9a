use std::path::Path;

use dbbackup_contract::{AccessMode, Bandwidth, EncryptionAccess, RepositoryAccess, StorageAccess};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::progress::ProgressBoard;

/// Lets a replay hear these lines, and says what `then` makes of it.
fn hear<T>(lines: &[&str], then: impl FnOnce(&mut Replay<'_>, Result<bool, Failure>) -> T) -> T {
    let access = RepositoryAccess {
        name: "main".into(),
        storage: StorageAccess::Volume { path: String::new(), claim: None },
        encryption: EncryptionAccess::None {},
        expected_id: None,
        mode: AccessMode::ReadOnly,
        bandwidth: Bandwidth::default(),
    };
    let (board, cancel) = (ProgressBoard::silent(), CancellationToken::new());
    let order = Order::by_hand(&access, Duration::from_secs(60), &board, &cancel);
    let expected = Expected {
        data_dir: Path::new("/none"),
        version: "17.11",
        record: 0x400_0068,
        end: 0x400_0090,
        timeline: 1,
    };
    let mut replay = Replay::new(&order, &expected);
    let heard = lines.iter().try_fold(false, |_, line| replay.heard(line));
    then(&mut replay, heard)
}

const BEGINS: &str = "LOG:  redo starts at 0/2000028";
const STOPS: &str = "LOG:  recovery stopping after WAL location (LSN) \"0/4000068\"";
const TIMELINE: &str = "LOG:  selected new timeline ID: 2";
const COMPLETE: &str = "LOG:  archive recovery complete";
const READY: &str = "LOG:  database system is ready to accept connections";

#[test]
fn a_server_that_says_all_of_it_is_shut_down_and_has_arrived() {
    hear(&[BEGINS, STOPS, TIMELINE, COMPLETE, READY], |replay, heard| {
        assert!(heard.unwrap());
        replay.is_stopping = true;
        let reached = replay.ended(Some(0), None).unwrap();
        assert_eq!((reached.lsn.as_str(), reached.timeline), ("0/4000090", 2));
    });
}

#[test]
fn a_server_that_ends_anywhere_else_has_missed() {
    let elsewhere = "LOG:  recovery stopping after WAL location (LSN) \"0/40000A0\"";
    let before = "LOG:  recovery stopping before WAL location (LSN) \"0/4000068\"";
    let same = "LOG:  selected new timeline ID: 1";
    for lines in [
        [BEGINS, elsewhere].as_slice(),
        &[BEGINS, before],
        &[READY],
        &[BEGINS, TIMELINE, COMPLETE, READY],
        &[BEGINS, STOPS, COMPLETE, READY],
        &[BEGINS, STOPS, same, COMPLETE, READY],
        &[BEGINS, STOPS, TIMELINE, READY],
    ] {
        let failure = hear(lines, |_, heard| heard.unwrap_err());
        assert_eq!(failure.reason, Reason::TargetMissed, "{lines:?}");
        assert!(failure.message.contains("0/4000068"), "{failure}");
    }
}

#[test]
fn a_server_that_ends_by_itself_is_told_of_by_its_last_complaints() {
    let ended = |lines: &[&str], code, signal| {
        hear(lines, |replay, heard| {
            heard.unwrap();
            replay.ended(code, signal).unwrap_err()
        })
    };
    let early = "FATAL:  recovery ended before configured recovery target was reached";
    let failure = ended(&["ERROR:  1", "ERROR:  2", "ERROR:  3", early], Some(1), None);
    assert_eq!(failure.reason, Reason::RecoveryFailed);
    assert!(failure.message.ends_with(&early.replace("  ", " ")), "{failure}");
    assert!(!failure.message.contains("ERROR: 1"), "{failure}");
    let full = "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device";
    assert_eq!(ended(&[full], None, Some(6)).reason, Reason::VolumeTooSmall);
    let library = "FATAL:  could not access file \"timescaledb\": No such file or directory";
    assert_eq!(ended(&[library], Some(1), None).reason, Reason::ServerImageUnsuitable);
    assert_eq!(ended(&[], None, Some(9)).reason, Reason::ChildKilled);
    // Ready, and gone before anybody has told it to go.
    let gone = ended(&[BEGINS, STOPS, TIMELINE, COMPLETE], Some(0), None);
    assert_eq!(gone.reason, Reason::RecoveryFailed);
}

#[test]
fn another_major_version_is_refused_with_both() {
    let found = |version: &str| FoundProgram {
        program: "/usr/bin/postgres".to_owned(),
        version: version.to_owned(),
    };
    for version in ["postgres (PostgreSQL) 17.6 (Debian 17.6-1)", "postgres (PostgreSQL) 17beta2"] {
        suitable(found(version), "17.11").unwrap();
    }
    for version in ["postgres (PostgreSQL) 16.9", "postgres (PostgreSQL)", ""] {
        let failure = suitable(found(version), "17.11").unwrap_err();
        assert_eq!(failure.reason, Reason::ServerImageUnsuitable);
        assert!(failure.message.contains(version) && failure.message.contains("17.11"));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_stall_unless_the_control_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("global/pg_control");
    std::fs::create_dir(control.parent().unwrap()).unwrap();
    std::fs::write(&control, "1").unwrap();
    let (mut life, limit) = (Life::of(folder.path()), Duration::from_secs(60));
    life.look(limit).unwrap();
    tokio::time::advance(limit * 2).await;
    let earlier = SystemTime::now() - Duration::from_secs(5);
    std::fs::File::open(&control).unwrap().set_modified(earlier).unwrap();
    life.look(limit).unwrap();
    tokio::time::advance(limit / 2).await;
    life.sign();
    tokio::time::advance(limit / 2).await;
    life.look(limit).unwrap();
    tokio::time::advance(limit).await;
    assert_eq!(life.look(limit).unwrap_err().reason, Reason::Stalled);
}
