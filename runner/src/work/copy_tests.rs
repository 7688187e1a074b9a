//! Copies between repositories in folders.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dbbackup_contract::{
    AccessMode, Bandwidth, EncryptionAccess, Initialize, KeyAccess, KeyKind, MadeBy,
    RepositoryAccess, SecretFile, StorageAccess,
};
use dbbackup_repository::{
    Begun, CommitInfo, Cutting, Encryption, KeySource, Repository, SessionOptions, Snapshot,
};
use dbbackup_storage::{VolumeOptions, VolumeStore};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::progress::ProgressBoard;

const SERIES: &str = "3f6c/shop/nightly";
const KEY: [u8; 32] = [7; 32];

/// A repository in the folder `name`; `second` is encrypted.
async fn repository(folder: &Path, name: &str) -> (Repository, RepositoryAccess) {
    let path = folder.join(name);
    let store = VolumeStore::open(&path, VolumeOptions::default()).await.unwrap();
    let file = SecretFile {
        dir: folder.display().to_string(),
        key: "key".into(),
        object: "the Secret k".into(),
        named_by: "a test".into(),
    };
    std::fs::write(folder.join("key"), KEY).unwrap();
    let (encryption, access) = if name == "second" {
        let key = KeyAccess { name: "k".into(), kind: KeyKind::Key, file };
        let keys = vec![KeySource::raw("k", &KEY).unwrap()];
        (Encryption::Keys(keys), EncryptionAccess::Keys(vec![key]))
    } else {
        (Encryption::None, EncryptionAccess::None {})
    };
    let opening =
        Repository::create_or_open(Arc::new(store), &encryption, Initialize::IfEmpty).await;
    let access = RepositoryAccess {
        name: name.into(),
        storage: StorageAccess::Volume { path: path.display().to_string(), claim: None },
        encryption: access,
        expected_id: None,
        mode: AccessMode::ReadWrite,
        bandwidth: Bandwidth::default(),
    };
    (opening.unwrap().repository, access)
}

/// Bytes that nothing compresses (xorshift64, Marsaglia 2003), and that differ from day to day
/// at their beginning.
fn dump(day: u8) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    [day; 1000].into_iter().chain(noise.take(400_000).flatten()).collect()
}

async fn backup(repository: &Repository, day: u8) -> String {
    let slot = format!("2026-11-{day:02}T01:00:00Z").parse().unwrap();
    let options = SessionOptions::new(SERIES, format!("run {day}"), slot);
    let Begun::Started(writer) = repository.begin(options).await.unwrap() else { panic!() };
    for (name, bytes) in [("db/shop", dump(day)), ("globals", b"roles".to_vec())] {
        let mut stream = writer.stream(name, Cutting::default()).await.unwrap();
        stream.write(Bytes::from(bytes)).await.unwrap();
        stream.finish().await.unwrap();
    }
    let made_by = MadeBy::Person { retain_for_seconds: Some(60) };
    let (labels, report) = (serde_json::json!({"a": 1}), serde_json::json!({"of": day}));
    let info = CommitInfo { made_by, ..CommitInfo::new("postgresql", labels, report) };
    writer.commit(info).await.unwrap().id().to_string()
}

async fn copied(source: &RepositoryAccess, snapshot: &str, to: &RepositoryAccess) -> CopyReport {
    let (board, cancel) = (ProgressBoard::new(None), CancellationToken::new());
    let order = Order::by_hand(source, Duration::from_secs(60), &board, &cancel);
    let action = CopyAction { snapshot: snapshot.to_owned(), destination: to.clone() };
    copy(&order, &action).await
}

async fn read(snapshot: &Snapshot, name: &str) -> Vec<u8> {
    let mut stream = snapshot.stream(name).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn a_copy_holds_the_same_and_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, from) = repository(folder.path(), "first").await;
    let (second, to) = repository(folder.path(), "second").await;
    let snapshot = backup(&first, 1).await;
    let report = copied(&from, &snapshot, &to).await;
    assert_eq!((report.outcome, report.error.as_ref()), (Outcome::Succeeded, None));
    assert!(report.bytes.stored > 0, "{:?}", report.bytes);
    let id = report.snapshot_id.unwrap();
    let copy = second.find(&id).await.unwrap();
    assert_eq!(read(&copy, "db/shop").await, dump(1));
    assert_eq!(read(&copy, "globals").await, b"roles");
    let (own, its) = (first.find(&snapshot).await.unwrap(), copy.about());
    let about = own.about();
    assert_eq!(
        (&its.series, its.slot_time, &its.kind),
        (&about.series, about.slot_time, &about.kind)
    );
    assert_eq!((its.made_by, &its.labels), (about.made_by, &about.labels));
    assert_eq!(copy.report(), own.report());

    let again = copied(&from, &snapshot, &to).await;
    assert_eq!((again.already, again.snapshot_id), (true, Some(id)));
    assert_eq!(second.snapshots(None).await.unwrap().snapshots.len(), 1);

    // The next day stores what is new in it, and no more.
    let next = backup(&first, 2).await;
    let report = copied(&from, &next, &to).await;
    let length = dump(2).len() as u64;
    assert_eq!(report.bytes.read + report.bytes.unchanged, length + 5);
    assert!(report.bytes.read < length / 2, "{:?}", report.bytes);
    assert!(report.bytes.new < length / 2, "{:?}", report.bytes);
    let copy = second.find(&report.snapshot_id.unwrap()).await.unwrap();
    assert_eq!(read(&copy, "db/shop").await, dump(2));
}

#[tokio::test]
async fn what_cannot_be_copied_commits_nothing_and_names_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let (first, from) = repository(folder.path(), "first").await;
    let (second, to) = repository(folder.path(), "second").await;
    let snapshot = backup(&first, 1).await;
    let refused = |report: CopyReport| {
        assert_eq!((report.outcome, report.snapshot_id), (Outcome::Failed, None));
        report.error.unwrap()
    };
    let same = refused(copied(&from, &snapshot, &from).await);
    assert_eq!(same.reason, Reason::InvalidSpec);
    let unknown = refused(copied(&from, "00000000-unknown", &to).await);
    assert_eq!(unknown.reason, Reason::SnapshotNotFound);
    assert!(unknown.message.starts_with("repository first: "), "{unknown}");
    let mut shut = to.clone();
    shut.encryption = EncryptionAccess::None {};
    let shut = refused(copied(&from, &snapshot, &shut).await);
    assert_eq!(shut.reason, Reason::EncryptionMismatch);
    assert!(shut.message.starts_with("repository second: "), "{shut}");

    // A bit of every pack of the source is turned.
    let packs = walk(&folder.path().join("first/packs"));
    assert!(!packs.is_empty());
    for pack in packs {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    let damaged = refused(copied(&from, &snapshot, &to).await);
    assert_eq!(damaged.reason, Reason::RepositoryDamaged);
    assert!(damaged.message.starts_with("repository first: "), "{damaged}");
    assert!(second.snapshots(None).await.unwrap().snapshots.is_empty());
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
