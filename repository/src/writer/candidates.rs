//! Packs that hooks have led to: their chunks, sorted, for whole segments to be
//! looked up in.

use std::collections::VecDeque;
use std::sync::Arc;

use super::hook_table::HookedPack;
use super::prefix_filter::{FILTER_BYTES, PrefixFilter};
use crate::Result;
use crate::hooks::prefix;
use crate::keyring::ChunkId;
use crate::pack::Footer;
use crate::repository::Inner;
use crate::tables::{Usage, UsedPack};

/// Bytes of packs' chunks that are kept, with their filter: some seventy packs of a dump.
pub(super) const CANDIDATE_BYTES: usize = 4 * 1024 * 1024;
/// Packs that a segment is looked up in, the last hit first: all that are kept where
/// they are large, and of many months where each is a day's changes.
const LOOKED_AT: usize = 256;

/// Packs that are fetched for each segment in the mean.
const FETCHED_A_SEGMENT: usize = 8;
/// Packs that are fetched for one segment at most, where few were before: what has
/// changed in two months is scattered over as many packs, a day each.
const FETCHED_AT_ONCE: usize = 64;

/// The filter is made anew when so many packs that are in it were forgotten.
const FORGOTTEN_IN_FILTER: usize = 16;

/// A chunk in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) block: u32,
    pub(super) offset: u32,
    /// The block's plain length.
    pub(super) plain: u32,
}

/// A pack whose chunks can be looked up.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) id: HookedPack,
    pub(super) pack: UsedPack,
    footer: Arc<Footer>,
    /// Numbers of its chunks, sorted by the ids' prefixes.
    order: Vec<u32>,
}

impl Candidate {
    /// Reads a pack's footer.
    pub(super) async fn load(inner: &Inner, id: HookedPack, pack: UsedPack) -> Result<Self> {
        let footer = inner.footers.whole(inner, &pack.entry).await?;
        let mut order: Vec<u32> = (0..footer.chunks.len() as u32).collect();
        order.sort_unstable_by_key(|n| footer.chunks.prefix(*n as usize));
        Ok(Self { id, pack, footer, order })
    }

    /// Where a chunk of this id and length is, in a block that a snapshot uses.
    pub(super) fn find(&self, id: &ChunkId, length: u32) -> Option<ChunkPlace> {
        let wanted = prefix(id);
        let chunks = &self.footer.chunks;
        let first = self.order.partition_point(|n| chunks.prefix(*n as usize) < wanted);
        for n in &self.order[first..] {
            let (found, found_length) = chunks.get(*n as usize)?;
            if prefix(&found) != wanted {
                return None;
            }
            if found == *id && found_length == length {
                return self.place(*n);
            }
        }
        None
    }

    fn place(&self, chunk: u32) -> Option<ChunkPlace> {
        let blocks = &self.footer.blocks;
        let block = blocks.partition_point(|block| block.first_chunk <= chunk).checked_sub(1)?;
        if self.pack.usage(block as u32) == Usage::Unused {
            return None;
        }
        let info = blocks.get(block)?;
        let lengths = (info.first_chunk..chunk).map(|n| self.footer.chunks.get(n as usize));
        let offset = lengths.map(|chunk| chunk.map_or(0, |(_, length)| length)).sum();
        Some(ChunkPlace { block: block as u32, offset, plain: info.plain })
    }

    /// Whether a block lies in the last quarter of the pack: the next pack may be
    /// needed soon.
    pub(super) fn is_near_its_end(&self, block: u32) -> bool {
        block as usize >= self.footer.blocks.len() * 3 / 4
    }

    fn prefixes(&self) -> impl Iterator<Item = u64> {
        self.order.iter().map(|n| self.footer.chunks.prefix(*n as usize))
    }

    fn weight(&self) -> usize {
        self.footer.weight() + self.order.len() * size_of::<u32>() + size_of::<Self>()
    }
}

/// The candidates of all streams, the last hit first, within a bound in bytes.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    packs: VecDeque<Arc<Candidate>>,
    bytes: usize,
    /// Of all of them, and of some that were forgotten.
    filter: PrefixFilter,
    /// How many were forgotten that are in the filter still.
    forgotten: usize,
    /// Packs that were fetched lately: as many fewer may be now.
    fetched: usize,
}

impl Candidates {
    /// Whether the pack is here; it counts as hit.
    pub(super) fn hit(&mut self, id: HookedPack) -> bool {
        let Some(at) = self.packs.iter().position(|pack| pack.id == id) else {
            return false;
        };
        if let Some(pack) = self.packs.remove(at) {
            self.packs.push_front(pack);
        }
        true
    }

    /// How many of the packs that a segment wants may be fetched.
    pub(super) fn allow(&mut self, wanted: usize) -> usize {
        self.fetched = self.fetched.saturating_sub(FETCHED_A_SEGMENT);
        let allowed = wanted.min(FETCHED_AT_ONCE - self.fetched);
        self.fetched += allowed;
        allowed
    }

    /// Adds a pack, and forgets those that were hit longest ago.
    pub(super) fn add(&mut self, pack: Candidate) {
        if self.hit(pack.id) {
            return;
        }
        self.bytes += pack.weight();
        pack.prefixes().for_each(|prefix| self.filter.add(prefix));
        self.packs.push_front(Arc::new(pack));
        while self.bytes + FILTER_BYTES > CANDIDATE_BYTES && self.packs.len() > 1 {
            let Some(oldest) = self.packs.pop_back() else { return };
            self.bytes -= oldest.weight();
            self.forgotten += 1;
        }
        if self.forgotten >= FORGOTTEN_IN_FILTER {
            self.forgotten = 0;
            self.filter.clear();
            let prefixes = self.packs.iter().flat_map(|pack| pack.prefixes());
            prefixes.for_each(|prefix| self.filter.add(prefix));
        }
    }

    /// Those of these chunks that may be in a pack, and the packs to look into.
    pub(super) fn look(&self, chunks: &[ChunkId]) -> (Vec<ChunkId>, Vec<Arc<Candidate>>) {
        let may_be_known = |id: &&ChunkId| self.filter.may_have(prefix(*id));
        let chunks: Vec<ChunkId> = chunks.iter().filter(may_be_known).copied().collect();
        let packs = if chunks.is_empty() { 0 } else { LOOKED_AT };
        (chunks, self.packs.iter().take(packs).cloned().collect())
    }
}
