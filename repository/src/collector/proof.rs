//! Before the place goes where blocks were, what stands in their new one is read once
//! and compared with the ids of their chunks: whether a repacking tells the truth is
//! seen before it is relied upon.
//!
//! Memory: a footer, [`GROUP_BYTES`] and a block of plain bytes, and the tables of one
//! backup and of the repackings in question.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::mark::{Marked, Moved, Repacking};
use super::notes::Parts;
use super::parts::Stored;
use crate::block_set::BlockSet;
use crate::blocks::{GROUP_BYTES, read_blocks};
use crate::buffers::Buffers;
use crate::moves::Move;
use crate::names::{PartName, SnapshotId};
use crate::pack::{Footer, PackEntry};
use crate::repository::Repository;
use crate::{Error, Result};

/// A block by its number where it was, and by that where it is said to be.
type Pair = (u32, u32);

/// Looks into repackings.
pub(super) struct Proof<'a> {
    repository: &'a Repository,
    marked: &'a Marked,
    moves: HashMap<&'a PartName, Vec<Moved<'a>>>,
    /// Tables of repackings that were looked into.
    tables: HashMap<SnapshotId, Arc<Vec<PackEntry>>>,
}

impl<'a> Proof<'a> {
    pub(super) fn new(repository: &'a Repository, marked: &'a Marked) -> Self {
        Self { repository, marked, moves: marked.moves_by_pack(), tables: HashMap::new() }
    }

    /// Compares what was moved out of packs that are about to go, as far as it is in use.
    ///
    /// # Errors
    /// `RepositoryDamaged` names the head of a repacking that holds something else;
    /// `ObjectMissing`; what the store says.
    pub(super) async fn of_packs(&mut self, parts: &Parts, stored: &Stored) -> Result<()> {
        let mut by_head = BTreeMap::<_, Vec<_>>::new();
        for pack in parts.packs.iter().filter_map(|name| PartName::parse(name)) {
            if let Some(used) = self.marked.in_use(&pack)
                && stored.pack(&pack).is_some()
            {
                by_head.entry(Arc::clone(&used.named_by)).or_default().push(pack);
            }
        }
        for (id, packs) in by_head {
            let table = self.entries(&id).await?;
            let entries: HashMap<_, _> = table.iter().map(|entry| (&entry.name, entry)).collect();
            for pack in packs {
                let entry = entries.get(&pack).ok_or_else(|| Error::Missing(id.head_name()))?;
                self.of_pack(entry).await?;
            }
        }
        Ok(())
    }

    async fn of_pack(&mut self, entry: &PackEntry) -> Result<()> {
        let inner = &self.repository.inner;
        let footer = match inner.footers.whole(inner, entry).await {
            // Another collector was quicker; or a late write has brought back another pack
            // of this name. Nothing is lost with it.
            Err(Error::Missing(_) | Error::Damaged { .. }) => return Ok(()),
            footer => footer?,
        };
        for to in self.moves.get(&entry.name).cloned().unwrap_or_default() {
            let pairs = self.pairs(to.moved, Some);
            self.compare(&footer, &entry.name, to, &pairs).await?;
        }
        Ok(())
    }

    /// Compares what a repacking has moved with where later ones have moved it on, as
    /// far as it is in use: before it is let go.
    ///
    /// # Errors
    /// As of [`Proof::of_packs`].
    pub(super) async fn of_repacking(
        &mut self,
        id: &SnapshotId,
        repacking: &Repacking,
        is_later: impl Fn(&SnapshotId) -> bool,
    ) -> Result<()> {
        let inner = &self.repository.inner;
        for from in &repacking.moves {
            if self.marked.wanted(from).is_none() {
                continue;
            }
            let later = self.moves.get(&from.pack).cloned().unwrap_or_default();
            let later: Vec<_> = later.into_iter().filter(|to| is_later(to.by)).collect();
            if later.is_empty() {
                continue;
            }
            let home = self.home(id, from).await?;
            let footer = match inner.footers.whole(inner, &home).await {
                // Nothing is lost with it.
                Err(Error::Missing(_) | Error::Damaged { .. }) => continue,
                footer => footer?,
            };
            for to in later {
                let place = |block| from.carried.contains(block).then(|| from.place(block));
                let pairs = self.pairs(to.moved, place);
                self.compare(&footer, &home.name, to, &pairs).await?;
            }
        }
        Ok(())
    }

    /// The blocks of a move that are in use; `from` says where each was.
    fn pairs(&self, to: &Move, from: impl Fn(u32) -> Option<u32>) -> Vec<Pair> {
        let used = self.marked.wanted(to).map(|used| &used.blocks);
        let is_used = |block: &u32| used.is_some_and(|used: &BlockSet| used.contains(*block));
        let places = to.carried.iter().zip(to.first..);
        places.filter(|(b, _)| is_used(b)).filter_map(|(b, at)| Some((from(b)?, at))).collect()
    }

    /// Compares blocks with a footer of the pack `was` in which they were.
    async fn compare(
        &mut self,
        footer: &Footer,
        was: &PartName,
        to: Moved<'_>,
        pairs: &[Pair],
    ) -> Result<()> {
        let wrong = || {
            let detail = format!("it says of blocks of pack {} what is not so", was.last_part());
            Error::damaged(to.by.head_name(), detail)
        };
        let home = self.home(to.by, to.moved).await?;
        let (inner, buffers) = (&self.repository.inner, Buffers::new(0));
        let mut rest = pairs;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(old, _): &&Pair| {
                let fits = bytes < GROUP_BYTES;
                bytes += footer.blocks.get(*old as usize).map_or(0, |block| block.plain as usize);
                fits
            };
            let (group, behind) = rest.split_at(rest.iter().take_while(fits).count());
            rest = behind;
            let places: Vec<_> = group.iter().map(|(_, place)| *place).collect();
            let plain = read_blocks(inner, &home, &places, &buffers).await?;
            let mut plain = &plain[..];
            for (old, _) in group {
                let block = footer.blocks.get(*old as usize).ok_or_else(wrong)?;
                let (content, behind) =
                    plain.split_at_checked(block.plain as usize).ok_or_else(wrong)?;
                footer.verify_chunks(&inner.keys, block, content).map_err(|_| wrong())?;
                plain = behind;
            }
            if !plain.is_empty() {
                return Err(wrong());
            }
        }
        Ok(())
    }

    /// The pack that blocks were moved to.
    async fn home(&mut self, by: &SnapshotId, moved: &Move) -> Result<PackEntry> {
        let table = match self.tables.get(by) {
            Some(table) => Arc::clone(table),
            None => {
                let table = Arc::new(self.entries(by).await?);
                self.tables.insert(by.clone(), Arc::clone(&table));
                table
            }
        };
        table
            .get(moved.home as usize)
            .cloned()
            .ok_or_else(|| Error::damaged(by.head_name(), "it moves blocks to a pack that is none"))
    }

    async fn entries(&self, id: &SnapshotId) -> Result<Vec<PackEntry>> {
        let head = self.repository.head_at(id).await?;
        let snapshot = head.ok_or_else(|| Error::Missing(id.head_name()))?;
        Ok(snapshot.packs().await?.iter().map(|used| used.entry.clone()).collect())
    }
}
