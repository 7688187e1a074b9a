//! Repackings, verdicts and decisions that somebody who holds the key has forged: nothing
//! that is in use is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_storage::{MemoryStore, Store as _};
use serde_json::json;

use super::collecting::{DAY, assert_restores, forget, packs};
use super::fixture::*;
use super::repacking::{Day, collect_for_days, days, repacked};
use crate::envelope::{Kind, ObjectSeal};
use crate::head::Head;
use crate::moves::{MOVES_SERIES, Move};
use crate::names::{PartName, RunName};
use crate::pack::OpenPack;
use crate::session::SessionKind;
use crate::tables::UsedPack;
use crate::writer::inline_pack_pages;
use crate::{
    CheckLevel, CollectOptions, CollectReport, Error, ForgetReason, Repository, SnapshotId,
};

/// What a forged repacking says of the packs that it claims to have moved.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// It means them, and holds something else in their place.
    Content,
    /// It means packs of their names that have another table.
    Tag,
    /// It means them, and its own pack is nowhere.
    Nowhere,
    /// It means them, and its blocks are longer.
    Longer,
    /// It means them, and says of no pack that it is their new place.
    NoHome,
    /// It says that they stand where they have always stood.
    Itself,
}

/// Claims to have moved all blocks of all packs that snapshots use.
async fn forge(repository: &Repository, of: &[Day], lie: Lie) -> SnapshotId {
    let (id, head) = forged(repository, of, lie).await;
    repository.inner.commit_head(&id, &head.encode().unwrap()).await.unwrap();
    id
}

async fn forged(repository: &Repository, of: &[Day], lie: Lie) -> (SnapshotId, Head) {
    let mut claimed = BTreeMap::new();
    for (id, _) in of {
        let table = repository.find(id.as_str()).await.unwrap().packs().await.unwrap();
        claimed.extend(table.iter().map(|used| (used.entry.name.clone(), used.entry.clone())));
    }
    let snapshot = repository.find(of[0].0.as_str()).await.unwrap();
    let inner = &repository.inner;
    let (id, run_id) = inner.begin_session(SessionKind::Writer).await.unwrap();
    let name = PartName::new(Arc::from(id.as_str()), 0);
    let object = name.pack_object();
    let seal =
        ObjectSeal::fresh(&inner.keys, &*inner.environment, Kind::Pack, object.clone()).unwrap();
    let mut pack = OpenPack::new(&inner.keys, name.clone(), seal, Vec::new());
    let mut moves = Vec::new();
    let mut first = 0;
    for entry in claimed.values() {
        let blocks = inner.footers.blocks(inner, entry).await.unwrap();
        for block in (0..entry.blocks).filter(|block| blocks.plain(*block).is_some()) {
            let longer = usize::from(lie == Lie::Longer);
            let plain = vec![b'x'; blocks.plain(block).unwrap() as usize + longer];
            let chunk = (inner.keys.chunk_id(&plain), plain.len() as u32);
            pack.push(&plain, false, &[chunk]).unwrap();
        }
        let mut tag = entry.block_table_tag;
        tag[0] ^= u8::from(lie == Lie::Tag);
        moves.push(Move {
            pack: entry.name.clone(),
            blocks: entry.blocks,
            tag,
            home: 0,
            first,
            carried: (0..entry.blocks).filter(|n| blocks.plain(*n).is_some()).collect(),
        });
        first += moves.last().map_or(0, |moved| moved.carried.len());
    }
    let pack = pack.finish(true).unwrap();
    if lie != Lie::Nowhere {
        assert!(inner.create(&object, pack.object.into()).await.unwrap());
    }
    let mut table = vec![Arc::new(pack.entry)];
    if lie == Lie::NoHome {
        moves.iter_mut().for_each(|moved| moved.home = 9999);
    } else if lie == Lie::Itself {
        table = claimed.values().cloned().collect();
        moves.iter_mut().zip(0..).for_each(|(moved, n)| (moved.home, moved.first) = (n, 0));
    }
    let table: Vec<_> = table.into_iter().map(UsedPack::whole).collect();
    let mut about = snapshot.about().clone();
    about.session = id.to_string();
    about.series = MOVES_SERIES.to_owned();
    about.run_id = run_id;
    about.sequence = 1_000_000;
    about.predecessor = None;
    let head = Head::of_repacking(about, &table, moves).unwrap();
    (id, head)
}

/// The repackings whose heads are there.
fn repackings(store: &MemoryStore, repository: &Repository) -> Vec<SnapshotId> {
    let ids: Vec<_> = store
        .objects()
        .keys()
        .filter_map(|name| SnapshotId::parse(name.strip_prefix("snapshots/")?).ok())
        .filter(|id| repository.inner.is_repacking(id))
        .collect();
    assert!(!ids.is_empty());
    ids
}

/// Collects for a week, whatever is wrong; gives what was wrong first.
async fn collect_for_a_week(store: &MemoryStore, repository: &Repository) -> Option<Error> {
    let mut error = None;
    for _ in 0..7 {
        store.age(DAY);
        error = error.or(repository.collect(&CollectOptions::default()).await.err());
    }
    error
}

fn stopped(error: &Error, object: &str) {
    assert_eq!(error.reason().as_str(), "RepositoryDamaged", "{error}");
    assert_eq!(error.object(), Some(object), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_that_holds_something_else_frees_nothing_of_what_it_means() {
    for lie in [Lie::Content, Lie::Nowhere, Lie::Longer] {
        let store = Arc::new(MemoryStore::new());
        let repository = open(store.clone()).await.unwrap();
        let days = days(&repository, 1..=3).await;
        let forged = forge(&repository, &days[2..], lie).await;
        let before = packs(&store);
        let error = collect_for_a_week(&store, &repository).await;
        stopped(&error.unwrap(), &forged.head_name());
        assert_eq!(packs(&store), before);
        assert_restores(&repository, &days).await;
        // Once it is written off it counts for nothing, and maintenance goes on.
        repository.write_off(&forged, "nobody knows where it comes from").await.unwrap();
        forget(&repository, &days[0].0).await.unwrap();
        let done = collect_for_days(&store, &repository).await;
        assert!(done.deleted_bytes > 0, "{done:?}");
        assert_restores(&open(store.clone()).await.unwrap(), &days[1..]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_freed_beside_a_wrong_repacking_is_told_with_the_error() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=2).await;
    let forged = forge(&repository, &days[1..], Lie::Content).await;
    let alone = Contents::from([("alone".into(), noise(77, 300_000))]);
    let alone = back_up(&repository, 8, &alone).await.unwrap();
    forget(&repository, alone.id()).await.unwrap();
    let mut freed = 0;
    for _ in 0..7 {
        store.age(DAY);
        let mut report = CollectReport::default();
        let done = repository.collect_into(&CollectOptions::default(), &mut report).await;
        freed += report.deleted_bytes;
        assert!(report.stored_bytes > 6_000_000, "{report:?}");
        done.unwrap_or_else(|error| stopped(&error, &forged.head_name()));
    }
    assert!(freed >= 300_000, "{freed}");
    assert_restores(&repository, &days).await;
}

/// Who lists tells a repacking by the name of its head, who reads by its series.
#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_under_another_name_is_none() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=2).await;
    let (_, head) = forged(&repository, &days, Lie::Content).await;
    let (id, _) = repository.inner.begin_session(SessionKind::Reader).await.unwrap();
    repository.inner.commit_head(&id, &head.encode().unwrap()).await.unwrap();
    let before = packs(&store);
    let error = collect_for_a_week(&store, &repository).await;
    stopped(&error.unwrap(), &id.head_name());
    assert_eq!(packs(&store), before);
    store.delete(&id.head_name()).await.unwrap();
    assert_restores(&repository, &days).await;
}

/// So that nothing in the old place tells what the new one should hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_says_otherwise_of_a_pack_makes_moves_of_it_count_for_nothing() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=2).await;
    forge(&repository, &days, Lie::Content).await;
    let snapshot = repository.find(days[1].0.as_str()).await.unwrap();
    let mut table = (*snapshot.packs().await.unwrap()).clone();
    table.iter_mut().for_each(|used| Arc::make_mut(&mut used.entry).chunk_table_tag[0] ^= 1);
    let name = RunName::new(&repository.inner.keys, "forged", day(1), "run").unwrap();
    let id = SnapshotId::of_attempt(&name, 0);
    let mut about = snapshot.about().clone();
    about.session = id.to_string();
    about.series = "forged".to_owned();
    about.predecessor = None;
    let mut sessions = vec![Arc::from(id.as_str())];
    let pack_pages = inline_pack_pages(&table, &mut sessions).unwrap();
    let head = Head { sessions, pack_pages, ..Head::of(about) };
    repository.inner.commit_head(&id, &head.encode().unwrap()).await.unwrap();
    let before = packs(&store);
    assert!(collect_for_a_week(&store, &repository).await.is_none());
    assert_eq!(packs(&store), before);
    store.delete(&id.head_name()).await.unwrap();
    assert_restores(&repository, &days).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_that_means_other_packs_counts_for_nothing() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    // Of packs that are there, and of those that are gone and live on elsewhere.
    forge(&repository, &kept, Lie::Tag).await;
    let before = packs(&store);
    collect_for_days(&store, &repository).await;
    assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
    // It is let go as one of which nothing is left, and so are its packs.
    assert_eq!(packs(&store), before - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_that_claims_what_another_has_moved_does_not_replace_it() {
    for with_a_decision in [false, true] {
        let store = Arc::new(MemoryStore::new());
        let (repository, kept) = repacked(&store).await;
        let (honest, others) = (store.objects(), repackings(&store, &repository));
        let forged = forge(&repository, &kept, Lie::Content).await;
        for id in others.iter().filter(|_| with_a_decision) {
            repository.forget(id, ForgetReason::Superseded, "forged").await.unwrap();
        }
        let error = collect_for_a_week(&store, &repository).await;
        stopped(&error.unwrap(), &forged.head_name());
        let objects = store.objects();
        let mut before = honest.keys().filter(|name| !name.starts_with("marks/"));
        assert!(before.all(|name| objects.contains_key(name)));
        repository.write_off(&forged, "forged").await.unwrap();
        assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_that_moves_to_nowhere_or_to_anothers_pack_frees_nothing() {
    for lie in [Lie::NoHome, Lie::Itself] {
        let store = Arc::new(MemoryStore::new());
        let repository = open(store.clone()).await.unwrap();
        let days = days(&repository, 1..=3).await;
        let before = packs(&store);
        forge(&repository, &days, lie).await;
        assert!(collect_for_a_week(&store, &repository).await.is_none());
        assert!(packs(&store) >= before);
        assert_restores(&open(store.clone()).await.unwrap(), &days).await;

        let store = Arc::new(MemoryStore::new());
        let (repository, kept) = repacked(&store).await;
        forge(&repository, &kept, lie).await;
        assert!(collect_for_a_week(&store, &repository).await.is_none());
        assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
    }
}

/// What it says is so, as long as the other's packs are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_that_says_what_another_says_does_not_replace_it() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    let before = packs(&store);
    for honest in repackings(&store, &repository) {
        let snapshot = repository.head_at(&honest).await.unwrap().unwrap();
        let table = (*snapshot.packs().await.unwrap()).clone();
        let inner = &repository.inner;
        let (id, run_id) = inner.begin_session(SessionKind::Writer).await.unwrap();
        let mut about = snapshot.about().clone();
        (about.session, about.run_id, about.sequence) = (id.to_string(), run_id, 1_000_000);
        let head = Head::of_repacking(about, &table, snapshot.moves().to_vec()).unwrap();
        inner.commit_head(&id, &head.encode().unwrap()).await.unwrap();
    }
    assert!(collect_for_a_week(&store, &repository).await.is_none());
    assert_eq!(packs(&store), before);
    assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_repacking_holds_that_was_written_off_is_missed_by_the_check() {
    let store = Arc::new(MemoryStore::new());
    let (repository, _) = repacked(&store).await;
    let problems = async |level| {
        let repository = open(store.clone()).await.unwrap();
        repository.check(level).await.unwrap().problems.len()
    };
    assert_eq!(problems(CheckLevel::Data).await, 0);
    for id in repackings(&store, &repository) {
        repository.write_off(&id, "by mistake").await.unwrap();
    }
    for level in [CheckLevel::Structure, CheckLevel::Footers, CheckLevel::Data] {
        assert!(problems(level).await > 0, "{level:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_leaves_no_number_for_others_is_named() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=2).await;
    let verdict = json!({"delete": {}, "keep": {}, "time": day(1)}).to_string();
    let last = format!("verdict/{}", u32::MAX);
    repository.inner.put(Kind::Verdict, &last, verdict.as_bytes()).await.unwrap();
    forget(&repository, &days[0].0).await.unwrap();
    let error = collect_for_a_week(&store, &repository).await.unwrap();
    stopped(&error, &last);
    assert_restores(&repository, &days[1..]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_over_what_is_in_use_is_not_carried_out() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let days = days(&repository, 1..=2).await;
    let snapshot = repository.find(days[1].0.as_str()).await.unwrap();
    let packs_in_use = snapshot.packs().await.unwrap();
    let names: Vec<_> = packs_in_use.iter().map(|used| used.entry.name.last_part()).collect();
    repository.inner.condemn(3, names.clone()).await.unwrap();
    let verdict = json!({"delete": {"packs": names}, "keep": {}, "time": day(1)}).to_string();
    repository.inner.put(Kind::Verdict, "verdict/3", verdict.as_bytes()).await.unwrap();
    let before = packs(&store);
    // It might be that what uses them was let go, and came back by a late write.
    repository.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!(packs(&store), before);
    let open = |store: &MemoryStore| store.objects().contains_key("condemned/3");
    assert!(open(&store));
    // Then it is over, and nothing that is in use has gone.
    assert!(collect_for_a_week(&store, &repository).await.is_none());
    assert!(!open(&store));
    assert_eq!(packs(&store), before);
    assert_restores(&repository, &days).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_comes_with_what_it_condemns_waits_for_runs_as_any_does() {
    a_verdict_waits(false).await;
    // Who has forged one may say as well that nobody has to be waited for.
    a_verdict_waits(true).await;
}

async fn a_verdict_waits(with_blockers: bool) {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let writer = begin(&repository, 1).await.unwrap();
    let content = noise(1, 40 << 20);
    write(&writer, "a", &content).await.unwrap();
    let names: Vec<_> = store
        .objects()
        .keys()
        .filter_map(|name| name.strip_prefix("packs/"))
        .map(|name| name.split_once('/').unwrap().1.to_owned())
        .collect();
    assert!(!names.is_empty());
    repository.inner.condemn(3, names.clone()).await.unwrap();
    let verdict = json!({"delete": {"packs": names}, "keep": {}, "time": day(1)}).to_string();
    repository.inner.put(Kind::Verdict, "verdict/3", verdict.as_bytes()).await.unwrap();
    if with_blockers {
        let blockers = json!({"sessions": [], "time": day(1)}).to_string();
        repository.inner.put(Kind::Blockers, "blockers/3", blockers.as_bytes()).await.unwrap();
    }
    repository.collect(&CollectOptions::default()).await.unwrap();
    // Older than the grace period, and the run is still there.
    store.age(Duration::from_secs(1200));
    let report = repository.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!((report.deleted_objects, report.blockers.len()), (0, 1), "{report:?}");
    let snapshot = writer.commit(commit_info()).await.unwrap();
    assert_eq!(read_stream(&snapshot, "a").await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repacking_is_let_go_by_the_collector_alone_and_is_read_as_long_as_it_is_there() {
    let store = Arc::new(MemoryStore::new());
    let (repository, kept) = repacked(&store).await;
    let heads = repackings(&store, &repository);
    let before = packs(&store);
    for id in &heads {
        let refused = repository.forget(id, ForgetReason::Erase, "").await.unwrap_err();
        assert_eq!(refused.reason().as_str(), "SnapshotNotFound");
        // As somebody writes it who holds the key.
        repository.forget(id, ForgetReason::Superseded, "forged").await.unwrap();
    }
    assert!(collect_for_a_week(&store, &repository).await.is_none());
    assert_eq!(packs(&store), before);
    assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
    for id in &heads {
        repository.write_off(id, "by mistake").await.unwrap();
    }
    assert!(collect_for_a_week(&store, &repository).await.is_none());
    assert_restores(&open(store.clone()).await.unwrap(), &kept).await;
}
