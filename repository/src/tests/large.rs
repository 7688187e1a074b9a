//! A collection in a large repository: many snapshots with large tables of packs, over
//! packs of a few bytes, since a collection reads none of them.
//!
//! `HEADS` and `PACKS` choose the size; what it took is printed (`docs/operations.md`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dbbackup_contract::MadeBy;
use dbbackup_storage::{MemoryStore, Store};
use futures::TryStreamExt;

use super::collecting::DAY;
use super::fixture::*;
use crate::head::{About, Head, PredecessorRef};
use crate::names::{PartName, RunName, SnapshotId};
use crate::pack::PackEntry;
use crate::tables::UsedPack;
use crate::writer::inline_pack_pages;
use crate::{CollectOptions, Repository};

/// As many blocks as a pack of 16 MiB has of dumps.
const BLOCKS: u32 = 400;
/// Packs that a snapshot uses: 10 GiB.
const PACKS_OF_A_SNAPSHOT: usize = 640;
const SNAPSHOTS_OF_A_SERIES: usize = 100;

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// A kibibyte figure of this process.
fn memory(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The session that made pack `n`: each series has packs of its own.
fn id(repository: &Repository, series: usize, n: usize) -> SnapshotId {
    let time = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let time = time + jiff::SignedDuration::from_hours(n as i64);
    let (series, run) = (format!("s-{series}"), format!("{series}-{n}"));
    SnapshotId::of_attempt(&RunName::new(&repository.inner.keys, &series, time, &run).unwrap(), 0)
}

fn pack(name: PartName) -> UsedPack {
    let entry = PackEntry {
        size: 16 << 20,
        block_table_at: 16_700_000,
        block_table_bytes: 2000,
        chunk_table_bytes: 60_000,
        ..PackEntry::for_tests(name, BLOCKS)
    };
    UsedPack::whole(entry)
}

/// A head that uses a range of its series' packs.
async fn commit(
    repository: &Repository,
    (series, n): (usize, usize),
    packs: &[PartName],
    before: Option<PredecessorRef>,
) -> PredecessorRef {
    let snapshot = id(repository, series, n);
    let session: Arc<str> = Arc::from(snapshot.as_str());
    let mut sessions = vec![session];
    let packs: Vec<_> = packs.iter().cloned().map(pack).collect();
    let pack_pages = inline_pack_pages(&packs, &mut sessions).unwrap();
    let about = About {
        session: snapshot.to_string(),
        series: format!("s-{series}"),
        run_id: format!("{series}-{n}"),
        slot_time: day(0),
        attempt: 0,
        kind: "Logical".into(),
        made_by: MadeBy::Schedule,
        sequence: n as u64 + 1,
        copied_from: None,
        predecessor: before,
        start_time: day(0),
        commit_time: day(0),
        bytes: dbbackup_contract::ByteCounts::default(),
        streams: 0,
        labels: serde_json::Value::Null,
    };
    let head = Head { sessions, pack_pages, ..Head::of(about) };
    let digest = repository.inner.commit_head(&snapshot, &head.encode().unwrap()).await.unwrap();
    PredecessorRef { id: snapshot.to_string(), digest }
}

/// A snapshot uses a window of its series' packs, and each day a few others: the first
/// `garbage` packs of every series are used by none.
fn used(packs: &[PartName], n: usize, snapshots: usize, garbage: usize) -> Range<usize> {
    let many = PACKS_OF_A_SNAPSHOT.min(packs.len() - garbage);
    let last = packs.len() - many;
    let first = garbage + (last - garbage) * n / (snapshots - 1).max(1);
    first..first + many
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_reads_every_head_and_condemns_what_none_of_them_uses() {
    let (heads, packs, garbage) = (size("HEADS", 200), size("PACKS", 2000), 3);
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let series = heads.div_ceil(SNAPSHOTS_OF_A_SERIES);
    let snapshots = heads / series;
    for series_number in 0..series {
        let makers: Vec<Arc<str>> =
            (0..snapshots).map(|n| Arc::from(id(&repository, series_number, n).as_str())).collect();
        let names: Vec<_> = (0..packs / series)
            .map(|n| PartName::new(Arc::clone(&makers[n * snapshots / (packs / series)]), n as u32))
            .collect();
        for name in &names {
            store.create(&name.pack_object(), Bytes::from_static(b"pack")).await.unwrap();
        }
        let mut before = None;
        for n in 0..snapshots {
            let window = &names[used(&names, n, snapshots, garbage)];
            before = Some(commit(&repository, (series_number, n), window, before).await);
        }
    }
    store.age(DAY);
    // What the machine remembers of the highest point so far is forgotten.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, began) = (memory("VmRSS:"), Instant::now());
    let report = repository.collect(&CollectOptions::default()).await.unwrap();
    println!(
        "{heads} heads, {packs} packs: {:.1} s, {} MiB more than before",
        began.elapsed().as_secs_f64(),
        memory("VmHWM:").saturating_sub(before) / 1024,
    );
    assert_eq!(report.condemned_objects, (series * garbage) as u64);
    store.age(DAY);
    let report = repository.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!(report.deleted_objects, (series * garbage) as u64);
    let left: Vec<_> = store.list("packs/").try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(left.len(), packs / series * series - series * garbage);
}
