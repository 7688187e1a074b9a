//! Repositories, data and short ways to back up and restore.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dbbackup_contract::Initialize;
use dbbackup_storage::{RetryPolicy, Store};
use jiff::Timestamp;

use crate::{
    Begun, CommitInfo, Cutting, Encryption, Environment, KeySource, OpenOptions, Opened,
    Repository, Result, SessionOptions, Snapshot, SnapshotWriter,
};

pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// Time stands still, and randomness repeats.
#[derive(Debug)]
pub(super) struct FixedEnvironment(AtomicU64);

impl FixedEnvironment {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Environment for FixedEnvironment {
    fn now(&self) -> Timestamp {
        "2026-11-23T02:15:00Z".parse().unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<()> {
        let seed = self.0.fetch_add(1, Ordering::SeqCst);
        bytes.copy_from_slice(&noise(seed.wrapping_mul(0xD134_2543_DE82_EF95), bytes.len()));
        Ok(())
    }
}

/// Bytes that do not compress, the same for the same seed (SplitMix64).
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)).to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

pub(super) fn key() -> KeySource {
    KeySource::raw("main", &[7; 32]).unwrap()
}

pub(super) fn encrypted() -> Encryption {
    Encryption::Keys(vec![key()])
}

/// Does not try again: crashed stores stay crashed.
pub(super) fn options() -> OpenOptions {
    OpenOptions {
        initialize: Initialize::IfEmpty,
        retry: RetryPolicy { tries: 1, first_delay: Duration::ZERO, longest_delay: Duration::ZERO },
        ..OpenOptions::default()
    }
}

pub(super) async fn open(store: Arc<dyn Store>) -> Result<Repository> {
    opened(store, &encrypted()).await.map(|opened| opened.repository)
}

pub(super) async fn opened(store: Arc<dyn Store>, encryption: &Encryption) -> Result<Opened> {
    Repository::open_with(store, encryption, options()).await
}

/// Names of the keys that open it.
pub(super) fn keys_of(opened: &Opened) -> Vec<&str> {
    opened.opened_slots.iter().map(|slot| slot.key.as_str()).collect()
}

/// The slot of day `n`.
pub(super) fn day(n: u32) -> Timestamp {
    format!("2026-11-{:02}T02:15:00Z", n + 1).parse().unwrap()
}

pub(super) fn session(n: u32) -> SessionOptions {
    SessionOptions::new("c/ns/shop", format!("run-{n}"), day(n))
}

pub(super) async fn begin(repository: &Repository, n: u32) -> Result<SnapshotWriter> {
    match repository.begin(session(n)).await? {
        Begun::Started(writer) => Ok(writer),
        Begun::Committed(snapshot) => panic!("the run has committed {}", snapshot.id()),
    }
}

pub(super) async fn write(writer: &SnapshotWriter, name: &str, content: &[u8]) -> Result<u64> {
    let mut stream = writer.stream(name, Cutting::default()).await?;
    for piece in content.chunks(100_000) {
        stream.write(Bytes::copy_from_slice(piece)).await?;
    }
    let summary = stream.finish().await?;
    assert_eq!(summary.bytes, content.len() as u64);
    Ok(summary.new)
}

/// Waits until a run has at least so many bytes in the store: packs go there behind the
/// back of whoever writes.
pub(super) async fn uploaded(writer: &SnapshotWriter, bytes: u64) {
    while writer.totals().stored < bytes {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn commit_info() -> CommitInfo {
    CommitInfo::new("Logical", serde_json::json!({"name": "shop"}), serde_json::json!({"ok": true}))
}

/// The backup of day `n`. A retry of it is a success if it had committed.
pub(super) async fn back_up(
    repository: &Repository,
    n: u32,
    contents: &Contents,
) -> Result<Snapshot> {
    let writer = match repository.begin(session(n)).await? {
        Begun::Started(writer) => writer,
        Begun::Committed(snapshot) => return Ok(snapshot),
    };
    for (name, content) in contents {
        write(&writer, name, content).await?;
    }
    writer.commit(commit_info()).await
}

pub(super) async fn read_stream(snapshot: &Snapshot, name: &str) -> Result<Vec<u8>> {
    let mut stream = snapshot.stream(name).await?;
    let mut content = Vec::new();
    while let Some(bytes) = stream.next().await? {
        content.extend_from_slice(&bytes);
    }
    Ok(content)
}

pub(super) async fn restore(snapshot: &Snapshot) -> Result<Contents> {
    let mut contents = Contents::new();
    for stream in snapshot.streams("").await? {
        let content = read_stream(snapshot, &stream.name).await?;
        contents.insert(stream.name, content);
    }
    Ok(contents)
}

pub(super) fn assert_same(restored: &Contents, expected: &Contents) {
    let lengths = |contents: &Contents| {
        contents.iter().map(|(name, content)| (name.clone(), content.len())).collect::<Vec<_>>()
    };
    assert_eq!(lengths(restored), lengths(expected));
    assert!(restored == expected, "same lengths, other bytes");
}

/// Some streams: long, short, empty, compressible, not, and repeated.
pub(super) fn contents(seed: u64) -> Contents {
    let text: Vec<u8> = (0..40_000_u64)
        .flat_map(|n| {
            format!("{n}\tcustomer {}\t{seed}\n", n.wrapping_mul(2_654_435_761)).into_bytes()
        })
        .collect();
    Contents::from([
        ("db/shop/data".into(), noise(seed, 1_500_000)),
        ("db/shop/text".into(), text.clone()),
        ("db/shop/again".into(), text),
        ("db/shop/zeros".into(), vec![0; 700_000]),
        ("db/empty".into(), Vec::new()),
        ("db/one".into(), vec![1]),
        ("globals".into(), b"CREATE ROLE shop;".to_vec()),
    ])
}

/// The same streams a day later.
pub(super) fn changed(contents: &Contents, seed: u64) -> Contents {
    let mut changed = contents.clone();
    for content in changed.values_mut().filter(|content| content.len() > 1000) {
        let middle = content.len() / 2;
        content.splice(middle..middle + 100, noise(seed, 300));
    }
    changed
}
