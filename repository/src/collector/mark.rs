//! What is in use: every head is read, and what cannot be read stops the
//! collection.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use dbbackup_storage::{ObjectInfo, collect_listing};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::StoreClock;
use super::notes::{Note, note_name};
use super::sessions::TRACES_STAY;
use crate::block_set::BlockSet;
use crate::envelope::Kind;
use crate::guards::{Guard, holds};
use crate::head::{Head, HeadObject};
use crate::moves::{Move, Standing};
use crate::names::{MARKS, PartName, SNAPSHOTS, SnapshotId};
use crate::pack::PackEntry;
use crate::repository::{Inner, Repository};
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Heads that are read at the same time: each takes a mebibyte at most, one page of
/// its table of packs, and 40 bytes for each pack.
const HEADS_AT_ONCE: usize = 16;

/// Most heads that are remembered: 125 bytes each, in an object of 32 MiB.
const MAX_KNOWN: usize = 250_000;

/// The heads that a collection has read, for the next one: what is gone then
/// without a note was deleted by somebody else.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    /// SHA-256 of each stored head, by snapshot.
    heads: BTreeMap<String, String>,
    time: Timestamp,
}

impl Note for Known {
    const KIND: Kind = Kind::Marks;
    const FOLDER: &str = MARKS;
}

/// What is in use.
#[derive(Debug, Default)]
pub(super) struct Marked {
    packs: HashMap<PartName, InUse>,
    /// The packs of repackings whose head is there.
    held: HashSet<PartName>,
    /// All repackings whose head is there.
    pub(super) repackings: BTreeMap<SnapshotId, Repacking>,
    /// The blocks that they moved, by the pack that recipes name.
    moved: HashMap<PartName, BlockSet>,
    metas: HashSet<PartName>,
    sessions: HashSet<Arc<str>>,
    /// Digest of each head that was read.
    pub(super) heads: BTreeMap<SnapshotId, String>,
    /// Attempts that were given up.
    pub(super) tombstones: BTreeSet<SnapshotId>,
    /// Heads and tombstones that every listing shows.
    pub(super) settled: BTreeSet<SnapshotId>,
    predecessors: BTreeSet<String>,
}

/// What a repacking did.
#[derive(Debug)]
pub(super) struct Repacking {
    /// One more than of those that it knew: later ones supersede earlier ones.
    pub(super) sequence: u64,
    /// The packs that it made.
    pub(super) table: Vec<Arc<PackEntry>>,
    pub(super) moves: Vec<Move>,
    pub(super) standing: Standing,
}

/// A move, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved<'a> {
    pub(super) by: &'a SnapshotId,
    pub(super) moved: &'a Move,
    /// The pack that they were moved to.
    pub(super) home: &'a PackEntry,
}

/// The blocks that any of these carries.
pub(super) fn carried<'a, 'b: 'a>(moves: impl IntoIterator<Item = &'a Moved<'b>>) -> BlockSet {
    let mut carried = BlockSet::default();
    moves.into_iter().for_each(|to| carried.add(&to.moved.carried));
    carried
}

/// How a pack is in use: about 220 bytes, 14 MB for a tebibyte of packs.
#[derive(Clone, Debug)]
pub(super) struct InUse {
    /// What heads say of it; none where they disagree. By the tag of its block table moves
    /// name it.
    pub(super) entry: Option<Arc<PackEntry>>,
    /// The blocks that any head uses.
    pub(super) blocks: BlockSet,
}

/// What one object under `snapshots/` is.
enum Found {
    Head(Box<Used>),
    Tombstone(SnapshotId),
    Gone(SnapshotId),
}

/// What one head uses.
struct Used {
    id: SnapshotId,
    digest: String,
    predecessor: Option<String>,
    packs: Vec<(PartName, InUse)>,
    metas: Vec<PartName>,
    /// What it did, if it is a repacking.
    repacking: Option<Repacking>,
}

impl Marked {
    /// Whether a pack is needed: a head uses blocks of it that are nowhere else, or it
    /// holds what was moved.
    pub(super) fn uses_pack(&self, pack: &PartName) -> bool {
        self.held.contains(pack)
            || self.packs.get(pack).is_some_and(|used| !self.is_moved(pack, used))
    }

    fn is_moved(&self, pack: &PartName, used: &InUse) -> bool {
        let whole = |moved: &BlockSet| moved.has_all_of(&used.blocks) || !holds(Guard::MovedWhole);
        self.moved.get(pack).is_some_and(whole)
    }

    /// Whether any head names a pack, wherever its blocks are.
    pub(super) fn names_pack(&self, pack: &PartName) -> bool {
        self.packs.contains_key(pack)
    }

    /// How backups use a pack, if any names it.
    pub(super) fn in_use(&self, pack: &PartName) -> Option<&InUse> {
        self.packs.get(pack)
    }

    /// Repackings that nothing needs: no head names what they moved, or later ones have
    /// moved it on.
    pub(super) fn superseded(&self) -> BTreeSet<SnapshotId> {
        let mut later: HashMap<&PartName, BlockSet> = HashMap::new();
        let mut superseded = BTreeSet::new();
        let mut newest_first: Vec<_> = self.repackings.iter().collect();
        newest_first.sort_by_key(|(id, repacking)| std::cmp::Reverse((repacking.sequence, *id)));
        for (id, repacking) in newest_first {
            let moved_on = |moved: &Move| match self.in_use(&moved.pack) {
                None => true,
                // No head means the pack that it moved blocks of.
                Some(InUse { entry: Some(entry), .. }) if entry.block_table_tag != moved.tag => {
                    true
                }
                Some(used) => {
                    later.get(&moved.pack).is_some_and(|here| here.has_all_of(&used.blocks))
                }
            };
            if repacking.moves.iter().all(moved_on) {
                superseded.insert(id.clone());
            }
            for Moved { moved, .. } in self.counting(id, repacking) {
                later.entry(&moved.pack).or_default().add(&moved.carried);
            }
        }
        superseded
    }

    /// How the pack is in use that a move took blocks of: heads have to mean the same
    /// pack, which its tag tells.
    pub(super) fn wanted(&self, moved: &Move) -> Option<&InUse> {
        let is_meant = |entry: &Arc<PackEntry>| entry.block_table_tag == moved.tag;
        self.in_use(&moved.pack).filter(|used| used.entry.as_ref().is_some_and(is_meant))
    }

    /// The moves of a repacking that heads rely upon: to packs that it has made itself. What
    /// stands in another's pack goes with that one.
    fn counting<'a>(
        &'a self,
        by: &'a SnapshotId,
        repacking: &'a Repacking,
    ) -> impl Iterator<Item = Moved<'a>> {
        let moves = match repacking.standing {
            Standing::Counts => &repacking.moves[..],
            Standing::LetGo | Standing::WrittenOff => &[],
        };
        moves.iter().filter(|moved| self.wanted(moved).is_some()).filter_map(move |moved| {
            let home = repacking.table.get(moved.home as usize)?;
            home.name.is_by(by).then_some(Moved { by, moved, home })
        })
    }

    /// The moves of blocks that are in use, by pack.
    pub(super) fn moves_by_pack(&self) -> HashMap<&PartName, Vec<Moved<'_>>> {
        let mut by_pack = HashMap::<_, Vec<_>>::new();
        for (id, repacking) in &self.repackings {
            for moved in self.counting(id, repacking) {
                by_pack.entry(&moved.moved.pack).or_default().push(moved);
            }
        }
        by_pack
    }

    /// Whether a pack is of a repacking.
    pub(super) fn holds_moved(&self, pack: &PartName) -> bool {
        self.held.contains(pack)
    }

    /// What was moved to a pack.
    pub(super) fn moved_to<'a>(&'a self, pack: &'a PartName) -> impl Iterator<Item = &'a Move> {
        let maker = SnapshotId::parse(&pack.session).ok();
        let maker = maker.and_then(|id| self.repackings.get(&id));
        maker.into_iter().flat_map(move |repacking| {
            let home = |moved: &Move| repacking.table.get(moved.home as usize);
            let here = move |moved: &&Move| home(moved).is_some_and(|home| home.name == *pack);
            repacking.moves.iter().filter(here)
        })
    }

    /// The packs that heads name, and how.
    pub(super) fn packs(&self) -> impl Iterator<Item = (&PartName, &InUse)> {
        self.packs.iter()
    }

    pub(super) fn uses_meta(&self, meta: &PartName) -> bool {
        self.metas.contains(meta)
    }

    fn add(&mut self, used: Used) {
        for (pack, mut used) in used.packs {
            let name = self.interned(pack);
            match self.packs.get_mut(&name) {
                Some(known) => {
                    known.blocks.add(&used.blocks);
                    if known.entry != used.entry {
                        known.entry = None;
                    }
                }
                None => {
                    if let Some(entry) = &mut used.entry {
                        Arc::make_mut(entry).name = name.clone();
                    }
                    self.packs.insert(name, used);
                }
            }
        }
        if let Some(repacking) = used.repacking {
            // What it names of others it holds no more than anybody.
            for entry in repacking.table.iter().filter(|entry| entry.name.is_by(&used.id)) {
                let name = self.interned(entry.name.clone());
                self.held.insert(name);
            }
            self.repackings.insert(used.id.clone(), repacking);
        }
        for meta in used.metas {
            let name = self.interned(meta);
            self.metas.insert(name);
        }
        self.predecessors.extend(used.predecessor);
        self.heads.insert(used.id, used.digest);
    }

    /// Counts what was moved, once it is known which packs heads mean.
    fn count_moves(&mut self) {
        let counted = self.moves_by_pack().into_iter();
        let counted: Vec<_> =
            counted.map(|(pack, moves)| (pack.clone(), carried(&moves))).collect();
        self.moved =
            counted.into_iter().map(|(pack, moved)| (self.interned(pack), moved)).collect();
    }

    /// The same name, whose session is shared with all others of it: a mebibyte
    /// of memory for every 25,000 packs instead of three.
    fn interned(&mut self, name: PartName) -> PartName {
        if let Some(session) = self.sessions.get(&name.session) {
            return PartName::new(Arc::clone(session), name.n);
        }
        self.sessions.insert(Arc::clone(&name.session));
        name
    }
}

impl Inner {
    /// Heads and tombstones that are listed, and when they were created.
    pub(super) async fn listed_heads(&self) -> Result<Vec<(SnapshotId, SystemTime)>> {
        let listed = collect_listing(self.store.list(SNAPSHOTS)).await?;
        let parse = |object: ObjectInfo| {
            let id = SnapshotId::parse(object.name.strip_prefix(SNAPSHOTS).unwrap_or_default());
            let id = id.map_err(|_| Error::damaged(&object.name, "it is no snapshot's name"))?;
            Ok((id, object.modified))
        };
        listed.into_iter().map(parse).collect()
    }
}

impl Repository {
    /// Reads every head that is listed, and those of `named`, which a listing may
    /// not show yet.
    pub(super) async fn mark(
        &self,
        named: &BTreeSet<SnapshotId>,
        clock: StoreClock,
    ) -> Result<Marked> {
        let mut marked = Marked::default();
        let mut listed = BTreeSet::new();
        for (id, created) in self.inner.listed_heads().await? {
            if clock.age(created) > TRACES_STAY {
                marked.settled.insert(id.clone());
            }
            listed.insert(id);
        }
        let decided = self.inner.decided_without_doubt().await?;
        let mut names = listed.clone();
        if holds(Guard::ReadBlockers) {
            names.extend(named.iter().cloned());
        }
        let mut found =
            stream::iter(names).map(|id| self.look_at(id)).buffer_unordered(HEADS_AT_ONCE);
        let mut gone = Vec::new();
        while let Some(found) = found.try_next().await? {
            match found {
                Found::Head(used) => marked.add(*used),
                // Where a head was let go, one may stand in its place that was late.
                Found::Tombstone(id) if decided.contains(&id) => {}
                Found::Tombstone(id) => _ = marked.tombstones.insert(id),
                // A listing may still show what was deleted.
                Found::Gone(id) if listed.contains(&id) => gone.push(id.to_string()),
                Found::Gone(_) => {}
            }
        }
        drop(found);
        marked.count_moves();
        gone.extend(marked.predecessors.iter().filter(|id| !marked.knows(id)).cloned());
        gone.extend(self.gone_since_last_time(&marked).await?);
        self.alarm(gone).await?;
        Ok(marked)
    }

    async fn look_at(&self, id: SnapshotId) -> Result<Found> {
        let found = match self.inner.head_object(&id).await {
            // Somebody has looked at it and said that it is lost.
            Err(Error::Damaged { .. }) if self.inner.is_written_off(&id).await? => None,
            found => found?,
        };
        match found {
            None => Ok(Found::Gone(id)),
            Some((HeadObject::Tombstone, _)) => Ok(Found::Tombstone(id)),
            Some((HeadObject::Head(head), digest)) => {
                self.used_by(id, *head, digest).await.map(|used| Found::Head(Box::new(used)))
            }
        }
    }

    async fn used_by(&self, id: SnapshotId, head: Head, digest: String) -> Result<Used> {
        let predecessor = head.about.predecessor.as_ref().map(|before| before.id.clone());
        let metas = head.metas.iter().map(|meta| meta.name.clone()).collect();
        let mut made = None;
        if head.is_repacking() {
            let is_let_go = self.inner.is_forgotten(&id).await?;
            let standing = self.inner.standing(&id, is_let_go).await?;
            made = Some((head.about.sequence, head.moves.clone(), standing));
        }
        let snapshot = Snapshot::new(self, id.clone(), head, digest.clone());
        let (mut packs, mut table) = (Vec::new(), Vec::new());
        snapshot
            .for_each_pack(|pack| {
                if made.is_some() {
                    table.push(Arc::clone(&pack.entry));
                } else if pack.is_used() {
                    let (entry, blocks) = (Some(Arc::clone(&pack.entry)), BlockSet::used(pack));
                    packs.push((pack.entry.name.clone(), InUse { entry, blocks }));
                }
            })
            .await?;
        let repacking =
            made.map(|(sequence, moves, standing)| Repacking { sequence, table, moves, standing });
        Ok(Used { id, digest, predecessor, packs, metas, repacking })
    }

    /// Heads that the last collection has read and this one has not, or reads
    /// with other bytes.
    async fn gone_since_last_time(&self, marked: &Marked) -> Result<Vec<String>> {
        let mut gone = Vec::new();
        for (name, digest) in self.last_known().await?.heads {
            let id = SnapshotId::parse(&name).ok();
            match id.and_then(|id| Some((marked.heads.get(&id)?, id))) {
                Some((found, _)) if *found == digest => {}
                // Where one was let go, a run that had stood still has put its own.
                Some((_, id)) if self.inner.is_forgotten(&id).await? => {}
                Some((_, id)) => {
                    return Err(Error::damaged(
                        id.head_name(),
                        "it is not the head that was read at the last collection",
                    ));
                }
                None => gone.push(name),
            }
        }
        Ok(gone)
    }

    /// The heads that the last collection has read, of backups and repackings.
    pub(crate) async fn remembered_heads(&self) -> Result<Vec<SnapshotId>> {
        let known = self.last_known().await?;
        known.heads.keys().map(|id| SnapshotId::parse(id)).collect()
    }

    /// What the last collection has read.
    async fn last_known(&self) -> Result<Known> {
        let newest = self.inner.note_numbers(MARKS).await?.last().copied();
        match newest {
            Some(n) => Ok(self.inner.read_note(n).await?.unwrap_or_default()),
            None => Ok(Known::default()),
        }
    }

    /// Stops if any of these snapshots was not let go by somebody who may.
    async fn alarm(&self, gone: Vec<String>) -> Result<()> {
        let mut missing = BTreeSet::new();
        for id in gone {
            // It may be younger than the listing: who was frozen since reads what
            // others have noted meanwhile. In this order: a head goes only when the
            // decision is there. A tombstone explains nothing: somebody may have
            // fenced a run whose head was stolen.
            let explained = match SnapshotId::parse(&id) {
                Ok(id) => {
                    matches!(self.inner.head_object(&id).await?, Some((HeadObject::Head(_), _)))
                        || self.inner.is_forgotten(&id).await?
                        || self.inner.is_written_off(&id).await?
                }
                Err(_) => false,
            };
            if !explained {
                missing.insert(id);
            }
        }
        if missing.is_empty() || !holds(Guard::Alarm) {
            return Ok(());
        }
        Err(Error::SnapshotsMissing(missing.into_iter().collect()))
    }

    /// Remembers for the next collection what this one has read, and drops what
    /// earlier ones remembered.
    pub(super) async fn remember(&self, n: u32, marked: &Marked, now: Timestamp) -> Result<()> {
        let heads = marked.heads.iter().map(|(id, digest)| (id.to_string(), digest.clone()));
        let mut known = Known { heads: heads.collect(), time: now };
        // Who was frozen behind its listing must not make the others forget what
        // is younger.
        for (id, digest) in self.last_known().await?.heads {
            if !known.heads.contains_key(&id)
                && !self.inner.is_forgotten(&SnapshotId::parse(&id)?).await?
            {
                known.heads.insert(id, digest);
            }
        }
        if known.heads.len() > MAX_KNOWN {
            tracing::warn!(
                snapshots = known.heads.len(),
                "too many snapshots to remember them all"
            );
            return Ok(());
        }
        // Whoever was quicker has read no less.
        self.inner.put_json(Known::KIND, &note_name::<Known>(n), &known).await?;
        for older in self.inner.note_numbers(MARKS).await?.range(..n) {
            self.inner.store.delete(&note_name::<Known>(*older)).await?;
        }
        Ok(())
    }
}

impl Marked {
    fn knows(&self, id: &str) -> bool {
        SnapshotId::parse(id).is_ok_and(|id| self.heads.contains_key(&id))
    }
}
