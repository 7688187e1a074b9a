//! The damage matrix: each way of damage × each kind of object gives the reason
//! that `docs/format.md` says, and nothing else is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dbbackup_contract::Reason;
use dbbackup_storage::MemoryStore;

use super::fixture::*;
use crate::{CheckLevel, Encryption, Result};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Delete,
    Empty,
    CutTail,
    FlipHeader,
    FlipSalt,
    FlipMiddle,
    FlipEnd,
    Swap,
}

const ALL: [Damage; 8] = [
    Damage::Delete,
    Damage::Empty,
    Damage::CutTail,
    Damage::FlipHeader,
    Damage::FlipSalt,
    Damage::FlipMiddle,
    Damage::FlipEnd,
    Damage::Swap,
];

/// Two series with a snapshot each, with a pack and a meta object,
/// and a tombstone.
async fn fixture(encryption: &Encryption) -> (BTreeMap<String, Bytes>, Arc<[Contents; 2]>) {
    let store = Arc::new(MemoryStore::new());
    let repository = opened(store.clone(), encryption).await.unwrap().repository;
    let mut days = [contents(1), contents(2)];
    for (n, contents) in (1_u32..).zip(&mut days) {
        contents.insert("big".into(), noise(u64::from(n) + 70, 2_500_000));
        let many = (0..1500).map(|i| (format!("t/{i:04}-{}", "x".repeat(200)), noise(i, 40)));
        contents.extend(many);
        let mut options = session(n);
        options.series = format!("series {n}");
        let crate::Begun::Started(writer) = repository.begin(options).await.unwrap() else {
            panic!()
        };
        for (name, content) in &*contents {
            write(&writer, name, content).await.unwrap();
        }
        writer.commit(commit_info()).await.unwrap();
    }
    drop(begin(&repository, 9).await.unwrap());
    let fence = Some(crate::TombstoneReason::Inspect);
    repository.resolve_run("c/ns/shop", "run-9", day(9), fence).await.unwrap();
    (store.objects(), Arc::new(days))
}

fn damaged(
    objects: &BTreeMap<String, Bytes>,
    name: &str,
    damage: Damage,
) -> Option<Arc<MemoryStore>> {
    let store = Arc::new(MemoryStore::new());
    for (other, bytes) in objects.iter().filter(|(other, _)| *other != name) {
        store.overwrite(other, bytes.clone());
    }
    let object = &objects[name];
    let flip = |at: usize| {
        let mut bytes = object.to_vec();
        bytes[at] ^= 0x10;
        Some(bytes)
    };
    let bytes = match damage {
        Damage::Delete => None,
        Damage::Empty => Some(Vec::new()),
        Damage::CutTail => Some(object[..object.len() - 1].to_vec()),
        Damage::FlipHeader => flip(5),
        Damage::FlipSalt => flip(20),
        Damage::FlipMiddle => flip(object.len() / 2),
        Damage::FlipEnd => flip(object.len() - 1),
        Damage::Swap => {
            let folder = name.split('/').next().unwrap();
            let other = objects
                .iter()
                .find(|(other, _)| *other != name && other.starts_with(&format!("{folder}/")))?;
            Some(other.1.to_vec())
        }
    };
    if let Some(bytes) = bytes {
        store.overwrite(name, bytes.into());
    }
    Some(store)
}

/// What a user meets: opening, listing, restoring each snapshot.
async fn outcome(
    store: Arc<MemoryStore>,
    encryption: &Encryption,
    days: &[Contents; 2],
) -> Result<Vec<Option<Reason>>> {
    let repository = opened(store, encryption).await?.repository;
    let list = repository.snapshots(None).await?;
    let mut reasons = Vec::new();
    for (n, contents) in (1..).zip(days) {
        let id = list.snapshots.iter().find(|s| s.about().series == format!("series {n}"));
        let Some(snapshot) = id else {
            reasons.push(Some(
                list.unreadable.first().map_or(Reason::SnapshotNotFound, |(_, e)| e.reason()),
            ));
            continue;
        };
        reasons.push(match restore(snapshot).await {
            Ok(restored) => {
                assert_same(&restored, contents);
                None
            }
            Err(error) => Some(error.reason()),
        });
    }
    Ok(reasons)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_of_every_object_gives_its_reason_and_touches_nothing_else() {
    for encryption in [encrypted(), Encryption::None] {
        let (objects, days) = fixture(&encryption).await;
        let mut cases = tokio::task::JoinSet::new();
        for (name, damage) in objects.keys().flat_map(|name| ALL.map(|damage| (name, damage))) {
            let Some(store) = damaged(&objects, name, damage) else { continue };
            let case = Case { store, encryption: encryption.clone(), name: name.clone(), damage };
            // As many at once as there are threads to run them.
            if cases.len() >= 4 {
                cases.join_next().await.unwrap().unwrap();
            }
            let days = Arc::clone(&days);
            cases.spawn(async move { case.gives_its_reason(&days).await });
        }
        while let Some(case) = cases.join_next().await {
            case.unwrap();
        }
    }
}

/// A repository with one object damaged in one way.
struct Case {
    store: Arc<MemoryStore>,
    encryption: Encryption,
    name: String,
    damage: Damage,
}

impl Case {
    async fn gives_its_reason(&self, days: &[Contents; 2]) {
        let Self { store, encryption, name, damage } = self;
        let found = outcome(store.clone(), encryption, days).await;
        let case = format!("{damage:?} of {name}: {found:?}");
        let missing = *damage == Damage::Delete;
        let kind = name.split('/').next().unwrap();
        match kind {
            "config" | "keys" => {
                let expected = match kind {
                    _ if missing => Reason::ObjectMissing,
                    "keys" => Reason::KeySlotDamaged,
                    _ => Reason::RepositoryDamaged,
                };
                assert_eq!(found.unwrap_err().reason(), expected, "{case}");
            }
            "packs" | "meta" | "snapshots" => {
                let expected = match (kind, missing) {
                    ("snapshots", true) => Reason::SnapshotNotFound,
                    (_, true) => Reason::ObjectMissing,
                    (_, false) => Reason::RepositoryDamaged,
                };
                let found = found.unwrap();
                let hit: Vec<_> = found.iter().flatten().collect();
                assert!(hit.len() <= 1, "{case}");
                match hit.first() {
                    Some(reason) => assert_eq!(**reason, expected, "{case}"),
                    None => self.is_noticed(&case).await,
                }
            }
            "sessions" => assert_eq!(found.unwrap(), [None, None], "{case}"),
            other => panic!("{other} is not in the matrix"),
        }
    }

    /// What no restore reads (headers, trailers, padding, chunk ids, tombstones) is
    /// noticed by the check, or when the run is resolved.
    async fn is_noticed(&self, case: &str) {
        let repository = opened(self.store.clone(), &self.encryption).await.unwrap().repository;
        if self.name.starts_with("snapshots/") {
            let resolved = repository.resolve_run("c/ns/shop", "run-9", day(9), None).await;
            if self.damage != Damage::Delete {
                let error = resolved.unwrap_err();
                assert_eq!(error.reason(), Reason::RepositoryDamaged, "{case}");
            }
            return;
        }
        let report = repository.check(CheckLevel::Data).await.unwrap();
        assert!(!report.problems.is_empty(), "{case}");
        for problem in &report.problems {
            assert!(
                matches!(problem.error.reason(), Reason::RepositoryDamaged | Reason::ObjectMissing),
                "{case}"
            );
        }
    }
}

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
    assert_eq!(problem.snapshot, *second.id());
    assert_eq!(problem.streams, ["lost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_cannot_be_read_does_not_fail_the_next_backup() {
    let (objects, _) = fixture(&encrypted()).await;
    for (name, damage) in objects.keys().flat_map(|name| {
        [Damage::Delete, Damage::FlipMiddle, Damage::FlipEnd].map(|damage| (name.clone(), damage))
    }) {
        if !["packs/", "meta/", "snapshots/"].iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let store = damaged(&objects, &name, damage).unwrap();
        let repository = open(store).await.unwrap();
        let mut options = session(20);
        options.series = "series 1".into();
        let crate::Begun::Started(writer) = repository.begin(options).await.unwrap() else {
            panic!()
        };
        let content = noise(71, 2_500_000);
        write(&writer, "big", &content).await.unwrap();
        let snapshot = writer.commit(commit_info()).await.unwrap();
        let restored = read_stream(&snapshot, "big").await;
        // A block that is damaged though its footer is whole is known only when it
        // is read: `check` finds it, and names this snapshot too.
        let inherits_damage = name.starts_with("packs/") && damage == Damage::FlipMiddle;
        match restored {
            Ok(restored) => assert!(restored == content, "{damage:?} of {name}"),
            Err(error) => assert!(inherits_damage, "{damage:?} of {name}: {error}"),
        }
    }
}
