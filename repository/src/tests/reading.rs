//! What was backed up comes back.

use std::sync::Arc;

use bytes::Bytes;
use dbbackup_storage::{FaultyStore, MemoryStore, VolumeOptions, VolumeStore};
use proptest::prelude::*;

use super::fixture::*;
use crate::{Begun, Cutting, Encryption, Error, RunState};

#[tokio::test(flavor = "multi_thread")]
async fn two_days_come_back_byte_for_byte_with_and_without_encryption() {
    for encryption in [encrypted(), Encryption::None] {
        let store = Arc::new(MemoryStore::new());
        let repository = opened(store.clone(), &encryption).await.unwrap().repository;
        let (one, two) = (contents(1), changed(&contents(1), 2));
        let first = back_up(&repository, 1, &one).await.unwrap();
        let second = back_up(&repository, 2, &two).await.unwrap();
        // Read by somebody who opens it anew.
        let repository = opened(store, &encryption).await.unwrap().repository;
        for (snapshot, expected) in [(first, one), (second, two)] {
            let found = repository.find(snapshot.id().as_str()).await.unwrap();
            assert_same(&restore(&found).await.unwrap(), &expected);
            found.verify_manifest().await.unwrap();
            assert_eq!(found.report()["ok"], true);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_gives_back_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let store = VolumeStore::open(folder.path(), VolumeOptions::default()).await.unwrap();
    let repository = open(Arc::new(store)).await.unwrap();
    let contents = contents(3);
    let snapshot = back_up(&repository, 1, &contents).await.unwrap();
    assert_same(&restore(&snapshot).await.unwrap(), &contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_backup_takes_three_writes_and_an_unchanged_one_two() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    let before = faulty.counts().creates;
    back_up(&repository, 1, &contents(1)).await.unwrap();
    assert_eq!(faulty.counts().creates - before, 3, "session, pack, head");
    back_up(&repository, 2, &contents(1)).await.unwrap();
    assert_eq!(faulty.counts().creates - before, 5, "session, head");
}

/// What `docs/operations.md` says of costs: requests of a nightly backup of a database of
/// ten megabytes of which a little has changed, the opening of the repository included.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_backup_takes_few_requests() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let mut contents = Contents::from([("rows".into(), noise(1, 10_000_000))]);
    for n in 1..4 {
        let repository = open(faulty.clone()).await.unwrap();
        contents.get_mut("rows").unwrap()[n as usize * 1_000_000] ^= 1;
        back_up(&repository, n, &contents).await.unwrap();
    }
    let before = faulty.counts();
    let repository = open(faulty.clone()).await.unwrap();
    contents.get_mut("rows").unwrap()[5_000_000] ^= 1;
    back_up(&repository, 5, &contents).await.unwrap();
    let after = faulty.counts();
    let created = after.creates - before.creates;
    let read = (after.gets + after.range_gets + after.heads)
        - (before.gets + before.range_gets + before.heads);
    let listed = after.lists - before.lists;
    assert_eq!((created, read, listed), (3, 12, 7));
}

/// After a change every hundred kilobytes, and others on a third day, the stream goes
/// back and forth between packs. Blocks that stand together are read together all the
/// same: about a mebibyte a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_changed_here_and_there_takes_few_requests() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    let mut rows = noise(1, 16 << 20);
    let mut last = None;
    for n in 1..4_usize {
        rows.iter_mut().skip(n * 30_000).step_by(100_000).for_each(|byte| *byte ^= 1);
        let contents = Contents::from([("rows".into(), rows.clone())]);
        last = Some((back_up(&repository, n as u32, &contents).await.unwrap(), contents));
    }
    let (snapshot, contents) = last.unwrap();
    let before = faulty.counts().range_gets;
    assert_same(&restore(&snapshot).await.unwrap(), &contents);
    let reads = faulty.counts().range_gets - before;
    assert!(reads <= 40, "{reads} requests for 16 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_written_and_read_at_the_same_time() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    let mut streams = Vec::new();
    for n in 0..20_u64 {
        let stream = writer.stream(&format!("s/{n}"), Cutting::default()).await.unwrap();
        streams.push((n, stream, noise(n, 900_000)));
    }
    // One task feeds all in turn, as an engine may.
    for at in (0..900_000).step_by(30_000) {
        for (_, stream, content) in &mut streams {
            let piece = Bytes::copy_from_slice(&content[at..at + 30_000]);
            stream.write(piece).await.unwrap();
        }
    }
    for (_, stream, _) in streams {
        stream.finish().await.unwrap();
    }
    let snapshot = writer.commit(commit_info()).await.unwrap();
    let mut reads = tokio::task::JoinSet::new();
    for n in 0..20_u64 {
        let snapshot = snapshot.clone();
        reads.spawn(async move { (n, read_stream(&snapshot, &format!("s/{n}")).await.unwrap()) });
    }
    while let Some(read) = reads.join_next().await {
        let (n, content) = read.unwrap();
        assert!(content == noise(n, 900_000), "stream {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_streams_spill_into_meta_objects_and_are_found_by_name() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    let content = |n: u64| noise(n, (n % 300) as usize);
    for n in 0..9000 {
        write(&writer, &format!("tables/{n:05}"), &content(n)).await.unwrap();
    }
    let snapshot = writer.commit(commit_info()).await.unwrap();
    let objects = store.objects();
    assert!(objects.keys().any(|name| name.starts_with("meta/")));
    assert!(objects[&snapshot.id().head_name()].len() < 100_000);
    for n in [0, 1, 2999, 8998, 8999] {
        let read = read_stream(&snapshot, &format!("tables/{n:05}")).await.unwrap();
        assert_eq!(read, content(n));
    }
    assert_eq!(snapshot.streams("tables/010").await.unwrap().len(), 100);
    assert_eq!(snapshot.streams("").await.unwrap().len(), 9000);
    for name in ["", "tables", "tables/09000", "zz"] {
        assert!(matches!(snapshot.stream(name).await, Err(Error::StreamNotFound { .. })), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_and_discarded_streams_are_not_in_the_snapshot_and_harm_no_other() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    let shared = noise(5, 1_200_000);
    let mut dropped = writer.stream("db/a/data", Cutting::default()).await.unwrap();
    dropped.write(Bytes::from(shared.clone())).await.unwrap();
    let open = writer.discard_streams("db/a").unwrap_err();
    assert!(matches!(open, Error::Misuse(_)), "{open}");
    drop(dropped);
    write(&writer, "db/b/data", &shared).await.unwrap();
    write(&writer, "db/c/data", &shared).await.unwrap();
    writer.discard_streams("db/b/").unwrap();
    write(&writer, "db/a/data", &noise(6, 1000)).await.unwrap();
    let snapshot = writer.commit(commit_info()).await.unwrap();
    let expected =
        Contents::from([("db/a/data".into(), noise(6, 1000)), ("db/c/data".into(), shared)]);
    assert_same(&restore(&snapshot).await.unwrap(), &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_used_once_and_an_open_stream_prevents_the_commit() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    let _open = writer.stream("a", Cutting::default()).await.unwrap();
    for name in ["a", "", &"x".repeat(1025)] {
        assert!(writer.stream(name, Cutting::default()).await.is_err());
    }
    assert!(matches!(writer.commit(commit_info()).await, Err(Error::Misuse(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_listed_by_series_and_found_by_a_unique_prefix() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    for n in 1..=3 {
        back_up(&repository, n, &contents(1)).await.unwrap();
    }
    let mut other = session(1);
    other.series = "c/ns/other".into();
    let Begun::Started(writer) = repository.begin(other).await.unwrap() else { panic!() };
    writer.commit(commit_info()).await.unwrap();
    let series = repository.snapshots(Some("c/ns/shop")).await.unwrap().snapshots;
    assert_eq!(series.iter().map(|s| s.about().sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(repository.snapshots(None).await.unwrap().snapshots.len(), 4);
    let id = series[1].id().as_str();
    assert_eq!(repository.find(&id[..20]).await.unwrap().id().as_str(), id);
    let ambiguous = repository.find(&id[..9]).await.unwrap_err();
    assert!(matches!(ambiguous, Error::SnapshotAmbiguous { count: 3, .. }), "{ambiguous}");
    for missing in ["", "zzzz", "../config", "A"] {
        let error = repository.find(missing).await.unwrap_err();
        assert!(matches!(error, Error::SnapshotNotFound(_)), "{error}");
    }
    let latest = repository.latest("c/ns/shop", Some(day(3))).await.unwrap();
    assert_eq!(latest.about().sequence, 2);
    assert!(repository.latest("c/ns/none", None).await.is_err());
    let state = repository.resolve_run("c/ns/shop", "run-2", day(2), None).await.unwrap();
    assert!(matches!(state, RunState::Committed(found) if found.id().as_str() == id));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_edits_of_any_streams_come_back(
        sizes in prop::collection::vec(0..400_000_usize, 1..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..60_000_usize, 0..60_000_usize), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
            let mut contents: Contents = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| (format!("s{n}"), noise(n as u64, *size)))
                .collect();
            for day in 1..=3 {
                let snapshot = back_up(&repository, day, &contents).await.unwrap();
                assert_same(&restore(&snapshot).await.unwrap(), &contents);
                for (at, cut, add) in &edits {
                    for content in contents.values_mut() {
                        let start = at.index(content.len() + 1);
                        let end = (start + cut).min(content.len());
                        content.splice(start..end, noise(u64::from(day) + 99, *add));
                    }
                }
            }
        });
    }
}
