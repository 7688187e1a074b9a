//! Hooks: known chunks are found where no predecessor serves, and only in packs that
//! a live head names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_storage::{FaultyStore, MemoryStore, Store};

use super::fixture::*;
use crate::names::PartName;
use crate::{
    Begun, CollectOptions, Encryption, ForgetReason, Repository, SessionOptions, Snapshot,
    SnapshotWriter, TombstoneReason,
};

const MIB: u64 = 1024 * 1024;
const SIZE: usize = 48_000_000;
/// What is lost at most where nearly all is found: chunks before the first hook of a
/// pack, and at borders. There are four packs, and one hook in half a mebibyte.
const LITTLE: u64 = SIZE as u64 / 20;
const SHOP: &str = "c/ns/shop";

fn ciphers() -> [Encryption; 2] {
    [encrypted(), Encryption::None]
}

async fn begin_of(repository: &Repository, series: &str, n: u32) -> SnapshotWriter {
    let options = SessionOptions::new(series, format!("run-{n}"), day(n));
    match repository.begin(options).await.unwrap() {
        Begun::Started(writer) => writer,
        Begun::Committed(snapshot) => panic!("the run has committed {}", snapshot.id()),
    }
}

async fn pack_names(snapshot: &Snapshot) -> BTreeSet<PartName> {
    snapshot.packs().await.unwrap().iter().map(|pack| pack.entry.name.clone()).collect()
}

/// A run of one stream, which then is restored. Its table of packs names its own, and
/// none that was in no live head's table when it began. Returns its new bytes.
async fn run(
    repository: &Repository,
    series: &str,
    n: u32,
    name: &str,
    content: &[u8],
) -> (u64, Snapshot) {
    let mut live = BTreeSet::new();
    let list = repository.snapshots(None).await.unwrap();
    for snapshot in list.snapshots.iter().filter(|snapshot| snapshot.written_off().is_none()) {
        live.extend(pack_names(snapshot).await);
    }
    let writer = begin_of(repository, series, n).await;
    let new = write(&writer, name, content).await.unwrap();
    let snapshot = writer.commit(commit_info()).await.unwrap();
    for pack in pack_names(&snapshot).await {
        let own = *pack.session == *snapshot.id().as_str();
        assert!(own || live.contains(&pack), "no live head names {}", pack.last_part());
    }
    snapshot.verify_manifest().await.unwrap();
    assert!(read_stream(&snapshot, name).await.unwrap() == content);
    (new, snapshot)
}

async fn forget(repository: &Repository, snapshot: &Snapshot) {
    repository.forget(snapshot.id(), ForgetReason::Erase, "a test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_stream_and_another_series_with_the_same_data_are_found() {
    for encryption in ciphers() {
        let store = Arc::new(MemoryStore::new());
        let repository = opened(store, &encryption).await.unwrap().repository;
        let data = noise(1, SIZE);
        let (_, first) = run(&repository, SHOP, 1, "a", &data).await;
        let (new, second) = run(&repository, SHOP, 2, "b", &data).await;
        assert!(new < LITTLE, "{new} bytes of a renamed stream");
        let (new, _) = run(&repository, "copy", 3, "x", &data).await;
        assert!(new < LITTLE, "{new} bytes of another series");
        // The first series is let go; its packs live on in the second one, whose head
        // has taken over their hooks.
        forget(&repository, &first).await;
        forget(&repository, &second).await;
        let (new, _) = run(&repository, "third", 4, "y", &data).await;
        assert!(new < LITTLE, "{new} bytes of a third series");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_that_came_back_is_found() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    for day in 1..5 {
        run(&repository, SHOP, day, "a", &noise(u64::from(day), SIZE)).await;
    }
    let (new, _) = run(&repository, SHOP, 5, "a", &noise(1, SIZE)).await;
    assert!(new < LITTLE, "{new} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_streams_are_found_after_a_quarter_of_a_mebibyte() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let data = noise(1, SIZE / 8);
    let tables: Vec<&[u8]> = data.chunks(50_000).collect();
    for (day, series) in [(1, SHOP), (2, "copy")] {
        let writer = begin_of(&repository, series, day).await;
        let mut new = 0;
        for (n, table) in tables.iter().enumerate() {
            new += write(&writer, &format!("{series}/{n}"), table).await.unwrap();
        }
        assert!(day == 1 || new < MIB, "{new} bytes");
        writer.commit(commit_info()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_run_stored_long_ago_is_found() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    write(&writer, "a", &noise(1, SIZE)).await.unwrap();
    // More than the recent chunks of a run.
    write(&writer, "b", &noise(2, 300_000_000)).await.unwrap();
    let new = write(&writer, "c", &noise(1, SIZE)).await.unwrap();
    assert!(new < 2 * LITTLE, "{new} bytes");
    let snapshot = writer.commit(commit_info()).await.unwrap();
    assert!(read_stream(&snapshot, "c").await.unwrap() == noise(1, SIZE));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_while_the_predecessor_serves_and_little_where_nothing_is_found() {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let repository = open(faulty.clone()).await.unwrap();
    run(&repository, SHOP, 1, "a", &noise(1, SIZE)).await;
    run(&repository, "other", 2, "a", &noise(2, SIZE)).await;
    let before = faulty.counts();
    let writer = begin(&repository, 3).await.unwrap();
    let mut data = noise(1, SIZE);
    data.splice(SIZE / 2..SIZE / 2, noise(3, 100_000));
    write(&writer, "a", &data).await.unwrap();
    write(&writer, "small", &noise(4, 100_000)).await.unwrap();
    let served = faulty.counts();
    // The place of this run's head, and its decisions twice; the predecessor's head,
    // its decisions, and whether it was written off.
    assert_eq!(served.gets - before.gets, 6);
    write(&writer, "new", &noise(5, SIZE)).await.unwrap();
    let after = faulty.counts();
    // The other series' head, its decisions, and whether it was written off.
    assert_eq!((after.gets - served.gets, after.lists - served.lists), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_pack_is_not_found_unless_it_was_pardoned() {
    for pardoned in [false, true] {
        let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
        let (_, first) = run(&repository, SHOP, 1, "a", &noise(1, SIZE)).await;
        let names: Vec<_> = pack_names(&first).await.iter().map(PartName::last_part).collect();
        repository.inner.condemn(1, names.clone()).await.unwrap();
        if pardoned {
            repository.inner.pardon(1, names).await.unwrap();
        }
        let (new, _) = run(&repository, SHOP, 2, "b", &noise(1, SIZE)).await;
        assert_eq!(new < LITTLE, pardoned, "{new} bytes");
        assert!(pardoned || new == SIZE as u64, "{new} bytes");
    }
}

/// Why no live head names packs that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    SameRun,
    GivenUp,
    AtWork,
    Forgotten,
    WrittenOff,
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_no_live_head_names_are_never_used() {
    for left in [Left::SameRun, Left::GivenUp, Left::AtWork, Left::Forgotten, Left::WrittenOff] {
        let store = Arc::new(MemoryStore::new());
        let repository = open(store.clone()).await.unwrap();
        let data = noise(1, SIZE);
        let writer = begin_of(&repository, SHOP, 1).await;
        write(&writer, "a", &data).await.unwrap();
        uploaded(&writer, SIZE as u64 / 2).await;
        let (mut writer, mut n) = (Some(writer), 2);
        let dies = |writer: &mut Option<SnapshotWriter>| drop(writer.take());
        match left {
            Left::SameRun => {
                dies(&mut writer);
                n = 1;
            }
            Left::GivenUp => {
                dies(&mut writer);
                let fence = Some(TombstoneReason::Inspect);
                repository.resolve_run(SHOP, "run-1", day(1), fence).await.unwrap();
            }
            Left::AtWork => {}
            Left::Forgotten | Left::WrittenOff => {
                let snapshot = writer.take().unwrap().commit(commit_info()).await.unwrap();
                if left == Left::Forgotten {
                    forget(&repository, &snapshot).await;
                } else {
                    repository.write_off(snapshot.id(), "a block does not open").await.unwrap();
                }
                assert!(store.head(&snapshot.id().head_name()).await.is_ok(), "it is there still");
            }
        }
        // The predecessor's way and the hooks' way.
        for (series, name) in [(SHOP, "a"), ("copy", "x")] {
            let (new, snapshot) = run(&repository, series, n, name, &data).await;
            assert_eq!(new, SIZE as u64, "{left:?}, {series}");
            forget(&repository, &snapshot).await;
        }
        drop(writer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_no_live_head_uses_are_not_used() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let data = noise(1, SIZE);
    let (_, first) = run(&repository, SHOP, 1, "a", &data).await;
    let half = SIZE / 2;
    let (new, _) = run(&repository, SHOP, 2, "a", &data[..half]).await;
    assert!(new < LITTLE, "{new} bytes");
    forget(&repository, &first).await;
    let (new, _) = run(&repository, "copy", 3, "x", &data).await;
    let dead = (SIZE - half) as u64;
    assert!((dead - LITTLE..dead + LITTLE).contains(&new), "{new} bytes");
}

/// A run that has read a head holds its packs, whatever becomes of the head.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_found_stays_when_its_head_is_let_go_and_collected() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let data = noise(1, SIZE);
    let (_, first) = run(&repository, SHOP, 1, "a", &data).await;
    let writer = begin_of(&repository, "copy", 2).await;
    assert!(write(&writer, "x", &data).await.unwrap() < LITTLE);
    forget(&repository, &first).await;
    let mut condemned = 0;
    for _ in 0..4 {
        store.age(Duration::from_secs(700));
        let report = repository.collect(&CollectOptions::default()).await.unwrap();
        condemned += report.condemned_objects;
        assert_eq!(report.deleted_objects, 0);
    }
    assert!(condemned > 0 && store.head(&first.id().head_name()).await.is_err());
    let second = writer.commit(commit_info()).await.unwrap();
    for _ in 0..4 {
        store.age(Duration::from_secs(700));
        repository.collect(&CollectOptions::default()).await.unwrap();
    }
    assert!(read_stream(&second, "x").await.unwrap() == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_or_damaged_costs_only_what_it_knew() {
    for damage in ["pack gone", "pack cut", "head cut"] {
        let store = Arc::new(MemoryStore::new());
        let repository = open(store.clone()).await.unwrap();
        let (_, first) = run(&repository, SHOP, 1, "a", &noise(1, SIZE)).await;
        let pack = first.packs().await.unwrap()[0].entry.name.pack_object();
        match damage {
            "pack gone" => store.delete(&pack).await.unwrap(),
            "pack cut" => store.overwrite(&pack, "cut".into()),
            _ => store.overwrite(&first.id().head_name(), "cut".into()),
        }
        let writer = begin_of(&repository, "copy", 2).await;
        let new = write(&writer, "b", &noise(1, SIZE)).await.unwrap();
        let most = if damage == "head cut" { SIZE as u64 } else { 21 * MIB };
        assert!(new <= most, "{damage}: {new} bytes");
        assert_eq!(writer.passed_over(), 1, "{damage}");
        let second = writer.commit(commit_info()).await.unwrap();
        assert!(read_stream(&second, "b").await.unwrap() == noise(1, SIZE));
    }
}
