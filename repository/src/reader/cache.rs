//! Decoded blocks that are kept for parts of them that come later.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use futures::future::{BoxFuture, Shared};

use crate::Result;

/// Plain bytes of decoded blocks that are kept.
pub(super) const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Blocks that were fetched together, their plain bytes behind each other.
pub(super) type Group = Shared<BoxFuture<'static, Result<Bytes>>>;

/// A block of a pack: the pack's index in the snapshot's table, and its number there.
pub(super) type BlockId = (u32, u32);

/// A block of a group.
#[derive(Clone)]
pub(super) struct CachedBlock {
    pub(super) group: Group,
    pub(super) number: u64,
    /// Where it begins in the group.
    pub(super) at: usize,
}

/// Groups of blocks, the oldest forgotten first.
#[derive(Default)]
pub(super) struct BlockCache {
    blocks: HashMap<BlockId, CachedBlock>,
    groups: VecDeque<(Vec<BlockId>, usize)>,
    bytes: usize,
}

impl BlockCache {
    pub(super) fn has(&self, block: BlockId) -> bool {
        self.blocks.contains_key(&block)
    }

    pub(super) fn get(&self, block: BlockId) -> Option<CachedBlock> {
        self.blocks.get(&block).cloned()
    }

    /// Adds a group of blocks with their plain lengths, which is told by `number`.
    pub(super) fn add(&mut self, blocks: &[(BlockId, usize)], number: u64, group: &Group) {
        let mut at = 0;
        for (block, plain) in blocks {
            let cached = CachedBlock { group: group.clone(), number, at };
            self.blocks.insert(*block, cached);
            at += plain;
        }
        self.groups.push_back((blocks.iter().map(|(block, _)| *block).collect(), at));
        self.bytes += at;
        while self.bytes > CACHE_BYTES && self.groups.len() > 1 {
            let Some((blocks, bytes)) = self.groups.pop_front() else { return };
            for block in blocks {
                self.blocks.remove(&block);
            }
            self.bytes -= bytes;
        }
    }
}
