//! Blocks on their way into a pack.

use std::sync::{Arc, OnceLock};

use crate::keyring::ChunkId;
use crate::pack::BLOCK_BYTES;

/// Where a block is in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockAddress {
    /// Index in the table of packs.
    pub(crate) pack: u32,
    pub(crate) block: u32,
    /// The block's plain length.
    pub(crate) plain: u32,
}

/// A block's address, known once it is in a pack.
#[derive(Debug, Default)]
pub(crate) struct BlockSlot(OnceLock<BlockAddress>);

impl BlockSlot {
    pub(super) fn get(&self) -> Option<BlockAddress> {
        self.0.get().copied()
    }

    pub(super) fn settle(&self, address: BlockAddress) {
        // Each block goes through one worker once.
        let _ = self.0.set(address);
    }
}

/// New chunks that will be compressed and sealed together.
#[derive(Debug, Default)]
pub(super) struct OpenBlock {
    pub(super) data: Vec<u8>,
    pub(super) chunks: Vec<(ChunkId, u32)>,
    pub(super) slot: Arc<BlockSlot>,
}

impl OpenBlock {
    /// Whether a chunk of this length belongs into the next block.
    pub(super) fn overflows_with(&self, length: usize) -> bool {
        !self.data.is_empty() && self.data.len() + length > BLOCK_BYTES
    }

    /// Adds a chunk and returns its offset.
    pub(super) fn push(&mut self, id: ChunkId, chunk: &[u8]) -> u32 {
        if self.data.capacity() == 0 {
            self.data.reserve_exact(BLOCK_BYTES.max(chunk.len()));
        }
        let offset = self.data.len() as u32;
        self.data.extend_from_slice(chunk);
        self.chunks.push((id, chunk.len() as u32));
        offset
    }
}
