//! How much a second backup adds.

use std::sync::Arc;

use dbbackup_storage::MemoryStore;

use super::fixture::*;
use crate::Cutting;
use crate::tables::{Usage, UsedPack};

const SIZE: usize = 24_000_000;

/// New bytes of the second day, in thousandths of the stream.
async fn added(first: &[u8], second: &[u8]) -> u64 {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let one = Contents::from([("a".into(), first.to_vec())]);
    back_up(&repository, 1, &one).await.unwrap();
    let writer = begin(&repository, 2).await.unwrap();
    let new = write(&writer, "a", second).await.unwrap();
    let snapshot = writer.commit(commit_info()).await.unwrap();
    assert!(read_stream(&snapshot, "a").await.unwrap() == second);
    new * 1000 / second.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_data_adds_nothing() {
    let data = noise(1, SIZE);
    assert_eq!(added(&data, &data).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_bytes_arrive_changes_no_chunk() {
    let data = bytes::Bytes::from(noise(4, SIZE / 4));
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    // Over what was handed in, whatever becomes of it.
    let whole = repository.inner.keys.stream_digest().hasher().update(&data).finalize();
    let pieces = [usize::MAX, 1000, 128 * 1024, 700_001, 131_073, 40_000, 600 * 1024];
    for (n, piece) in pieces.into_iter().enumerate() {
        for (name, cutting) in [("a", Cutting::default()), ("b", Cutting::fixed(8192).unwrap())] {
            let day = (n * 2 + usize::from(name == "b") + 1) as u32;
            let writer = begin(&repository, day).await.unwrap();
            let mut stream = writer.stream(name, cutting).await.unwrap();
            let mut rest = data.clone();
            while !rest.is_empty() {
                // Now and then another size between.
                let length = if rest.len() % 5 == 0 { 150_000 } else { piece };
                stream.write(rest.split_to(length.min(rest.len()))).await.unwrap();
            }
            let summary = stream.finish().await.unwrap();
            assert_eq!(summary.digest, whole.to_hex().as_str());
            let snapshot = writer.commit(commit_info()).await.unwrap();
            assert!(n == 0 || summary.new == 0, "pieces of {piece}: {} are new", summary.new);
            assert!(read_stream(&snapshot, name).await.unwrap() == data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_inserted_deleted_or_changed_adds_little_more_than_itself() {
    let data = noise(1, SIZE);
    let mut inserted = data.clone();
    inserted.splice(SIZE / 2..SIZE / 2, noise(2, SIZE / 100));
    let mut deleted = data.clone();
    deleted.drain(SIZE / 3..SIZE / 2);
    let mut scattered = data.clone();
    for at in (0..SIZE).step_by(SIZE / 50) {
        scattered[at] ^= 1;
    }
    for (second, most) in [(inserted, 14), (deleted, 2), (scattered, 35)] {
        let added = added(&data, &second).await;
        assert!(added <= most, "{added} thousandths");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moved_further_than_the_window_is_found_again() {
    // A fifth deleted at the beginning of 200 MB, and the rest turned around: both
    // reach further than the window of 64 MiB.
    let size = 200_000_000;
    let data = noise(1, size);
    let deleted = added(&data, &data[size * 2 / 5..]).await;
    let turned = added(&data, &[&data[size / 2..], &data[..size / 2]].concat()).await;
    assert!(deleted <= 120, "{deleted} thousandths after a deletion");
    assert!(turned <= 160, "{turned} thousandths after a move");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_little_used_are_stored_again_a_twentieth_a_run() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let size = 4_000_000;
    let mut data = noise(1, size);
    back_up(&repository, 1, &Contents::from([("a".into(), data.clone())])).await.unwrap();
    // All but a small part of each block's length changes.
    for at in (0..size).filter(|at| at % 65_000 < 54_000).step_by(4000) {
        data[at] ^= 1;
    }
    let mut sparse = Vec::new();
    for day in 2..=12_u32 {
        let writer = begin(&repository, day).await.unwrap();
        let new = write(&writer, "a", &data).await.unwrap();
        assert!(day == 2 || new <= size as u64 / 20, "{new} bytes on day {day}");
        let snapshot = writer.commit(commit_info()).await.unwrap();
        let packs = snapshot.packs().await.unwrap();
        let count = |pack: &UsedPack| {
            (0..pack.entry.blocks).filter(|n| pack.usage(*n) == Usage::Sparse).count()
        };
        sparse.push(packs.iter().map(count).sum::<usize>());
    }
    assert!(sparse[0] > 10, "{sparse:?}");
    assert_eq!(sparse.last(), Some(&0), "{sparse:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repetition_within_a_backup_is_stored_once() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let data = noise(1, 5_000_000);
    let writer = begin(&repository, 1).await.unwrap();
    write(&writer, "a", &data).await.unwrap();
    assert!(write(&writer, "b", &data).await.unwrap() < 200_000);
    let snapshot = writer.commit(commit_info()).await.unwrap();
    assert!(read_stream(&snapshot, "b").await.unwrap() == data);
}
