//! Before the place goes where blocks were, what stands in their new one is read once
//! and compared with the ids of their chunks: whether a repacking tells the truth is
//! seen before it is relied upon. What cannot be shown stays.
//!
//! Everything is read by the very entries of the heads, from no cache and by no other
//! repacking: as somebody reads it when the old place is gone.
//!
//! Memory: two footers, [`GROUP_BYTES`] and a block of plain bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::mark::{Marked, Moved, Repacking, carried};
use super::notes::Parts;
use crate::block_set::BlockSet;
use crate::blocks::{GROUP_BYTES, PackBlocks, read_from};
use crate::buffers::Buffers;
use crate::footers::{own, read_footer};
use crate::guards::{Guard, holds};
use crate::head::HeadObject;
use crate::moves::Move;
use crate::names::{PartName, SnapshotId};
use crate::pack::{BlockInfo, Footer, PackEntry};
use crate::repository::Repository;
use crate::{Error, Result};

/// A block by its number where it was, and by that where it is said to be.
type Pair = (u32, u32);

/// Looks into repackings.
pub(super) struct Proof<'a> {
    repository: &'a Repository,
    marked: &'a Marked,
    moves: HashMap<&'a PartName, Vec<Moved<'a>>>,
}

/// What cannot be shown to stand elsewhere.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    /// The packs that have to stay, by the last parts of their names.
    pub(super) packs: Vec<String>,
    /// Why, where something is wrong: the first reason. It names the head of the repacking
    /// that holds something else, or a damaged pack.
    pub(super) wrong: Option<Error>,
}

impl<'a> Proof<'a> {
    pub(super) fn new(repository: &'a Repository, marked: &'a Marked) -> Self {
        Self { repository, marked, moves: marked.moves_by_pack() }
    }

    /// Compares what was moved out of packs that are about to go, as far as it is in use.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn of_packs(&self, parts: &Parts) -> Result<Unproven> {
        let mut unproven = Unproven::default();
        for pack in parts.packs.iter().filter_map(|name| PartName::parse(name)) {
            let Some(used) = self.marked.in_use(&pack) else { continue };
            let shown = match &used.entry {
                Some(entry) => self.of_pack(entry, &used.blocks).await?,
                None => Shown::Not,
            };
            if let Shown::Wrong(_) | Shown::Not = shown {
                unproven.packs.push(pack.last_part());
            }
            if let Shown::Wrong(error) = shown {
                unproven.wrong.get_or_insert(error);
            }
        }
        Ok(unproven)
    }

    async fn of_pack(&self, entry: &PackEntry, used: &BlockSet) -> Result<Shown> {
        let moves: Vec<_> = self.moves.get(&entry.name).into_iter().flatten().collect();
        let footer = match self.old(entry).await? {
            Old::Has(footer) => footer,
            Old::Nothing => return Ok(Shown::Well),
            Old::Unclear(error) => return Ok(Shown::Wrong(error)),
        };
        if !covers(&moves, used) {
            return Ok(Shown::Not);
        }
        for to in moves {
            let pairs = self.pairs(to.moved, Some);
            match self.compare(&footer, &entry.name, to, &pairs).await? {
                Shown::Well => {}
                shown => return Ok(shown),
            }
        }
        Ok(Shown::Well)
    }

    /// Compares what a repacking has moved with where later ones have moved it on, as
    /// far as it is in use: before it is let go.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn of_repacking(
        &self,
        repacking: &Repacking,
        is_later: impl Fn(&SnapshotId) -> bool,
    ) -> Result<Shown> {
        for from in &repacking.moves {
            let Some(home) = repacking.table.get(from.home as usize) else { continue };
            let Some(used) = self.marked.wanted(from) else { continue };
            let later = self.moves.get(&from.pack).into_iter().flatten();
            let later: Vec<_> = later.filter(|to| is_later(to.by)).collect();
            let footer = match self.old(home).await? {
                Old::Has(footer) => footer,
                Old::Nothing => continue,
                Old::Unclear(error) => return Ok(Shown::Wrong(error)),
            };
            if !covers(&later, &used.blocks) {
                return Ok(Shown::Not);
            }
            for to in later {
                let place = |block| from.carried.contains(block).then(|| from.place(block));
                let pairs = self.pairs(to.moved, place);
                match self.compare(&footer, &home.name, to, &pairs).await? {
                    Shown::Well => {}
                    shown => return Ok(shown),
                }
            }
        }
        Ok(Shown::Well)
    }

    /// What the old place has. Blocks may be read though nobody can tell what they should
    /// be: such a pack is damaged, and stays.
    async fn old(&self, entry: &PackEntry) -> Result<Old> {
        let inner = &self.repository.inner;
        match read_footer(inner, entry).await {
            Ok(footer) => Ok(Old::Has(footer)),
            Err(Error::Missing(_)) => Ok(Old::Nothing),
            Err(error @ Error::Damaged { .. }) => match own(inner, entry).await {
                Ok(_) => Ok(Old::Unclear(error)),
                Err(Error::Missing(_) | Error::Damaged { .. }) => Ok(Old::Nothing),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
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
        &self,
        footer: &Footer,
        was: &PartName,
        to: &Moved<'_>,
        pairs: &[Pair],
    ) -> Result<Shown> {
        match self.read_and_compare(footer, to.home, pairs).await {
            Ok(true) => return Ok(Shown::Well),
            Err(error @ (Error::Storage(_) | Error::System(_) | Error::Cancelled)) => {
                return Err(error);
            }
            Ok(false) | Err(_) => {}
        }
        let inner = &self.repository.inner;
        // Another collector may have let it go since it was read: another day.
        let stands = matches!(inner.head_object(to.by).await?, Some((HeadObject::Head(_), _)));
        if !stands || inner.is_forgotten(to.by).await? {
            return Ok(Shown::Not);
        }
        let detail = format!("it says of blocks of pack {} what is not so", was.last_part());
        Ok(Shown::Wrong(Error::damaged(to.by.head_name(), detail)))
    }

    async fn read_and_compare(
        &self,
        footer: &Footer,
        home: &PackEntry,
        pairs: &[Pair],
    ) -> Result<bool> {
        let (inner, buffers) = (&self.repository.inner, Buffers::new(0));
        let located: Arc<PackBlocks> = own(inner, home).await?;
        // Before anything is read: a group is as large as the old place says.
        let as_long = |(was, is): &Pair| {
            let old = footer.blocks.get(*was as usize)?;
            (located.plain(*is) == Some(old.plain)).then_some((old, *is))
        };
        let pairs: Option<Vec<(&BlockInfo, u32)>> = pairs.iter().map(as_long).collect();
        let Some(pairs) = pairs else { return Ok(false) };
        let mut rest = &pairs[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(old, _): &&(&BlockInfo, u32)| {
                let fits = bytes < GROUP_BYTES;
                bytes += old.plain as usize;
                fits
            };
            let (group, behind) = rest.split_at(rest.iter().take_while(fits).count());
            rest = behind;
            let places: Vec<_> = group.iter().map(|(_, place)| *place).collect();
            let plain = read_from(inner, home, &located, &places, &buffers).await?;
            let mut plain = &plain[..];
            for (old, _) in group {
                let Some((content, behind)) = plain.split_at_checked(old.plain as usize) else {
                    return Ok(false);
                };
                if footer.verify_chunks(&inner.keys, old, content).is_err() {
                    return Ok(false);
                }
                plain = behind;
            }
            if !plain.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether moves carry all of these blocks.
fn covers(moves: &[&Moved<'_>], blocks: &BlockSet) -> bool {
    carried(moves.iter().copied()).has_all_of(blocks) || !holds(Guard::MovedWhole)
}

/// What can be learnt from where blocks were.
enum Old {
    /// What each of them was.
    Has(Footer),
    /// Nothing: nobody can read anything from it any more, and nothing is lost with it.
    Nothing,
    /// Blocks, but not what they should be.
    Unclear(Error),
}

/// Whether something was shown to stand elsewhere.
#[derive(Debug)]
pub(super) enum Shown {
    /// It does, or nothing of it is wanted.
    Well,
    /// It does not, and this is why.
    Wrong(Error),
    /// Nobody can tell now.
    Not,
}
