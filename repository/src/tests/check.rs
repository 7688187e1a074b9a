//! What a check finds, names, and passes over.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbbackup_contract::Reason;
use dbbackup_storage::{MemoryStore, Store as _};

use super::fixture::*;
use crate::{CheckLevel, CheckOptions, Error, Sample};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_the_snapshots_and_streams_that_a_damage_touches() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let one =
        Contents::from([("kept".into(), noise(1, 900_000)), ("lost".into(), noise(2, 900_000))]);
    back_up(&repository, 1, &Contents::from([("kept".into(), noise(1, 900_000))])).await.unwrap();
    let second = back_up(&repository, 2, &one).await.unwrap();
    for level in [CheckLevel::Structure, CheckLevel::Footers, CheckLevel::Data] {
        let report = repository.check(level).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!((report.snapshots, report.packs), (2, 2));
    }
    let packs = second.packs().await.unwrap();
    let own = packs.iter().find(|p| *p.entry.name.session == *second.id().as_str()).unwrap();
    let name = own.entry.name.pack_object();
    let mut bytes = store.objects()[&name].to_vec();
    bytes[100] ^= 1;
    store.overwrite(&name, bytes.into());
    let report = open(store).await.unwrap().check(CheckLevel::Data).await.unwrap();
    let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
    let [touched] = &problem.touched[..] else { panic!("{:?}", problem.touched) };
    assert_eq!(touched.snapshot, *second.id());
    assert_eq!(touched.streams, ["lost"]);
}

/// Two days, the second built on the first.
async fn two_days() -> (Arc<MemoryStore>, [crate::Snapshot; 2]) {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let one = contents(1);
    let first = back_up(&repository, 1, &one).await.unwrap();
    let second = back_up(&repository, 2, &changed(&one, 5)).await.unwrap();
    (store, [first, second])
}

fn owner(stream: &str) -> Option<String> {
    stream.split('/').nth(1).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damage_is_named_once_with_every_snapshot_that_it_touches_and_read_once() {
    let (store, [first, second]) = two_days().await;
    let packs = first.packs().await.unwrap();
    let [pack] = &packs[..] else { panic!("{} packs", packs.len()) };
    let name = pack.entry.name.pack_object();
    let mut bytes = store.objects()[&name].to_vec();
    bytes[100] ^= 1;
    store.overwrite(&name, bytes.into());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let options = CheckOptions {
        owner,
        progress: Some(Arc::new(move |progress| told.lock().unwrap().push(progress))),
        ..CheckLevel::Data.into()
    };
    let report = open(store.clone()).await.unwrap().check(options).await.unwrap();
    let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
    let ids: Vec<_> = problem.touched.iter().map(|touched| &touched.snapshot).collect();
    assert_eq!(ids, [first.id(), second.id()]);
    for touched in &problem.touched {
        assert!(!touched.all && !touched.streams.is_empty(), "{touched:?}");
        assert!(touched.streams.len() < 4, "only streams that use the block: {touched:?}");
    }
    for (id, loss) in &report.losses {
        assert!(ids.contains(&id) && !loss.all && !loss.owners.is_empty(), "{loss:?}");
    }
    assert_eq!((report.losses.len(), report.is_cut), (2, false));
    // Each pack was read once, though both snapshots need the first.
    let stored = |name: &str| store.objects()[name].len() as u64;
    let all: u64 =
        store.objects().keys().filter(|n| n.starts_with("packs/")).map(|n| stored(n)).sum();
    assert_eq!((report.packs, report.packs_read, report.bytes_read), (2, 2, all));
    let seen = seen.lock().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.bytes_done, last.bytes_total), (all, all));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_packs_is_read_and_the_footers_of_the_rest() {
    let store = Arc::new(MemoryStore::new());
    // The packs' names, and so what is read of them, are the same each time.
    let environment = Arc::new(FixedEnvironment::new(1));
    let options = crate::OpenOptions { environment, ..options() };
    let opened = crate::Repository::open_with(store, &encrypted(), options).await.unwrap();
    let repository = opened.repository;
    for n in 1..3 {
        back_up(&repository, n, &contents(n.into())).await.unwrap();
    }
    let mut read = std::collections::BTreeSet::new();
    for number in 0..40 {
        let sample = Sample::share(1000, number);
        let options = CheckOptions { sample, ..CheckLevel::Data.into() };
        let report = repository.check(options).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        read.insert((report.packs_read, report.bytes_read));
    }
    // None, the first or the second pack, in the course of time.
    let numbers: Vec<u64> = read.iter().map(|(packs, _)| *packs).filter(|n| *n < 2).collect();
    assert_eq!(numbers, [0, 1, 1], "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_come_since_a_time_is_read_at_every_level_and_nothing_that_was_known_then() {
    let (store, [_, second]) = two_days().await;
    let repository = open(store.clone()).await.unwrap();
    let read_since = async |new_since| {
        let options = CheckOptions { new_since, ..CheckLevel::Structure.into() };
        let report = repository.check(options).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        report.packs_read
    };
    let packs = second.packs().await.unwrap();
    let of_second = packs.iter().filter(|used| *used.entry.name.session == *second.id().as_str());
    let (of_second, of_both) = (of_second.count() as u64, packs.len() as u64);
    assert!(0 < of_second && of_second < of_both, "{of_second} of {of_both}");

    let committed = store.head(&second.id().head_name()).await.unwrap().modified;
    assert_eq!(read_since(None).await, 0);
    assert_eq!(read_since(Some(committed + Duration::from_nanos(1))).await, 0);
    // The first one's are in use by the second, too, and were known before.
    assert_eq!(read_since(Some(committed)).await, of_second);
    assert_eq!(read_since(Some(SystemTime::UNIX_EPOCH)).await, of_both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_taken_away_or_replaced_is_named_by_its_successor() {
    let (store, [first, _]) = two_days().await;
    let whole = store.objects();
    let name = first.id().head_name();
    let copy = |without: &str| {
        let store = Arc::new(MemoryStore::new());
        let kept = whole.iter().filter(|(name, _)| *name != without);
        kept.for_each(|(name, bytes)| store.overwrite(name, bytes.clone()));
        store
    };
    let taken = open(copy(&name)).await.unwrap();
    let report = taken.check(CheckLevel::Structure).await.unwrap();
    let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
    assert_eq!(problem.error.reason(), Reason::ObjectMissing);
    assert!(problem.touched[0].all && problem.touched[0].snapshot == *first.id());
    // Once somebody has said so, it is lost and no problem any more.
    taken.write_off(first.id(), "somebody deleted it").await.unwrap();
    let report = taken.check(CheckLevel::Structure).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);

    // The same head, sealed anew: valid by itself, and not the one that was there.
    let replaced = copy(&name);
    let repository = open(replaced.clone()).await.unwrap();
    let inner = &repository.inner;
    let kind = crate::envelope::Kind::Snapshot;
    let content = crate::envelope::open_object(&inner.keys, kind, &name, &whole[&name]).unwrap();
    inner.put(kind, &name, &content).await.unwrap();
    let report = repository.check(CheckLevel::Structure).await.unwrap();
    let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
    assert_eq!(problem.error.reason(), Reason::RepositoryDamaged);
    assert_eq!(problem.touched[0].snapshot, *first.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_and_key_slots_are_judged_one_by_one_and_strangers_named() {
    let (store, _) = two_days().await;
    let objects = store.objects();
    let slot = objects.keys().find(|name| name.starts_with("keys/")).unwrap();
    // A slot under another name, and a config that its name does not vouch for.
    let other = format!("keys/{}", "a".repeat(26));
    store.overwrite(&other, objects[slot].clone());
    store.overwrite("config/00", objects["config/0"].clone());
    let strangers = ["readme.txt", "packs/zz/x", "snapshots/none", "beats/none", "verdict/x"];
    for name in strangers {
        store.overwrite(name, Bytes::from_static(b"?"));
    }
    let unneeded = "packs/00/unneeded";
    store.overwrite(unneeded, Bytes::from_static(b"?"));
    let report = open(store).await.unwrap().check(CheckLevel::Structure).await.unwrap();
    let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
    assert!(matches!(&problem.error, Error::KeySlotDamaged(name) if *name == other));
    assert_eq!((report.configs, report.key_slots), (1, 1));
    let noted: Vec<&str> = report.notes.iter().map(|note| &note.object[..]).collect();
    for stranger in strangers.iter().chain(&["config/00", unneeded]) {
        assert!(noted.contains(stranger), "{stranger} of {noted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_check_ends_at_once() {
    let (store, _) = two_days().await;
    let options = CheckOptions::from(CheckLevel::Data);
    options.cancel.cancel();
    let error = open(store).await.unwrap().check(options).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_written_off_is_listed_refused_and_not_built_on() {
    let (store, [first, second]) = two_days().await;
    let repository = open(store.clone()).await.unwrap();
    let written = repository.write_off(second.id(), "a pack is lost").await.unwrap();
    // The first word counts.
    let again = repository.write_off(second.id(), "for another reason").await.unwrap();
    assert_eq!(written, again);
    let list = repository.snapshots(None).await.unwrap();
    let marks: Vec<_> = list.snapshots.iter().map(|s| s.written_off().is_some()).collect();
    assert_eq!(marks, [false, true]);
    let found = repository.find(second.id().as_str()).await.unwrap();
    let error = found.must_not_be_written_off().unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotWrittenOff);
    assert!(error.to_string().contains("a pack is lost"), "{error}");
    assert!(list.snapshots[0].must_not_be_written_off().is_ok());
    let next = back_up(&repository, 3, &contents(1)).await.unwrap();
    assert_eq!(next.about().predecessor.as_ref().unwrap().id, first.id().as_str());

    let nobody = second.id().as_str().replace("20261103", "20261104");
    let nobody = crate::SnapshotId::parse(&nobody).unwrap();
    let error = repository.write_off(&nobody, "?").await.unwrap_err();
    assert_eq!(error.reason(), Reason::SnapshotNotFound);
}

#[test]
fn a_check_has_one_head_at_a_time_in_memory() {
    const REPORT_BYTES: usize = 200_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let repository = runtime.block_on(async {
        let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
        for n in 1..25 {
            let crate::Begun::Started(writer) = repository.begin(session(n)).await.unwrap() else {
                panic!()
            };
            let report = serde_json::json!({"log": "x".repeat(REPORT_BYTES)});
            let info = crate::CommitInfo::new("Logical", serde_json::json!({}), report);
            writer.commit(info).await.unwrap();
        }
        repository
    });
    let mut report = None;
    let measured = allocation_counter::measure(|| {
        report = Some(runtime.block_on(repository.check(CheckLevel::Footers)).unwrap());
    });
    let report = report.unwrap();
    assert_eq!((report.snapshots, report.problems.len()), (24, 0));
    // As it is stored, opened, and taken apart.
    let most = measured.bytes_max as usize;
    assert!(most > REPORT_BYTES && most < 5 * REPORT_BYTES, "{most} bytes");
}
