//! Chunks that this run has stored a short while ago: repetition within a
//! backup is found here, by all its streams.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::block::{BlockSlot, OpenBlock};
pub(super) use crate::hooks::prefix as short;
use crate::keyring::ChunkId;

/// Chunks that are remembered: 256 MiB of a stream, in about 4 MiB of memory.
pub(super) const RECENT_CHUNKS: usize = 32 * 1024;

/// Chunk ids are evenly spread already.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 ^= n;
    }
}

/// A map by chunk id or a part of it.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Clone, Debug)]
pub(super) struct RecentChunk {
    id: ChunkId,
    pub(super) slot: Arc<BlockSlot>,
    pub(super) offset: u32,
}

/// The chunks, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct RecentChunks {
    chunks: IdMap<u64, RecentChunk>,
    order: VecDeque<u64>,
}

impl RecentChunks {
    /// A chunk of this run with this id.
    pub(super) fn find(&self, id: &ChunkId) -> Option<&RecentChunk> {
        self.chunks.get(&short(id)).filter(|chunk| chunk.id == *id)
    }

    /// Remembers the chunks of a block that will certainly be stored.
    pub(super) fn remember(&mut self, block: &OpenBlock) {
        let mut offset = 0;
        for (id, length) in &block.chunks {
            self.remember_chunk(*id, &block.slot, offset);
            offset += length;
        }
    }

    pub(super) fn remember_chunk(&mut self, id: ChunkId, slot: &Arc<BlockSlot>, offset: u32) {
        let chunk = RecentChunk { id, slot: Arc::clone(slot), offset };
        if self.chunks.insert(short(&id), chunk).is_none() {
            self.order.push_back(short(&id));
        }
        while self.order.len() > RECENT_CHUNKS {
            if let Some(oldest) = self.order.pop_front() {
                self.chunks.remove(&oldest);
            }
        }
    }
}
