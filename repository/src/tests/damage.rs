//! The damage matrix: each way of damage × each kind of object gives the reason
//! that `docs/format.md` says, and nothing else is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dbbackup_contract::Reason;
use dbbackup_storage::MemoryStore;
use serde_json::json;

use super::fixture::*;
use crate::envelope::Kind;
use crate::{Begun, CheckLevel, CheckReport, Encryption, Repository, Snapshot};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Delete,
    Empty,
    CutHalf,
    CutTail,
    FlipHeader,
    FlipSalt,
    FlipMiddle,
    FlipEnd,
    Append,
    /// Another object of the same folder in its place.
    Swap,
    /// An older object of the same name, of the same repository.
    Replay,
}

const ALL: [Damage; 11] = [
    Damage::Delete,
    Damage::Empty,
    Damage::CutHalf,
    Damage::CutTail,
    Damage::FlipHeader,
    Damage::FlipSalt,
    Damage::FlipMiddle,
    Damage::FlipEnd,
    Damage::Append,
    Damage::Swap,
    Damage::Replay,
];

/// In the names of the fenced run: its day.
const TOMBSTONE: &str = "-20261110t";
/// In the names of the snapshot that was written off: its day.
const WRITTEN_OFF: &str = "-20261104t";

/// A repository, and what it held in another life: the same names, other bytes.
struct Fixture {
    objects: BTreeMap<String, Bytes>,
    older: BTreeMap<String, Bytes>,
    days: [Contents; 2],
    /// How many of the days use a pack: hooks let them share some.
    users: BTreeMap<String, usize>,
}

impl Fixture {
    async fn new(encryption: &Encryption) -> Self {
        let empty = Arc::new(MemoryStore::new());
        opened(empty.clone(), encryption).await.unwrap();
        let store = |objects: BTreeMap<String, Bytes>| {
            let store = MemoryStore::new();
            objects.into_iter().for_each(|(name, bytes)| store.overwrite(&name, bytes));
            Arc::new(store)
        };
        let older = store(empty.objects());
        fill(&opened(older.clone(), encryption).await.unwrap().repository, [11, 12]).await;
        let newer = store(empty.objects());
        let repository = opened(newer.clone(), encryption).await.unwrap().repository;
        let days = fill(&repository, [1, 2]).await;
        let mut users = BTreeMap::new();
        let list = repository.snapshots(None).await.unwrap();
        for snapshot in list.snapshots.iter().filter(|snapshot| snapshot.written_off().is_none()) {
            for pack in snapshot.packs().await.unwrap().iter().filter(|pack| pack.is_used()) {
                *users.entry(pack.entry.name.pack_object()).or_default() += 1;
            }
        }
        Self { objects: newer.objects(), older: older.objects(), days, users }
    }
}

/// An object of every kind: two series with a snapshot each, with a pack and meta
/// objects, both pinned; a tombstone; a reader's heartbeat; the collector's notes;
/// a snapshot that was written off; requests that were carried out.
async fn fill(repository: &Repository, seeds: [u64; 2]) -> [Contents; 2] {
    let mut days = seeds.map(|seed| {
        let mut contents = Contents::from([
            ("db/shop/data".into(), noise(seed, 300_000)),
            ("db/shop/zeros".into(), vec![0; 200_000]),
            ("db/empty".into(), Vec::new()),
            ("globals".into(), format!("CREATE ROLE shop{seed};").into_bytes()),
        ]);
        // Long names that do not compress: the table does not fit the head.
        let name = |n: u64| data_encoding::HEXLOWER.encode(&noise(n, 500));
        contents.extend((0..500).map(|n| (format!("t/{}", name(n)), noise(n + seed, 40))));
        contents
    });
    for (n, contents) in (1_u32..).zip(&mut days) {
        let snapshot = back_up_series(repository, n, contents).await;
        repository.pin(snapshot.id(), "for ever").await.unwrap();
        let metas = snapshot.metas().len();
        assert!(metas > 0, "no meta object");
    }
    let lost = Contents::from([("lost".into(), noise(seeds[0], 1000))]);
    let lost = back_up_series(repository, 3, &lost).await;
    repository.write_off(lost.id(), "its packs are gone").await.unwrap();
    for name in ["one", "two"] {
        let key = repository.ledger_key("shop", name, "digest", "7");
        repository.note_carried_out(&key, "uid", name, json!({})).await.unwrap();
    }
    drop(begin(repository, 9).await.unwrap());
    let fence = Some(crate::TombstoneReason::Inspect);
    repository.resolve_run("c/ns/shop", "run-9", day(9), fence).await.unwrap();
    repository.begin_reading().await.unwrap().end().await.unwrap();
    let time = day(1);
    for (kind, name, json) in [
        (Kind::Condemned, "condemned/0", json!({"packs": [], "time": time})),
        (Kind::Blockers, "blockers/0", json!({"sessions": [], "time": time})),
        (Kind::Verdict, "verdict/0", json!({"delete": {}, "keep": {}, "time": time})),
        (Kind::Marks, "marks/1", json!({"heads": {}, "time": time})),
    ] {
        repository.inner.put(kind, name, json.to_string().as_bytes()).await.unwrap();
    }
    days
}

/// A backup of the series of day `n`.
async fn back_up_series(repository: &Repository, n: u32, contents: &Contents) -> Snapshot {
    let mut options = session(n);
    options.series = format!("series {n}");
    let Begun::Started(writer) = repository.begin(options).await.unwrap() else { panic!() };
    for (name, content) in contents {
        write(&writer, name, content).await.unwrap();
    }
    writer.commit(commit_info()).await.unwrap()
}

/// The store with one object damaged; `None` where there is nothing to put there.
fn damaged(fixture: &Fixture, name: &str, damage: Damage) -> Option<Arc<MemoryStore>> {
    let store = Arc::new(MemoryStore::new());
    for (other, bytes) in fixture.objects.iter().filter(|(other, _)| *other != name) {
        store.overwrite(other, bytes.clone());
    }
    let object = &fixture.objects[name];
    let flip = |at: usize| {
        let mut bytes = object.to_vec();
        bytes[at] ^= 0x10;
        Some(bytes)
    };
    let bytes = match damage {
        Damage::Delete => None,
        Damage::Empty => Some(Vec::new()),
        Damage::CutHalf => Some(object[..object.len() / 2].to_vec()),
        Damage::CutTail => Some(object[..object.len() - 1].to_vec()),
        Damage::FlipHeader => flip(5),
        Damage::FlipSalt => flip(20),
        Damage::FlipMiddle => flip(object.len() / 2),
        Damage::FlipEnd => flip(object.len() - 1),
        Damage::Append => Some([object, &[0; 20][..]].concat()),
        Damage::Swap => {
            let folder = format!("{}/", name.split('/').next().unwrap());
            let mut others = fixture.objects.iter().filter(|(other, _)| *other != name);
            Some(others.find(|(other, _)| other.starts_with(&folder))?.1.to_vec())
        }
        Damage::Replay => Some(fixture.older.get(name).filter(|older| *older != object)?.to_vec()),
    };
    if let Some(bytes) = bytes {
        store.overwrite(name, bytes.into());
    }
    Some(store)
}

/// What a user meets when restoring each snapshot: its reason, or every byte.
async fn outcome(repository: &Repository, days: &[Contents; 2]) -> Vec<Option<Reason>> {
    let list = repository.snapshots(None).await.unwrap();
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
    reasons
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_of_every_object_gives_its_reason_and_touches_nothing_else() {
    for encryption in [encrypted(), Encryption::None] {
        let fixture = Arc::new(Fixture::new(&encryption).await);
        let mut kinds = BTreeSet::new();
        let mut cases = tokio::task::JoinSet::new();
        let names = fixture.objects.keys().flat_map(|name| ALL.map(|damage| (name, damage)));
        for (name, damage) in names {
            let Some(store) = damaged(&fixture, name, damage) else { continue };
            kinds.insert(name.split('/').next().unwrap().to_owned());
            let users = fixture.users.get(name).copied().unwrap_or(1);
            let (encryption, name) = (encryption.clone(), name.clone());
            let case = Case { store, encryption, name, damage, users };
            // As many at once as there are threads to run them.
            if cases.len() >= 4 {
                cases.join_next().await.unwrap().unwrap();
            }
            let fixture = Arc::clone(&fixture);
            cases.spawn(async move { case.gives_its_reason(&fixture.days).await });
        }
        while let Some(case) = cases.join_next().await {
            case.unwrap();
        }
        let expected = 13 + usize::from(matches!(encryption, Encryption::Keys(_)));
        assert_eq!(kinds.len(), expected, "{kinds:?}");
    }
}

/// A repository with one object damaged in one way.
struct Case {
    store: Arc<MemoryStore>,
    encryption: Encryption,
    name: String,
    damage: Damage,
    /// So many snapshots may be hit.
    users: usize,
}

impl Case {
    /// As the table in `docs/format.md`, "Damage", has it.
    async fn gives_its_reason(&self, days: &[Contents; 2]) {
        let missing = self.damage == Damage::Delete;
        let damaged = if missing { Reason::ObjectMissing } else { Reason::RepositoryDamaged };
        let case = format!("{:?} of {}", self.damage, self.name);
        let opened = opened(self.store.clone(), &self.encryption).await;
        let kind = self.name.split('/').next().unwrap();
        if kind == "config" || kind == "keys" {
            let slot_damaged = kind == "keys" && !missing;
            let expected = if slot_damaged { Reason::KeySlotDamaged } else { damaged };
            assert_eq!(opened.unwrap_err().reason(), expected, "{case}");
            return;
        }
        let repository = opened.unwrap().repository;
        let found = outcome(&repository, days).await;
        let hit: Vec<Reason> = found.iter().flatten().copied().collect();
        let case = format!("{case}: {hit:?}");
        let report = repository.check(CheckLevel::Data).await.unwrap();
        match kind {
            "packs" | "meta" | "snapshots" => {
                let expected = match (kind, missing) {
                    ("snapshots", true) => Reason::SnapshotNotFound,
                    _ => damaged,
                };
                assert!(hit.len() <= self.users, "{case}");
                assert!(hit.iter().all(|reason| *reason == expected), "{case}");
                assert!(!hit.is_empty() || !self.must_hit(), "{case}");
                // That the last head of a series is gone, nothing tells but the
                // cluster's own record; nor that a tombstone is another one.
                let unseen = kind == "snapshots" && (missing || hit.is_empty());
                let unseen = unseen || self.is_of_the_written_off();
                if !unseen {
                    self.is_reported(&report, expected, hit.len(), &case);
                }
                if kind == "snapshots" && hit.is_empty() {
                    self.stops_its_run(&repository, &case).await;
                }
            }
            // A snapshot can be restored, whatever was decided about it.
            "condemned" | "verdict" | "written-off" | "ledger" | "blockers" | "marks"
            | "decisions" => {
                assert_eq!(hit, [], "{case}");
                match self.damage {
                    Damage::Delete | Damage::Replay => {}
                    _ => self.is_reported(&report, damaged, 0, &case),
                }
                let stops_backups = ["condemned", "verdict"].contains(&kind);
                if stops_backups && !matches!(self.damage, Damage::Delete | Damage::Replay) {
                    let begun = repository.begin(session(20)).await;
                    assert_eq!(begun.unwrap_err().reason(), damaged, "{case}");
                }
            }
            "sessions" | "beats" => {
                assert_eq!(hit, [], "{case}");
                assert!(report.problems.is_empty(), "{case}: {:?}", report.problems);
            }
            other => panic!("{other} is not in the matrix"),
        }
    }

    /// Whether it touches what a restore reads, for certain.
    fn must_hit(&self) -> bool {
        let is_tombstone = self.name.contains(TOMBSTONE);
        let kind = self.name.split('/').next().unwrap();
        let whole = match self.damage {
            Damage::Delete | Damage::Empty | Damage::CutHalf | Damage::FlipMiddle => true,
            Damage::Swap | Damage::Replay => true,
            _ => kind == "snapshots",
        };
        whole && !is_tombstone && !self.is_of_the_written_off()
    }

    /// Objects of the third series: no snapshot needs them any more.
    fn is_of_the_written_off(&self) -> bool {
        self.name.contains(WRITTEN_OFF)
    }

    /// The check names the damage, and what cannot be restored because of it.
    fn is_reported(&self, report: &CheckReport, reason: Reason, hit: usize, case: &str) {
        let [problem, ..] = &report.problems[..] else { panic!("{case} is not noticed") };
        for problem in &report.problems {
            assert_eq!(problem.error.reason(), reason, "{case}: {}", problem.error);
        }
        let touched: BTreeSet<_> =
            report.problems.iter().flat_map(|p| &p.touched).map(|t| &t.snapshot).collect();
        // A pack's chunk ids or padding are needed by no restore.
        assert!((hit..=self.users).contains(&touched.len()), "{case}: {:?}", problem.touched);
    }

    /// A tombstone that cannot be read stops its own run, and nothing else.
    async fn stops_its_run(&self, repository: &Repository, case: &str) {
        let resolved = repository.resolve_run("c/ns/shop", "run-9", day(9), None).await;
        let is_tombstone = self.name.contains(TOMBSTONE);
        match self.damage {
            Damage::Delete | Damage::Replay => drop(resolved.unwrap()),
            _ if !is_tombstone => drop(resolved.unwrap()),
            _ => assert_eq!(resolved.unwrap_err().reason(), Reason::RepositoryDamaged, "{case}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_cannot_be_read_does_not_fail_the_next_backup() {
    let fixture = Fixture::new(&encrypted()).await;
    for (name, damage) in fixture.objects.keys().flat_map(|name| {
        [Damage::Delete, Damage::FlipMiddle, Damage::FlipEnd].map(|damage| (name.clone(), damage))
    }) {
        if !["packs/", "meta/", "snapshots/"].iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let store = damaged(&fixture, &name, damage).unwrap();
        let repository = open(store).await.unwrap();
        let mut options = session(20);
        options.series = "series 1".into();
        let Begun::Started(writer) = repository.begin(options).await.unwrap() else { panic!() };
        let content = noise(1, 300_000);
        write(&writer, "db/shop/data", &content).await.unwrap();
        let snapshot = writer.commit(commit_info()).await.unwrap();
        let restored = read_stream(&snapshot, "db/shop/data").await;
        // A block that is damaged though its footer is whole is known only when it
        // is read: `check` finds it, and names this snapshot too.
        let inherits_damage = name.starts_with("packs/") && damage == Damage::FlipMiddle;
        match restored {
            Ok(restored) => assert!(restored == content, "{damage:?} of {name}"),
            Err(error) => assert!(inherits_damage, "{damage:?} of {name}: {error}"),
        }
    }
}
