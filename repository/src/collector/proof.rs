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

use super::mark::{Marked, Moved, Repacking};
use super::notes::Parts;
use super::parts::Stored;
use crate::block_set::BlockSet;
use crate::blocks::{GROUP_BYTES, PackBlocks, read_from};
use crate::buffers::Buffers;
use crate::footers::{own, read_footer};
use crate::head::HeadObject;
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
    pub(super) async fn of_packs(&self, parts: &Parts, stored: &Stored) -> Result<Unproven> {
        let mut unproven = Unproven::default();
        for pack in parts.packs.iter().filter_map(|name| PartName::parse(name)) {
            let Some(used) = self.marked.in_use(&pack) else { continue };
            if stored.pack(&pack).is_none() {
                continue;
            }
            let shown = match &used.entry {
                Some(entry) => self.of_pack(entry).await?,
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

    async fn of_pack(&self, entry: &PackEntry) -> Result<Shown> {
        let Some(footer) = (match self.footer(entry).await? {
            Ok(footer) => footer,
            Err(error) => return Ok(Shown::Wrong(error)),
        }) else {
            return Ok(Shown::Well);
        };
        for to in self.moves.get(&entry.name).into_iter().flatten() {
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
            if self.marked.wanted(from).is_none() {
                continue;
            }
            let later = self.moves.get(&from.pack).into_iter().flatten();
            let later: Vec<_> = later.filter(|to| is_later(to.by)).collect();
            if later.is_empty() {
                continue;
            }
            let footer = match self.footer(home).await? {
                Ok(Some(footer)) => footer,
                Ok(None) => continue,
                Err(error) => return Ok(Shown::Wrong(error)),
            };
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

    /// What the old place has; none where nothing can be read from it any more, so that
    /// nothing is lost with it. Blocks may be read though nobody can tell what they
    /// should be: such a pack is damaged, and stays.
    async fn footer(
        &self,
        entry: &PackEntry,
    ) -> Result<std::result::Result<Option<Footer>, Error>> {
        let inner = &self.repository.inner;
        match read_footer(inner, entry).await {
            Ok(footer) => Ok(Ok(Some(footer))),
            Err(Error::Missing(_)) => Ok(Ok(None)),
            Err(error @ Error::Damaged { .. }) => match own(inner, entry).await {
                Ok(_) => Ok(Err(error)),
                Err(Error::Missing(_) | Error::Damaged { .. }) => Ok(Ok(None)),
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
            let plain = read_from(inner, home, &located, &places, &buffers).await?;
            let mut plain = &plain[..];
            for (old, _) in group {
                let Some(block) = footer.blocks.get(*old as usize) else { return Ok(false) };
                let Some((content, behind)) = plain.split_at_checked(block.plain as usize) else {
                    return Ok(false);
                };
                if footer.verify_chunks(&inner.keys, block, content).is_err() {
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
