//! The independent reader (`tests/reader`), which was written from
//! `docs/format.md` alone, reads what this crate writes, byte for byte: what the
//! document says is what is done.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use dbbackup_storage::{MemoryStore, VolumeOptions, VolumeStore};
use serde_json::Value;

use super::fixture::*;
use crate::{Encryption, KeySource, Repository, sha256_hex};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reader/read-repository");
const PASSPHRASE: &str = "correct horse, ünd so weiter";

/// How a repository is opened by both.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    RawKey,
    Passphrase,
    None,
}

impl Access {
    fn encryption(self) -> Encryption {
        match self {
            Self::RawKey => encrypted(),
            Self::Passphrase => {
                let key = KeySource::passphrase("main", PASSPHRASE.as_bytes()).unwrap();
                Encryption::Keys(vec![key])
            }
            Self::None => Encryption::None,
        }
    }

    /// What its key's file holds, and the reader's flag for it.
    fn key_file(self) -> Option<(&'static str, Vec<u8>)> {
        match self {
            Self::RawKey => Some(("--key-file", vec![7; 32])),
            Self::Passphrase => {
                Some(("--passphrase-file", format!("{PASSPHRASE}\r\n").into_bytes()))
            }
            Self::None => None,
        }
    }
}

/// Runs the reader; with `target` it writes the streams there.
fn read(folder: &Path, access: Access, target: Option<&Path>) -> Output {
    let mut command = Command::new(READER);
    let mut key = tempfile::NamedTempFile::new().unwrap();
    if let Some((flag, content)) = access.key_file() {
        key.write_all(&content).unwrap();
        command.arg(flag).arg(key.path());
    }
    command.arg(folder).args(target).output().unwrap()
}

/// What the reader found, and the streams of each snapshot.
fn read_all(folder: &Path, access: Access) -> (Value, Vec<Contents>) {
    let scratch = tempfile::tempdir().unwrap();
    let output = read(folder, access, Some(scratch.path()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{access:?}: {said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let snapshots = found["snapshots"].as_array().unwrap().iter();
    let contents = snapshots.map(|snapshot| {
        let folder = scratch.path().join(snapshot["id"].as_str().unwrap());
        let streams = std::fs::read(folder.join("streams.json")).unwrap();
        let streams: Vec<Value> = serde_json::from_slice(&streams).unwrap();
        (0..)
            .zip(streams)
            .map(|(n, stream): (u32, Value)| {
                let content = std::fs::read(folder.join(n.to_string())).unwrap();
                assert_eq!(stream["length"], content.len());
                (stream["name"].as_str().unwrap().to_owned(), content)
            })
            .collect()
    });
    let contents = contents.collect();
    (found, contents)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0").join(name)
}

#[test]
fn an_independent_reader_reads_the_golden_repositories() {
    for (name, access) in [("encrypted", Access::RawKey), ("clear", Access::None)] {
        let (found, contents) = read_all(&golden(name), access);
        assert_eq!(found["snapshots"].as_array().unwrap().len(), 2);
        for (read, expected) in contents.iter().zip(super::golden::golden_days()) {
            assert_same(read, &expected);
        }
    }
    let (found, contents) = read_all(&golden("lived-in"), Access::RawKey);
    assert_eq!(found["repackings"], 1);
    assert_eq!(contents.len(), super::golden::LIVED_IN_DAYS.len());
    for (read, n) in contents.iter().zip(super::golden::LIVED_IN_DAYS) {
        assert_same(read, &super::golden::lived_in_day(n));
    }
}

/// Several packs a day, tables and recipes in meta objects (but where a passphrase is
/// what is of interest), a day that refers to the packs of the day before, a fenced
/// run, and a reader's heartbeat.
async fn write_repository(folder: &Path, access: Access) -> (Repository, [Contents; 2]) {
    let store = VolumeStore::open(folder.to_owned(), VolumeOptions::default()).await.unwrap();
    let opened = opened(Arc::new(store), &access.encryption()).await.unwrap();
    let repository = opened.repository;
    let mut first = contents(1);
    first.insert("ünïcode / with\nodd characters".into(), noise(71, 1000));
    if access != Access::Passphrase {
        first.insert("large".into(), noise(70, 30_000_000));
        // So many that neither their table nor their recipes fit the head.
        first
            .extend((0..12_000).map(|n| (format!("t/{}", sha256_hex(&noise(n, 8))), noise(n, 40))));
    }
    let days = [first.clone(), changed(&first, 2)];
    for (n, contents) in (1..).zip(&days) {
        back_up(&repository, n, contents).await.unwrap();
    }
    drop(begin(&repository, 9).await.unwrap());
    let fence = Some(crate::TombstoneReason::Inspect);
    repository.resolve_run("c/ns/shop", "run-9", day(9), fence).await.unwrap();
    repository.begin_reading().await.unwrap().end().await.unwrap();
    let key = repository.ledger_key("shop", "back", "digest", "7");
    let report = serde_json::json!({"outcome": "Succeeded"});
    repository.note_carried_out(&key, "uid", "shop/back", report).await.unwrap();
    (repository, days)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_reader_reads_what_this_release_writes() {
    for access in [Access::RawKey, Access::Passphrase, Access::None] {
        let folder = tempfile::tempdir().unwrap();
        let (repository, days) = write_repository(folder.path(), access).await;
        let (found, contents) = read_all(folder.path(), access);
        assert_eq!(found["repositoryId"], repository.id().to_string());
        assert_eq!(found["tombstones"].as_array().unwrap().len(), 1);
        // Three writers, a reader, its heartbeat, and what was carried out.
        assert_eq!(found["notes"].as_array().unwrap().len(), 6, "{}", found["notes"]);
        let list = repository.snapshots(None).await.unwrap();
        let read = found["snapshots"].as_array().unwrap();
        assert_eq!((list.snapshots.len(), read.len()), (2, 2));
        for (snapshot, read) in list.snapshots.iter().zip(read) {
            assert_eq!(read["id"], snapshot.id().as_str());
            assert_eq!(read["about"], serde_json::to_value(snapshot.about()).unwrap());
            assert_eq!(&read["report"], snapshot.report());
            for (what, least) in [("packs", 2), ("metaObjects", 1), ("segmentsOutside", 1)] {
                let found = read[what].as_u64().unwrap();
                assert!(found >= least || access == Access::Passphrase, "{what}: {found}");
            }
        }
        for (read, expected) in contents.iter().zip(&days) {
            assert_same(read, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_reader_finds_what_was_moved() {
    let store = Arc::new(MemoryStore::new());
    let (_, days) = super::repacking::repacked(&store).await;
    let folder = tempfile::tempdir().unwrap();
    super::golden::write_to(folder.path(), store.objects());
    let (found, contents) = read_all(folder.path(), Access::RawKey);
    assert_eq!(found["repackings"], 1);
    assert_eq!(contents.len(), days.len());
    for (read, (_, expected)) in contents.iter().zip(&days) {
        assert_same(read, expected);
    }
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}

/// It proves the document only if it verifies what the document says.
#[test]
fn an_independent_reader_refuses_every_flipped_byte_and_a_wrong_key() {
    for (name, access) in [("encrypted", Access::RawKey), ("clear", Access::None)] {
        let scratch = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(golden(name)).arg(scratch.path()).status();
        assert!(copied.unwrap().success());
        let folder = scratch.path().join(name);
        let wrong = if access == Access::None { Access::RawKey } else { Access::Passphrase };
        // A repository in clear is not opened by a key, and the reverse.
        assert!(!read(&folder, wrong, None).status.success());
        for file in files(&folder) {
            let whole = std::fs::read(&file).unwrap();
            for at in [20, whole.len() - 1] {
                let mut flipped = whole.clone();
                flipped[at] ^= 4;
                std::fs::write(&file, flipped).unwrap();
                let output = read(&folder, access, None);
                assert_eq!(output.status.code(), Some(1), "byte {at} of {}", file.display());
            }
            std::fs::write(&file, whole).unwrap();
        }
        assert!(read(&folder, access, None).status.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_reader_reads_copies() {
    let source = open(Arc::new(MemoryStore::new())).await.unwrap();
    let days = [contents(1), changed(&contents(1), 2)];
    for access in [Access::Passphrase, Access::None] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repository");
        std::fs::create_dir(&path).unwrap();
        let store = VolumeStore::open(path.clone(), VolumeOptions::default()).await.unwrap();
        let opened = opened(Arc::new(store), &access.encryption()).await.unwrap();
        for (n, contents) in (1..).zip(&days) {
            let snapshot = back_up(&source, n, contents).await.unwrap();
            let (id, options) = (snapshot.id().as_str(), crate::CopyOptions::default());
            crate::copy(&source, &opened.repository, id, &options).await.unwrap();
        }
        let (_, read) = read_all(&path, access);
        assert_eq!(read.len(), 2);
        for (read, expected) in read.iter().zip(&days) {
            assert_same(read, expected);
        }
    }
}
