//! Each pack that a snapshot needs is looked at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbbackup_storage::ErrorKind;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    BadBlocks, Check, CheckLevel, CheckProgress, NeededPack, PackDamage, unless_unavailable,
};
use crate::block_set::BlockSet;
use crate::blocks::decode_block;
use crate::envelope::{HEADER_BYTES, ObjectSeal};
use crate::moves::Home;
use crate::pack::{BlockInfo, Footer, PackEntry};
use crate::repository::Inner;
use crate::{Error, Result};

/// Packs whose data is in memory at once, 32 MiB each at most.
pub(super) const PACKS_AT_ONCE: usize = 2;
/// Footers that are fetched at once.
const FOOTERS_AT_ONCE: usize = 8;

/// Lengths of blocks that are kept for the recipes: those of some 30,000 packs, half
/// a tebibyte. Of others they are read again.
pub(super) const KEPT_BLOCK_BYTES: usize = 64 * 1024 * 1024;

/// What looking at a pack gave.
#[derive(Debug)]
struct Looked {
    bytes_read: u64,
    damage: Option<(Error, BadBlocks)>,
    /// Plain lengths of its blocks; none where they are not known.
    blocks: Box<[u32]>,
}

impl Looked {
    fn damaged(bytes_read: u64, error: Error) -> Self {
        Self { bytes_read, damage: Some((error, BadBlocks::All)), blocks: Box::default() }
    }
}

fn lengths(footer: &Footer) -> Box<[u32]> {
    footer.blocks.iter().map(|block| block.plain).collect()
}

impl Check<'_> {
    /// Looks at each pack as far as the level and the sample say.
    pub(super) async fn look_at_packs(&mut self) -> Result<()> {
        let mut moved = Vec::new();
        let mut plan = [Vec::new(), Vec::new(), Vec::new()];
        let mut progress = CheckProgress::default();
        for n in 0..self.packs.len() {
            if !self.is_there(n).await? {
                moved.extend(self.packs[n].moved.is_some().then_some(n));
                continue;
            }
            let NeededPack { entry, is_new, .. } = &self.packs[n];
            let level = match self.options.level {
                _ if *is_new => CheckLevel::Data,
                CheckLevel::Data if !self.options.sample.takes(&entry.name.last_part()) => {
                    CheckLevel::Footers
                }
                level => level,
            };
            progress.bytes_total += match level {
                CheckLevel::Structure => 0,
                CheckLevel::Footers => footer_range(entry).end - footer_range(entry).start,
                CheckLevel::Data => u64::from(entry.size),
            };
            plan[level as usize].push(n);
        }
        let [_, footers, data] = plan;
        self.report.packs = (self.packs.len() - moved.len()) as u64;
        self.report.packs_read = data.len() as u64;
        self.look_at(footers, CheckLevel::Footers, FOOTERS_AT_ONCE, &mut progress).await?;
        self.look_at(data, CheckLevel::Data, PACKS_AT_ONCE, &mut progress).await?;
        for n in moved {
            if self.options.level == CheckLevel::Structure {
                self.look_at_homes(n);
            } else {
                self.look_at_moved(n).await?;
            }
        }
        Ok(())
    }

    /// A pack is damaged if one is that has any of its blocks.
    fn look_at_homes(&mut self, n: usize) {
        let mut homes = self.moves.of(&self.packs[n].entry);
        let damage = homes.find_map(|home| self.packs[self.index_of(&home.entry)?].damage.as_ref());
        let problem = damage.map(|damage| damage.problem);
        self.packs[n].damage =
            problem.map(|problem| PackDamage { problem, blocks: BadBlocks::All });
    }

    /// What is wrong with a pack that is gone is what is wrong with its blocks where
    /// they are now.
    async fn look_at_moved(&mut self, n: usize) -> Result<()> {
        let entry = self.packs[n].entry.clone();
        let located = match self.inner.footers.blocks(self.inner, &entry).await {
            Ok(located) => located,
            Err(error) => {
                let problem = self.report.problem(unless_unavailable(error)?);
                self.packs[n].damage = Some(PackDamage { problem, blocks: BadBlocks::All });
                return Ok(());
            }
        };
        let mut damage: Option<(usize, BTreeSet<u32>)> = None;
        for block in 0..entry.blocks {
            let Some((home, number)) = located.home(block) else { continue };
            let home = self.index_of(home).and_then(|home| self.packs[home].damage.as_ref());
            if let Some(found) = home
                && (found.blocks == BadBlocks::All
                    || matches!(&found.blocks, BadBlocks::Some(bad) if bad.contains(&number)))
            {
                damage.get_or_insert_with(|| (found.problem, BTreeSet::new())).1.insert(block);
            }
        }
        self.packs[n].damage =
            damage.map(|(problem, blocks)| PackDamage { problem, blocks: BadBlocks::Some(blocks) });
        Ok(())
    }

    async fn look_at(
        &mut self,
        numbers: Vec<usize>,
        level: CheckLevel,
        at_once: usize,
        progress: &mut CheckProgress,
    ) -> Result<()> {
        let entries: Vec<(usize, PackEntry)> =
            numbers.into_iter().map(|n| (n, self.packs[n].entry.clone())).collect();
        let (repository, cancel) = (self.repository.clone(), self.options.cancel.clone());
        let mut looked = futures::stream::iter(entries)
            .map(move |(n, entry)| {
                let (inner, cancel) = (Arc::clone(&repository.inner), cancel.clone());
                async move {
                    let looked = match level {
                        CheckLevel::Data => data(&inner, entry, cancel).await,
                        _ => footer(&inner, &entry).await,
                    };
                    looked.map(|looked| (n, looked))
                }
            })
            .buffered(at_once);
        while let Some((n, looked)) = looked.try_next().await? {
            self.report.bytes_read += looked.bytes_read;
            if let Some((error, blocks)) = looked.damage {
                let problem = self.report.problem(error);
                self.packs[n].damage = Some(PackDamage { problem, blocks });
            }
            let block_bytes = size_of_val(&looked.blocks[..]);
            if self.kept_block_bytes + block_bytes <= KEPT_BLOCK_BYTES && block_bytes > 0 {
                self.kept_block_bytes += block_bytes;
                self.packs[n].blocks = Some(looked.blocks);
            }
            progress.bytes_done += looked.bytes_read;
            if let Some(tell) = &self.options.progress {
                tell(*progress);
            }
        }
        Ok(())
    }

    /// Whether a pack is there with the right size. The listing says so; what it
    /// lacks is asked for, since listings may lag.
    async fn is_there(&mut self, n: usize) -> Result<bool> {
        let NeededPack { entry, listed, .. } = &self.packs[n];
        let name = entry.name.pack_object();
        let found = match *listed {
            Some(size) => Some(size),
            None => match self.inner.store.head(&name).await {
                Ok(found) => Some(found.size),
                Err(error) if error.kind == ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            },
        };
        if found.is_none() {
            // What was written off is not looked at, and holds nothing.
            let homes = self.moves.of(&self.packs[n].entry);
            let homes = homes.filter(|home| self.index_of(&home.entry).is_some());
            let moved = homes.flat_map(Home::carried).collect::<BlockSet>();
            if !moved.is_empty() {
                self.packs[n].moved = Some(moved);
                return Ok(false);
            }
        }
        let entry = &self.packs[n].entry;
        let error = match found {
            Some(size) if size == u64::from(entry.size) => return Ok(true),
            Some(size) => wrong_size(name, size, entry.size),
            None => Error::Missing(name),
        };
        let problem = self.report.problem(error);
        self.packs[n].damage = Some(PackDamage { problem, blocks: BadBlocks::All });
        Ok(false)
    }
}

/// An object of another size than its snapshot says.
pub(super) fn wrong_size(name: String, found: u64, expected: u32) -> Error {
    Error::damaged(name, format!("it has {found} bytes instead of {expected}"))
}

fn footer_range(entry: &PackEntry) -> std::ops::Range<u64> {
    let start = u64::from(entry.block_table_at);
    start..start + u64::from(entry.block_table_bytes) + u64::from(entry.chunk_table_bytes)
}

/// Opens a pack's footer.
async fn footer(inner: &Inner, entry: &PackEntry) -> Result<Looked> {
    let range = footer_range(entry);
    let bytes = match inner.store.get_range(&entry.name.pack_object(), range).await {
        Ok(bytes) => bytes,
        Err(error) => {
            return Ok(Looked::damaged(0, unless_unavailable(Error::needed(error))?));
        }
    };
    let bytes_read = bytes.len() as u64;
    Ok(match entry.open_footer(&inner.keys, &bytes) {
        Ok(footer) => Looked { bytes_read, damage: None, blocks: lengths(&footer) },
        Err(error) => Looked::damaged(bytes_read, unless_unavailable(error)?),
    })
}

/// Reads a pack whole, and everything in it. The work is on another thread, and
/// stops between two blocks.
async fn data(inner: &Arc<Inner>, entry: PackEntry, cancel: CancellationToken) -> Result<Looked> {
    let object = match inner.store.get(&entry.name.pack_object()).await {
        Ok(object) => object,
        Err(error) => {
            return Ok(Looked::damaged(0, unless_unavailable(Error::needed(error))?));
        }
    };
    let inner = Arc::clone(inner);
    let looked = spawn_blocking(move || {
        let bytes_read = object.len() as u64;
        read_whole(&inner, &entry, &object, &cancel).or_else(|error| {
            unless_unavailable(error).map(|error| Looked::damaged(bytes_read, error))
        })
    });
    looked.await.map_err(|error| Error::System(error.to_string()))?
}

/// The first damage of a pack whose footer is whole, all blocks that cannot be
/// read, and the lengths of all blocks.
///
/// # Errors
/// Where not even the footer can be read.
fn read_whole(
    inner: &Inner,
    entry: &PackEntry,
    object: &[u8],
    cancel: &CancellationToken,
) -> Result<Looked> {
    let name = entry.name.pack_object();
    if object.len() != entry.size as usize {
        return Err(wrong_size(name, object.len() as u64, entry.size));
    }
    let cut = || Error::damaged(&name, "it is cut");
    let range = footer_range(entry);
    let footer = object.get(range.start as usize..range.end as usize).ok_or_else(cut)?;
    let footer = entry.open_footer(&inner.keys, footer)?;
    let seal = entry.seal(&inner.keys)?;
    let (mut first, mut blocks) = (None, BTreeSet::new());
    for (number, info) in (0..).zip(&footer.blocks) {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let frame = object.get(info.at as usize..(info.at + info.stored) as usize);
        let read = frame
            .ok_or_else(cut)
            .and_then(|frame| verify_block(inner, &seal, &footer, number, info, frame));
        if let Err(error) = read {
            first.get_or_insert(error);
            blocks.insert(number);
        }
    }
    // What no restore reads: header, padding and trailer.
    let rest = verify_padding(&seal, &footer, entry, object)
        .and_then(|()| entry.check_ends(&inner.keys, object));
    let first = first.or(rest.err());
    let damage = first.map(|error| (error, BadBlocks::Some(blocks)));
    Ok(Looked { bytes_read: object.len() as u64, damage, blocks: lengths(&footer) })
}

/// Opens one block, and compares its chunks with their ids.
fn verify_block(
    inner: &Inner,
    seal: &ObjectSeal,
    footer: &Footer,
    number: u32,
    info: &BlockInfo,
    frame: &[u8],
) -> Result<()> {
    let mut plain = vec![0; info.plain as usize];
    decode_block(seal, number, info, frame, &mut plain)?;
    footer
        .verify_chunks(&inner.keys, info, &plain)
        .map_err(|detail| Error::damaged(seal.name(), detail))
}

fn verify_padding(
    seal: &ObjectSeal,
    footer: &Footer,
    entry: &PackEntry,
    object: &[u8],
) -> Result<()> {
    let at = footer.blocks.last().map_or(HEADER_BYTES as u32, |last| last.at + last.stored);
    if at == entry.block_table_at {
        return Ok(());
    }
    let damaged = || Error::damaged(seal.name(), "its padding is damaged");
    let padding = object.get(at as usize..entry.block_table_at as usize).ok_or_else(damaged)?;
    let mut padding = padding.to_vec();
    seal.open(footer.blocks.len() as u64, false, &mut padding)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(damaged());
    }
    Ok(())
}
