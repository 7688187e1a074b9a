//! Repacking: blocks that are in use are copied out of packs of which little is, and
//! small packs are put together (`docs/format.md`, "Moved blocks"). The old packs go
//! by the rules that hold for all.
//!
//! Memory: a pack that is filled and one that is written (21 MiB each),
//! [`GROUP_BYTES`] of blocks, a footer, and the plan: about 150 bytes a pack.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use dbbackup_contract::{ByteCounts, MadeBy};

use super::mark::{Marked, Repacking};
use super::parts::Stored;
use crate::block_set::BlockSet;
use crate::blocks::open_block;
use crate::envelope::{Kind, ObjectSeal};
use crate::head::{About, Head, TombstoneReason};
use crate::moves::{MOVES_SERIES, Move, Standing};
use crate::names::{PartName, SnapshotId};
use crate::pack::{BlockInfo, FinishedPack, Footer, OpenPack, PackEntry};
use crate::repository::{Inner, Repository};
use crate::session::{Heart, SessionKind};
use crate::tables::UsedPack;
use crate::{Error, Result};

/// Stored bytes of blocks that are read at once.
const GROUP_BYTES: u32 = 4 * 1024 * 1024;
/// Most packs that one repacking takes apart: its head names each, and has room for a
/// mebibyte.
const MOST_PACKS: usize = 2000;

/// Which packs are repacked.
#[derive(Clone, Debug)]
pub struct RepackOptions {
    /// Packs of whose blocks so many percent are unused, or more.
    pub unused_percent: u8,
    /// Packs that are smaller, in bytes, if there are `merge_from` of them at least.
    pub small_bytes: u64,
    /// From how many small packs on they are put together.
    pub merge_from: usize,
    /// Most bytes of packs that one call takes apart.
    pub most_bytes: u64,
}

impl Default for RepackOptions {
    /// A third of a pack is freed for two thirds that are copied; four small packs and
    /// more become one.
    fn default() -> Self {
        Self {
            unused_percent: 33,
            small_bytes: 3 * 1024 * 1024,
            merge_from: 16,
            most_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// A pack that is taken apart.
#[derive(Debug)]
struct Source {
    entry: Arc<PackEntry>,
    /// The blocks that are copied.
    blocks: BlockSet,
    size: u64,
}

/// What a repacking is going to do.
#[derive(Debug)]
pub(super) struct Plan {
    sources: Vec<Source>,
    sequence: u64,
}

impl Plan {
    pub(super) fn new(
        options: &RepackOptions,
        marked: &Marked,
        superseded: &BTreeSet<SnapshotId>,
        stored: &Stored,
    ) -> Self {
        let relied_upon = |repacking: &&Repacking| repacking.standing != Standing::WrittenOff;
        let known = marked.repackings.values().filter(relied_upon).map(|known| known.sequence);
        let sequence = known.max().unwrap_or(0).saturating_add(1);
        let mut plan = Self { sources: Vec::new(), sequence };
        let mut left = options.most_bytes;
        let mut small = Vec::new();
        for (name, used) in marked.packs() {
            let Some(size) = stored.pack(name).filter(|_| is_ripe(name, marked)) else { continue };
            let Some(entry) = &used.entry else { continue };
            let unused = 100 - u64::from(used.blocks.len()) * 100 / u64::from(entry.blocks.max(1));
            let source = || Source { entry: Arc::clone(entry), blocks: used.blocks.clone(), size };
            if unused >= u64::from(options.unused_percent) {
                plan.take(vec![source()], &mut left);
            } else if size < options.small_bytes {
                small.push(source());
            }
        }
        plan.again(options, marked, superseded, stored, &mut left);
        if small.len() >= options.merge_from {
            // Names of a series stand together, and what is restored together.
            small.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
            for source in small {
                plan.take(vec![source], &mut left);
            }
        }
        plan.sources.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
        plan
    }

    /// Takes packs that belong together, if they fit.
    fn take(&mut self, sources: Vec<Source>, left: &mut u64) {
        let bytes: u64 = sources.iter().map(|source| source.size).sum();
        if bytes <= *left && self.sources.len() + sources.len() <= MOST_PACKS {
            *left -= bytes;
            self.sources.extend(sources);
        }
    }

    /// Earlier repackings of whose blocks enough are unused meanwhile: each as a
    /// whole, since its packs go with its head.
    fn again(
        &mut self,
        options: &RepackOptions,
        marked: &Marked,
        superseded: &BTreeSet<SnapshotId>,
        stored: &Stored,
        left: &mut u64,
    ) {
        for (id, repacking) in &marked.repackings {
            let counts = repacking.standing == Standing::Counts;
            if !counts || !marked.settled.contains(id) || superseded.contains(id) {
                continue;
            }
            // What it says was not looked into before its old packs have gone.
            if repacking.moves.iter().any(|moved| stored.pack(&moved.pack).is_some()) {
                continue;
            }
            // The same block may have been moved for several packs.
            let mut carried = HashMap::<&PartName, BlockSet>::new();
            let mut needed = HashMap::<&PartName, BlockSet>::new();
            for moved in &repacking.moves {
                let Some(home) = repacking.table.get(moved.home as usize) else { continue };
                let home = &home.name;
                let places = |used: Option<&BlockSet>| -> BlockSet {
                    let carried = moved.carried.iter();
                    let used =
                        carried.filter(|block| used.is_none_or(|used| used.contains(*block)));
                    used.map(|block| moved.place(block)).collect()
                };
                carried.entry(home).or_default().add(&places(None));
                if let Some(used) = marked.in_use(&moved.pack) {
                    needed.entry(home).or_default().add(&places(Some(&used.blocks)));
                }
            }
            for entry in &repacking.table {
                if let Some(used) = marked.in_use(&entry.name) {
                    needed.entry(&entry.name).or_default().add(&used.blocks);
                }
            }
            let count = |sets: &HashMap<_, BlockSet>| -> u64 {
                sets.values().map(|blocks| u64::from(blocks.len())).sum()
            };
            let (used, all) = (count(&needed), count(&carried));
            if used == 0 || 100 - used * 100 / all.max(used) < u64::from(options.unused_percent) {
                continue;
            }
            let source = |(name, blocks): (&PartName, BlockSet)| {
                let entry = repacking.table.iter().find(|entry| entry.name == *name)?.clone();
                Some(Source { entry, blocks, size: stored.pack(name)? })
            };
            let sources: Option<Vec<_>> = needed.into_iter().map(source).collect();
            self.take(sources.unwrap_or_default(), left);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.size).sum()
    }
}

/// Packs of the last day are left alone: many go soon as a whole. So are those that
/// repackings hold, which are judged together.
fn is_ripe(name: &PartName, marked: &Marked) -> bool {
    let Ok(session) = SnapshotId::parse(&name.session) else { return false };
    let young = marked.heads.contains_key(&session) && !marked.settled.contains(&session);
    !young && !marked.holds_moved(name) && marked.uses_pack(name)
}

impl Repository {
    /// Copies what a plan says, and commits where it is. Returns the bytes of the packs
    /// that were taken apart.
    pub(super) async fn repack(&self, plan: &Plan, marked: &Marked) -> Result<u64> {
        let inner = &self.inner;
        let (id, run_id) = inner.begin_session(SessionKind::Writer).await?;
        let _heart = Heart::start(Arc::clone(inner), id.clone(), None);
        let mut copier = Copier::new(inner, &id);
        let done = async {
            let bytes = self.copy(plan, marked, &mut copier).await?;
            let head = copier.into_head(&id, run_id, plan.sequence).await?;
            inner.commit_head(&id, &head.encode()?).await?;
            Ok(bytes)
        };
        let done = done.await;
        if done.is_err()
            && let Err(error) = inner.fence(&id, TombstoneReason::Retry).await
        {
            tracing::warn!(%error, "a repacking that failed may be taken for one that works");
        }
        done
    }

    async fn copy(&self, plan: &Plan, marked: &Marked, copier: &mut Copier<'_>) -> Result<u64> {
        let mut bytes = 0;
        for Source { entry, blocks, size } in &plan.sources {
            match copier.copy(entry, blocks).await {
                Ok(pieces) => {
                    copier.book(entry, &pieces, marked);
                    bytes += size;
                }
                Err(error @ (Error::Storage(_) | Error::System(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, pack = %entry.name.last_part(), "stays as it is");
                }
            }
        }
        Ok(bytes)
    }
}

/// Blocks of one pack that came to stand behind each other.
struct Piece {
    home: u32,
    first: u32,
    blocks: BlockSet,
}

/// Fills packs with blocks of others.
struct Copier<'a> {
    inner: &'a Inner,
    session: Arc<str>,
    open: Option<OpenPack>,
    table: Vec<UsedPack>,
    moves: Vec<Move>,
    stored: u64,
}

impl<'a> Copier<'a> {
    fn new(inner: &'a Inner, id: &SnapshotId) -> Self {
        let session = Arc::from(id.as_str());
        Self { inner, session, open: None, table: Vec::new(), moves: Vec::new(), stored: 0 }
    }

    /// Copies blocks as they are stored: only what seals them is another.
    async fn copy(&mut self, entry: &PackEntry, blocks: &BlockSet) -> Result<Vec<Piece>> {
        let footer = self.inner.footers.whole(self.inner, entry).await?;
        let seal = entry.seal(&self.inner.keys)?;
        let name = entry.name.pack_object();
        let mut pieces = Vec::new();
        for group in groups(blocks, &footer) {
            let (Some((_, first)), Some((_, last))) = (group.first(), group.last()) else {
                continue;
            };
            let range = u64::from(first.at)..u64::from(last.at) + u64::from(last.stored);
            let bytes = self.inner.store.get_range(&name, range).await.map_err(Error::needed)?;
            let mut rest = &bytes[..];
            for (number, info) in &group {
                let (frame, behind) = rest
                    .split_at_checked(info.stored as usize)
                    .ok_or_else(|| Error::damaged(&name, "it is cut"))?;
                rest = behind;
                let content = open_block(&seal, *number, frame)?;
                self.push(*number, info, &content, &footer, &mut pieces).await?;
            }
        }
        Ok(pieces)
    }

    async fn push(
        &mut self,
        number: u32,
        info: &BlockInfo,
        content: &[u8],
        footer: &Footer,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let chunks = (info.first_chunk..info.first_chunk + info.chunks)
            .map(|n| footer.chunks.get(n as usize))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::System("a footer lost its chunks".into()))?;
        let home = self.table.len() as u32;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let name = PartName::new(Arc::clone(&self.session), home);
                let (keys, object) = (&self.inner.keys, name.pack_object());
                let seal = ObjectSeal::fresh(keys, &*self.inner.environment, Kind::Pack, object)?;
                self.open.insert(OpenPack::new(keys, name, seal, Vec::new()))
            }
        };
        let place = open.push(content, info.zstd, &chunks)?;
        let full = open.is_full();
        match pieces.last_mut() {
            Some(piece) if piece.home == home => piece.blocks.insert(number),
            _ => {
                let blocks = std::iter::once(number).collect();
                pieces.push(Piece { home, first: place, blocks });
            }
        }
        if full { self.finish(false).await } else { Ok(()) }
    }

    async fn finish(&mut self, last: bool) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let FinishedPack { entry, object, .. } = open.finish(last)?;
        self.stored += object.len() as u64;
        let name = entry.name.pack_object();
        if !self.inner.create(&name, Bytes::from(object)).await? {
            return Err(Error::System(format!("{name} exists already")));
        }
        self.table.push(UsedPack::whole(entry));
        Ok(())
    }

    /// Notes where the blocks of a pack are now; and those of older packs, if it was
    /// they that had been moved there.
    fn book(&mut self, entry: &PackEntry, pieces: &[Piece], marked: &Marked) {
        for piece in pieces {
            self.moves.push(Move {
                pack: entry.name.clone(),
                blocks: entry.blocks,
                tag: entry.block_table_tag,
                home: piece.home,
                first: piece.first,
                carried: piece.blocks.clone(),
            });
            for moved in marked.moved_to(&entry.name) {
                let goes_on = |block: &u32| piece.blocks.contains(moved.place(*block));
                let carried: BlockSet = moved.carried.iter().filter(goes_on).collect();
                let Some(first) = carried.iter().next() else { continue };
                self.moves.push(Move {
                    home: piece.home,
                    first: piece.first + piece.blocks.rank(moved.place(first)),
                    carried,
                    ..moved.clone()
                });
            }
        }
    }

    async fn into_head(mut self, id: &SnapshotId, run_id: String, sequence: u64) -> Result<Head> {
        self.finish(true).await?;
        let now = self.inner.environment.now();
        let about = About {
            session: id.to_string(),
            series: MOVES_SERIES.to_owned(),
            run_id,
            slot_time: id.slot_time().unwrap_or(now),
            attempt: 0,
            kind: "Repacking".to_owned(),
            made_by: MadeBy::default(),
            sequence,
            predecessor: None,
            copied_from: None,
            start_time: now,
            commit_time: now,
            bytes: ByteCounts { stored: self.stored, ..ByteCounts::default() },
            streams: 0,
            labels: serde_json::Value::Null,
        };
        Head::of_repacking(about, &self.table, self.moves)
    }
}

/// The blocks that stand behind each other, in groups of a bounded size.
fn groups(blocks: &BlockSet, footer: &Footer) -> Vec<Vec<(u32, BlockInfo)>> {
    let mut groups: Vec<Vec<(u32, BlockInfo)>> = Vec::new();
    for number in blocks.iter() {
        let Some(info) = footer.blocks.get(number as usize).copied() else { continue };
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|(before, _)| before + 1 == number)
                    && info.at - group[0].1.at < GROUP_BYTES =>
            {
                group.push((number, info));
            }
            _ => groups.push(vec![(number, info)]),
        }
    }
    groups
}
